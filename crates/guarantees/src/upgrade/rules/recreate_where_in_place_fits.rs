use bedplate_model::{Edit, Finding, Fix, Purpose, Workload};

use super::strategy;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers under a CloneSet or an Advanced StatefulSet of OpenKruise that are still
    /// updated by making new pods.
    ///
    /// ## Why
    /// In place only the container is restarted: the pod keeps its address, its node, its
    /// accelerators and the images on the node. A new pod has to be scheduled, which on a full
    /// GPU cluster may take for ever. The default is to make a new one.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1alpha1
    /// kind: CloneSet
    /// metadata: {name: llm}
    /// spec:
    ///   replicas: 2
    ///   updateStrategy: {type: ReCreate}
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
    /// - OpenKruise 1.8, CloneSet and Advanced StatefulSet: images, labels and annotations may change in place.
    "recreate-where-in-place-fits", Upgrade, Info, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    let Some(strategy) = strategy(workload).filter(|_| workload.purpose == Purpose::Serving) else { return };
    if !strategy.in_place() {
        out.push(
            Finding::new(
                &strategy.policy,
                "an update makes new pods: they lose their address and have to be scheduled again",
            )
            .label("ReCreate is the default")
            .fix(Fix::unsafe_(
                format!("set `{}: InPlaceIfPossible`", strategy.policy.last()),
                vec![Edit::Set(strategy.policy.path(), "InPlaceIfPossible".into())],
            )),
        );
    }
}
