//! What Bedplate puts into a cluster: planned, applied, taken back, removed.
//!
//! Everything is server-side applied under one field manager, in an order in which each step holds by itself: a run
//! that was interrupted is completed by the next one.

use bedplate_guarantees::enforce;
use bedplate_model::{Exemption, names};
use serde_json::{Map, Value, json};

use crate::audit;
use crate::{Cluster, Error, OLDEST_MINOR, Place, Resource, Write, yaml};

/// What would happen to one object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is not there.
    Create,
    /// It is there and differs: its text before and after.
    Update(String, String),
    /// It is as it should be.
    Same,
    /// It is there and no longer wanted.
    Remove,
    /// It cannot be told before the definitions are there.
    Unknown,
}

/// What would happen to one object, and which.
#[derive(Clone, Debug)]
pub struct Step {
    /// `ValidatingAdmissionPolicy admission.bedplate.dev`.
    pub what: String,
    /// What would happen.
    pub change: Change,
    /// The object as it is wanted; for a removal, as it is.
    pub object: Value,
}

/// What is wanted besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The profile to apply; without one, that of the cluster stays, or the first is made.
    pub profile: Option<Value>,
    /// Exemptions to apply.
    pub exemptions: Vec<Value>,
    /// Whether the first profile enforces at once instead of beginning in audit.
    pub enforce: bool,
    /// Take fields from other managers.
    pub force: bool,
}

/// The first profile of a cluster: every guard tells in the audit log what it would refuse, and refuses nothing.
#[must_use]
pub fn first_profile(enforce: bool) -> Value {
    let modes = if enforce { json!({}) } else { json!({ "modes": { "admission": "audit", "deletion": "audit" } }) };
    json!({
        "apiVersion": names::API_VERSION,
        "kind": "StabilityProfile",
        "metadata": { "name": names::PROFILE, "labels": { "app.kubernetes.io/managed-by": names::FIELD_MANAGER } },
        "spec": modes,
    })
}

/// Kinds of which `apply` removes what an older Bedplate made and this one does not.
const OWN_KINDS: &[&str] = &["ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"];
const ADMISSION: &str = "admissionregistration.k8s.io";

impl Cluster {
    /// Every step from what is there to what is wanted, in the order of `apply`.
    ///
    /// # Errors
    /// No rights, a server that is too old.
    pub async fn plan(&self, wanted: &Wanted) -> Result<Vec<Step>, Error> {
        self.new_enough()?;
        let mut steps = Vec::new();
        let desired = self.desired(wanted).await?;
        let stale = self.stale(&desired).await?;
        for object in desired {
            let change = self.change(&object, wanted.force).await?;
            steps.push(Step { what: title(&object), change, object });
        }
        for object in stale {
            steps.push(Step { what: title(&object), change: Change::Remove, object });
        }
        Ok(steps)
    }

    /// Does what [`Cluster::plan`] tells, calling `each` after every step that changed something.
    ///
    /// # Errors
    /// A conflict, a refusal, no rights: what was done until then stays, and the next run goes on from there.
    pub async fn put_in_place(&mut self, wanted: &Wanted, mut each: impl FnMut(&Step)) -> Result<(), Error> {
        self.new_enough()?;
        let write = Write { dry_run: false, force: wanted.force };
        for object in bedplate_guarantees::definitions() {
            let step = Step { what: title(&object), change: self.change(&object, wanted.force).await?, object };
            self.apply(&step.object, write).await?;
            if step.change != Change::Same {
                each(&step);
            }
        }
        self.served().await?;
        let desired = self.desired(wanted).await?;
        let stale = self.stale(&desired).await?;
        for object in desired {
            let step = Step { what: title(&object), change: self.change(&object, wanted.force).await?, object };
            if step.change != Change::Same {
                self.apply(&step.object, write).await?;
                each(&step);
            }
        }
        for object in stale {
            self.delete(self.place(&object)?, false).await?;
            each(&Step { what: title(&object), change: Change::Remove, object });
        }
        self.publish_exemptions().await
    }

    /// Puts back what differs from the defaults and the cluster's own profile, whoever owns it, and removes what is of no
    /// use any more. One after the other: nobody may look at a binding whose policy is gone. Gives what was done, with
    /// the object as it was.
    ///
    /// # Errors
    /// A refusal, no rights. What was done until then stays.
    pub async fn put_back(&self, mut each: impl FnMut(&Step, Option<&Value>)) -> Result<(), Error> {
        let desired = self.desired(&Wanted::default()).await?;
        let stale = self.stale(&desired).await?;
        for object in desired {
            let place = self.place(&object)?;
            let before = self.get(place).await?;
            let step = Step { what: title(&object), change: self.change(&object, true).await?, object };
            if step.change != Change::Same {
                self.apply(&step.object, Write { dry_run: false, force: true }).await?;
            }
            each(&step, before.as_ref());
        }
        for object in stale {
            self.delete(self.place(&object)?, false).await?;
            each(&Step { what: title(&object), change: Change::Remove, object }, None);
        }
        Ok(())
    }

    /// Copies the Exemption objects to where the guards read them, and says that everything is in place.
    ///
    /// # Errors
    /// No rights.
    pub async fn publish_exemptions(&self) -> Result<(), Error> {
        let profile = json!({ "apiVersion": names::API_VERSION, "kind": "StabilityProfile", "metadata": { "name": names::PROFILE } });
        let place = self.place(&profile)?;
        let Some(live) = self.get(place).await? else { return Ok(()) };
        let exemptions = self.exemptions().await?;
        let condition = live.pointer("/status/conditions/0/lastTransitionTime").cloned();
        let status = json!({ "status": {
            "exemptions": exemptions,
            "observedGeneration": live.pointer("/metadata/generation"),
            "conditions": [{
                "type": "Applied", "status": "True", "reason": "InPlace",
                "message": format!("every policy of bedplate {} is in place", env!("CARGO_PKG_VERSION")),
                "lastTransitionTime": condition.unwrap_or_else(|| crate::unlock::timestamp(crate::unlock::now()).into()),
            }],
        } });
        self.merge(place, "status", &status, false).await.map(drop)
    }

    /// The Exemption objects, in an order of their own.
    async fn exemptions(&self) -> Result<Vec<Exemption>, Error> {
        let mut objects = Vec::new();
        if let Some(resource) = self.kind(names::GROUP, "Exemption") {
            self.list(resource, None, false, |object| objects.push(object)).await?;
        }
        let mut exemptions = audit::exemptions(&objects);
        exemptions.sort_by(|a, b| (&a.rule, &a.subject.name).cmp(&(&b.rule, &b.subject.name)));
        Ok(exemptions)
    }

    /// Removes everything that Bedplate put here, calling `each` with what is gone. Guards go first: nothing that
    /// follows can be refused by them.
    ///
    /// # Errors
    /// No rights.
    pub async fn remove_everything(&self, mut each: impl FnMut(&str)) -> Result<(), Error> {
        for kind in OWN_KINDS {
            let mut found = Vec::new();
            if let Some(resource) = self.kind(ADMISSION, kind) {
                self.list(resource, None, true, |object| found.push(object)).await?;
            }
            for object in found.iter().filter(|object| is_ours(object)) {
                self.delete(self.place(object)?, false).await?;
                each(&title(object));
            }
        }
        for definition in bedplate_guarantees::definitions() {
            let place = self.place(&definition)?;
            // The API server takes a moment to forget a policy.
            let mut tries = 0;
            loop {
                match self.delete(place, false).await {
                    Ok(()) => {
                        // It goes once its objects are gone; until then it would be in the way of a new installation.
                        while tries < 120 && self.get(place).await?.is_some() {
                            tries += 1;
                            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
                        }
                        each(&title(&definition));
                        break;
                    }
                    Err(Error::NotFound(_)) => break,
                    Err(Error::Refused(_)) if tries < 40 => {
                        tries += 1;
                        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn new_enough(&self) -> Result<(), Error> {
        if self.minor < OLDEST_MINOR {
            return Err(Error::TooOld { version: self.version.clone() });
        }
        Ok(())
    }

    async fn desired(&self, wanted: &Wanted) -> Result<Vec<Value>, Error> {
        let mut all = bedplate_guarantees::definitions();
        let live = match self.kind(names::GROUP, "StabilityProfile") {
            Some(resource) => self.get(Place { resource, namespace: None, name: names::PROFILE }).await?,
            None => None,
        };
        // The profile is the user's: one that is there is never touched, unless a new one is given.
        let new = wanted.profile.clone().or_else(|| live.is_none().then(|| first_profile(wanted.enforce)));
        let mut profile = new.clone().or_else(|| live.clone()).unwrap_or_default();
        let mut exemptions = self.exemptions().await?;
        exemptions.extend(audit::exemptions(&wanted.exemptions));
        let today = crate::unlock::timestamp(crate::unlock::now());
        exemptions.retain(|exemption| today.get(..10).is_none_or(|today| today <= exemption.expires.as_str()));
        profile["status"] = json!({ "exemptions": exemptions });
        all.extend(new);
        all.extend(wanted.exemptions.iter().cloned());
        let served = |group: &str, kind: &str| self.kind(group, kind).map(Resource::api_version);
        all.extend(enforce::objects(enforce::Installation { profile: &profile, served: &served }));
        Ok(all)
    }

    async fn change(&self, object: &Value, force: bool) -> Result<Change, Error> {
        let Ok(place) = self.place(object) else { return Ok(Change::Unknown) };
        let Some(live) = self.get(place).await? else { return Ok(Change::Create) };
        let after = self.apply(object, Write { dry_run: true, force }).await?;
        let (before, after) = (yaml::text(&essence(live)), yaml::text(&essence(after)));
        Ok(if before == after { Change::Same } else { Change::Update(before, after) })
    }

    /// Policies and bindings that an older Bedplate made.
    async fn stale(&self, desired: &[Value]) -> Result<Vec<Value>, Error> {
        let wanted: Vec<String> = desired.iter().map(title).collect();
        let mut stale = Vec::new();
        for kind in OWN_KINDS {
            let Some(resource) = self.kind(ADMISSION, kind) else { continue };
            self.list(resource, None, true, |object| {
                if is_ours(&object) && !wanted.contains(&title(&object)) {
                    stale.push(object);
                }
            })
            .await?;
        }
        Ok(stale)
    }

    /// Waits until the server serves our kinds.
    async fn served(&mut self) -> Result<(), Error> {
        for _ in 0..100 {
            self.discover().await?;
            if self.kind(names::GROUP, "StabilityProfile").is_some() && self.kind(names::GROUP, "Exemption").is_some() {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        Err(Error::NoSuchResource(format!("stabilityprofiles.{}", names::GROUP)))
    }
}

/// `Kind name`.
#[must_use]
pub fn title(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", text("/kind"), text("/metadata/name"))
}

fn is_ours(object: &Value) -> bool {
    let label = "/metadata/labels/app.kubernetes.io~1managed-by";
    object.pointer(label).and_then(Value::as_str) == Some(names::FIELD_MANAGER)
        && object.pointer("/metadata/name").and_then(Value::as_str).is_some_and(|name| name.ends_with(names::GROUP))
}

/// An object without what the server adds to every one.
#[must_use]
pub fn essence(mut object: Value) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"] {
            metadata.remove(key);
        }
    }
    sorted(object)
}

/// The same with keys in order: the server's is not ours.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(Map::from_iter(entries))
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
