//! What a live workload asks for of its namespace and queue, until it has finished.

use super::Workload;
use super::kinds::TABLE;
use crate::field::Field;
use crate::object::Object;

/// What one workload asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Whose it is.
    pub id: AskId,
    /// The queue that it waits in, where it names one.
    pub queue: Option<Queue>,
    /// Accelerators of all its pods together, elastic ones at their largest.
    pub accelerators: u64,
    /// Trials that run at once.
    pub trials: u64,
}

/// A workload, whatever its version.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AskId {
    /// API group; empty for the core group.
    pub group: String,
    /// `kind`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A queue: of a namespace (Kueue's LocalQueue), or with an empty one of the cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Queue {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Where a queue is named, and whether it is one of the namespace.
const QUEUES: &[(Place, bool)] = &[
    // Kueue, `pkg/controller/constants/constants.go`.
    (Place::Label("kueue.x-k8s.io/queue-name"), true),
    // KAI scheduler, `pkg/common/constants/constants.go`; Run:ai before it.
    (Place::Label("kai.scheduler/queue"), false),
    (Place::Label("runai/queue"), false),
    // YuniKorn, `pkg/common/constants/constants.go`.
    (Place::Label("yunikorn.apache.org/queue"), false),
    // Volcano: its Job, and the operators that make PodGroups for it.
    (Place::Field("batch.volcano.sh", "spec.queue"), false),
    (Place::Annotation("scheduling.volcano.sh/queue-name"), false),
    (Place::Label("volcano.sh/queue-name"), false),
    (Place::Field("kubeflow.org", "spec.runPolicy.schedulingPolicy.queue"), false),
    (Place::Field("sparkoperator.k8s.io", "spec.batchSchedulerOptions.queue"), false),
];

enum Place {
    Label(&'static str),
    Annotation(&'static str),
    /// Of the kinds of a group.
    Field(&'static str, &'static str),
}

/// Fields in which a kind says how far it is (Pod, Argo, AppWrapper; volcano; Spark; Ray).
const STATES: &[&str] = &[
    "status.phase",
    "status.state.phase",
    "status.applicationState.state",
    "status.jobStatus",
    "status.jobDeploymentStatus",
    "status.terminalState",
];

/// What such a field, or a condition that is `True`, says when all is over, in lower case.
const OVER: &[&str] =
    &["succeeded", "failed", "error", "complete", "completed", "finished", "stopped", "aborted", "terminated"];

impl Ask {
    /// What an object asks for. Nothing for what has finished; for what another workload makes, which asks for all of it;
    /// and for what only starts others on a schedule: each of those asks for itself when it is there.
    #[must_use]
    pub fn of(workload: &Workload<'_>) -> Option<Self> {
        let object = &workload.object;
        if is_schedule(object.group(), object.kind) || is_made_by_a_workload(object) || is_over(object) {
            return None;
        }
        let word = |text: &str| text.to_owned();
        let namespace = word(object.namespace().unwrap_or_default());
        let trials = match (object.group(), object.kind) {
            // Three at once by default (Katib, `experiment_defaults.go`).
            ("kubeflow.org", "Experiment") => {
                let at_once = object.at("spec.parallelTrialCount").u64().unwrap_or(3);
                object.at("spec.maxTrialCount").u64().map_or(at_once, |most| most.min(at_once))
            }
            _ => 0,
        };
        Some(Self {
            queue: queue(object, &namespace),
            accelerators: workload.accelerators(),
            trials,
            id: AskId { group: word(object.group()), kind: word(object.kind), namespace, name: object.name() },
        })
    }
}

fn is_schedule(group: &str, kind: &str) -> bool {
    TABLE.iter().any(|row| row.group == group && row.kind == kind && row.overlap.is_some())
}

/// Whether its controller is a kind of the table, other than a schedule.
#[must_use]
pub fn is_made_by_a_workload(object: &Object<'_>) -> bool {
    object.controller().is_some_and(|owner| {
        let (kind, version) = (owner.key("kind").str().unwrap_or_default(), owner.key("apiVersion").str());
        let group = version.and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
        TABLE.iter().any(|row| row.group == group && row.kind == kind) && !is_schedule(group, kind)
    })
}

fn is_over(object: &Object<'_>) -> bool {
    let says_over = |field: &Field<'_>| field.str().is_some_and(|word| OVER.contains(&&*word.to_ascii_lowercase()));
    STATES.iter().any(|path| says_over(&object.at(path)))
        || object
            .at("status.conditions")
            .items()
            .any(|condition| condition.key("status").str() == Some("True") && says_over(&condition.key("type")))
}

fn queue(object: &Object<'_>, namespace: &str) -> Option<Queue> {
    QUEUES.iter().find_map(|(place, of_namespace)| {
        let field = match place {
            Place::Label(name) => object.label(name),
            Place::Annotation(name) => object.annotation(name),
            Place::Field(group, path) if *group == object.group() => object.at(path),
            Place::Field(..) => return None,
        };
        let name = field.str().filter(|name| !name.is_empty())?.to_owned();
        Some(Queue { namespace: if *of_namespace { namespace.to_owned() } else { String::new() }, name })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::value::Node;

    fn ask(object: &Value) -> Option<Ask> {
        let node = Node::from_json(object);
        Ask::of(&Workload::new(&Object::of_node(&node).unwrap()).unwrap())
    }

    fn job(more: Value) -> Value {
        let mut job = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "j", "namespace": "n" },
            "spec": { "parallelism": 4, "template": { "spec": { "containers": [
                { "name": "a", "resources": { "limits": { "nvidia.com/gpu": 2 } } }] } } } });
        for (key, value) in more.as_object().unwrap() {
            for (inner, value) in value.as_object().unwrap() {
                job[key][inner] = value.clone();
            }
        }
        job
    }

    #[test]
    fn a_job_asks_until_it_has_finished() {
        assert_eq!(ask(&job(json!({}))).unwrap().accelerators, 8);
        let ended = |kind: &str| json!({ "status": { "conditions": [{ "type": kind, "status": "True" }] } });
        assert_eq!(ask(&job(ended("Complete"))), None);
        assert_eq!(ask(&job(ended("Failed"))), None);
        assert!(ask(&job(ended("Suspended"))).is_some(), "what waits asks");
        let workflow = json!({ "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": { "name": "w" },
            "spec": { "templates": [] }, "status": { "phase": "Succeeded" } });
        assert_eq!(ask(&workflow), None);
    }

    /// A search and the jobs of its trials were counted both, and a team could use half of its quota.
    #[test]
    fn what_another_workload_makes_is_not_counted_twice() {
        let of = |api_version: &str, kind: &str| json!({ "metadata": { "ownerReferences": [{ "apiVersion": api_version, "kind": kind, "name": "o", "controller": true }] } });
        assert_eq!(ask(&job(of("jobset.x-k8s.io/v1alpha2", "JobSet"))), None);
        assert!(ask(&job(of("batch/v1", "CronJob"))).is_some(), "a schedule asks for nothing itself");
        assert!(ask(&job(of("tekton.dev/v1", "PipelineRun"))).is_some());
        let cron = json!({ "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "c" },
            "spec": { "schedule": "* * * * *", "jobTemplate": { "spec": { "template": { "spec": { "containers": [] } } } } } });
        assert_eq!(ask(&cron), None);
    }

    #[test]
    fn a_queue_is_of_its_namespace_or_of_the_cluster() {
        let of = |labels: Value| ask(&job(json!({ "metadata": { "labels": labels } }))).unwrap().queue;
        let queue = |namespace: &str, name: &str| Some(Queue { namespace: namespace.into(), name: name.into() });
        assert_eq!(of(json!({ "kueue.x-k8s.io/queue-name": "research" })), queue("n", "research"));
        assert_eq!(of(json!({ "kai.scheduler/queue": "research" })), queue("", "research"));
        assert_eq!(of(json!({})), None);
    }
}
