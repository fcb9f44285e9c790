use bedplate_model::workload::kinds::TABLE;
use bedplate_model::{Edit, Finding, Fix, Object, names};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds CustomResourceDefinitions of machine-learning kinds without a mark that protects
    /// them from deletion.
    ///
    /// ## Why
    /// `kubectl delete crd tfjobs.kubeflow.org` deletes every TFJob of every namespace, and with
    /// them their pods, in seconds. So does a `helm uninstall` of the operator, or a prune of
    /// the folder that the CRD was in. Nothing asks, nothing brings it back.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apiextensions.k8s.io/v1
    /// kind: CustomResourceDefinition
    /// metadata: {name: tfjobs.kubeflow.org}
    /// spec: {group: kubeflow.org, names: {kind: TFJob, plural: tfjobs}, scope: Namespaced}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apiextensions.k8s.io/v1
    /// kind: CustomResourceDefinition
    /// metadata:
    ///   name: tfjobs.kubeflow.org
    ///   annotations: {bedplate.dev/delete-protection: "true"}
    /// spec: {group: kubeflow.org, names: {kind: TFJob, plural: tfjobs}, scope: Namespaced}
    /// ```
    ///
    /// ## Options
    /// None. OpenKruise's label `policy.kruise.io/delete-protection` counts too.
    ///
    /// ## Sources
    /// - Kubernetes: deleting a CRD deletes its objects without admission of each.
    "unprotected-crd", Deletion, Error, High, [Object(check)]
}

fn check(object: &Object<'_>, _: &Context<'_>, out: &mut Findings) {
    if !object.is("apiextensions.k8s.io", "CustomResourceDefinition") || super::is_protected(object) {
        return;
    }
    let Some(group) = object.at("spec.group").str() else { return };
    // Groups of Kubernetes itself have no CRDs.
    if !group.contains('.') || !TABLE.iter().any(|row| row.group == group) {
        return;
    }
    let path = object.annotation(names::DELETE_PROTECTION).path();
    out.push(
        Finding::new(
            object.name_path(),
            format!(
                "deleting this CRD deletes every {}, and nothing stops it",
                object.at("spec.names.kind").str().unwrap_or("object of it")
            ),
        )
        .fix(Fix::safe(
            format!("annotate it with `{}: \"true\"`", names::DELETE_PROTECTION),
            vec![Edit::Set(path, "true".into())],
        )),
    );
}
