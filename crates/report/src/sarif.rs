//! SARIF 2.1.0 (OASIS), for code scanning services: a line a result.

use std::collections::HashMap;

use bedplate_guarantees::check::{SUPPRESSION, SYNTAX};
use bedplate_guarantees::{Located, Rule, rules};
use bedplate_model::{Confidence, Edit, Severity, Span};
use serde_json::{Value, json};

use crate::excerpt::{Text, field};
use crate::{FileView, Report, Summary};

/// Findings that no rule makes: name, what it says, level.
const OTHERS: [(&str, &str, Severity); 2] = [
    (SYNTAX, "A text that cannot be read cannot be checked.", Severity::Error),
    (SUPPRESSION, "A suppression comment that cannot be honoured, or does nothing.", Severity::Info),
];

pub(crate) struct Sarif {
    version: &'static str,
    /// Where each rule stands in the tool's list.
    index: HashMap<&'static str, usize>,
}

impl Sarif {
    pub(crate) fn new(version: &'static str) -> Self {
        let names = rules().map(|rule| rule.name).chain(OTHERS.map(|(name, ..)| name));
        Self { version, index: names.enumerate().map(|(index, name)| (name, index)).collect() }
    }

    fn result(&self, path: &str, text: &Text<'_>, located: &Located, fingerprint: &str) -> Value {
        let finding = &located.finding;
        let uri = uri(path);
        let place = |span: Span| json!({"artifactLocation": {"uri": uri}, "region": region(text, span)});
        let mut location = json!({"physicalLocation": place(located.span)});
        let mut names = Vec::new();
        let subject = finding.subject.to_string();
        if !subject.is_empty() {
            names.push(json!({"fullyQualifiedName": subject, "kind": "object"}));
        }
        if let Some(path) = field(located) {
            names.push(json!({"fullyQualifiedName": path.to_string(), "kind": "property"}));
        }
        if !names.is_empty() {
            location["logicalLocations"] = Value::Array(names);
        }
        let mut message = finding.message.clone();
        for note in &finding.notes {
            message.push_str("\nnote: ");
            message.push_str(note);
        }
        if let Some(fix) = &finding.fix {
            message.push_str("\nhelp: ");
            message.push_str(&fix.help);
        }
        let mut result = json!({
            "ruleId": finding.rule,
            "level": level(finding.severity),
            "message": {"text": message},
            "locations": [location],
            "partialFingerprints": {"bedplate/v1": fingerprint},
            "properties": {"confidence": finding.confidence},
        });
        if let Some(index) = self.index.get(finding.rule) {
            result["ruleIndex"] = json!(index);
        }
        if let Some(evidence) = &finding.evidence {
            result["properties"]["evidence"] = json!(evidence);
        }
        if !located.related.is_empty() {
            let related = located.related.iter().enumerate();
            let related = related.map(
                |(id, (span, label))| json!({"id": id, "message": {"text": label}, "physicalLocation": place(*span)}),
            );
            result["relatedLocations"] = related.collect();
        }
        if let Some(replacements) = replacements(text, located) {
            let help = finding.fix.as_ref().map_or("", |fix| fix.help.as_str());
            let change = json!({"artifactLocation": {"uri": uri}, "replacements": replacements});
            result["fixes"] = json!([{"description": {"text": help}, "artifactChanges": [change]}]);
        }
        result
    }
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn rule(rule: &Rule) -> Value {
    // GitHub's words for how sure a rule is.
    let precision = match rule.confidence {
        Confidence::High => "very-high",
        Confidence::Medium => "high",
        Confidence::Low => "medium",
    };
    let page = rule.page();
    json!({
        "id": rule.name,
        "shortDescription": {"text": rule.summary()},
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {"level": level(rule.severity)},
        "properties": {"tags": [rule.guarantee], "precision": precision},
    })
}

fn region(text: &Text<'_>, span: Span) -> Value {
    let [start, end] = text.utf16(span);
    json!({"startLine": start.line, "startColumn": start.column, "endLine": end.line, "endColumn": end.column})
}

/// The edits, where all of them are of the text itself: SARIF has no words for edits of fields.
fn replacements(text: &Text<'_>, located: &Located) -> Option<Vec<Value>> {
    let edits = &located.finding.fix.as_ref()?.edits;
    let replacement = |edit: &Edit| match edit {
        Edit::Replace(span, new) => {
            Some(json!({"deletedRegion": region(text, *span), "insertedContent": {"text": new}}))
        }
        Edit::Set(..) | Edit::Remove(_) => None,
    };
    (!edits.is_empty()).then(|| edits.iter().map(replacement).collect())?
}

/// A path as a URI reference (RFC 3986): everything but unreserved characters and slashes is
/// escaped, so that a colon does not make the first folder a scheme.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            b'\\' if cfg!(windows) => uri.push('/'),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// What stays the same while lines move and numbers change: rule, file, object, and the field
/// or the text of the line. FNV-1a, since it must not change with the compiler.
fn fingerprint(path: &str, text: &Text<'_>, located: &Located) -> u64 {
    let place = field(located).map_or_else(|| text.line(located.span).trim().to_owned(), ToString::to_string);
    let subject = located.finding.subject.to_string();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in [located.finding.rule, path, &subject, &place] {
        // 0xff is in no UTF-8 text: it keeps the parts apart.
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

impl Report for Sarif {
    fn begin(&self) -> String {
        let others = OTHERS.map(|(name, text, severity)| {
            json!({"id": name, "shortDescription": {"text": text}, "defaultConfiguration": {"level": level(severity)}})
        });
        let rules: Vec<_> = rules().map(rule).chain(others).collect();
        let driver = json!({"name": "bedplate", "semanticVersion": self.version, "rules": rules});
        format!(
            "{{\"$schema\":\"https://json.schemastore.org/sarif-2.1.0.json\",\"version\":\"2.1.0\",\"runs\":[{{\
             \"tool\":{{\"driver\":{driver}}},\"columnKind\":\"utf16CodeUnits\",\"results\":[\n"
        )
    }

    fn file(&self, file: &FileView<'_>) -> String {
        if file.checked.findings.is_empty() {
            return String::new();
        }
        let text = Text::new(file.text);
        let mut seen = HashMap::new();
        let lines = file.checked.findings.iter().map(|located| {
            let hash = fingerprint(file.path, &text, located);
            let count = seen.entry(hash).and_modify(|n| *n += 1).or_insert(1);
            self.result(file.path, &text, located, &format!("{hash:016x}:{count}")).to_string()
        });
        lines.collect::<Vec<_>>().join(",\n")
    }

    fn separator(&self) -> &'static str {
        ",\n"
    }

    fn end(&self, _: &Summary) -> String {
        "\n]}]}\n".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_colon_is_no_scheme() {
        assert_eq!(uri("a:b/c d/é%.yaml"), "a%3Ab/c%20d/%C3%A9%25.yaml");
    }
}
