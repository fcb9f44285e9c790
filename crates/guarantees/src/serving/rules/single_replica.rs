use bedplate_model::{Finding, Workload};

use super::{rolls_out, serving};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers with one replica.
    ///
    /// ## Why
    /// A drained node, an eviction or a crash leaves nobody to answer until the model is loaded
    /// again, and a PodDisruptionBudget cannot help: it would block the drain for ever.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: llm}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: llm}
    /// spec:
    ///   replicas: 2
    ///   template:
    ///     spec:
    ///       containers: [{name: vllm, image: "docker.io/vllm/vllm-openai:v0.9.1"}]
    /// ```
    ///
    /// ## Options
    /// None. Where the replicas come from an autoscaler: suppress it with that as the reason.
    ///
    /// ## Sources
    /// - Kubernetes, disruptions.
    "single-replica", Serving, Warning, Medium, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    if !rolls_out(workload) || serving(workload).next().is_none() {
        return;
    }
    let replicas = workload.at("spec.replicas");
    if replicas.u64().unwrap_or(1) == 1 && (replicas.u64().is_some() || !replicas.exists()) {
        out.push(
            Finding::new(&replicas, "one replica: a drained node leaves nobody to answer").help("run two or more"),
        );
    }
}
