//! The drill of admission and deletion: everything that should be refused is tried, as a server-side dry run.
//!
//! Nothing is ever changed or deleted: each request says `dryRun=All`. What a dry run cannot show is shown by the
//! tests, on a cluster of their own.

use bedplate_guarantees::enforce::{self, cel};
use bedplate_model::moment::timestamp;
use bedplate_model::profile::Mode;
use bedplate_model::workload::kinds::{Shape, TABLE};
use bedplate_model::{FieldPath, Guarantee, Node, Object, Profile, Segment, Workload, names};
use include_dir::{Dir, include_dir};
use serde_json::{Value, json};

use crate::clock;
use crate::{Cluster, Error, Place, Resource};

/// One manifest a kind, as the projects publish them.
static EXAMPLES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../examples/kinds");

/// Kinds whose objects people mark against deletion.
pub(crate) const MARKED: &[(&str, &str)] = &[
    ("", "Namespace"),
    ("", "PersistentVolumeClaim"),
    ("", "Service"),
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apps.kruise.io", "CloneSet"),
    ("serving.kserve.io", "InferenceService"),
    ("networking.k8s.io", "Ingress"),
];

/// What came of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A guard of ours refused it, in these words.
    Refused(String),
    /// It got through.
    Through,
    /// It got through because the profile says so.
    NotEnforced(Mode),
    /// It could not be tried, and why.
    Untried(String),
}

/// One thing that should be refused.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Whose guard.
    pub guarantee: Guarantee,
    /// Which guard.
    pub rule: &'static str,
    /// What was tried.
    pub what: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl Cluster {
    /// Tries everything that the guards of `guarantees` should refuse; objects are tried in `namespace`.
    ///
    /// # Errors
    /// No answer, no rights to read what is there.
    pub async fn prove(
        &self,
        guarantees: &[Guarantee],
        namespace: &str,
        mut each: impl FnMut(&Attempt),
    ) -> Result<(), Error> {
        self.new_enough()?;
        let profile = self.profile().await?.profile;
        if guarantees.contains(&Guarantee::Admission) {
            self.prove_admission(&profile, namespace, &mut each).await?;
        }
        if guarantees.contains(&Guarantee::Deletion) {
            self.prove_deletion(&profile, &mut each).await?;
        }
        Ok(())
    }

    async fn prove_admission(
        &self,
        profile: &Profile,
        namespace: &str,
        each: &mut impl FnMut(&Attempt),
    ) -> Result<(), Error> {
        let settings = profile.settings(Some(namespace));
        for file in EXAMPLES.files() {
            let Some(object) = file.contents_utf8().and_then(example) else { continue };
            let Ok(place) = self.place(&object) else { continue };
            if object["apiVersion"] != place.resource.api_version() || !is_judged(&object) {
                continue;
            }
            for (rule, what, hostile) in hostile(&object, namespace) {
                let outcome = self.create(&hostile, true).await.map(drop);
                let outcome = told(outcome, rule, settings.mode(rule, Guarantee::Admission));
                let what = format!("{} with {what}", place.resource.full_name());
                each(&Attempt { guarantee: Guarantee::Admission, rule, what, outcome });
            }
        }
        Ok(())
    }

    async fn prove_deletion(&self, profile: &Profile, each: &mut impl FnMut(&Attempt)) -> Result<(), Error> {
        let mode = |rule: &str| profile.settings(None).mode(rule, Guarantee::Deletion);
        let mut tell = |rule: &'static str, what: String, answer: Result<(), Error>| {
            let outcome = told(answer, rule, mode(rule));
            each(&Attempt { guarantee: Guarantee::Deletion, rule, what, outcome });
        };
        let definitions = self.kind("apiextensions.k8s.io", "CustomResourceDefinition");
        if let Some(resource) = definitions {
            let mut protected = Vec::new();
            self.list(resource, None, true, |object| {
                let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                let group = name.split_once('.').map_or("", |(_, group)| group);
                if TABLE.iter().any(|row| row.group == group && group.contains('.')) || group == names::GROUP {
                    protected.push(name.to_owned());
                }
            })
            .await?;
            for name in &protected {
                let place = Place { resource, namespace: None, name };
                tell("delete-protection", format!("delete crd {name}"), self.delete(place, true).await);
            }
            if !protected.is_empty() {
                let place = Place { resource, namespace: None, name: "" };
                tell("delete-protection", "deletecollection of every crd".to_owned(), self.delete(place, true).await);
            }
        }
        if let Some(resource) = self.kind("", "Namespace") {
            let mut production = Vec::new();
            let patterns = profile.settings(None).production_namespaces();
            self.list(resource, None, true, |object| {
                let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                if patterns.iter().any(|pattern| bedplate_model::exemption::glob(pattern, name)) {
                    production.push(name.to_owned());
                }
            })
            .await?;
            for name in &production {
                let place = Place { resource, namespace: None, name };
                tell("delete-protection", format!("delete namespace {name}"), self.delete(place, true).await);
            }
        }
        for (resource, namespace, name) in self.marked().await? {
            let place = Place { resource, namespace: namespace.as_deref(), name: &name };
            let what = format!("{} {name}", resource.full_name());
            tell("delete-protection", format!("delete {what}"), self.delete(place, true).await);
            let unmark = json!({ "metadata": {
                "annotations": { names::DELETE_PROTECTION: null },
                "labels": { names::DELETE_PROTECTION: null, names::KRUISE_DELETE_PROTECTION: null },
            } });
            let answer = self.merge(place, "", &unmark, true).await.map(drop);
            tell("protection-removed", format!("take the mark off {what}"), answer);
        }
        if let Some(resource) = self.kind(names::GROUP, "StabilityProfile") {
            let place = Place { resource, namespace: None, name: names::PROFILE };
            tell("delete-protection", "delete the StabilityProfile".to_owned(), self.delete(place, true).await);
            let patch = |patch: Value| async move { self.merge(place, "", &patch, true).await.map(drop) };
            let narrowed = json!({ "spec": { "deletion": { "productionNamespaces": ["nothing-at-all"] } } });
            tell("profile-narrowed", "call no namespace production".to_owned(), patch(narrowed).await);
            let off = json!({ "spec": { "modes": { "deletion": "off" } } });
            tell("profile-narrowed", "switch the guards of deletion off".to_owned(), patch(off).await);
            let far = timestamp(clock::now() + 7 * 86_400);
            let soon = timestamp(clock::now() + 600);
            for (what, value) in [
                ("for a week", format!("{} until {far} by {}: drill", names::PROFILE, self.user)),
                ("in another's name", format!("{} until {soon} by somebody-else: drill", names::PROFILE)),
                ("with another object's name", format!("other until {soon} by {}: drill", self.user)),
                ("without a reason", format!("{} until {soon} by {}: ", names::PROFILE, self.user)),
            ] {
                let unlock = json!({ "metadata": { "annotations": { names::UNLOCK: value } } });
                // This guard has no mode: it only refuses what would be no unlock.
                let outcome = told(patch(unlock).await, "unlock-form", Mode::Enforce);
                each(&Attempt {
                    guarantee: Guarantee::Deletion,
                    rule: "unlock-form",
                    what: format!("unlock {what}"),
                    outcome,
                });
            }
        }
        Ok(())
    }

    /// Objects that are marked, of the kinds that people mark.
    async fn marked(&self) -> Result<Vec<(&Resource, Option<String>, String)>, Error> {
        let mut found = Vec::new();
        for (group, kind) in MARKED {
            let Some(resource) = self.kind(group, kind) else { continue };
            self.list(resource, None, true, |object| {
                let at = |part: &str, name: &str| {
                    object.pointer(&format!("/metadata/{part}/{}", name.replace('/', "~1"))).and_then(Value::as_str)
                        == Some("true")
                };
                if at("annotations", names::DELETE_PROTECTION) || at("labels", names::DELETE_PROTECTION) {
                    let text = |path: &str| object.pointer(path).and_then(Value::as_str).map(str::to_owned);
                    found.push((resource, text("/metadata/namespace"), text("/metadata/name").unwrap_or_default()));
                }
            })
            .await?;
        }
        Ok(found)
    }
}

fn told(answer: Result<(), Error>, rule: &str, mode: Mode) -> Outcome {
    match answer {
        Err(Error::Refused(why)) if why.contains(&enforce::refusal(rule)) => {
            Outcome::Refused(why.split(&enforce::refusal(rule)).last().unwrap_or(&why).to_owned())
        }
        // Another guard of ours, or another plugin: it did not get through, and proves nothing of this one.
        Err(Error::Refused(why)) => Outcome::Untried(format!("refused by another: {why}")),
        Err(error) => Outcome::Untried(error.to_string()),
        Ok(()) if mode == Mode::Enforce => Outcome::Through,
        Ok(()) => Outcome::NotEnforced(mode),
    }
}

fn example(text: &str) -> Option<Value> {
    let parsed = bedplate_model::document::parse(text, &bedplate_model::document::Limits::DEFAULT);
    let object = parsed.documents.first()?.root.to_json();
    object.get("metadata").is_some().then_some(object)
}

/// Whether the object's own pods are judged: some kinds only hold other objects, which are judged when they are made.
fn is_judged(object: &Value) -> bool {
    let group =
        object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    cel::rows().any(|row| row.group == group && object["kind"] == row.kind)
}

/// Variants of an object, each with one thing that must be refused: the rule, what it is, and the object.
fn hostile(object: &Value, namespace: &str) -> Vec<(&'static str, String, Value)> {
    let mut base = object.clone();
    base["metadata"] = json!({ "name": "bedplate-proof", "namespace": namespace });
    let node = Node::from_json(&base);
    let Some(subject) = Object::of_node(&node) else { return Vec::new() };
    let Some(workload) = Workload::new(&subject) else { return Vec::new() };
    let images: Vec<FieldPath> = workload.containers().map(|(_, container)| container.image.path()).collect();
    let resources: Vec<(FieldPath, Shape)> = workload
        .containers()
        .filter(|(_, container)| container.role == bedplate_model::workload::pods::ContainerRole::Main)
        .map(|(pods, container)| match pods.shape {
            Shape::Spark => (container.field.path(), pods.shape),
            shape => (container.resources.path(), shape),
        })
        .collect();
    let counts: Vec<FieldPath> = workload
        .pod_sets
        .iter()
        .flat_map(|pods| pods.replicas.factors.iter().map(|factor| factor.path.clone()))
        .collect();
    let accelerators = |object: &mut Value, count: u64| {
        for (path, shape) in &resources {
            if *shape == Shape::Spark {
                set(object, &path.clone().key("gpu"), json!({ "name": "nvidia.com/gpu", "quantity": count }));
            } else {
                let limits = json!({ "nvidia.com/gpu": count.to_string() });
                set(object, &path.clone().key("limits"), limits.clone());
                set(object, &path.clone().key("requests"), limits);
            }
        }
    };
    let with_image = |image: &str| {
        let mut object = base.clone();
        // Trusted everywhere else, so that each attempt meets one guard.
        images.iter().for_each(|path| set(&mut object, path, json!("docker.io/library/busybox:1.36")));
        if let Some(path) = images.last() {
            set(&mut object, path, json!(image));
        }
        accelerators(&mut object, 0);
        object
    };
    let fine = "docker.io/library/busybox:1.36";
    let mut all = Vec::new();
    if !images.is_empty() {
        all.push((
            "untrusted-registry",
            "an image from an unknown registry".to_owned(),
            with_image("registry.invalid/miner:1"),
        ));
        all.push((
            "untrusted-registry",
            "an image whose registry looks like a trusted one".to_owned(),
            with_image("docker.io.invalid/library/busybox:1"),
        ));
        all.push(("mutable-tag", "a tag that moves".to_owned(), with_image("docker.io/library/busybox:latest")));
    }
    if !resources.is_empty() {
        let mut one = with_image(fine);
        accelerators(&mut one, 640);
        let mut unnamed = one.clone();
        all.push(("gpu-ceiling", "640 accelerators in a pod".to_owned(), one));
        unnamed["metadata"] = json!({ "generateName": "bedplate-proof-", "namespace": namespace });
        all.push(("gpu-ceiling", "640 accelerators in a pod and a generated name".to_owned(), unnamed));
        let has_total = workload.kind.is_some_and(cel::has_total);
        if !counts.is_empty() && has_total {
            let mut many = with_image(fine);
            accelerators(&mut many, 1);
            for path in &counts {
                set(&mut many, path, json!(1000));
                // A Job's parallelism is no more than its completions.
                if let Some((Segment::Key(last), parent)) = path.0.split_last() {
                    // Fields that bound this one: a Job's completions, a Ray group's maximum.
                    let bound = match &**last {
                        "parallelism" => "completions",
                        "replicas" => "maxReplicas",
                        _ => continue,
                    };
                    set(&mut many, &FieldPath(parent.into()).key(bound), json!(1000));
                }
            }
            // Where another field bounds what this one asks for, it asks for nothing.
            let node = Node::from_json(&many);
            let asked = Object::of_node(&node).as_ref().and_then(Workload::new).map_or(0, |w| w.accelerators());
            if asked >= 1000 {
                all.push(("gpu-ceiling", "one accelerator in each of 1000 pods".to_owned(), many));
            }
        }
    }
    all
}

/// Sets what stands at a path, making the mappings on the way.
fn set(object: &mut Value, path: &FieldPath, value: Value) {
    let mut at = object;
    for segment in &path.0 {
        at = match segment {
            Segment::Key(key) => {
                if !at.is_object() {
                    *at = json!({});
                }
                &mut at[&**key]
            }
            Segment::Index(index) => match at.as_array_mut().and_then(|items| items.get_mut(*index)) {
                Some(item) => item,
                None => return,
            },
        };
    }
    *at = value;
}
