use bedplate_model::{Edit, Finding, Fix, Workload};

use super::strategy;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds OpenKruise workloads that update in place without `gracePeriodSeconds`.
    ///
    /// ## Why
    /// Between "not ready" and the restart of the container the proxies have to learn that the
    /// pod is gone. The default is 0 seconds: requests that are under way are dropped.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1alpha1
    /// kind: CloneSet
    /// metadata: {name: llm}
    /// spec:
    ///   replicas: 2
    ///   updateStrategy: {type: InPlaceIfPossible}
    ///   template:
    ///     spec:
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1alpha1
    /// kind: CloneSet
    /// metadata: {name: llm}
    /// spec:
    ///   replicas: 2
    ///   updateStrategy: {type: InPlaceIfPossible, inPlaceUpdateStrategy: {gracePeriodSeconds: 15}}
    ///   template:
    ///     spec:
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1"}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - OpenKruise 1.8, in-place update: graceful period.
    "in-place-without-grace", Upgrade, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    let Some(strategy) = strategy(workload).filter(super::Strategy::in_place) else { return };
    let grace = strategy.settings.at("inPlaceUpdateStrategy.gracePeriodSeconds");
    if grace.u64().unwrap_or(0) == 0 {
        out.push(
            Finding::new(
                &grace,
                "a pod that is updated in place drops the requests that are under way: it has no time to drain",
            )
            .evidence(0, 15)
            .fix(Fix::unsafe_(
                "set `inPlaceUpdateStrategy: {gracePeriodSeconds: 15}`",
                vec![Edit::Set(grace.path(), 15.into())],
            )),
        );
    }
}
