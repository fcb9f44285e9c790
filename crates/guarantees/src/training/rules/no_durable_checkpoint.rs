use bedplate_model::workload::Purpose;
use bedplate_model::{Field, Finding, Node, Value, Workload};

use super::pods;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training jobs with no place to save that outlives the pod: no volume but those that
    /// are deleted with it, and no object storage named anywhere.
    ///
    /// ## Why
    /// What is written into the container or an `emptyDir` goes with the pod. The job saves
    /// faithfully every hour, the node is drained in the third day, and it starts again at step 0.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: finetune, namespace: research}
    /// spec:
    ///   template:
    ///     spec:
    ///       restartPolicy: Never
    ///       containers:
    ///         - name: train
    ///           image: docker.io/pytorch/pytorch:2.7.0
    ///           args: [train.py, --out=/ckpt]
    ///           resources: {limits: {nvidia.com/gpu: 4}}
    ///           volumeMounts: [{name: ckpt, mountPath: /ckpt}]
    ///       volumes:
    ///         - {name: ckpt, emptyDir: {}}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: finetune, namespace: research}
    /// spec:
    ///   template:
    ///     spec:
    ///       restartPolicy: Never
    ///       containers:
    ///         - name: train
    ///           image: docker.io/pytorch/pytorch:2.7.0
    ///           args: [train.py, --out=/ckpt]
    ///           resources: {limits: {nvidia.com/gpu: 4}}
    ///           volumeMounts: [{name: ckpt, mountPath: /ckpt}]
    ///       volumes:
    ///         - {name: ckpt, persistentVolumeClaim: {claimName: finetune}}
    /// ```
    ///
    /// ## Options
    /// None. A job that is short enough to be run again needs an exemption, or the label
    /// `bedplate.dev/purpose: other`.
    ///
    /// ## Sources
    /// - What lives as long as the pod: Kubernetes, "Ephemeral Volumes".
    "no-durable-checkpoint", Training, Warning, Medium, [Workload(check)]
}

/// Volumes that are deleted with the pod, or that nothing can be saved in.
const GONE: &[&str] = &["emptyDir", "ephemeral", "configMap", "secret", "downwardAPI", "projected", "image", "gitRepo"];

/// Beginnings of addresses of storage outside the cluster.
const STORES: &[&str] = &[
    "s3://",
    "s3a://",
    "s3n://",
    "gs://",
    "gcs://",
    "abfs://",
    "abfss://",
    "wasb://",
    "wasbs://",
    "az://",
    "adl://",
    "azureml://",
    "hf://",
    "hdfs://",
    "oss://",
    "cos://",
    "cosn://",
    "obs://",
    "tos://",
    "bos://",
    "swift://",
    "oci://",
    "nfs://",
    "lakefs://",
    "minio://",
    "dbfs:/",
];

/// Words in the names of variables that say where to save.
const VARIABLES: &[&str] =
    &["BUCKET", "CHECKPOINT", "CKPT", "S3_", "GCS_", "OUTPUT_URI", "STORAGE_URI", "HF_HUB", "MINIO"];

/// Host paths that hold devices and memory, not files.
const NO_FILES: &[&str] = &["/dev", "/sys", "/proc", "/run", "/var/run"];

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    if workload.purpose != Purpose::Training || !keeps_state_in_pods(workload) {
        return;
    }
    let Some(first) = pods::training(workload).next() else { return };
    if pods::training(workload).any(|pods| durable(&pods.spec)) || workload.object.root.node().is_some_and(names_store)
    {
        return;
    }
    let volumes = first.spec.key("volumes");
    let temporary = volumes.items().find(|volume| volume.key("emptyDir").exists());
    let message = match &temporary {
        Some(volume) => format!(
            "whatever this {} saves is deleted with its pod: `{}` is an emptyDir, and no other place is named",
            workload.object.kind,
            volume.key("name").scalar().unwrap_or_default()
        ),
        None => format!(
            "whatever this {} saves is deleted with its pod: no volume and no storage outlives it",
            workload.object.kind
        ),
    };
    let place = temporary.map_or(volumes, |volume| volume.key("emptyDir"));
    out.push(
        Finding::new(&place, message)
            .label("gone with the pod")
            .help("mount a PersistentVolumeClaim and save there, or save to object storage"),
    );
}

/// Ray clusters take their storage with each job, runtimes from the TrainJob that uses them;
/// trials of a search are short, and many.
fn keeps_state_in_pods(workload: &Workload<'_>) -> bool {
    !matches!(
        (workload.object.group(), workload.object.kind),
        ("ray.io", "RayCluster") | ("trainer.kubeflow.org", _) | ("kubeflow.org", "Experiment")
    )
}

fn durable(spec: &Field<'_>) -> bool {
    let volumes = spec.key("volumes").items().any(|volume| {
        volume.entries().any(|(key, source)| match key {
            "name" => false,
            "hostPath" => {
                let path = source.key("path").str().unwrap_or_default();
                let under =
                    |dir: &&str| path.strip_prefix(*dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                !NO_FILES.iter().any(under)
            }
            "csi" => !source.key("driver").str().is_some_and(|driver| driver.contains("secrets-store")),
            _ => source.exists() && !GONE.contains(&key),
        })
    });
    volumes
        || spec.key("containers").items().any(|container| {
            container.key("env").items().any(|variable| {
                variable.key("name").str().is_some_and(|name| VARIABLES.iter().any(|word| name.contains(word)))
            })
            // Variables that come from elsewhere may name a bucket.
                || container.key("envFrom").items().len() > 0
        })
}

/// Whether any text of an object names storage outside the cluster, or a claim.
fn names_store(node: &Node<'_>) -> bool {
    match &node.value {
        // Few texts have what all of them have.
        Value::String(text) => text.contains(":/") && STORES.iter().any(|store| text.contains(store)),
        Value::Seq(items) => items.iter().any(names_store),
        // Volcano mounts claims for all tasks: `spec.volumes[].volumeClaimName`.
        Value::Map(entries) => entries.iter().any(|entry| {
            matches!(&*entry.key, "volumeClaimName" | "volumeClaim" | "volumeClaimTemplates")
                || names_store(&entry.value)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::messages;

    fn with(volume: &str, more: &str) -> String {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: a}}\nspec:\n  template:\n    spec:\n      containers: [{{name: a, image: x, resources: {{limits: {{nvidia.com/gpu: 1}}}}{more}}}]\n      volumes: [{{name: v, {volume}}}]\n"
        )
    }

    #[test]
    fn what_outlives_the_pod_is_told_from_what_does_not() {
        for gone in
            ["emptyDir: {medium: Memory}", "hostPath: {path: /dev/shm}", "configMap: {name: a}", "ephemeral: {}"]
        {
            assert_eq!(messages(&super::RULE, &with(gone, "")).len(), 1, "{gone}");
        }
        for stays in [
            "nfs: {server: a, path: /}",
            "hostPath: {path: /mnt/ckpt}",
            "csi: {driver: x}",
            "persistentVolumeClaim: {claimName: a}",
        ] {
            assert_eq!(messages(&super::RULE, &with(stays, "")), [] as [&str; 0], "{stays}");
        }
    }

    #[test]
    fn a_bucket_is_a_place_however_it_is_named() {
        for more in [
            ", args: ['--out=s3://bucket/run']",
            ", env: [{name: CHECKPOINT_DIR, valueFrom: {secretKeyRef: {name: a, key: b}}}]",
            ", envFrom: [{configMapRef: {name: a}}]",
        ] {
            assert_eq!(messages(&super::RULE, &with("emptyDir: {}", more)), [] as [&str; 0], "{more}");
        }
    }
}
