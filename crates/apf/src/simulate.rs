//! One API server under a load, event by event: who waits how long, who is refused. Seeded: the same input gives the same
//! answer.
//!
//! Lanes are as in the server: matching, sharding, queues, borrowing every ten seconds. What lies behind them is a model: a
//! request takes some time on a core, and the cores are shared equally by whatever is executed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::borrowing::{self, Demand, PERIOD, Share, adjust};
use crate::matching::{Request, first_match, flow};
use crate::queues::{Arrival, Nanos, QueueSet, Ticket, Width};
use crate::sharding::flow_hash;
use crate::shares::{Part, concurrency};
use crate::types::{FlowSchema, PriorityLevel};

/// A second.
pub const SECOND: Nanos = 1_000_000_000;

/// The longest wait in a queue: a quarter of the time that a request has (`getRequestWaitContext`), which is a minute
/// unless its sender says otherwise.
const PATIENCE: Nanos = 15 * SECOND;

/// A client that was refused comes again after this: `Retry-After` of a server that is not flooded for long.
const RETRY: Nanos = SECOND;

/// The server.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight` together.
    pub seats: u32,
    /// Cores that it has for requests.
    pub cores: f64,
}

/// How a source sends.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many clients, each of which waits for an answer before it sends again, and meanwhile pauses for this long.
    Clients(u32, Nanos),
    /// So many a second, at random times, whatever becomes of them.
    Rate(f64),
}

/// Somebody who sends requests.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it is called in the answer.
    pub name: String,
    /// What it sends.
    pub request: Request,
    /// How many users or namespaces it sends as: flows of its own.
    pub flows: u32,
    /// How it sends.
    pub pace: Pace,
    /// From when to when.
    pub active: (Nanos, Nanos),
    /// Mean time of a request on a core of its own; times vary exponentially.
    pub takes: Nanos,
    /// How wide its requests are.
    pub width: Width,
}

/// What a source has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The FlowSchema that takes its requests.
    pub schema: String,
    /// The level.
    pub level: String,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were refused: no room, or too long a wait.
    pub refused: u64,
    /// From sending to answer, in microseconds, sorted.
    pub latency: Vec<u32>,
    /// Waits in a queue, in microseconds, sorted.
    pub wait: Vec<u32>,
}

/// A quantile of something sorted, in milliseconds; 0 of nothing.
#[must_use]
pub fn milliseconds(sorted: &[u32], quantile: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * quantile).round() as usize).map_or(0.0, |micros| f64::from(*micros) / 1e3)
}

/// What a level has seen.
#[derive(Clone, Debug)]
pub struct Used {
    /// Its name.
    pub name: String,
    /// Its part of the seats.
    pub nominal: i64,
    /// Seats in use, mean.
    pub seats: f64,
    /// The least and the most that it had by lending and borrowing.
    pub limits: (i64, i64),
    /// Most requests that waited at once.
    pub waiting: u32,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of each source, in their order.
    pub sources: Vec<Seen>,
    /// Of each level, in their order.
    pub levels: Vec<Used>,
}

struct Lane {
    exempt: bool,
    set: QueueSet,
    share: Share,
    limit: i64,
    used: Used,
    since: Nanos,
    integral: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Send(u32, u32),
    Release(u32, Ticket),
    GiveUp(u32, Ticket, u32),
    Borrow,
}

#[derive(Clone, Copy, Default)]
struct Open {
    source: u32,
    client: u32,
    lane: u32,
    sent: Nanos,
    started: Nanos,
    running: bool,
    /// Which of the requests that had this ticket.
    turn: u32,
}

struct World<'a> {
    sources: &'a [Source],
    lanes: Vec<Lane>,
    /// Of each source: its lane, and the hashes of its flows.
    routes: Vec<(u32, Vec<u64>)>,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    order: u64,
    open: Vec<Open>,
    free: Vec<Ticket>,
    cpu: Processor,
    random: fastrand::Rng,
    seen: Vec<Seen>,
}

/// Cores, shared equally: virtual time grows by what each request gets.
struct Processor {
    cores: f64,
    virtual_time: f64,
    last: Nanos,
    running: BinaryHeap<Reverse<(OrderedTime, Ticket)>>,
}

/// A virtual time, which is never NaN.
#[derive(Clone, Copy, PartialEq)]
struct OrderedTime(f64);

impl Eq for OrderedTime {}

impl PartialOrd for OrderedTime {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedTime {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Processor {
    fn rate(&self) -> f64 {
        (self.cores / self.running.len().max(1) as f64).min(1.0)
    }

    fn pass(&mut self, now: Nanos) {
        self.virtual_time += now.saturating_sub(self.last) as f64 * self.rate();
        self.last = now;
    }

    fn start(&mut self, now: Nanos, ticket: Ticket, takes: f64) {
        self.pass(now);
        self.running.push(Reverse((OrderedTime(self.virtual_time + takes), ticket)));
    }

    /// When the next one is done.
    fn next(&self) -> Option<Nanos> {
        let Reverse((OrderedTime(end), _)) = self.running.peek()?;
        Some(self.last + ((end - self.virtual_time).max(0.0) / self.rate()).ceil() as Nanos)
    }

    fn done(&mut self, now: Nanos) -> Option<Ticket> {
        self.pass(now);
        let Reverse((end, ticket)) = self.running.pop()?;
        self.virtual_time = self.virtual_time.max(end.0);
        Some(ticket)
    }
}

/// Runs a load for a time. A source whose requests no schema takes rides in `catch-all`, as with the server.
#[must_use]
pub fn simulate(
    schemas: &[FlowSchema],
    levels: &[PriorityLevel],
    server: Server,
    sources: &[Source],
    time: Nanos,
    seed: u64,
) -> Outcome {
    let parts: Vec<Part> = levels.iter().map(PriorityLevel::part).collect();
    let seats = i64::from(server.seats);
    let lanes = levels.iter().zip(concurrency(seats, &parts)).map(|(level, own)| {
        let limit = own.nominal - (own.nominal - own.min) / 2;
        Lane {
            exempt: level.is_exempt(),
            set: QueueSet::new(level.queuing(), limit.max(0) as u64),
            share: Share {
                exempt: level.is_exempt(),
                nominal: own.nominal,
                min: own.min,
                max: own.max.unwrap_or(own.nominal + seats),
                demand: Demand::default(),
            },
            limit,
            used: Used {
                name: level.metadata.name.clone(),
                nominal: own.nominal,
                seats: 0.0,
                limits: (limit, limit),
                waiting: 0,
            },
            since: 0,
            integral: 0.0,
        }
    });
    let lanes: Vec<Lane> = lanes.collect();
    let mut seen = Vec::new();
    let routes = sources.iter().map(|source| {
        let schema = first_match(schemas, &source.request);
        let name = schema.map_or("catch-all", |schema| &schema.metadata.name);
        let level = schema.map_or("catch-all", |schema| &schema.spec.priority_level_configuration.name);
        let lane = lanes.iter().position(|lane| lane.used.name == level).unwrap_or(0);
        seen.push(Seen {
            schema: name.to_owned(),
            level: lanes.get(lane).map_or_else(String::new, |lane| lane.used.name.clone()),
            ..Seen::default()
        });
        let own = schema.map_or("", |schema| flow(schema, &source.request));
        let flows = (0..source.flows.max(1)).map(|n| match (n, own) {
            (0, _) | (_, "") => flow_hash(name, own),
            _ => flow_hash(name, &format!("{own}-{n}")),
        });
        (lane as u32, flows.collect())
    });
    let routes = routes.collect();
    let mut world = World {
        sources,
        lanes,
        routes,
        events: BinaryHeap::new(),
        order: 0,
        open: Vec::new(),
        free: Vec::new(),
        cpu: Processor { cores: server.cores.max(0.001), virtual_time: 0.0, last: 0, running: BinaryHeap::new() },
        random: fastrand::Rng::with_seed(seed),
        seen,
    };
    if !world.lanes.is_empty() {
        world.run(time);
    }
    world.outcome(time)
}

impl World<'_> {
    fn run(&mut self, time: Nanos) {
        for (at, source) in self.sources.iter().enumerate() {
            let clients = if let Pace::Clients(clients, _) = source.pace { clients } else { 1 };
            for client in 0..clients {
                let first = source.active.0 + self.after(source.pace);
                self.at(first, Event::Send(at as u32, client));
            }
        }
        self.at(PERIOD, Event::Borrow);
        loop {
            let event = self.events.peek().map(|Reverse((at, ..))| *at);
            let done = self.cpu.next();
            match (event, done) {
                (at, Some(done)) if at.is_none_or(|at| done <= at) => {
                    if done > time {
                        return;
                    }
                    self.done(done);
                }
                (Some(at), _) => {
                    if at > time {
                        return;
                    }
                    if let Some(Reverse((now, _, event))) = self.events.pop() {
                        self.happens(now, event);
                    }
                }
                (None, _) => return,
            }
        }
    }

    fn at(&mut self, time: Nanos, event: Event) {
        self.order += 1;
        self.events.push(Reverse((time, self.order, event)));
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.random.f64()).ln()
    }

    /// The time to the next request of a source, or of one of its clients.
    fn after(&mut self, pace: Pace) -> Nanos {
        match pace {
            Pace::Clients(_, pause) => self.exponential(pause as f64) as Nanos,
            Pace::Rate(rate) => self.exponential(SECOND as f64 / rate.max(1e-9)) as Nanos,
        }
    }

    fn happens(&mut self, now: Nanos, event: Event) {
        match event {
            Event::Send(source, client) => self.send(now, source, client),
            Event::Release(lane, ticket) => {
                self.lanes[lane as usize].set.release(now, ticket);
                self.free.push(ticket);
                self.moved(now, lane);
            }
            Event::GiveUp(lane, ticket, turn) => {
                let open = self.open[ticket as usize];
                if open.turn == turn && !open.running && self.lanes[lane as usize].set.give_up(now, ticket) {
                    self.refused(now, open);
                    self.open[ticket as usize].turn += 1;
                    self.free.push(ticket);
                    self.moved(now, lane);
                }
            }
            Event::Borrow => {
                let current: Vec<i64> = self.lanes.iter().map(|lane| lane.limit).collect();
                let mut shares: Vec<Share> = self.lanes.iter().map(|lane| lane.share).collect();
                let limits = adjust(now, &mut shares, &current);
                for (at, (limit, share)) in limits.into_iter().zip(shares).enumerate() {
                    let lane = &mut self.lanes[at];
                    (lane.limit, lane.share) = (limit, share);
                    lane.used.limits = (lane.used.limits.0.min(limit), lane.used.limits.1.max(limit));
                    lane.set.set_limit(now, limit.max(0) as u64);
                    self.moved(now, at as u32);
                }
                self.at(now + borrowing::PERIOD, Event::Borrow);
            }
        }
    }

    fn send(&mut self, now: Nanos, at: u32, client: u32) {
        let source = &self.sources[at as usize];
        if now >= source.active.1 {
            return;
        }
        let ticket = self.free.pop().unwrap_or_else(|| {
            self.open.push(Open::default());
            (self.open.len() - 1) as Ticket
        });
        let (lane, flows) = &self.routes[at as usize];
        let (lane, hash) = (*lane, flows[client as usize % flows.len()]);
        let turn = self.open[ticket as usize].turn + 1;
        let open = Open { source: at, client, lane, sent: now, started: now, running: false, turn };
        self.open[ticket as usize] = open;
        if matches!(source.pace, Pace::Rate(_)) {
            let next = now + self.after(source.pace);
            // Whoever sends at a rate sends as one user after the other.
            self.at(next, Event::Send(at, client.wrapping_add(1)));
        }
        let width = source.width;
        if self.lanes[lane as usize].exempt {
            self.start(now, ticket);
            return;
        }
        match self.lanes[lane as usize].set.arrive(now, ticket, hash, width) {
            Arrival::Refused => {
                self.refused(now, open);
                self.free.push(ticket);
            }
            Arrival::Taken => {
                self.moved(now, lane);
                if !self.open[ticket as usize].running {
                    self.at(now + PATIENCE, Event::GiveUp(lane, ticket, turn));
                }
            }
        }
    }

    fn refused(&mut self, now: Nanos, open: Open) {
        self.seen[open.source as usize].refused += 1;
        if matches!(self.sources[open.source as usize].pace, Pace::Clients(..)) {
            self.at(now + RETRY, Event::Send(open.source, open.client));
        }
    }

    /// Something in a lane has changed: starts who is dispatched, and counts.
    fn moved(&mut self, now: Nanos, at: u32) {
        let lane = &mut self.lanes[at as usize];
        lane.share.demand.set(now, lane.set.demand());
        lane.used.waiting = lane.used.waiting.max(lane.set.waiting());
        let started: Vec<Ticket> = lane.set.dispatched().collect();
        for ticket in started {
            self.start(now, ticket);
        }
        let lane = &mut self.lanes[at as usize];
        lane.integral += lane.used.seats * now.saturating_sub(lane.since) as f64;
        (lane.since, lane.used.seats) = (now, lane.set.seats_in_use() as f64);
    }

    fn start(&mut self, now: Nanos, ticket: Ticket) {
        let open = &mut self.open[ticket as usize];
        (open.started, open.running) = (now, true);
        let mean = self.sources[open.source as usize].takes as f64;
        let takes = self.exponential(mean);
        self.cpu.start(now, ticket, takes);
    }

    fn done(&mut self, now: Nanos) {
        let Some(ticket) = self.cpu.done(now) else { return };
        let open = self.open[ticket as usize];
        let seen = &mut self.seen[open.source as usize];
        seen.answered += 1;
        let micros = |nanos: Nanos| u32::try_from(nanos / 1000).unwrap_or(u32::MAX);
        seen.latency.push(micros(now - open.sent));
        seen.wait.push(micros(open.started - open.sent));
        let pace = self.sources[open.source as usize].pace;
        if matches!(pace, Pace::Clients(..)) {
            let next = now + self.after(pace);
            self.at(next, Event::Send(open.source, open.client));
        }
        if self.lanes[open.lane as usize].exempt {
            self.free.push(ticket);
            return;
        }
        match self.lanes[open.lane as usize].set.finish(now, ticket) {
            Some(held) => self.at(now + held, Event::Release(open.lane, ticket)),
            None => self.free.push(ticket),
        }
        self.moved(now, open.lane);
    }

    fn outcome(mut self, time: Nanos) -> Outcome {
        for seen in &mut self.seen {
            seen.latency.sort_unstable();
            seen.wait.sort_unstable();
        }
        let levels = self.lanes.into_iter().map(|lane| {
            let integral = lane.integral + lane.used.seats * time.saturating_sub(lane.since) as f64;
            Used { seats: integral / time.max(1) as f64, ..lane.used }
        });
        Outcome { levels: levels.collect(), sources: self.seen }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::matching::{Target, implied_groups};

    fn level(name: &str, shares: i64, lends: i64, queues: u32) -> PriorityLevel {
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": { "type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lends,
            "limitResponse": { "type": "Queue", "queuing": { "queues": queues, "handSize": 4, "queueLengthLimit": 50 } } } } }))
        .unwrap()
    }

    fn schema(name: &str, level: &str, precedence: i64, subject: &Value) -> FlowSchema {
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": {
            "priorityLevelConfiguration": { "name": level }, "matchingPrecedence": precedence,
            "distinguisherMethod": { "type": "ByUser" },
            "rules": [{ "subjects": [subject], "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"] }] }] } }))
        .unwrap()
    }

    fn source(name: &str, namespace: &str, account: &str, pace: Pace, flows: u32) -> Source {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let request = Request {
            groups: implied_groups(&user),
            user,
            verb: "create".into(),
            target: Target::Resource("batch".into(), "jobs".into(), namespace.into()),
        };
        Source { name: name.into(), request, flows, pace, active: (0, u64::MAX), takes: 4_000_000, width: Width::ONE }
    }

    fn flooded(own_lane: bool) -> Outcome {
        let everyone = json!({ "kind": "Group", "group": { "name": "system:serviceaccounts" } });
        let operator = json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "kubeflow", "name": "training-operator" } });
        let mut schemas = vec![schema("service-accounts", "workload-low", 9000, &everyone)];
        let mut levels = vec![level("workload-low", 5, 0, 32)];
        if own_lane {
            schemas.push(schema("controllers", "controllers", 500, &operator));
            levels.push(level("controllers", 60, 0, 32));
        }
        let sources = [
            source("operator", "kubeflow", "training-operator", Pace::Rate(20.0), 1),
            source("search", "team", "editor", Pace::Clients(400, 0), 400),
        ];
        simulate(&schemas, &levels, Server { seats: 40, cores: 2.0 }, &sources, 60 * SECOND, 1)
    }

    /// A hyper-parameter search took the API server down with it.
    #[test]
    fn a_lane_of_its_own_keeps_an_operator_out_of_a_flood() {
        let (before, after) = (flooded(false), flooded(true));
        let p99 = |outcome: &Outcome| milliseconds(&outcome.sources[0].latency, 0.99);
        assert_eq!(
            (before.sources[0].level.as_str(), after.sources[0].level.as_str()),
            ("workload-low", "controllers")
        );
        assert!(p99(&before) > 3.0 * p99(&after), "{} {}", p99(&before), p99(&after));
        assert_eq!(after.sources[0].refused, 0);
        assert!(after.sources[1].answered > 10_000, "the search goes on: {}", after.sources[1].answered);
    }

    #[test]
    fn the_same_seed_gives_the_same_answer() {
        let told = |outcome: Outcome| {
            outcome.sources.into_iter().map(|seen| (seen.answered, seen.refused, seen.latency)).collect::<Vec<_>>()
        };
        assert_eq!(told(flooded(true)), told(flooded(true)));
    }

    /// Two cores and 4 ms a request are 500 a second at most; under that, nobody waits for long (M/M/2).
    #[test]
    fn a_server_with_time_to_spare_answers_as_queueing_theory_says() {
        let schemas = [schema("s", "l", 1, &json!({ "kind": "User", "user": { "name": "*" } }))];
        let load = [source("a", "n", "x", Pace::Rate(250.0), 50)];
        let outcome =
            simulate(&schemas, &[level("l", 30, 0, 64)], Server { seats: 600, cores: 2.0 }, &load, 400 * SECOND, 7);
        let seen = &outcome.sources[0];
        let mean = seen.latency.iter().map(|micros| f64::from(*micros)).sum::<f64>() / seen.latency.len() as f64 / 1e3;
        // Processor sharing over two cores: the mean of M/M/2, 4 / (1 - 0.5^2) ms.
        assert!((mean - 4.0 / 0.75).abs() < 0.15, "{mean}");
        assert!(
            (outcome.levels[0].seats - 250.0 * mean / 1e3).abs() < 0.05,
            "Little's law: {}",
            outcome.levels[0].seats
        );
    }
}
