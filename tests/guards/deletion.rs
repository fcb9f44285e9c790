//! What everything hangs on cannot be deleted by mistake.

use bedplate_tests::deployment;
use serde_json::json;

use crate::cluster;

#[test]
fn one_command_that_ends_all_training_is_refused() {
    let c = cluster();
    let told = c.k("delete crd tfjobs.kubeflow.org").refused("deletes every TFJob of every namespace");
    assert!(told.contains("bedplate unlock customresourcedefinitions tfjobs.kubeflow.org --reason"), "{told}");
    c.k("delete crd --all --dry-run=server").refused("deletes every");
    c.kubectl(&["delete", "--raw", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All"], "")
        .refused("denied");
    c.k("get crd tfjobs.kubeflow.org").accepted();
}

/// Not only models hang on CRDs: a team says which others.
#[test]
fn crds_of_groups_that_the_profile_names_stay_and_others_may_go() {
    let c = cluster();
    let crd = |group: &str| {
        json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": format!("widgets.{group}") },
            "spec": { "group": group, "scope": "Namespaced", "names": { "kind": "Widget", "plural": "widgets" }, "versions": [
                { "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } } } ] } })
    };
    c.create(&crd("widgets.example")).accepted();
    c.create(&crd("gadgets.example")).accepted();
    c.k("delete crd widgets.widgets.example").refused("deletes every Widget of every namespace");
    c.k("delete crd widgets.gadgets.example --wait=false").accepted();
}

#[test]
fn a_production_namespace_stays_and_is_not_left_terminating() {
    let c = cluster();
    let ns = c.namespace("prod");
    c.k(&format!("delete namespace {ns} --wait=false")).refused("is a production namespace");
    assert_eq!(c.k(&format!("get namespace {ns} -o jsonpath={{.status.phase}}")).accepted(), "Active");
    let scratch = c.namespace("scratch");
    c.k(&format!("delete namespace {scratch} --wait=false")).accepted();
}

#[test]
fn a_marked_object_survives_every_way_of_deleting_it() {
    let c = cluster();
    let ns = c.namespace("models");
    let object = deployment(&ns, "llm");
    c.create(&object).accepted();
    // Deleting the namespace would take it along: the namespace is marked first.
    c.k(&format!("annotate deployment llm -n {ns} bedplate.dev/delete-protection=true"))
        .refused("is not protected itself");
    c.k(&format!("annotate namespace {ns} bedplate.dev/delete-protection=true")).accepted();
    c.eventually(|| c.k(&format!("annotate deployment llm -n {ns} bedplate.dev/delete-protection=true")).code == 0);

    c.k(&format!("delete deployment llm -n {ns}")).refused("is protected from deletion");
    c.k(&format!("delete deployment --all -n {ns}")).refused("is protected from deletion");
    c.kubectl(&["delete", "--raw", &format!("/apis/apps/v1/namespaces/{ns}/deployments")], "").refused("denied");
    c.kubectl(&["replace", "--force", "-f", "-"], &object.to_string()).refused("is protected from deletion");
    c.k(&format!("delete namespace {ns} --wait=false")).refused("is protected from deletion");
    c.k(&format!("annotate deployment llm -n {ns} bedplate.dev/delete-protection-"))
        .refused("would lose its protection");
    c.k(&format!("annotate --overwrite deployment llm -n {ns} bedplate.dev/delete-protection=false"))
        .refused("would lose its");
    // Declared again without the mark, as a GitOps tool that owns it would.
    c.kubectl(&["replace", "-f", "-"], &object.to_string()).refused("would lose its protection");
    c.k(&format!("scale deployment llm -n {ns} --replicas=0")).accepted();
    c.k(&format!("get deployment llm -n {ns}")).accepted();
}

#[test]
fn a_typo_in_the_mark_protects() {
    let c = cluster();
    let ns = c.namespace("models");
    c.k(&format!("annotate namespace {ns} bedplate.dev/delete-protection=ture")).accepted();
    c.k(&format!("delete namespace {ns} --wait=false")).refused("is protected from deletion");
    let kruise = c.namespace("models");
    c.k(&format!("label namespace {kruise} policy.kruise.io/delete-protection=Always")).accepted();
    c.k(&format!("delete namespace {kruise} --wait=false")).refused("is protected from deletion");
}

/// A production namespace needs no mark of its own before its content may have one.
#[test]
fn content_of_a_production_namespace_can_be_marked() {
    let c = cluster();
    let ns = c.namespace("prod");
    c.create(&deployment(&ns, "llm")).accepted();
    c.k(&format!("annotate deployment llm -n {ns} bedplate.dev/delete-protection=true")).accepted();
    c.k(&format!("delete deployment llm -n {ns}")).refused("is protected from deletion");
}

#[test]
fn a_deletion_that_is_meant_takes_two_requests_and_leaves_a_record() {
    let c = cluster();
    let ns = c.namespace("prod");
    c.k(&format!("delete namespace {ns} --wait=false")).refused("bedplate unlock");
    c.bedplate(&format!("unlock namespace {ns} --reason 'moved to cluster B' --for 5")).accepted();
    let events = c.k("get events -n default -o jsonpath={.items[*].message}").accepted();
    assert!(
        events.contains("unlocked by bedplate-devcluster-admin") && events.contains("moved to cluster B"),
        "{events}"
    );
    c.k(&format!("delete namespace {ns} --wait=false")).accepted();
}

#[test]
fn an_unlock_taken_back_protects_again() {
    let c = cluster();
    let ns = c.namespace("prod");
    c.bedplate(&format!("unlock namespace {ns} --reason 'by mistake'")).accepted();
    c.bedplate(&format!("lock namespace {ns}")).accepted();
    c.k(&format!("delete namespace {ns} --wait=false")).refused("production namespace");
}

/// CEL has no clock, and a deletion carries no time: the Lease of the API server has it.
#[test]
fn an_unlock_lapses_by_itself() {
    let c = cluster();
    let ns = c.namespace("prod");
    let now = String::from_utf8(
        std::process::Command::new("date").args(["-u", "-d", "+2 seconds", "+%FT%TZ"]).output().unwrap().stdout,
    )
    .unwrap();
    let unlock = format!("bedplate.dev/unlock={ns} until {} by bedplate-devcluster-admin: short", now.trim());
    c.kubectl(&["annotate", "namespace", &ns, &unlock], "").accepted();
    c.eventually(|| c.k(&format!("delete namespace {ns} --dry-run=server")).text.contains("has lapsed"));
    c.k(&format!("delete namespace {ns} --wait=false")).refused("has lapsed");
}

#[test]
fn an_unlock_is_for_one_object_one_user_and_an_hour() {
    let c = cluster();
    let ns = c.namespace("prod");
    let try_with = |text: &str| c.kubectl(&["annotate", "namespace", &ns, &format!("bedplate.dev/unlock={text}")], "");
    try_with("yes").refused("is not of the form");
    try_with("other until 2026-01-01T00:00:00Z by bedplate-devcluster-admin: why").refused("names other, and this is");
    try_with(&format!("{ns} until 2026-01-01T00:00:00Z by mallory: why")).refused("names the user mallory");
    try_with(&format!("{ns} until 2999-01-01T00:00:00Z by bedplate-devcluster-admin: why"))
        .refused("at most 60 minutes");
}

#[test]
fn the_profile_can_not_be_narrowed_or_deleted_to_get_round_it() {
    let c = cluster();
    let patch = |patch: serde_json::Value| {
        c.kubectl(&["patch", "stabilityprofile", "default", "--type=merge", "-p", &patch.to_string()], "")
    };
    c.k("delete stabilityprofile default").refused("is protected from deletion");
    patch(json!({ "spec": { "deletion": { "productionNamespaces": ["other"] } } }))
        .refused("would be protected no longer");
    patch(json!({ "spec": { "deletion": { "crdGroups": [] } } })).refused("CRDs of the group widgets.* would be");
    patch(json!({ "spec": { "modes": { "deletion": "off" } } })).refused("would hold less strictly");
    patch(json!({ "spec": { "rules": { "delete-protection": "off" } } })).refused("would hold less strictly");
    let entry = json!([{ "op": "add", "path": "/spec/namespaces/-", "value": { "names": ["prod-9"], "modes": { "deletion": "off" } } }]);
    c.kubectl(&["patch", "stabilityprofile", "default", "--type=json", "-p", &entry.to_string()], "")
        .refused("would hold less strictly");
    patch(json!({ "spec": { "modes": { "delete-protection": "warn" } } })).refused("would hold less strictly");
    c.k("delete crd stabilityprofiles.bedplate.dev").refused("deletes every StabilityProfile");
}
