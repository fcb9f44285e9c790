//! Questions that several rules of this guarantee ask of pods.

use bedplate_model::workload::{Container, PodSet, Purpose, Server, kinds::Shape, server_of};
use bedplate_model::{Field, ImageRef, Workload};

/// Groups whose controllers put probes and drains into the pods that they make, so that
/// nothing follows from one that is missing: KServe (`pkg/controller/v1beta1/inferenceservice`),
/// Knative's queue-proxy, KubeRay (`initLivenessAndReadinessProbe`), Seldon (`createContainers`).
const MANAGED: &[&str] = &["serving.kserve.io", "serving.knative.dev", "ray.io", "machinelearning.seldon.io"];

/// Pods that answer requests.
pub(super) fn serving<'w, 'a>(workload: &'w Workload<'a>) -> impl Iterator<Item = &'w PodSet<'a>> {
    let wanted = workload.purpose == Purpose::Serving && !workload.finishes();
    workload.pod_sets.iter().filter(move |pods| wanted && pods.has_pod_spec())
}

/// Whether requests come to another pod, which hands its work to these: the workers of a model
/// that spans pods (LeaderWorkerSet, KServe).
pub(super) fn follows(workload: &Workload<'_>, pods: &PodSet<'_>) -> bool {
    pods.role.ends_with("worker") && matches!(workload.object.group(), "leaderworkerset.x-k8s.io" | "serving.kserve.io")
}

/// Pods that answer requests and have nothing but what the file gives them.
pub(super) fn unmanaged<'w, 'a>(workload: &'w Workload<'a>) -> impl Iterator<Item = &'w PodSet<'a>> {
    let managed = MANAGED.contains(&workload.object.group());
    serving(workload).filter(move |pods| {
        !managed && matches!(pods.shape, Shape::Template | Shape::PodSpec) && !follows(workload, pods)
    })
}

/// Pods of the kinds that keep a number of equal replicas behind a Service.
pub(super) fn replicated<'w, 'a>(workload: &'w Workload<'a>) -> impl Iterator<Item = &'w PodSet<'a>> {
    let object = &workload.object;
    let wanted = matches!(
        (object.group(), object.kind),
        ("apps" | "apps.kruise.io", "StatefulSet") | ("apps", "Deployment") | ("apps.kruise.io", "CloneSet")
    );
    unmanaged(workload).filter(move |_| wanted)
}

/// `spec.replicas`, 1 where it is not set, nothing where it is not a number.
pub(super) fn replicas(workload: &Workload<'_>) -> Option<u64> {
    let field = workload.at("spec.replicas");
    if field.exists() { field.u64() } else { Some(1) }
}

/// The model server in a container.
pub(super) fn server(container: &Container<'_>) -> Option<&'static Server> {
    server_of(&ImageRef::parse(container.image().str()?)?)
}

/// Whether requests come to a container: it opens a port that is not only for metrics, or is
/// a model server.
pub(super) fn answers(container: &Container<'_>) -> bool {
    let metrics = |port: &Field<'_>| port.key("name").str().is_some_and(|name| name.contains("metrics"));
    container.field.key("ports").items().any(|port| !metrics(&port)) || server(container).is_some()
}

/// The port that requests come to: the container's first that is not for metrics, or the server's own.
pub(super) fn port(container: &Container<'_>, server: &Server) -> u64 {
    let ports = || container.field.key("ports").items().filter_map(|port| port.key("containerPort").u64());
    let own = u64::from(server.port);
    if ports().any(|port| port == own) { own } else { ports().next().unwrap_or(own) }
}

/// The seconds that a preStop hook sleeps: its `sleep`, or the `sleep` of its command.
pub(super) fn sleeps(container: &Container<'_>) -> Option<u64> {
    let hook = container.field.at("lifecycle.preStop");
    hook.at("sleep.seconds").u64().or_else(|| {
        let text = hook.at("exec.command").strings().collect::<Vec<_>>().join(" ");
        let mut words = text.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '"' | '\''));
        words.by_ref().find(|word| crate::command::base(word) == "sleep")?;
        let word = words.find(|word| !word.is_empty())?;
        match word.strip_suffix('m') {
            Some(minutes) => minutes.parse::<u64>().ok()?.checked_mul(60),
            None => word.trim_end_matches('s').parse().ok(),
        }
    })
}
