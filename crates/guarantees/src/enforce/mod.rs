//! What must not fail open, inside the API server: guards as ValidatingAdmissionPolicies.
//!
//! ```text
//!   Guard (rule, where, variables, validations) ─┬─▶ policy + binding that refuses   (mode enforce)
//!        params: StabilityProfile `default`      ├─▶ policy + binding that warns     (mode warn)
//!                or a Lease: the clock           └─▶ policy + binding for the audit  (mode audit)
//! ```
//!
//! Everything that the profile says is read by the policies when a request comes: a change of the profile holds at
//! once, and no policy is compiled anew for it. CEL has no clock, so what lapses is held against a time that the API
//! server itself has just written: `metadata.creationTimestamp` of what is created, `metadata.managedFields` of what is
//! updated, and for deletions the Lease that every API server renews each ten seconds.

pub mod cel;

use bedplate_model::Guarantee;
use bedplate_model::names;
use bedplate_model::profile::Mode;
use serde_json::{Value, json};

use crate::{admission, deletion};

/// What a guard is held against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Params {
    /// The StabilityProfile of the cluster.
    Profile,
    /// The Leases of the API servers, renewed every ten seconds: the time.
    Clock,
}

/// One thing to be so.
#[derive(Clone, Debug)]
pub struct Validation {
    /// CEL: whether it is so.
    pub expression: String,
    /// CEL: what a person is told where it is not.
    pub message: String,
}

/// A guard: where it looks and what has to be so there.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The rule that it enforces; also its name.
    pub rule: &'static str,
    /// Whose guard it is.
    pub guarantee: Guarantee,
    /// What it is held against.
    pub params: Params,
    /// Whether namespaces that a cluster needs to recover are left alone.
    pub spares_system: bool,
    /// `resourceRules`: what it looks at.
    pub resources: Vec<Value>,
    /// CEL: conditions without which it does not look further, by name.
    pub conditions: Vec<(&'static str, String)>,
    /// CEL: variables, by name, in the order in which they use each other.
    pub variables: Vec<cel::Variable>,
    /// What has to be so.
    pub validations: Vec<Validation>,
}

/// Namespaces in which nothing is refused: what a cluster needs to come back.
pub const SYSTEM_NAMESPACES: &[&str] = &["kube-system", "kube-public", "kube-node-lease", names::NAMESPACE];

/// Every guard, guarantee by guarantee.
#[must_use]
pub fn guards() -> Vec<Guard> {
    [admission::enforce::guards(), deletion::enforce::guards()].concat()
}

/// Every policy and binding of every guard.
#[must_use]
pub fn objects() -> Vec<Value> {
    guards().iter().flat_map(Guard::objects).collect()
}

impl Guard {
    /// Its policies and bindings.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        // A mode follows from the profile. What has no profile has no mode: it only refuses what another lets pass.
        let modes: &[Mode] = if self.params == Params::Clock { &[Mode::Enforce] } else { &Mode::ACTIVE };
        modes.iter().flat_map(|mode| [self.policy(*mode), self.binding(*mode)]).collect()
    }

    /// The name of its policy in a mode. It is part of what a refused user reads.
    #[must_use]
    pub fn name(&self, mode: Mode) -> String {
        match mode {
            Mode::Enforce => format!("{}.{}", self.rule, names::GROUP),
            mode => format!("{}-{}.{}", self.rule, mode.name(), names::GROUP),
        }
    }

    fn policy(&self, mode: Mode) -> Value {
        let (kind, shared) = match self.params {
            Params::Profile => (
                json!({ "apiVersion": names::API_VERSION, "kind": "StabilityProfile" }),
                profile_variables(self.rule, self.guarantee),
            ),
            Params::Clock => (json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease" }), Vec::new()),
        };
        let variables: Vec<_> = shared
            .into_iter()
            .map(|(name, expression)| (name.to_owned(), expression))
            .chain(self.variables.iter().cloned())
            .map(|(name, expression)| json!({ "name": name, "expression": expression }))
            .collect();
        let validations: Vec<_> = self
            .validations
            .iter()
            .map(|validation| {
                let expression = match self.params {
                    Params::Profile => {
                        format!("variables.mode != {} || ({})", cel::quote(mode.name()), validation.expression)
                    }
                    Params::Clock => validation.expression.clone(),
                };
                json!({ "expression": expression, "messageExpression": validation.message, "reason": "Forbidden" })
            })
            .collect();
        let mut constraints = json!({ "matchPolicy": "Equivalent", "resourceRules": self.resources });
        if self.looks_everywhere() {
            constraints["excludeResourceRules"] = heartbeat();
        }
        if self.spares_system {
            constraints["namespaceSelector"] = json!({ "matchExpressions": [{
                "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": SYSTEM_NAMESPACES,
            }] });
        }
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": self.name(mode), "labels": labels(self.guarantee) },
            "spec": {
                "failurePolicy": "Fail",
                "paramKind": kind,
                "matchConstraints": constraints,
                "matchConditions": self.conditions.iter()
                    .map(|(name, expression)| json!({ "name": name, "expression": expression })).collect::<Vec<_>>(),
                "variables": variables,
                "validations": validations,
            },
        })
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
        let params = match self.params {
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

/// What every guard reads of the profile: the last entry for this namespace, its mode, its exemptions.
fn profile_variables(rule: &str, guarantee: Guarantee) -> Vec<(&'static str, String)> {
    let (rule_name, guarantee_name) = (cel::quote(rule), cel::quote(guarantee.name()));
    let here = |of: &str| format!("{of}.?rules[?{rule_name}]");
    let mode = |of: &str, name: &str| format!("{of}.?modes[?{name}]");
    let (ns, base) = ("variables.here", "params.?spec");
    vec![
        ("ns", "request.?namespace.orValue('')".to_owned()),
        (
            "entries",
            format!(
                "params.?spec.?namespaces.orValue([]).filter(n, variables.ns != '' && n.names.exists(p, {}))",
                cel::glob("p", "variables.ns")
            ),
        ),
        (
            "here",
            "variables.entries.size() > 0 ? dyn(variables.entries[variables.entries.size() - 1]) : dyn({})".to_owned(),
        ),
        (
            "today",
            // The API server writes these before it asks: a user can't choose them.
            "(request.operation == 'CREATE' ? [string(object.?metadata.?creationTimestamp.orValue(''))] : \
             request.operation == 'UPDATE' ? [''] + object.?metadata.?managedFields.orValue([]).map(m, string(m.?time.orValue(''))) : \
             ['']).max()"
                .to_owned(),
        ),
        ("name", "string(request.operation == 'DELETE' ? oldObject.metadata.name : object.metadata.?name.orValue(''))".to_owned()),
        (
            "exempt",
            format!(
                "params.?status.?exemptions.orValue([]).exists(e, e.rule == {rule_name} && \
                 variables.today != '' && variables.today.substring(0, 10) <= e.expires && \
                 e.subject.?kind.orValue(request.kind.kind) == request.kind.kind && \
                 {} && {})",
                cel::glob("e.subject.?namespace.orValue('*')", "variables.ns"),
                cel::glob("e.subject.name", "variables.name"),
            ),
        ),
        (
            "mode",
            format!(
                "variables.exempt || {}.or({}).orValue('') == 'off' ? 'off' : {}.or({}).or({}).or({}).orValue('enforce')",
                here(ns),
                here(base),
                mode(ns, &rule_name),
                mode(base, &rule_name),
                mode(ns, &guarantee_name),
                mode(base, &guarantee_name),
            ),
        ),
    ]
}

/// CEL: a setting of the profile for the request's namespace, such as `admission.acceleratorsPerJob`.
#[must_use]
pub fn setting(path: &str, default: &str) -> String {
    let path = path.replace('.', ".?");
    format!("variables.here.?{path}.orValue(params.?spec.?{path}.orValue({default}))")
}
