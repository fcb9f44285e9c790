//! Somebody else sets the same fields: nothing is taken from them in silence, and nothing of theirs hides in a guard.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::front::{Door, Front};
use crate::{Alone, State, installed, told};

fn profile(per_job: u64) -> Value {
    json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": "StabilityProfile", "metadata": { "name": "default" },
        "spec": { "admission": { "acceleratorsPerJob": per_job }, "modes": { "admission": "audit", "deletion": "audit" } } })
}

impl Alone {
    fn file(&self, name: &str, object: &Value) -> PathBuf {
        let path = self.cluster.folder.join(name);
        std::fs::write(&path, object.to_string()).unwrap();
        path
    }

    fn per_job(&self) -> String {
        self.k("get stabilityprofile default -o jsonpath={.spec.admission.acceleratorsPerJob}").accepted()
    }

    /// `kubectl edit`, by somebody whose editor replaces words.
    fn edit(&self, object: &str, replace: &str) {
        let mut kubectl = self.cluster.kubectl().unwrap();
        kubectl.args(["edit"]).args(object.split(' ')).env("KUBE_EDITOR", format!("sed -i {replace}"));
        assert!(kubectl.output().unwrap().status.success());
    }
}

#[test]
fn a_profile_that_another_team_sets_is_theirs_until_it_is_taken_over_by_name() {
    let c = installed();
    let theirs = profile(16).to_string();
    c.kubectl(&["apply", "--server-side", "--field-manager=platform-team", "-f", "-"], &theirs).accepted();
    let file = c.file("ours.yaml", &profile(32));

    let year = "since 20";
    let words = [
        "StabilityProfile default",
        ".spec.admission.acceleratorsPerJob belongs to platform-team",
        year,
        "--force-conflicts",
    ];
    told(&c.bedplate(&format!("apply --file {}", file.display())), &words);
    assert_eq!(c.per_job(), "16");
    let plan = c.bedplate(&format!("plan --file {}", file.display()));
    assert_eq!(plan.code, 1, "{}", plan.text);
    for word in [
        "! StabilityProfile default",
        "belongs to platform-team",
        year,
        "acceleratorsPerJob: 16",
        "acceleratorsPerJob: 32",
    ] {
        assert!(plan.text.contains(word), "expected {word:?} in: {}", plan.text);
    }
    c.bedplate(&format!("apply --force-conflicts --file {}", file.display())).accepted();
    assert_eq!(c.per_job(), "32");

    // What it was before.
    c.bedplate("rollback").accepted();
    assert_eq!(c.per_job(), "16");
    c.bedplate("rollback").refused("nothing to go back to");
    let nothing = json!({ "spec": { "admission": null } }).to_string();
    c.kubectl(&["patch", "stabilityprofile", "default", "--type=merge", "-p", &nothing], "").accepted();
    c.bedplate("apply").accepted();
    c.leave(State::Installed);
}

/// Three ways to soften a guard by hand. The last two conflict with no field that Bedplate sets: a server-side apply
/// keeps them and says nothing.
#[test]
fn a_guard_that_was_softened_by_hand_is_shown_and_mended_when_asked() {
    let c = installed();
    c.enforce();
    c.edit("validatingadmissionpolicy admission.bedplate.dev", "s/Fail/Ignore/");
    c.edit("validatingadmissionpolicybinding admission.bedplate.dev", "s/Deny/Warn/");
    let never = json!([{ "op": "add", "path": "/spec/matchConditions", "value": [{ "name": "never", "expression": "false" }] }]);
    let policy = ["patch", "validatingadmissionpolicy", "deletion.bedplate.dev", "--type=json", "-p"];
    c.kubectl(&[&policy[..], &[&never.to_string()]].concat(), "").accepted();

    let words = [
        "ValidatingAdmissionPolicy admission.bedplate.dev",
        ".spec.failurePolicy belongs to kubectl-edit since 20",
        "ValidatingAdmissionPolicyBinding admission.bedplate.dev",
        ".spec.validationActions[\"Warn\"] belongs to kubectl-edit since 20",
        "ValidatingAdmissionPolicy deletion.bedplate.dev",
        ".spec.matchConditions belongs to kubectl-patch since 20",
    ];
    told(&c.bedplate("apply"), &words);
    let plan = c.bedplate("plan");
    assert_eq!(plan.code, 1, "{}", plan.text);
    for word in words {
        assert!(plan.text.contains(word), "expected {word:?} in: {}", plan.text);
    }
    // What is not softened is there and stays; what is, nobody has touched yet.
    c.k("get validatingadmissionpolicy scale.deployments.apps.bedplate.dev").accepted();
    let failure = "get validatingadmissionpolicy admission.bedplate.dev -o jsonpath={.spec.failurePolicy}";
    assert_eq!(c.k(failure).accepted(), "Ignore");

    // A label of somebody else's is none of our business.
    c.k("label validatingadmissionpolicy admission.bedplate.dev team=platform").accepted();
    let told = c.bedplate("apply --force-conflicts").accepted();
    assert!(told.contains("3 objects changed"), "{told}");
    assert_eq!(c.k(failure).accepted(), "Fail");
    let label = "get validatingadmissionpolicy admission.bedplate.dev -o jsonpath={.metadata.labels.team}";
    assert_eq!(c.k(label).accepted(), "platform");
    assert_eq!(c.bedplate("plan").code, 0);
}

/// The controller that checks the types of policies wrote into their status between a look and a change, and the
/// change of a profile was refused half of the time.
#[test]
fn what_is_only_said_of_a_guard_meanwhile_keeps_nobody_from_changing_it() {
    let c = installed();
    let said = AtomicU32::new(0);
    let real = c.c;
    let front = Front::new(
        &c,
        move |knock| {
            // Twice for each of the first tries: of the dry run, and of the change.
            if knock.method == "PUT" && said.fetch_add(1, Ordering::Relaxed) < 4 {
                let name = knock.path.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap();
                let status =
                    json!({ "status": { "observedGeneration": 1000 + said.load(Ordering::Relaxed) } }).to_string();
                let policy =
                    ["patch", "validatingadmissionpolicy", name, "--subresource=status", "--type=merge", "-p", &status];
                real.kubectl(&policy, "");
            }
            Door::Open
        },
        |_| {},
    );
    let config = c.kubeconfig("said", &front.cluster(), &json!({}));
    let file = c.file("said.yaml", &profile(32));
    c.bedplate_with(&config, &format!("apply --file {}", file.display())).accepted();
    let allowed = r#"jsonpath={.spec.variables[?(@.name=="totalAllowed")].expression}"#;
    assert_eq!(
        c.k(&format!("get validatingadmissionpolicy admission-audit.bedplate.dev -o {allowed}")).accepted(),
        "32"
    );
    assert_eq!(c.bedplate("plan").code, 0);
}
