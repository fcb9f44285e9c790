//! Every object that it takes to run the operator, from a few tables.

use bedplate_cluster::resource::plural;
use bedplate_cluster::rights::{self, Rule, Task};
use bedplate_cluster::{rbac, reports, trail};
use bedplate_guarantees::enforce;
use bedplate_guarantees::fairness::enforce as enforce_lanes;
use bedplate_model::workload::kinds::{self, TABLE};
use bedplate_model::{Profile, names};
use serde_json::{Value, json};

/// Name of the Secret with the certificates.
pub const SECRET: &str = rights::OPERATOR_SECRET;
/// Name of the Lease of the leader.
pub const LEASE: &str = NAME;
/// Name of both webhook configurations.
pub const CONFIGURATION: &str = names::GROUP;
/// Name of the Deployment, the Service, the ServiceAccount.
pub const NAME: &str = rights::OPERATOR_NAME;
/// Label of a namespace that the webhook is not to be asked about: `"false"`. What must not fail open holds there too.
pub const OPT_OUT: &str = "bedplate.dev/webhook";
/// Port of the webhook.
pub const PORT: u16 = 8443;
/// Port of health and metrics.
pub const HEALTH_PORT: u16 = 8080;
/// How often the leader audits the cluster, where nobody says otherwise.
pub const AUDIT_EVERY: &str = "10m";
/// Seconds that an API server waits for an answer.
const TIMEOUT: u8 = 3;
/// Seconds for which a replica answers on after it was told to stop: until endpoints have changed everywhere.
const DRAIN: u16 = 10;

/// How API servers reach the webhook.
#[derive(Clone, Debug)]
pub enum Address {
    /// By the Service in Bedplate's namespace.
    Service,
    /// By a base URL, such as `https://127.0.0.1:8443`.
    Url(String),
}

impl Address {
    fn client_config(&self, path: &str) -> Value {
        match self {
            Self::Service => {
                json!({ "service": { "namespace": names::NAMESPACE, "name": NAME, "path": path, "port": 443 } })
            }
            Self::Url(base) => json!({ "url": format!("{base}{path}") }),
        }
    }
}

/// One of the two stages.
struct Stage {
    kind: &'static str,
    /// The webhook's name: a user reads it in front of a refusal.
    name: &'static str,
    path: &'static str,
}

const STAGES: &[Stage] = &[
    Stage { kind: "MutatingWebhookConfiguration", name: "explain.bedplate.dev", path: "/mutate" },
    Stage { kind: "ValidatingWebhookConfiguration", name: "judge.bedplate.dev", path: "/validate" },
];

/// CEL that has to be true for the webhook to be asked: its name, the expression, and why.
const CONDITIONS: &[(&str, &str)] = &[
    // What controllers of Kubernetes make was judged where its owner was written: the heart of the cluster never waits.
    ("no-kube-system-controller", "!request.userInfo.username.startsWith('system:serviceaccount:kube-system:')"),
    // Nodes report, the scheduler binds, the garbage collector takes finalizers away.
    (
        "no-part-of-kubernetes",
        "!(request.userInfo.username.startsWith('system:kube-') || request.userInfo.username.startsWith('system:node:') || request.userInfo.username == 'system:apiserver')",
    ),
    // What goes is on its way.
    ("not-leaving", "!has(object.metadata.deletionTimestamp)"),
    // A status, a heartbeat, a renewal: nothing that any rule reads.
    (
        "something-changed",
        "request.operation == 'CREATE' || !has(object.spec) || !has(oldObject.spec) || object.spec != oldObject.spec || object.metadata.?labels != oldObject.metadata.?labels || object.metadata.?annotations != oldObject.metadata.?annotations",
    ),
];

/// The webhook configurations.
#[must_use]
pub fn webhooks(address: &Address) -> Vec<Value> {
    let conditions: Vec<_> =
        CONDITIONS.iter().map(|(name, expression)| json!({ "name": name, "expression": expression })).collect();
    STAGES
        .iter()
        .map(|stage| {
            let mut webhook = json!({
                "name": stage.name,
                "admissionReviewVersions": ["v1"],
                "clientConfig": address.client_config(stage.path),
                "failurePolicy": "Ignore",
                "matchConditions": conditions,
                "matchPolicy": "Equivalent",
                "namespaceSelector": { "matchExpressions": [
                    { "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": names::SYSTEM_NAMESPACES },
                    { "key": OPT_OUT, "operator": "NotIn", "values": ["false"] },
                ] },
                "objectSelector": {},
                "rules": resources(),
                "sideEffects": "None",
                "timeoutSeconds": TIMEOUT,
            });
            if stage.path == "/mutate" {
                // Once: a fix never asks for another.
                webhook["reinvocationPolicy"] = "Never".into();
            }
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": stage.kind,
                "metadata": { "name": CONFIGURATION, "labels": labels() },
                "webhooks": [webhook],
            })
        })
        .collect()
}

/// The kinds of the workload table, created and changed. Subresources are not asked about, so no status, no binding,
/// no eviction; a container to debug a pod is the one exception.
fn resources() -> Vec<Value> {
    let rule = |(group, resources): (&str, Vec<String>)| {
        json!({ "apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
            "resources": resources, "scope": "Namespaced" })
    };
    kinds::resources(TABLE).into_iter().map(rule).collect()
}

fn labels() -> Value {
    json!({ "app.kubernetes.io/name": NAME, "app.kubernetes.io/managed-by": names::FIELD_MANAGER })
}

fn right(
    group: &'static str,
    resources: &[&str],
    names: &[&str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Rule {
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Rule { group, resources: own(resources), names: own(names), namespace: None, verbs, why }
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const REPORTS: &str = "checkpointreports";
/// Who writes and who reads what trainings tell of their checkpoints: a role that every cluster has and that it adds to, its
/// name, what it may, and why.
#[rustfmt::skip]
const REPORTING: [(&str, &str, &[&str], &str); 2] = [
    ("edit", rights::CHECKPOINT_REPORTER, &["create", "patch"], "the Python package tells of its checkpoints, by server-side apply"),
    ("view", rights::CHECKPOINT_VIEWER, &["get", "list", "watch"], "people see how far their trainings are saved"),
];
const LANES: &[&str] = &["flowschemas", "prioritylevelconfigurations"];
const POLICIES: &[&str] = &["validatingadmissionpolicies", "validatingadmissionpolicybindings"];

/// Rights in the whole cluster.
fn cluster_rights() -> Vec<Rule> {
    let (definitions, guards) = (definitions(), guards());
    let (definitions, guards): (Vec<_>, Vec<_>) =
        (definitions.iter().map(String::as_str).collect(), guards.iter().map(String::as_str).collect());
    let mut rights = vec![
        right(
            names::GROUP,
            &["stabilityprofiles", "exemptions"],
            &[],
            &["get", "list", "watch"],
            "decisions follow the profile and its exemptions at once",
        ),
        right(names::GROUP, &["stabilityprofiles/status"], &[names::PROFILE], &["patch"], "how each guarantee stands"),
        right(
            names::GROUP,
            &["exemptions/status"],
            &[],
            &["patch"],
            "who asked for an exemption sees whether it is honoured",
        ),
        right(
            names::GROUP,
            &[REPORTS],
            &[],
            &["list", "watch"],
            "audits tell of trainings that would lose much; what their saves take is the grace of the pods that come next",
        ),
        right(
            "policy",
            &["poddisruptionbudgets"],
            &[],
            &["list", "watch"],
            "a warning that no budget protects a server has to be true",
        ),
        right(
            "resource.k8s.io",
            &["resourceclaimtemplates"],
            &[],
            &["list", "watch"],
            "devices that pods claim count against the ceiling",
        ),
        right(
            ADMISSION,
            &["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
            &[CONFIGURATION],
            &["get", "patch"],
            "our own webhooks only: the authority of our certificates, when it is rotated",
        ),
        right(ADMISSION, POLICIES, &[], &["list", "watch"], "guards that somebody changed or took away are found"),
        right(
            ADMISSION,
            POLICIES,
            &guards,
            &["get", "create", "patch", "update", "delete"],
            "our own guards only: they are put back, and follow what the cluster serves",
        ),
        right(
            enforce_lanes::GROUP,
            LANES,
            &[],
            &["list", "watch"],
            "lanes of flow control that somebody changed or took away are found",
        ),
        right(
            enforce_lanes::GROUP,
            &LANES[..1],
            enforce_lanes::SCHEMAS,
            &["get", "create", "patch", "update", "delete"],
            "our own lanes only: they are put back, and follow the controllers and the users that are there",
        ),
        right(
            enforce_lanes::GROUP,
            &LANES[1..],
            enforce_lanes::LEVELS,
            &["get", "create", "patch", "update", "delete"],
            "likewise: their seats",
        ),
        right(
            "",
            &["namespaces"],
            &[],
            &["list", "watch"],
            "whoever unlocks one is put on record; one of users gets its lane at once",
        ),
        right(
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            &[],
            &["list", "watch"],
            "a kind that comes gets its guard at once; whoever unlocks one is put on record",
        ),
        right(
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            &definitions,
            &["get", "create", "patch"],
            "our own definitions only: they are put back",
        ),
        right(
            "events.k8s.io",
            &["events"],
            &[],
            &["create", "patch"],
            "a refusal stands at what a controller works for; a guard that was changed, at the guard",
        ),
        right(
            "coordination.k8s.io",
            &["leases"],
            &[],
            &["get", "list"],
            "the API server lets nobody write a guard who may not read what it is held against: the clock",
        ),
    ];
    for (group, kind) in reports::KINDS {
        let verbs = &["list", "create", "patch", "delete"];
        let why = "what audits found, for whoever reads the reports of policy tools";
        rights.push(Rule { group, resources: vec![plural(kind)], names: Vec::new(), namespace: None, verbs, why });
    }
    let scaled = scaled();
    for (group, resources) in kinds::resources(scaled) {
        let why = "likewise: the workloads that can be scaled";
        rights.push(Rule { group, resources, names: Vec::new(), namespace: None, verbs: &["get"], why });
    }
    rights.extend(audits(None));
    for (group, resources) in kinds::resources(TABLE.iter()) {
        let why = "what is asked for in total, where the profile limits that; of pods the metadata";
        rights.push(Rule { group, resources, names: Vec::new(), namespace: None, verbs: &["watch"], why });
    }
    rights
}

/// What the leader's audits may do besides, in the whole cluster or in a namespace.
fn audits(namespace: Option<&'static str>) -> impl Iterator<Item = Rule> {
    rights::rules(Task::Audit).into_iter().filter(move |rule| rule.namespace == namespace && rule.group != names::GROUP)
}

/// Every policy with its bindings, whatever a cluster serves.
fn policies() -> Vec<enforce::Policy> {
    enforce::policies(enforce::Installation { profile: &Profile::default(), served: &|_, _| Some("v1".to_owned()) })
}

/// The names of every guard, whatever modes a profile chooses.
fn guards() -> Vec<String> {
    let names = |policy: &enforce::Policy| policy.modes.iter().map(|mode| policy.name(*mode)).collect::<Vec<_>>();
    policies().iter().flat_map(names).collect()
}

/// The kinds that can be scaled, and have a guard for it.
fn scaled() -> Vec<&'static kinds::Kind> {
    let kind = |policy: enforce::Policy| match policy.params {
        enforce::Params::Workload(kind, _) => Some(kind),
        _ => None,
    };
    policies().into_iter().filter_map(kind).collect()
}

/// The names of our own definitions.
fn definitions() -> Vec<String> {
    let name = |definition: &Value| definition.pointer("/metadata/name")?.as_str().map(str::to_owned);
    bedplate_guarantees::definitions().iter().filter_map(name).collect()
}

/// Rights in some namespaces.
fn namespaced_rights() -> Vec<(&'static str, Vec<Rule>)> {
    let mut kube_system = vec![
        right(
            "apps",
            &["daemonsets"],
            &[],
            &["list", "watch"],
            "whether NodeLocal DNSCache runs, which changes what is said of names",
        ),
        right("", &["configmaps"], &[], &["create"], "the audit trail, at the first time"),
        right("", &["configmaps"], &[trail::NAME], &["get", "patch"], "the audit trail"),
    ];
    kube_system.extend(audits(Some(trail::NAMESPACE)));
    vec![
        (trail::NAMESPACE, kube_system),
        // A creation of a Secret or a Lease has no name that could be asked for.
        (
            names::NAMESPACE,
            vec![
                right("", &["secrets"], &[], &["create"], "the certificates, at the first start"),
                right(
                    "",
                    &["secrets"],
                    &[SECRET],
                    &["get", "update"],
                    "the certificates: read by every replica, rotated",
                ),
                right("coordination.k8s.io", &["leases"], &[], &["create"], "the election, at the first start"),
                right(
                    "coordination.k8s.io",
                    &["leases"],
                    &[LEASE],
                    &["get", "update"],
                    "the election: one replica reconciles",
                ),
            ],
        ),
    ]
}

/// A role, and why it has each of its rights.
fn role(kind: &str, namespace: Option<&str>, rules: &[Rule]) -> Object {
    let (object, reasons) = rights::role(kind, &metadata(NAME, namespace), rules);
    Object { object, reasons }
}

/// A ClusterRole that adds to one of those that every cluster has (`aggregationRule` of `view`, `edit`).
fn part_of(whole: &str, name: &str, rule: Rule) -> Object {
    let mut metadata = metadata(name, None);
    metadata["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{whole}")] = "true".into();
    let (object, reasons) = rights::role("ClusterRole", &metadata, &[rule]);
    Object { object, reasons }
}

fn binding(kind: &str, role: &str, namespace: Option<&str>) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata(NAME, namespace),
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": NAME },
        "subjects": [{ "kind": "ServiceAccount", "name": NAME, "namespace": names::NAMESPACE }],
    })
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({ "name": name, "labels": labels() });
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

/// An object, and why it has each of its rules where it is a role.
pub(crate) struct Object {
    pub(crate) object: Value,
    pub(crate) reasons: Vec<&'static str>,
}

impl From<Value> for Object {
    fn from(object: Value) -> Self {
        Self { object, reasons: Vec::new() }
    }
}

impl Object {
    pub(crate) fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        rbac::text(&self.object, &self.reasons)
    }
}

/// Everything that it takes to run the operator, in the order in which it is to be made: without the definitions and
/// the policies.
#[must_use]
pub fn objects(image: &str) -> Vec<Value> {
    all(image).into_iter().map(|object| object.object).collect()
}

/// What the operator makes for itself in its namespace, by name only.
#[must_use]
pub fn made() -> [Value; 2] {
    let own = Some(names::NAMESPACE);
    [
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata(SECRET, own) }),
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata(LEASE, own) }),
    ]
}

/// [`objects`] as YAML, with the reason of each right.
#[must_use]
pub fn text(image: &str) -> String {
    all(image).iter().map(Object::text).collect::<Vec<_>>().join("---\n")
}

pub(crate) fn all(image: &str) -> Vec<Object> {
    let own = Some(names::NAMESPACE);
    let selector = json!({ "app.kubernetes.io/name": NAME });
    let mut namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata(names::NAMESPACE, None) });
    for mode in ["enforce", "audit", "warn"] {
        namespace["metadata"]["labels"][format!("pod-security.kubernetes.io/{mode}")] = "restricted".into();
    }
    namespace["metadata"]["annotations"] = json!({ names::DELETE_PROTECTION: "true" });
    let mut all = vec![
        Object::from(namespace),
        Object::from(
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(NAME, own), "automountServiceAccountToken": false }),
        ),
        role("ClusterRole", None, &cluster_rights()),
        Object::from(binding("ClusterRoleBinding", "ClusterRole", None)),
    ];
    all.extend(
        REPORTING
            .iter()
            .map(|(whole, name, verbs, why)| part_of(whole, name, right(names::GROUP, &[REPORTS], &[], verbs, why))),
    );
    for (namespace, rights) in namespaced_rights() {
        all.push(role("Role", Some(namespace), &rights));
        all.push(Object::from(binding("RoleBinding", "Role", Some(namespace))));
    }
    all.extend([
        Object::from(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata(NAME, own),
            "spec": { "selector": selector, "ports": [{ "name": "webhook", "port": 443, "targetPort": "webhook" }] },
        })),
        Object::from(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata(NAME, own),
            "spec": { "maxUnavailable": 1, "selector": { "matchLabels": selector }, "unhealthyPodEvictionPolicy": "AlwaysAllow" },
        })),
        Object::from(deployment(image, &selector)),
    ]);
    // Last: an API server that finds nobody there yet goes on without.
    all.extend(webhooks(&Address::Service).into_iter().map(Object::from));
    all
}

fn deployment(image: &str, selector: &Value) -> Value {
    let probe =
        |path: &str| json!({ "httpGet": { "path": path, "port": "health" }, "periodSeconds": 5, "timeoutSeconds": 2 });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(NAME, Some(names::NAMESPACE)),
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": selector },
            "strategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": {
                "metadata": { "labels": labels(), "annotations": {
                    "prometheus.io/scrape": "true", "prometheus.io/port": HEALTH_PORT.to_string(),
                } },
                "spec": {
                    "serviceAccountName": NAME,
                    "automountServiceAccountToken": true,
                    "priorityClassName": "system-cluster-critical",
                    "terminationGracePeriodSeconds": u64::from(DRAIN) + 30,
                    "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": { "matchLabels": selector },
                    }],
                    "containers": [{
                        "name": "operator",
                        "image": image,
                        "args": ["serve", "--log-format=json", format!("--drain={DRAIN}s"), format!("--audit-every={AUDIT_EVERY}")],
                        "env": [{ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
                        "ports": [
                            { "name": "webhook", "containerPort": PORT },
                            { "name": "health", "containerPort": HEALTH_PORT },
                        ],
                        "readinessProbe": probe("/readyz"),
                        "livenessProbe": probe("/healthz"),
                        "resources": { "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "256Mi" } },
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
                        },
                    }],
                },
            },
        },
    })
}

/// Names by which API servers reach the Service.
#[must_use]
pub fn service_names() -> Vec<String> {
    let name = format!("{NAME}.{}.svc", names::NAMESPACE);
    vec![format!("{name}.cluster.local"), name]
}

/// Stands for an image of one's own in the manifests that are published: none is published yet, and a name that
/// nobody owns is one that somebody may take.
pub const PLACEHOLDER: &str = concat!("registry.invalid/bedplate:v", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use bedplate_model::profile::Mode;

    use super::*;

    /// The webhook was down, and with it the cluster: this is what keeps that from happening.
    #[test]
    fn a_dead_webhook_locks_nobody_out() {
        for configuration in webhooks(&Address::Service) {
            let webhook = &configuration["webhooks"][0];
            assert_eq!(
                (webhook["failurePolicy"].as_str(), webhook["timeoutSeconds"].as_u64()),
                (Some("Ignore"), Some(3))
            );
            assert_eq!(webhook["sideEffects"], "None");
            let spared = webhook["namespaceSelector"]["matchExpressions"][0]["values"].to_string();
            assert!(spared.contains("kube-system") && spared.contains(names::NAMESPACE), "{spared}");
            for rule in webhook["rules"].as_array().unwrap() {
                for resource in rule["resources"].as_array().unwrap() {
                    let resource = resource.as_str().unwrap();
                    assert!(
                        !resource.contains('*') && (!resource.contains('/') || resource == "pods/ephemeralcontainers"),
                        "{resource}"
                    );
                    assert!(!["leases", "nodes", "bindings", "events", "secrets"].contains(&resource), "{resource}");
                }
                assert!(rule["operations"] == json!(["CREATE", "UPDATE"]));
            }
        }
    }

    /// The first `bedplate apply` audits only, and the operator was not allowed to look at the guards that this makes.
    #[test]
    fn the_guards_of_every_profile_may_be_kept() {
        let allowed = guards();
        for mode in Mode::ACTIVE {
            let profile = json!({ "apiVersion": names::API_VERSION, "kind": "StabilityProfile",
                "spec": { "modes": { "admission": mode.name(), "deletion": mode.name() } } });
            let profile = Profile::parse(&profile.to_string(), &bedplate_guarantees::names()).unwrap();
            let served = |_: &str, _: &str| Some("v1".to_owned());
            for guard in enforce::objects(enforce::Installation { profile: &profile, served: &served }) {
                let name = guard["metadata"]["name"].as_str().unwrap();
                assert!(allowed.iter().any(|allowed| allowed == name), "{name}");
            }
        }
    }

    /// Lanes were made by `apply`, and the operator could not follow a new profile with them.
    #[test]
    fn the_lanes_may_be_kept_and_nothing_else_of_flow_control_be_written() {
        let rights: Vec<Rule> =
            cluster_rights().into_iter().filter(|right| right.group == enforce_lanes::GROUP).collect();
        for (_, kind, name) in rights::LANES {
            let kept = |right: &Rule| {
                right.resources == [plural(kind)]
                    && right.names.iter().any(|own| own == name)
                    && right.verbs.contains(&"update")
            };
            assert!(rights.iter().any(kept), "{name}");
        }
        assert!(rights.iter().all(|right| !right.names.is_empty() || right.verbs.iter().all(|verb| ["list", "watch"].contains(verb))));
    }

    /// `bedplate uninstall` may take away all of it.
    #[test]
    fn the_objects_of_the_operator_are_known_to_the_table_of_rights() {
        for object in objects(PLACEHOLDER).into_iter().chain(made()) {
            let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap();
            let group = text("/apiVersion").split_once('/').map_or("", |(group, _)| group);
            let known = (group, text("/kind"), text("/metadata/name"));
            assert!(rights::OPERATOR.contains(&known), "{known:?}");
        }
    }

    #[test]
    fn every_right_has_its_reason_above_it() {
        let text = text(PLACEHOLDER);
        let rights: Vec<Rule> = cluster_rights()
            .into_iter()
            .chain(namespaced_rights().into_iter().flat_map(|(_, rights)| rights))
            .collect();
        assert_eq!(text.matches("\n  - apiGroups:\n").count(), rights.len() + REPORTING.len());
        assert_eq!(text.matches("\n  # ").count(), rights.len() + REPORTING.len());
        for right in rights {
            assert!(!right.resources.iter().any(|resource| resource == "*") && !right.verbs.contains(&"*"));
            assert!(!right.why.is_empty());
        }
    }
}
