//! The parts together: `bedplate serve`.
//!
//! ```text
//!   start: ports ─▶ certificate ─▶ profile and neighbours ─▶ ready          the leader reconciles, all answer
//!   stop:  SIGTERM ─▶ not ready ─▶ a while (load balancers) ─▶ open requests end ─▶ lease given up ─▶ 0
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bedplate_cluster::{Cluster, clock};
use bedplate_model::Profile;
use bedplate_model::moment::timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::certificate::Facts;
use crate::certificate::files::{self, Files};
use crate::certificate::resolver::{Resolver, tls};
use crate::certificate::rotation::Lifetimes;
use crate::certificate::store::Store;
use crate::leader::{self, Terms, Turns};
use crate::metrics::Metrics;
use crate::server::health::{self, Health, Part};
use crate::server::routes::{Knowledge, Webhook};
use crate::server::{Limits, Server, listen, serve};
use crate::traces::Traces;
use crate::{audit, demand, deploy, events, knowledge, saves, trail, upkeep};

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// Where the webhook listens.
    pub address: SocketAddr,
    /// Where health and metrics are asked for, in plain HTTP.
    pub health: SocketAddr,
    /// Names and addresses by which API servers reach it.
    pub names: Vec<String>,
    /// The namespace of its Secret and its Lease.
    pub namespace: String,
    /// Who this replica is in the election.
    pub identity: String,
    /// Life of a serving certificate, in seconds.
    pub certificate_life: u64,
    /// Certificate and key in files that somebody else rotates.
    pub files: Option<(PathBuf, PathBuf)>,
    /// How often the leader audits the cluster; never where this is zero.
    pub audit_every: Duration,
    /// How long it goes on to answer after it was told to stop: until nobody sends it requests any more.
    pub drain: Duration,
    /// Where spans are sent, if anywhere.
    pub traces: Option<Traces>,
}

/// What decisions rest on.
pub enum Source {
    /// A cluster, whose profile holds; with the leader's work.
    Cluster(Box<Cluster>),
    /// A profile that does not change, and no cluster at all: certificates have to be files.
    Fixed(Box<Profile>),
}

/// Why it ended, other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port that is taken, most often.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's words.
        why: std::io::Error,
    },
    /// Signals, TLS: the system or the build.
    #[error("cannot start: {0}")]
    Start(String),
    /// Nothing to show to clients.
    #[error("without a cluster there is no Secret to keep certificates in: give --tls-cert and --tls-key")]
    NoCertificate,
}

/// Runs until a signal says to stop, and the open requests have ended. A second signal ends the process at once.
///
/// # Errors
/// What keeps it from starting. What fails later is logged, shown by `/readyz`, and tried again.
pub async fn run(mut options: Options, source: Source) -> Result<(), Error> {
    let bound = |address: SocketAddr| listen(address).map_err(|why| Error::Listen { address, why });
    let (webhook_listener, health_listener) = (bound(options.address)?, bound(options.health)?);
    let start = |error: &dyn std::fmt::Display| Error::Start(error.to_string());
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt()]
        .into_iter()
        .map(signal)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| start(&error))?;
    let resolver = Arc::new(Resolver::default());
    let tls = tls(Arc::clone(&resolver)).map_err(|error| start(&error))?;
    let traces = options.traces.take();
    let mut metrics = Metrics::default();
    if let Some(traces) = &traces {
        metrics.count_dropped(&traces.dropped);
    }
    let metrics = Arc::new(metrics);
    let (stop, stopping) = watch::channel(false);
    let (close, closing) = watch::channel(false);
    let mut work = JoinSet::new();
    if let Some(traces) = traces {
        work.spawn(traces.send(stopping.clone()));
    }
    let webhook = Webhook::new(Arc::clone(&metrics), Limits::WEBHOOK, clock::timestamp);

    let mut parts = vec![Part::Certificate, Part::Knowledge];
    if matches!(source, Source::Cluster(_)) {
        parts.push(Part::ApiServer);
        if options.files.is_none() {
            parts.push(Part::Configuration);
        }
    }
    let health = Health::of(&parts);
    let show = Show { health: Arc::clone(&health), metrics: Arc::clone(&metrics), facts: None };

    match (&options.files, &source) {
        (Some((certificate, key)), _) => {
            let files = Files::new(certificate.clone(), key.clone(), Arc::clone(&resolver));
            work.spawn(from_files(files, show, stopping.clone()));
        }
        (None, Source::Cluster(cluster)) => {
            let store = Store::new(
                cluster.client(),
                (&options.namespace, deploy::SECRET),
                deploy::CONFIGURATION,
                options.names.clone(),
                Lifetimes::of(options.certificate_life),
                Arc::clone(&resolver),
            );
            work.spawn(from_secret(store, Lifetimes::of(options.certificate_life).interval(), show, stopping.clone()));
        }
        (None, Source::Fixed(_)) => return Err(Error::NoCertificate),
    }
    match source {
        Source::Fixed(profile) => {
            webhook.learn(Knowledge { profile: *profile, ..Knowledge::default() });
            health.set(Part::Knowledge, Ok(()));
        }
        Source::Cluster(cluster) => {
            let (lead, leads) = watch::channel(false);
            let turns = Turns { leads, stop: stopping.clone() };
            let (client, metrics, stopping) = (cluster.client(), Arc::clone(&metrics), stopping.clone());
            let counted = Arc::clone(&metrics);
            let (namespace, identity) = (options.namespace.clone(), options.identity.clone());
            let (refusals, told) = mpsc::channel(events::WAITING);
            webhook.report_to(refusals);
            // Both end with the webhook, whose other end the first holds; what waits is written then.
            let (trail, recorded) = mpsc::channel(trail::WAITING);
            work.spawn(events::write(client.clone(), identity.clone(), told, trail.clone()));
            work.spawn(trail::write((*cluster).clone(), recorded));
            work.spawn(trail::watch((*cluster).clone(), turns.clone(), trail));
            if !options.audit_every.is_zero() {
                work.spawn(audit::keep(
                    (*cluster).clone(),
                    options.audit_every,
                    Arc::clone(&health),
                    Arc::clone(&metrics),
                    turns.clone(),
                ));
            }
            work.spawn(upkeep::keep(
                (*cluster).clone(),
                identity.clone(),
                Arc::clone(&health),
                Arc::clone(&metrics),
                turns,
            ));
            work.spawn(demand::keep(
                (*cluster).clone(),
                Arc::clone(&webhook),
                Arc::clone(&health),
                counted,
                stopping.clone(),
            ));
            work.spawn(saves::keep((*cluster).clone(), Arc::clone(&webhook), Arc::clone(&health), stopping.clone()));
            work.spawn(knowledge::keep(*cluster, Arc::clone(&webhook), Arc::clone(&health), stopping.clone()));
            work.spawn(async move {
                let lease = (namespace.as_str(), deploy::LEASE);
                leader::lease::run(client, lease, identity, Terms::DEFAULT, lead, metrics, stopping).await;
            });
        }
    }

    let server = Server {
        listener: webhook_listener,
        tls: Some(tls),
        router: webhook.router(),
        limits: Limits::WEBHOOK,
        metrics: Some(Arc::clone(&metrics)),
    };
    let serving = tokio::spawn(serve(server, closing.clone()));
    drop(webhook);
    let router = health::router(Arc::clone(&health), Arc::clone(&metrics));
    let server = Server { listener: health_listener, tls: None, router, limits: Limits::HEALTH, metrics: None };
    // It answers to the last: whoever asks is told that this replica stops.
    let asked = tokio::spawn(serve(server, closing));
    tracing::info!(webhook = %options.address, health = %options.health, identity = options.identity, "started");

    any(&mut signals).await;
    tracing::info!(drain = options.drain.as_secs_f32(), "stopping: not ready any more");
    health.stop();
    tokio::spawn(async move {
        any(&mut signals).await;
        tracing::warn!("a second signal: ended at once");
        std::process::exit(1);
    });
    tokio::time::sleep(options.drain).await;
    let _ = close.send(true);
    let cut = serving.await.unwrap_or_default();
    // The lease is given up when nobody works under it any more.
    let _ = stop.send(true);
    let _ = tokio::time::timeout(Duration::from_secs(5), work.join_all()).await;
    asked.abort();
    tracing::info!(cut, "stopped");
    Ok(())
}

async fn any(signals: &mut [Signal]) {
    let waiting = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    futures::future::select_all(waiting).await;
}

/// Tells how the certificate is.
struct Show {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    facts: Option<Facts>,
}

impl Show {
    /// Also after an error: what is shown may still be valid.
    fn tell(&self, error: Option<&dyn std::fmt::Display>) {
        let state = match &self.facts {
            Some(facts) if facts.valid(clock::now()) => Ok(()),
            Some(facts) => Err(format!("the certificate was valid until {}", timestamp(facts.until))),
            None => Err("there is none yet".to_owned()),
        };
        if let Some(facts) = &self.facts {
            self.metrics.certificate_end.set(facts.until as f64);
        }
        let state = state.map_err(|why| match error {
            Some(error) => format!("{why}: {error}"),
            None => why,
        });
        self.health.set(Part::Certificate, state);
    }
}

async fn pause(seconds: u64, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::time::timeout(Duration::from_secs(seconds), crate::told(stop)).await.is_err()
}

async fn from_files(mut files: Files, mut show: Show, mut stop: watch::Receiver<bool>) {
    loop {
        match files.look() {
            Ok(facts) => {
                show.facts = Some(facts);
                show.tell(None);
            }
            Err(error) => {
                tracing::warn!(%error, "certificate");
                show.tell(Some(&error));
            }
        }
        if !pause(files::INTERVAL, &mut stop).await {
            return;
        }
    }
}

async fn from_secret(mut store: Store, interval: u64, mut show: Show, mut stop: watch::Receiver<bool>) {
    loop {
        let patience = Duration::from_secs(30);
        let round = tokio::time::timeout(patience, store.round(clock::now)).await;
        let again = match round {
            Ok(Ok(round)) => {
                show.facts = Some(round.serving);
                show.tell(None);
                show.health.set(
                    Part::Configuration,
                    if round.configurations > 0 {
                        Ok(())
                    } else {
                        Err(format!(
                            "no webhook configuration `{}` is there: no API server asks",
                            deploy::CONFIGURATION
                        ))
                    },
                );
                interval
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "certificate");
                show.tell(Some(&error));
                interval.min(2)
            }
            Err(_) => {
                show.tell(Some(&"the API server does not answer"));
                interval.min(2)
            }
        };
        if !pause(again, &mut stop).await {
            return;
        }
    }
}
