use bedplate_model::workload::Purpose;
use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use super::strategy::{Kruise, Strategy};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers that OpenKruise updates in place without waiting for their requests to drain.
    ///
    /// ## Why
    /// Before it changes the image, OpenKruise marks the pod as not ready and waits
    /// `gracePeriodSeconds`: 0 where nothing is written. The container is then stopped before the
    /// nodes have taken the pod out of its Service, and requests fail in every upgrade.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps.kruise.io/v1alpha1
    /// kind: CloneSet
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   updateStrategy: {type: InPlaceIfPossible}
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
    /// `spec.serving.drainSeconds`, 30: what the fix sets.
    ///
    /// ## Sources
    /// - OpenKruise, `apis/apps/pub/inplace_update.go`, `InPlaceUpdateStrategy.gracePeriodSeconds`; "In-place Update", graceful period.
    "in-place-without-grace", Upgrade, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    if workload.purpose != Purpose::Serving {
        return;
    }
    let Some(strategy) = Strategy::of(workload) else { return };
    let grace = strategy.grace();
    let zero = !grace.exists() || grace.u64() == Some(0);
    if strategy.kind == Kruise::Daemon || !strategy.in_place() || !zero {
        return;
    }
    // A drain of 0 would be asked for again.
    let drain = cx.settings.drain_seconds().max(1);
    out.push(
        Finding::new(
            &grace,
            format!(
                "updates in place give this {} 0 s to finish its requests before the container is stopped",
                workload.object.kind
            ),
        )
        .label(if grace.exists() { "0 s" } else { "no `gracePeriodSeconds`: 0 s" })
        .related(&strategy.policy, "updates in place")
        .evidence(0, drain)
        .fix(Fix::safe(
            format!("set `inPlaceUpdateStrategy.gracePeriodSeconds: {drain}`"),
            vec![Edit::Set(grace.path(), json!(drain))],
        )),
    );
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    #[test]
    fn each_kind_keeps_its_grace_in_its_own_place() {
        let text = "apiVersion: apps.kruise.io/v1beta1\nkind: StatefulSet\nmetadata: {name: a}\nspec:\n  updateStrategy:\n    rollingUpdate:\n      podUpdatePolicy: InPlaceOnly\n      inPlaceUpdateStrategy:\n        gracePeriodSeconds: 0\n  template: {spec: {containers: [{name: a, image: vllm/vllm-openai:v0.9.1}]}}\n";
        assert!(fixed(&super::RULE, text).contains("gracePeriodSeconds: 30"));
        let elsewhere = text.replace("vllm/vllm-openai:v0.9.1", "x");
        assert_eq!(messages(&super::RULE, &elsewhere), [] as [&str; 0]);
    }
}
