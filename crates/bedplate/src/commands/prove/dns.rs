//! `bedplate prove dns`: a pod looks a name up, and the queries are counted at CoreDNS.

use bedplate_cluster::Cluster;
use bedplate_cluster::dns::{Ladder, Probe};
use bedplate_dns::Family;

use crate::commands::dns::valid;
use crate::commands::{Error, print, table};

/// What the pod of `prove dns` looks up.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Options of `prove dns`")]
pub(crate) struct Lookups {
    /// The name that is looked up: one outside the cluster
    #[arg(long, value_name = "NAME", default_value = "s3.amazonaws.com")]
    name: String,
    /// How often it is looked up
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=2000))]
    lookups: u32,
}

/// It has a shell and `ping`.
const IMAGE: &str = "docker.io/library/busybox:1.37";
/// Queries of one lookup up to which the guarantee holds: A and AAAA, and a little for what others ask meanwhile.
const MOST: f64 = 2.5;
/// How far what is counted may be from what is predicted, in queries of one lookup.
const NEAR: f64 = 0.5;

pub(super) async fn run(
    cluster: &Cluster,
    lookups: &Lookups,
    image: Option<&str>,
    namespace: &str,
) -> Result<bool, Error> {
    let image = image.unwrap_or(IMAGE);
    let name = valid(&lookups.name)?;
    let dns = cluster.dns().await?;
    let probe = Probe { namespace, image, name, lookups: lookups.lookups };
    print(&format!(
        "a pod of {image} in {namespace} looks {name} up {} times; CoreDNS is asked before and after what it has counted\n\n",
        lookups.lookups
    ))?;
    let ladder = cluster.prove_dns(&dns, &probe).await?;
    let (text, holds, message) = told(&ladder, name, lookups.lookups);
    print(&text)?;
    cluster.proven_dns(holds, lookups.lookups, &message).await?;
    print(&format!("\n{}: {message}\n", if holds { "the guarantee holds" } else { "NOT PROVEN" }))?;
    Ok(holds)
}

/// The ladder seen beside the ladder predicted, whether the guarantee holds, and in a sentence why.
fn told(ladder: &Ladder, name: &str, lookups: u32) -> (String, bool, String) {
    let conf = &ladder.conf;
    let mut text = format!(
        "by {} ({}), ndots {}, {} search domains, autopath {}\n\n",
        ladder.client.name,
        ladder.how,
        conf.ndots,
        conf.search.len(),
        if ladder.autopath { "in the Corefile" } else { "not in the Corefile" }
    );
    let steps = ladder.predicted.steps.iter().enumerate();
    text += &table(
        &steps
            .map(|(at, step)| vec![format!("{:>3}", at + 1), step.name.clone(), format!("{} queries", step.queries)])
            .collect::<Vec<_>>(),
    );
    let one = |count: f64| format!("{:.1}", count / f64::from(lookups));
    let of = |kind: &str| ladder.seen.requests.get(kind).copied().unwrap_or_default();
    let row = |what: &str, predicted: u32, seen: f64| vec![what.to_owned(), predicted.to_string(), one(seen)];
    let found = ladder.predicted.steps.iter().map(|step| step.answers.len()).sum::<usize>() - ladder.missing();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    text += "\n";
    text += &table(&[
        ["of one lookup", "predicted", "seen"].map(str::to_owned).to_vec(),
        row("A queries", ladder.predicted(Family::A), of("A")),
        row("AAAA queries", ladder.predicted(Family::Aaaa), of("AAAA")),
        row("answers: no such name", count(ladder.missing()), ladder.seen.answers("NXDOMAIN")),
        row("answers: there is", count(found), ladder.seen.answers("NOERROR")),
        row("answers: the server fails", 0, ladder.seen.answers("SERVFAIL")),
    ]);
    if ladder.others >= 1.0 {
        text += &format!("about {:.0} of the queries were others'\n", ladder.others);
    }
    let (seen, predicted) = (ladder.queries(lookups), f64::from(ladder.predicted.queries()));
    let holds = seen <= MOST;
    let mut message = format!("a lookup of {name} costs {seen:.1} queries, {predicted:.0} were predicted");
    if (seen - predicted).abs() > NEAR {
        message += if ladder.autopath && seen > predicted {
            "; autopath does not know the pod, or somebody else asks"
        } else {
            "; what is between the pod and CoreDNS is not as its configuration says"
        };
    }
    (text, holds, message)
}

#[cfg(test)]
mod tests {
    use bedplate_dns::lookup::BOTH;
    use bedplate_dns::metrics::Reading;
    use bedplate_dns::{Answer, Client, ResolvConf, lookup};

    use super::*;

    #[test]
    fn eight_queries_are_told_as_such() {
        let conf = ResolvConf::cluster_first("team", "cluster.local");
        let world = |name: &str, _: Family| if name == "s3.example.com" { Answer::Found } else { Answer::NxDomain };
        let client = Client::named("glibc").unwrap();
        let predicted = lookup(client, &conf, "s3.example.com", BOTH, &world);
        let seen = Reading {
            requests: [("A".to_owned(), 80.0), ("AAAA".to_owned(), 83.0)].into_iter().collect(),
            responses: [("NXDOMAIN".to_owned(), 120.0), ("NOERROR".to_owned(), 43.0)].into_iter().collect(),
            ..Reading::default()
        };
        let how = "getent".to_owned();
        let ladder = Ladder { client, how, conf, predicted, seen, others: 3.0, autopath: false };
        let (text, holds, message) = told(&ladder, "s3.example.com", 20);
        insta::assert_snapshot!(format!("{text}{message}"));
        assert!(!holds);
    }
}
