//! Which replica reconciles: leader election on a Lease, as client-go does it (`tools/leaderelection`), so that
//! `kubectl get lease` tells what people know.
//!
//! Nobody compares clocks: a lease is over when it has not changed for its time *as this replica saw it*.

pub mod lease;

use std::time::Duration;

use tokio::sync::watch;

/// How long things take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// A lease that did not change for so long is free.
    pub lease: Duration,
    /// A leader that could not renew for so long stops to lead: before others may start.
    pub renew: Duration,
    /// Between two looks.
    pub retry: Duration,
}

impl Terms {
    /// Those of Kubernetes' own controllers.
    pub const DEFAULT: Self =
        Self { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) };
}

/// The times in which this replica leads, until it is told to stop.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Whether it leads now.
    pub leads: watch::Receiver<bool>,
    /// Whether it is to stop.
    pub stop: watch::Receiver<bool>,
}

impl Turns {
    /// Waits until this replica leads. Gives false where it is told to stop first.
    pub async fn begin(&mut self) -> bool {
        tokio::select! {
            leading = self.leads.wait_for(|leads| *leads) => leading.is_ok(),
            () = crate::told(&mut self.stop) => false,
        }
    }

    /// Does some work that is dropped when the lease is lost, or it is told to stop.
    pub async fn during(&mut self, work: impl Future<Output = ()>) {
        tokio::select! {
            () = work => {}
            _ = self.leads.wait_for(|leads| !*leads) => {}
            () = crate::told(&mut self.stop) => {}
        }
    }
}

/// What a Lease says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// Who leads; empty where somebody stepped down.
    pub holder: String,
    /// When it was renewed, as the holder wrote it: compared for equality only.
    pub renewed: String,
    /// How often the holder changed.
    pub transitions: i32,
}

/// What a replica remembers of the lease. Times are of a clock that only goes forward.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    me: String,
    terms: Terms,
    /// The record as last seen, and when it was seen to be different from before.
    seen: Option<(Record, Duration)>,
    /// When the last renewal that held was begun.
    renewed: Option<Duration>,
}

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Write the lease as ours: it is free, or ours.
    Take,
    /// Somebody else leads.
    Wait,
}

impl Candidate {
    /// A replica called `me`.
    #[must_use]
    pub const fn new(me: String, terms: Terms) -> Self {
        Self { me, terms, seen: None, renewed: None }
    }

    /// What to do, given what the lease says (nothing where there is none) at the time `now`.
    pub fn look(&mut self, record: Option<&Record>, now: Duration) -> Step {
        let Some(record) = record else {
            self.seen = None;
            return Step::Take;
        };
        let since = match &self.seen {
            Some((known, since)) if known == record => *since,
            _ => now,
        };
        self.seen = Some((record.clone(), since));
        let free = record.holder.is_empty() || now.saturating_sub(since) >= self.terms.lease;
        if record.holder == self.me || free { Step::Take } else { Step::Wait }
    }

    /// The write that was begun at `begun` held.
    pub const fn took(&mut self, begun: Duration) {
        self.renewed = Some(begun);
    }

    /// Somebody else leads, or we stepped down.
    pub const fn lost(&mut self) {
        self.renewed = None;
    }

    /// Whether this replica leads at the time `now`: it renewed, and not too long ago.
    #[must_use]
    pub fn leads(&self, now: Duration) -> bool {
        self.renewed.is_some_and(|renewed| now.saturating_sub(renewed) < self.terms.renew)
    }

    /// What the lease is to say after [`Step::Take`].
    #[must_use]
    pub fn record(&self, before: Option<&Record>, time: String) -> Record {
        let transitions = match before {
            Some(before) if before.holder == self.me => before.transitions,
            Some(before) => before.transitions.saturating_add(1),
            None => 0,
        };
        Record { holder: self.me.clone(), renewed: time, transitions }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn record(holder: &str, renewed: &str) -> Record {
        Record { holder: holder.to_owned(), renewed: renewed.to_owned(), transitions: 3 }
    }

    #[test]
    fn a_lease_is_free_when_it_has_not_changed_for_its_time_as_we_saw_it() {
        let mut me = Candidate::new("b".to_owned(), Terms::DEFAULT);
        assert_eq!(me.look(Some(&record("a", "long ago, by a's clock")), s(100)), Step::Wait);
        assert_eq!(me.look(Some(&record("a", "long ago, by a's clock")), s(114)), Step::Wait);
        assert_eq!(me.look(Some(&record("a", "renewed")), s(115)), Step::Wait);
        assert_eq!(me.look(Some(&record("a", "renewed")), s(130)), Step::Take);
        assert_eq!(me.record(Some(&record("a", "renewed")), "now".to_owned()).transitions, 4);
        me.took(s(130));
        assert!(me.leads(s(139)), "for as long as it may take to renew");
        assert!(!me.leads(s(140)), "and it stops before others may begin, at 145");
        // Who steps down does not keep the others waiting.
        assert_eq!(me.look(Some(&record("", "x")), s(131)), Step::Take);
    }

    proptest! {
        /// Three replicas with clocks that start anywhere, a server that answers late or not at all, processes that
        /// stand still for a minute: never two leaders.
        #[test]
        fn there_is_never_more_than_one_leader(
            offsets in proptest::array::uniform3(0..10_000_u64),
            events in proptest::collection::vec((0..3_usize, 0..4_u8, 0..3000_u64), 1..400),
        ) {
            let mut replicas: Vec<_> =
                (0..3).map(|n| Candidate::new(format!("r{n}"), Terms::DEFAULT)).collect();
            let (mut stored, mut version, mut now) = (None::<Record>, 0_u64, 0_u64);
            // What each read, with the version, when it began to write.
            let mut pending: [Option<(u64, Duration, Record)>; 3] = Default::default();
            for (who, what, pass) in events {
                // One event in fifty is a long stop of everybody.
                now += if pass > 2950 { 60_000 } else { pass };
                let clock = |n: usize| Duration::from_millis(now + offsets[n] * 1000);
                match what {
                    // Reads, and decides.
                    0 => {
                        let step = replicas[who].look(stored.as_ref(), clock(who));
                        pending[who] = match step {
                            Step::Take => Some((version, clock(who), replicas[who].record(stored.as_ref(), now.to_string()))),
                            Step::Wait => { replicas[who].lost(); None }
                        };
                    }
                    // The write arrives, however late.
                    1 | 2 => {
                        if let Some((_, begun, record)) = pending[who].take().filter(|(read, ..)| *read == version) {
                            stored = Some(record);
                            version += 1;
                            replicas[who].took(begun);
                        }
                    }
                    // It is lost on the way.
                    _ => pending[who] = None,
                }
                let leaders = (0..3).filter(|n| replicas[*n].leads(clock(*n))).count();
                prop_assert!(leaders <= 1, "{leaders} at {now}");
            }
        }
    }
}
