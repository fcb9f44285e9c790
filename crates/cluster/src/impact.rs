//! What hangs on an object: what its deletion would take along.

use std::collections::{BTreeMap, HashSet};

use bedplate_model::{Node, Object, Workload};
use serde_json::Value;

use crate::audit::controller;
use crate::error::note;
use crate::uses::{can_be_used, uses};
use crate::{Cluster, Error, Place, Resource};

/// Kinds besides the workloads that are looked at.
pub(crate) const LOOKED_AT: &[(&str, &str)] = &[
    ("", "Namespace"),
    ("", "Service"),
    ("", "PersistentVolumeClaim"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
];

/// What a deletion would take along.
#[derive(Clone, Debug, Default)]
pub struct Impact {
    /// How many objects of each resource.
    pub objects: BTreeMap<String, usize>,
    /// The namespaces that they stand in.
    pub namespaces: BTreeMap<String, usize>,
    /// Pods that run.
    pub running_pods: usize,
    /// Accelerators that these pods hold.
    pub accelerators: u64,
    /// Volumes that are bound to claims among the objects.
    pub volumes: Vec<String>,
    /// Objects that are marked against deletion.
    pub protected: Vec<String>,
    /// Who last wrote the objects, by field manager.
    pub users: BTreeMap<String, usize>,
    /// Pods that run and use the object, by what controls them: they stay, and do not start again without it.
    pub used_by: BTreeMap<String, usize>,
    /// Accelerators that those hold.
    pub used_with: u64,
    /// What could not be looked at, and why.
    pub unread: BTreeMap<String, String>,
}

impl Cluster {
    /// What hangs on an object.
    ///
    /// # Errors
    /// No such object, no rights.
    pub async fn impact(&self, place: Place<'_>) -> Result<Impact, Error> {
        let object = self
            .get(place)
            .await?
            .ok_or_else(|| Error::NotFound(format!("{} {}", place.resource.full_name(), place.name)))?;
        let mut impact = Impact::default();
        match (place.resource.group.as_str(), place.resource.kind.as_str()) {
            ("apiextensions.k8s.io", "CustomResourceDefinition") => {
                let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
                if let Some(resource) = self.kind(text("/spec/group"), text("/spec/names/kind")) {
                    let mut owners = HashSet::new();
                    self.count(resource, None, &mut impact, &mut |item| {
                        owners.extend(item.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned));
                    })
                    .await?;
                    self.owned(owners, None, &mut impact).await?;
                }
            }
            ("", "Namespace") => {
                for group in self.unanswered() {
                    let why = "the server behind this API does not answer: nothing is known of its objects".to_owned();
                    impact.unread.insert(group.clone(), why);
                }
                for resource in self.resources().iter().filter(|r| r.namespaced && r.can("list") && r.can("delete")) {
                    // Events go by themselves, and there are many.
                    if resource.kind != "Event" {
                        self.count(resource, Some(place.name), &mut impact, &mut |_| {}).await?;
                    }
                }
            }
            _ => {
                let uid = object.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
                self.owned(uid.into_iter().collect(), place.namespace, &mut impact).await?;
                self.users(place, &object, &mut impact).await?;
            }
        }
        Ok(impact)
    }

    /// Finds the pods that use an object.
    async fn users(&self, place: Place<'_>, object: &Value, impact: &mut Impact) -> Result<(), Error> {
        let group = place.resource.group.as_str();
        let Some(pods) = self.kind("", "Pod").filter(|_| can_be_used(group, &place.resource.kind)) else {
            return Ok(());
        };
        let (mut used_by, mut used_with) = (BTreeMap::<String, usize>::new(), 0_u64);
        let read = self.list(pods, place.namespace, false, |pod| {
            if !is_on(&pod) || !uses(&pod, group, object) {
                return;
            }
            used_with = used_with.saturating_add(accelerators(&pod));
            *used_by.entry(user(&pod)).or_default() += 1;
        });
        note(&mut impact.unread, pods, read.await)?;
        (impact.used_by, impact.used_with) = (used_by, used_with);
        Ok(())
    }

    /// Counts the objects that some own, and what those own.
    async fn owned(
        &self,
        mut owners: HashSet<String>,
        namespace: Option<&str>,
        impact: &mut Impact,
    ) -> Result<(), Error> {
        const DEPENDENTS: &[(&str, &str)] = &[
            ("", "Pod"),
            ("", "Service"),
            ("", "PersistentVolumeClaim"),
            ("apps", "ReplicaSet"),
            ("apps", "Deployment"),
            ("apps", "StatefulSet"),
            ("apps", "DaemonSet"),
            ("batch", "Job"),
        ];
        let resources: Vec<&Resource> = DEPENDENTS
            .iter()
            .map(|(group, kind)| (*group, *kind))
            .chain(bedplate_model::workload::kinds::TABLE.iter().map(|row| (row.group, row.kind)))
            .filter_map(|(group, kind)| self.kind(group, kind))
            .collect();
        let mut seen: HashSet<String> = HashSet::new();
        // A job owns sets that own pods: no deeper than that in practice, and never without an end.
        for _ in 0..4 {
            let mut next = HashSet::new();
            let mut done: HashSet<String> = HashSet::new();
            for resource in &resources {
                if !done.insert(resource.full_name()) {
                    continue;
                }
                let mut found = Vec::new();
                let read = self.list(resource, namespace.filter(|_| resource.namespaced), true, |item| {
                    let uid = item.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
                    let references = item.pointer("/metadata/ownerReferences").and_then(Value::as_array);
                    let ours = references.into_iter().flatten().any(|reference| {
                        reference.get("uid").and_then(Value::as_str).is_some_and(|uid| owners.contains(uid))
                    });
                    if ours && seen.insert(uid.clone()) {
                        next.insert(uid);
                        found.push(item);
                    }
                });
                note(&mut impact.unread, resource, read.await)?;
                for item in found {
                    self.add(resource, &item, impact).await?;
                }
            }
            if next.is_empty() {
                break;
            }
            owners = next;
        }
        Ok(())
    }

    async fn count(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        impact: &mut Impact,
        each: &mut impl FnMut(&Value),
    ) -> Result<(), Error> {
        let mut found = Vec::new();
        let read = self.list(resource, namespace, true, |item| {
            each(&item);
            found.push(item);
        });
        note(&mut impact.unread, resource, read.await)?;
        for item in found {
            self.add(resource, &item, impact).await?;
        }
        Ok(())
    }

    async fn add(&self, resource: &Resource, item: &Value, impact: &mut Impact) -> Result<(), Error> {
        let text = |path: &str| item.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        *impact.objects.entry(resource.full_name()).or_default() += 1;
        if !namespace.is_empty() {
            *impact.namespaces.entry(namespace.to_owned()).or_default() += 1;
        }
        let managers = item.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
        let last =
            managers.max_by_key(|entry| entry.get("time").and_then(Value::as_str).unwrap_or_default().to_owned());
        if let Some(manager) = last.and_then(|entry| entry.get("manager")?.as_str()) {
            *impact.users.entry(manager.to_owned()).or_default() += 1;
        }
        let mark =
            |part: &str, name: &str| item.pointer(&format!("/metadata/{part}/{}", name.replace('/', "~1"))).is_some();
        let (own, kruise) = (bedplate_model::names::DELETE_PROTECTION, bedplate_model::names::KRUISE_DELETE_PROTECTION);
        if mark("annotations", own) || mark("labels", own) || mark("labels", kruise) {
            impact.protected.push(format!("{} {name}", resource.full_name()));
        }
        let whole = matches!(resource.kind.as_str(), "Pod" | "PersistentVolumeClaim") && resource.group.is_empty();
        if !whole {
            return Ok(());
        }
        let Some(object) = self.get(Place { resource, namespace: Some(namespace), name }).await? else { return Ok(()) };
        let at = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        if resource.kind == "Pod" {
            if is_on(&object) {
                impact.running_pods += usize::from(at("/status/phase") == "Running");
                impact.accelerators = impact.accelerators.saturating_add(accelerators(&object));
            }
        } else if !at("/spec/volumeName").is_empty() {
            impact.volumes.push(format!("{namespace}/{name} ({})", at("/spec/volumeName")));
        }
        Ok(())
    }
}

/// Whether a pod runs, or is about to.
fn is_on(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Running" | "Pending"))
}

fn accelerators(pod: &Value) -> u64 {
    let node = Node::from_json(pod);
    Object::of_node(&node).as_ref().and_then(Workload::new).map_or(0, |workload| workload.accelerators())
}

/// What controls a pod, or the pod itself where nothing does.
fn user(pod: &Value) -> String {
    let (kind, name) = match controller(pod) {
        Some(owner) => (owner["kind"].as_str().unwrap_or_default(), &owner["name"]),
        None => ("Pod", &pod["metadata"]["name"]),
    };
    format!("{kind} {}", name.as_str().unwrap_or_default())
}
