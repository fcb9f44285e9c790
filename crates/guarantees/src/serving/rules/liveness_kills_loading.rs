use bedplate_model::{Finding, ImageRef, Workload, workload::server_of};

use super::{servers, serving};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds model servers with a liveness probe and no startup probe, where the liveness probe
    /// gives up before five minutes.
    ///
    /// ## Why
    /// Loading a large model takes minutes. The liveness probe fails meanwhile, the kubelet
    /// kills the server, and it starts to load again: for ever.
    ///
    /// ## Example
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
    ///           livenessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 10}
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
    ///           startupProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 10, failureThreshold: 60}
    ///           livenessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 10}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubernetes, probes: the other probes wait for the startup probe.
    "liveness-kills-loading", Serving, Error, Medium, [Workload(check)]
}

/// Seconds that a model may take to load.
const LOADING: u64 = 300;

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    for pods in serving(workload) {
        for container in servers(pods) {
            let probe = container.field.key("livenessProbe");
            if !probe.exists() || container.field.key("startupProbe").exists() {
                continue;
            }
            let known = container.image().str().and_then(ImageRef::parse).as_ref().and_then(server_of).is_some();
            if !known && container.accelerators().is_empty() {
                continue;
            }
            let number = |key: &'static str, default| probe.key(key).u64().unwrap_or(default);
            let gives_up = number("initialDelaySeconds", 0)
                .saturating_add(number("periodSeconds", 10).saturating_mul(number("failureThreshold", 3)));
            if gives_up < LOADING {
                out.push(
                    Finding::new(
                        &probe,
                        format!(
                            "the kubelet kills `{}` {gives_up} s after its start, in the middle of loading",
                            container.name()
                        ),
                    )
                    .label(format!("gives up after {gives_up} s"))
                    .evidence(gives_up, LOADING)
                    .help("add a startupProbe with failureThreshold x periodSeconds above the time that loading takes"),
                );
            }
        }
    }
}
