//! Counts what the unfinished workloads of the cluster ask for, while the profile limits that: the only thing for which
//! whole workloads are watched. One is held at a time, and some hundred bytes of it are kept. Of pods, of which there are
//! the most, the metadata is watched, and those are read that no workload has made.
//!
//! Each replica counts for itself. What two of them let through at the same moment, neither knows of the other: a total
//! can be passed by what is created within one delay of a watch, some milliseconds, and by no more.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bedplate_cluster::clock::now;
use bedplate_cluster::{Cluster, Resource};
use bedplate_guarantees::admission::demand::Sum;
use bedplate_model::workload::kinds::TABLE;
use bedplate_model::workload::{Ask, AskId, is_made_by_a_workload, unfold_live};
use bedplate_model::{Node, Object, Workload};
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll, select_all};
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::sync::watch;

use crate::metrics::{Metrics, Namespace};
use crate::server::health::{Health, Part};
use crate::server::routes::Webhook;

/// How often is looked whether the profile still wants it, and what is late forgotten.
const LOOK: Duration = Duration::from_secs(1);
/// After an error.
const PATIENCE: Duration = Duration::from_secs(2);

type Stream = BoxStream<'static, Result<Event<DynamicObject>, String>>;

/// Counts until `stop` says true.
pub async fn keep(
    mut cluster: Cluster,
    webhook: Arc<Webhook>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let counting = async {
        let mut shown = BTreeSet::new();
        loop {
            if webhook.counts() {
                let _part = health.led(Part::Demand);
                follow(&mut cluster, &webhook, &health, |sums| show(&metrics, &mut shown, sums)).await;
                if !webhook.counts() {
                    webhook.demand.retain(|_| false);
                    show(&metrics, &mut shown, Vec::new());
                }
            } else {
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    tokio::select! {
        () = counting => {}
        () = crate::told(&mut stop) => {}
    }
}

/// The kinds that are counted and served.
fn counted(cluster: &Cluster) -> Vec<Resource> {
    let kinds: BTreeSet<_> = TABLE.iter().map(|row| (row.group, row.kind)).collect();
    kinds
        .into_iter()
        .filter_map(|(group, kind)| cluster.kind(group, kind))
        .filter(|kind| kind.can("watch"))
        .cloned()
        .collect()
}

/// Counts until the profile limits nothing any more, or the server serves other kinds.
async fn follow(cluster: &mut Cluster, webhook: &Webhook, health: &Health, mut show: impl FnMut(Vec<(String, Sum)>)) {
    if let Err(error) = cluster.discover().await {
        health.set(Part::Demand, Err(error.to_string()));
        tokio::time::sleep(PATIENCE).await;
        return;
    }
    let kinds = counted(cluster);
    webhook.demand.retain(|id| kinds.iter().any(|kind| is_of(id, kind)));
    let mut events: SelectAll<_> = select_all(kinds.iter().enumerate().map(|(at, kind)| {
        let events = if kind.kind == "Pod" { bare_pods(cluster, kind) } else { whole(cluster, kind) };
        events.map(move |event| (at, event))
    }));
    let mut lists: Vec<List> = kinds.iter().map(|_| List::default()).collect();
    let mut look = tokio::time::interval(LOOK);
    let mut others = std::pin::pin!(crate::other_kinds(cluster, counted));
    loop {
        tokio::select! {
            Some((at, event)) = events.next() => match event {
                Ok(event) => {
                    lists[at].take(event, &kinds[at], webhook);
                    if lists.iter().all(|list| list.complete) {
                        health.set(Part::Demand, Ok(()));
                    }
                }
                Err(error) => health.set(Part::Demand, Err(format!("{} are not counted: {error}", kinds[at].plural))),
            },
            _ = look.tick() => {
                if !webhook.counts() {
                    return;
                }
                webhook.demand.forget_expected(now());
                show(webhook.demand.namespaces());
            }
            () = &mut others => return,
        }
    }
}

/// Shows sums, and no more those of namespaces that have none; never a moment without the others.
fn show(metrics: &Metrics, shown: &mut BTreeSet<String>, sums: Vec<(String, Sum)>) {
    let mut gone = std::mem::take(shown);
    for (namespace, sum) in sums {
        gone.remove(&namespace);
        shown.insert(namespace.clone());
        let gauge = metrics.requested.get_or_create_owned(&Namespace { namespace });
        gauge.set(i64::try_from(sum.accelerators).unwrap_or(i64::MAX));
    }
    for namespace in gone {
        metrics.requested.remove(&Namespace { namespace });
    }
}

fn whole(cluster: &Cluster, kind: &Resource) -> Stream {
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &crate::api_resource(kind));
    let events = watcher(api, crate::watching(cluster)).default_backoff();
    events.map(|event| event.map_err(|error| error.to_string())).boxed()
}

/// The pods that no workload has made, and by their names those that go or that a workload takes over.
fn bare_pods(cluster: &Cluster, kind: &Resource) -> Stream {
    let resource = crate::api_resource(kind);
    let metadata: Api<PartialObjectMeta> = Api::all_with(cluster.client(), &resource);
    let events = watcher(metadata, crate::watching(cluster)).default_backoff();
    let client = cluster.client();
    let read = move |event: Result<Event<PartialObjectMeta>, watcher::Error>| {
        let (client, resource) = (client.clone(), resource.clone());
        async move {
            let (pod, listed) = match event {
                Ok(Event::Init) => return Some(Ok(Event::Init)),
                Ok(Event::InitDone) => return Some(Ok(Event::InitDone)),
                Ok(Event::Delete(pod)) => return Some(Ok(Event::Delete(named(pod)))),
                Ok(Event::Apply(pod)) => (pod, false),
                Ok(Event::InitApply(pod)) => (pod, true),
                Err(error) => return Some(Err(error.to_string())),
            };
            let whole = if is_bare(&pod) {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                let pods: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
                pods.get_opt(pod.metadata.name.as_deref().unwrap_or_default()).await
            } else {
                Ok(None)
            };
            match whole {
                Ok(Some(whole)) if listed => Some(Ok(Event::InitApply(whole))),
                Ok(Some(whole)) => Some(Ok(Event::Apply(whole))),
                // A list that does not name it says as much.
                Ok(None) if listed => None,
                Ok(None) => Some(Ok(Event::Delete(named(pod)))),
                Err(error) => Some(Err(error.to_string())),
            }
        }
    };
    events.filter_map(read).boxed()
}

fn is_bare(pod: &PartialObjectMeta) -> bool {
    crate::of_pod(pod, |pod| !is_made_by_a_workload(pod)).unwrap_or(false)
}

fn named(pod: PartialObjectMeta) -> DynamicObject {
    DynamicObject { types: None, metadata: pod.metadata, data: Value::Null }
}

/// How far the list of a kind is.
#[derive(Default)]
struct List {
    /// What it has named until now.
    named: HashSet<AskId>,
    complete: bool,
}

impl List {
    fn take(&mut self, event: Event<DynamicObject>, kind: &Resource, webhook: &Webhook) {
        let demand = &webhook.demand;
        match event {
            Event::Init => self.named.clear(),
            Event::InitApply(object) => {
                self.named.insert(id(&object, kind));
                set(object, kind, webhook);
            }
            Event::InitDone => {
                demand.retain(|id| !is_of(id, kind) || self.named.contains(id));
                self.named = HashSet::new();
                self.complete = true;
            }
            Event::Apply(object) => set(object, kind, webhook),
            Event::Delete(object) => demand.remove(&id(&object, kind)),
        }
    }
}

fn is_of(id: &AskId, kind: &Resource) -> bool {
    (id.group.as_str(), id.kind.as_str()) == (&kind.group, &kind.kind)
}

fn id(object: &DynamicObject, kind: &Resource) -> AskId {
    AskId {
        group: kind.group.clone(),
        kind: kind.kind.clone(),
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        name: object.metadata.name.clone().unwrap_or_default(),
    }
}

fn set(object: DynamicObject, kind: &Resource, webhook: &Webhook) {
    let id = id(&object, kind);
    let Ok(mut json) = serde_json::to_value(object) else { return };
    // A list's items leave out what the list says.
    json["apiVersion"] = Value::from(kind.api_version());
    json["kind"] = Value::from(kind.kind.as_str());
    let mut node = Node::from_json(&json);
    unfold_live(&mut node);
    let ask = Object::of_node(&node).and_then(|object| Ask::of(&Workload::new(&object)?));
    match ask {
        Some(ask) => webhook.demand.set(ask),
        None => webhook.demand.remove(&id),
    }
}
