//! The decision: a pure function of a request, the profile, what is known of the neighbours, and the day.
//!
//! ```text
//!   object ─▶ rules of `check` ─▶ less what was so before (UPDATE) ─▶ less what is exempt
//!                                      │ by the mode of rule, guarantee, namespace
//!                                      ├─ enforce ▶ refusal, with the whole reckoning
//!                                      ├─ warn ───▶ warning, with the fix
//!                                      └─ audit ──▶ annotation of the audit log
//! ```
//!
//! It is asked twice. An API server runs mutating webhooks first, then its own policies, then validating webhooks
//! (`k8s.io/kubernetes/pkg/kubeapiserver/options/plugins.go`): a refusal by a policy would hide what the webhook says.
//! So [`explain`] answers the mutating stage: it refuses what would be refused anyway, in more words, and makes the
//! fixes that the profile asks for. [`judge`] answers the validating stage, on the object as it will be stored.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bedplate_guarantees::check::{Run, object_findings};
use bedplate_guarantees::{enforce, find};
use bedplate_model::finding::{Finding, Place};
use bedplate_model::moment::day;
use bedplate_model::profile::Mode;
use bedplate_model::workload::{Ask, kinds, unfold_live};
use bedplate_model::{Confidence, Exemption, Node, Object, Profile, Severity, Value, Workload, names};

use super::patch;
use super::review::{Operation, Request, cut, entry};

/// Guards that no policy of the API server can be: what they look at stands in strings and in embedded objects, or has to
/// be counted.
pub const WEBHOOK_GUARDS: &[&str] = &["unbounded-search", "accelerator-quota"];

/// What became of a request, for the metrics and the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Outcome {
    /// Nothing to say.
    Allowed,
    /// Let through; the user or the audit log is told something.
    Warned,
    /// Let through after a fix.
    Fixed,
    /// Refused.
    Refused,
}

impl Outcome {
    /// As metrics and logs name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Warned => "warned",
            Self::Fixed => "fixed",
            Self::Refused => "refused",
        }
    }
}

/// One reason of a refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cause {
    /// The rule.
    pub rule: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub field: String,
}

/// Why a request is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What the user reads: several lines.
    pub message: String,
    /// The same for programs.
    pub causes: Vec<Cause>,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Answer {
    /// Why not, where it is refused.
    pub refusal: Option<Refusal>,
    /// What the user is told all the same.
    pub warnings: Vec<String>,
    /// What the audit log is told, by rule.
    pub annotations: BTreeMap<String, String>,
    /// JSON Patch (RFC 6902) operations that fix the object.
    pub patch: Vec<serde_json::Value>,
}

impl Answer {
    /// Whether the request may go on.
    #[must_use]
    pub const fn allowed(&self) -> bool {
        self.refusal.is_none()
    }

    /// What became of it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if self.refusal.is_some() {
            Outcome::Refused
        } else if !self.patch.is_empty() {
            Outcome::Fixed
        } else if self.warnings.is_empty() && self.annotations.is_empty() {
            Outcome::Allowed
        } else {
            Outcome::Warned
        }
    }
}

/// The answer of the validating stage.
#[must_use]
pub fn judge(request: &Request<'_>, run: Run<'_>) -> Answer {
    let Some(object) = concerned(request) else { return Answer::default() };
    answer(request, object, run)
}

/// The answer of the mutating stage: fixes that the profile asks for, and the refusal that would come anyway. What
/// only warns is left to [`judge`], so that nobody is told twice.
#[must_use]
pub fn explain(request: &Request<'_>, run: Run<'_>) -> Answer {
    let Some(object) = concerned(request) else { return Answer::default() };
    let wanted = run.profile.settings(Some(&request.namespace)).fixes();
    let (mut patch, mut made) = (Vec::new(), Vec::new());
    let mut fixed = None;
    if !wanted.is_empty() {
        let mut json = object.to_json();
        // What was so before stays: a template that cannot change any more would refuse every later write, such as the
        // one with which a queue starts the job.
        let before = request.old.as_ref().filter(|_| request.operation == Operation::Update);
        let before = before.map(|old| findings(old, &request.namespace, run)).unwrap_or_default();
        // A fix may be what makes another one possible; each round makes at least one edit or is the last.
        for _ in 0..MAX_ROUNDS {
            let next = findings(&Node::from_json(&json), &request.namespace, run)
                .into_iter()
                .filter(|found| !before.iter().any(|old| no_worse(found, old)))
                .map(|(finding, _)| finding)
                .filter(|finding| wanted.contains(&finding.rule) && exemption(finding, run).is_none())
                .find_map(|finding| {
                    let fix = finding.fix.as_ref().filter(|fix| !fix.edits.is_empty())?;
                    let (edited, operations) = patch::apply(&json, &fix.edits)?;
                    Some((edited, operations, finding.rule, fix.help.clone()))
                });
            let Some((edited, operations, rule, help)) = next else { break };
            json = edited;
            patch.extend(operations);
            made.push((rule, help));
        }
        fixed = Some(json);
    }
    let fixed = fixed.as_ref().map(Node::from_json);
    let full = answer(request, fixed.as_ref().unwrap_or(object), run);
    if full.refusal.is_some() {
        return Answer { refusal: full.refusal, ..Answer::default() };
    }
    let mut answer = Answer { patch, ..Answer::default() };
    for (rule, help) in made {
        answer.warnings.push(one_line(&format!("{rule}: done for you: {help}"), MAX_WARNING));
        note(&mut answer.annotations, rule, "fixed", &help);
    }
    answer
}

/// What is asked for where this request is let through, where the profile limits that.
#[must_use]
pub fn ask(request: &Request<'_>, run: Run<'_>) -> Option<Ask> {
    if request.dry_run
        || request.operation != Operation::Create
        || !run.profile.settings(Some(&request.namespace)).counts()
    {
        return None;
    }
    let object = prepared(concerned(request)?, &request.namespace);
    Ask::of(&Workload::new(&Object::of_node(&object)?)?)
}

/// Most edits of one request.
const MAX_ROUNDS: usize = 64;
/// Bytes of a warning: kubectl and other clients show them on a line (`net/http` header `Warning`). The API server
/// shortens those over 256 when all together are over 4096 (`k8s.io/apiserver/pkg/endpoints/filters/warning.go`).
const MAX_WARNING: usize = 250;
/// Warnings of one answer.
const MAX_WARNINGS: usize = 8;
/// Bytes of an annotation's value.
const MAX_ANNOTATION: usize = 1024;
/// Causes that a refusal tells.
const MAX_CAUSES: usize = 8;
/// Lines of a reckoning: a job has few roles, a workflow may have a thousand steps.
const MAX_LINES: usize = 20;
/// Bytes of a refusal.
const MAX_MESSAGE: usize = 8192;

/// The object, where there is anything to say of it at all.
fn concerned<'r, 'b>(request: &'r Request<'b>) -> Option<&'r Node<'b>> {
    if !matches!(request.operation, Operation::Create | Operation::Update)
        || names::SYSTEM_NAMESPACES.contains(&request.namespace.as_str())
    {
        return None;
    }
    let object = request.object.as_ref()?;
    // What goes is on its way: only finalizers are taken away.
    let leaving = object.get("metadata").and_then(|metadata| metadata.get("deletionTimestamp"));
    leaving.is_none_or(|time| time.value == Value::Null).then_some(object)
}

fn answer(request: &Request<'_>, object: &Node<'_>, run: Run<'_>) -> Answer {
    let mut found = findings(object, &request.namespace, run);
    if let (Operation::Update, false, Some(old)) = (request.operation, found.is_empty(), &request.old) {
        let before = findings(old, &request.namespace, run);
        found.retain(|finding| !before.iter().any(|old| no_worse(finding, old)));
    }
    let owned = Object::of_node(object).is_some_and(|object| object.controller().is_some());
    let (mut refused, mut answer) = (Vec::new(), Answer::default());
    let mut untold = 0;
    for (finding, _) in &found {
        let mode = mode(finding, run.profile, &request.namespace);
        if mode != Mode::Off
            && let Some(exemption) = exemption(finding, run)
        {
            let until = format!("until {}: {}", exemption.expires, exemption.reason);
            note(&mut answer.annotations, finding.rule, "exempt", &until);
            // Whoever rests on it hears of its end before it comes.
            let days = days_between(day(run.now), &exemption.expires).filter(|days| *days <= LAST_DAYS && !owned);
            if let Some(days) = days {
                let left = match days {
                    0 => "today is its last day".to_owned(),
                    1 => "tomorrow is its last day".to_owned(),
                    days => format!("it ends in {days} days"),
                };
                let text = format!("{}: let through by an Exemption {until}; {left}", finding.rule);
                let text = one_line(&text, MAX_WARNING);
                if !answer.warnings.contains(&text) {
                    answer.warnings.push(text);
                }
            }
            continue;
        }
        match mode {
            Mode::Off => {}
            Mode::Enforce => refused.push(finding),
            // What a controller makes was judged where its owner was written; its controller reads no warnings.
            Mode::Warn if owned => {}
            Mode::Warn if answer.warnings.len() < MAX_WARNINGS => answer.warnings.push(warning(finding)),
            Mode::Warn => untold += 1,
            Mode::Audit => note(&mut answer.annotations, finding.rule, "audit", &finding.message),
        }
    }
    if untold > 0 {
        answer.warnings.push(format!("and {untold} more: `bedplate check` shows them all, with their fixes"));
    }
    if !refused.is_empty() {
        answer.refusal = Some(refusal(&refused));
    }
    answer
}

/// A finding, and the text that it is about, where it is about one: its message may leave out a part of that, such as an
/// image's tag.
type Found = (Finding, Option<String>);

/// Everything that the rules find in an object, with its subject.
fn findings(object: &Node<'_>, namespace: &str, run: Run<'_>) -> Vec<Found> {
    let object = prepared(object, namespace);
    let root = &*object;
    let Some(object) = Object::of_node(root) else { return Vec::new() };
    let subject = object.subject();
    let mut found = object_findings(&object, run);
    found.retain(|finding| finding.severity > Severity::Info);
    found
        .into_iter()
        .map(|mut finding| {
            finding.subject.clone_from(&subject);
            let value = match &finding.place {
                Place::Path(path) => path.find(root).and_then(Node::as_str).map(str::to_owned),
                _ => None,
            };
            (finding, value)
        })
        .collect()
}

/// The object as rules read it: with trees in the place of its strings, and in its namespace. Copied only where that
/// changes something: it may have megabytes.
fn prepared<'a, 'b>(object: &'a Node<'b>, namespace: &str) -> Cow<'a, Node<'b>> {
    let Some(known) = Object::of_node(object) else { return Cow::Borrowed(object) };
    let row = kinds::find(known.group(), known.version(), known.kind);
    let in_strings = row.is_some_and(|row| !row.strings.is_empty());
    if !in_strings && (namespace.is_empty() || known.namespace().is_some()) {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    unfold_live(&mut object);
    in_namespace(&mut object, namespace);
    Cow::Owned(object)
}

/// Says in which namespace an object is to be, where it leaves that to its request.
fn in_namespace(object: &mut Node<'_>, namespace: &str) {
    let Value::Map(entries) = &mut object.value else { return };
    if namespace.is_empty() {
        return;
    }
    let metadata = match entries.iter().position(|entry| &*entry.key == "metadata") {
        Some(at) => &mut entries[at].value,
        None => {
            entries.push(entry("metadata", Value::Map(Vec::new())));
            match entries.last_mut() {
                Some(entry) => &mut entry.value,
                None => return,
            }
        }
    };
    if let Value::Map(fields) = &mut metadata.value
        && !fields.iter().any(|field| &*field.key == "namespace")
    {
        fields.push(entry("namespace", Value::String(namespace.to_owned().into())));
    }
}

/// Whether a finding was there before, or is a smaller step over the same line.
fn no_worse((now, value): &Found, (before, old): &Found) -> bool {
    let number = |finding: &Finding| {
        let evidence = finding.evidence.as_ref()?;
        Some((evidence.found.parse::<i128>().ok()?, evidence.allowed.parse::<i128>().ok()?))
    };
    now.rule == before.rule
        && match (number(now), number(before)) {
            (Some((now, limit)), Some((before, same))) if limit == same => {
                (now > limit) == (before > limit) && (now - limit).abs() <= (before - limit).abs()
            }
            _ => now.message == before.message && value == old,
        }
}

/// How strictly a finding is taken. A rule that guards is as strict as the profile says; another one only advises,
/// unless the profile names the rule itself. What rests on a guess never refuses, nor does advice that is less sure
/// of itself than its rule is.
fn mode(finding: &Finding, profile: &Profile, namespace: &str) -> Mode {
    let Some(rule) = find(finding.rule) else { return Mode::Off };
    let settings = profile.settings((!namespace.is_empty()).then_some(namespace));
    let mode = settings.mode(rule.name, rule.guarantee);
    let refuses = if is_policy(rule.name) {
        finding.confidence > Confidence::Low
    } else {
        (WEBHOOK_GUARDS.contains(&rule.name) || settings.modes.contains_key(rule.name))
            && finding.confidence >= rule.confidence
    };
    if mode == Mode::Enforce && !refuses { Mode::Warn } else { mode }
}

/// Whether a policy of the API server enforces a rule as well.
fn is_policy(rule: &str) -> bool {
    enforce::guarded().any(|(guard, _)| guard == rule)
}

/// What lets a finding through, where something does.
fn exemption<'p>(finding: &Finding, run: Run<'p>) -> Option<&'p Exemption> {
    let mut exemptions = run.profile.exemptions.iter().map(|(exemption, _)| exemption);
    exemptions.find(|exemption| exemption.covers(finding.rule, &finding.subject) && !exemption.expired(run.now))
}

/// From how many days before its end an exemption is warned of.
const LAST_DAYS: i64 = 7;

/// Days from one `YYYY-MM-DD` to another; nothing where one is no day.
fn days_between(from: &str, to: &str) -> Option<i64> {
    let day = |text| time::Date::parse(text, time::macros::format_description!("[year]-[month]-[day]")).ok();
    Some((day(to)? - day(from)?).whole_days())
}

fn field(finding: &Finding) -> String {
    match &finding.place {
        Place::Path(path) | Place::Inside(path, _) => path.to_string(),
        Place::Span(_) => String::new(),
    }
}

fn warning(finding: &Finding) -> String {
    let mut text = format!("{}: {}", finding.rule, finding.message);
    let place = field(finding);
    if !place.is_empty() {
        text.push_str(&format!(" ({place})"));
    }
    if let Some(fix) = &finding.fix {
        text.push_str(&format!("; {}", fix.help));
    }
    one_line(&text, MAX_WARNING)
}

/// A header has no line ends and no control characters.
fn one_line(text: &str, most: usize) -> String {
    cut(&text.split(|c: char| c.is_control()).collect::<Vec<_>>().join(" "), most)
}

/// Adds to what the audit log is told of a rule.
fn note(annotations: &mut BTreeMap<String, String>, rule: &str, what: &str, text: &str) {
    let value = annotations.entry(format!("{rule}.{what}")).or_default();
    if !value.is_empty() {
        value.push_str("; ");
    }
    value.push_str(text);
    *value = one_line(value, MAX_ANNOTATION);
}

fn refusal(refused: &[&Finding]) -> Refusal {
    let mut text = String::new();
    for finding in refused.iter().take(MAX_CAUSES) {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{} ({})", finding.message, finding.rule));
        for line in finding.notes.iter().take(MAX_LINES) {
            text.push_str(&format!("\n  {line}"));
        }
        if let Some(more) = finding.notes.len().checked_sub(MAX_LINES).filter(|more| *more > 0) {
            text.push_str(&format!("\n  and {more} more"));
        }
        text.push_str(&format!("\n  at: {}", field(finding)));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("\n  fix: {}", fix.help));
        }
    }
    if let Some(more) = refused.len().checked_sub(MAX_CAUSES).filter(|more| *more > 0) {
        text.push_str(&format!("\nand {more} more: `bedplate check` shows them all"));
    }
    let subject = refused.first().map(|finding| &finding.subject);
    if let (Some(subject), Some(first)) = (subject, refused.first()) {
        text.push_str(&format!(
            "\nor ask for an Exemption of {} {}{} from {} (kubectl explain exemption.spec, {})",
            subject.kind,
            subject.namespace.as_deref().map(|namespace| format!("{namespace}/")).unwrap_or_default(),
            if subject.name.is_empty() { "*" } else { &subject.name },
            first.rule,
            names::API_VERSION,
        ));
    }
    let causes = refused
        .iter()
        .take(MAX_CAUSES)
        .map(|finding| Cause {
            rule: finding.rule,
            message: cut(&finding.message, MAX_ANNOTATION),
            field: field(finding),
        })
        .collect();
    Refusal { message: cut(&text, MAX_MESSAGE), causes }
}
