use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use super::strategy;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds an Advanced StatefulSet that updates in place without the readiness gate that takes
    /// a pod out of its Services meanwhile.
    ///
    /// ## Why
    /// The container is restarted while the pod stays ready and gets requests. OpenKruise adds
    /// the gate to pods of a CloneSet by itself, to those of an Advanced StatefulSet it does not.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1beta1
    /// kind: StatefulSet
    /// metadata: {name: llm}
    /// spec:
    ///   updateStrategy: {rollingUpdate: {podUpdatePolicy: InPlaceIfPossible, inPlaceUpdateStrategy: {gracePeriodSeconds: 15}}}
    ///   template:
    ///     spec:
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1beta1
    /// kind: StatefulSet
    /// metadata: {name: llm}
    /// spec:
    ///   updateStrategy: {rollingUpdate: {podUpdatePolicy: InPlaceIfPossible, inPlaceUpdateStrategy: {gracePeriodSeconds: 15}}}
    ///   template:
    ///     spec:
    ///       readinessGates: [{conditionType: InPlaceUpdateReady}]
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1"}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - OpenKruise 1.8, Advanced StatefulSet, in-place update.
    "readiness-gate-missing", Upgrade, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    let Some(strategy) = strategy(workload).filter(|s| workload.object.kind == "StatefulSet" && s.in_place()) else {
        return;
    };
    let gates = workload.at("spec.template.spec.readinessGates");
    if gates.items().any(|gate| gate.key("conditionType").str() == Some("InPlaceUpdateReady")) {
        return;
    }
    let gate = json!({"conditionType": "InPlaceUpdateReady"});
    let at = gates.items().len();
    out.push(
        Finding::new(
            &strategy.policy,
            "a pod that is updated in place keeps getting requests: the readiness gate is missing",
        )
        .fix(Fix::unsafe_(
            "add `readinessGates: [{conditionType: InPlaceUpdateReady}]` to the pod",
            vec![if at == 0 {
                Edit::Set(gates.path(), json!([gate]))
            } else {
                Edit::Set(gates.path().index(at), gate)
            }],
        )),
    );
}
