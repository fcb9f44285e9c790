//! `cargo xtask bench`: ours beside its peers, on one machine, in one run. A timing is never a test.

mod admission;
mod apf;
mod audit;
mod checkpoint;
mod corpus;
mod dns;
mod flood;
mod measure;
mod operator;
mod scale;
mod served;
mod webhook;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, ExitCode};
use std::time::Duration;

use self::measure::{Run, measure};
use bedplate_devcluster::run::{self, Result};
use bedplate_devcluster::{AddOn, Cluster, Tier, tools};

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// `bedplate check` beside other checkers of manifests; writes benches/RESULTS-check.md
    Check(Options),
    /// A creation with and without the guards; writes benches/RESULTS-admission.md
    Admission(admission::Options),
    /// An audit of a large cluster; writes benches/RESULTS-audit.md
    Audit(audit::Options),
    /// The admission webhook beside an empty one and Kyverno; writes benches/RESULTS-webhook.md
    Webhook(webhook::Options),
    /// The operator beside a large cluster, quiet and in a burst; writes benches/RESULTS-operator.md
    Operator(operator::Options),
    /// The simulator of flow control: its speed, and its predictions beside an API server; writes benches/RESULTS-apf.md
    Apf(apf::Options),
    /// A search that floods the API server, beside an operator, with and without the lanes; writes benches/RESULTS-flood.md
    Flood(flood::Options),
    /// A loader that opens small objects by name, with and without autopath and a low ndots; writes benches/RESULTS-dns.md
    Dns(dns::Options),
    /// A state of torch tensors saved and restored, beside torch's ways and the device; writes benches/RESULTS-checkpoint.md
    Checkpoint(checkpoint::Options),
}

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Manifests to check
    #[arg(long, default_value_t = 10_000)]
    files: usize,
    /// Manifests in the largest corpus that shows how our time and memory grow; 0 leaves that out
    #[arg(long, default_value_t = 100_000)]
    scale: usize,
    /// Peers, of kube-score, kubeconform, kubectl-kyverno, trivy, checkov
    #[arg(long, value_delimiter = ',', default_value = "kube-score,kubeconform,kubectl-kyverno,trivy,checkov")]
    peers: Vec<String>,
    /// Measured runs of each program, each after one that warms up
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// A profile in which everything is as it is by default: in force.
const PROFILE: &str =
    r#"{"apiVersion":"bedplate.dev/v1alpha1","kind":"StabilityProfile","metadata":{"name":"default"},"spec":{}}"#;

/// A program to compare with.
struct Peer {
    name: &'static str,
    /// It gets this many of the files at most: it would take too long over all.
    most: usize,
    /// How it is run, for the table.
    note: &'static str,
    /// Its arguments, given the corpus.
    arguments: fn(&Path) -> Result<Vec<String>>,
    /// Exit codes that mean that it did its work.
    accepted: &'static [i32],
}

#[rustfmt::skip]
const PEERS: &[Peer] = &[
    Peer { name: "kube-score", most: usize::MAX, accepted: &[0, 1],
        note: "`score --output-format ci FILE…`; checks built-in kinds only",
        arguments: |corpus| with_files(&["score", "--output-format", "ci"], corpus) },
    Peer { name: "kubeconform", most: usize::MAX, accepted: &[0, 1],
        note: "`-ignore-missing-schemas`, without schemas: it parses, and validates nothing. A floor",
        arguments: |corpus| with_folder(&["-ignore-missing-schemas", "-schema-location", "/nonexistent/{{.ResourceKind}}.json",
            "-output", "json", "-n", "2"], corpus) },
    Peer { name: "kubectl-kyverno", most: usize::MAX, accepted: &[0, 1],
        note: "`apply benches/peers/kyverno --resource FILE…`: 4 policies like ours, on pods and what makes pods",
        arguments: with_policies },
    Peer { name: "trivy", most: 500, accepted: &[0],
        note: "`config --skip-check-update --misconfig-scanners kubernetes --format json DIR`, embedded checks",
        arguments: |corpus| with_folder(&["config", "--quiet", "--skip-check-update", "--skip-version-check", "--misconfig-scanners", "kubernetes",
            "--format", "json"], corpus) },
    Peer { name: "checkov", most: 200, accepted: &[0, 1],
        note: "`--framework kubernetes --compact --output json -d DIR`; several processes, memory of the largest",
        arguments: |corpus| with_folder(&["--framework", "kubernetes", "--compact", "--output", "json", "--skip-download",
            "-d"], corpus) },
];

fn with_folder(arguments: &[&str], corpus: &Path) -> Result<Vec<String>> {
    let arguments = arguments.iter().map(ToString::to_string);
    Ok(arguments.chain([corpus.display().to_string()]).collect())
}

/// Names are relative to the corpus, where the program is run: a system's limit on arguments is near.
fn with_files(arguments: &[&str], corpus: &Path) -> Result<Vec<String>> {
    let arguments = arguments.iter().map(ToString::to_string);
    let files = run::files_below(corpus)?;
    Ok(arguments.chain(files.iter().map(|file| file.display().to_string())).collect())
}

/// Kyverno reads the first of several folders only, and none below it: each file is named.
fn with_policies(corpus: &Path) -> Result<Vec<String>> {
    let policies = run::root().join("benches/peers/kyverno").display().to_string();
    let mut arguments = vec!["apply".to_owned(), policies];
    for file in run::files_below(corpus)? {
        arguments.extend(["--resource".to_owned(), file.display().to_string()]);
    }
    Ok(arguments)
}

/// One line of the comparison.
struct Entry {
    name: String,
    note: &'static str,
    files: usize,
    corpus: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    accepted: &'static [i32],
    runs: Vec<Run>,
    failure: Option<String>,
}

impl Entry {
    fn measure(&mut self, keep: bool) {
        if self.failure.is_some() {
            return;
        }
        let mut command = Program::new(&self.program);
        command.args(&self.arguments).current_dir(&self.corpus);
        match measure(&mut command, self.accepted) {
            Ok(run) if keep => self.runs.push(run),
            Ok(_) => {}
            Err(error) => self.failure = Some(error),
        }
    }

    fn wall(&self) -> Duration {
        let mut walls: Vec<_> = self.runs.iter().map(|run| run.wall).collect();
        walls.sort();
        walls.get(walls.len() / 2).copied().unwrap_or_default()
    }

    fn range(&self) -> (f64, f64) {
        let walls = || self.runs.iter().map(|run| run.wall.as_secs_f64());
        (walls().fold(f64::INFINITY, f64::min), walls().fold(0.0, f64::max))
    }

    fn peak_mb(&self) -> f64 {
        self.runs.iter().map(|run| run.peak).max().unwrap_or(0) as f64 / 1e6
    }

    fn ms_a_file(&self) -> f64 {
        self.wall().as_secs_f64() * 1e3 / self.files as f64
    }
}

pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    let options = match command {
        Command::Check(options) => options,
        Command::Admission(options) => return admission::run(options),
        Command::Audit(options) => return audit::run(options),
        Command::Webhook(options) => return webhook::run(options),
        Command::Operator(options) => return operator::run(options),
        Command::Apf(options) => return apf::run(options),
        Command::Flood(options) => return flood::run(options),
        Command::Dns(options) => return dns::run(options),
        Command::Checkpoint(options) => return checkpoint::run(options),
    };
    eprintln!("xtask: building bedplate, optimised: about 2 min");
    let bedplate = run::bedplate(true)?;
    let ours = |files: usize| -> Result<Entry> {
        let corpus = corpus::make(files)?;
        Ok(Entry {
            name: run::output(Program::new(&bedplate).arg("--version"), &[0])?.trim().to_owned(),
            note: "`check --format json DIR`; all default rules",
            files,
            arguments: ["check", "--format", "json", "."].map(str::to_owned).to_vec(),
            corpus,
            program: bedplate.clone(),
            accepted: &[0, 1],
            runs: Vec::new(),
            failure: None,
        })
    };

    let mut entries = vec![ours(options.files)?];
    for name in &options.peers {
        let peer = PEERS.iter().find(|peer| peer.name == name).ok_or_else(|| format!("no peer is called `{name}`"))?;
        let tool = tools::get(name)?;
        let files = options.files.min(peer.most);
        let corpus = corpus::make(files)?;
        let program = tool.program();
        entries.push(Entry {
            name: format!("{name} {}", tool.version),
            note: peer.note,
            files,
            arguments: (peer.arguments)(&corpus)?,
            corpus,
            program: program.clone().unwrap_or_default(),
            accepted: peer.accepted,
            runs: Vec::new(),
            // A peer that cannot be built here is a line of the table, not the end of the others.
            failure: program.err(),
        });
    }
    // One after another, round by round: a slower minute of the machine hits all alike. What counts follows a run of
    // the same program: the one before it leaves nothing of ours in the processor's caches.
    for round in 1..=options.runs {
        eprintln!("xtask: round {round}");
        for entry in &mut entries {
            entry.measure(false);
            entry.measure(true);
        }
    }

    let mut growth = Vec::new();
    if options.scale > 0 {
        for files in [options.scale / 100, options.scale / 10, options.scale] {
            let mut entry = ours(files)?;
            eprintln!("xtask: {files} files");
            for round in 0..=options.runs {
                entry.measure(round > 0);
            }
            growth.push(entry);
        }
    }

    publish("check", &table(&entries, &growth)?)?;
    match entries.iter().chain(&growth).find_map(|entry| entry.failure.as_ref()) {
        Some(error) => Err(error.clone()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Writes what was measured to `benches/RESULTS-NAME.md`, and shows it.
fn publish(name: &str, text: &str) -> Result<ExitCode> {
    let place = run::root().join(format!("benches/RESULTS-{name}.md"));
    fs::write(&place, text).map_err(run::file("write", &place))?;
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Does something with a cluster of its own, which it takes down again.
fn on_cluster<T>(tier: Tier, with: &[AddOn], work: impl FnOnce(&Cluster) -> Result<T>) -> Result<T> {
    let (cluster, _) = Cluster::up("bench", tier, with)?;
    let done = work(&cluster);
    cluster.down()?;
    done
}

fn table(entries: &[Entry], growth: &[Entry]) -> Result<String> {
    let mut text = String::from("# `bedplate check` beside its peers\n\n");
    let ours = entries.first().ok_or("nothing was measured")?;
    let (bytes, lines) = corpus::size(&ours.corpus)?;
    let _ = writeln!(
        text,
        "Written by `cargo xtask bench check`; {}. The corpus: {} manifests made from `examples/`, {} lines, {:.1} MB; \
         one file in ten has several documents and at least 200 lines. A program that would take too long gets the first files \
         only, and is compared by its time a file, its start included. Median of {} runs, the programs by turns, each run \
         right after one of the same program that does not count, output thrown away. Memory is the peak resident set of the largest process. Rules differ: no peer checks the same.\n",
        machine(),
        ours.files,
        lines,
        bytes as f64 / 1e6,
        ours.runs.len(),
    );
    text.push_str("| program | files | wall (min to max), s | ms a file | times ours | peak, MB | how |\n");
    text.push_str("| --- | ---: | ---: | ---: | ---: | ---: | --- |\n");
    for entry in entries {
        let (name, files, note) = (&entry.name, entry.files, entry.note);
        if let Some(failure) = &entry.failure {
            let _ = writeln!(text, "| {name} | {files} | failed: {} | | | | {note} |", failure.replace('|', "/"));
            continue;
        }
        let (low, high) = entry.range();
        let _ = writeln!(
            text,
            "| {name} | {files} | {:.3} ({low:.3} to {high:.3}) | {:.4} | {:.1} | {:.0} | {note} |",
            entry.wall().as_secs_f64(),
            entry.ms_a_file(),
            entry.ms_a_file() / ours.ms_a_file(),
            entry.peak_mb(),
        );
    }
    if !growth.is_empty() {
        text.push_str("\n## Growth\n\n| files | wall, s | ms a file | peak, MB |\n| ---: | ---: | ---: | ---: |\n");
        for entry in growth {
            let wall = entry.wall().as_secs_f64();
            let _ =
                writeln!(text, "| {} | {wall:.3} | {:.4} | {:.0} |", entry.files, entry.ms_a_file(), entry.peak_mb());
        }
    }
    Ok(text)
}

/// The machine, in a few words.
fn machine() -> String {
    let line = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let value =
            text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':').map(|(_, v)| v.trim().to_owned()));
        value.unwrap_or_else(|| "unknown".to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let commit =
        run::output(Program::new("git").args(["describe", "--always", "--dirty"]).current_dir(run::root()), &[0]);
    format!(
        "commit {}, {cores} cores of {}, {} memory, Linux {}",
        commit.as_deref().map_or("unknown", str::trim),
        line("/proc/cpuinfo", "model name"),
        line("/proc/meminfo", "MemTotal"),
        kernel.trim()
    )
}
