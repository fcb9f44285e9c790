//! `bedplate wrap`.

use std::ffi::OsString;
use std::process::ExitCode;

use bedplate_wrap::{GRACE_VARIABLE, Options};

use super::Error;

/// Options of `wrap`.
#[derive(clap::Args, Debug)]
#[command(
    long_about = "Run a command that cannot be changed so that a SIGTERM reaches the program which can act on it\n\n\
        tini and dumb-init tell their direct child and end with it: behind them a shell dies of the SIGTERM, and the container \
        takes the training along. Here every process that would only die of the signal does so, and what it has started is \
        told next, down to the first that handles it; the workers of that one hear nothing while it saves. `… | tee log` is \
        told when nobody prints any more. All are waited for; a second before the end of the grace those that are left are \
        named and killed. Works as PID 1 of a container, where it buries orphans, and anywhere else.\n\n\
        tini stays the right init for a program that is started directly (`tini -- python train.py`): it is smaller, \
        and has nothing to decide.",
    after_help = "Exit status: that of the command. After a SIGTERM that of the program which handled it, and 143 instead of 0; 137 when \
        it had to be killed; 126 or 127 when the command could not be started."
)]
pub(crate) struct Args {
    /// Seconds between the notice and the kill: the pod's terminationGracePeriodSeconds [default: BEDPLATE_GRACE_SECONDS, else 30]
    #[arg(long, value_name = "SECONDS")]
    grace: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Error> {
    let variable = std::env::var(GRACE_VARIABLE).ok();
    let grace = bedplate_wrap::grace(args.grace.as_deref(), variable.as_deref()).map_err(Error::Other)?;
    let end = bedplate_wrap::run(&Options { command: args.command, grace })
        .map_err(|error| Error::Other(format!("wrap: {error}")))?;
    if let Some(report) = end.report {
        anstream::eprintln!("bedplate wrap: {report}");
    }
    Ok(ExitCode::from(end.code))
}
