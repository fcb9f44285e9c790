//! `bedplate checkpoint verify`.

use std::process::ExitCode;

use bedplate_checkpoint::{Bytes, Depth};
use serde_json::json;

use super::{Error, Format, Place, Step, find, named, print, with};

/// Options of `checkpoint verify`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Only this step
    #[arg(long, value_name = "STEP")]
    step: Option<Step>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let (store, mut steps) = args.place.open_filled()?;
    if args.step.is_some() {
        steps = vec![find(&steps, args.step)?];
    }
    let (mut list, mut damaged) = (Vec::new(), 0);
    for id in &steps {
        let (bytes, mut faults) = match store.checkpoint(*id) {
            Ok(checkpoint) => (checkpoint.bytes(), checkpoint.faults(Depth::Data)),
            Err(error) => (0, vec![error]),
        };
        if let Some(place) = faults.iter().position(|error| !error.is_damage()) {
            return Err(faults.swap_remove(place).into());
        }
        damaged += usize::from(!faults.is_empty());
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        if args.place.format == Format::Json {
            let health = if faults.is_empty() { "verified" } else { "damaged" };
            list.push(with(named(*id), json!({"health": health, "bytes": bytes, "faults": faults})));
        } else if faults.is_empty() {
            // As it goes: it may take minutes.
            print(&format!("{id}: verified, {}\n", Bytes(bytes)))?;
        } else {
            print(&format!(
                "{id}: damaged\n{}",
                faults.iter().map(|fault| format!("  {fault}\n")).collect::<String>()
            ))?;
        }
    }
    args.place.print(
        || match damaged {
            0 => String::new(),
            damaged => format!("{damaged} of {} damaged; a resume passes over what is damaged\n", steps.len()),
        },
        || json!({"checkpoints": list}),
    )?;
    Ok(ExitCode::from(u8::from(damaged > 0)))
}
