use bedplate_model::{Finding, Purpose, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds containers of training, serving, notebooks and the platform that do not say how
    /// much memory, or how much CPU, they need. A limit says it too, and so does the pod.
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
                [&container.resources, &pods.spec.key("resources")].into_iter().any(|resources| {
                    // Text in place of a mapping is a placeholder that is filled in later.
                    resources.str().is_some()
                        || ["requests", "limits"].iter().any(|part| {
                            let part = resources.key(part);
                            part.str().is_some() || part.key(name).exists()
                        })
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

#[cfg(test)]
mod tests {
    use crate::testing::messages;

    fn notebook(pod: &str, container: &str) -> String {
        format!(
            "apiVersion: kubeflow.org/v1\nkind: Notebook\nmetadata: {{name: n}}\nspec: {{template: {{spec: {{{pod} containers: [{{name: desk, image: x {container}}}]}}}}}}\n"
        )
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = notebook("", ", resources: {limits: {memory: 4Gi}}");
        assert_eq!(messages(&super::RULE, &text), ["container `desk` does not say how much cpu it needs"]);
    }

    #[test]
    fn the_pod_speaks_for_its_containers_and_a_placeholder_for_itself() {
        for text in [
            notebook("resources: {requests: {cpu: 1, memory: 4Gi}},", ""),
            notebook("resources: {requests: {cpu: 1}},", ", resources: {limits: {memory: 4Gi}}"),
            notebook("", ", resources: \"${RESOURCES}\""),
            notebook("", ", resources: {requests: \"${REQUESTS}\"}"),
        ] {
            assert_eq!(messages(&super::RULE, &text), [] as [String; 0], "{text}");
        }
    }
}
