//! `plan`, `apply`, `rollback`, `uninstall`: what Bedplate puts into a cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use bedplate_cluster::bundle::{Change, Step, Wanted};
use bedplate_cluster::prove::Outcome;
use bedplate_cluster::{Cluster, Place};
use bedplate_guarantees::enforce;
use bedplate_model::document::{Limits, parse};
use bedplate_model::{Guarantee, Profile, names};
use serde_json::Value;

use super::cluster::{Target, wait};
use super::{Error, print};
use crate::today::today;

/// Options of `plan` and `apply`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The profile and exemptions to apply: a bedplate.yaml [default: the cluster's own profile stays]
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A first installation refuses at once, instead of beginning in the mode `audit`
    #[arg(long)]
    enforce: bool,
    /// Take over fields that another field manager owns
    #[arg(long)]
    force_conflicts: bool,
}

/// Options of `rollback` and `uninstall`.
#[derive(clap::Args, Debug)]
pub(crate) struct Plain {
    #[command(flatten)]
    target: Target,
}

/// Objects of one kind that are told by name.
const MANY: usize = 6;

/// How long the API server may take to compile the policies.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn plan(args: &Args) -> Result<ExitCode, Error> {
    let wanted = wanted(args)?;
    wait(async {
        let cluster = args.target.connect().await?;
        let steps = cluster.plan(&wanted).await?;
        let mut changes = 0;
        for step in &steps {
            if step.change != Change::Same {
                changes += 1;
                print(&shown(step))?;
            }
        }
        print(&format!("\n{changes} of {} objects would change on {}\n", steps.len(), cluster.server))?;
        refusals(&cluster, &steps).await?;
        judged_as_pods(&cluster)?;
        Ok(ExitCode::from(u8::from(changes > 0)))
    })
}

pub(crate) fn apply(args: &Args) -> Result<ExitCode, Error> {
    let wanted = wanted(args)?;
    wait(async {
        let mut cluster = args.target.connect().await?;
        let first = cluster.kind(names::GROUP, "StabilityProfile").is_none();
        remember(&cluster, &wanted).await?;
        let mut done = BTreeMap::<(&str, String), Vec<String>>::new();
        let outcome = cluster
            .put_in_place(&wanted, |step| {
                let word = match step.change {
                    Change::Remove => "removed",
                    Change::Update(..) => "changed",
                    _ => "created",
                };
                let (kind, name) = step.what.split_once(' ').unwrap_or((&step.what, ""));
                done.entry((word, kind.to_owned())).or_default().push(name.to_owned());
            })
            .await;
        let changed: usize = done.values().map(Vec::len).sum();
        for ((word, kind), names) in done {
            if names.len() > MANY {
                print(&format!("{word} {} {kind} objects\n", names.len()))?;
            } else {
                names.iter().try_for_each(|name| print(&format!("{word} {kind} {name}\n")))?;
            }
        }
        // What was done before an error is told too: the next run goes on from there.
        outcome?;
        let profile = cluster.profile().await?;
        let auditing = enforce::guarded()
            .filter(|(rule, guarantee)| {
                profile.settings(None).mode(rule, *guarantee) != bedplate_model::profile::Mode::Enforce
            })
            .count();
        print(&if changed == 0 {
            "everything was in place\n".to_owned()
        } else {
            format!("{changed} objects changed\n")
        })?;
        if changed > 0 && auditing == 0 {
            hold(&cluster).await?;
        }
        if first && auditing > 0 {
            print(
                "\nThis first installation refuses nothing yet: what it would refuse is in the API server's audit log and in `bedplate plan`.\n\
                 To enforce: kubectl patch stabilityprofile default --type=merge -p '{\"spec\":{\"modes\":null}}'\n",
            )?;
        }
        print("`bedplate prove` tries what should be refused, with dry runs.\n")?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn rollback(args: &Plain) -> Result<ExitCode, Error> {
    wait(async {
        let cluster = args.target.connect().await?;
        let resource = cluster.named("stabilityprofiles")?;
        let place = Place { resource, namespace: None, name: names::PROFILE };
        let live = cluster.get(place).await?;
        let before =
            live.as_ref().and_then(|live| live.pointer("/metadata/annotations/bedplate.dev~1previous-spec")?.as_str());
        let Some(spec) = before.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
            return Err(Error::Other(
                "no earlier profile is on record: this is the first one. `bedplate uninstall` takes everything back"
                    .to_owned(),
            ));
        };
        let now = live.as_ref().and_then(|live| live.get("spec").cloned()).unwrap_or_default();
        // A merge patch leaves out what it does not name: what is new since then has to be named.
        let mut patch = serde_json::Map::new();
        for key in now.as_object().into_iter().flatten().map(|(key, _)| key) {
            patch.insert(key.clone(), Value::Null);
        }
        let cleared = serde_json::json!({ "spec": patch });
        let mut object = serde_json::json!({
            "spec": spec,
            "metadata": { "annotations": { "bedplate.dev/previous-spec": now.to_string() } },
        });
        for (key, value) in cleared["spec"].as_object().into_iter().flatten() {
            if object["spec"].get(key).is_none() {
                object["spec"][key] = value.clone();
            }
        }
        cluster.merge(place, "", &object, false).await?;
        print("the profile is as it was before the last apply; another rollback goes forth again\n")?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn uninstall(args: &Plain) -> Result<ExitCode, Error> {
    wait(async {
        let cluster = args.target.connect().await?;
        let mut count = 0;
        let mut failed = None;
        cluster
            .remove_everything(|what| {
                count += 1;
                failed = print(&format!("removed {what}\n")).err();
            })
            .await?;
        if let Some(error) = failed {
            return Err(error);
        }
        print(&match count {
            0 => "nothing of Bedplate was here\n".to_owned(),
            count => format!("{count} objects removed; marks on your own objects stay, they protect nothing now\n"),
        })?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Waits until the API server refuses what it should: it compiles new policies one after the other, which takes it
/// seconds, and until then they refuse nothing.
async fn hold(cluster: &Cluster) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        let mut open = Vec::new();
        cluster
            .prove(&[Guarantee::Admission, Guarantee::Deletion], "default", |attempt| {
                if attempt.outcome == Outcome::Through && !open.contains(&attempt.rule) {
                    open.push(attempt.rule);
                }
            })
            .await?;
        if open.is_empty() {
            return print(&format!(
                "every guard holds, {:.0} s after it was put there\n",
                started.elapsed().as_secs_f64()
            ));
        }
        if started.elapsed() > PATIENCE {
            return Err(Error::Other(format!(
                "{} let something through {} s after they were put there: `bedplate prove` shows what",
                open.join(", "),
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Keeps the profile's spec of before beside the new one.
async fn remember(cluster: &Cluster, wanted: &Wanted) -> Result<(), Error> {
    let (Some(profile), Some(resource)) = (&wanted.profile, cluster.kind(names::GROUP, "StabilityProfile")) else {
        return Ok(());
    };
    let place = Place { resource, namespace: None, name: names::PROFILE };
    let Some(live) = cluster.get(place).await? else { return Ok(()) };
    let spec = live.get("spec").cloned().unwrap_or_default();
    if profile.get("spec") != Some(&spec) {
        let patch =
            serde_json::json!({ "metadata": { "annotations": { "bedplate.dev/previous-spec": spec.to_string() } } });
        cluster.merge(place, "", &patch, false).await?;
    }
    Ok(())
}

/// What every guard would refuse of what is there now.
async fn refusals(cluster: &Cluster, steps: &[Step]) -> Result<(), Error> {
    let profile = match steps.iter().find(|step| step.object["kind"] == "StabilityProfile") {
        Some(step) => {
            let mut object = step.object.clone();
            object.as_object_mut().map(|map| map.remove("status"));
            Profile::parse(&object.to_string(), &bedplate_guarantees::names()).unwrap_or_default()
        }
        None => cluster.profile().await?,
    };
    let guarded: Vec<&str> = enforce::guarded().map(|(rule, _)| rule).collect();
    let mut lines = Vec::new();
    let seen = cluster
        .audit(&profile, &today(), None, |name, _, checked| {
            for located in checked.findings.iter().filter(|located| guarded.contains(&located.finding.rule)) {
                lines.push(format!("  {name}: {} ({})\n", located.finding.message, located.finding.rule));
            }
        })
        .await?;
    if lines.is_empty() {
        return print(&format!("nothing of the {} objects here would be refused today\n", seen.judged));
    }
    print(&format!(
        "\nof the {} objects here now, the guards would refuse (they stay: only what gets worse is refused):\n",
        seen.judged
    ))?;
    lines.iter().try_for_each(|line| print(line))
}

/// What the guards leave to the pods, of the kinds that this cluster has.
fn judged_as_pods(cluster: &Cluster) -> Result<(), Error> {
    let mut heading = "\nnot judged in the object itself, but pod by pod as they come:\n";
    let mut told = Vec::new();
    for (kind, what) in enforce::judged_as_pods() {
        let line = format!("  {}: {what}\n", kind.plural_in_group());
        if cluster.kind(kind.group, kind.kind).is_some() && !told.contains(&line) {
            print(&format!("{}{line}", std::mem::take(&mut heading)))?;
            told.push(line);
        }
    }
    Ok(())
}

fn shown(step: &Step) -> String {
    let color = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    let paint = |text: &str, color_of: AnsiColor| {
        let style = if color { Style::new().fg_color(Some(color_of.into())) } else { Style::new() };
        format!("{style}{text}{style:#}\n")
    };
    match &step.change {
        Change::Create | Change::Unknown => paint(&format!("+ {}", step.what), AnsiColor::Green),
        Change::Remove => paint(&format!("- {}", step.what), AnsiColor::Red),
        Change::Same => String::new(),
        Change::Update(before, after) => {
            let mut text = paint(&format!("~ {}", step.what), AnsiColor::Yellow);
            for change in similar::TextDiff::from_lines(before, after).unified_diff().context_radius(2).iter_hunks() {
                for line in change.iter_changes() {
                    // A policy's expressions are longer than any screen.
                    let shown: String = line.value().trim_end().chars().take(160).collect();
                    match line.tag() {
                        similar::ChangeTag::Insert => {
                            text.push_str(&paint(&format!("    + {shown}"), AnsiColor::Green))
                        }
                        similar::ChangeTag::Delete => text.push_str(&paint(&format!("    - {shown}"), AnsiColor::Red)),
                        similar::ChangeTag::Equal => text.push_str(&format!("      {shown}\n")),
                    }
                }
            }
            text
        }
    }
}

/// Reads what is wanted; a file with mistakes stops everything.
fn wanted(args: &Args) -> Result<Wanted, Error> {
    let mut wanted = Wanted { enforce: args.enforce, force: args.force_conflicts, ..Wanted::default() };
    let Some(path) = &args.file else { return Ok(wanted) };
    let loaded = crate::profile::load(Some(path), path)?;
    let Some((_, text)) = &loaded.source else { return Ok(wanted) };
    for document in parse(text, &Limits::DEFAULT).documents {
        let mut object = document.root.to_json();
        if object["kind"] == "Exemption" {
            if object.pointer("/metadata/name").is_none() {
                let spec = &object["spec"];
                let word =
                    |path: &str| spec.pointer(path).and_then(Value::as_str).unwrap_or_default().replace('*', "any");
                let name = format!("{}-{}", word("/rule"), word("/subject/name"));
                object["metadata"] = serde_json::json!({ "name": name });
            }
            wanted.exemptions.push(object);
        } else {
            // One profile holds on a cluster.
            object["metadata"]["name"] = names::PROFILE.into();
            if object.get("spec").is_none_or(Value::is_null) {
                object["spec"] = serde_json::json!({});
            }
            wanted.profile = Some(object);
        }
    }
    Ok(wanted)
}
