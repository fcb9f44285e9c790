//! What a person gives, and what the server is.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use bedplate_devcluster::certificates::Authority;
use bedplate_tests::{job, pytorch};
use serde_json::json;

use crate::front::{Door, Front};
use crate::{State, alone, bare, bedplate, installed_to_look, told};

#[test]
fn without_a_kubeconfig_it_is_said_where_one_was_looked_for() {
    let c = alone();
    let home = c.cluster.folder.join("home");
    std::fs::create_dir_all(home.join(".kube")).unwrap();
    told(&bedplate(&c, None, &home, "audit"), &["no cluster to talk to", "KUBECONFIG is not set", "no ~/.kube/config"]);
    let none = home.join("none");
    told(&bedplate(&c, Some(&none), &home, "audit"), &["KUBECONFIG names", "none, which is not there"]);
    // One that is there is used, and a broken one is never passed over for another.
    std::fs::copy(c.cluster.kubeconfig(), home.join(".kube/config")).unwrap();
    assert_ne!(bedplate(&c, None, &home, "audit -n default").code, 2);
    std::fs::write(home.join("broken"), "apiVersion: v1\nkind: Config\nclusters: [\n").unwrap();
    told(&bedplate(&c, Some(&home.join("broken")), &home, "audit"), &["broken: ", "line 3", "unclosed bracket"]);
}

#[test]
fn a_context_that_is_not_there_is_said_to_be_so_with_those_that_are() {
    let c = alone();
    let file = c.cluster.kubeconfig();
    told(&c.bedplate("audit --context devclutser"), &["no context `devclutser`", "did you mean `devcluster`?"]);
    let text = std::fs::read_to_string(&file).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["contexts"][0]["context"]["cluster"] = json!("gone");
    let other = c.cluster.folder.join("gone-cluster.kubeconfig");
    std::fs::write(&other, config.to_string()).unwrap();
    told(&c.bedplate_with(&other, "plan"), &["context `devcluster` is of cluster `gone`", "does not have"]);
    config["current-context"] = json!("");
    std::fs::write(&other, config.to_string()).unwrap();
    told(&c.bedplate_with(&other, "plan"), &["no context is chosen", "it has devcluster", "--context"]);
}

#[test]
fn credentials_that_cannot_be_had_or_have_lapsed_are_told_apart() {
    let c = alone();
    let cluster = json!({ "server": c.cluster.server, "certificate-authority": c.authority() });
    let plugin = json!({ "exec": { "apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin", "interactiveMode": "Never" } });
    let config = c.kubeconfig("plugin", &cluster, &plugin);
    told(&c.bedplate_with(&config, "audit"), &["No such file", "credentials is `no-such-plugin`"]);
    let config = c.kubeconfig("token", &cluster, &json!({ "token": "from-last-year" }));
    told(&c.bedplate_with(&config, "audit"), &["does not take these credentials", "log in again"]);
    let config = c.kubeconfig("key", &cluster, &json!({ "client-certificate": "gone.crt", "client-key": "gone.key" }));
    told(&c.bedplate_with(&config, "audit"), &["key.kubeconfig: ", "gone.crt", "No such file"]);
}

#[test]
fn a_server_that_is_gone_foreign_or_none_at_all_is_called_what_it_is() {
    let c = alone();
    let with = |name: &str, cluster: serde_json::Value| {
        c.bedplate_with(&c.kubeconfig(name, &cluster, &json!({})), "audit --request-timeout 2")
    };
    told(&with("gone", json!({ "server": "https://127.0.0.1:1" })), &["127.0.0.1:1 does not answer", "refused"]);
    let foreign = c.cluster.folder.join("foreign.crt");
    std::fs::write(&foreign, Authority::new().unwrap().certificate).unwrap();
    told(
        &with("foreign", json!({ "server": c.cluster.server, "certificate-authority": foreign })),
        &["is not who the kubeconfig says", "signed by another CA", "certificate-authority"],
    );
    let named = json!({ "server": c.cluster.server, "certificate-authority": c.authority(), "tls-server-name": "other.example" });
    told(&with("named", named), &["its certificate is for other names"]);
    told(
        &with("plain", json!({ "server": c.cluster.server.replace("https", "http") })),
        &["is no Kubernetes API server", "HTTP 400", "HTTPS server"],
    );

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().take(2).flatten().enumerate() {
            let mut stream = stream;
            if number == 0 {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>");
            } else {
                // Takes the connection and says nothing.
                std::thread::sleep(std::time::Duration::from_secs(20));
            }
        }
    });
    let web = json!({ "server": format!("http://{address}") });
    told(&with("web", web.clone()), &["is no Kubernetes API server", "check the address"]);
    told(&with("silent", web), &["has not answered for 2 s", "--request-timeout"]);
}

/// Half-way through is worse than at once: the list has begun when the server falls silent.
#[test]
fn a_server_that_falls_silent_in_the_middle_is_not_waited_for_for_ever() {
    let c = installed_to_look();
    let front = Front::new(&c, |knock| if knock.path.contains("/jobs?") { Door::Silent } else { Door::Open }, |_| {});
    let config = c.kubeconfig("slow", &front.cluster(), &json!({}));
    told(&c.bedplate_with(&config, "audit --request-timeout 1"), &["has not answered for 1 s"]);
}

#[test]
fn a_busy_server_is_asked_again() {
    let c = installed_to_look();
    let asked = std::sync::atomic::AtomicU32::new(0);
    let busy =
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "TooManyRequests", "code": 429,
        "message": "too many requests", "details": { "retryAfterSeconds": 1 } })
        .to_string();
    let keeper = move |knock: &crate::front::Knock| {
        let first = knock.path.contains("/jobs?") && asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2;
        if first { Door::Says(429, busy.clone()) } else { Door::Open }
    };
    let front = Front::new(&c, keeper, |_| {});
    let ns = c.namespace("busy");
    c.create(&job(&ns, "big", 64, 1)).accepted();
    let config = c.kubeconfig("busy", &front.cluster(), &json!({}));
    let answer = c.bedplate_with(&config, &format!("audit -n {ns}"));
    assert!(answer.code == 1 && answer.text.contains("64 accelerators"), "{}", answer.text);
}

/// A real server, of which the door takes away what an old one does not have.
#[test]
fn an_old_server_is_audited_and_told_that_it_is_too_old_for_guards() {
    let c = alone();
    let front = Front::new(
        &c,
        |knock| match knock.path.as_str() {
            "/version" => {
                Door::Says(200, json!({ "major": "1", "minor": "24+", "gitVersion": "v1.24.17-eks" }).to_string())
            }
            // Discovery in one answer came with 1.26, the question who one is with 1.28, policies with 1.30.
            "/api" | "/apis" => Door::Without("accept"),
            path if path.contains("selfsubjectreviews") || path.contains("/validatingadmissionpolic") => {
                Door::Says(404, "404 page not found".to_owned())
            }
            _ => Door::Open,
        },
        |_| {},
    );
    let config = c.kubeconfig("old", &front.cluster(), &json!({}));
    let ns = c.namespace("old");
    c.create(&pytorch(&ns, "big", 7, 8)).accepted();
    let answer = c.bedplate_with(&config, &format!("audit -n {ns}"));
    assert!(answer.code == 1 && answer.text.contains("64 accelerators"), "{}", answer.text);
    let answer = c.bedplate_with(&config, &format!("impact delete namespace {ns}")).accepted();
    assert!(answer.contains("pytorchjobs.kubeflow.org"), "{answer}");
    for command in ["plan", "apply", "prove"] {
        let answer = c.bedplate_with(&config, command);
        told(&answer, &["v1.24.17-eks", "1.30 or later", "`check`, `audit` and `impact` work here"]);
    }
}

/// One broken extension must not hide the rest, nor may the rest pass for the whole.
#[test]
fn a_kind_that_cannot_be_listed_is_told_of_and_the_others_are_looked_at() {
    let c = installed_to_look();
    let ns = c.namespace("half");
    c.create(&pytorch(&ns, "big", 7, 8)).accepted();
    let set = json!({ "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": { "name": "a", "namespace": ns } });
    c.create(&set).accepted();
    // A newer version, whose conversion webhook is gone.
    let any = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    let patch = json!([
        { "op": "add", "path": "/spec/versions/-", "value": { "name": "v1", "served": true, "storage": false, "schema": any } },
        { "op": "add", "path": "/spec/conversion", "value": { "strategy": "Webhook", "webhook": {
            "clientConfig": { "url": "https://127.0.0.1:1/convert" }, "conversionReviewVersions": ["v1"] } } },
    ]);
    let crd = ["patch", "crd", "jobsets.jobset.x-k8s.io", "--type=json", "-p"];
    c.kubectl(&[&crd[..], &[&patch.to_string()]].concat(), "").accepted();
    c.eventually(|| c.k(&format!("get jobsets.v1.jobset.x-k8s.io -n {ns}")).text.contains("conversion webhook"));
    let answer = c.bedplate(&format!("audit -n {ns}"));
    told(&answer, &["64 accelerators", "not looked at: jobsets.jobset.x-k8s.io", "conversion webhook"]);
    let answer = c.bedplate("plan");
    told(&answer, &["64 accelerators", "not looked at: jobsets.jobset.x-k8s.io"]);
    let answer = c.bedplate(&format!("impact delete namespace {ns}"));
    told(&answer, &["pytorchjobs.kubeflow.org", "not looked at: jobsets.jobset.x-k8s.io"]);
    let back = json!([{ "op": "remove", "path": "/spec/conversion" }, { "op": "remove", "path": "/spec/versions/1" }]);
    c.kubectl(&[&crd[..], &[&back.to_string()]].concat(), "").accepted();
    let set = format!("/apis/jobset.x-k8s.io/v1alpha2/namespaces/{ns}/jobsets/a");
    c.eventually(|| c.k(&format!("delete --raw {set}")).code == 0);
}

/// `metrics.k8s.io` without its server is the most common broken API of all.
#[test]
fn an_api_whose_own_server_is_dead_breaks_nothing() {
    let c = installed_to_look();
    let ns = c.namespace("metrics");
    let service = json!({ "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": "v1beta1.metrics.k8s.io" },
        "spec": { "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": { "namespace": "kube-system", "name": "metrics-server" } } });
    c.create(&service).accepted();
    c.eventually(|| c.k("get apiservice v1beta1.metrics.k8s.io").text.contains("False"));
    assert_ne!(c.bedplate("audit").code, 2);
    c.bedplate("apply").accepted();
    let answer = c.bedplate(&format!("impact delete namespace {ns}"));
    told(&answer, &["metrics.k8s.io/v1beta1", "does not answer"]);
    c.k("delete apiservice v1beta1.metrics.k8s.io").accepted();
}

/// Somebody applied the policies before the definitions, or took the definition away: the API server refused whatever the
/// policies looked at, and the definition too.
#[test]
fn guards_without_their_definition_hold_and_lock_nobody_out() {
    let c = bare();
    let all = c.bedplate("render").accepted();
    let policies: Vec<_> = all.split("---\n").filter(|text| text.contains("kind: ValidatingAdmissionPolicy")).collect();
    c.kubectl(&["apply", "--server-side", "--field-manager=bedplate", "-f", "-"], &policies.join("---\n")).accepted();
    c.eventually(|| {
        let answer = c.create(&pytorch("default", "big", 7, 8));
        assert_ne!(answer.code == 0, answer.text.contains("64 accelerators, the ceiling is 8"), "{}", answer.text);
        c.k("delete pytorchjob big -n default --ignore-not-found").accepted();
        answer.code != 0
    });
    c.k("create configmap x -n default --dry-run=server").accepted();
    let plan = c.bedplate("plan");
    assert!(plan.code == 1 && plan.text.contains("+ StabilityProfile default"), "{}", plan.text);
    c.bedplate("apply").accepted();
    assert_eq!(c.bedplate("plan").code, 0);
    c.leave(State::Installed);
}
