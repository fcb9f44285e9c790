//! Rights: all that are missing at once, and the role that gives them gives enough.

use std::path::PathBuf;

use serde_json::json;

use crate::{Alone, State, bare, installed_to_look, told};

impl Alone {
    /// A kubeconfig of a service account without rights.
    pub(crate) fn nobody(&self, name: &str) -> PathBuf {
        self.k(&format!("create serviceaccount {name} -n default")).accepted();
        let token = self.k(&format!("create token {name} -n default")).accepted();
        let cluster = json!({ "server": self.cluster.server, "certificate-authority": self.authority() });
        self.kubeconfig(name, &cluster, &json!({ "token": token.trim() }))
    }

    /// Gives it what `bedplate rbac` prints, by the words that the refusal itself told.
    pub(crate) fn give(&self, name: &str, command: &str) {
        let role = self.bedplate(&format!("rbac {command}")).accepted();
        self.kubectl(&["apply", "-f", "-"], &role).accepted();
        self.k(&format!(
            "create clusterrolebinding {name}-{command} --clusterrole=bedplate-{command} --serviceaccount=default:{name}"
        ))
        .accepted();
    }
}

/// From the first look on: each command by an account that has nothing but what `bedplate rbac` gives for it.
#[test]
fn every_right_that_is_missing_is_named_at_once_and_the_role_gives_them() {
    let c = bare();
    let ns = c.namespace("rights");
    let file = c.cluster.folder.join("rights.yaml");
    let profile = json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": "StabilityProfile", "spec": {
        "admission": { "acceleratorsPerJob": 16 }, "modes": { "admission": "audit", "deletion": "audit" } } });
    std::fs::write(&file, profile.to_string()).unwrap();
    let again = format!("apply --file {}", file.display());
    let impact = "impact delete crd pytorchjobs.kubeflow.org";
    let unlock = format!("unlock namespace {ns} --reason drill");
    let lock = format!("lock namespace {ns}");
    // The command, whose rights, some that are missing, and what it says when it has them all.
    let cases: &[(&str, &str, &[&str], &str)] = &[
        ("audit", "audit", &["resources: [pods], verbs: [get, list]", "cronjobs, jobs"], "objects judged"),
        (
            "plan",
            "plan",
            &["validatingadmissionpolicies, validatingadmissionpolicybindings], verbs: [get, list, patch, update]"],
            "objects would change",
        ),
        (
            "apply",
            "apply",
            &["verbs: [create, delete, get, list, patch, update]", "stabilityprofiles/status", "leases"],
            "refuses nothing yet",
        ),
        // Those that the first time did not need: the profile is written into the guards.
        (&again, "apply", &[], "changed StabilityProfile default"),
        ("rollback", "rollback", &[], "everything is as it was"),
        ("prove", "prove", &["deletecollection", "verbs: [delete, get, patch]"], "refused"),
        (impact, "impact", &["pytorchjobs", "persistentvolumeclaims"], "would take along"),
        (
            &unlock,
            "unlock",
            &["resources: [namespaces], resourceNames: [rights-", "resources: [events], verbs: [create]"],
            "is unlocked until",
        ),
        (&lock, "unlock", &[], "is locked"),
    ];
    for (line, command, missing, done) in cases {
        let name = format!("{command}-nobody");
        let mut config = c.cluster.folder.join(format!("{name}.kubeconfig"));
        if !config.exists() {
            config = c.nobody(&name);
            let answer = c.bedplate_with(&config, line);
            told(&answer, &[&format!("system:serviceaccount:default:{name} may not do all"), "nothing was done"]);
            told(&answer, missing);
            told(
                &answer,
                &[&format!("bedplate rbac {command} | kubectl apply"), &format!("--serviceaccount=default:{name}")],
            );
            c.give(&name, command);
        }
        let mut last = c.bedplate_with(&config, line);
        // The API server's own authorizer is a moment behind.
        c.eventually(|| {
            if last.text.contains("may not do all") {
                last = c.bedplate_with(&config, line);
            }
            !last.text.contains("may not do all")
        });
        assert!(last.text.contains(done), "{line}: {}", last.text);
        assert!(!last.text.contains("may not"), "{line}: {}", last.text);
    }
    c.leave(State::Installed);
}

#[test]
fn one_namespace_needs_rights_in_that_namespace_only() {
    let c = installed_to_look();
    let ns = c.namespace("team");
    let config = c.nobody("member");
    let role = c.bedplate("rbac audit").accepted();
    c.kubectl(&["apply", "-f", "-"], &role).accepted();
    c.k(&format!("create rolebinding member -n {ns} --clusterrole=bedplate-audit --serviceaccount=default:member"))
        .accepted();
    let missing = c.bedplate_with(&config, &format!("audit -n {ns}"));
    told(&missing, &["{apiGroups: [bedplate.dev], resources: [stabilityprofiles], verbs: [get]}"]);
    assert!(!missing.text.contains("pods"), "{}", missing.text);
    let read = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "profile-reader" },
        "rules": [{ "apiGroups": ["bedplate.dev"], "resources": ["stabilityprofiles", "exemptions"], "verbs": ["get", "list"] }] });
    c.create(&read).accepted();
    c.k("create clusterrolebinding member --clusterrole=profile-reader --serviceaccount=default:member").accepted();
    c.eventually(|| c.bedplate_with(&config, &format!("audit -n {ns}")).code == 0);
    told(&c.bedplate_with(&config, "audit"), &["resources: [pods]"]);
}
