//! What must not fail open, inside the API server: guards as ValidatingAdmissionPolicies.
//!
//! ```text
//!   profile ─▶ Policy (where, params) ─┬─▶ policy + binding that refuses   (guards in mode enforce)
//!              Guard (rule, when, …)   ├─▶ policy + binding that warns     (guards in mode warn)
//!              Guard …                 └─▶ policy + binding for the audit  (guards in mode audit)
//! ```
//!
//! What the profile says is written into the policies, by `bedplate apply` and by the operator when it changes. Policies
//! that read it when a request comes (`paramKind`) were tried first: an API server needs up to half a minute after its
//! start to find a kind that is not its own, and until then refuses whatever such a policy looks at. What is known
//! beforehand also need not be asked: a mode that nobody chose has no policy, and where no namespace differs nothing is
//! looked up.
//!
//! CEL has no clock, so what lapses is held against a time that the API server itself has just written:
//! `metadata.creationTimestamp` of what is created, `metadata.managedFields` of what is updated, and for deletions the
//! Lease that every API server renews each ten seconds.
//!
//! What a policy costs is mostly its being there: each is asked about every request that it looks at, each time with
//! all its variables made anew. So the guards of a guarantee share one policy a mode. And the API server works every
//! message out, with all that it reads, also where nothing is refused: so a condition asks first whether there is
//! anything to refuse.

pub mod cel;

use std::sync::LazyLock;

use bedplate_model::profile::{Mode, Settings};
use bedplate_model::workload::kinds::{Kind, TABLE};
use bedplate_model::{Guarantee, Profile, names};
use serde_json::{Map, Value, json};

use crate::{admission, deletion};

/// What a policy's guards are held against besides the request.
#[derive(Clone, Debug)]
pub enum Params {
    /// Nothing.
    Nothing,
    /// The Leases of the API servers, renewed every ten seconds: the time.
    Clock,
    /// The objects of a kind in the request's namespace, in a version such as `apps/v1`.
    Workload(&'static Kind, String),
}

/// Something that a guard reads of the profile, as a variable of its policy.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The variable's name.
    pub variable: &'static str,
    /// What it is under some settings.
    pub of: fn(&Settings) -> Value,
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
    /// What it reads of the profile.
    pub settings: Vec<Setting>,
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
    /// The modes that it may come in.
    pub modes: &'static [Mode],
    /// Whether namespaces that a cluster needs to recover are left alone.
    pub spares_system: bool,
    /// `resourceRules`: what they look at.
    pub resources: Vec<Value>,
    /// CEL without variables: whether a guard might speak against what concerns it, asked before the rest is worked out.
    pub suspicion: Option<String>,
    /// The guards.
    pub guards: Vec<Guard>,
}

/// A cluster, as far as the policies depend on it.
#[derive(Clone, Copy)]
pub struct Installation<'a> {
    /// The profile, with the exemptions of today.
    pub profile: &'a Profile,
    /// The version of a group and kind that is served, such as `apps/v1`.
    pub served: &'a dyn Fn(&str, &str) -> Option<String>,
}

impl<'a> Installation<'a> {
    /// Any cluster: nothing but what Kubernetes itself serves.
    #[must_use]
    pub fn any(profile: &'a Profile) -> Self {
        Self { profile, served: &|group, _| (group == "apps").then(|| "apps/v1".to_owned()) }
    }
}

/// Every policy.
#[must_use]
pub fn policies(installation: Installation<'_>) -> Vec<Policy> {
    [
        admission::enforce::policies(installation.profile, installation.served),
        deletion::enforce::policies(installation.profile),
    ]
    .concat()
}

/// Every rule that is also a guard with a mode, and its guarantee.
pub fn guarded() -> impl Iterator<Item = (&'static str, Guarantee)> {
    // Made once: to list the guards is to write all their CEL.
    static GUARDED: LazyLock<Vec<(&str, Guarantee)>> = LazyLock::new(|| {
        policies(Installation { profile: &Profile::default(), served: &|_, _| None })
            .into_iter()
            .filter(Policy::has_modes)
            .flat_map(|policy| policy.guards.into_iter().map(move |guard| (guard.rule, policy.guarantee)))
            .collect()
    });
    GUARDED.iter().copied()
}

/// Every policy and binding, in the cluster's form.
#[must_use]
pub fn objects(installation: Installation<'_>) -> Vec<Value> {
    policies(installation).iter().flat_map(|policy| policy.objects(installation.profile)).collect()
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
    /// Its policies and bindings, one of each a mode that is chosen anywhere.
    #[must_use]
    pub fn objects(&self, profile: &Profile) -> Vec<Value> {
        let in_mode = |mode: &Mode| {
            let guards: Vec<_> = self.guards.iter().filter(|guard| self.is_chosen(guard, *mode, profile)).collect();
            if guards.is_empty() { Vec::new() } else { vec![self.policy(*mode, &guards, profile), self.binding(*mode)] }
        };
        self.modes.iter().flat_map(in_mode).collect()
    }

    /// Its name in a mode. It is part of what a refused user reads.
    #[must_use]
    pub fn name(&self, mode: Mode) -> String {
        match mode {
            Mode::Enforce => format!("{}.{}", self.name, names::GROUP),
            mode => format!("{}-{}.{}", self.name, mode.name(), names::GROUP),
        }
    }

    /// Whether the profile chooses how strictly it holds. What asks the clock only refuses what another policy lets pass.
    fn has_modes(&self) -> bool {
        !matches!(self.params, Params::Clock)
    }

    fn is_chosen(&self, guard: &Guard, mode: Mode, profile: &Profile) -> bool {
        let everywhere = std::iter::once(profile.settings(None));
        let mut settings = everywhere.chain(profile.namespaces().map(|(_, settings)| settings));
        !self.has_modes() || settings.any(|settings| settings.mode(guard.rule, self.guarantee) == mode)
    }

    fn policy(&self, mode: Mode, guards: &[&Guard], profile: &Profile) -> Value {
        let whens = whens(guards);
        let mut variables = Vec::new();
        let mut validations = Vec::new();
        let said = Said::new(self, guards, profile);
        variables.extend(said.variables());
        for guard in guards {
            variables.extend(guard.settings.iter().map(|s| (s.variable.to_owned(), said.read(s.variable))));
            for variable in &guard.variables {
                if !variables.contains(variable) {
                    variables.push(variable.clone());
                }
            }
            // What concerns every guard of the policy was asked before.
            let when = if whens.len() > 1 { format!("!({}) || ", guard.when) } else { String::new() };
            // Most of what is asked about is fine, whatever the profile says.
            let unless = if self.has_modes() { said.unless(guard.rule, mode) } else { String::new() };
            for validation in &guard.validations {
                validations.push(json!({
                    "expression": format!("{when}({}){unless}", validation.expression),
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
        let mut concerned = whens.iter().map(|when| format!("({when})")).collect::<Vec<_>>().join(" || ");
        if let Some(suspicion) = &self.suspicion {
            concerned = format!("({concerned}) && {suspicion}");
        }
        let mut policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": self.name(mode), "labels": labels(self.guarantee) },
            "spec": {
                // One that cannot be asked refuses only where it may refuse.
                "failurePolicy": if mode == Mode::Enforce { "Fail" } else { "Ignore" },
                "matchConstraints": constraints,
                "matchConditions": [{ "name": "a-guard-is-concerned", "expression": concerned }],
                "variables": variables.iter()
                    .map(|(name, expression)| json!({ "name": name, "expression": expression })).collect::<Vec<_>>(),
                "validations": validations,
            },
        });
        let kind = match &self.params {
            Params::Nothing => return policy,
            Params::Clock => json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease" }),
            Params::Workload(kind, version) => json!({ "apiVersion": version, "kind": kind.kind }),
        };
        policy["spec"]["paramKind"] = kind;
        policy
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
        let mut binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": self.name(mode), "labels": labels(self.guarantee) },
            "spec": { "policyName": self.name(mode), "validationActions": actions },
        });
        let params = match &self.params {
            Params::Nothing => return binding,
            Params::Workload(..) => json!({ "selector": {}, "parameterNotFoundAction": "Allow" }),
            // Every API server has one; that of a server that is gone is older than the others, and one refusal is
            // enough. `Deny` would refuse whatever the guard looks at, marked or not, where there is none.
            Params::Clock => json!({
                "namespace": "kube-system",
                "selector": { "matchLabels": { "apiserver.kubernetes.io/identity": "kube-apiserver" } },
                "parameterNotFoundAction": "Allow",
            }),
        };
        binding["spec"]["paramRef"] = params;
        binding
    }
}

/// When one of some guards is concerned, each case once.
fn whens<'a>(guards: &[&'a Guard]) -> Vec<&'a str> {
    let mut whens: Vec<&str> = Vec::new();
    for guard in guards {
        if !whens.contains(&guard.when.as_str()) {
            whens.push(&guard.when);
        }
    }
    whens
}

/// What the profile says to the guards of one policy: modes by rule and settings by variable.
struct Said {
    /// Everywhere.
    base: Map<String, Value>,
    /// Patterns of namespaces, and what differs there; the last that matches holds. Empty where nothing differs.
    entries: Vec<(Vec<String>, Map<String, Value>)>,
    /// Exemptions from the guards' rules.
    exemptions: Vec<Value>,
    /// Whether the request bears a time.
    has_time: bool,
}

impl Said {
    fn new(policy: &Policy, guards: &[&Guard], profile: &Profile) -> Self {
        let said = |settings: &Settings| -> Map<String, Value> {
            let modes = guards
                .iter()
                .map(|guard| (guard.rule.to_owned(), settings.mode(guard.rule, policy.guarantee).name().into()));
            let read =
                guards.iter().flat_map(|guard| &guard.settings).map(|s| (s.variable.to_owned(), (s.of)(settings)));
            modes.chain(read).collect()
        };
        let base = said(profile.settings(None));
        let differs = |settings: &Settings| -> Map<String, Value> {
            said(settings).into_iter().filter(|(key, value)| base.get(key) != Some(value)).collect()
        };
        let mut entries: Vec<_> =
            profile.namespaces().map(|(names, settings)| (names.to_vec(), differs(settings))).collect();
        if entries.iter().all(|(_, differs)| differs.is_empty()) {
            entries.clear();
        }
        let workload = match &policy.params {
            Params::Workload(kind, _) => Some(kind.kind),
            _ => None,
        };
        let exemptions = profile.exemptions.iter().map(|(exemption, _)| exemption);
        let exemptions = exemptions.filter(|exemption| {
            guards.iter().any(|guard| guard.rule == exemption.rule)
                && (workload.is_none()
                    || exemption.subject.kind.is_none()
                    || exemption.subject.kind.as_deref() == workload)
        });
        let exemptions = exemptions.map(|exemption| {
            let subject = &exemption.subject;
            let mut short = json!({ "rule": exemption.rule, "name": subject.name, "expires": exemption.expires });
            // The kind of a request to scale is Scale.
            for (key, value) in [
                ("kind", subject.kind.as_ref().filter(|_| workload.is_none())),
                ("namespace", subject.namespace.as_ref()),
            ] {
                if let Some(value) = value {
                    short[key] = json!(value);
                }
            }
            short
        });
        Self { exemptions: exemptions.collect(), base, entries, has_time: workload.is_none() }
    }

    /// `variables.here`, what differs in the request's namespace, and `variables.exemptions`, the rules that the request
    /// need not follow today: each where there is any.
    fn variables(&self) -> Vec<cel::Variable> {
        let mut variables = Vec::new();
        if !self.entries.is_empty() {
            let entries: Value = self.entries.iter().map(|(names, differs)| json!([names, differs])).collect();
            let expression = format!(
                "[{}.filter(n, {NAMESPACE} != '' && n[0].exists(p, {}))].map(l, l.size() > 0 ? dyn(l[l.size() - 1][1]) : dyn({{}}))[0]",
                cel::literal(&entries),
                cel::glob("p", NAMESPACE)
            );
            variables.push(("here".to_owned(), expression));
        }
        if !self.exemptions.is_empty() {
            // The API server writes these before it asks: a user can't choose them.
            let today = "(request.operation == 'CREATE' ? [string(object.?metadata.?creationTimestamp.orValue(''))] : \
                 request.operation == 'UPDATE' ? [''] + object.?metadata.?managedFields.orValue([]).map(m, string(m.?time.orValue(''))) : \
                 ['']).max()";
            let name =
                "string(request.operation == 'DELETE' ? oldObject.metadata.name : object.metadata.?name.orValue(''))";
            let expression = format!(
                "{}.filter(e, e.?kind.orValue(request.kind.kind) == request.kind.kind && \
                 [e.?namespace.orValue('*')].exists(p, {}) && [[string(e.name), {name}]].exists(p, {}){}).map(e, e.rule)",
                cel::literal(&json!(self.exemptions)),
                cel::glob("p", NAMESPACE),
                cel::glob("p[0]", "p[1]"),
                if self.has_time {
                    format!(" && [{today}].exists(t, t != '' && t.substring(0, 10) <= e.expires)")
                } else {
                    // Such a policy is written anew when one lapses.
                    String::new()
                },
            );
            variables.push(("exemptions".to_owned(), expression));
        }
        variables
    }

    /// CEL: a mode or setting, for the request's namespace.
    fn read(&self, key: &str) -> String {
        let base = cel::literal(self.base.get(key).unwrap_or(&Value::Null));
        if self.entries.iter().any(|(_, differs)| differs.contains_key(key)) {
            format!("variables.here[?{}].orValue({base})", cel::quote(key))
        } else {
            base
        }
    }

    /// CEL, to stand after what has to be so: or that the rule does not hold in this mode here, or the request is exempt.
    fn unless(&self, rule: &str, mode: Mode) -> String {
        let (of_rule, mode) = (self.read(rule), cel::quote(mode.name()));
        let mut unless = if of_rule == mode { String::new() } else { format!(" || {of_rule} != {mode}") };
        if self.exemptions.iter().any(|exemption| exemption["rule"] == rule) {
            unless += &format!(" || {} in variables.exemptions", cel::quote(rule));
        }
        unless
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

/// CEL: the namespace of the request; empty for what has none.
pub const NAMESPACE: &str = "request.?namespace.orValue('')";

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(spec: &Value) -> Profile {
        let object = json!({ "apiVersion": names::API_VERSION, "kind": "StabilityProfile", "spec": spec });
        Profile::parse(&object.to_string(), &crate::names()).unwrap()
    }

    /// A platform that only wanted to be told was locked for half a minute whenever an API server started: until then it
    /// cannot hold a policy against a custom kind.
    #[test]
    fn no_policy_needs_a_kind_that_the_api_server_has_to_look_for_first() {
        let entries = json!([{ "names": ["a"], "modes": { "admission": "warn", "deletion": "audit" } }]);
        for policy in objects(Installation::any(&profile(&json!({ "namespaces": entries })))) {
            let kind = policy.pointer("/spec/paramKind/apiVersion").and_then(Value::as_str);
            assert!(
                kind.is_none_or(|kind| kind.starts_with("apps/") || kind.starts_with("coordination.k8s.io/")),
                "{policy}"
            );
        }
    }

    #[test]
    fn a_mode_that_nobody_chose_has_no_policy_and_what_does_not_differ_is_not_looked_up() {
        let text = |spec: Value| {
            objects(Installation { profile: &profile(&spec), served: &|_, _| None })
                .into_iter()
                .filter(|object| object["kind"] == "ValidatingAdmissionPolicy")
                .map(|object| (object["metadata"]["name"].as_str().unwrap().to_owned(), object.to_string()))
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        let plain = text(json!({}));
        assert_eq!(
            plain.keys().collect::<Vec<_>>(),
            ["admission.bedplate.dev", "deletion.bedplate.dev", "unlock.bedplate.dev"]
        );
        assert!(!plain["admission.bedplate.dev"].contains("variables.here"));
        let off = text(json!({ "modes": { "admission": "off", "mutable-tag": "audit" } }));
        assert!(!off.contains_key("admission.bedplate.dev"));
        assert!(off["admission-audit.bedplate.dev"].contains("'mutable-tag: '"));
        assert!(!off["admission-audit.bedplate.dev"].contains("'gpu-ceiling: '"));
        let roomy =
            text(json!({ "namespaces": [{ "names": ["roomy-*"], "admission": { "acceleratorsPerJob": 64 } }] }));
        assert!(roomy["admission.bedplate.dev"].contains("variables.here[?'totalAllowed'].orValue(8)"));
        assert_eq!(roomy["deletion.bedplate.dev"], plain["deletion.bedplate.dev"]);
    }

    /// A reason with a line end broke the policy that it was written into.
    #[test]
    fn what_people_write_stays_a_text() {
        for text in ["a'b", "a\\b", "a\nb", "a\tb\u{7}", "é ünïcode"] {
            let quoted = cel::quote(text);
            assert!(quoted.chars().all(|c| !c.is_control()), "{quoted}");
        }
        assert_eq!(cel::quote("it's\n"), r"'it\'s\n'");
    }

    #[test]
    fn only_what_may_refuse_refuses_when_it_cannot_be_asked() {
        let entries = json!([{ "names": ["a"], "modes": { "admission": "warn", "deletion": "audit" } }]);
        let objects = objects(Installation::any(&profile(&json!({ "namespaces": entries }))));
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
