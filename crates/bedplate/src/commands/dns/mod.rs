//! `bedplate dns`: names in a cluster.

mod clients;
mod edit;
mod explain;
mod stats;

use std::process::ExitCode;

pub(crate) use explain::valid;

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
    /// Put autopath into a Corefile, or a ConfigMap with one, and show the difference; changes nothing
    Edit(edit::Edit),
    /// What CoreDNS answers now: queries, names that there are not, answers out of its cache
    Stats(stats::Stats),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    match &args.action {
        Action::Explain(lookup) => explain::run(lookup),
        Action::Edit(edit) => edit::run(edit),
        Action::Stats(stats) => stats::run(stats),
    }
}
