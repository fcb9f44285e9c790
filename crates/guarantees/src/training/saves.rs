//! How long the saves of trainings take: told by reports of their pods, asked by rules about what makes such pods.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use bedplate_model::Object;

/// Most trainings that are remembered: some hundred bytes each.
const MOST: usize = 10_000;

/// What makes pods: what controls a pod, or a pod that nothing does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Maker {
    namespace: String,
    kind: String,
    name: String,
}

impl Maker {
    /// The maker of a pod, and of whatever else is controlled; what controls pods is one itself.
    #[must_use]
    pub fn of(object: &Object<'_>) -> Self {
        let (kind, name) = match object.controller() {
            Some(owner) => {
                (owner.key("kind").scalar().unwrap_or_default(), owner.key("name").scalar().unwrap_or_default())
            }
            None => (object.kind.to_owned(), object.name()),
        };
        Self { namespace: object.namespace().unwrap_or_default().to_owned(), kind, name }
    }
}

/// The last save of each training. It is remembered after the pods have gone: for those that come in their place, and for a
/// job that is made again under its name.
#[derive(Debug, Default)]
pub struct Saves(RwLock<HashMap<Maker, Save>>);

#[derive(Debug)]
struct Save {
    seconds: f64,
    /// When it was told, in seconds since 1970.
    told: u64,
}

impl Saves {
    /// A save took so many seconds, as a report said at `now` (seconds since 1970). The one that was told of longest ago is
    /// forgotten for it where there are too many.
    pub fn tell(&self, maker: Maker, seconds: f64, now: u64) {
        let mut saves = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if saves.len() >= MOST && !saves.contains_key(&maker) {
            let oldest = saves.iter().min_by_key(|(_, save)| save.told).map(|(maker, _)| maker.clone());
            oldest.map(|oldest| saves.remove(&oldest));
        }
        saves.insert(maker, Save { seconds, told: now });
    }

    /// Seconds that a save of the pods of this object took; nothing where nobody has told.
    #[must_use]
    pub fn seconds(&self, object: &Object<'_>) -> Option<f64> {
        let saves = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // Nearly always.
        if saves.is_empty() {
            return None;
        }
        saves.get(&Maker::of(object)).map(|save| save.seconds)
    }
}

/// Whether a save fits between the notice and the kill: the step that goes on, and what ends after it, need a fifth of that.
#[must_use]
pub fn fits(save_seconds: f64, grace: u64) -> bool {
    save_seconds <= 0.8 * grace as f64
}

/// The grace for a save, as `Guard` says it in the log of the pod.
#[must_use]
pub fn grace_for(save_seconds: f64) -> u64 {
    (save_seconds * 1.25) as u64 + 5
}

#[cfg(test)]
mod tests {
    use bedplate_model::Node;
    use serde_json::json;

    use super::*;

    fn seconds(saves: &Saves, object: &serde_json::Value) -> Option<f64> {
        let node = Node::from_json(object);
        saves.seconds(&Object::of_node(&node).unwrap())
    }

    fn maker(object: &serde_json::Value) -> Maker {
        let node = Node::from_json(object);
        Maker::of(&Object::of_node(&node).unwrap())
    }

    fn pod(name: &str, job: &str) -> serde_json::Value {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "n", "ownerReferences": [
            { "apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": job, "uid": "1", "controller": true }] } })
    }

    #[test]
    fn the_pod_that_comes_in_the_place_of_an_evicted_one_has_its_saves() {
        let saves = Saves::default();
        saves.tell(maker(&pod("llama-worker-0", "llama")), 95.0, 1);
        assert_eq!(seconds(&saves, &pod("llama-worker-0", "llama")), Some(95.0));
        let job = json!({ "apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": { "name": "llama", "namespace": "n" } });
        assert_eq!(seconds(&saves, &job), Some(95.0), "made again under its name");
        assert_eq!(seconds(&saves, &pod("other-worker-0", "other")), None);
    }

    #[test]
    fn a_search_of_many_trials_does_not_fill_the_memory() {
        let saves = Saves::default();
        for trial in 0..MOST + 7 {
            saves.tell(maker(&pod("a", &format!("trial-{trial}"))), 1.0, trial as u64);
        }
        assert_eq!(saves.0.read().unwrap().len(), MOST);
        assert_eq!(seconds(&saves, &pod("a", "trial-6")), None);
        assert_eq!(seconds(&saves, &pod("a", "trial-7")), Some(1.0));
    }

    #[test]
    fn the_grace_for_a_save_is_one_that_it_fits_into() {
        for save in [0.0, 0.1, 3.9, 24.0, 95.4, 3600.0] {
            assert!(fits(save, grace_for(save)), "{save}");
        }
        assert!(fits(24.0, 30) && !fits(24.1, 30));
    }
}
