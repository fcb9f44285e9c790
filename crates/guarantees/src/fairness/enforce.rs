//! The lanes: FlowSchemas and PriorityLevelConfigurations.
//!
//! ```text
//!   precedence                                              level
//!        250  controllers' leases                       ─▶  leader-election (the server's own)
//!       8000  controllers                               ─▶  controllers.bedplate.dev
//!       8500  service accounts of users' namespaces,
//!             and what runs pipelines for them          ─▶  users.bedplate.dev, a flow a namespace
//!       9000  all other service accounts                    (the server's own: workload-low)
//!       9400  parts of a cluster that are no accounts   ─▶  global-default (the server's own, as before)
//!       9500  people                                    ─▶  users.bedplate.dev, a flow a user
//! ```
//!
//! 250 is behind the elections of Kubernetes itself (100 to 200) and before nodes (400). 8000 is before 9000, where the
//! server has all service accounts (Kueue's chart uses 9000 too, where the name decides), and behind what a platform team
//! made for itself, which keeps its say. The server's own objects are never touched. A server that has not read a level yet
//! passes over the schemas that name it, and everything rides as before: levels are made first and removed last.
//!
//! Shares dilute: what is given to a new level is taken from all others in proportion. 30 and 5 beside the server's 245 take
//! an eighth of each. The controllers' lane lends half of its seats while it needs them not, and may borrow as many as it
//! has; the users' lends half and borrows none: that is what limits a flood.

use bedplate_apf::types::{FlowSchema, PriorityLevel};
use bedplate_model::profile::Mode;
use bedplate_model::{Guarantee, Profile, Settings, names};
use serde_json::{Value, json};

use super::detect::Detected;
use crate::enforce::labels;

/// API group of flow control.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// The controllers' level.
pub const CONTROLLERS: &str = "controllers.bedplate.dev";
/// The users' level.
pub const USERS: &str = "users.bedplate.dev";
/// The schema of controllers' leases.
pub const LEASES: &str = "leases.bedplate.dev";
/// The schema of users' namespaces.
pub const NAMESPACES: &str = "namespaces.bedplate.dev";
/// The schema of what is part of a cluster and is no service account.
pub const PARTS: &str = "parts.bedplate.dev";
/// The schema of people.
pub const PEOPLE: &str = "people.bedplate.dev";

/// Every level that may be made.
pub const LEVELS: &[&str] = &[CONTROLLERS, USERS];
/// Every schema that may be made.
pub const SCHEMAS: &[&str] = &[LEASES, CONTROLLERS, NAMESPACES, PARTS, PEOPLE];

/// Parts of a cluster that have a user of their own, not a service account: without a word they would count as people.
/// Sources: kubeadm (`kube-proxy`'s and the bootstrap users), cloud-provider, `user.go` of `k8s.io/apiserver` for the groups.
const PART_USERS: &[&str] = &[
    "system:kube-proxy",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:cloud-controller-manager",
    "system:cluster-autoscaler",
];
const PART_GROUPS: &[&str] = &["system:nodes", "system:bootstrappers", "system:monitoring"];

/// Whether lanes are wanted: they are made in the mode `enforce` only.
#[must_use]
pub fn is_wanted(profile: &Profile) -> bool {
    mode(profile) == Mode::Enforce
}

/// How strictly fairness holds.
#[must_use]
pub fn mode(profile: &Profile) -> Mode {
    // No rule has that name: it is the mode of the whole guarantee.
    profile.settings(None).mode("", Guarantee::Fairness)
}

/// The lanes of a cluster, levels first. Nothing where no controller was found: there is nobody to protect.
#[must_use]
pub fn objects(settings: &Settings, detected: &Detected) -> Vec<Value> {
    if detected.controllers.is_empty() {
        return Vec::new();
    }
    let controllers: Vec<Value> =
        detected.controllers.iter().map(|one| account(&one.namespace, &one.account)).collect();
    let mut users: Vec<Value> = detected.users.iter().map(|namespace| account(namespace, "*")).collect();
    users.extend(detected.runners.iter().map(|(namespace, name)| account(namespace, name)));
    let parts = PART_USERS.iter().map(|name| json!({ "kind": "User", "user": { "name": name } }));
    let parts = parts.chain(PART_GROUPS.iter().map(|name| group(name))).collect();
    let lease = json!([{ "verbs": ["get", "create", "update", "patch"], "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"], "namespaces": ["*"] }]);
    let mut all = vec![
        // 64 queues, 6 for each controller: one that runs wild leaves the others theirs.
        level(CONTROLLERS, settings.controller_shares(), [50, 100], [64, 6, 50]),
        // A flow may fill 2 of 64 queues, so that a flood is met by few others; 100 of its requests wait, more are refused.
        level(USERS, settings.user_shares(), [50, 0], [64, 2, 50]),
        schema(
            LEASES,
            "leader-election",
            250,
            Some("ByUser"),
            &[json!({ "subjects": controllers, "resourceRules": lease })],
        ),
        schema(CONTROLLERS, CONTROLLERS, 8000, Some("ByUser"), &[everything(controllers)]),
    ];
    if !users.is_empty() {
        all.push(schema(NAMESPACES, USERS, 8500, Some("ByNamespace"), &[everything(users)]));
    }
    all.extend([
        schema(PARTS, "global-default", 9400, Some("ByUser"), &[everything(parts)]),
        schema(PEOPLE, USERS, 9500, Some("ByUser"), &[everything(vec![group("system:authenticated")])]),
    ]);
    all
}

fn account(namespace: &str, name: &str) -> Value {
    json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": namespace, "name": name } })
}

fn group(name: &str) -> Value {
    json!({ "kind": "Group", "group": { "name": name } })
}

/// All that some subjects ask for, lists over all namespaces too.
fn everything(subjects: Vec<Value>) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"] }],
        "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
    })
}

/// A level: how many percent of its seats it lends and may borrow; queues, those of a flow, and what waits in one.
fn level(name: &str, shares: u32, [lends, borrows]: [u32; 2], [queues, hand, length]: [u32; 3]) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "PriorityLevelConfiguration",
        "metadata": { "name": name, "labels": labels(Guarantee::Fairness) },
        "spec": { "type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lends, "borrowingLimitPercent": borrows,
            "limitResponse": { "type": "Queue", "queuing": { "queues": queues, "handSize": hand, "queueLengthLimit": length } },
        } },
    })
}

fn schema(name: &str, level: &str, precedence: u32, flows: Option<&str>, rules: &[Value]) -> Value {
    let mut schema = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "FlowSchema",
        "metadata": { "name": name, "labels": labels(Guarantee::Fairness) },
        "spec": { "priorityLevelConfiguration": { "name": level }, "matchingPrecedence": precedence, "rules": rules },
    });
    if let Some(method) = flows {
        schema["spec"]["distinguisherMethod"] = json!({ "type": method });
    }
    schema
}

/// Flow control as it would be with some lanes: theirs in place of those of the same name, and of what is ours no others.
#[must_use]
pub fn with(
    lanes: &[Value],
    schemas: &[FlowSchema],
    levels: &[PriorityLevel],
) -> (Vec<FlowSchema>, Vec<PriorityLevel>) {
    let ours = |name: &str| name.ends_with(&format!(".{}", names::GROUP));
    let mut schemas: Vec<_> = schemas.iter().filter(|schema| !ours(&schema.metadata.name)).cloned().collect();
    let mut levels: Vec<_> = levels.iter().filter(|level| !ours(&level.metadata.name)).cloned().collect();
    for lane in lanes {
        if lane["kind"] == "FlowSchema" {
            schemas.extend(serde_json::from_value::<FlowSchema>(lane.clone()).ok());
        } else {
            levels.extend(serde_json::from_value::<PriorityLevel>(lane.clone()).ok());
        }
    }
    (schemas, levels)
}

/// What of the lanes cannot work on a server with these schemas, and why, as sentences.
#[must_use]
pub fn obstacles(schemas: &[FlowSchema]) -> Vec<String> {
    let shadows = bedplate_apf::shadowed(schemas);
    let shadows = shadows.iter().filter(|shadow| SCHEMAS.contains(&shadow.schema.as_str()));
    shadows
        .map(|shadow| {
            format!(
                "FlowSchema {} is never reached: {} takes all of its requests before it, by a lower matchingPrecedence",
                shadow.schema,
                shadow.by.join(", ")
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bedplate_apf::bootstrap::{self, is_bootstrap};
    use bedplate_apf::first_match;
    use bedplate_apf::matching::{Request, Target, implied_groups};
    use bedplate_apf::shares::{Part, concurrency};

    use super::super::detect::{Read, detect};
    use super::*;

    fn detected() -> Detected {
        let mut read = Read::default();
        for (namespace, account, image) in [
            ("kubeflow", "training-operator", "x/training-operator"),
            ("kubeflow", "ml-pipeline", "x/kfp-api-server"),
            ("kueue-system", "kueue-controller-manager", "registry.k8s.io/kueue/kueue"),
        ] {
            read.add(&json!({ "kind": "Deployment", "metadata": { "name": "d", "namespace": namespace },
                "spec": { "template": { "spec": { "serviceAccountName": account, "containers": [{ "image": image }] } } } }));
        }
        for name in ["alice", "bob"] {
            read.add(&json!({ "kind": "Namespace", "metadata": { "name": name, "labels": { "app.kubernetes.io/part-of": "kubeflow-profile" } } }));
        }
        detect(&read, &Settings::default())
    }

    /// The schemas of every server, as far as they matter here (`bootstrap/default.go`).
    fn server() -> Vec<FlowSchema> {
        let schema = |name: &str, level: &str, precedence: i64, subjects: Value| {
            let mut schema = schema(name, level, 1, None, &[everything(subjects.as_array().unwrap().clone())]);
            schema["spec"]["matchingPrecedence"] = precedence.into();
            serde_json::from_value(schema).unwrap()
        };
        vec![
            schema("exempt", "exempt", 1, json!([group("system:masters")])),
            schema("system-nodes", "system", 500, json!([group("system:nodes")])),
            schema("kube-system-service-accounts", "workload-high", 900, json!([account("kube-system", "*")])),
            schema("service-accounts", "workload-low", 9000, json!([group("system:serviceaccounts")])),
            schema(
                "global-default",
                "global-default",
                9900,
                json!([group("system:authenticated"), group("system:unauthenticated")]),
            ),
        ]
    }

    fn lane(
        schemas: &[FlowSchema],
        user: &str,
        group: &str,
        verb: &str,
        resource: (&str, &str),
        namespace: &str,
    ) -> String {
        let groups = implied_groups(user).into_iter().chain([group.to_owned()]).collect();
        let target = Target::Resource(resource.0.to_owned(), resource.1.to_owned(), namespace.to_owned());
        let request = Request { user: user.to_owned(), groups, verb: verb.to_owned(), target };
        let names = schemas.iter().map(|schema| &schema.spec.priority_level_configuration.name);
        let level = |name| serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        let levels: Vec<_> = names.map(level).collect();
        first_match(schemas, &levels, &request).unwrap().spec.priority_level_configuration.name.clone()
    }

    #[test]
    fn everyone_rides_where_they_should() {
        let (schemas, _) = with(&objects(&Settings::default(), &detected()), &server(), &[]);
        let (pods, lease) = (("", "pods"), ("coordination.k8s.io", "leases"));
        let sa = |name: &str| format!("system:serviceaccount:{name}");
        for (user, group, verb, what, namespace, level) in [
            (sa("kubeflow:training-operator").as_str(), "", "list", pods, "", CONTROLLERS),
            (&sa("kubeflow:training-operator"), "", "update", lease, "kubeflow", "leader-election"),
            (&sa("kueue-system:kueue-controller-manager"), "", "get", pods, "alice", CONTROLLERS),
            (&sa("alice:default-editor"), "", "create", pods, "alice", USERS),
            (&sa("alice:anything"), "", "list", pods, "", USERS),
            // A user who renews leases is no controller.
            (&sa("alice:default-editor"), "", "update", lease, "alice", USERS),
            (&sa("kubeflow:pipeline-runner"), "", "create", pods, "kubeflow", USERS),
            ("amy@example.com", "team", "list", pods, "", USERS),
            // As before.
            ("amy@example.com", "system:masters", "list", pods, "", "exempt"),
            (&sa("kube-system:job-controller"), "", "create", pods, "alice", "workload-high"),
            (&sa("shop:web"), "", "list", pods, "shop", "workload-low"),
            ("system:node:a", "system:nodes", "update", pods, "alice", "system"),
            ("system:kube-proxy", "", "list", ("", "services"), "", "global-default"),
            ("system:anonymous", "", "list", pods, "", "global-default"),
        ] {
            assert_eq!(lane(&schemas, user, group, verb, what, namespace), level, "{user} {verb}");
        }
        assert_eq!(obstacles(&schemas), [] as [&str; 0]);
    }

    /// A copied annotation, and the API server deletes the lane; a name of the server's own, and it resets it.
    #[test]
    fn nothing_of_the_servers_own_is_touched() {
        for object in objects(&Settings::default(), &detected()) {
            let name = object["metadata"]["name"].as_str().unwrap();
            assert!(!is_bootstrap(name) && object["metadata"].get("annotations").is_none(), "{name}");
            let own = if object["kind"] == "FlowSchema" { SCHEMAS } else { LEVELS };
            assert!(own.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_level_is_there_before_its_schemas() {
        let all = objects(&Settings::default(), &detected());
        let first_schema = all.iter().position(|object| object["kind"] == "FlowSchema").unwrap();
        assert!(all[first_schema..].iter().all(|object| object["kind"] == "FlowSchema"));
        for object in &all[first_schema..] {
            let level = object["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap();
            let there = |object: &Value| object["metadata"]["name"] == level;
            assert!(
                bootstrap::LEVELS.iter().any(|l| l.name == level) || all[..first_schema].iter().any(there),
                "{level}"
            );
        }
    }

    #[test]
    fn no_level_of_the_server_loses_more_than_an_eighth() {
        let before: Vec<Part> = bootstrap::LEVELS.iter().map(|l| (l.shares, l.lendable_percent, None)).collect();
        let (_, lanes) = with(&objects(&Settings::default(), &detected()), &[], &[]);
        let after: Vec<Part> = before.iter().copied().chain(lanes.iter().map(PriorityLevel::part)).collect();
        let (before, after) = (concurrency(600, &before), concurrency(600, &after));
        for (before, after) in before.iter().zip(&after) {
            // Seats are rounded up.
            assert!(after.nominal * 8 + 8 >= before.nominal * 7, "{before:?} {after:?}");
        }
        assert_eq!((after[8].nominal, after[8].min, after[8].max), (65, 32, Some(130)));
        assert_eq!((after[9].nominal, after[9].max), (11, Some(11)));
    }

    #[test]
    fn where_nothing_is_to_be_protected_nothing_is_made() {
        let people = Detected { users: ["alice".to_owned()].into(), ..Detected::default() };
        assert_eq!(objects(&Settings::default(), &people), [] as [Value; 0]);
    }

    #[test]
    fn a_lane_that_somebody_else_is_in_front_of_is_told() {
        let mut schemas = server();
        let mut broad = schemas[3].clone();
        broad.metadata.name = "all-accounts".to_owned();
        broad.spec.matching_precedence = 5000;
        schemas.push(broad);
        let (schemas, _) = with(&objects(&Settings::default(), &detected()), &schemas, &[]);
        let told = obstacles(&schemas);
        assert!(told.iter().any(|told| told.contains(CONTROLLERS) && told.contains("all-accounts")), "{told:?}");
    }
}
