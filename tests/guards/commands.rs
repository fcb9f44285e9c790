//! The commands against a cluster, as a person meets them.

use bedplate_tests::{job, pytorch};
use serde_json::json;

use crate::cluster;

#[test]
fn the_audit_finds_in_the_cluster_what_check_finds_in_files() {
    let c = cluster();
    let ns = c.namespace("old");
    c.create(&pytorch(&ns, "big", 7, 8)).accepted();
    let told = c.bedplate(&format!("audit --namespace {ns}"));
    assert_eq!(told.code, 1, "{}", told.text);
    assert!(
        told.text.contains("this PyTorchJob asks for 64 accelerators")
            && told.text.contains(&format!("pytorchjob/{ns}/big")),
        "{}",
        told.text
    );
    let json = c.bedplate(&format!("audit --namespace {ns} --format json"));
    assert!(
        serde_json::from_str::<serde_json::Value>(json.text.split("note:").next().unwrap()).is_ok(),
        "{}",
        json.text
    );
}

#[test]
fn the_impact_of_a_deletion_is_told_before_it() {
    let c = cluster();
    let ns = c.namespace("impact");
    c.create(&job(&ns, "train", 1, 1)).accepted();
    let told = c.bedplate(&format!("impact delete namespace {ns}")).accepted();
    assert!(told.contains("jobs.batch"), "{told}");
    // A claim takes nothing along, and sixteen trainers would not start again.
    let claim = serde_json::json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data", "namespace": ns },
        "spec": { "accessModes": ["ReadWriteMany"], "resources": { "requests": { "storage": "1Ti" } } } });
    c.create(&claim).accepted();
    let pod = serde_json::json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "trainer", "namespace": ns }, "spec": {
        "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": "data" } }],
        "containers": [{ "name": "a", "image": "docker.io/pytorch/pytorch:2.7.0", "resources": { "limits": { "nvidia.com/gpu": 4 } } }] } });
    c.create(&pod).accepted();
    let told = c.bedplate(&format!("impact delete pvc data -n {ns}")).accepted();
    assert!(told.contains("1 pod with 4 accelerators, which stay: 1 Pod trainer"), "{told}");
    c.bedplate("impact delete crd nothing.example.org").refused("is not there");
    c.bedplate("impact delete unicorn x").refused("this cluster serves no `unicorn`");
}

/// What a profile says and cannot mean is refused by the API server in the words of `check`.
#[test]
fn a_profile_that_contradicts_itself_is_refused_and_told_why() {
    let c = cluster();
    let profile = |spec: serde_json::Value| {
        let object = serde_json::json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": "StabilityProfile", "metadata": { "name": "other" }, "spec": spec });
        c.kubectl(&["create", "--dry-run=server", "-f", "-"], &object.to_string())
    };
    profile(serde_json::json!({ "admission": { "acceleratorsPerJob": 4, "acceleratorsPerPod": 8 } }))
        .refused("a pod may have more accelerators than its whole job");
    profile(serde_json::json!({ "namespaces": [{ "names": ["a"], "admission": { "registries": [] } }] }))
        .refused("no registry is trusted, so every image would be refused");
    profile(serde_json::json!({ "namespaces": [{ "names": ["kube-system"] }] }))
        .refused("no guard ever looks into the namespaces of the system");
    profile(serde_json::json!({ "modes": { "gpu-cieling": "warn" } }))
        .refused("there is no rule or guarantee `gpu-cieling`");
    profile(serde_json::json!({ "modes": { "deletion": "audit", "delete-protection": "warn", "gpu-ceiling": "off" } }))
        .accepted();
    let exemption = serde_json::json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": "Exemption", "metadata": { "name": "x" }, "spec": {
        "rule": "gpu-cieling", "subject": { "name": "x" }, "reason": "the yearly run", "expires": "2999-01-01" } });
    c.kubectl(&["create", "--dry-run=server", "-f", "-"], &exemption.to_string())
        .refused("there is no rule `gpu-cieling`");
    let told = c.k("explain stabilityprofile.spec.admission").accepted();
    assert!(told.contains("Most accelerators of one job, all its pods together. Default 8."), "{told}");
}

/// "Which schema did I hit?" was answered by reading thirteen FlowSchemas, and wrongly.
#[test]
fn which_lane_a_request_rides_in_is_told_and_the_server_agrees() {
    let c = cluster();
    let operator = "system:serviceaccount:kubeflow:training-operator";
    let shared = "9000  service-accounts              takes it, by its rule 1";
    for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
        let told = c.bedplate(&format!("apf explain --as {operator} --verb {verb} --resource pods -n kubeflow"));
        let told = told.accepted();
        assert!(told.contains(shared), "{told}");
        assert!(told.contains("lane workload-low: 245 of 600 seats, 24 to 600"), "{told}");
        assert!(told.contains("seen: the server put such a request there"), "{told}");
    }
    // A schema of somebody's in front of it takes the requests to update leases, and only those.
    let schema = json!({ "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": { "name": "ml-leases" },
        "spec": { "matchingPrecedence": 300, "priorityLevelConfiguration": { "name": "leader-election" }, "rules": [{
            "subjects": [{ "kind": "Group", "group": { "name": "system:serviceaccounts:kubeflow" } }],
            "resourceRules": [{ "verbs": ["update"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["kubeflow"] }] }] } });
    c.create(&schema).accepted();
    let lease = |verb: &str, more: &str| {
        c.bedplate(&format!("apf explain --as {operator} --verb {verb} --resource leases {more}"))
    };
    c.eventually(|| lease("update", "-n kubeflow").code == 0);
    let told = lease("update", "-n kubeflow").accepted();
    assert!(told.contains("300  ml-leases                     takes it") && told.contains("one flow"), "{told}");
    let told = lease("update", "-n team").accepted();
    assert!(told.contains("ml-leases                     passed over: means this user, but not in team"), "{told}");
    let told = lease("list", "").accepted();
    assert!(told.contains("passed over: means this user, but not to list") && told.contains(shared), "{told}");
    let told = c.bedplate("apf explain --as ann -- kubectl exec trainer -n team -- ls").accepted();
    assert!(told.contains("get pods in team as ann") && told.contains("rides in no lane: exec runs long"), "{told}");
    c.k("delete flowschema ml-leases").accepted();
    c.bedplate("apf explain --resource nonsense").refused("this cluster serves no `nonsense`");
}

/// A pair of lanes was made by hand, and the first flood showed that it had the wrong numbers.
#[test]
fn lanes_are_tried_before_they_are_made() {
    let c = cluster();
    let level = |name: &str, more: serde_json::Value| {
        let mut limited = json!({ "limitResponse": { "type": "Queue", "queuing": { "queues": 16, "handSize": 2, "queueLengthLimit": 50 } } });
        limited.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "kind": "PriorityLevelConfiguration", "metadata": { "name": name }, "spec": { "type": "Limited", "limited": limited } })
    };
    let schema = |name: &str, precedence: u32, subject: serde_json::Value| {
        json!({ "kind": "FlowSchema", "metadata": { "name": name }, "spec": {
            "matchingPrecedence": precedence, "priorityLevelConfiguration": { "name": name }, "distinguisherMethod": { "type": "ByUser" },
            "rules": [{ "subjects": [subject], "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"] }] }] } })
    };
    let lanes = json!({ "items": [
        level("ml-controllers", json!({ "nominalConcurrencyShares": 60 })),
        level("ml-users", json!({ "nominalConcurrencyShares": 5, "borrowingLimitPercent": 0 })),
        schema("ml-controllers", 1000, json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "kubeflow", "name": "training-operator" } })),
        schema("ml-users", 8000, json!({ "kind": "Group", "group": { "name": "system:serviceaccounts:team-a" } })),
    ] });
    let file = c.cluster.folder.join("lanes.yaml");
    std::fs::write(&file, lanes.to_string()).unwrap();
    let told = c.bedplate(&format!("apf simulate --with {}", file.display())).accepted();
    // The last number of `p50 / p99` of the operator, before and after.
    let p99 = |part: &str| {
        let line = part.lines().find(|line| line.starts_with("training-operator")).unwrap();
        line.split_whitespace().nth(6).unwrap().parse::<f64>().unwrap()
    };
    let (before, after) = told.split_once("after:").unwrap();
    assert!(
        before.contains("training-operator  workload-low") && after.contains("training-operator  ml-controllers"),
        "{told}"
    );
    assert!(p99(before) > 3.0 * p99(after), "{told}");
    // The same without the cluster, from what it has.
    let objects = c.cluster.folder.join("objects.yaml");
    let all = c.k("get flowschemas,prioritylevelconfigurations --output=yaml").accepted();
    std::fs::write(&objects, all).unwrap();
    let (objects, file) = (objects.display(), file.display());
    let alone = c.bedplate(&format!("apf simulate --objects {objects} --with {file} --kubeconfig /nonexistent"));
    assert_eq!(alone.accepted(), told);
    let told = c.bedplate(&format!("apf simulate --objects {file}/nothing")).refused("nothing: Not a directory");
    assert_eq!(told.lines().count(), 1, "{told}");
    c.k("get flowschema ml-users").refused("not found");
}

/// A training job on Alpine found its object store from a notebook, and not from a pod with `ndots: 2`.
#[test]
fn what_a_lookup_in_a_pod_costs_is_told_from_its_own_configuration() {
    let c = cluster();
    let team = c.namespace("lookups");
    let pod = |name: &str, more: serde_json::Value| {
        let mut spec = json!({ "containers": [{ "name": "train", "image": "docker.io/library/python:3.12" }] });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": team }, "spec": spec })
    };
    let low = json!({ "options": [{ "name": "ndots", "value": "1" }], "searches": ["corp.example"] });
    c.create(&pod("plain", json!({}))).accepted();
    c.create(&pod("low", json!({ "dnsConfig": low }))).accepted();
    c.create(&pod("on-the-host", json!({ "hostNetwork": true }))).accepted();
    c.create(&json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "minio", "namespace": team },
        "spec": { "ports": [{ "port": 9000 }] } }))
        .accepted();
    let explain = |pod: &str, more: &str| c.bedplate(&format!("dns explain minio.{team} --pod {team}/{pod} {more}"));
    let told = explain("plain", "").accepted();
    assert!(told.contains("ndots 5, 3 search domains"), "{told}");
    assert!(told.contains(&format!("4 queries, found as minio.{team}.svc.cluster.local")), "{told}");
    let told = explain("low", "--libc musl").accepted();
    assert!(told.contains("ndots 1, 4 search domains") && told.contains("2 queries, not found"), "{told}");
    // glibc goes on with the search list, to the second of its domains.
    let glibc = told.lines().find(|line| line.starts_with("glibc")).unwrap();
    assert!(glibc.contains(&format!("6        found as minio.{team}.svc.cluster.local")), "{told}");
    let host = explain("on-the-host", "");
    host.refused("has its node's resolv.conf, which the cluster does not tell");
    explain("nobody", "").refused("there is no pod `nobody`");
}

/// A search flooded the API server, and who it was came out of the audit log a day later.
#[test]
fn a_flood_shows_in_the_live_view_with_who_makes_it() {
    let c = cluster();
    let level = json!({ "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration", "metadata": { "name": "flooded" },
        "spec": { "type": "Limited", "limited": { "nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {
            "type": "Queue", "queuing": { "queues": 1, "handSize": 1, "queueLengthLimit": 5 } } } } });
    let schema = json!({ "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": { "name": "flooded" },
        "spec": { "matchingPrecedence": 700, "priorityLevelConfiguration": { "name": "flooded" }, "distinguisherMethod": { "type": "ByUser" },
            "rules": [{ "subjects": [{ "kind": "User", "user": { "name": "searcher" } }],
                "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"] }] }] } });
    c.create(&level).accepted();
    c.create(&schema).accepted();
    let explained = || c.bedplate("apf explain --as searcher --verb list --resource pods --offline");
    c.eventually(|| explained().text.contains("lane flooded"));
    // A lane without seats: six clients at a time find five places in its queue, and wait there.
    let flood: Vec<_> = (0..6)
        .map(|_| {
            let mut kubectl = c.cluster.kubectl().unwrap();
            kubectl.args(["get", "pods", "--as", "searcher", "--request-timeout=60s"]);
            kubectl.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    let seen = || {
        let told = c.bedplate("apf top --once --format json").accepted();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let lane = told["lanes"].as_array().unwrap().iter().find(|lane| lane["name"] == "flooded").cloned();
        let sender = told["senders"].as_array().unwrap().iter().find(|sender| sender["user"] == "searcher").cloned();
        (lane.unwrap_or_default(), sender.unwrap_or_default())
    };
    c.eventually(|| {
        let (lane, sender) = seen();
        lane["waiting"].as_f64() >= Some(3.0) && sender["waiting"].as_u64() >= Some(3) && sender["lane"] == "flooded"
    });
    let told = c.bedplate("apf top --once").accepted();
    assert!(told.lines().nth(1).unwrap().starts_with("flooded"), "the lane in trouble comes first: {told}");
    for mut client in flood {
        let _ = client.kill();
        let _ = client.wait();
    }
    c.k("delete flowschema flooded").accepted();
    c.k("delete prioritylevelconfiguration flooded").accepted();
}
