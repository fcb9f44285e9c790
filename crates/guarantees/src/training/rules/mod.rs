//! The rules of `training`, one a file.

mod eviction_counted_as_failure;
mod grace_too_short;
mod no_durable_checkpoint;
mod restart_policy_loses_work;
mod spot_grace;

use bedplate_model::workload::PodSet;
use bedplate_model::{Purpose, Workload};

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[
    &grace_too_short::RULE,
    &no_durable_checkpoint::RULE,
    &restart_policy_loses_work::RULE,
    &eviction_counted_as_failure::RULE,
    &spot_grace::RULE,
];

/// The pods of a training workload whose fields are a PodSpec's.
fn training<'w, 'a>(workload: &'w Workload<'a>) -> impl Iterator<Item = &'w PodSet<'a>> {
    let training = workload.purpose == Purpose::Training;
    workload.pod_sets.iter().filter(move |pods| training && pods.has_pod_spec())
}

/// Whether the pods do the work: where some of the workload's pods have accelerators, those.
fn works(workload: &Workload<'_>, pods: &PodSet<'_>) -> bool {
    pods.accelerators_each() > 0 || workload.accelerators() == 0
}
