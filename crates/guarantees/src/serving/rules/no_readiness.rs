use bedplate_model::Workload;
use bedplate_model::{Finding, ImageRef, workload::server_of};

use super::{rolls_out, servers, serving};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers without a readiness probe.
    ///
    /// ## Why
    /// A pod without one is ready as soon as its process runs, minutes before the model is
    /// loaded. A rollout sends it requests and takes the old pod away: both answer nothing.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: llm}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1", ports: [{containerPort: 8000}]}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: llm}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    ///           readinessProbe: {httpGet: {path: /health, port: 8000}}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubernetes, pod lifecycle: container probes.
    "no-readiness", Serving, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    if !rolls_out(workload) {
        return;
    }
    for pods in serving(workload) {
        for container in servers(pods) {
            let probe = container.field.key("readinessProbe");
            if probe.exists() {
                continue;
            }
            let server = container.image().str().and_then(ImageRef::parse).as_ref().and_then(server_of);
            let help = server.map_or_else(
                || "add a readinessProbe that answers only when the model is loaded".to_owned(),
                |server| {
                    format!(
                        "add a readinessProbe on `{}`, port {}: {} answers there once the model is loaded",
                        server.ready, server.port, server.name
                    )
                },
            );
            out.push(
                Finding::new(
                    &probe,
                    format!(
                        "`{}` gets requests before its model is loaded: it has no readiness probe",
                        container.name()
                    ),
                )
                .help(help),
            );
        }
    }
}
