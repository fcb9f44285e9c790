use bedplate_model::workload::Purpose;
use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use super::pods;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training Jobs that count an evicted pod as a failed one.
    ///
    /// ## Why
    /// Drains, preemption and spot nodes evict pods that did nothing wrong. Each eviction uses
    /// up one of the retries of `backoffLimit`, 6 where nothing is written, and after the last a
    /// healthy run of weeks is marked as failed.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: finetune, namespace: research}
    /// spec:
    ///   template:
    ///     spec:
    ///       restartPolicy: OnFailure
    ///       containers:
    ///         - name: train
    ///           image: docker.io/pytorch/pytorch:2.7.0
    ///           resources: {limits: {nvidia.com/gpu: 4}}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: finetune, namespace: research}
    /// spec:
    ///   podFailurePolicy:
    ///     rules:
    ///       - action: Ignore
    ///         onPodConditions: [{type: DisruptionTarget}]
    ///   template:
    ///     spec:
    ///       restartPolicy: Never
    ///       containers:
    ///         - name: train
    ///           image: docker.io/pytorch/pytorch:2.7.0
    ///           resources: {limits: {nvidia.com/gpu: 4}}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Pod failure policy, stable from Kubernetes 1.31, needs `restartPolicy: Never`: KEP-3329; Kubernetes, "Jobs".
    "eviction-counted-as-failure", Training, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    if workload.purpose != Purpose::Training {
        return;
    }
    for job in pods::job_specs(workload) {
        let limit = job.key("backoffLimit");
        // A limit of 0 is what `restart-policy-loses-work` is about.
        if !job.exists()
            || limit.exists() && limit.u64().is_none_or(|limit| limit == 0)
            || pods::ignores_disruption(&job)
        {
            continue;
        }
        let limit = limit.u64().unwrap_or(6);
        let policy = job.key("podFailurePolicy");
        let finding = Finding::new(
            &policy,
            format!(
                "a drained node counts as a failure of this {}, and {} of them end it",
                workload.object.kind,
                limit.saturating_add(1)
            ),
        )
        .label("evictions are counted")
        .evidence("counted", "ignored");
        let restart = job.at("template.spec.restartPolicy");
        let rule = json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]});
        out.push(if policy.exists() {
            // The first rule that fits decides, and we cannot put one in front.
            finding.help("add as the first rule: `{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}`")
        } else {
            let mut edits = vec![Edit::Set(policy.path(), json!({"rules": [rule]}))];
            let mut help = "add a `podFailurePolicy` that ignores `DisruptionTarget`".to_owned();
            if restart.str() != Some("Never") {
                edits.push(Edit::Set(restart.path(), json!("Never")));
                help.push_str(", which needs `restartPolicy: Never`: the Job then makes a new pod after a failure");
            }
            finding.fix(Fix::unsafe_(help, edits))
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    const JOB: &str = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: a}\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          restartPolicy: OnFailure\n          containers:\n          - name: a\n            image: x\n            resources: {limits: {nvidia.com/gpu: 1}}\n";

    #[test]
    fn the_jobs_of_a_cron_job_are_jobs_too() {
        assert_eq!(
            messages(&super::RULE, JOB),
            ["a drained node counts as a failure of this CronJob, and 7 of them end it"]
        );
        let text = fixed(&super::RULE, JOB);
        assert!(text.contains("DisruptionTarget") && text.contains("restartPolicy: Never"), "{text}");
    }

    #[test]
    fn a_job_that_trains_nothing_is_not_asked() {
        let text = JOB.replace("nvidia.com/gpu", "cpu");
        assert_eq!(messages(&super::RULE, &text), [] as [&str; 0]);
    }
}
