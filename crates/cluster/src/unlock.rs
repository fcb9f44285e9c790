//! Letting one deletion through, with its reason on record.

use std::time::Duration;

use bedplate_model::moment::timestamp;
use bedplate_model::names::UNLOCK;
use serde_json::{Value, json};

use crate::bundle::title;
use crate::clock;
use crate::trail::{Entry, What};
use crate::{Cluster, Error, Place};

impl Cluster {
    /// Unlocks an object for a while and records who did it and why, as an Event beside it. Gives the end.
    ///
    /// # Errors
    /// No such object, no rights, a guard that refuses (too long, another unlock).
    pub async fn unlock(&self, place: Place<'_>, reason: &str, duration: Duration) -> Result<String, Error> {
        // What cannot be put on record is not done.
        self.begin_trail().await?;
        let (object, until, value) = self.mark_unlocked(place, reason, duration).await?;
        self.record(&object, What::Unlocked, value, &format!("unlocked by {} until {until}: {reason}", self.user))
            .await?;
        Ok(until)
    }

    /// Marks an object as unlocked for a while. Gives the object, the end, and what is written on it.
    pub(crate) async fn mark_unlocked(
        &self,
        place: Place<'_>,
        reason: &str,
        duration: Duration,
    ) -> Result<(Value, String, String), Error> {
        let until = timestamp(clock::now() + duration.as_secs());
        let value = format!("{} until {until} by {}: {reason}", place.name, self.user);
        let patch = json!({ "metadata": { "annotations": { UNLOCK: &value } } });
        Ok((self.merge(place, "", &patch, false).await?, until, value))
    }

    /// Takes an unlock back.
    ///
    /// # Errors
    /// No such object, no rights.
    pub async fn lock(&self, place: Place<'_>) -> Result<(), Error> {
        self.begin_trail().await?;
        let patch = json!({ "metadata": { "annotations": { UNLOCK: Value::Null } } });
        let object = self.merge(place, "", &patch, false).await?;
        let version = object.pointer("/metadata/resourceVersion").map(Value::to_string).unwrap_or_default();
        self.record(&object, What::Locked, version, &format!("unlock taken back by {}", self.user)).await
    }

    /// In the trail, and as an Event, which stands beside the object for as long as Events are kept.
    async fn record(&self, object: &Value, what: What, once: String, note: &str) -> Result<(), Error> {
        let entry = Entry { what, who: self.user.clone(), object: title(object), why: note.to_owned(), once };
        self.record_all(&[entry]).await?;
        let reason = if what == What::Locked { "Locked" } else { "Unlocked" };
        let at = |path: &str| object.pointer(path).cloned().unwrap_or(Value::Null);
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
        let time = clock::timestamp();
        let event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "generateName": "bedplate-", "namespace": namespace },
            "eventTime": time.replace('Z', ".000000Z"),
            "reportingController": bedplate_model::names::GROUP,
            "reportingInstance": "bedplate-cli",
            "action": reason,
            "reason": reason,
            "type": "Warning",
            "note": note,
            "regarding": {
                "apiVersion": at("/apiVersion"), "kind": at("/kind"), "name": at("/metadata/name"),
                "namespace": at("/metadata/namespace"), "uid": at("/metadata/uid"),
            },
        });
        self.create(&event, false).await.map(drop)
    }
}
