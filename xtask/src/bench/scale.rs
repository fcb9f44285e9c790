//! A large cluster on a small machine, whose nodes and pods are KWOK's, and what its API server does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bedplate_devcluster::Cluster;
use bedplate_devcluster::run::{self, Result};
use serde_json::{Value, json};

use super::measure::samples;

/// Creations at the same time.
const CREATORS: usize = 16;

/// How large.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Nodes that KWOK plays.
    pub(super) nodes: usize,
    /// Jobs, each with pods of its own.
    pub(super) jobs: usize,
    /// Pods of all jobs together.
    pub(super) pods: usize,
}

/// How far it came; shown, it is a sentence.
#[derive(Debug)]
pub(super) struct Filled {
    wanted: Size,
    jobs: usize,
    pods: usize,
    took: Duration,
}

impl fmt::Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, jobs, pods, took } = self;
        write!(
            f,
            "{} nodes that KWOK plays; of {} Jobs {jobs} and of {} pods {pods} were made, in {:.0} s by {CREATORS} creators at once.",
            wanted.nodes,
            wanted.jobs,
            wanted.pods,
            took.as_secs_f64()
        )
    }
}

impl Size {
    /// Makes nodes, and jobs with their pods as far as the time allows.
    pub(super) fn fill(self, cluster: &Cluster, time: Duration) -> Result<Filled> {
        cluster.add_fake_nodes(self.nodes)?;
        let started = Instant::now();
        let (jobs, pods) = runtime()?.block_on(self.create(cluster, started + time))?;
        Ok(Filled { wanted: self, jobs, pods, took: started.elapsed() })
    }

    async fn create(self, cluster: &Cluster, end: Instant) -> Result<(usize, usize)> {
        let client = Arc::new(connect(cluster).await?);
        let each = self.pods.div_ceil(self.jobs.max(1));
        let next = Arc::new(AtomicUsize::new(0));
        let made = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let mut creators = tokio::task::JoinSet::new();
        for _ in 0..CREATORS {
            let (client, next, made) = (client.clone(), next.clone(), made.clone());
            creators.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= self.jobs || Instant::now() > end {
                        return Ok(());
                    }
                    let job = client.create(&job(&format!("train-{number}"), &template()), false).await?;
                    made[0].fetch_add(1, Ordering::Relaxed);
                    for index in number * each..((number + 1) * each).min(self.pods) {
                        client.create(&pod(index, &job, index % self.nodes.max(1)), false).await?;
                        made[1].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while let Some(ended) = creators.join_next().await {
            ended.map_err(|error| error.to_string())?.map_err(|error: bedplate_cluster::Error| error.to_string())?;
        }
        Ok((made[0].load(Ordering::Relaxed), made[1].load(Ordering::Relaxed)))
    }
}

/// What runs requests.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

/// A client of a cluster.
pub(super) async fn connect(cluster: &Cluster) -> Result<bedplate_cluster::Cluster> {
    let client = bedplate_cluster::Cluster::connect(Some(&cluster.kubeconfig()), None).await;
    client.map_err(|error| error.to_string())
}

/// What the API server has done.
#[derive(Debug)]
pub(super) struct Load {
    /// By verb.
    pub(super) requests: BTreeMap<String, f64>,
    /// Processor time.
    pub(super) seconds: f64,
    /// Resident bytes.
    pub(super) memory: f64,
}

impl Load {
    pub(super) fn read(cluster: &Cluster) -> Result<Self> {
        let metrics = metrics(cluster)?;
        let value = |name: &str| samples(&metrics, name, "").into_values().sum();
        Ok(Self {
            requests: samples(&metrics, "apiserver_request_total", "verb"),
            seconds: value("process_cpu_seconds_total"),
            memory: value("process_resident_memory_bytes"),
        })
    }

    pub(super) fn since(mut self, before: &Self) -> Self {
        for (verb, count) in &mut self.requests {
            *count -= before.requests.get(verb).copied().unwrap_or_default();
        }
        self.seconds -= before.seconds;
        self
    }
}

/// The API server's metrics, as text.
pub(super) fn metrics(cluster: &Cluster) -> Result<String> {
    run::output(cluster.kubectl()?.args(["get", "--raw", "/metrics"]), &[0])
}

/// What a worker of a job is made of.
pub(super) fn template() -> Value {
    json!({ "restartPolicy": "Never", "containers": [{
        "name": "train", "image": "docker.io/pytorch/pytorch:2.7.0", "command": ["python", "train.py"],
        "env": [{ "name": "WORLD_SIZE", "value": "10" }, { "name": "MASTER_PORT", "value": "23456" }],
        "resources": { "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "cpu": "1", "memory": "1Gi" } },
    }] })
}

/// A job of somebody else's controller: Kubernetes' own makes no pods for it.
pub(super) fn job(name: &str, template: &Value) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "managedBy": "bedplate.dev/bench", "parallelism": 10, "completions": 10, "template": { "spec": template } },
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
