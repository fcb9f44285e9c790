//! `bedplate checkpoint ls`.

use std::process::ExitCode;

use bedplate_checkpoint::{Bytes, WriterFile};
use serde_json::json;

use super::{Error, Place, metrics, moment, named, summary, table, with};

/// Options of `checkpoint ls`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let (store, steps) = args.place.open()?;
    let mut rows =
        vec![["step", "saved (UTC)", "size", "shared", "ranks", "metrics", "health"].map(str::to_owned).to_vec()];
    let mut list = Vec::new();
    let mut damaged = 0;
    for id in &steps {
        match store.checkpoint(*id) {
            Ok(checkpoint) => {
                let manifest = checkpoint.manifest();
                let linked = checkpoint.linked_bytes();
                rows.push(vec![
                    id.step.to_string(),
                    moment(manifest.created),
                    Bytes(checkpoint.bytes()).to_string(),
                    if linked == 0 { "-".to_owned() } else { Bytes(linked).to_string() },
                    manifest.world_size().to_string(),
                    metrics(&manifest.metrics),
                    "complete".to_owned(),
                ]);
                list.push(with(summary(&checkpoint), json!({"health": "complete"})));
            }
            Err(error) if error.is_damage() => {
                damaged += 1;
                let none = || String::new();
                rows.push(vec![
                    id.step.to_string(),
                    none(),
                    none(),
                    none(),
                    none(),
                    none(),
                    format!("damaged: {error}"),
                ]);
                list.push(with(named(*id), json!({"health": "damaged", "why": error.to_string()})));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (run, writer, unfinished) = (store.run()?, store.newest_writer()?, store.unfinished()?);
    let text = || {
        let mut text = match &run {
            Some(run) => format!("run {run}"),
            None => "no run has saved anything here".to_owned(),
        };
        if let Some(WriterFile { generation, owner, taken }) = &writer {
            text.push_str(&format!(", writer {generation} since {}: {owner}", moment(*taken)));
        }
        text.push('\n');
        if !steps.is_empty() {
            text.push_str(&format!("\n{}", table(&rows)));
            text.push_str("\ncomplete: all files are there, with their sizes and headers; ");
            text.push_str("`bedplate checkpoint verify` reads every byte\n");
        }
        for id in &unfinished {
            text.push_str(&format!(
                "a save of step {} by writer {} goes on, or was left behind: the next writer sweeps it away\n",
                id.step, id.generation
            ));
        }
        text
    };
    args.place.print(text, || {
        let unfinished: Vec<String> = unfinished.iter().map(ToString::to_string).collect();
        json!({"run": run, "writer": writer, "checkpoints": list, "unfinished": unfinished})
    })?;
    Ok(ExitCode::from(u8::from(damaged > 0)))
}
