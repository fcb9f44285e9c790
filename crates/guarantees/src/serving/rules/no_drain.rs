use bedplate_model::{Confidence, Edit, Finding, Fix, Workload};
use serde_json::json;

use super::pods;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers whose pods stop without a `preStop` hook.
    ///
    /// ## Why
    /// SIGTERM and the removal from the Service start at the same moment, and every node learns of the
    /// removal some seconds later. Until then requests go to a process that is already stopping: a
    /// handful of 502s in every rollout. Many model servers also abort what they are answering.
    /// A hook that sleeps keeps the server up until nobody asks it any more.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   template:
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
    ///   template:
    ///     spec:
    ///       terminationGracePeriodSeconds: 60
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    ///           lifecycle:
    ///             preStop: {sleep: {seconds: 30}}
    /// ```
    ///
    /// ## Options
    /// `spec.serving.drainSeconds`, 30: how long open requests take. Servers that finish them on SIGTERM by
    /// themselves need 5 seconds of sleep.
    ///
    /// ## Sources
    /// - Order of events: Kubernetes, "Pod Lifecycle", termination of pods.
    /// - The `sleep` action: KEP-3960, on by default from Kubernetes 1.30, stable in 1.34.
    "no-drain", Serving, Warning, High, [Workload(check)]
}

/// Seconds until every node has taken the pod out of its Services.
const PROPAGATION: u64 = 5;

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    // Nothing brings a lone pod's replacement up: a rollout does not concern it.
    if matches!(workload.object.kind, "Pod" | "PodTemplate") {
        return;
    }
    for pods in pods::unmanaged(workload) {
        let answering = || pods.main_containers().filter(|container| pods::answers(container));
        if answering().any(|container| container.field.at("lifecycle.preStop").exists()) {
            continue;
        }
        let Some(container) = answering().next() else { continue };
        let server = pods::server(container);
        let drains = server.is_some_and(|server| server.drains);
        let sleep = if drains { PROPAGATION } else { cx.settings.drain_seconds().max(PROPAGATION) };
        let hook = container.field.at("lifecycle.preStop");
        let mut edits = vec![Edit::Set(hook.path(), json!({"sleep": {"seconds": sleep}}))];
        let mut help = format!("add `lifecycle: {{preStop: {{sleep: {{seconds: {sleep}}}}}}}`");
        // The sleep counts inside the grace period, and the server needs some of it afterwards.
        let grace = sleep.saturating_add(cx.settings.drain_seconds());
        let current = pods.spec.key("terminationGracePeriodSeconds");
        if pods.grace_seconds() < grace && (!current.exists() || current.u64().is_some()) {
            edits.push(Edit::Set(current.path(), json!(grace)));
            help = format!("{help} and `terminationGracePeriodSeconds: {grace}`");
        }
        let finding = match server {
            Some(server) if !server.drains => Finding::new(
                &hook,
                format!(
                    "{} drops the requests that it is answering when its pod stops: it has no preStop hook",
                    server.name
                ),
            )
            .note(format!("{} does not finish open requests after SIGTERM by itself.", server.name)),
            _ => Finding::new(
                &hook,
                format!("container `{}` stops while requests still come in: it has no preStop hook", container.name()),
            )
            // It may wait on SIGTERM by itself.
            .confidence(Confidence::Medium),
        };
        out.push(
            finding
                .label("no preStop")
                .note("Nodes go on sending requests for some seconds after a pod was told to stop.")
                .fix(Fix::unsafe_(format!("{help} (Kubernetes 1.30 or newer)"), edits)),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    fn with(image: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: a}}\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        image: {image}\n        ports:\n        - containerPort: 80\n"
        )
    }

    #[test]
    fn the_sleep_leaves_the_server_time_before_the_kill() {
        let text = fixed(&super::RULE, &with("vllm/vllm-openai:v0.9.1"));
        assert!(text.contains("seconds: 30") && text.contains("terminationGracePeriodSeconds: 60"), "{text}");
        assert_eq!(messages(&super::super::drain_longer_than_grace::RULE, &text), [] as [&str; 0]);
    }

    #[test]
    fn a_server_that_drains_by_itself_only_waits_for_the_nodes() {
        let text = fixed(&super::RULE, &with("nvcr.io/nvidia/tritonserver:25.05-py3"));
        assert!(text.contains("seconds: 5") && text.contains("terminationGracePeriodSeconds: 35"), "{text}");
    }
}
