use bedplate_model::{Finding, Object};

use super::report::Report;
use crate::training::saves;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds trainings whose saves take longer than their pod is given between the notice and the kill.
    ///
    /// ## Why
    /// A drained node costs such a training everything since its last checkpoint, however well it listens: the last save
    /// is killed before it is durable. `grace-too-short` judges by a number that fits most; this one by what a save of
    /// this very training took.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: bedplate.dev/v1alpha1
    /// kind: CheckpointReport
    /// metadata: {name: pretrain-worker-0, namespace: research}
    /// spec:
    ///   run: pretrain
    ///   place: /mnt/ckpt/pretrain
    ///   startedAt: "2025-12-30T00:00:00Z"
    ///   step: 3900
    ///   savedAt: "2025-12-31T23:50:00Z"
    ///   stateBytes: 16106127360
    ///   saveSeconds: 95.4
    ///   pods: 4
    /// pod: {accelerators: 8, graceSeconds: 60}    # added by the audit
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: bedplate.dev/v1alpha1
    /// kind: CheckpointReport
    /// metadata: {name: pretrain-worker-0, namespace: research}
    /// spec:
    ///   run: pretrain
    ///   place: /mnt/ckpt/pretrain
    ///   startedAt: "2025-12-30T00:00:00Z"
    ///   step: 3900
    ///   savedAt: "2025-12-31T23:50:00Z"
    ///   stateBytes: 16106127360
    ///   saveSeconds: 95.4
    ///   pods: 4
    /// pod: {accelerators: 8, graceSeconds: 125}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - The report is written by the Python package `bedplate` where its service account may
    ///   (`kubectl get checkpointreports --all-namespaces`); the audit adds the grace of the pod.
    /// - The step that goes on, and what ends after the save, need some of the grace too: a fifth of it.
    "save-exceeds-grace", Training, Error, High, [Object(check)]
}

fn check(object: &Object<'_>, _: &Context<'_>, out: &mut Findings) {
    let Some(report) = Report::of(object) else { return };
    let (Some((field, save)), Some(grace)) = (report.save(), report.grace()) else { return };
    if saves::fits(save, grace) {
        return;
    }
    let needed = saves::grace_for(save);
    out.push(
        Finding::new(
            &field,
            format!("a save of this training takes {save:.0} s, and its pod is killed {grace} s after it is told to stop"),
        )
        .label("until it is durable")
        .evidence(grace, needed)
        .help(format!(
            "set `terminationGracePeriodSeconds: {needed}` in what makes the pod, or save to faster storage; `fixes: [grace-too-short]` in the profile sets it in the pods that come next"
        )),
    );
}

#[cfg(test)]
mod tests {
    use crate::testing::messages;

    #[test]
    fn a_fifth_of_the_grace_is_for_what_is_no_save() {
        let report = |save: &str, grace: &str| {
            format!(
                "apiVersion: bedplate.dev/v1alpha1\nkind: CheckpointReport\nmetadata: {{name: a-0}}\nspec: {{saveSeconds: {save}}}\npod: {{graceSeconds: {grace}}}\n"
            )
        };
        assert_eq!(messages(&super::RULE, &report("24", "30")), [] as [&str; 0]);
        assert_eq!(
            messages(&super::RULE, &report("24.1", "30")),
            ["a save of this training takes 24 s, and its pod is killed 30 s after it is told to stop"]
        );
        for (save, grace) in [(".nan", "30"), ("many", "30"), ("99", "~")] {
            assert_eq!(messages(&super::RULE, &report(save, grace)), [] as [&str; 0], "{save} {grace}");
        }
    }
}
