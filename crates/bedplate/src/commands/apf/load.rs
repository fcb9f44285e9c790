//! The load of a simulation: a mix file, a named flood.

use std::path::Path;

use bedplate_apf::matching::{Request, Target, implied_groups};
use bedplate_apf::simulate::{Pace, RETRIES, SECOND, Source, Takes};
use bedplate_apf::width::{Asks, List};
use bedplate_model::document::{Limits, LineIndex, Parsed, parse};
use bedplate_model::profile::schema;
use bedplate_model::value::{Node, Span, Value};
use bedplate_model::{SyntaxError, document};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_path_to_error::Segment;

use crate::commands::Error;

/// The load that is there without a file.
pub(super) const EXAMPLE: &str = "\
# Who sends what to the API server. A source has `clients` that wait for their answers, or a `rate` a second; its requests
# take `milliseconds` of a core of their own, or `elapsedMilliseconds` whatever else runs (a webhook, etcd).
sources:
  - name: training-operator
    user: system:serviceaccount:kubeflow:training-operator
    verb: update
    resource: pytorchjobs.kubeflow.org
    namespace: team-a
    rate: 30
    milliseconds: 4
    watchers: 3           # who watch what it writes: ten are one more seat, for 5 ms after the answer
  - name: search
    user: system:serviceaccount:team-a:default-editor
    verb: create
    resource: jobs.batch
    namespace: team-a
    clients: 200          # at once
    flows: 1              # how many users they are
    milliseconds: 6
    retries: 10           # client-go's; each after the server's Retry-After
    from: 10              # seconds
    to: 50
  - name: dashboard
    user: ann
    verb: list
    resource: pods
    rate: 1
    milliseconds: 30
    list:                 # wide: a seat for each 100 KB
      objects: 5000
      kilobytes: 4        # of one
      limit: 500
";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mix {
    sources: Vec<Row>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Row {
    name: String,
    user: String,
    #[serde(default)]
    groups: Vec<String>,
    verb: String,
    resource: String,
    #[serde(default)]
    namespace: String,
    clients: Option<u32>,
    #[serde(default)]
    pause_milliseconds: f64,
    rate: Option<f64>,
    #[serde(default = "one")]
    flows: u32,
    milliseconds: Option<f64>,
    elapsed_milliseconds: Option<f64>,
    seats: Option<u64>,
    watchers: Option<u64>,
    list: Option<ListRow>,
    retries: Option<u32>,
    total: Option<u64>,
    #[serde(default)]
    from: f64,
    to: Option<f64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ListRow {
    objects: u64,
    kilobytes: f64,
    #[serde(default)]
    limit: u64,
    #[serde(default)]
    selects: bool,
    #[serde(default)]
    from_storage: bool,
}

const fn one() -> u32 {
    1
}

/// Most clients of a source, and requests a second: more is a mistake in the file.
const MOST: f64 = 100_000.0;

/// A mistake of a row: the key that it is about, and what it is.
type Mistake = (&'static str, String);

fn within(key: &'static str, value: f64, most: f64) -> Result<f64, Mistake> {
    let fine = value.is_finite() && (0.0..=most).contains(&value);
    if fine { Ok(value) } else { Err((key, format!("{key} is {value}; expected 0 to {most}"))) }
}

fn nanos(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}

impl Row {
    fn source(self) -> Result<Source, Mistake> {
        let pace = match (self.clients, self.rate) {
            (Some(clients), None) => {
                within("clients", clients.into(), MOST)?;
                Pace::Clients(clients, nanos(within("pauseMilliseconds", self.pause_milliseconds, 1e9)? / 1e3))
            }
            (None, Some(rate)) => Pace::Rate(within("rate", rate, MOST)?),
            (Some(_), Some(_)) => return Err(("rate", "expected either `clients` or `rate`, found both".to_owned())),
            (None, None) => return Err(("name", "expected either `clients` or `rate`".to_owned())),
        };
        let takes = match (self.milliseconds, self.elapsed_milliseconds) {
            (Some(of_core), None) => Takes::Core(nanos(within("milliseconds", of_core, 1e6)? / 1e3)),
            (None, Some(elapsed)) => Takes::Exactly(nanos(within("elapsedMilliseconds", elapsed, 1e6)? / 1e3)),
            _ => return Err(("name", "expected either `milliseconds` or `elapsedMilliseconds`".to_owned())),
        };
        let asks = match (self.seats, self.watchers, &self.list) {
            (None, None, None) => Asks::Seats(1),
            (Some(seats), None, None) => Asks::Seats(within("seats", seats as f64, 100.0)?.max(1.0) as u64),
            (None, Some(watchers), None) => Asks::Write(within("watchers", watchers as f64, 1e6)? as u64),
            (None, None, Some(list)) => Asks::List(List {
                objects: within("list", list.objects as f64, 1e9)? as u64,
                bytes: (within("list", list.kilobytes, 1e5)? * 1e3) as u64,
                limit: list.limit,
                selects: list.selects,
                from_storage: list.from_storage,
            }),
            _ => return Err(("name", "expected at most one of `seats`, `watchers`, `list`".to_owned())),
        };
        let to = self.to.map_or(Ok(u64::MAX), |to| within("to", to, 1e6).map(nanos))?;
        let (resource, group) = self.resource.split_once('.').unwrap_or((&self.resource, ""));
        let mut groups = self.groups;
        groups.extend(implied_groups(&self.user));
        Ok(Source {
            request: Request {
                user: self.user.clone(),
                groups,
                verb: self.verb.clone(),
                target: Target::Resource(group.to_owned(), resource.to_owned(), self.namespace.clone()),
            },
            flows: within("flows", self.flows.into(), 10_000.0)?.max(1.0) as u32,
            pace,
            active: (nanos(within("from", self.from, 1e6)?), to),
            total: self.total,
            takes,
            asks,
            retries: within("retries", self.retries.unwrap_or(RETRIES).into(), 100.0)? as u32,
            name: self.name,
        })
    }
}

/// Mistakes of a file, each at its line and column.
fn told(name: &str, text: &str, errors: &[SyntaxError]) -> Error {
    let lines = LineIndex::new(text);
    let line = |error: &SyntaxError| {
        let at = lines.position(if error.span.is_some() { error.span.start } else { 0 });
        let help = error.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{name}:{}:{}: {}{help}", at.line, at.column, error.message)
    };
    Error::Other(errors.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// The documents of a YAML text.
pub(super) fn documents<'t>(text: &'t str, name: &str) -> Result<Vec<document::Document<'t>>, Error> {
    let Parsed { documents, errors, .. } = parse(text, &Limits::DEFAULT);
    if errors.is_empty() { Ok(documents) } else { Err(told(name, text, &errors)) }
}

/// A typed object of a document, or what is wrong with it at its place.
pub(super) fn typed<T: serde::de::DeserializeOwned>(node: &Node<'_>, text: &str, name: &str) -> Result<T, Error> {
    serde_path_to_error::deserialize(node.to_json()).map_err(|error| {
        // As far as the document has the path: what is missing is missed where it should be.
        let mut at = node;
        for step in error.path() {
            let below = match (step, &at.value) {
                (Segment::Map { key }, _) => at.get(key),
                (Segment::Seq { index }, Value::Seq(items)) => items.get(*index),
                _ => None,
            };
            at = below.unwrap_or(at);
        }
        let message = format!("{}: {}", error.path(), error.inner());
        told(name, text, &[SyntaxError { message, span: at.span, help: None }])
    })
}

/// The sources of a mix.
pub(super) fn sources(text: &str, name: &str) -> Result<Vec<Source>, Error> {
    const HELP: &str = "`bedplate apf simulate --example` prints a load";
    let wrong = |errors: &[SyntaxError]| told(name, text, errors);
    let documents = documents(text, name)?;
    let root = documents.first().map(|document| &document.root).filter(|root| root.value != Value::Null);
    let Some(root) = root else {
        let nothing = SyntaxError { message: "nothing in it".into(), span: Span::NONE, help: Some(HELP.into()) };
        return Err(wrong(&[nothing]));
    };
    let mistakes = schema::check(root, schemars::schema_for!(Mix).as_value());
    if !mistakes.is_empty() {
        return Err(wrong(&mistakes));
    }
    let mix: Mix = typed(root, text, name)?;
    let rows = match root.get("sources").map(|rows| &rows.value) {
        Some(Value::Seq(rows)) => rows.as_slice(),
        _ => &[],
    };
    let mut errors = Vec::new();
    let mut sources = Vec::new();
    for (row, node) in mix.sources.into_iter().zip(rows) {
        let of = format!("source `{}`", row.name);
        match row.source() {
            Ok(source) => sources.push(source),
            Err((key, message)) => {
                let span = node.entry(key).map_or(node.span, |entry| entry.value.span);
                errors.push(SyntaxError { message: format!("{of}: {message}"), span, help: None });
            }
        }
    }
    if errors.is_empty() { Ok(sources) } else { Err(wrong(&errors)) }
}

/// A flood that has a name.
struct Flood {
    name: &'static str,
    /// What it is so many of.
    of: &'static str,
    rows: &'static [FloodRow],
}

/// Somebody who takes part in it.
struct FloodRow {
    name: &'static str,
    user: &'static str,
    verb: &'static str,
    /// `resource.group`.
    resource: &'static str,
    clients: u32,
    pause_milliseconds: u64,
    /// How many users they are.
    flows: u32,
    /// Requests for each of what the flood is so many of; 0 for those who only happen to be there.
    each: f64,
    milliseconds: u64,
    asks: Asks,
}

const fn writes(watchers: u64) -> Asks {
    Asks::Write(watchers)
}

/// Every flood: the one place to add one. Requests for each are those that the controllers' own code makes when all goes
/// well; times are of a core, as measured on the API server with objects of some kilobytes.
#[rustfmt::skip]
const FLOODS: &[Flood] = &[
    // A search that creates all trials at once and then polls them, as katib#1328 and its kind tell.
    Flood { name: "hpo", of: "trials of a hyper-parameter search", rows: &[
        FloodRow { name: "search: creates trials", user: "system:serviceaccount:team-a:default-editor", verb: "create",
            resource: "pytorchjobs.kubeflow.org", clients: 200, pause_milliseconds: 0, flows: 1, each: 1.0, milliseconds: 6, asks: writes(3) },
        FloodRow { name: "search: polls them", user: "system:serviceaccount:team-a:default-editor", verb: "get",
            resource: "pytorchjobs.kubeflow.org", clients: 100, pause_milliseconds: 1000, flows: 1, each: 3.0, milliseconds: 2, asks: Asks::Seats(1) },
        FloodRow { name: "training-operator: pods", user: "system:serviceaccount:kubeflow:training-operator", verb: "create",
            resource: "pods", clients: 4, pause_milliseconds: 20, flows: 1, each: 2.0, milliseconds: 6, asks: writes(12) },
        FloodRow { name: "training-operator: status", user: "system:serviceaccount:kubeflow:training-operator", verb: "update",
            resource: "pytorchjobs/status.kubeflow.org", clients: 4, pause_milliseconds: 20, flows: 1, each: 2.0, milliseconds: 4, asks: writes(3) },
        FloodRow { name: "training-operator: its lease", user: "system:serviceaccount:kubeflow:training-operator", verb: "update",
            resource: "leases.coordination.k8s.io", clients: 1, pause_milliseconds: 2000, flows: 1, each: 0.0, milliseconds: 2, asks: writes(0) },
    ] },
    // A class begins: every hub user's notebook at once (kubespawner#753: the hub lists all pods).
    Flood { name: "notebooks", of: "notebooks that start at once", rows: &[
        FloodRow { name: "hub: pods and claims", user: "system:serviceaccount:jupyter:hub", verb: "create",
            resource: "pods", clients: 64, pause_milliseconds: 0, flows: 1, each: 2.0, milliseconds: 6, asks: writes(12) },
        FloodRow { name: "hub: lists pods", user: "system:serviceaccount:jupyter:hub", verb: "list",
            resource: "pods", clients: 8, pause_milliseconds: 500, flows: 1, each: 1.0, milliseconds: 25,
            asks: Asks::List(List { objects: 5000, bytes: 4000, limit: 0, selects: true, from_storage: false }) },
        FloodRow { name: "users: read", user: "system:serviceaccount:team-a:default-editor", verb: "get",
            resource: "configmaps", clients: 200, pause_milliseconds: 1000, flows: 200, each: 5.0, milliseconds: 2, asks: Asks::Seats(1) },
        FloodRow { name: "notebook-controller: status", user: "system:serviceaccount:kubeflow:notebook-controller-service-account", verb: "update",
            resource: "notebooks/status.kubeflow.org", clients: 2, pause_milliseconds: 20, flows: 1, each: 1.0, milliseconds: 4, asks: writes(2) },
    ] },
    // Every step of every pipeline patches its workflow (argo-workflows#4888).
    Flood { name: "pipelines", of: "pipeline steps that end at once", rows: &[
        FloodRow { name: "steps: report", user: "system:serviceaccount:team-a:pipeline-runner", verb: "patch",
            resource: "workflowtaskresults.argoproj.io", clients: 500, pause_milliseconds: 0, flows: 1, each: 2.0, milliseconds: 5, asks: writes(2) },
        FloodRow { name: "argo: workflows", user: "system:serviceaccount:kubeflow:argo", verb: "update",
            resource: "workflows.argoproj.io", clients: 32, pause_milliseconds: 10, flows: 1, each: 1.0, milliseconds: 15, asks: writes(4) },
        FloodRow { name: "argo: its lease", user: "system:serviceaccount:kubeflow:argo", verb: "update",
            resource: "leases.coordination.k8s.io", clients: 1, pause_milliseconds: 5000, flows: 1, each: 0.0, milliseconds: 2, asks: writes(0) },
    ] },
];

/// Most that a flood may be so many of.
const LARGEST: u64 = 1_000_000;

/// When a flood begins: before it, the controllers are seen alone.
const BEGINS: u64 = 5 * SECOND;

/// The names of the floods, and what each is so many of.
pub(super) fn floods() -> String {
    FLOODS.iter().map(|flood| format!("{} ({})", flood.name, flood.of)).collect::<Vec<_>>().join(", ")
}

/// The sources of `NAME:COUNT`.
pub(super) fn flood(text: &str) -> Result<Vec<Source>, String> {
    let wrong = || format!("expected NAME:COUNT with one of {}, and 1 to {LARGEST}: hpo:5000", floods());
    let (name, count) = text.split_once(':').ok_or_else(wrong)?;
    let flood = FLOODS.iter().find(|flood| flood.name == name).ok_or_else(wrong)?;
    let count: u64 = count.parse().ok().filter(|count| (1..=LARGEST).contains(count)).ok_or_else(wrong)?;
    let source = |row: &FloodRow| {
        let (resource, group) = row.resource.split_once('.').unwrap_or((row.resource, ""));
        let follows = row.each > 0.0;
        Source {
            name: row.name.to_owned(),
            request: Request {
                user: row.user.to_owned(),
                groups: implied_groups(row.user),
                verb: row.verb.to_owned(),
                target: Target::Resource(group.to_owned(), resource.to_owned(), "team-a".to_owned()),
            },
            flows: row.flows,
            pace: Pace::Clients(row.clients, row.pause_milliseconds * SECOND / 1000),
            active: (if follows { BEGINS } else { 0 }, u64::MAX),
            total: follows.then_some((count as f64 * row.each) as u64),
            takes: Takes::Core(row.milliseconds * SECOND / 1000),
            asks: row.asks,
            retries: RETRIES,
        }
    };
    Ok(flood.rows.iter().map(source).collect())
}

/// What a load is read from, as it is shown.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_a_lane_is_told_at_its_place() {
        let text = "kind: PriorityLevelConfiguration\nmetadata: {name: x}\nspec:\n  type: Limited\n  limited: {nominalConcurrencyShares: many}\n";
        let documents = documents(text, "lanes.yaml").unwrap();
        let told =
            typed::<bedplate_apf::PriorityLevel>(&documents[0].root, text, "lanes.yaml").unwrap_err().to_string();
        assert!(told.contains("lanes.yaml:5:39: spec.limited.nominalConcurrencyShares: invalid type"), "{told}");
    }

    #[test]
    fn the_example_is_a_load_and_each_mistake_is_told_at_its_place() {
        assert_eq!(sources(EXAMPLE, "example").unwrap().len(), 3);
        for (wrong, words) in [
            (EXAMPLE.replace("rate: 30", "rat: 30"), "mix.yaml:9:5: unknown key `rat`; did you mean `rate`?"),
            (
                EXAMPLE.replace("rate: 30", "rate: -1"),
                "mix.yaml:9:11: source `training-operator`: rate is -1; expected 0 to 100000",
            ),
            (EXAMPLE.replace("rate: 30", "rate: many"), "mix.yaml:9:11: expected a number, found a string"),
            (
                EXAMPLE.replace("    rate: 30\n", ""),
                "mix.yaml:4:11: source `training-operator`: expected either `clients`",
            ),
            (EXAMPLE.replace("kilobytes", "kilobits"), "unknown key `kilobits`; did you mean `kilobytes`?"),
            (EXAMPLE.replace("    verb: update\n", ""), "missing key `verb`"),
            (format!("{EXAMPLE}    seats: 4\n"), "expected at most one of `seats`, `watchers`, `list`"),
            ("a: [".to_owned(), "mix.yaml:1:"),
            (String::new(), "mix.yaml:1:1: nothing in it; `bedplate apf simulate --example` prints a load"),
        ] {
            let told = sources(&wrong, "mix.yaml").unwrap_err().to_string();
            assert!(told.contains(words) && told.starts_with("mix.yaml:"), "{told}");
        }
    }

    #[test]
    fn a_flood_is_a_name_and_a_number() {
        let search = flood("hpo:5000").unwrap();
        assert_eq!((search[0].total, search[4].total), (Some(5000), None));
        for wrong in ["hpo", "hpo:0", "hpo:-1", "hpo:9999999", "tsunami:5"] {
            assert!(flood(wrong).unwrap_err().contains("hpo (trials of a hyper-parameter search)"), "{wrong}");
        }
    }
}
