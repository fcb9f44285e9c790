//! `bedplate checkpoint diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use bedplate_checkpoint::{Bytes, Checkpoint, Metric, TensorInfo};
use serde_json::json;

use super::{Error, Place, Step, find, shape, summary, table};

/// Options of `checkpoint diff`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// The step before
    #[arg(value_name = "STEP")]
    before: Step,
    /// The step after
    #[arg(value_name = "STEP")]
    after: Step,
}

type Key<'a> = (&'a str, Option<u32>);

fn by_key(checkpoint: &Checkpoint) -> BTreeMap<Key<'_>, TensorInfo<'_>> {
    checkpoint.tensors().into_iter().map(|tensor| ((tensor.name, tensor.rank), tensor)).collect()
}

fn told(tensor: &TensorInfo<'_>) -> String {
    format!("{} {}", tensor.dtype.name(), shape(tensor.shape))
}

/// Exit 1 when they differ, as of `diff`.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let (store, steps) = args.place.open_filled()?;
    let open = |step| Ok::<_, Error>(store.checkpoint(find(&steps, Some(step))?)?);
    let (before, after) = (open(args.before)?, open(args.after)?);
    let (a, b) = (by_key(&before), by_key(&after));
    let keys: BTreeSet<Key<'_>> = a.keys().chain(b.keys()).copied().collect();
    let mut rows = Vec::new();
    let (mut same, mut same_bytes) = (0, 0);
    let mut tensors = Vec::new();
    for key @ (name, rank) in keys {
        let (change, detail) = match (a.get(&key), b.get(&key)) {
            (Some(old), None) => ("removed", told(old)),
            (None, Some(new)) => ("added", told(new)),
            (Some(old), Some(new)) if told(old) != told(new) => ("reshaped", format!("{} to {}", told(old), told(new))),
            (Some(_), Some(new)) if !before.is_same(&after, name, rank)? => {
                ("changed", format!("{}, {}", told(new), Bytes(new.bytes())))
            }
            (_, new) => {
                same += 1;
                same_bytes += new.map_or(0, TensorInfo::bytes);
                continue;
            }
        };
        let shown = rank.map_or_else(|| name.to_owned(), |rank| format!("{name} of rank {rank}"));
        rows.push(vec![change.to_owned(), shown, detail.clone()]);
        tensors.push(json!({"change": change, "name": name, "rank": rank, "detail": detail}));
    }
    let metrics: BTreeSet<&String> = before.manifest().metrics.keys().chain(after.manifest().metrics.keys()).collect();
    let value = |checkpoint: &Checkpoint, name: &str| {
        checkpoint.manifest().metrics.get(name).map_or("none".to_owned(), |Metric(value)| value.to_string())
    };
    let text = || {
        let mut text = format!("{} to {}\n", before.id(), after.id());
        for (name, old, new) in metrics.iter().map(|name| (name, value(&before, name), value(&after, name))) {
            if old != new {
                text.push_str(&format!("  {name} {old} to {new}\n"));
            }
        }
        if !rows.is_empty() {
            text.push_str(&format!("\n{}", table(&rows)));
        }
        text.push_str(&format!("\nthe same: {same} of {} tensors, {}\n", same + rows.len(), Bytes(same_bytes)));
        text
    };
    args.place.print(text, || {
        json!({
            "before": summary(&before),
            "after": summary(&after),
            "tensors": tensors,
            "same": same,
            "same_bytes": same_bytes,
        })
    })?;
    Ok(ExitCode::from(u8::from(!rows.is_empty())))
}
