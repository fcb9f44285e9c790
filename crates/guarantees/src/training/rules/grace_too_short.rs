use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use super::pods::{self, Saving};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training pods whose grace period is shorter than the time that saving their state takes.
    ///
    /// ## Why
    /// A drained node, a preempted job or a scaled-down cluster sends SIGTERM, and SIGKILL when the
    /// grace period is over: 30 seconds where nothing is written. A checkpoint of a large model is not on
    /// disk by then, and everything since the last periodic one is lost, on every rank.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: pretrain, namespace: research}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       replicas: 2
    ///       restartPolicy: OnFailure
    ///       template:
    ///         spec:
    ///           containers:
    ///             - name: pytorch
    ///               image: docker.io/pytorch/pytorch:2.7.0
    ///               resources: {limits: {nvidia.com/gpu: 4}}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: pretrain, namespace: research}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       replicas: 2
    ///       restartPolicy: OnFailure
    ///       template:
    ///         spec:
    ///           terminationGracePeriodSeconds: 300
    ///           containers:
    ///             - name: pytorch
    ///               image: docker.io/pytorch/pytorch:2.7.0
    ///               resources: {limits: {nvidia.com/gpu: 4}}
    /// ```
    ///
    /// ## Options
    /// `spec.training.graceSeconds`, 300, also for single namespaces. On a cluster where trainings tell of their
    /// checkpoints (`checkpoint-at-risk`), what a save took counts instead, for the pods and the job that are made
    /// next under the same name. (Of pods that Kubernetes' own controllers make no webhook is asked: there it is the Job
    /// or StatefulSet.)
    ///
    /// ## Sources
    /// - The default of 30: Kubernetes, `core/v1` PodSpec, `terminationGracePeriodSeconds`.
    /// - torchrun kills its workers 30 seconds after SIGTERM whatever the pod's grace period is: pytorch/pytorch#119856.
    "grace-too-short", Training, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    let saving = Saving::of(workload, cx);
    let needed = saving.grace();
    for pods in pods::training(workload) {
        let grace = pods.grace_seconds();
        let field = pods.spec.key("terminationGracePeriodSeconds");
        if saving.fits(grace) || field.exists() && field.u64().is_none() {
            continue;
        }
        let mut finding = Finding::new(
            &field,
            format!("a {} is killed {grace} s after it is told to stop, and saving its state {saving}", pod_of(&pods.role)),
        )
        .label(if field.exists() { format!("{grace} s") } else { "no `terminationGracePeriodSeconds`: 30 s".to_owned() })
        .evidence(grace, needed)
        .fix(Fix::unsafe_(
            match saving {
                Saving::Measured(_) => format!("set `terminationGracePeriodSeconds: {needed}`"),
                Saving::Assumed(_) => format!(
                    "set `terminationGracePeriodSeconds: {needed}`, or `spec.training.graceSeconds` to what a save really takes"
                ),
            },
            vec![Edit::Set(field.path(), json!(needed))],
        ));
        // Whatever the pod allows, torchrun has a deadline of its own.
        let torchrun = |word: &str| word.contains("torchrun") || word.contains("torch.distributed.run");
        if pods.main_containers().any(|container| container.command_line().into_iter().any(torchrun)) {
            finding = finding.note(
                "torchrun kills its workers 30 s after SIGTERM by itself; from torch 2.12 `--shutdown-timeout` changes that.",
            );
        }
        out.push(finding);
    }
}

/// `Worker pod`, but `pod` and `trial / pod` as they are.
fn pod_of(role: &str) -> String {
    if role.ends_with("pod") { role.to_owned() } else { format!("{role} pod") }
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, found, messages};

    #[test]
    fn every_role_of_a_job_is_told_and_mended() {
        let text = "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata: {name: a}\nspec:\n  pytorchReplicaSpecs:\n    Master:\n      template:\n        spec:\n          terminationGracePeriodSeconds: 60\n          containers:\n          - {name: pytorch, image: x, command: [torchrun, a.py]}\n    Worker:\n      template:\n        spec:\n          containers: [{name: pytorch, image: x}]\n";
        let all = found(&super::RULE, text);
        assert_eq!(all.len(), 2);
        assert!(all[0].message.contains("killed 60 s after") && all[0].notes[0].starts_with("torchrun"));
        assert_eq!(fixed(&super::RULE, text).matches("terminationGracePeriodSeconds: 300").count(), 2);
    }

    #[test]
    fn servers_and_filled_in_values_are_left_alone() {
        let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec:\n  template:\n    spec:\n      terminationGracePeriodSeconds: ${GRACE}\n      containers: [{name: a, image: x, resources: {limits: {nvidia.com/gpu: 1}}}]\n";
        assert_eq!(messages(&super::RULE, job), [] as [&str; 0]);
        let web = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: a, image: vllm/vllm-openai:v0.9.1}]}}}\n";
        assert_eq!(messages(&super::RULE, web), [] as [&str; 0]);
    }
}
