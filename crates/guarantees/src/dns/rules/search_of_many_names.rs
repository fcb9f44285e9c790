use bedplate_model::{Finding, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds pods whose `dnsConfig` makes the search list long: with the cluster's own three,
    /// more than six domains, or `ndots` over 5.
    ///
    /// ## Why
    /// Every domain of the list costs two queries for each name that is not in it. Over 32
    /// domains, or 2048 characters, the kubelet drops the rest and the pod starts with an event
    /// that nobody reads.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: v1
    /// kind: Pod
    /// metadata: {name: loader}
    /// spec:
    ///   dnsConfig: {searches: [a.example.com, b.example.com, c.example.com, d.example.com]}
    ///   containers: [{name: a, image: docker.io/library/python:3.12}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: v1
    /// kind: Pod
    /// metadata: {name: loader}
    /// spec:
    ///   dnsConfig: {searches: [a.example.com]}
    ///   containers: [{name: a, image: docker.io/library/python:3.12}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubernetes, `pkg/kubelet/network/dns/dns.go`; KEP-2595 (expanded DNS configuration).
    "search-of-many-names", Dns, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    for pods in &workload.pod_sets {
        let dns = pods.spec.key("dnsConfig");
        if !dns.exists() {
            continue;
        }
        let own =
            if pods.spec.key("dnsPolicy").str().unwrap_or("ClusterFirst").starts_with("ClusterFirst") { 3 } else { 0 };
        let searches = dns.key("searches");
        let all = own + searches.items().len();
        if all > 6 {
            out.push(
                Finding::new(
                    &searches,
                    format!("a name that is in none of the {all} search domains costs {} DNS queries", 2 * (all + 1)),
                )
                .label(format!("{all} domains with the cluster's own"))
                .evidence(all, 6)
                .help("keep the domains that short names really come from, and write the others in full"),
            );
        }
        let ndots = dns.key("options").items().find(|option| option.key("name").str() == Some("ndots"));
        let value = ndots.map(|option| option.key("value"));
        if let Some(value) = value.filter(|value| value.u64().is_some_and(|n| n > 5)) {
            let n = value.u64().unwrap_or_default();
            out.push(
                Finding::new(
                    &value,
                    format!("`ndots: {n}` sends even full names of the cluster through the search list"),
                )
                .label("the default is 5")
                .evidence(n, 5)
                .help("set it to 2 for pods that talk to hosts outside the cluster, to 5 at most otherwise"),
            );
        }
    }
}
