use bedplate_model::{Edit, Field, Finding, Fix, Workload};

use super::serving;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds Deployments of servers whose rollout takes pods away before new ones are ready.
    ///
    /// ## Why
    /// With `Recreate` every replica is gone while the new ones load, minutes for a large
    /// model; with `maxUnavailable: 1` of two replicas half of the capacity is.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: llm}
    /// spec:
    ///   replicas: 2
    ///   strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1, maxSurge: 1}}
    ///   template:
    ///     spec:
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: llm}
    /// spec:
    ///   replicas: 2
    ///   strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
    ///   template:
    ///     spec:
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1"}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubernetes, `pkg/controller/deployment/util`: `maxUnavailable` in percent rounds down,
    ///   `maxSurge` up; both 25% by default.
    "rollout-loses-capacity", Serving, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    if !workload.object.is("apps", "Deployment") || serving(workload).next().is_none() {
        return;
    }
    let strategy = workload.at("spec.strategy");
    if strategy.key("type").str() == Some("Recreate") {
        out.push(
            Finding::new(&strategy.key("type"), "a rollout stops every replica before the first new one is ready")
                .label("nobody answers meanwhile")
                .help("use RollingUpdate with `maxUnavailable: 0` and `maxSurge: 1`"),
        );
        return;
    }
    let replicas = workload.at("spec.replicas").u64().unwrap_or(1);
    let field = strategy.at("rollingUpdate.maxUnavailable");
    let lost = count(&field, replicas).unwrap_or(replicas / 4);
    if lost > 0 {
        out.push(
            Finding::new(
                &field,
                format!("a rollout takes {lost} of {replicas} replicas away before new ones are ready"),
            )
            .evidence(lost, 0)
            .fix(Fix::unsafe_(
                "set `maxUnavailable: 0` and `maxSurge: 1`",
                vec![
                    Edit::Set(field.path(), 0.into()),
                    Edit::Set(strategy.at("rollingUpdate.maxSurge").path(), 1.into()),
                ],
            )),
        );
    }
}

/// A number or a percentage of the replicas, rounded down.
fn count(field: &Field<'_>, replicas: u64) -> Option<u64> {
    let percent = field.str().and_then(|text| text.strip_suffix('%')).and_then(|number| number.parse::<u64>().ok());
    percent.map(|percent| replicas.saturating_mul(percent) / 100).or_else(|| field.u64())
}
