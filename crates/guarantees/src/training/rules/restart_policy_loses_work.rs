use bedplate_model::workload::Purpose;
use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use super::pods;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training jobs that the first lost pod ends for good: a replica of a Kubeflow job
    /// with `restartPolicy: Never`, or a Job with `backoffLimit: 0`.
    ///
    /// ## Why
    /// Pods are lost for reasons that have nothing to do with the training: drained nodes, broken
    /// GPUs, preemption. A job that resumes from its checkpoint only needs to be started again,
    /// and these are not: someone finds out on Monday.
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
    ///       restartPolicy: Never
    ///       template:
    ///         spec:
    ///           containers: [{name: pytorch, image: docker.io/pytorch/pytorch:2.7.0}]
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
    ///           containers: [{name: pytorch, image: docker.io/pytorch/pytorch:2.7.0}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Policies and the defaults of each kind: training-operator v1, `pkg/apis/kubeflow.org/v1/*_types.go`.
    /// - `ExitCode` starts again after 128 to 255 (137 is SIGKILL, 143 SIGTERM) and gives up after 1 to 127, and
    ///   torchrun turns every code of a worker into 1: there, use `OnFailure`.
    /// - A JobSet starts all over as often as `failurePolicy.maxRestarts` says: JobSet, `api/jobset/v1alpha2`.
    "restart-policy-loses-work", Training, Warning, High, [Workload(check)]
}

/// Kubeflow's v1 kinds, and whether a missing policy means `Never`. MPIJob is not among them:
/// its workers only wait for the launcher, which is a Job of its own.
const KUBEFLOW: &[(&str, bool)] =
    &[("PyTorchJob", false), ("PaddleJob", false), ("TFJob", true), ("XGBoostJob", true), ("JAXJob", true)];

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    let object = &workload.object;
    if workload.purpose != Purpose::Training {
        return;
    }
    if object.group() == "kubeflow.org" && object.version() == "v1" {
        let Some((_, never)) = KUBEFLOW.iter().find(|(kind, _)| *kind == object.kind) else { return };
        let specs = object.at("spec").entries().filter(|(key, _)| key.ends_with("ReplicaSpecs"));
        for (role, spec) in specs.flat_map(|(_, specs)| specs.entries()) {
            let policy = spec.key("restartPolicy");
            let lost = if policy.exists() { policy.str() == Some("Never") } else { *never };
            if lost && spec.key("template").exists() {
                out.push(
                    Finding::new(
                        &policy,
                        format!("the job is over when a {role} pod is lost: its restartPolicy is Never"),
                    )
                    .label(if policy.exists() {
                        "never started again".to_owned()
                    } else {
                        format!("the default of a {}", object.kind)
                    })
                    .evidence("Never", "OnFailure or ExitCode")
                    .note(
                        "`ExitCode` starts again after a signal but not after an error; torchrun hides the difference.",
                    )
                    .fix(Fix::unsafe_(
                        "set `restartPolicy: OnFailure`",
                        vec![Edit::Set(policy.path(), json!("OnFailure"))],
                    )),
                );
            }
        }
        return;
    }
    // A JobSet that starts all over does so sooner if its jobs give up at once.
    if object.at("spec.failurePolicy.maxRestarts").u64().is_some_and(|restarts| restarts > 0) {
        return;
    }
    for job in pods::job_specs(workload) {
        let limit = job.key("backoffLimit");
        if limit.u64() == Some(0) && !pods::ignores_disruption(&job) {
            out.push(
                Finding::new(
                    &limit,
                    format!("the {} is over when one pod is lost, also when only its node was drained", object.kind),
                )
                .label("no second try")
                .evidence(0, "1 or more")
                .fix(Fix::unsafe_(
                    "set `backoffLimit: 3`, or keep 0 and let `podFailurePolicy` ignore `DisruptionTarget`",
                    vec![Edit::Set(limit.path(), json!(3))],
                )),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    fn kubeflow(kind: &str, specs: &str, policy: &str) -> String {
        format!(
            "apiVersion: kubeflow.org/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n  {specs}:\n    Worker:\n      {policy}\n      template:\n        spec:\n          containers: [{{name: a, image: x}}]\n"
        )
    }

    #[test]
    fn each_kinds_default_is_its_own() {
        assert_eq!(messages(&super::RULE, &kubeflow("TFJob", "tfReplicaSpecs", "replicas: 1")).len(), 1);
        assert_eq!(
            messages(&super::RULE, &kubeflow("PyTorchJob", "pytorchReplicaSpecs", "replicas: 1")),
            [] as [&str; 0]
        );
        assert_eq!(
            messages(&super::RULE, &kubeflow("TFJob", "tfReplicaSpecs", "restartPolicy: ExitCode")),
            [] as [&str; 0]
        );
        let text = fixed(&super::RULE, &kubeflow("JAXJob", "jaxReplicaSpecs", "restartPolicy: Never"));
        assert!(text.contains("restartPolicy: OnFailure"));
    }

    #[test]
    fn no_second_try_is_fine_where_evictions_do_not_count_or_a_jobset_starts_over() {
        let job = |more: &str| {
            format!(
                "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: a}}\nspec:\n  backoffLimit: 0\n  {more}\n  template:\n    spec: {{containers: [{{name: a, image: x, resources: {{limits: {{nvidia.com/gpu: 1}}}}}}]}}\n"
            )
        };
        assert_eq!(messages(&super::RULE, &job("completions: 1")).len(), 1);
        let ignore = "podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]}";
        assert_eq!(messages(&super::RULE, &job(ignore)), [] as [&str; 0]);
        let set = |more: &str| {
            format!(
                "apiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet\nmetadata: {{name: a}}\nspec:\n  {more}\n  replicatedJobs: [{{name: w, template: {{spec: {{backoffLimit: 0, template: {{spec: {{containers: [{{name: a, image: x}}]}}}}}}}}}}]\n"
            )
        };
        assert_eq!(messages(&super::RULE, &set("suspend: false")).len(), 1);
        assert_eq!(messages(&super::RULE, &set("failurePolicy: {maxRestarts: 3}")), [] as [&str; 0]);
    }
}
