//! Host names outside the cluster, as environments and arguments name them.

use std::collections::BTreeSet;

use bedplate_model::Field;
use bedplate_model::workload::PodSet;

/// Schemes whose client libraries talk to a host that the text does not name.
const IMPLIED: &[(&str, &str)] =
    &[("s3://", "s3.amazonaws.com"), ("gs://", "storage.googleapis.com"), ("hf://", "huggingface.co")];

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
    pods.containers.iter().flat_map(|container| {
        let env = container.field.key("env").items().map(|entry| entry.key("value"));
        let words = ["command", "args"].into_iter().flat_map(|key| container.field.key(key).items());
        env.chain(words).collect::<Vec<_>>()
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
    use super::host;

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
