//! `cargo xtask bench audit`: the audit of a large cluster: how long it takes, the memory that it needs, and what it asks
//! of the API server. The nodes and pods are KWOK's; the jobs are real objects that their pods belong to.

use std::fmt::Write as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use bedplate_devcluster::run::{self, Result};
use bedplate_devcluster::{Cluster, Tier};

use super::measure::{Run, measure};
use super::scale::{Filled, Load, Size};

/// Measured runs.
const RUNS: usize = 3;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Nodes that KWOK plays
    #[arg(long, default_value_t = 5_000)]
    nodes: usize,
    /// Jobs, each with pods of its own
    #[arg(long, default_value_t = 5_000)]
    jobs: usize,
    /// Pods of all jobs together
    #[arg(long, default_value_t = 50_000)]
    pods: usize,
    /// Seconds after which no more objects are made; what is there then is audited
    #[arg(long, default_value_t = 900)]
    seconds: u64,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let bedplate = run::bedplate(true)?;
    let text = super::on_cluster(Tier::Scale, &[], |cluster| audit(cluster, &bedplate, options))?;
    super::publish("audit", &text)
}

fn audit(cluster: &Cluster, bedplate: &std::path::Path, options: &Options) -> Result<String> {
    let size = Size { nodes: options.nodes, jobs: options.jobs, pods: options.pods };
    let filled = size.fill(cluster, Duration::from_secs(options.seconds))?;
    // KWOK goes on to play what was made; an idle cluster shows what the audit adds.
    let mut command = Command::new(bedplate);
    command.arg("audit").env("KUBECONFIG", cluster.kubeconfig());
    measure(&mut command, &[0, 1])?;
    let mut runs = Vec::new();
    let before = Load::read(cluster)?;
    for _ in 0..RUNS {
        runs.push(measure(&mut command, &[0, 1])?);
    }
    let during = Load::read(cluster)?.since(&before);
    let wall: Duration = runs.iter().map(|run| run.wall).sum();
    let before = Load::read(cluster)?;
    std::thread::sleep(wall);
    let idle = Load::read(cluster)?.since(&before);
    Ok(page(&filled, &runs, &during, &idle))
}

fn page(filled: &Filled, runs: &[Run], during: &Load, idle: &Load) -> String {
    let count = runs.len() as f64;
    let mut text = format!(
        "# What an audit of a large cluster costs\n\nWritten by `cargo xtask bench audit`. {filled} API server, etcd, controllers, scheduler, KWOK and the \
         audit share 2 cores.\n\n| run | wall, s | peak memory of `bedplate`, MB |\n| --- | ---: | ---: |\n"
    );
    for (number, run) in runs.iter().enumerate() {
        let _ = writeln!(text, "| {} | {:.2} | {:.1} |", number + 1, run.wall.as_secs_f64(), run.peak as f64 / 1e6);
    }
    let _ = writeln!(
        text,
        "\n## Load on the API server\n\nIts own metrics: for one audit, and for the same time without one (what the cluster does by itself).\n\n\
         | | an audit | without |\n| --- | ---: | ---: |\n| processor time of the API server, s | {:.2} | {:.2} |",
        during.seconds / count,
        idle.seconds / count
    );
    for (verb, requests) in &during.requests {
        let without = idle.requests.get(verb).copied().unwrap_or_default();
        if *requests >= 1.0 {
            let _ = writeln!(text, "| requests, {verb} | {:.0} | {:.0} |", requests / count, without / count);
        }
    }
    let _ = writeln!(
        text,
        "| memory of the API server afterwards, MB | {:.0} | {:.0} |",
        during.memory / 1e6,
        idle.memory / 1e6
    );
    text
}
