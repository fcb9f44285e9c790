use bedplate_model::{Edit, Field, Finding, Fix, Workload};
use serde_json::json;

use super::strategy::{Kruise, Strategy};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds OpenKruise workloads that are paused with a partition of 0.
    ///
    /// ## Why
    /// `paused` only stops the controller from updating pods. A pod that is evicted, crashes with
    /// its node or is added by the autoscaler comes up on the new revision, because `partition`
    /// decides how many stay on the old one and says none. The untested model spreads with every
    /// drain while everybody believes that it is held back.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1alpha1
    /// kind: CloneSet
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   replicas: 4
    ///   updateStrategy: {type: InPlaceIfPossible, paused: true}
    ///   template:
    ///     spec:
    ///       containers: [{name: vllm, image: docker.io/vllm/vllm-openai:v0.9.1}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1alpha1
    /// kind: CloneSet
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   replicas: 4
    ///   updateStrategy: {type: InPlaceIfPossible, paused: true, partition: 3}
    ///   template:
    ///     spec:
    ///       containers: [{name: vllm, image: docker.io/vllm/vllm-openai:v0.9.1}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - New pods take the revision that `partition` leaves them: OpenKruise, `pkg/controller/cloneset/sync/cloneset_scale.go`,
    ///   `pkg/controller/statefulset/stateful_set_utils.go`, `newVersionedStatefulSetPod`.
    "paused-is-no-fence", Upgrade, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    let Some(strategy) = Strategy::of(workload) else { return };
    let (paused, partition) = (strategy.field.key("paused"), strategy.field.key("partition"));
    if paused.bool() != Some(true) || !is_zero(&partition) {
        return;
    }
    let finding = Finding::new(
        &paused,
        format!(
            "paused holds nothing back: with a partition of 0 every evicted or added pod of this {} comes up on the new revision",
            workload.object.kind
        ),
    )
    .label("new pods are on the new revision")
    .evidence(0, "replicas, or replicas - 1 for a canary");
    let replicas = workload.at("spec.replicas");
    let count = if replicas.exists() { replicas.u64() } else { Some(1) };
    out.push(match count.filter(|count| *count > 0 && strategy.kind != Kruise::Daemon) {
        Some(count) => finding.fix(Fix::unsafe_(
            format!(
                "keep all {count} pods on the old revision: `partition: {count}`; {} lets one pod try the new one",
                count - 1
            ),
            vec![Edit::Set(partition.path(), json!(count))],
        )),
        None => finding.help("set `partition` to the number of pods that have to stay on the old revision"),
    });
}

/// Missing, 0 or 0%. Anything else that cannot be read is taken for a partition.
fn is_zero(partition: &Field<'_>) -> bool {
    !partition.exists() || partition.u64() == Some(0) || partition.str() == Some("0%")
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    fn with(strategy: &str) -> String {
        format!(
            "apiVersion: apps.kruise.io/v1beta1\nkind: StatefulSet\nmetadata: {{name: a}}\nspec:\n  replicas: 3\n  updateStrategy:\n    rollingUpdate: {strategy}\n  template: {{spec: {{containers: [{{name: a, image: x}}]}}}}\n"
        )
    }

    #[test]
    fn only_a_partition_is_a_fence() {
        for open in ["{paused: true}", "{paused: true, partition: 0}"] {
            assert!(fixed(&super::RULE, &with(open)).contains("partition: 3"), "{open}");
        }
        for closed in
            ["{paused: true, partition: 2}", "{paused: true, partition: '${p}'}", "{paused: false}", "{partition: 0}"]
        {
            assert_eq!(messages(&super::RULE, &with(closed)), [] as [&str; 0], "{closed}");
        }
    }
}
