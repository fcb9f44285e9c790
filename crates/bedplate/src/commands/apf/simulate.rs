//! `bedplate apf simulate`: what a load would do to each lane, before and after a change.

use std::path::{Path, PathBuf};

use bedplate_apf::distribution::Distribution;
use bedplate_apf::simulate::{Outcome, SECOND, Server, Source, simulate};
use bedplate_apf::types::{FlowSchema, PriorityLevel};
use bedplate_cluster::lanes::FlowControl;
use bedplate_report::Section;
use bedplate_report::chart::{Chart, Look, Panel, Row, Series};
use serde::Serialize;

use super::load::{documents, flood, shown, sources, typed};
use super::{Seats, audit_log};
use crate::commands::{Error, print, table};
use crate::files::read;

pub(super) use super::load::EXAMPLE;

/// A load, and what to change.
#[derive(clap::Args, Debug)]
pub(super) struct Simulate {
    /// The load: who sends what [default: an operator beside a search that floods; --example prints it]
    #[arg(long, value_name = "FILE")]
    mix: Option<PathBuf>,
    /// A flood by its name: hpo:5000, notebooks:500, pipelines:2000; beside --mix, both
    #[arg(long, value_name = "NAME:COUNT")]
    flood: Option<String>,
    /// The load as it was: an audit log (audit.k8s.io/v1, one event a line); `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mix", "flood"])]
    audit_log: Option<PathBuf>,
    /// Print the default load, to begin with
    #[arg(long)]
    pub(super) example: bool,
    /// All FlowSchemas and PriorityLevelConfigurations, instead of a cluster's: what `kubectl get
    /// flowschemas,prioritylevelconfigurations -o yaml` prints
    #[arg(long, value_name = "FILE")]
    pub(super) objects: Option<PathBuf>,
    /// FlowSchemas and PriorityLevelConfigurations to add: shown before and after
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Seconds of the cluster's time [default: 60, or that of the audit log]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Of the random times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    seats: Seats,
    /// Cores that it has for requests
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    cores: u32,
    /// `text`, or `json` with every lane over time
    #[arg(long, value_enum, default_value_t = super::Format::Text)]
    format: super::Format,
    /// Write a picture: seats and queues of each lane over time
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write a page: the picture and the tables, all in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The longest that is simulated, in seconds.
const LONGEST: u64 = 86_400;

/// The load, how long it is played, and what is to be known of it.
fn load(args: &Simulate) -> Result<(Vec<Source>, u64, Vec<String>), Error> {
    if let Some(path) = &args.audit_log {
        let wrong = |why: String| Error::Other(format!("{}:{why}", shown(path)));
        let log = audit_log::played::read(audit_log::open(path)?).map_err(wrong)?;
        // What waits when the log ends is seen to its end.
        let seconds = args.seconds.unwrap_or_else(|| log.seconds.saturating_add(20)).min(LONGEST);
        return Ok((log.sources, seconds, log.notes));
    }
    let mut load = match (&args.mix, &args.flood) {
        (Some(path), _) => sources(&read(path)?, &shown(path))?,
        (None, Some(_)) => Vec::new(),
        (None, None) => sources(EXAMPLE, "the default load")?,
    };
    if let Some(text) = &args.flood {
        load.extend(flood(text).map_err(|why| Error::Other(format!("--flood {text}: {why}")))?);
    }
    Ok((load, args.seconds.unwrap_or(60), Vec::new()))
}

/// The objects of a file.
pub(super) fn objects(path: &Path) -> Result<FlowControl, Error> {
    let all = changed(&FlowControl::default(), path)?;
    if all.schemas.is_empty() || all.levels.is_empty() {
        return Err(Error::Other(format!(
            "{}: {} FlowSchemas and {} PriorityLevelConfigurations; expected all of a cluster: kubectl get flowschemas,prioritylevelconfigurations -o yaml",
            shown(path),
            all.schemas.len(),
            all.levels.len()
        )));
    }
    Ok(all)
}

/// Objects with those of a file in their places.
fn changed(flow_control: &FlowControl, path: &Path) -> Result<FlowControl, Error> {
    let mut changed = flow_control.clone();
    let (name, text) = (shown(path), read(path)?);
    for document in documents(&text, &name)? {
        let items = match document.root.get("items").map(|items| &items.value) {
            Some(bedplate_model::value::Value::Seq(items)) => items.iter().collect(),
            _ => vec![&document.root],
        };
        for item in items {
            match item.get("kind").and_then(|kind| kind.as_str()) {
                Some("FlowSchema") => {
                    let schema: FlowSchema = typed(item, &text, &name)?;
                    changed.schemas.retain(|known| known.metadata.name != schema.metadata.name);
                    changed.schemas.push(schema);
                }
                Some("PriorityLevelConfiguration") => {
                    let level: PriorityLevel = typed(item, &text, &name)?;
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
    let (load, seconds, notes) = load(args)?;
    let after = args.with.as_ref().map(|path| changed(flow_control, path)).transpose()?;
    let server = Server { seats: args.seats.server_concurrency, cores: f64::from(args.cores) };
    let outcome = |of: &FlowControl| simulate(&of.schemas, &of.levels, server, &load, seconds * SECOND, args.seed);
    let before = outcome(flow_control);
    let after = after.as_ref().map(outcome);
    let picture = || picture(&before, after.as_ref(), seconds, load.len()).svg();
    let page = || {
        let (tables, notes) = (|outcome| tables(&load, outcome).to_vec(), notes.clone());
        let sections = match &after {
            None => vec![Section { heading: String::new(), tables: tables(&before), notes }],
            Some(after) => vec![
                Section { heading: "Before".to_owned(), tables: tables(&before), notes: Vec::new() },
                Section { heading: "After".to_owned(), tables: tables(after), notes },
            ],
        };
        bedplate_report::page("bedplate apf simulate", env!("CARGO_PKG_VERSION"), &picture(), &sections)
    };
    let files: [(_, &dyn Fn() -> String); 2] = [(&args.svg, &picture), (&args.html, &page)];
    for (path, text) in files {
        if let Some(path) = path {
            std::fs::write(path, text()).map_err(|error| Error::Other(format!("{}: {error}", path.display())))?;
        }
    }
    if args.format == super::Format::Json {
        let both = Both {
            seconds,
            notes,
            before: Side::of(&load, &before),
            after: after.map(|after| Side::of(&load, &after)),
        };
        let text = serde_json::to_string_pretty(&both).map_err(|error| Error::Other(error.to_string()))?;
        return print(&(text + "\n"));
    }
    let mut text = match &after {
        None => told(&load, &before),
        Some(after) => format!("before:\n{}\nafter:\n{}", told(&load, &before), told(&load, after)),
    };
    for note in notes {
        text.push_str(&format!("note: {note}\n"));
    }
    print(&text)
}

/// Sources that a table shows; the JSON has all of them.
const SHOWN: usize = 40;

fn told(load: &[Source], outcome: &Outcome) -> String {
    let more = load.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("and {more} more sources: --format json\n") } else { String::new() };
    let [sources, levels] = tables(load, outcome).map(|rows| table(&rows));
    format!("{sources}{more}\n{levels}")
}

/// The sources, and the lanes.
fn tables(load: &[Source], outcome: &Outcome) -> [Vec<Vec<String>>; 2] {
    let heading = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let pair = |of: &Distribution| format!("{:.1} / {:.1}", of.quantile(0.5), of.quantile(0.99));
    let names = ["source", "lane", "answered", "refused", "p50 / p99, ms", "of it queued, ms", "given up"];
    let mut sources = vec![heading(&names)];
    let mut order: Vec<_> = load.iter().zip(&outcome.sources).collect();
    if order.len() > SHOWN {
        order.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.answered + seen.refused));
    }
    sources.extend(order.iter().take(SHOWN).map(|(source, seen)| {
        let (answered, refused) = (seen.answered.to_string(), seen.refused.to_string());
        let (latency, wait) = (pair(&seen.latency), pair(&seen.wait));
        vec![source.name.clone(), seen.level.clone(), answered, refused, latency, wait, seen.failed.to_string()]
    }));
    let names =
        ["lane", "seats", "lent to had", "in use", "waiting", "queued p50 / p99, ms", "refused", "Retry-After, s"];
    let mut levels = vec![heading(&names)];
    levels.extend(outcome.levels.iter().filter(|level| level.seats > 0.0 || level.refused > 0).map(|level| {
        let limits = format!("{} to {}", level.limits.0, level.limits.1);
        let (in_use, waiting) = (format!("{:.1}", level.seats), level.waiting.to_string());
        let (wait, refused, retry) = (pair(&level.wait), level.refused.to_string(), level.retry_after.to_string());
        vec![level.name.clone(), level.nominal.to_string(), limits, in_use, waiting, wait, refused, retry]
    }));
    [sources, levels]
}

/// What `--format json` gives.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Both {
    seconds: u64,
    notes: Vec<String>,
    before: Side,
    after: Option<Side>,
}

#[derive(Serialize)]
struct Side {
    sources: Vec<SourceTold>,
    lanes: Vec<LaneTold>,
}

/// Times are in milliseconds.
#[derive(Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
    mean: f64,
}

impl From<&Distribution> for Quantiles {
    fn from(of: &Distribution) -> Self {
        Self { p50: of.quantile(0.5), p99: of.quantile(0.99), mean: of.mean() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SourceTold {
    name: String,
    flow_schema: String,
    lane: String,
    answered: u64,
    refused: u64,
    given_up: u64,
    latency: Quantiles,
    queued: Quantiles,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LaneTold {
    name: String,
    nominal_seats: i64,
    least_seats: i64,
    most_seats: i64,
    seats_in_use: f64,
    most_waiting: u32,
    refused: u64,
    retry_after_seconds: i64,
    queued: Quantiles,
    /// Of equal parts of the time.
    over_time: OverTime,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OverTime {
    seats_in_use: Vec<f32>,
    seats: Vec<u32>,
    waiting: Vec<u32>,
    refused: Vec<u32>,
}

impl Side {
    fn of(load: &[Source], outcome: &Outcome) -> Self {
        let sources = load.iter().zip(&outcome.sources).map(|(source, seen)| SourceTold {
            name: source.name.clone(),
            flow_schema: seen.schema.clone(),
            lane: seen.level.clone(),
            answered: seen.answered,
            refused: seen.refused,
            given_up: seen.failed,
            latency: (&seen.latency).into(),
            queued: (&seen.wait).into(),
        });
        let lanes = outcome.levels.iter().map(|level| LaneTold {
            name: level.name.clone(),
            nominal_seats: level.nominal,
            least_seats: level.limits.0,
            most_seats: level.limits.1,
            seats_in_use: level.seats,
            most_waiting: level.waiting,
            refused: level.refused,
            retry_after_seconds: level.retry_after,
            queued: (&level.wait).into(),
            over_time: OverTime {
                seats_in_use: level.moments.iter().map(|moment| moment.seats).collect(),
                seats: level.moments.iter().map(|moment| moment.limit).collect(),
                waiting: level.moments.iter().map(|moment| moment.waiting).collect(),
                refused: level.moments.iter().map(|moment| moment.refused).collect(),
            },
        });
        Self { sources: sources.collect(), lanes: lanes.collect() }
    }
}

/// Every lane that somebody rides in, as it is and as it would be.
fn picture(before: &Outcome, after: Option<&Outcome>, seconds: u64, sources: usize) -> Chart {
    let sides: Vec<(&Outcome, &str, Look, Look)> = std::iter::once((before, "before", Look::Before, Look::BoundBefore))
        .chain(after.map(|after| (after, "after", Look::After, Look::BoundAfter)))
        .collect();
    let mut names: Vec<&str> = Vec::new();
    for (outcome, ..) in &sides {
        for level in outcome.levels.iter().filter(|level| level.seats > 0.0 || level.refused > 0) {
            if !names.contains(&level.name.as_str()) {
                names.push(&level.name);
            }
        }
    }
    let row = |name: &&str| {
        let mut panels = ["seats in use", "requests that wait", "refused a second"]
            .map(|title| Panel { title: title.to_owned(), series: Vec::new() });
        for (outcome, side, look, bound) in &sides {
            let Some(level) = outcome.levels.iter().find(|level| level.name == **name) else { continue };
            let moments = &level.moments;
            let a_second = seconds as f64 / moments.len().max(1) as f64;
            let mut add = |panel: usize, name: String, look: Look, values: Vec<f64>| {
                panels[panel].series.push(Series { name, look, values });
            };
            add(0, (*side).to_owned(), *look, moments.iter().map(|moment| f64::from(moment.seats)).collect());
            add(
                0,
                format!("seats that it has, {side}"),
                *bound,
                moments.iter().map(|moment| f64::from(moment.limit)).collect(),
            );
            add(1, (*side).to_owned(), *look, moments.iter().map(|moment| f64::from(moment.waiting)).collect());
            add(
                2,
                (*side).to_owned(),
                *look,
                moments.iter().map(|moment| f64::from(moment.refused) / a_second).collect(),
            );
        }
        Row { title: (*name).to_owned(), panels: panels.into() }
    };
    Chart {
        title: "The API server's lanes under this load".to_owned(),
        subtitle: format!("bedplate apf simulate: {seconds} s, {sources} sources"),
        seconds: seconds as f64,
        rows: names.iter().map(row).collect(),
    }
}
