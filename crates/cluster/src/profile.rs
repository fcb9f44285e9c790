//! The profile of a cluster and its exemptions: what they say, and what is said of them in their status.

use bedplate_guarantees::enforce;
use bedplate_model::{Exemption, Profile, names};
use serde_json::{Value, json};

use crate::clock;
use crate::standing::in_place;
use crate::{Cluster, Error, Place};

/// The profile that holds on a cluster.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// It, with the exemptions that can be read.
    pub profile: Profile,
    /// Exemption objects that mean nothing to this version, and why.
    pub passed_over: Vec<String>,
}

impl Cluster {
    /// The profile of the cluster with its exemptions; the defaults where there is none.
    ///
    /// # Errors
    /// No rights; a profile that this version cannot read.
    pub async fn profile(&self) -> Result<InForce, Error> {
        let mut documents = self.exemption_objects().await?;
        documents.extend(self.live_profile().await?.map(|(_, live)| live));
        profile_of(documents)
    }

    /// Says of each exemption how it stands.
    ///
    /// # Errors
    /// No rights.
    pub(crate) async fn tell_exemptions(&self) -> Result<(), Error> {
        for object in &self.exemption_objects().await? {
            let (stands, reason, message) = standing(object, &clock::timestamp());
            if let Some(conditions) = condition(object, "Honoured", stands, reason, &message) {
                let status = json!({ "status": { "conditions": conditions } });
                self.merge(self.place(object)?, "status", &status, false).await?;
            }
        }
        Ok(())
    }

    /// Says how the profile's guards stand.
    pub(crate) async fn say(&self, reason: &str, message: &str) -> Result<(), Error> {
        let Some((place, live)) = self.live_profile().await? else { return Ok(()) };
        let generation = live.pointer("/metadata/generation");
        let conditions = condition(&live, "Applied", "True", reason, message);
        let lanes = self.lanes_in_place().await?;
        let guarantees = profile_of(vec![live.clone()]).ok().and_then(|held| in_place(&live, &held.profile, lanes));
        if conditions.is_none() && guarantees.is_none() && live.pointer("/status/observedGeneration") == generation {
            return Ok(());
        }
        let mut status = json!({ "observedGeneration": generation });
        for (key, said) in [("conditions", conditions), ("guarantees", guarantees)] {
            if let Some(said) = said {
                status[key] = said;
            }
        }
        self.merge(place, "status", &json!({ "status": status }), false).await.map(drop)
    }

    /// The Exemption objects of the cluster.
    pub(crate) async fn exemption_objects(&self) -> Result<Vec<Value>, Error> {
        let mut objects = Vec::new();
        if let Some(resource) = self.kind(names::GROUP, "Exemption") {
            self.list(resource, None, false, |object| objects.push(object)).await?;
        }
        Ok(objects)
    }

    /// The profile that holds, where there is one.
    pub(crate) async fn live_profile(&self) -> Result<Option<(Place<'_>, Value)>, Error> {
        let Some(resource) = self.kind(names::GROUP, "StabilityProfile") else { return Ok(None) };
        let place = Place { resource, namespace: None, name: names::PROFILE };
        Ok(self.get(place).await?.map(|live| (place, live)))
    }
}

/// The profile that a StabilityProfile and Exemptions make.
///
/// # Errors
/// A StabilityProfile that this version cannot read.
pub fn profile_of(documents: Vec<Value>) -> Result<InForce, Error> {
    let mut held = InForce::default();
    for mut document in documents {
        if let Some(map) = document.as_object_mut() {
            map.remove("status");
        }
        let is_profile = document["kind"] == "StabilityProfile";
        match Profile::parse(&document.to_string(), &bedplate_guarantees::names()) {
            Ok(read) if is_profile => {
                let exemptions = std::mem::replace(&mut held.profile, read).exemptions;
                held.profile.exemptions.extend(exemptions);
            }
            Ok(read) => held.profile.exemptions.extend(read.exemptions),
            Err(errors) => {
                let told: Vec<_> = errors.into_iter().map(|error| error.message).collect();
                let why = format!("{}: {}", crate::bundle::title(&document), told.join("; "));
                if is_profile {
                    let version = env!("CARGO_PKG_VERSION");
                    return Err(Error::Object(format!("{why}\nthis is bedplate {version}: did a newer one write it?")));
                }
                held.passed_over.push(why);
            }
        }
    }
    Ok(held)
}

/// Whether an Exemption is honoured, the reason as one word, and as a sentence.
fn standing(object: &Value, now: &str) -> (&'static str, &'static str, String) {
    match object.get("spec").and_then(|spec| serde_json::from_value::<Exemption>(spec.clone()).ok()) {
        None => ("False", "Unreadable", "this version cannot read it".to_owned()),
        Some(exemption) if exemption.expired(now) => ("False", "Lapsed", format!("it lapsed on {}", exemption.expires)),
        Some(exemption) if !enforce::guarded().any(|(rule, _)| rule == exemption.rule) => {
            ("True", "NoGuard", "`audit` honours it; the rule has no guard that could refuse anything".to_owned())
        }
        Some(exemption) => ("True", "Published", format!("guards honour it up to and with {}", exemption.expires)),
    }
}

/// The `conditions` of an object that say this; nothing where they do already. The time is that of the last change of
/// `status` (`metav1.Condition`).
fn condition(object: &Value, kind: &str, status: &str, reason: &str, message: &str) -> Option<Value> {
    let said = object.pointer("/status/conditions/0");
    let is = |key: &str, value: &str| said.and_then(|said| said.get(key)?.as_str()) == Some(value);
    if is("status", status) && is("reason", reason) && is("message", message) {
        return None;
    }
    let since = said.and_then(|said| said.get("lastTransitionTime")).filter(|_| is("status", status)).cloned();
    Some(json!([{
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since.unwrap_or_else(|| clock::timestamp().into()),
    }]))
}
