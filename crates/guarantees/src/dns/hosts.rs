//! Host names outside the cluster, as environments and arguments name them.

use std::collections::BTreeSet;

use bedplate_model::Field;
use bedplate_model::workload::PodSet;

/// Schemes whose client libraries talk to a host that the text does not name.
const IMPLIED: &[(&str, &str)] =
    &[("s3://", "s3.amazonaws.com"), ("gs://", "storage.googleapis.com"), ("hf://", "huggingface.co")];

/// Schemes whose clients look the host's name up and use it for nothing else: their protocols carry no host name, so a dot at
/// its end does no harm. With HTTP it stands in the `Host` header, with TLS it is compared with a certificate.
const ONLY_LOOKED_UP: &[&str] = &["amqp", "mysql", "nats", "postgres", "postgresql", "redis", "tcp"];

/// Environment variables and hosts whose requests are signed with the host's name (AWS Signature Version 4).
const SIGNED: &[&str] = &["AWS_ENDPOINT", "S3_ENDPOINT", "MINIO_"];
const SIGNED_HOSTS: &[&str] = &["amazonaws.com", "amazonaws.com.cn"];

/// What a dot at the end of a host's name does to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// What is signed is not what is sent.
    Signature,
    /// The certificate has no dot.
    Certificate,
    /// The server knows no host of that name.
    HostHeader,
}

/// A URL whose host ends with a dot, where that does harm.
#[derive(Clone, Debug)]
pub(super) struct Dotted<'a> {
    /// The text that has it.
    pub(super) field: Field<'a>,
    /// The host, with the dot.
    pub(super) host: String,
    /// What comes of it.
    pub(super) harm: Harm,
    /// The text without the dots of such hosts.
    pub(super) without: String,
}

/// Every text with a URL whose host ends with a dot that does harm. The server of a Service seldom looks at `Host`, and
/// Istio knows a Service's name with the dot, too (istio#56008).
pub(super) fn dotted<'a>(pods: &PodSet<'a>, cluster_domain: &str) -> impl Iterator<Item = Dotted<'a>> {
    let inside = move |host: &str| host.trim_end_matches('.').ends_with(cluster_domain);
    named_words(pods).filter_map(move |(name, field)| {
        let text = field.str()?;
        let mut first = None;
        let mut without = text.to_owned();
        // From the last on, so that the places of the others hold.
        for Url { scheme, host, at } in urls(text).into_iter().rev().filter(|url| is_dotted(url.host)) {
            let Some(harm) = harm(name.as_deref(), scheme, host, text) else { continue };
            if harm == Harm::HostHeader && inside(host) {
                continue;
            }
            without.remove(at + host.len() - 1);
            first = Some((host.to_owned(), harm));
        }
        let (host, harm) = first?;
        Some(Dotted { field, host, harm, without })
    })
}

/// Whether a dot could be put at the end of the first host that a text names, and do no harm.
pub(super) fn may_be_dotted(text: &str) -> bool {
    urls(text).first().is_some_and(|url| harm(None, url.scheme, url.host, text).is_none())
}

fn is_dotted(host: &str) -> bool {
    host.strip_suffix('.').is_some_and(|name| name.contains('.') && !name.ends_with('.'))
}

/// What a dot at the end of this host does.
fn harm(variable: Option<&str>, scheme: &str, host: &str, text: &str) -> Option<Harm> {
    let name = host.trim_end_matches('.');
    let signed = variable.is_some_and(|variable| SIGNED.iter().any(|part| variable.contains(part)))
        || SIGNED_HOSTS.iter().any(|known| name.strip_suffix(known).is_some_and(|rest| rest.ends_with('.')));
    match scheme {
        "http" | "https" if signed => Some(Harm::Signature),
        "http" | "ws" => Some(Harm::HostHeader),
        scheme if ONLY_LOOKED_UP.contains(&scheme) => text.contains("sslmode=verify-full").then_some(Harm::Certificate),
        _ => Some(Harm::Certificate),
    }
}

/// A part of a text that begins as a URL does.
struct Url<'t> {
    scheme: &'t str,
    host: &'t str,
    /// Where the host begins.
    at: usize,
}

fn urls(text: &str) -> Vec<Url<'_>> {
    text.match_indices("://")
        .filter_map(|(colon, _)| {
            let before = text.get(..colon)?;
            let scheme = before.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '+')).next()?;
            let rest = text.get(colon + 3..)?;
            let authority = rest.split(['/', '?', '#', '"', '\'', ' ', ',', ';']).next()?;
            let user = authority.rfind('@').map_or(0, |at| at + 1);
            let host = authority.get(user..)?.split(':').next()?;
            (!host.is_empty()).then_some(Url { scheme, host, at: colon + 3 + user })
        })
        .collect()
}

/// The first host outside the cluster that a container names, and where.
pub(super) fn outside<'a>(pods: &PodSet<'a>, cluster_domain: &str) -> Option<(String, Field<'a>)> {
    words(pods).find_map(|field| host(field.str()?, cluster_domain).map(|host| (host, field)))
}

/// Names of Services that containers name with at least so many dots, and not in full: musl does not search such a name
/// where that is `ndots`, and never finds it (`src/network/lookup_name.c`, `name_from_dns_search`).
pub(super) fn lost_to_musl(pods: &PodSet<'_>, ndots: usize) -> BTreeSet<String> {
    let split = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    let texts = words(pods).filter_map(|field| field.str().map(str::to_owned));
    let names = texts.flat_map(|text| text.split(split).map(str::to_owned).collect::<Vec<_>>());
    names.filter(|name| name.ends_with(".svc") && name.matches('.').count() >= ndots).collect()
}

/// Every text of environments, commands and arguments.
fn words<'a>(pods: &PodSet<'a>) -> impl Iterator<Item = Field<'a>> {
    named_words(pods).map(|(_, field)| field)
}

/// The same, each with the name of its environment variable.
fn named_words<'a>(pods: &PodSet<'a>) -> impl Iterator<Item = (Option<String>, Field<'a>)> {
    pods.containers.iter().flat_map(|container| {
        let env = container.field.key("env").items();
        let env = env.map(|entry| (entry.key("name").str().map(str::to_owned), entry.key("value")));
        let words = ["command", "args"].into_iter().flat_map(|key| container.field.key(key).items());
        env.chain(words.map(|word| (None, word))).collect::<Vec<_>>()
    })
}

fn host(text: &str, cluster_domain: &str) -> Option<String> {
    if let Some((_, host)) = IMPLIED.iter().find(|(scheme, _)| text.contains(scheme)) {
        return Some((*host).to_owned());
    }
    let (_, after) = text.split_once("://")?;
    let authority = after.split(['/', '?', '#', '"', '\'', ' ']).next()?;
    let host = authority.rsplit('@').next()?.split(':').next()?;
    let name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    let address = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let dots = host.bytes().filter(|b| *b == b'.').count();
    let inside = host.ends_with(cluster_domain) || host.ends_with(".svc") || host.ends_with(".local") || dots < 2;
    // `svc.namespace` has one dot; so does `huggingface.co`.
    let known = matches!(host, "huggingface.co" | "github.com" | "pypi.org" | "wandb.ai");
    (name && !address && !host.is_empty() && (!inside || known)).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Harm, harm, host, may_be_dotted, urls};

    #[test]
    fn a_dot_does_harm_where_the_name_is_more_than_looked_up() {
        for (variable, url, expected) in [
            (None, "https://s3.eu-west-1.amazonaws.com./b", Some(Harm::Signature)),
            (Some("AWS_ENDPOINT_URL_S3"), "http://store.example.com.:9000", Some(Harm::Signature)),
            (None, "https://user:pw@wandb.example.com.", Some(Harm::Certificate)),
            (None, "rediss://cache.example.com.:6379", Some(Harm::Certificate)),
            (None, "postgresql://db.example.com./x?sslmode=verify-full", Some(Harm::Certificate)),
            (None, "http://mlflow.example.com.:5000", Some(Harm::HostHeader)),
            (None, "redis://cache.example.com.:6379", None),
            (None, "postgresql://db.example.com./x", None),
        ] {
            let found = &urls(url)[0];
            assert!(found.host.ends_with("com.") && url[found.at..].starts_with(found.host), "{url}");
            assert_eq!(harm(variable, found.scheme, found.host, url), expected, "{url}");
        }
        assert!(may_be_dotted("--cache=redis://cache.example.com:6379") && !may_be_dotted("https://example.com"));
        assert!(!may_be_dotted("s3.example.com"), "without a scheme nobody knows who uses it");
    }

    #[test]
    fn only_names_outside_the_cluster_count() {
        let find = |text| host(text, "cluster.local");
        assert_eq!(find("https://s3.eu-west-1.amazonaws.com/b").as_deref(), Some("s3.eu-west-1.amazonaws.com"));
        assert_eq!(find("--data=s3://bucket/x").as_deref(), Some("s3.amazonaws.com"));
        for inside in [
            "http://minio.ml:9000",
            "http://minio.ml.svc:9000",
            "http://a.b.svc.cluster.local",
            "http://10.1.2.3:80",
            "x",
            "http://s3.amazonaws.com./b",
        ] {
            assert_eq!(find(inside).filter(|h| !h.ends_with('.')), None, "{inside}");
        }
    }
}
