//! `bedplate dns stats --clients`: who asks CoreDNS, and for what.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bedplate_cluster::Cluster;
use bedplate_cluster::dns::{Dns, Logged, MOST_BYTES, NAMESPACE, Who};
use bedplate_dns::Corefile;
use bedplate_dns::log::{Cost, Count, logged as in_log};

use crate::commands::{Error, table};

/// How many addresses are looked up: those that asked most.
const LOOKED_UP: usize = 50;

/// Those that are one row: the pods of one job.
#[derive(Clone, Debug, PartialEq)]
struct Asker {
    who: String,
    addresses: usize,
    count: Count,
}

/// What of the queries is in the log; an error that says what to do where none is.
pub(super) fn logged(dns: &Dns) -> Result<Vec<String>, Error> {
    let cannot = |why: String| Error::Other(format!("who asks CoreDNS cannot be told: {why}"));
    let corefile = dns.corefile().ok_or_else(|| cannot("its Corefile was not found".to_owned()))?;
    in_log(corefile).map_err(|why| match dns.config() {
        Some((name, _)) => cannot(format!("{why}\nit is in the ConfigMap {NAMESPACE}/{name}; nothing was changed")),
        None => cannot(why),
    })
}

/// Reads the logs, and tells who asked.
pub(super) async fn asked(
    cluster: &Cluster,
    dns: &Dns,
    seconds: u32,
    top: usize,
    notes: &[String],
) -> Result<String, Error> {
    let (sample, logs) = cluster.dns_asked(dns, seconds).await?;
    let clients = sample.clients();
    let mut askers: Vec<Asker> = Vec::new();
    let mut add = |who: String, count: Count| match askers.iter_mut().find(|asker| asker.who == who) {
        Some(asker) => {
            asker.addresses += 1;
            asker.count.add(count);
        }
        None => askers.push(Asker { who, addresses: 1, count }),
    };
    let mut namespaces = BTreeMap::new();
    for (address, count) in clients.iter().take(LOOKED_UP) {
        let who = cluster.who(*address).await?;
        if let Who::Pod { namespace, .. } = &who {
            namespaces.insert(*address, namespace.clone());
        }
        add(named(&who).unwrap_or_else(|| format!("{address}, which no pod has")), *count);
    }
    for (_, count) in clients.iter().skip(LOOKED_UP) {
        add("others".to_owned(), *count);
    }
    askers.sort_by(|a, b| b.count.queries.cmp(&a.count.queries).then_with(|| a.who.cmp(&b.who)));
    let file = dns.corefile().and_then(|text| Corefile::parse(text).ok());
    let domain = file.and_then(|file| Some(file.clusters().next()?.1)).unwrap_or_else(|| "cluster.local".to_owned());
    Ok(told(&askers, &sample.names(&domain, &namespaces), &logs, sample.all(), seconds, top, notes))
}

/// Whose an address is, in words.
fn named(who: &Who) -> Option<String> {
    match who {
        Who::Pod { namespace, name, owner, has_ended } => {
            let ended = if *has_ended { ", which has ended" } else { "" };
            Some(match owner.as_ref().and_then(|owner| owner.split_once(' ')) {
                Some((kind, owner)) => format!("{kind} {namespace}/{owner}"),
                None => format!("Pod {namespace}/{name}{ended}"),
            })
        }
        Who::Node(name, pods) => {
            Some(format!("node {name}, or {pods} pod{} on its network", if *pods == 1 { "" } else { "s" }))
        }
        Who::Nobody => None,
    }
}

fn told(
    askers: &[Asker],
    names: &[Cost],
    logs: &[Logged],
    all: Count,
    seconds: u32,
    top: usize,
    notes: &[String],
) -> String {
    let percent = |part: u64, of: u64| format!("{:.0} %", part as f64 * 100.0 / of.max(1) as f64);
    let cells = |count: &Count| {
        [
            count.queries.to_string(),
            percent(count.queries, all.queries),
            percent(count.missing, count.queries),
            percent(count.failed, count.queries),
        ]
    };
    let rest = |shown: usize, of: usize| if of > shown { format!("and {} more\n", of - shown) } else { String::new() };
    let mut text = format!(
        "\nwho asked: {} queries in the log of {} CoreDNS, of the last {seconds} s\n",
        all.queries,
        logs.iter().filter(|log| log.read.is_ok()).count()
    );
    if all.queries > 0 {
        let head = |first: &str, last: &str| {
            [first, "queries", "of all", "no such name", "fail", last].map(str::to_owned).to_vec()
        };
        let mut rows = vec![head("who", "addresses")];
        rows.extend(
            askers.iter().take(top).map(|one| {
                [vec![one.who.clone()], cells(&one.count).to_vec(), vec![one.addresses.to_string()]].concat()
            }),
        );
        let _ = write!(text, "\n{}{}", table(&rows), rest(top, askers.len()));
        let mut rows = vec![head("name, without search domains", "asked by")];
        rows.extend(names.iter().take(top).map(|cost| {
            [vec![cost.name.clone()], cells(&cost.count).to_vec(), vec![cost.clients.to_string()]].concat()
        }));
        let _ = write!(text, "\n{}{}", table(&rows), rest(top, names.len()));
    }
    let mut last = String::new();
    for log in logs {
        match &log.read {
            Err(why) => last += &format!("the log of {} cannot be read: {why}\n", log.pod),
            Ok((queries, span)) if log.is_cut => {
                let _ = writeln!(
                    last,
                    "of {} only the first {} MiB were read: {queries} queries of {span:.1} s",
                    log.pod,
                    MOST_BYTES >> 20
                );
            }
            Ok(_) => {}
        }
    }
    if all.queries == 0 {
        last += "no query is in it: nobody asked, or CoreDNS has not loaded a Corefile with `log` yet\n";
    }
    notes.iter().for_each(|note| last += &format!("{note}\n"));
    if last.is_empty() { text } else { text + "\n" + &last }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(queries: u64, missing: u64) -> Count {
        Count { queries, missing, failed: 0 }
    }

    #[test]
    fn a_loader_stands_out_among_all_others() {
        let asker = |who: &str, addresses, count| Asker { who: who.to_owned(), addresses, count };
        let askers = [
            asker("PyTorchJob team/train", 16, count(8000, 6000)),
            asker("Deployment ml/mlflow", 2, count(40, 0)),
            asker("10.0.0.9, which no pod has", 1, count(4, 4)),
        ];
        let cost = |name: &str, count, clients| Cost { name: name.to_owned(), count, clients };
        let names = [cost("s3.eu-west-1.amazonaws.com", count(7900, 5925), 16), cost("minio.ml", count(144, 79), 3)];
        let log = |pod: &str, read, is_cut| Logged { pod: pod.to_owned(), read, is_cut };
        let logs =
            [log("coredns-a", Ok((8044, 3.21)), true), log("coredns-b", Err("it is starting".to_owned()), false)];
        let notes = ["without `log`, and not counted: corp.example.com".to_owned()];
        insta::assert_snapshot!(told(&askers, &names, &logs, count(8044, 6004), 10, 2, &notes));
    }

    #[test]
    fn whoever_it_is_has_a_name() {
        let pod = |owner: Option<&str>, has_ended| Who::Pod {
            namespace: "team".to_owned(),
            name: "train-0".to_owned(),
            owner: owner.map(str::to_owned),
            has_ended,
        };
        for (who, name) in [
            (pod(Some("Job train"), true), Some("Job team/train")),
            (pod(None, true), Some("Pod team/train-0, which has ended")),
            (Who::Node("n1".to_owned(), 3), Some("node n1, or 3 pods on its network")),
            (Who::Nobody, None),
        ] {
            assert_eq!(named(&who).as_deref(), name);
        }
    }
}
