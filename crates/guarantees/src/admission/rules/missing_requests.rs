use bedplate_model::{Finding, Purpose, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds containers of training, serving, notebooks and the platform that say neither how
    /// much memory nor how much CPU they need.
    ///
    /// ## Why
    /// The scheduler packs what asks for nothing onto any node; under memory pressure such pods
    /// are the first to be killed. On a GPU node a data loader without a request is throttled by
    /// its neighbours, and an expensive accelerator waits for a cheap core.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: Notebook
    /// metadata: {name: desk}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers: [{name: desk, image: "quay.io/jupyter/scipy-notebook:2025-01-01"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: Notebook
    /// metadata: {name: desk}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: desk
    ///           image: quay.io/jupyter/scipy-notebook:2025-01-01
    ///           resources: {requests: {cpu: "1", memory: 4Gi}}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubernetes, node-pressure eviction; a limit without a request is the request too.
    "missing-requests", Admission, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    if workload.purpose == Purpose::Other {
        return;
    }
    for pods in workload.pod_sets.iter().filter(|pods| pods.has_pod_spec()) {
        for container in pods.main_containers() {
            // The model's container takes the runtime's resources where it has none.
            if !container.image().exists() {
                continue;
            }
            let set = |name| {
                ["requests", "limits"].iter().any(|part| {
                    container.resources.key(part).key(name).exists()
                        || pods.spec.key("resources").key(part).key(name).exists()
                })
            };
            let missing: Vec<_> = ["cpu", "memory"].into_iter().filter(|name| !set(*name)).collect();
            if !missing.is_empty() {
                out.push(
                    Finding::new(
                        container.resources.path(),
                        format!(
                            "container `{}` does not say how much {} it needs",
                            container.name(),
                            missing.join(" and ")
                        ),
                    )
                    .help(format!("set `resources.requests` for {}", missing.join(" and "))),
                );
            }
        }
    }
}
