use bedplate_dns::ResolvConf;
use bedplate_model::{Edit, Finding, Fix, Purpose, Workload};
use serde_json::json;

use crate::dns::hosts;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training pods that name hosts outside the cluster and look them up with the
    /// default of `ndots: 5`.
    ///
    /// ## Why
    /// A name with fewer than five dots is tried with every search domain of the cluster first:
    /// `s3.amazonaws.com` becomes eight queries, A and AAAA for three domains that do not have
    /// it and then for itself; ten on a node with a search domain of its own. A data loader
    /// that opens ten thousand small objects makes a hundred thousand queries, and CoreDNS is
    /// what falls first.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: train, namespace: research}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       template:
    ///         spec:
    ///           containers:
    ///             - name: pytorch
    ///               image: docker.io/pytorch/pytorch:2.7.0
    ///               env: [{name: AWS_ENDPOINT_URL, value: "https://s3.eu-west-1.amazonaws.com"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: train, namespace: research}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       template:
    ///         spec:
    ///           dnsConfig: {options: [{name: ndots, value: "2"}]}
    ///           containers:
    ///             - name: pytorch
    ///               image: docker.io/pytorch/pytorch:2.7.0
    ///               env: [{name: AWS_ENDPOINT_URL, value: "https://s3.eu-west-1.amazonaws.com"}]
    /// ```
    ///
    /// ## Options
    /// `spec.dns.autopath: true` where CoreDNS runs `autopath @kubernetes` with `pods verified`;
    /// `spec.dns.clusterDomain`.
    ///
    /// ## Sources
    /// - glibc `resolv/res_query.c`; musl `src/network/lookup_name.c`: musl never searches a name
    ///   with at least `ndots` dots, so write cluster names of two dots and more in full.
    "ndots-trap", Dns, Warning, Medium, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    if workload.purpose != Purpose::Training || cx.settings.dns.autopath == Some(true) {
        return;
    }
    for pods in workload.pod_sets.iter().filter(|pods| pods.has_pod_spec()) {
        let dns = pods.spec.key("dnsConfig");
        let set = dns.key("options").items().any(|option| option.key("name").str() == Some("ndots"));
        let policy = pods.spec.key("dnsPolicy").str().unwrap_or("ClusterFirst");
        if set || !policy.starts_with("ClusterFirst") {
            continue;
        }
        let Some((host, field)) = hosts::outside(pods, cx.settings.cluster_domain()) else { continue };
        let namespace = workload.object.namespace().unwrap_or("default");
        let queries = ResolvConf::cluster_first(namespace, cx.settings.cluster_domain()).queries_outside(&host, 2);
        if queries <= 2 {
            continue;
        }
        // Elsewhere the name is in what is signed, or in a certificate: see `dotted-endpoint`.
        let help = if field.str().is_some_and(hosts::may_be_dotted) {
            "set `ndots: 2` in the pod's `dnsConfig`, or end the host name with a dot"
        } else {
            "set `ndots: 2` in the pod's `dnsConfig`"
        };
        let mut finding =
            Finding::new(&field, format!("every lookup of `{host}` costs {queries} DNS queries, two would do"))
                .label("looked up with ndots: 5")
                .evidence(queries, 2);
        let lost = hosts::lost_to_musl(pods, 2);
        for name in &lost {
            finding = finding.note(format!(
                "with `ndots: 2` an image with musl (Alpine) finds `{name}` no longer: write `{name}.{}`",
                cx.settings.cluster_domain()
            ));
        }
        let edit = || Edit::Set(dns.key("options").path(), json!([{"name": "ndots", "value": "2"}]));
        // Nothing is edited that is known to lose a name.
        finding = if dns.key("options").exists() || !lost.is_empty() {
            finding.help(help)
        } else {
            finding.fix(Fix::unsafe_(help, vec![edit()]))
        };
        out.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::found;

    /// The remedy for S3 took the feature store away from the pods on Alpine, and from no others.
    #[test]
    fn what_the_remedy_would_break_is_told_with_it() {
        let text = "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata: {name: train, namespace: research}\nspec:\n  pytorchReplicaSpecs:\n    Worker:\n      template:\n        spec:\n          containers:\n            - name: pytorch\n              image: docker.io/pytorch/pytorch:2.7.0\n              args: [\"--store=redis://feast.ml.svc:6379\", \"--tracking=http://mlflow.ml:5000\", \"--data=https://s3.eu-west-1.amazonaws.com\"]\n";
        let found = found(&RULE, text).remove(0);
        assert!(found.fix.is_some_and(|fix| fix.edits.is_empty()), "a person writes that name in full first");
        let notes = found.notes;
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("`feast.ml.svc`") && notes[0].contains("feast.ml.svc.cluster.local"), "{notes:?}");
    }
}
