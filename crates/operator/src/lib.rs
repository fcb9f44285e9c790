//! What runs in the cluster: the admission webhook, its certificates, its leader, its health.
//!
//! ```text
//!   admission: review (bytes) ─▶ decide (pure) ─▶ answer (bytes)         replayed from a recorded body
//!   certificate: next (pure) ─▶ issue, store (Secret), resolver          rotates without a lost request
//!   leader: step (pure) ─▶ lease (coordination.k8s.io)
//!   server: TLS, limits, routes        health, metrics: plain HTTP beside it
//!   knowledge: what is watched ─▶ the webhook        upkeep: the guards stay as they were made (the leader)
//!   audit: reports of what is there (the leader)
//!   demand: what workloads ask for together, counted while the profile limits it
//!   saves: how long the saves of trainings take, heard while the profile sets their grace
//!   trail: refusals, unlocks, exemptions on record        traces: OpenTelemetry, where a collector is named
//!   deploy: every object that it takes to run this, from one table        chart: the same for Helm
//! ```
//!
//! What must not fail open never depends on this: it is compiled into policies of the API server
//! (`bedplate_guarantees::enforce`). The webhook says more, and says it earlier.

pub mod admission;
pub mod audit;
pub mod certificate;
pub mod chart;
pub mod demand;
pub mod deploy;
pub mod events;
pub mod knowledge;
pub mod leader;
pub mod log;
pub mod metrics;
pub mod run;
pub mod saves;
pub mod server;
pub mod traces;
pub mod trail;
pub mod upkeep;

/// Waits until `stop` says true, or nobody can say it any more.
async fn told(stop: &mut tokio::sync::watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// How often is asked whether the server serves other kinds than it did.
const DISCOVERY: std::time::Duration = std::time::Duration::from_secs(30);

/// Waits until `of` sees something else in what the server serves than it does in what `cluster` knows of it.
async fn other_kinds<T: PartialEq>(cluster: &bedplate_cluster::Cluster, of: impl Fn(&bedplate_cluster::Cluster) -> T) {
    let known = of(cluster);
    loop {
        tokio::time::sleep(DISCOVERY).await;
        let mut other = cluster.clone();
        if other.discover().await.is_ok() && of(&other) != known {
            return;
        }
    }
}

/// What the client calls a resource.
fn api_resource(resource: &bedplate_cluster::Resource) -> kube::api::ApiResource {
    kube::api::ApiResource {
        group: resource.group.clone(),
        version: resource.version.clone(),
        api_version: resource.api_version(),
        kind: resource.kind.clone(),
        plural: resource.plural.clone(),
    }
}

/// Reads the metadata of a pod as rules read an object.
fn of_pod<T>(pod: &kube::api::PartialObjectMeta, read: impl FnOnce(&bedplate_model::Object<'_>) -> T) -> Option<T> {
    let json = serde_json::json!({ "apiVersion": "v1", "kind": "Pod", "metadata": pod.metadata });
    let node = bedplate_model::Node::from_json(&json);
    bedplate_model::Object::of_node(&node).map(|pod| read(&pod))
}

/// How to watch. A list that is a stream costs the API server no copy of all of it (KEP-3157, on by default since 1.34).
fn watching(cluster: &bedplate_cluster::Cluster) -> kube::runtime::watcher::Config {
    let config = kube::runtime::watcher::Config::default();
    if cluster.minor >= 34 { config.streaming_lists() } else { config }
}
