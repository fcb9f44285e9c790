//! For programs: one object, a line a finding.

use bedplate_guarantees::{Located, find};
use bedplate_model::finding::Evidence as ModelEvidence;
use bedplate_model::{Confidence, Edit, Guarantee, Safety, Severity, Span, SubjectRef};
use schemars::JsonSchema;
use serde::Serialize;

use crate::excerpt::{Text, field};
use crate::{Counts, FileView, Report, Summary};

/// The version of the format. Fields may be added without a new one.
const VERSION: u32 = 1;

pub(crate) struct Json {
    pub(crate) version: &'static str,
}

/// The whole output; only its schema is ever used, it is written piece by piece.
#[derive(JsonSchema)]
#[schemars(title = "The output of `bedplate check --format json`")]
#[allow(dead_code)]
struct OutputV1<'a> {
    /// The version of the format: 1.
    #[schemars(range(min = 1, max = 1))]
    version: u32,
    /// The program.
    tool: ToolV1,
    /// The findings, by path and place.
    findings: Vec<FindingV1<'a>>,
    /// The numbers of the run.
    summary: SummaryV1,
}

/// The program that wrote the output.
#[derive(Serialize, JsonSchema)]
struct ToolV1 {
    /// Its name.
    name: &'static str,
    /// Its version.
    version: &'static str,
}

/// A finding.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct FindingV1<'a> {
    /// The rule, or `syntax`, `suppression`.
    rule: &'a str,
    /// The guarantee that the rule belongs to; null for `syntax` and `suppression`.
    guarantee: Option<Guarantee>,
    /// How bad it is when the finding is right.
    severity: Severity,
    /// How sure the rule is.
    confidence: Confidence,
    /// The file.
    path: &'a str,
    /// Which of the file's YAML documents, from 0; null for other files.
    document: Option<usize>,
    /// The object; null where the text could not be read.
    subject: Option<SubjectV1<'a>>,
    /// The field, from the root of the document, as `spec.containers[0].image`; null where it
    /// is not about one.
    field_path: Option<String>,
    /// Where it stands.
    #[serde(flatten)]
    region: RegionV1,
    /// What is wrong, as one sentence without a full stop.
    message: &'a str,
    /// A few words about the marked text.
    label: Option<&'a str>,
    /// Other places that belong to it.
    related: Vec<RelatedV1<'a>>,
    /// The value found and the value allowed.
    evidence: Option<EvidenceV1<'a>>,
    /// Explanations, each a sentence.
    notes: &'a [String],
    /// What to do, as a sentence.
    help: Option<&'a str>,
    /// Who can do it, and the edits.
    fix: Option<FixV1<'a>>,
}

/// A Kubernetes object, a Dockerfile or a Corefile.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SubjectV1<'a> {
    /// `apiVersion`; empty for a file that is not an object.
    api_version: &'a str,
    /// `kind`, or `Dockerfile`, `Corefile`.
    kind: &'a str,
    /// The namespace; null where the file gives none.
    namespace: Option<&'a str>,
    /// The name; empty where there is none.
    name: &'a str,
}

/// A part of a text. Lines and columns count from 1, columns in characters; the end is the
/// place after the last character.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RegionV1 {
    /// First line.
    line: usize,
    /// First column.
    column: usize,
    /// Last line.
    end_line: usize,
    /// The column after the last character.
    end_column: usize,
    /// First byte, from 0.
    byte_start: usize,
    /// The byte after the last.
    byte_end: usize,
}

/// Another place in the same file.
#[derive(Serialize, JsonSchema)]
struct RelatedV1<'a> {
    /// A few words about it.
    label: &'a str,
    /// Where it stands.
    #[serde(flatten)]
    region: RegionV1,
}

/// What was found and what would be allowed.
#[derive(Serialize, JsonSchema)]
struct EvidenceV1<'a> {
    /// The value found.
    found: &'a str,
    /// The value or bound allowed.
    allowed: &'a str,
}

/// How to make a finding go away.
#[derive(Serialize, JsonSchema)]
struct FixV1<'a> {
    /// `safe`: `--fix` makes it; `unsafe`: `--fix --unsafe-fixes` makes it, behaviour may
    /// change; `manual`: a person has to.
    #[schemars(with = "SafetyV1")]
    safety: Safety,
    /// The edits; empty where only a person can.
    edits: Vec<EditV1<'a>>,
}

/// The schema of [`Safety`].
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code)]
enum SafetyV1 {
    Safe,
    Unsafe,
    Manual,
}

/// One edit.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum EditV1<'a> {
    /// Puts a value at a field, together with the mappings above it that are missing.
    Set {
        /// The field, from the root of the document.
        field_path: String,
        /// The value.
        value: &'a serde_json::Value,
    },
    /// Takes a field or an item away.
    Remove {
        /// The field, from the root of the document.
        field_path: String,
    },
    /// Replaces bytes of the file.
    Replace {
        /// First byte, from 0.
        byte_start: usize,
        /// The byte after the last.
        byte_end: usize,
        /// What stands there then.
        text: &'a str,
    },
}

/// The numbers of a run.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SummaryV1 {
    /// Files that were read.
    files: usize,
    /// Objects, Dockerfiles and Corefiles in them.
    subjects: usize,
    /// All findings.
    findings: usize,
    /// Findings by severity.
    errors: usize,
    warnings: usize,
    infos: usize,
    /// Findings that `--fix` makes go away.
    fixable: usize,
    /// Findings that a comment suppressed.
    suppressed: usize,
    /// Findings that an exemption covers.
    exempt: usize,
    /// Files that have to be rendered first.
    skipped: usize,
    /// Findings by guarantee.
    guarantees: Vec<GuaranteeV1>,
}

/// The findings of a guarantee.
#[derive(Serialize, JsonSchema)]
struct GuaranteeV1 {
    name: Guarantee,
    errors: usize,
    warnings: usize,
    infos: usize,
}

/// The JSON Schema of the output of [`Format::Json`](crate::Format::Json).
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(OutputV1<'_>).to_value()
}

fn region(text: &Text<'_>, span: Span) -> RegionV1 {
    let bytes = text.clamp(span);
    let (start, end) = text.positions(span);
    RegionV1 {
        line: start.line,
        column: start.column,
        end_line: end.line,
        end_column: end.column,
        byte_start: bytes.start,
        byte_end: bytes.end,
    }
}

fn edit(edit: &Edit) -> EditV1<'_> {
    match edit {
        Edit::Set(path, value) => EditV1::Set { field_path: path.to_string(), value },
        Edit::Remove(path) => EditV1::Remove { field_path: path.to_string() },
        Edit::Replace(span, text) => {
            EditV1::Replace { byte_start: span.start as usize, byte_end: span.end as usize, text }
        }
    }
}

fn subject(subject: &SubjectRef) -> Option<SubjectV1<'_>> {
    (*subject != SubjectRef::default()).then(|| SubjectV1 {
        api_version: &subject.api_version,
        kind: &subject.kind,
        namespace: subject.namespace.as_deref(),
        name: &subject.name,
    })
}

fn finding<'a>(path: &'a str, text: &Text<'_>, located: &'a Located) -> FindingV1<'a> {
    let finding = &located.finding;
    let evidence = |evidence: &'a ModelEvidence| EvidenceV1 { found: &evidence.found, allowed: &evidence.allowed };
    FindingV1 {
        rule: finding.rule,
        guarantee: find(finding.rule).map(|rule| rule.guarantee),
        severity: finding.severity,
        confidence: finding.confidence,
        path,
        document: located.document,
        subject: subject(&finding.subject),
        field_path: field(located).map(ToString::to_string),
        region: region(text, located.span),
        message: &finding.message,
        label: finding.label.as_deref(),
        related: located.related.iter().map(|(span, label)| RelatedV1 { label, region: region(text, *span) }).collect(),
        evidence: finding.evidence.as_ref().map(evidence),
        notes: &finding.notes,
        help: finding.fix.as_ref().map(|fix| fix.help.as_str()),
        fix: finding.fix.as_ref().map(|fix| FixV1 { safety: fix.safety, edits: fix.edits.iter().map(edit).collect() }),
    }
}

fn summary(summary: &Summary) -> SummaryV1 {
    let guarantee = |(name, counts): (Guarantee, &Counts)| GuaranteeV1 {
        name,
        errors: counts.errors,
        warnings: counts.warnings,
        infos: counts.infos,
    };
    SummaryV1 {
        files: summary.files,
        subjects: summary.subjects,
        findings: summary.findings(),
        errors: summary.errors,
        warnings: summary.warnings,
        infos: summary.infos,
        fixable: summary.fixable,
        suppressed: summary.suppressed,
        exempt: summary.exempt,
        skipped: summary.skipped,
        guarantees: Guarantee::ALL.into_iter().zip(&summary.guarantees).map(guarantee).collect(),
    }
}

/// A value as one line. Nothing that is written here can fail to be: every key is a string.
pub(crate) fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Report for Json {
    fn begin(&self) -> String {
        let tool = line(&ToolV1 { name: "bedplate", version: self.version });
        format!("{{\"version\":{VERSION},\"tool\":{tool},\"findings\":[\n")
    }

    fn file(&self, file: &FileView<'_>) -> String {
        if file.checked.findings.is_empty() {
            return String::new();
        }
        let text = Text::new(file.text);
        // A finding is most of a kilobyte.
        let mut out = Vec::with_capacity(file.checked.findings.len() << 10);
        for located in &file.checked.findings {
            if !out.is_empty() {
                out.extend_from_slice(self.separator().as_bytes());
            }
            // As for `line`: nothing here can fail to be written.
            let _ = serde_json::to_writer(&mut out, &finding(file.path, &text, located));
        }
        String::from_utf8(out).unwrap_or_default()
    }

    fn separator(&self) -> &'static str {
        ",\n"
    }

    fn end(&self, numbers: &Summary) -> String {
        format!("\n],\"summary\":{}}}\n", line(&summary(numbers)))
    }
}
