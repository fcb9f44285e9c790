//! `cargo xtask bench apf`: how fast `bedplate apf simulate` is, and how right: loads on a real API server with few seats,
//! beside what was predicted of them.
//!
//! So that it is flow control that is compared, and not the speed of this machine, each request is a dry run of a creation
//! that waits in a webhook of the bench's own for a known time, with its seat held; and the prediction is given the mean
//! execution time that the server has measured.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bedplate_apf::matching::{Request, Target};
use bedplate_apf::simulate::{Pace, Recorded, SECOND, Seen, Server, Source, Takes, simulate};
use bedplate_apf::width::Asks;
use bedplate_cluster::lanes::FlowControl;
use bedplate_devcluster::certificates::{Authority, write};
use bedplate_devcluster::cluster::{LOOPBACK, free_ports};
use bedplate_devcluster::process::Part;
use bedplate_devcluster::run::{self, Result};
use bedplate_devcluster::{AddOn, Cluster, Tier, tools};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::measure::{Run, measure, median};
use super::scale::{connect, metrics};
use super::served::Served;

/// Requests a second in ten minutes, for the speed.
const RATE: u32 = 2000;
/// What that may take.
const GOAL: Duration = Duration::from_secs(2);
/// Seats of the server: `few-seats`.
const SEATS: u32 = 60;
/// Requests that count begin so long after the first. Seats are lent every ten seconds of the server's own clock: a level
/// that borrows has to have seen one of them.
const WARM_UP: [u64; 2] = [5, 12];
/// Times are told as right where they are off by less than this: an answer of this machine is not more exact.
const LEAST_MS: f64 = 3.0;
/// An error above this has to have a cause that is known.
const FAR: f64 = 0.2;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds of each load, after the warm-up
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Loads of these names only
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave the speed out
    #[arg(long)]
    without_speed: bool,
}

/// How a source of a load sends.
#[derive(Clone, Copy)]
enum Sends {
    /// Clients at once, each with a pause in ms after its answer.
    Clients(u32, u64),
    /// At a rate, at random times.
    Rate(f64),
}

/// A source of a load: its users, and how they send.
struct Sender {
    name: &'static str,
    /// Users; each is a flow.
    users: u32,
    sends: Sends,
}

/// A load and the level that it rides in.
struct Load {
    name: &'static str,
    /// Queues, hand size, queue length limit; none where the level rejects.
    queuing: Option<(u32, u32, u32)>,
    /// Whether the level may borrow seats, which others lend.
    borrows: bool,
    /// How long the webhook takes, in ms.
    milliseconds: u64,
    senders: &'static [Sender],
}

/// Shares of the level: with the bootstrap levels' 245 that is 8 of 60 seats.
const SHARES: u32 = 34;

#[rustfmt::skip]
const LOADS: &[Load] = &[
    Load { name: "one queue, half as many clients again as fit", queuing: Some((1, 1, 50)), borrows: false, milliseconds: 100,
        senders: &[Sender { name: "a", users: 1, sends: Sends::Clients(12, 0) }] },
    Load { name: "a hand of 4 queues, 40 clients", queuing: Some((16, 4, 50)), borrows: false, milliseconds: 100,
        senders: &[Sender { name: "a", users: 1, sends: Sends::Clients(40, 0) }] },
    Load { name: "queues that are full: 40 clients, room for 10", queuing: Some((16, 2, 5)), borrows: false, milliseconds: 100,
        senders: &[Sender { name: "a", users: 1, sends: Sends::Clients(40, 200) }] },
    Load { name: "a level that rejects, at a rate", queuing: None, borrows: false, milliseconds: 100,
        senders: &[Sender { name: "a", users: 1, sends: Sends::Rate(90.0) }] },
    Load { name: "20 users at a rate, near what fits", queuing: Some((16, 2, 5)), borrows: false, milliseconds: 100,
        senders: &[Sender { name: "a", users: 20, sends: Sends::Rate(70.0) }] },
    Load { name: "a flood beside 5 quiet users", queuing: Some((32, 2, 50)), borrows: false, milliseconds: 100,
        senders: &[Sender { name: "flood", users: 1, sends: Sends::Clients(40, 0) }, Sender { name: "quiet", users: 5, sends: Sends::Rate(10.0) }] },
    Load { name: "6 users, small hands, short requests", queuing: Some((8, 1, 8)), borrows: false, milliseconds: 20,
        senders: &[Sender { name: "a", users: 6, sends: Sends::Clients(60, 50) }] },
    Load { name: "a level that borrows, 60 clients", queuing: Some((16, 4, 50)), borrows: true, milliseconds: 250,
        senders: &[Sender { name: "a", users: 1, sends: Sends::Clients(60, 0) }] },
];

/// The level and the schema of every load.
const NAME: &str = "bench";
const GROUP: &str = "bench";

/// What became of the requests of a source that were sent after the warm-up.
#[derive(Clone, Copy, Default, Debug)]
struct Counted {
    answered: f64,
    refused: f64,
    /// Mean and median of the waits, in ms.
    mean_wait: f64,
    median_wait: f64,
}

impl Counted {
    fn refused_part(&self) -> f64 {
        self.refused / (self.refused + self.answered).max(1.0)
    }
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut text = format!(
        "# The simulator of flow control\n\nWritten by `cargo xtask bench apf`; {}. API server {}.\n",
        super::machine(),
        tools::get("kubernetes")?.version
    );
    run::succeed(&mut run::cargo(&["build", "--quiet", "--release", "--package", "bedplate-webhook-bench"]))?;
    let page = super::on_cluster(Tier::Api, &[AddOn::FewSeats], |cluster| {
        let speed = if options.without_speed { String::new() } else { speed(cluster)? };
        Ok(speed + &beside(cluster, options)?)
    });
    text.push_str(&page?);
    super::publish("apf", &text)
}

/// Ten minutes at 2,000 requests a second, by the program as its users run it.
fn speed(cluster: &Cluster) -> Result<String> {
    eprintln!("xtask: building bedplate, optimised: about 2 min");
    let bedplate = run::bedplate(true)?;
    let mut mix = String::from("sources:\n");
    // Everyone: controllers, users, lists, floods that wait.
    for (name, user, verb, part, more) in [
        ("operators", "system:serviceaccount:kubeflow:training-operator", "update", 4, "watchers: 25"),
        ("users", "system:serviceaccount:team-a:default-editor", "create", 10, "flows: 100"),
        ("kubelets", "system:node:n", "get", 5, "groups: [system:nodes]"),
        ("lists", "ann", "list", 1, "list: {objects: 2000, kilobytes: 4, limit: 500}"),
    ] {
        let rate = RATE * part / 20;
        let _ = writeln!(
            mix,
            "- {{name: {name}, user: '{user}', verb: {verb}, resource: pods, namespace: team-a, rate: {rate}, milliseconds: 1.9, {more}}}"
        );
    }
    let file = cluster.folder.join("mix.yaml");
    fs::write(&file, mix).map_err(run::file("write", &file))?;
    let mut runs: Vec<Run> = Vec::new();
    let mut command = Command::new(&bedplate);
    command.args(["apf", "simulate", "--seconds", "600", "--cores", "4", "--mix"]).arg(&file);
    command.env("KUBECONFIG", cluster.kubeconfig());
    let told = run::output(&mut command, &[0])?;
    for _ in 0..5 {
        runs.push(measure(&mut command, &[0])?);
    }
    let wall = median(runs.iter().map(|run| run.wall.as_secs_f64()));
    let peak = runs.iter().map(|run| run.peak).max().unwrap_or_default() as f64 / 1e6;
    let verdict = if wall <= GOAL.as_secs_f64() { "met" } else { "MISSED" };
    Ok(format!(
        "\n## Speed\n\nTen minutes of a cluster at {RATE} requests a second (1.2 million requests of four sources, on 95 % of 4 cores): \
         **{wall:.2} s** (median of {}), {peak:.0} MB. The goal, {} s, is {verdict}. Asking the server for its objects is in it.\n\n```text\n{told}```\n",
        runs.len(),
        GOAL.as_secs(),
    ))
}

/// Each load, predicted and measured.
fn beside(cluster: &Cluster, options: &Options) -> Result<String> {
    let [port] = free_ports()?;
    let authority = Authority::new()?;
    let folder = &cluster.folder;
    write(&folder.join("webhook-ca.crt"), &authority.certificate)?;
    authority.write(folder, "webhook", "webhook", &[], &[LOOPBACK])?;
    let at = |file: &str| folder.join(file).display().to_string();
    let arguments =
        ["--listen", &format!("{LOOPBACK}:{port}"), "--tls-cert", &at("webhook.crt"), "--tls-key", &at("webhook.key")];
    let part = Part {
        name: "empty-webhook",
        program: run::target().join("release/empty-webhook"),
        called: None,
        inside: None,
        arguments: arguments.map(str::to_owned).to_vec(),
        environment: Vec::new(),
    };
    let _webhook = Served::start(&part, folder)?;
    cluster.apply(&rights().to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let mut text = format!(
        "\n## Beside the API server\n\nAn API server with {SEATS} seats, of which the load's level has 8; {} s of each load, after {} s that do not count ({} where it borrows). Refused: of all requests \
         that reached the server, whoever is refused goes on as if it were answered. Waits: in the queues, mean of those that were executed then (the server's `apiserver_flowcontrol_request_wait_duration_seconds`). \
         The prediction has the load (of requests at a rate, the times at which they were sent), the objects as the server holds them, and the mean execution time that the server measured; nothing was fitted. Errors are of what was measured; waits that differ by less than {LEAST_MS} ms count as the same.\n\n\
         | load | executed in, ms | refused, predicted | measured | wait, predicted, ms | measured | error of refused | of wait |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        options.seconds, WARM_UP[0], WARM_UP[1]
    );
    let mut far = Vec::new();
    let mut quiet = String::new();
    for load in
        LOADS.iter().filter(|load| options.only.is_empty() || options.only.iter().any(|name| load.name.contains(name)))
    {
        eprintln!("xtask: {}", load.name);
        cluster.apply(&load.objects(port, &authority.certificate).to_string())?;
        settle(cluster, load)?;
        let measured = runtime.block_on(load.send(cluster, options.seconds))?;
        let flow_control = runtime
            .block_on(async { connect(cluster).await?.flow_control().await.map_err(|error| error.to_string()) })?;
        let each = load.each(&flow_control, &measured, options.seconds);
        let predicted = together(&each);
        let (refused, wait) = (
            error(predicted.refused_part(), measured.all.refused_part(), 0.01),
            error(predicted.mean_wait, measured.all.mean_wait, LEAST_MS),
        );
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} % | {:.1} % | {:.1} | {:.1} | {:.0} % | {:.0} % |",
            load.name,
            measured.executed * 1e3,
            predicted.refused_part() * 100.0,
            measured.all.refused_part() * 100.0,
            predicted.mean_wait,
            measured.all.mean_wait,
            refused * 100.0,
            wait * 100.0,
        );
        if refused > FAR || wait > FAR {
            far.push(load.name);
        }
        for (sender, (told, seen)) in load.senders.iter().zip(each.iter().zip(&measured.each)) {
            if load.senders.len() > 1 {
                let _ = writeln!(
                    quiet,
                    "| {} | {} | {:.0} | {:.0} | {:.1} | {:.1} |",
                    load.name, sender.name, told.answered, seen.answered, told.median_wait, seen.median_wait
                );
            }
        }
    }
    if !quiet.is_empty() {
        let _ = write!(
            text,
            "\nBy source; the wait is the median, measured as what the client waited beyond the mean execution time:\n\n\
             | load | source | answered, predicted | measured | median wait, predicted, ms | measured |\n| --- | --- | ---: | ---: | ---: | ---: |\n{quiet}"
        );
    }
    let _ = match far.is_empty() {
        true => writeln!(text, "\nNo error is over {:.0} %.", FAR * 100.0),
        false => writeln!(text, "\nOver {:.0} %: {}.", FAR * 100.0, far.join("; ")),
    };
    Ok(text)
}

/// How far a prediction is from what was measured; 0 where both are nearly the same.
fn error(predicted: f64, measured: f64, least: f64) -> f64 {
    let off = (predicted - measured).abs();
    if off <= least { 0.0 } else { off / measured.abs().max(least) }
}

/// The users of the loads may create ConfigMaps: flow control comes before authorization, a refusal would hold no seat.
fn rights() -> Value {
    json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": GROUP },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": GROUP }] })
}

/// Waits until the server has the level of a load, and nobody is in it.
fn settle(cluster: &Cluster, load: &Load) -> Result<()> {
    let started = Instant::now();
    loop {
        // What the last load had asked for is forgotten slowly; its limits are not: the level's own bounds hold.
        let told = metrics(cluster)?;
        let of = |name: &str| level(&told, name);
        let bounds = (of("apiserver_flowcontrol_lower_limit_seats"), of("apiserver_flowcontrol_upper_limit_seats"));
        let as_wanted = if load.borrows { bounds.1 > bounds.0 } else { bounds == (8.0, 8.0) };
        let idle = of("apiserver_flowcontrol_current_inqueue_requests")
            + of("apiserver_flowcontrol_current_executing_requests");
        if as_wanted && idle == 0.0 && started.elapsed() > Duration::from_secs(2) {
            return Ok(());
        }
        if started.elapsed() > Duration::from_secs(60) {
            return Err(format!("the server does not take the level of `{}`: limits {bounds:?}", load.name));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The sum of a metric over the schemas of the level.
fn level(metrics: &str, name: &str) -> f64 {
    let key = format!("priority_level=\"{NAME}\"");
    let lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(&key));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// What a load was measured to be.
struct Measured {
    /// Mean time of execution, in seconds.
    executed: f64,
    all: Counted,
    each: Vec<Counted>,
    /// By source: when its requests were sent.
    sent: Vec<Vec<Duration>>,
}

/// What a client saw of one request.
struct Answer {
    sender: usize,
    sent: Duration,
    took: Duration,
    refused: bool,
}

impl Load {
    fn objects(&self, port: u16, authority: &str) -> Value {
        let mut limited =
            json!({ "nominalConcurrencyShares": SHARES, "lendablePercent": 0, "limitResponse": { "type": "Reject" } });
        if !self.borrows {
            limited["borrowingLimitPercent"] = 0.into();
        }
        if let Some((queues, hand_size, limit)) = self.queuing {
            limited["limitResponse"] = json!({ "type": "Queue", "queuing": { "queues": queues, "handSize": hand_size, "queueLengthLimit": limit } });
        }
        let group = "flowcontrol.apiserver.k8s.io/v1";
        json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": group, "kind": "PriorityLevelConfiguration", "metadata": { "name": NAME }, "spec": { "type": "Limited", "limited": limited } },
            { "apiVersion": group, "kind": "FlowSchema", "metadata": { "name": NAME }, "spec": {
                "priorityLevelConfiguration": { "name": NAME }, "matchingPrecedence": 500, "distinguisherMethod": { "type": "ByUser" },
                "rules": [{ "subjects": [{ "kind": "Group", "group": { "name": GROUP } }],
                    "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"] }] }] } },
            { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": { "name": NAME }, "webhooks": [{
                "name": "sleep.bench.bedplate.dev", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail", "timeoutSeconds": 10,
                "objectSelector": { "matchLabels": { "bench": NAME } },
                "rules": [{ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"] }],
                "clientConfig": { "url": format!("https://{LOOPBACK}:{port}/sleep/{}", self.milliseconds), "caBundle": ByteString(authority.as_bytes().to_vec()) } }] },
        ] })
    }

    /// Sends it, and reads from the server's metrics what became of it.
    async fn send(&self, cluster: &Cluster, seconds: u64) -> Result<Measured> {
        let begin = Duration::from_secs(self.warm_up());
        let end = begin + Duration::from_secs(seconds);
        let (answers, mut received) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = tokio::task::JoinSet::new();
        let started = Instant::now();
        // One connection is one of HTTP/1 for each request at a time.
        let client = connect(cluster).await?.client();
        for (sender, of) in self.senders.iter().enumerate() {
            match of.sends {
                Sends::Clients(clients, pause) => {
                    for n in 0..clients {
                        let (client, answers) = (client.clone(), answers.clone());
                        let user = of.user(n);
                        let mut random = Random(u64::from(n) * 7919 + 1);
                        tasks.spawn(async move {
                            while started.elapsed() < end {
                                tokio::time::sleep(Duration::from_secs_f64(random.exponential(pause as f64 / 1e3)))
                                    .await;
                                let _ = answers.send(one(&client, sender, &user, started).await?);
                            }
                            Ok::<(), String>(())
                        });
                    }
                }
                Sends::Rate(rate) => {
                    let (client, answers) = (client.clone(), answers.clone());
                    let users: Arc<[String]> = (0..of.users).map(|n| of.user(n)).collect();
                    tasks.spawn(async move {
                        let mut random = Random(41);
                        let (mut at, mut n, mut sent) = (Duration::ZERO, 0, tokio::task::JoinSet::new());
                        while at < end {
                            at += Duration::from_secs_f64(random.exponential(1.0 / rate));
                            tokio::time::sleep_until((started + at).into()).await;
                            let (client, answers, users) = (client.clone(), answers.clone(), users.clone());
                            sent.spawn(async move {
                                let answer = one(&client, sender, &users[n % users.len()], started).await;
                                answer.map(|answer| drop(answers.send(answer)))
                            });
                            n += 1;
                        }
                        while let Some(ended) = sent.join_next().await {
                            ended.map_err(|error| error.to_string())??;
                        }
                        Ok(())
                    });
                }
            }
        }
        drop(answers);
        let read = || async {
            let answer = text(&client, "/metrics").await?;
            let sum = |name: &str| level(&answer, name);
            Ok::<_, String>([
                sum("apiserver_flowcontrol_request_wait_duration_seconds_sum"),
                sum("apiserver_flowcontrol_request_wait_duration_seconds_count"),
                sum("apiserver_flowcontrol_rejected_requests_total"),
                sum("apiserver_flowcontrol_request_execution_seconds_sum"),
                sum("apiserver_flowcontrol_request_execution_seconds_count"),
            ])
        };
        tokio::time::sleep_until((started + begin).into()).await;
        let before = read().await?;
        tokio::time::sleep_until((started + end).into()).await;
        let after = read().await?;
        let [wait, waits, rejected, executed, executions] = std::array::from_fn(|at| after[at] - before[at]);
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        let executed = executed / executions.max(1.0);
        let mut each = vec![(Counted::default(), Vec::new()); self.senders.len()];
        let mut sent = vec![Vec::new(); self.senders.len()];
        while let Some(answer) = received.recv().await {
            sent[answer.sender].push(answer.sent);
            if answer.sent < begin || answer.sent > end {
                continue;
            }
            let (counted, waits) = &mut each[answer.sender];
            if answer.refused {
                counted.refused += 1.0;
            } else {
                counted.answered += 1.0;
                waits.push(((answer.took.as_secs_f64() - executed) * 1e3).max(0.0));
            }
        }
        let each =
            each.into_iter().map(|(counted, waits)| Counted { median_wait: median(waits.into_iter()), ..counted });
        // Whoever finds no room has not waited, and is in the mean with nothing: the server counts refusals too.
        let mean_wait = wait / (waits - rejected).max(1.0) * 1e3;
        Ok(Measured {
            executed,
            all: Counted { answered: executions, refused: rejected, mean_wait, median_wait: 0.0 },
            each: each.collect(),
            sent,
        })
    }

    fn warm_up(&self) -> u64 {
        WARM_UP[usize::from(self.borrows)]
    }

    /// As the simulator has it. Requests at a rate are those that were sent: near the limit a wait is a matter of luck, and
    /// it is not luck that is compared.
    fn sources(&self, measured: &Measured) -> Vec<Source> {
        let took = (measured.executed * SECOND as f64) as u64;
        let source = |(sender, sent): (&Sender, &Vec<Duration>)| Source {
            name: sender.name.to_owned(),
            request: Request {
                user: sender.user(0),
                groups: vec![GROUP.to_owned(), "system:authenticated".to_owned()],
                verb: "create".to_owned(),
                target: Target::Resource(String::new(), "configmaps".to_owned(), "default".to_owned()),
            },
            flows: sender.users,
            pace: match sender.sends {
                Sends::Clients(clients, pause) => Pace::Clients(clients, pause * SECOND / 1000),
                Sends::Rate(_) => {
                    let mut sent = sent.clone();
                    sent.sort_unstable();
                    let at = |at: &Duration| Recorded { at: u64::try_from(at.as_nanos()).unwrap_or(u64::MAX), took };
                    Pace::Recorded(sent.iter().map(at).collect())
                }
            },
            active: (0, u64::MAX),
            total: None,
            takes: Takes::Exactly(took),
            asks: Asks::Seats(1),
            retries: 0,
        };
        self.senders.iter().zip(&measured.sent).map(source).collect()
    }

    /// What is predicted of each source after the warm-up: the whole less the beginning, which is the same in both.
    fn each(&self, flow_control: &FlowControl, measured: &Measured, seconds: u64) -> Vec<Counted> {
        let (server, sources) = (Server { seats: SEATS, cores: 2.0 }, self.sources(measured));
        let until =
            |time: u64| simulate(&flow_control.schemas, &flow_control.levels, server, &sources, time * SECOND, 1);
        let (begin, whole) = (until(self.warm_up()), until(self.warm_up() + seconds));
        let sum = |seen: &Seen| seen.wait.mean() * seen.wait.count() as f64;
        let counted = |(begin, whole): (&Seen, &Seen)| Counted {
            answered: (whole.answered - begin.answered) as f64,
            refused: (whole.refused - begin.refused) as f64,
            mean_wait: (sum(whole) - sum(begin)) / ((whole.wait.count() - begin.wait.count()) as f64).max(1.0),
            median_wait: whole.wait.quantile(0.5),
        };
        begin.sources.iter().zip(&whole.sources).map(counted).collect()
    }
}

/// Of all sources.
fn together(each: &[Counted]) -> Counted {
    let answered: f64 = each.iter().map(|of| of.answered).sum();
    let waits: f64 = each.iter().map(|of| of.mean_wait * of.answered).sum();
    let refused = each.iter().map(|of| of.refused).sum();
    Counted { answered, refused, mean_wait: waits / answered.max(1.0), median_wait: 0.0 }
}

impl Sender {
    /// The user of the request or client `n`, named as the simulator names its flows.
    fn user(&self, n: u32) -> String {
        let of = n % self.users;
        if of == 0 { format!("bench:{}", self.name) } else { format!("bench:{}-{of}", self.name) }
    }
}

/// Times between requests, the same in each run.
struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.next()).ln()
    }
}

/// One request: a creation that is a dry run, as a user.
async fn one(client: &kube::Client, sender: usize, user: &str, started: Instant) -> Result<Answer> {
    let body =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": NAME, "labels": { "bench": NAME } } });
    let request = http::Request::post("/api/v1/namespaces/default/configmaps?dryRun=All")
        .header("Content-Type", "application/json")
        .header("Impersonate-User", user)
        .header("Impersonate-Group", GROUP)
        .body(body.to_string().into_bytes())
        .map_err(|error| error.to_string())?;
    let sent = started.elapsed();
    let refused = match client.request_text(request).await {
        Ok(_) => false,
        Err(kube::Error::Api(status)) if status.code == 429 => true,
        Err(error) => return Err(format!("a request of the load: {error}")),
    };
    Ok(Answer { sender, sent, took: started.elapsed() - sent, refused })
}

async fn text(client: &kube::Client, path: &str) -> Result<String> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    client.request_text(request).await.map_err(|error| error.to_string())
}
