//! Edits of a text that keep every other byte: comments, quotes, indentation, line ends.
//!
//! The tree knows the bytes of every value, so an edit is a splice. Each is proved before it is
//! returned: the new text must parse to exactly the tree that the edit of the old tree gives,
//! and every other document must be as it was.

use serde_json::Value as Json;

use crate::document::{Limits, beginning, parse};
use crate::finding::Edit;
use crate::path::{FieldPath, Segment};
use crate::value::{Node, Span, Style, Value};

/// Why an edit was not made. Nothing is half-applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text does not parse, or has no such document.
    #[error("the document cannot be read")]
    Unreadable,
    /// The place is written in a way that has no safe splice.
    #[error("`{0}` is written in a way that cannot be edited safely")]
    Shape(String),
    /// The splice did something else than it should have.
    #[error("editing `{0}` would change something else as well")]
    NotProved(String),
}

/// Applies edits, in order, to a document of a text (its index among the documents that are
/// not empty), or to the text as a whole where `document` is nothing.
///
/// # Errors
/// [`EditError`] for the first edit that cannot be made; then no edit is made.
pub fn apply(text: &str, document: Option<usize>, edits: &[Edit]) -> Result<String, EditError> {
    let mut replacements: Vec<_> = edits
        .iter()
        .filter_map(|edit| if let Edit::Replace(span, new) = edit { Some((*span, new)) } else { None })
        .collect();
    replacements.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, new) in replacements {
        let range = span.range();
        if range.end > text.len() || !text.is_char_boundary(range.start) || !text.is_char_boundary(range.end) {
            return Err(EditError::Unreadable);
        }
        text.replace_range(range, new);
    }
    for edit in edits {
        let (path, value) = match edit {
            Edit::Set(path, value) => (path, Some(value)),
            Edit::Remove(path) => (path, None),
            Edit::Replace(..) => continue,
        };
        text = one(&text, document.ok_or(EditError::Unreadable)?, path, value)?;
    }
    Ok(text)
}

fn one(text: &str, index: usize, path: &FieldPath, value: Option<&Json>) -> Result<String, EditError> {
    let old = parse(text, &Limits::DEFAULT);
    let root = &old.documents.get(index).ok_or(EditError::Unreadable)?.root;
    let shape = || EditError::Shape(path.to_string());
    let (at, new) = match value {
        Some(value) => set(text, root, path, value).ok_or_else(shape)?,
        None => (remove(text, root, path).ok_or_else(shape)?, String::new()),
    };
    let mut edited = text.to_owned();
    edited.replace_range(at.range(), &new);

    let mut wanted: Vec<Json> = old.documents.iter().map(|document| document.root.to_json()).collect();
    change(&mut wanted[index], &path.0, value).ok_or_else(shape)?;
    let now = parse(&edited, &Limits::DEFAULT);
    let got: Vec<Json> = now.documents.iter().map(|document| document.root.to_json()).collect();
    if now.errors != old.errors && now.errors.len() != old.errors.len() || got != wanted {
        return Err(EditError::NotProved(path.to_string()));
    }
    Ok(edited)
}

/// The edit on a tree of JSON: `value` is put at `path`, or what is there is taken away. Nothing where the path leads
/// through something that is no mapping and no list; what was done until then stays done.
pub fn change(json: &mut Json, path: &[Segment], value: Option<&Json>) -> Option<()> {
    let (first, rest) = path.split_first()?;
    match first {
        Segment::Key(key) => {
            if json.is_null() && value.is_some() {
                *json = Json::Object(serde_json::Map::new());
            }
            let map = json.as_object_mut()?;
            match (rest.is_empty(), value) {
                (true, Some(value)) => {
                    map.insert(key.to_string(), value.clone());
                }
                (true, None) => {
                    map.shift_remove(&**key)?;
                }
                (false, Some(_)) => change(map.entry(&**key).or_insert(Json::Null), rest, value)?,
                (false, None) => change(map.get_mut(&**key)?, rest, value)?,
            }
        }
        Segment::Index(index) => {
            let list = json.as_array_mut()?;
            match (rest.is_empty(), value) {
                (true, Some(value)) if *index == list.len() => list.push(value.clone()),
                (true, Some(value)) => *list.get_mut(*index)? = value.clone(),
                (true, None) => {
                    if *index >= list.len() {
                        return None;
                    }
                    list.remove(*index);
                }
                (false, _) => change(list.get_mut(*index)?, rest, value)?,
            }
        }
    }
    Some(())
}

/// Where to splice, and what.
fn set(text: &str, root: &Node<'_>, path: &FieldPath, value: &Json) -> Option<(Span, String)> {
    let hit = path.locate(root);
    let eol = if text.contains("\r\n") { "\r\n" } else { "\n" };
    // A comment inside would go with what it speaks of.
    if hit.complete && has_comment(text, hit.node) {
        return None;
    }
    let block_collection = hit.node.style == Style::Block && matches!(hit.node.value, Value::Map(_) | Value::Seq(_));
    if hit.complete && block_collection {
        let whole = matches!(value, Json::Object(map) if !map.is_empty())
            || matches!(value, Json::Array(list) if !list.is_empty());
        let lines = block(value, column(text, hit.node.span.start), eol);
        return whole.then(|| (hit.node.span, lines.trim_start().to_owned()));
    }
    if hit.complete && hit.node.value != Value::Null {
        return Some((hit.node.span, replacement(text, hit.node, value)?));
    }
    // What is missing becomes the value: its keys from the inside out.
    let missing = &path.0[hit.depth..];
    let (first, rest) = match (hit.complete, missing.split_first()) {
        (false, Some((first, rest))) => (Some(first), rest),
        _ => (None, &[][..]),
    };
    let value = nest(rest, value)?;
    match (&hit.node.value, first) {
        // `key:` with nothing behind it.
        (Value::Null, first) => {
            let entry = hit.entry?;
            let colon = entry.key_span.end as usize + text[entry.key_span.end as usize..].find(':')?;
            let value = match first {
                Some(first) => nest(std::slice::from_ref(first), &value)?,
                None => value,
            };
            if hit.node.span.start != hit.node.span.end {
                return Some((hit.node.span, flow(&value, false)));
            }
            let indent = column(text, entry.key_span.start) + 2;
            let new = if value.is_object() {
                format!("{eol}{}", block(&value, indent, eol))
            } else {
                format!(" {}", flow(&value, false))
            };
            Some((Span::new(colon + 1, colon + 1), new))
        }
        (Value::Map(entries), Some(Segment::Key(key))) if hit.node.style == Style::Flow => {
            let quoted = entries.first().is_some_and(|entry| text[entry.key_span.range()].starts_with('"'));
            let quoted = quoted || entries.is_empty() && text.trim_start().starts_with('{');
            let pair = format!(
                "{}: {}",
                if quoted { Json::from(&**key).to_string() } else { scalar(key) },
                flow(&value, quoted)
            );
            let Some(last) = entries.last() else {
                let at = hit.node.span.start as usize + 1;
                return Some((Span::new(at, at), pair));
            };
            let at = last.value.span.end.max(last.key_span.end);
            let line = line_start(text, last.key_span.start);
            let before = &text[line..last.key_span.start as usize];
            let gap = if before.trim().is_empty() { format!(",{eol}{before}") } else { ", ".to_owned() };
            Some((Span { start: at, end: at }, format!("{gap}{pair}")))
        }
        (Value::Map(entries), Some(Segment::Key(key))) => {
            let indent = column(text, entries.first()?.key_span.start);
            let map = Json::Object([(key.to_string(), value)].into_iter().collect());
            Some(insert_after(text, hit.node.span.end, &block(&map, indent, eol), eol))
        }
        (Value::Seq(items), Some(Segment::Index(index))) if *index == items.len() => {
            if hit.node.style == Style::Flow {
                let at = items.last().map_or(hit.node.span.start + 1, |item| item.span.end);
                let gap = if items.is_empty() { "" } else { ", " };
                return Some((Span { start: at, end: at }, format!("{gap}{}", flow(&value, false))));
            }
            let first = items.first()?.span.start;
            let line = line_start(text, first);
            let dash = line + text[line..first as usize].rfind('-')?;
            let indent = dash - line;
            let list = Json::Array(vec![value]);
            Some(insert_after(text, hit.node.span.end, &block(&list, indent, eol), eol))
        }
        _ => None,
    }
}

/// Whether a comment stands between the values of a collection.
fn has_comment(text: &str, node: &Node<'_>) -> bool {
    fn in_scalar(node: &Node<'_>, at: u32) -> bool {
        let holds = |span: Span| span.start <= at && at < span.end;
        match &node.value {
            Value::Map(entries) => entries
                .iter()
                .any(|entry| holds(entry.key_span) || holds(entry.value.span) && in_scalar(&entry.value, at)),
            Value::Seq(items) => items.iter().any(|item| holds(item.span) && in_scalar(item, at)),
            _ => holds(node.span),
        }
    }
    let raw = text.get(node.span.range()).unwrap_or_default();
    raw.match_indices('#').any(|(at, _)| !in_scalar(node, node.span.start + at as u32))
}

/// A new value in the place of an old one.
fn replacement(text: &str, old: &Node<'_>, value: &Json) -> Option<String> {
    let raw = &text[old.span.range()];
    match (&old.value, old.style) {
        (Value::Map(_) | Value::Seq(_), Style::Flow) => Some(flow(value, raw.contains('"'))),
        (Value::Map(_) | Value::Seq(_), _) | (_, Style::Literal | Style::Folded) => None,
        (_, Style::Quoted) => match value {
            Json::String(new) if raw.starts_with('\'') && !new.contains(['\'', '\n']) => Some(format!("'{new}'")),
            Json::String(_) => Some(value.to_string()),
            _ => Some(flow(value, true)),
        },
        _ => Some(flow(value, false)),
    }
}

fn nest(path: &[Segment], value: &Json) -> Option<Json> {
    path.iter().rev().try_fold(value.clone(), |inner, segment| match segment {
        Segment::Key(key) => Some(Json::Object([(key.to_string(), inner)].into_iter().collect())),
        Segment::Index(0) => Some(Json::Array(vec![inner])),
        Segment::Index(_) => None,
    })
}

/// Lines go behind the line on which a block collection ends, and behind its comment.
fn insert_after(text: &str, end: u32, lines: &str, eol: &str) -> (Span, String) {
    let end = end as usize;
    match text[end..].find('\n') {
        Some(newline) => {
            let at = end + newline + 1;
            (Span::new(at, at), format!("{lines}{eol}"))
        }
        None => (Span::new(text.len(), text.len()), format!("{eol}{lines}")),
    }
}

/// The bytes of a field of a block mapping, with its lines.
fn remove(text: &str, root: &Node<'_>, path: &FieldPath) -> Option<Span> {
    let hit = path.locate(root);
    let parent = FieldPath(path.0[..path.0.len().checked_sub(1)?].to_vec()).find(root)?;
    let (entry, Value::Map(entries)) = (hit.entry.filter(|_| hit.complete)?, &parent.value) else { return None };
    if parent.style == Style::Flow || entries.len() < 2 {
        return None;
    }
    let start = line_start(text, entry.key_span.start);
    if !text[start..entry.key_span.start as usize].trim().is_empty() {
        return None;
    }
    let end = entry.value.span.end.max(entry.key_span.end) as usize;
    let end = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
    Some(Span::new(start, end))
}

fn line_start(text: &str, at: u32) -> usize {
    text[..at as usize].rfind('\n').map_or_else(|| beginning(text), |newline| newline + 1)
}

fn column(text: &str, at: u32) -> usize {
    at as usize - line_start(text, at)
}

/// A value as block YAML, each line indented, without a line end at the last.
fn block(value: &Json, indent: usize, eol: &str) -> String {
    let pad = " ".repeat(indent);
    let child = |value: &Json, inline: &str| match value {
        Json::Object(map) if !map.is_empty() => format!("{eol}{}", block(value, indent + 2, eol)),
        Json::Array(list) if !list.is_empty() => format!("{eol}{}", block(value, indent + 2, eol)),
        _ => format!("{inline}{}", flow(value, false)),
    };
    let lines: Vec<String> = match value {
        Json::Object(map) => {
            map.iter().map(|(key, value)| format!("{pad}{}:{}", scalar(key), child(value, " "))).collect()
        }
        Json::Array(list) => list
            .iter()
            .map(|item| {
                let inner = block(item, indent + 2, eol);
                format!("{pad}- {}", inner.trim_start())
            })
            .collect(),
        _ => vec![format!("{pad}{}", flow(value, false))],
    };
    lines.join(eol)
}

/// A value on one line; as JSON where `quoted`.
fn flow(value: &Json, quoted: bool) -> String {
    match value {
        Json::String(text) if !quoted => scalar(text),
        Json::Object(map) if !quoted => {
            let pairs: Vec<_> =
                map.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value, false))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Json::Array(list) if !quoted => {
            format!("[{}]", list.iter().map(|item| flow(item, false)).collect::<Vec<_>>().join(", "))
        }
        _ => value.to_string(),
    }
}

/// A string, in quotes where it needs them.
fn scalar(text: &str) -> String {
    let word = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/'));
    let plain = word && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'/');
    let parsed = parse(text, &Limits::DEFAULT);
    let is_text = parsed.documents.first().is_some_and(|document| document.root.as_str() == Some(text));
    if plain && is_text { text.to_owned() } else { Json::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> FieldPath {
        text.split('.').fold(FieldPath::default(), |path, part| match part.parse() {
            Ok(index) => path.index(index),
            Err(_) => path.key(part),
        })
    }

    fn set(text: &str, at: &str, value: Json) -> Result<String, EditError> {
        apply(text, Some(0), &[Edit::Set(path(at), value)])
    }

    #[test]
    fn comments_quotes_and_line_ends_stay() {
        let text = "# job\r\nspec:\r\n  a: 'x'   # why\r\n  b: 1\r\nc: {d: 1}\r\n";
        assert_eq!(set(text, "spec.a", json!("y")).unwrap(), text.replace("'x'", "'y'"));
        assert_eq!(set(text, "spec.b", json!(2)).unwrap(), text.replace("b: 1", "b: 2"));
        assert_eq!(set(text, "spec.e.f", json!(true)).unwrap(), text.replace("c: {", "  e:\r\n    f: true\r\nc: {"));
        assert_eq!(set(text, "c.e", json!("no")).unwrap(), text.replace("{d: 1}", "{d: 1, e: \"no\"}"));
    }

    #[test]
    fn lists_json_and_empty_values_are_edited_too() {
        assert_eq!(
            set("a:\n- x\nb: 1\n", "a.1", json!({"k": "v", "l": 1})).unwrap(),
            "a:\n- x\n- k: v\n  l: 1\nb: 1\n"
        );
        assert_eq!(
            set("{\n  \"a\": {\n    \"b\": 1\n  }\n}\n", "a.c", json!("x")).unwrap(),
            "{\n  \"a\": {\n    \"b\": 1,\n    \"c\": \"x\"\n  }\n}\n"
        );
        assert_eq!(set("a:\nb: 1\n", "a.c", json!(1)).unwrap(), "a:\n  c: 1\nb: 1\n");
        assert_eq!(set("a: {}", "a.c", json!(1)).unwrap(), "a: {c: 1}");
        assert_eq!(
            set("a:\n  b:\n    c: 1\n    d: 2\ne: 1\n", "a.b", json!({"x": [1]})).unwrap(),
            "a:\n  b:\n    x:\n      - 1\ne: 1\n"
        );
        assert_eq!(set("a: 1", "b", json!(1)).unwrap(), "a: 1\nb: 1");
        assert_eq!(
            set("l:\n  - name: a\n    v: |\n      text\n\n# end\n", "l.0.w", json!(1)).unwrap(),
            "l:\n  - name: a\n    v: |\n      text\n    w: 1\n\n# end\n"
        );
    }

    #[test]
    fn an_edit_that_would_reach_further_is_refused() {
        // The alias shares the anchor's text: a change of one is a change of both.
        let text = "a: &x {k: 1}\nb: *x\n";
        assert!(matches!(set(text, "b.k", json!(2)), Err(EditError::NotProved(_))));
        assert!(set("a: |\n  text\n", "a", json!("x")).is_err());
    }

    #[test]
    fn other_documents_stay_as_they_are() {
        let text = "a: 1\n---\nb: 2\n---\nc: \"broken\n";
        let new = apply(text, Some(1), &[Edit::Set(path("b"), json!(3))]).unwrap();
        assert_eq!(new, text.replace("b: 2", "b: 3"));
        assert_eq!(apply("a: 1\nb:\n  c: 1\nd: 1\n", Some(0), &[Edit::Remove(path("b"))]).unwrap(), "a: 1\nd: 1\n");
    }

    #[test]
    fn no_comment_goes_with_what_is_replaced() {
        let path = FieldPath(vec![Segment::Key("probe".into())]);
        let edit = |text: &str| apply(text, Some(0), &[Edit::Set(path.clone(), json!({"httpGet": {"port": 80}}))]);
        assert!(edit("probe:\n  tcpSocket: # because of #12\n    port: 80\n").is_err());
        assert!(edit("probe: {port: 80, # here\n  a: 1}\n").is_err());
        assert!(edit("probe:\n  tcpSocket:\n    port: \"a #b\"  # kept\n").unwrap().contains("# kept"));
    }
}
