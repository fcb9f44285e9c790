//! `bedplate checkpoint`: what is in a store of training state, and how well it is. One file a command.

mod diff;
mod export;
mod ls;
mod prune;
mod show;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bedplate_checkpoint::{Access, Checkpoint, Manifest, Metric, StepId, Store};
use bedplate_model::moment::timestamp;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::{Error, print, table};

/// Options of `checkpoint`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// List the checkpoints of a run: steps, sizes, metrics, health
    Ls(ls::Args),
    /// Read every byte and say what is damaged
    Verify(verify::Args),
    /// Show what is in a checkpoint: tensors, blobs, ranks, metrics
    Show(show::Args),
    /// What changed between two steps
    Diff(diff::Args),
    /// Write a checkpoint as one plain safetensors file
    Export(export::Args),
    /// Show what a retention would remove, and with --yes remove it
    Prune(prune::Args),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    match &args.command {
        Command::Ls(args) => ls::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Show(args) => show::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Export(args) => export::run(args),
        Command::Prune(args) => prune::run(args),
    }
}

/// A moment in UTC, as `YYYY-MM-DD HH:MM:SS`.
fn moment(since_1970: u64) -> String {
    timestamp(since_1970).replace('T', " ").trim_end_matches('Z').to_owned()
}

/// How long a user waits for an object store that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the checkpoints are, and how to tell.
#[derive(clap::Args, Debug)]
struct Place {
    /// The folder with the checkpoints of a run, or its URL
    #[arg(value_name = "DIR|URL")]
    place: PathBuf,
    /// How to write it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
}

impl Place {
    /// The store, and its checkpoints, the newest first.
    fn open(&self) -> Result<(Store, Vec<StepId>), Error> {
        let store = Store::open(&self.place, &Access::from_env(PATIENCE))?;
        let steps = store.steps()?;
        Ok((store, steps))
    }

    /// The store, and its checkpoints, of which there is one at least.
    fn open_filled(&self) -> Result<(Store, Vec<StepId>), Error> {
        let (store, steps) = self.open()?;
        if steps.is_empty() {
            let what = "there are no checkpoints; give the folder whose folders begin with `step-`";
            return Err(Error::Other(format!("{}: {what}", self.place.display())));
        }
        Ok((store, steps))
    }

    /// One checkpoint: the newest, or the newest of a step.
    fn checkpoint(&self, step: Option<Step>) -> Result<Checkpoint, Error> {
        let (store, steps) = self.open_filled()?;
        Ok(store.checkpoint(find(&steps, step)?)?)
    }

    fn print(&self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> Result<(), Error> {
        match self.format {
            // Names are whatever a run gave: none of them speaks to the terminal.
            Format::Text => print(&text().replace(|letter: char| letter.is_control() && letter != '\n', "\u{fffd}")),
            Format::Json => print(&format!("{:#}\n", json())),
        }
    }
}

/// A step as a user names it: its number, or the name of its folder.
#[derive(Clone, Copy, Debug)]
enum Step {
    Number(u64),
    Id(StepId),
}

impl std::str::FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = || StepId::parse(text).map(Self::Id);
        let number = text.parse().ok().map(Self::Number);
        number.or_else(id).ok_or_else(|| "give the number of a step, or the name of its folder".to_owned())
    }
}

/// Finds a step among those that there are, the newest first.
fn find(steps: &[StepId], step: Option<Step>) -> Result<StepId, Error> {
    let found = match step {
        None => steps.first(),
        Some(Step::Number(number)) => steps.iter().find(|id| id.step == number),
        Some(Step::Id(wanted)) => steps.iter().find(|id| **id == wanted),
    };
    found.copied().ok_or_else(|| {
        let there: Vec<String> = steps.iter().take(8).map(|id| id.step.to_string()).collect();
        let more = if steps.len() > there.len() { ", …" } else { "" };
        Error::Other(format!("there is no such step; the newest are {}{more}", there.join(", ")))
    })
}

/// `loss 0.25, accuracy 0.9`.
fn metrics(metrics: &BTreeMap<String, Metric>) -> String {
    metrics.iter().map(|(name, Metric(value))| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

/// `[32, 512]`, and `scalar` for no axes.
fn shape(shape: &[u64]) -> String {
    if shape.is_empty() { "scalar".to_owned() } else { format!("{shape:?}") }
}

/// What every command tells of a checkpoint in JSON, damaged or not.
fn named(id: StepId) -> Value {
    json!({"name": id.to_string(), "step": id.step, "writer": id.generation})
}

/// What can be told of one that can be read.
fn summary(checkpoint: &Checkpoint) -> Value {
    let Manifest { run, created, metrics, user, .. } = checkpoint.manifest();
    let more = json!({
        "run": run,
        "created": created,
        "ranks": checkpoint.manifest().world_size(),
        "bytes": checkpoint.bytes(),
        "linked_bytes": checkpoint.linked_bytes(),
        "metrics": metrics,
        "user": user,
    });
    with(named(checkpoint.id()), more)
}

/// An object with the members of another.
fn with(mut object: Value, more: Value) -> Value {
    if let (Value::Object(all), Value::Object(more)) = (&mut object, more) {
        all.extend(more);
    }
    object
}
