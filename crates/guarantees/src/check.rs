//! One file, from text to findings with bytes. Pure: the same text, profile, neighbours and day
//! give the same answer.

use bedplate_model::document::dockerfile::Dockerfile;
use bedplate_model::document::suppression::{self, Suppression};
use bedplate_model::document::{FileKind, Limits, Unrendered, parse, read, read_some};
use bedplate_model::finding::{Finding, Place, SubjectRef};
use bedplate_model::{
    Confidence, Document, FieldPath, LineIndex, Object, Profile, Severity, Span, Style, Value, Workload,
    checkpoint_report, names,
};

use crate::context::{BuildContext, Context, Neighbours};
use crate::rule::{Check, Findings};
use crate::{find, rules};

/// A text to be checked.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The text.
    pub text: &'a str,
    /// What it is read as.
    pub kind: FileKind,
    /// The files beside it, for a Dockerfile.
    pub build: &'a dyn BuildContext,
}

/// What a run knows besides the files.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// Facts about the other files.
    pub neighbours: &'a Neighbours,
    /// Now, as RFC 3339, or today as `YYYY-MM-DD`.
    pub now: &'a str,
}

/// What came of a text.
#[derive(Debug, Default)]
pub struct Checked {
    /// The findings, in the order of the text.
    pub findings: Vec<Located>,
    /// Why nothing was checked, where the text has to be rendered first.
    pub skipped: Option<Unrendered>,
    /// How many objects, Dockerfiles and Corefiles were looked at.
    pub subjects: usize,
    /// Findings that a comment suppressed.
    pub suppressed: usize,
    /// Findings that an exemption covers.
    pub exempt: usize,
}

/// A finding and its bytes.
#[derive(Clone, Debug)]
pub struct Located {
    /// The finding.
    pub finding: Finding,
    /// The bytes to mark.
    pub span: Span,
    /// Other bytes that belong to it, each with a few words.
    pub related: Vec<(Span, String)>,
    /// Which of the file's documents its paths start in; nothing for other texts.
    pub document: Option<usize>,
}

/// The name of findings about text that could not be read.
pub const SYNTAX: &str = "syntax";
/// The name of findings about a profile or an exemption that says what it cannot mean.
pub const PROFILE: &str = "profile";
/// The name of findings about a suppression that cannot be honoured, or does nothing.
pub const SUPPRESSION: &str = "suppression";

/// Checks a text.
#[must_use]
pub fn check(source: Source<'_>, run: Run<'_>) -> Checked {
    let mut out = Checked::default();
    match source.kind {
        FileKind::Yaml => yaml(source, run, &mut out),
        FileKind::Dockerfile => dockerfile(source, run, &mut out),
        FileKind::Corefile => {
            out.subjects = 1;
            let found = corefile(source.text, run, None);
            let subject = SubjectRef { kind: "Corefile".to_owned(), ..SubjectRef::default() };
            add(found, &subject, None, None, run, &mut out);
        }
    }
    suppress(source, &mut out);
    out.findings.sort_by(|a, b| {
        (a.span.start, a.finding.rule, &a.finding.message).cmp(&(b.span.start, b.finding.rule, &b.finding.message))
    });
    out
}

/// Exemptions that have lapsed, as findings in the profile's own text.
#[must_use]
pub fn lapsed(profile: &Profile, now: &str) -> Checked {
    let lapsed = profile.exemptions.iter().filter(|(exemption, _)| exemption.expired(now));
    let findings = lapsed.map(|(exemption, span)| {
        let subject = &exemption.subject.name;
        let message = format!("the exemption of `{subject}` from `{}` lapsed on {}", exemption.rule, exemption.expires);
        let mut finding = Finding::new(*span, message)
            .help("fix what it exempts and take it away, or give it a new end with its reason");
        finding.rule = "exemption-expired";
        finding.severity = Severity::Error;
        Located { span: *span, related: Vec::new(), document: None, finding }
    });
    Checked { findings: findings.collect(), ..Checked::default() }
}

/// Learns what other files may ask about this one.
pub fn survey(text: &str, neighbours: &mut Neighbours) {
    if let Ok(parsed) = read_some(text, &Limits::DEFAULT, Neighbours::may_learn_from) {
        for document in &parsed.documents {
            Object::of(document).iter().for_each(|object| neighbours.add(object));
        }
    }
}

fn yaml(source: Source<'_>, run: Run<'_>, out: &mut Checked) {
    let parsed = match read(source.text, &Limits::DEFAULT) {
        Ok(parsed) => parsed,
        Err(why) => {
            out.skipped = Some(why);
            return;
        }
    };
    for error in parsed.errors {
        out.findings.push(syntax(error));
    }
    for (index, document) in parsed.documents.iter().enumerate() {
        // A profile or an exemption, wherever it stands: the file that is in force, or one on its way to a cluster.
        let root = &document.root;
        let word = |key| root.get(key).and_then(|node| node.as_str());
        if word("apiVersion") == Some(names::API_VERSION) && word("kind") != Some(checkpoint_report::KIND) {
            let mistakes = Profile::mistakes(root, &crate::names());
            out.findings.extend(mistakes.into_iter().map(|error| mistake(error, PROFILE)));
        }
        for object in Object::of(document) {
            out.subjects += 1;
            let found = object_findings(&object, run);
            add(found, &object.subject(), Some((index, document)), Some(source.text), run, out);
        }
    }
}

/// Every finding of one object; also how a live object and an admission request are judged.
#[must_use]
pub fn object_findings(object: &Object<'_>, run: Run<'_>) -> Vec<Finding> {
    // The kinds of bedplate's own files are judged by the profile's schema.
    if object.group() == names::GROUP && object.kind != checkpoint_report::KIND {
        return Vec::new();
    }
    let settings = run.profile.settings(object.namespace());
    let cx = Context { settings, neighbours: run.neighbours, now: run.now };
    let workload = Workload::new(object);
    let mut found = Vec::new();
    apply(&cx, &mut found, |check, out| match (check, &workload) {
        (Check::Workload(check), Some(workload)) => check(workload, &cx, out),
        (Check::Object(check), _) => check(object, &cx, out),
        _ => {}
    });
    if workload.as_ref().is_some_and(Workload::guessed) {
        for finding in &mut found {
            finding.confidence = Confidence::Low;
        }
    }
    if object.is("", "ConfigMap") {
        for (key, value) in object.root.key("data").entries().filter(|(key, _)| key.contains("Corefile")) {
            if let Some(text) = value.str() {
                let path = object.root.key("data").key(key).path();
                found.extend(corefile(text, run, Some(&path)));
            }
        }
    }
    found
}

fn corefile(text: &str, run: Run<'_>, inside: Option<&FieldPath>) -> Vec<Finding> {
    let cx = Context { settings: run.profile.settings(None), neighbours: run.neighbours, now: run.now };
    let mut found = Vec::new();
    let mistake = |error: &bedplate_dns::CorefileError, message, severity| {
        let mut finding = Finding::new(Span::new(error.span.start, error.span.end), message);
        (finding.rule, finding.severity) = (SYNTAX, severity);
        finding
    };
    match bedplate_dns::Corefile::parse(text) {
        Err(error) => found.push(mistake(&error, format!("not a valid Corefile: {error}"), Severity::Error)),
        Ok(file) => {
            found.extend(file.oddities.iter().map(|odd| mistake(odd, odd.message.clone(), Severity::Warning)));
        }
    }
    apply(&cx, &mut found, |check, out| {
        if let Check::Corefile(check) = check {
            check(text, &cx, out);
        }
    });
    if let Some(path) = inside {
        let wrap = |place: &mut Place| {
            if let Place::Span(span) = place {
                *place = Place::Inside(path.clone(), *span);
            }
        };
        for finding in &mut found {
            wrap(&mut finding.place);
            finding.related.iter_mut().for_each(|(place, _)| wrap(place));
        }
    }
    found
}

fn dockerfile(source: Source<'_>, run: Run<'_>, out: &mut Checked) {
    out.subjects = 1;
    let file = match Dockerfile::parse(source.text, &Limits::DEFAULT) {
        Ok(file) => file,
        Err(error) => {
            out.findings.push(syntax(error));
            return;
        }
    };
    let cx = Context { settings: run.profile.settings(None), neighbours: run.neighbours, now: run.now };
    let mut found = Vec::new();
    apply(&cx, &mut found, |check, out| {
        if let Check::Dockerfile(check) = check {
            check(&file, source.build, &cx, out);
        }
    });
    let subject = SubjectRef { kind: "Dockerfile".to_owned(), ..SubjectRef::default() };
    add(found, &subject, None, None, run, out);
}

/// Runs every rule that the settings leave on, and stamps what it finds.
fn apply(cx: &Context<'_>, found: &mut Vec<Finding>, mut run: impl FnMut(&Check, &mut Findings)) {
    let mut out = Findings::default();
    for rule in rules() {
        let severity = match cx.settings.rules.get(rule.name) {
            Some(level) => level.severity(),
            None => Some(rule.severity),
        };
        let Some(severity) = severity else { continue };
        for check in rule.checks {
            run(check, &mut out);
        }
        for mut finding in out.list.drain(..) {
            finding.rule = rule.name;
            finding.severity = severity;
            finding.confidence = finding.confidence.min(rule.confidence);
            found.push(finding);
        }
    }
}

fn add(
    found: Vec<Finding>,
    subject: &SubjectRef,
    document: Option<(usize, &Document<'_>)>,
    text: Option<&str>,
    run: Run<'_>,
    out: &mut Checked,
) {
    for mut finding in found {
        finding.subject.clone_from(subject);
        let exempt = run
            .profile
            .exemptions
            .iter()
            .any(|(exemption, _)| exemption.covers(finding.rule, subject) && !exemption.expired(run.now));
        if exempt {
            out.exempt += 1;
            continue;
        }
        let locate = |place: &Place| locate(place, document.map(|(_, document)| document), text);
        let span = locate(&finding.place);
        let related = finding.related.iter().map(|(place, label)| (locate(place), label.clone())).collect();
        out.findings.push(Located { span, related, document: document.map(|(index, _)| index), finding });
    }
}

fn locate(place: &Place, document: Option<&Document<'_>>, text: Option<&str>) -> Span {
    match (place, document) {
        (Place::Span(span), _) => *span,
        (Place::Path(path), Some(document)) => path.locate(&document.root).span(),
        (Place::Inside(path, inner), Some(document)) => {
            let hit = path.locate(&document.root);
            let outer = text.and_then(|text| inside(text, hit.node, *inner));
            outer.unwrap_or_else(|| hit.span())
        }
        (Place::Path(_) | Place::Inside(..), None) => Span::new(0, 0),
    }
}

/// The bytes of a file that hold a span of the text of one of its literal scalars: the same
/// line, further right by the indentation.
#[must_use]
pub fn inside(text: &str, node: &bedplate_model::Node<'_>, inner: Span) -> Option<Span> {
    let Value::String(value) = &node.value else { return None };
    if node.style != Style::Literal {
        return None;
    }
    let lines = LineIndex::new(text);
    let first = lines.line(node.span.start);
    let indent = node.span.start as usize - lines.start(first);
    let own = LineIndex::new(value);
    // Blank lines at the top belong to the value but stand before its first character.
    let skipped = value.len() - value.trim_start_matches('\n').len();
    let map = |offset: u32| {
        let line = own.line(offset);
        let column = offset as usize - own.start(line);
        Some((lines.start((first + line - 1).checked_sub(skipped)?) + indent + column).min(text.len()))
    };
    let (start, end) = (map(inner.start)?, map(inner.end)?);
    (start <= end && text.is_char_boundary(start) && text.is_char_boundary(end)).then(|| Span::new(start, end))
}

fn syntax(error: bedplate_model::SyntaxError) -> Located {
    mistake(error, SYNTAX)
}

/// A mistake of a text as a finding of it.
#[must_use]
pub fn mistake(error: bedplate_model::SyntaxError, rule: &'static str) -> Located {
    let mut finding = Finding::new(error.span, error.message);
    finding.rule = rule;
    finding.severity = Severity::Error;
    if let Some(help) = error.help {
        finding = finding.help(help);
    }
    Located { span: error.span, related: Vec::new(), document: None, finding }
}

/// Takes away what comments suppress, and adds what is wrong with those comments.
fn suppress(source: Source<'_>, out: &mut Checked) {
    let comments = suppression::find(source.text);
    if comments.is_empty() {
        return;
    }
    let lines = LineIndex::new(source.text);
    let documents = if source.kind == FileKind::Yaml { parse(source.text, &Limits::DEFAULT).documents } else { vec![] };
    let scope = |comment: &Suppression| {
        documents.iter().find_map(|document| suppression::scope(&document.root, &lines, comment.line)).unwrap_or_else(
            || {
                let start = lines.start(comment.line);
                Span::new(start, start + lines.text(comment.line).len())
            },
        )
    };
    for comment in comments {
        let mut complain = |message: String, help: &str, severity| {
            let mut finding = Finding::new(comment.span, message).help(help);
            finding.rule = SUPPRESSION;
            finding.severity = severity;
            out.findings.push(Located { span: comment.span, related: Vec::new(), document: None, finding });
        };
        if find(&comment.rule).is_none() {
            let names: Vec<_> = rules().map(|rule| rule.name).collect();
            let near = bedplate_model::profile::nearest(&comment.rule, &names);
            let help = near.map_or("`bedplate rules` lists them".to_owned(), |near| format!("did you mean `{near}`?"));
            complain(format!("there is no rule `{}` to ignore", comment.rule), &help, Severity::Warning);
            continue;
        }
        if comment.reason.is_empty() {
            let help = "write why behind the bracket; until then the finding stands";
            complain(format!("`{}` is ignored without a reason", comment.rule), help, Severity::Warning);
            continue;
        }
        let scope = scope(&comment);
        let before = out.findings.len();
        out.findings.retain(|located| !(located.finding.rule == comment.rule && scope.contains(located.span)));
        let taken = before - out.findings.len();
        out.suppressed += taken;
        if taken == 0 {
            let mut finding = Finding::new(comment.span, format!("nothing here to ignore for `{}`", comment.rule))
                .help("take the comment away");
            finding.rule = SUPPRESSION;
            finding.severity = Severity::Info;
            out.findings.push(Located { span: comment.span, related: Vec::new(), document: None, finding });
        }
    }
}
