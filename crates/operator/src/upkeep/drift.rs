//! What is to be made of a difference between what is wanted and what is there.

use bedplate_model::names;
use serde_json::Value;

/// The label in which an object says which version made it.
const VERSION: &str = "/metadata/labels/app.kubernetes.io~1version";

/// Somebody who wrote an object after us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Writer {
    /// The name that it gave itself: `kubectl-edit`, `argocd-controller`.
    pub(super) manager: String,
    /// When, as RFC 3339.
    pub(super) time: String,
}

/// Who wrote an object last, where that was not us. By `metadata.managedFields`: of a status nobody asks.
pub(super) fn last_writer(object: &Value) -> Option<Writer> {
    let fields = object.pointer("/metadata/managedFields")?.as_array()?;
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let writers = fields.iter().filter(|entry| text(entry, "subresource").is_empty());
    // Times are of the API server, and to the second: of two in the same one, the other is meant.
    let last = writers.max_by_key(|entry| (text(entry, "time"), text(entry, "manager") != names::FIELD_MANAGER))?;
    let manager = text(last, "manager");
    (manager != names::FIELD_MANAGER).then(|| Writer { manager, time: text(last, "time") })
}

/// The version that made an object, where it is newer than `ours`: it knows what we do not.
pub(super) fn newer(object: &Value, ours: &str) -> Option<String> {
    let theirs = object.pointer(VERSION)?.as_str()?;
    (numbers(theirs) > numbers(ours)).then(|| theirs.to_owned())
}

fn numbers(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(by: &[(&str, &str, &str)]) -> Value {
        let fields: Vec<_> = by
            .iter()
            .map(|(manager, time, subresource)| json!({ "manager": manager, "time": time, "subresource": subresource }))
            .collect();
        json!({ "metadata": { "managedFields": fields } })
    }

    /// "Some controller did it" took a team a week to find.
    #[test]
    fn who_changed_a_guard_is_named() {
        let object = written(&[
            ("bedplate", "2026-01-01T00:00:00Z", ""),
            ("kubectl-edit", "2026-01-02T00:00:00Z", ""),
            ("kube-controller-manager", "2026-01-03T00:00:00Z", "status"),
        ]);
        let writer = last_writer(&object).unwrap();
        assert_eq!((writer.manager.as_str(), writer.time.as_str()), ("kubectl-edit", "2026-01-02T00:00:00Z"));
        let same_second =
            written(&[("kubectl-edit", "2026-01-02T00:00:00Z", ""), ("bedplate", "2026-01-02T00:00:00Z", "")]);
        assert_eq!(last_writer(&same_second).unwrap().manager, "kubectl-edit");
        assert_eq!(last_writer(&written(&[("kubectl", "1", ""), ("bedplate", "2", "")])), None);
        assert_eq!(last_writer(&json!({})), None);
    }

    /// Two versions that each put their own guards back would do so for ever.
    #[test]
    fn what_a_newer_version_made_is_left_to_it() {
        let made_by = |version: &str| json!({ "metadata": { "labels": { "app.kubernetes.io/version": version } } });
        for (theirs, ours, is_newer) in
            [("0.2.0", "0.1.9", true), ("0.10.0", "0.9.0", true), ("0.1.0", "0.1.0", false), ("0.1.0", "0.2.0", false)]
        {
            assert_eq!(newer(&made_by(theirs), ours).is_some(), is_newer, "{theirs} {ours}");
        }
        assert_eq!(newer(&json!({}), "0.1.0"), None);
    }
}
