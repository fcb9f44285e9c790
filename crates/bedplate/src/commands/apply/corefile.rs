//! autopath in the cluster's CoreDNS: what `plan`, `apply`, `rollback` and `uninstall` make of its Corefile.

use std::fmt::Write as _;

use bedplate_cluster::Cluster;
use bedplate_cluster::dns::{Dns, Done, NAMESPACE, backup_title};
use bedplate_guarantees::dns::enforce::{self, Way};
use bedplate_model::Profile;
use bedplate_model::profile::Mode;

use crate::commands::{Error, print};

/// Tells what would become of the Corefile; gives whether it would be changed.
pub(super) async fn plan(cluster: &Cluster, profile: &Profile) -> Result<bool, Error> {
    let mode = enforce::mode(profile);
    if mode == Mode::Off {
        return Ok(false);
    }
    let dns = cluster.dns().await?;
    let way = dns.way();
    let enforced = mode == Mode::Enforce;
    print(&told(&dns, &way, (!enforced).then(|| mode.name())))?;
    Ok(enforced && matches!(way, Way::Edit { .. }))
}

/// Puts autopath into the Corefile where the profile wants it, and takes it out where it no longer does; gives whether it
/// was changed. `others`: something else was changed by this apply.
pub(super) async fn apply(cluster: &Cluster, profile: &Profile, others: bool) -> Result<bool, Error> {
    if enforce::mode(profile) != Mode::Enforce {
        return restore(cluster, true).await;
    }
    let dns = cluster.dns().await?;
    let way = dns.way();
    match &way {
        Way::InPlace => {
            if cluster.corefile_was_left().await? {
                anstream::eprintln!(
                    "warning: a run that put autopath into the Corefile was ended before it knew whether CoreDNS takes it: \
                     `bedplate prove dns` shows that, `bedplate rollback` takes it back"
                );
            }
            if others {
                cluster.corefile_is_of_an_earlier_apply().await?;
            }
            return Ok(false);
        }
        Way::Edit { .. } => {}
        Way::Theirs { .. } | Way::Not(_) => return print(&told(&dns, &way, None)).map(|()| false),
    }
    let mut failed = None;
    let done = cluster
        .put_dns(&dns, |line| {
            failed = failed.take().or(print(&format!("{line}\n")).err());
        })
        .await?;
    if let Some(error) = failed {
        return Err(error);
    }
    let Done::Changed(pods) = done else { return Ok(false) };
    print(&format!(
        "{} loaded it and answer as before; the Corefile of before is in {}\n`bedplate prove dns` counts what a lookup costs now\n",
        pods.join(", "),
        backup_title()
    ))?;
    Ok(true)
}

/// Puts the Corefile back as it was before Bedplate changed it, by the last apply or by `any`; gives whether it did.
pub(super) async fn restore(cluster: &Cluster, any: bool) -> Result<bool, Error> {
    match cluster.restore_corefile(any).await? {
        Done::Restored => {
            print("the Corefile is as it was before autopath was put into it; CoreDNS loads it within two minutes\n")?;
            Ok(true)
        }
        Done::ChangedSince => {
            anstream::eprintln!(
                "warning: somebody has changed the Corefile since autopath was put into it: it stays as it is"
            );
            Ok(false)
        }
        Done::Changed(_) | Done::Nothing => Ok(false),
    }
}

/// What may be done, and what would come of it. `weaker`: the mode, where that changes nothing.
fn told(dns: &Dns, way: &Way, weaker: Option<&str>) -> String {
    let place = dns.config().map_or_else(|| "CoreDNS".to_owned(), |(name, _)| format!("ConfigMap {NAMESPACE}/{name}"));
    let mut text = String::from("\n");
    match way {
        Way::InPlace => text.push_str("CoreDNS: autopath is in its Corefile, with `pods verified`\n"),
        Way::Edit { before, after, notes } => {
            let not_yet = weaker.map_or_else(String::new, |mode| {
                format!(" (dns: {mode}; CoreDNS is changed in the mode `enforce` only)")
            });
            let _ = writeln!(text, "CoreDNS, {place}: an outside name would cost two queries{not_yet}:");
            text.push_str(&difference(before, after));
            let facts = &dns.seen.facts;
            let (without, with) = facts.megabytes();
            let _ = writeln!(
                text,
                "  each pod of it takes about {with} MB then, {without} MB now ({} pods, {} Services)",
                facts.pods, facts.services
            );
            notes.iter().for_each(|note| text.push_str(&format!("  {note}\n")));
        }
        Way::Theirs { owner, before, after } => {
            let _ = writeln!(
                text,
                "CoreDNS, {place}: it belongs to {}, which would write it back; it is left as it is. The change belongs into {}:",
                owner.name, owner.where_to
            );
            match enforce::for_owner(owner, after) {
                Some(form) => text.push_str(&format!("{form}\n")),
                None => text.push_str(&difference(before, after)),
            }
        }
        Way::Not(why) => {
            text.push_str("CoreDNS is left as it is:\n");
            for (why, help) in why {
                let _ = writeln!(text, "  {why}\n    {help}");
            }
        }
    }
    text
}

/// The difference of two Corefiles, as a patch.
fn difference(before: &str, after: &str) -> String {
    similar::TextDiff::from_lines(before, after).unified_diff().header("a/Corefile", "b/Corefile").to_string()
}
