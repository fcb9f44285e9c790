use bedplate_model::{Finding, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds hyper-parameter searches whose parallel trials together ask for more accelerators
    /// than a search may, and searches without an end.
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
    "unbounded-search", Admission, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !workload.object.is("kubeflow.org", "Experiment") {
        return;
    }
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
    if !most.exists() {
        out.push(
            Finding::new(&most, "this search never ends: `maxTrialCount` is not set").help("set `spec.maxTrialCount`"),
        );
    }
}
