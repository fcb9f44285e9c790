//! One API server under a load, event by event: who waits how long, who is refused. Seeded: the same input gives the same
//! answer.
//!
//! Lanes are as in the server: matching, widths, sharding, queues, `Retry-After`, borrowing every ten seconds; and clients
//! are as client-go makes them. What lies behind the lanes is a model: a request takes some time on a core, and the cores
//! are shared equally by whatever is executed; or it takes some time that nobody shares, as a webhook's or etcd's.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use crate::borrowing::{self, Demand, PERIOD, Share, adjust};
use crate::distribution::Distribution;
use crate::matching::{Request, first_match, flow};
use crate::queues::{Arrival, Nanos, QueueSet, Ticket, Width};
use crate::refusals::Refusals;
use crate::sharding::flow_hash;
use crate::shares::{Part, concurrency};
use crate::types::{FlowSchema, PriorityLevel};
use crate::width::{Asks, max_seats};

/// A second.
pub const SECOND: Nanos = 1_000_000_000;

/// The longest wait in a queue: a quarter of the time that a request has (`getRequestWaitContext`), which is a minute
/// unless its sender says otherwise.
const PATIENCE: Nanos = 15 * SECOND;

/// How often a client of client-go comes again before it tells its caller (`rest/request.go`, `maxRetries`).
pub const RETRIES: u32 = 10;

/// What a refusal takes at least.
const ROUND_TRIP: Nanos = 500_000;

/// The server.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight` together.
    pub seats: u32,
    /// Cores that it has for requests.
    pub cores: f64,
}

/// A request of a record: when it came, and how long it took.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// Since the beginning.
    pub at: Nanos,
    /// How long it was executed.
    pub took: Nanos,
}

/// How a source sends.
#[derive(Clone, Debug)]
pub enum Pace {
    /// So many clients, each of which waits for an answer before it sends again, and meanwhile pauses for this long.
    Clients(u32, Nanos),
    /// So many a second, at random times, whatever becomes of them.
    Rate(f64),
    /// As it was recorded, by time.
    Recorded(Arc<[Recorded]>),
}

/// How long a request is executed.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// Mean time of a core of its own; times vary exponentially, and cores are shared.
    Core(Nanos),
    /// Always so long, whatever else runs: time that a webhook or etcd takes.
    Exactly(Nanos),
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
    /// How many requests it has; without end where there is none.
    pub total: Option<u64>,
    /// How long its requests are executed; recorded ones say it themselves.
    pub takes: Takes,
    /// How wide they are.
    pub asks: Asks,
    /// How often a refused request comes again, each time after the server's `Retry-After`.
    pub retries: u32,
}

/// What a source has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The FlowSchema that takes its requests.
    pub schema: String,
    /// The level.
    pub level: String,
    /// Requests that were answered.
    pub answered: u64,
    /// How often one was refused: no room, or too long a wait. One that comes again may be refused again.
    pub refused: u64,
    /// Requests that were given up after all retries: errors to who asked for them.
    pub failed: u64,
    /// From first sending to answer, retries included.
    pub latency: Distribution,
    /// Waits in a queue, of those that were then executed.
    pub wait: Distribution,
}

/// A level during one part of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// Seats in use, mean.
    pub seats: f32,
    /// Seats that it had, at the end.
    pub limit: u32,
    /// Most requests that waited at once.
    pub waiting: u32,
    /// Requests that were refused.
    pub refused: u32,
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
    /// How often a request was refused.
    pub refused: u64,
    /// The longest that anybody was told to stay away, in seconds; 0 where nobody was.
    pub retry_after: i64,
    /// Waits in its queues.
    pub wait: Distribution,
    /// The time, in [`MOMENTS`] equal parts.
    pub moments: Vec<Moment>,
}

/// Parts that the time is told in.
pub const MOMENTS: u64 = 240;

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
    refusals: Refusals,
    used: Used,
    /// Of seats in use over time, up to `since`; and what it was when this part of the time began.
    integral: f64,
    told: f64,
    since: Nanos,
    in_use: f64,
    moment: Moment,
}

impl Lane {
    fn pass(&mut self, now: Nanos) {
        self.integral += self.in_use * now.saturating_sub(self.since) as f64;
        (self.since, self.in_use) = (now, self.set.seats_in_use() as f64);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A source's next request, of this client.
    Send(u32, u32),
    /// One that was refused comes again.
    Again(Ticket),
    Done(Ticket),
    Release(u32, Ticket),
    Borrow,
    Moment,
}

#[derive(Clone, Copy, Default)]
struct Open {
    source: u32,
    client: u32,
    lane: u32,
    first_sent: Nanos,
    sent: Nanos,
    started: Nanos,
    running: bool,
    refused: u32,
    /// Of a recorded request.
    took: Nanos,
    /// Which of the requests that had this ticket.
    turn: u32,
}

/// The way of a source's requests.
struct Route {
    lane: u32,
    /// Hashes of its flows.
    flows: Vec<u64>,
    width: Width,
    left: u64,
}

struct World<'a> {
    sources: &'a [Source],
    lanes: Vec<Lane>,
    routes: Vec<Route>,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    /// Who waits in a queue gives up then: all have the same patience, so these are in order.
    patience: VecDeque<(Nanos, Ticket, u32)>,
    order: u64,
    open: Vec<Open>,
    free: Vec<Ticket>,
    cpu: Processor,
    random: fastrand::Rng,
    seen: Vec<Seen>,
    started: Vec<Ticket>,
    part: Nanos,
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
    let seats = i64::from(server.seats);
    let parts: Vec<Part> = levels.iter().map(PriorityLevel::part).collect();
    let mut lanes = lanes(levels, &concurrency(seats, &parts), seats);
    let mut seen = Vec::new();
    let routes = sources.iter().map(|source| {
        let schema = first_match(schemas, levels, &source.request);
        let name = schema.map_or("catch-all", |schema| &schema.metadata.name);
        let level = schema.map_or("catch-all", |schema| &schema.spec.priority_level_configuration.name);
        let lane = lanes.iter().position(|lane| lane.used.name == level).unwrap_or(0);
        let queuing = levels.get(lane).and_then(PriorityLevel::queuing);
        let own = schema.map_or("", |schema| flow(schema, &source.request));
        let flows = (0..source.flows.max(1)).map(|n| match (n, own) {
            (0, _) | (_, "") => flow_hash(name, own),
            _ => flow_hash(name, &format!("{own}-{n}")),
        });
        let (name, level) = (name.to_owned(), lanes.get(lane).map_or_else(String::new, |lane| lane.used.name.clone()));
        seen.push(Seen { schema: name, level, ..Seen::default() });
        let nominal = lanes.get(lane).map_or(0, |lane| lane.used.nominal);
        Route {
            lane: lane as u32,
            flows: flows.collect(),
            width: source.asks.width(max_seats(nominal, queuing)),
            left: source.total.unwrap_or(u64::MAX),
        }
    });
    let routes = routes.collect();
    // The server shares anew whenever it reads its objects, so also when it begins.
    let limits: Vec<i64> = lanes.iter().map(|lane| lane.limit).collect();
    let mut shares: Vec<Share> = lanes.iter().map(|lane| lane.share).collect();
    for (lane, limit) in lanes.iter_mut().zip(adjust(0, &mut shares, &limits)) {
        (lane.limit, lane.used.limits) = (limit, (limit, limit));
        if !lane.exempt {
            lane.set.set_limit(0, limit.max(0).unsigned_abs());
        }
    }
    let mut world = World {
        sources,
        lanes,
        routes,
        events: BinaryHeap::new(),
        patience: VecDeque::new(),
        order: 0,
        open: Vec::new(),
        free: Vec::new(),
        cpu: Processor { cores: server.cores.max(0.001), virtual_time: 0.0, last: 0, running: BinaryHeap::new() },
        random: fastrand::Rng::with_seed(seed),
        seen,
        started: Vec::new(),
        part: (time / MOMENTS).max(1),
    };
    if !world.lanes.is_empty() {
        world.run(time);
    }
    world.outcome(time)
}

fn lanes(levels: &[PriorityLevel], seats: &[crate::Concurrency], server: i64) -> Vec<Lane> {
    let lane = |(level, own): (&PriorityLevel, &crate::Concurrency)| {
        let exempt = level.is_exempt();
        let limit = own.nominal - (own.nominal - own.min) / 2;
        let max = own.max.unwrap_or(own.nominal + server);
        Lane {
            exempt,
            set: QueueSet::new(level.queuing(), if exempt { u64::MAX } else { limit.max(0).unsigned_abs() }),
            share: Share { exempt, nominal: own.nominal, min: own.min, max, demand: Demand::default() },
            limit,
            refusals: Refusals::default(),
            used: Used {
                name: level.metadata.name.clone(),
                nominal: own.nominal,
                seats: 0.0,
                limits: (limit, limit),
                waiting: 0,
                refused: 0,
                retry_after: 0,
                wait: Distribution::default(),
                moments: Vec::new(),
            },
            integral: 0.0,
            told: 0.0,
            since: 0,
            in_use: 0.0,
            moment: Moment::default(),
        }
    };
    levels.iter().zip(seats).map(lane).collect()
}

impl World<'_> {
    fn run(&mut self, time: Nanos) {
        for (at, source) in self.sources.iter().enumerate() {
            let clients = if let Pace::Clients(clients, _) = source.pace { clients } else { 1 };
            for client in 0..clients {
                let first = match &source.pace {
                    Pace::Recorded(requests) => requests.first().map(|first| first.at),
                    pace => Some(source.active.0.saturating_add(self.after(pace))),
                };
                if let Some(first) = first {
                    self.at(first, Event::Send(at as u32, client));
                }
            }
        }
        self.at(PERIOD, Event::Borrow);
        self.at(self.part, Event::Moment);
        loop {
            let event = self.events.peek().map_or(Nanos::MAX, |Reverse((at, ..))| *at);
            let gives_up = self.patience.front().map_or(Nanos::MAX, |(at, ..)| *at);
            let done = self.cpu.next().unwrap_or(Nanos::MAX);
            if event.min(gives_up).min(done) > time {
                return;
            }
            if done <= event && done <= gives_up {
                if let Some(ticket) = self.cpu.done(done) {
                    self.done(done, ticket);
                }
            } else if gives_up <= event {
                if let Some((now, ticket, turn)) = self.patience.pop_front() {
                    self.gives_up(now, ticket, turn);
                }
            } else if let Some(Reverse((now, _, event))) = self.events.pop() {
                self.happens(now, event);
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
    fn after(&mut self, pace: &Pace) -> Nanos {
        match pace {
            Pace::Clients(_, 0) | Pace::Recorded(_) => 0,
            Pace::Clients(_, pause) => self.exponential(*pause as f64) as Nanos,
            Pace::Rate(rate) => self.exponential(SECOND as f64 / rate.max(1e-9)) as Nanos,
        }
    }

    fn happens(&mut self, now: Nanos, event: Event) {
        match event {
            Event::Send(source, client) => self.send(now, source, client),
            Event::Again(ticket) => self.arrive(now, ticket),
            Event::Done(ticket) => self.done(now, ticket),
            Event::Release(lane, ticket) => {
                self.lanes[lane as usize].set.release(now, ticket);
                self.free.push(ticket);
                self.moved(now, lane);
            }
            Event::Borrow => self.borrow(now),
            Event::Moment => {
                for lane in &mut self.lanes {
                    lane.pass(now);
                    let seats = ((lane.integral - lane.told) / self.part as f64) as f32;
                    let limit = u32::try_from(lane.limit).unwrap_or(0);
                    lane.used.moments.push(Moment { seats, limit, ..lane.moment });
                    lane.told = lane.integral;
                    lane.moment = Moment { waiting: lane.set.waiting(), ..Moment::default() };
                }
                self.at(now + self.part, Event::Moment);
            }
        }
    }

    fn borrow(&mut self, now: Nanos) {
        let current: Vec<i64> = self.lanes.iter().map(|lane| lane.limit).collect();
        let mut shares: Vec<Share> = self.lanes.iter().map(|lane| lane.share).collect();
        let limits = adjust(now, &mut shares, &current);
        for (at, (limit, share)) in limits.into_iter().zip(shares).enumerate() {
            let lane = &mut self.lanes[at];
            (lane.limit, lane.share) = (limit, share);
            lane.used.limits = (lane.used.limits.0.min(limit), lane.used.limits.1.max(limit));
            if !lane.exempt {
                lane.set.set_limit(now, limit.max(0).unsigned_abs());
            }
            self.moved(now, at as u32);
        }
        self.at(now + borrowing::PERIOD, Event::Borrow);
    }

    fn send(&mut self, now: Nanos, at: u32, client: u32) {
        let source = &self.sources[at as usize];
        if now >= source.active.1 || self.routes[at as usize].left == 0 {
            return;
        }
        self.routes[at as usize].left -= 1;
        let took = match &source.pace {
            // `client` counts the record.
            Pace::Recorded(requests) => {
                if let Some(next) = requests.get(client as usize + 1) {
                    self.at(next.at.max(now), Event::Send(at, client + 1));
                }
                requests.get(client as usize).map_or(0, |request| request.took)
            }
            Pace::Rate(_) => {
                let next = now + self.after(&source.pace);
                // Whoever sends at a rate sends as one user after the other.
                self.at(next, Event::Send(at, client.wrapping_add(1)));
                0
            }
            Pace::Clients(..) => 0,
        };
        let ticket = self.free.pop().unwrap_or_else(|| {
            self.open.push(Open::default());
            (self.open.len() - 1) as Ticket
        });
        let lane = self.routes[at as usize].lane;
        let turn = self.open[ticket as usize].turn.wrapping_add(1);
        self.open[ticket as usize] = Open { source: at, client, lane, first_sent: now, took, turn, ..Open::default() };
        self.arrive(now, ticket);
    }

    /// A request reaches the server, for the first time or again.
    fn arrive(&mut self, now: Nanos, ticket: Ticket) {
        let open = &mut self.open[ticket as usize];
        (open.sent, open.running) = (now, false);
        let open = *open;
        let route = &self.routes[open.source as usize];
        let hash = route.flows[open.client as usize % route.flows.len()];
        match self.lanes[open.lane as usize].set.arrive(now, ticket, hash, route.width) {
            Arrival::Refused => self.refused(now, ticket),
            Arrival::Taken => {
                self.moved(now, open.lane);
                if !self.open[ticket as usize].running {
                    self.patience.push_back((now + PATIENCE, ticket, open.turn));
                }
            }
        }
    }

    fn gives_up(&mut self, now: Nanos, ticket: Ticket, turn: u32) {
        let open = self.open[ticket as usize];
        if open.turn == turn && !open.running && self.lanes[open.lane as usize].set.give_up(now, ticket) {
            self.refused(now, ticket);
            self.moved(now, open.lane);
        }
    }

    /// The client is told when to come again, and does, if it does at all.
    fn refused(&mut self, now: Nanos, ticket: Ticket) {
        let open = &mut self.open[ticket as usize];
        open.refused += 1;
        open.turn = open.turn.wrapping_add(1);
        let open = *open;
        let lane = &mut self.lanes[open.lane as usize];
        // The server's clock has run for long.
        let retry_after = lane.refusals.refuse(1_000_000 + (now / SECOND) as i64);
        lane.used.refused += 1;
        lane.used.retry_after = lane.used.retry_after.max(retry_after);
        lane.moment.refused += 1;
        let seen = &mut self.seen[open.source as usize];
        seen.refused += 1;
        if open.refused <= self.sources[open.source as usize].retries {
            self.at(now + retry_after.unsigned_abs() * SECOND, Event::Again(ticket));
            return;
        }
        seen.failed += 1;
        // Who does not wait at all takes the way to the server and back.
        self.next_of(now + ROUND_TRIP, open);
        self.free.push(ticket);
    }

    /// A client has its answer, or has given up, and goes on.
    fn next_of(&mut self, now: Nanos, open: Open) {
        let pace = &self.sources[open.source as usize].pace;
        if matches!(pace, Pace::Clients(..)) {
            let next = now + self.after(pace);
            self.at(next, Event::Send(open.source, open.client));
        }
    }

    /// Something in a lane has changed: starts who is dispatched, and counts.
    fn moved(&mut self, now: Nanos, at: u32) {
        let lane = &mut self.lanes[at as usize];
        lane.share.demand.set(now, lane.set.demand());
        let waiting = lane.set.waiting();
        lane.used.waiting = lane.used.waiting.max(waiting);
        lane.moment.waiting = lane.moment.waiting.max(waiting);
        lane.pass(now);
        let mut started = std::mem::take(&mut self.started);
        started.extend(lane.set.dispatched());
        for ticket in started.drain(..) {
            self.start(now, ticket);
        }
        self.started = started;
    }

    fn start(&mut self, now: Nanos, ticket: Ticket) {
        let open = &mut self.open[ticket as usize];
        (open.started, open.running) = (now, true);
        let (sent, took) = (open.sent, open.took);
        let source = &self.sources[open.source as usize];
        let wait = micros(now - sent);
        self.seen[open.source as usize].wait.add(wait);
        self.lanes[open.lane as usize].used.wait.add(wait);
        match (&source.pace, source.takes) {
            (Pace::Recorded(_), _) => self.at(now + took, Event::Done(ticket)),
            (_, Takes::Exactly(takes)) => self.at(now + takes, Event::Done(ticket)),
            (_, Takes::Core(mean)) => {
                let takes = self.exponential(mean as f64);
                self.cpu.start(now, ticket, takes);
            }
        }
    }

    fn done(&mut self, now: Nanos, ticket: Ticket) {
        let open = self.open[ticket as usize];
        let seen = &mut self.seen[open.source as usize];
        seen.answered += 1;
        seen.latency.add(micros(now - open.first_sent));
        self.next_of(now, open);
        match self.lanes[open.lane as usize].set.finish(now, ticket) {
            Some(held) => self.at(now + held, Event::Release(open.lane, ticket)),
            None => self.free.push(ticket),
        }
        self.moved(now, open.lane);
    }

    fn outcome(self, time: Nanos) -> Outcome {
        let levels = self.lanes.into_iter().map(|mut lane| {
            lane.pass(time);
            Used { seats: lane.integral / time.max(1) as f64, ..lane.used }
        });
        Outcome { levels: levels.collect(), sources: self.seen }
    }
}

fn micros(nanos: Nanos) -> u32 {
    u32::try_from(nanos / 1000).unwrap_or(u32::MAX)
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
        Source {
            name: name.into(),
            request,
            flows,
            pace,
            active: (0, u64::MAX),
            total: None,
            takes: Takes::Core(4_000_000),
            asks: Asks::Seats(1),
            retries: RETRIES,
        }
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
        let p99 = |outcome: &Outcome| outcome.sources[0].latency.quantile(0.99);
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
        assert_eq!(flooded(true).sources, flooded(true).sources);
    }

    /// Two cores and 4 ms a request are 500 a second at most; under that, nobody waits for long (M/M/2).
    #[test]
    fn a_server_with_time_to_spare_answers_as_queueing_theory_says() {
        let schemas = [schema("s", "l", 1, &json!({ "kind": "User", "user": { "name": "*" } }))];
        let load = [source("a", "n", "x", Pace::Rate(250.0), 50)];
        let outcome =
            simulate(&schemas, &[level("l", 30, 0, 64)], Server { seats: 600, cores: 2.0 }, &load, 400 * SECOND, 7);
        let seen = &outcome.sources[0];
        let mean = seen.latency.mean();
        // Processor sharing over two cores: the mean of M/M/2, 4 / (1 - 0.5^2) ms.
        assert!((mean - 4.0 / 0.75).abs() < 0.15, "{mean}");
        assert!(
            (outcome.levels[0].seats - 250.0 * mean / 1e3).abs() < 0.05,
            "Little's law: {}",
            outcome.levels[0].seats
        );
    }

    fn one_lane(queuing: Option<(u32, u32)>, seats: u32, source: Source) -> Outcome {
        let mut one = level("l", 30, 0, 1);
        let response = &mut one.spec.limited.as_mut().unwrap().limit_response;
        match queuing {
            None => (response.kind, response.queuing) = ("Reject".into(), None),
            Some((queues, limit)) => {
                let queuing = response.queuing.as_mut().unwrap();
                (queuing.queues, queuing.hand_size, queuing.queue_length_limit) = (queues, 1, limit);
            }
        }
        let schemas = [schema("s", "l", 1, &json!({ "kind": "User", "user": { "name": "*" } }))];
        simulate(&schemas, &[one], Server { seats, cores: 1.0 }, &[source], 100 * SECOND, 3)
    }

    /// Ten clients on four seats of exactly 100 ms: 40 a second are answered, and each waits for 150 ms.
    #[test]
    fn clients_that_wait_in_a_queue_share_its_seats() {
        let load = Source { takes: Takes::Exactly(100_000_000), ..source("a", "n", "x", Pace::Clients(10, 0), 1) };
        let outcome = one_lane(Some((1, 50)), 4, load);
        let seen = &outcome.sources[0];
        assert!((3990..=4000).contains(&seen.answered), "{}", seen.answered);
        assert!((seen.wait.mean() - 150.0).abs() < 2.0, "{}", seen.wait.mean());
        assert_eq!((seen.refused, outcome.levels[0].waiting), (0, 6));
        let moment = outcome.levels[0].moments[100];
        assert_eq!((moment.seats.round(), moment.limit, moment.waiting), (4.0, 4, 6));
        assert_eq!(outcome.levels[0].moments.len() as u64, MOMENTS);
    }

    /// A level that rejects: with twice the load that fits, Erlang's loss formula for two seats, and whoever is refused comes
    /// again later and later.
    #[test]
    fn who_is_refused_stays_away_for_as_long_as_the_server_says() {
        let load = |retries| Source {
            takes: Takes::Exactly(50_000_000),
            retries,
            ..source("a", "n", "x", Pace::Rate(80.0), 1)
        };
        let once = one_lane(None, 2, load(0));
        let seen = &once.sources[0];
        let rate = seen.refused as f64 / (seen.refused + seen.answered) as f64;
        // 4 Erlang on 2 seats: (4^2/2) / (1 + 4 + 8) = 0.615; a fixed time gives the same.
        assert!((rate - 0.615).abs() < 0.02, "{rate}");
        assert_eq!((seen.failed, once.levels[0].retry_after), (seen.refused, 32));
        let again = one_lane(None, 2, load(RETRIES));
        assert!(again.sources[0].latency.quantile(0.9) > 1000.0);
        assert!(again.sources[0].failed < again.sources[0].refused / 8);
    }

    #[test]
    fn a_source_with_so_many_requests_sends_no_more() {
        let load = Source { total: Some(500), ..source("a", "n", "x", Pace::Clients(20, 0), 1) };
        assert_eq!(one_lane(Some((8, 50)), 4, load).sources[0].answered, 500);
    }

    #[test]
    fn a_record_is_played_as_it_was() {
        let requests: Vec<_> = (0..50).map(|n| Recorded { at: n * SECOND, took: 1_500_000_000 }).collect();
        let load = source("a", "n", "x", Pace::Recorded(requests.into()), 1);
        let outcome = one_lane(Some((1, 50)), 1, load);
        assert_eq!(outcome.sources[0].answered, 66 - 16);
        assert!((outcome.levels[0].seats - 0.75).abs() < 0.01, "{}", outcome.levels[0].seats);
    }
}
