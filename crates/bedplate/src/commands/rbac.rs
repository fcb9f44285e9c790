//! `bedplate rbac`: the rights that each command needs, from the one table of them.

use std::process::ExitCode;

use bedplate_cluster::rights::{Task, cluster_role};
use clap::builder::PossibleValuesParser;

use super::{Error, print};

/// Options of `rbac`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The command [default: every one]
    #[arg(value_name = "COMMAND", value_parser = PossibleValuesParser::new(Task::ALL.map(Task::name)))]
    command: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let wanted = |task: &Task| args.command.as_deref().is_none_or(|name| name == task.name());
    let roles: Vec<_> = Task::ALL.into_iter().filter(wanted).map(cluster_role).collect();
    print(&roles.join("---\n"))?;
    Ok(ExitCode::SUCCESS)
}
