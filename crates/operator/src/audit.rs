//! The leader's audits: what `bedplate audit` would find, now and then, told by reports, the profile's status and metrics.
//!
//! ```text
//!   cluster ─▶ the rules of `check`, an object at a time ─┬─▶ reports (openreports.io, wgpolicyk8s.io), where they are served
//!                                                         ├─▶ status.guarantees.*.observed of the profile
//!                                                         └─▶ metrics: findings, by guarantee and severity
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use bedplate_cluster::standing::Found;
use bedplate_cluster::{Cluster, clock};
use bedplate_guarantees::find;
use bedplate_model::{Guarantee, Severity};
use bedplate_report::policy::Policy;

use crate::leader::Turns;
use crate::metrics::{Findings, Metrics};
use crate::server::health::{Health, Part};
use crate::traces::traced;

/// A new leader waits until the others have settled: a restart of everything is no time to list everything.
const FIRST: Duration = Duration::from_secs(20);

/// Audits the cluster whenever this replica leads: `every` so often, after a while at first.
pub async fn keep(mut cluster: Cluster, every: Duration, health: Arc<Health>, metrics: Arc<Metrics>, mut turns: Turns) {
    while turns.begin().await {
        let _led = health.led(Part::Audit);
        turns
            .during(async {
                tokio::time::sleep(FIRST.min(every)).await;
                loop {
                    let state = traced("audit", round(&mut cluster, &metrics)).await.map_err(|error| error.to_string());
                    health.set(Part::Audit, state);
                    tokio::time::sleep(every).await;
                }
            })
            .await;
    }
}

async fn round(cluster: &mut Cluster, metrics: &Metrics) -> Result<(), bedplate_cluster::Error> {
    let started = Instant::now();
    cluster.discover().await?;
    let profile = cluster.profile().await?.profile;
    let (mut policy, mut found) = (Policy::default(), Found::new());
    let seen = cluster
        .audit(&profile, &clock::timestamp(), None, |_, _, checked| {
            policy.add(checked);
            for located in &checked.findings {
                let Some(rule) = find(located.finding.rule) else { continue };
                let (errors, warnings) = found.entry(rule.guarantee).or_default();
                match located.finding.severity {
                    Severity::Error => *errors += 1,
                    Severity::Warning => *warnings += 1,
                    Severity::Info => {}
                }
            }
        })
        .await?;
    let reports = cluster.report(&policy).await?;
    cluster.observed(&found).await?;
    for guarantee in Guarantee::ALL {
        let (errors, warnings) = found.get(&guarantee).copied().unwrap_or_default();
        for (severity, number) in [("error", errors), ("warning", warnings)] {
            let label = Findings { guarantee: guarantee.name(), severity };
            metrics.findings.get_or_create(&label).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
    metrics.audited.set(clock::now() as f64);
    metrics.audit_duration.set(started.elapsed().as_secs_f64());
    tracing::info!(
        judged = seen.judged,
        errors = found.values().map(|(errors, _)| errors).sum::<u64>(),
        warnings = found.values().map(|(_, warnings)| warnings).sum::<u64>(),
        reports,
        unread = ?seen.unread.keys().collect::<Vec<_>>(),
        seconds = started.elapsed().as_secs_f32(),
        "audited"
    );
    Ok(())
}
