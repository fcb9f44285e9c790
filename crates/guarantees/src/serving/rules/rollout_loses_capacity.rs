use bedplate_model::{Edit, Field, Finding, Fix, Workload};
use serde_json::json;

use super::pods;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds Deployments of servers whose rollout takes away more than a quarter of the pods
    /// before new ones are ready: `Recreate`, or `maxUnavailable` as it comes out for the number
    /// of replicas.
    ///
    /// ## Why
    /// With `Recreate` nobody answers until the new model is loaded. With two replicas and
    /// `maxUnavailable: 1` one server carries the load of two while the other one loads for
    /// minutes. `maxSurge: 0` with a percentage that rounds down to nothing becomes one pod
    /// unavailable, whatever was written.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   replicas: 2
    ///   strategy:
    ///     rollingUpdate: {maxUnavailable: 1}
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
    ///   replicas: 2
    ///   strategy:
    ///     rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Defaults of 25%, unavailable rounded down and surge up, and one unavailable where both come to 0:
    ///   Kubernetes, `pkg/controller/deployment/util/deployment_util.go`, `ResolveFenceposts`.
    "rollout-loses-capacity", Serving, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    if !workload.object.is("apps", "Deployment") {
        return;
    }
    let Some(pods) = pods::unmanaged(workload).next() else { return };
    let Some(replicas) = pods::replicas(workload).filter(|replicas| *replicas > 0) else { return };
    let strategy = workload.at("spec.strategy");
    let rolling = strategy.key("rollingUpdate");
    let room = match pods.accelerators_each() {
        0 => "for one more pod".to_owned(),
        count => format!("for one more pod, {count} accelerators"),
    };
    let help = format!("set `maxUnavailable: 0` and `maxSurge: 1`; the cluster needs room {room}");
    if strategy.key("type").str() == Some("Recreate") {
        let strategy_type = strategy.key("type");
        out.push(
            Finding::new(
                &strategy_type,
                match replicas {
                    1 => "every rollout stops the only replica before the new one starts to load".to_owned(),
                    _ => format!("every rollout stops all {replicas} replicas before the first new one starts to load"),
                },
            )
            .label("nobody answers meanwhile")
            .evidence(0, replicas)
            .fix(Fix::unsafe_(
                help,
                vec![
                    Edit::Set(strategy_type.path(), json!("RollingUpdate")),
                    Edit::Set(rolling.path(), json!({"maxUnavailable": 0, "maxSurge": 1})),
                ],
            )),
        );
        return;
    }
    let (unavailable, surge) = (rolling.key("maxUnavailable"), rolling.key("maxSurge"));
    let (Some(down), Some(up)) = (resolve(&unavailable, replicas, false), resolve(&surge, replicas, true)) else {
        return;
    };
    let lost = if down == 0 && up == 0 { 1 } else { down.min(replicas) };
    if lost.saturating_mul(4) <= replicas {
        return;
    }
    let place = if unavailable.exists() { &unavailable } else { &surge };
    let mut finding = Finding::new(
        place,
        match replicas {
            1 => "a rollout takes the only replica away before the new one is ready".to_owned(),
            _ => format!("a rollout takes away {lost} of {replicas} replicas before new ones are ready"),
        },
    )
    .label(format!("{lost} of {replicas} at once"))
    .evidence(lost, replicas / 4)
    .fix(Fix::unsafe_(help, vec![Edit::Set(unavailable.path(), json!(0)), Edit::Set(surge.path(), json!(1))]));
    if down == 0 {
        finding = finding.note("Where both come to 0, Kubernetes takes one pod away, or the rollout could not start.");
    }
    out.push(finding);
}

/// A number of pods, or a percentage of the replicas; 25% where nothing is written.
fn resolve(field: &Field<'_>, replicas: u64, up: bool) -> Option<u64> {
    let percent = match field.str() {
        Some(text) => text.strip_suffix('%')?.parse::<u64>().ok()?,
        None if field.exists() => return field.u64(),
        None => 25,
    };
    let parts = replicas.checked_mul(percent)?;
    Some(if up { parts.div_ceil(100) } else { parts / 100 })
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    fn with(spec: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  {spec}\n  template: {{spec: {{containers: [{{name: a, image: vllm/vllm-openai:v0.9.1}}]}}}}\n"
        )
    }

    #[test]
    fn percentages_come_out_as_kubernetes_rounds_them() {
        let cases = [
            ("replicas: 2", None),
            ("replicas: 100", None),
            ("replicas: 3\n  strategy: {rollingUpdate: {maxUnavailable: 34%}}", Some("1 of 3")),
            ("replicas: 3\n  strategy: {rollingUpdate: {maxUnavailable: 33%}}", None),
            ("replicas: 2\n  strategy: {rollingUpdate: {maxSurge: 0}}", Some("1 of 2")),
            ("replicas: 8\n  strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}", None),
            ("replicas: 2\n  strategy: {rollingUpdate: {maxUnavailable: 100%}}", Some("2 of 2")),
            ("strategy: {type: Recreate}", Some("the only replica")),
            ("replicas: 4\n  strategy:\n    type: Recreate", Some("all 4 replicas")),
            ("replicas: ${n}\n  strategy: {rollingUpdate: {maxUnavailable: 1}}", None),
            ("replicas: 0\n  strategy: {type: Recreate}", None),
        ];
        for (spec, wanted) in cases {
            let found = messages(&super::RULE, &with(spec));
            assert_eq!(found.len(), usize::from(wanted.is_some()), "{spec}: {found:?}");
            assert!(wanted.is_none_or(|wanted| found[0].contains(wanted)), "{spec}: {found:?}");
            if wanted.is_some() {
                fixed(&super::RULE, &with(spec));
            }
        }
    }
}
