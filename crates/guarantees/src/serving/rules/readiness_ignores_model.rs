use bedplate_model::{Edit, Finding, Fix, ImageRef, Workload, workload::server_of};

use super::{servers, serving};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds known model servers whose readiness probe asks for an open port, or for `/`, and
    /// not for the model.
    ///
    /// ## Why
    /// The port is open and `/` answers long before the weights are in memory. Such a probe
    /// says "ready" to a server that answers every request with an error.
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
    ///           ports: [{containerPort: 8000}]
    ///           readinessProbe: {tcpSocket: {port: 8000}}
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
    /// - Health endpoints in the documents of vLLM, Triton, TensorFlow Serving, TorchServe, MLServer, KServe, Ray Serve.
    "readiness-ignores-model", Serving, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    for pods in serving(workload) {
        for container in servers(pods) {
            let Some(server) = container.image().str().and_then(ImageRef::parse).as_ref().and_then(server_of) else {
                continue;
            };
            let probe = container.field.key("readinessProbe");
            let path = probe.at("httpGet.path");
            let place = if probe.key("tcpSocket").exists() {
                probe.key("tcpSocket")
            } else if probe.key("httpGet").exists() && matches!(path.str(), None | Some("" | "/")) {
                path.clone()
            } else {
                continue;
            };
            let finding =
                Finding::new(&place, format!("this probe says ready before {} has loaded its model", server.name))
                    .label("asks for the port, not for the model");
            let help = format!("ask for `{}`", server.ready);
            let literal = !server.ready.contains("MODEL") && path.exists();
            out.push(if literal {
                finding.fix(Fix::unsafe_(help, vec![Edit::Set(path.path(), server.ready.into())]))
            } else {
                finding.help(format!("{help} with httpGet, port {}", server.port))
            });
        }
    }
}
