//! A real cluster for the tests of one binary, and its two command lines: `kubectl` and `bedplate`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

pub mod replica;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bedplate_devcluster::{AddOn, Cluster, Tier, cluster, run};
use serde_json::{Value, json};

/// The cluster of this binary.
pub struct Harness {
    /// It.
    pub cluster: Cluster,
    bedplate: PathBuf,
    namespaces: AtomicU32,
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// Its exit status.
    pub code: i32,
    /// Standard output, then standard error.
    pub text: String,
}

impl Answer {
    fn of(output: &Output) -> Self {
        let text = [&output.stdout[..], &output.stderr].concat();
        Self { code: output.status.code().unwrap_or(-1), text: String::from_utf8_lossy(&text).into_owned() }
    }

    /// It went well.
    #[track_caller]
    pub fn accepted(self) -> String {
        assert_eq!(self.code, 0, "should have been accepted: {}", self.text);
        self.text
    }

    /// It was refused, and a person is told `words`.
    #[track_caller]
    pub fn refused(self, words: &str) -> String {
        assert_ne!(self.code, 0, "should have been refused: {}", self.text);
        assert!(self.text.contains(words), "expected to be told {words:?}, was told: {}", self.text);
        self.text
    }
}

impl Harness {
    /// The cluster of this binary, started when the first test asks. `prepare` runs once, before any test goes on.
    ///
    /// # Panics
    /// Where the cluster does not start: no test could mean anything. Every test then fails at once, for the same reason.
    pub fn get(prepare: impl FnOnce(&Self)) -> &'static Self {
        static HARNESS: OnceLock<Result<Harness, String>> = OnceLock::new();
        let started = HARNESS.get_or_init(|| {
            let harness = Self {
                cluster: Cluster::of_this_process(Tier::Api, &[AddOn::Crds])?,
                bedplate: run::bedplate(false)?,
                namespaces: AtomicU32::new(0),
            };
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prepare(&harness))) {
                Ok(()) => Ok(harness),
                Err(why) => Err(why.downcast_ref::<String>().cloned().unwrap_or_default()),
            }
        });
        started.as_ref().unwrap_or_else(|why| panic!("the cluster of this binary is not ready: {why}"))
    }

    /// `kubectl`, with something on its standard input.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Answer {
        let mut command = cluster::kubectl(&self.cluster.kubeconfig()).unwrap();
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Answer::of(&child.wait_with_output().unwrap())
    }

    /// `kubectl` with words that a person would type.
    pub fn k(&self, line: &str) -> Answer {
        self.kubectl(&line.split_whitespace().collect::<Vec<_>>(), "")
    }

    /// `kubectl apply -f -`.
    pub fn apply(&self, object: &Value) -> Answer {
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &object.to_string())
    }

    /// `kubectl create -f -`.
    pub fn create(&self, object: &Value) -> Answer {
        self.kubectl(&["create", "-f", "-"], &object.to_string())
    }

    /// `bedplate`, with words that a person would type; `'…'` is one word.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn bedplate(&self, line: &str) -> Answer {
        self.bedplate_with(&self.cluster.kubeconfig(), line)
    }

    /// The same with another kubeconfig.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn bedplate_with(&self, kubeconfig: &Path, line: &str) -> Answer {
        let words: Vec<String> = line
            .split('\'')
            .enumerate()
            .flat_map(|(index, part)| {
                if index % 2 == 1 {
                    vec![part.to_owned()]
                } else {
                    part.split_whitespace().map(str::to_owned).collect()
                }
            })
            .collect();
        let output = Command::new(&self.bedplate)
            .args(words)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Answer::of(&output)
    }

    /// The program, for those who run it beside the test.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.bedplate
    }

    /// Creates objects as dry runs over one connection, and gives what would be there, without the fields that their
    /// kind does not have, or what a refused user would read.
    ///
    /// # Panics
    /// Where there is no connection.
    pub fn dry_run(&self, objects: &[Value]) -> Vec<Result<Value, String>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = bedplate_cluster::Cluster::connect(Some(&self.cluster.kubeconfig()), None).await.unwrap();
            let mut answers = Vec::new();
            for object in objects {
                answers.push(cluster.create(object, true).await.map_err(|error| error.to_string()));
            }
            answers
        })
    }

    /// A namespace of a test's own, whose name begins with `prefix`.
    pub fn namespace(&self, prefix: &str) -> String {
        let name = format!("{prefix}-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        self.k(&format!("create namespace {name}")).accepted();
        // Without it no pod can be made.
        self.eventually(|| self.k(&format!("get serviceaccount default -n {name}")).code == 0);
        name
    }

    /// Waits until something is so: caches of the API server are a moment behind.
    ///
    /// # Panics
    /// Where it is not so within two minutes.
    #[track_caller]
    pub fn eventually(&self, so: impl FnMut() -> bool) {
        self.eventually_or(so, || {});
    }

    /// The same; where it does not come so, `tell` prints what helps to see why.
    ///
    /// # Panics
    /// Where it is not so within two minutes.
    #[track_caller]
    pub fn eventually_or(&self, mut so: impl FnMut() -> bool, tell: impl FnOnce()) {
        let started = Instant::now();
        while !so() {
            if started.elapsed() >= Duration::from_secs(120) {
                tell();
                panic!("not so after 120 s");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A Job of `parallelism` pods with some GPUs each.
#[must_use]
pub fn job(namespace: &str, name: &str, parallelism: u64, gpus: u64) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "parallelism": parallelism, "completions": parallelism, "suspend": true, "template": { "spec": {
            "restartPolicy": "Never",
            "containers": [{ "name": "train", "image": "docker.io/pytorch/pytorch:2.7.0",
                "resources": { "limits": { "nvidia.com/gpu": gpus.to_string() } } }],
        } } },
    })
}

/// A PyTorchJob: one master and some workers with GPUs.
#[must_use]
pub fn pytorch(namespace: &str, name: &str, workers: u64, gpus: u64) -> Value {
    let template = json!({ "spec": { "containers": [{ "name": "pytorch", "image": "docker.io/pytorch/pytorch:2.7.0",
        "resources": { "limits": { "nvidia.com/gpu": gpus } } }] } });
    json!({
        "apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "pytorchReplicaSpecs": {
            "Master": { "replicas": 1, "template": template }, "Worker": { "replicas": workers, "template": template },
        } },
    })
}

/// A Deployment without pods.
#[must_use]
pub fn deployment(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": name } }, "template": {
            "metadata": { "labels": { "app": name } },
            "spec": { "containers": [{ "name": "server", "image": "docker.io/vllm/vllm-openai:v0.9.0" }] },
        } },
    })
}
