//! The thin edge of the election: a Lease.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::watch;

use super::{Candidate, Record, Step, Terms};
use crate::metrics::Metrics;

/// Takes part in the election until `stop` says true, then steps down. `leads` says whether this replica leads.
pub async fn run(
    client: Client,
    (namespace, name): (&str, &str),
    me: String,
    terms: Terms,
    leads: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let leases: Api<Lease> = Api::namespaced(client, namespace);
    let mut candidate = Candidate::new(me.clone(), terms);
    let start = Instant::now();
    let tell = |leading: bool| {
        if leads.send_replace(leading) != leading {
            metrics.leader.set(i64::from(leading));
            tracing::info!(me, leading, "leader");
        }
    };
    loop {
        // An answer that takes too long is none: the time of the lease goes on.
        match tokio::time::timeout(terms.renew, turn(&leases, name, &mut candidate, start)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "leader election"),
            Err(_) => tracing::warn!("leader election: the API server does not answer"),
        }
        tell(candidate.leads(start.elapsed()));
        tokio::select! {
            () = tokio::time::sleep(terms.retry) => tell(candidate.leads(start.elapsed())),
            () = crate::told(&mut stop) => break,
        }
    }
    if candidate.leads(start.elapsed()) {
        tell(false);
        let down = step_down(&leases, name, &me);
        if let Ok(Err(error)) = tokio::time::timeout(terms.retry, down).await {
            tracing::warn!(%error, "could not step down: the others wait until the lease is over");
        }
    }
}

async fn turn(leases: &Api<Lease>, name: &str, candidate: &mut Candidate, start: Instant) -> Result<(), kube::Error> {
    let lease = leases.get_opt(name).await?;
    let begun = start.elapsed();
    let record = lease.as_ref().map(record);
    if candidate.look(record.as_ref(), begun) == Step::Wait {
        candidate.lost();
        return Ok(());
    }
    let wanted = candidate.record(record.as_ref(), String::new());
    let mut new = lease.unwrap_or_default();
    new.metadata.name = Some(name.to_owned());
    let labels = new.metadata.labels.get_or_insert_default();
    labels.insert("app.kubernetes.io/managed-by".to_owned(), bedplate_model::names::FIELD_MANAGER.to_owned());
    let now = now();
    let spec = new.spec.get_or_insert_with(LeaseSpec::default);
    if spec.holder_identity.as_deref() != Some(&wanted.holder) {
        spec.acquire_time = Some(now.clone());
    }
    spec.holder_identity = Some(wanted.holder);
    spec.lease_transitions = Some(wanted.transitions);
    spec.lease_duration_seconds = i32::try_from(Terms::DEFAULT.lease.as_secs()).ok();
    spec.renew_time = Some(now);
    let parameters = PostParams::default();
    let written = if record.is_some() {
        leases.replace(name, &parameters, &new).await
    } else {
        leases.create(&parameters, &new).await
    };
    match written {
        Ok(_) => candidate.took(begun),
        // Somebody else was first.
        Err(kube::Error::Api(status)) if status.code == 409 => candidate.lost(),
        // It may have been written all the same; until the renewal is too old, this replica goes on.
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn step_down(leases: &Api<Lease>, name: &str, me: &str) -> Result<(), kube::Error> {
    let Some(mut lease) = leases.get_opt(name).await? else { return Ok(()) };
    let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(me)) else {
        return Ok(());
    };
    spec.holder_identity = None;
    leases.replace(name, &PostParams::default(), &lease).await.map(drop)
}

fn now() -> MicroTime {
    MicroTime(k8s_openapi::jiff::Timestamp::now())
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0.to_string()).unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}
