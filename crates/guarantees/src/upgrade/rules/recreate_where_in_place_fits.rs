use bedplate_model::workload::Purpose;
use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use super::strategy::{GATE, Kruise, Strategy, has_gate};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers run by OpenKruise that are deleted and made anew in every upgrade, although
    /// OpenKruise could change their image in place.
    ///
    /// ## Why
    /// That is why one chooses these kinds: a pod that is updated in place keeps its address, its
    /// node, its GPUs and its volumes, and only the container starts again. The default throws
    /// all of that away, and a recreated pod may find its accelerators taken.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1alpha1
    /// kind: CloneSet
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   replicas: 3
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
    /// apiVersion: apps.kruise.io/v1alpha1
    /// kind: CloneSet
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   replicas: 3
    ///   updateStrategy:
    ///     type: InPlaceIfPossible
    ///     inPlaceUpdateStrategy: {gracePeriodSeconds: 30}
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    /// ```
    ///
    /// ## Options
    /// `spec.serving.drainSeconds`, 30: the drain that the fix asks for.
    ///
    /// ## Sources
    /// - Defaults and what may change in place (images, labels, annotations): OpenKruise 1.9,
    ///   `apis/apps/v1alpha1/cloneset_types.go`, `apis/apps/v1beta1/statefulset_types.go`; "In-place Update".
    "recreate-where-in-place-fits", Upgrade, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    if workload.purpose != Purpose::Serving {
        return;
    }
    let Some(strategy) = Strategy::of(workload).filter(Strategy::recreates) else { return };
    let Some(pods) = workload.pod_sets.first() else { return };
    let policy = &strategy.policy;
    let name = policy.last();
    let finding = Finding::new(
        policy,
        format!(
            "every upgrade of this {} deletes its pods: they lose their address, node and accelerators",
            workload.object.kind
        ),
    )
    .label(match policy.str() {
        Some(word) => format!("{word}: made anew"),
        None => format!("no `{name}`: made anew"),
    })
    .evidence(policy.str().unwrap_or("not set"), "InPlaceIfPossible");
    // The Advanced DaemonSet's word for it has changed between versions.
    out.push(if strategy.kind == Kruise::Daemon {
        finding.help("let it update in place with `rollingUpdateType: InPlaceIfPossible`")
    } else {
        let mut edits = vec![Edit::Set(policy.path(), json!("InPlaceIfPossible"))];
        let mut help = format!("set `{name}: InPlaceIfPossible`");
        if strategy.grace().u64().unwrap_or(0) == 0 {
            let drain = cx.settings.drain_seconds();
            edits.push(Edit::Set(strategy.grace().path(), json!(drain)));
            help = format!("{help} and `inPlaceUpdateStrategy.gracePeriodSeconds: {drain}`");
        }
        if strategy.kind == Kruise::Stateful && !has_gate(&pods.spec) {
            let gates = pods.spec.key("readinessGates");
            let gate = json!({"conditionType": GATE});
            edits.push(match gates.items().len() {
                0 => Edit::Set(gates.path(), json!([gate])),
                end => Edit::Set(gates.index(end).path(), gate),
            });
            help = format!("{help}, with the readiness gate `{GATE}`");
        }
        finding.fix(Fix::unsafe_(help, edits))
    });
}

#[cfg(test)]
mod tests {
    use super::super::{in_place_without_grace, readiness_gate_missing};
    use crate::testing::{fixed, messages};

    const SET: &str = "apiVersion: apps.kruise.io/v1beta1\nkind: StatefulSet\nmetadata: {name: a}\nspec:\n  replicas: 2\n  updateStrategy:\n    rollingUpdate:\n      podUpdatePolicy: ReCreate\n  template:\n    spec:\n      containers:\n      - name: a\n        image: vllm/vllm-openai:v0.9.1\n";

    #[test]
    fn the_fix_brings_the_gate_and_the_drain_along() {
        let text = fixed(&super::RULE, SET);
        for rule in [&in_place_without_grace::RULE, &readiness_gate_missing::RULE] {
            assert_eq!(messages(rule, &text), [] as [&str; 0], "{text}");
        }
    }

    #[test]
    fn pods_that_wait_to_be_deleted_by_hand_are_not_upgraded_at_all() {
        let text = SET.replace("rollingUpdate:\n      podUpdatePolicy: ReCreate", "type: OnDelete");
        assert_eq!(messages(&super::RULE, &text), [] as [&str; 0]);
    }
}
