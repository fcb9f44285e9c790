//! `bedplate apf simulate`: what a load would do to each lane, before and after a change.

use std::path::{Path, PathBuf};

use bedplate_apf::matching::{Request, Target, implied_groups};
use bedplate_apf::queues::Width;
use bedplate_apf::simulate::{Outcome, Pace, SECOND, Server, Source, milliseconds, simulate};
use bedplate_apf::types::{FlowSchema, PriorityLevel};
use bedplate_cluster::lanes::FlowControl;
use bedplate_model::document::{Limits, parse};
use serde::Deserialize;

use super::Seats;
use crate::commands::{Error, print, table};
use crate::files::read;

/// A load, and what to change.
#[derive(clap::Args, Debug)]
pub(super) struct Simulate {
    /// The load: who sends what [default: an operator beside a search that floods; --example prints it]
    #[arg(long, value_name = "FILE")]
    mix: Option<PathBuf>,
    /// Print the default load, to begin with
    #[arg(long)]
    pub(super) example: bool,
    /// FlowSchemas and PriorityLevelConfigurations to add: shown before and after
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Seconds of the cluster's time
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Of the random times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    seats: Seats,
    /// Cores that it has for requests
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    cores: u32,
}

/// The load that is there without a file.
pub(super) const EXAMPLE: &str = "\
# Who sends what to the API server. Times are of a core of its own; a source has `clients` that wait for their answers, or
# a `rate` a second.
sources:
  - name: training-operator
    user: system:serviceaccount:kubeflow:training-operator
    verb: update
    resource: pytorchjobs.kubeflow.org
    namespace: team-a
    rate: 30
    milliseconds: 4
  - name: search
    user: system:serviceaccount:team-a:default-editor
    verb: create
    resource: jobs.batch
    namespace: team-a
    clients: 200          # at once
    flows: 1              # how many users they are
    milliseconds: 6
    from: 10              # seconds
    to: 50
";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mix {
    sources: Vec<Row>,
}

#[derive(Deserialize)]
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
    milliseconds: f64,
    #[serde(default = "one")]
    seats: u32,
    #[serde(default)]
    from: f64,
    to: Option<f64>,
}

const fn one() -> u32 {
    1
}

/// Most clients of a source, and requests a second: more is a mistake in the file.
const MOST: f64 = 100_000.0;

impl Row {
    fn source(self) -> Result<Source, String> {
        let positive = |what: &str, value: f64, most: f64| {
            let fine = value.is_finite() && (0.0..=most).contains(&value);
            if fine { Ok(value) } else { Err(format!("{what} is {value}; expected 0 to {most}")) }
        };
        let nanos = |seconds: f64| (seconds * SECOND as f64) as u64;
        let pace = match (self.clients, self.rate) {
            (Some(clients), None) if f64::from(clients) <= MOST => {
                Pace::Clients(clients, nanos(positive("pauseMilliseconds", self.pause_milliseconds, 1e9)? / 1e3))
            }
            (None, Some(rate)) => Pace::Rate(positive("rate", rate, MOST)?),
            _ => return Err("expected either `clients` (at most 100000) or `rate`".to_owned()),
        };
        let (resource, group) = self.resource.split_once('.').unwrap_or((&self.resource, ""));
        let mut groups = self.groups;
        groups.extend(implied_groups(&self.user));
        let to = self.to.map_or(Ok(f64::MAX), |to| positive("to", to, 1e6))?;
        Ok(Source {
            request: Request {
                user: self.user.clone(),
                groups,
                verb: self.verb.clone(),
                target: Target::Resource(group.to_owned(), resource.to_owned(), self.namespace.clone()),
            },
            flows: self.flows.clamp(1, 10_000),
            pace,
            active: (nanos(positive("from", self.from, 1e6)?), nanos(to)),
            takes: nanos(positive("milliseconds", self.milliseconds, 1e6)? / 1e3),
            width: Width { initial_seats: u64::from(self.seats.clamp(1, 100)), ..Width::ONE },
            name: self.name,
        })
    }
}

/// The documents of a YAML text.
fn documents(text: &str, name: &str) -> Result<Vec<serde_json::Value>, Error> {
    let parsed = parse(text, &Limits::DEFAULT);
    match parsed.errors.first() {
        Some(error) => Err(Error::Other(format!("{name}: {}", error.message))),
        None => Ok(parsed.documents.iter().map(|document| document.root.to_json()).collect()),
    }
}

fn sources(text: &str, name: &str) -> Result<Vec<Source>, Error> {
    let wrong = |why: String| Error::Other(format!("{name}: {why}; `bedplate apf simulate --example` prints a load"));
    let document = documents(text, name)?.into_iter().next().ok_or_else(|| wrong("nothing in it".to_owned()))?;
    let mix: Mix = serde_json::from_value(document).map_err(|error| wrong(error.to_string()))?;
    let one = |row: Row| {
        let name = row.name.clone();
        row.source().map_err(|why| wrong(format!("source `{name}`: {why}")))
    };
    mix.sources.into_iter().map(one).collect()
}

/// The objects of a cluster with those of a file in their places.
fn changed(flow_control: &FlowControl, path: &Path) -> Result<FlowControl, Error> {
    let mut changed = flow_control.clone();
    let name = path.display().to_string();
    for document in documents(&read(path)?, &name)? {
        let items = document["items"].as_array().cloned().unwrap_or_else(|| vec![document]);
        for item in items {
            let wrong = |error: serde_json::Error| Error::Other(format!("{name}: {error}"));
            match item["kind"].as_str() {
                Some("FlowSchema") => {
                    let schema: FlowSchema = serde_json::from_value(item).map_err(wrong)?;
                    changed.schemas.retain(|known| known.metadata.name != schema.metadata.name);
                    changed.schemas.push(schema);
                }
                Some("PriorityLevelConfiguration") => {
                    let level: PriorityLevel = serde_json::from_value(item).map_err(wrong)?;
                    changed.levels.retain(|known| known.metadata.name != level.metadata.name);
                    changed.levels.push(level);
                }
                kind => {
                    let kind = kind.unwrap_or("an object without kind");
                    return Err(Error::Other(format!(
                        "{name}: {kind}; expected FlowSchema or PriorityLevelConfiguration"
                    )));
                }
            }
        }
    }
    Ok(changed)
}

pub(super) fn run(args: &Simulate, flow_control: &FlowControl) -> Result<(), Error> {
    let load = match &args.mix {
        Some(path) => sources(&read(path)?, &path.display().to_string())?,
        None => sources(EXAMPLE, "the default load")?,
    };
    let after = args.with.as_ref().map(|path| changed(flow_control, path)).transpose()?;
    let server = Server { seats: args.seats.server_concurrency, cores: f64::from(args.cores) };
    let outcome = |of: &FlowControl| simulate(&of.schemas, &of.levels, server, &load, args.seconds * SECOND, args.seed);
    let before = outcome(flow_control);
    let after = after.as_ref().map(outcome);
    match after {
        None => print(&told(&load, &before)),
        Some(after) => print(&format!("before:\n{}\nafter:\n{}", told(&load, &before), told(&load, &after))),
    }
}

fn told(load: &[Source], outcome: &Outcome) -> String {
    let heading = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let pair = |of: &[u32]| format!("{:.1} / {:.1}", milliseconds(of, 0.5), milliseconds(of, 0.99));
    let mut sources = vec![heading(&["source", "lane", "answered", "refused", "p50 / p99, ms", "of it queued, ms"])];
    sources.extend(load.iter().zip(&outcome.sources).map(|(source, seen)| {
        let (answered, refused) = (seen.answered.to_string(), seen.refused.to_string());
        vec![source.name.clone(), seen.level.clone(), answered, refused, pair(&seen.latency), pair(&seen.wait)]
    }));
    let mut levels = vec![heading(&["lane", "seats", "lent to had", "in use", "waiting"])];
    levels.extend(outcome.levels.iter().filter(|level| level.seats > 0.0 || level.waiting > 0).map(|level| {
        let limits = format!("{} to {}", level.limits.0, level.limits.1);
        let (in_use, waiting) = (format!("{:.1}", level.seats), level.waiting.to_string());
        vec![level.name.clone(), level.nominal.to_string(), limits, in_use, waiting]
    }));
    format!("{}\n{}", table(&sources), table(&levels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_load_and_mistakes_are_named() {
        assert_eq!(sources(EXAMPLE, "example").unwrap().len(), 2);
        for (wrong, words) in [
            (EXAMPLE.replace("rate: 30", "rat: 30"), "unknown field `rat`"),
            (EXAMPLE.replace("rate: 30", "rate: -1"), "source `training-operator`: rate is -1; expected 0 to 100000"),
            (EXAMPLE.replace("    rate: 30\n", ""), "expected either `clients` (at most 100000) or `rate`"),
            (String::new(), "nothing in it"),
        ] {
            let told = sources(&wrong, "mix.yaml").unwrap_err().to_string();
            assert!(told.contains(words) && told.starts_with("mix.yaml: "), "{told}");
        }
    }
}
