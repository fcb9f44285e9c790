//! JSON as the block YAML that people read.

use serde_json::Value;

/// The text of an object.
#[must_use]
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&" ".repeat(depth));
                out.push_str(&scalar(key));
                out.push(':');
                nested(value, depth + 2, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&" ".repeat(depth));
                out.push('-');
                let start = out.len();
                nested(item, depth + 2, out);
                // The first key stands beside the dash.
                if item.is_object() && out[start..].starts_with('\n') {
                    out.replace_range(start..start + 1 + depth + 2, " ");
                }
            }
        }
        other => {
            out.push_str(&leaf(other));
            out.push('\n');
        }
    }
}

fn nested(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, depth, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(value, depth, out);
        }
        Value::String(text) if is_literal(text) => {
            out.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in text.lines() {
                if !line.is_empty() {
                    out.push_str(&" ".repeat(depth));
                }
                out.push_str(line);
                out.push('\n');
            }
        }
        other => {
            out.push(' ');
            out.push_str(&leaf(other));
            out.push('\n');
        }
    }
}

/// Whether a text can stand as its own lines (YAML 1.2.2, 8.1.2): a template, a script, a Corefile.
fn is_literal(text: &str) -> bool {
    let last = text.strip_suffix('\n').unwrap_or(text).lines().next_back().unwrap_or_default();
    text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && !last.trim().is_empty()
        && text.strip_suffix('\n').is_none_or(|text| !text.ends_with('\n'))
        && text
            .chars()
            .all(|c| matches!(c, '\n' | '\t') || !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}'))
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// Quoted as JSON, which YAML reads too, wherever it could be read as something else.
pub(crate) fn scalar(text: &str) -> String {
    let plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b':' | b'@'))
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.ends_with(':')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use bedplate_model::document::{Limits, parse};
    use serde_json::json;

    #[test]
    fn what_is_written_reads_as_it_was() {
        let value = json!({
            "a": { "b": [1, "x: y", { "c": true, "d": [] }, [1, 2], {}], "e": "on", "f": "1", "g": null, "h": "a\nb" },
            "i/j": "v1", "k": "", "l": 1.5,
            "lines": ["a: {b: 1}\nc:\n  - d\n\n  # e\n", "a\n\tb \n---\nc", "a\n", "\n", " a\nb\n", "a\n\n", "a\r\nb", "a\n  ", "a\nb\u{2028}"],
        });
        let text = super::text(&value);
        assert!(text.contains("  - |\n    a: {b: 1}\n    c:\n"), "{text}");
        let parsed = parse(&text, &Limits::DEFAULT);
        assert_eq!(parsed.errors, [], "{text}");
        assert_eq!(parsed.documents[0].root.to_json(), value, "{text}");
    }
}
