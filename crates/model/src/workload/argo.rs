//! How often an Argo template runs at the same time, where the workflow says it literally.
//!
//! Source: `argo-workflows/workflow/controller/{steps,dag,operator}.go`: the steps of one group
//! and the ready tasks of a DAG run together, `withItems` and `withSequence` multiply a step,
//! `parallelism` bounds a template's children or the whole workflow.

use std::collections::HashMap;

use super::count::Factor;
use super::pods::{Container, PodSet};
use crate::field::Field;
use crate::object::Object;

/// Calls are followed this deep: they are followed on the stack.
const MAX_DEPTH: usize = 64;
/// Templates of one workflow whose runs are counted; the rest count once.
const MAX_TEMPLATES: usize = 500;
/// Larger counts are not told apart.
const MAX_COUNT: u64 = 1_000_000;

/// Sets the replicas of the pod sets, which stand in the order of the templates, and drops
/// templates that hold no container.
pub(super) fn multiply<'a>(object: &Object<'a>, out: &mut Vec<PodSet<'a>>) {
    let spec = if object.kind == "CronWorkflow" { object.at("spec.workflowSpec") } else { object.at("spec") };
    out.retain(|pods| !pods.containers.is_empty());
    for pods in out.iter_mut() {
        patch(pods, &spec.key("podSpecPatch"));
        let own = pods.spec.key("podSpecPatch");
        patch(pods, &own);
    }
    let entry = spec.key("entrypoint");
    let Some(entrypoint) = entry.str() else { return };
    let templates: HashMap<&str, Field<'_>> =
        spec.key("templates").items().filter_map(|template| Some((template.key("name").str()?, template))).collect();
    for pods in out.iter_mut().take(MAX_TEMPLATES) {
        let name = pods.role.clone();
        let mut count = Fan { templates: &templates, wanted: &name, known: HashMap::new() }.runs(entrypoint, 0);
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

/// Takes image and accelerators from a patch of the pod. The container of a template is called
/// `main` in the pod (`argo-workflows/workflow/common`, `MainContainerName`).
fn patch<'a>(pods: &mut PodSet<'a>, patch: &Field<'a>) {
    for patched in patch.key("containers").items() {
        let name = patched.key("name").str();
        let wanted = |container: &Container<'_>| match container.field.key("name").str() {
            own @ Some(_) if own == name => true,
            _ => name == Some("main") && matches!(&*container.field.last(), "container" | "script"),
        };
        for container in pods.containers.iter_mut().filter(|container| wanted(container)) {
            if patched.key("image").exists() {
                container.image = patched.key("image");
            }
            let Container { role, field, image, .. } = container.clone();
            let with = Container::new(role, field, patched.key("resources"), image);
            if !with.accelerators().is_empty() {
                *container = with;
            }
        }
    }
}

/// How often one template runs at once.
struct Fan<'t, 'a> {
    templates: &'t HashMap<&'a str, Field<'a>>,
    wanted: &'t str,
    /// Runs of `wanted` for one run of each caller. A caller is entered here as 0 before its
    /// calls are followed, so that a template that calls itself, which is a loop, ends.
    known: HashMap<&'a str, u64>,
}

impl<'a> Fan<'_, 'a> {
    /// How often `wanted` runs at once when `caller` runs once.
    fn runs(&mut self, caller: &'a str, depth: usize) -> u64 {
        if caller == self.wanted {
            return 1;
        }
        if let Some(known) = self.known.get(caller) {
            return *known;
        }
        let Some(template) = self.templates.get(caller).filter(|_| depth < MAX_DEPTH) else { return 0 };
        self.known.insert(caller, 0);
        let mut call = |step: &Field<'a>| {
            let each = step.key("template").str().map_or(0, |callee| self.runs(callee, depth + 1));
            each.saturating_mul(fan_out(step)).min(MAX_COUNT)
        };
        // Groups of steps run one after the other.
        let mut steps = 0;
        for group in template.key("steps").items() {
            steps = steps.max(group.items().map(|step| call(&step)).fold(0, u64::saturating_add));
        }
        // Which tasks of a DAG meet depends on how long they take: all of them is the most.
        let tasks = template.at("dag.tasks").items().map(|task| call(&task)).fold(0, u64::saturating_add);
        let most = steps.max(tasks);
        let count = template.key("parallelism").u64().map_or(most, |limit| most.min(limit));
        self.known.insert(caller, count);
        count
    }
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
        (None, start, Some(end)) => end.abs_diff(start.unwrap_or(0)).saturating_add(1),
        // `withParam` is known only when it runs.
        _ => 1,
    }
}
