//! What a cluster may have beside its tier: real pods of images from a real registry, updated in place by OpenKruise;
//! more is added while it is up, and all goes with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::Command;

use bedplate_devcluster::{Cluster, Image};
use common::{Down, can_have_a_node, eventually, kubectl, left, try_kubectl, up, which, xtask};

const NAME: &str = "test-of-add-ons";

#[test]
fn images_are_pulled_pods_keep_their_address_and_all_goes_with_the_cluster() {
    if !can_have_a_node() {
        return;
    }
    let _end = Down(NAME);
    let cluster = up(NAME, &["--tier", "node", "--with", "openkruise,registry"]);
    a_pod_runs_what_was_pushed(&cluster);
    a_clone_set_is_updated_in_place(&cluster);

    // A second `up` adds, and what was there goes on.
    let before: Vec<_> = cluster.parts.clone();
    let cluster = up(NAME, &["--tier", "node", "--with", "gateway-api,registry"]);
    assert_eq!(before, cluster.parts);
    kubectl(&cluster, &["get", "httproutes.gateway.networking.k8s.io"]);
    let status = xtask(&["cluster", "status"]);
    let registry = format!("with registry at {}", cluster.registry.as_ref().expect("it has one"));
    for told in ["with gateway-api", "with openkruise", &registry, "kruise-manager"] {
        assert!(status.contains(told), "{told}: {status}");
    }

    xtask(&["cluster", "down", "--name", NAME]);
    assert_eq!(left(&cluster), Vec::<String>::new());
}

/// Lanes were applied, and a flood took every seat all the same: flow control had been switched off years ago.
#[test]
fn an_api_server_has_the_seats_that_were_asked_for_and_a_plan_tells_where_it_has_no_flow_control() {
    const NAME: &str = "test-of-flags";
    let _end = Down(NAME);
    let plan = |cluster: &Cluster| {
        let mut plan = Command::new(bedplate_devcluster::run::bedplate(false).unwrap());
        let told = plan.arg("plan").env("KUBECONFIG", cluster.kubeconfig()).output().unwrap();
        String::from_utf8_lossy(&told.stdout).into_owned()
    };
    let cluster = up(NAME, &["--with", "few-seats"]);
    // 60 of them by shares: 100 of 245.
    let metrics = kubectl(&cluster, &["get", "--raw", "/metrics"]);
    let seats = "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\"} 25";
    assert!(metrics.contains(seats));
    let told = plan(&cluster);
    assert!(told.contains("StabilityProfile") && !told.contains("without flow control"), "{told}");
    xtask(&["cluster", "down", "--name", NAME]);
    let told = plan(&up(NAME, &["--with", "no-flow-control"]));
    assert!(told.contains("this API server works without flow control"), "{told}");
}

/// Debian's Python with a wheel from PyPI, by digest.
fn a_pod_runs_what_was_pushed(cluster: &Cluster) {
    let mut image = Image::debian(&["python3-minimal"]).unwrap();
    image.add_wheel("iniconfig", "2.1.0").unwrap();
    image.command = ["python3", "-c", "import sys, iniconfig; print(sys.version_info.major, iniconfig.__name__)"]
        .map(str::to_owned)
        .to_vec();
    let name = cluster.push_image("team/python", "1", &image).unwrap();
    assert!(name.contains("/team/python@sha256:"), "{name}");
    kubectl(cluster, &["run", "python", "--image", &name, "--image-pull-policy=Always", "--restart=Never"]);
    kubectl(cluster, &["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/python", "--timeout=120s"]);
    assert_eq!(kubectl(cluster, &["logs", "python"]), "3 iniconfig\n");

    // A digest that nobody pushed is not made up for by a tag.
    let (repository, _) = name.split_once('@').unwrap();
    let unknown = format!("{repository}@sha256:{}", "0".repeat(64));
    kubectl(cluster, &["run", "unknown", "--image", &unknown, "--restart=Never"]);
    let reason = "--output=jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    eventually(|| {
        let reason = kubectl(cluster, &["get", "pod", "unknown", reason]);
        ["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()).then_some(()).ok_or(reason)
    });
    kubectl(cluster, &["delete", "pod", "unknown", "--now"]);
}

const CLONE_SET: &str = r#"
apiVersion: apps.kruise.io/v1alpha1
kind: CloneSet
metadata: { name: model }
spec:
  replicas: 2
  selector: { matchLabels: { app: model } }
  updateStrategy: { type: InPlaceOnly, maxUnavailable: 1 }
  template:
    metadata: { labels: { app: model } }
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: server
          image: IMAGE
          # As PID 1 it gets no SIGTERM that it does not ask for.
          command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 1; done"]
"#;

fn a_clone_set_is_updated_in_place(cluster: &Cluster) {
    let image = |version: &str| {
        let mut image = Image::busybox(&which("busybox")).unwrap();
        image.files.push(("model".to_owned(), 0o644, version.as_bytes().to_vec()));
        cluster.push_image("team/model", version, &image).unwrap()
    };
    let (one, two) = (image("one"), image("two"));
    cluster.apply(&CLONE_SET.replace("IMAGE", &one)).unwrap();
    let ready = |revision: &str| {
        let told =
            "--output=jsonpath={.status.updatedReadyReplicas} {.status.observedGeneration} {.metadata.generation}";
        eventually(|| {
            let told = kubectl(cluster, &["get", "cloneset", "model", told]);
            (told == format!("2 {revision} {revision}")).then_some(()).ok_or(told)
        });
    };
    let pods = || {
        let told = "--output=jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.podIP}\n{end}";
        kubectl(cluster, &["get", "pods", "--selector=app=model", told])
    };
    let models = || -> Vec<String> {
        let names = kubectl(cluster, &["get", "pods", "--selector=app=model", "--output=name"]);
        names.lines().map(|pod| kubectl(cluster, &["exec", pod, "--", "cat", "/model"])).collect()
    };
    ready("1");
    let before = pods();
    assert_eq!(models(), ["one", "one"], "{before}");

    cluster.apply(&CLONE_SET.replace("IMAGE", &two)).unwrap();
    ready("2");
    assert_eq!(pods(), before, "the same pods at the same addresses");
    assert_eq!(models(), ["two", "two"]);

    // Its webhooks are real.
    let patch = r#"{"spec":{"selector":{"matchLabels":{"app":"other"}}}}"#;
    let refused = try_kubectl(cluster, &["patch", "cloneset", "model", "--type=merge", "--patch", patch]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("admission webhook \"vcloneset.kb.io\" denied the request"), "{told}");
}
