use bedplate_apf::bootstrap::{self, COMMON_LEVEL};
use bedplate_model::{Finding, Object};

use crate::fairness::lanes;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a FlowSchema that puts everyone (all authenticated users, all service accounts, or
    /// `*`) into an exempt level, or into one with more shares than `workload-low`.
    ///
    /// ## Why
    /// A fast lane that everyone may ride in is no fast lane. The flood of a hyper-parameter
    /// search rides in it too, past the controllers that it was made for; in an exempt level
    /// nothing holds it back at all.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: FlowSchema
    /// metadata: {name: everyone-first}
    /// spec:
    ///   priorityLevelConfiguration: {name: exempt}
    ///   matchingPrecedence: 100
    ///   rules:
    ///     - subjects: [{kind: Group, group: {name: "system:authenticated"}}]
    ///       resourceRules: [{verbs: ["*"], apiGroups: ["*"], resources: ["*"], clusterScope: true, namespaces: ["*"]}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: FlowSchema
    /// metadata: {name: operator-first}
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
    /// - Levels and shares of every server: `k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap/default.go`.
    "lane-too-wide", Fairness, Error, High, [Object(check)]
}

const EVERYONE: &[&str] = &["*", "system:authenticated", "system:unauthenticated", "system:serviceaccounts"];

fn check(object: &Object<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !object.is("flowcontrol.apiserver.k8s.io", "FlowSchema") || bootstrap::is_bootstrap(&object.name()) {
        return;
    }
    let Some(level) = object.at("spec.priorityLevelConfiguration.name").str() else { return };
    let common = lanes::shares(COMMON_LEVEL, cx).unwrap_or(100);
    // `workload-high` has fewer shares than `workload-low`, and is there to be kept free.
    let high = matches!(level, "system" | "node-high" | "leader-election" | "workload-high");
    let shares = lanes::shares(level, cx);
    if !high && shares.is_none_or(|shares| shares <= common) {
        return;
    }
    for rule in object.at("spec.rules").items() {
        for subject in rule.key("subjects").items() {
            let name =
                ["group", "user"].into_iter().map(|kind| subject.key(kind).key("name")).find(|name| name.exists());
            let Some(field) = name.filter(|name| name.str().is_some_and(|name| EVERYONE.contains(&name))) else {
                continue;
            };
            let who = field.str().unwrap_or_default();
            let what = if shares == Some(i64::MAX) {
                "nothing holds an exempt request back"
            } else {
                "a flood rides in it too"
            };
            out.push(
                Finding::new(&field, format!("`{who}` rides in the high lane `{level}`: {what}"))
                    .label("everyone")
                    .help("name the controllers' service accounts instead"),
            );
        }
    }
}
