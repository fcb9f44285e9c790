//! What a lookup costs.
//!
//! Sources: glibc `resolv/res_query.c` (`__res_context_search`), musl
//! `src/network/lookup_name.c` (`name_from_dns_search`), Go `src/net/dnsclient_unix.go`
//! (`nameList`), kubelet `pkg/kubelet/network/dns/dns.go` (`formDNSSearchFitsLimits`,
//! `defaultDNSOptions`).

/// The parts of a pod's `/etc/resolv.conf` that decide the number of queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// The search list.
    pub search: Vec<String>,
    /// Names with fewer dots are tried with the search list first.
    pub ndots: u32,
}

impl ResolvConf {
    /// What the kubelet writes for `dnsPolicy: ClusterFirst`, before the node's own search list.
    #[must_use]
    pub fn cluster_first(namespace: &str, cluster_domain: &str) -> Self {
        Self {
            search: vec![
                format!("{namespace}.svc.{cluster_domain}"),
                format!("svc.{cluster_domain}"),
                cluster_domain.to_owned(),
            ],
            ndots: 5,
        }
    }

    /// The names that are asked for one after the other until one is found. A name that ends
    /// with a dot is asked for as it is.
    #[must_use]
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let searched = self.search.iter().map(|domain| format!("{name}.{domain}"));
        if dots >= self.ndots as usize {
            // musl stops here; glibc and Go go on with the search list.
            std::iter::once(name.to_owned()).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(name.to_owned())).collect()
        }
    }

    /// Queries for an outside name that exists, with so many address families (2: A and AAAA).
    #[must_use]
    pub fn queries_outside(&self, name: &str, families: usize) -> usize {
        let absolute = name.trim_end_matches('.');
        let place = self.candidates(name).iter().position(|candidate| candidate == absolute);
        families * (place.unwrap_or(0) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outside_name_costs_eight_queries_by_default_and_two_with_a_dot() {
        let conf = ResolvConf::cluster_first("research", "cluster.local");
        assert_eq!(conf.queries_outside("s3.amazonaws.com", 2), 8);
        assert_eq!(conf.queries_outside("s3.amazonaws.com.", 2), 2);
        let low = ResolvConf { ndots: 2, ..conf.clone() };
        assert_eq!(low.queries_outside("s3.amazonaws.com", 2), 2);
        // A node with a search domain of its own makes it ten.
        let mut node = conf;
        node.search.push("eu-west-1.compute.internal".to_owned());
        assert_eq!(node.queries_outside("s3.amazonaws.com", 2), 10);
    }
}
