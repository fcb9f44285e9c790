//! From an empty cluster to a guarded one and back: a cluster of its own, since guards hold for all of it.
#![allow(clippy::unwrap_used)]

use bedplate_model::names;
use bedplate_tests::replica::Operator;
use bedplate_tests::{Harness, job};

#[test]
fn an_installation_begins_by_refusing_nothing_and_leaves_nothing_behind() {
    let c = Harness::get(|_| {});
    let ns = c.namespace("team");
    c.create(&job(&ns, "before", 64, 1)).accepted();

    let plan = c.bedplate("plan");
    assert_eq!(plan.code, 1, "{}", plan.text);
    assert!(plan.text.contains("+ StabilityProfile default"), "{}", plan.text);
    assert!(
        plan.text.contains(&format!("job/{ns}/before: this Job asks for 64 accelerators, the ceiling is 8")),
        "{}",
        plan.text
    );
    assert!(
        plan.text.contains("pod by pod as they come:") && plan.text.contains("experiments.kubeflow.org: the objects")
    );
    assert!(c.k("get crd stabilityprofiles.bedplate.dev").code != 0, "a plan changes nothing");

    let told = c.bedplate("apply").accepted();
    assert!(told.contains("refuses nothing yet"), "{told}");
    let told = c.bedplate("apply").accepted();
    assert!(told.contains("everything was in place"), "{told}");
    let plan = c.bedplate("plan").accepted();
    assert!(plan.contains("\n0 of "), "a plan after an apply has nothing to do: {plan}");
    let proof = c.bedplate("prove");
    assert!(proof.code == 1 && proof.text.contains("the mode of gpu-ceiling is `audit`"), "{}", proof.text);
    c.create(&job(&ns, "audited", 64, 1)).accepted();

    // A profile that says nothing of modes takes those of the first one away.
    let file = c.cluster.folder.join("bedplate.yaml");
    std::fs::write(&file, "apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\nspec: {}\n").unwrap();
    let told = c.bedplate(&format!("apply --file {}", file.display())).accepted();
    assert!(told.contains("every guard holds"), "{told}");
    assert_eq!(c.bedplate("prove").code, 0);
    c.create(&job(&ns, "enforced", 64, 1)).refused("the ceiling is 8");

    // A new profile, and back.
    std::fs::write(
        &file,
        // `off` without quotes, as people write it.
        "apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\nspec: {admission: {acceleratorsPerJob: 64}, modes: \
         {dns: off}, namespaces: [{names: [lab-*], rules: {finished-jobs-kept: off}}]}\n",
    )
    .unwrap();
    c.bedplate(&format!("apply --file {}", file.display())).accepted();
    c.eventually(|| c.create(&job(&ns, "roomy", 64, 1)).code == 0);
    c.bedplate("rollback").accepted();
    c.eventually(|| c.create(&job(&ns, "narrow", 64, 1)).code != 0);

    // Interrupted half-way: what is missing is made, the rest stays.
    c.k("delete validatingadmissionpolicy admission.bedplate.dev").accepted();
    let told = c.bedplate("apply").accepted();
    assert!(
        told.contains("created ValidatingAdmissionPolicy admission.bedplate.dev") && told.contains("1 objects changed"),
        "{told}"
    );

    // The guard of the guards comes from a file, which no request can take away.
    let text = c.bedplate("render --static").accepted();
    let file = c.cluster.static_policies().join("guards.yaml");
    std::fs::write(&file, text).unwrap();
    let delete = "delete validatingadmissionpolicybinding deletion.bedplate.dev";
    c.eventually(|| c.k(&format!("{delete} --dry-run=server")).code != 0);
    c.k(delete).refused("is a guard of Bedplate");
    c.kubectl(
        &[
            "patch",
            "validatingadmissionpolicybinding",
            "admission.bedplate.dev",
            "--type=merge",
            "-p",
            r#"{"spec":{"validationActions":["Audit"]}}"#,
        ],
        "",
    )
    .refused("is a guard of Bedplate");
    // What the profile says stands in the guards, so they change with it: also those that the file guards.
    let relaxed = r#"{"spec":{"modes":{"admission":"audit"},"admission":{"acceleratorsPerJob":16}}}"#;
    c.kubectl(&["patch", "stabilityprofile", "default", "--type=merge", "-p", relaxed], "").accepted();
    c.bedplate("apply").accepted();
    let bindings = c.k("get validatingadmissionpolicybinding -o name").accepted();
    assert!(bindings.contains("/admission-audit.") && !bindings.contains("/admission.bedplate"), "{bindings}");
    c.bedplate("unlock validatingadmissionpolicybinding admission-audit.bedplate.dev --reason 'a drill'").accepted();
    c.k("delete validatingadmissionpolicybinding admission-audit.bedplate.dev").accepted();
    std::fs::remove_file(&file).unwrap();
    c.eventually(|| c.k(&format!("{delete} --dry-run=server")).code == 0);

    c.bedplate("uninstall").accepted();
    for kind in ["crd", "validatingadmissionpolicy", "validatingadmissionpolicybinding"] {
        let left = c.k(&format!("get {kind} -o name")).accepted();
        assert!(!left.contains("bedplate"), "{left}");
    }
    c.eventually(|| c.create(&job(&ns, "after", 64, 1)).code == 0);
    c.bedplate("uninstall").accepted();

    // Flux made the Deployment before the definitions: what is exempted later is on record all the same.
    c.k(&format!("create namespace {}", names::NAMESPACE)).accepted();
    let operator = Operator::start(c, "early", &c.cluster.kubeconfig(), &[]);
    c.eventually(|| operator.leads());
    // It said that nothing was refused yet, and deletions were.
    let some = c.cluster.folder.join("some.yaml");
    std::fs::write(
        &some,
        "apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\nspec: {modes: {admission: audit}}\n",
    )
    .unwrap();
    let told = c.bedplate(&format!("apply --file {}", some.display())).accepted();
    assert!(told.contains("of the rules behind the guards refuse nothing yet"), "{told}");
    let exemption = serde_json::json!({
        "apiVersion": names::API_VERSION, "kind": "Exemption", "metadata": { "name": "early" },
        "spec": { "rule": "gpu-ceiling", "subject": { "name": "sweep" }, "reason": "paper", "expires": "2999-01-01" },
    });
    c.apply(&exemption).accepted();
    c.eventually(|| c.bedplate("trail early").accepted().contains("exempted"));
    drop(operator);
    c.bedplate("uninstall").accepted();
}
