//! `bedplate impact delete`, `bedplate unlock`, `bedplate lock`: before a deletion, and around it.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use bedplate_cluster::Place;
use bedplate_cluster::rights::{Right, Task, of};
use bedplate_guarantees::deletion::enforce::UNLOCK_MINUTES;

use super::cluster::{Named, Target, rights, tell_unread, wait};
use super::{Error, print};

/// Options of `impact`.
#[derive(clap::Args, Debug)]
pub(crate) struct ImpactArgs {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// What a deletion would take along
    Delete(Named),
}

/// Options of `unlock`.
#[derive(clap::Args, Debug)]
pub(crate) struct UnlockArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    named: Named,
    /// Why, for whoever reads the record
    #[arg(long, value_name = "WHY")]
    reason: String,
    /// For how many minutes
    #[arg(long = "for", value_name = "MINUTES", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=i64::from(UNLOCK_MINUTES)))]
    minutes: u32,
}

/// Options of `lock`.
#[derive(clap::Args, Debug)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    named: Named,
}

pub(crate) fn impact(args: &ImpactArgs) -> Result<ExitCode, Error> {
    let Action::Delete(named) = &args.action;
    wait(async {
        let cluster = args.target.connect().await?;
        let place = named.place(&cluster)?;
        cluster.require(Task::Impact, None, rights(place, &["get"])).await?;
        let impact = cluster.impact(place).await?;
        let mut text = format!("deleting {} {} would take along:\n", place.resource.full_name(), named.name);
        let total: usize = impact.objects.values().sum();
        let mut line = |what: &str, value: String| _ = writeln!(text, "  {what:<14} {value}");
        let list = |map: &std::collections::BTreeMap<String, usize>| {
            let mut all: Vec<_> = map.iter().collect();
            all.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
            let more = all.len().saturating_sub(8);
            let shown =
                all.into_iter().take(8).map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ");
            if more > 0 { format!("{shown} and {more} more") } else { shown }
        };
        line("objects", if total == 0 { "none".to_owned() } else { format!("{total}: {}", list(&impact.objects)) });
        if !impact.namespaces.is_empty() {
            line("namespaces", list(&impact.namespaces));
        }
        line("running pods", impact.running_pods.to_string());
        line("accelerators", impact.accelerators.to_string());
        if !impact.used_by.is_empty() {
            let pods: usize = impact.used_by.values().sum();
            let used = format!(
                "{pods} pod{} with {} accelerators, which stay: {}",
                if pods == 1 { "" } else { "s" },
                impact.used_with,
                list(&impact.used_by)
            );
            line("used by", used);
        }
        line("volumes", if impact.volumes.is_empty() { "none".to_owned() } else { impact.volumes.join(", ") });
        if !impact.users.is_empty() {
            line("last written by", list(&impact.users));
        }
        if !impact.protected.is_empty() {
            line("protected", impact.protected.join(", "));
        }
        print(&text)?;
        Ok(if tell_unread(&impact.unread) { ExitCode::from(2) } else { ExitCode::SUCCESS })
    })
}

pub(crate) fn unlock(args: &UnlockArgs) -> Result<ExitCode, Error> {
    if args.reason.trim().is_empty() || args.reason.contains('\n') {
        return Err(Error::Other("--reason needs one line that says why".to_owned()));
    }
    wait(async {
        let cluster = args.target.connect().await?;
        let place = args.named.place(&cluster)?;
        cluster.require_all(Task::Unlock, [rights(place, &["patch"]), record(place)].concat()).await?;
        let until = cluster.unlock(place, &args.reason, Duration::from_secs(u64::from(args.minutes) * 60)).await?;
        print(&format!(
            "{} {} is unlocked until {until}; `bedplate lock {} {}` takes it back. The reason is on record: `bedplate trail`.\n",
            place.resource.full_name(),
            args.named.name,
            args.named.kind,
            args.named.name
        ))?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn lock(args: &LockArgs) -> Result<ExitCode, Error> {
    wait(async {
        let cluster = args.target.connect().await?;
        let place = args.named.place(&cluster)?;
        cluster.require_all(Task::Unlock, [rights(place, &["patch"]), record(place)].concat()).await?;
        cluster.lock(place).await?;
        print(&format!("{} {} is locked\n", place.resource.full_name(), args.named.name))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The rights to put on record what was done: an Event stands beside its object, and the trail is one ConfigMap.
fn record(place: Place<'_>) -> Vec<Right> {
    let namespace = Some(place.namespace.unwrap_or("default").to_owned());
    let event =
        Right { group: "events.k8s.io".into(), resource: "events".into(), verb: "create", name: None, namespace };
    let trail = of(Task::Unlock).into_iter().filter(|right| right.namespace.is_some());
    trail.chain([event]).collect()
}
