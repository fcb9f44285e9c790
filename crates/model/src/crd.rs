//! The CustomResourceDefinitions of Bedplate's own kinds, made from the same types as the schema for editors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::checkpoint_report::{CheckpointReport, KIND as CHECKPOINT_REPORT};
use crate::exemption::Exemption;
use crate::guarantee::Guarantee;
use crate::names;
use crate::profile::contradiction::{self, Contradiction};
use crate::profile::{Mode, Spec};

/// What the cluster says of a profile.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The generation of the profile that this was said of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How it stands: `Applied`, with its reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How each guarantee stands, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub guarantees: BTreeMap<String, Standing>,
}

/// How a guarantee stands. Each part is said by whoever knows it, and says nothing of the others.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Standing {
    /// What the profile asks for in the whole cluster: `enforce`, `warn`, `audit` or `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared: Option<Mode>,
    /// What the guards in the API server do. Said by `bedplate apply` and by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforced: Option<Enforced>,
    /// What was found in the cluster. Said by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// What the last drill showed. Said by `bedplate prove`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proven: Option<Proven>,
}

/// Whether the API server itself refuses what breaks a guarantee.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Enforced {
    /// `True` where every guard is in place and refuses, `False` otherwise.
    pub status: String,
    /// Which guards do what.
    pub message: String,
    /// Since when this is so, as RFC 3339.
    pub since: String,
}

/// What the rules of a guarantee find in a cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Observed {
    /// Findings that bring something down by themselves.
    pub errors: u64,
    /// Findings that hurt when something else goes wrong too.
    pub warnings: u64,
    /// Since when there are so many, as RFC 3339.
    pub since: String,
}

/// What a drill showed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Proven {
    /// `True` where something was refused and nothing got through; of a flood, where no controller failed or waited long.
    pub status: String,
    /// Attempts that were refused; of a flood, requests of the controller that were answered beside it.
    pub refused: u64,
    /// Attempts that got through; of a flood, requests of the controller that failed.
    pub through: u64,
    /// Attempts that could not be made.
    pub untried: u64,
    /// What it showed, where numbers do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When, as RFC 3339.
    pub time: String,
}

/// What the cluster says of an exemption.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExemptionStatus {
    /// How it stands: `Honoured`, with its reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One thing that is so or not (`metav1.Condition`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// When it last changed, as RFC 3339.
    pub last_transition_time: String,
}

/// Every definition. `rules` are the names of all rules.
#[must_use]
pub fn definitions(rules: &[&str]) -> Vec<Value> {
    vec![profile(rules), exemption(rules), checkpoint_report()]
}

/// A rule of a schema: texts in `list` are names of `what`, which `names` are.
fn known(list: &str, names: &[&str], what: &str) -> Value {
    let names: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    let is = format!("k in [{}]", names.join(", "));
    json!({
        "rule": format!("{list}.all(k, {is})"),
        "message": format!("there is no {what} of that name: `bedplate rules` lists them"),
        "messageExpression": format!("'there is no {what} `' + {list}.filter(k, !({is}))[0] + '`: bedplate rules lists them'"),
    })
}

/// Makes the API server ask for a rule of a part of a schema; empty for the whole.
fn ask(schema: &mut Value, section: &str, validation: Value) {
    let path = if section.is_empty() { String::new() } else { format!("/properties/{section}") };
    let Some(at) = schema.pointer_mut(&path) else { return };
    match at.get_mut("x-kubernetes-validations").and_then(Value::as_array_mut) {
        Some(all) => all.push(validation),
        None => at["x-kubernetes-validations"] = json!([validation]),
    }
}

fn refuse<T>(schema: &mut Value, table: &[Contradiction<T>]) {
    for wrong in table {
        let mut validation = json!({ "rule": (wrong.rule)(), "message": wrong.message });
        if !wrong.field.is_empty() {
            validation["fieldPath"] = format!(".{}", wrong.field).into();
        }
        ask(schema, wrong.section, validation);
    }
}

/// What the API server asks of settings: that they name rules that exist, and do not contradict themselves.
fn judge(settings: &mut Value, rules: &[&str]) {
    refuse(settings, contradiction::SETTINGS);
    let mut modes = Guarantee::ALL.map(Guarantee::name).to_vec();
    modes.extend_from_slice(rules);
    for (section, names, what) in
        [("rules", rules, "rule"), ("modes", &modes, "rule or guarantee"), ("fixes", rules, "rule")]
    {
        ask(settings, section, known("self", names, what));
    }
}

fn profile(rules: &[&str]) -> Value {
    let mut spec = structural::<Spec>();
    judge(&mut spec, rules);
    if let Some(entry) = spec.pointer_mut("/properties/namespaces/items") {
        judge(entry, rules);
    }
    refuse(&mut spec, contradiction::SPEC);
    // Who takes the last field away by server-side apply leaves `null` behind, which the server refuses: with a default
    // it takes that in its place.
    spec["default"] = json!({});
    let column = |name: &str, path: &str, text: &str| json!({ "name": name, "type": "string", "jsonPath": path, "description": text });
    Definition {
        kind: "StabilityProfile",
        plural: "stabilityprofiles",
        short: &["stability"],
        scope: "Cluster",
        text: "What a platform team wants of its cluster. An empty spec protects with good defaults.",
        spec,
        status: Some(structural::<Status>()),
        columns: json!([
            { "name": "Job ceiling", "type": "integer", "jsonPath": ".spec.admission.acceleratorsPerJob",
                "description": "Most accelerators of one job; empty means 8" },
            column("Modes", ".spec.modes", "How strictly guards hold; empty means enforce"),
            column("Applied", ".status.conditions[?(@.type=='Applied')].status", "Whether all guards are in place"),
            column("Admission", ".status.guarantees.admission.enforced.status", "Whether the API server refuses what admission guards"),
            column("Deletion", ".status.guarantees.deletion.enforced.status", "Whether the API server refuses what deletion guards"),
            column("Fairness", ".status.guarantees.fairness.enforced.status", "Whether controllers have a lane of the API server of their own"),
            { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
        ]),
    }
    .object()
}

fn exemption(rules: &[&str]) -> Value {
    let mut spec = structural::<Exemption>();
    ask(&mut spec, "rule", known("[self]", rules, "rule"));
    refuse(&mut spec, contradiction::EXEMPTION);
    let column = |name: &str, path: &str| json!({ "name": name, "type": "string", "jsonPath": path });
    Definition {
        kind: "Exemption",
        plural: "exemptions",
        short: &["exempt"],
        scope: "Cluster",
        text: "Why one subject need not follow one rule, and until when.",
        spec,
        status: Some(structural::<ExemptionStatus>()),
        columns: json!([
            column("Rule", ".spec.rule"),
            column("Kind", ".spec.subject.kind"),
            column("Namespace", ".spec.subject.namespace"),
            column("Subject", ".spec.subject.name"),
            column("Expires", ".spec.expires"),
            column("Honoured", ".status.conditions[?(@.type=='Honoured')].status"),
            { "name": "Reason", "type": "string", "jsonPath": ".spec.reason", "priority": 1 },
        ]),
    }
    .object()
}

fn checkpoint_report() -> Value {
    Definition {
        kind: CHECKPOINT_REPORT,
        plural: "checkpointreports",
        short: &["ckpt"],
        scope: "Namespaced",
        text: "The last checkpoint of a training, in an object named as its pod. Written by the Python package bedplate.",
        spec: structural::<CheckpointReport>(),
        status: None,
        columns: json!([
            { "name": "Run", "type": "string", "jsonPath": ".spec.run" },
            { "name": "Step", "type": "integer", "jsonPath": ".spec.step", "description": "The last that is durable" },
            { "name": "Saved", "type": "date", "jsonPath": ".spec.savedAt", "description": "How long ago; empty: not yet" },
            { "name": "Save", "type": "number", "jsonPath": ".spec.saveSeconds", "description": "Seconds that a save takes" },
            { "name": "Bytes", "type": "integer", "jsonPath": ".spec.stateBytes", "description": "Of one rank" },
            { "name": "Place", "type": "string", "jsonPath": ".spec.place" },
        ]),
    }
    .object()
}

/// What is said of a kind.
struct Definition {
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    scope: &'static str,
    text: &'static str,
    spec: Value,
    /// Its schema, where somebody writes one.
    status: Option<Value>,
    columns: Value,
}

impl Definition {
    fn object(self) -> Value {
        let Self { kind, plural, short, scope, text, spec, status, columns } = self;
        let mut properties = json!({
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": spec,
        });
        let mut version = json!({
            "name": names::API_VERSION.rsplit('/').next(),
            "served": true,
            "storage": true,
            "additionalPrinterColumns": columns,
        });
        if let Some(status) = status {
            properties["status"] = status;
            version["subresources"] = json!({ "status": {} });
        }
        version["schema"] = json!({ "openAPIV3Schema": {
            "type": "object", "description": text, "properties": properties, "required": ["spec"],
        } });
        json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{}", names::GROUP),
            "labels": {
                "app.kubernetes.io/managed-by": names::FIELD_MANAGER,
                // An operator of an older version leaves what a newer one made alone.
                "app.kubernetes.io/version": env!("CARGO_PKG_VERSION"),
            },
        },
        "spec": {
            "group": names::GROUP,
            "names": {
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural,
                "singular": kind.to_ascii_lowercase(), "shortNames": short, "categories": ["bedplate"],
            },
                "scope": scope,
                "versions": [version],
            },
        })
    }
}

/// The schema of a type as the API server takes it: structural, without references
/// (`apiextensions/v1`, "Specifying a structural schema").
fn structural<T: JsonSchema>() -> Value {
    let root = schemars::schema_for!(T).to_value();
    plain(&root, &root)
}

fn plain(schema: &Value, root: &Value) -> Value {
    let Some(object) = schema.as_object() else { return json!({}) };
    if let Some(pointer) = object.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix('#')) {
        let mut made = root.pointer(pointer).map_or_else(|| json!({}), |schema| plain(schema, root));
        // What is said where it is used tells more than what is said of the type.
        if let Some(text) = object.get("description") {
            made["description"] = text.clone();
        }
        return made;
    }
    let options = object.get("anyOf").or_else(|| object.get("oneOf")).and_then(Value::as_array);
    if let Some(options) = options {
        let constants: Vec<_> = options.iter().filter_map(|option| option.get("const")).cloned().collect();
        let mut made = if constants.len() == options.len() {
            json!({ "type": "string", "enum": constants })
        } else {
            // An optional field: the API server keeps nulls out by itself.
            options
                .iter()
                .find(|o| o.get("type").is_none_or(|t| t != "null"))
                .map_or_else(|| json!({}), |o| plain(o, root))
        };
        if let Some(text) = object.get("description") {
            made["description"] = text.clone();
        }
        return made;
    }
    let mut made = Map::new();
    for (key, value) in object {
        match key.as_str() {
            "$schema" | "title" | "$defs" | "default" => {}
            "type" => {
                let one = value.as_array().map_or(Some(value), |all| all.iter().find(|t| *t != "null"));
                made.insert(key.clone(), one.cloned().unwrap_or(Value::Null));
            }
            "format" => {
                if let Some(bits) = value.as_str().and_then(|format| format.strip_prefix('u')) {
                    made.insert(key.clone(), if bits == "int32" { json!("int64") } else { json!(bits) });
                } else {
                    made.insert(key.clone(), value.clone());
                }
            }
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                made.insert(key.clone(), properties.map(|(name, s)| (name.clone(), plain(s, root))).collect());
            }
            "items" => {
                made.insert(key.clone(), plain(value, root));
            }
            "additionalProperties" => {
                if value.is_object() {
                    made.insert(key.clone(), plain(value, root));
                }
            }
            _ => {
                made.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(made)
}
