//! The CustomResourceDefinitions of Bedplate's own kinds, made from the same types as the schema for editors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::exemption::Exemption;
use crate::guarantee::Guarantee;
use crate::names;
use crate::profile::{Spec, contradiction};

/// What the cluster says of a profile. Written by Bedplate, read by the guards.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The exemptions that the guards honour: those of the Exemption objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exemptions: Vec<Exemption>,
    /// The generation of the profile that this was said of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How it stands: `Applied`, with its reason.
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
    vec![profile(rules), exemption(rules)]
}

/// CEL: whether `self` is the name of a rule, or one of `more`.
fn is_known(name: &str, rules: &[&str], more: &[&str]) -> String {
    let names: Vec<_> = rules.iter().chain(more).map(|name| format!("'{name}'")).collect();
    format!("{name} in [{}]", names.join(", "))
}

/// What the API server asks of settings: that they name rules that exist, and do not contradict themselves.
fn judge(settings: &mut Value, rules: &[&str]) {
    let mut ask = |section: &str, rule: String, message: &str, more: Value| {
        if let Some(at) = settings.pointer_mut(&format!("/properties/{section}")) {
            let mut validation = json!({ "rule": rule, "message": message });
            validation
                .as_object_mut()
                .zip(more.as_object())
                .into_iter()
                .for_each(|(all, more)| all.extend(more.clone()));
            if at.get("x-kubernetes-validations").is_none() {
                at["x-kubernetes-validations"] = json!([]);
            }
            at["x-kubernetes-validations"].as_array_mut().into_iter().for_each(|all| all.push(validation.clone()));
        }
    };
    for wrong in contradiction::TABLE {
        let place =
            if wrong.field.is_empty() { json!({}) } else { json!({ "fieldPath": format!(".{}", wrong.field) }) };
        ask(wrong.section, (wrong.rule)(), wrong.message, place);
    }
    for (section, more, what) in
        [("rules", &[][..], "a rule"), ("modes", &Guarantee::ALL.map(Guarantee::name), "a rule or a guarantee")]
    {
        let message = format!("each key is the name of {what}: `bedplate rules` lists them");
        let unknown = is_known("k", rules, more);
        let expression = json!({ "messageExpression":
            format!("'`' + self.filter(k, !({unknown}))[0] + '` is not the name of {what}: bedplate rules lists them'") });
        ask(section, format!("self.all(k, {unknown})"), &message, expression);
    }
}

fn profile(rules: &[&str]) -> Value {
    let mut spec = structural::<Spec>();
    bound(&mut spec);
    judge(&mut spec, rules);
    if let Some(entry) = spec.pointer_mut("/properties/namespaces/items") {
        bound(entry);
        judge(entry, rules);
    }
    limit(&mut spec, "/properties/namespaces", 64);
    if let Some(names) = spec.pointer_mut("/properties/namespaces/items/properties/names") {
        texts(names, 64, 63, "^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$");
        names["minItems"] = json!(1);
    }
    let mut status = structural::<Status>();
    limit(&mut status, "/properties/exemptions", 256);
    let column = |name: &str, path: &str, text: &str| json!({ "name": name, "type": "string", "jsonPath": path, "description": text });
    definition(
        "StabilityProfile",
        "stabilityprofiles",
        &["stability"],
        "What a platform team wants of its cluster. An empty spec protects with good defaults.",
        &spec,
        Some(&status),
        &json!([
            { "name": "Job ceiling", "type": "integer", "jsonPath": ".spec.admission.acceleratorsPerJob",
                "description": "Most accelerators of one job; empty means 8" },
            column("Modes", ".spec.modes", "How strictly guards hold; empty means enforce"),
            column("Applied", ".status.conditions[?(@.type=='Applied')].status", "Whether all guards are in place"),
            { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
        ]),
    )
}

fn exemption(rules: &[&str]) -> Value {
    let mut spec = structural::<Exemption>();
    let mut set = |path: &str, key: &str, value: Value| {
        if let Some(at) = spec.pointer_mut(path) {
            at[key] = value;
        }
    };
    set("/properties/rule", "minLength", json!(1));
    set("/properties/rule", "maxLength", json!(63));
    set("/properties/reason", "maxLength", json!(1024));
    set("/properties/expires", "pattern", json!("^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"));
    set("/properties/subject/properties/name", "pattern", json!("^[a-z0-9.*-]+$"));
    set("/properties/subject/properties/name", "maxLength", json!(253));
    set("/properties/subject/properties/namespace", "pattern", json!("^[a-z0-9*-]+$"));
    set("/properties/subject/properties/namespace", "maxLength", json!(63));
    spec["x-kubernetes-validations"] = json!([
        { "rule": is_known("self.rule", rules, &[]), "message": "there is no such rule: `bedplate rules` lists them",
            "messageExpression": "'there is no rule `' + self.rule + '`: bedplate rules lists them'", "fieldPath": ".rule" },
        { "rule": "self.reason.matches('\\\\S.*\\\\S')", "message": "an exemption needs a reason that a person can read next year" },
    ]);
    let column = |name: &str, path: &str| json!({ "name": name, "type": "string", "jsonPath": path });
    definition(
        "Exemption",
        "exemptions",
        &["exempt"],
        "Why one subject need not follow one rule, and until when.",
        &spec,
        None,
        &json!([
            column("Rule", ".spec.rule"),
            column("Kind", ".spec.subject.kind"),
            column("Namespace", ".spec.subject.namespace"),
            column("Subject", ".spec.subject.name"),
            column("Expires", ".spec.expires"),
            { "name": "Reason", "type": "string", "jsonPath": ".spec.reason", "priority": 1 },
        ]),
    )
}

/// Bounds without which the API server can't tell what a rule may cost, in settings.
fn bound(settings: &mut Value) {
    if let Some(registries) = settings.pointer_mut("/properties/admission/properties/registries") {
        texts(registries, 256, 255, "^[a-z0-9][a-zA-Z0-9._:/-]*[a-zA-Z0-9]$");
    }
    if let Some(patterns) = settings.pointer_mut("/properties/deletion/properties/productionNamespaces") {
        texts(patterns, 64, 63, "^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$");
    }
    if let Some(groups) = settings.pointer_mut("/properties/deletion/properties/crdGroups") {
        texts(groups, 64, 253, "^[a-z0-9*]([-a-z0-9.*]*[a-z0-9*])?$");
    }
    if let Some(fixes) = settings.pointer_mut("/properties/fixes") {
        texts(fixes, 128, 63, "^[a-z0-9-]+$");
    }
    for key in ["rules", "modes"] {
        if let Some(map) = settings.pointer_mut(&format!("/properties/{key}")) {
            map["maxProperties"] = json!(128);
        }
    }
}

fn limit(schema: &mut Value, path: &str, items: u32) {
    if let Some(list) = schema.pointer_mut(path) {
        list["maxItems"] = json!(items);
    }
}

fn texts(list: &mut Value, items: u32, length: u32, pattern: &str) {
    list["maxItems"] = json!(items);
    list["items"]["maxLength"] = json!(length);
    list["items"]["pattern"] = json!(pattern);
}

fn definition(
    kind: &str,
    plural: &str,
    short: &[&str],
    text: &str,
    spec: &Value,
    status: Option<&Value>,
    columns: &Value,
) -> Value {
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
        properties["status"] = status.clone();
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
            "scope": "Cluster",
            "versions": [version],
        },
    })
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
