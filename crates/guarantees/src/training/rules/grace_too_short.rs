use bedplate_model::workload::kinds::Shape;
use bedplate_model::{Edit, Finding, Fix, Workload};

use super::{training, works};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training pods that get less time between SIGTERM and SIGKILL than a save of their
    /// state needs.
    ///
    /// ## Why
    /// The default is 30 seconds. A model of 40 GB at 1 GB/s needs 40 only to be written: the
    /// save is cut off in the middle, and the job goes back to the one before, hours ago.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: train}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       template:
    ///         spec:
    ///           terminationGracePeriodSeconds: 30
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
    ///       template:
    ///         spec:
    ///           terminationGracePeriodSeconds: 300
    ///           containers: [{name: pytorch, image: "docker.io/pytorch/pytorch:2.7.0"}]
    /// ```
    ///
    /// ## Options
    /// `spec.training.graceSeconds`, 300.
    ///
    /// ## Sources
    /// - Kubernetes, pod termination: `preStop` counts inside the grace period.
    "grace-too-short", Training, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    let wanted = cx.settings.grace_seconds();
    for pods in training(workload).filter(|pods| works(workload, pods) && pods.grace_seconds() < wanted) {
        // Argo's templates have no such field; a patch in a string may set it.
        if pods.shape == Shape::ArgoTemplate {
            continue;
        }
        let field = pods.spec.key("terminationGracePeriodSeconds");
        let given = pods.grace_seconds();
        let why = if field.exists() { format!("{given} s are given") } else { format!("{given} s is the default") };
        out.push(
            Finding::new(
                &field,
                format!("a {} pod gets {given} s to save its state, {wanted} s are wanted", pods.role),
            )
            .label(why)
            .evidence(given, wanted)
            .fix(Fix::unsafe_(
                format!("set `terminationGracePeriodSeconds: {wanted}`"),
                vec![Edit::Set(field.path(), wanted.into())],
            )),
        );
    }
}
