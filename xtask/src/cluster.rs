//! `cargo xtask cluster`: a real Kubernetes on this machine.

use std::process::ExitCode;
use std::time::Instant;

use bedplate_devcluster::{AddOn, Cluster, Result, Tier, process};

/// What to do with a cluster.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Start a cluster, or find the one that is up; prints its kubeconfig. Ctrl-C ends what was started
    Up {
        #[command(flatten)]
        name: Name,
        /// How much of a cluster
        #[arg(long, value_enum, default_value = "api")]
        tier: Tier,
        #[command(flatten)]
        with: With,
        /// Nodes that KWOK plays (tier scale)
        #[arg(long, default_value_t = 0)]
        fake_nodes: usize,
    },
    /// Stop a cluster and everything that it started
    Down {
        #[command(flatten)]
        name: Name,
    },
    /// What is up, with what, its processes and their memory
    Status,
    /// The process that holds a cluster; `up` starts it
    #[command(hide = true)]
    Hold {
        #[command(flatten)]
        name: Name,
        #[arg(long, value_enum)]
        tier: Tier,
        #[command(flatten)]
        with: With,
    },
}

#[derive(clap::Args)]
pub(crate) struct With {
    /// What it has beside that, separated by commas; a cluster that is up is given what it lacks
    #[arg(long, value_enum, value_delimiter = ',')]
    with: Vec<AddOn>,
}

#[derive(clap::Args)]
pub(crate) struct Name {
    /// Its name: several can be up at a time
    #[arg(long, default_value = "dev", value_parser = name)]
    name: String,
}

/// A name becomes a folder.
fn name(text: &str) -> std::result::Result<String, String> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good { Ok(text.to_owned()) } else { Err("a name has lower-case letters, digits and `-`".to_owned()) }
}

pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Up { name, tier, with, fake_nodes } => {
            let name = &name.name;
            let (what, then) = match Cluster::find(name) {
                Some(_) => ("giving more to", "it stays up, perhaps with what it was being given"),
                None => ("starting", "nothing of it runs any more"),
            };
            process::end_all_on_signal(format!("{what} cluster `{name}`"), then.to_owned())?;
            let started = Instant::now();
            let up = Cluster::up(name, *tier, &with.with);
            process::wait_if_interrupted();
            let (cluster, new) = up?;
            if new {
                eprintln!("xtask: cluster `{name}` is up after {:.1} s", started.elapsed().as_secs_f64());
            } else {
                eprintln!("xtask: cluster `{name}` was up");
            }
            if *fake_nodes > 0 {
                cluster.add_fake_nodes(*fake_nodes)?;
            }
            println!("export KUBECONFIG={}", cluster.kubeconfig().display());
        }
        Command::Down { name } => match Cluster::find(&name.name) {
            Some(cluster) => {
                cluster.down()?;
                eprintln!("xtask: cluster `{}` is down", name.name);
            }
            None => eprintln!("xtask: cluster `{}` is not up", name.name),
        },
        Command::Status => {
            let all = Cluster::all();
            if all.is_empty() {
                println!("no cluster is up");
            }
            for (name, cluster) in all {
                println!(
                    "{name}: tier {}, {}, {}",
                    cluster.tier.name(),
                    cluster.server,
                    cluster.kubeconfig().display()
                );
                for add_on in &cluster.with {
                    match (add_on, &cluster.registry) {
                        (AddOn::Registry, Some(address)) => println!("  with registry at {address}"),
                        _ => println!("  with {}", add_on.name()),
                    }
                }
                for (part, id) in &cluster.parts {
                    let state = if id.runs() { "runs" } else { "gone" };
                    println!("  {part:<24} {state} as {:<8} {:>4} MiB", id.pid, id.memory() >> 20);
                }
            }
        }
        Command::Hold { name, tier, with } => Cluster::hold(&name.name, *tier, &with.with)?,
    }
    Ok(ExitCode::SUCCESS)
}
