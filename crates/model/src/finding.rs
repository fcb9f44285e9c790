//! What rules say: findings, the place of each, and how to fix it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::path::FieldPath;
use crate::value::Span;

/// How bad it is when the finding is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing breaks.
    Info,
    /// Will hurt when something else goes wrong too.
    Warning,
    /// Brings something down by itself.
    Error,
}

/// How sure the rule is that the finding is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Rests on a guess, such as what an unknown kind does.
    Low,
    /// True unless something outside the files says otherwise.
    Medium,
    /// Follows from the files alone.
    High,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}

/// Where a finding points.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A field of a Kubernetes object, from the root of its document; it may be missing, then
    /// the nearest field above it is shown.
    Path(FieldPath),
    /// Bytes of a text that is not an object: a Dockerfile, a Corefile, broken YAML.
    Span(Span),
    /// Bytes of the text inside a field: a Corefile in a ConfigMap.
    Inside(FieldPath, Span),
}

impl From<FieldPath> for Place {
    fn from(path: FieldPath) -> Self {
        Self::Path(path)
    }
}

impl From<&crate::field::Field<'_>> for Place {
    fn from(field: &crate::field::Field<'_>) -> Self {
        Self::Path(field.path())
    }
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        Self::Span(span)
    }
}

/// The object that a finding is about.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct SubjectRef {
    /// `apiVersion`; empty for a file that is not an object.
    pub api_version: String,
    /// `kind`, or `Dockerfile`, `Corefile`.
    pub kind: String,
    /// The namespace, where the file gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name; empty where there is none.
    pub name: String,
}

impl fmt::Display for SubjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        match (&self.namespace, self.name.as_str()) {
            (_, "") => Ok(()),
            (Some(namespace), name) => write!(f, " {namespace}/{name}"),
            (None, name) => write!(f, " {name}"),
        }
    }
}

/// Something that would bring the platform down.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// The rule's name. Stamped by the engine.
    pub rule: &'static str,
    /// The rule's severity, or the profile's for it. Stamped by the engine.
    pub severity: Severity,
    /// The rule's confidence, unless the rule is less sure of this one.
    pub confidence: Confidence,
    /// The object. Stamped by the engine.
    pub subject: SubjectRef,
    /// Where.
    pub place: Place,
    /// What is wrong, as one sentence without a full stop; it must be enough by itself.
    pub message: String,
    /// A few words under the marked text.
    pub label: Option<String>,
    /// Other places that belong to it, each with a few words.
    pub related: Vec<(Place, String)>,
    /// Number or value found and number or value allowed.
    pub evidence: Option<Evidence>,
    /// Longer explanations, each a sentence.
    pub notes: Vec<String>,
    /// How to fix it.
    pub fix: Option<Fix>,
}

/// What was found and what would be allowed, for machines to read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Evidence {
    /// The value found.
    pub found: String,
    /// The value or bound allowed.
    pub allowed: String,
}

impl Finding {
    /// A finding at a place. The message is one sentence without a full stop.
    #[must_use]
    pub fn new(place: impl Into<Place>, message: impl Into<String>) -> Self {
        Self {
            rule: "",
            severity: Severity::Info,
            confidence: Confidence::High,
            subject: SubjectRef::default(),
            place: place.into(),
            message: message.into(),
            label: None,
            related: Vec::new(),
            evidence: None,
            notes: Vec::new(),
            fix: None,
        }
    }

    /// A few words under the marked text.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Another place that belongs to it.
    #[must_use]
    pub fn related(mut self, place: impl Into<Place>, label: impl Into<String>) -> Self {
        self.related.push((place.into(), label.into()));
        self
    }

    /// The value found and the value allowed.
    #[must_use]
    pub fn evidence(mut self, found: impl ToString, allowed: impl ToString) -> Self {
        self.evidence = Some(Evidence { found: found.to_string(), allowed: allowed.to_string() });
        self
    }

    /// An explanation, as a sentence.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// What to do, where no edit can do it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        self.fix(Fix { help: help.into(), safety: Safety::Manual, edits: Vec::new() })
    }

    /// What to do, with the edits that do it.
    #[must_use]
    pub fn fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    /// Lowers the confidence of this one finding.
    #[must_use]
    pub fn confidence(mut self, confidence: Confidence) -> Self {
        self.confidence = self.confidence.min(confidence);
        self
    }
}

/// How to make a finding go away.
#[derive(Clone, PartialEq, Debug)]
pub struct Fix {
    /// What to do, as an instruction: "set `terminationGracePeriodSeconds: 300`".
    pub help: String,
    /// Whether a machine may do it.
    pub safety: Safety,
    /// The edits that do it; empty when only a person can.
    pub edits: Vec<Edit>,
}

impl Fix {
    /// A fix that cannot change what a correct workload does.
    #[must_use]
    pub fn safe(help: impl Into<String>, edits: Vec<Edit>) -> Self {
        Self { help: help.into(), safety: Safety::Safe, edits }
    }

    /// A fix that may change behaviour.
    #[must_use]
    pub fn unsafe_(help: impl Into<String>, edits: Vec<Edit>) -> Self {
        Self { help: help.into(), safety: Safety::Unsafe, edits }
    }
}

/// Whether a fix may be made by a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Safety {
    /// `--fix` makes it.
    Safe,
    /// `--fix --unsafe-fixes` makes it: it may change behaviour.
    Unsafe,
    /// Only a person can.
    Manual,
}

/// One edit of a document.
#[derive(Clone, PartialEq, Debug)]
pub enum Edit {
    /// Puts a value at a path: replaces what is there, or adds it together with the mappings
    /// above it that are missing. A path to one past the end of a sequence appends.
    Set(FieldPath, serde_json::Value),
    /// Takes a field or an item away.
    Remove(FieldPath),
    /// Replaces bytes of a text that is not an object.
    Replace(Span, String),
}
