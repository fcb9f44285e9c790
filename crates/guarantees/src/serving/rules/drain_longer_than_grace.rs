use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use super::pods;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds `preStop` hooks that sleep as long as the pod's grace period, or longer.
    ///
    /// ## Why
    /// The grace period starts before the hook, not after it. A hook that uses it up leaves the
    /// server two seconds between SIGTERM and SIGKILL: what it answers is cut off, and the drain
    /// that somebody wrote on purpose does the opposite of what it should.
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
    ///           lifecycle:
    ///             preStop: {exec: {command: [sh, -c, sleep 60]}}
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
    ///       terminationGracePeriodSeconds: 90
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           lifecycle:
    ///             preStop: {sleep: {seconds: 60}}
    /// ```
    ///
    /// ## Options
    /// `spec.serving.drainSeconds`, 30: what the fix leaves the server after the hook.
    ///
    /// ## Sources
    /// - The hook counts inside the grace period: Kubernetes, "Container Lifecycle Hooks".
    /// - Two seconds are added once: Kubernetes, "Pod Lifecycle", termination of pods.
    "drain-longer-than-grace", Serving, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    for pods in pods::serving(workload) {
        let grace_field = pods.spec.key("terminationGracePeriodSeconds");
        if grace_field.exists() && grace_field.u64().is_none() {
            continue;
        }
        let grace = pods.grace_seconds();
        let longest = pods
            .main_containers()
            .filter_map(|container| Some((pods::sleeps(container)?, container)))
            .filter(|(seconds, _)| *seconds >= grace)
            .max_by_key(|(seconds, _)| *seconds);
        let Some((seconds, container)) = longest else { continue };
        let needed = seconds.saturating_add(cx.settings.drain_seconds()).max(seconds.saturating_add(1));
        let hook = container.field.at("lifecycle.preStop");
        let mut finding = Finding::new(
            &hook,
            format!("the preStop hook sleeps {seconds} s of a grace period of {grace} s, so the server is killed, not stopped"),
        )
        .label(format!("sleeps {seconds} s"))
        .evidence(seconds, format!("less than {grace}"))
        .fix(Fix::unsafe_(
            format!("set `terminationGracePeriodSeconds: {needed}`"),
            vec![Edit::Set(grace_field.path(), json!(needed))],
        ));
        finding = if grace_field.exists() {
            finding.related(&grace_field, format!("{grace} s in all"))
        } else {
            finding.note("A pod without `terminationGracePeriodSeconds` has 30 s.")
        };
        out.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    fn with(grace: &str, hook: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  template:\n    spec:\n      {grace}containers:\n      - name: a\n        image: vllm/vllm-openai:v0.9.1\n        lifecycle:\n          preStop: {hook}\n"
        )
    }

    #[test]
    fn every_way_to_write_a_sleep_is_read() {
        for hook in [
            "{sleep: {seconds: 30}}",
            "{exec: {command: [sleep, '30']}}",
            "{exec: {command: [/bin/sleep, 30s]}}",
            "{exec: {command: [/bin/sh, -c, 'nginx -s quit; sleep 30 && echo done']}}",
            "{exec: {command: [sh, -c, sleep 1m]}}",
        ] {
            let text = with("", hook);
            assert_eq!(messages(&super::RULE, &text).len(), 1, "{hook}");
            fixed(&super::RULE, &text);
        }
        for hook in
            ["{sleep: {seconds: 29}}", "{exec: {command: [sh, -c, 'sleep $DRAIN']}}", "{httpGet: {path: /quit}}"]
        {
            assert_eq!(messages(&super::RULE, &with("", hook)), [] as [&str; 0], "{hook}");
        }
    }

    #[test]
    fn a_grace_period_that_is_filled_in_later_is_not_judged() {
        let text = with("terminationGracePeriodSeconds: ${GRACE}\n      ", "{sleep: {seconds: 900}}");
        assert_eq!(messages(&super::RULE, &text), [] as [&str; 0]);
    }
}
