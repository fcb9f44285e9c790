//! The queues of one level: fair queuing (`pkg/util/flowcontrol/fairqueuing/queueset/queueset.go`), step by step as the
//! server does it. Its clock is an argument: nanoseconds since any time.
//!
//! Virtual time `R` grows with the seats that each active queue has on average. A queue's next request would finish, in
//! virtual time, at the queue's `next_dispatch_r` and its own work; the one that finishes first is dispatched. What a
//! request really took corrects the queue's `next_dispatch_r` when it ends.

use std::collections::VecDeque;

use crate::sharding::deal;
use crate::types::Queuing;

/// Nanoseconds.
pub type Nanos = u64;

/// Work: hundred-millionths of a second on one seat (`request/seat_seconds.go`).
pub type SeatSeconds = u64;

/// The server's guess of how long a request takes.
const GUESS: Nanos = 3_000_000;

/// Signed, as the server rounds a difference of times.
fn seats_times_signed(seats: f64, nanos: f64) -> i64 {
    (seats * nanos / 10.0).round() as i64
}

fn seats_times(seats: f64, nanos: f64) -> SeatSeconds {
    seats_times_signed(seats, nanos).max(0).unsigned_abs()
}

/// How wide a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Width {
    /// Seats while it is executed.
    pub initial_seats: u64,
    /// Seats for a while after it: of watchers that are told.
    pub final_seats: u64,
    /// That while.
    pub additional: Nanos,
}

impl Width {
    /// One seat, and nothing after it.
    pub const ONE: Self = Self { initial_seats: 1, final_seats: 0, additional: 0 };

    /// Seats that it holds: both phases are given the larger number.
    #[must_use]
    pub const fn seats(&self) -> u64 {
        if self.initial_seats > self.final_seats { self.initial_seats } else { self.final_seats }
    }

    fn work(&self) -> SeatSeconds {
        seats_times(self.initial_seats as f64, GUESS as f64) + self.final_work()
    }

    fn final_work(&self) -> SeatSeconds {
        seats_times(self.final_seats as f64, self.additional as f64)
    }

    /// The same work after the answer, on no more than so many seats: for longer.
    #[must_use]
    pub fn narrowed(mut self, seats: u64) -> Self {
        if self.final_seats > seats {
            self.additional = (self.final_work() as f64 / seats as f64 * 10.0) as Nanos;
            self.final_seats = seats;
        }
        self
    }
}

/// A request, as its sender knows it.
pub type Ticket = u32;

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: Ticket,
    width: Width,
    arrival_r: SeatSeconds,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    queue: Option<usize>,
    width: Width,
    started: Nanos,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    work: SeatSeconds,
    seats_waiting: u64,
    next_dispatch_r: SeatSeconds,
    executing: u32,
    seats_in_use: u64,
}

impl Queue {
    fn is_active(&self) -> bool {
        !self.waiting.is_empty() || self.executing > 0
    }

    /// Virtual time never starts a request before it came.
    fn bound(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.next_dispatch_r = self.next_dispatch_r.max(oldest.arrival_r);
        }
    }
}

/// What became of a request when it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It waits, or runs: whoever runs is in what [`QueueSet::dispatched`] gives.
    Taken,
    /// No seat and no room: 429.
    Refused,
}

/// What a queue holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inside {
    /// Who waits, in order.
    pub waiting: Vec<Ticket>,
    /// The virtual time at which its next request begins.
    pub next_dispatch_r: SeatSeconds,
    /// The work of those who wait.
    pub work: SeatSeconds,
    /// Seats of those who run.
    pub seats_in_use: u64,
}

/// The queues of a level.
#[derive(Clone, Debug)]
pub struct QueueSet {
    queuing: Option<Queuing>,
    queues: Vec<Queue>,
    /// By ticket.
    running: Vec<Option<Running>>,
    limit: u64,
    r: SeatSeconds,
    last: Nanos,
    robin: usize,
    enqueues: usize,
    seats_in_use: u64,
    seats_waiting: u64,
    /// Seats that nobody waits for any more, which the server still counts as demand: it takes off the narrowed seats of
    /// a request, having added the wide ones (`dispatchLocked` after `findDispatchQueueToBoundLocked`).
    demand_left: u64,
    executing: u32,
    waiting: u32,
    active: u32,
    dispatched: Vec<Ticket>,
}

impl QueueSet {
    /// Queues with `limit` seats; without `queuing` nobody waits.
    #[must_use]
    pub fn new(queuing: Option<Queuing>, limit: u64) -> Self {
        let count = queuing.map_or(0, |queuing| queuing.queues as usize);
        Self {
            queuing,
            queues: vec![Queue::default(); count],
            running: Vec::new(),
            limit,
            r: 0,
            last: 0,
            robin: 0,
            enqueues: 0,
            seats_in_use: 0,
            seats_waiting: 0,
            demand_left: 0,
            executing: 0,
            waiting: 0,
            active: 0,
            dispatched: Vec::new(),
        }
    }

    /// Seats that requests hold.
    #[must_use]
    pub const fn seats_in_use(&self) -> u64 {
        self.seats_in_use
    }

    /// Seats that are held or waited for: what borrowing goes by.
    #[must_use]
    pub const fn demand(&self) -> u64 {
        self.seats_in_use + self.seats_waiting + self.demand_left
    }

    /// Requests that wait.
    #[must_use]
    pub const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// What each queue holds, for who compares it with the server's.
    pub fn inside(&self) -> impl Iterator<Item = Inside> {
        self.queues.iter().map(|queue| Inside {
            waiting: queue.waiting.iter().map(|waiting| waiting.ticket).collect(),
            next_dispatch_r: queue.next_dispatch_r,
            work: queue.work,
            seats_in_use: queue.seats_in_use,
        })
    }

    /// Takes out who has begun to run since the last time.
    pub fn dispatched(&mut self) -> std::vec::Drain<'_, Ticket> {
        self.dispatched.drain(..)
    }

    /// Changes the limit: levels lend and borrow.
    pub fn set_limit(&mut self, now: Nanos, limit: u64) {
        self.sync(now);
        self.limit = limit;
        self.dispatch_all(now);
    }

    /// A request comes. `hash` is that of its flow; tickets in use must differ.
    pub fn arrive(&mut self, now: Nanos, ticket: Ticket, hash: u64, width: Width) -> Arrival {
        self.sync(now);
        let Some(queuing) = self.queuing else {
            if !self.fits(width.seats()) {
                return Arrival::Refused;
            }
            self.run(now, ticket, None, width);
            return Arrival::Taken;
        };
        let at = self.shortest(hash, queuing);
        let queue = &mut self.queues[at];
        if self.seats_in_use >= self.limit && queue.waiting.len() >= queuing.queue_length_limit as usize {
            queue.bound();
            return Arrival::Refused;
        }
        if !queue.is_active() {
            queue.next_dispatch_r = self.r;
            self.active += 1;
        }
        queue.waiting.push_back(Waiting { ticket, width, arrival_r: self.r });
        queue.work += width.work();
        queue.seats_waiting += width.seats();
        self.waiting += 1;
        self.seats_waiting += width.seats();
        queue.bound();
        self.dispatch_all(now);
        Arrival::Taken
    }

    /// A request has waited too long and is refused, if it still waits. Gives whether it did.
    pub fn give_up(&mut self, now: Nanos, ticket: Ticket) -> bool {
        self.sync(now);
        for at in 0..self.queues.len() {
            let queue = &mut self.queues[at];
            let Some(place) = queue.waiting.iter().position(|waiting| waiting.ticket == ticket) else { continue };
            self.take_from(at, place);
            self.queues[at].bound();
            return true;
        }
        false
    }

    /// A request has been executed. Gives for how long it holds its seats still; then [`QueueSet::release`] is due.
    pub fn finish(&mut self, now: Nanos, ticket: Ticket) -> Option<Nanos> {
        self.sync(now);
        let running = self.running.get(ticket as usize).copied().flatten()?;
        self.executing -= 1;
        if let Some(at) = running.queue {
            let queue = &mut self.queues[at];
            queue.executing -= 1;
            // It took more or less than was guessed.
            let unused = GUESS as f64 - now.saturating_sub(running.started) as f64;
            let work = seats_times_signed(running.width.initial_seats as f64, unused);
            queue.next_dispatch_r = queue.next_dispatch_r.saturating_add_signed(work.saturating_neg());
            queue.bound();
            self.active -= u32::from(!queue.is_active());
        }
        if running.width.additional > 0 {
            // Its seats stay taken, but who is wider than all of them may run now, and whose turn it is has changed.
            self.dispatch_all(now);
            return Some(running.width.additional);
        }
        self.free(now, ticket);
        None
    }

    /// The seats of a finished request are free.
    pub fn release(&mut self, now: Nanos, ticket: Ticket) {
        self.sync(now);
        self.free(now, ticket);
    }

    fn free(&mut self, now: Nanos, ticket: Ticket) {
        let Some(running) = self.running.get_mut(ticket as usize).and_then(Option::take) else { return };
        self.seats_in_use -= running.width.seats();
        if let Some(at) = running.queue {
            self.queues[at].seats_in_use -= running.width.seats();
        }
        self.dispatch_all(now);
    }

    /// Brings virtual time up to now.
    fn sync(&mut self, now: Nanos) {
        let passed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        if self.active > 0 {
            let asked = self.seats_in_use + self.seats_waiting;
            let ratio = asked.min(self.limit) as f64 / f64::from(self.active);
            self.r += seats_times(ratio, passed as f64);
        }
    }

    /// The queue of the flow's hand with the least work; of the same, the first from a place that goes round.
    fn shortest(&mut self, hash: u64, queuing: Queuing) -> usize {
        let hand = deal(hash, queuing.queues, queuing.hand_size);
        let offset = self.enqueues % hand.len().max(1);
        self.enqueues += 1;
        let order = hand.iter().cycle().skip(offset).take(hand.len());
        order.copied().min_by_key(|at| self.queues[*at].work).unwrap_or(0)
    }

    fn fits(&self, seats: u64) -> bool {
        // One that is wider than all runs alone.
        if seats > self.limit { self.executing == 0 } else { self.seats_in_use + seats <= self.limit }
    }

    fn dispatch_all(&mut self, now: Nanos) {
        while self.waiting > 0 && self.seats_in_use < self.limit && self.dispatch(now) {}
    }

    fn dispatch(&mut self, now: Nanos) -> bool {
        let count = self.queues.len();
        let mut next: Option<(SeatSeconds, usize)> = None;
        for step in 1..=count {
            let at = (self.robin + step) % count;
            let queue = &self.queues[at];
            let Some(oldest) = queue.waiting.front() else { continue };
            let finish = queue.next_dispatch_r + oldest.width.work();
            if next.is_none_or(|(least, _)| finish < least) {
                next = Some((finish, at));
            }
        }
        let Some((_, at)) = next else { return false };
        let Some(oldest) = self.queues[at].waiting.front().copied() else { return false };
        if !self.fits(oldest.width.seats()) {
            // Whoever is next keeps the others waiting until it fits.
            return false;
        }
        self.robin = at;
        let width = oldest.width.narrowed(self.limit);
        self.demand_left += oldest.width.seats() - width.seats();
        let active = self.active;
        self.take_from(at, 0);
        self.active = active;
        self.run(now, oldest.ticket, Some(at), width);
        let queue = &mut self.queues[at];
        queue.next_dispatch_r += oldest.width.work();
        queue.bound();
        true
    }

    fn take_from(&mut self, at: usize, place: usize) {
        let queue = &mut self.queues[at];
        let Some(gone) = queue.waiting.remove(place) else { return };
        queue.work -= gone.width.work();
        queue.seats_waiting -= gone.width.seats();
        self.waiting -= 1;
        self.seats_waiting -= gone.width.seats();
        self.active -= u32::from(!queue.is_active());
    }

    fn run(&mut self, now: Nanos, ticket: Ticket, queue: Option<usize>, width: Width) {
        if self.running.len() <= ticket as usize {
            self.running.resize(ticket as usize + 1, None);
        }
        self.running[ticket as usize] = Some(Running { queue, width, started: now });
        self.executing += 1;
        self.seats_in_use += width.seats();
        if let Some(at) = queue {
            self.queues[at].executing += 1;
            self.queues[at].seats_in_use += width.seats();
        }
        self.dispatched.push(ticket);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sharding::flow_hash;

    const QUEUING: Queuing = Queuing { queues: 8, hand_size: 2, queue_length_limit: 5 };

    /// A search with a hundred requests waiting does not keep a user with one waiting.
    #[test]
    fn a_flow_with_little_to_do_goes_before_a_flood() {
        let mut set = QueueSet::new(Some(Queuing { queue_length_limit: 100, ..QUEUING }), 1);
        for ticket in 0..50 {
            set.arrive(0, ticket, flow_hash("s", "flood"), Width::ONE);
        }
        assert_eq!(set.dispatched().collect::<Vec<_>>(), [0]);
        let quiet = (0..).map(|n| flow_hash("s", &format!("user{n}"))).find(|hash| {
            let flood = deal(flow_hash("s", "flood"), 8, 2);
            deal(*hash, 8, 2).iter().all(|card| !flood.contains(card))
        });
        set.arrive(1_000_000, 50, quiet.unwrap(), Width::ONE);
        let mut order = Vec::new();
        let mut now = 3_000_000;
        let mut running = 0;
        while order.len() < 3 {
            set.finish(now, running);
            running = set.dispatched().next().unwrap();
            order.push(running);
            now += 3_000_000;
        }
        assert!(order.contains(&50), "{order:?}");
    }

    #[test]
    fn without_queues_who_finds_no_seat_is_refused() {
        let mut set = QueueSet::new(None, 2);
        let arrive = |set: &mut QueueSet, ticket| set.arrive(0, ticket, 0, Width::ONE);
        assert_eq!(
            [arrive(&mut set, 0), arrive(&mut set, 1), arrive(&mut set, 2)],
            [Arrival::Taken, Arrival::Taken, Arrival::Refused]
        );
        set.finish(5, 0);
        assert_eq!(arrive(&mut set, 3), Arrival::Taken);
    }

    #[test]
    fn seats_of_watchers_are_held_for_a_while_after_the_answer() {
        let mut set = QueueSet::new(Some(QUEUING), 3);
        let width = Width { initial_seats: 1, final_seats: 3, additional: 5_000_000 };
        set.arrive(0, 0, 7, width);
        set.arrive(0, 1, 9, Width::ONE);
        assert_eq!(set.dispatched().collect::<Vec<_>>(), [0]);
        assert_eq!(set.finish(1_000_000, 0), Some(5_000_000));
        assert_eq!(set.dispatched().count(), 0);
        set.release(6_000_000, 0);
        assert_eq!(set.dispatched().collect::<Vec<_>>(), [1]);
    }

    proptest! {
        /// Whatever comes and goes: seats are counted rightly, the limit holds but for one that is wider than all, and
        /// nobody waits while the next one fits.
        #[test]
        fn seats_add_up(steps in prop::collection::vec((0..4_u8, 0..20_u64, 1..4_u64, 0..3_u64, 0..5_000_000_u64), 1..300), limit in 1_u64..8) {
            let mut set = QueueSet::new(Some(QUEUING), limit);
            let (mut now, mut next) = (0, 0);
            let mut running: Vec<(u32, u64)> = Vec::new();
            let mut held: Vec<(u32, u64)> = Vec::new();
            let mut widths = std::collections::HashMap::new();
            let mut waiting: Vec<u32> = Vec::new();
            for (what, flow, seats, after, passed) in steps {
                now += passed;
                match what {
                    0 | 1 => {
                        let width = Width { initial_seats: seats, final_seats: after, additional: after * 1_000_000 };
                        widths.insert(next, width);
                        if set.arrive(now, next, flow_hash("s", &flow.to_string()), width) == Arrival::Taken {
                            waiting.push(next);
                        } else {
                            prop_assert!(set.seats_in_use() >= limit);
                        }
                        next += 1;
                    }
                    2 if !running.is_empty() => {
                        let (ticket, seats) = running.remove(flow as usize % running.len());
                        if set.finish(now, ticket).is_some() {
                            held.push((ticket, seats));
                        }
                    }
                    3 if !held.is_empty() => {
                        let (ticket, _) = held.remove(0);
                        set.release(now, ticket);
                    }
                    _ => if let Some(ticket) = waiting.pop() {
                        let gone = set.give_up(now, ticket);
                        prop_assert!(gone);
                    },
                }
                for ticket in set.dispatched().collect::<Vec<_>>() {
                    waiting.retain(|waits| *waits != ticket);
                    let width: Width = widths[&ticket];
                    running.push((ticket, width.initial_seats.max(width.final_seats.min(limit))));
                }
                let counted: u64 = running.iter().chain(&held).map(|(_, seats)| seats).sum();
                prop_assert_eq!(set.seats_in_use(), counted);
                prop_assert_eq!(set.waiting() as usize, waiting.len());
                prop_assert!(counted <= limit || running.len() <= 1 || running.iter().any(|(_, seats)| *seats > limit));
                prop_assert_eq!(set.active as usize, set.queues.iter().filter(|queue| queue.is_active()).count());
                prop_assert_eq!(set.seats_waiting, set.queues.iter().map(|queue| queue.seats_waiting).sum::<u64>());
            }
        }
    }
}
