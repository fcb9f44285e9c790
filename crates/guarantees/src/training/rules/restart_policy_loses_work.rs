use bedplate_model::{Edit, Finding, Fix, Purpose, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training jobs in which one lost pod ends the job: `restartPolicy: Never` of a
    /// Kubeflow role, or a Job with `backoffLimit: 0`.
    ///
    /// ## Why
    /// Over days some node is drained or fails. With `Never` the operator marks the whole job as
    /// failed, and all other workers with it; the checkpoint is there, but nobody resumes.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: train}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       restartPolicy: Never
    ///       template:
    ///         spec:
    ///           containers: [{name: pytorch, image: "docker.io/pytorch/pytorch:2.7.0"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: train}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       restartPolicy: ExitCode
    ///       template:
    ///         spec:
    ///           containers: [{name: pytorch, image: "docker.io/pytorch/pytorch:2.7.0"}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubeflow training-operator: with `ExitCode`, codes of 128 and more (SIGTERM is 143) are
    ///   tried again, 1 to 127 are permanent.
    "restart-policy-loses-work", Training, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    if workload.purpose != Purpose::Training {
        return;
    }
    if workload.object.group() == "kubeflow.org" && workload.object.kind != "Notebook" {
        for pods in &workload.pod_sets {
            // The role's policy stands beside its template, and wins over the pod's.
            let mut path = pods.owner.path();
            path.0.pop();
            let path = path.key("restartPolicy");
            let Some(node) = workload.object.root.node().and_then(|_| role_policy(workload, &path)) else { continue };
            if node == "Never" {
                out.push(
                    Finding::new(path.clone(), format!("one lost {} pod ends the whole job", pods.role))
                        .label("never started again")
                        .fix(Fix::unsafe_("set `restartPolicy: ExitCode`", vec![Edit::Set(path, "ExitCode".into())])),
                );
            }
        }
    }
    if workload.object.is("batch", "Job") {
        let limit = workload.at("spec.backoffLimit");
        if limit.u64() == Some(0) && !workload.at("spec.podFailurePolicy").exists() {
            out.push(
                Finding::new(&limit, "one lost pod ends the job: nothing is tried again")
                    .label("no second try")
                    .help("allow some tries, and tell evictions from failures with a `podFailurePolicy`"),
            );
        }
    }
}

/// The text at a path of the workload's document.
fn role_policy(workload: &Workload<'_>, path: &bedplate_model::FieldPath) -> Option<String> {
    let prefix = workload.object.root.path().0.len();
    let inner = bedplate_model::FieldPath(path.0.get(prefix..)?.to_vec());
    inner.find(workload.object.root.node()?)?.as_str().map(str::to_owned)
}
