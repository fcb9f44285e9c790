use bedplate_model::{Finding, Object};

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
    /// `spec.deletion.crdGroups`: further API groups. OpenKruise's label `policy.kruise.io/delete-protection` counts too.
    ///
    /// ## Sources
    /// - Kubernetes: deleting a CRD deletes its objects without admission of each.
    "unprotected-crd", Deletion, Error, High, [Object(check)]
}

fn check(object: &Object<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !object.is("apiextensions.k8s.io", "CustomResourceDefinition") || super::is_protected(object) {
        return;
    }
    let Some(group) = object.at("spec.group").str() else { return };
    if !cx.settings.protects_crds_of(group) {
        return;
    }
    let finding = Finding::new(
        object.name_path(),
        format!(
            "deleting this CRD deletes every {}, and nothing stops it",
            object.at("spec.names.kind").str().unwrap_or("object of it")
        ),
    );
    out.push(super::protect(finding, object));
}

#[cfg(test)]
mod tests {
    use bedplate_model::finding::Safety;

    use crate::testing::{found, messages};

    fn crd(group: &str, metadata: &str) -> String {
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: x.{group}, {metadata}}}\nspec: {{group: {group}, names: {{kind: X, plural: xs}}, scope: Namespaced}}\n"
        )
    }

    #[test]
    fn only_crds_that_models_and_jobs_hang_on_are_asked_for_a_guard() {
        assert_eq!(messages(&super::RULE, &crd("ray.io", "")).len(), 1);
        for text in [
            crd("cert-manager.io", ""),
            crd("ray.io", "labels: {policy.kruise.io/delete-protection: Always}"),
            crd("ray.io", "labels: {bedplate.dev/delete-protection: \"true\"}"),
        ] {
            assert_eq!(messages(&super::RULE, &text), [] as [String; 0], "{text}");
        }
    }

    /// `--fix` does not overrule a colleague.
    #[test]
    fn a_written_no_is_not_turned_into_a_yes_by_a_machine() {
        let all = found(&super::RULE, &crd("ray.io", "annotations: {bedplate.dev/delete-protection: \"false\"}"));
        let safety = all.iter().map(|finding| finding.fix.as_ref().map(|fix| fix.safety)).collect::<Vec<_>>();
        assert_eq!(safety, [Some(Safety::Manual)]);
    }
}
