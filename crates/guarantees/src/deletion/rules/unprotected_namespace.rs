use bedplate_model::exemption::glob;
use bedplate_model::{Edit, Finding, Fix, Object, names};

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
    /// `spec.deletion.productionNamespaces`: patterns with `*`. By default `prod*`, `*-prod`,
    /// `production*`, `*-production`, `kubeflow` and `kserve`.
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
    if !cx.settings.production_namespaces().iter().any(|pattern| glob(pattern, &name)) {
        return;
    }
    let path = object.annotation(names::DELETE_PROTECTION).path();
    out.push(
        Finding::new(
            object.name_path(),
            format!("one `kubectl delete namespace {name}` takes everything in it, and nothing stops it"),
        )
        .fix(Fix::safe(
            format!("annotate it with `{}: \"true\"`", names::DELETE_PROTECTION),
            vec![Edit::Set(path, "true".into())],
        )),
    );
}
