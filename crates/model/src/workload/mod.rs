//! Workloads: any object that holds pods, read through the table of kinds.

mod argo;
mod ask;
mod count;
pub mod kinds;
pub mod pods;
mod purpose;
pub(crate) mod strings;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use ask::{Ask, AskId, Queue, is_made_by_a_workload};
pub use count::{Factor, Replicas};
pub use pods::{Container, ContainerRole, PodSet, Total};
pub use purpose::{Purpose, SERVERS, Server, server_of};
pub use strings::unfold_live;

use crate::field::Field;
use crate::object::Object;
use kinds::Kind;

/// An object that holds pods.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// The object.
    pub object: Object<'a>,
    /// Its row; nothing where the shape was guessed.
    pub kind: Option<&'static Kind>,
    /// What it is for.
    pub purpose: Purpose,
    /// Why we think so.
    pub purpose_reason: Cow<'static, str>,
    /// Its pods, role by role.
    pub pod_sets: Vec<PodSet<'a>>,
    /// Whether the next run may start while one runs (`concurrencyPolicy: Allow`).
    pub overlaps: bool,
}

impl<'a> Workload<'a> {
    /// Reads an object as a workload; nothing where it holds no pods.
    #[must_use]
    pub fn new(object: &Object<'a>) -> Option<Self> {
        let row = kinds::find(object.group(), object.version(), object.kind);
        let mut pod_sets = Vec::new();
        match row {
            Some(row) => pods::by_row(object, row, &[], &mut pod_sets, 0),
            None if may_hold_pods(object) => pods::by_structure(object, &mut pod_sets),
            None => return None,
        }
        if row.is_none() && pod_sets.is_empty() {
            return None;
        }
        let (purpose, purpose_reason) = purpose::decide(object, row, &pod_sets);
        let overlaps = row.and_then(|row| row.overlap).is_some_and(|path| {
            // The default is Allow (`k8s.io/api/batch/v1`, CronJobSpec).
            !matches!(object.at(path).str(), Some("Forbid" | "Replace"))
        });
        Some(Self { object: object.clone(), kind: row, purpose, purpose_reason, pod_sets, overlaps })
    }

    /// Whether the kind was unknown, and its pods found by their structure.
    #[must_use]
    pub const fn guessed(&self) -> bool {
        self.kind.is_none()
    }

    /// Whether it runs to an end.
    #[must_use]
    pub fn finishes(&self) -> bool {
        self.kind.is_some_and(|kind| kind.finishes || kind.overlap.is_some())
    }

    /// Every container of every pod.
    pub fn containers(&self) -> impl Iterator<Item = (&PodSet<'a>, &Container<'a>)> {
        self.pod_sets.iter().flat_map(|pods| pods.containers.iter().map(move |container| (pods, container)))
    }

    /// Accelerators of the whole workload at its largest.
    #[must_use]
    pub fn accelerators(&self) -> u64 {
        self.pod_sets.iter().map(PodSet::accelerators).fold(0, u64::saturating_add)
    }

    /// A field of the object.
    #[must_use]
    pub fn at(&self, path: &'a str) -> Field<'a> {
        self.object.at(path)
    }
}

/// Kinds of Kubernetes itself that hold no pods, and CRDs (whose schemas look like templates).
fn may_hold_pods(object: &Object<'_>) -> bool {
    !matches!(
        object.group(),
        "" | "apiextensions.k8s.io"
            | "rbac.authorization.k8s.io"
            | "admissionregistration.k8s.io"
            | "networking.k8s.io"
            | "policy"
            | "storage.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "resource.k8s.io"
            | "autoscaling"
            | "monitoring.coreos.com"
            | "kustomize.config.k8s.io"
            | "bedplate.dev"
            | "kyverno.io"
    )
}
