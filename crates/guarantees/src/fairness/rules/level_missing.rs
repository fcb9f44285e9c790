use bedplate_apf::bootstrap::LEVELS;
use bedplate_model::{Finding, Object, profile::nearest};

use crate::fairness::lanes;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a FlowSchema that names a priority level which is neither in the files nor one that
    /// every API server has.
    ///
    /// ## Why
    /// Such a schema is dangling: the server passes over it, and the requests that it was meant
    /// for ride with everyone else. Nothing fails, and the lane does nothing.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: FlowSchema
    /// metadata: {name: training-operator}
    /// spec:
    ///   priorityLevelConfiguration: {name: workload-hihg}
    ///   matchingPrecedence: 700
    ///   rules:
    ///     - subjects: [{kind: ServiceAccount, serviceAccount: {namespace: kubeflow, name: training-operator}}]
    ///       resourceRules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"], clusterScope: true, namespaces: ["*"]}]
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
    /// None. A level that is made elsewhere: suppress the finding with where.
    ///
    /// ## Sources
    /// - `k8s.io/api/flowcontrol/v1`, FlowSchemaConditionDangling.
    "level-missing", Fairness, Error, Medium, [Object(check)]
}

fn check(object: &Object<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !object.is("flowcontrol.apiserver.k8s.io", "FlowSchema") {
        return;
    }
    let field = object.at("spec.priorityLevelConfiguration.name");
    let Some(name) = field.str() else { return };
    if lanes::shares(name, cx).is_some() {
        return;
    }
    // A cluster has a dozen levels; a folder of a thousand clusters must not take the square of them.
    let levels = cx.neighbours.priority_levels.iter().take(100);
    let known: Vec<&str> = LEVELS.iter().map(|l| l.name).chain(levels.map(|l| l.metadata.name.as_str())).collect();
    let finding = Finding::new(&field, format!("priority level `{name}` is not in these files and no server has it"))
        .label("the schema is dangling, the server passes over it");
    out.push(match nearest(name, &known) {
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None => finding.help(format!("add a PriorityLevelConfiguration `{name}` beside it")),
    });
}
