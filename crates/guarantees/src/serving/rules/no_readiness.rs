use bedplate_model::{Confidence, Edit, Finding, Fix, Workload};
use serde_json::json;

use super::pods;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers whose pods have no readiness probe.
    ///
    /// ## Why
    /// Without a probe a pod is ready the moment its process starts. A model server then loads
    /// weights for minutes while the Service already sends it requests, and the rollout takes
    /// the old pods away because the new ones look well: every request of that time fails.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   replicas: 2
    ///   selector: {matchLabels: {app: chat}}
    ///   template:
    ///     metadata: {labels: {app: chat}}
    ///     spec:
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   replicas: 2
    ///   selector: {matchLabels: {app: chat}}
    ///   template:
    ///     metadata: {labels: {app: chat}}
    ///     spec:
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    ///           readinessProbe:
    ///             httpGet: {path: /health, port: 8000}
    /// ```
    ///
    /// ## Options
    /// None. KServe, Knative, KubeRay and Seldon add a probe themselves: their kinds are not asked.
    ///
    /// ## Sources
    /// - A container without a readiness probe counts as ready: Kubernetes, "Pod Lifecycle", container probes.
    /// - Paths: the documents of each server on health endpoints.
    "no-readiness", Serving, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    for pods in pods::unmanaged(workload) {
        let mut answering = pods.main_containers().filter(|container| pods::answers(container)).peekable();
        let Some(first) = answering.peek().copied() else { continue };
        if answering.any(|container| container.field.key("readinessProbe").exists()) {
            continue;
        }
        let probe = first.field.key("readinessProbe");
        let finding = Finding::new(
            &probe,
            format!("container `{}` gets requests as soon as it starts: it has no readinessProbe", first.name()),
        )
        .label("no readinessProbe")
        .note("Until a probe says otherwise, Kubernetes takes a started process for a server that answers.");
        out.push(match pods::server(first) {
            Some(server) if !server.ready.contains("MODEL") => {
                let port = pods::port(first, server);
                finding.fix(Fix::unsafe_(
                    format!(
                        "add `readinessProbe: {{httpGet: {{path: {}, port: {port}}}}}`: {} answers there once its model is loaded",
                        server.ready, server.name
                    ),
                    vec![Edit::Set(probe.path(), json!({"httpGet": {"path": server.ready, "port": port}}))],
                ))
            }
            Some(server) => finding.help(format!(
                "add a `readinessProbe` with `httpGet` on `{}` of {}, with your model's name in it",
                server.ready, server.name
            )),
            None => finding
                .help("add a `readinessProbe` that answers only once the model is loaded")
                // The port may be for something that no Service sends requests to.
                .confidence(if pods.accelerators_each() > 0 { Confidence::High } else { Confidence::Medium }),
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    const HEAD: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  template:\n    spec:\n      containers:\n";

    #[test]
    fn a_port_for_metrics_gets_no_requests() {
        let text = format!(
            "{HEAD}      - {{name: a, image: x, ports: [{{name: http, containerPort: 1}}], readinessProbe: {{grpc: {{port: 1}}}}}}\n      - {{name: b, image: y, ports: [{{name: metrics, containerPort: 2}}]}}\n"
        );
        assert_eq!(messages(&super::RULE, &text), [] as [&str; 0]);
    }

    #[test]
    fn the_probe_goes_to_the_port_that_the_container_opens() {
        let text = format!(
            "{HEAD}      - name: a\n        image: vllm/vllm-openai:v0.9.1\n        ports:\n        - containerPort: 9000\n"
        );
        assert!(fixed(&super::RULE, &text).contains("port: 9000"));
    }

    #[test]
    fn kserve_and_kuberay_bring_their_own_probe() {
        let text = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: a}\nspec: {predictor: {containers: [{name: kserve-container, image: vllm/vllm-openai:v0.9.1}]}}\n";
        assert_eq!(messages(&super::RULE, text), [] as [&str; 0]);
    }
}
