//! Pods and containers of a workload, and what the scheduler would count for them.

use std::collections::BTreeMap;

use super::argo;
use super::count::{Factor, Replicas, Wild, expand, replicas, resolve};
use super::kinds::{self, Computed, Kind, Role, Shape};
use crate::accelerator;
use crate::field::Field;
use crate::object::Object;
use crate::quantity;
use crate::value::{Node, Value};

/// The pods of one role.
#[derive(Clone, Debug)]
pub struct PodSet<'a> {
    /// The role: `Worker`, `head`, `trial / Worker`.
    pub role: String,
    /// How many.
    pub replicas: Replicas,
    /// `metadata` of the pods; missing where the kind has none.
    pub metadata: Field<'a>,
    /// The PodSpec, or what stands in its place.
    pub spec: Field<'a>,
    /// What stands at [`Self::spec`].
    pub shape: Shape,
    /// All containers, in the order in which they start.
    pub containers: Vec<Container<'a>>,
}

/// What kind of container it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContainerRole {
    /// Runs to its end before the others start.
    Init,
    /// An init container with `restartPolicy: Always`: stays.
    Sidecar,
    /// The pod's work.
    Main,
    /// Added to a running pod for debugging.
    Ephemeral,
}

/// A container of a pod.
#[derive(Clone, Debug)]
pub struct Container<'a> {
    /// Its kind.
    pub role: ContainerRole,
    /// The container itself.
    pub field: Field<'a>,
    /// Its resources.
    pub resources: Field<'a>,
    /// Its image.
    pub image: Field<'a>,
    /// Its accelerators: many rules ask for them.
    accelerators: Total<'a>,
}

/// Accelerators by resource name.
pub type Total<'a> = BTreeMap<&'a str, u64>;

impl<'a> Container<'a> {
    pub(super) fn new(role: ContainerRole, field: Field<'a>, resources: Field<'a>, image: Field<'a>) -> Self {
        let accelerators = accelerators(&field, &resources);
        Self { role, field, resources, image, accelerators }
    }

    /// Its name, or its key where the kind has one container by role.
    #[must_use]
    pub fn name(&self) -> String {
        self.field.key("name").scalar().unwrap_or_else(|| self.field.last())
    }

    /// Its image.
    #[must_use]
    pub fn image(&self) -> Field<'a> {
        self.image.clone()
    }

    /// `command` and `args`, one after the other.
    #[must_use]
    pub fn command_line(&self) -> Vec<&'a str> {
        self.field.key("command").strings().chain(self.field.key("args").strings()).collect()
    }

    /// What it asks for of a resource: its limit, which for accelerators is the request too.
    #[must_use]
    pub fn quantity(&self, resource: &str) -> Option<u64> {
        ["limits", "requests"].iter().find_map(|part| {
            let node = self.resources.key(part).node()?.get(resource)?;
            quantity::count(&node.value)
        })
    }

    /// Its accelerators.
    #[must_use]
    pub const fn accelerators(&self) -> &Total<'a> {
        &self.accelerators
    }
}

fn accelerators<'a>(field: &Field<'a>, resources: &Field<'a>) -> Total<'a> {
    let mut total = Total::new();
    // The API server takes no request that differs from the limit, but a template may have both.
    for part in ["requests", "limits"] {
        let Some(Value::Map(entries)) = resources.key(part).value() else { continue };
        for entry in entries {
            if accelerator::find(&entry.key).is_some_and(|row| row.counts)
                && let Some(count) = quantity::count(&entry.value.value)
            {
                let known = total.entry(&entry.key).or_default();
                *known = (*known).max(count);
            }
        }
    }
    // Spark's own words for the same (`sparkoperator.k8s.io/v1beta2`, GPUSpec).
    let gpu = field.key("gpu");
    if let (Some(name), Some(count)) = (gpu.key("name").str(), gpu.key("quantity").u64()) {
        let known = total.entry(name).or_default();
        *known = known.saturating_add(count);
    }
    total
}

impl<'a> PodSet<'a> {
    /// Accelerators of one pod, as the scheduler counts them: the larger of what runs together
    /// and of each init container with the sidecars that started before it (KEP-753); a
    /// pod-level limit (KEP-2837) in place of the sum.
    #[must_use]
    pub fn accelerators_per_pod(&self) -> Total<'a> {
        let mut running = Total::new();
        let mut sidecars = Total::new();
        let mut peak = Total::new();
        let raise = |peak: &mut Total<'a>, by: &Total<'a>| {
            for (name, count) in by {
                let entry = peak.entry(name).or_default();
                *entry = (*entry).max(*count);
            }
        };
        let add = |to: &mut Total<'a>, more: &Total<'a>| {
            for (name, count) in more {
                let entry = to.entry(name).or_default();
                *entry = entry.saturating_add(*count);
            }
        };
        for container in &self.containers {
            let own = &container.accelerators;
            match container.role {
                ContainerRole::Init => {
                    let mut with_sidecars = own.clone();
                    add(&mut with_sidecars, &sidecars);
                    raise(&mut peak, &with_sidecars);
                }
                ContainerRole::Sidecar => {
                    add(&mut sidecars, own);
                    add(&mut running, own);
                }
                ContainerRole::Main => add(&mut running, own),
                // Ephemeral containers may not ask for resources.
                ContainerRole::Ephemeral => {}
            }
        }
        raise(&mut peak, &running);
        peak
    }

    /// Accelerators of one pod, whatever their names.
    #[must_use]
    pub fn accelerators_each(&self) -> u64 {
        self.accelerators_per_pod().values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Accelerators of all its pods.
    #[must_use]
    pub fn accelerators(&self) -> u64 {
        self.accelerators_each().saturating_mul(self.replicas.count)
    }

    /// `spec.terminationGracePeriodSeconds`, 30 where it is not set.
    #[must_use]
    pub fn grace_seconds(&self) -> u64 {
        self.spec.key("terminationGracePeriodSeconds").u64().unwrap_or(30)
    }

    /// Containers that do the pod's work.
    pub fn main_containers(&self) -> impl Iterator<Item = &Container<'a>> {
        self.containers.iter().filter(|container| container.role == ContainerRole::Main)
    }

    /// Whether the fields of a PodSpec can stand here at all.
    #[must_use]
    pub const fn has_pod_spec(&self) -> bool {
        !matches!(self.shape, Shape::Spark | Shape::Trainer)
    }

    /// Names of the DRA claims of the pod.
    #[must_use]
    pub fn claims(&self) -> Vec<Field<'a>> {
        self.spec.key("resourceClaims").items().collect()
    }

    /// A label of the pods.
    #[must_use]
    pub fn label(&self, name: &'a str) -> Option<&'a str> {
        self.metadata.key("labels").key(name).str()
    }
}

/// The deepest that workloads may stand in one another.
const MAX_EMBEDDED: usize = 4;

/// Finds pods by the kind's row.
pub(super) fn by_row<'a>(
    object: &Object<'a>,
    row: &'static Kind,
    outer: &[Factor],
    out: &mut Vec<PodSet<'a>>,
    depth: usize,
) {
    let times = |mut inner: Replicas| {
        let mut all = Replicas { per_node: inner.per_node, unbounded: inner.unbounded.take(), ..Replicas::one() };
        for factor in outer.iter().cloned().chain(inner.factors.drain(..)) {
            all.times(factor);
        }
        all
    };
    for pods in row.pods {
        for (field, wild) in expand(&object.root, pods.path) {
            if !field.exists() {
                continue;
            }
            let role = role_name(pods.role, &field, &wild, object, pods.path);
            let mut set = pod_set(role, field, pods.shape, times(replicas(&object.root, pods.count, &wild)));
            if pods.shape == Shape::Spark
                && let Some((application, _)) = pods.path.rsplit_once('.')
            {
                // Driver and executor take the application's image where they have none.
                let shared = resolve(&object.root, application, &wild).key("image");
                set.containers.iter_mut().filter(|c| !c.image.exists()).for_each(|c| c.image = shared.clone());
            }
            out.push(set);
        }
    }
    if row.computed == Some(Computed::Argo) {
        argo::multiply(object, out);
    }
    if depth >= MAX_EMBEDDED {
        return;
    }
    for embed in row.embeds {
        for (field, wild) in expand(&object.root, embed.path) {
            let Some(inner) = Object::new(field.clone()) else { continue };
            let Some(inner_row) = kinds::find(inner.group(), inner.version(), inner.kind) else { continue };
            let mut factors = outer.to_vec();
            factors.extend(replicas(&object.root, embed.count, &wild).factors.into_iter().map(|mut factor| {
                factor.what = format!("{}s", embed.unit);
                factor
            }));
            let first = out.len();
            by_row(&inner, inner_row, &factors, out, depth + 1);
            for pods in &mut out[first..] {
                pods.role = format!("{} / {}", embed.unit, pods.role);
            }
        }
    }
}

fn role_name<'a>(role: Role, field: &Field<'a>, wild: &[Wild<'a>], object: &Object<'a>, path: &'static str) -> String {
    match role {
        Role::Named(name) => name.to_owned(),
        Role::Key => wild
            .iter()
            .find_map(|w| if let Wild::Key(key) = w { Some((*key).to_owned()) } else { None })
            .unwrap_or_default(),
        Role::Of(name) => {
            // The item is where the path's last wildcard stands.
            let item =
                path.rfind("[]").map_or_else(|| field.clone(), |end| resolve(&object.root, &path[..end + 2], wild));
            item.at(name).scalar().unwrap_or_else(|| {
                // The item around it may have a name: a predictor of Seldon's.
                let outer = path.split_once("[]").filter(|(_, inner)| inner.contains("[]"));
                let outer = outer.and_then(|(outer, _)| {
                    let Some(Wild::Index(index)) = wild.first() else { return None };
                    resolve(&object.root, outer, wild).index(*index).key("name").scalar()
                });
                match (outer, wild.last()) {
                    (Some(outer), Some(Wild::Index(0))) => outer,
                    (Some(outer), Some(Wild::Index(index))) => format!("{outer} #{index}"),
                    (None, Some(Wild::Index(index))) => format!("#{index}"),
                    _ => String::new(),
                }
            })
        }
    }
}

/// Keys of a KServe component that hold the model's container (`predictor.go`, `model` and the
/// older one for each framework).
pub const MODEL_KEYS: &[&str] = &[
    "model",
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
];

fn pod_set(role: String, field: Field<'_>, shape: Shape, replicas: Replicas) -> PodSet<'_> {
    let nothing = field.key("metadata");
    let (metadata, spec) = match shape {
        Shape::Template => (nothing, field.key("spec")),
        // Labels and annotations stand in the component itself.
        Shape::Component => (field.clone(), field.clone()),
        _ => (nothing, field),
    };
    let containers = containers(&spec, shape);
    PodSet { role, replicas, metadata, spec, shape, containers }
}

fn containers<'a>(spec: &Field<'a>, shape: Shape) -> Vec<Container<'a>> {
    let mut found = Vec::new();
    let mut push = |role, field: Field<'a>, resources: &'static str| {
        let (resources, image) = (field.key(resources), field.key("image"));
        found.push(Container::new(role, field, resources, image));
    };
    for init in spec.key("initContainers").items() {
        let sidecar = init.key("restartPolicy").str() == Some("Always");
        push(if sidecar { ContainerRole::Sidecar } else { ContainerRole::Init }, init, "resources");
    }
    for main in spec.key("containers").items() {
        push(ContainerRole::Main, main, "resources");
    }
    match shape {
        Shape::Component => {
            for key in MODEL_KEYS.iter().filter(|key| spec.key(key).exists()) {
                push(ContainerRole::Main, spec.key(key), "resources");
            }
        }
        Shape::Spark => push(ContainerRole::Main, spec.clone(), "resources"),
        Shape::Trainer => push(ContainerRole::Main, spec.clone(), "resourcesPerNode"),
        Shape::ArgoTemplate => {
            for key in ["container", "script"] {
                if spec.key(key).exists() {
                    push(ContainerRole::Main, spec.key(key), "resources");
                }
            }
            for main in spec.at("containerSet.containers").items() {
                push(ContainerRole::Main, main, "resources");
            }
            for sidecar in spec.key("sidecars").items() {
                push(ContainerRole::Sidecar, sidecar, "resources");
            }
        }
        Shape::Template | Shape::PodSpec => {}
    }
    for ephemeral in spec.key("ephemeralContainers").items() {
        push(ContainerRole::Ephemeral, ephemeral, "resources");
    }
    found
}

/// Finds pods of an unknown kind: any mapping whose `containers` is a list of mappings with an
/// image. Replicas are the nearest `replicas` above.
pub(super) fn by_structure<'a>(object: &Object<'a>, out: &mut Vec<PodSet<'a>>) {
    fn is_pod_spec(node: &Node<'_>) -> bool {
        let Some(Value::Seq(items)) = node.get("containers").map(|n| &n.value) else { return false };
        !items.is_empty()
            && items.iter().all(|item| item.get("image").is_some() || item.get("name").is_some())
            && items.iter().any(|item| item.get("image").is_some())
    }
    fn search<'a>(field: &Field<'a>, factor: Option<Factor>, out: &mut Vec<PodSet<'a>>, depth: usize) {
        if depth > 24 {
            return;
        }
        let own = field.key("replicas");
        let factor = own.u64().map(|value| Factor { value, what: "replicas".to_owned(), path: own.path() }).or(factor);
        if field.node().is_some_and(is_pod_spec) {
            let mut replicas = Replicas::one();
            if let Some(factor) = factor {
                replicas.times(factor);
            }
            out.push(pod_set("pod".to_owned(), field.clone(), Shape::PodSpec, replicas));
            return;
        }
        for (_, value) in field.entries() {
            search(&value, factor.clone(), out, depth + 1);
        }
        for item in field.items() {
            search(&item, factor.clone(), out, depth + 1);
        }
    }
    search(&object.root.key("spec"), None, out, 0);
}
