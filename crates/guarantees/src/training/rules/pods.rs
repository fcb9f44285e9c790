//! Questions that several rules of this guarantee ask of pods.

use std::fmt;

use bedplate_model::workload::{PodSet, Purpose, kinds::Shape};
use bedplate_model::{Field, Workload};

use crate::Context;
use crate::training::saves;

/// Pods that train, where the fields of a PodSpec can stand. Argo's templates have none of a
/// pod's termination; the submitter of a RayJob only waits.
pub(super) fn training<'w, 'a>(workload: &'w Workload<'a>) -> impl Iterator<Item = &'w PodSet<'a>> {
    let wanted = workload.purpose == Purpose::Training;
    workload.pod_sets.iter().filter(move |pods| {
        wanted && matches!(pods.shape, Shape::Template | Shape::PodSpec) && pods.role != "submitter"
    })
}

/// Seconds that saving a state takes: what a training of the same maker has told, or what the profile says.
pub(super) enum Saving {
    Measured(f64),
    Assumed(u64),
}

impl Saving {
    pub(super) fn of(workload: &Workload<'_>, cx: &Context<'_>) -> Self {
        match cx.neighbours.saves.seconds(&workload.object) {
            Some(seconds) => Self::Measured(seconds),
            None => Self::Assumed(cx.settings.grace_seconds()),
        }
    }

    /// Whether it fits into so many seconds.
    pub(super) fn fits(&self, seconds: u64) -> bool {
        match self {
            Self::Measured(save) => saves::fits(*save, seconds),
            Self::Assumed(needed) => *needed <= seconds,
        }
    }

    /// The grace that is needed for it, in seconds.
    pub(super) fn grace(&self) -> u64 {
        match self {
            Self::Measured(save) => saves::grace_for(*save),
            Self::Assumed(needed) => *needed,
        }
    }
}

/// `saving its state …`
impl fmt::Display for Saving {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured(save) => write!(out, "took {save:.0} s"),
            Self::Assumed(needed) => write!(out, "takes up to {needed} s"),
        }
    }
}

/// The specs of the `batch/v1` Jobs that an object is or makes.
pub(super) fn job_specs<'a>(workload: &Workload<'a>) -> Vec<Field<'a>> {
    let object = &workload.object;
    match (object.group(), object.kind) {
        ("batch", "Job") => vec![object.at("spec")],
        ("batch", "CronJob") => vec![object.at("spec.jobTemplate.spec")],
        ("jobset.x-k8s.io", "JobSet") => {
            object.at("spec.replicatedJobs").items().map(|job| job.at("template.spec")).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a Job leaves evictions uncounted: a rule of its `podFailurePolicy` ignores
/// `DisruptionTarget`.
pub(super) fn ignores_disruption(job: &Field<'_>) -> bool {
    job.at("podFailurePolicy.rules").items().any(|rule| {
        rule.key("action").str() == Some("Ignore")
            && rule
                .key("onPodConditions")
                .items()
                .any(|condition| condition.key("type").str() == Some("DisruptionTarget"))
    })
}
