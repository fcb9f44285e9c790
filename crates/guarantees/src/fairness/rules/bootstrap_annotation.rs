use bedplate_apf::bootstrap::{AUTOUPDATE, is_bootstrap};
use bedplate_model::{Edit, Finding, Fix, Object};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a FlowSchema or priority level of your own that carries the annotation
    /// `apf.kubernetes.io/autoupdate-spec: "true"`.
    ///
    /// ## Why
    /// By this annotation the API server knows its own objects. One that carries it and is not
    /// among those that the server brings is deleted as left over from an older version: the
    /// lane works until the server looks again, and then it is gone.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: PriorityLevelConfiguration
    /// metadata:
    ///   name: ml-controllers
    ///   annotations:
    ///     apf.kubernetes.io/autoupdate-spec: "true"
    /// spec: {type: Limited, limited: {nominalConcurrencyShares: 30, limitResponse: {type: Reject}}}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: PriorityLevelConfiguration
    /// metadata:
    ///   name: ml-controllers
    /// spec: {type: Limited, limited: {nominalConcurrencyShares: 30, limitResponse: {type: Reject}}}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - `k8s.io/kubernetes/pkg/registry/flowcontrol/ensurer` (`RemoveUnwantedObjects`).
    "bootstrap-annotation", Fairness, Error, High, [Object(check)]
}

fn check(object: &Object<'_>, _: &Context<'_>, out: &mut Findings) {
    if object.group() != "flowcontrol.apiserver.k8s.io" || is_bootstrap(&object.name()) {
        return;
    }
    let field = object.annotation(AUTOUPDATE);
    if field.scalar().as_deref() == Some("true") {
        out.push(
            Finding::new(
                &field,
                format!("the API server will delete this {}: the annotation marks it as the server's own", object.kind),
            )
            .label("never copy this annotation")
            .fix(Fix::safe("set it to \"false\"", vec![Edit::Set(field.path(), "false".into())])),
        );
    }
}
