//! The drill of training: a small job of its own is evicted in the middle of its training, and has to go on where it was.

use std::time::{Duration, Instant};

use http::{Request, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::drill::{condition, labels, message_of, waiting_for};
use crate::{Asked, Cluster, Error, Place};

/// What the pods run. It says what came of it in the message of its container.
const SCRIPT: &str = include_str!("training/drill.py");

/// How long a pod may take to train, with the pull of its image and the making of its volume.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(250);
/// Nobody, as most clusters want it; the volume's group is its own.
const USER: u32 = 65534;
/// The Job ends itself, and then goes with its volume, where nobody is left to do it.
const ABANDONED: Duration = Duration::from_secs(600);

/// What is trained, and where.
#[derive(Clone, Debug)]
pub struct Trial<'a> {
    /// The name of the job, and of what it makes: one that is not there.
    pub name: &'a str,
    /// The namespace of the job.
    pub namespace: &'a str,
    /// Its image: Python with the package `bedplate`, and torch or numpy.
    pub image: &'a str,
    /// Where checkpoints go.
    pub volume: Volume<'a>,
    /// Megabytes of the state.
    pub megabytes: u32,
    /// Seconds between the notice and the kill.
    pub grace: u32,
}

/// A volume that outlives the pod.
#[derive(Clone, Copy, Debug)]
pub enum Volume<'a> {
    /// A claim that is there: a folder in it is used, and removed.
    There(&'a str),
    /// A claim that is made, and goes with the job; of this storage class, or of the cluster's default.
    New(Option<&'a str>),
}

/// What the second pod found.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Resumed {
    /// `torch 2.15.0`.
    pub framework: String,
    /// Of the state.
    pub bytes: u64,
    /// Steps that the first pod had completed.
    pub done: u64,
    /// Steps that the second one did not have to do again.
    pub resumed: u64,
    /// What the first process ended with; nothing where it did not come to that.
    pub code: Option<i64>,
    /// Seconds from the notice until the state was durable.
    pub saving: Option<f64>,
    /// Seconds from the start of the second process until it was where the first had been.
    pub starting: f64,
    /// Whether the weights, after some more steps, are bit by bit those of a run that was never stopped.
    pub exact: bool,
}

/// How it went.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What the second pod found.
    pub resumed: Resumed,
    /// The nodes of the first and of the second pod.
    pub nodes: [String; 2],
    /// From the eviction until the first pod was gone.
    pub leaving: Duration,
    /// From then until a second one ran.
    pub coming: Duration,
}

/// What the container of a pod said that could not train.
#[derive(Deserialize)]
struct Said {
    error: String,
}

impl Cluster {
    /// Trains in a job of its own, evicts its pod, and gives what became of the training. `tell` hears of each phase.
    ///
    /// # Errors
    /// No rights, a pod that does not start, no eviction because of a disruption budget, a second pod that does not come to
    /// its end. The job is gone whatever happens, and what it made with it.
    pub async fn prove_training(&self, trial: &Trial<'_>, tell: &mut dyn FnMut(&str)) -> Result<Outcome, Error> {
        let job = self.create(&job(trial), false).await?;
        let resource = self.kind("batch", "Job").ok_or_else(|| Error::NoSuchResource("jobs".to_owned()))?;
        let place = Place { resource, namespace: Some(trial.namespace), name: trial.name };
        self.then_delete(place, self.evicted(trial, &job, tell)).await
    }

    async fn evicted(&self, trial: &Trial<'_>, job: &Value, tell: &mut dyn FnMut(&str)) -> Result<Outcome, Error> {
        if let Volume::New(class) = trial.volume {
            self.create(&claim(trial, job, class), false).await?;
        }
        let node = |pod: &Value| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        tell(&format!("Job {}/{}: its pod begins to train", trial.namespace, trial.name));
        let first = self.until(trial, None, is_ready).await?;
        let name = name_of(&first);
        tell(&format!("pod {name} trains on {}: it is evicted", node(&first)));
        self.evict(trial.namespace, name).await?;
        let evicted = Instant::now();
        self.until(trial, Some(name), has_ended).await?;
        let leaving = evicted.elapsed();
        tell("it has ended; another pod takes its place");
        let runs = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Running" | "Succeeded"));
        let second = self.until(trial, None, |pod| name_of(pod) != name && runs(pod)).await?;
        let coming = evicted.elapsed() - leaving;
        tell(&format!("pod {} runs on {}: it resumes", name_of(&second), node(&second)));
        let last = self.until(trial, Some(name_of(&second)), has_ended).await?;
        let message = message_of(&last);
        let resumed = serde_json::from_str(message)
            .map_err(|_| Error::Training(format!("the second pod did not say what it found: {message:?}")))?;
        Ok(Outcome { resumed, nodes: [node(&first), node(&second)], leaving, coming })
    }

    /// Waits until a pod of the job, or the one of a name, is so, and gives it. One of a name that is gone is null.
    async fn until(
        &self,
        trial: &Trial<'_>,
        name: Option<&str>,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value, Error> {
        let resource = self.kind("", "Pod").ok_or_else(|| Error::NoSuchResource("pods".to_owned()))?;
        let place = Place { resource, namespace: Some(trial.namespace), name: "" };
        let path = format!("{}?labelSelector=batch.kubernetes.io/job-name%3D{}", place.path(), trial.name);
        let begun = Instant::now();
        loop {
            let answer = self.ask(place.asked("list"), Request::get(&path).body(Vec::new())).await?;
            let mut pods = answer["items"].as_array().cloned().unwrap_or_default();
            pods.retain(|pod| name.is_none_or(|name| name_of(pod) == name));
            if let Some(pod) = pods.iter().find(|pod| is_so(pod)) {
                return Ok(pod.clone());
            }
            let newest = pods.iter().max_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str());
            if newest.is_none() && name.is_some() {
                return Ok(Value::Null);
            }
            // One that was evicted has failed, too.
            let has_failed = newest.is_some_and(|pod| pod["status"]["phase"] == "Failed" && !is_disrupted(pod));
            if has_failed || begun.elapsed() > PATIENCE {
                let said = newest.and_then(|pod| serde_json::from_str::<Said>(message_of(pod)).ok());
                let why = said.map(|said| said.error).or_else(|| newest.and_then(waiting_for));
                let why = why.unwrap_or_else(|| "it was never started".to_owned());
                return Err(Error::Training(format!(
                    "a pod of the Job {} did not get as far as it should: {why}\nits image is {}; another one: --image",
                    trial.name, trial.image
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Evicts a pod, as a drain does. A disruption budget that allows none for the moment is asked again for a while.
    async fn evict(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let resource = self.kind("", "Pod").ok_or_else(|| Error::NoSuchResource("pods".to_owned()))?;
        let place = Place { resource, namespace: Some(namespace), name };
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name, "namespace": namespace },
        });
        let request = Request::post(format!("{}/eviction", place.path()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(eviction.to_string().into_bytes());
        self.ask(Asked { subresource: "eviction", ..place.asked("create") }, request).await.map(drop)
    }
}

fn name_of(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

fn is_true(pod: &Value, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|condition| condition["status"] == "True")
}

fn is_ready(pod: &Value) -> bool {
    is_true(pod, "Ready")
}

fn is_disrupted(pod: &Value) -> bool {
    is_true(pod, "DisruptionTarget")
}

fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// A training as it should be: its grace is told to it, an eviction does not count as a failure, and the next pod comes
/// when the one before has ended.
fn job(trial: &Trial<'_>) -> Value {
    let claim = match trial.volume {
        Volume::There(claim) => claim,
        Volume::New(_) => trial.name,
    };
    let mebibytes = u64::from(trial.megabytes);
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": trial.name, "namespace": trial.namespace, "labels": labels() },
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": { "rules": [{
                "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }],
            }] },
            "activeDeadlineSeconds": 2 * PATIENCE.as_secs(),
            "ttlSecondsAfterFinished": ABANDONED.as_secs(),
            "template": {
                "metadata": { "labels": labels() },
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": trial.grace,
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "containers": [{
                        "name": "train",
                        "image": trial.image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["python3", "-c", SCRIPT, "/checkpoints", trial.megabytes.to_string(), trial.name],
                        "env": [{ "name": "BEDPLATE_GRACE_SECONDS", "value": trial.grace.to_string() }],
                        "readinessProbe": {
                            "exec": { "command": ["/bin/sh", "-c", "test -s /dev/termination-log"] }, "periodSeconds": 1,
                        },
                        "resources": {
                            "requests": { "cpu": "100m", "memory": format!("{}Mi", 256 + 2 * mebibytes) },
                            "limits": { "memory": format!("{}Mi", 1024 + 4 * mebibytes) },
                        },
                        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "volumeMounts": [
                            { "name": "checkpoints", "mountPath": "/checkpoints" },
                            // Which torch wants, and small images have not.
                            { "name": "temporary", "mountPath": "/tmp" },
                        ],
                    }],
                    "volumes": [
                        { "name": "checkpoints", "persistentVolumeClaim": { "claimName": claim } },
                        { "name": "temporary", "emptyDir": {} },
                    ],
                },
            },
        },
    })
}

/// Room for two checkpoints and one that is written. It goes with the job.
fn claim(trial: &Trial<'_>, job: &Value, class: Option<&str>) -> Value {
    let mut claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": trial.name,
            "namespace": trial.namespace,
            "labels": labels(),
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "Job", "name": trial.name, "uid": job["metadata"]["uid"],
            }],
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": format!("{}Mi", 512 + 4 * u64::from(trial.megabytes)) } },
        },
    });
    if let Some(class) = class {
        claim["spec"]["storageClassName"] = class.into();
    }
    claim
}
