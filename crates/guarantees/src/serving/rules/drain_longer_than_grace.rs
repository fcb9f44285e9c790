use bedplate_model::{Edit, Finding, Fix, Workload};

use super::{drain_seconds, servers, serving};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers whose `preStop` leaves no time of the grace period for open requests.
    ///
    /// ## Why
    /// `preStop` counts inside `terminationGracePeriodSeconds`. When the wait is as long as the
    /// period, the server gets SIGKILL two seconds after SIGTERM, with requests open.
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
    ///         - {name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1", lifecycle: {preStop: {sleep: {seconds: 30}}}}
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
    ///         - {name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1", lifecycle: {preStop: {sleep: {seconds: 30}}}}
    /// ```
    ///
    /// ## Options
    /// `spec.serving.drainSeconds`, 30: what the fix leaves for open requests.
    ///
    /// ## Sources
    /// - Kubernetes, pod termination: container lifecycle hooks.
    "drain-longer-than-grace", Serving, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    for pods in serving(workload) {
        let grace = pods.grace_seconds();
        for container in servers(pods) {
            let Some(wait) = drain_seconds(container).filter(|wait| *wait >= grace) else { continue };
            let field = pods.spec.key("terminationGracePeriodSeconds");
            let enough = wait.saturating_add(cx.settings.drain_seconds());
            out.push(
                Finding::new(
                    &container.field.at("lifecycle.preStop"),
                    format!("preStop waits {wait} s of a grace period of {grace} s: open requests are cut off"),
                )
                .label(format!("{wait} s"))
                .evidence(wait, grace)
                .fix(Fix::unsafe_(
                    format!("set `terminationGracePeriodSeconds: {enough}`"),
                    vec![Edit::Set(field.path(), enough.into())],
                )),
            );
        }
    }
}
