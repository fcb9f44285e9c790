use bedplate_model::{Confidence, Field, Finding, PodSet, Workload};

use super::pods::{self, Saving};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training pods on spot nodes that need longer to save than the provider gives.
    ///
    /// ## Why
    /// When a spot machine is taken back, its notice is all there is: two minutes on AWS, 30
    /// seconds on Azure, 15 seconds for ordinary pods on Google Cloud. A longer
    /// `terminationGracePeriodSeconds` is cut off with the machine. Only saving often, or saving
    /// to memory of another node, helps there.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: finetune, namespace: research}
    /// spec:
    ///   template:
    ///     spec:
    ///       terminationGracePeriodSeconds: 300
    ///       nodeSelector: {cloud.google.com/gke-spot: "true"}
    ///       containers:
    ///         - name: train
    ///           image: docker.io/pytorch/pytorch:2.7.0
    ///           resources: {limits: {nvidia.com/gpu: 4}}
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
    ///       terminationGracePeriodSeconds: 300
    ///       nodeSelector: {karpenter.sh/capacity-type: on-demand}
    ///       containers:
    ///         - name: train
    ///           image: docker.io/pytorch/pytorch:2.7.0
    ///           resources: {limits: {nvidia.com/gpu: 4}}
    /// ```
    ///
    /// ## Options
    /// `spec.training.graceSeconds`, 300: where jobs on spot nodes save in less, say so for their namespaces.
    ///
    /// ## Sources
    /// - Google Cloud: "Spot VMs in GKE", termination (30 s, of which ordinary pods have 15; up to 120 s may be
    ///   configured from GKE 1.35). AWS: "Spot Instance interruption notices" (2 min). Azure: "Spot Virtual
    ///   Machines", eviction (30 s).
    "spot-grace", Training, Warning, Medium, [Workload(check)]
}

/// A label (and taint) of spot nodes, its value, the provider, and the seconds from notice to end.
const SPOT: &[(&str, &str, &str, u64)] = &[
    ("cloud.google.com/gke-spot", "true", "a GKE spot node", 15),
    ("cloud.google.com/gke-preemptible", "true", "a GKE preemptible node", 15),
    ("cloud.google.com/gke-provisioning", "spot", "a GKE spot node", 15),
    ("kubernetes.azure.com/scalesetpriority", "spot", "an AKS spot node", 30),
    ("eks.amazonaws.com/capacityType", "SPOT", "an EKS spot node", 120),
    ("karpenter.sh/capacity-type", "spot", "a spot node", 120),
];

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    let saving = Saving::of(workload, cx);
    for pods in pods::training(workload) {
        let Some((place, (_, _, node, given), sure)) = spot(pods) else { continue };
        if saving.fits(*given) {
            continue;
        }
        let mut finding = Finding::new(
            &place,
            format!("{node} is gone {given} s after its notice, and saving this pod's state {saving}"),
        )
        .label(if sure { "on spot nodes" } else { "may run on spot nodes" })
        .evidence(given, saving.grace())
        .note("No `terminationGracePeriodSeconds` makes the provider wait.")
        .help(format!(
            "save every few minutes so that losing one interval is cheap, or run on demand; if a save fits into {given} s, set `spec.training.graceSeconds`"
        ));
        if !sure {
            finding = finding.confidence(Confidence::Low);
        }
        let grace = pods.spec.key("terminationGracePeriodSeconds");
        if pods.grace_seconds() > *given && grace.exists() {
            finding = finding.related(&grace, format!("cut off after {given} s"));
        }
        out.push(finding);
    }
}

type Row = (&'static str, &'static str, &'static str, u64);

/// The field that lets pods onto spot nodes, the row, and whether it keeps them there.
fn spot<'a>(pods: &PodSet<'a>) -> Option<(Field<'a>, &'static Row, bool)> {
    let row = |key: &str, value: &str| SPOT.iter().find(|row| row.0 == key && row.1.eq_ignore_ascii_case(value));
    let selector = pods.spec.key("nodeSelector").entries();
    let mut selected = selector.filter_map(|(key, value)| {
        let found = row(key, &value.scalar()?)?;
        Some((value, found, true))
    });
    if let Some(found) = selected.next() {
        return Some(found);
    }
    let expressions = |terms: Field<'a>, sure: bool| {
        terms.items().flat_map(|term| term.key("matchExpressions").items()).find_map(move |expression| {
            if expression.key("operator").str() != Some("In") {
                return None;
            }
            let values = expression.key("values");
            let found = values.strings().find_map(|value| row(expression.key("key").str()?, value))?;
            // Beside other values, spot is only one of the choices.
            Some((values.clone(), found, sure && values.items().len() == 1))
        })
    };
    let affinity = pods.spec.at("affinity.nodeAffinity");
    let required = affinity.at("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    if let Some(found) = expressions(required, true) {
        return Some(found);
    }
    pods.spec.key("tolerations").items().find_map(|toleration| {
        let key = toleration.key("key");
        let value = toleration.key("value").scalar();
        let name = key.str()?;
        let found = match value {
            Some(value) => row(name, &value)?,
            None => SPOT.iter().find(|row| row.0 == name)?,
        };
        Some((key, found, false))
    })
}

#[cfg(test)]
mod tests {
    use bedplate_model::Confidence;

    use crate::testing::found;

    fn with(spec: &str) -> String {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: a}}\nspec:\n  template:\n    spec:\n      {spec}\n      containers: [{{name: a, image: x, resources: {{limits: {{nvidia.com/gpu: 1}}}}}}]\n"
        )
    }

    #[test]
    fn every_way_onto_a_spot_node_is_seen() {
        let cases = [
            ("nodeSelector: {cloud.google.com/gke-spot: true}", Some((15, Confidence::Medium))),
            ("nodeSelector: {eks.amazonaws.com/capacityType: SPOT}", Some((120, Confidence::Medium))),
            ("nodeSelector: {eks.amazonaws.com/capacityType: ON_DEMAND}", None),
            (
                "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: karpenter.sh/capacity-type, operator: In, values: [spot]}]}]}}}",
                Some((120, Confidence::Medium)),
            ),
            (
                "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: karpenter.sh/capacity-type, operator: NotIn, values: [spot]}]}]}}}",
                None,
            ),
            (
                "tolerations: [{key: kubernetes.azure.com/scalesetpriority, operator: Equal, value: spot, effect: NoSchedule}]",
                Some((30, Confidence::Low)),
            ),
            ("tolerations: [{operator: Exists}]", None),
        ];
        for (spec, wanted) in cases {
            let all = found(&super::RULE, &with(spec));
            assert_eq!(all.len(), usize::from(wanted.is_some()), "{spec}");
            if let Some((seconds, confidence)) = wanted {
                assert!(all[0].message.contains(&format!("gone {seconds} s")), "{}", all[0].message);
                assert_eq!(all[0].confidence, confidence, "{spec}");
            }
        }
    }
}
