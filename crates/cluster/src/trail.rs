//! The audit trail: refusals, unlocks and exemptions, kept in the cluster, whatever restarts.
//!
//! One ConfigMap, `kube-system/bedplate-trail`: a key an entry, which begins with its time and ends with what tells it
//! from others. So two who write at once do not lose each other's entries, and what is told twice is kept once. The
//! oldest go when there are too many: what has to be kept for years belongs into the API server's own audit log.

use std::collections::BTreeMap;

use bedplate_model::names;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::{Cluster, Error, digest};

/// Its name; its namespace is that of the journal.
pub const NAME: &str = "bedplate-trail";
pub use crate::journal::NAMESPACE;

/// Refusals that are kept, and as many others: a flood of refusals pushes no unlock out. With [`REASON`] they stay well
/// under the 1 MiB that a ConfigMap may hold.
const MOST: usize = 300;
/// How many go at a time, so that not every entry takes one away.
const SPARE: usize = 50;
/// Bytes of a reason.
const REASON: usize = 400;

/// What is on record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The webhook refused a request.
    Refused,
    /// Somebody let a deletion through.
    Unlocked,
    /// Somebody took that back.
    Locked,
    /// An exemption was made or changed.
    Exempted,
    /// An exemption was taken away.
    ExemptionRemoved,
    /// An exemption came to its end.
    ExemptionLapsed,
}

impl What {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unlocked => "unlocked",
            Self::Locked => "locked",
            Self::Exempted => "exempted",
            Self::ExemptionRemoved => "exemption-removed",
            Self::ExemptionLapsed => "exemption-lapsed",
        }
    }
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// What happened.
    pub what: What,
    /// Who did it, or tried; empty where nobody knows.
    pub who: String,
    /// To what: `Job team/sweep`.
    pub object: String,
    /// Why, in words.
    pub why: String,
    /// What tells it from another that looks the same, such as a `uid`: the same is kept once. Not kept itself.
    #[serde(skip)]
    pub once: String,
}

impl Entry {
    fn digest(&self) -> String {
        digest(&(self.what, &self.object, &self.once))
    }
}

impl Cluster {
    /// Makes the trail, where it is not there.
    ///
    /// # Errors
    /// No rights, no answer.
    pub(crate) async fn begin_trail(&self) -> Result<(), Error> {
        let object = object();
        let place = self.place(&object)?;
        if self.get(place).await?.is_some() {
            return Ok(());
        }
        match self.create(&object, false).await {
            // Somebody was first.
            Err(_) if self.get(place).await?.is_some() => Ok(()),
            created => created.map(drop),
        }
    }

    /// Puts entries on record, those that are new.
    ///
    /// # Errors
    /// No rights, no answer: none is on record then.
    pub async fn record_all(&self, entries: &[Entry]) -> Result<(), Error> {
        let object = object();
        let place = self.place(&object)?;
        let live = self.get(place).await?;
        let known = live.as_ref().and_then(|live| live["data"].as_object());
        let Some(patch) = patch(known, entries, &clock::timestamp()) else { return Ok(()) };
        if live.is_none() {
            self.begin_trail().await?;
        }
        self.merge(place, "", &json!({ "data": patch }), false).await.map(drop)
    }

    /// What is on record, by time (RFC 3339), the oldest first.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn trail(&self) -> Result<Vec<(String, Entry)>, Error> {
        let object = object();
        let live = self.get(self.place(&object)?).await?.unwrap_or_default();
        let entries: BTreeMap<&String, &Value> = live["data"].as_object().into_iter().flatten().collect();
        Ok(entries
            .into_iter()
            .filter_map(|(key, text)| Some((time(key)?, serde_json::from_str(text.as_str()?).ok()?)))
            .collect())
    }

    pub(crate) async fn remove_trail(&self) -> Result<bool, Error> {
        self.remove(&object()).await
    }
}

fn object() -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": NAME, "namespace": NAMESPACE, "labels": { "app.kubernetes.io/managed-by": names::FIELD_MANAGER },
    } })
}

/// `2026-11-25T09:12:00Z` of a key `20261125T091200Z-…`, which a ConfigMap takes (`[-._a-zA-Z0-9]`).
fn time(key: &str) -> Option<String> {
    let digits = key.get(..16).filter(|text| text.is_ascii())?;
    let part = |from: usize, to: usize| &digits[from..to];
    Some(format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(9, 11), part(11, 13), part(13, 15)))
}

/// The keys to set, and to take away as null; nothing where nothing is new.
fn patch(known: Option<&Map<String, Value>>, entries: &[Entry], time: &str) -> Option<Map<String, Value>> {
    let stamp: String = time.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let mut patch = Map::new();
    for entry in entries {
        let digest = entry.digest();
        let is_it = |key: &String| key.ends_with(&digest);
        if known.is_some_and(|known| known.keys().any(is_it)) || patch.keys().any(is_it) {
            continue;
        }
        let mut kept = entry.clone();
        kept.why.truncate(kept.why.floor_char_boundary(REASON));
        patch.insert(format!("{stamp}-{}-{digest}", entry.what.name()), json!(kept).to_string().into());
    }
    if patch.is_empty() {
        return None;
    }
    let refusal = format!("-{}-", What::Refused.name());
    for refusals in [true, false] {
        let of_it = |key: &&String| key.contains(&refusal) == refusals;
        let mut oldest: Vec<&String> = known.into_iter().flat_map(Map::keys).filter(of_it).collect();
        oldest.sort();
        let count = oldest.len() + patch.keys().filter(of_it).count();
        if count > MOST {
            let gone = oldest.into_iter().take(count - MOST + SPARE).map(|key| (key.clone(), Value::Null));
            patch.extend(gone);
        }
    }
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bedplate_model::moment;

    fn entry(what: What, object: &str) -> Entry {
        Entry { what, who: "ann".to_owned(), object: object.to_owned(), why: "x".repeat(2000), once: String::new() }
    }

    fn apply(known: &mut Map<String, Value>, patch: Map<String, Value>) {
        for (key, value) in patch {
            match value {
                Value::Null => known.remove(&key),
                value => known.insert(key, value),
            };
        }
    }

    /// Who let the CRD go was asked a week later, when the Events of that day were gone.
    #[test]
    fn a_flood_of_refusals_pushes_no_unlock_out() {
        let mut known = Map::new();
        let unlocks: Vec<_> = (0..20).map(|n| entry(What::Unlocked, &format!("Namespace {n}"))).collect();
        apply(&mut known, patch(None, &unlocks, "2026-11-18T03:00:00Z").unwrap());
        for n in 0..3000_u32 {
            let time = moment::timestamp(1_795_521_600 + u64::from(n));
            let made = patch(Some(&known), &[entry(What::Refused, &format!("Job team/{n}"))], &time).unwrap();
            apply(&mut known, made);
            assert!(known.len() <= MOST + unlocks.len());
        }
        assert!(known.len() >= MOST - SPARE);
        assert_eq!(known.keys().filter(|key| key.contains("-unlocked-")).count(), unlocks.len());
        assert!(json!(known).to_string().len() < 500_000);
        let last = known.keys().max().unwrap();
        assert_eq!(time(last).unwrap(), moment::timestamp(1_795_521_600 + 2999));
        let entry: Entry = serde_json::from_str(known[last].as_str().unwrap()).unwrap();
        assert!(entry.object.ends_with("2999"));
    }

    #[test]
    fn what_two_replicas_tell_is_kept_once() {
        let mut known = Map::new();
        apply(&mut known, patch(None, &[entry(What::Exempted, "Exemption a")], "2026-11-25T09:12:00Z").unwrap());
        assert_eq!(patch(Some(&known), &[entry(What::Exempted, "Exemption a")], "2026-11-25T10:12:00Z"), None);
        let again = Entry { once: "generation 2".to_owned(), ..entry(What::Exempted, "Exemption a") };
        assert!(patch(Some(&known), &[again], "2026-11-25T10:12:00Z").is_some());
    }
}
