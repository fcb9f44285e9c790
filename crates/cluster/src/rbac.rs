//! Rules of RBAC, and roles in which every rule has its reason above it.

use serde_json::{Value, json};

use crate::rights::is_path;
use crate::yaml;

/// A rule: verbs on resources of a group, on the objects of some names only, where there are any; or on paths that are no
/// resources.
#[must_use]
pub fn rule(group: &str, resources: &[impl AsRef<str>], names: &[impl AsRef<str>], verbs: &[&str]) -> Value {
    fn texts(of: &[impl AsRef<str>]) -> Vec<&str> {
        of.iter().map(AsRef::as_ref).collect()
    }
    let mut rule = if resources.first().is_some_and(|resource| is_path(resource.as_ref())) {
        json!({ "nonResourceURLs": texts(resources) })
    } else {
        json!({ "apiGroups": [group], "resources": texts(resources) })
    };
    if !names.is_empty() {
        rule["resourceNames"] = json!(texts(names));
    }
    rule["verbs"] = json!(verbs);
    rule
}

/// A rule as one line of YAML.
#[must_use]
pub fn line(rule: &Value) -> String {
    let list = |texts: &Value| {
        let texts = texts.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(yaml::scalar).collect::<Vec<_>>().join(", ")
    };
    let parts = rule.as_object().into_iter().flatten().map(|(key, texts)| format!("{key}: [{}]", list(texts)));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
}

/// A Role or ClusterRole.
#[must_use]
pub fn role(kind: &str, metadata: &Value, rules: &[Value]) -> Value {
    json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": rules })
}

/// An object as YAML; where it is a role, with the reason of each of its rules above it.
#[must_use]
pub fn text(object: &Value, reasons: &[&str]) -> String {
    let mut reasons = reasons.iter();
    yaml::text(object).lines().fold(String::new(), |mut out, line| {
        // Each rule begins on a line of its own.
        if ["  - apiGroups:", "  - nonResourceURLs:"].iter().any(|begin| line.starts_with(begin))
            && let Some(why) = reasons.next()
        {
            out.push_str(&format!("  # {why}\n"));
        }
        out.push_str(line);
        out.push('\n');
        out
    })
}
