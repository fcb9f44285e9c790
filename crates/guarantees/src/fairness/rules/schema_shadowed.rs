use bedplate_apf::FlowSchema;
use bedplate_model::{Finding, Object};

use crate::context::typed;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a FlowSchema that no request can ever reach, because earlier schemas take all that
    /// it could match, and names them.
    ///
    /// ## Why
    /// Schemas are asked by `matchingPrecedence`, lowest first, then by name; the first that
    /// matches takes the request. A lane for an operator behind a schema for all service
    /// accounts is a lane that nobody rides in.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: FlowSchema
    /// metadata: {name: all-accounts}
    /// spec:
    ///   priorityLevelConfiguration: {name: workload-low}
    ///   matchingPrecedence: 500
    ///   rules:
    ///     - subjects: [{kind: Group, group: {name: "system:serviceaccounts"}}]
    ///       resourceRules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"], clusterScope: true, namespaces: ["*"]}]
    /// ---
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: FlowSchema
    /// metadata: {name: katib}
    /// spec:
    ///   priorityLevelConfiguration: {name: workload-high}
    ///   matchingPrecedence: 600
    ///   rules:
    ///     - subjects: [{kind: ServiceAccount, serviceAccount: {namespace: kubeflow, name: katib-controller}}]
    ///       resourceRules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"], clusterScope: true, namespaces: ["*"]}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: FlowSchema
    /// metadata: {name: all-accounts}
    /// spec:
    ///   priorityLevelConfiguration: {name: workload-low}
    ///   matchingPrecedence: 8500
    ///   rules:
    ///     - subjects: [{kind: Group, group: {name: "system:serviceaccounts"}}]
    ///       resourceRules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"], clusterScope: true, namespaces: ["*"]}]
    /// ---
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: FlowSchema
    /// metadata: {name: katib}
    /// spec:
    ///   priorityLevelConfiguration: {name: workload-high}
    ///   matchingPrecedence: 600
    ///   rules:
    ///     - subjects: [{kind: ServiceAccount, serviceAccount: {namespace: kubeflow, name: katib-controller}}]
    ///       resourceRules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"], clusterScope: true, namespaces: ["*"]}]
    /// ```
    ///
    /// ## Options
    /// None. Several schemas that only together cover another are not recognised.
    ///
    /// ## Sources
    /// - `k8s.io/apiserver/pkg/util/flowcontrol/match.go` and `apf_controller.go`.
    "schema-shadowed", Fairness, Error, High, [Object(check)]
}

fn check(object: &Object<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !object.is("flowcontrol.apiserver.k8s.io", "FlowSchema") {
        return;
    }
    let Some(schema) = typed::<FlowSchema>(object) else { return };
    let Some(by) = cx.neighbours.shadowing(&schema.metadata.name) else { return };
    let precedence = schema.spec.matching_precedence;
    let by: Vec<_> =
        by.map(|other| format!("`{}` (precedence {})", other.metadata.name, other.spec.matching_precedence)).collect();
    out.push(
        Finding::new(
            &object.at("spec.matchingPrecedence"),
            format!("no request ever reaches this schema: {} takes them all", by.join(" and ")),
        )
        .label(format!("asked at {precedence}, too late"))
        .help("give it a lower `matchingPrecedence` than the schemas that take its requests"),
    );
}
