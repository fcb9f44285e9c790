//! `/etc/resolv.conf` of a pod: as the kubelet writes it, and as its libraries read it.
//!
//! Sources: resolv.conf(5); glibc `resolv/res_init.c` (`RES_MAXNDOTS`, `RES_MAXRETRY`, `RES_MAXRETRANS`); kubelet
//! `pkg/kubelet/network/dns/dns.go` (`formDNSConfigFitsLimits`, `appendDNSConfig`, `defaultDNSOptions`).

/// The parts of `/etc/resolv.conf` that decide the queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// The search list.
    pub search: Vec<String>,
    /// Names with fewer dots are tried with the search list first.
    pub ndots: u32,
    /// How many servers there are; three at most are asked.
    pub servers: u32,
    /// `options attempts`.
    pub attempts: Option<u32>,
    /// `options timeout`, in seconds.
    pub timeout: Option<u32>,
    /// `options single-request`, `single-request-reopen`: A and AAAA one after the other.
    pub single_request: bool,
    /// `options use-vc`: over TCP.
    pub use_vc: bool,
}

impl Default for ResolvConf {
    fn default() -> Self {
        Self {
            search: Vec::new(),
            ndots: 1,
            servers: 1,
            attempts: None,
            timeout: None,
            single_request: false,
            use_vc: false,
        }
    }
}

/// A pod's `dnsConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodConfig {
    /// How many `nameservers` it adds.
    pub servers: u32,
    /// `searches`.
    pub searches: Vec<String>,
    /// `options`: names and values.
    pub options: Vec<(String, String)>,
}

/// Most servers that a resolver asks (`MAXNS`).
const MOST_SERVERS: u32 = 3;

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
            ..Self::default()
        }
    }

    /// What the kubelet makes of a pod's `dnsPolicy` and `dnsConfig`, before the node's own search list; nothing where the
    /// node's own file holds, which the cluster does not tell.
    #[must_use]
    pub fn of_pod(
        policy: &str,
        host_network: bool,
        namespace: &str,
        cluster_domain: &str,
        config: &PodConfig,
    ) -> Option<Self> {
        let mut conf = match policy {
            "None" => Self { servers: 0, ..Self::default() },
            "ClusterFirstWithHostNet" => Self::cluster_first(namespace, cluster_domain),
            "ClusterFirst" | "" if !host_network => Self::cluster_first(namespace, cluster_domain),
            _ => return None,
        };
        conf.servers = (conf.servers + config.servers).clamp(1, MOST_SERVERS);
        for domain in &config.searches {
            if !conf.search.contains(domain) {
                conf.search.push(domain.clone());
            }
        }
        for (name, value) in &config.options {
            conf.option(name, value);
        }
        Some(conf)
    }

    /// Reads the file. What no resolver knows is passed over, as resolvers do.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self { servers: 0, ..Self::default() };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if words.next().is_some() => conf.servers = (conf.servers + 1).min(MOST_SERVERS),
                // The last of several lines holds.
                Some("search" | "domain") => {
                    conf.search = words.map(|word| word.trim_end_matches('.').to_owned()).collect()
                }
                Some("options") => words.for_each(|word| {
                    let (name, value) = word.split_once(':').unwrap_or((word, ""));
                    conf.option(name, value);
                }),
                _ => {}
            }
        }
        // Without a server the one on the machine itself is asked.
        conf.servers = conf.servers.max(1);
        conf
    }

    /// Sets an option, within the limits that every resolver has; whether it is one that matters here.
    pub fn option(&mut self, name: &str, value: &str) -> bool {
        let number = |most: u32| value.parse::<u32>().ok().map(|value| value.min(most));
        match name {
            "ndots" => self.ndots = number(15).unwrap_or(self.ndots),
            "attempts" => self.attempts = number(5).filter(|attempts| *attempts > 0).or(self.attempts),
            "timeout" => self.timeout = number(30).filter(|timeout| *timeout > 0).or(self.timeout),
            "single-request" | "single-request-reopen" => self.single_request = true,
            "use-vc" => self.use_vc = true,
            _ => return false,
        }
        true
    }

    /// The names that are asked for one after the other until one is found, and whether a library that finds the first one
    /// missing goes on (`searches_afterwards`). A name that ends with a dot is asked for as it is; a name that would be too
    /// long for DNS is left out.
    #[must_use]
    pub fn candidates(&self, name: &str, searches_afterwards: bool) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let searched = self.search.iter().map(|domain| match domain.as_str() {
            "" => name.to_owned(),
            domain => format!("{name}.{domain}"),
        });
        let as_it_is = std::iter::once(name.to_owned());
        let mut names: Vec<_> = if dots < self.ndots as usize {
            searched.chain(as_it_is).collect()
        } else if searches_afterwards {
            as_it_is.chain(searched).collect()
        } else {
            as_it_is.collect()
        };
        names.retain(|name| name.len() <= MOST_BYTES);
        names
    }

    /// Queries for an outside name that exists, with so many address families (2: A and AAAA).
    #[must_use]
    pub fn queries_outside(&self, name: &str, families: usize) -> usize {
        let absolute = name.trim_end_matches('.');
        let place = self.candidates(name, true).iter().position(|candidate| candidate == absolute);
        families * (place.unwrap_or(0) + 1)
    }
}

/// Longest name, without its last dot (RFC 1035, 2.3.4).
const MOST_BYTES: usize = 253;

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

    #[test]
    fn the_file_is_read_as_resolvers_read_it() {
        let text = "# kubelet\nnameserver 10.96.0.10\nsearch a.svc.cluster.local. svc.cluster.local\noptions ndots:99 attempts:9 timeout:0 single-request-reopen unknown ; end\n";
        let conf = ResolvConf::parse(text);
        assert_eq!(conf.search, ["a.svc.cluster.local", "svc.cluster.local"]);
        assert_eq!((conf.ndots, conf.attempts, conf.timeout, conf.servers), (15, Some(5), None, 1));
        assert!(conf.single_request && !conf.use_vc);
        assert_eq!(ResolvConf::parse(""), ResolvConf::default());
    }
}
