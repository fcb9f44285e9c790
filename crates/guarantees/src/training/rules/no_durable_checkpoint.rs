use bedplate_model::{Confidence, Finding, Workload};

use super::{training, works};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training pods without a place that outlives them: no persistent volume and no
    /// object store in their environment or arguments.
    ///
    /// ## Why
    /// What is written into the container or an `emptyDir` is gone with the pod. After an
    /// eviction, a drained node or a reclaimed spot machine the training starts from step 0.
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
    ///           containers: [{name: pytorch, image: "docker.io/pytorch/pytorch:2.7.0"}]
    ///           volumes: [{name: checkpoints, emptyDir: {}}]
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
    ///           containers: [{name: pytorch, image: "docker.io/pytorch/pytorch:2.7.0"}]
    ///           volumes: [{name: checkpoints, persistentVolumeClaim: {claimName: checkpoints}}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubernetes, volumes: an `ephemeral` claim is deleted with its pod.
    "no-durable-checkpoint", Training, Warning, Medium, [Workload(check)]
}

/// Volumes that end with the pod, or hold no work.
const SHORT_LIVED: &[&str] =
    &["name", "emptyDir", "ephemeral", "configMap", "secret", "downwardAPI", "projected", "image", "gitRepo"];

/// Beginnings of addresses of stores outside the cluster.
const STORES: &[&str] =
    &["s3://", "gs://", "az://", "abfs://", "abfss://", "wasbs://", "hdfs://", "oss://", "tos://", "dbfs:/", "mlflow"];

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    // Volcano mounts the job's volumes into every pod; Argo has the workflow's.
    let shared = [
        "spec.volumes",
        "spec.volumeClaimTemplates",
        "spec.workflowSpec.volumes",
        "spec.workflowSpec.volumeClaimTemplates",
    ];
    let durable_shared = shared
        .iter()
        .flat_map(|path| workload.at(path).items())
        .any(|volume| volume.entries().any(|(key, _)| !SHORT_LIVED.contains(&key)));
    if durable_shared {
        return;
    }
    for pods in training(workload).filter(|pods| works(workload, pods)) {
        let volumes = pods.spec.key("volumes");
        let durable = volumes.items().any(|volume| volume.entries().any(|(key, _)| !SHORT_LIVED.contains(&key)));
        let store = pods.containers.iter().any(|container| {
            let env = container.field.key("env").items().filter_map(|entry| entry.key("value").str());
            container.command_line().into_iter().chain(env).any(|word| STORES.iter().any(|store| word.contains(store)))
        });
        // Settings may come from elsewhere.
        let hidden = pods.containers.iter().any(|container| container.field.key("envFrom").exists());
        if !durable && !store {
            let finding =
                Finding::new(&volumes, format!("a {} pod has no place for checkpoints that outlives it", pods.role))
                    .help("mount a persistentVolumeClaim for the checkpoints, or write them to an object store");
            out.push(if hidden { finding.confidence(Confidence::Low) } else { finding });
        }
    }
}
