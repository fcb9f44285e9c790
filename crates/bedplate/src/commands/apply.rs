//! `plan`, `apply`, `rollback`, `uninstall`: what Bedplate puts into a cluster.

mod corefile;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use bedplate_apf::Concurrency;
use bedplate_cluster::bundle::{Change, Step, Wanted};
use bedplate_cluster::fairness::{Gain, worst};
use bedplate_cluster::prove::Outcome;
use bedplate_cluster::rights::Task;
use bedplate_cluster::{Cluster, Error as ClusterError, clock};
use bedplate_guarantees::fairness::detect::Detected;
use bedplate_guarantees::{enforce, fairness};
use bedplate_model::document::{Limits, parse};
use bedplate_model::profile::Mode;
use bedplate_model::{Guarantee, Profile, names};
use bedplate_operator::deploy;
use serde_json::Value;

use super::cluster::{Target, profile, tell_unread, wait};
use super::{Error, print, table};

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
    /// What runs the operator too, with this image: one that was built with deploy/Dockerfile
    #[arg(long, value_name = "IMAGE")]
    operator: Option<String>,
}

impl Args {
    fn operator(&self) -> Vec<Value> {
        self.operator.as_deref().map(deploy::objects).unwrap_or_default()
    }
}

/// Options of `plan`.
#[derive(clap::Args, Debug)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    args: Args,
    /// Seats of one API server, --max-requests-inflight and --max-mutating-requests-inflight together, to tell what each
    /// level of flow control gains and loses [default: the profile's, 600]
    #[arg(long, value_name = "SEATS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    server_concurrency: Option<u32>,
}

/// Options of `rollback`.
#[derive(clap::Args, Debug)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    target: Target,
    /// Take over fields that another field manager owns
    #[arg(long)]
    force_conflicts: bool,
}

/// Options of `uninstall`.
#[derive(clap::Args, Debug)]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    target: Target,
    /// Leave Bedplate's namespace, for what else is in it
    #[arg(long)]
    keep_namespace: bool,
}

/// Objects of one kind that are told by name.
const MANY: usize = 6;

/// How long the API server may take to compile the policies.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn plan(PlanArgs { args, server_concurrency }: &PlanArgs) -> Result<ExitCode, Error> {
    let wanted = wanted(args)?;
    wait(async {
        let cluster = args.target.connect_for(Task::Plan, None).await?;
        let mut steps = cluster.plan(&wanted).await?;
        steps.extend(cluster.plan_others(args.operator(), args.force_conflicts).await?);
        let mut changes = 0;
        for step in &steps {
            if step.change != Change::Same {
                changes += 1;
                print(&shown(step))?;
            }
        }
        print(&format!("\n{changes} of {} objects would change on {}\n", steps.len(), cluster.server))?;
        let profile = as_planned(&cluster, &steps).await?;
        lanes(&cluster, &profile, *server_concurrency).await?;
        changes += usize::from(corefile::plan(&cluster, &profile).await?);
        let whole = refusals(&cluster, &profile).await?;
        judged_as_pods(&cluster)?;
        Ok(ExitCode::from(if whole { u8::from(changes > 0) } else { 2 }))
    })
}

pub(crate) fn apply(args: &Args) -> Result<ExitCode, Error> {
    let wanted = wanted(args)?;
    wait(async {
        let mut cluster = args.target.connect_for(Task::Apply, None).await?;
        let first = cluster.kind(names::GROUP, "StabilityProfile").is_none();
        let mut done = Done::default();
        let outcome = async {
            cluster.put_in_place(&wanted, |step| done.add(step)).await?;
            // After the guards: they hold without it.
            cluster.put_others(args.operator(), args.force_conflicts, |step| done.add(step)).await
        }
        .await;
        let changed = done.tell()?;
        // What was done before an error is told too: the next run goes on from there.
        outcome?;
        let profile = profile(&cluster).await?;
        let changed = changed + usize::from(corefile::apply(&cluster, &profile, changed > 0).await?);
        let auditing = enforce::guarded()
            .filter(|(rule, guarantee)| profile.settings(None).mode(rule, *guarantee) != Mode::Enforce)
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
            let what = if auditing == enforce::guarded().count() {
                "This first installation refuses nothing yet: what it would refuse".to_owned()
            } else {
                format!("{auditing} of the rules behind the guards refuse nothing yet: what they would refuse")
            };
            print(&format!(
                "\n{what} is in the API server's audit log and in `bedplate plan`.\n\
                 To enforce: kubectl patch stabilityprofile default --type=merge -p '{{\"spec\":{{\"modes\":null}}}}' && bedplate apply\n",
            ))?;
        }
        print("`bedplate prove` tries what should be refused, with dry runs.\n")?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn rollback(args: &RollbackArgs) -> Result<ExitCode, Error> {
    wait(async {
        let cluster = args.target.connect_for(Task::Rollback, None).await?;
        let (mut done, mut differing) = (Done::default(), Vec::new());
        let outcome = cluster
            .roll_back(args.force_conflicts, |step| {
                done.add(step);
                let after = step.before.as_ref().and_then(|after| after.get("spec"));
                if let (Some(wanted), Some(after)) = (step.object.get("spec"), after) {
                    let mut fields = Vec::new();
                    differences(wanted, after, ".spec", &mut fields);
                    differing.extend(fields.into_iter().map(|field| format!("  {} {field}\n", step.what)));
                }
            })
            .await;
        done.tell()?;
        match outcome {
            // An apply that changed nothing else.
            Err(ClusterError::NothingBefore) if corefile::restore(&cluster, false).await? => {}
            Ok(()) => corefile::restore(&cluster, false).await.map(drop)?,
            Err(error) => return Err(error.into()),
        }
        print("everything is as it was before the last apply; to go forth again, apply again\n")?;
        if !differing.is_empty() {
            print(&format!("but for what others have set since:\n{}", differing.concat()))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Fields in which two texts of an object differ, as paths.
fn differences(a: &Value, b: &Value, path: &str, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let (a, b) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                differences(a, b, &format!("{path}.{key}"), found);
            }
        }
        (a, b) if a == b => {}
        _ => found.push(path.to_owned()),
    }
}

pub(crate) fn uninstall(args: &UninstallArgs) -> Result<ExitCode, Error> {
    wait(async {
        let cluster = args.target.connect_for(Task::Uninstall, None).await?;
        let mut operator = deploy::objects(deploy::PLACEHOLDER);
        operator.extend(deploy::made());
        operator.retain(|object| !(args.keep_namespace && object["kind"] == "Namespace"));
        let operator = cluster.present(operator).await?;
        let mut count = usize::from(corefile::restore(&cluster, true).await?);
        let mut failed = None;
        let outcome = cluster
            .remove_everything(&operator, |what| {
                count += 1;
                failed = failed.take().or(print(&format!("removed {what}\n")).err());
            })
            .await;
        if let Some(error) = failed {
            return Err(error);
        }
        outcome?;
        print(&match count {
            0 => "nothing of Bedplate was here\n".to_owned(),
            count => format!("{count} objects removed; marks on your own objects stay, they protect nothing now\n"),
        })?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What was done, in the order in which it was done: what is many of one kind is one line.
#[derive(Default)]
struct Done(Vec<(&'static str, String, Vec<String>)>);

impl Done {
    fn add(&mut self, step: &Step) {
        let word = match step.change {
            Change::Remove => "removed",
            Change::Create | Change::Unknown => "created",
            _ => "changed",
        };
        let (kind, name) = step.what.split_once(' ').unwrap_or((&step.what, ""));
        match self.0.iter_mut().find(|(known, of, _)| *known == word && of == kind) {
            Some((.., names)) => names.push(name.to_owned()),
            None => self.0.push((word, kind.to_owned(), vec![name.to_owned()])),
        }
    }

    /// Prints it, and gives how many objects it was.
    fn tell(self) -> Result<usize, Error> {
        for (word, kind, names) in &self.0 {
            if names.len() > MANY {
                print(&format!("{word} {} {kind} objects\n", names.len()))?;
            } else {
                names.iter().try_for_each(|name| print(&format!("{word} {kind} {name}\n")))?;
            }
        }
        Ok(self.0.iter().map(|(.., names)| names.len()).sum())
    }
}

/// Waits until the API server refuses what it should: it compiles new policies one after the other, which takes it
/// seconds, and until then they refuse nothing.
async fn hold(cluster: &Cluster) -> Result<(), Error> {
    match cluster.require(Task::Prove, None, Vec::new()).await {
        Err(ClusterError::Rights { .. }) => {
            return print("whether the guards hold was not tried: that takes the rights of `bedplate prove`\n");
        }
        other => other?,
    }
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

/// The profile as it would be.
async fn as_planned(cluster: &Cluster, steps: &[Step]) -> Result<Profile, Error> {
    match steps.iter().find(|step| step.object["kind"] == "StabilityProfile") {
        Some(step) => {
            let mut object = step.object.clone();
            object.as_object_mut().map(|map| map.remove("status"));
            Ok(Profile::parse(&object.to_string(), &bedplate_guarantees::names()).unwrap_or_default())
        }
        None => profile(cluster).await,
    }
}

/// Who would ride in which lane of the API server, and what every level gains and loses by that.
async fn lanes(cluster: &Cluster, profile: &Profile, seats: Option<u32>) -> Result<(), Error> {
    let mode = fairness::enforce::mode(profile);
    if mode == Mode::Off {
        return Ok(());
    }
    let settings = profile.settings(None);
    let live = cluster.flow_control().await?;
    if !cluster.has_flow_control(&live).await? {
        print(
            "\n! this API server works without flow control (--enable-priority-and-fairness=false): lanes change nothing \
             until it is switched on, and a flood of requests takes every seat\n",
        )?;
    }
    let lanes = cluster.lanes(settings).await?;
    let Detected { controllers, users, runners, passed_over } = &lanes.detected;
    for why in passed_over {
        print(&format!("no lane: {why}\n"))?;
    }
    if lanes.objects.is_empty() {
        return print("\nno controller of a machine-learning platform was found, so no lane of flow control is made\n");
    }
    let (would, not_yet) = match mode {
        Mode::Enforce => ("ride", String::new()),
        mode => {
            ("would ride", format!(" (fairness: {}; flow control is changed in the mode `enforce` only)", mode.name()))
        }
    };
    let mut text = format!("\nlanes of the API server{not_yet}:\n  in the controllers' lane {would}:\n");
    for one in controllers {
        text.push_str(&format!("    {}:{}  {} ({})\n", one.namespace, one.account, one.what, one.found));
    }
    let namespaces: Vec<&str> = users.iter().map(String::as_str).take(MANY).collect();
    let more = users.len().saturating_sub(MANY);
    text.push_str(&format!(
        "  in the users' lane {would}: people{}{}{}{}\n\n",
        if users.is_empty() { "" } else { ", all accounts of " },
        namespaces.join(", "),
        if more > 0 { format!(" and {more} more namespaces") } else { String::new() },
        runners.iter().map(|(namespace, name)| format!(", {namespace}:{name}")).collect::<String>(),
    ));
    let seats = seats.unwrap_or_else(|| settings.server_concurrency());
    let gains = lanes.gains(&live, seats);
    text.push_str(&table(&seat_rows(&gains, seats)));
    if let Some((percent, level)) = worst(&gains) {
        text.push_str(&format!(
            "no level loses more than {percent:.0} % of its {seats} seats' part ({level}); minimum: what none can borrow of it\n"
        ));
    }
    for why in fairness::enforce::obstacles(&lanes.over(&live).0) {
        text.push_str(&format!("! {why}\n"));
    }
    print(&text)
}

/// Seats of each level, before and after.
fn seat_rows(gains: &[Gain], seats: u32) -> Vec<Vec<String>> {
    let most = |max: Option<i64>| max.map_or(i64::from(seats), |max| max.min(i64::from(seats))).to_string();
    let cells = |seats: &Option<Concurrency>| match seats {
        Some(seats) => [seats.nominal.to_string(), seats.min.to_string(), most(seats.max)],
        None => ["-"; 3].map(str::to_owned),
    };
    let head = ["level", "nominal", "minimum", "maximum", "→ nominal", "minimum", "maximum"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for gain in gains {
        rows.push([vec![gain.level.clone()], cells(&gain.before).to_vec(), cells(&gain.after).to_vec()].concat());
    }
    rows
}

/// What every guard would refuse of what is there now. Gives whether all of it could be looked at.
async fn refusals(cluster: &Cluster, profile: &Profile) -> Result<bool, Error> {
    let guarded: Vec<&str> = enforce::guarded().map(|(rule, _)| rule).collect();
    let mut lines = Vec::new();
    let seen = cluster
        .audit(profile, &clock::timestamp(), None, |name, _, checked| {
            for located in checked.findings.iter().filter(|located| guarded.contains(&located.finding.rule)) {
                lines.push(format!("  {name}: {} ({})\n", located.finding.message, located.finding.rule));
            }
        })
        .await?;
    if lines.is_empty() {
        print(&format!("nothing of the {} objects here would be refused today\n", seen.judged))?;
    } else {
        print(&format!(
            "\nof the {} objects here now, the guards would refuse (they stay: only what gets worse is refused):\n",
            seen.judged
        ))?;
        lines.iter().try_for_each(|line| print(line))?;
    }
    Ok(!tell_unread(&seen.unread))
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
    let what = &step.what;
    match &step.change {
        Change::Create | Change::Unknown => paint(&format!("+ {what}"), AnsiColor::Green),
        Change::Remove => paint(&format!("- {what}"), AnsiColor::Red),
        Change::Same => String::new(),
        Change::Refused(why) => paint(&format!("! {what} would be refused: {why}"), AnsiColor::Red),
        Change::Update(before, after) => {
            format!("{}{}", paint(&format!("~ {what}"), AnsiColor::Yellow), difference(before, after, &paint))
        }
        Change::Conflict(conflicts, before, after) => {
            let mut text = paint(
                &format!("! {what}: others own fields of it; apply changes nothing until that is settled"),
                AnsiColor::Red,
            );
            for conflict in conflicts {
                text.push_str(&format!("    {conflict}\n"));
            }
            text.push_str("  with --force-conflicts it would be:\n");
            text.push_str(&difference(before, after, &paint));
            text
        }
    }
}

fn difference(before: &str, after: &str, paint: &impl Fn(&str, AnsiColor) -> String) -> String {
    let mut text = String::new();
    for change in similar::TextDiff::from_lines(before, after).unified_diff().context_radius(2).iter_hunks() {
        for line in change.iter_changes() {
            // A policy's expressions are longer than any screen.
            let shown: String = line.value().trim_end().chars().take(160).collect();
            match line.tag() {
                similar::ChangeTag::Insert => text.push_str(&paint(&format!("    + {shown}"), AnsiColor::Green)),
                similar::ChangeTag::Delete => text.push_str(&paint(&format!("    - {shown}"), AnsiColor::Red)),
                similar::ChangeTag::Equal => text.push_str(&format!("      {shown}\n")),
            }
        }
    }
    text
}

/// `off` without quotes is `false` to YAML 1.1, and people write it without; the API server takes the word alone.
fn off_as_a_word(spec: &mut Value) {
    for part in ["modes", "rules"] {
        let words = spec.get_mut(part).and_then(Value::as_object_mut).into_iter().flat_map(|words| words.values_mut());
        words.filter(|word| **word == Value::Bool(false)).for_each(|word| *word = "off".into());
    }
    spec.get_mut("namespaces").and_then(Value::as_array_mut).into_iter().flatten().for_each(off_as_a_word);
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
            off_as_a_word(&mut object["spec"]);
            wanted.profile = Some(object);
        }
    }
    Ok(wanted)
}
