use bedplate_model::exemption::glob;
use bedplate_model::{Finding, Object, names};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds namespaces that production depends on without a mark that protects them from
    /// deletion.
    ///
    /// ## Why
    /// `kubectl delete namespace` takes everything in it: servers, jobs, volumes, secrets. It is
    /// one word away from deleting one object in it.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata: {name: production-models}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: production-models
    ///   annotations: {bedplate.dev/delete-protection: "true"}
    /// ```
    ///
    /// ## Options
    /// `spec.deletion.productionNamespaces`: patterns with `*`. By default `prod`, `prod-*`,
    /// `*-prod`, the same with `production`, `kubeflow` and `kserve`. The label
    /// `bedplate.dev/production: "true"` says it of a namespace with any name.
    ///
    /// ## Sources
    /// - Kubernetes, namespace deletion (`pkg/controller/namespace`).
    "unprotected-namespace", Deletion, Error, High, [Object(check)]
}

fn check(object: &Object<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !object.is("", "Namespace") || super::is_protected(object) {
        return;
    }
    let name = object.name();
    let labelled = object.label(names::PRODUCTION).str() == Some("true");
    if !labelled && !cx.settings.production_namespaces().iter().any(|pattern| glob(pattern, &name)) {
        return;
    }
    let finding = Finding::new(
        object.name_path(),
        format!("one `kubectl delete namespace {name}` takes everything in it, and nothing stops it"),
    );
    out.push(super::protect(finding, object));
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    fn namespace(metadata: &str) -> String {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{{metadata}}}\n")
    }

    #[test]
    fn a_namespace_is_production_by_its_name_or_by_its_label() {
        for metadata in ["name: prod-eu", "name: kubeflow", "name: blue, labels: {bedplate.dev/production: \"true\"}"] {
            assert_eq!(messages(&super::RULE, &namespace(metadata)).len(), 1, "{metadata}");
            fixed(&super::RULE, &namespace(metadata));
        }
        for metadata in ["name: research", "name: blue, labels: {bedplate.dev/production: \"false\"}"] {
            assert_eq!(messages(&super::RULE, &namespace(metadata)), [] as [String; 0], "{metadata}");
        }
    }
}
