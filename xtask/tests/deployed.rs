//! The operator as users run it: pods of a Deployment, asked by the API server through their Service, with the rights of
//! their account and no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bedplate_devcluster::{Cluster, Image, run, tools};
use common::{Down, can_have_a_node, eventually, kubectl, stdout, try_kubectl, up};

const NAME: &str = "test-of-the-operator";

#[test]
fn pods_of_the_operator_answer_keep_the_guards_and_go_without_a_trace() {
    if !can_have_a_node() {
        return;
    }
    let _end = Down(NAME);
    let cluster = up(NAME, &["--tier", "node", "--with", "registry"]);
    let program = run::bedplate(false).unwrap();
    let image = cluster.push_image("bedplate", "test", &image(&program)).unwrap();

    let install = ["apply", "--enforce", "--operator", &image];
    bedplate(&program, &cluster, &install);
    assert!(bedplate(&program, &cluster, &install).contains("everything was in place"));
    rolled_out(&cluster);

    // Asked by the API server through the Service, under certificates of its own making.
    eventually(|| refused(&cluster, "admission webhook \"explain.bedplate.dev\" denied the request"));
    refused(&cluster, ": a pod asks for 64 accelerators, the ceiling is 8 (gpu-ceiling)").unwrap();

    // One of the pods keeps the guards.
    kubectl(&cluster, &["delete", "validatingadmissionpolicybinding", "deletion.bedplate.dev"]);
    eventually(|| {
        let binding = try_kubectl(&cluster, &["get", "validatingadmissionpolicybinding", "deletion.bedplate.dev"]);
        binding.status.success().then_some(()).ok_or_else(|| logs(&cluster))
    });

    // A node is drained: one pod after the other is evicted, and nobody is let through meanwhile.
    let pods = kubectl(&cluster, &["get", "pods", "--namespace=bedplate-system", "--output=name"]);
    for pod in pods.lines() {
        kubectl(&cluster, &["delete", pod, "--namespace=bedplate-system", "--wait=false"]);
        refused(&cluster, "the ceiling is 8").unwrap();
        rolled_out(&cluster);
    }
    refused(&cluster, "the ceiling is 8").unwrap();

    // Its own namespace goes only when that is meant; then the policies hold, and what fits goes on being created.
    let namespace = "bedplate-system";
    let told = try_kubectl(&cluster, &["delete", "namespace", namespace]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("delete-protection"), "{told:?}");
    bedplate(&program, &cluster, &["unlock", "namespace", namespace, "--reason", "moving it"]);
    kubectl(&cluster, &["delete", "namespace", namespace, "--timeout=120s"]);
    refused(&cluster, "ValidatingAdmissionPolicy 'admission.bedplate.dev' with binding").unwrap();
    kubectl(&cluster, &["create", "job", "small", "--image=docker.io/pytorch/pytorch:2.7.0"]);
    bedplate(&program, &cluster, &install);
    rolled_out(&cluster);
    eventually(|| refused(&cluster, "admission webhook \"explain.bedplate.dev\" denied the request"));

    // It would put back what goes: it goes first.
    let removed = bedplate(&program, &cluster, &["uninstall"]);
    let first = removed.lines().next().unwrap_or_default();
    assert!(first.contains("WebhookConfiguration"), "{removed}");
    let left = "validatingadmissionpolicies,validatingadmissionpolicybindings,customresourcedefinitions,\
                mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings,namespaces";
    assert_eq!(
        kubectl(&cluster, &["get", left, "--output=name", "--selector=app.kubernetes.io/managed-by=bedplate"]),
        ""
    );
    assert!(!try_kubectl(&cluster, &["get", "namespace", namespace]).status.success());

    as_a_release_of_helm(&program, &cluster, &image);
}

/// Who takes an operator away with Helm leaves what it made: guards that nobody keeps any more, and a locked cluster.
fn as_a_release_of_helm(program: &Path, cluster: &Cluster, image: &str) {
    const KINDS: &str = "validatingadmissionpolicies,validatingadmissionpolicybindings,customresourcedefinitions,\
                         mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings,\
                         roles,rolebindings,serviceaccounts,services,secrets,configmaps,leases,deployments,\
                         poddisruptionbudgets,jobs";
    const ENFORCED: &str = "profile.modes.admission=enforce,profile.modes.deletion=enforce";
    let there = || -> BTreeSet<String> {
        let all = kubectl(cluster, &["get", KINDS, "--all-namespaces", "--output=name"]);
        // Helm's own records of a release.
        all.lines().filter(|name| !name.contains("sh.helm.release")).map(str::to_owned).collect()
    };
    let before = there();
    let chart = run::root().join("deploy/helm/bedplate").display().to_string();
    let image = format!("image={image}");
    let put = ["bedplate", &chart, "--namespace=bedplate-system", "--create-namespace", "--wait", "--timeout=180s"];
    let with = |command: &'static str, values: &'static str| {
        helm(cluster, &[&[command], &put[..], &["--set", &image, "--set", values]].concat())
    };
    let prove = || Command::new(program).arg("prove").env("KUBECONFIG", cluster.kubeconfig()).output().unwrap();

    // At first it only tells.
    let told = with("install", "auditEvery=1m");
    assert!(told.contains("bedplate prove") && told.contains("kubectl annotate namespace bedplate-system "), "{told}");
    eventually(|| {
        let binding = ["get", "validatingadmissionpolicybinding", "admission-audit.bedplate.dev"];
        try_kubectl(cluster, &binding).status.success().then_some(()).ok_or_else(|| logs(cluster))
    });
    assert!(stdout(&prove()).contains("the mode of gpu-ceiling is `audit`"));
    // Helm never changes a definition: the operator does.
    let crd = "stabilityprofiles.bedplate.dev";
    kubectl(
        cluster,
        &["patch", "crd", crd, "--type=json", "--patch", r#"[{"op":"remove","path":"/spec/names/shortNames"}]"#],
    );
    eventually(|| {
        let names = kubectl(cluster, &["get", "crd", crd, "--output=jsonpath={.spec.names.shortNames}"]);
        names.contains("stability").then_some(()).ok_or_else(|| logs(cluster))
    });

    with("upgrade", ENFORCED);
    eventually(|| refused(cluster, "admission webhook \"explain.bedplate.dev\" denied the request"));
    eventually(|| prove().status.success().then_some(()).ok_or_else(|| stdout(&prove())));

    // By mistake: the operator goes, what it made holds.
    let remove = ["uninstall", "bedplate", "--namespace=bedplate-system", "--wait", "--timeout=180s"];
    helm(cluster, &[&remove[..], &["--no-hooks"]].concat());
    refused(cluster, "ValidatingAdmissionPolicy 'admission.bedplate.dev' with binding").unwrap();
    with("install", ENFORCED);
    eventually(|| refused(cluster, "admission webhook \"explain.bedplate.dev\" denied the request"));

    // As meant: nothing is left, and nobody is locked out.
    helm(cluster, &remove);
    assert_eq!(before.symmetric_difference(&there()).collect::<Vec<_>>(), Vec::<&String>::new());
    let big = cluster.folder.join("big.json").display().to_string();
    eventually(|| {
        let made = try_kubectl(cluster, &["create", "--dry-run=server", "--filename", &big]);
        made.status.success().then_some(()).ok_or_else(|| format!("{made:?}"))
    });
    kubectl(cluster, &["delete", "namespace", "bedplate-system", "--timeout=120s"]);
}

/// `helm`, which is expected to go well; gives what it prints.
fn helm(cluster: &Cluster, arguments: &[&str]) -> String {
    let mut helm = Command::new(tools::get("helm").unwrap().program().unwrap());
    let output = helm.args(arguments).env("KUBECONFIG", cluster.kubeconfig()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}\n{}", logs(cluster));
    stdout(&output)
}

fn rolled_out(cluster: &Cluster) {
    let deployment = ["deployment/bedplate-operator", "--namespace=bedplate-system", "--timeout=180s"];
    kubectl(cluster, &[&["rollout", "status"], &deployment[..]].concat());
}

/// The program with what it needs of Debian, as deploy/Dockerfile makes it of a distroless image.
fn image(program: &Path) -> Image {
    let small = PathBuf::from(format!("{}-stripped", program.display()));
    let strip = Command::new("strip").arg("--strip-debug").arg("-o").arg(&small).arg(program).status().unwrap();
    assert!(strip.success());
    let mut image = Image::debian(&["libc6", "libgcc-s1"]).unwrap();
    image.files.push(("bedplate".to_owned(), 0o755, std::fs::read(&small).unwrap()));
    image.entrypoint = vec!["/bedplate".to_owned()];
    image.user = Some("65532:65532".to_owned());
    image
}

fn bedplate(program: &Path, cluster: &Cluster, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("KUBECONFIG", cluster.kubeconfig()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    stdout(&output)
}

/// A Job over the ceiling is refused in these words.
fn refused(cluster: &Cluster, words: &str) -> Result<(), String> {
    const JOB: &str = r#"{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"big"},"spec":{"template":{"spec":
        {"restartPolicy":"Never","containers":[{"name":"a","image":"docker.io/pytorch/pytorch:2.7.0",
        "resources":{"limits":{"nvidia.com/gpu":64}}}]}}}}"#;
    let file = cluster.folder.join("big.json");
    std::fs::write(&file, JOB).unwrap();
    let Output { status, stderr, .. } = try_kubectl(cluster, &["create", "--filename", &file.display().to_string()]);
    let told = String::from_utf8_lossy(&stderr);
    assert!(!status.success(), "a Job over the ceiling was let through");
    told.contains(words).then_some(()).ok_or_else(|| format!("{told}\n{}", logs(cluster)))
}

fn logs(cluster: &Cluster) -> String {
    let selector = "--selector=app.kubernetes.io/name=bedplate-operator";
    stdout(&try_kubectl(cluster, &["logs", "--namespace=bedplate-system", selector, "--tail=40"]))
}
