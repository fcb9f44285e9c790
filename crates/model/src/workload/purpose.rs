//! What a workload is for, decided in one place.

use std::borrow::Cow;

use serde::Serialize;

use super::kinds::Kind;
use super::pods::PodSet;
use crate::image::ImageRef;
use crate::names;
use crate::object::Object;

/// What a workload is for. Rules about training do not speak of servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Makes a model: has progress to lose.
    Training,
    /// Answers requests.
    Serving,
    /// Someone's desk.
    Notebook,
    /// Keeps the others running: operators, webhooks, schedulers.
    Platform,
    /// None of these, as far as we can see.
    Other,
}

impl Purpose {
    /// The word in labels and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Serving => "serving",
            Self::Notebook => "notebook",
            Self::Platform => "platform",
            Self::Other => "other",
        }
    }
}

/// A model server: how it is recognised and what its documents say of it.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Its name.
    pub name: &'static str,
    /// Last segments of its images, or their beginnings.
    pub images: &'static [&'static str],
    /// Path that answers 200 once the model is loaded.
    pub ready: &'static str,
    /// The port of that path.
    pub port: u16,
    /// Whether it finishes open requests on SIGTERM by itself.
    pub drains: bool,
}

/// The servers that Bedplate knows. Sources: each server's own documents on health endpoints.
pub const SERVERS: &[Server] = &[
    Server { name: "vLLM", images: &["vllm", "vllm-openai"], ready: "/health", port: 8000, drains: false },
    Server { name: "SGLang", images: &["sglang"], ready: "/readyz", port: 30000, drains: false },
    Server { name: "TGI", images: &["text-generation-inference"], ready: "/health", port: 80, drains: false },
    Server { name: "Triton", images: &["tritonserver"], ready: "/v2/health/ready", port: 8000, drains: true },
    Server {
        name: "TensorFlow Serving",
        images: &["serving", "tensorflow-serving"],
        ready: "/v1/models/MODEL",
        port: 8501,
        drains: false,
    },
    Server { name: "TorchServe", images: &["torchserve"], ready: "/ping", port: 8080, drains: false },
    Server { name: "MLServer", images: &["mlserver"], ready: "/v2/health/ready", port: 8080, drains: true },
    Server {
        name: "KServe",
        images: &["sklearnserver", "xgbserver", "lgbserver", "paddleserver", "huggingfaceserver", "pmmlserver"],
        ready: "/v2/health/ready",
        port: 8080,
        drains: true,
    },
    Server { name: "Ray Serve", images: &["ray-serve", "ray-llm"], ready: "/-/healthz", port: 8000, drains: true },
];

/// The model server that an image holds.
#[must_use]
pub fn server_of(image: &ImageRef) -> Option<&'static Server> {
    let base = image.base();
    SERVERS.iter().find(|server| {
        server.images.iter().any(|name| match *name {
            // `tensorflow/serving`: the last word alone is too common.
            "serving" => image.repository.ends_with("tensorflow/serving"),
            name => base == name || base.strip_prefix(name).is_some_and(|rest| rest.starts_with(['-', '_'])),
        })
    })
}

/// Namespaces in which the platform itself runs.
const PLATFORM_NAMESPACES: &[&str] = &[
    "kube-system",
    "kubeflow-system",
    "kserve",
    "kueue-system",
    "volcano-system",
    "istio-system",
    "knative-serving",
    "cert-manager",
    "kruise-system",
    "ray-system",
    "spark-operator",
    "mpi-operator",
    "argo",
    "bedplate-system",
    "gpu-operator",
    "jobset-system",
    "lws-system",
];

/// Words in an image's last segment that say that it keeps others running.
const PLATFORM_WORDS: &[&str] = &[
    "operator",
    "controller",
    "manager",
    "webhook",
    "scheduler",
    "admission",
    "device-plugin",
    "autoscaler",
    "coredns",
];

/// Words in an image's name that say that it trains.
const TRAINING_WORDS: &[&str] = &["train", "finetune", "fine-tune", "pretrain", "deepspeed", "horovod", "lightning"];

/// Words in an image's last segment of someone's desk.
const NOTEBOOK_WORDS: &[&str] = &["jupyter", "notebook", "codeserver", "code-server", "rstudio"];

pub(super) fn decide(object: &Object<'_>, row: Option<&Kind>, pods: &[PodSet<'_>]) -> (Purpose, Cow<'static, str>) {
    let label = object.label(names::PURPOSE).str().or_else(|| pods.iter().find_map(|set| set.label(names::PURPOSE)));
    if let Some(word) = label {
        let all = [Purpose::Training, Purpose::Serving, Purpose::Notebook, Purpose::Platform, Purpose::Other];
        if let Some(purpose) = all.into_iter().find(|purpose| purpose.name() == word) {
            return (purpose, format!("label {}", names::PURPOSE).into());
        }
    }
    if let Some(purpose) = row.and_then(|row| row.purpose) {
        return (purpose, format!("kind {}", object.kind).into());
    }
    if let Some(namespace) = object.namespace().filter(|namespace| PLATFORM_NAMESPACES.contains(namespace)) {
        return (Purpose::Platform, format!("namespace {namespace}").into());
    }
    let images = || pods.iter().flat_map(PodSet::main_containers).filter_map(|c| ImageRef::parse(c.image().str()?));
    if let Some((server, image)) = images().find_map(|image| Some((server_of(&image)?, image))) {
        return (Purpose::Serving, format!("image {} is {}", image.repository, server.name).into());
    }
    let has = |words: &'static [&'static str]| {
        images().find_map(|image| words.iter().find(|word| image.base().contains(**word)).map(|word| (image, *word)))
    };
    if let Some((_, word)) = has(PLATFORM_WORDS) {
        return (Purpose::Platform, format!("image name has `{word}`").into());
    }
    if let Some((_, word)) = has(NOTEBOOK_WORDS) {
        return (Purpose::Notebook, format!("image name has `{word}`").into());
    }
    let accelerators = pods.iter().any(|set| set.accelerators_each() > 0);
    // Argo runs anything: builds and reports as well as training.
    let finishes = row.is_some_and(|row| row.finishes || row.overlap.is_some() || row.computed.is_some())
        || matches!(object.kind, "Pod");
    if finishes {
        if accelerators {
            return (Purpose::Training, "runs to an end and asks for accelerators".into());
        }
        if let Some((_, word)) = has(TRAINING_WORDS) {
            return (Purpose::Training, format!("image name has `{word}`").into());
        }
        return (Purpose::Other, "no sign of training or serving".into());
    }
    let ports = pods.iter().flat_map(PodSet::main_containers).any(|c| c.field.key("ports").items().len() > 0);
    match (ports, accelerators) {
        (true, true) => (Purpose::Serving, "listens on a port and asks for accelerators".into()),
        (true, false) if matches!(object.kind, "Deployment" | "StatefulSet" | "CloneSet" | "ReplicaSet") => {
            (Purpose::Serving, "listens on a port".into())
        }
        _ => (Purpose::Other, "no sign of training or serving".into()),
    }
}
