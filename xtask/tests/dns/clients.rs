//! Who asks: the log of a real CoreDNS, read back through the API server.

use bedplate_devcluster::Cluster;

use super::common::{eventually, kubectl, stdout};
use super::{Bedplate, corefile, version};

/// Two pods of a Job, as a data loader has them.
const LOADER: &str = "
apiVersion: batch/v1
kind: Job
metadata: { name: loader }
spec:
  completions: 2
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      containers:
        - name: loader
          image: local/busybox:1
          command: [sh, -c, 'while :; do ping -c 1 -W 1 s3.example.com >/dev/null 2>&1; sleep 0.1; done']
";

fn loaded(cluster: &Cluster, text: &str) {
    let patch = serde_json::json!({ "data": { "Corefile": text } }).to_string();
    kubectl(cluster, &["patch", "configmap", "coredns", "--namespace=kube-system", "--type=merge", "--patch", &patch]);
    for what in [&["restart"][..], &["status", "--timeout=180s"]] {
        kubectl(cluster, &[&["rollout"], what, &["deployment/coredns", "--namespace=kube-system"]].concat());
    }
}

/// CoreDNS takes a whole processor, and its metrics do not say for whom.
pub(super) fn who_asks_most_is_told(bedplate: &Bedplate<'_>) {
    let cluster = bedplate.cluster;
    let (before, untouched) = (corefile(cluster), version(cluster));
    let arguments = ["dns", "stats", "--clients", "--seconds", "5"];
    let refused = bedplate.try_run(&arguments);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("has no `log`") && told.contains("kube-system/coredns"), "{told}");
    assert_eq!(version(cluster), untouched, "nothing is changed for that");

    loaded(cluster, &before.replace("    errors\n", "    errors\n    log\n"));
    cluster.apply(LOADER).unwrap();
    kubectl(cluster, &["wait", "--for=condition=Ready", "pod", "--selector=job-name=loader", "--timeout=120s"]);
    eventually(|| {
        let told = bedplate.run(&arguments);
        // What it costs, and how much of that for nothing: six of eight queries.
        let row = |name: &str| {
            let line = told.lines().find(|line| line.starts_with(name))?;
            let cells: Vec<&str> = line.strip_prefix(name)?.split_whitespace().collect();
            let number = |at: usize| cells.get(at)?.parse::<u32>().ok();
            Some((number(0)?, number(3)?, *cells.last()?))
        };
        let right = |row: Option<(u32, u32, &str)>| {
            row.is_some_and(|(queries, missing, by)| queries >= 16 && (65..=85).contains(&missing) && by == "2")
        };
        (right(row("Job default/loader")) && right(row("s3.example.com"))).then_some(()).ok_or(told)
    });
    let audit = bedplate.try_run(&["audit"]);
    let told = String::from_utf8_lossy(&audit.stderr).into_owned();
    assert!(told.contains("for each answer that there is, 2 pods of CoreDNS had"), "{told}{}", stdout(&audit));
    kubectl(cluster, &["delete", "job", "loader", "--cascade=foreground"]);
    loaded(cluster, &before);
}
