use bedplate_model::workload::kinds::Kind;
use bedplate_model::{Edit, Finding, Fix, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds jobs that stay in the cluster for ever once they have ended: no TTL and no other
    /// clean-up. What runs on a schedule, or as a hook of Helm or Argo CD, is cleaned up by those.
    ///
    /// ## Why
    /// A team that starts a thousand jobs a day leaves a thousand jobs and their pods a day in
    /// etcd. Every list of every controller reads them all; at 8 GB etcd takes no more writes
    /// and the whole cluster stands still.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers: [{name: a, image: "docker.io/pytorch/pytorch:2.7.0"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   ttlSecondsAfterFinished: 86400
    ///   template:
    ///     spec:
    ///       containers: [{name: a, image: "docker.io/pytorch/pytorch:2.7.0"}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubernetes, TTL after finished (`ttlSecondsAfterFinished`); each operator's API types.
    /// - Argo Workflows, `workflow/cron/operator.go`, `enforceHistoryLimit`: 3 and 1 by default.
    /// - KubeRay, `ray-operator/controllers/ray/utils/validation.go`.
    "finished-jobs-kept", Admission, Warning, High, [Workload(check)]
}

/// Annotations of objects that Helm and Argo CD delete before they make them anew, where
/// nothing else is said.
const HOOKS: &[&str] = &["helm.sh/hook", "argocd.argoproj.io/hook"];

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    // What runs on a schedule keeps a few runs by itself (`successfulJobsHistoryLimit` and the
    // like have defaults in CronJob, CronWorkflow and ScheduledSparkApplication).
    let own = |kind: &&Kind| kind.finishes && kind.overlap.is_none();
    let Some(kind) = workload.kind.filter(own) else { return };
    let Some(first) = kind.cleanup.first() else { return };
    let object = &workload.object;
    if workload.at("metadata.ownerReferences").exists() || HOOKS.iter().any(|hook| object.annotation(hook).exists()) {
        return;
    }
    if object.is("ray.io", "RayJob") {
        ray_job(workload, first, out);
        return;
    }
    if kind.cleanup.iter().any(|path| workload.at(path).exists()) {
        return;
    }
    let ttl = workload.at(first);
    let finding =
        Finding::new(object.name_path(), format!("this {} stays in etcd for ever once it has ended", object.kind));
    let help = format!("set `{first}`");
    let edit = Edit::Set(ttl.path(), 86_400.into());
    out.push(if ttl.last().to_ascii_lowercase().contains("seconds") {
        finding.fix(Fix::unsafe_(format!("{help}: 86400 (a day)"), vec![edit]))
    } else {
        finding.help(help)
    });
}

/// A RayJob's cluster outlives it unless `shutdownAfterJobFinishes` is set; a TTL without that
/// is refused (KubeRay, `ray-operator/controllers/ray/utils/validation.go`).
fn ray_job(workload: &Workload<'_>, shutdown: &'static str, out: &mut Findings) {
    let field = workload.at(shutdown);
    // A cluster that was chosen by labels is not the job's to delete.
    let elsewhere = ["spec.clusterSelector", "spec.deletionStrategy"].iter().any(|path| workload.at(path).exists());
    let off = !field.exists() || field.bool() == Some(false);
    if elsewhere || !off {
        return;
    }
    out.push(
        Finding::new(
            if field.exists() { field.path() } else { workload.object.name_path() },
            "the cluster of this RayJob goes on running, accelerators and all, once the job has ended",
        )
        .fix(Fix::unsafe_(format!("set `{shutdown}: true`"), vec![Edit::Set(field.path(), true.into())])),
    );
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    #[test]
    fn a_ray_cluster_that_outlives_its_job_holds_its_gpus() {
        let job = |more: &str| {
            format!(
                "apiVersion: ray.io/v1\nkind: RayJob\nmetadata: {{name: r}}\nspec: {{entrypoint: x, {more}rayClusterSpec: {{headGroupSpec: {{template: {{spec: {{containers: [{{name: a, image: x}}]}}}}}}}}}}\n"
            )
        };
        let outlives = ["the cluster of this RayJob goes on running, accelerators and all, once the job has ended"];
        for more in ["", "shutdownAfterJobFinishes: false, ", "ttlSecondsAfterFinished: 60, "] {
            assert_eq!(messages(&super::RULE, &job(more)), outlives, "{more}");
            fixed(&super::RULE, &job(more));
        }
        for more in ["shutdownAfterJobFinishes: true, ", "clusterSelector: {ray.io/cluster: shared}, "] {
            assert_eq!(messages(&super::RULE, &job(more)), [] as [String; 0], "{more}");
        }
    }

    #[test]
    fn what_something_else_cleans_up_is_left_alone() {
        let pod = "spec: {containers: [{name: a, image: x}]}";
        for text in [
            // The history limits of a schedule have defaults.
            "apiVersion: argoproj.io/v1alpha1\nkind: CronWorkflow\nmetadata: {name: c}\nspec: {schedule: \"0 3 * * *\", workflowSpec: {entrypoint: a, templates: [{name: a, container: {image: x}}]}}\n".to_owned(),
            "apiVersion: sparkoperator.k8s.io/v1beta2\nkind: ScheduledSparkApplication\nmetadata: {name: s}\nspec: {schedule: \"@daily\", template: {driver: {cores: 1}, executor: {instances: 1}}}\n".to_owned(),
            format!("apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: c}}\nspec: {{schedule: \"@daily\", jobTemplate: {{spec: {{template: {{{pod}}}}}}}}}\n"),
            format!("apiVersion: batch/v1\nkind: Job\nmetadata: {{name: migrate, annotations: {{helm.sh/hook: pre-upgrade}}}}\nspec: {{template: {{{pod}}}}}\n"),
            format!("apiVersion: batch/v1\nkind: Job\nmetadata: {{name: c-1, ownerReferences: [{{kind: CronJob, name: c}}]}}\nspec: {{template: {{{pod}}}}}\n"),
        ] {
            assert_eq!(messages(&super::RULE, &text), [] as [String; 0], "{text}");
        }
    }
}
