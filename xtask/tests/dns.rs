//! Names in a cluster with a real CoreDNS, as kubeadm sets it up: what a lookup costs, autopath put into the Corefile and
//! taken back, and everything that must not be broken by that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "dns/clients.rs"]
mod clients;
mod common;

use std::path::Path;
use std::process::{Command, Output};

use bedplate_cluster::Cluster as Connected;
use bedplate_devcluster::{Cluster, run};
use common::{Down, can_have_a_node, eventually, kubectl, stdout, try_kubectl, up};

const NAME: &str = "test-of-dns";

/// Only the guarantee that is tried here.
fn profile(dns: &str) -> String {
    format!(
        "apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\nmetadata: {{name: default}}\n\
         spec: {{modes: {{admission: \"off\", deletion: \"off\", fairness: \"off\", dns: {dns}}}}}\n"
    )
}

struct Bedplate<'a> {
    program: &'a Path,
    cluster: &'a Cluster,
}

impl Bedplate<'_> {
    fn try_run(&self, arguments: &[&str]) -> Output {
        Command::new(self.program).args(arguments).env("KUBECONFIG", self.cluster.kubeconfig()).output().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}\n{output:?}", stdout(&output));
        stdout(&output)
    }

    /// `apply` with a profile.
    fn apply(&self, dns: &str) -> String {
        let file = self.cluster.folder.join("dns-profile.yaml");
        std::fs::write(&file, profile(dns)).unwrap();
        self.run(&["apply", "--file", &file.display().to_string()])
    }

    /// What a lookup of an outside name costs, in words, and whether that is as guaranteed.
    fn prove(&self) -> (bool, String) {
        let image = ["--image", "docker.io/local/busybox:1"];
        let output = self.try_run(&[&["prove", "dns", "--name", "s3.example.com"], &image[..]].concat());
        assert!(output.status.code().is_some_and(|code| code < 2), "{output:?}");
        (output.status.success(), stdout(&output))
    }
}

fn corefile(cluster: &Cluster) -> String {
    kubectl(cluster, &["get", "configmap", "coredns", "--namespace=kube-system", "--output=jsonpath={.data.Corefile}"])
}

fn version(cluster: &Cluster) -> String {
    let path = "--output=jsonpath={.metadata.resourceVersion}";
    kubectl(cluster, &["get", "configmap", "coredns", "--namespace=kube-system", path])
}

/// Puts another Corefile there as `apply` would, and gives what became of it.
fn replaced(cluster: &Cluster, after: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let connected = Connected::connect(Some(&cluster.kubeconfig()), None).await.unwrap();
        let dns = connected.dns().await.unwrap();
        let before = dns.corefile().unwrap().to_owned();
        connected.replace_corefile(&dns, &before, after, &mut |_| ()).await.map(drop).map_err(|error| error.to_string())
    })
}

#[test]
fn an_outside_name_costs_two_queries_and_nothing_of_others_is_lost() {
    if !can_have_a_node() {
        return;
    }
    let _end = Down(NAME);
    let cluster = up(NAME, &["--tier", "node", "--with", "coredns"]);
    let program = run::bedplate(false).unwrap();
    let bedplate = Bedplate { program: &program, cluster: &cluster };
    let before = corefile(&cluster);

    // As it was found: eight queries, as predicted.
    let (holds, told) = bedplate.prove();
    assert!(!holds && told.contains("costs 8.0 queries, 8 were predicted"), "{told}");
    let pods = kubectl(&cluster, &["get", "pods", "--output=name"]);
    assert_eq!(pods, "", "the pod is gone");

    // The first installation only tells.
    let first = bedplate.apply("audit");
    assert!(!first.contains("CoreDNS"), "{first}");
    let plan = stdout(&bedplate.try_run(&["plan"]));
    assert!(
        plan.contains("+    autopath @kubernetes") && plan.contains("changed in the mode `enforce` only"),
        "{plan}"
    );
    assert_eq!(corefile(&cluster), before);

    owned_by_others(&bedplate);
    broken_by_an_edit(&cluster, &before);

    let told = bedplate.apply("enforce");
    assert!(told.contains("loaded it and answer as before"), "{told}");
    let expected =
        before.replace("    kubernetes", "    autopath @kubernetes\n    kubernetes").replace("insecure", "verified");
    assert_eq!(corefile(&cluster), expected, "every comment of theirs is there");
    let (holds, told) = bedplate.prove();
    assert!(holds && told.contains("costs 2.0 queries, 2 were predicted"), "{told}");
    let again = bedplate.apply("enforce");
    assert!(again.contains("everything was in place"), "{again}");

    // Back, and forth, and gone.
    bedplate.run(&["rollback"]);
    assert_eq!(corefile(&cluster), before);
    bedplate.apply("enforce");
    assert_eq!(corefile(&cluster), expected);
    let gone = bedplate.run(&["uninstall"]);
    assert!(gone.contains("as it was before autopath"), "{gone}");
    assert_eq!(corefile(&cluster), before);
    let kept = try_kubectl(&cluster, &["get", "configmap", "bedplate-dns", "--namespace=kube-system"]);
    assert!(!kept.status.success(), "nothing of ours is left");

    clients::who_asks_most_is_told(&bedplate);
}

/// An edit that Argo CD takes back within minutes is a CoreDNS that changes its mind twice.
fn owned_by_others(bedplate: &Bedplate<'_>) {
    let cluster = bedplate.cluster;
    let annotate = |value: &str| {
        kubectl(cluster, &["annotate", "configmap", "coredns", "--namespace=kube-system", value]);
    };
    annotate("argocd.argoproj.io/tracking-id=dns:/ConfigMap:kube-system/coredns");
    let untouched = version(cluster);
    let told = bedplate.apply("enforce");
    assert!(told.contains("it belongs to Argo CD") && told.contains("+    autopath @kubernetes"), "{told}");
    annotate("argocd.argoproj.io/tracking-id-");

    // Which of two serves names cannot be told.
    let old = ["create", "deployment", "coredns-old", "--namespace=kube-system", "--image=coredns:1.6", "--replicas=0"];
    kubectl(cluster, &old);
    let told = bedplate.apply("enforce");
    assert!(told.contains("2 Deployments serve the cluster's names"), "{told}");
    kubectl(cluster, &["delete", "deployment", "coredns-old", "--namespace=kube-system"]);
    let touched = kubectl(
        cluster,
        &[
            "get",
            "configmap",
            "coredns",
            "--namespace=kube-system",
            "--output=jsonpath={.metadata.managedFields[*].manager}",
        ],
    );
    assert!(!touched.split(' ').any(|manager| manager == "bedplate"), "{touched} since {untouched}");
}

/// Every pod of a platform asks CoreDNS: an edit that it does not take, or answers worse with, is taken back at once.
fn broken_by_an_edit(cluster: &Cluster, before: &str) {
    let why = replaced(cluster, &before.replace("    ready\n", "    raedy\n")).unwrap_err();
    assert!(why.contains("could not load the new Corefile") && why.contains("is as it was"), "{why}");
    assert_eq!(corefile(cluster), before);

    // Valid, and its upstream is nobody.
    let ask = "while :; do nslookup -type=a s3.example.com. >/dev/null 2>&1; sleep 0.1; done";
    kubectl(cluster, &["run", "asks", "--image=local/busybox:1", "--command", "--", "sh", "-c", ask]);
    kubectl(cluster, &["wait", "--for=condition=Ready", "pod/asks", "--timeout=120s"]);
    let text: String =
        before
            .lines()
            .filter(|line| !line.contains("cache 30"))
            .map(|line| {
                if line.contains("forward .") {
                    "    forward . 127.0.0.9:9 {\n".to_owned()
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
    let why = replaced(cluster, &text).unwrap_err();
    assert!(why.contains("answers got worse"), "{why}");
    assert_eq!(corefile(cluster), before);
    kubectl(cluster, &["delete", "pod", "asks", "--grace-period=0", "--force"]);
    // CoreDNS is well again.
    eventually(|| {
        let lookup = "nslookup -type=a s3.example.com.";
        let answer = try_kubectl(
            cluster,
            &[
                "run",
                "well",
                "--rm",
                "--attach",
                "--restart=Never",
                "--quiet",
                "--image=local/busybox:1",
                "--command",
                "--",
                "sh",
                "-c",
                lookup,
            ],
        );
        stdout(&answer).contains("192.0.2.1").then_some(()).ok_or(format!("{answer:?}"))
    });
}
