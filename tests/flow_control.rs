//! Our flow control beside the API server's own code (`devcluster/apf-replay`), on the same input: hands of queues, queue
//! sets step by step, borrowing, `Retry-After`, widths. Where they differ, ours is wrong.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use bedplate_apf::borrowing::{Demand, PERIOD, Share, adjust};
use bedplate_apf::concurrency;
use bedplate_apf::queues::{Arrival, QueueSet, Width};
use bedplate_apf::refusals::Refusals;
use bedplate_apf::sharding::deal;
use bedplate_apf::types::Queuing;
use bedplate_apf::width::{Asks, List, max_seats};
use bedplate_devcluster::tools;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What the server's code answers to each question.
fn replayed<T: DeserializeOwned>(questions: &[Value]) -> Vec<T> {
    let program = tools::get("apf-replay").unwrap().program().unwrap();
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "apf-replay: {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<T> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), questions.len());
    answers
}

#[test]
fn hands_of_queues_are_dealt_as_the_server_deals_them() {
    let mut random = fastrand::Rng::with_seed(1);
    // Decks and hands that an object may have: at most 60 bits (`MaxHashBits`).
    let cases: Vec<(u64, u32, u32)> = (0..5000)
        .map(|_| {
            loop {
                let (deck, hand) = (random.u32(1..=1024), random.u32(1..=12));
                if hand <= deck && (f64::from(deck).log2() * f64::from(hand)).ceil() <= 60.0 {
                    break (random.u64(..), deck, hand);
                }
            }
        })
        .collect();
    let questions: Vec<_> = cases
        .iter()
        .map(|(hash, deck, hand)| json!({ "deal": { "hash": hash, "deck": deck, "hand": hand } }))
        .collect();
    for ((hash, deck, hand), theirs) in cases.iter().zip(replayed::<Vec<usize>>(&questions)) {
        assert_eq!(deal(*hash, *deck, *hand), theirs, "{hash} {deck} {hand}");
    }
}

#[derive(serde::Deserialize, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
struct State {
    refused: bool,
    executing: Vec<u32>,
    seats_in_use: u64,
    demand: f64,
    queues: Vec<QueueState>,
}

#[derive(serde::Deserialize, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
struct QueueState {
    waiting: Vec<u32>,
    #[serde(rename = "nextDispatchR")]
    next_dispatch_r: u64,
    work: u64,
    seats_in_use: u64,
}

/// A life of a queue set, made up as it goes on, and what ours made of each step.
struct Life {
    question: Value,
    states: Vec<State>,
}

fn life(seed: u64) -> Life {
    let mut random = fastrand::Rng::with_seed(seed);
    let queuing = (!seed.is_multiple_of(5)).then(|| {
        let queues = random.u32(1..=12);
        Queuing { queues, hand_size: random.u32(1..=queues.min(4)), queue_length_limit: random.u32(1..=12) }
    });
    let mut limit = random.u64(0..=8);
    let first_limit = limit;
    let mut set = QueueSet::new(queuing, limit);
    let hashes: Vec<u64> = (0..random.usize(1..=10)).map(|_| random.u64(..)).collect();
    // Half of the lives have requests that are as wide as the level or wider, and linger.
    let wide = random.bool();
    let (mut now, mut next) = (0, 0_u32);
    let (mut executing, mut waiting) = (Vec::<u32>::new(), Vec::<u32>::new());
    let mut lingering: BTreeMap<(u64, u32), u32> = BTreeMap::new();
    let (mut steps, mut states) = (Vec::new(), Vec::new());
    let mut order = 0;
    for _ in 0..400 {
        now += match random.u8(0..4) {
            0 => 0,
            1 => random.u64(0..1_000_000),
            2 => random.u64(2_999_980..3_000_020),
            _ => random.u64(0..40_000_000),
        };
        // What is due before happens before.
        while let Some((&(at, nth), &ticket)) = lingering.first_key_value()
            && at <= now
        {
            lingering.remove(&(at, nth));
            set.release(at, ticket);
            started(&mut set, &mut executing, &mut waiting);
        }
        let mut refused = false;
        let step = match random.u8(0..10) {
            0..=4 => {
                let ticket = next;
                next += 1;
                let mut width = Width::ONE;
                if wide {
                    width.initial_seats = random.u64(1..=4);
                    if random.bool() {
                        (width.final_seats, width.additional) = (random.u64(1..=12), random.u64(1..20_000_000));
                    }
                }
                let hash = hashes[random.usize(..hashes.len())];
                match set.arrive(now, ticket, hash, width) {
                    Arrival::Refused => refused = true,
                    Arrival::Taken => waiting.push(ticket),
                }
                json!({ "arrive": { "ticket": ticket, "hash": hash, "initial": width.initial_seats, "final": width.final_seats,
                    "additional": width.additional } })
            }
            5..=7 if !executing.is_empty() => {
                let ticket = executing.swap_remove(random.usize(..executing.len()));
                if let Some(held) = set.finish(now, ticket) {
                    order += 1;
                    lingering.insert((now + held, order), ticket);
                }
                json!({ "finish": ticket })
            }
            8 if !waiting.is_empty() => {
                let ticket = waiting.swap_remove(random.usize(..waiting.len()));
                assert!(set.give_up(now, ticket));
                json!({ "giveUp": ticket })
            }
            9 => {
                limit = random.u64(0..=8);
                set.set_limit(now, limit);
                json!({ "limit": limit })
            }
            _ => continue,
        };
        started(&mut set, &mut executing, &mut waiting);
        let mut step = step;
        step["at"] = now.into();
        steps.push(step);
        let mut sorted = executing.clone();
        sorted.sort_unstable();
        let queues = set.inside().map(|queue| QueueState {
            waiting: queue.waiting,
            next_dispatch_r: queue.next_dispatch_r,
            work: queue.work,
            seats_in_use: queue.seats_in_use,
        });
        let queues = queues.collect();
        let (seats_in_use, demand) = (set.seats_in_use(), set.demand() as f64);
        states.push(State { refused, executing: sorted, seats_in_use, demand, queues });
    }
    let mut question = json!({ "limit": first_limit, "steps": steps });
    if let Some(queuing) = queuing {
        question["queues"] = queuing.queues.into();
        question["handSize"] = queuing.hand_size.into();
        question["queueLengthLimit"] = queuing.queue_length_limit.into();
    }
    Life { question: json!({ "queueSet": question }), states }
}

fn started(set: &mut QueueSet, executing: &mut Vec<u32>, waiting: &mut Vec<u32>) {
    for ticket in set.dispatched() {
        waiting.retain(|waits| *waits != ticket);
        executing.push(ticket);
    }
}

/// Arrivals, dispatches, ends, seats that linger, clients that give up, limits that change: after each step the whole state
/// is the same, down to the virtual time of each queue.
#[test]
fn a_queue_set_goes_step_by_step_as_the_servers() {
    let lives: Vec<Life> = (0..300).map(life).collect();
    let questions: Vec<Value> = lives.iter().map(|life| life.question.clone()).collect();
    for (seed, (life, theirs)) in lives.iter().zip(replayed::<Vec<State>>(&questions)).enumerate() {
        for (number, (ours, theirs)) in life.states.iter().zip(&theirs).enumerate() {
            let steps = &life.question["queueSet"]["steps"];
            assert_eq!(ours, theirs, "seed {seed}, step {number}: {}", steps[number]);
        }
        assert_eq!(life.states.len(), theirs.len(), "seed {seed}");
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Borrowed {
    max_seats: Vec<u64>,
    limits: Vec<Vec<i64>>,
}

/// Levels lend and borrow for an hour, through floods and lulls.
#[test]
fn seats_are_lent_and_borrowed_as_the_server_does() {
    let (mut questions, mut ours) = (Vec::new(), Vec::new());
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let seats = random.i64(1..1000);
        let mut levels = vec![("exempt".to_owned(), (0, random.i64(0..=50), None), None)];
        for n in 0..random.usize(1..9) {
            let name = if n == 0 { "catch-all".to_owned() } else { format!("level-{n}") };
            let part = (
                random.i64(if n == 0 { 1..2 } else { 0..200 }),
                random.i64(0..=100),
                random.bool().then(|| random.i64(0..300)),
            );
            let hand = random.bool().then(|| random.u32(1..=8));
            levels.push((name, part, hand));
        }
        let parts: Vec<_> = levels.iter().map(|(_, part, _)| *part).collect();
        let own = concurrency(seats, &parts);
        let queuing =
            |hand: &Option<u32>| hand.map(|hand_size| Queuing { queues: 64, hand_size, queue_length_limit: 50 });
        let most: Vec<u64> = own
            .iter()
            .zip(&levels)
            .map(|(own, (.., hand))| max_seats(own.nominal, queuing(hand)).unwrap_or(0))
            .collect();
        let mut shares: Vec<Share> = own
            .iter()
            .zip(&levels)
            .map(|(own, (name, ..))| Share {
                exempt: name == "exempt",
                nominal: own.nominal,
                min: own.min,
                max: own.max.unwrap_or(own.nominal + seats),
                demand: Demand::default(),
            })
            .collect();
        let initial: Vec<i64> = own.iter().map(|own| own.nominal - (own.nominal - own.min) / 2).collect();
        let mut limits = vec![adjust(0, &mut shares, &initial)];
        let mut steps = Vec::new();
        let mut now = 0;
        for _ in 0..60 {
            let end = now + PERIOD;
            for _ in 0..random.usize(0..6) {
                now = random.u64(now..end);
                let demands: Vec<u64> = shares
                    .iter_mut()
                    .map(|share| {
                        let most = [0, 5, 50, 500][random.usize(..4)];
                        let seats =
                            if share.exempt { random.u64(0..=seats.unsigned_abs() / 10) } else { random.u64(0..=most) };
                        share.demand.set(now, seats);
                        seats
                    })
                    .collect();
                steps.push(json!({ "at": now, "demands": demands }));
            }
            now = end;
            steps.push(json!({ "at": now, "adjust": true }));
            limits.push(adjust(now, &mut shares, limits.last().unwrap()));
        }
        let rows: Vec<Value> = levels
            .iter()
            .map(|(name, (shares, lends, borrows), hand)| {
                json!({ "name": name, "shares": shares, "lendablePercent": lends, "borrowingLimitPercent": borrows,
                    "queues": if hand.is_some() { 64 } else { 0 }, "handSize": hand })
            })
            .collect();
        questions.push(json!({ "borrowing": { "seats": seats, "levels": rows, "steps": steps } }));
        ours.push((most, limits));
    }
    for (seed, ((most, limits), theirs)) in ours.iter().zip(replayed::<Borrowed>(&questions)).enumerate() {
        assert_eq!(*most, theirs.max_seats, "seed {seed}");
        for (period, (ours, theirs)) in limits.iter().zip(&theirs.limits).enumerate() {
            assert_eq!(ours, theirs, "seed {seed}, period {period}: {}", questions[seed]["borrowing"]["levels"]);
        }
    }
}

#[test]
fn who_is_refused_is_told_the_same_retry_after() {
    let cases: Vec<Vec<i64>> = (0..200)
        .map(|seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut now = 1_700_000_000;
            (0..400)
                .map(|_| {
                    now += [0, 0, 0, 0, 1, 1, 2, random.i64(0..60)][random.usize(..8)];
                    now
                })
                .collect()
        })
        .collect();
    let questions: Vec<_> = cases.iter().map(|seconds| json!({ "retryAfter": { "seconds": seconds } })).collect();
    for (seconds, theirs) in cases.iter().zip(replayed::<Vec<i64>>(&questions)) {
        let mut refusals = Refusals::default();
        let ours: Vec<i64> = seconds.iter().map(|second| refusals.refuse(*second)).collect();
        assert_eq!(ours, theirs);
    }
}

#[test]
fn a_request_is_as_wide_as_the_server_says() {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut questions, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..2000 {
        let max_seats = [None, Some(random.u64(1..200))][random.usize(..2)];
        let (objects, bytes) = (random.u64(0..20_000), random.u64(0..20_000));
        let (asks, verb, query, watchers) = if random.bool() {
            let (limit, selects, from_storage) =
                ([0, random.u64(1..1000)][random.usize(..2)], random.bool(), random.bool());
            // Where the server reads from without an etcd that it could ask.
            let mut query = if from_storage { "continue=x".to_owned() } else { "resourceVersion=0".to_owned() };
            if limit > 0 {
                query.push_str(&format!("&limit={limit}"));
            }
            if selects {
                query.push_str("&labelSelector=a%3Db");
            }
            (Asks::List(List { objects, bytes, limit, selects, from_storage }), "list", query, 0)
        } else {
            let watchers = random.u64(0..300);
            let verb = ["create", "update", "patch", "delete"][random.usize(..4)];
            (Asks::Write(watchers), verb, String::new(), watchers)
        };
        questions.push(
            json!({ "width": { "verb": verb, "query": query, "maxSeats": max_seats.unwrap_or(0), "objects": objects,
            "bytes": bytes, "watchers": watchers } }),
        );
        let width = asks.width(max_seats);
        ours.push(
            json!({ "initial": width.initial_seats, "final": width.final_seats, "additional": width.additional }),
        );
    }
    for ((ours, theirs), question) in ours.iter().zip(replayed::<Value>(&questions)).zip(&questions) {
        assert_eq!(*ours, theirs, "{question}");
    }
}
