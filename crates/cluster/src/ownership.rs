//! Whose a field is, by `metadata.managedFields`: what somebody else set is told with who and since when.

use std::fmt;

use bedplate_model::names;
use kube::core::Status;
use serde_json::{Value, json};

use crate::Asked;
use crate::bundle::title;

/// A field that another manager owns (`metadata.managedFields`) and that we would set to another value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// `StabilityProfile default`.
    pub object: String,
    /// `.spec.admission.acceleratorsPerJob`.
    pub field: String,
    /// Who owns it: `kubectl-edit`.
    pub manager: String,
    /// Since when, as RFC 3339; empty where the server does not say.
    pub since: String,
}

impl Conflict {
    /// Whether it is with Bedplate itself, which wrote the field by another kind of request.
    pub(crate) fn is_ours(&self) -> bool {
        self.manager == names::FIELD_MANAGER
    }

    /// Looks up since when: of who sets fields by server-side apply the server's message does not say it.
    pub(crate) fn date(&mut self, live: &Value) {
        let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
        let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let of_manager = entries.filter(|entry| text(entry, "manager") == self.manager);
        if let Some(time) = of_manager.map(|entry| text(entry, "time")).max().filter(|_| self.since.is_empty()) {
            self.since = time;
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} belongs to {}", self.field, self.manager)?;
        if self.since.is_empty() { Ok(()) } else { write!(f, " since {}", self.since) }
    }
}

/// The fields of a 409 that other managers own. The causes' words are those of `managedfields.printManager`
/// (k8s.io/apimachinery, `util/managedfields/internal/conflict.go`):
/// `conflict with "kubectl-edit" with subresource "status" using apps/v1 at 2026-01-01T00:00:00Z`.
pub(crate) fn owned_by_others(asked: Asked<'_>, status: &Status) -> Vec<Conflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| {
            let manager = cause.message.split('"').nth(1).unwrap_or("another manager");
            let since = cause.message.rsplit_once(" at ").map_or("", |(_, since)| since);
            Conflict {
                object: format!("{} {}", asked.resource.kind, asked.name.unwrap_or_default()),
                field: cause.field.clone(),
                manager: manager.to_owned(),
                since: since.to_owned(),
            }
        })
        .collect()
}

/// The mappings in the `spec` of an object that a server-side apply of `wanted` would leave without anything: what is in
/// them is ours alone, and no longer wanted.
pub(crate) fn emptied(live: &Value, wanted: &Value) -> Vec<String> {
    let entries = || live.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let is_ours = |entry: &&Value| entry["manager"] == names::FIELD_MANAGER && entry["operation"] == "Apply";
    let sections =
        |entry: &Value| entry.pointer("/fieldsV1/f:spec").and_then(Value::as_object).cloned().unwrap_or_default();
    let theirs: Vec<_> = entries().filter(|entry| !is_ours(entry)).map(sections).collect();
    let ours = entries().filter(is_ours).flat_map(sections).map(|(field, _)| field);
    ours.filter(|field| theirs.iter().all(|sections| !sections.contains_key(field)))
        .filter_map(|field| field.strip_prefix("f:").map(str::to_owned))
        .filter(|section| {
            let wanted = wanted["spec"].get(section);
            live["spec"][section].is_object() && wanted.is_none_or(|wanted| *wanted == json!({}))
        })
        .collect()
}

/// All of them as one message, and what to do.
pub(crate) fn told(conflicts: &[Conflict]) -> String {
    use fmt::Write as _;
    let mut text = String::from("fields that Bedplate would set belong to others, and none was changed:\n");
    let mut object = "";
    for conflict in conflicts {
        if conflict.object != object {
            object = &conflict.object;
            let _ = writeln!(text, "  {object}");
        }
        let _ = writeln!(text, "    {conflict}");
    }
    text.push_str(
        "leave to them what is theirs in the profile: take it out of your file. Guards are as strict as the profile's `modes` say, \
         not as somebody edits them. To take the fields over: --force-conflicts; `bedplate plan` shows both values",
    );
    text
}

/// What others own in the `spec` of an object and Bedplate does not, by `metadata.managedFields`.
pub(crate) fn foreign(object: &Value) -> Vec<Conflict> {
    fn walk(theirs: &Value, ours: &[&Value], path: &str, found: &mut Vec<String>) {
        for (key, value) in theirs.as_object().into_iter().flatten().filter(|(key, _)| *key != ".") {
            let path = match key.split_once(':') {
                Some(("f", field)) => format!("{path}.{field}"),
                Some(("k", keys)) => format!("{path}[{}]", keys.trim_matches(['{', '}'])),
                Some((_, item)) => format!("{path}[{item}]"),
                None => path.to_owned(),
            };
            let ours: Vec<&Value> = ours.iter().filter_map(|ours| ours.get(key)).collect();
            if ours.is_empty() {
                found.push(path);
            } else {
                walk(value, &ours, &path, found);
            }
        }
    }
    let entries: Vec<&Value> =
        object.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten().collect();
    let (ours, theirs): (Vec<&Value>, Vec<&Value>) =
        entries.into_iter().partition(|entry| entry["manager"] == names::FIELD_MANAGER);
    let ours: Vec<&Value> = ours.into_iter().filter_map(|entry| entry.pointer("/fieldsV1/f:spec")).collect();
    let mut all = Vec::new();
    for entry in theirs {
        let mut fields = Vec::new();
        walk(entry.pointer("/fieldsV1/f:spec").unwrap_or(&Value::Null), &ours, ".spec", &mut fields);
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        all.extend(fields.into_iter().map(|field| Conflict {
            object: title(object),
            field,
            manager: text("manager"),
            since: text("time"),
        }));
    }
    all
}
