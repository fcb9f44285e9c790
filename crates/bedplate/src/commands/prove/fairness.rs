//! `bedplate prove fairness`: a bounded flood by users beside a probe by a controller.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bedplate_cluster::Cluster;
use bedplate_cluster::flood::{Drill, Flow};
use bedplate_guarantees::fairness::enforce;
use bedplate_guarantees::fairness::prove::{MOST_CLIENTS, MOST_REQUESTS, MOST_SECONDS, Tally, suffers, verdict};
use tokio::sync::watch;

use crate::commands::cluster::{Target, profile, wait};
use crate::commands::{Error, print, table};

/// Limits of the flood of `prove fairness`.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Options of `prove fairness`")]
pub(crate) struct Flood {
    /// Most requests of the flood
    #[arg(long, value_name = "COUNT", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(100..=i64::from(MOST_REQUESTS)))]
    requests: u32,
    /// Longest time of the flood
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=MOST_SECONDS))]
    seconds: u64,
    /// Clients that flood at once
    #[arg(long, value_name = "CLIENTS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_CLIENTS)))]
    concurrency: u32,
    /// The p99 of the controller's requests, in milliseconds, up to which the guarantee holds
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    p99: u32,
}

/// How long the probe runs alone, and how often is looked whether the server suffers.
const QUIET: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(250);

pub(super) async fn run(target: &Target, cluster: &Cluster, flood: &Flood, namespace: &str) -> Result<bool, Error> {
    let profile = profile(cluster).await?;
    let drill = cluster.drill(profile.settings(None), namespace).await?;
    tell(&drill, flood)?;
    let flow = Arc::new(Flow::default());
    let quiet = cluster.probe(&drill, &flow, Instant::now() + QUIET, |_| ()).await;
    let until = Instant::now() + Duration::from_secs(flood.seconds);
    // In a thread of its own, over connections of its own: the probe does not wait for its clients here.
    let flooding = {
        let (target, drill, flow, flood) = (target.clone(), drill.clone(), Arc::clone(&flow), flood.clone());
        std::thread::spawn(move || {
            let done = wait(async {
                let cluster = target.connect().await?;
                cluster.flood(&drill, &flow, flood.requests, flood.concurrency, until).await;
                Ok::<_, Error>(())
            });
            // Without a flood there is nothing to look at.
            flow.stop.store(true, Ordering::Relaxed);
            done
        })
    };
    let limit = f64::from(flood.p99);
    let (seen, probe) = watch::channel(Tally::default());
    let mut stopped = None;
    let flooded = {
        let probing = cluster.probe(&drill, &flow, until, |tally| drop(seen.send_replace(tally.clone())));
        tokio::pin!(probing);
        loop {
            tokio::select! {
                flooded = &mut probing => break flooded,
                why = look(cluster, &probe, &flow, limit), if stopped.is_none() => {
                    stopped = why;
                    if stopped.is_some() {
                        flow.stop.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    flow.stop.store(true, Ordering::Relaxed);
    let ended = tokio::task::spawn_blocking(move || flooding.join()).await;
    match ended {
        Ok(Ok(done)) => done?,
        _ => return Err(Error::Other("the flood ended by a mistake of this program".to_owned())),
    }
    let flood = flow.seen();
    let row = |name: &str, tally: &Tally| {
        [
            name.to_owned(),
            tally.requests().to_string(),
            format!("{:.1} ms", tally.milliseconds(0.5)),
            format!("{:.1} ms", tally.milliseconds(0.99)),
            tally.refused.to_string(),
            tally.failed.to_string(),
        ]
        .to_vec()
    };
    let head = ["", "requests", "p50", "p99", "refused (429)", "failed"].map(str::to_owned).to_vec();
    print(&table(&[
        head,
        row("controller, without the flood", &quiet),
        row("controller, beside the flood", &flooded),
        row("users, who flood", &flood),
    ]))?;
    let (holds, message) = verdict(&quiet, &flooded, &flood, limit, stopped.as_deref());
    cluster.proven_fairness(holds, &flooded, &message).await?;
    print(&format!(
        "\n{}: {message}\nall were dry runs, and changed nothing on {}; what it would be without the lanes: `bedplate apf simulate`\n",
        if holds { "the guarantee holds" } else { "NOT PROVEN" },
        cluster.server
    ))?;
    Ok(holds)
}

/// Looks once whether the server suffers.
async fn look(cluster: &Cluster, probe: &watch::Receiver<Tally>, flow: &Flow, limit: f64) -> Option<String> {
    tokio::time::sleep(LOOK).await;
    let ready = cluster.is_ready().await;
    let tally = probe.borrow().clone();
    suffers(&ready, &tally, &flow.seen(), limit)
}

fn tell(drill: &Drill, flood: &Flood) -> Result<(), Error> {
    let users: Vec<&str> = drill.users.iter().map(|user| user.user.as_str()).collect();
    let mut text = format!(
        "the probe is {}, in the lane {}\nthe flood is {}, in the lane {}: at most {} requests by {} clients in {} s\n",
        drill.controller.user,
        enforce::CONTROLLERS,
        users.join(", "),
        enforce::USERS,
        flood.requests,
        flood.concurrency,
        flood.seconds
    );
    if !drill.powerless.is_empty() {
        text.push_str(&format!(
            "{} may not make ConfigMaps there: refused requests are lighter than others, and so is this flood\n",
            drill.powerless.join(", ")
        ));
    }
    print(&text)
}
