//! The rules of `serving`, one a file.

mod drain_longer_than_grace;
mod liveness_kills_loading;
mod no_disruption_budget;
mod no_drain;
mod no_readiness;
mod prestop_needs_shell;
mod readiness_ignores_model;
mod rollout_loses_capacity;
mod single_replica;

use bedplate_model::workload::kinds::Shape;
use bedplate_model::workload::{Container, PodSet};
use bedplate_model::{Purpose, Workload};

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[
    &no_readiness::RULE,
    &readiness_ignores_model::RULE,
    &liveness_kills_loading::RULE,
    &no_drain::RULE,
    &drain_longer_than_grace::RULE,
    &prestop_needs_shell::RULE,
    &rollout_loses_capacity::RULE,
    &single_replica::RULE,
    &no_disruption_budget::RULE,
];

/// The pods of a server whose fields are a PodSpec's. Serving runtimes are no pods yet.
fn serving<'w, 'a>(workload: &'w Workload<'a>) -> impl Iterator<Item = &'w PodSet<'a>> {
    let serving = workload.purpose == Purpose::Serving && !workload.object.kind.ends_with("ServingRuntime");
    workload.pod_sets.iter().filter(move |pods| serving && matches!(pods.shape, Shape::Template | Shape::PodSpec))
}

/// The containers that answer requests: those with a port, or the only one.
fn servers<'w, 'a>(pods: &'w PodSet<'a>) -> impl Iterator<Item = &'w Container<'a>> {
    let only = pods.main_containers().count() == 1;
    pods.main_containers().filter(move |container| only || container.field.key("ports").items().len() > 0)
}

/// Seconds that a container's `preStop` waits, where it says so literally.
fn drain_seconds(container: &Container<'_>) -> Option<u64> {
    let hook = container.field.at("lifecycle.preStop");
    if let Some(seconds) = hook.at("sleep.seconds").u64() {
        return Some(seconds);
    }
    let command: Vec<_> = hook.at("exec.command").strings().collect();
    let line = command.join(" ");
    let after = line.split("sleep ").nth(1)?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Kinds of which the platform makes the rollout: one pod at a time behind a router.
fn rolls_out(workload: &Workload<'_>) -> bool {
    matches!(
        (workload.object.group(), workload.object.kind),
        ("apps" | "apps.kruise.io", "Deployment" | "StatefulSet" | "CloneSet")
    )
}
