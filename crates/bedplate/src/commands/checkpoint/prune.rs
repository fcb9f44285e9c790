//! `bedplate checkpoint prune`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::process::ExitCode;

use bedplate_checkpoint::{Best, Depth, Direction, Retention};
use serde_json::json;

use super::{Error, Place, named, table, with};

/// Options of `checkpoint prune`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Keep so many of the newest
    #[arg(long, value_name = "N")]
    last: NonZeroUsize,
    /// Keep the steps that are a multiple of this
    #[arg(long, value_name = "STEPS")]
    every: Option<NonZeroU64>,
    /// Keep the best by this metric, the lowest
    #[arg(long, value_name = "METRIC", group = "rated")]
    lowest: Option<String>,
    /// Keep the best by this metric, the highest
    #[arg(long, value_name = "METRIC", group = "rated")]
    highest: Option<String>,
    /// How many of the best
    #[arg(long, value_name = "N", default_value = "1", requires = "rated")]
    best: NonZeroUsize,
    /// Remove them, instead of only showing what would go
    #[arg(long)]
    yes: bool,
}

/// Exit 1 when something would go and --yes is not there, as of `plan`.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let (store, _) = args.place.open_filled()?;
    let best =
        |metric: &Option<String>, direction| metric.clone().map(|metric| Best { metric, direction, count: args.best });
    let best = best(&args.lowest, Direction::Min).or_else(|| best(&args.highest, Direction::Max));
    // Every byte of the newest is read: what is kept has to be worth it.
    let pruning = store.pruning(&Retention { last: args.last, every: args.every, best }, Depth::Data)?;
    if args.yes {
        store.carry_out(&pruning)?;
    }
    let gone = pruning.goes().count();
    let word = if args.yes { "removed" } else { "remove" };
    let text = || {
        let rows: Vec<Vec<String>> = pruning
            .verdicts
            .iter()
            .map(|verdict| {
                let goes = verdict.keep.is_empty();
                vec![if goes { word } else { "keep" }.to_owned(), verdict.id.to_string(), verdict.keep.join(", ")]
            })
            .collect();
        let told: String = pruning.told.iter().map(|told| format!("note: {told}\n")).collect();
        let end = match (gone, args.yes) {
            (0, _) => "nothing goes\n".to_owned(),
            (gone, true) => format!("{gone} of {} removed\n", rows.len()),
            (gone, false) => format!("{gone} of {} would be removed; nothing was: --yes removes them\n", rows.len()),
        };
        format!("{}{told}{end}", table(&rows))
    };
    args.place.print(text, || {
        let verdicts: Vec<_> = pruning
            .verdicts
            .iter()
            .map(|verdict| with(named(verdict.id), json!({"goes": verdict.keep.is_empty(), "keep": verdict.keep})))
            .collect();
        json!({"checkpoints": verdicts, "notes": pruning.told, "removed": args.yes})
    })?;
    Ok(ExitCode::from(u8::from(gone > 0 && !args.yes)))
}
