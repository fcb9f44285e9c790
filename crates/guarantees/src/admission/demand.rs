//! What the unfinished workloads of a cluster ask for together, by namespace and by queue. Told of one workload at a time
//! and asked at any time; of each workload some hundred bytes are kept.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bedplate_model::workload::{Ask, AskId, Queue};

/// Seconds for which a workload counts that was let through and is not there yet.
pub const EXPECTED: u64 = 30;

/// The counts. What it says is as new as what it was told last.
#[derive(Debug, Default)]
pub struct Demand(RwLock<Tally>);

#[derive(Debug, Default)]
struct Tally {
    asks: HashMap<AskId, Counted>,
    namespaces: HashMap<String, Sum>,
    queues: HashMap<Queue, Sum>,
}

#[derive(Debug)]
struct Counted {
    ask: Ask,
    /// Until when it counts without being there, in seconds since 1970; nothing for what is there.
    until: Option<u64>,
}

/// What several ask for together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum {
    /// Accelerators.
    pub accelerators: u64,
    /// Trials that run at once.
    pub trials: u64,
    /// How many workloads it is.
    pub workloads: u64,
}

impl Sum {
    fn add(&mut self, ask: &Ask) {
        self.accelerators = self.accelerators.saturating_add(ask.accelerators);
        self.trials = self.trials.saturating_add(ask.trials);
        self.workloads += 1;
    }

    fn take(&mut self, ask: &Ask) {
        self.accelerators = self.accelerators.saturating_sub(ask.accelerators);
        self.trials = self.trials.saturating_sub(ask.trials);
        self.workloads = self.workloads.saturating_sub(1);
    }
}

impl Tally {
    fn insert(&mut self, ask: Ask, until: Option<u64>) {
        self.remove(&ask.id);
        // What asks for nothing is not kept.
        if ask.accelerators == 0 && ask.trials == 0 {
            return;
        }
        self.namespaces.entry(ask.id.namespace.clone()).or_default().add(&ask);
        if let Some(queue) = &ask.queue {
            self.queues.entry(queue.clone()).or_default().add(&ask);
        }
        self.asks.insert(ask.id.clone(), Counted { ask, until });
    }

    fn remove(&mut self, id: &AskId) {
        let Some(Counted { ask, .. }) = self.asks.remove(id) else { return };
        take_from(&mut self.namespaces, &id.namespace, &ask);
        if let Some(queue) = &ask.queue {
            take_from(&mut self.queues, queue, &ask);
        }
    }
}

/// Takes a workload out of the sum that it is in. A sum of none is not kept.
fn take_from<K: Eq + Hash>(sums: &mut HashMap<K, Sum>, key: &K, ask: &Ask) {
    if let Some(sum) = sums.get_mut(key) {
        sum.take(ask);
        if sum.workloads == 0 {
            sums.remove(key);
        }
    }
}

impl Demand {
    /// A workload is there and asks for this.
    pub fn set(&self, ask: Ask) {
        self.write().insert(ask, None);
    }

    /// A workload was let through at `now` (seconds since 1970): it counts for [`EXPECTED`] seconds, by which it is there.
    pub fn expect(&self, ask: Ask, now: u64) {
        let mut tally = self.write();
        if !tally.asks.contains_key(&ask.id) {
            tally.insert(ask, Some(now + EXPECTED));
        }
    }

    /// A workload is gone, or has finished.
    pub fn remove(&self, id: &AskId) {
        self.write().remove(id);
    }

    /// Forgets what was let through and has not come by `now`.
    pub fn forget_expected(&self, now: u64) {
        let mut tally = self.write();
        let late = |counted: &Counted| counted.until.is_some_and(|until| until <= now);
        let late: Vec<_> = tally.asks.iter().filter(|(_, counted)| late(counted)).map(|(id, _)| id.clone()).collect();
        late.iter().for_each(|id| tally.remove(id));
    }

    /// Keeps those that `keep` wants, of what is there.
    pub fn retain(&self, keep: impl Fn(&AskId) -> bool) {
        let mut tally = self.write();
        let gone: Vec<_> = tally
            .asks
            .iter()
            .filter(|(id, counted)| counted.until.is_none() && !keep(id))
            .map(|(id, _)| id.clone())
            .collect();
        gone.iter().for_each(|id| tally.remove(id));
    }

    /// What the others of a workload's namespace ask for.
    #[must_use]
    pub fn others_of_namespace(&self, id: &AskId) -> Sum {
        let tally = self.read();
        let mut sum = tally.namespaces.get(&id.namespace).copied().unwrap_or_default();
        if let Some(own) = tally.asks.get(id) {
            sum.take(&own.ask);
        }
        sum
    }

    /// What the others of a queue ask for.
    #[must_use]
    pub fn others_of_queue(&self, queue: &Queue, id: &AskId) -> Sum {
        let tally = self.read();
        let mut sum = tally.queues.get(queue).copied().unwrap_or_default();
        if let Some(own) = tally.asks.get(id).filter(|own| own.ask.queue.as_ref() == Some(queue)) {
            sum.take(&own.ask);
        }
        sum
    }

    /// The largest of a namespace, at most `most`, largest first.
    #[must_use]
    pub fn largest(&self, of: impl Fn(&Ask) -> bool, most: usize) -> Vec<(AskId, u64)> {
        let tally = self.read();
        let asks = tally.asks.values().filter(|counted| of(&counted.ask));
        let mut all: Vec<_> = asks.map(|counted| (&counted.ask.id, counted.ask.accelerators)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        all.into_iter().take(most).map(|(id, accelerators)| (id.clone(), accelerators)).collect()
    }

    /// Every namespace in which something is asked for, and what.
    #[must_use]
    pub fn namespaces(&self) -> Vec<(String, Sum)> {
        self.read().namespaces.iter().map(|(name, sum)| (name.clone(), *sum)).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Tally> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tally> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(namespace: &str, name: &str, queue: Option<&str>, accelerators: u64) -> Ask {
        let word = str::to_owned;
        Ask {
            id: AskId { group: word("batch"), kind: word("Job"), namespace: word(namespace), name: word(name) },
            queue: queue.map(|name| Queue { namespace: String::new(), name: word(name) }),
            accelerators,
            trials: 0,
        }
    }

    /// Fifty jobs came in the second before the first of them was seen, and all were let through.
    #[test]
    fn what_was_let_through_counts_before_it_is_seen_and_not_for_ever() {
        let demand = Demand::default();
        demand.expect(ask("n", "a", None, 8), 100);
        let other = ask("n", "b", None, 8).id;
        assert_eq!(demand.others_of_namespace(&other).accelerators, 8);
        demand.forget_expected(129);
        assert_eq!(demand.others_of_namespace(&other).accelerators, 8);
        demand.forget_expected(130);
        assert_eq!(demand.others_of_namespace(&other).accelerators, 0, "it never came");
        demand.set(ask("n", "a", None, 8));
        demand.expect(ask("n", "a", None, 4), 200);
        demand.forget_expected(999);
        assert_eq!(demand.others_of_namespace(&other).accelerators, 8, "what is there stays as it is");
    }

    proptest! {
        /// The sums are those of what is there, whatever came and went.
        #[test]
        fn sums_are_of_what_is_there(steps in prop::collection::vec((0..3_usize, 0..5_usize, 0..3_usize, 0..9_u64, any::<bool>()), 0..200)) {
            let demand = Demand::default();
            let mut there: HashMap<AskId, Ask> = HashMap::new();
            for (namespace, name, queue, accelerators, remove) in steps {
                let queue = [None, Some("q"), Some("r")][queue];
                let ask = ask(["a", "b", "c"][namespace], ["1", "2", "3", "4", "5"][name], queue, accelerators);
                if remove {
                    demand.remove(&ask.id);
                    there.remove(&ask.id);
                } else {
                    demand.set(ask.clone());
                    there.insert(ask.id.clone(), ask);
                }
            }
            for ask in there.values() {
                let others = there.values().filter(|other| other.id != ask.id);
                let of_namespace = others.clone().filter(|other| other.id.namespace == ask.id.namespace);
                prop_assert_eq!(demand.others_of_namespace(&ask.id).accelerators, of_namespace.map(|other| other.accelerators).sum::<u64>());
                if let Some(queue) = &ask.queue {
                    let of_queue = others.filter(|other| other.queue.as_ref() == Some(queue));
                    prop_assert_eq!(demand.others_of_queue(queue, &ask.id).accelerators, of_queue.map(|other| other.accelerators).sum::<u64>());
                }
            }
        }
    }
}
