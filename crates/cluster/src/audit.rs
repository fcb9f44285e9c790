//! The rules of `check` over what is in a cluster.
//!
//! Pods are by far the most of a cluster, and nearly all belong to something that is looked at itself: of those only
//! the metadata is read. Everything else comes a page at a time and is dropped after it was judged, so memory grows
//! with the largest page, not with the cluster.

use std::collections::BTreeMap;

use bedplate_guarantees::check::{PROFILE, Run, Source, check, lapsed, mistake, object_findings};
use bedplate_guarantees::context::NoContext;
use bedplate_guarantees::training::saves::{Maker, Saves};
use bedplate_guarantees::{Checked, Neighbours};
use bedplate_model::document::FileKind;
use bedplate_model::workload::kinds::TABLE;
use bedplate_model::workload::unfold_live;
use bedplate_model::{Node, Object, PodSet, Profile, Workload, checkpoint_report, moment, names};
use serde_json::{Value, json};

use crate::error::note;
use crate::{Cluster, Error, Place, Resource, yaml};

/// Kinds besides the workloads that rules look at, or that tell rules something.
pub(crate) const OTHERS: &[(&str, &str)] = &[
    ("", "Namespace"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("policy", "PodDisruptionBudget"),
    ("resource.k8s.io", "ResourceClaimTemplate"),
];

/// The namespace whose ConfigMaps are looked at: for Corefiles, of which the others have none.
pub(crate) const COREFILES: &str = "kube-system";

/// Kinds that tell rules something about others: read first.
const TELLING: &[&str] =
    &["FlowSchema", "PriorityLevelConfiguration", "PodDisruptionBudget", "ResourceClaimTemplate", "DaemonSet"];

/// What was looked at.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Objects that were judged.
    pub judged: usize,
    /// Pods that were passed over because their owner was judged.
    pub owned_pods: usize,
    /// Resources that the server could not list to the end, and its words: `tfjobs.kubeflow.org`.
    pub unread: BTreeMap<String, String>,
}

impl Cluster {
    /// Judges everything in the cluster, or in one namespace, as of `now` (RFC 3339). `each` gets every object that something was found of:
    /// its name as `kind/namespace/name`, its text, and the findings.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn audit(
        &self,
        profile: &Profile,
        now: &str,
        namespace: Option<&str>,
        mut each: impl FnMut(&str, &str, &Checked),
    ) -> Result<Seen, Error> {
        let kinds: Vec<&Resource> = self.audited(namespace);
        let mut neighbours = Neighbours::default();
        let mut seen = Seen::default();
        for resource in kinds.iter().filter(|resource| TELLING.contains(&resource.kind.as_str())) {
            let read = self
                .list(resource, namespace, false, |object| {
                    let node = Node::from_json(&object);
                    if let Some(object) = Object::of_node(&node) {
                        neighbours.add(&object);
                    }
                })
                .await;
            note(&mut seen.unread, resource, read)?;
        }
        let mut trainings = Vec::new();
        if let Some(resource) = self.kind(names::GROUP, checkpoint_report::KIND) {
            let read = self.trainings(resource, namespace, now, &neighbours.saves, &mut trainings).await;
            note(&mut seen.unread, resource, read)?;
        }
        let run = Run { profile, neighbours: &neighbours, now };
        for report in trainings {
            seen.judged += 1;
            judge(report, run, &mut each);
        }
        for resource in kinds {
            let configmaps = resource.kind == "ConfigMap" && resource.group.is_empty();
            let namespace = namespace.or(configmaps.then_some(COREFILES));
            let read = if resource.kind == "Pod" && resource.group.is_empty() {
                self.pods(resource, namespace, run, &mut seen, &mut each).await
            } else {
                self.list(resource, namespace, false, |object| {
                    if controller(&object).is_some() {
                        return;
                    }
                    seen.judged += 1;
                    judge(object, run, &mut each);
                })
                .await
                .map(drop)
            };
            note(&mut seen.unread, resource, read)?;
        }
        if let Some(resource) = self.kind(names::GROUP, "Exemption").filter(|_| namespace.is_none()) {
            let read = self.list(resource, None, false, |object| judge_exemption(object, now, &mut each)).await;
            note(&mut seen.unread, resource, read)?;
        }
        Ok(seen)
    }

    async fn pods(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        run: Run<'_>,
        seen: &mut Seen,
        each: &mut impl FnMut(&str, &str, &Checked),
    ) -> Result<(), Error> {
        let mut alone = Vec::new();
        self.list(resource, namespace, true, |pod| {
            let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            match controller(&pod) {
                // A static pod's owner is its node, which nobody judges.
                Some(owner) if owner["kind"] != "Node" => seen.owned_pods += 1,
                _ => alone.push((text("/metadata/namespace"), text("/metadata/name"))),
            }
        })
        .await?;
        for (namespace, name) in alone {
            if let Some(pod) = self.get(Place { resource, namespace: Some(&namespace), name: &name }).await? {
                seen.judged += 1;
                judge(pod, run, each);
            }
        }
        Ok(())
    }

    /// What trainings report of their checkpoints, each report with what its pod has. The rules on what makes such pods
    /// hear of their saves.
    async fn trainings(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        now: &str,
        saves: &Saves,
        reports: &mut Vec<Value>,
    ) -> Result<(), Error> {
        let Some(pods) = self.kind("", "Pod") else { return Ok(()) };
        let mut all = Vec::new();
        self.list(resource, namespace, false, |report| all.push(crate::bundle::essence(report))).await?;
        for mut report in all {
            let text = |path: &str| report.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let place =
                Place { resource: pods, namespace: Some(text("/metadata/namespace")), name: text("/metadata/name") };
            // A report goes with its pod, a little later.
            let Some(pod) = self.get(place).await? else { continue };
            let node = Node::from_json(&pod);
            let Some(object) = Object::of_node(&node) else { continue };
            if let Some(seconds) = report.pointer("/spec/saveSeconds").and_then(Value::as_f64) {
                saves.tell(Maker::of(&object), seconds, moment::seconds(now).unwrap_or(0));
            }
            let Some(pod) = Workload::new(&object) else { continue };
            let grace = pod.pod_sets.first().map(PodSet::grace_seconds);
            report[checkpoint_report::POD] = json!({ "accelerators": pod.accelerators(), "graceSeconds": grace });
            reports.push(report);
        }
        Ok(())
    }

    /// What is looked at, of what the server serves.
    fn audited(&self, namespace: Option<&str>) -> Vec<&Resource> {
        let workloads = TABLE.iter().map(|row| (row.group, row.kind));
        let mut found: Vec<&Resource> = Vec::new();
        for (group, kind) in workloads.chain(OTHERS.iter().copied()).chain([("", "ConfigMap")]) {
            let served = self.kind(group, kind).filter(|resource| resource.can("list"));
            if let Some(resource) = served.filter(|resource| namespace.is_none() || resource.namespaced)
                && !found.contains(&resource)
            {
                found.push(resource);
            }
        }
        found
    }
}

/// The reference to what controls an object.
pub(crate) fn controller(object: &Value) -> Option<&Value> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// Tells of an exemption that has lapsed or means nothing.
fn judge_exemption(object: Value, now: &str, each: &mut impl FnMut(&str, &str, &Checked)) {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let written = yaml::text(&crate::bundle::essence(object));
    let checked = match Profile::parse(&written, &bedplate_guarantees::names()) {
        Ok(profile) => lapsed(&profile, now),
        Err(mistakes) => {
            let findings = mistakes.into_iter().map(|error| mistake(error, PROFILE)).collect();
            Checked { findings, ..Checked::default() }
        }
    };
    if !checked.findings.is_empty() {
        each(&format!("exemption/{name}"), &written, &checked);
    }
}

fn judge(object: Value, run: Run<'_>, each: &mut impl FnMut(&str, &str, &Checked)) {
    let mut node = Node::from_json(&object);
    unfold_live(&mut node);
    let found = Object::of_node(&node).is_some_and(|object| !object_findings(&object, run).is_empty());
    if !found {
        return;
    }
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (kind, namespace, name) =
        (text("/kind").to_ascii_lowercase(), text("/metadata/namespace"), text("/metadata/name"));
    let shown =
        [kind.as_str(), namespace, name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    // Written out, so that a finding has lines to show; the second judgement is of the few.
    let written = yaml::text(&crate::bundle::essence(object));
    let checked = check(Source { text: &written, kind: FileKind::Yaml, build: &NoContext }, run);
    if !checked.findings.is_empty() {
        each(&shown, &written, &checked);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An audit found nothing of a search whose trials stand in a string, as Katib's first versions wrote them.
    #[test]
    fn what_stands_in_a_string_is_judged_too() {
        let template = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: \"{{.Trial}}\"}\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        image: docker.io/pytorch/pytorch:2.7.0\n        resources: {limits: {nvidia.com/gpu: 64}}\n";
        let object = json!({ "apiVersion": "kubeflow.org/v1alpha3", "kind": "Experiment",
            "metadata": { "name": "sweep", "namespace": "team" },
            "spec": { "trialTemplate": { "goTemplate": { "rawTemplate": template } } } });
        let (profile, neighbours) = (Profile::default(), Neighbours::default());
        let run = Run { profile: &profile, neighbours: &neighbours, now: "2026-11-25" };
        let mut told = Vec::new();
        judge(object, run, &mut |name, _, checked| {
            told.extend(checked.findings.iter().map(|located| (name.to_owned(), located.finding.rule)));
        });
        assert!(told.contains(&("experiment/team/sweep".to_owned(), "gpu-ceiling")), "{told:?}");
    }
}
