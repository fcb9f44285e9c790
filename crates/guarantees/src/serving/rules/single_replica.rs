use bedplate_model::{Confidence, Edit, Finding, Fix, Workload};
use serde_json::json;

use super::pods;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds servers of one replica.
    ///
    /// ## Why
    /// A node that is drained, a spot node that is taken, a crash: each leaves nobody to answer
    /// until another pod has been placed and has loaded its model. No setting of the rollout
    /// helps against that.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   replicas: 1
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
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   replicas: 2
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    /// ```
    ///
    /// ## Options
    /// Turn it off for namespaces that are not production: `spec.namespaces[].rules: {single-replica: "off"}`.
    ///
    /// ## Sources
    /// - Voluntary and involuntary disruptions: Kubernetes, "Disruptions".
    "single-replica", Serving, Warning, Medium, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    let Some(pods) = pods::replicated(workload).next() else { return };
    if pods::replicas(workload) != Some(1) {
        return;
    }
    let replicas = workload.at("spec.replicas");
    let mut finding =
        Finding::new(&replicas, "one replica: nobody answers while its node is drained or its model loads")
            .label(if replicas.exists() { "one replica" } else { "no `replicas`: one" })
            .evidence(1, "2 or more");
    // An autoscaler may set what the file leaves out; a port alone may belong to a tool that may be away.
    if !replicas.exists() || pods.accelerators_each() == 0 && !pods.main_containers().any(|c| pods::server(c).is_some())
    {
        finding = finding.confidence(Confidence::Low);
    }
    // A second member of a StatefulSet is another member, not a second copy.
    finding = if workload.object.kind == "StatefulSet" {
        finding.help("run at least two replicas, if they can stand in for one another")
    } else {
        finding.fix(Fix::unsafe_("run at least two: `replicas: 2`", vec![Edit::Set(replicas.path(), json!(2))]))
    };
    out.push(finding);
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, messages};
    use bedplate_model::Confidence;

    #[test]
    fn what_an_autoscaler_may_set_is_a_guess() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  template: {spec: {containers: [{name: a, image: vllm/vllm-openai:v0.9.1}]}}\n";
        assert_eq!(found(&super::RULE, text)[0].confidence, Confidence::Low);
        let filled = text.replace("spec:\n  template", "spec:\n  replicas: ${replicas}\n  template");
        assert_eq!(messages(&super::RULE, &filled), [] as [&str; 0]);
    }
}
