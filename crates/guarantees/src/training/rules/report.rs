//! A CheckpointReport, as rules read it.

use bedplate_model::checkpoint_report::{KIND, POD};
use bedplate_model::{Field, Object, moment, names};

/// What a training says, and what an audit adds of its pod.
pub(super) struct Report<'a> {
    spec: Field<'a>,
    pod: Field<'a>,
}

impl<'a> Report<'a> {
    /// Nothing where an object is no report.
    pub(super) fn of(object: &Object<'a>) -> Option<Self> {
        object.is(names::GROUP, KIND).then(|| Self { spec: object.at("spec"), pod: object.at(POD) })
    }

    /// The field of the moment since which nothing is saved: of the last checkpoint, or of the start.
    pub(super) fn since(&self) -> Field<'a> {
        let saved = self.spec.key("savedAt");
        if saved.exists() { saved } else { self.spec.key("startedAt") }
    }

    /// Seconds since then; nothing where it is no moment, or in the future.
    pub(super) fn age(&self, now: &str) -> Option<u64> {
        moment::seconds(now)?.checked_sub(moment::seconds(self.since().str()?)?)
    }

    /// The accelerators of all pods together; nothing where the pod is not known.
    pub(super) fn accelerators(&self) -> Option<u64> {
        let pods = self.spec.key("pods").u64().unwrap_or(1).max(1);
        Some(self.pod.key("accelerators").u64()?.saturating_mul(pods))
    }

    /// The field of the seconds that a save takes, and how many.
    pub(super) fn save(&self) -> Option<(Field<'a>, f64)> {
        let field = self.spec.key("saveSeconds");
        let seconds: f64 = field.scalar()?.parse().ok()?;
        seconds.is_finite().then_some((field, seconds))
    }

    /// Seconds between the notice and the kill; nothing where the pod is not known.
    pub(super) fn grace(&self) -> Option<u64> {
        self.pod.key("graceSeconds").u64()
    }
}
