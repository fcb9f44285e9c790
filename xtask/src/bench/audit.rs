//! `cargo xtask bench audit`: the audit of a large cluster: how long it takes, the memory that it needs, and what it asks
//! of the API server. The nodes and pods are KWOK's; the jobs are real objects that their pods belong to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bedplate_devcluster::run::{self, Result};
use bedplate_devcluster::{Cluster, Tier};
use serde_json::{Value, json};

use super::measure::{Run, measure};

/// Creations at the same time.
const CREATORS: usize = 16;
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
    let (cluster, _) = Cluster::up("bench", Tier::Scale, &[])?;
    let measured = audit(&cluster, &bedplate, options);
    cluster.down()?;
    let text = measured?;
    let place = run::root().join("benches/RESULTS-audit.md");
    std::fs::write(&place, &text).map_err(run::file("write", &place))?;
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn audit(cluster: &Cluster, bedplate: &std::path::Path, options: &Options) -> Result<String> {
    let end = Instant::now() + Duration::from_secs(options.seconds);
    cluster.add_fake_nodes(options.nodes)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let started = Instant::now();
    let (jobs, pods) = runtime.block_on(fill(cluster, options, end))?;
    let filled = started.elapsed();
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
    Ok(page(options, (jobs, pods, filled), &runs, &during, &idle))
}

fn page(options: &Options, made: (usize, usize, Duration), runs: &[Run], during: &Load, idle: &Load) -> String {
    let (jobs, pods, filled) = made;
    let count = runs.len() as f64;
    let mut text = format!(
        "# What an audit of a large cluster costs\n\nWritten by `cargo xtask bench audit`. {} nodes that KWOK plays; of {} Jobs {jobs} and of {} pods {pods} \
         were made, in {:.0} s by {CREATORS} creators at once. API server, etcd, controllers, scheduler, KWOK and the audit share 2 cores.\n\n\
         | run | wall, s | peak memory of `bedplate`, MB |\n| --- | ---: | ---: |\n",
        options.nodes,
        options.jobs,
        options.pods,
        filled.as_secs_f64()
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

/// What the API server has done.
struct Load {
    /// By verb.
    requests: BTreeMap<String, f64>,
    seconds: f64,
    memory: f64,
}

impl Load {
    fn read(cluster: &Cluster) -> Result<Self> {
        let metrics = run::output(cluster.kubectl()?.args(["get", "--raw", "/metrics"]), &[0])?;
        let mut load = Self { requests: BTreeMap::new(), seconds: 0.0, memory: 0.0 };
        for line in metrics.lines() {
            let value: f64 = line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0.0);
            if line.starts_with("apiserver_request_total{") {
                let verb = line.split("verb=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
                *load.requests.entry(verb.to_owned()).or_default() += value;
            } else if line.starts_with("process_cpu_seconds_total ") {
                load.seconds = value;
            } else if line.starts_with("process_resident_memory_bytes ") {
                load.memory = value;
            }
        }
        Ok(load)
    }

    fn since(mut self, before: &Self) -> Self {
        for (verb, count) in &mut self.requests {
            *count -= before.requests.get(verb).copied().unwrap_or_default();
        }
        self.seconds -= before.seconds;
        self
    }
}

/// Makes jobs and their pods, as far as the time allows. Gives how many.
async fn fill(cluster: &Cluster, options: &Options, end: Instant) -> Result<(usize, usize)> {
    let text = |error: bedplate_cluster::Error| error.to_string();
    let client = Arc::new(bedplate_cluster::Cluster::connect(Some(&cluster.kubeconfig()), None).await.map_err(text)?);
    let each = options.pods.div_ceil(options.jobs.max(1));
    let next = Arc::new(AtomicUsize::new(0));
    let made = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let mut creators = tokio::task::JoinSet::new();
    for _ in 0..CREATORS {
        let (client, next, made) = (client.clone(), next.clone(), made.clone());
        let (jobs, nodes, most) = (options.jobs, options.nodes.max(1), options.pods);
        creators.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= jobs || Instant::now() > end {
                    return Ok(());
                }
                let job = client.create(&job(number), false).await?;
                made[0].fetch_add(1, Ordering::Relaxed);
                for index in number * each..((number + 1) * each).min(most) {
                    client.create(&pod(index, &job, index % nodes), false).await?;
                    made[1].fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    while let Some(ended) = creators.join_next().await {
        ended.map_err(|error| error.to_string())?.map_err(text)?;
    }
    Ok((made[0].load(Ordering::Relaxed), made[1].load(Ordering::Relaxed)))
}

fn template() -> Value {
    json!({ "restartPolicy": "Never", "containers": [{
        "name": "train", "image": "docker.io/pytorch/pytorch:2.7.0", "command": ["python", "train.py"],
        "env": [{ "name": "WORLD_SIZE", "value": "10" }, { "name": "MASTER_PORT", "value": "23456" }],
        "resources": { "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "cpu": "1", "memory": "1Gi" } },
    }] })
}

/// A job of somebody else's controller: Kubernetes' own makes no pods for it.
fn job(number: usize) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": format!("train-{number}"), "namespace": "default" },
        "spec": { "managedBy": "bedplate.dev/bench", "parallelism": 10, "completions": 10, "template": { "spec": template() } },
    })
}

fn pod(index: usize, job: &Value, node: usize) -> Value {
    let mut spec = template();
    spec["nodeName"] = format!("fake-{node}").into();
    spec["tolerations"] = json!([{ "operator": "Exists" }]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("train-{index}"), "namespace": "default",
            "labels": { "batch.kubernetes.io/job-name": job["metadata"]["name"] },
            "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"],
                "uid": job["metadata"]["uid"], "controller": true }],
        },
        "spec": spec,
    })
}
