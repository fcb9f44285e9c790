//! Findings on a live cluster as the reports of Kubernetes' policy tools: `Report` of openreports.io, `PolicyReport` of
//! wgpolicyk8s.io. One a namespace, and one for what has no namespace.
//!
//! A report stays small whatever is found: a line is about an object and a rule, the worst lines are kept, the others
//! are counted. It holds no time: the same findings give the same bytes, so nothing is written that is not new.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bedplate_guarantees::{Checked, find};
use bedplate_model::finding::{Finding, Place, SubjectRef};
use bedplate_model::{Severity, names};
use serde_json::{Value, json};

/// Lines of one report.
const MOST: usize = 100;
/// Bytes of a line's message.
const MESSAGE: usize = 300;
/// Annotation of a report with the number of lines that are left out.
const LEFT_OUT: &str = "bedplate.dev/left-out";
/// The name of every report.
pub const NAME: &str = "bedplate";

/// A kind of report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// API group.
    pub group: &'static str,
    /// Kind of a namespace's report.
    pub namespaced: &'static str,
    /// Kind of the report on what has no namespace.
    pub cluster: &'static str,
    /// Whether the report itself names its source (`openreports.io/v1alpha1`, `Report.source`).
    has_source: bool,
}

/// The kinds of reports, the one to prefer first (<https://github.com/openreports/reports-api>; before that
/// <https://github.com/kubernetes-sigs/wg-policy-prototypes>, which is what most tools still read).
pub const FORMS: [Form; 2] = [
    Form { group: "openreports.io", namespaced: "Report", cluster: "ClusterReport", has_source: true },
    Form { group: "wgpolicyk8s.io", namespaced: "PolicyReport", cluster: "ClusterPolicyReport", has_source: false },
];

/// What a line is about: the worst first, then by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    severity: Reverse<Severity>,
    subject: SubjectRef,
    rule: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    message: String,
    field: String,
    findings: u64,
}

#[derive(Clone, Default, Debug)]
struct Scope {
    lines: BTreeMap<Key, Line>,
    fail: u64,
    warn: u64,
    left_out: u64,
}

/// Findings as they come, kept as far as reports show them.
#[derive(Clone, Default, Debug)]
pub struct Policy {
    /// By namespace; empty for what has none.
    scopes: BTreeMap<String, Scope>,
}

impl Policy {
    /// Takes in what was found of one object: everything that is more than worth knowing. Each object comes once.
    pub fn add(&mut self, checked: &Checked) {
        let mut lines: BTreeMap<Key, Line> = BTreeMap::new();
        let findings = checked.findings.iter().map(|located| &located.finding);
        for finding in findings.filter(|finding| finding.severity > Severity::Info) {
            lines.entry(Key::of(finding)).or_insert_with(|| Line::of(finding)).findings += 1;
        }
        for (key, line) in lines {
            let namespace = key.subject.namespace.clone().unwrap_or_default();
            self.scopes.entry(namespace).or_default().add(key, line);
        }
    }

    /// The reports, in a form and the version of it that a cluster serves, by namespace; empty for what has none.
    #[must_use]
    pub fn objects(&self, form: &Form, version: &str) -> BTreeMap<String, Value> {
        self.scopes
            .iter()
            .map(|(namespace, scope)| (namespace.clone(), scope.object(namespace, form, version)))
            .collect()
    }
}

impl Scope {
    fn add(&mut self, key: Key, line: Line) {
        match key.severity.0 {
            Severity::Error => self.fail += 1,
            _ => self.warn += 1,
        }
        self.lines.insert(key, line);
        if self.lines.len() > MOST {
            self.lines.pop_last();
            self.left_out += 1;
        }
    }

    fn object(&self, namespace: &str, form: &Form, version: &str) -> Value {
        let mut metadata = json!({ "name": NAME, "labels": { "app.kubernetes.io/managed-by": names::FIELD_MANAGER } });
        if !namespace.is_empty() {
            metadata["namespace"] = namespace.into();
        }
        if self.left_out > 0 {
            metadata["annotations"] = json!({ LEFT_OUT: self.left_out.to_string() });
        }
        let mut report = json!({
            "apiVersion": format!("{}/{version}", form.group),
            "kind": if namespace.is_empty() { form.cluster } else { form.namespaced },
            "metadata": metadata,
            "summary": { "pass": 0, "fail": self.fail, "warn": self.warn, "error": 0, "skip": 0 },
            "results": self.lines.iter().map(|(key, line)| line.result(key)).collect::<Vec<_>>(),
        });
        if form.has_source {
            report["source"] = names::GROUP.into();
        }
        report
    }
}

impl Key {
    fn of(finding: &Finding) -> Self {
        Self { severity: Reverse(finding.severity), subject: finding.subject.clone(), rule: finding.rule }
    }
}

impl Line {
    /// The first of the findings of a line, not counted yet.
    fn of(finding: &Finding) -> Self {
        let field = match &finding.place {
            Place::Path(path) | Place::Inside(path, _) => path.to_string(),
            Place::Span(_) => String::new(),
        };
        Self { message: cut(&finding.message), field, findings: 0 }
    }

    fn result(&self, key: &Key) -> Value {
        let (result, severity) = match key.severity.0 {
            Severity::Error => ("fail", "high"),
            _ => ("warn", "medium"),
        };
        let subject = &key.subject;
        let mut resource = json!({ "apiVersion": subject.api_version, "kind": subject.kind, "name": subject.name });
        if let Some(namespace) = &subject.namespace {
            resource["namespace"] = namespace.as_str().into();
        }
        let mut properties = BTreeMap::from([("field", self.field.clone())]);
        if self.findings > 1 {
            properties.insert("findings", self.findings.to_string());
        }
        properties.retain(|_, value| !value.is_empty());
        let mut line = json!({
            "source": names::GROUP,
            "policy": key.rule,
            "category": find(key.rule).map_or("", |rule| rule.guarantee.name()),
            "severity": severity,
            "result": result,
            "scored": true,
            "message": self.message,
            "resources": [resource],
        });
        if !properties.is_empty() {
            line["properties"] = json!(properties);
        }
        line
    }
}

fn cut(message: &str) -> String {
    if message.len() <= MESSAGE {
        return message.to_owned();
    }
    format!("{}…", &message[..message.floor_char_boundary(MESSAGE - "…".len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, name: &str, message: &str) -> Checked {
        let mut finding = Finding::new(bedplate_model::FieldPath::default().key("spec"), message);
        (finding.severity, finding.rule) = (severity, "gpu-ceiling");
        finding.subject = SubjectRef {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            namespace: Some("team".to_owned()),
            name: name.to_owned(),
        };
        let located = bedplate_guarantees::check::Located {
            finding,
            span: bedplate_model::Span::new(0, 0),
            related: Vec::new(),
            document: None,
        };
        Checked { findings: vec![located], ..Checked::default() }
    }

    /// A search of four thousand trials made a report of two megabytes, which etcd does not take.
    #[test]
    fn a_report_keeps_the_worst_and_counts_the_rest() {
        let mut policy = Policy::default();
        for trial in 0..4000 {
            policy.add(&finding(Severity::Warning, &format!("trial-{trial:04}"), &"long ".repeat(1000)));
        }
        let mut worst = finding(Severity::Error, "zz", "the worst, and the last");
        worst.findings.push(worst.findings[0].clone());
        policy.add(&worst);
        let reports = policy.objects(&FORMS[0], "v1alpha1");
        let report = &reports["team"];
        assert_eq!(report["summary"], json!({ "pass": 0, "fail": 1, "warn": 4000, "error": 0, "skip": 0 }));
        assert_eq!(report["results"].as_array().unwrap().len(), MOST);
        assert_eq!(report["results"][0]["message"], "the worst, and the last");
        assert_eq!(report["results"][0]["properties"]["findings"], "2");
        assert_eq!(report["metadata"]["annotations"][LEFT_OUT], "3901");
        assert!(report.to_string().len() < 100_000, "{}", report.to_string().len());
    }

    #[test]
    fn the_order_of_the_findings_does_not_matter() {
        let all: Vec<_> = (0..300).map(|n| finding(Severity::Warning, &n.to_string(), "m")).collect();
        let made = |findings: &mut dyn Iterator<Item = &Checked>| {
            let mut policy = Policy::default();
            findings.for_each(|checked| policy.add(checked));
            policy.objects(&FORMS[1], "v1alpha2")
        };
        assert_eq!(made(&mut all.iter()), made(&mut all.iter().rev()));
    }
}
