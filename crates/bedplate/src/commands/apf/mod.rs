//! `bedplate apf`: flow control (API Priority and Fairness) of a cluster.

mod audit_log;
mod controllers;
mod explain;
mod load;
mod simulate;
mod top;

use std::process::ExitCode;

use bedplate_cluster::rights::Task;
use bedplate_model::profile::SERVER_CONCURRENCY;

use super::cluster::{Target, wait};
use super::{Error, print};

/// Options of `apf`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    action: Action,
}

/// The API server's seats.
#[derive(clap::Args, Debug)]
struct Seats {
    /// Seats of one API server: --max-requests-inflight and --max-mutating-requests-inflight together
    #[arg(long, value_name = "SEATS", default_value_t = SERVER_CONCURRENCY, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    server_concurrency: u32,
}

/// How it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Which lane a request rides in, and why
    Explain(explain::Explain),
    /// What a load would do to each lane, before and after a change
    Simulate(simulate::Simulate),
    /// The lanes live: seats, queues, waits, refusals, and who sends most
    Top(top::Top),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    if let Action::Simulate(simulate::Simulate { example: true, .. }) = &args.action {
        print(simulate::EXAMPLE)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Action::Simulate(load @ simulate::Simulate { objects: Some(path), .. }) = &args.action {
        return simulate::run(load, &simulate::objects(path)?).map(|()| ExitCode::SUCCESS);
    }
    wait(async {
        if let Action::Top(options) = &args.action {
            let cluster = args.target.connect_for(Task::ApfTop, None).await?;
            return top::run(options, cluster).await.map(|()| ExitCode::SUCCESS);
        }
        let task = match &args.action {
            Action::Explain(explain::Explain { all_controllers: true, .. }) => Task::ApfControllers,
            _ => Task::Apf,
        };
        let cluster = args.target.connect_for(task, None).await?;
        let flow_control = cluster.flow_control().await?;
        match &args.action {
            Action::Explain(request) => explain::run(request, &cluster, &flow_control).await,
            Action::Simulate(load) => simulate::run(load, &flow_control).map(|()| ExitCode::SUCCESS),
            Action::Top(_) => Ok(ExitCode::SUCCESS),
        }
    })
}
