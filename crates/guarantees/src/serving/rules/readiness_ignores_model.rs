use bedplate_model::workload::Server;
use bedplate_model::{Confidence, Edit, Field, Finding, Fix, Workload};
use serde_json::json;

use super::pods;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds readiness probes of well-known model servers that say nothing about the model: an
    /// open socket, a command that does not ask the server, or the path of a front page.
    ///
    /// ## Why
    /// Model servers open their port, and answer on `/`, long before the weights are in memory.
    /// The rollout goes on as soon as the probe succeeds, and takes the last pod that had a
    /// model.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: rank, namespace: prod}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: triton
    ///           image: nvcr.io/nvidia/tritonserver:25.05-py3
    ///           ports: [{containerPort: 8000}]
    ///           readinessProbe:
    ///             tcpSocket: {port: 8000}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: rank, namespace: prod}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: triton
    ///           image: nvcr.io/nvidia/tritonserver:25.05-py3
    ///           ports: [{containerPort: 8000}]
    ///           readinessProbe:
    ///             httpGet: {path: /v2/health/ready, port: 8000}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - vLLM `/health`, SGLang `/readyz`, Triton, MLServer and KServe `/v2/health/ready` (Open Inference Protocol),
    ///   TensorFlow Serving `/v1/models/MODEL`, TorchServe `/ping`, Ray Serve `/-/healthz`: each server's documents.
    "readiness-ignores-model", Serving, Warning, High, [Workload(check)]
}

/// Paths that answer as soon as the process listens.
const SHALLOW: &[&str] = &["", "/", "/v2/health/live", "/v2", "/metrics"];

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    let asked = pods::serving(workload).filter(|pods| !pods::follows(workload, pods));
    for container in asked.flat_map(|pods| pods.main_containers()) {
        let probe = container.field.key("readinessProbe");
        if !probe.exists() {
            continue;
        }
        let Some(server) = pods::server(container) else { continue };
        if let Some(finding) = look(&probe, server) {
            out.push(finding);
        }
    }
}

fn look(probe: &Field<'_>, server: &Server) -> Option<Finding> {
    let (socket, http, exec) = (probe.key("tcpSocket"), probe.key("httpGet"), probe.key("exec"));
    let named = !server.ready.contains("MODEL");
    let ask = format!("ask `{}` of {} instead: it answers 200 once the model is loaded", server.ready, server.name);
    let fix = |edits: Vec<Edit>| {
        let mut fix = Fix::unsafe_(ask.clone(), edits);
        if !named {
            fix.edits.clear();
            fix.safety = bedplate_model::Safety::Manual;
        }
        fix
    };
    if socket.exists() {
        let port = socket.key("port").node().map_or_else(|| json!(server.port), |port| port.to_json());
        // The other fields of the probe stay.
        let mut whole = probe.node().map_or_else(|| json!({}), |probe| probe.to_json());
        if let Some(map) = whole.as_object_mut() {
            map.remove("tcpSocket");
            map.insert("httpGet".to_owned(), json!({"path": server.ready, "port": port}));
        }
        let edits = vec![Edit::Set(probe.path(), whole)];
        let message = format!("{} counts as ready once its port is open, before its model is loaded", server.name);
        return Some(
            Finding::new(&socket, message)
                .label("only an open port")
                .evidence("tcpSocket", server.ready)
                .fix(fix(edits)),
        );
    }
    if http.exists() {
        let path = http.key("path");
        let value = path.str().unwrap_or_default();
        if !SHALLOW.contains(&value) {
            return None;
        }
        let shown = if value.is_empty() { "/" } else { value };
        let message = format!("{} answers `{shown}` before its model is loaded", server.name);
        let edits = vec![Edit::Set(path.path(), json!(server.ready))];
        return Some(
            Finding::new(&path, message)
                .label("says nothing of the model")
                .evidence(shown, server.ready)
                .fix(fix(edits)),
        );
    }
    // A command that asks the server over HTTP or gRPC may well ask the right thing.
    if exec.exists() {
        let asks = |word: &str| {
            ["curl", "wget", "http", "grpc", "python", "/ready", "/health"].iter().any(|w| word.contains(w))
        };
        if exec.key("command").strings().any(asks) {
            return None;
        }
        let message = format!("the readiness command does not ask {} whether its model is loaded", server.name);
        return Some(
            Finding::new(&exec, message).label("does not ask the server").confidence(Confidence::Medium).help(ask),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    fn with(probe: &str, image: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        image: {image}\n        readinessProbe:\n          periodSeconds: 5\n          {probe}\n"
        )
    }

    #[test]
    fn the_front_page_and_liveness_are_not_the_model() {
        let triton = "nvcr.io/nvidia/tritonserver:25.05-py3";
        let text = with("httpGet: {path: /v2/health/live, port: http}", triton);
        assert_eq!(messages(&super::RULE, &text), ["Triton answers `/v2/health/live` before its model is loaded"]);
        assert!(fixed(&super::RULE, &text).contains("/v2/health/ready"));
        let text = with("tcpSocket:\n            port: http", triton);
        let fixed = fixed(&super::RULE, &text);
        assert!(fixed.contains("port: http") && !fixed.contains("tcpSocket"), "{fixed}");
        assert_eq!(messages(&super::RULE, &with("grpc: {port: 8001}", triton)), [] as [&str; 0]);
    }

    #[test]
    fn the_worker_of_a_leader_has_no_model_to_be_asked_for() {
        let text = "apiVersion: leaderworkerset.x-k8s.io/v1\nkind: LeaderWorkerSet\nmetadata: {name: a}\nspec:\n  leaderWorkerTemplate:\n    size: 2\n    workerTemplate: {spec: {containers: [{name: a, image: vllm/vllm-openai:v0.9.1, readinessProbe: {exec: {command: [pgrep, vllm]}}}]}}\n";
        assert_eq!(messages(&super::RULE, text), [] as [&str; 0]);
        let leader = text.replace("workerTemplate", "leaderTemplate");
        assert_eq!(messages(&super::RULE, &leader).len(), 1);
    }

    #[test]
    fn a_command_that_asks_the_server_is_left_alone() {
        let exec = "exec: {command: [sh, -c, 'curl -f localhost:8000/health']}";
        assert_eq!(messages(&super::RULE, &with(exec, "vllm/vllm-openai:v0.9.1")), [] as [&str; 0]);
        let exec = "exec: {command: [cat, /tmp/up]}";
        assert_eq!(messages(&super::RULE, &with(exec, "vllm/vllm-openai:v0.9.1")).len(), 1);
        assert_eq!(messages(&super::RULE, &with(exec, "example.com/own:v1")), [] as [&str; 0]);
    }
}
