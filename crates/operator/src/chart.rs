//! The Helm chart: the objects of `bedplate apply --operator`, with a few values in their places.
//!
//! Its templates are these objects as text. Where a value belongs stands its template, and what stood there is the
//! default. The guards are not in it: the operator makes and keeps them. The definitions are in `crds/`, which Helm makes
//! before all else and never touches again: the operator brings them to its version.

use bedplate_cluster::bundle::first_profile;
use bedplate_cluster::rights::{self, Task};
use bedplate_cluster::{OLDEST_MINOR, yaml};
use bedplate_model::{Profile, names};
use serde_json::{Map, Value, json};

use crate::deploy::{self, Object};

/// A value that a user may give.
struct Setting {
    name: &'static str,
    /// What values.yaml says of it, in lines.
    text: &'static str,
    schema: fn() -> Value,
    /// Without one, what stands in its place.
    default: Option<fn() -> Value>,
    place: Option<Place>,
}

/// Where a value belongs: a kind, a JSON pointer, and what is written there.
struct Place(&'static str, &'static str, &'static str);

const SETTINGS: &[Setting] = &[
    Setting {
        name: "image",
        text: "The image, built with deploy/Dockerfile: REGISTRY/bedplate:TAG, or by digest. Required: none is published.",
        schema: || json!({ "type": "string", "pattern": "^\\S*$" }),
        default: Some(|| json!("")),
        place: Some(Place(
            "Deployment",
            "/spec/template/spec/containers/0/image",
            "{{ required \"image: name one that was built with deploy/Dockerfile: --set image=REGISTRY/bedplate:TAG\" .Values.image | quote }}",
        )),
    },
    Setting {
        name: "replicas",
        text: "Pods that answer, one of which leads.",
        schema: || json!({ "type": "integer", "minimum": 1 }),
        default: None,
        place: Some(Place("Deployment", "/spec/replicas", "{{ .Values.replicas }}")),
    },
    Setting {
        name: "resources",
        text: "What a pod asks for, and the most that it gets.",
        schema: || {
            let amounts = json!({ "type": "object", "additionalProperties": { "type": ["string", "number"] } });
            json!({ "type": "object", "properties": { "requests": amounts, "limits": amounts } })
        },
        default: None,
        place: Some(Place(
            "Deployment",
            "/spec/template/spec/containers/0/resources",
            "{{- toYaml .Values.resources | nindent 12 }}",
        )),
    },
    Setting {
        name: "pod",
        text: "Where the pods run, who gives them their image, and what they mount: nodeSelector, tolerations, affinity,\nimagePullSecrets, volumes.",
        schema: || {
            json!({ "type": "object", "properties": {
                "nodeSelector": { "type": "object" }, "affinity": { "type": "object" },
                "tolerations": { "type": "array" }, "imagePullSecrets": { "type": "array" }, "volumes": { "type": "array" },
            } })
        },
        default: Some(|| json!({})),
        // A key that becomes keys.
        place: Some(Place(
            "Deployment",
            "/spec/template/spec/{{- with .Values.pod }}{{ toYaml . | nindent 6 }}{{ end }}",
            "",
        )),
    },
    Setting {
        name: "container",
        text: "What their container gets besides: envFrom and volumeMounts. Such as a ConfigMap with\nOTEL_EXPORTER_OTLP_ENDPOINT, the collector that traces are sent to; OTEL_EXPORTER_OTLP_CERTIFICATE, a file with its\nauthority; or HTTPS_PROXY.",
        schema: || {
            json!({ "type": "object", "properties": {
                "envFrom": { "type": "array" }, "volumeMounts": { "type": "array" },
            } })
        },
        default: Some(|| json!({})),
        place: Some(Place(
            "Deployment",
            "/spec/template/spec/containers/0/{{- with .Values.container }}{{ toYaml . | nindent 10 }}{{ end }}",
            "",
        )),
    },
    Setting {
        name: "webhooks",
        text: "Whether the API server asks the pods, which say more than the guards can. Where not, they keep the guards and\nreport.",
        schema: || json!({ "type": "boolean" }),
        default: Some(|| json!(true)),
        place: None,
    },
    Setting {
        name: "auditEvery",
        text: "How often the cluster is audited, for reports, status and metrics. 0s: never.",
        schema: || json!({ "type": "string", "pattern": "^[0-9]+[smhd]$" }),
        default: Some(|| json!(deploy::AUDIT_EVERY)),
        place: Some(Place(
            "Deployment",
            "/spec/template/spec/containers/0/args/3",
            "--audit-every={{ .Values.auditEvery }}",
        )),
    },
    Setting {
        name: "profile",
        text: "The spec of the StabilityProfile `default`: what the guards hold against, and how strictly. These modes tell in the\naudit log what would be refused; `enforce` refuses it. null: the profile is made elsewhere.",
        schema: || json!({ "$ref": "#/$defs/Spec" }),
        default: None,
        place: Some(Place("StabilityProfile", "/spec", "{{- toYaml .Values.profile | nindent 2 }}")),
    },
];

/// Every file of the chart: its path, and its text.
#[must_use]
pub fn files() -> Vec<(&'static str, String)> {
    let mut profile = first_profile(false);
    // The definitions take it along; without them it stays for the guards.
    profile["metadata"]["annotations"] = json!({ "helm.sh/resource-policy": "keep" });
    let mut objects = deploy::all(deploy::PLACEHOLDER);
    objects.push(Object::from(profile));
    let values = SETTINGS.iter().map(|setting| (setting, setting.fill(&mut objects))).collect::<Vec<_>>();
    let take = |objects: &mut Vec<Object>, wanted: fn(&str) -> bool| -> Vec<Object> {
        objects.extract_if(.., |object| wanted(object.kind())).collect()
    };
    let namespace = take(&mut objects, |kind| kind == "Namespace");
    let profile = take(&mut objects, |kind| kind == "StabilityProfile");
    let webhooks = take(&mut objects, |kind| kind.ends_with("WebhookConfiguration"));
    let hook = objects.iter().find(|object| object.kind() == "Deployment").map(uninstaller).unwrap_or_default();
    let definitions: Vec<_> = bedplate_guarantees::definitions().iter().map(yaml::text).collect();
    let only =
        |condition: &str, objects: &[Object]| format!("{{{{- if {condition} }}}}\n{}{{{{- end }}}}\n", text(objects));
    vec![
        ("Chart.yaml", yaml::text(&about())),
        ("README.md", include_str!("chart/README.md").to_owned()),
        ("values.yaml", values.iter().map(|(setting, value)| setting.text(value)).collect::<Vec<_>>().join("\n")),
        ("values.schema.json", format!("{:#}\n", schema())),
        ("crds/definitions.yaml", definitions.join("---\n")),
        ("templates/NOTES.txt", notes(&namespace)),
        ("templates/operator.yaml", format!("{}{}", only_here(), text(&objects))),
        ("templates/webhooks.yaml", only(".Values.webhooks", &webhooks)),
        ("templates/profile.yaml", only("kindIs \"map\" .Values.profile", &profile)),
        ("templates/uninstall.yaml", text(&hook)),
    ]
}

impl Setting {
    /// Puts its template where it belongs, and gives the default.
    fn fill(&self, objects: &mut [Object]) -> Value {
        let mut default = self.default.map(|default| default());
        if let Some(Place(kind, path, template)) = &self.place {
            for object in objects.iter_mut().filter(|object| object.kind() == *kind) {
                // One that is there, or a key of one that is.
                if let Some(there) = object.object.pointer_mut(path) {
                    let was = std::mem::replace(there, json!(template));
                    default.get_or_insert(was);
                } else if let Some((parent, key)) = path.split_once("/{{")
                    && let Some(parent) = object.object.pointer_mut(parent)
                {
                    parent[format!("{{{{{key}")] = Value::Null;
                }
            }
        }
        default.unwrap_or_default()
    }

    fn text(&self, value: &Value) -> String {
        let said = self.text.lines().map(|line| format!("# {line}\n")).collect::<String>();
        format!("{said}{}", yaml::text(&json!({ self.name: value })))
    }
}

/// Objects as text, with templates as Helm reads them: out of the quotes.
fn text(objects: &[Object]) -> String {
    let text = objects.iter().map(Object::text).collect::<Vec<_>>().join("---\n");
    text.split_inclusive('\n').map(|line| unquoted(line).unwrap_or_else(|| line.to_owned())).collect()
}

/// A line whose one quoted scalar is a template.
fn unquoted(line: &str) -> Option<String> {
    let (start, end) = (line.find('"')?, line.rfind('"')? + 1);
    let text: String = serde_json::from_str(&line[start..end]).ok().filter(|text: &String| text.contains("{{"))?;
    let rest = if line[end..].starts_with(": null") { "\n" } else { &line[end..] };
    Some(format!("{}{text}{rest}", &line[..start]))
}

fn about() -> Value {
    json!({
        "apiVersion": "v2",
        "name": "bedplate",
        "type": "application",
        "description": "Keeps machine-learning platforms on Kubernetes standing: guards, and the operator that keeps them",
        "version": env!("CARGO_PKG_VERSION"),
        "appVersion": env!("CARGO_PKG_VERSION"),
        // With what hosts append to theirs, such as 1.37.2-gke.1.
        "kubeVersion": format!(">= 1.{OLDEST_MINOR}.0-0"),
    })
}

/// The schema of the values. What is not known is a mistake, but for what an umbrella chart hands on.
fn schema() -> Value {
    let profile = Profile::json_schema();
    let mut schema = json!({
        // One that every Helm reads.
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": SETTINGS.iter().map(|setting| {
            let mut schema = (setting.schema)();
            schema["description"] = setting.text.replace('\n', " ").into();
            (setting.name.to_owned(), schema)
        }).collect::<Map<_, _>>(),
        "$defs": profile.pointer("/oneOf/0/$defs"),
    });
    schema["properties"]["global"] = json!({ "type": "object" });
    closed(&mut schema);
    schema
}

/// Lets no object have a key that its schema does not name.
fn closed(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(closed);
            let is_schema = map.get("properties").is_some_and(Value::is_object) && map.contains_key("type");
            if is_schema && !map.contains_key("x-kubernetes-preserve-unknown-fields") {
                map.entry("additionalProperties").or_insert(Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(closed),
        _ => {}
    }
}

/// Stops where the release would not be in Bedplate's namespace.
fn only_here() -> String {
    let namespace = names::NAMESPACE;
    format!(
        "{{{{- if ne .Release.Namespace \"{namespace}\" }}}}\n\
         {{{{- fail (printf \"Bedplate lives in the namespace {namespace}: the webhooks spare it, and certificates name it. \
         This release is for %s: install it with --namespace {namespace} --create-namespace\" .Release.Namespace) }}}}\n\
         {{{{- end }}}}\n"
    )
}

/// What Helm tells after an installation; `namespace`: as `bedplate apply` would make it.
fn notes(namespace: &[Object]) -> String {
    let pairs = |what: &str, prefix: &str| -> String {
        let map = namespace.iter().filter_map(|namespace| namespace.object["metadata"][what].as_object()).flatten();
        let pairs = map.filter(|(key, _)| key.starts_with(prefix));
        pairs.map(|(key, value)| format!(" {key}={}", value.as_str().unwrap_or_default())).collect()
    };
    let name = names::NAMESPACE;
    include_str!("chart/NOTES.txt")
        .replace("@protection@", names::DELETE_PROTECTION)
        .replace("@annotate@", &format!("kubectl annotate namespace {name}{}", pairs("annotations", "")))
        .replace("@label@", &format!("kubectl label namespace {name}{}", pairs("labels", "pod-security")))
}

/// What runs `bedplate uninstall` before Helm deletes anything: guards that the operator made are not Helm's, and it
/// would put them back. None of it is there at any other time. Its pod is no pod of the operator: `uninstall` waits
/// for those to end.
fn uninstaller(operator: &Object) -> Vec<Object> {
    const NAME: &str = "bedplate-uninstall";
    let labels = json!({ "app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": names::FIELD_MANAGER });
    let metadata = |weight: &str, namespace: Option<&str>| {
        let mut metadata = json!({ "name": NAME, "labels": labels, "annotations": {
            "helm.sh/hook": "pre-delete", "helm.sh/hook-weight": weight,
            "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
        } });
        if let Some(namespace) = namespace {
            metadata["namespace"] = namespace.into();
        }
        metadata
    };
    let own = Some(names::NAMESPACE);
    let mut pod = operator.object["spec"]["template"]["spec"].clone();
    if let Some(pod) = pod.as_object_mut() {
        pod.retain(|key, _| key == "securityContext" || key.starts_with("{{"));
    }
    pod["serviceAccountName"] = NAME.into();
    pod["automountServiceAccountToken"] = true.into();
    pod["restartPolicy"] = "Never".into();
    let container = &operator.object["spec"]["template"]["spec"]["containers"][0];
    pod["containers"] = json!([{
        "name": "uninstall", "image": container["image"], "args": ["uninstall", "--keep-namespace"],
        "resources": container["resources"], "securityContext": container["securityContext"],
    }]);
    let (role, reasons) = rights::role("ClusterRole", &metadata("-1", None), &rights::rules(Task::Uninstall));
    vec![
        Object::from(
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("-1", own), "automountServiceAccountToken": false }),
        ),
        Object { object: role, reasons },
        Object::from(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata("-1", None),
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME },
            "subjects": [{ "kind": "ServiceAccount", "name": NAME, "namespace": names::NAMESPACE }],
        })),
        Object::from(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata("0", own),
            "spec": {
                // Each run goes on where the last one stopped.
                "backoffLimit": 2,
                "activeDeadlineSeconds": 240,
                "template": { "metadata": { "labels": labels }, "spec": pod },
            },
        })),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field moved, and the value that belonged there went nowhere.
    #[test]
    fn every_value_is_somewhere_in_the_templates() {
        let files = files();
        for setting in SETTINGS {
            let used = format!(".Values.{}", setting.name);
            let in_templates = |(name, text): &(&str, String)| {
                name.starts_with("templates/") && name.ends_with(".yaml") && text.contains(&used)
            };
            assert!(files.iter().any(in_templates), "{used}");
        }
        let notes = &files.iter().find(|(name, _)| *name == "templates/NOTES.txt").unwrap().1;
        assert!(!notes.contains('@'), "a mark that was not replaced: {notes}");
    }
}
