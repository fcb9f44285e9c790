//! `bedplate dns explain`: the ladder of queries of one lookup.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use bedplate_cluster::rights::Task;
use bedplate_cluster::{Cluster, Place};
use bedplate_dns::conf::PodConfig;
use bedplate_dns::lookup::{BOTH, remedies};
use bedplate_dns::{Answer, CLIENTS, Client, Family, Lookup, ResolvConf, lookup};
use serde_json::Value;

use crate::commands::cluster::{Target, wait};
use crate::commands::{Error, print, table};
use crate::files::read;

/// A lookup.
#[derive(clap::Args, Debug)]
pub(super) struct Explain {
    /// The name, as the program has it: `s3.amazonaws.com`, `minio.ml`
    name: String,
    /// Who looks it up
    #[arg(long, value_name = "RESOLVER", default_value = "glibc", value_parser = CLIENTS.iter().map(|client| client.name).collect::<Vec<_>>())]
    libc: String,
    /// A pod of the cluster, whose dnsPolicy and dnsConfig hold: NAMESPACE/NAME
    #[arg(long, value_name = "POD", conflicts_with_all = ["resolv_conf", "namespace"])]
    pod: Option<String>,
    /// A file as in /etc/resolv.conf of a pod; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "namespace")]
    resolv_conf: Option<PathBuf>,
    /// The namespace of a pod that has no dnsConfig
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// The cluster's domain
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// An option of the resolver instead of the pod's: `ndots:2`, `single-request`
    #[arg(long = "option", value_name = "OPTION")]
    options: Vec<String>,
    /// A name that there is, written out [default: NAME as it stands; with --pod also the cluster's Services]
    #[arg(long, value_name = "NAME")]
    exists: Vec<String>,
    /// Ask for A alone, as `java -Djava.net.preferIPv4Stack=true` does
    #[arg(long)]
    ipv4: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(explain: &Explain) -> Result<ExitCode, Error> {
    let name = valid(&explain.name)?;
    let client = Client::named(&explain.libc).ok_or_else(|| Error::Other(format!("no resolver `{}`", explain.libc)))?;
    let mut there: BTreeSet<String> = explain
        .exists
        .iter()
        .map(|name| Ok(valid(name)?.trim_end_matches('.').to_owned()))
        .collect::<Result<_, Error>>()?;
    let (mut conf, place) = match (&explain.pod, &explain.resolv_conf) {
        (Some(pod), _) => {
            let (conf, services) = wait(of_pod(explain, pod))?;
            there.extend(services);
            (conf, format!("the pod {pod}"))
        }
        (None, Some(path)) => (
            ResolvConf::parse(&read(path)?),
            format!(
                "a pod with the resolv.conf {}",
                if path.as_os_str() == "-" { "given".into() } else { path.display().to_string() }
            ),
        ),
        (None, None) => {
            let conf = ResolvConf::cluster_first(&explain.namespace, &explain.cluster_domain);
            (conf, format!("a pod of the namespace {}", explain.namespace))
        }
    };
    for option in &explain.options {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        if !conf.option(name, value) {
            return Err(Error::Other(format!(
                "--option {option}: expected one of ndots:N, attempts:N, timeout:N, single-request, use-vc"
            )));
        }
    }
    if there.is_empty() && explain.pod.is_none() {
        there.insert(name.trim_end_matches('.').to_owned());
    }
    let world = |name: &str, _: Family| if there.contains(name) { Answer::Found } else { Answer::NxDomain };
    print(&told(client, &conf, name, if explain.ipv4 { &BOTH[..1] } else { BOTH }, &world, &place))?;
    Ok(ExitCode::SUCCESS)
}

/// A name that could be asked for.
pub(crate) fn valid(name: &str) -> Result<&str, Error> {
    let inner = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if inner.len() > 253 || !inner.split('.').all(label) {
        return Err(Error::Other(format!(
            "`{name}` is no host name: expected letters, digits and `-` between dots, without scheme, port or path"
        )));
    }
    if inner.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err(Error::Other(format!("`{name}` is an address: nothing is looked up")));
    }
    Ok(name)
}

/// The pod's resolv.conf, and which names of its search list are Services.
async fn of_pod(explain: &Explain, pod: &str) -> Result<(ResolvConf, Vec<String>), Error> {
    let (namespace, name) =
        pod.split_once('/').ok_or_else(|| Error::Other(format!("--pod {pod}: expected NAMESPACE/NAME")))?;
    let cluster = explain.target.connect_for(Task::Dns, None).await?;
    let object = get(&cluster, "Pod", namespace, name).await?;
    let object = object.ok_or_else(|| Error::Other(format!("there is no pod `{name}` in namespace `{namespace}`")))?;
    let spec = &object["spec"];
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let options = spec["dnsConfig"]["options"].as_array().into_iter().flatten();
    let config = PodConfig {
        servers: u32::try_from(texts(&spec["dnsConfig"]["nameservers"]).len()).unwrap_or(u32::MAX),
        searches: texts(&spec["dnsConfig"]["searches"]),
        options: options.map(|option| (text(&option["name"]), text(&option["value"]))).collect(),
    };
    let policy = text(&spec["dnsPolicy"]);
    let host_network = spec["hostNetwork"] == true;
    let conf = ResolvConf::of_pod(&policy, host_network, namespace, &explain.cluster_domain, &config);
    let conf = conf.ok_or_else(|| {
        let why = if host_network { "on the host's network" } else { "with its own policy" };
        Error::Other(format!(
            "the pod {pod} (dnsPolicy {policy}, {why}) has its node's resolv.conf, which the cluster does not tell: \
             `kubectl exec -n {namespace} {name} -- cat /etc/resolv.conf | bedplate dns explain {} --resolv-conf -`",
            explain.name
        ))
    })?;
    let mut services = Vec::new();
    let suffix = format!(".svc.{}", explain.cluster_domain);
    for candidate in conf.candidates(&explain.name, true) {
        let inside = candidate.strip_suffix(&suffix).and_then(|inner| inner.split_once('.'));
        let Some((service, namespace)) = inside.filter(|(_, namespace)| !namespace.contains('.')) else { continue };
        if get(&cluster, "Service", namespace, service).await?.is_some() {
            services.push(candidate);
        }
    }
    // What is no Service is meant to be outside.
    let as_it_is = explain.name.trim_end_matches('.');
    if services.is_empty() && !as_it_is.ends_with(&suffix) {
        services.push(as_it_is.to_owned());
    }
    Ok((conf, services))
}

async fn get(cluster: &Cluster, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>, Error> {
    let resource = cluster.named(kind)?;
    Ok(cluster.get(Place { resource, namespace: Some(namespace), name }).await?)
}

const fn said(answer: Answer) -> &'static str {
    match answer {
        Answer::Found => "found",
        Answer::NoData => "no address",
        Answer::NxDomain => "no such name",
        Answer::Failure => "the server fails",
        Answer::Silence => "no answer",
    }
}

fn told(
    client: &Client,
    conf: &ResolvConf,
    name: &str,
    families: &[Family],
    world: &dyn Fn(&str, Family) -> Answer,
    place: &str,
) -> String {
    let ladder = lookup(client, conf, name, families, world);
    let records = if families.len() == 1 { "A" } else { "A, AAAA" };
    let mut text = format!(
        "{name}, looked up by {} in {place}: ndots {}, {} search domain{}\n\n",
        client.name,
        conf.ndots,
        conf.search.len(),
        if conf.search.len() == 1 { "" } else { "s" }
    );
    let mut rows = Vec::new();
    for (at, step) in ladder.steps.iter().enumerate() {
        let mut answers: Vec<_> = step.answers.iter().map(|(_, answer)| said(*answer)).collect();
        answers.dedup();
        rows.push(vec![format!("{:>3}", at + 1), step.name.clone(), records.to_owned(), answers.join(", ")]);
    }
    text += &table(&rows);
    let found = ladder.found.as_ref().map_or("not found".to_owned(), |found| format!("found as {found}"));
    let _ = write!(text, "\n{} queries, {found}\n", ladder.queries());
    let mut rows = vec![vec!["with".to_owned(), "queries".to_owned(), String::new()]];
    let mut row = |what: String, with: &Lookup| {
        let differs = match &with.found {
            found if *found == ladder.found => String::new(),
            Some(found) => format!("found as {found}"),
            None => "not found".to_owned(),
        };
        rows.push(vec![what, with.queries().to_string(), differs]);
    };
    for remedy in remedies(client, conf, name, families, world) {
        row(remedy.what, &remedy.lookup);
    }
    for other in CLIENTS.iter().filter(|other| other.name != client.name) {
        row(format!("{} ({})", other.name, other.used_by), &lookup(other, conf, name, families, world));
    }
    let _ = write!(text, "\n{}", table(&rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_reads_from_top_to_bottom() {
        let conf = ResolvConf { ndots: 2, ..ResolvConf::cluster_first("research", "cluster.local") };
        let world = |name: &str, _: Family| {
            if name == "minio.ml.svc.cluster.local" { Answer::Found } else { Answer::NxDomain }
        };
        let client = Client::named("glibc").unwrap();
        insta::assert_snapshot!(told(client, &conf, "minio.ml.svc", BOTH, &world, "a pod of the namespace research"));
    }

    #[test]
    fn what_is_no_name_is_told_so() {
        for (name, told) in [
            ("https://s3.amazonaws.com", "is no host name"),
            ("10.0.0.1", "is an address"),
            ("a..b", "is no host name"),
        ] {
            assert!(valid(name).unwrap_err().to_string().contains(told), "{name}");
        }
    }
}
