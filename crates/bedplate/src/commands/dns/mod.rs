//! `bedplate dns`: names in a cluster.

mod explain;

use std::process::ExitCode;

use super::Error;

/// Options of `dns`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// The queries that one lookup makes, one after the other, and what each remedy makes of them
    Explain(explain::Explain),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    match &args.action {
        Action::Explain(lookup) => explain::run(lookup),
    }
}
