use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use super::drain_seconds;
use crate::command::base;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds `preStop` hooks that only run `sleep`, and so need a program that a distroless
    /// image does not have.
    ///
    /// ## Why
    /// Where the program is missing the hook fails at once, the kubelet goes on to SIGTERM, and
    /// requests are dropped at every rollout; the only trace is an event. The kubelet can wait
    /// by itself.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: v1
    /// kind: Pod
    /// metadata: {name: llm}
    /// spec:
    ///   terminationGracePeriodSeconds: 60
    ///   containers:
    ///     - name: server
    ///       image: gcr.io/distroless/python3-debian12:nonroot
    ///       lifecycle: {preStop: {exec: {command: [sh, -c, sleep 15]}}}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: v1
    /// kind: Pod
    /// metadata: {name: llm}
    /// spec:
    ///   terminationGracePeriodSeconds: 60
    ///   containers:
    ///     - name: server
    ///       image: gcr.io/distroless/python3-debian12:nonroot
    ///       lifecycle: {preStop: {sleep: {seconds: 15}}}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - KEP-3960: the `sleep` action, stable since Kubernetes 1.34.
    "prestop-needs-shell", Serving, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    for (pods, container) in workload.containers().filter(|(pods, _)| pods.has_pod_spec()) {
        let hook = container.field.at("lifecycle.preStop");
        let command: Vec<_> = hook.at("exec.command").strings().collect();
        let only_sleep = match command.as_slice() {
            [program, number] => base(program) == "sleep" && number.parse::<u64>().is_ok(),
            [shell, "-c", script] => {
                matches!(base(shell), "sh" | "bash")
                    && script.trim().strip_prefix("sleep ").is_some_and(|rest| rest.trim().parse::<u64>().is_ok())
            }
            _ => false,
        };
        let Some(seconds) = drain_seconds(container).filter(|_| only_sleep) else { continue };
        let distroless =
            container.image().str().is_some_and(|image| image.contains("distroless") || image.contains("chainguard"));
        let message = if distroless {
            format!("this image has no `{}`: the hook fails and the {} is not waited for", base(command[0]), "drain")
        } else {
            format!("this hook needs `{}` in the image; the kubelet can wait by itself", base(command[0]))
        };
        let _ = pods;
        out.push(Finding::new(&hook.key("exec"), message).fix(Fix::unsafe_(
            format!("use `sleep: {{seconds: {seconds}}}` (Kubernetes 1.30 and later)"),
            vec![
                Edit::Set(hook.key("sleep").path(), json!({"seconds": seconds})),
                Edit::Remove(hook.key("exec").path()),
            ],
        )));
    }
}
