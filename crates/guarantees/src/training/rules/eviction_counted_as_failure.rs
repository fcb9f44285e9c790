use bedplate_model::{Edit, Field, Finding, Fix, Purpose, Workload};
use serde_json::json;

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training Jobs that count an eviction as a failure of the program: no
    /// `podFailurePolicy` that ignores `DisruptionTarget`.
    ///
    /// ## Why
    /// Each drained node uses up one of the six tries of `backoffLimit`. A long job on a busy
    /// cluster fails in the end though its program never did.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   template:
    ///     spec:
    ///       restartPolicy: Never
    ///       containers:
    ///         - {name: a, image: "docker.io/pytorch/pytorch:2.7.0", resources: {limits: {nvidia.com/gpu: 1}}}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   podFailurePolicy:
    ///     rules: [{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]
    ///   template:
    ///     spec:
    ///       restartPolicy: Never
    ///       containers:
    ///         - {name: a, image: "docker.io/pytorch/pytorch:2.7.0", resources: {limits: {nvidia.com/gpu: 1}}}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - KEP-3329 (retriable and non-retriable pod failures): needs `restartPolicy: Never`.
    "eviction-counted-as-failure", Training, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    if workload.purpose != Purpose::Training {
        return;
    }
    let jobs: Vec<Field<'_>> = match (workload.object.group(), workload.object.kind) {
        ("batch", "Job") => vec![workload.at("spec")],
        ("batch", "CronJob") => vec![workload.at("spec.jobTemplate.spec")],
        ("jobset.x-k8s.io", "JobSet") => {
            workload.at("spec.replicatedJobs").items().map(|job| job.at("template.spec")).collect()
        }
        _ => return,
    };
    for job in jobs {
        let policy = job.key("podFailurePolicy");
        let ignores = policy.key("rules").items().any(|rule| {
            rule.key("action").str() == Some("Ignore")
                && rule.key("onPodConditions").items().any(|c| c.key("type").str() == Some("DisruptionTarget"))
        });
        if ignores {
            continue;
        }
        let never = job.at("template.spec.restartPolicy").str() == Some("Never");
        let rule = json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]});
        let help = "add a `podFailurePolicy` that ignores `DisruptionTarget`";
        let finding = Finding::new(&policy, "an evicted pod uses up a try of this job as if its program had failed");
        out.push(match (never, policy.exists()) {
            (true, false) => {
                finding.fix(Fix::unsafe_(help, vec![Edit::Set(policy.key("rules").path(), json!([rule]))]))
            }
            (true, true) => finding.help(help),
            (false, _) => finding.help(format!("{help}; it needs `restartPolicy: Never` in the pod")),
        });
    }
}
