//! `bedplate dns stats`: what CoreDNS answers now.

use std::process::ExitCode;
use std::time::Duration;

use bedplate_cluster::dns::Counted;
use bedplate_cluster::rights::Task;
use bedplate_dns::autopath::has_it;
use bedplate_dns::metrics::Reading;

use super::clients;
use crate::commands::cluster::{Target, wait};
use crate::commands::{Error, print, table};

/// For how long CoreDNS is looked at.
#[derive(clap::Args, Debug)]
pub(super) struct Stats {
    /// Seconds between the two readings of its metrics
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Also who asks, and for what, out of CoreDNS's log of queries, where its Corefile has `log`
    #[arg(long)]
    clients: bool,
    /// How many of them, and of the names, are shown
    #[arg(long, value_name = "COUNT", default_value_t = 10, requires = "clients", value_parser = clap::value_parser!(u32).range(1..=50))]
    top: u32,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(stats: &Stats) -> Result<ExitCode, Error> {
    wait(async {
        let task = if stats.clients { Task::DnsClients } else { Task::DnsStats };
        let cluster = stats.target.connect_for(task, None).await?;
        let dns = cluster.dns_alone().await?;
        if dns.seen.deployments.is_empty() {
            return Err(Error::Other("no Deployment in kube-system serves the cluster's names".to_owned()));
        }
        let notes = if stats.clients { clients::logged(&dns)? } else { Vec::new() };
        let before = cluster.dns_counted(&dns).await?;
        tokio::time::sleep(Duration::from_secs(stats.seconds.into())).await;
        let after = cluster.dns_counted(&dns).await?;
        print(&told(&before, &after, stats.seconds, dns.corefile().is_some_and(has_it)))?;
        if stats.clients {
            print(&clients::asked(&cluster, &dns, stats.seconds, stats.top as usize, &notes).await?)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn told(before: &[Counted], after: &[Counted], seconds: u32, autopath: bool) -> String {
    let percent = |part: Option<f64>| part.map_or("-".to_owned(), |part| format!("{:.0} %", part * 100.0));
    let rate = |count: f64| format!("{:.1}", count / f64::from(seconds));
    let row = |name: &str, reading: &Reading| {
        let of = |kind: &str| reading.requests.get(kind).copied().unwrap_or_default();
        let asked = reading.hits + reading.misses;
        vec![
            name.to_owned(),
            rate(reading.queries()),
            rate(of("A")),
            rate(of("AAAA")),
            percent(reading.share("NXDOMAIN")),
            percent(reading.share("SERVFAIL")),
            percent((asked >= 1.0).then(|| reading.hits / asked)),
            rate(reading.autopath),
        ]
    };
    let head = ["CoreDNS", "queries/s", "A", "AAAA", "no such name", "fail", "out of the cache", "autopath/s"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut all = Reading::default();
    let mut silent = String::new();
    for one in after {
        let old = before.iter().find(|old| old.pod == one.pod).and_then(|old| old.reading.as_ref().ok());
        match (&one.reading, old) {
            (Ok(now), Some(old)) => {
                let since = now.since(old);
                rows.push(row(&one.pod, &since));
                all.add(&since);
            }
            (Err(why), _) => silent += &format!("{} does not tell its metrics: {why}\n", one.pod),
            (Ok(_), None) => silent += &format!("{} has just come\n", one.pod),
        }
    }
    rows.push(row("all", &all));
    let mut text = table(&rows) + &silent;
    if let Some(queries) = all.queries_per_answer() {
        text += &format!(
            "\nfor each answer that there is, {queries:.1} queries; autopath is {}in the Corefile\n",
            if autopath { "" } else { "not " }
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_four_answers_that_there_is_no_such_name_are_four_queries_each() {
        let counted = |n: f64| Counted {
            reading: Ok(Reading {
                requests: [("A".to_owned(), n), ("AAAA".to_owned(), n)].into_iter().collect(),
                responses: [("NXDOMAIN".to_owned(), 1.5 * n), ("NOERROR".to_owned(), n / 2.0)].into_iter().collect(),
                hits: n,
                misses: n / 3.0,
                ..Reading::default()
            }),
            pod: "coredns-a".to_owned(),
            ready: true,
            restarts: 0,
        };
        insta::assert_snapshot!(told(&[counted(100.0)], &[counted(500.0)], 10, false));
    }
}
