//! What decisions rest on, kept in step with the cluster: the profile, its exemptions, and the few neighbours that
//! rules ask about. Watched, never polled; of each object only what a rule reads is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bedplate_cluster::profile::{InForce, profile_of};
use bedplate_cluster::{Cluster, Resource};
use bedplate_guarantees::Neighbours;
use bedplate_model::{Node, Object, names};
use futures::StreamExt;
use futures::stream::{SelectAll, select_all};
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::server::health::{Health, Part};
use crate::server::routes::{Knowledge, Webhook};

/// What is watched: group, kind, and the namespace where only one matters.
const WATCHED: &[(&str, &str, Option<&str>)] = &[
    (names::GROUP, "StabilityProfile", None),
    (names::GROUP, "Exemption", None),
    ("policy", "PodDisruptionBudget", None),
    ("resource.k8s.io", "ResourceClaimTemplate", None),
    // For the one of NodeLocal DNSCache.
    ("apps", "DaemonSet", Some("kube-system")),
];

/// Changes come in bursts, and are taken together.
const BURST: Duration = Duration::from_millis(50);

type Stream = SelectAll<futures::stream::BoxStream<'static, (usize, Result<Event<DynamicObject>, watcher::Error>)>>;

/// Keeps a webhook in step until `stop` says true.
pub async fn keep(mut cluster: Cluster, webhook: Arc<Webhook>, health: Arc<Health>, mut stop: watch::Receiver<bool>) {
    let mut known = Known::default();
    loop {
        let again = tokio::select! {
            () = follow(&mut cluster, &webhook, &health, &mut known) => true,
            () = crate::told(&mut stop) => false,
        };
        if !again {
            return;
        }
    }
}

/// What was read so far.
#[derive(Default)]
struct Known {
    /// By place in [`WATCHED`] and by namespace and name.
    objects: BTreeMap<(usize, String), Value>,
    /// What a list has not named yet, by place: it is gone, if it stays so.
    stale: BTreeMap<usize, BTreeSet<String>>,
    /// The places whose list was read to its end, or that the server has not.
    complete: BTreeSet<usize>,
}

/// Watches until the server serves more kinds than it did.
async fn follow(cluster: &mut Cluster, webhook: &Webhook, health: &Health, known: &mut Known) {
    if let Err(error) = cluster.discover().await {
        health.set(Part::ApiServer, Err(error.to_string()));
        tokio::time::sleep(Duration::from_secs(2)).await;
        return;
    }
    let served = |cluster: &Cluster| -> Vec<usize> {
        (0..WATCHED.len()).filter(|at| cluster.kind(WATCHED[*at].0, WATCHED[*at].1).is_some()).collect()
    };
    let now = served(cluster);
    // What is not served has no objects.
    known.complete = (0..WATCHED.len()).filter(|at| !now.contains(at)).collect();
    known.objects.retain(|(at, _), _| now.contains(at));
    let mut events: Stream = select_all(now.iter().filter_map(|at| {
        let (group, kind, namespace) = WATCHED[*at];
        let at = *at;
        let stream = stream(cluster, cluster.kind(group, kind)?, namespace);
        Some(stream.map(move |event| (at, event)).boxed())
    }));
    let mut dirty = true;
    let mut others = std::pin::pin!(crate::other_kinds(cluster, served));
    loop {
        tokio::select! {
            event = events.next(), if !now.is_empty() => {
                let Some((at, event)) = event else { return };
                match event {
                    Ok(event) => {
                        health.set(Part::ApiServer, Ok(()));
                        dirty |= known.take(at, event);
                    }
                    Err(error) => {
                        let (_, kind, _) = WATCHED[at];
                        health.set(Part::ApiServer, Err(format!("watch of {kind}: {error}")));
                        if known.complete.len() < WATCHED.len() {
                            health.set(Part::Knowledge, Err(format!("{kind} cannot be read: {error}")));
                        }
                        // Its definition is gone: what it said no longer holds.
                        if not_found(&error) {
                            return;
                        }
                    }
                }
            }
            () = tokio::time::sleep(BURST), if dirty && known.complete.len() == WATCHED.len() => {
                dirty = false;
                match known.knowledge() {
                    Ok(knowledge) => {
                        webhook.learn(knowledge);
                        health.set(Part::Knowledge, Ok(()));
                    }
                    // The last one that could be read holds on.
                    Err(error) => tracing::error!(%error, "the profile cannot be read: what held before holds on"),
                }
            }
            () = &mut others, if now.len() < WATCHED.len() => return,
        }
    }
}

fn stream(
    cluster: &Cluster,
    resource: &Resource,
    namespace: Option<&str>,
) -> impl futures::Stream<Item = Result<Event<DynamicObject>, watcher::Error>> + Send + 'static {
    let kind = crate::api_resource(resource);
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client(), namespace, &kind),
        None => Api::all_with(cluster.client(), &kind),
    };
    watcher(api, crate::watching(cluster)).default_backoff()
}

impl Known {
    /// Takes an event; whether anything is different now.
    fn take(&mut self, at: usize, event: Event<DynamicObject>) -> bool {
        match event {
            Event::Init => {
                let names = self.objects.keys().filter(|(own, _)| *own == at).map(|(_, name)| name.clone()).collect();
                self.stale.insert(at, names);
                false
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let name = name(&object);
                if let Some(stale) = self.stale.get_mut(&at) {
                    stale.remove(&name);
                }
                let essence = essence(at, object);
                // A status that was written changes nothing for us.
                if self.objects.get(&(at, name.clone())) == Some(&essence) {
                    return false;
                }
                self.objects.insert((at, name), essence);
                true
            }
            Event::InitDone => {
                for name in self.stale.remove(&at).unwrap_or_default() {
                    self.objects.remove(&(at, name));
                }
                self.complete.insert(at);
                true
            }
            Event::Delete(object) => self.objects.remove(&(at, name(&object))).is_some(),
        }
    }

    fn knowledge(&self) -> Result<Knowledge, bedplate_cluster::Error> {
        let own = self.objects.iter().filter(|((at, name), _)| {
            // Others than the cluster's profile are nobody's.
            WATCHED[*at].0 == names::GROUP
                && (WATCHED[*at].1 != "StabilityProfile" || name.trim_start_matches('/') == names::PROFILE)
        });
        let InForce { profile, passed_over } = profile_of(own.map(|(_, object)| object.clone()).collect())?;
        for why in passed_over {
            tracing::warn!(%why, "passed over");
        }
        let mut neighbours = Neighbours::default();
        for ((at, _), object) in &self.objects {
            if WATCHED[*at].0 != names::GROUP {
                let node = Node::from_json(object);
                if let Some(object) = Object::of_node(&node) {
                    neighbours.add(&object);
                }
            }
        }
        Ok(Knowledge { profile, neighbours })
    }
}

fn name(object: &DynamicObject) -> String {
    let metadata = &object.metadata;
    format!("{}/{}", metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// What is kept of an object.
fn essence(at: usize, object: DynamicObject) -> Value {
    let (group, kind, _) = WATCHED[at];
    let api_version = object.types.map(|types| types.api_version).unwrap_or_default();
    let mut metadata = Map::new();
    for (key, value) in [("name", object.metadata.name), ("namespace", object.metadata.namespace)] {
        if let Some(value) = value {
            metadata.insert(key.to_owned(), value.into());
        }
    }
    let mut kept = Map::new();
    // A list's items leave out what the list says.
    let api_version =
        if api_version.is_empty() && group == names::GROUP { names::API_VERSION.to_owned() } else { api_version };
    let api_version = if api_version.is_empty() { format!("{group}/v1") } else { api_version };
    kept.insert("apiVersion".to_owned(), api_version.into());
    kept.insert("kind".to_owned(), kind.into());
    kept.insert("metadata".to_owned(), metadata.into());
    // Of a DaemonSet only that it is there.
    if kind != "DaemonSet"
        && let Some(spec) = object.data.get("spec")
    {
        kept.insert("spec".to_owned(), spec.clone());
    }
    kept.into()
}

fn not_found(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code == 404,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(json: Value) -> DynamicObject {
        serde_json::from_value(json).unwrap()
    }

    fn exemption(name: &str) -> DynamicObject {
        object(json!({ "metadata": { "name": name }, "spec": {
            "rule": "gpu-ceiling", "subject": { "name": name }, "reason": "the yearly run", "expires": "2999-01-01" } }))
    }

    #[test]
    fn what_a_list_no_longer_names_is_gone() {
        let mut known = Known::default();
        known.take(1, Event::Init);
        for name in ["a", "b"] {
            assert!(known.take(1, Event::InitApply(exemption(name))));
        }
        known.take(1, Event::InitDone);
        assert_eq!(known.knowledge().unwrap().profile.exemptions.len(), 2);
        // The watch had expired; meanwhile `a` was deleted.
        known.take(1, Event::Init);
        assert!(!known.take(1, Event::InitApply(exemption("b"))), "the same as before is nothing new");
        known.take(1, Event::InitDone);
        let left = known.knowledge().unwrap().profile.exemptions;
        assert_eq!(left.iter().map(|(exemption, _)| exemption.subject.name.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn the_profile_of_another_name_is_nobodys() {
        let mut known = Known::default();
        let profile = |name: &str, ceiling: u64| {
            object(json!({ "metadata": { "name": name }, "spec": { "admission": { "acceleratorsPerJob": ceiling } } }))
        };
        known.take(0, Event::Apply(profile("mine", 64)));
        assert_eq!(known.knowledge().unwrap().profile.settings(None).accelerators_per_job(), 8);
        known.take(0, Event::Apply(profile("default", 16)));
        assert_eq!(known.knowledge().unwrap().profile.settings(None).accelerators_per_job(), 16);
    }

    #[test]
    fn a_status_that_is_written_all_day_is_no_news() {
        let mut known = Known::default();
        let budget = |healthy: u64| {
            object(
                json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "b", "namespace": "n" },
                "spec": { "selector": { "matchLabels": { "app": "a" } } }, "status": { "currentHealthy": healthy } }),
            )
        };
        assert!(known.take(2, Event::Apply(budget(1))));
        assert!(!known.take(2, Event::Apply(budget(2))));
        let labels = std::iter::once(("app".to_owned(), "a".to_owned())).collect();
        assert!(known.knowledge().unwrap().neighbours.has_budget("n", &labels));
    }
}
