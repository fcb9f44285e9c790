//! A node is drained in the middle of a training: on a real node, with real torch, by the eviction API. The job resumes where
//! it was; and a drill that cannot be done says why, and leaves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use bedplate_devcluster::{Cluster, Image, python, run};
use common::{Down, can_have_a_node, eventually, kubectl, stdout, try_kubectl, up};

const NAME: &str = "test-of-training";

/// What torch needs to be imported, and itself, of what the tests of the Python package run in.
const PACKAGES: &[&str] = &[
    "torch",
    "torchgen",
    "numpy",
    "numpy.libs",
    "sympy",
    "mpmath",
    "networkx",
    "jinja2",
    "markupsafe",
    "filelock",
    "fsspec",
    "typing_extensions.py",
];

/// An image as people make it for their trainings: Debian's Python, torch, and the package.
fn image_with_torch() -> Image {
    let (bin, site) = python::installed(false).unwrap();
    let mut image =
        Image::debian(&["dash", "coreutils", "python3-minimal", "libpython3-stdlib", "libstdc++6"]).unwrap();
    let to = "usr/lib/python3/dist-packages/";
    image.add_folder(&site, to).unwrap();
    let packages = bin.join("../lib/python3.11/site-packages");
    assert!(packages.exists(), "this needs Python 3.11, as Debian 12 has it: torch is built for one version");
    for package in PACKAGES {
        let from = packages.join(package);
        if from.is_file() {
            image.files.push((format!("{to}{package}"), 0o644, std::fs::read(from).unwrap()));
        } else {
            image.add_folder(&from, &format!("{to}{package}/")).unwrap();
        }
    }
    // Of no use without a compiler.
    image.files.retain(|(path, ..)| !path.contains("/torch/include/") && !path.ends_with(".a"));
    image
}

fn prove(bedplate: &Path, cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut prove = Command::new(bedplate);
    prove.args(["prove", "training"]).args(arguments).env("KUBECONFIG", cluster.kubeconfig());
    prove.output().unwrap()
}

fn refused(bedplate: &Path, cluster: &Cluster, arguments: &[&str]) -> String {
    let output = prove(bedplate, cluster, arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A training says in its log that it may not tell of its checkpoints, and how to let it; then it does, until its pod is gone.
fn tells_the_cluster(cluster: &Cluster, image: &str) {
    let roles = std::fs::read_to_string(run::root().join("deploy/operator.yaml")).unwrap();
    let ours = roles.split("---\n").filter(|object| object.contains("name: bedplate-checkpoint-"));
    cluster.apply(&ours.collect::<Vec<_>>().join("---\n")).unwrap();
    let script = "import bedplate, time\n\
        state = {'weights': bytearray(1 << 20)}\n\
        with bedplate.Guard('/ckpt/run-7', state, every=1, keep=1) as guard:\n\
        \u{20}   for step in guard.resume(range(100_000)):\n\
        \u{20}       guard.step(step)\n\
        \u{20}       time.sleep(0.5)\n";
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "tells" },
        "spec": {
            "terminationGracePeriodSeconds": 77,
            "containers": [{
                "name": "train", "image": image, "command": ["python3", "-c", script],
                "env": [{ "name": "HTTPS_PROXY", "value": "http://127.0.0.1:9" }],
                "volumeMounts": [{ "name": "ckpt", "mountPath": "/ckpt" }],
            }],
            "volumes": [{ "name": "ckpt", "emptyDir": {} }],
        },
    });
    let view = ["--clusterrole=view", "--group=system:serviceaccounts:default"];
    kubectl(cluster, &[&["create", "rolebinding", "view"][..], &view].concat());
    cluster.apply(&pod.to_string()).unwrap();
    let mut command = String::new();
    eventually(|| {
        let log = stdout(&try_kubectl(cluster, &["logs", "tells"]));
        let told = log.lines().find_map(|line| line.split_once("To let it: kubectl "));
        if !log.contains(" of 77.0 s of grace (the pod's)") {
            return Err(format!("it does not know its grace: {log}"));
        }
        command = told.ok_or_else(|| format!("it does not say that it may not: {log}"))?.1.to_owned();
        Ok(())
    });
    kubectl(cluster, &command.split_whitespace().collect::<Vec<_>>());
    eventually(|| {
        let spec = stdout(&try_kubectl(cluster, &["get", "checkpointreport", "tells", "--output=jsonpath={.spec}"]));
        let spec: serde_json::Value = serde_json::from_str(&spec).map_err(|_| format!("no report: {spec:?}"))?;
        let is_whole = spec["step"].as_i64().is_some_and(|step| step > 0)
            && spec["place"] == "/ckpt/run-7"
            && spec["savedAt"].is_string()
            && spec["stateBytes"].as_u64().is_some_and(|bytes| bytes >= 1 << 20);
        if is_whole { Ok(()) } else { Err(format!("{spec}")) }
    });
    kubectl(cluster, &["delete", "pod", "tells"]);
    eventually(|| {
        let left = kubectl(cluster, &["get", "checkpointreports", "--output=name"]);
        if left.is_empty() { Ok(()) } else { Err(format!("left: {left}")) }
    });
}

#[test]
fn a_drained_node_costs_a_training_no_step() {
    if !can_have_a_node() {
        return;
    }
    let _end = Down(NAME);
    let cluster = up(NAME, &["--tier", "node"]);
    let bedplate = run::bedplate(false).unwrap();
    let torch = "docker.io/local/train:1";
    cluster.load_image(torch, &image_with_torch()).unwrap();
    let profile = cluster.folder.join("profile.yaml");
    let modes = "{admission: \"off\", deletion: \"off\", fairness: \"off\", dns: \"off\"}";
    let text = format!(
        "apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\nmetadata: {{name: default}}\nspec: {{modes: {modes}}}\n"
    );
    std::fs::write(&profile, text).unwrap();
    let mut apply = Command::new(&bedplate);
    let applied = apply.arg("apply").arg("--file").arg(&profile).env("KUBECONFIG", cluster.kubeconfig()).output();
    assert!(applied.unwrap().status.success());

    let output = prove(&bedplate, &cluster, &["--image", torch]);
    let said = stdout(&output);
    println!("{said}");
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("ended with exit code 143, resumed there: no step lost"), "{said}");
    assert!(said.contains("imports of torch 2."), "{said}");
    let proven = "--output=jsonpath={.status.guarantees.training.proven.status}";
    assert_eq!(kubectl(&cluster, &["get", "stabilityprofile", "default", proven]), "True");

    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: checkpoints}\n\
        spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
    cluster.apply(claim).unwrap();
    let mut bare = Image::debian(&["dash", "coreutils", "python3-minimal", "libpython3-stdlib"]).unwrap();
    bare.command = vec!["python3".to_owned()];
    cluster.load_image("docker.io/local/bare:1", &bare).unwrap();
    std::thread::scope(|scope| {
        // A claim that is there, as trainings have it.
        scope.spawn(|| {
            let output = prove(&bedplate, &cluster, &["--image", torch, "--claim", "checkpoints", "--state", "8"]);
            assert!(output.status.success(), "{output:?}");
        });
        scope.spawn(|| tells_the_cluster(&cluster, torch));
        // What cannot be proven is no proof, and says what to do.
        scope.spawn(|| {
            let why = refused(&bedplate, &cluster, &[]);
            assert!(
                why.contains("which image does the training run in?") && why.contains("pip install bedplate"),
                "{why}"
            );
            let why = refused(&bedplate, &cluster, &["--image", "docker.io/local/busybox:1"]);
            assert!(why.contains("python3") && why.contains("another one: --image"), "{why}");
            let why = refused(&bedplate, &cluster, &["--image", "docker.io/local/bare:1"]);
            assert!(why.contains("the image has no Python package `bedplate`"), "{why}");
        });
    });
    let budget = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: none-may-go}\n\
        spec: {maxUnavailable: 0, selector: {matchLabels: {app.kubernetes.io/component: drill}}}\n";
    cluster.apply(budget).unwrap();
    let why = refused(&bedplate, &cluster, &["--image", torch]);
    assert!(why.contains("disruption budget"), "{why}");

    eventually(|| {
        let left = ["get", "jobs,pods,persistentvolumeclaims", "--all-namespaces", "--output=name"];
        let left = kubectl(&cluster, &[&left[..], &["--selector=app.kubernetes.io/component=drill"]].concat());
        if left.is_empty() { Ok(()) } else { Err(format!("left: {left}")) }
    });
}
