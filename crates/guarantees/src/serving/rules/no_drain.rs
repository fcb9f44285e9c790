use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use super::{rolls_out, servers, serving};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers that stop at once when they are told to: no `preStop`.
    ///
    /// ## Why
    /// A pod that ends is taken out of the endpoints and gets SIGTERM at the same time. For
    /// seconds proxies still send requests to a server that no longer listens. A wait before
    /// SIGTERM lets them learn of it.
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
    ///       terminationGracePeriodSeconds: 60
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    ///           lifecycle: {preStop: {sleep: {seconds: 15}}}
    /// ```
    ///
    /// ## Options
    /// `spec.serving.drainSeconds`, 30: what open requests need, for the grace period.
    ///
    /// ## Sources
    /// - Kubernetes, pod termination; KEP-3960 (the `sleep` action, stable since 1.34).
    "no-drain", Serving, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    if !rolls_out(workload) {
        return;
    }
    for pods in serving(workload) {
        for container in servers(pods) {
            let hook = container.field.at("lifecycle.preStop");
            if hook.exists() {
                continue;
            }
            let finding = Finding::new(
                &hook,
                format!(
                    "`{}` stops listening while proxies still send it requests: it has no preStop",
                    container.name()
                ),
            );
            // The wait must leave time within the grace period.
            out.push(if pods.grace_seconds() >= 30 {
                finding.fix(Fix::unsafe_(
                    "add `lifecycle: {preStop: {sleep: {seconds: 15}}}`",
                    vec![Edit::Set(hook.path(), json!({"sleep": {"seconds": 15}}))],
                ))
            } else {
                finding.help("add `lifecycle: {preStop: {sleep: {seconds: 15}}}` and a longer grace period")
            });
        }
    }
}
