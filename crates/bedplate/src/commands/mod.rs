//! The command line: one file a command.

mod apf;
mod apply;
mod audit;
mod check;
mod checkpoint;
mod cluster;
mod dns;
mod explain;
mod fix;
mod impact;
mod init;
mod prove;
mod rbac;
mod reference;
mod render;
mod rules;
mod serve;
mod trail;
mod wrap;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::files::FileError;

/// Keeps machine-learning platforms on Kubernetes standing.
#[derive(Parser, Debug)]
#[command(
    name = "bedplate",
    version,
    about,
    after_help = "Exit status: 0 nothing found, 1 something found, 2 could not run, or not look at everything."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Find what would bring the platform down in manifests, Dockerfiles and Corefiles
    Check(check::Args),
    /// Show what Bedplate sees in a file: roles, replicas, accelerators, images, signals, grace
    Explain(explain::Args),
    /// The same rules over what is in a cluster
    Audit(audit::Args),
    /// What apply would change in the cluster, and what the guards would refuse of what is there
    Plan(apply::PlanArgs),
    /// Put the guards into the cluster
    Apply(apply::Args),
    /// Everything as it was before the last apply: profile, exemptions, guards
    Rollback(apply::RollbackArgs),
    /// Remove everything that Bedplate put into the cluster
    Uninstall(apply::UninstallArgs),
    /// Print what apply puts into a cluster, or the guard of the guards as files for the API server
    Render(render::Args),
    /// Run the operator: the admission webhook, its certificates, health and metrics
    Serve(serve::Args),
    /// Try everything that should be refused, with dry runs
    Prove(prove::Args),
    /// What hangs on an object
    Impact(impact::ImpactArgs),
    /// Let one deletion through, for a while and with a reason
    Unlock(impact::UnlockArgs),
    /// Take an unlock back
    Lock(impact::LockArgs),
    /// Flow control: which lane a request to the API server rides in, and why
    Apf(apf::Args),
    /// Names: what a lookup in a pod costs, query by query
    Dns(dns::Args),
    /// What is on record: refusals, unlocks, exemptions
    Trail(trail::Args),
    /// Print the ClusterRole that a command needs
    Rbac(rbac::Args),
    /// Look after the checkpoints of a training run: list, verify, compare, export, prune
    Checkpoint(checkpoint::Args),
    /// Run a command so that a SIGTERM reaches the program behind shells and launchers, and wait for all that it started
    Wrap(wrap::Args),
    /// List the rules, or print the page of one
    Rules(rules::Args),
    /// Write a commented bedplate.yaml that fits the manifests that are there
    Init(init::Args),
    /// Print the JSON Schema of bedplate.yaml, or of the JSON report
    Schema(reference::SchemaArgs),
    /// Print completions for a shell
    Completions(reference::CompletionArgs),
    /// Print the manual page
    Man,
}

/// Why a command could not run at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file or a folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// A profile with mistakes; they were printed.
    #[error("{} has {count} mistake{}; nothing was checked", path.display(), if *count == 1 { "" } else { "s" })]
    Profile {
        /// The profile.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// A cluster.
    #[error(transparent)]
    Cluster(#[from] bedplate_cluster::Error),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] bedplate_checkpoint::Error),
    /// Anything else, as a sentence.
    #[error("{0}")]
    Other(String),
}

/// Runs a command.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Error> {
    match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Plan(args) => apply::plan(&args),
        Command::Apply(args) => apply::apply(&args),
        Command::Rollback(args) => apply::rollback(&args),
        Command::Uninstall(args) => apply::uninstall(&args),
        Command::Render(args) => render::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Prove(args) => prove::run(&args),
        Command::Impact(args) => impact::impact(&args),
        Command::Unlock(args) => impact::unlock(&args),
        Command::Lock(args) => impact::lock(&args),
        Command::Apf(args) => apf::run(&args),
        Command::Dns(args) => dns::run(&args),
        Command::Trail(args) => trail::run(&args),
        Command::Rbac(args) => rbac::run(&args),
        Command::Checkpoint(args) => checkpoint::run(&args),
        Command::Wrap(args) => wrap::run(args),
        Command::Rules(args) => rules::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Schema(args) => reference::schema(&args),
        Command::Completions(args) => reference::completions(&args),
        Command::Man => reference::man(),
    }
}

/// Columns of text, each as wide as its widest; the first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Writes to standard output. A reader that has gone away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Other(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}
