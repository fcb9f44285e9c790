//! `cargo xtask bench webhook`: the admission webhook beside an empty one and beside Kyverno's, under the same load.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use bedplate_devcluster::certificates::{Authority, write};
use bedplate_devcluster::cluster::{LOOPBACK, free_ports};
use bedplate_devcluster::definitions::{modules, objects};
use bedplate_devcluster::process::Part;
use bedplate_devcluster::run::{self, Result};
use bedplate_devcluster::{AddOn, Cluster, Tier, tools};
use serde_json::{Map, Value, json};

use super::measure::{Used, forget_peak, median};
use super::served::Served;

/// What the webhook may add to the 99th percentile of an empty one, in ms.
const GOAL_MS: f64 = 1.0;
/// What it may have of memory, in MB.
const GOAL_MB: f64 = 30.0;
/// How long a server may take to answer as it should.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Clients at the same time, by turns
    #[arg(long, value_delimiter = ',', default_value = "50,500")]
    clients: Vec<usize>,
    /// Requests a second of all clients together, where they ask at a rate
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds; what is told is the median
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Leave Kyverno out
    #[arg(long)]
    without_kyverno: bool,
}

/// How is asked.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Cell {
    clients: usize,
    /// A new connection for each request.
    new_connections: bool,
    /// At the rate, or as fast as the server answers.
    paced: bool,
}

/// What `webhook-load` tells.
#[derive(Debug, serde::Deserialize)]
struct Outcome {
    /// With those that do not count.
    answers: usize,
    per_second: f64,
    p50: f64,
    p99: f64,
    failures: usize,
    failure: Option<String>,
}

/// One measurement.
#[derive(Debug)]
struct Measured {
    cell: Cell,
    outcome: Outcome,
    /// Processor time of the server for a request, in µs.
    micros: f64,
    /// Peak resident memory of the server, in bytes.
    peak: u64,
}

/// A webhook that is measured.
struct Webhook {
    name: String,
    note: &'static str,
    served: Served,
    to: String,
    path: &'static str,
    authority: PathBuf,
    /// It allows everything.
    any_answer: bool,
    /// Resident memory after its first answers, in bytes.
    at_rest: u64,
    measured: Vec<Measured>,
}

/// Where things are.
struct Place {
    folder: PathBuf,
    reviews: PathBuf,
    load: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    eprintln!("xtask: building bedplate, optimised: about 2 min");
    let bedplate = run::bedplate(true)?;
    run::succeed(&mut run::cargo(&["build", "--quiet", "--release", "--package", "bedplate-webhook-bench"]))?;
    let folder = run::target().join("bench/webhook");
    fs::create_dir_all(&folder).map_err(run::file("create", &folder))?;
    let load = run::target().join("release/webhook-load");
    let place = Place { reviews: folder.join("reviews.jsonl"), load, folder };
    let authority = Authority::new()?;
    write(&place.folder.join("ca.crt"), &authority.certificate)?;
    authority.write(&place.folder, "webhook", "webhook", &[], &[LOOPBACK])?;
    let reviews = reviews()?;
    write(&place.reviews, &reviews.iter().map(|review| format!("{review}\n")).collect::<String>())?;

    let text = if options.without_kyverno {
        compare(&place, &bedplate, None, options)
    } else {
        super::on_cluster(Tier::Api, &[AddOn::Crds], |cluster| compare(&place, &bedplate, Some(cluster), options))
    };
    super::publish("webhook", &text?)
}

/// Measures all, by turns, and writes the page.
fn compare(place: &Place, bedplate: &Path, cluster: Option<&Cluster>, options: &Options) -> Result<String> {
    let mut webhooks = vec![empty(place)?, ours(place, bedplate)?];
    let mut absent = String::new();
    if let Some(cluster) = cluster {
        // A peer that does not start here is a line of the page, not the end of the others.
        match kyverno(place, cluster) {
            Ok(webhook) => webhooks.push(webhook),
            Err(error) => absent = format!("\nKyverno is missing: it does not run here.\n\n```text\n{error}\n```\n"),
        }
    }
    for webhook in &mut webhooks {
        webhook.at_rest = webhook.served.used()?.memory;
    }
    // The larger come later: so the peaks of the first round tell them apart.
    let mut cells = Vec::new();
    for clients in options.clients.iter().copied() {
        for paced in [true, false] {
            cells.extend([false, true].map(|new_connections| Cell { clients, new_connections, paced }));
        }
    }
    for round in 0..options.rounds {
        eprintln!("xtask: round {}", round + 1);
        for cell in &cells {
            // Each is the first in its turn: what the machine does meanwhile falls on all.
            for turn in 0..webhooks.len() {
                let at = (turn + round) % webhooks.len();
                webhooks[at].measure(place, *cell, options)?;
            }
        }
    }
    Ok(page(&webhooks, &cells, options)? + &absent)
}

impl Webhook {
    /// Waits until it answers every review as it should.
    fn settle(mut self, place: &Place) -> Result<Self> {
        let mut command = self.load(place, Cell { clients: 1, new_connections: false, paced: false });
        command.args(["--warm-up", "0", "--seconds", "0.2"]);
        let last = std::cell::RefCell::new(String::new());
        let right = || match outcome(&mut command) {
            Ok(outcome) if outcome.answers > 20 && outcome.failures == 0 => true,
            Ok(outcome) => {
                *last.borrow_mut() = outcome.failure.unwrap_or_default();
                false
            }
            Err(error) => {
                *last.borrow_mut() = error;
                false
            }
        };
        let settled = self.served.until("it answered as it should", PATIENCE, right);
        settled.map_err(|error| format!("{error}\n{}", last.borrow()))?;
        Ok(self)
    }

    fn load(&self, place: &Place, cell: Cell) -> Command {
        let mut command = Command::new(&place.load);
        command.args(["--to", &self.to, "--path", self.path, "--clients", &cell.clients.to_string()]);
        command.arg("--authority").arg(&self.authority).arg("--reviews").arg(&place.reviews);
        for (wanted, flag) in [(self.any_answer, "--any-answer"), (cell.new_connections, "--new-connections")] {
            if wanted {
                command.arg(flag);
            }
        }
        command
    }

    fn measure(&mut self, place: &Place, cell: Cell, options: &Options) -> Result<()> {
        let mut command = self.load(place, cell);
        // Connections that are kept are made before it counts.
        let warm_up = if cell.new_connections { "0.5" } else { "1" };
        command.args(["--seconds", &options.seconds.to_string(), "--warm-up", warm_up]);
        if cell.paced {
            command.args(["--rate", &options.rate.to_string()]);
        }
        forget_peak(self.served.pid())?;
        let before = self.served.used()?;
        let outcome = outcome(&mut command)?;
        let Used { seconds, peak, .. } = self.served.used()?;
        let micros = (seconds - before.seconds) / outcome.answers.max(1) as f64 * 1e6;
        self.measured.push(Measured { cell, outcome, micros, peak });
        Ok(())
    }

    fn median(&self, cell: Cell, value: impl Fn(&Measured) -> f64) -> f64 {
        median(self.measured.iter().filter(|measured| measured.cell == cell).map(value))
    }

    fn failures(&self, cell: Cell) -> usize {
        let measured = self.measured.iter().filter(|measured| measured.cell == cell);
        measured.map(|measured| measured.outcome.failures).sum()
    }

    /// The largest peak of these cells in the first round, in MB.
    fn peak_mb(&self, cells: impl Fn(Cell) -> bool) -> f64 {
        let mut seen = Vec::new();
        let first = self.measured.iter().filter(|measured| {
            let first = !seen.contains(&measured.cell);
            seen.push(measured.cell);
            first && cells(measured.cell)
        });
        first.map(|measured| measured.peak).max().unwrap_or(0) as f64 / 1e6
    }
}

fn outcome(command: &mut Command) -> Result<Outcome> {
    let text = run::output(command, &[0])?;
    serde_json::from_str(&text).map_err(|error| format!("webhook-load: {error}: {text}"))
}

fn empty(place: &Place) -> Result<Webhook> {
    let [port] = free_ports()?;
    let to = format!("{LOOPBACK}:{port}");
    let arguments = vec!["--listen".to_owned(), to.clone()];
    own(place, "empty-webhook", place.load.with_file_name("empty-webhook"), arguments, to).and_then(|served| {
        Webhook {
            name: "empty".to_owned(),
            note: "`empty-webhook`: axum and rustls, reads the uid and allows",
            any_answer: true,
            ..served
        }
        .settle(place)
    })
}

fn ours(place: &Place, bedplate: &Path) -> Result<Webhook> {
    let [port, health] = free_ports()?;
    let profile = place.folder.join("bedplate.yaml");
    write(&profile, super::PROFILE)?;
    let to = format!("{LOOPBACK}:{port}");
    let arguments = ["serve", "--listen", &to, "--health", &format!("{LOOPBACK}:{health}"), "--profile"];
    let arguments = arguments.into_iter().map(str::to_owned).chain([profile.display().to_string()]).collect();
    let name = run::output(Command::new(bedplate).arg("--version"), &[0])?.trim().to_owned();
    own(place, "bedplate", bedplate.to_owned(), arguments, to).and_then(|served| {
        Webhook { name, note: "`bedplate serve --profile`: every rule of admission, a line of log each", ..served }
            .settle(place)
    })
}

/// A webhook with a certificate of ours.
fn own(place: &Place, name: &'static str, program: PathBuf, mut arguments: Vec<String>, to: String) -> Result<Webhook> {
    let at = |file: &str| place.folder.join(file);
    for (flag, file) in [("--tls-cert", "webhook.crt"), ("--tls-key", "webhook.key")] {
        arguments.extend([flag.to_owned(), at(file).display().to_string()]);
    }
    let part = Part { name, program, called: None, inside: None, arguments, environment: Vec::new() };
    Ok(Webhook {
        name: name.to_owned(),
        note: "",
        served: Served::start(&part, &place.folder)?,
        to,
        path: "/validate",
        authority: at("ca.crt"),
        any_answer: false,
        at_rest: 0,
        measured: Vec::new(),
    })
}

/// Kyverno's admission controller as a process beside its cluster. It gets it easy: no reports, no events, and keys that
/// are as quick as ours.
fn kyverno(place: &Place, cluster: &Cluster) -> Result<Webhook> {
    let tool = tools::get("kyverno")?;
    let program = tool.program()?;
    let module = modules(&["github.com/kyverno/kyverno"])?.remove(0);
    let kubectl = |arguments: &[&str]| run::output(cluster.kubectl()?.args(arguments), &[0]);
    let definitions = module.join("config/crds").display().to_string();
    kubectl(&["apply", "--server-side", "--recursive", "--filename", &definitions])?;
    let config = |name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "kyverno" } });
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kyverno" } });
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [namespace, config("kyverno"), config("kyverno-metrics")] });
    cluster.apply(&objects.to_string())?;
    let [port] = free_ports()?;
    let to = format!("{LOOPBACK}:{port}");
    let part = Part {
        name: "kyverno",
        program,
        called: None,
        inside: None,
        arguments: vec![
            format!("--kubeconfig={}", cluster.kubeconfig().display()),
            // Outside of the cluster: the API server calls it here.
            format!("--serverIP={to}"),
            format!("--webhookServerHost={LOOPBACK}"),
            format!("--webhookServerPort={port}"),
            "--caSecretName=ca".to_owned(),
            "--tlsSecretName=pair".to_owned(),
            "--tlsKeyAlgorithm=ECDSA".to_owned(),
            "--disableMetrics=true".to_owned(),
            "--controllerRuntimeMetricsAddress=0".to_owned(),
            "--admissionReports=false".to_owned(),
            "--omitEvents=PolicyViolation,PolicyApplied,PolicyError,PolicySkipped".to_owned(),
        ],
        // All have to be set (`cmd/internal/check.go`).
        environment: [
            ("KYVERNO_NAMESPACE", "kyverno"),
            ("KYVERNO_SERVICEACCOUNT_NAME", "kyverno"),
            ("KYVERNO_DEPLOYMENT", "kyverno"),
            ("KYVERNO_POD_NAME", "kyverno"),
            ("KYVERNO_SVC", "kyverno-svc"),
            ("INIT_CONFIG", "kyverno"),
            ("METRICS_CONFIG", "kyverno-metrics"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec(),
    };
    let mut served = Served::start(&part, &place.folder)?;
    let policies = run::root().join("benches/peers/kyverno-admission").display().to_string();
    // Its own webhooks judge policies as soon as they are there, and refuse while it does not answer.
    let configured = ["get", "validatingwebhookconfiguration", "kyverno-policy-validating-webhook-cfg"];
    served.until("it had its webhooks", PATIENCE, || kubectl(&configured).is_ok())?;
    let apply = ["apply", "--server-side", "--filename", &policies];
    served.until("it took its policies", PATIENCE, || kubectl(&apply).is_ok())?;
    kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "--all", "clusterpolicies.kyverno.io"])?;
    let secret: Value = serde_json::from_str(&kubectl(&["get", "secret", "ca", "-n", "kyverno", "--output=json"])?)
        .map_err(|error| error.to_string())?;
    let authority = place.folder.join("kyverno-ca.crt");
    let encoded = secret["data"]["tls.crt"].clone();
    let bytes: k8s_openapi::ByteString = serde_json::from_value(encoded).map_err(|error| error.to_string())?;
    write(&authority, &String::from_utf8_lossy(&bytes.0))?;
    Webhook {
        name: format!("Kyverno {}", tool.version),
        note: "its admission controller as a process, `benches/peers/kyverno-admission`: 2 of our rules on 2 kinds; no reports, no events, ECDSA keys",
        served,
        to,
        // What fails closed.
        path: "/validate/fail",
        authority,
        any_answer: false,
        at_rest: 0,
        measured: Vec::new(),
    }
    .settle(place)
}

/// What is posted, with the answer that it has to get: jobs with a GPU a worker, of which one in four is too large or
/// runs an image of a stranger.
fn reviews() -> Result<Vec<Value>> {
    let example = |file: &str| {
        let path = run::root().join("examples/kinds").join(file);
        let text = fs::read_to_string(&path).map_err(run::file("read", &path))?;
        objects(&text)?.into_iter().next().ok_or_else(|| format!("{} is empty", path.display()))
    };
    let (pytorch, tensorflow) = (example("pytorchjob.yaml")?, example("tfjob.yaml")?);
    let mut large = tensorflow.clone();
    large["spec"]["tfReplicaSpecs"]["Worker"]["replicas"] = json!(64);
    let mut strange = pytorch.clone();
    for role in ["Master", "Worker"] {
        strange["spec"]["pytorchReplicaSpecs"][role]["template"]["spec"]["containers"][0]["image"] =
            json!("registry.stranger.example/miner:1.0");
    }
    let all = [
        (&pytorch, true),
        (&tensorflow, true),
        (&pytorch, true),
        (&large, false),
        (&tensorflow, true),
        (&pytorch, true),
        (&tensorflow, true),
        (&strange, false),
    ];
    Ok(all.into_iter().enumerate().map(|(number, (job, allowed))| review(number, job, allowed)).collect())
}

/// As an API server asks about a creation with `kubectl create`.
fn review(number: usize, job: &Value, allowed: bool) -> Value {
    let uid = format!("0b7e5c1a-6a1f-4c3e-9d61-{number:012}");
    let text = |path: &Value| path.as_str().unwrap_or_default().to_owned();
    let (kind, namespace) = (text(&job["kind"]), text(&job["metadata"]["namespace"]));
    let name = format!("{}-{number}", text(&job["metadata"]["name"]));
    let mut object = job.clone();
    object["metadata"]["name"] = json!(name);
    object["metadata"]["uid"] = json!(uid);
    object["metadata"]["generation"] = json!(1);
    object["metadata"]["creationTimestamp"] = json!("2026-11-24T08:00:00Z");
    object["metadata"]["managedFields"] = json!([{
        "apiVersion": job["apiVersion"], "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": fields(&job["spec"]) },
        "manager": "kubectl-create", "operation": "Update", "time": "2026-11-24T08:00:00Z",
    }]);
    let group_version_kind = json!({ "group": "kubeflow.org", "version": "v1", "kind": kind });
    let resource = format!("{}s", kind.to_lowercase());
    let resource = json!({ "group": "kubeflow.org", "version": "v1", "resource": resource });
    json!({ "allowed": allowed, "review": {
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": uid, "kind": group_version_kind, "resource": resource, "requestKind": group_version_kind,
            "requestResource": resource, "name": name, "namespace": namespace, "operation": "CREATE",
            "userInfo": { "username": "researcher@example.com", "groups": ["ml-team", "system:authenticated"] },
            "object": object, "oldObject": null, "dryRun": false,
            "options": { "apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions", "fieldManager": "kubectl-create" },
        },
    } })
}

/// The fields of a value as FieldsV1 names them; a list is one.
fn fields(value: &Value) -> Value {
    let object = value.as_object().into_iter().flatten();
    Value::Object(object.map(|(key, value)| (format!("f:{key}"), fields(value))).collect::<Map<_, _>>())
}

fn page(webhooks: &[Webhook], cells: &[Cell], options: &Options) -> Result<String> {
    let [empty, ours, ..] = webhooks else { return Err("nothing was measured".to_owned()) };
    let mut text = format!(
        "# The admission webhook beside its peers\n\nWritten by `cargo xtask bench webhook`; {}. AdmissionReviews of a PyTorchJob and a TFJob with one GPU a \
         worker, as an API server sends them on creation; one in four has to be refused, for its size or its registry, and every answer is looked at (but the empty \
         webhook's). HTTP/1.1 over TLS 1.3, ECDSA keys, no session is resumed, as API servers ask; on 127.0.0.1. The load has one thread and shares the cores with the \
         server, and Kyverno's API server, etcd and controllers are there all the time: what they cost falls on all. Median of {} rounds of {} s each, the programs by turns. Times in ms as the \
         client sees them, the handshake included where the connection is new; a client that was kept waiting counts its next request from when that was due.\n\n",
        super::machine(),
        options.rounds,
        options.seconds,
    );
    text.push_str("| program | at rest, MB | peak, MB | what |\n| --- | ---: | ---: | --- |\n");
    for webhook in webhooks {
        let (name, note, at_rest) = (&webhook.name, webhook.note, webhook.at_rest as f64 / 1e6);
        let _ = writeln!(text, "| {name} | {at_rest:.1} | {:.1} | {note} |", webhook.peak_mb(|_| true));
    }
    for paced in [true, false] {
        let title = if paced {
            format!("{} requests a second", options.rate)
        } else {
            "As fast as it answers: each client asks again at once".to_owned()
        };
        let _ = writeln!(
            text,
            "\n## {title}\n\n| clients | connections | program | p50 | p99 | p99 less the empty one's | requests a second | processor time of a request, µs | peak in the first round, MB | failed |\n\
             | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        );
        for cell in cells.iter().filter(|cell| cell.paced == paced) {
            for webhook in webhooks {
                let of = |value: fn(&Measured) -> f64| webhook.median(*cell, value);
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {:.2} | {:.2} | {:+.2} | {:.0} | {:.0} | {:.1} | {} |",
                    cell.clients,
                    if cell.new_connections { "new" } else { "kept" },
                    webhook.name,
                    of(|measured| measured.outcome.p50),
                    of(|measured| measured.outcome.p99),
                    of(|measured| measured.outcome.p99) - empty.median(*cell, |measured| measured.outcome.p99),
                    of(|measured| measured.outcome.per_second),
                    of(|measured| measured.micros),
                    webhook.peak_mb(|one| one == *cell),
                    webhook.failures(*cell),
                );
            }
        }
    }
    let over = cells.iter().filter(|cell| cell.paced).map(|cell| {
        let p99 = |webhook: &Webhook| webhook.median(*cell, |measured| measured.outcome.p99);
        p99(ours) - p99(empty)
    });
    let over = over.fold(f64::NEG_INFINITY, f64::max);
    let met = |yes: bool| if yes { "met" } else { "missed" };
    let _ = write!(
        text,
        "\n## Goals\n\n- p99 within {GOAL_MS} ms of the empty one, at {} requests a second: at most {over:+.2} ms; {}.\n",
        options.rate,
        met(over <= GOAL_MS),
    );
    for clients in &options.clients {
        let [ours, empty] = [ours, empty].map(|webhook| webhook.peak_mb(|cell| cell.clients == *clients));
        let _ = writeln!(
            text,
            "- Less than {GOAL_MB} MB with {clients} clients: {ours:.1} MB (the empty one: {empty:.1}); {}.",
            met(ours < GOAL_MB)
        );
    }
    for webhook in webhooks {
        if let Some(failure) = webhook.measured.iter().find_map(|measured| measured.outcome.failure.as_ref()) {
            let _ = write!(text, "\nThe first failure of {}: `{failure}`\n", webhook.name);
        }
    }
    Ok(text)
}
