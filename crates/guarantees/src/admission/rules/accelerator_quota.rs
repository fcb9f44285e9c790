use bedplate_model::workload::{Ask, AskId};
use bedplate_model::{Finding, Workload};

use crate::admission::demand::Sum;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Counts what the unfinished workloads of a namespace, or of a queue, ask for together, and finds the one with which
    /// it becomes too much: accelerators, and trials that run at once. Suspended and waiting workloads count; what has
    /// finished does not, nor what another workload makes, nor a schedule before its time.
    ///
    /// ## Why
    /// A ceiling for one job does not hold a loop that starts fifty of them. A ResourceQuota counts pods: fifty jobs are
    /// taken, their pods are refused one by one, and half of each gang holds its GPUs while it waits for the other half.
    /// Here the fifty-first job is refused, whole, with the reason.
    ///
    /// ## Example
    /// With 56 asked for already, or by itself:
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: sweep-51}
    /// spec:
    ///   parallelism: 20
    ///   template:
    ///     spec:
    ///       containers:
    ///         - {name: a, image: "docker.io/pytorch/pytorch:2.7.0", resources: {limits: {nvidia.com/gpu: 4}}}
    /// ```
    /// ```yaml bedplate.yaml
    /// apiVersion: bedplate.dev/v1alpha1
    /// kind: StabilityProfile
    /// spec:
    ///   admission: {acceleratorsPerJob: 32, acceleratorsPerNamespace: 64}
    /// ```
    ///
    /// ## Use instead
    /// Fewer at once, or a queue that starts them when there is room (Kueue).
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: sweep-51}
    /// spec:
    ///   parallelism: 2
    ///   template:
    ///     spec:
    ///       containers:
    ///         - {name: a, image: "docker.io/pytorch/pytorch:2.7.0", resources: {limits: {nvidia.com/gpu: 4}}}
    /// ```
    /// ```yaml bedplate.yaml
    /// apiVersion: bedplate.dev/v1alpha1
    /// kind: StabilityProfile
    /// spec:
    ///   admission: {acceleratorsPerJob: 32, acceleratorsPerNamespace: 64}
    /// ```
    ///
    /// ## Options
    /// `spec.admission.acceleratorsPerNamespace`, `spec.admission.acceleratorsPerQueue`, `spec.admission.trialsPerNamespace`:
    /// no limit unless set, and each may differ by namespace. On a cluster the operator counts: `bedplate serve`. Each of
    /// its replicas counts for itself, so that requests that reach different ones in the same moment can exceed a limit
    /// by one workload. Pods that nobody owns are not counted (`acceleratorsPerPod` bounds them). In files, a workload is
    /// held against the limit alone.
    ///
    /// ## Sources
    /// - Queues: Kueue, `kueue.x-k8s.io/queue-name`; KAI, `kai.scheduler/queue`; YuniKorn, `yunikorn.apache.org/queue`;
    ///   Volcano, `spec.queue` and `scheduling.volcano.sh/queue-name`.
    /// - Katib, `pkg/apis/controller/experiments/v1beta1/experiment_types.go`: three trials at once by default.
    "accelerator-quota", Admission, Error, High, [Workload(check)]
}

/// The largest others that are named.
const NAMED: usize = 3;

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !cx.settings.counts() {
        return;
    }
    let Some(ask) = Ask::of(workload) else { return };
    let admission = &cx.settings.admission;
    let demand = &cx.neighbours.demand;
    let (namespace, kind) = (&ask.id.namespace, &ask.id.kind);
    let mut judge = |whose: String, option: &str, others: Sum, limit: Option<u64>, in_it: &dyn Fn(&Ask) -> bool| {
        let Some(limit) = limit else { return };
        let total = others.accelerators.saturating_add(ask.accelerators);
        if ask.accelerators == 0 || total <= limit {
            return;
        }
        let message = format!(
            "{whose} would ask for {total} accelerators together, its quota is {limit}: {} of others, {} of this {kind}",
            others.accelerators, ask.accelerators
        );
        let mut finding = Finding::new(workload.object.name_path(), message).evidence(total, limit).help(format!(
            "wait until others have finished, ask for fewer, or raise `spec.admission.{option}` for this namespace"
        ));
        for (AskId { kind, namespace, name, .. }, accelerators) in
            demand.largest(|other| other.id != ask.id && in_it(other), NAMED)
        {
            finding = finding.note(format!("{kind} {namespace}/{name}: {accelerators}"));
        }
        if let Some(more) = others.workloads.checked_sub(NAMED as u64).filter(|more| *more > 0) {
            finding = finding.note(format!("and {more} more"));
        }
        out.push(finding);
    };
    let others = demand.others_of_namespace(&ask.id);
    judge(
        if namespace.is_empty() { "this namespace".to_owned() } else { format!("the namespace {namespace}") },
        "acceleratorsPerNamespace",
        others,
        admission.accelerators_per_namespace,
        &|other| other.id.namespace == *namespace,
    );
    if let Some(queue) = &ask.queue {
        judge(
            format!("the queue {}", queue.name),
            "acceleratorsPerQueue",
            demand.others_of_queue(queue, &ask.id),
            admission.accelerators_per_queue,
            &|other| other.queue.as_ref() == Some(queue),
        );
    }
    let trials = others.trials.saturating_add(ask.trials);
    if let Some(limit) = admission.trials_per_namespace.filter(|limit| ask.trials > 0 && trials > *limit) {
        out.push(
            Finding::new(
                workload.at("spec.parallelTrialCount").path(),
                format!(
                    "the searches of this namespace would run {trials} trials at once, the limit is {limit}: {} of others, {} of this one",
                    others.trials, ask.trials
                ),
            )
            .evidence(trials, limit)
            .help("run fewer trials at once, or raise `spec.admission.trialsPerNamespace` for this namespace"),
        );
    }
}

#[cfg(test)]
mod tests {
    use bedplate_model::workload::{Ask, AskId, Queue};
    use bedplate_model::{Node, Object, Profile};
    use serde_json::{Value, json};

    use crate::Neighbours;
    use crate::check::{Run, object_findings};

    fn messages(object: &Value, admission: &Value, others: &[(&str, Option<&str>, u64)]) -> Vec<String> {
        let profile = json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": "StabilityProfile", "spec": { "admission": admission } });
        let profile = Profile::parse(&profile.to_string(), &crate::names()).unwrap();
        let neighbours = Neighbours::default();
        for (index, (namespace, queue, accelerators)) in others.iter().enumerate() {
            neighbours.demand.set(Ask {
                id: AskId {
                    group: "batch".into(),
                    kind: "Job".into(),
                    namespace: (*namespace).into(),
                    name: format!("j{index}"),
                },
                queue: queue.map(|name| Queue { namespace: String::new(), name: name.into() }),
                accelerators: *accelerators,
                trials: *accelerators,
            });
        }
        let run = Run { profile: &profile, neighbours: &neighbours, now: "2026-01-01" };
        let node = Node::from_json(object);
        let found = object_findings(&Object::of_node(&node).unwrap(), run);
        found.into_iter().filter(|finding| finding.rule == super::RULE.name).map(|finding| finding.message).collect()
    }

    fn job(queue: &str) -> Value {
        json!({ "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": "mine", "namespace": "team", "labels": { "kai.scheduler/queue": queue } },
            "spec": { "parallelism": 2, "template": { "spec": { "containers": [
                { "name": "a", "resources": { "limits": { "nvidia.com/gpu": 4 } } }] } } } })
    }

    /// A loop started fifty jobs, each of them small enough.
    #[test]
    fn the_job_with_which_it_becomes_too_much_is_found() {
        let limit = json!({ "acceleratorsPerNamespace": 64 });
        let others = [("team", None, 40), ("team", None, 17), ("elsewhere", None, 1000)];
        assert_eq!(
            messages(&job("q"), &limit, &others),
            ["the namespace team would ask for 65 accelerators together, its quota is 64: 57 of others, 8 of this Job"]
        );
        assert_eq!(messages(&job("q"), &limit, &others[..1]), [] as [String; 0]);
        assert_eq!(messages(&job("q"), &json!({}), &others), [] as [String; 0], "no limit unless one is set");
    }

    #[test]
    fn a_queue_has_a_limit_of_its_own_across_namespaces() {
        let limit = json!({ "acceleratorsPerQueue": 16 });
        let others = [("team", None, 40), ("elsewhere", Some("q"), 9)];
        assert_eq!(
            messages(&job("q"), &limit, &others),
            ["the queue q would ask for 17 accelerators together, its quota is 16: 9 of others, 8 of this Job"]
        );
        assert_eq!(messages(&job("r"), &limit, &others), [] as [String; 0]);
    }

    #[test]
    fn searches_share_the_trials_of_their_namespace() {
        let search = json!({ "apiVersion": "kubeflow.org/v1beta1", "kind": "Experiment", "metadata": { "name": "s", "namespace": "team" },
            "spec": { "parallelTrialCount": 5, "maxTrialCount": 100, "trialTemplate": { "trialSpec": job("q") } } });
        assert_eq!(
            messages(&search, &json!({ "trialsPerNamespace": 8 }), &[("team", None, 4)]),
            ["the searches of this namespace would run 9 trials at once, the limit is 8: 4 of others, 5 of this one"]
        );
    }
}
