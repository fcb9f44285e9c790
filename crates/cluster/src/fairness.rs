//! The lanes of a cluster: who is found in it, what they would be given, and what every level gains and loses by that.

use bedplate_apf::shares::{Concurrency, Part, concurrency};
use bedplate_apf::{FlowSchema, PriorityLevel};
use bedplate_guarantees::fairness::detect::{Detected, Read, detect};
use bedplate_guarantees::fairness::enforce;
use bedplate_model::Settings;
use serde_json::Value;

use crate::bundle::is_ours;
use crate::lanes::FlowControl;
use crate::{Cluster, Error};

/// Kinds that tell who is there.
pub const FOUND: &[(&str, &str)] =
    &[("", "Namespace"), ("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "DaemonSet")];

/// The lanes that a cluster should have.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    /// Who was found.
    pub detected: Detected,
    /// The objects, levels first.
    pub objects: Vec<Value>,
}

/// Seats of a level on one server; nothing where there is no such level.
#[derive(Clone, Debug)]
pub struct Gain {
    /// Its name.
    pub level: String,
    /// Without the lanes.
    pub before: Option<Concurrency>,
    /// With them.
    pub after: Option<Concurrency>,
}

impl Cluster {
    /// Who of a machine-learning platform is in the cluster, and the lanes for them under some settings; none where the
    /// server has no flow control.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn lanes(&self, settings: &Settings) -> Result<Lanes, Error> {
        if self.kind(enforce::GROUP, "FlowSchema").is_none() {
            return Ok(Lanes::default());
        }
        let mut read = Read::default();
        for (group, kind) in FOUND {
            if let Some(resource) = self.kind(group, kind) {
                // Of a namespace the metadata tells whose it is.
                self.list(resource, None, *kind == "Namespace", |object| read.add(&object)).await?;
            }
        }
        let detected = detect(&read, settings);
        let objects = enforce::objects(settings, &detected);
        Ok(Lanes { detected, objects })
    }

    /// How many objects of ours flow control has.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn lanes_in_place(&self) -> Result<usize, Error> {
        let mut count = 0;
        for (group, kind) in crate::lanes::KINDS {
            count += self.metadata_of(group, kind, is_ours).await?.len();
        }
        Ok(count)
    }
}

impl Lanes {
    /// Flow control as it would be with them.
    #[must_use]
    pub fn over(&self, live: &FlowControl) -> (Vec<FlowSchema>, Vec<PriorityLevel>) {
        enforce::with(&self.objects, &live.schemas, &live.levels)
    }

    /// What every level of a server with `seats` gains and loses by them, those that are new last.
    #[must_use]
    pub fn gains(&self, live: &FlowControl, seats: u32) -> Vec<Gain> {
        let (_, without) = enforce::with(&[], &live.schemas, &live.levels);
        let (_, with) = self.over(live);
        let shared = |levels: &[PriorityLevel]| -> Vec<(String, Concurrency)> {
            let parts: Vec<Part> = levels.iter().map(PriorityLevel::part).collect();
            let names = levels.iter().map(|level| level.metadata.name.clone());
            names.zip(concurrency(i64::from(seats), &parts)).collect()
        };
        let (before, after) = (shared(&without), shared(&with));
        let of = |levels: &[(String, Concurrency)], name: &str| {
            levels.iter().find(|(level, _)| level == name).map(|(_, seats)| seats.clone())
        };
        let names = after.iter().map(|(name, _)| name);
        names.map(|name| Gain { level: name.clone(), before: of(&before, name), after: of(&after, name) }).collect()
    }
}

/// The most that a level loses, in percent of its seats, and which.
#[must_use]
pub fn worst(gains: &[Gain]) -> Option<(f64, &str)> {
    let lost = gains.iter().filter_map(|gain| {
        let (before, after) = (gain.before.as_ref()?.nominal, gain.after.as_ref()?.nominal);
        (before > 0).then(|| ((before - after) as f64 * 100.0 / before as f64, gain.level.as_str()))
    });
    lost.max_by(|a, b| a.0.total_cmp(&b.0))
}
