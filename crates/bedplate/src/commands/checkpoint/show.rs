//! `bedplate checkpoint show`.

use std::process::ExitCode;

use bedplate_checkpoint::{Bytes, TensorInfo};
use serde_json::json;

use super::{Error, Place, Step, metrics, moment, shape, summary, table};

/// Options of `checkpoint show`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Which step [default: the newest]
    #[arg(long, value_name = "STEP")]
    step: Option<Step>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let checkpoint = args.place.checkpoint(args.step)?;
    let manifest = checkpoint.manifest();
    let tensors = checkpoint.tensors();
    let blobs =
        || (0..).zip(checkpoint.parts()).flat_map(|(rank, part)| part.blobs.iter().map(move |blob| (rank, blob)));
    let text = || {
        let mut text = format!("{}\n", checkpoint.id());
        let mut line = |what: &str, value: String| text.push_str(&format!("  {what:<10} {value}\n"));
        line("run", manifest.run.clone());
        let ranks = manifest.world_size();
        line(
            "saved",
            format!(
                "{} UTC by writer {}, {ranks} {}",
                moment(manifest.created),
                manifest.generation,
                if ranks == 1 { "rank" } else { "ranks" }
            ),
        );
        let linked = checkpoint.linked_bytes();
        let shared =
            if linked > 0 { format!(", {} of files shared with earlier steps", Bytes(linked)) } else { String::new() };
        line("size", format!("{}{shared}", Bytes(checkpoint.bytes())));
        if !manifest.metrics.is_empty() {
            line("metrics", metrics(&manifest.metrics));
        }
        if !manifest.user.is_empty() {
            line("metadata", serde_json::Value::Object(manifest.user.clone()).to_string());
        }
        let mut rows = vec![["tensor", "type", "shape", "size", "held by"].map(str::to_owned).to_vec()];
        rows.extend(tensors.iter().map(|tensor| {
            let held = match (tensor.rank, tensor.shards) {
                (Some(rank), _) => format!("rank {rank}, its own"),
                (None, 1) => "one piece".to_owned(),
                (None, shards) => format!("{shards} shards"),
            };
            vec![
                tensor.name.to_owned(),
                tensor.dtype.name().to_owned(),
                shape(tensor.shape),
                Bytes(tensor.bytes()).to_string(),
                held,
            ]
        }));
        text.push_str(&format!("\n{}", table(&rows)));
        let mut rows = vec![["blob", "size", "held by"].map(str::to_owned).to_vec()];
        rows.extend(blobs().map(|(rank, blob): (usize, _)| {
            vec![blob.name.clone(), Bytes(blob.bytes()).to_string(), format!("rank {rank}")]
        }));
        if rows.len() > 1 {
            text.push_str(&format!("\n{}", table(&rows)));
        }
        text
    };
    args.place.print(text, || {
        let mut object = summary(&checkpoint);
        let tensor = |tensor: &TensorInfo<'_>| {
            json!({
                "name": tensor.name,
                "rank": tensor.rank,
                "dtype": tensor.dtype.name(),
                "shape": tensor.shape,
                "bytes": tensor.bytes(),
                "shards": tensor.shards,
            })
        };
        object["tensors"] = tensors.iter().map(tensor).collect();
        object["blobs"] = blobs()
            .map(|(rank, blob): (usize, _)| json!({"name": blob.name, "rank": rank, "bytes": blob.bytes()}))
            .collect();
        object
    })?;
    Ok(ExitCode::SUCCESS)
}
