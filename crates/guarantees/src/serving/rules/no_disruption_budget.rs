use bedplate_model::{Finding, Workload};

use super::{rolls_out, serving};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers with several replicas that no PodDisruptionBudget in the files selects.
    ///
    /// ## Why
    /// A node upgrade drains node after node. Without a budget it evicts all replicas at once
    /// where they share nodes, or the next before the last has loaded its model.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: llm, namespace: models}
    /// spec:
    ///   replicas: 2
    ///   template:
    ///     metadata: {labels: {app: llm}}
    ///     spec:
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: llm, namespace: models}
    /// spec:
    ///   replicas: 2
    ///   template:
    ///     metadata: {labels: {app: llm}}
    ///     spec:
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1"}]
    /// ---
    /// apiVersion: policy/v1
    /// kind: PodDisruptionBudget
    /// metadata: {name: llm, namespace: models}
    /// spec:
    ///   maxUnavailable: 1
    ///   selector: {matchLabels: {app: llm}}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubernetes, `k8s.io/api/policy/v1`.
    "no-disruption-budget", Serving, Warning, Medium, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !rolls_out(workload) || workload.at("spec.replicas").u64().unwrap_or(1) < 2 {
        return;
    }
    for pods in serving(workload) {
        let labels = pods.metadata.key("labels");
        let budgets = cx.neighbours.budgets.get(workload.object.namespace().unwrap_or_default());
        let selected = budgets.into_iter().flatten().any(|selector| {
            selector.labels.iter().all(|(key, value)| {
                labels.entries().any(|(name, found)| name == key && found.scalar().as_deref() == Some(value))
            })
        });
        if !selected {
            out.push(
                Finding::new(
                    workload.object.name_path(),
                    "no PodDisruptionBudget holds a drain back from all its replicas at once",
                )
                .help("add a PodDisruptionBudget with `maxUnavailable: 1` that selects its pods"),
            );
        }
    }
}
