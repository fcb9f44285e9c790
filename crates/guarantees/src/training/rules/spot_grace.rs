use bedplate_model::{Field, Finding, Workload};

use super::training;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training on spot machines that counts on more time than the provider gives,
    /// whatever the manifest says.
    ///
    /// ## Why
    /// A drained node waits for `terminationGracePeriodSeconds`; a reclaimed machine does not.
    /// GKE leaves about 15 of the 30 seconds to pods that are not of the system, Azure 30, AWS
    /// 120. A save that needs minutes is cut off every time.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   template:
    ///     spec:
    ///       terminationGracePeriodSeconds: 300
    ///       nodeSelector: {cloud.google.com/gke-spot: "true"}
    ///       containers:
    ///         - {name: a, image: "docker.io/pytorch/pytorch:2.7.0", resources: {limits: {nvidia.com/gpu: 1}}}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   template:
    ///     spec:
    ///       terminationGracePeriodSeconds: 300
    ///       containers:
    ///         - {name: a, image: "docker.io/pytorch/pytorch:2.7.0", resources: {limits: {nvidia.com/gpu: 1}}}
    /// ```
    ///
    /// ## Options
    /// `spec.training.graceSeconds`: where the save fits into what the provider gives, set it to that.
    ///
    /// ## Sources
    /// - GKE, Spot VMs (graceful node shutdown); AWS, spot interruption notices; Azure, Scheduled Events.
    "spot-grace", Training, Warning, High, [Workload(check)]
}

/// Labels and taints of spot nodes: key, value, provider, seconds.
const SPOT: &[(&str, &str, &str, u64)] = &[
    ("cloud.google.com/gke-spot", "true", "GKE spot", 15),
    ("cloud.google.com/gke-preemptible", "true", "GKE preemptible", 15),
    ("cloud.google.com/gke-provisioning", "spot", "GKE spot", 15),
    ("eks.amazonaws.com/capacityType", "SPOT", "AWS spot", 120),
    ("karpenter.sh/capacity-type", "spot", "AWS spot", 120),
    ("kubernetes.azure.com/scalesetpriority", "spot", "Azure spot", 30),
];

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    for pods in training(workload) {
        let wanted = pods.grace_seconds().max(cx.settings.grace_seconds());
        let selector = pods.spec.key("nodeSelector").entries().map(|(key, value)| (key, value.clone(), value));
        let affinity =
            pods.spec.at("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        let terms = affinity.items().flat_map(|term| term.key("matchExpressions").items());
        let terms = terms.filter(|term| term.key("operator").str() == Some("In"));
        let terms = terms.flat_map(|term| {
            let key = term.key("key").str().unwrap_or_default();
            term.key("values").items().map(move |value| (key, value.clone(), value)).collect::<Vec<_>>()
        });
        let hit = selector.chain(terms).find_map(|(key, place, value): (&str, Field<'_>, Field<'_>)| {
            let value = value.scalar()?;
            SPOT.iter().find(|(k, v, ..)| *k == key && *v == value).map(|spot| (place, spot))
        });
        if let Some((place, (_, _, provider, seconds))) = hit.filter(|(_, spot)| spot.3 < wanted) {
            out.push(
                Finding::new(&place, format!("{provider} gives a pod {seconds} s, this one counts on {wanted} s"))
                    .label(format!("{seconds} s, whatever the manifest says"))
                    .evidence(seconds, wanted)
                    .help("save often enough that a cut-off save costs little, or train on machines that stay"),
            );
        }
    }
}
