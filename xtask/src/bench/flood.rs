//! `cargo xtask bench flood`: a hyper-parameter search floods the API server while an operator reconciles, with the server's
//! own flow control and with our lanes, by turns.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bedplate_cluster::flood::{Drill, Flow, Sender};
use bedplate_devcluster::run::{self, Result};
use bedplate_devcluster::{Cluster, Tier, tools};

use super::measure::quantile;
use super::scale::{connect, runtime};

/// Rounds with and without the lanes, by turns: what the machine does meanwhile falls on both.
const ROUNDS: usize = 3;
/// The server lends seats anew every ten seconds.
const LENDING: Duration = Duration::from_secs(12);
/// Longest flood.
const LONGEST: Duration = Duration::from_secs(120);

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Trials that are created in each round, as dry runs; one request in ten is a list
    #[arg(long, default_value_t = 5000)]
    trials: u32,
    /// Clients that create them at once
    #[arg(long, default_value_t = 200)]
    clients: u32,
}

/// A platform, as far as its lanes follow from it. What everyone may do is not what is measured.
const PLATFORM: &str = r#"
apiVersion: v1
kind: Namespace
metadata: { name: kubeflow }
---
apiVersion: v1
kind: Namespace
metadata: { name: alice, labels: { app.kubernetes.io/part-of: kubeflow-profile } }
---
apiVersion: v1
kind: Namespace
metadata: { name: bob, labels: { app.kubernetes.io/part-of: kubeflow-profile } }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: everyone }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin }
subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:serviceaccounts" }]
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: training-operator, namespace: kubeflow }
spec:
  replicas: 0
  selector: { matchLabels: { app: training-operator } }
  template:
    metadata: { labels: { app: training-operator } }
    spec:
      serviceAccountName: training-operator
      containers: [{ name: operator, image: "ghcr.io/kubeflow/training-v1/training-operator:v1.9.3" }]
"#;

/// What the operator saw beside the floods of one kind, and the floods themselves.
#[derive(Default)]
struct Seen {
    /// From request to answer, in ms.
    operator: Vec<f64>,
    /// Requests of the operator that were refused or failed.
    lost: u64,
    users: Vec<f64>,
    refused: u64,
    failed: u64,
    seconds: f64,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // What is measured runs in the API server.
    let bedplate = run::bedplate(false)?;
    let [alone, without, with] = super::on_cluster(Tier::Api, &[], |cluster| measure(cluster, &bedplate, options))?;
    let mut text = format!(
        "# A search floods the API server\n\nWritten by `cargo xtask bench flood`. {} dry-run creations and lists by {} clients of two users' namespaces, as fast as they are answered \
         (who is refused comes again), while the training-operator's account asks and creates, one request after the other; {ROUNDS} rounds with the server's own flow control and \
         {ROUNDS} with our lanes, by turns, on one API server {} with etcd; the flood itself shares the 2 cores. Times in ms, as clients see them.\n\n\
         | the operator | requests | p50 | p99 | refused or failed |\n| --- | ---: | ---: | ---: | ---: |\n",
        options.trials,
        options.clients,
        tools::get("kubernetes")?.version,
    );
    let p99 = |seen: &Seen| quantile(&seen.operator, 0.99);
    for (name, seen) in [("without a flood", &alone), ("the server's own flow control", &without), ("our lanes", &with)]
    {
        let (p50, p99) = (quantile(&seen.operator, 0.5), p99(seen));
        let _ = writeln!(text, "| {name} | {} | {p50:.1} | {p99:.1} | {} |", seen.operator.len(), seen.lost);
    }
    let _ = write!(
        text,
        "\np99 with our lanes: {:.1} times better.\n\n| the flood | answered | p50 | p99 | refused (429) | failed | seconds |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        p99(&without) / p99(&with).max(f64::MIN_POSITIVE)
    );
    for (name, seen) in [("the server's own flow control", &without), ("our lanes", &with)] {
        let _ = writeln!(
            text,
            "| {name} | {} | {:.1} | {:.1} | {} | {} | {:.1} |",
            seen.users.len(),
            quantile(&seen.users, 0.5),
            quantile(&seen.users, 0.99),
            seen.refused,
            seen.failed,
            seen.seconds
        );
    }
    super::publish("flood", &text)
}

fn measure(cluster: &Cluster, bedplate: &Path, options: &Options) -> Result<[Seen; 3]> {
    cluster.apply(PLATFORM)?;
    let command = |words: &[&str]| {
        run::output(Command::new(bedplate).args(words).env("KUBECONFIG", cluster.kubeconfig()), &[0]).map(drop)
    };
    let runtime = runtime()?;
    let [mut alone, mut without, mut with] = [Seen::default(), Seen::default(), Seen::default()];
    for round in 0..2 * ROUNDS {
        let lanes = round % 2 == 1;
        command(&[if lanes { "apply" } else { "uninstall" }])?;
        if lanes {
            // The other guards only tell: they are measured elsewhere.
            let patch = r#"{"spec":{"modes":{"fairness":"enforce"}}}"#;
            run::output(
                cluster.kubectl()?.args(["patch", "stabilityprofile", "default", "--type=merge", "-p", patch]),
                &[0],
            )?;
            command(&["apply"])?;
        }
        std::thread::sleep(LENDING);
        runtime.block_on(probe(cluster, None, &mut alone))?;
        runtime.block_on(probe(cluster, Some(options), if lanes { &mut with } else { &mut without }))?;
    }
    for seen in [&mut alone, &mut without, &mut with] {
        seen.operator.sort_by(f64::total_cmp);
        seen.users.sort_by(f64::total_cmp);
    }
    Ok([alone, without, with])
}

/// The operator's requests, beside a flood or for three seconds without one.
async fn probe(cluster: &Cluster, flood: Option<&Options>, seen: &mut Seen) -> Result<()> {
    let sender = |namespace: &str, name: &str| Sender {
        user: format!("system:serviceaccount:{namespace}:{name}"),
        namespace: namespace.to_owned(),
    };
    let drill = Drill {
        controller: sender("kubeflow", "training-operator"),
        writes: true,
        users: ["alice", "bob"].map(|namespace| sender(namespace, "default-editor")).to_vec(),
        powerless: Vec::new(),
    };
    let flow = Arc::new(Flow::default());
    let started = Instant::now();
    let until = started + if flood.is_some() { LONGEST } else { Duration::from_secs(3) };
    let client = connect(cluster).await?;
    // In a thread and over connections of its own: the operator does not wait for its clients here.
    let flooding = flood.map(|options| {
        let (drill, flow, kubeconfig) = (drill.clone(), Arc::clone(&flow), cluster.kubeconfig());
        let (trials, clients) = (options.trials, options.clients);
        std::thread::spawn(move || {
            let done = runtime().and_then(|runtime| {
                runtime.block_on(async {
                    let users = bedplate_cluster::Cluster::connect(Some(&kubeconfig), None).await;
                    let users = users.map_err(|error| error.to_string())?;
                    users.flood(&drill, &flow, trials, clients, until).await;
                    Ok(())
                })
            });
            flow.stop.store(true, Ordering::Relaxed);
            done
        })
    });
    let operator = client.probe(&drill, &flow, until, |_| ()).await;
    flow.stop.store(true, Ordering::Relaxed);
    if let Some(flooding) = flooding {
        flooding.join().map_err(|_| "the flood ended by a mistake of this program".to_owned())??;
    }
    let milliseconds = |micros: &u32| f64::from(*micros) / 1e3;
    let users = flow.seen();
    seen.operator.extend(operator.latency.iter().map(milliseconds));
    seen.lost += operator.refused + operator.failed;
    seen.users.extend(users.latency.iter().map(milliseconds));
    seen.refused += users.refused;
    seen.failed += users.failed;
    seen.seconds += started.elapsed().as_secs_f64();
    Ok(())
}
