use bedplate_model::claim::{self, Devices};
use bedplate_model::workload::PodSet;
use bedplate_model::{Finding, Object, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Adds up the accelerators of a job as the scheduler would, every role at its largest, and
    /// holds the sum against the ceiling for a job and for a pod. A claim of dynamic resource allocation
    /// is held against the ceiling for a pod.
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
    "gpu-ceiling", Admission, Error, High, [Workload(check), Object(check_claim)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    let per_pod = cx.settings.accelerators_per_pod();
    let each_of = |pods: &PodSet<'_>| pods.accelerators_each().saturating_add(claimed(workload, pods, cx));
    // Sets of pods that ask for any, and for how many each pod does.
    let asking: Vec<_> =
        workload.pod_sets.iter().map(|pods| (pods, each_of(pods))).filter(|(_, each)| *each > 0).collect();
    for &(pods, each) in &asking {
        if each > per_pod {
            let place = pods.containers.iter().find(|container| !container.accelerators().is_empty());
            let place = place.map_or_else(|| pods.spec.path(), |container| container.resources.path());
            // Where there is one role only, it is called `pod`.
            let pod = if pods.role.ends_with("pod") { "" } else { " pod" };
            out.push(
                Finding::new(
                    place,
                    format!("a {}{pod} asks for {each} accelerators, the ceiling is {per_pod}", pods.role),
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
    for (pods, each) in &asking {
        if let Some(bound) = pods.replicas.unbounded.clone() {
            out.push(
                Finding::new(
                    bound,
                    format!("nothing bounds the pods of `{}`: the autoscaler may start any number, with {each} accelerators each", pods.role),
                )
                .help("set `maxReplicas`"),
            );
        }
    }
    let total_of = |(pods, each): &(&PodSet<'_>, u64)| each.saturating_mul(pods.replicas.count);
    let asking: Vec<_> = asking.into_iter().filter(|one| total_of(one) > 0).collect();
    let (total, ceiling) =
        (asking.iter().map(total_of).fold(0, u64::saturating_add), cx.settings.accelerators_per_job());
    if total <= ceiling {
        return;
    }
    if let [(pods, each)] = asking[..]
        && each > per_pod
        && pods.replicas.count == 1
    {
        return;
    }
    let largest = asking.iter().max_by_key(|one| total_of(one));
    let place = largest.and_then(|(pods, _)| pods.replicas.factors.last()).map(|factor| factor.path.clone());
    let mut finding = Finding::new(
        place.unwrap_or_else(|| workload.object.name_path()),
        format!("this {} asks for {total} accelerators, the ceiling is {ceiling}", workload.object.kind),
    )
    .evidence(total, ceiling)
    .help(format!(
        "make it fit into {ceiling}, or raise `spec.admission.acceleratorsPerJob` for this namespace in bedplate.yaml"
    ));
    if let Some((pods, each)) = largest {
        finding = finding.label(format!("{} x {each} each", pods.replicas.reckoning()));
    }
    for one @ (pods, _) in &asking {
        let mut names: Vec<_> =
            pods.accelerators_per_pod().into_iter().map(|(name, n)| format!("{n} {name}")).collect();
        let devices = claimed(workload, pods, cx);
        if devices > 0 {
            names.push(format!("{devices} claimed devices"));
        }
        finding = finding.note(format!(
            "{}: {} x {} = {}",
            pods.role,
            pods.replicas.reckoning(),
            names.join(" + "),
            total_of(one)
        ));
    }
    out.push(finding);
}

/// A claim's devices are one pod's, or shared by several.
fn check_claim(object: &Object<'_>, cx: &Context<'_>, out: &mut Findings) {
    let per_pod = cx.settings.accelerators_per_pod();
    let (found, message) = match claim::devices(object) {
        Some(Devices::Count(count)) if count > per_pod => {
            (count, format!("a pod with this {} gets {count} devices, the ceiling is {per_pod}", object.kind))
        }
        Some(Devices::All) => {
            (u64::MAX, format!("a pod with this {} gets every device that fits, the ceiling is {per_pod}", object.kind))
        }
        _ => return,
    };
    let mut finding = Finding::new(object.name_path(), message)
        .help(format!("ask for at most {per_pod}, or raise `spec.admission.acceleratorsPerPod` for this namespace"));
    if found != u64::MAX {
        finding = finding.evidence(found, per_pod);
    }
    out.push(finding);
}

/// Devices that a pod gets by its ResourceClaimTemplates (`resource.k8s.io`), where they are
/// among the files. A claim by name is shared by all pods and is not multiplied.
fn claimed(workload: &Workload<'_>, pods: &PodSet<'_>, cx: &Context<'_>) -> u64 {
    let namespace = workload.object.namespace().unwrap_or_default();
    let templates =
        pods.spec.key("resourceClaims").items().filter_map(|claim| claim.key("resourceClaimTemplateName").str());
    templates
        .filter_map(|name| cx.neighbours.claim_templates.get(&(namespace.to_owned(), name.to_owned())))
        .fold(0, |sum: u64, count| sum.saturating_add(*count))
}

#[cfg(test)]
mod tests {
    use bedplate_model::Profile;
    use bedplate_model::document::FileKind;

    use crate::check::{Run, Source, check, survey};
    use crate::context::{Neighbours, NoContext};

    /// An autoscaler without a maximum took every GPU of the cluster overnight.
    #[test]
    fn an_autoscaler_needs_a_maximum() {
        let text = "apiVersion: ray.io/v1\nkind: RayCluster\nmetadata: {name: r}\nspec:\n  enableInTreeAutoscaling: true\n  workerGroupSpecs:\n  - groupName: a\n    template: {spec: {containers: [{name: a, image: x, resources: {limits: {nvidia.com/gpu: 1}}}]}}\n";
        let expected = "nothing bounds the pods of `a`: the autoscaler may start any number, with 1 accelerators each";
        assert_eq!(crate::testing::messages(&super::RULE, text), [expected]);
        let bounded = text.replace("groupName: a", "groupName: a\n    maxReplicas: 4");
        assert_eq!(crate::testing::messages(&super::RULE, &bounded), [] as [&str; 0]);
    }

    /// A claim asked for all devices of a node, and every pod after it waited.
    #[test]
    fn a_claim_has_the_ceiling_of_a_pod() {
        let claim = |request: &str| {
            let text = format!(
                "apiVersion: resource.k8s.io/v1\nkind: ResourceClaimTemplate\nmetadata: {{name: c}}\nspec: {{spec: {{devices: {{requests: [{request}]}}}}}}\n"
            );
            crate::testing::messages(&super::RULE, &text)
        };
        let refused = |what: &str| vec![format!("a pod with this ResourceClaimTemplate gets {what}, the ceiling is 8")];
        assert_eq!(claim("{name: g, exactly: {deviceClassName: gpu, count: 8}}"), [] as [&str; 0]);
        assert_eq!(claim("{name: g, exactly: {deviceClassName: gpu, count: 9}}"), refused("9 devices"));
        assert_eq!(claim("{name: g, exactly: {count: 5}}, {name: h, exactly: {count: 4}}"), refused("9 devices"));
        assert_eq!(claim("{name: g, firstAvailable: [{count: 2}, {count: 9}]}"), refused("9 devices"));
        assert_eq!(claim("{name: g, exactly: {allocationMode: All}}"), refused("every device that fits"));
    }

    /// GPUs that come by dynamic allocation stand in no container.
    #[test]
    fn claimed_devices_count_too() {
        let text = "apiVersion: resource.k8s.io/v1\nkind: ResourceClaimTemplate\nmetadata: {name: four, namespace: a}\nspec: {spec: {devices: {requests: [{name: g, exactly: {deviceClassName: gpu.nvidia.com, count: 4}}]}}}\n---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: j, namespace: a}\nspec:\n  parallelism: 3\n  template: {spec: {resourceClaims: [{name: g, resourceClaimTemplateName: four}], containers: [{name: a, image: x}]}}\n";
        let mut neighbours = Neighbours::default();
        survey(text, &mut neighbours);
        let profile = Profile::default();
        let run = Run { profile: &profile, neighbours: &neighbours, now: "2026-01-01" };
        let found = check(Source { text, kind: FileKind::Yaml, build: &NoContext }, run).findings;
        let message = found.iter().find(|l| l.finding.rule == "gpu-ceiling").map(|l| l.finding.message.as_str());
        assert_eq!(message, Some("this Job asks for 12 accelerators, the ceiling is 8"));
    }
}
