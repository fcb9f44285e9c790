use bedplate_model::{Finding, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Adds up the accelerators of a job as the scheduler would, every role at its largest, and
    /// holds the sum against the ceiling for a job and for a pod.
    ///
    /// ## Why
    /// One job of 64 GPUs in a shared cluster starves every other team, and a gang that can
    /// never be placed blocks the queue for all. The number is rarely in one place: replicas,
    /// hosts, elastic maximum and sidecars multiply.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: too-much, namespace: research}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       replicas: 8
    ///       template:
    ///         spec:
    ///           containers:
    ///             - name: pytorch
    ///               image: docker.io/pytorch/pytorch:2.7.0
    ///               resources: {limits: {nvidia.com/gpu: 8}}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: fits, namespace: research}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       replicas: 2
    ///       template:
    ///         spec:
    ///           containers:
    ///             - name: pytorch
    ///               image: docker.io/pytorch/pytorch:2.7.0
    ///               resources: {limits: {nvidia.com/gpu: 4}}
    /// ```
    ///
    /// ## Options
    /// `spec.admission.acceleratorsPerJob` and `spec.admission.acceleratorsPerPod`, both 8, also
    /// for single namespaces.
    ///
    /// ## Sources
    /// - What a pod asks for: Kubernetes, `pkg/api/v1/resource/helpers.go`; sidecars: KEP-753.
    "gpu-ceiling", Admission, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    let per_pod = cx.settings.accelerators_per_pod();
    for pods in &workload.pod_sets {
        let each = pods.accelerators_each();
        if each > per_pod {
            let place = pods.containers.iter().find(|container| !container.accelerators().is_empty());
            let place = place.map_or_else(|| pods.spec.path(), |container| container.resources.path());
            out.push(
                Finding::new(
                    place,
                    format!("a {} pod asks for {each} accelerators, the ceiling is {per_pod}", pods.role),
                )
                .label(format!("{each} in one pod"))
                .evidence(each, per_pod)
                .help(format!(
                    "ask for at most {per_pod}, or raise `spec.admission.acceleratorsPerPod` for this namespace"
                )),
            );
        }
    }
    // A search has a ceiling of its own.
    if workload.kind.is_some_and(|kind| !kind.embeds.is_empty() && kind.kind == "Experiment") {
        return;
    }
    let (total, ceiling) = (workload.accelerators(), cx.settings.accelerators_per_job());
    if total <= ceiling {
        return;
    }
    let asking = || workload.pod_sets.iter().filter(|pods| pods.accelerators() > 0);
    if asking().any(|pods| pods.accelerators_each() > per_pod && pods.replicas.count == 1) && asking().count() == 1 {
        return;
    }
    let largest = asking().max_by_key(|pods| pods.accelerators());
    let place = largest.and_then(|pods| pods.replicas.factors.last()).map(|factor| factor.path.clone());
    let mut finding = Finding::new(
        place.unwrap_or_else(|| workload.object.name_path()),
        format!("this {} asks for {total} accelerators, the ceiling is {ceiling}", workload.object.kind),
    )
    .evidence(total, ceiling)
    .help(format!(
        "make it fit into {ceiling}, or raise `spec.admission.acceleratorsPerJob` for this namespace in bedplate.yaml"
    ));
    if let Some(pods) = largest {
        finding = finding.label(format!("{} x {} each", pods.replicas.reckoning(), pods.accelerators_each()));
    }
    for pods in asking() {
        let names: Vec<_> = pods.accelerators_per_pod().into_iter().map(|(name, n)| format!("{n} {name}")).collect();
        finding = finding.note(format!(
            "{}: {} x {} = {}",
            pods.role,
            pods.replicas.reckoning(),
            names.join(" + "),
            pods.accelerators()
        ));
    }
    out.push(finding);
}
