//! Counts what the unfinished workloads of the cluster ask for, while the profile limits that: the only thing for which
//! whole workloads are watched. One is held at a time, and some hundred bytes of it are kept.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bedplate_cluster::unlock::now;
use bedplate_cluster::{Cluster, Resource};
use bedplate_model::workload::kinds::TABLE;
use bedplate_model::workload::{Ask, AskId, unfold_live};
use bedplate_model::{Node, Object, Workload};
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll, select_all};
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::sync::watch;

use crate::metrics::{Metrics, Namespace};
use crate::server::health::{Health, Part};
use crate::server::routes::Webhook;

/// How often is looked whether the profile still wants it, and what is late forgotten.
const LOOK: Duration = Duration::from_secs(1);
/// How often is asked whether a kind that was not served is served now.
const DISCOVERY: Duration = Duration::from_secs(30);
/// After an error.
const PATIENCE: Duration = Duration::from_secs(2);

type Stream = SelectAll<BoxStream<'static, (usize, Result<Event<DynamicObject>, watcher::Error>)>>;

/// Counts until `stop` says true.
pub async fn keep(
    mut cluster: Cluster,
    webhook: Arc<Webhook>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let counting = async {
        loop {
            if webhook.counts() {
                let _part = health.led(Part::Demand);
                follow(&mut cluster, &webhook, &health, &metrics).await;
                if !webhook.counts() {
                    webhook.demand.retain(|_| false);
                    metrics.requested.clear();
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

/// The kinds that are counted and served. Pods are their owners' to ask for.
fn counted(cluster: &Cluster) -> Vec<Resource> {
    let kinds: BTreeSet<_> =
        TABLE.iter().map(|row| (row.group, row.kind)).filter(|kind| *kind != ("", "Pod")).collect();
    kinds
        .into_iter()
        .filter_map(|(group, kind)| cluster.kind(group, kind))
        .filter(|kind| kind.can("watch"))
        .cloned()
        .collect()
}

/// Counts until the profile limits nothing any more, or the server serves other kinds.
async fn follow(cluster: &mut Cluster, webhook: &Webhook, health: &Health, metrics: &Metrics) {
    if let Err(error) = cluster.discover().await {
        health.set(Part::Demand, Err(error.to_string()));
        tokio::time::sleep(PATIENCE).await;
        return;
    }
    let kinds = counted(cluster);
    webhook.demand.retain(|id| kinds.iter().any(|kind| is_of(id, kind)));
    let mut events: Stream = select_all(kinds.iter().enumerate().map(|(at, kind)| {
        let api: Api<DynamicObject> = Api::all_with(cluster.client(), &crate::api_resource(kind));
        watcher(api, crate::watching(cluster)).default_backoff().map(move |event| (at, event)).boxed()
    }));
    let mut lists: Vec<List> = kinds.iter().map(|_| List::default()).collect();
    let (mut look, mut discovery) = (tokio::time::interval(LOOK), tokio::time::interval(DISCOVERY));
    discovery.tick().await;
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
                metrics.requested.clear();
                for (namespace, sum) in webhook.demand.namespaces() {
                    let gauge = metrics.requested.get_or_create_owned(&Namespace { namespace });
                    gauge.set(i64::try_from(sum.accelerators).unwrap_or(i64::MAX));
                }
            }
            _ = discovery.tick() => {
                let mut other = cluster.clone();
                if other.discover().await.is_ok() && counted(&other) != kinds {
                    return;
                }
            }
        }
    }
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
