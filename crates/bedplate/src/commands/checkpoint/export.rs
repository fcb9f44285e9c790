//! `bedplate checkpoint export`.

use std::path::PathBuf;
use std::process::ExitCode;

use bedplate_checkpoint::Bytes;
use serde_json::json;

use super::{Error, Place, Step};

/// Options of `checkpoint export`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// The file to write, which must not be there
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Which step [default: the newest]
    #[arg(long, value_name = "STEP")]
    step: Option<Step>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let checkpoint = args.place.checkpoint(args.step)?;
    let exported = checkpoint.export(&args.file)?;
    let file = args.file.display();
    let text = || {
        let mut text =
            format!("{file}: {} tensors of {}, {}\n", exported.tensors, checkpoint.id(), Bytes(exported.bytes));
        if exported.blobs_left_out > 0 {
            let blobs = exported.blobs_left_out;
            text.push_str(&format!(
                "left out: {blobs} blobs, for which the format has no place (`bedplate checkpoint show`)\n"
            ));
        }
        text
    };
    args.place.print(text, || {
        json!({
            "file": file.to_string(),
            "name": checkpoint.id().to_string(),
            "tensors": exported.tensors,
            "bytes": exported.bytes,
            "blobs_left_out": exported.blobs_left_out,
        })
    })?;
    Ok(ExitCode::SUCCESS)
}
