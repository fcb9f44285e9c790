//! Keeps the guards as `bedplate apply` made them, and in step with the cluster: the leader's work.
//!
//! ```text
//!   metadata of policies, bindings, lanes, definitions, ─▶ something moved ─▶ plan ─▶ what differs is put back, and told
//!   profile, exemptions, namespaces, controllers: watched
//! ```
//!
//! A guard is put back however often somebody changes it. A lane is not: seats are shared with others, who may have a
//! reason and a controller of their own. After a few times it is left to them for a while, and that is told.
//!
//! A profile that is gone is not made anew: its guards refuse what they refused, and whoever took it away meant to
//! uninstall. What a newer version made is left alone.

mod drift;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bedplate_cluster::bundle::{Change, Step};
use bedplate_cluster::clock::now;
use bedplate_cluster::{Cluster, Place};
use bedplate_guarantees::fairness;
use bedplate_model::names;
use bedplate_model::workload::kinds::crd_groups;
use futures::stream::{BoxStream, SelectAll, select_all};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::events::{Event as Note, EventType, Recorder, Reporter};
use kube::runtime::watcher::{Event, watcher};
use serde_json::Value;
use tokio::time::Instant;

use crate::leader::Turns;
use crate::metrics::{Metrics, Repair};
use crate::server::health::{Health, Part};
use crate::traces::traced;
use drift::{Writer, last_writer, newer};

/// What of a kind is a reason to look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Concern {
    /// Whatever happens to an object of ours.
    Ours,
    /// Whatever happens.
    All,
    /// Definitions of kinds that have pods, and of ours.
    Definitions,
    /// A namespace that comes, goes, or becomes a profile's: its users get a lane.
    Users,
    /// What runs pods comes, goes, or is changed: it may be a controller.
    Controllers,
}

/// Group and kind of what is watched, and what of it is a reason to look.
const WATCHED: &[(&str, &str, Concern)] = &[
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", Concern::Ours),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", Concern::Ours),
    (fairness::enforce::GROUP, "FlowSchema", Concern::Ours),
    (fairness::enforce::GROUP, "PriorityLevelConfiguration", Concern::Ours),
    // A kind that can be scaled has a policy of its own as soon as it is served.
    ("apiextensions.k8s.io", "CustomResourceDefinition", Concern::Definitions),
    (names::GROUP, "StabilityProfile", Concern::All),
    (names::GROUP, "Exemption", Concern::All),
    ("", "Namespace", Concern::Users),
    ("apps", "Deployment", Concern::Controllers),
    ("apps", "StatefulSet", Concern::Controllers),
    ("apps", "DaemonSet", Concern::Controllers),
];

/// Changes come in bursts, and are taken together.
const BURST: Duration = Duration::from_millis(200);
/// What runs pods changes all day, and is read as a whole to find the controllers in it.
const SETTLED: Duration = Duration::from_secs(5);
/// How often is looked without a reason: what is not watched (what the server can do) changes too.
const LOOK: Duration = Duration::from_secs(600);
/// Between two tries of what fails, at first and at most.
const PATIENCE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(300)];

const DAY: u64 = 86_400;

/// How often within [`QUARREL`] seconds a lane is put back after somebody changed it; then it is left as it is that long.
const PATIENCE_WITH_OTHERS: usize = 3;
const QUARREL: u64 = 900;

/// Whether a definition is of a kind that has pods, or ours. There may be a thousand others.
fn concerns_us(name: &str) -> bool {
    name.split_once('.').is_some_and(|(_, group)| group == names::GROUP || crd_groups().contains(&group))
}

/// Why a round put nothing in order.
#[derive(Debug, thiserror::Error)]
enum Idle {
    #[error("there is no StabilityProfile `default`: `bedplate apply` makes one, until then nothing is put in order")]
    NoProfile,
    #[error(
        "the guards are of bedplate {0}, this is {ours}: they are left to the newer one; bring this Deployment to its image",
        ours = env!("CARGO_PKG_VERSION")
    )]
    Newer(String),
    #[error(
        "somebody else changes {0} again and again: it is left as it is for a while. Take it from that manager, or set \
         `modes: {{fairness: \"off\"}}` in the profile"
    )]
    Quarrel(String),
    #[error(transparent)]
    Cluster(#[from] bedplate_cluster::Error),
}

/// Keeps the guards in order, whenever this replica leads.
pub async fn keep(cluster: Cluster, identity: String, health: Arc<Health>, metrics: Arc<Metrics>, mut turns: Turns) {
    let reporter = Reporter { controller: names::GROUP.to_owned(), instance: Some(identity) };
    let recorder = Recorder::new(cluster.client(), reporter);
    let (in_place, quarrels, lanes) = (BTreeMap::new(), BTreeMap::new(), Arc::default());
    let mut keeper = Keeper { cluster, recorder, health, metrics, in_place, quarrels, lanes };
    while turns.begin().await {
        let _led = keeper.health.led(Part::Guards);
        turns.during(keeper.work()).await;
    }
}

struct Keeper {
    cluster: Cluster,
    recorder: Recorder,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// What was seen to be in place, by name: what differs from that later, somebody changed.
    in_place: BTreeMap<String, Value>,
    /// When a lane was put back that somebody had changed, by name, in seconds since 1970.
    quarrels: BTreeMap<String, Vec<u64>>,
    /// Whether the profile asks for lanes: without them nobody asks who is there.
    lanes: Arc<AtomicBool>,
}

/// For how long more moves are waited for.
type Moves = SelectAll<BoxStream<'static, Duration>>;

impl Keeper {
    /// Works until the server serves other kinds than it did.
    async fn work(&mut self) {
        if let Err(error) = self.cluster.discover().await {
            self.health.set(Part::Guards, Err(error.to_string()));
            tokio::time::sleep(PATIENCE[0]).await;
            return;
        }
        let watched = self.watched();
        let mut moves = self.moves(&watched);
        let mut patience = PATIENCE[0];
        loop {
            let wait = match traced("guards", self.round()).await {
                Ok(()) => {
                    self.health.set(Part::Guards, Ok(()));
                    patience = PATIENCE[0];
                    // What lapses, lapses with the day.
                    LOOK.min(Duration::from_secs(DAY - now() % DAY))
                }
                Err(error) => {
                    self.health.set(Part::Guards, Err(error.to_string()));
                    let wait = patience;
                    patience = (patience * 2).min(PATIENCE[1]);
                    wait
                }
            };
            if self.watched() != watched {
                return;
            }
            tokio::select! {
                Some(burst) = moves.next() => settle(&mut moves, burst).await,
                () = tokio::time::sleep(wait) => {}
            }
            // All that has moved by now is seen by the next round.
            while moves.next().now_or_never().flatten().is_some() {}
        }
    }

    /// Places in [`WATCHED`] that the server serves.
    fn watched(&self) -> Vec<usize> {
        (0..WATCHED.len()).filter(|at| self.cluster.kind(WATCHED[*at].0, WATCHED[*at].1).is_some()).collect()
    }

    fn moves(&self, watched: &[usize]) -> Moves {
        select_all(watched.iter().filter_map(|at| {
            let (group, kind, concern) = WATCHED[*at];
            let resource = crate::api_resource(self.cluster.kind(group, kind)?);
            let api: Api<PartialObjectMeta> = Api::all_with(self.cluster.client(), &resource);
            let mut config = crate::watching(&self.cluster);
            if concern == Concern::Ours {
                config = config.labels(&format!("app.kubernetes.io/managed-by={}", names::FIELD_MANAGER));
            }
            let mut known = Known { concern, lanes: Arc::clone(&self.lanes), objects: HashMap::new() };
            let moves = watcher(api, config).default_backoff().filter_map(move |event| {
                let moved = match event {
                    Ok(Event::Init) => false,
                    Ok(Event::InitApply(object)) => {
                        known.take(&object);
                        false
                    }
                    Ok(Event::Apply(object)) => known.take(&object),
                    Ok(Event::Delete(object)) => known.forget(&object),
                    Ok(Event::InitDone) => true,
                    // The round finds out what is the matter.
                    Err(error) => {
                        tracing::warn!(%error, "watch");
                        true
                    }
                };
                let burst = if concern == Concern::Controllers { SETTLED } else { BURST };
                futures::future::ready(moved.then_some(burst))
            });
            Some(moves.boxed())
        }))
    }

    /// Looks at everything, and puts in order what is not.
    async fn round(&mut self) -> Result<(), Idle> {
        self.cluster.discover().await?;
        self.present().await?;
        let wanted = fairness::enforce::is_wanted(&self.cluster.profile().await?.profile);
        self.lanes.store(wanted, Ordering::Relaxed);
        let mut done = Vec::new();
        let (now, in_place, quarrels) = (now(), &mut self.in_place, &mut self.quarrels);
        quarrels.values_mut().for_each(|times| times.retain(|time| time + QUARREL > now));
        quarrels.retain(|_, times| !times.is_empty());
        let left: Vec<String> = quarrels
            .iter()
            .filter(|(_, times)| times.len() >= PATIENCE_WITH_OTHERS)
            .map(|(what, _)| what.clone())
            .collect();
        let leave = |what: &str| left.iter().any(|left| left == what);
        let outcome = self
            .cluster
            .put_back(leave, |step| {
                if step.change != Change::Same {
                    let seen = in_place.get(&step.what) == Some(&step.object);
                    let repair = told(step, step.before.as_ref().and_then(last_writer).as_ref(), seen);
                    if repair.0 != IN_STEP && is_lane(&step.object) {
                        quarrels.entry(step.what.clone()).or_default().push(now);
                    }
                    done.push((repair, step.object.clone()));
                }
                in_place.insert(step.what.clone(), step.object.clone());
            })
            .await;
        // What was done before an error is told too.
        for (repair, guard) in done {
            self.tell(repair, &guard).await;
        }
        outcome?;
        if left.is_empty() { Ok(()) } else { Err(Idle::Quarrel(left.join(", "))) }
    }

    /// Whether there is something to keep, and we are the ones.
    async fn present(&self) -> Result<(), Idle> {
        let Some(resource) = self.cluster.kind(names::GROUP, "StabilityProfile") else { return Err(Idle::NoProfile) };
        let profile = self.cluster.get(Place { resource, namespace: None, name: names::PROFILE }).await?;
        if profile.is_none_or(|profile| profile.pointer("/metadata/deletionTimestamp").is_some()) {
            return Err(Idle::NoProfile);
        }
        for definition in bedplate_guarantees::definitions() {
            let live = self.cluster.get(self.cluster.place(&definition)?).await?;
            match live.and_then(|live| newer(&live, env!("CARGO_PKG_VERSION"))) {
                Some(version) => return Err(Idle::Newer(version)),
                None => continue,
            }
        }
        Ok(())
    }

    async fn tell(&self, (reason, note): (&'static str, String), guard: &Value) {
        let drifted = reason != IN_STEP;
        if drifted {
            tracing::warn!(reason, note, "guard");
        } else {
            tracing::info!(reason, note, "guard");
        }
        self.metrics.repairs.get_or_create(&Repair { reason }).inc();
        let note = Note {
            type_: if drifted { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(note),
            action: "PutInOrder".to_owned(),
            secondary: None,
        };
        let word = |path: &str| guard.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let guard = ObjectReference {
            api_version: word("/apiVersion"),
            kind: word("/kind"),
            name: word("/metadata/name"),
            ..ObjectReference::default()
        };
        if let Err(error) = self.recorder.publish(&note, &guard).await {
            tracing::warn!(%error, "the event could not be written");
        }
    }
}

/// Waits for more moves, for as long as the most urgent of them says.
async fn settle(moves: &mut Moves, burst: Duration) {
    let mut until = Instant::now() + burst;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            Some(burst) = moves.next() => until = until.min(Instant::now() + burst),
        }
    }
}

/// What is known of the objects of a kind, to tell a move from noise.
struct Known {
    concern: Concern,
    lanes: Arc<AtomicBool>,
    /// What of each matters, by namespace and name.
    objects: HashMap<(String, String), i64>,
}

impl Known {
    /// Takes an object as it is; whether that is a reason to look.
    fn take(&mut self, object: &PartialObjectMeta) -> bool {
        let metadata = &object.metadata;
        let matters = match self.concern {
            Concern::Ours | Concern::All => return true,
            Concern::Definitions => return concerns_us(metadata.name.as_deref().unwrap_or_default()),
            Concern::Users => {
                let object = serde_json::json!({ "metadata": metadata });
                i64::from(fairness::detect::is_profile(&object)) + 2 * i64::from(metadata.deletion_timestamp.is_some())
            }
            // Changes with `spec`, and with nothing else.
            Concern::Controllers => metadata.generation.unwrap_or_default(),
        };
        self.objects.insert(key(object), matters) != Some(matters) && self.lanes.load(Ordering::Relaxed)
    }

    fn forget(&mut self, object: &PartialObjectMeta) -> bool {
        match self.concern {
            Concern::Ours | Concern::All => true,
            Concern::Definitions => concerns_us(object.metadata.name.as_deref().unwrap_or_default()),
            Concern::Users | Concern::Controllers => {
                self.objects.remove(&key(object)).is_some() && self.lanes.load(Ordering::Relaxed)
            }
        }
    }
}

fn key(object: &PartialObjectMeta) -> (String, String) {
    (object.metadata.namespace.clone().unwrap_or_default(), object.metadata.name.clone().unwrap_or_default())
}

/// Whether an object is one of flow control.
fn is_lane(object: &Value) -> bool {
    object["apiVersion"].as_str().is_some_and(|version| version.starts_with(fairness::enforce::GROUP))
}

const SWITCH_OFF: &str = "To switch guards off, stop the operator first: \
                          kubectl scale deployment bedplate-operator --namespace bedplate-system --replicas=0";

/// Nobody did anything wrong.
const IN_STEP: &str = "InStep";

/// Why a guard was written, in a word and in a sentence. `seen`: it was in place before, as it is wanted now.
fn told(step: &Step, writer: Option<&Writer>, seen: bool) -> (&'static str, String) {
    let what = &step.what;
    match (&step.change, writer) {
        (Change::Update(..), Some(Writer { manager, time })) => {
            ("Changed", format!("{what} was changed by {manager} at {time}, and is put back"))
        }
        // Who only takes away owns nothing of what is left.
        (Change::Update(..), None) if seen => (
            "Stripped",
            format!("a part of {what} was taken away, and is put back; by whom, the API server's audit log tells"),
        ),
        (Change::Update(..), None) => (IN_STEP, format!("{what} follows the cluster and its profile")),
        (Change::Remove, _) => (IN_STEP, format!("{what} is of no use any more, and is removed")),
        _ if seen => ("Missing", format!("{what} was taken away, and is made again. {SWITCH_OFF}")),
        _ => (IN_STEP, format!("{what} was not there, and is made")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind was added to those that controllers are looked for in, and its controllers got their lane ten minutes late.
    #[test]
    fn what_tells_who_is_there_is_watched() {
        for (group, kind) in bedplate_cluster::fairness::FOUND {
            let watched = WATCHED.iter().find(|(own, name, _)| own == group && name == kind);
            let concern = watched.map(|(.., concern)| *concern);
            assert!(matches!(concern, Some(Concern::Users | Concern::Controllers)), "{kind} of `{group}`");
        }
    }
}
