//! Exemptions: a rule that does not hold for one subject, with a reason and an end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finding::SubjectRef;
use crate::moment::day;
use crate::profile::{NAME, NAMESPACE};

/// A day, as `YYYY-MM-DD`, compared as text.
pub type Day = String;

/// Why one subject need not follow one rule, and until when. All four are required.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exemption {
    /// The rule's name, such as `gpu-ceiling`.
    #[schemars(length(max = 63))]
    pub rule: String,
    /// What is exempt.
    pub subject: ExemptSubject,
    /// Why, for the person who reads it next year.
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// The last day on which it holds, as YYYY-MM-DD.
    #[schemars(length(max = 10))]
    pub expires: Day,
}

/// The objects that an exemption is for. A missing field matches everything; `*` in a name
/// matches any text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExemptSubject {
    /// The kind, such as `PyTorchJob`.
    #[schemars(length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The namespace; `*` stands for any text.
    #[schemars(length(max = 63), regex(pattern = NAMESPACE))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name; `*` stands for any text.
    #[schemars(length(max = 253), regex(pattern = NAME))]
    pub name: String,
}

impl Exemption {
    /// Whether this exempts `subject` from `rule`, expired or not.
    #[must_use]
    pub fn covers(&self, rule: &str, subject: &SubjectRef) -> bool {
        self.rule == rule
            && self.subject.kind.as_ref().is_none_or(|kind| *kind == subject.kind)
            && self
                .subject
                .namespace
                .as_deref()
                .is_none_or(|pattern| glob(pattern, subject.namespace.as_deref().unwrap_or("default")))
            && glob(&self.subject.name, &subject.name)
    }

    /// Whether it has lapsed by `now`, RFC 3339 or a day.
    #[must_use]
    pub fn expired(&self, now: &str) -> bool {
        self.expires.as_str() < day(now)
    }
}

/// Whether `text` matches a pattern in which `*` stands for any text.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            let part: &str = part;
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
    }
    last.map_or(rest.is_empty(), |part| rest.ends_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_text() {
        for (pattern, text, hit) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "ac", false),
            ("ab*ba", "aba", false),
            ("a", "ab", false),
        ] {
            assert_eq!(glob(pattern, text), hit, "{pattern} {text}");
        }
    }
}
