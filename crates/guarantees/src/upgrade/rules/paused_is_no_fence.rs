use bedplate_model::{Finding, Workload};

use super::strategy;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds an OpenKruise workload that is `paused` with `partition` 0.
    ///
    /// ## Why
    /// `paused` stops the controller from updating pods; it does not keep new pods back. One
    /// that is evicted, or added by an autoscaler, comes up with the new model, untested. Only
    /// `partition` says how many stay on the old one.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1alpha1
    /// kind: CloneSet
    /// metadata: {name: llm}
    /// spec:
    ///   replicas: 4
    ///   updateStrategy: {type: InPlaceIfPossible, paused: true, inPlaceUpdateStrategy: {gracePeriodSeconds: 15}}
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
    ///   replicas: 4
    ///   updateStrategy: {type: InPlaceIfPossible, paused: true, partition: 3, inPlaceUpdateStrategy: {gracePeriodSeconds: 15}}
    ///   template:
    ///     spec:
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1"}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - OpenKruise 1.8, CloneSet: `partition` is the number of pods kept at the old revision.
    "paused-is-no-fence", Upgrade, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    let Some(strategy) = strategy(workload) else { return };
    let (paused, partition) = (strategy.settings.key("paused"), strategy.settings.key("partition"));
    let none = !partition.exists() || partition.u64() == Some(0) || partition.str() == Some("0%");
    if paused.bool() == Some(true) && none {
        out.push(
            Finding::new(
                &paused,
                "paused with partition 0: an evicted or added pod still comes up with the new revision",
            )
            .label("stops updates, keeps no new pod back")
            .help("set `partition` to the replicas less one, wait for the first updated pod, then pause"),
        );
    }
}
