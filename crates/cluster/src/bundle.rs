//! What Bedplate puts into a cluster: planned, applied, taken back, removed.
//!
//! Everything is applied under one field manager, in an order in which each step holds by itself: a run that was
//! interrupted is completed by the next one. The profile, exemptions and definitions are shared with others, field by
//! field (server-side apply). A guard is Bedplate's alone: a field that somebody else has put into it is told of as
//! theirs, and goes only when they are overruled by name.

use std::collections::BTreeMap;
use std::time::Duration;

use bedplate_guarantees::{enforce, fairness};
use bedplate_model::names;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::journal::Before;
use crate::ownership::{Conflict, emptied, foreign};
use crate::profile::profile_of;
use crate::removal::patiently;
use crate::{Cluster, Error, OLDEST_MINOR, Resource, Write, yaml};

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
    /// Others own fields that would be set: which, and its text before and as it would be after taking them over.
    Conflict(Vec<Conflict>, String, String),
    /// A guard or another plugin refuses it, in these words.
    Refused(String),
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
    /// The object as it is.
    pub before: Option<Value>,
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

/// The first profile of a cluster: every guard tells in the audit log what it would refuse, and refuses nothing; flow
/// control and CoreDNS stay as they are.
#[must_use]
pub fn first_profile(enforce: bool) -> Value {
    let modes = if enforce {
        json!({})
    } else {
        json!({ "modes": { "admission": "audit", "deletion": "audit", "fairness": "audit", "dns": "audit" } })
    };
    json!({
        "apiVersion": names::API_VERSION,
        "kind": "StabilityProfile",
        "metadata": { "name": names::PROFILE, "labels": { "app.kubernetes.io/managed-by": names::FIELD_MANAGER } },
        "spec": modes,
    })
}

/// Kinds of which `apply` removes what an older Bedplate made and this one does not, in the order of removal: no policy
/// without its binding is asked anything, and no FlowSchema may name a level that is gone.
pub(crate) const OWN_KINDS: &[(&str, &str)] = &[
    (ADMISSION, "ValidatingAdmissionPolicyBinding"),
    (ADMISSION, "ValidatingAdmissionPolicy"),
    (fairness::enforce::GROUP, "FlowSchema"),
    (fairness::enforce::GROUP, "PriorityLevelConfiguration"),
];
pub(crate) const ADMISSION: &str = "admissionregistration.k8s.io";

impl Cluster {
    /// Every step from what is there to what is wanted, in the order of `apply`.
    ///
    /// # Errors
    /// No rights, a server that is too old.
    pub async fn plan(&self, wanted: &Wanted) -> Result<Vec<Step>, Error> {
        self.new_enough()?;
        let mut steps = Vec::new();
        let mut definitions_change = false;
        let desired = self.desired(wanted).await?;
        let guards = self.guards().await?;
        let stale = stale(&guards, &desired);
        for object in desired {
            let live = self.live(&object, Some(&guards)).await?;
            let step = match self.step(object.clone(), live, wanted.force).await {
                // What an older definition does not know.
                Err(Error::Server { .. }) if definitions_change => {
                    Step { what: title(&object), change: Change::Unknown, object, before: None }
                }
                step => step?,
            };
            definitions_change |= is_definition(&step.object) && step.change != Change::Same;
            steps.push(step);
        }
        for object in stale {
            steps.push(Step { what: title(&object), change: Change::Remove, before: Some(object.clone()), object });
        }
        Ok(steps)
    }

    /// Does what [`Cluster::plan`] tells, calling `each` after every step that changed something. Where somebody else
    /// owns fields, or a step would be refused, nothing is done at all.
    ///
    /// # Errors
    /// A conflict, a refusal, no rights. What was done until then stays, and the next run goes on from there.
    pub async fn put_in_place(&mut self, wanted: &Wanted, mut each: impl FnMut(&Step)) -> Result<(), Error> {
        let steps = self.plan(wanted).await?;
        settled(&steps)?;
        self.remember(&steps).await?;
        let definitions = steps.iter().take_while(|step| is_definition(&step.object)).count();
        for (number, step) in steps.iter().enumerate() {
            if number == definitions {
                self.served().await?;
                self.begin_trail().await?;
            }
            match step.change {
                Change::Same => continue,
                Change::Remove => self.remove_guard(&step.object).await?,
                _ if number < definitions => patiently(async || self.put(step, wanted.force).await).await.map(drop)?,
                _ => self.put(step, wanted.force).await.map(drop)?,
            }
            each(step);
        }
        self.stands().await?;
        self.remembered().await
    }

    /// Brings everything but the definitions back to what it was before the last apply, calling `each` with what is so
    /// again.
    ///
    /// # Errors
    /// Nothing to go back to; a conflict with another manager, a refusal, no rights. The next run goes on from there.
    pub async fn roll_back(&self, force: bool, mut each: impl FnMut(&Step)) -> Result<(), Error> {
        let recalled = self.recalled().await?;
        if recalled.is_empty() {
            return Err(Error::NothingBefore);
        }
        let is_profile = |before: &Before| before.object["kind"] == "StabilityProfile";
        if recalled.iter().any(|before| is_profile(before) && !before.existed) {
            return Err(Error::FirstOne);
        }
        let mut steps = Vec::new();
        // What others name comes first, as it goes last.
        let mut existed: Vec<_> = recalled.iter().filter(|before| before.existed).collect();
        existed.sort_by_key(|before| std::cmp::Reverse(place_in_removal(&before.object)));
        for before in existed {
            let live = self.live(&before.object, None).await?;
            steps.push(self.step(before.object.clone(), live, force).await?);
        }
        settled(&steps)?;
        for mut step in steps {
            if step.change != Change::Same {
                step.before = Some(self.put(&step, force).await?);
                each(&step);
            }
        }
        let mut made: Vec<_> = recalled.into_iter().filter(|before| !before.existed).collect();
        made.sort_by_key(|before| place_in_removal(&before.object).unwrap_or(usize::MAX));
        for Before { object, .. } in made {
            if self.remove(&object).await? {
                each(&Step { what: title(&object), change: Change::Remove, before: None, object });
            }
        }
        self.tell_exemptions().await?;
        self.say("RolledBack", "everything is as it was before the last apply").await?;
        self.forget().await.map(drop)
    }

    /// Puts back what differs from the defaults and the cluster's own profile, whoever owns it, and removes what is of no
    /// use any more. One after the other: nobody may look at a binding whose policy is gone. `each` gets every step, also
    /// where nothing was to be done. An object that `leave` says to leave is not looked at.
    ///
    /// # Errors
    /// A refusal, no rights. What was done until then stays.
    pub async fn put_back(&self, leave: impl Fn(&str) -> bool, mut each: impl FnMut(&Step)) -> Result<(), Error> {
        let desired = self.desired(&Wanted::default()).await?;
        let guards = self.guards().await?;
        let stale = stale(&guards, &desired);
        for object in desired {
            if leave(&title(&object)) {
                continue;
            }
            let live = self.live(&object, Some(&guards)).await?;
            let step = self.step(object, live, true).await?;
            if step.change != Change::Same {
                self.put(&step, true).await?;
            }
            each(&step);
        }
        for object in stale {
            self.remove_guard(&object).await?;
            each(&Step { what: title(&object), change: Change::Remove, object, before: None });
        }
        self.stands().await
    }

    /// Every step to objects that are no guards, such as those that run the operator.
    ///
    /// # Errors
    /// No rights.
    pub async fn plan_others(&self, objects: Vec<Value>, force: bool) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        for object in objects {
            let live = self.live(&object, None).await?;
            steps.push(self.step(object, live, force).await?);
        }
        Ok(steps)
    }

    /// Does what [`Cluster::plan_others`] tells, calling `each` after every step that changed something. A rollback
    /// leaves them as they are.
    ///
    /// # Errors
    /// A conflict or a refusal, before anything is done; no rights.
    pub async fn put_others(&self, objects: Vec<Value>, force: bool, mut each: impl FnMut(&Step)) -> Result<(), Error> {
        let steps = self.plan_others(objects, force).await?;
        settled(&steps)?;
        for step in steps.iter().filter(|step| step.change != Change::Same) {
            self.put(step, force).await?;
            each(step);
        }
        Ok(())
    }

    /// Tells people that everything is in place, and of every exemption whether the guards honour it.
    async fn stands(&self) -> Result<(), Error> {
        self.tell_exemptions().await?;
        let version = env!("CARGO_PKG_VERSION");
        self.say("InPlace", &format!("every policy of bedplate {version} is in place")).await
    }

    /// Whether the server has what the guards need.
    pub(crate) fn new_enough(&self) -> Result<(), Error> {
        if self.minor < OLDEST_MINOR {
            return Err(Error::TooOld { version: self.version.clone() });
        }
        Ok(())
    }

    async fn desired(&self, wanted: &Wanted) -> Result<Vec<Value>, Error> {
        let mut all = bedplate_guarantees::definitions();
        let live = self.live_profile().await?.map(|(_, live)| live);
        // The profile is the user's: one that is there is never touched, unless a new one is given.
        let new = wanted.profile.clone().or_else(|| live.is_none().then(|| first_profile(wanted.enforce)));
        // What the guards are made of is the profile as it will be: with the fields that others have set in it.
        let profile = match (&new, live) {
            (Some(new), Some(live)) => {
                let merged = self.apply_over(new, Some(&live), Write { dry_run: true, force: true }).await;
                Some(merged.unwrap_or_else(|_| new.clone()))
            }
            (Some(new), None) => Some(new.clone()),
            (None, live) => live,
        };
        let mut documents = self.exemption_objects().await?;
        documents.retain(|known| wanted.exemptions.iter().all(|new| title(new) != title(known)));
        documents.extend(wanted.exemptions.iter().cloned());
        documents.extend(profile);
        let mut profile = profile_of(documents)?.profile;
        let now = clock::timestamp();
        profile.exemptions.retain(|(exemption, _)| !exemption.expired(&now));
        // The order of a list is none.
        profile.exemptions.sort_by(|(a, _), (b, _)| {
            (&a.rule, &a.subject.name, &a.expires).cmp(&(&b.rule, &b.subject.name, &b.expires))
        });
        all.extend(new);
        all.extend(wanted.exemptions.iter().cloned());
        let served = |group: &str, kind: &str| self.kind(group, kind).map(Resource::api_version);
        all.extend(enforce::objects(enforce::Installation { profile: &profile, served: &served }));
        if fairness::enforce::is_wanted(&profile) {
            all.extend(self.lanes(profile.settings(None)).await?.objects);
        }
        Ok(all)
    }

    /// Every guard of ours, as it is: a list a kind, whatever their number.
    async fn guards(&self) -> Result<Guards, Error> {
        let mut guards = Guards::new();
        for (group, kind) in OWN_KINDS {
            let Some(resource) = self.kind(group, kind) else { continue };
            self.list(resource, None, false, |object| {
                if has_our_name(&object) {
                    guards.insert(title(&object), object);
                }
            })
            .await?;
        }
        Ok(guards)
    }

    /// An object as it is, of those whose kind is not served yet nothing. Where the guards were listed, they are not
    /// asked for again.
    async fn live(&self, object: &Value, guards: Option<&Guards>) -> Result<Option<Value>, Error> {
        if let Some(guards) = guards.filter(|_| is_guard(object)) {
            return Ok(guards.get(&title(object)).cloned());
        }
        match self.place(object) {
            Ok(place) => self.get(place).await,
            Err(_) => Ok(None),
        }
    }

    /// What would happen to an object, found by a dry run.
    async fn step(&self, object: Value, live: Option<Value>, force: bool) -> Result<Step, Error> {
        let change = match &live {
            _ if self.place(&object).is_err() => Change::Unknown,
            None => Change::Create,
            Some(live) => self.change(&object, live, force).await?,
        };
        Ok(Step { what: title(&object), change, object, before: live })
    }

    async fn change(&self, object: &Value, live: &Value, force: bool) -> Result<Change, Error> {
        // To ask for a dry run makes the API server compile the policy, which takes it a second.
        if is_guard(object) && is_as_wanted(live, object) {
            return Ok(Change::Same);
        }
        let before = yaml::text(&essence(live.clone()));
        let text = |object| yaml::text(&essence(object));
        let (mut conflicts, answer) = if is_guard(object) {
            // Ours alone: what others have changed or added there is theirs to tell of, whatever the values.
            (foreign(live), self.replace(object, live, true).await)
        } else {
            match self.apply_over(object, Some(live), Write { dry_run: true, force }).await {
                Err(Error::Conflict(mut conflicts)) => {
                    conflicts.retain(|conflict| !conflict.is_ours());
                    (conflicts, self.apply_over(object, Some(live), Write { dry_run: true, force: true }).await)
                }
                answer => (Vec::new(), answer),
            }
        };
        conflicts.iter_mut().for_each(|conflict| conflict.date(live));
        let change = match answer.map(text) {
            Ok(after) if after == before => Change::Same,
            Ok(after) if force || conflicts.is_empty() => Change::Update(before, after),
            Ok(after) => Change::Conflict(conflicts, before, after),
            Err(Error::Refused(why)) => Change::Refused(why),
            Err(error) => return Err(error),
        };
        Ok(change)
    }

    /// Does a step that makes or changes its object. Guards are Bedplate's alone and become exactly what is wanted: to
    /// what others have added (a condition that is never met) a server-side apply would say nothing.
    async fn put(&self, step: &Step, force: bool) -> Result<Value, Error> {
        match step.before.as_ref().filter(|_| is_guard(&step.object) && step.change != Change::Create) {
            Some(live) => self.replace(&step.object, live, false).await,
            None => self.apply_over(&step.object, step.before.as_ref(), Write { dry_run: false, force }).await,
        }
    }

    /// A server-side apply. One that takes the last field out of a mapping would leave null there, which no definition
    /// allows (`removingWalker.doMap`, sigs.k8s.io/structured-merge-diff): such a mapping is taken away before.
    async fn apply_over(&self, object: &Value, live: Option<&Value>, options: Write) -> Result<Value, Error> {
        let emptied = live.map(|live| emptied(live, object)).unwrap_or_default();
        if emptied.is_empty() {
            return self.apply(object, options).await;
        }
        let without: Map<String, Value> = emptied.iter().map(|section| (section.clone(), Value::Null)).collect();
        self.merge(self.place(object)?, "", &json!({ "spec": without }), options.dry_run).await?;
        if !options.dry_run {
            return self.apply(object, options).await;
        }
        // The first of two dry runs has changed nothing for the second.
        let mut kept = object.clone();
        for section in &emptied {
            kept["spec"][section] = live.map_or(Value::Null, |live| live["spec"][section].clone());
        }
        let mut answer = self.apply(&kept, options).await?;
        if let Some(spec) = answer["spec"].as_object_mut() {
            emptied.iter().for_each(|section| drop(spec.remove(section)));
        }
        Ok(answer)
    }

    /// Removes a guard that is of no use any more. The guard of the guards, where it stands in a file, takes that for a
    /// mistake, as it should: then it is unlocked first.
    async fn remove_guard(&self, guard: &Value) -> Result<(), Error> {
        match self.remove(guard).await {
            Err(Error::Refused(why)) if is_from_file(&why) => {
                let place = self.place(guard)?;
                self.mark_unlocked(place, "the profile asks for it no longer", Duration::from_secs(60)).await?;
                self.remove(guard).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Waits until the server serves our kinds.
    async fn served(&mut self) -> Result<(), Error> {
        for _ in 0..100 {
            self.discover().await?;
            if self.kind(names::GROUP, "StabilityProfile").is_some() && self.kind(names::GROUP, "Exemption").is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Error::NoSuchResource(format!("stabilityprofiles.{}", names::GROUP)))
    }
}

/// Guards as they are, by their titles.
type Guards = BTreeMap<String, Value>;

/// Guards that an older Bedplate or another profile made.
fn stale(guards: &Guards, desired: &[Value]) -> Vec<Value> {
    let wanted: Vec<String> = desired.iter().map(title).collect();
    let mut stale: Vec<_> =
        guards.values().filter(|guard| is_managed(guard) && !wanted.contains(&title(guard))).cloned().collect();
    stale.sort_by_key(place_in_removal);
    stale
}

/// When a guard is removed; nothing for what is none.
fn place_in_removal(object: &Value) -> Option<usize> {
    OWN_KINDS.iter().position(|(_, kind)| object["kind"] == *kind)
}

/// Whether steps can be done: nothing is begun that would stop half-way at what is known before.
fn settled(steps: &[Step]) -> Result<(), Error> {
    let mut conflicts = Vec::new();
    for step in steps {
        match &step.change {
            Change::Conflict(found, ..) => conflicts.extend(found.iter().cloned()),
            Change::Refused(why) => return Err(Error::Refused(why.clone())),
            _ => {}
        }
    }
    if conflicts.is_empty() { Ok(()) } else { Err(Error::Conflict(conflicts)) }
}

/// Whether a refusal is that of the guard of the guards.
pub(crate) fn is_from_file(why: &str) -> bool {
    why.contains(".static.k8s.io")
}

fn is_guard(object: &Value) -> bool {
    place_in_removal(object).is_some()
}

/// Whether a guard is as it is wanted, besides labels and annotations of others. The API server writes defaults into it,
/// which say what their absence says.
fn is_as_wanted(live: &Value, wanted: &Value) -> bool {
    fn said(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let fields = map.iter().filter(|(key, value)| *key != "scope" || *value != "*");
                let fields = fields.map(|(key, value)| (key.clone(), said(value)));
                fields.filter(|(_, value)| value.as_object().is_none_or(|map| !map.is_empty())).collect()
            }
            Value::Array(items) => items.iter().map(said).collect(),
            other => other.clone(),
        }
    }
    let labels = wanted["metadata"]["labels"].as_object().into_iter().flatten();
    said(&live["spec"]) == said(&wanted["spec"])
        && labels.into_iter().all(|(key, value)| live["metadata"]["labels"].get(key) == Some(value))
}

fn is_definition(object: &Value) -> bool {
    object["kind"] == "CustomResourceDefinition"
}

/// `Kind name`, `Kind namespace/name`.
#[must_use]
pub fn title(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (namespace, slash) = match text("/metadata/namespace") {
        "" => ("", ""),
        namespace => (namespace, "/"),
    };
    format!("{} {namespace}{slash}{}", text("/kind"), text("/metadata/name"))
}

/// Whether an object says that Bedplate made it.
pub(crate) fn is_managed(object: &Value) -> bool {
    is_managed_by(object, &[names::FIELD_MANAGER])
}

/// Whether an object says that one of these made it.
pub(crate) fn is_managed_by(object: &Value, makers: &[&str]) -> bool {
    let label = "/metadata/labels/app.kubernetes.io~1managed-by";
    object.pointer(label).and_then(Value::as_str).is_some_and(|maker| makers.contains(&maker))
}

pub(crate) fn is_ours(object: &Value) -> bool {
    is_managed(object) && has_our_name(object)
}

fn has_our_name(object: &Value) -> bool {
    object.pointer("/metadata/name").and_then(Value::as_str).is_some_and(|name| name.ends_with(names::GROUP))
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

#[cfg(test)]
mod tests {
    use bedplate_model::Profile;

    use super::*;

    /// To ask the API server takes it a second a policy; to be wrong would leave a guard open.
    #[test]
    fn a_guard_with_defaults_is_as_wanted_and_a_softened_one_is_not() {
        for wanted in enforce::objects(enforce::Installation::any(&Profile::default())) {
            let mut live = wanted.clone();
            live["metadata"]["labels"]["team"] = json!("platform");
            if let Some(constraints) = live.pointer_mut("/spec/matchConstraints") {
                constraints["objectSelector"] = json!({});
                constraints["resourceRules"][0]["scope"] = json!("*");
            }
            assert!(is_as_wanted(&live, &wanted), "{}", title(&wanted));
            let softened = [
                ("/spec", "failurePolicy", json!("another")),
                ("/spec", "matchConditions", json!([])),
                ("/spec", "validationActions", json!([])),
                ("/spec", "matchResources", json!({ "namespaceSelector": { "matchLabels": { "a": "b" } } })),
                ("/metadata/labels", "app.kubernetes.io/managed-by", json!("helm")),
            ];
            for (part, key, value) in softened {
                let mut live = live.clone();
                live.pointer_mut(part).unwrap()[key] = value;
                assert!(!is_as_wanted(&live, &wanted), "{} {key}", title(&wanted));
            }
        }
    }
}
