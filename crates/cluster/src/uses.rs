//! Which pods use an object: they stay when it is deleted, and do not start again without it.

use serde_json::Value;

/// Where a pod's `spec` names objects of a kind (`k8s.io/api/core/v1`, `PodSpec`); `*` is every item of a list.
const NAMED_AT: &[(&str, &str, &[&str])] = &[
    ("", "PersistentVolumeClaim", &["volumes.*.persistentVolumeClaim.claimName"]),
    (
        "",
        "ConfigMap",
        &[
            "volumes.*.configMap.name",
            "volumes.*.projected.sources.*.configMap.name",
            "containers.*.envFrom.*.configMapRef.name",
            "containers.*.env.*.valueFrom.configMapKeyRef.name",
            "initContainers.*.envFrom.*.configMapRef.name",
            "initContainers.*.env.*.valueFrom.configMapKeyRef.name",
        ],
    ),
    (
        "",
        "Secret",
        &[
            "volumes.*.secret.secretName",
            "volumes.*.projected.sources.*.secret.name",
            "volumes.*.csi.nodePublishSecretRef.name",
            "containers.*.envFrom.*.secretRef.name",
            "containers.*.env.*.valueFrom.secretKeyRef.name",
            "initContainers.*.envFrom.*.secretRef.name",
            "initContainers.*.env.*.valueFrom.secretKeyRef.name",
            "imagePullSecrets.*.name",
        ],
    ),
    ("", "ServiceAccount", &["serviceAccountName"]),
    ("", "Node", &["nodeName"]),
    ("scheduling.k8s.io", "PriorityClass", &["priorityClassName"]),
    ("node.k8s.io", "RuntimeClass", &["runtimeClassName"]),
    ("resource.k8s.io", "ResourceClaim", &["resourceClaims.*.resourceClaimName"]),
    ("resource.k8s.io", "ResourceClaimTemplate", &["resourceClaims.*.resourceClaimTemplateName"]),
];

/// Whether pods can use objects of a kind.
pub(crate) fn can_be_used(group: &str, kind: &str) -> bool {
    (group, kind) == ("", "Service") || paths(group, kind).is_some()
}

/// Whether a pod uses an object: names it, or is what a Service sends requests to.
pub(crate) fn uses(pod: &Value, group: &str, object: &Value) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    if (group, kind) == ("", "Service") {
        let selector = object["spec"]["selector"].as_object();
        let labels = &pod["metadata"]["labels"];
        return selector
            .is_some_and(|selector| !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value));
    }
    let name = &object["metadata"]["name"];
    paths(group, kind).is_some_and(|paths| paths.iter().any(|path| holds(&pod["spec"], path, name)))
}

fn paths(group: &str, kind: &str) -> Option<&'static [&'static str]> {
    NAMED_AT.iter().find(|row| (row.0, row.1) == (group, kind)).map(|row| row.2)
}

/// Whether a value stands at a path, or at one of those that it means.
fn holds(at: &Value, path: &str, value: &Value) -> bool {
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let goes_on = |next: &Value| if rest.is_empty() { next == value } else { holds(next, rest, value) };
    if step == "*" { at.as_array().is_some_and(|items| items.iter().any(goes_on)) } else { goes_on(&at[step]) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_uses_what_it_names_and_nothing_that_is_only_called_alike() {
        let pod = json!({ "metadata": { "labels": { "app": "llm", "zone": "a" } }, "spec": {
            "volumes": [{ "name": "x", "emptyDir": {} }, { "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
            "containers": [{ "name": "a", "env": [{ "name": "T", "valueFrom": { "secretKeyRef": { "name": "token", "key": "t" } } }] }],
            "nodeName": "gpu-1", "serviceAccountName": "trainer",
        } });
        let object = |kind: &str, name: &str| json!({ "kind": kind, "metadata": { "name": name } });
        for (kind, name, used) in [
            ("PersistentVolumeClaim", "data", true),
            ("PersistentVolumeClaim", "x", false),
            ("Secret", "token", true),
            ("ConfigMap", "token", false),
            ("Node", "gpu-1", true),
            ("Node", "gpu-10", false),
            ("ServiceAccount", "trainer", true),
        ] {
            assert_eq!(uses(&pod, "", &object(kind, name)), used, "{kind} {name}");
        }
        let service = |selector: Value| json!({ "kind": "Service", "spec": { "selector": selector } });
        assert!(uses(&pod, "", &service(json!({ "app": "llm" }))));
        assert!(!uses(&pod, "", &service(json!({ "app": "llm", "zone": "b" }))));
        assert!(!uses(&pod, "", &service(json!({}))), "one without a selector has endpoints of its own");
        assert!(!uses(&pod, "serving.knative.dev", &service(json!({ "app": "llm" }))));
    }
}
