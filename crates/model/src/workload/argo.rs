//! How often an Argo template runs at the same time, where the workflow says it literally.
//!
//! Source: `argo-workflows/workflow/controller/{steps,dag,operator}.go`: the steps of one group
//! and the ready tasks of a DAG run together, `withItems` and `withSequence` multiply a step,
//! `parallelism` bounds a template's children or the whole workflow.

use super::count::Factor;
use super::pods::PodSet;
use crate::field::Field;
use crate::object::Object;

/// Calls are followed this deep; Argo templates may call themselves.
const MAX_DEPTH: usize = 16;
/// Larger counts are not told apart.
const MAX_COUNT: u64 = 1_000_000;

/// Sets the replicas of the pod sets, which stand in the order of the templates, and drops
/// templates that hold no container.
pub(super) fn multiply(object: &Object<'_>, out: &mut Vec<PodSet<'_>>) {
    let spec = if object.kind == "CronWorkflow" { object.at("spec.workflowSpec") } else { object.at("spec") };
    out.retain(|pods| !pods.containers.is_empty());
    let entry = spec.key("entrypoint");
    let Some(entrypoint) = entry.str() else { return };
    for pods in out {
        let name = pods.role.clone();
        let mut count = runs(&spec, entrypoint, &name, 0);
        let mut path = entry.path();
        let mut what = "runs at once";
        if let Some(limit) = spec.key("parallelism").u64()
            && limit < count
        {
            count = limit;
            path = spec.key("parallelism").path();
            what = "parallelism";
        }
        // A template that nothing calls runs only when it is named on the command line.
        pods.replicas.times(Factor { value: count.max(1), what: what.to_owned(), path });
    }
}

/// How often `wanted` runs at once when `caller` runs once.
fn runs(spec: &Field<'_>, caller: &str, wanted: &str, depth: usize) -> u64 {
    if caller == wanted {
        return 1;
    }
    if depth > MAX_DEPTH {
        return 0;
    }
    let templates = spec.key("templates");
    let Some(template) = templates.items().find(|t| t.key("name").str() == Some(caller)) else { return 0 };
    let call = |step: &Field<'_>| {
        let each = step.key("template").str().map_or(0, |callee| runs(spec, callee, wanted, depth + 1));
        each.saturating_mul(fan_out(step)).min(MAX_COUNT)
    };
    // Groups of steps run one after the other.
    let steps = template.key("steps").items().map(|group| group.items().map(|s| call(&s)).fold(0, u64::saturating_add));
    let steps = steps.max().unwrap_or(0);
    // Which tasks of a DAG meet depends on how long they take: all of them is the most.
    let tasks = template.at("dag.tasks").items().map(|task| call(&task)).fold(0, u64::saturating_add);
    let most = steps.max(tasks);
    template.key("parallelism").u64().map_or(most, |limit| most.min(limit))
}

fn fan_out(step: &Field<'_>) -> u64 {
    let items = step.key("withItems").items().len() as u64;
    if items > 0 {
        return items;
    }
    let sequence = step.key("withSequence");
    let number = |key: &'static str| sequence.key(key).u64();
    match (number("count"), number("start"), number("end")) {
        (Some(count), ..) => count,
        (None, start, Some(end)) => end.abs_diff(start.unwrap_or(0)) + 1,
        // `withParam` is known only when it runs.
        _ => 1,
    }
}
