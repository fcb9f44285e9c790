//! What an API server serves, and where objects of it stand.

use serde_json::Value;

use crate::Asked;

/// A resource of the API, in the version that the server prefers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resource {
    /// Group; empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Its name in paths: `tfjobs`.
    pub plural: String,
    /// Its kind: `TFJob`.
    pub kind: String,
    /// Whether its objects stand in namespaces.
    pub namespaced: bool,
    /// What can be done to it: `list`, `delete`, …
    pub verbs: Vec<String>,
    /// Other names: `crd`, `deploy`.
    pub short: Vec<String>,
}

impl Resource {
    /// `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `tfjobs.kubeflow.org`, as `kubectl` writes it.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether it is Kubernetes' namespaces.
    #[must_use]
    pub fn is_namespaces(&self) -> bool {
        self.group.is_empty() && self.plural == "namespaces"
    }

    /// Whether `name` means it: its plural, kind, singular, a short name, with or without its group.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let (own, group) = name.split_once('.').map_or((name.as_str(), None), |(own, group)| (own, Some(group)));
        group.is_none_or(|group| group == self.group)
            && (own == self.plural
                || own == self.kind.to_ascii_lowercase()
                || self.short.iter().any(|short| short == own))
    }

    /// Whether a verb works on it.
    #[must_use]
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

/// Where an object stands; with an empty name, a whole collection.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its resource.
    pub resource: &'a Resource,
    /// Its namespace; nothing for all, or where the resource has none.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Place<'a> {
    /// The path of its URL.
    #[must_use]
    pub fn path(&self) -> String {
        let resource = self.resource;
        let mut path = if resource.group.is_empty() {
            format!("/api/{}", resource.version)
        } else {
            format!("/apis/{}/{}", resource.group, resource.version)
        };
        if let Some(namespace) = self.namespace.filter(|_| resource.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(&resource.plural);
        if !self.name.is_empty() {
            path.push('/');
            path.push_str(self.name);
        }
        path
    }

    pub(crate) fn asked(&self, verb: &'static str) -> Asked<'a> {
        let name = (!self.name.is_empty()).then_some(self.name);
        Asked { verb, resource: self.resource, namespace: self.namespace, name, subresource: "" }
    }
}

/// The plural of a kind, by the rules of English that Kubernetes' own kinds follow.
#[must_use]
pub fn plural(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    if kind.ends_with('s') || kind.ends_with('x') {
        format!("{kind}es")
    } else if let Some(stem) = kind.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o'])) {
        format!("{stem}ies")
    } else {
        format!("{kind}s")
    }
}

/// What a server serves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served {
    /// Of each group and kind the version that the server prefers.
    pub(crate) resources: Vec<Resource>,
    /// Groups and versions that are served by another server, which does not answer: `metrics.k8s.io/v1beta1`.
    pub(crate) unanswered: Vec<String>,
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    list(value, key).filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

impl Served {
    /// Reads an `APIGroupDiscoveryList` (`apidiscovery.k8s.io/v2`). The first version is the one that the server prefers.
    pub(crate) fn add_groups(&mut self, answer: &Value) {
        for group in list(answer, "items") {
            let name = text(group, "/metadata/name");
            for version in list(group, "versions") {
                // Of a server behind the server that does not answer; its resources may be missing.
                if text(version, "/freshness") == "Stale" {
                    self.unanswered.push(format!("{name}/{}", text(version, "/version")));
                }
                for resource in list(version, "resources") {
                    self.add(Resource {
                        group: name.clone(),
                        version: text(version, "/version"),
                        plural: text(resource, "/resource"),
                        kind: text(resource, "/responseKind/kind"),
                        namespaced: text(resource, "/scope") == "Namespaced",
                        verbs: texts(resource, "verbs"),
                        short: texts(resource, "shortNames"),
                    });
                }
            }
        }
    }

    /// Reads an `APIResourceList`: what servers before 1.26 answer, a group and version at a time.
    pub(crate) fn add_version(&mut self, group: &str, version: &str, answer: &Value) {
        for resource in list(answer, "resources") {
            let plural = text(resource, "/name");
            // Subresources stand between the others.
            if !plural.contains('/') {
                self.add(Resource {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    plural,
                    kind: text(resource, "/kind"),
                    namespaced: resource.get("namespaced") == Some(&Value::Bool(true)),
                    verbs: texts(resource, "verbs"),
                    short: texts(resource, "shortNames"),
                });
            }
        }
    }

    fn add(&mut self, resource: Resource) {
        let known = |known: &Resource| known.group == resource.group && known.kind == resource.kind;
        if !resource.kind.is_empty() && !self.resources.iter().any(known) {
            self.resources.push(resource);
        }
    }
}

/// The groups and versions of an `APIGroupList`, those that the server prefers first.
pub(crate) fn groups(answer: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for group in list(answer, "groups") {
        let preferred = text(group, "/preferredVersion/version");
        let mut versions: Vec<String> = list(group, "versions").map(|version| text(version, "/version")).collect();
        versions.sort_by_key(|version| *version != preferred);
        found.extend(versions.into_iter().map(|version| (text(group, "/name"), version)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::plural;

    #[test]
    fn kinds_of_kubernetes_are_many_as_it_calls_them() {
        for (kind, many) in [
            ("PersistentVolumeClaim", "persistentvolumeclaims"),
            ("Ingress", "ingresses"),
            ("StorageClass", "storageclasses"),
            ("NetworkPolicy", "networkpolicies"),
            ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
            ("Gateway", "gateways"),
        ] {
            assert_eq!(plural(kind), many);
        }
    }
}
