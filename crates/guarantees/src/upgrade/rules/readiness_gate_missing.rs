use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use super::strategy::{GATE, Kruise, Strategy, has_gate};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds Advanced StatefulSets that are updated in place and lack the readiness gate
    /// `InPlaceUpdateReady`.
    ///
    /// ## Why
    /// OpenKruise takes a pod out of its Services through this gate before it changes the image.
    /// It adds the gate to CloneSets by itself, but not here: its webhook refuses the object, at
    /// the moment somebody rolls out a fix.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1beta1
    /// kind: StatefulSet
    /// metadata: {name: store, namespace: prod}
    /// spec:
    ///   updateStrategy:
    ///     rollingUpdate: {podUpdatePolicy: InPlaceIfPossible}
    ///   template:
    ///     spec:
    ///       containers: [{name: store, image: registry.k8s.io/store:v1}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1beta1
    /// kind: StatefulSet
    /// metadata: {name: store, namespace: prod}
    /// spec:
    ///   updateStrategy:
    ///     rollingUpdate: {podUpdatePolicy: InPlaceIfPossible}
    ///   template:
    ///     spec:
    ///       readinessGates: [{conditionType: InPlaceUpdateReady}]
    ///       containers: [{name: store, image: registry.k8s.io/store:v1}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - OpenKruise, `pkg/webhook/statefulset/validating/statefulset_validation.go`, `validatePodUpdatePolicy`.
    "readiness-gate-missing", Upgrade, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    let Some(strategy) = Strategy::of(workload) else { return };
    let Some(pods) = workload.pod_sets.first() else { return };
    if strategy.kind != Kruise::Stateful || !strategy.in_place() || has_gate(&pods.spec) {
        return;
    }
    let gates = pods.spec.key("readinessGates");
    let gate = json!({"conditionType": GATE});
    let edit = match gates.items().len() {
        0 => Edit::Set(gates.path(), json!([gate])),
        end => Edit::Set(gates.index(end).path(), gate),
    };
    out.push(
        Finding::new(
            &gates,
            format!("OpenKruise refuses this StatefulSet: updates in place need the readiness gate `{GATE}`"),
        )
        .label("no such gate")
        .related(&strategy.policy, "updates in place")
        .fix(Fix::safe(format!("add `readinessGates: [{{conditionType: {GATE}}}]` to the pods"), vec![edit])),
    );
}

#[cfg(test)]
mod tests {
    use crate::testing::fixed;

    #[test]
    fn other_gates_stay() {
        let text = "apiVersion: apps.kruise.io/v1beta1\nkind: StatefulSet\nmetadata: {name: a}\nspec:\n  updateStrategy: {rollingUpdate: {podUpdatePolicy: InPlaceOnly}}\n  template:\n    spec:\n      readinessGates:\n      - conditionType: example.com/lb\n      containers: [{name: a, image: x}]\n";
        let text = fixed(&super::RULE, text);
        assert!(text.contains("example.com/lb") && text.contains("InPlaceUpdateReady"), "{text}");
    }
}
