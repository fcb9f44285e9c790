//! Metrics, in names and units of OpenMetrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// What a request to the webhook was and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    /// `mutate` or `validate`.
    pub stage: &'static str,
    /// `allowed`, `warned`, `fixed`, `refused`, or why there was no decision: `malformed`, `too_large`, `timeout`,
    /// `overloaded`, `panicked`.
    pub outcome: &'static str,
}

/// A rule and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RuleLabel {
    /// The rule.
    pub rule: &'static str,
}

/// Why a guard was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Repair {
    /// `Changed`, `Stripped`, `Missing`: somebody did that to it; `InStep`: it follows the cluster.
    pub reason: &'static str,
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Findings {
    /// Whose rules.
    pub guarantee: &'static str,
    /// `error` or `warning`.
    pub severity: &'static str,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Namespace {
    /// Its name.
    pub namespace: String,
}

/// The media type of what [`Metrics::text`] writes.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric. Cheap to clone: all clones count together.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests to the webhook, by stage and outcome.
    pub requests: Family<Request, Counter>,
    /// Refusals, by rule.
    pub refusals: Family<RuleLabel, Counter>,
    /// Seconds from the last byte of a request to the first of its answer.
    pub duration: Histogram,
    /// Requests that are being answered.
    pub in_flight: Gauge,
    /// Open connections to the webhook.
    pub connections: Gauge,
    /// Connections closed before a request: too many, no TLS, too slow.
    pub connections_refused: Counter,
    /// When the serving certificate ends, in seconds since 1970.
    pub certificate_end: Gauge<f64, AtomicU64>,
    /// Whether this replica is the leader.
    pub leader: Gauge,
    /// Guards that were written to the API server, by reason.
    pub repairs: Family<Repair, Counter>,
    /// What the last audit found, by guarantee and severity.
    pub findings: Family<Findings, Gauge>,
    /// Accelerators that unfinished workloads ask for, by namespace; only where the profile limits them.
    pub requested: Family<Namespace, Gauge>,
    /// When the last audit ended, in seconds since 1970.
    pub audited: Gauge<f64, AtomicU64>,
    /// How long it took, in seconds.
    pub audit_duration: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("bedplate"),
            requests: Family::default(),
            refusals: Family::default(),
            // A decision takes a tenth of a millisecond, one on three megabytes a tenth of a second.
            duration: Histogram::new([
                0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0,
            ]),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            certificate_end: Gauge::default(),
            leader: Gauge::default(),
            repairs: Family::default(),
            findings: Family::default(),
            requested: Family::default(),
            audited: Gauge::default(),
            audit_duration: Gauge::default(),
        };
        let all = &mut metrics.registry;
        all.register("admission_requests", "Requests to the webhook, by stage and outcome", metrics.requests.clone());
        all.register("admission_refusals", "Refusals of the webhook, by rule", metrics.refusals.clone());
        all.register_with_unit(
            "admission_duration",
            "Time from the last byte of a request to the first of its answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        all.register("admission_in_flight", "Requests that are being answered", metrics.in_flight.clone());
        all.register("webhook_connections", "Open connections to the webhook", metrics.connections.clone());
        all.register(
            "webhook_connections_refused",
            "Connections closed before a request: too many, no TLS, too slow",
            metrics.connections_refused.clone(),
        );
        all.register_with_unit(
            "certificate_not_after_timestamp",
            "When the serving certificate ends, since 1970",
            Unit::Seconds,
            metrics.certificate_end.clone(),
        );
        all.register("leader", "Whether this replica is the leader", metrics.leader.clone());
        all.register("guard_repairs", "Guards that were written, by reason", metrics.repairs.clone());
        all.register("findings", "What the last audit found, by guarantee and severity", metrics.findings.clone());
        all.register(
            "requested_accelerators",
            "Accelerators that unfinished workloads ask for together, where the profile limits them",
            metrics.requested.clone(),
        );
        all.register_with_unit(
            "audit_timestamp",
            "When the last audit ended, since 1970",
            Unit::Seconds,
            metrics.audited.clone(),
        );
        all.register_with_unit("audit_duration", "How long it took", Unit::Seconds, metrics.audit_duration.clone());
        metrics
    }
}

impl Metrics {
    /// Counts what became of a request.
    pub fn count(&self, stage: &'static str, outcome: &'static str) {
        self.requests.get_or_create(&Request { stage, outcome }).inc();
    }

    /// Tells how many spans no collector has got, too.
    pub fn count_dropped(&mut self, dropped: &Counter) {
        self.registry.register("spans_dropped", "Spans that no collector has got", dropped.clone());
    }

    /// Everything as OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_follow_the_convention() {
        let metrics = Metrics::default();
        metrics.count("validate", "refused");
        metrics.duration.observe(0.0002);
        metrics.certificate_end.set(1e9);
        let text = metrics.text();
        for line in [
            "bedplate_admission_requests_total{stage=\"validate\",outcome=\"refused\"} 1",
            "# UNIT bedplate_admission_duration_seconds seconds",
            "bedplate_admission_duration_seconds_bucket{le=\"0.00025\"} 1",
            "bedplate_certificate_not_after_timestamp_seconds 1000000000.0",
            "bedplate_leader 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
