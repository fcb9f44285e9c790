//! `rollback` and `uninstall`.

use serde_json::json;

use crate::{Alone, State, installed, told};

/// One installation: each part begins as the one before has left it.
#[test]
fn everything_can_be_taken_back_by_name() {
    let c = installed();
    c.enforce();
    a_new_version_is_taken_back_with_its_guards(&c);
    a_rollback_keeps_what_others_have_set_since(&c);
    a_removal_says_what_has_to_be_taken_away_by_hand(&c);
    a_removal_names_everything_and_a_half_installation_goes_as_well(&c);
    c.leave(State::Bare);
}

/// What an older Bedplate would have left: a guard of other words, one that this one does not have, one too few.
fn a_new_version_is_taken_back_with_its_guards(c: &Alone) {
    let render = c.bedplate("render").accepted();
    let policy = render
        .split("---\n")
        .find(|text| {
            text.contains("kind: ValidatingAdmissionPolicy\n") && text.contains("  name: admission.bedplate.dev\n")
        })
        .unwrap();
    let older = policy.replace("can change under you", "can change");
    let gone = policy.replace("  name: admission.bedplate.dev", "  name: older-rule.bedplate.dev");
    for text in [&older, &gone] {
        c.kubectl(&["apply", "--server-side", "--force-conflicts", "--field-manager=bedplate", "-f", "-"], text)
            .accepted();
    }
    c.k("delete validatingadmissionpolicybinding scale.statefulsets.apps.bedplate.dev").accepted();
    let exists = |name: &str| {
        c.k(&format!("get validatingadmissionpolicy,validatingadmissionpolicybinding {name}.bedplate.dev"))
    };

    let told = c.bedplate("apply").accepted();
    for line in [
        "changed ValidatingAdmissionPolicy admission.bedplate.dev",
        "removed ValidatingAdmissionPolicy older-rule.bedplate.dev",
        "created ValidatingAdmissionPolicyBinding scale.statefulsets.apps.bedplate.dev",
    ] {
        assert!(told.contains(line), "{told}");
    }
    let told = c.bedplate("rollback").accepted();
    assert!(told.contains("everything is as it was before the last apply"), "{told}");
    let words = c
        .k("get validatingadmissionpolicy admission.bedplate.dev -o jsonpath={.spec.validations[*].messageExpression}");
    let words = words.accepted();
    assert!(words.contains("can change'") || words.contains("can change:"), "{words}");
    c.k("get validatingadmissionpolicy older-rule.bedplate.dev").accepted();
    exists("scale.statefulsets.apps").refused("not found");
    let reason = c.k("get stabilityprofile default -o jsonpath={.status.conditions[0].reason}").accepted();
    assert_eq!(reason, "RolledBack");
    c.bedplate("apply").accepted();
    assert_eq!(c.bedplate("plan").code, 0);
}

/// What others have set since is not ours to take away, and is told.
fn a_rollback_keeps_what_others_have_set_since(c: &Alone) {
    let file = c.cluster.folder.join("drain.yaml");
    let profile = json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": "StabilityProfile",
        "spec": { "serving": { "drainSeconds": 60 }, "modes": { "admission": "audit" } } });
    std::fs::write(&file, profile.to_string()).unwrap();
    c.bedplate(&format!("apply --file {}", file.display())).accepted();
    let theirs = json!({ "spec": { "training": { "graceSeconds": 900 } } }).to_string();
    c.kubectl(&["patch", "stabilityprofile", "default", "--type=merge", "-p", &theirs], "").accepted();
    let told = c.bedplate("rollback").accepted();
    assert!(
        told.contains("but for what others have set since") && told.contains("StabilityProfile default .spec.training"),
        "{told}"
    );
    let spec = c.k("get stabilityprofile default -o jsonpath={.spec}").accepted();
    assert!(spec.contains("900") && !spec.contains("drainSeconds"), "{spec}");
}

fn a_removal_names_everything_and_a_half_installation_goes_as_well(c: &Alone) {
    let exemption = json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": "Exemption", "metadata": { "name": "full-size" },
        "spec": { "rule": "gpu-ceiling", "subject": { "name": "full-size" }, "reason": "once a year", "expires": "2999-01-01" } });
    c.create(&exemption).accepted();
    // It is written into the guards, so there is something to go back to.
    c.bedplate("apply").accepted();
    let nobody = c.nobody("uninstall-nobody");
    told(&c.bedplate_with(&nobody, "uninstall"), &["may not do all", "verbs: [delete, list]", "verbs: [delete, get]"]);
    c.give("uninstall-nobody", "uninstall");
    let mut told = String::new();
    c.eventually(|| {
        told = c.bedplate_with(&nobody, "uninstall").text;
        !told.contains("may not do all")
    });
    for what in [
        "StabilityProfile default",
        "Exemption full-size",
        "ValidatingAdmissionPolicy admission.bedplate.dev",
        "ConfigMap kube-system/bedplate-rollback",
    ] {
        assert!(told.contains(&format!("removed {what}")), "{what}: {told}");
    }
    c.bedplate("uninstall").accepted();
    let left =
        c.k("get crd,validatingadmissionpolicy,validatingadmissionpolicybinding,configmap -A -o name").accepted();
    assert!(!left.contains("bedplate"), "{left}");

    // Half of it: one definition, one policy.
    let crds = c.bedplate("render --crds").accepted();
    c.kubectl(&["create", "-f", "-"], crds.split("---\n").next().unwrap()).accepted();
    c.kubectl(
        &["apply", "--server-side", "--field-manager=bedplate", "-f", "-"],
        &policy(&c.bedplate("render").accepted()),
    )
    .accepted();
    let told = c.bedplate("uninstall").accepted();
    assert!(told.contains("2 objects removed"), "{told}");
}

/// What stands in a file of the API server no request can remove: it is said what a person has to do.
fn a_removal_says_what_has_to_be_taken_away_by_hand(c: &Alone) {
    let file = c.cluster.static_policies().join("guards.yaml");
    std::fs::write(&file, c.bedplate("render --static").accepted()).unwrap();
    let delete = "delete validatingadmissionpolicybinding deletion.bedplate.dev --dry-run=server";
    c.eventually(|| c.k(delete).code != 0);
    told(&c.bedplate("uninstall"), &["guards.bedplate.static.k8s.io", "staticManifestsDir", "run this again"]);
    c.k("get crd stabilityprofiles.bedplate.dev").accepted();
    std::fs::remove_file(&file).unwrap();
    c.eventually(|| c.k(delete).code == 0);
}

fn policy(render: &str) -> String {
    let first = |text: &&str| text.contains("kind: ValidatingAdmissionPolicy\n");
    render.split("---\n").find(first).unwrap().to_owned()
}
