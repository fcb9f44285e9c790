//! For programs: one object, a line a finding.

use bedplate_guarantees::{Located, find};
use bedplate_model::{Confidence, Edit, Fix, Guarantee, Safety, Severity, Span, SubjectRef};
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
// And a finding member by member: findings are most of what a run writes.
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
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
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
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
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
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
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
#[derive(JsonSchema)]
#[allow(dead_code)]
struct RelatedV1<'a> {
    /// A few words about it.
    label: &'a str,
    /// Where it stands.
    #[serde(flatten)]
    region: RegionV1,
}

/// What was found and what would be allowed.
#[derive(JsonSchema)]
#[allow(dead_code)]
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

/// An object on its way.
struct Members<'o> {
    out: &'o mut Vec<u8>,
    /// What stands before the next member.
    before: u8,
}

impl<'o> Members<'o> {
    const fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, before: b'{' }
    }

    /// A member's name; its value has to follow.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.push(std::mem::replace(&mut self.before, b','));
        self.out.push(b'"');
        self.out.extend(name.as_bytes());
        self.out.extend(b"\":");
        self.out
    }

    fn text(&mut self, name: &str, text: &str) {
        quoted(text, self.name(name));
    }

    fn maybe(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.value(name, &()),
        }
    }

    fn value(&mut self, name: &str, value: &impl Serialize) {
        to_json(value, self.name(name));
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

/// Text in quotes; most of it needs no escape (RFC 8259, section 7).
fn quoted(text: &str, out: &mut Vec<u8>) {
    // Without an early end, many bytes are looked at at once.
    if text.bytes().fold(true, |plain, byte| plain & (byte >= b' ' && byte != b'"' && byte != b'\\')) {
        out.push(b'"');
        out.extend(text.as_bytes());
        out.push(b'"');
    } else {
        to_json(text, out);
    }
}

/// Nothing that is written here can fail to be: every key is a string.
fn to_json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

fn region(text: &Text<'_>, span: Span, to: &mut Members<'_>) {
    let bytes = text.clamp(span);
    let (start, end) = text.positions(span);
    to.value("line", &start.line);
    to.value("column", &start.column);
    to.value("endLine", &end.line);
    to.value("endColumn", &end.column);
    to.value("byteStart", &bytes.start);
    to.value("byteEnd", &bytes.end);
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

fn fix(fix: &Fix) -> FixV1<'_> {
    FixV1 { safety: fix.safety, edits: fix.edits.iter().map(edit).collect() }
}

fn subject(subject: &SubjectRef, out: &mut Vec<u8>) {
    if *subject == SubjectRef::default() {
        return to_json(&(), out);
    }
    let mut to = Members::new(out);
    to.text("apiVersion", &subject.api_version);
    to.text("kind", &subject.kind);
    to.maybe("namespace", subject.namespace.as_deref());
    to.text("name", &subject.name);
    to.end();
}

/// A [`FindingV1`].
fn finding(path: &str, text: &Text<'_>, located: &Located, out: &mut Vec<u8>) {
    let finding = &located.finding;
    let mut to = Members::new(out);
    to.text("rule", finding.rule);
    to.value("guarantee", &find(finding.rule).map(|rule| rule.guarantee));
    to.value("severity", &finding.severity);
    to.value("confidence", &finding.confidence);
    to.text("path", path);
    to.value("document", &located.document);
    subject(&finding.subject, to.name("subject"));
    to.maybe("fieldPath", field(located).map(ToString::to_string).as_deref());
    region(text, located.span, &mut to);
    to.text("message", &finding.message);
    to.maybe("label", finding.label.as_deref());
    let related = to.name("related");
    related.push(b'[');
    for (index, (span, label)) in located.related.iter().enumerate() {
        if index > 0 {
            related.push(b',');
        }
        let mut to = Members::new(related);
        to.text("label", label);
        region(text, *span, &mut to);
        to.end();
    }
    related.push(b']');
    match &finding.evidence {
        None => to.value("evidence", &()),
        Some(evidence) => {
            let mut to = Members::new(to.name("evidence"));
            to.text("found", &evidence.found);
            to.text("allowed", &evidence.allowed);
            to.end();
        }
    }
    to.value("notes", &finding.notes);
    to.maybe("help", finding.fix.as_ref().map(|fix| fix.help.as_str()));
    to.value("fix", &finding.fix.as_ref().map(fix));
    to.end();
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
                out.extend(self.separator().as_bytes());
            }
            finding(file.path, &text, located, &mut out);
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
