use bedplate_model::{Edit, Finding, Fix, Object};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a resource rule of a FlowSchema that means all namespaces but not requests without
    /// one.
    ///
    /// ## Why
    /// A controller lists and watches over all namespaces at once; such a request has no
    /// namespace, and `namespaces: ["*"]` does not match it: `clusterScope: true` does. Without
    /// it the heaviest requests of the controller ride in the common lane.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: FlowSchema
    /// metadata: {name: training-operator}
    /// spec:
    ///   priorityLevelConfiguration: {name: workload-high}
    ///   matchingPrecedence: 700
    ///   rules:
    ///     - subjects: [{kind: ServiceAccount, serviceAccount: {namespace: kubeflow, name: training-operator}}]
    ///       resourceRules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"], namespaces: ["*"]}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: FlowSchema
    /// metadata: {name: training-operator}
    /// spec:
    ///   priorityLevelConfiguration: {name: workload-high}
    ///   matchingPrecedence: 700
    ///   rules:
    ///     - subjects: [{kind: ServiceAccount, serviceAccount: {namespace: kubeflow, name: training-operator}}]
    ///       resourceRules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"], clusterScope: true, namespaces: ["*"]}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - `k8s.io/api/flowcontrol/v1`, ResourcePolicyRule; `match.go`, `matchResourcePolicyRule`.
    "cluster-scope-forgotten", Fairness, Warning, High, [Object(check)]
}

fn check(object: &Object<'_>, _: &Context<'_>, out: &mut Findings) {
    if !object.is("flowcontrol.apiserver.k8s.io", "FlowSchema") {
        return;
    }
    for rule in object.at("spec.rules").items() {
        for resources in rule.key("resourceRules").items() {
            let all = resources.key("namespaces").strings().any(|namespace| namespace == "*");
            let lists = resources.key("verbs").strings().any(|verb| matches!(verb, "*" | "list" | "watch"));
            let scope = resources.key("clusterScope");
            if all && lists && scope.bool() != Some(true) {
                out.push(
                    Finding::new(
                        &resources.key("namespaces"),
                        "lists over all namespaces do not match this rule: `clusterScope` is not true",
                    )
                    .label("matches requests that have a namespace only")
                    .fix(Fix::unsafe_("set `clusterScope: true`", vec![Edit::Set(scope.path(), true.into())])),
                );
            }
        }
    }
}
