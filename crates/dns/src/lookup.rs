//! One lookup: the queries that a resolver sends, one after the other, and what it is told.

use crate::client::{Client, Next, Retries};
use crate::conf::ResolvConf;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// A record.
    A,
    /// AAAA record.
    Aaaa,
}

/// Both, in the order in which every resolver asks.
pub const BOTH: &[Family] = &[Family::A, Family::Aaaa];

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// An address.
    Found,
    /// The name is there, without such an address.
    NoData,
    /// There is no such name.
    NxDomain,
    /// SERVFAIL.
    Failure,
    /// Nothing, until the resolver waits no longer.
    Silence,
}

/// A name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The name, without its last dot.
    pub name: String,
    /// What was asked for, and what was said.
    pub answers: Vec<(Family, Answer)>,
    /// Queries, repeated ones too.
    pub queries: u32,
}

/// A lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The names that were asked for, in order.
    pub steps: Vec<Step>,
    /// The name that was found.
    pub found: Option<String>,
}

impl Lookup {
    /// Queries of the whole lookup.
    #[must_use]
    pub fn queries(&self) -> u32 {
        self.steps.iter().map(|step| step.queries).sum()
    }
}

/// What `client` does when a program looks `name` up, in a pod with this resolv.conf, where servers answer as `world`
/// does. It is nothing that stands in `/etc/hosts` and no address.
pub fn lookup(
    client: &Client,
    conf: &ResolvConf,
    name: &str,
    families: &[Family],
    world: &dyn Fn(&str, Family) -> Answer,
) -> Lookup {
    let mut lookup = Lookup { steps: Vec::new(), found: None };
    let as_it_is = name.trim_end_matches('.');
    let mut search_left = false;
    for candidate in conf.candidates(name, client.searches_afterwards) {
        if search_left && candidate != as_it_is {
            continue;
        }
        let answers: Vec<_> = families.iter().map(|family| (*family, world(&candidate, *family))).collect();
        let queries = queries(client, conf, &answers);
        let found = answers.iter().any(|(_, answer)| *answer == Answer::Found);
        let worst = verdict(&answers);
        lookup.steps.push(Step { name: candidate.clone(), answers, queries });
        if found {
            lookup.found = Some(candidate);
            return lookup;
        }
        let next = match worst {
            Answer::Found | Answer::NxDomain => Next::Continue,
            Answer::NoData => client.no_data,
            Answer::Failure => client.failure,
            Answer::Silence => client.silence,
        };
        match next {
            Next::Continue => {}
            Next::Stop => return lookup,
            // A name that was tried as it stands first is tried with the search list whatever the answer was.
            Next::AsIs => search_left = candidate != as_it_is,
        }
    }
    lookup
}

/// What counts of the answers for one name: silence and failures before what is missing.
fn verdict(answers: &[(Family, Answer)]) -> Answer {
    let has = |wanted| answers.iter().any(|(_, answer)| *answer == wanted);
    let order = [Answer::Silence, Answer::Failure, Answer::NoData];
    order.into_iter().find(|answer| has(*answer)).unwrap_or(Answer::NxDomain)
}

/// Queries for one name.
fn queries(client: &Client, conf: &ResolvConf, answers: &[(Family, Answer)]) -> u32 {
    let at_once = if client.all_at_once { conf.servers } else { 1 };
    let rounds = conf.attempts.unwrap_or(client.attempts);
    let asked = |answer: Answer| match answer {
        Answer::Silence => rounds * conf.servers,
        Answer::Failure => match client.failure_retries {
            Retries::Once => rounds * conf.servers,
            Retries::TwiceMore => rounds * (conf.servers + 2),
        },
        Answer::Found | Answer::NoData | Answer::NxDomain => at_once,
    };
    answers.iter().map(|(_, answer)| asked(*answer)).sum()
}

/// What `world` answers behind CoreDNS's `autopath`: it goes through the search list itself for a name under its first
/// domain, and gives the first answer that is not NXDOMAIN.
///
/// Source: CoreDNS `plugin/autopath/autopath.go`. It acts only for pods that the `kubernetes` plugin knows by address
/// (`pods verified`), so not for those on the host's network nor behind a NodeLocal DNSCache.
pub fn autopath<'a>(
    conf: &'a ResolvConf,
    world: &'a dyn Fn(&str, Family) -> Answer,
) -> impl Fn(&str, Family) -> Answer + 'a {
    move |name, family| {
        let base = conf.search.first().and_then(|first| name.strip_suffix(first.as_str())?.strip_suffix('.'));
        let Some(base) = base else { return world(name, family) };
        let searched = conf.search.iter().map(|domain| format!("{base}.{domain}")).chain([base.to_owned()]);
        let answer = searched.map(|name| world(&name, family)).find(|answer| *answer != Answer::NxDomain);
        answer.unwrap_or(Answer::NxDomain)
    }
}

/// Something that makes a lookup cheaper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// What to do.
    pub what: String,
    /// What becomes of the lookup.
    pub lookup: Lookup,
}

/// What each remedy would make of a lookup: a dot at the end, a low `ndots`, `autopath` in CoreDNS,
/// a cache on the node.
#[must_use]
pub fn remedies(
    client: &Client,
    conf: &ResolvConf,
    name: &str,
    families: &[Family],
    world: &dyn Fn(&str, Family) -> Answer,
) -> Vec<Remedy> {
    if name.ends_with('.') {
        return Vec::new();
    }
    let dots = name.bytes().filter(|byte| *byte == b'.').count();
    // Lower than 1 would look names of one word up outside first.
    let ndots = u32::try_from(dots).unwrap_or(u32::MAX).clamp(1, 2);
    let absolute = format!("{name}.");
    let mut remedies = vec![Remedy {
        what: "a dot at its end (not in an S3 or https endpoint)".to_owned(),
        lookup: lookup(client, conf, &absolute, families, world),
    }];
    if ndots < conf.ndots {
        let low = ResolvConf { ndots, ..conf.clone() };
        let lookup = lookup(client, &low, name, families, world);
        remedies.push(Remedy { what: format!("`ndots: {ndots}` in the pod's dnsConfig"), lookup });
    }
    if !conf.search.is_empty() {
        let answers = autopath(conf, world);
        remedies.push(Remedy {
            what: "`autopath @kubernetes` and `pods verified` in CoreDNS".to_owned(),
            lookup: lookup(client, conf, name, families, &answers),
        });
    }
    remedies.push(Remedy {
        what: "a NodeLocal DNSCache (as many, but to the pod's node; no autopath behind it)".to_owned(),
        lookup: lookup(client, conf, name, families, world),
    });
    remedies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::CLIENTS;

    fn outside(name: &str, _: Family) -> Answer {
        if name == "s3.amazonaws.com" { Answer::Found } else { Answer::NxDomain }
    }

    fn client(name: &str) -> &'static Client {
        Client::named(name).unwrap()
    }

    #[test]
    fn a_bucket_costs_eight_queries_whoever_asks_and_two_behind_autopath() {
        let conf = ResolvConf::cluster_first("research", "cluster.local");
        for client in CLIENTS {
            let without = lookup(client, &conf, "s3.amazonaws.com", BOTH, &outside);
            assert_eq!((without.queries(), without.steps.len()), (8, 4), "{}", client.name);
            let with = lookup(client, &conf, "s3.amazonaws.com", BOTH, &autopath(&conf, &outside));
            assert_eq!(with.queries(), 2, "{}", client.name);
        }
    }

    /// `ndots: 2` for a name of two dots inside the cluster: found by everyone but musl.
    #[test]
    fn a_low_ndots_breaks_names_of_services_on_alpine_alone() {
        let inside =
            |name: &str, _| if name == "minio.ml.svc.cluster.local" { Answer::Found } else { Answer::NxDomain };
        let conf = ResolvConf { ndots: 2, ..ResolvConf::cluster_first("research", "cluster.local") };
        for client in CLIENTS {
            let found = lookup(client, &conf, "minio.ml.svc", BOTH, &inside).found.is_some();
            assert_eq!(found, client.name != "musl", "{}", client.name);
        }
    }

    /// `huggingface.co` has one dot: `ndots: 2`, which everyone writes, changes nothing for it.
    #[test]
    fn the_remedy_fits_the_name() {
        let world = |name: &str, _| if name == "huggingface.co" { Answer::Found } else { Answer::NxDomain };
        let conf = ResolvConf::cluster_first("research", "cluster.local");
        let remedies = remedies(client("glibc"), &conf, "huggingface.co", BOTH, &world);
        let costs: Vec<_> = remedies.iter().map(|remedy| (remedy.what.as_str(), remedy.lookup.queries())).collect();
        assert_eq!(
            costs,
            [
                ("a dot at its end (not in an S3 or https endpoint)", 2),
                ("`ndots: 1` in the pod's dnsConfig", 2),
                ("`autopath @kubernetes` and `pods verified` in CoreDNS", 2),
                ("a NodeLocal DNSCache (as many, but to the pod's node; no autopath behind it)", 8),
            ]
        );
    }

    /// A namespace answers for its own name without an address: there musl stops.
    #[test]
    fn a_name_that_is_also_a_namespace_is_not_found_on_alpine() {
        let world = |name: &str, _| match name {
            "mlflow.svc.cluster.local" => Answer::NoData,
            "mlflow" => Answer::Found,
            _ => Answer::NxDomain,
        };
        let conf = ResolvConf::cluster_first("research", "cluster.local");
        assert_eq!(lookup(client("musl"), &conf, "mlflow", BOTH, &world).steps.len(), 2);
        assert_eq!(lookup(client("glibc"), &conf, "mlflow", BOTH, &world).found.as_deref(), Some("mlflow"));
    }
}
