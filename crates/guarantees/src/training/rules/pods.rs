//! Questions that several rules of this guarantee ask of pods.

use bedplate_model::workload::{PodSet, Purpose, kinds::Shape};
use bedplate_model::{Field, Workload};

/// Pods that train, where the fields of a PodSpec can stand. Argo's templates have none of a
/// pod's termination; the submitter of a RayJob only waits.
pub(super) fn training<'w, 'a>(workload: &'w Workload<'a>) -> impl Iterator<Item = &'w PodSet<'a>> {
    let wanted = workload.purpose == Purpose::Training;
    workload.pod_sets.iter().filter(move |pods| {
        wanted && matches!(pods.shape, Shape::Template | Shape::PodSpec) && pods.role != "submitter"
    })
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
