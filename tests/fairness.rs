//! Flow control beside a real API server: who rides where, what a flood does, and that the explainer says what the server
//! does.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bedplate_apf::first_match;
use bedplate_apf::matching::{Request, Target, implied_groups};
use bedplate_cluster::Cluster;
use bedplate_cluster::lanes::{FlowControl, Seen};
use bedplate_tests::replica::{self, Operator};
use bedplate_tests::{Answer, Harness};
use serde_json::{Value, json};

/// Flow control is one for the whole server: one test at a time has it.
fn alone() -> (&'static Harness, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (Harness::get(|_| ()), turn)
}

fn controller(namespace: &str, account: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": account, "namespace": namespace },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": account } }, "template": {
            "metadata": { "labels": { "app": account } },
            "spec": { "serviceAccountName": account, "containers": [{ "name": "a", "image": image }] },
        } },
    })
}

fn profile_namespace(c: &Harness, name: &str) {
    c.k(&format!("create namespace {name}")).accepted();
    c.k(&format!("label namespace {name} app.kubernetes.io/part-of=kubeflow-profile")).accepted();
}

/// What flow control has, without what the server writes at all times.
fn objects(c: &Harness) -> BTreeMap<String, Value> {
    let text = c.k("get flowschemas,prioritylevelconfigurations -o json").accepted();
    let list: Value = serde_json::from_str(&text).unwrap();
    let items = list["items"].as_array().unwrap();
    let of = |item: &Value| {
        let name = item["metadata"]["name"].as_str().unwrap();
        (
            format!("{} {name}", item["kind"]),
            json!([item["spec"], item["metadata"]["annotations"], item["metadata"]["uid"]]),
        )
    };
    items.iter().map(of).collect()
}

fn has_lanes(c: &Harness) -> bool {
    objects(c).keys().any(|name| name.ends_with(".bedplate.dev"))
}

#[track_caller]
fn told(answer: &Answer, words: &[&str]) {
    for word in words {
        assert!(answer.text.contains(word), "expected to be told {word:?}, was told: {}", answer.text);
    }
}

/// The subjects of the schema of users' namespaces.
fn users(c: &Harness) -> String {
    c.k("get flowschema namespaces.bedplate.dev -o jsonpath={.spec.rules[0].subjects[*].serviceAccount.namespace}").text
}

/// From a cluster without lanes to one without lanes again.
#[test]
fn a_platforms_controllers_get_a_lane_keep_it_and_lose_it_with_bedplate() {
    let (c, _turn) = alone();
    let before = objects(c);
    c.k("create namespace kubeflow").accepted();
    c.k("create namespace kueue-system").accepted();
    c.create(&controller("kubeflow", "training-operator", "ghcr.io/kubeflow/training-v1/training-operator:v1.9"))
        .accepted();
    c.create(&controller("kueue-system", "kueue-controller-manager", "registry.k8s.io/kueue/kueue:v0.14.0")).accepted();
    profile_namespace(c, "alice");
    // Her own copy of an operator is her own.
    c.create(&controller("alice", "kuberay-operator", "quay.io/kuberay/operator:v1.5.0")).accepted();

    it_is_shown_before_anything_is_changed(c);
    told(&c.bedplate("prove fairness"), &["there are no lanes", "modes: {fairness: enforce}"]);
    // The other guards have their own tests.
    let modes = r#"{"spec":{"modes":{"fairness":"enforce"}}}"#;
    c.kubectl(&["patch", "stabilityprofile", "default", "--type=merge", "-p", modes], "").accepted();
    c.bedplate("apply").accepted();
    the_server_puts_everyone_where_they_should_be(c);
    let after = objects(c);
    for (name, object) in &before {
        assert_eq!(after.get(name), Some(object), "{name}");
    }
    let stands = c.k("get stabilityprofile default -o jsonpath={.status.guarantees.fairness.enforced}").accepted();
    assert!(stands.contains("\"status\":\"True\"") && stands.contains("lane"), "{stands}");
    assert_eq!(c.bedplate("plan").code, 0, "nothing is left to do");
    c.bedplate("rollback").accepted();
    assert!(!has_lanes(c), "{:?}", objects(c).keys());
    c.bedplate("apply").accepted();
    assert!(has_lanes(c));

    the_operator_keeps_them_in_step(c);
    a_flood_starves_no_controller(c);

    c.bedplate("uninstall").accepted();
    assert_eq!(objects(c), before);
}

fn it_is_shown_before_anything_is_changed(c: &Harness) {
    c.bedplate("apply").accepted();
    assert!(!has_lanes(c), "a first installation only tells");
    let plan = c.bedplate("plan --server-concurrency 600");
    told(
        &plan,
        &[
            "flow control is changed in the mode `enforce` only",
            "kubeflow:training-operator  Kubeflow Training Operator (Deployment training-operator)",
            "kueue-system:kueue-controller-manager",
            "people, all accounts of alice",
            "kuberay-operator in alice is KubeRay, but runs in a namespace of users",
            "→ nominal",
        ],
    );
    let row = |level: &str| {
        let line = plan
            .text
            .lines()
            .find(|line| line.trim_start().starts_with(level))
            .unwrap_or_else(|| panic!("{}", plan.text));
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    // ceil(600 * 100 / 245) and ceil(600 * 100 / 280); 90 % of it is lent.
    assert_eq!(row("workload-low"), ["245", "24", "600", "215", "21", "600"]);
    assert_eq!(row("controllers.bedplate.dev"), ["-", "-", "-", "65", "32", "130"]);
    assert_eq!(row("users.bedplate.dev"), ["-", "-", "-", "11", "5", "11"]);
}

fn the_server_puts_everyone_where_they_should_be(c: &Harness) {
    let mut last = c.bedplate("apf explain --all-controllers");
    // The server reads its objects a moment later.
    c.eventually_or(
        || {
            last = c.bedplate("apf explain --all-controllers");
            last.code == 0
        },
        || (),
    );
    told(&last, &["seen: the server put 8 of 8 such requests there", "a user's notebook", "not among the controllers"]);
    let line = |who: &str| {
        last.text.lines().find(|line| line.contains(who)).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(
        line("kubeflow:training-operator")
            .ends_with("controllers.bedplate.dev leader-election (by leases.bedplate.dev)")
    );
    assert!(
        line("alice:default-editor").contains("users.bedplate.dev (by namespaces.bedplate.dev) users.bedplate.dev")
    );
    assert!(line("someone@example.com").contains("users.bedplate.dev (by people.bedplate.dev)"));
    // What is not ours rides as before.
    for (user, level) in [
        ("system:serviceaccount:kube-system:job-controller", "lane workload-high"),
        ("system:serviceaccount:shop:web", "lane workload-low"),
        ("system:kube-proxy", "lane global-default"),
        ("system:serviceaccount:alice:kuberay-operator", "lane users.bedplate.dev"),
    ] {
        let answer = c.bedplate(&format!("apf explain --as {user} --resource pods"));
        told(&answer, &[level, "seen: the server put such a request there"]);
    }
    // One Namespace is asked for in itself, and its rules hold.
    let rule = json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["namespaces"], "namespaces": ["alice"] });
    let reader = json!({ "kind": "User", "user": { "name": "reader@example.com" } });
    c.apply(&json!({ "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": { "name": "readers-of-alice" }, "spec": { "matchingPrecedence": 50,
            "priorityLevelConfiguration": { "name": "node-high" },
            "rules": [{ "subjects": [reader], "resourceRules": [rule] }] } }))
        .accepted();
    let mut last = c.bedplate("version");
    c.eventually(|| {
        last = c.bedplate("apf explain --as reader@example.com -- kubectl get namespace alice");
        last.code == 0
    });
    told(&last, &["lane node-high", "seen: the server put such a request there"]);
    // Its level is gone: the server passes over it.
    let nowhere = r#"{"spec":{"priorityLevelConfiguration":{"name":"nowhere"}}}"#;
    c.kubectl(&["patch", "flowschema", "readers-of-alice", "--type=merge", "-p", nowhere], "").accepted();
    c.eventually(|| {
        last = c.bedplate("apf explain --as reader@example.com -- kubectl get namespace alice");
        last.code == 0
    });
    told(&last, &["passed over: there is no level nowhere (Dangling)", "seen: the server put such a request there"]);
    c.k("delete flowschema readers-of-alice").accepted();
    let event = json!({ "kind": "Event", "apiVersion": "audit.k8s.io/v1", "verb": "list", "requestURI": "/api/v1/pods",
        "user": { "username": "system:serviceaccount:alice:default-editor",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:alice", "system:authenticated"] },
        "objectRef": { "resource": "pods", "apiVersion": "v1" } });
    let log = c.cluster.folder.join("audit.log");
    std::fs::write(&log, format!("{event}\n{event}\n")).unwrap();
    let answer = c.bedplate(&format!("apf explain --audit-log {}", log.display()));
    told(&answer, &["lane users.bedplate.dev", "seen: the server put", "2 events, 1 requests that differ"]);
}

fn the_operator_keeps_them_in_step(c: &Harness) {
    replica::install(c);
    let kubeconfig = replica::account(c);
    let operator = Operator::start(c, "lanes", &kubeconfig, &["--audit-every", "0s"]);
    let eventually =
        |so: &dyn Fn() -> bool| c.eventually_or(so, || panic!("{}\n{}", operator.get("/readyz"), operator.log()));
    eventually(&|| operator.leads());

    // A profile comes, and goes; a namespace that is none does not count.
    c.k("create namespace shop").accepted();
    profile_namespace(c, "bob");
    eventually(&|| users(c) == "alice bob");
    c.k("label namespace bob app.kubernetes.io/part-of-").accepted();
    eventually(&|| users(c) == "alice");

    // A controller is installed.
    c.create(&controller("kubeflow", "katib-controller", "ghcr.io/kubeflow/katib/katib-controller:v0.18.0")).accepted();
    let accounts =
        "get flowschema controllers.bedplate.dev -o jsonpath={.spec.rules[0].subjects[*].serviceAccount.name}";
    eventually(&|| c.k(accounts).text.contains("katib-controller"));

    // Somebody changes a lane, and it is put back; who does it again and again has a reason, and is left to it.
    let shares =
        "get prioritylevelconfiguration users.bedplate.dev -o jsonpath={.spec.limited.nominalConcurrencyShares}";
    let change = |to: u32| {
        let patch = json!({ "spec": { "limited": { "nominalConcurrencyShares": to } } }).to_string();
        c.kubectl(&["patch", "prioritylevelconfiguration", "users.bedplate.dev", "--type=merge", "-p", &patch], "")
            .accepted();
    };
    for to in [100, 101, 102] {
        change(to);
        eventually(&|| c.k(shares).text == "5");
    }
    change(103);
    eventually(&|| operator.log().contains("again and again") || operator.get("/readyz").contains("again and again"));
    assert_eq!(c.k(shares).text, "103");
    drop(operator);
    told(&c.bedplate("plan"), &["others own fields of it", "users.bedplate.dev"]);
    c.bedplate("apply --force-conflicts").accepted();
    assert_eq!(c.k(shares).text, "5");
}

fn a_flood_starves_no_controller(c: &Harness) {
    // Who may not send as others is told so before anything is sent.
    let nobody = c.cluster.kubeconfig_of("default", "default").unwrap();
    told(&c.bedplate_with(&nobody, "prove fairness"), &["may not do all", "impersonate", "nothing was done"]);
    c.k("create serviceaccount default-editor -n alice").accepted();
    c.k("create rolebinding editor -n alice --clusterrole=edit --serviceaccount=alice:default-editor").accepted();
    let line = "prove fairness --requests 2000 --seconds 60 --concurrency 20 --p99 60000";
    let mut answer = c.bedplate(line);
    // The authorizer is a moment behind.
    c.eventually(|| {
        if answer.text.contains("may not make ConfigMaps") {
            answer = c.bedplate(line);
        }
        !answer.text.contains("may not make ConfigMaps")
    });
    assert_eq!(answer.code, 0, "{}", answer.text);
    told(
        &answer,
        &["the guarantee holds", "system:serviceaccount:alice:default-editor", "controller, beside the flood"],
    );
    let flood = answer.text.lines().find(|line| line.starts_with("users, who flood")).unwrap();
    assert_eq!(flood.split_whitespace().nth(3), Some("2000"), "{}", answer.text);
    let proven = c.k("get stabilityprofile default -o jsonpath={.status.guarantees.fairness.proven}").accepted();
    assert!(proven.contains("\"status\":\"True\"") && proven.contains("p99"), "{proven}");
    let left = c.k("get configmaps -n alice -o name").accepted();
    assert!(!left.contains("bedplate-proof"), "{left}");
}

/// FlowSchemas of a batch, and requests for each.
const BATCHES: usize = 12;
const SCHEMAS: usize = 20;
const REQUESTS: usize = 180;

/// The explainer's word is the model's; this is what says that the model is the server's.
#[test]
fn the_explainer_says_of_two_thousand_requests_what_the_server_does() {
    let (c, _turn) = alone();
    let mut random = fastrand::Rng::with_seed(6);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = runtime.block_on(Cluster::connect(Some(&c.cluster.kubeconfig()), None)).unwrap();
    let (mut pairs, mut lanes) = (0, BTreeMap::<String, usize>::new());
    for batch in 0..BATCHES {
        c.k("delete flowschemas -l test=generated").accepted();
        let schemas: Vec<Value> = (0..SCHEMAS).map(|number| schema(&mut random, batch, number)).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": schemas });
        c.create(&list).accepted();
        // The server writes the condition when it has taken the schema into what it goes by.
        let read = "get flowschemas -l test=generated -o jsonpath={.items[*].status.conditions[?(@.type==\"Dangling\")].status}";
        c.eventually(|| c.k(read).text.split_whitespace().count() == SCHEMAS);
        let live = runtime.block_on(cluster.flow_control()).unwrap();
        for _ in 0..REQUESTS {
            let request = request(&mut random);
            let expected = lane(&live, &request);
            let seen = runtime.block_on(ask(&cluster, &live, &request));
            let of = |name: &str| live.schemas.iter().find(|schema| schema.metadata.name == name).cloned();
            let by = match &seen {
                Seen::Lane(schema, _) => of(schema),
                Seen::Unknown(_) => None,
            };
            let told = || format!("{request:?}\nby the server: {by:#?}\nby the explainer: {:#?}", of(&expected.0));
            assert_eq!(seen, Seen::Lane(expected.0.clone(), expected.1.clone()), "{}", told());
            pairs += 1;
            *lanes.entry(expected.0).or_default() += 1;
        }
    }
    c.k("delete flowschemas -l test=generated").accepted();
    assert!(pairs >= 2000, "{pairs}");
    let generated: usize = lanes.iter().filter(|(name, _)| name.starts_with("generated")).map(|(_, count)| count).sum();
    // Both kinds have to be many, or it says little.
    assert!(generated > 500 && pairs - generated > 200 && lanes.len() > 50, "{lanes:?}");
}

fn lane(live: &FlowControl, request: &Request) -> (String, String) {
    let schema = first_match(&live.schemas, &live.levels, request).unwrap();
    (schema.metadata.name.clone(), schema.spec.priority_level_configuration.name.clone())
}

async fn ask(cluster: &Cluster, live: &FlowControl, request: &Request) -> Seen {
    let resource = match &request.target {
        Target::Resource(group, plural, _) => {
            cluster.resources().iter().find(|known| known.group == *group && known.plural == *plural)
        }
        Target::Path(_) => None,
    };
    cluster.seen_lane(live, request, resource, true).await.unwrap()
}

const USERS: &[&str] = &[
    "amy",
    "bob",
    "system:anonymous",
    "system:serviceaccount:red:x",
    "system:serviceaccount:red:y",
    "system:serviceaccount:blue:x",
    "system:serviceaccount:kube-system:x",
];
const GROUPS: &[&str] = &["dev", "ops"];
const VERBS: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete"];
const RESOURCES: &[(&str, &str, bool)] = &[
    ("", "pods", true),
    ("", "configmaps", true),
    ("", "nodes", false),
    ("batch", "jobs", true),
    ("apps", "deployments", true),
    ("coordination.k8s.io", "leases", true),
    ("rbac.authorization.k8s.io", "clusterroles", false),
];
const NAMESPACES: &[&str] = &["red", "blue", "kube-system"];
const PATHS: &[&str] = &["/healthz", "/version", "/apis", "/metrics", "/healthz/ping"];

fn pick<'a, T>(random: &mut fastrand::Rng, of: &'a [T]) -> &'a T {
    &of[random.usize(..of.len())]
}

/// One to three of some words, or all by `*`, which stands alone.
fn some(random: &mut fastrand::Rng, of: &[&str]) -> Vec<String> {
    if random.u8(..4) == 0 {
        return vec!["*".to_owned()];
    }
    let mut words: Vec<String> = (0..random.usize(1..=3)).map(|_| (*pick(random, of)).to_owned()).collect();
    words.sort();
    words.dedup();
    words
}

fn schema(random: &mut fastrand::Rng, batch: usize, number: usize) -> Value {
    let groups: Vec<&str> = ["", "batch", "apps", "coordination.k8s.io", "rbac.authorization.k8s.io"].to_vec();
    let plurals: Vec<&str> = RESOURCES.iter().map(|(_, plural, _)| *plural).collect();
    let rules: Vec<Value> = (0..random.usize(1..=2))
        .map(|_| {
            let subjects: Vec<Value> = (0..random.usize(1..=2)).map(|_| subject(random)).collect();
            let mut rule = json!({ "subjects": subjects });
            if random.u8(..4) > 0 {
                let scope = random.bool();
                let mut resources = json!({ "verbs": some(random, VERBS), "apiGroups": some(random, &groups),
                    "resources": some(random, &plurals), "clusterScope": scope });
                // One that means neither namespaces nor the rest is not taken.
                if !scope || random.bool() {
                    resources["namespaces"] = json!(some(random, NAMESPACES));
                }
                rule["resourceRules"] = json!([resources]);
            }
            if rule.get("resourceRules").is_none() || random.u8(..3) == 0 {
                let urls = some(random, &["/healthz", "/healthz/*", "/version", "/apis", "/metrics"]);
                rule["nonResourceRules"] =
                    json!([{ "verbs": some(random, &["get", "list", "create"]), "nonResourceURLs": urls }]);
            }
            rule
        })
        .collect();
    // Few different precedences: where they tie, names decide.
    let precedence = pick(random, &[3, 90, 450, 850, 950, 2000, 2000, 2000, 8999, 9000, 9500, 9999]);
    let level = pick(random, &["workload-low", "workload-high", "global-default", "leader-election", "exempt"]);
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": { "name": format!("generated-{batch}-{number}"), "labels": { "test": "generated" } },
        "spec": { "matchingPrecedence": precedence, "priorityLevelConfiguration": { "name": level }, "rules": rules },
    })
}

fn subject(random: &mut fastrand::Rng) -> Value {
    match random.u8(..12) {
        0 => json!({ "kind": "User", "user": { "name": "*" } }),
        1 => json!({ "kind": "Group", "group": { "name": "*" } }),
        2..5 => json!({ "kind": "User", "user": { "name": pick(random, USERS) } }),
        5..8 => {
            let names = [
                "dev",
                "ops",
                "system:serviceaccounts",
                "system:serviceaccounts:red",
                "system:authenticated",
                "system:unauthenticated",
            ];
            json!({ "kind": "Group", "group": { "name": pick(random, &names) } })
        }
        _ => {
            let (namespace, name) = (pick(random, NAMESPACES), pick(random, &["x", "y", "*"]));
            json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": namespace, "name": name } })
        }
    }
}

fn request(random: &mut fastrand::Rng) -> Request {
    let user = (*pick(random, USERS)).to_owned();
    let mut groups = implied_groups(&user);
    if random.bool() && user != "system:anonymous" {
        groups.push((*pick(random, GROUPS)).to_owned());
    }
    if random.u8(..6) == 0 {
        let path = (*pick(random, PATHS)).to_owned();
        return Request { user, groups, verb: "get".to_owned(), target: Target::Path(path) };
    }
    let (group, plural, namespaced) = *pick(random, RESOURCES);
    let verb = (*pick(random, VERBS)).to_owned();
    // Only lists and watches go over all namespaces.
    let all = !namespaced || matches!(verb.as_str(), "list" | "watch") && random.bool();
    let namespace = if all { String::new() } else { (*pick(random, NAMESPACES)).to_owned() };
    Request { user, groups, verb, target: Target::Resource(group.to_owned(), plural.to_owned(), namespace) }
}
