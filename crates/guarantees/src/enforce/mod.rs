//! What must not fail open, inside the API server: guards as ValidatingAdmissionPolicies.
//!
//! ```text
//!   Guard (rule, when, validations) ─┐
//!   Guard …                         ─┼─ Policy (where, ┬─▶ policy + binding that refuses   (mode enforce)
//!   Guard …                         ─┘  params)        ├─▶ policy + binding that warns     (mode warn)
//!        params: StabilityProfile `default`            └─▶ policy + binding for the audit  (mode audit)
//!                or a Lease: the clock
//! ```
//!
//! Everything that the profile says is read by the policies when a request comes: a change of the profile holds at
//! once, and no policy is compiled anew for it. CEL has no clock, so what lapses is held against a time that the API
//! server itself has just written: `metadata.creationTimestamp` of what is created, `metadata.managedFields` of what is
//! updated, and for deletions the Lease that every API server renews each ten seconds.
//!
//! What a policy costs is mostly its being there: each is asked about every request that it looks at, each time with
//! all its variables made anew. So the guards of a guarantee share one policy a mode.

pub mod cel;

use std::sync::LazyLock;

use bedplate_model::Guarantee;
use bedplate_model::names;
use bedplate_model::profile::Mode;
use bedplate_model::workload::kinds::{Kind, TABLE};
use serde_json::{Value, json};

use crate::{admission, deletion};

/// What a policy's guards are held against.
#[derive(Clone, Debug)]
pub enum Params {
    /// The StabilityProfile of the cluster.
    Profile,
    /// The Leases of the API servers, renewed every ten seconds: the time.
    Clock,
    /// The objects of a kind in the request's namespace, in a version such as `apps/v1`. What the profile says is then
    /// written into the policy.
    Workload(&'static Kind, String),
}

/// One thing to be so.
#[derive(Clone, Debug)]
pub struct Validation {
    /// CEL: whether it is so.
    pub expression: String,
    /// CEL: what a person is told where it is not.
    pub message: String,
}

/// A guard: what has to be so, and when.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The rule that it enforces; also the first word of what a refused user reads.
    pub rule: &'static str,
    /// CEL without variables: requests that concern it. Nearly every request concerns none, so it is made to be cheap.
    pub when: String,
    /// CEL: variables, by name, in the order in which they use each other. Guards of one policy share those of the same
    /// name.
    pub variables: Vec<cel::Variable>,
    /// What has to be so.
    pub validations: Vec<Validation>,
}

/// Guards that look at the same requests.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name in the cluster, before our group.
    pub name: String,
    /// Whose guards they are.
    pub guarantee: Guarantee,
    /// What they are held against.
    pub params: Params,
    /// The modes that it comes in.
    pub modes: Vec<Mode>,
    /// Whether namespaces that a cluster needs to recover are left alone.
    pub spares_system: bool,
    /// `resourceRules`: what they look at.
    pub resources: Vec<Value>,
    /// What is written into it of a profile that it cannot read.
    pub profile: Option<Value>,
    /// The guards.
    pub guards: Vec<Guard>,
}

/// A cluster, as far as the policies depend on it.
#[derive(Clone, Copy)]
pub struct Installation<'a> {
    /// The StabilityProfile, with the exemptions of today in its status.
    pub profile: &'a Value,
    /// The version of a group and kind that is served, such as `apps/v1`.
    pub served: &'a dyn Fn(&str, &str) -> Option<String>,
}

impl Installation<'_> {
    /// Any cluster: nothing but what Kubernetes itself serves.
    pub const ANY: Installation<'static> =
        Installation { profile: &Value::Null, served: &|group, _| (group == "apps").then(|| "apps/v1".to_owned()) };
}

/// Every policy.
#[must_use]
pub fn policies(installation: Installation<'_>) -> Vec<Policy> {
    [admission::enforce::policies(installation), deletion::enforce::policies()].concat()
}

/// Every rule that is also a guard with a mode, and its guarantee.
pub fn guarded() -> impl Iterator<Item = (&'static str, Guarantee)> {
    // Made once: to list the guards is to write all their CEL.
    static GUARDED: LazyLock<Vec<(&str, Guarantee)>> = LazyLock::new(|| {
        let nothing = Installation { served: &|_, _| None, ..Installation::ANY };
        policies(nothing)
            .into_iter()
            .filter(|policy| policy.root().is_some())
            .flat_map(|policy| policy.guards.into_iter().map(move |guard| (guard.rule, policy.guarantee)))
            .collect()
    });
    GUARDED.iter().copied()
}

/// Every policy and binding, in the cluster's form.
#[must_use]
pub fn objects(installation: Installation<'_>) -> Vec<Value> {
    policies(installation).iter().flat_map(Policy::objects).collect()
}

/// Kinds of which no policy can judge all, and what: their pods are judged when they come, as all pods are.
pub fn judged_as_pods() -> impl Iterator<Item = (&'static Kind, String)> {
    TABLE.iter().filter_map(|kind| {
        let mut told = Vec::new();
        if !kind.embeds.is_empty() {
            told.push("the objects that stand in it".to_owned());
        } else if !kind.strings.is_empty() {
            told.push(format!("a text that patches its pods ({})", kind.strings.join(", ")));
        }
        if !cel::has_total(kind) {
            told.push(format!(
                "how many pods run at once, which follows from its steps, and anything where it has more than {} templates",
                cel::MOST
            ));
        }
        (!told.is_empty()).then(|| (kind, told.join("; ")))
    })
}

/// What a refusal by a guard says after the API server's own words.
#[must_use]
pub fn refusal(rule: &str) -> String {
    format!(" denied request: {rule}: ")
}

impl Policy {
    /// Its policies and bindings, one of each a mode.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        self.modes.iter().flat_map(|mode| [self.policy(*mode), self.binding(*mode)]).collect()
    }

    /// Its name in a mode. It is part of what a refused user reads.
    #[must_use]
    pub fn name(&self, mode: Mode) -> String {
        match mode {
            Mode::Enforce => format!("{}.{}", self.name, names::GROUP),
            mode => format!("{}-{}.{}", self.name, mode.name(), names::GROUP),
        }
    }

    fn policy(&self, mode: Mode) -> Value {
        let mut variables = Vec::new();
        let kind = match &self.params {
            Params::Profile => json!({ "apiVersion": names::API_VERSION, "kind": "StabilityProfile" }),
            Params::Clock => json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease" }),
            Params::Workload(kind, version) => json!({ "apiVersion": version, "kind": kind.kind }),
        };
        if let Some(root) = self.root() {
            variables.extend(self.profile.iter().map(|profile| ("profile".to_owned(), cel::literal(profile))));
            variables.extend([here(root), exemptions(root)]);
            variables.extend(self.guards.iter().map(|guard| rule_mode(root, guard.rule, self.guarantee)));
        }
        for variable in self.guards.iter().flat_map(|guard| &guard.variables) {
            if !variables.contains(variable) {
                variables.push(variable.clone());
            }
        }
        let mut validations = Vec::new();
        for guard in &self.guards {
            // Most of what is asked about is fine, whatever the profile says.
            let mode = self.root().map_or_else(String::new, |_| {
                format!(" || variables.{} != {}", mode_of(guard.rule), cel::quote(mode.name()))
            });
            // What concerns every guard of the policy was asked before.
            let when = if self.whens().len() > 1 { format!("!({}) || ", guard.when) } else { String::new() };
            for validation in &guard.validations {
                validations.push(json!({
                    "expression": format!("{when}({}){mode}", validation.expression),
                    "messageExpression": format!("'{}: ' + ({})", guard.rule, validation.message),
                    "reason": "Forbidden",
                }));
            }
        }
        let mut constraints = json!({ "matchPolicy": "Equivalent", "resourceRules": self.resources });
        if self.looks_everywhere() {
            constraints["excludeResourceRules"] = heartbeat();
        }
        if self.spares_system {
            constraints["namespaceSelector"] = json!({ "matchExpressions": [{
                "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": names::SYSTEM_NAMESPACES,
            }] });
        }
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": self.name(mode), "labels": labels(self.guarantee) },
            "spec": {
                // One that cannot be asked, as in the first half minute of an API server, refuses only where it may refuse.
                "failurePolicy": if mode == Mode::Enforce { "Fail" } else { "Ignore" },
                "paramKind": kind,
                "matchConstraints": constraints,
                "matchConditions": self.conditions(mode),
                "variables": variables.iter()
                    .map(|(name, expression)| json!({ "name": name, "expression": expression })).collect::<Vec<_>>(),
                "validations": validations,
            },
        })
    }

    fn conditions(&self, mode: Mode) -> Vec<Value> {
        let mut conditions = Vec::new();
        if matches!(self.params, Params::Profile) {
            conditions.push(json!({ "name": "the-mode-is-chosen", "expression": self.is_chosen(mode) }));
        }
        let concerned = self.whens().iter().map(|when| format!("({when})")).collect::<Vec<_>>().join(" || ");
        conditions.push(json!({ "name": "a-guard-is-concerned", "expression": concerned }));
        conditions
    }

    /// When one of the guards is concerned, each case once.
    fn whens(&self) -> Vec<&str> {
        let mut whens: Vec<&str> = Vec::new();
        for guard in &self.guards {
            if !whens.contains(&guard.when.as_str()) {
                whens.push(&guard.when);
            }
        }
        whens
    }

    /// CEL: whether a guard has this mode anywhere, as far as the profile says without a look at the request: a policy
    /// for a mode that nobody chose asks no further.
    fn is_chosen(&self, mode: Mode) -> String {
        let (guarantee, mode) = (cel::quote(self.guarantee.name()), cel::quote(mode.name()));
        let is = |of: &str, otherwise: &str| {
            let rules = self.guards.iter().map(|guard| cel::quote(guard.rule));
            let is = rules.map(|rule| format!("m[?{rule}].or(m[?{guarantee}]).orValue({otherwise}) == {mode}"));
            format!("[{of}.?modes.orValue({{}})].exists(m, {})", is.collect::<Vec<_>>().join(" || "))
        };
        let (base, here) = (is("params.?spec", "'enforce'"), is("n", "''"));
        format!("{base} || params.?spec.?namespaces.orValue([]).exists(n, {here})")
    }

    /// CEL: where the profile stands. What has no profile has no mode: it only refuses what another policy lets pass.
    fn root(&self) -> Option<&'static str> {
        match self.params {
            Params::Profile => Some("params"),
            Params::Workload(..) => Some("variables.profile"),
            Params::Clock => None,
        }
    }

    fn looks_everywhere(&self) -> bool {
        self.resources.iter().any(|rule| rule["resources"] == json!(["*"]))
    }

    fn binding(&self, mode: Mode) -> Value {
        let actions: &[&str] = match mode {
            Mode::Enforce => &["Deny", "Audit"],
            Mode::Warn => &["Warn", "Audit"],
            Mode::Audit | Mode::Off => &["Audit"],
        };
        let params = match &self.params {
            Params::Workload(..) => json!({ "selector": {}, "parameterNotFoundAction": "Allow" }),
            Params::Profile => json!({ "name": names::PROFILE, "parameterNotFoundAction": "Allow" }),
            // Every API server has one; that of a server that is gone is older than the others, and one refusal is
            // enough. `Deny` would refuse whatever the guard looks at, marked or not, where there is none.
            Params::Clock => json!({
                "namespace": "kube-system",
                "selector": { "matchLabels": { "apiserver.kubernetes.io/identity": "kube-apiserver" } },
                "parameterNotFoundAction": "Allow",
            }),
        };
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": self.name(mode), "labels": labels(self.guarantee) },
            "spec": { "policyName": self.name(mode), "validationActions": actions, "paramRef": params },
        })
    }
}

/// What a cluster writes all the time and nobody protects: no guard is asked about it.
fn heartbeat() -> Value {
    let rules = [
        ("coordination.k8s.io", &["leases"][..]),
        ("", &["events", "endpoints", "bindings", "nodes"]),
        ("events.k8s.io", &["events"]),
        ("discovery.k8s.io", &["endpointslices"]),
        ("authentication.k8s.io", &["*"]),
        ("authorization.k8s.io", &["*"]),
    ];
    rules
        .iter()
        .map(|(group, resources)| {
            json!({ "apiGroups": [group], "apiVersions": ["*"], "operations": ["*"], "resources": resources })
        })
        .collect()
}

/// Labels of everything that `bedplate apply` makes.
#[must_use]
pub fn labels(guarantee: Guarantee) -> Value {
    json!({ "app.kubernetes.io/managed-by": names::FIELD_MANAGER, "bedplate.dev/guarantee": guarantee.name() })
}

/// `variables.here`: the profile's last entry for the request's namespace.
fn here(root: &str) -> cel::Variable {
    let entries = format!(
        "{root}.?spec.?namespaces.orValue([]).filter(n, {NAMESPACE} != '' && n.names.exists(p, {}))",
        cel::glob("p", NAMESPACE)
    );
    ("here".to_owned(), format!("[{entries}].map(l, l.size() > 0 ? dyn(l[l.size() - 1]) : dyn({{}}))[0]"))
}

/// `variables.exemptions`: the rules that this request need not follow today. What is written into a policy is written
/// anew when it lapses.
fn exemptions(root: &str) -> cel::Variable {
    // The API server writes these before it asks: a user can't choose them.
    let today = "(request.operation == 'CREATE' ? [string(object.?metadata.?creationTimestamp.orValue(''))] : \
         request.operation == 'UPDATE' ? [''] + object.?metadata.?managedFields.orValue([]).map(m, string(m.?time.orValue(''))) : \
         ['']).max()";
    let name = "string(request.operation == 'DELETE' ? oldObject.metadata.name : object.metadata.?name.orValue(''))";
    let expression = format!(
        "{root}.?status.?exemptions.orValue([]).filter(e, e.subject.?kind.orValue(request.kind.kind) == request.kind.kind && \
         [e.subject.?namespace.orValue('*')].exists(p, {}) && [[string(e.subject.name), {name}]].exists(p, {}){}).map(e, e.rule)",
        cel::glob("p", NAMESPACE),
        cel::glob("p[0]", "p[1]"),
        if root == "params" {
            format!(" && [{today}].exists(t, t != '' && t.substring(0, 10) <= e.expires)")
        } else {
            String::new()
        },
    );
    ("exemptions".to_owned(), expression)
}

/// The name of the variable with a rule's mode: `modeOfGpuCeiling`.
fn mode_of(rule: &str) -> String {
    let words = rule.split('-').map(|word| word[..1].to_ascii_uppercase() + &word[1..]);
    format!("modeOf{}", words.collect::<String>())
}

/// How strictly a rule holds for this request. It is read only where something is to be refused.
fn rule_mode(root: &str, rule: &str, guarantee: Guarantee) -> cel::Variable {
    let name = mode_of(rule);
    let (rule, guarantee) = (cel::quote(rule), cel::quote(guarantee.name()));
    let severity = |of: &str| format!("{of}.?rules[?{rule}]");
    let mode = |of: &str, name: &str| format!("{of}.?modes[?{name}]");
    let (here, base) = ("variables.here", &format!("{root}.?spec"));
    let expression = format!(
        "{}.or({}).orValue('') == 'off' || {rule} in variables.exemptions ? 'off' : {}.or({}).or({}).or({}).orValue('enforce')",
        severity(here),
        severity(base),
        mode(here, &rule),
        mode(base, &rule),
        mode(here, &guarantee),
        mode(base, &guarantee),
    );
    (name, expression)
}

/// CEL: the namespace of the request; empty for what has none.
pub const NAMESPACE: &str = "request.?namespace.orValue('')";

/// CEL: a setting of the profile at `root` for the request's namespace, such as `admission.acceleratorsPerJob`.
#[must_use]
pub fn setting(root: &str, path: &str, default: &str) -> String {
    let path = path.replace('.', ".?");
    format!("variables.here.?{path}.orValue({root}.?spec.?{path}.orValue({default}))")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A platform that only wanted to be told was locked for half a minute whenever an API server started: until then it
    /// cannot hold a policy against a custom kind.
    #[test]
    fn only_what_may_refuse_refuses_when_it_cannot_be_asked() {
        let objects = objects(Installation::ANY);
        let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
        for binding in of_kind("ValidatingAdmissionPolicyBinding") {
            let policy = of_kind("ValidatingAdmissionPolicy")
                .find(|policy| policy["metadata"]["name"] == binding["spec"]["policyName"])
                .unwrap();
            let denies = binding["spec"]["validationActions"].as_array().unwrap().contains(&json!("Deny"));
            let wanted = if denies { "Fail" } else { "Ignore" };
            assert_eq!(policy["spec"]["failurePolicy"], wanted, "{}", policy["metadata"]["name"]);
        }
    }
}
