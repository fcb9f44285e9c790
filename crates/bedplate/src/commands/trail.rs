//! `bedplate trail`: refusals, unlocks and exemptions that are on record in a cluster.

use std::process::ExitCode;

use bedplate_cluster::rights::Task;
use serde_json::json;

use super::cluster::{Target, wait};
use super::{Error, print};

/// Options of `trail`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Only what a text is in: a user, an object, `unlocked`
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// One JSON object a line, for programs
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    wait(async {
        let cluster = args.target.connect_for(Task::Trail, None).await?;
        let mut any = false;
        for (time, entry) in cluster.trail().await? {
            let who = if entry.who.is_empty() { "somebody" } else { &entry.who };
            let line = format!("{time}  {:<17} {}, by {who}\n    {}\n", entry.what.name(), entry.object, entry.why);
            if args.text.as_ref().is_some_and(|text| !line.contains(text)) {
                continue;
            }
            any = true;
            if args.json {
                let mut object = json!(entry);
                object["time"] = time.into();
                print(&format!("{object}\n"))?;
            } else {
                print(&line)?;
            }
        }
        if !any {
            anstream::eprintln!("note: nothing of that is on record");
        }
        Ok(ExitCode::SUCCESS)
    })
}
