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
        Asked { verb, resource: self.resource, namespace: self.namespace, name }
    }
}

/// Reads an `APIGroupDiscoveryList` (`apidiscovery.k8s.io/v2`): of each group's resources the first version, which is
/// the one that the server prefers.
pub(crate) fn of_discovery(answer: &Value, out: &mut Vec<Resource>) {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let texts = |value: &Value, key: &str| {
        list(value, key).iter().filter_map(|item| item.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    for group in list(answer, "items") {
        let name = text(&group, "/metadata/name");
        for version in list(&group, "versions") {
            for resource in list(&version, "resources") {
                let kind = text(&resource, "/responseKind/kind");
                if out.iter().any(|known| known.group == name && known.kind == kind) {
                    continue;
                }
                out.push(Resource {
                    group: name.clone(),
                    version: text(&version, "/version"),
                    plural: text(&resource, "/resource"),
                    kind,
                    namespaced: text(&resource, "/scope") == "Namespaced",
                    verbs: texts(&resource, "verbs"),
                    short: texts(&resource, "shortNames"),
                });
            }
        }
    }
}
