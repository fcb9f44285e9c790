//! `cargo xtask bench operator`: what the operator costs beside a large cluster in which nothing happens, and how it
//! bears a minute in which much does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bedplate_devcluster::certificates::write;
use bedplate_devcluster::cluster::{LOOPBACK, free_ports};
use bedplate_devcluster::definitions::objects;
use bedplate_devcluster::process::{Part, get, well};
use bedplate_devcluster::run::{self, Result};
use bedplate_devcluster::{Cluster, Tier};
use serde_json::{Value, json};

use super::measure::{Used, forget_peak, samples};
use super::scale::{Load, Size, connect, job, metrics, runtime, template};
use super::served::Served;

/// What it may have of memory when nothing changes, in MB.
const GOAL_MB: f64 = 100.0;
/// How long anything may take to come to be.
const PATIENCE: Duration = Duration::from_secs(60);
/// Jobs that are made and deleted at the same time.
const CREATORS: usize = 32;
/// One job in this many is over the ceiling.
const TOO_LARGE: usize = 10;
/// What selects the webhook configurations.
const WEBHOOKS: &str = "app.kubernetes.io/name=bedplate-operator";
/// The name of the operator, as its log and its process are called.
const NAME: &str = "bedplate-serve";

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Nodes that KWOK plays
    #[arg(long, default_value_t = 500)]
    nodes: usize,
    /// Jobs, each with pods of its own
    #[arg(long, default_value_t = 1_000)]
    jobs: usize,
    /// Pods of all jobs together
    #[arg(long, default_value_t = 5_000)]
    pods: usize,
    /// Seconds after which no more of them are made
    #[arg(long, default_value_t = 90)]
    fill: u64,
    /// Seconds that the operator gets to settle, its first audit included
    #[arg(long, default_value_t = 45)]
    settle: u64,
    /// Seconds of the time in which nothing changes, and of the burst
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Jobs that are made a second in the burst, as far as the API server takes them; each is deleted again
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    eprintln!("xtask: building bedplate, optimised: about 2 min");
    let bedplate = run::bedplate(true)?;
    let text = super::on_cluster(Tier::Scale, &[], |cluster| measure(cluster, &bedplate, options))?;
    super::publish("operator", &text)
}

/// The operator as a process, with the rights of its service account.
struct Operator {
    served: Served,
    health: u16,
    /// From its start until it was ready, and until it led and had seen every guard in place.
    ready: Duration,
    in_charge: Duration,
}

/// What it has asked of the API server, by what [`flow_schemas`] tells apart.
type Asked = BTreeMap<String, f64>;

fn measure(cluster: &Cluster, bedplate: &Path, options: &Options) -> Result<String> {
    let size = Size { nodes: options.nodes, jobs: options.jobs, pods: options.pods };
    eprintln!("xtask: filling the cluster");
    let filled = size.fill(cluster, Duration::from_secs(options.fill))?;
    eprintln!("xtask: a short burst without guards");
    let bare = pace(cluster, options)?;
    let mut operator = Operator::start(cluster, bedplate)?;
    eprintln!("xtask: ready; it gets {} s to settle", options.settle);
    std::thread::sleep(Duration::from_secs(options.settle));
    let settled = operator.served.used()?;
    let before = asked(cluster)?;
    std::thread::sleep(Duration::from_secs(options.seconds));
    let (quiet, asked_quiet) = (operator.served.used()?, since(asked(cluster)?, &before));
    let before = asked(cluster)?;
    let put_back = put_back(cluster)?;
    let asked_back = since(asked(cluster)?, &before);

    eprintln!("xtask: the burst");
    forget_peak(operator.served.pid())?;
    let burst = Burst::run(cluster, &mut operator, options)?;
    let put_back_after = self::put_back(cluster)?;
    std::thread::sleep(Duration::from_secs(20));
    let after = operator.served.used()?;
    eprintln!("xtask: a short burst with the guards alone");
    // Not at once after `apply`: the API server is busy with the new definitions then.
    let configurations = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
    run::output(cluster.kubectl()?.args(["delete", configurations, "--selector", WEBHOOKS]), &[0])?;
    let (ready, in_charge) = (operator.ready, operator.in_charge);
    drop(operator);
    let guarded = pace(cluster, options)?;

    let mb = |bytes: u64| bytes as f64 / 1e6;
    let per_minute = 60.0 / options.seconds as f64;
    let count = |what: &str| asked_quiet.get(what).copied().unwrap_or_default() * per_minute;
    let met = |yes: bool| if yes { "met" } else { "missed" };
    let writes = count(WRITES) + count(EVENTS);
    let mut text = format!(
        "# What the operator costs\n\nWritten by `cargo xtask bench operator`; {}. {filled} `bedplate serve` is a process beside the cluster, with the rights of its \
         service account and the deployed webhooks; API server, etcd, controllers, scheduler, KWOK, the load and the operator share the cores.\n\n\
         | | | goal |\n| --- | ---: | --- |\n",
        super::machine()
    );
    for (what, value, goal) in [
        ("start to ready, s", format!("{:.2}", ready.as_secs_f64()), String::new()),
        (
            "start until it leads and every guard is seen in place, s",
            format!("{:.2}", in_charge.as_secs_f64()),
            String::new(),
        ),
        (
            "memory when nothing changes, MB",
            format!("{:.1}", mb(quiet.memory)),
            format!("< {GOAL_MB}: {}", met(mb(quiet.memory) < GOAL_MB)),
        ),
        ("peak until then, MB", format!("{:.1}", mb(quiet.peak)), String::new()),
        (
            "processor time in a minute in which nothing changes, s",
            format!("{:.2}", (quiet.seconds - settled.seconds) * per_minute),
            String::new(),
        ),
        ("writes in that minute, but for its lease", format!("{writes:.0}"), format!("0: {}", met(writes == 0.0))),
        ("writes of its lease in that minute", format!("{:.0}", count(LEASE)), String::new()),
        ("other requests in that minute", format!("{:.0}", count(READS)), String::new()),
        ("until a guard changed by hand is put back, s", format!("{:.2}", put_back.as_secs_f64()), String::new()),
        (
            "requests for that",
            format!("{:.0}", OWN.iter().filter_map(|what| asked_back.get(*what)).sum::<f64>()),
            String::new(),
        ),
    ] {
        let _ = writeln!(text, "| {what} | {value} | {goal} |");
    }
    let _ = write!(text, "\n{}", burst.page(options, bare, guarded));
    for (what, value) in [
        ("memory 20 s after it, MB", format!("{:.1}", mb(after.memory))),
        (
            "until a guard changed by hand is put back, at once after it, s",
            format!("{:.2}", put_back_after.as_secs_f64()),
        ),
    ] {
        let _ = writeln!(text, "| {what} | {value} |");
    }
    text.push_str("\nTimes until something is put back are seen through `kubectl`, to a tenth of a second.\n");
    Ok(text)
}

/// Runs `bedplate` and gives what it says.
fn own(cluster: &Cluster, bedplate: &Path, arguments: &[&str]) -> Result<String> {
    run::output(Command::new(bedplate).args(arguments).env("KUBECONFIG", cluster.kubeconfig()), &[0])
}

/// Jobs that are made and deleted a second, in a short burst.
fn pace(cluster: &Cluster, options: &Options) -> Result<f64> {
    let (tally, started) = (Arc::new(Tally::default()), Instant::now());
    runtime()?.block_on(create(cluster, options, Duration::from_secs(10), &tally))?;
    Ok(tally.made.load(Ordering::SeqCst) as f64 / started.elapsed().as_secs_f64())
}

impl Operator {
    /// Puts the guards in place, all in force, and starts the operator beside them.
    fn start(cluster: &Cluster, bedplate: &Path) -> Result<Self> {
        let profile = cluster.folder.join("bedplate.yaml");
        write(&profile, super::PROFILE)?;
        own(cluster, bedplate, &["apply", "--file", &profile.display().to_string()])?;
        let [port, health] = free_ports()?;
        let address = format!("{LOOPBACK}:{port}");
        let mut parts = objects(&own(cluster, bedplate, &["render", "--operator"])?)?;
        parts.retain(|object| object["kind"] != "Deployment");
        for webhook in parts.iter_mut().filter_map(|object| object.get_mut("webhooks")?.as_array_mut()).flatten() {
            let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap_or_default();
            webhook["clientConfig"] = json!({ "url": format!("https://{address}{path}") });
        }
        let account = parts.iter().find(|object| object["kind"] == "ServiceAccount").ok_or("no service account")?;
        let word = |path: &str| account.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (namespace, name) = (word("/metadata/namespace"), word("/metadata/name"));
        parts.extend(flow_schemas(&namespace, &name));
        cluster.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": parts }).to_string())?;
        let kubeconfig = cluster.kubeconfig_of(&namespace, &name)?;
        let part = Part {
            name: NAME,
            program: bedplate.to_owned(),
            called: None,
            inside: None,
            arguments: [
                "serve",
                "--name",
                &LOOPBACK.to_string(),
                "--listen",
                &address,
                "--health",
                &format!("{LOOPBACK}:{health}"),
            ]
            .map(str::to_owned)
            .to_vec(),
            environment: vec![("KUBECONFIG", kubeconfig.display().to_string()), ("POD_NAME", name)],
        };
        let started = Instant::now();
        let mut served = Served::start(&part, &cluster.folder)?;
        served.until("it was ready", PATIENCE, || well(health, "/readyz"))?;
        let ready = started.elapsed();
        served.until("it led, with all guards in place", PATIENCE, || {
            let state = get(health, "/readyz");
            ["guards", "webhook-configuration"].iter().all(|part| state.contains(&format!("[+] {part}\n")))
        })?;
        Ok(Self { served, health, ready, in_charge: started.elapsed() })
    }

    /// Reviews that it has answered, and the seconds that this took.
    fn answered(&self) -> (f64, f64) {
        let metrics = get(self.health, "/metrics");
        let sum = |name: &str| samples(&metrics, name, "").into_values().sum();
        (sum("bedplate_admission_duration_seconds_count"), sum("bedplate_admission_duration_seconds_sum"))
    }
}

const LEASE: &str = "bench-operator-lease";
const EVENTS: &str = "bench-operator-events";
const WRITES: &str = "bench-operator-writes";
const READS: &str = "bench-operator-reads";
const OWN: [&str; 4] = [LEASE, EVENTS, WRITES, READS];

/// The API server counts requests by the schema that they fall under: so it tells the operator's from all others'. The
/// level is the one that a service account has without them.
fn flow_schemas(namespace: &str, account: &str) -> Vec<Value> {
    let writes = ["create", "update", "patch", "delete", "deletecollection"];
    let rules = [
        (LEASE, "coordination.k8s.io", &writes[..]),
        (EVENTS, "events.k8s.io", &writes[..]),
        (WRITES, "*", &writes[..]),
        (READS, "*", &["*"]),
    ];
    let schema = |(precedence, (name, group, verbs)): (usize, (&str, &str, &[&str]))| {
        json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": { "name": name },
            "spec": {
                "matchingPrecedence": 100 + precedence,
                "priorityLevelConfiguration": { "name": "workload-low" },
                "distinguisherMethod": { "type": "ByUser" },
                "rules": [{
                    "subjects": [{ "kind": "ServiceAccount", "serviceAccount": { "name": account, "namespace": namespace } }],
                    "resourceRules": [{ "apiGroups": [group], "resources": ["*"], "verbs": verbs, "clusterScope": true, "namespaces": ["*"] }],
                    "nonResourceRules": if verbs == ["*"] { json!([{ "nonResourceURLs": ["*"], "verbs": ["*"] }]) } else { json!([]) },
                }],
            },
        })
    };
    rules.into_iter().enumerate().map(schema).collect()
}

fn asked(cluster: &Cluster) -> Result<Asked> {
    Ok(samples(&metrics(cluster)?, "apiserver_flowcontrol_dispatched_requests_total", "flow_schema"))
}

fn since(mut now: Asked, before: &Asked) -> Asked {
    for (what, count) in &mut now {
        *count -= before.get(what).copied().unwrap_or_default();
    }
    now
}

/// Changes a guard as somebody who debugs does, and gives the time until it is as it was.
fn put_back(cluster: &Cluster) -> Result<Duration> {
    const GUARD: [&str; 2] = ["validatingadmissionpolicybinding", "scale.statefulsets.apps.bedplate.dev"];
    let actions = || {
        let path = "--output=jsonpath={.spec.validationActions}";
        run::output(cluster.kubectl()?.arg("get").args(GUARD).arg(path), &[0])
    };
    let was = actions()?;
    let patch = ["--type=merge", "--patch", r#"{"spec":{"validationActions":["Audit"]}}"#];
    run::output(cluster.kubectl()?.arg("patch").args(GUARD).args(patch), &[0])?;
    let started = Instant::now();
    while actions()? != was {
        if started.elapsed() > PATIENCE {
            return Err(format!("{} was not put back within {} s", GUARD.join(" "), PATIENCE.as_secs()));
        }
    }
    Ok(started.elapsed())
}

/// What happened in the burst.
struct Burst {
    /// From the first job to the last.
    took: Duration,
    made: usize,
    refused: usize,
    /// Over the ceiling and not refused, or the other way round.
    wrong: usize,
    failures: Vec<String>,
    before: Used,
    end: Used,
    peak: u64,
    /// Times that `/readyz` was asked, that it was not well, and the slowest answer.
    looks: usize,
    unwell: usize,
    slowest: Duration,
    put_back: Duration,
    /// Reviews and the seconds that they took.
    answered: (f64, f64),
    /// Times that the API server went on without an answer of a webhook.
    without: f64,
    /// Processor time of the API server, in seconds.
    server: f64,
    asked: Asked,
}

/// What the creators count.
#[derive(Debug, Default)]
struct Tally {
    next: AtomicUsize,
    made: AtomicUsize,
    refused: AtomicUsize,
    wrong: AtomicUsize,
    failures: std::sync::Mutex<Vec<String>>,
}

impl Burst {
    fn run(cluster: &Cluster, operator: &mut Operator, options: &Options) -> Result<Self> {
        let length = Duration::from_secs(options.seconds);
        let without = || -> Result<f64> {
            Ok(samples(&metrics(cluster)?, "apiserver_admission_webhook_fail_open_count", "").into_values().sum())
        };
        let (before, answered, failed, requests) =
            (operator.served.used()?, operator.answered(), without()?, asked(cluster)?);
        let server = Load::read(cluster)?.seconds;
        let (tally, over) = (Arc::new(Tally::default()), AtomicBool::new(false));
        let (mut looks, mut unwell, mut slowest, mut peak) = (0, 0, Duration::ZERO, 0);
        let started = Instant::now();
        let (took, put_back) = std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                let done = runtime().and_then(|runtime| runtime.block_on(create(cluster, options, length, &tally)));
                over.store(true, Ordering::SeqCst);
                done.map(|()| started.elapsed())
            });
            let drift = scope.spawn(|| {
                std::thread::sleep(length / 2);
                put_back(cluster)
            });
            while !over.load(Ordering::SeqCst) {
                let asked = Instant::now();
                unwell += usize::from(!well(operator.health, "/readyz"));
                slowest = slowest.max(asked.elapsed());
                looks += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            let ended = |_| "a thread of the burst ended".to_owned();
            (load.join().map_err(ended), drift.join().map_err(ended))
        });
        let end = operator.served.used()?;
        peak = peak.max(end.peak);
        let now = operator.answered();
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        let failures = std::mem::take(&mut *tally.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        Ok(Self {
            took: took??,
            made: count(&tally.made),
            refused: count(&tally.refused),
            wrong: count(&tally.wrong),
            failures,
            before,
            end,
            peak,
            looks,
            unwell,
            slowest,
            put_back: put_back??,
            answered: (now.0 - answered.0, now.1 - answered.1),
            without: without()? - failed,
            server: Load::read(cluster)?.seconds - server,
            asked: since(asked(cluster)?, &requests),
        })
    }

    fn page(&self, options: &Options, bare: f64, guarded: f64) -> String {
        let seconds = self.took.as_secs_f64();
        let (reviews, took) = self.answered;
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let count = |what: &str| format!("{:.0}", self.asked.get(what).copied().unwrap_or_default());
        let mut text = format!(
            "## A burst: up to {} jobs a second\n\nFor {seconds:.0} s, {CREATORS} creators make Jobs and delete each at once; one in {TOO_LARGE} is over the ceiling.\n\n| | |\n| --- | ---: |\n",
            options.rate
        );
        for (what, value) in [
            ("without guards: jobs made and deleted a second", format!("{bare:.0}")),
            ("with the guards of the API server alone", format!("{guarded:.0}")),
            ("with the operator, which is asked twice for each", format!("{:.0}", self.made as f64 / seconds)),
            ("jobs refused a second", format!("{:.0}", self.refused as f64 / seconds)),
            ("let through or refused wrongly", self.wrong.to_string()),
            ("requests that failed otherwise", self.failures.len().to_string()),
            ("reviews that the operator answered, by its metrics", format!("{reviews:.0}")),
            ("mean time of an answer, ms", format!("{:.3}", took / reviews.max(1.0) * 1e3)),
            ("requests that went on without an answer, by the API server's metrics", format!("{:.0}", self.without)),
            ("events that the operator wrote", count(EVENTS)),
            ("its other writes: the guard put back, the record of refusals", count(WRITES)),
            ("processor time of the operator, s", format!("{:.2}", self.end.seconds - self.before.seconds)),
            ("processor time of the API server, s", format!("{:.1}", self.server)),
            ("memory of the operator before, MB", format!("{:.1}", mb(self.before.memory))),
            ("peak, MB", format!("{:.1}", mb(self.peak))),
            ("`/readyz` asked, and not well", format!("{}, {}", self.looks, self.unwell)),
            ("slowest answer of `/readyz`, ms", format!("{:.0}", self.slowest.as_secs_f64() * 1e3)),
            (
                "until a guard changed by hand in its middle is put back, s",
                format!("{:.2}", self.put_back.as_secs_f64()),
            ),
        ] {
            let _ = writeln!(text, "| {what} | {value} |");
        }
        if let Some(failure) = self.failures.first() {
            let _ = writeln!(text, "| the first that failed | {} |", failure.replace(['\n', '|'], " "));
        }
        text
    }
}

/// Makes jobs and deletes them, at the rate as far as the API server takes them.
async fn create(cluster: &Cluster, options: &Options, length: Duration, tally: &Arc<Tally>) -> Result<()> {
    let client = Arc::new(connect(cluster).await?);
    let (begin, rate) = (tokio::time::Instant::now(), f64::from(options.rate));
    let mut creators = tokio::task::JoinSet::new();
    for _ in 0..CREATORS {
        let (client, tally) = (Arc::clone(&client), Arc::clone(tally));
        creators.spawn(async move {
            loop {
                let number = tally.next.fetch_add(1, Ordering::Relaxed);
                let due = Duration::from_secs_f64(number as f64 / rate);
                if due > length || begin.elapsed() > length {
                    return;
                }
                tokio::time::sleep_until(begin + due).await;
                if let Err(failure) = one(&client, number, &tally).await {
                    tally.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(failure);
                }
            }
        });
    }
    while let Some(ended) = creators.join_next().await {
        ended.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// One job: made, looked at, deleted.
async fn one(client: &bedplate_cluster::Cluster, number: usize, tally: &Tally) -> Result<()> {
    let too_large = number.is_multiple_of(TOO_LARGE);
    let mut template = template();
    template["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = json!(if too_large { "64" } else { "1" });
    let name = format!("burst-{number}");
    let mut job = job(&name, &template);
    job["spec"]["parallelism"] = json!(4);
    match client.create(&job, false).await {
        Ok(_) => {
            tally.made.fetch_add(1, Ordering::Relaxed);
            tally.wrong.fetch_add(usize::from(too_large), Ordering::Relaxed);
            // As kubectl does; what Jobs have without it leaves the deletion to another controller.
            let path = format!("/apis/batch/v1/namespaces/default/jobs/{name}?propagationPolicy=Background");
            let request = http::Request::delete(path).body(Vec::new()).map_err(|error| error.to_string())?;
            client.client().request_text(request).await.map(drop).map_err(|error| error.to_string())
        }
        Err(error) => {
            let text = error.to_string();
            if !text.contains("accelerators") {
                return Err(text);
            }
            tally.refused.fetch_add(1, Ordering::Relaxed);
            tally.wrong.fetch_add(usize::from(!too_large), Ordering::Relaxed);
            Ok(())
        }
    }
}
