use bedplate_model::{Finding, Object};

use super::report::Report;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds trainings whose last checkpoint is so old that a failure now would cost many hours of accelerators.
    ///
    /// ## Why
    /// A clean notice is saved for, but a kernel panic, a GPU that falls off its bus and a reclaimed machine give none:
    /// everything since the last checkpoint is done again, on every accelerator of the job. Where saves fail, a full
    /// disk or an expired credential, training goes on and only the log tells.
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
    ///   step: 1200
    ///   savedAt: "2025-12-31T12:00:00Z"
    ///   stateBytes: 16106127360
    ///   saveSeconds: 9.5
    ///   pods: 4
    /// pod: {accelerators: 8, graceSeconds: 300}    # added by the audit
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
    ///   saveSeconds: 9.5
    ///   pods: 4
    /// pod: {accelerators: 8, graceSeconds: 300}
    /// ```
    ///
    /// ## Options
    /// `spec.training.acceleratorHoursAtRisk`, 16, also for single namespaces. What is younger than half an hour is never
    /// told: to save more often than that is the exception.
    ///
    /// ## Sources
    /// - The report is written by the Python package `bedplate` where its service account may
    ///   (`kubectl get checkpointreports --all-namespaces`); the audit adds the accelerators of the pod.
    /// - Large jobs fail often: one interruption in about 46,000 GPU hours (A. Dubey et al., "The Llama 3 Herd of
    ///   Models", 2024, section 3.3.4: 466 in 54 days of 16,384 GPUs).
    "checkpoint-at-risk", Training, Warning, High, [Object(check)]
}

/// Seconds that are never told of.
const YOUNG: u64 = 30 * 60;

fn check(object: &Object<'_>, cx: &Context<'_>, out: &mut Findings) {
    let Some(report) = Report::of(object) else { return };
    let (Some(age), Some(accelerators)) = (report.age(cx.now), report.accelerators()) else { return };
    let (hours, allowed) = (age.saturating_mul(accelerators) / 3600, cx.settings.accelerator_hours_at_risk());
    if age <= YOUNG || hours <= allowed {
        return;
    }
    let since = report.since();
    let never = since.last() == "startedAt";
    let span = if age < 36 * 3600 {
        format!("{} h {} min", age / 3600, age / 60 % 60)
    } else {
        format!("{} days {} h", age / 86_400, age / 3600 % 24)
    };
    let what = if never { "has saved nothing since its start" } else { "has saved nothing" };
    out.push(
        Finding::new(
            &since,
            format!(
                "this training {what} for {span}: a failure now costs {hours} hours of accelerators ({accelerators} of them)"
            ),
        )
        .label(if never { "no checkpoint yet" } else { "the last checkpoint" })
        .evidence(hours, allowed)
        .help("save more often (`every=`); where it does so already, its saves fail: the pod's log says why"),
    );
}

#[cfg(test)]
mod tests {
    use crate::testing::messages;

    fn report(saved: &str, pods: u32, pod: &str) -> String {
        format!(
            "apiVersion: bedplate.dev/v1alpha1\nkind: CheckpointReport\nmetadata: {{name: a-0, namespace: n}}\nspec: {{run: a, place: /c, startedAt: '2025-12-29T23:00:00Z', {saved} stateBytes: 1, saveSeconds: 1.5, pods: {pods}}}\n{pod}\n"
        )
    }

    const EIGHT: &str = "pod: {accelerators: 8, graceSeconds: 30}";

    #[test]
    fn hours_of_all_accelerators_count() {
        let two_hours = "savedAt: '2025-12-31T21:59:59Z', step: 7,";
        assert_eq!(messages(&super::RULE, &report(two_hours, 1, EIGHT)), [] as [&str; 0]);
        assert_eq!(
            messages(&super::RULE, &report(two_hours, 2, EIGHT)),
            [
                "this training has saved nothing for 2 h 0 min: a failure now costs 32 hours of accelerators (16 of them)"
            ]
        );
        let now = "savedAt: '2025-12-31T23:31:00Z', step: 7,";
        assert_eq!(messages(&super::RULE, &report(now, 512, EIGHT)), [] as [&str; 0]);
    }

    #[test]
    fn a_training_that_never_saved_is_told_since_its_start() {
        let told = messages(&super::RULE, &report("", 1, EIGHT));
        assert!(
            told[0].contains("has saved nothing since its start for 2 days 1 h: a failure now costs 392"),
            "{told:?}"
        );
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for (saved, pod) in [("", ""), ("savedAt: soon,", EIGHT), ("savedAt: '2026-01-02T00:00:00Z',", EIGHT)] {
            assert_eq!(messages(&super::RULE, &report(saved, 1, pod)), [] as [&str; 0], "{saved} {pod}");
        }
    }
}
