//! CoreDNS as it is found: what it may do decides what may be put into its Corefile.

use serde_json::json;

use crate::{State, installed_to_look};

const COREFILE: &str = ".:53 {\n    errors\n    health\n    ready\n    kubernetes cluster.local {\n        pods insecure\n    }\n    prometheus :9153\n    forward . /etc/resolv.conf\n    cache 30\n    reload\n}\n";

/// A CoreDNS of one's own, with the rights that `pods insecure` needs: `pods verified` would have left the cluster without
/// names at its next restart.
#[test]
fn a_coredns_that_may_not_watch_pods_is_left_alone() {
    let c = installed_to_look();
    let system = |kind: &str, version: &str, rest: serde_json::Value| {
        let mut object = json!({ "apiVersion": version, "kind": kind,
            "metadata": { "name": "coredns", "namespace": "kube-system", "labels": { "k8s-app": "kube-dns" } } });
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        c.create(&object).accepted();
    };
    system("ServiceAccount", "v1", json!({}));
    system("ConfigMap", "v1", json!({ "data": { "Corefile": COREFILE } }));
    system(
        "Deployment",
        "apps/v1",
        json!({ "spec": { "replicas": 0, "selector": { "matchLabels": { "k8s-app": "kube-dns" } }, "template": {
            "metadata": { "labels": { "k8s-app": "kube-dns" } },
            "spec": {
                "serviceAccountName": "coredns",
                "containers": [{ "name": "coredns", "image": "registry.k8s.io/coredns/coredns:v1.15.0" }],
                "volumes": [{ "name": "config", "configMap": { "name": "coredns" } }],
            } } } }),
    );
    let harm = "CoreDNS may not list and watch pods";
    let edit = "+    autopath @kubernetes";
    let told = c.bedplate("plan").text;
    assert!(told.contains(harm) && told.contains("system:coredns") && !told.contains(edit), "{told}");

    // Who may not ask about others is told of the edit, as before.
    let config = c.nobody("planner");
    c.give("planner", "plan");
    let mut role: serde_json::Value =
        serde_json::from_str(&c.k("get clusterrole bedplate-plan -o json").accepted()).unwrap();
    let rules = role["rules"].as_array_mut().unwrap();
    let all = rules.len();
    rules.retain(|rule| rule["resources"] != json!(["subjectaccessreviews"]));
    assert_eq!(rules.len(), all - 1);
    role["metadata"] = json!({ "name": "bedplate-plan" });
    c.kubectl(&["replace", "-f", "-"], &role.to_string()).accepted();
    c.eventually(|| c.bedplate_with(&config, "plan").text.contains(edit));

    c.k("create clusterrole dns-pods --verb=list,watch --resource=pods").accepted();
    c.k("create clusterrolebinding dns-pods --clusterrole=dns-pods --serviceaccount=kube-system:coredns").accepted();
    c.eventually(|| {
        let told = c.bedplate("plan").text;
        told.contains(edit) && !told.contains(harm)
    });
    c.k("delete clusterrolebinding dns-pods planner-plan").accepted();
    c.k("delete clusterrole dns-pods bedplate-plan").accepted();
    c.k("delete deployment,configmap,serviceaccount coredns -n kube-system").accepted();
    c.leave(State::Installed);
}
