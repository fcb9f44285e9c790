//! What is put on record: see [`bedplate_cluster::trail`]. Every replica tells of its refusals; the leader of what it sees
//! of unlocks and exemptions, whoever made them and however.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bedplate_cluster::trail::{Entry, What};
use bedplate_cluster::{Cluster, clock};
use bedplate_model::{Exemption, names};
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll, select_all};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Event, watcher};
use tokio::sync::mpsc;

use crate::leader::Turns;

/// Entries that wait to be written.
pub const WAITING: usize = 256;
/// Entries of so long are written together: the record is one object, and etcd keeps a copy of each version.
const TOGETHER: Duration = Duration::from_secs(10);
/// How often is looked whether an exemption has lapsed.
const LOOK: Duration = Duration::from_secs(60);
/// After an error.
const PATIENCE: Duration = Duration::from_secs(2);

/// Kinds whose objects are unlocked, beside those that only the command line unlocks.
const UNLOCKED: &[(&str, &str)] = &[("", "Namespace"), ("apiextensions.k8s.io", "CustomResourceDefinition")];

/// Writes entries until nobody sends any more; the last ones too.
pub async fn write(cluster: Cluster, mut entries: mpsc::Receiver<Entry>) {
    let mut waiting = Vec::new();
    while let Some(entry) = entries.recv().await {
        waiting.push(entry);
        let end = tokio::time::Instant::now() + TOGETHER;
        while let Ok(Some(entry)) = tokio::time::timeout_at(end, entries.recv()).await {
            waiting.push(entry);
        }
        if let Err(error) = cluster.record_all(&waiting).await {
            tracing::warn!(%error, entries = waiting.len(), "not put on record");
        }
        // What could not be written is in the log; to keep it would be to grow while the server is away.
        waiting.clear();
    }
}

/// Tells of unlocks and exemptions, whenever this replica leads.
pub async fn watch(mut cluster: Cluster, mut turns: Turns, trail: mpsc::Sender<Entry>) {
    let mut exemptions = Exemptions::default();
    while turns.begin().await {
        turns.during(follow(&mut cluster, &mut exemptions, &trail)).await;
    }
}

/// Something that was seen.
enum Seen {
    Unlock(Entry),
    Exemption(Box<Event<DynamicObject>>),
}

/// Tells until the definition of exemptions comes or goes.
async fn follow(cluster: &mut Cluster, exemptions: &mut Exemptions, trail: &mpsc::Sender<Entry>) {
    if let Err(error) = cluster.discover().await {
        tracing::warn!(%error, "unlocks and exemptions cannot be seen");
        tokio::time::sleep(PATIENCE).await;
        return;
    }
    let cluster = &*cluster;
    let mut streams: SelectAll<BoxStream<'static, Seen>> = select_all(UNLOCKED.iter().filter_map(|(group, kind)| {
        let resource = crate::api_resource(cluster.kind(group, kind)?);
        let api: Api<PartialObjectMeta> = Api::all_with(cluster.client(), &resource);
        let unlocks = watcher(api, crate::watching(cluster)).default_backoff().filter_map(move |event| async move {
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => unlock(kind, &object).map(Seen::Unlock),
                _ => None,
            }
        });
        Some(unlocks.boxed())
    }));
    if let Some(resource) = cluster.kind(names::GROUP, "Exemption").map(crate::api_resource) {
        let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
        let events = watcher(api, crate::watching(cluster)).default_backoff();
        streams.push(events.filter_map(|event| async move { event.ok().map(Box::new).map(Seen::Exemption) }).boxed());
    }
    let exempts = |cluster: &Cluster| cluster.kind(names::GROUP, "Exemption").is_some();
    let mut others = std::pin::pin!(crate::other_kinds(cluster, exempts));
    loop {
        let told = tokio::select! {
            seen = streams.next() => match seen {
                Some(Seen::Unlock(entry)) => vec![entry],
                Some(Seen::Exemption(event)) => exemptions.saw(*event),
                None => std::future::pending().await,
            },
            () = &mut others => return,
            () = tokio::time::sleep(LOOK) => exemptions.lapsed(&clock::timestamp()),
        };
        for entry in told {
            tracing::info!(
                what = entry.what.name(),
                who = entry.who,
                object = entry.object,
                why = entry.why,
                "on record"
            );
            if trail.send(entry).await.is_err() {
                return;
            }
        }
    }
}

/// The entry of an object that is unlocked. It is the one of `bedplate unlock`, where that did it.
fn unlock(kind: &str, object: &PartialObjectMeta) -> Option<Entry> {
    let value = object.annotations().get(names::UNLOCK)?.clone();
    let who = value.split_once(" by ").map(|(_, rest)| rest.rsplit_once(": ").map_or(rest, |(who, _)| who).to_owned());
    Some(Entry {
        what: What::Unlocked,
        who: who.unwrap_or_default(),
        object: format!("{kind} {}", object.name_any()),
        why: value.clone(),
        once: value,
    })
}

/// The exemptions that there are, by name.
#[derive(Debug, Default)]
struct Exemptions {
    known: BTreeMap<String, Known>,
    /// What a list has named since it began.
    listed: BTreeSet<String>,
}

#[derive(Debug)]
struct Known {
    uid: String,
    exemption: Exemption,
    who: String,
    lapsed: bool,
}

impl Exemptions {
    fn saw(&mut self, event: Event<DynamicObject>) -> Vec<Entry> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => match read(&object) {
                Some(known) => {
                    self.listed.insert(object.name_any());
                    self.is(object.name_any(), known)
                }
                None => Vec::new(),
            },
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<String> = self.known.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                gone.into_iter().filter_map(|name| self.gone(&name)).collect()
            }
            Event::Apply(object) => read(&object).map_or_else(Vec::new, |known| self.is(object.name_any(), known)),
            Event::Delete(object) => self.gone(&object.name_any()).into_iter().collect(),
        }
    }

    fn is(&mut self, name: String, known: Known) -> Vec<Entry> {
        let same = self.known.get(&name).is_some_and(|before| before.exemption == known.exemption);
        if same {
            return Vec::new();
        }
        let entry = known.entry(What::Exempted, &name, &known.who);
        self.known.insert(name, known);
        vec![entry]
    }

    fn gone(&mut self, name: &str) -> Option<Entry> {
        // Who deleted it, only the API server's audit log knows.
        self.known.remove(name).map(|known| known.entry(What::ExemptionRemoved, name, ""))
    }

    fn lapsed(&mut self, now: &str) -> Vec<Entry> {
        let mut told = Vec::new();
        for (name, known) in &mut self.known {
            if !known.lapsed && known.exemption.expired(now) {
                known.lapsed = true;
                told.push(known.entry(What::ExemptionLapsed, name, ""));
            }
        }
        told
    }
}

impl Known {
    fn entry(&self, what: What, name: &str, who: &str) -> Entry {
        let Exemption { rule, subject, reason, expires } = &self.exemption;
        Entry {
            what,
            who: who.to_owned(),
            object: format!("Exemption {name}"),
            why: format!("{rule} of {} until {expires}: {reason}", subject.name),
            once: format!("{} {rule} {} {expires} {reason}", self.uid, subject.name),
        }
    }
}

/// The exemption of an object, where this version can read it. Who wrote it, the API server tells only of the program.
fn read(object: &DynamicObject) -> Option<Known> {
    let exemption = serde_json::from_value(object.data.get("spec")?.clone()).ok()?;
    let writer = object.managed_fields().iter().rfind(|entry| entry.subresource.is_none());
    let who = writer.and_then(|entry| entry.manager.clone()).unwrap_or_default();
    Some(Known { uid: object.uid().unwrap_or_default(), exemption, who, lapsed: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, expires: &str) -> DynamicObject {
        serde_json::from_value(serde_json::json!({
            "apiVersion": names::API_VERSION, "kind": "Exemption", "metadata": { "name": name, "uid": "u" },
            "spec": { "rule": "gpu-ceiling", "subject": { "name": "big" }, "reason": "paper", "expires": expires },
        }))
        .unwrap()
    }

    fn names_of(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.what.name()).collect()
    }

    #[test]
    fn an_exemption_is_on_record_from_its_beginning_to_its_end() {
        let mut seen = Exemptions::default();
        assert_eq!(names_of(&seen.saw(Event::Apply(object("a", "2026-12-01")))), ["exempted"]);
        assert!(seen.saw(Event::Apply(object("a", "2026-12-01"))).is_empty(), "its status changed");
        assert_eq!(names_of(&seen.saw(Event::Apply(object("a", "2027-12-01")))), ["exempted"], "it was prolonged");
        assert!(seen.lapsed("2027-12-01T23:59:59Z").is_empty());
        assert_eq!(names_of(&seen.lapsed("2027-12-02T00:00:00Z")), ["exemption-lapsed"]);
        assert!(seen.lapsed("2027-12-03T00:00:00Z").is_empty());
        assert_eq!(names_of(&seen.saw(Event::Delete(object("a", "2027-12-01")))), ["exemption-removed"]);
    }

    /// An exemption was deleted while the watch was away.
    #[test]
    fn what_a_new_list_does_not_name_was_taken_away() {
        let mut seen = Exemptions::default();
        for name in ["a", "b"] {
            seen.saw(Event::Apply(object(name, "2026-12-01")));
        }
        assert!(seen.saw(Event::Init).is_empty());
        assert!(seen.saw(Event::InitApply(object("b", "2026-12-01"))).is_empty());
        let told = seen.saw(Event::InitDone);
        assert_eq!(names_of(&told), ["exemption-removed"]);
        assert_eq!(told[0].object, "Exemption a");
    }
}
