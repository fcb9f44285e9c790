use std::collections::BTreeSet;

use bedplate_model::workload::PodSet;
use bedplate_model::{Confidence, Edit, Field, Finding, Fix, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds hyper-parameter searches whose parallel trials together ask for more accelerators
    /// than a search may, searches without an end, and Argo workflows that start a pod with
    /// accelerators for every item of a list that is known only when they run, without
    /// `parallelism`. Lists that stand in the file are counted by `gpu-ceiling`.
    ///
    /// ## Why
    /// A search multiplies: 20 trials at once with 4 GPUs each are 80 GPUs, and each trial is a
    /// job, its pods, its events. Without `maxTrialCount` it goes on until someone looks.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: kubeflow.org/v1beta1
    /// kind: Experiment
    /// metadata: {name: sweep}
    /// spec:
    ///   parallelTrialCount: 20
    ///   maxTrialCount: 100
    ///   trialTemplate:
    ///     trialSpec:
    ///       apiVersion: batch/v1
    ///       kind: Job
    ///       spec:
    ///         template:
    ///           spec:
    ///             containers:
    ///               - {name: a, image: "docker.io/pytorch/pytorch:2.7.0", resources: {limits: {nvidia.com/gpu: 4}}}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: kubeflow.org/v1beta1
    /// kind: Experiment
    /// metadata: {name: sweep}
    /// spec:
    ///   parallelTrialCount: 8
    ///   maxTrialCount: 100
    ///   trialTemplate:
    ///     trialSpec:
    ///       apiVersion: batch/v1
    ///       kind: Job
    ///       spec:
    ///         template:
    ///           spec:
    ///             containers:
    ///               - {name: a, image: "docker.io/pytorch/pytorch:2.7.0", resources: {limits: {nvidia.com/gpu: 4}}}
    /// ```
    ///
    /// ## Options
    /// `spec.admission.acceleratorsPerSearch`, 64.
    ///
    /// ## Sources
    /// - Katib, `pkg/apis/controller/experiments/v1beta1/experiment_types.go`: three trials at once by default.
    /// - Argo Workflows, `workflow/controller/operator.go`, `checkParallelism`.
    "unbounded-search", Admission, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    match (workload.object.group(), workload.object.kind) {
        ("kubeflow.org", "Experiment") => experiment(workload, cx, out),
        ("argoproj.io", "CronWorkflow") => workflow(workload, "spec.workflowSpec", cx, out),
        ("argoproj.io", _) => workflow(workload, "spec", cx, out),
        _ => {}
    }
}

fn experiment(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    let (total, ceiling) = (workload.accelerators(), cx.settings.accelerators_per_search());
    let parallel = workload.at("spec.parallelTrialCount");
    if total > ceiling {
        let mut finding = Finding::new(
            &parallel,
            format!("the trials of this search ask for {total} accelerators at once, the ceiling is {ceiling}"),
        )
        .evidence(total, ceiling)
        .help("run fewer trials at once, or raise `spec.admission.acceleratorsPerSearch` for this namespace");
        for pods in workload.pod_sets.iter().filter(|pods| pods.accelerators() > 0) {
            finding = finding.note(format!(
                "{}: {} x {} = {}",
                pods.role,
                pods.replicas.reckoning(),
                pods.accelerators_each(),
                pods.accelerators()
            ));
        }
        out.push(finding);
    }
    let most = workload.at("spec.maxTrialCount");
    // A grid has an end of its own (Katib's `SuggestionEndReached`).
    if most.exists() || workload.at("spec.algorithm.algorithmName").str() == Some("grid") {
        return;
    }
    let message = if workload.at("spec.objective.goal").exists() {
        "this search goes on until its goal is reached, which may be never: `maxTrialCount` is not set"
    } else {
        "this search never ends: `maxTrialCount` is not set"
    };
    out.push(Finding::new(&most, message).help("set `spec.maxTrialCount`"));
}

/// Steps and tasks that run once for each item of a list that is known only when the workflow
/// runs. A list that stands in the file is counted by `gpu-ceiling`.
fn workflow(workload: &Workload<'_>, spec: &'static str, cx: &Context<'_>, out: &mut Findings) {
    let spec = workload.at(spec);
    if spec.key("parallelism").exists() || workload.pod_sets.iter().all(|pods| pods.accelerators_each() == 0) {
        return;
    }
    for template in spec.key("templates").items() {
        let parallelism = template.key("parallelism");
        if parallelism.exists() {
            continue;
        }
        let steps = template.key("steps").items().flat_map(|group| group.items());
        for step in steps.chain(template.at("dag.tasks").items()) {
            let (Some(list), Some(callee)) = (open_list(&step), step.key("template").str()) else { continue };
            let each = accelerators_of(workload, &spec, callee);
            if each == 0 {
                continue;
            }
            let fits = (cx.settings.accelerators_per_job() / each).max(1);
            out.push(
                Finding::new(
                    &list,
                    format!(
                        "`{callee}` runs once for every item of a list that nobody knows yet, all at once, with {each} \
                         accelerators each"
                    ),
                )
                .label("as many as the list is long")
                // The controller may have a `parallelism` for every workflow (`workflowDefaults`).
                .confidence(Confidence::Medium)
                .fix(Fix::unsafe_(
                    format!("set `parallelism: {fits}` in this template, or for the whole workflow"),
                    vec![Edit::Set(parallelism.path(), fits.into())],
                )),
            );
        }
    }
}

/// The field that multiplies a step by a number that is not in the file.
fn open_list<'a>(step: &Field<'a>) -> Option<Field<'a>> {
    let list = step.key("withParam");
    if list.exists() {
        return Some(list);
    }
    let sequence = step.key("withSequence");
    ["count", "end"].map(|key| sequence.key(key)).into_iter().find(|number| number.exists() && number.u64().is_none())
}

/// The most accelerators of a pod that a template starts, itself or by the templates that it
/// calls. A semaphore or mutex on the way bounds what is behind it.
fn accelerators_of<'a>(workload: &Workload<'a>, spec: &Field<'a>, name: &'a str) -> u64 {
    let (mut most, mut open, mut seen) = (0, vec![name], BTreeSet::new());
    while let Some(name) = open.pop() {
        let template = spec.key("templates").items().find(|template| template.key("name").str() == Some(name));
        let Some(template) = template.filter(|template| !template.key("synchronization").exists()) else { continue };
        if !seen.insert(name) {
            continue;
        }
        let own = workload.pod_sets.iter().filter(|pods| pods.role == name).map(PodSet::accelerators_each);
        most = own.fold(most, u64::max);
        let steps = template.key("steps").items().flat_map(|group| group.items());
        let calls = steps.chain(template.at("dag.tasks").items());
        open.extend(calls.filter_map(|step| step.key("template").str()));
    }
    most
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    fn sweep(template: &str, fan_out: &str, train: &str) -> String {
        format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {{name: w}}\nspec:\n  entrypoint: sweep\n  templates:\n    - name: sweep\n{template}      dag:\n        tasks:\n          - name: each\n            template: one\n            {fan_out}\n    - name: one\n      steps: [[{{name: a, template: train}}, {{name: again, template: one}}]]\n    - name: train\n{train}      container: {{image: x, resources: {{limits: {{nvidia.com/gpu: 2}}}}}}\n"
        )
    }

    /// Somebody's script printed 900 lines, and 1800 GPUs were asked for.
    #[test]
    fn a_list_that_is_known_only_at_run_time_needs_a_bound() {
        for fan_out in
            ["withParam: \"{{tasks.list.outputs.result}}\"", "withSequence: {count: \"{{inputs.parameters.n}}\"}"]
        {
            let text = sweep("", fan_out, "");
            let expected =
                "`one` runs once for every item of a list that nobody knows yet, all at once, with 2 accelerators each";
            assert_eq!(messages(&super::RULE, &text), [expected], "{fan_out}");
            assert!(fixed(&super::RULE, &text).contains("parallelism: 4"), "8 accelerators a job, 2 each");
        }
    }

    #[test]
    fn what_is_bounded_by_something_is_left_alone() {
        let open = "withParam: \"{{tasks.list.outputs.result}}\"";
        for text in [
            sweep("      parallelism: 4\n", open, ""),
            sweep("", open, "").replace("  entrypoint", "  parallelism: 4\n  entrypoint"),
            sweep("", open, "      synchronization: {semaphore: {configMapKeyRef: {name: s, key: gpus}}}\n"),
            sweep("", open, "").replace("nvidia.com/gpu", "cpu"),
            sweep("", "withItems: [1, 2]", ""),
            sweep("", "withSequence: {count: \"4\"}", ""),
        ] {
            assert_eq!(messages(&super::RULE, &text), [] as [String; 0], "{text}");
        }
    }

    #[test]
    fn a_search_ends_by_its_count_or_its_grid() {
        let search = |spec: &str| {
            let text = format!(
                "apiVersion: kubeflow.org/v1beta1\nkind: Experiment\nmetadata: {{name: e}}\nspec: {{{spec}}}\n"
            );
            messages(&super::RULE, &text)
        };
        assert_eq!(search("parallelTrialCount: 3"), ["this search never ends: `maxTrialCount` is not set"]);
        assert_eq!(
            search("objective: {goal: 0.99}"),
            ["this search goes on until its goal is reached, which may be never: `maxTrialCount` is not set"]
        );
        assert_eq!(search("algorithm: {algorithmName: grid}"), [] as [String; 0]);
    }
}
