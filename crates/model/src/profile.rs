//! The profile: what a platform wants, in `bedplate.yaml` and later in the cluster. The same
//! types give the JSON Schema for editors and the CRD.

pub(crate) mod contradiction;
pub mod schema;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{Limits, SyntaxError, parse};
use crate::exemption::{Exemption, glob};
use crate::finding::Severity;
use crate::guarantee::Guarantee;
use crate::names;
use crate::path::FieldPath;
use crate::value::{Node, Span};
use crate::workload::kinds::crd_groups;

/// What a platform team wants of its cluster. `spec: {}` protects with good defaults.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StabilityProfile {
    /// `bedplate.dev/v1alpha1`
    pub api_version: String,
    /// `StabilityProfile`
    pub kind: String,
    /// The name, as of every Kubernetes object.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is wanted.
    #[serde(default)]
    pub spec: Spec,
}

/// Why one subject need not follow one rule, and until when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExemptionObject {
    /// `bedplate.dev/v1alpha1`
    pub api_version: String,
    /// `Exemption`
    pub kind: String,
    /// The name, as of every Kubernetes object.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is exempt, why, and until when.
    pub spec: Exemption,
}

/// A name; everything else that Kubernetes puts here is passed over.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Metadata {
    /// The name.
    #[serde(default)]
    pub name: String,
}

/// What is wanted of the whole cluster, and where a namespace differs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Settings that hold everywhere.
    #[serde(flatten)]
    pub settings: Settings,
    /// Settings of some namespaces, which win over those above. Of two entries for a namespace the later one wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub namespaces: Vec<NamespaceSettings>,
}

/// A registry: no scheme, no star, no tag (`distribution/reference`, `domain` and `path-component`).
const REGISTRY: &str = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$";
pub(crate) const NAMESPACE: &str = "^[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?$";
pub(crate) const NAME: &str = "^[a-z0-9*]([a-z0-9*.-]*[a-z0-9*])?$";
const RULE: &str = "^[a-z0-9-]+$";
const ACCOUNT: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?:[a-z0-9]([a-z0-9.-]*[a-z0-9])?$";

/// Patterns of texts, and what they are called to people.
const PATTERNS: &[(&str, &str)] = &[
    (
        REGISTRY,
        "a host and a path, such as `registry.example.com` or `docker.io/kubeflow`, without `https://`, `*` and tag",
    ),
    (NAMESPACE, "the name of a namespace: lower-case letters, digits and `-`, and `*` for any text"),
    (NAME, "a name: lower-case letters, digits, `-` and `.`, and `*` for any text"),
    (RULE, "the name of a rule"),
    (ACCOUNT, "a service account as `NAMESPACE:NAME`, such as `ml-platform:training-operator`"),
];

/// Settings of some namespaces.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSettings {
    /// The namespaces; `*` stands for any text.
    #[schemars(length(min = 1, max = 32), inner(length(max = 63), regex(pattern = NAMESPACE)))]
    pub names: Vec<String>,
    /// What differs in them.
    #[serde(flatten)]
    pub settings: Settings,
}

/// Settings, one section a guarantee. What is missing has the default that its text names.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Severity of rules that differs from their own: `off`, `info`, `warning` or `error`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128))]
    pub rules: BTreeMap<String, Level>,
    /// How strictly guards hold on a cluster, by rule (`gpu-ceiling`) or by guarantee (`admission`); a rule's own word
    /// wins. Default `enforce`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128))]
    pub modes: BTreeMap<String, Mode>,
    /// Rules whose fixes the webhook makes in what is created, and in what a change brings, before it is judged: such as
    /// `ndots-trap`, `grace-too-short`, `eviction-counted-as-failure`. Also fixes that may change behaviour, since the rule
    /// is named; who creates an object is warned of each. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), inner(length(max = 63), regex(pattern = RULE)))]
    pub fixes: Option<Vec<String>>,
    /// No job takes more than its share, and only trusted images run.
    pub admission: Admission,
    /// What everything hangs on cannot be deleted by mistake.
    pub deletion: Deletion,
    /// A flood never starves the controllers.
    pub fairness: Fairness,
    /// An outside name costs two queries, not ten.
    pub dns: Dns,
    /// PID 1 forwards signals and reaps children.
    pub image: Image,
    /// A termination costs no training progress.
    pub training: Training,
    /// A new version drops no request.
    pub serving: Serving,
}

/// How bad a rule's findings are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The rule does not run.
    Off,
    /// Worth knowing.
    Info,
    /// Will hurt when something else goes wrong too.
    Warning,
    /// Brings something down by itself.
    Error,
}

impl<'de> Deserialize<'de> for Level {
    /// `off` without quotes is `false` to YAML 1.1, and people will write it without.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Bool(false) => Ok(Self::Off),
            serde_json::Value::String(word) => match word.as_str() {
                "off" => Ok(Self::Off),
                "info" => Ok(Self::Info),
                "warning" => Ok(Self::Warning),
                "error" => Ok(Self::Error),
                _ => Err(serde::de::Error::custom(format!("`{word}` is no level"))),
            },
            _ => Err(serde::de::Error::custom("a level is one word")),
        }
    }
}

impl Level {
    /// The severity; nothing for `off`.
    #[must_use]
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Self::Off => None,
            Self::Info => Some(Severity::Info),
            Self::Warning => Some(Severity::Warning),
            Self::Error => Some(Severity::Error),
        }
    }
}

/// How strictly a guard holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing happens.
    Off,
    /// The API server's audit log has it.
    Audit,
    /// The user sees a warning.
    Warn,
    /// The request is refused.
    Enforce,
}

impl Mode {
    /// Every mode in which a guard does something.
    pub const ACTIVE: [Self; 3] = [Self::Enforce, Self::Warn, Self::Audit];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Audit => "audit",
            Self::Warn => "warn",
            Self::Enforce => "enforce",
        }
    }
}

impl<'de> Deserialize<'de> for Mode {
    /// `off` without quotes is `false` to YAML 1.1.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let word = if value == false { Some("off") } else { value.as_str() };
        [Self::Off, Self::Audit, Self::Warn, Self::Enforce]
            .into_iter()
            .find(|mode| Some(mode.name()) == word)
            .ok_or_else(|| serde::de::Error::custom("a mode is `off`, `audit`, `warn` or `enforce`"))
    }
}

/// Limits on what may be asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Admission {
    /// Most accelerators of one job, all its pods together. Default 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerators_per_job: Option<u64>,
    /// Most accelerators of one pod. Default 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerators_per_pod: Option<u64>,
    /// Most accelerators of a search or a fan-out, all its trials together. Default 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerators_per_search: Option<u64>,
    /// Most accelerators that the unfinished workloads of a namespace ask for together. Default no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerators_per_namespace: Option<u64>,
    /// Most accelerators that the unfinished workloads of a queue (Kueue, Volcano, KAI, YuniKorn) ask for together. Default
    /// no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerators_per_queue: Option<u64>,
    /// Most trials that the searches of a namespace run at once, all together. Default no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trials_per_namespace: Option<u64>,
    /// Where images may come from, such as `registry.example.com` or `docker.io/kubeflow`.
    /// Default: the registries that the projects of the field publish in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(max = 255), regex(pattern = REGISTRY)))]
    pub registries: Option<Vec<String>>,
}

/// What is protected from deletion.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Deletion {
    /// Namespaces that production depends on; `*` stands for any text. Default `prod`,
    /// `prod-*`, `*-prod`, the same with `production`, `kubeflow`, `kserve`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63), regex(pattern = NAMESPACE)))]
    pub production_namespaces: Option<Vec<String>>,
    /// API groups whose CRDs may not be deleted, besides those that models and jobs hang on; `*` stands for any text, and
    /// alone for every CRD. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 253), regex(pattern = NAME)))]
    pub crd_groups: Option<Vec<String>>,
}

/// What the API server has to share out, and how: in the mode `enforce` the platform's controllers have a lane of their
/// own, and users a low one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Fairness {
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight` of one API server
    /// together. Default 600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_concurrency: Option<u32>,
    /// Service accounts of controllers besides those that are known and found running, as `NAMESPACE:NAME`. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(max = 317), regex(pattern = ACCOUNT)))]
    pub controllers: Option<Vec<String>>,
    /// Namespaces of users besides Kubeflow's profiles; `*` stands for any text. Their service accounts ride in the low
    /// lane. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63), regex(pattern = NAMESPACE)))]
    pub user_namespaces: Option<Vec<String>>,
    /// Shares of the controllers' lane. Every level of the server gives some: those that it brings have 245 together.
    /// Default 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub controller_shares: Option<u32>,
    /// Shares of the users' lane, which borrows none. Default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub user_shares: Option<u32>,
}

/// How names are looked up.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Dns {
    /// The cluster's domain. Default `cluster.local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_domain: Option<String>,
    /// Whether CoreDNS is known to answer outside names at the first query (autopath). Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autopath: Option<bool>,
}

/// What counts as an init.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    /// Programs besides tini, dumb-init and catatonit that forward signals and reap children.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inits: Option<Vec<String>>,
}

/// What a termination may cost.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Training {
    /// Seconds that a training pod needs to save its state. Default 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u64>,
    /// Hours of accelerators, of all pods together, that a training may lose with its pods: those since its last
    /// checkpoint. Default 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerator_hours_at_risk: Option<u64>,
}

/// What a rollout may cost.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Serving {
    /// Seconds that a server needs to finish open requests. Default 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<u64>,
}

/// Where the projects of the field publish their images.
pub const REGISTRIES: &[&str] = &[
    "registry.k8s.io",
    "nvcr.io",
    "gcr.io/distroless",
    "gcr.io/ml-pipeline",
    "ghcr.io/kubeflow",
    "ghcr.io/kserve",
    "ghcr.io/huggingface",
    "quay.io/jupyter",
    "quay.io/argoproj",
    "quay.io/kuberay",
    "docker.io/kubeflow",
    "docker.io/kubeflowkatib",
    "docker.io/kubeflownotebookswg",
    "docker.io/kserve",
    "docker.io/rayproject",
    "docker.io/volcanosh",
    "docker.io/mpioperator",
    "docker.io/pytorch",
    "docker.io/tensorflow",
    "docker.io/vllm",
    "docker.io/lmsysorg",
    "docker.io/seldonio",
    "docker.io/apache",
    "docker.io/openkruise",
    "docker.io/library",
];

/// `--max-requests-inflight` and `--max-mutating-requests-inflight` of an API server together, where nobody has set them.
pub const SERVER_CONCURRENCY: u32 = 600;

/// Shares of the controllers' lane and of the users', where nobody has said how many. With the 245 of every server they are
/// 280, so that no level that it brings loses more than an eighth of its seats.
pub const LANE_SHARES: [u32; 2] = [30, 5];

/// Namespaces that are production where nobody has said which are.
pub const PRODUCTION: &[&str] =
    &["prod", "prod-*", "*-prod", "production", "production-*", "*-production", "kubeflow", "kserve"];

impl Settings {
    /// Most accelerators of one job.
    #[must_use]
    pub fn accelerators_per_job(&self) -> u64 {
        self.admission.accelerators_per_job.unwrap_or(8)
    }

    /// Most accelerators of one pod.
    #[must_use]
    pub fn accelerators_per_pod(&self) -> u64 {
        self.admission.accelerators_per_pod.unwrap_or(8)
    }

    /// Most accelerators of a search.
    #[must_use]
    pub fn accelerators_per_search(&self) -> u64 {
        self.admission.accelerators_per_search.unwrap_or(64)
    }

    /// Whether anything is limited that takes counting what is there already.
    #[must_use]
    pub fn counts(&self) -> bool {
        let Admission { accelerators_per_namespace, accelerators_per_queue, trials_per_namespace, .. } = self.admission;
        accelerators_per_namespace.or(accelerators_per_queue).or(trials_per_namespace).is_some()
    }

    /// How strictly a guard holds.
    #[must_use]
    pub fn mode(&self, rule: &str, guarantee: Guarantee) -> Mode {
        if self.rules.get(rule) == Some(&Level::Off) {
            return Mode::Off;
        }
        self.modes.get(rule).or_else(|| self.modes.get(guarantee.name())).copied().unwrap_or(Mode::Enforce)
    }

    /// Rules whose fixes the webhook makes.
    #[must_use]
    pub fn fixes(&self) -> Vec<&str> {
        list(self.fixes.as_deref(), &[])
    }

    /// Trusted registries.
    #[must_use]
    pub fn registries(&self) -> Vec<&str> {
        list(self.admission.registries.as_deref(), REGISTRIES)
    }

    /// Patterns of production namespaces.
    #[must_use]
    pub fn production_namespaces(&self) -> Vec<&str> {
        list(self.deletion.production_namespaces.as_deref(), PRODUCTION)
    }

    /// Patterns of API groups whose CRDs may not be deleted, besides those of the field.
    #[must_use]
    pub fn crd_groups(&self) -> Vec<&str> {
        list(self.deletion.crd_groups.as_deref(), &[])
    }

    /// Whether a CRD of an API group may not be deleted.
    #[must_use]
    pub fn protects_crds_of(&self, group: &str) -> bool {
        crd_groups().contains(&group) || self.crd_groups().iter().any(|pattern| glob(pattern, group))
    }

    /// The API server's concurrency.
    #[must_use]
    pub fn server_concurrency(&self) -> u32 {
        self.fairness.server_concurrency.unwrap_or(SERVER_CONCURRENCY)
    }

    /// Service accounts of controllers, as namespace and name, besides those that are known.
    pub fn controllers(&self) -> impl Iterator<Item = (&str, &str)> {
        list(self.fairness.controllers.as_deref(), &[]).into_iter().filter_map(|account| account.split_once(':'))
    }

    /// Patterns of namespaces of users, besides profiles.
    #[must_use]
    pub fn user_namespaces(&self) -> Vec<&str> {
        list(self.fairness.user_namespaces.as_deref(), &[])
    }

    /// Shares of the controllers' lane.
    #[must_use]
    pub fn controller_shares(&self) -> u32 {
        self.fairness.controller_shares.unwrap_or(LANE_SHARES[0])
    }

    /// Shares of the users' lane.
    #[must_use]
    pub fn user_shares(&self) -> u32 {
        self.fairness.user_shares.unwrap_or(LANE_SHARES[1])
    }

    /// The cluster's domain.
    #[must_use]
    pub fn cluster_domain(&self) -> &str {
        self.dns.cluster_domain.as_deref().unwrap_or("cluster.local")
    }

    /// Declared inits besides the well-known ones.
    #[must_use]
    pub fn inits(&self) -> Vec<&str> {
        list(self.image.inits.as_deref(), &[])
    }

    /// Seconds to save a training state.
    #[must_use]
    pub fn grace_seconds(&self) -> u64 {
        self.training.grace_seconds.unwrap_or(300)
    }

    /// Hours of accelerators that a training may lose.
    #[must_use]
    pub fn accelerator_hours_at_risk(&self) -> u64 {
        self.training.accelerator_hours_at_risk.unwrap_or(16)
    }

    /// Seconds to finish open requests.
    #[must_use]
    pub fn drain_seconds(&self) -> u64 {
        self.serving.drain_seconds.unwrap_or(30)
    }

    /// These settings with another's where that says something.
    fn with(&self, over: &Self) -> Self {
        let mut rules = self.rules.clone();
        rules.extend(over.rules.iter().map(|(rule, level)| (rule.clone(), *level)));
        let mut modes = self.modes.clone();
        modes.extend(over.modes.iter().map(|(name, mode)| (name.clone(), *mode)));
        let (a, b) = (self, over);
        Self {
            rules,
            modes,
            fixes: b.fixes.clone().or_else(|| a.fixes.clone()),
            admission: Admission {
                accelerators_per_job: b.admission.accelerators_per_job.or(a.admission.accelerators_per_job),
                accelerators_per_pod: b.admission.accelerators_per_pod.or(a.admission.accelerators_per_pod),
                accelerators_per_search: b.admission.accelerators_per_search.or(a.admission.accelerators_per_search),
                accelerators_per_namespace: b
                    .admission
                    .accelerators_per_namespace
                    .or(a.admission.accelerators_per_namespace),
                accelerators_per_queue: b.admission.accelerators_per_queue.or(a.admission.accelerators_per_queue),
                trials_per_namespace: b.admission.trials_per_namespace.or(a.admission.trials_per_namespace),
                registries: b.admission.registries.clone().or_else(|| a.admission.registries.clone()),
            },
            deletion: Deletion {
                production_namespaces: b
                    .deletion
                    .production_namespaces
                    .clone()
                    .or_else(|| a.deletion.production_namespaces.clone()),
                crd_groups: b.deletion.crd_groups.clone().or_else(|| a.deletion.crd_groups.clone()),
            },
            // Lanes are of the whole cluster: a namespace has no word in them.
            fairness: Fairness {
                server_concurrency: b.fairness.server_concurrency.or(a.fairness.server_concurrency),
                ..a.fairness.clone()
            },
            dns: Dns {
                cluster_domain: b.dns.cluster_domain.clone().or_else(|| a.dns.cluster_domain.clone()),
                autopath: b.dns.autopath.or(a.dns.autopath),
            },
            image: Image { inits: b.image.inits.clone().or_else(|| a.image.inits.clone()) },
            training: Training {
                grace_seconds: b.training.grace_seconds.or(a.training.grace_seconds),
                accelerator_hours_at_risk: b
                    .training
                    .accelerator_hours_at_risk
                    .or(a.training.accelerator_hours_at_risk),
            },
            serving: Serving { drain_seconds: b.serving.drain_seconds.or(a.serving.drain_seconds) },
        }
    }
}

fn list<'a>(set: Option<&'a [String]>, default: &[&'a str]) -> Vec<&'a str> {
    set.map_or_else(|| default.to_vec(), |set| set.iter().map(String::as_str).collect())
}

/// A profile ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    settings: Settings,
    namespaces: Vec<(Vec<String>, Settings)>,
    /// The exemptions, each with its place in the profile's text.
    pub exemptions: Vec<(Exemption, Span)>,
}

impl Profile {
    /// The settings of a namespace. The namespace of an object that names none is not known:
    /// it gets the settings that hold everywhere.
    #[must_use]
    pub fn settings(&self, namespace: Option<&str>) -> &Settings {
        namespace
            .and_then(|namespace| {
                self.namespaces.iter().rev().find(|(names, _)| names.iter().any(|pattern| glob(pattern, namespace)))
            })
            .map_or(&self.settings, |(_, settings)| settings)
    }

    /// Patterns of namespaces that have settings of their own, and those; of two that match the later one wins.
    pub fn namespaces(&self) -> impl Iterator<Item = (&[String], &Settings)> {
        self.namespaces.iter().map(|(names, settings)| (names.as_slice(), settings))
    }

    /// Whether anything is limited anywhere that takes counting what is there already.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.settings.counts() || self.namespaces.iter().any(|(_, settings)| settings.counts())
    }

    /// Whether the webhook makes the fixes of a rule anywhere.
    #[must_use]
    pub fn fixes(&self, rule: &str) -> bool {
        let mut settings = std::iter::once(&self.settings).chain(self.namespaces.iter().map(|(_, settings)| settings));
        settings.any(|settings| settings.fixes().contains(&rule))
    }

    /// Reads `bedplate.yaml`: a `StabilityProfile` and any number of `Exemption`s.
    ///
    /// # Errors
    /// Every mistake with its place: unknown keys (with the nearest known one), wrong types,
    /// rules that do not exist, dates that are none. `known_rules` are the names of all rules.
    pub fn parse(text: &str, known_rules: &[&str]) -> Result<Self, Vec<SyntaxError>> {
        let parsed = parse(text, &Limits::DEFAULT);
        let mut errors = parsed.errors;
        let mut profile = Self::default();
        let mut seen = false;
        for document in &parsed.documents {
            let root = &document.root;
            match read(root, known_rules) {
                Ok(Own::Exemption(exemption)) => {
                    let span = FieldPath::default().key("spec").key("expires").locate(root).span();
                    profile.exemptions.push((exemption, span));
                }
                Ok(Own::Profile(_)) if std::mem::replace(&mut seen, true) => {
                    let span = FieldPath::default().key("kind").locate(root).span();
                    let message = "a second StabilityProfile in one file".to_owned();
                    errors.push(SyntaxError { message, span, help: None });
                }
                Ok(Own::Profile(spec)) => {
                    let entries = spec.namespaces.into_iter();
                    profile.namespaces =
                        entries.map(|entry| (entry.names, spec.settings.with(&entry.settings))).collect();
                    profile.settings = spec.settings;
                }
                Err(found) => errors.extend(found),
            }
        }
        if errors.is_empty() { Ok(profile) } else { Err(errors) }
    }

    /// Every mistake of a document that is a `StabilityProfile` or an `Exemption`, wherever it stands.
    #[must_use]
    pub fn mistakes(root: &Node, known_rules: &[&str]) -> Vec<SyntaxError> {
        read(root, known_rules).err().unwrap_or_default()
    }

    /// The JSON Schema of `bedplate.yaml`, for editors.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "bedplate.yaml",
            "oneOf": [schemars::schema_for!(StabilityProfile), schemars::schema_for!(ExemptionObject)],
        })
    }
}

/// What an object of a kind of our own says.
enum Own {
    Profile(Box<Spec>),
    Exemption(Exemption),
}

/// Reads an object of a kind of our own, or gives all its mistakes.
fn read(root: &Node, known_rules: &[&str]) -> Result<Own, Vec<SyntaxError>> {
    let fail = |path: FieldPath, message: String, help: Option<String>| {
        vec![SyntaxError { message, span: path.locate(root).span(), help }]
    };
    let top = |key: &'static str| FieldPath::default().key(key);
    let text = |key: &str| root.get(key).and_then(|node| node.as_str()).unwrap_or_default();
    let schema = match text("kind") {
        "StabilityProfile" => schemars::schema_for!(StabilityProfile),
        "Exemption" => schemars::schema_for!(ExemptionObject),
        _ => {
            let message = "expected `kind: StabilityProfile` or `kind: Exemption`".to_owned();
            return Err(fail(top("kind"), message, Some(format!("start with `apiVersion: {}`", names::API_VERSION))));
        }
    };
    if text("apiVersion") != names::API_VERSION {
        return Err(fail(top("apiVersion"), format!("expected `apiVersion: {}`", names::API_VERSION), None));
    }
    let mut errors = schema::check(root, schema.as_value());
    if !errors.is_empty() {
        return Err(errors);
    }
    let unreadable = |error: serde_json::Error| fail(top("spec"), error.to_string(), None);
    let (json, spec) = (root.to_json(), top("spec"));
    let mut tell = |found: Vec<Mistake>| {
        for Mistake { path, message, help } in found {
            errors.push(SyntaxError { message, span: path.locate(root).span(), help });
        }
    };
    let own = if text("kind") == "Exemption" {
        let object: ExemptionObject = serde_json::from_value(json).map_err(unreadable)?;
        let rule = &object.spec.rule;
        tell(unknown(rule, known_rules, "rule", spec.clone().key("rule")).into_iter().collect());
        tell(contradiction::find(contradiction::EXEMPTION, &object.spec, &spec));
        Own::Exemption(object.spec)
    } else {
        let object: StabilityProfile = serde_json::from_value(json).map_err(unreadable)?;
        let everywhere = NamespaceSettings { names: Vec::new(), settings: object.spec.settings.clone() };
        tell(mistakes(&everywhere, known_rules, &spec));
        for (i, entry) in object.spec.namespaces.iter().enumerate() {
            tell(mistakes(entry, known_rules, &spec.clone().key("namespaces").index(i)));
        }
        tell(contradiction::find(contradiction::SPEC, &object.spec, &spec));
        Own::Profile(Box::new(object.spec))
    };
    if errors.is_empty() { Ok(own) } else { Err(errors) }
}

/// A mistake at a place of its object.
struct Mistake {
    path: FieldPath,
    message: String,
    help: Option<String>,
}

/// Names in settings that mean nothing, and what contradicts itself.
fn mistakes(entry: &NamespaceSettings, known_rules: &[&str], at: &FieldPath) -> Vec<Mistake> {
    let settings = &entry.settings;
    let mut modes = Guarantee::ALL.map(Guarantee::name).to_vec();
    modes.extend_from_slice(known_rules);
    let key = |part: &'static str, name: &str| at.clone().key(part).key(name);
    let rules = settings.rules.keys().filter_map(|name| unknown(name, known_rules, "rule", key("rules", name)));
    let named = settings.modes.keys().filter_map(|name| unknown(name, &modes, "rule or guarantee", key("modes", name)));
    let fixes = settings.fixes().into_iter().enumerate();
    let fixes = fixes.filter_map(|(i, name)| unknown(name, known_rules, "rule", at.clone().key("fixes").index(i)));
    let mut found: Vec<_> = rules.chain(named).chain(fixes).collect();
    found.extend(contradiction::find(contradiction::SETTINGS, entry, at));
    found
}

fn unknown(name: &str, known: &[&str], what: &str, path: FieldPath) -> Option<Mistake> {
    let help = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
    (!known.contains(&name)).then(|| Mistake { path, message: format!("there is no {what} `{name}`"), help })
}

/// The nearest of some names, where one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // What both begin with changes no distance, and is cheap to leave out.
    let distance = |other: &str| {
        let same =
            name.chars().zip(other.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum::<usize>();
        strsim::damerau_levenshtein(&name[same..], &other[same..])
    };
    known
        .iter()
        .map(|other| (distance(other), *other))
        .min()
        .filter(|(distance, other)| *distance <= 1 + other.len() / 4)
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<(String, Option<String>)> {
        Profile::parse(text, &["gpu-ceiling", "no-init"])
            .unwrap_err()
            .into_iter()
            .map(|e| (e.message, e.help))
            .collect()
    }

    const HEAD: &str = "apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\n";

    #[test]
    fn a_namespace_overrides_what_holds_everywhere() {
        let text = format!(
            "{HEAD}spec:\n  admission: {{acceleratorsPerJob: 16}}\n  namespaces:\n  - names: [team-*]\n    admission: {{acceleratorsPerPod: 2}}\n    rules: {{no-init: off}}\n"
        );
        let profile = Profile::parse(&text, &["no-init"]).unwrap();
        let team = profile.settings(Some("team-a"));
        assert_eq!((team.accelerators_per_job(), team.accelerators_per_pod()), (16, 2));
        assert_eq!(team.rules["no-init"], Level::Off);
        assert_eq!(profile.settings(Some("other")).accelerators_per_pod(), 8);
    }

    #[test]
    fn a_mistyped_key_is_named_with_the_one_that_was_meant() {
        let text = format!("{HEAD}spec:\n  admision: {{}}\n");
        assert_eq!(
            errors(&text),
            [("unknown key `admision`".to_owned(), Some("did you mean `admission`?".to_owned()))]
        );
        let text = format!("{HEAD}spec:\n  admission: {{acceleratorsPerJob: many}}\n");
        assert_eq!(errors(&text)[0].0, "expected a whole number, found a string");
        let text = format!("{HEAD}spec:\n  rules: {{gpu-cieling: off}}\n");
        assert_eq!(errors(&text)[0].1.as_deref(), Some("did you mean `gpu-ceiling`?"));
        let text = format!("{HEAD}spec:\n  rules: {{gpu-ceiling: loud}}\n");
        assert_eq!(errors(&text)[0].0, "expected one of `off`, `info`, `warning`, `error`, found `loud`");
    }

    #[test]
    fn what_contradicts_itself_is_told_with_its_place() {
        let found = |spec: &str| {
            let errors = Profile::parse(&format!("{HEAD}spec: {spec}\n"), &["gpu-ceiling"]).unwrap_err();
            errors.into_iter().map(|error| (error.message, error.span.start as usize - HEAD.len())).collect::<Vec<_>>()
        };
        let told = found("{admission: {acceleratorsPerJob: 4, acceleratorsPerPod: 8}}");
        assert_eq!(told, [("a pod may have more accelerators than its whole job".to_owned(), 62)]);
        let told = found("{namespaces: [{names: [team, kube-system], admission: {registries: []}}]}");
        assert_eq!(told[0].0, "no registry is trusted, so every image would be refused");
        assert_eq!(
            told[1].0,
            "no guard ever looks into the namespaces of the system, which a cluster needs to come back"
        );
        let told = found("{namespaces: [{names: [team], modes: {gpu-cieling: warn}}]}");
        assert_eq!(told[0].0, "there is no rule or guarantee `gpu-cieling`");
        let told = found("{rules: {gpu-ceiling: off}, modes: {gpu-ceiling: enforce}}");
        assert_eq!(told[0].0, "a rule that is off under `rules` has a mode, which does nothing");
        let told = found("{namespaces: [{names: [a, b]}, {names: [b]}]}");
        assert_eq!(told[0].0, "a name stands in two entries, of which only the later one holds there");
        let told = found("{namespaces: [{names: []}]}");
        assert_eq!(told[0].0, "expected at least 1 item, found 0");
        let told = found("{deletion: {productionNamespaces: [Prod]}}");
        assert!(told[0].0.starts_with("expected the name of a namespace") && told[0].0.ends_with("found `Prod`"));
        let told = found("{admission: {registries: [\"https://ghcr.io\"]}}");
        assert!(told[0].0.contains("without `https://`"), "{told:?}");
        let told = found("{fairness: {controllers: [training-operator]}}");
        assert!(told[0].0.starts_with("expected a service account as `NAMESPACE:NAME`"), "{told:?}");
        let told = found("{fairness: {controllers: [\"kube-system:mine\"], controllerShares: 10, userShares: 20}}");
        assert_eq!(told[0].0, "accounts of kube-system have a lane of the API server's own");
        assert_eq!(told[1].0, "users would have more of the API server than what they depend on");
        let told = found("{fairness: {userShares: 0}}");
        assert_eq!(told[0].0, "expected at least 1, found 0");
        let told = found("{fairness: {userShares: 20000}}");
        assert_eq!(told[0].0, "expected at most 10000, found 20000");
        let told =
            found("{namespaces: [{names: [team], fairness: {userShares: 1}}, {names: [b], modes: {fairness: warn}}]}");
        assert_eq!(told[0].0, "lanes are of the whole cluster, and no namespace has its own");
        // One number alone contradicts nothing: the other is the default's.
        assert!(Profile::parse(&format!("{HEAD}spec: {{admission: {{acceleratorsPerJob: 4}}}}\n"), &[]).is_ok());
    }

    #[test]
    fn a_catalogue_of_products_is_no_production() {
        let settings = Settings::default();
        let production = |name: &str| settings.production_namespaces().iter().any(|pattern| glob(pattern, name));
        assert!(
            production("prod") && production("prod-models") && production("ml-prod") && production("production-eu")
        );
        assert!(!production("product-catalog") && !production("productivity"));
    }

    #[test]
    fn an_exemption_needs_all_four() {
        let text = "apiVersion: bedplate.dev/v1alpha1\nkind: Exemption\nspec:\n  rule: no-init\n  subject: {name: a}\n  reason: x\n  expires: 2026-13-01\n";
        assert_eq!(errors(text)[0], ("not a day".to_owned(), Some("write it as YYYY-MM-DD".to_owned())));
        let text = "apiVersion: bedplate.dev/v1alpha1\nkind: Exemption\nspec:\n  rule: no-init\n  subject: {name: a}\n  expires: 2026-12-01\n";
        assert_eq!(errors(text)[0].0, "missing key `reason`");
        let text = "apiVersion: bedplate.dev/v1alpha1\nkind: Exemption\nspec: {rule: no-init, subject: {name: a}, reason: \" \", expires: 2026-02-30}\n";
        assert_eq!(errors(text).len(), 2);
    }
}
