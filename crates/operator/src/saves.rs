//! Hears how long the saves of trainings take, while the profile has their grace set by it (`fixes: [grace-too-short]`): for
//! the pods that come in the place of those that are evicted. What was heard is kept in memory; after a restart it is what
//! the pods that are there say, and for others the profile's number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bedplate_cluster::clock::now;
use bedplate_cluster::{Cluster, Resource};
use bedplate_guarantees::training::saves::Maker;
use bedplate_model::{checkpoint_report, names};
use futures::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Event, watcher};
use tokio::sync::watch;

use crate::server::health::{Health, Part};
use crate::server::routes::Webhook;

/// How often is looked whether the profile still wants it.
const LOOK: Duration = Duration::from_secs(1);
/// After an error, and where the server has no such kind.
const PATIENCE: Duration = Duration::from_secs(10);

/// Listens until `stop` says true.
pub async fn keep(mut cluster: Cluster, webhook: Arc<Webhook>, health: Arc<Health>, mut stop: watch::Receiver<bool>) {
    let listening = async {
        loop {
            if webhook.fixes_grace() {
                let _part = health.led(Part::Saves);
                follow(&mut cluster, &webhook, &health).await;
            } else {
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    tokio::select! {
        () = listening => {}
        () = crate::told(&mut stop) => {}
    }
}

/// Listens until the profile wants it no more, or the server serves other kinds.
async fn follow(cluster: &mut Cluster, webhook: &Webhook, health: &Health) {
    if let Err(error) = cluster.discover().await {
        return down(health, error.to_string()).await;
    }
    let served = |cluster: &Cluster| cluster.kind(names::GROUP, checkpoint_report::KIND).is_some();
    let (Some(reports), Some(pods)) =
        (cluster.kind(names::GROUP, checkpoint_report::KIND).cloned(), cluster.kind("", "Pod").cloned())
    else {
        return down(health, "the server has no CheckpointReports: `bedplate apply`".to_owned()).await;
    };
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &crate::api_resource(&reports));
    let mut events = watcher(api, crate::watching(cluster)).default_backoff().boxed();
    let mut makers = HashMap::new();
    let mut look = tokio::time::interval(LOOK);
    let mut others = std::pin::pin!(crate::other_kinds(cluster, served));
    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                Ok(Event::Apply(report) | Event::InitApply(report)) => {
                    if let Err(error) = hear(cluster, &pods, &report, &mut makers, webhook).await {
                        tracing::warn!(%error, "a report of a training is of no use");
                    }
                }
                Ok(Event::Delete(report)) => drop(makers.remove(&name(&report))),
                Ok(Event::Init) => {}
                Ok(Event::InitDone) => health.set(Part::Saves, Ok(())),
                Err(error) => health.set(Part::Saves, Err(format!("trainings are not heard: {error}"))),
            },
            _ = look.tick() => if !webhook.fixes_grace() {
                return;
            },
            () = &mut others => return,
        }
    }
}

async fn down(health: &Health, why: String) {
    health.set(Part::Saves, Err(why));
    tokio::time::sleep(PATIENCE).await;
}

fn name(report: &DynamicObject) -> (String, String) {
    let metadata = &report.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// Takes what a report says. Whose pod it is, is asked once.
async fn hear(
    cluster: &Cluster,
    pods: &Resource,
    report: &DynamicObject,
    makers: &mut HashMap<(String, String), Maker>,
    webhook: &Webhook,
) -> Result<(), kube::Error> {
    let Some(seconds) = report.data.pointer("/spec/saveSeconds").and_then(serde_json::Value::as_f64) else {
        return Ok(());
    };
    let key = name(report);
    let maker = match makers.get(&key) {
        Some(maker) => maker.clone(),
        None => {
            let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), &key.0, &crate::api_resource(pods));
            let Some(pod) = api.get_metadata_opt(&key.1).await? else { return Ok(()) };
            let Some(maker) = crate::of_pod(&pod, Maker::of) else { return Ok(()) };
            makers.entry(key).or_insert(maker).clone()
        }
    };
    webhook.saves.tell(maker, seconds, now());
    Ok(())
}
