use bedplate_model::{Finding, Workload};

use super::pods;
use crate::context::labels;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers of several replicas that no PodDisruptionBudget of the checked files covers.
    ///
    /// ## Why
    /// Without a budget nothing keeps `kubectl drain`, a node upgrade or the autoscaler from evicting all
    /// replicas in the same minute. The new ones then load their model while nobody answers.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   replicas: 3
    ///   template:
    ///     metadata: {labels: {app: chat}}
    ///     spec:
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: policy/v1
    /// kind: PodDisruptionBudget
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   maxUnavailable: 1
    ///   selector: {matchLabels: {app: chat}}
    /// ---
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   replicas: 3
    ///   template:
    ///     metadata: {labels: {app: chat}}
    ///     spec:
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    /// ```
    ///
    /// ## Options
    /// None. A budget that lives in another repository is not seen: check both together, or exempt the
    /// workload.
    ///
    /// ## Sources
    /// - Kubernetes, "Disruptions"; an empty selector of `policy/v1` matches every pod of the namespace.
    "no-disruption-budget", Serving, Warning, Medium, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    let Some(pods) = pods::replicated(workload).next() else { return };
    let Some(replicas) = pods::replicas(workload).filter(|replicas| *replicas >= 2) else { return };
    let labels = labels(&pods.metadata.key("labels"));
    if cx.neighbours.has_budget(workload.object.namespace().unwrap_or_default(), &labels) {
        return;
    }
    let place = workload.at("spec.replicas");
    out.push(
        Finding::new(
            &place,
            format!("nothing keeps a node upgrade from evicting all {replicas} replicas at once: no PodDisruptionBudget matches"),
        )
        .label("all may be evicted together")
        .help(format!(
            "add a PodDisruptionBudget with `maxUnavailable: 1` and the labels of these pods{}",
            pods.label("app").map(|app| format!(" (`app: {app}`)")).unwrap_or_default()
        )),
    );
}

#[cfg(test)]
mod tests {
    use crate::testing::messages;

    fn with(budget: &str) -> String {
        format!(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\n{budget}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a, namespace: prod}}\nspec:\n  replicas: 2\n  template:\n    metadata: {{labels: {{app: a, tier: '1'}}}}\n    spec: {{containers: [{{name: a, image: vllm/vllm-openai:v0.9.1}}]}}\n"
        )
    }

    #[test]
    fn a_budget_for_other_pods_or_in_another_namespace_protects_nothing() {
        for (budget, count) in [
            ("metadata: {name: b, namespace: prod}\nspec: {selector: {matchLabels: {app: a}}}", 0),
            ("metadata: {name: b, namespace: prod}\nspec: {selector: {}}", 0),
            ("metadata: {name: b, namespace: prod}\nspec: {selector: {matchLabels: {app: b}}}", 1),
            ("metadata: {name: b, namespace: dev}\nspec: {selector: {matchLabels: {app: a}}}", 1),
            ("metadata: {name: b}\nspec: {selector: {matchLabels: {app: a}}}", 0),
            ("metadata: {name: b, namespace: prod}\nspec: {selector: {matchLabels: {tier: 1, app: a}}}", 0),
            ("metadata: {name: b, namespace: prod}\nspec: {selector: {matchLabels: {tier: '1'}}}", 0),
            ("metadata: {name: b, namespace: prod}\nspec: {selector: {matchLabels: {app: a, zone: z}}}", 1),
            (
                "metadata: {name: b, namespace: prod}\nspec: {selector: {matchExpressions: [{key: app, operator: Exists}]}}",
                0,
            ),
        ] {
            assert_eq!(messages(&super::RULE, &with(budget)).len(), count, "{budget}");
        }
    }
}
