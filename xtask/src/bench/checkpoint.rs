//! `cargo xtask bench checkpoint`: a state of torch tensors saved and restored, ours beside its peers and the device.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use bedplate_devcluster::python;
use bedplate_devcluster::run::{self, Result};
use serde::Deserialize;

use super::machine;
use super::measure::median;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Sizes of the state in GiB
    #[arg(long, value_delimiter = ',', default_value = "1,4", value_parser = clap::value_parser!(u32).range(1..=16))]
    gib: Vec<u32>,
    /// Rounds with 1 GiB, and less with more; in each every way is run once, in a process of its own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=15))]
    rounds: u32,
}

/// Ways of `benches/checkpoint/measure.py`, and how they are run, for the table.
const WAYS: &[(&str, &str)] = &[
    (OURS, "`Guard.step`; checksums, a manifest, all synced"),
    ("torch.save", "rename, no fsync: **not durable**"),
    ("torch.save+fsync", "fsync, rename, fsync of the folder"),
    (DCP, "`torch.distributed.checkpoint.save`, one rank, gloo"),
    ("dcp-async", "`async_save`; its default stager"),
    (
        "orbax",
        "`StandardCheckpointer`, JAX arrays, `wait_until_finished`; fsync of the arrays, none of `_METADATA` and behind the last rename: **not quite durable**",
    ),
    ("safetensors", "`save_file`, fsync, rename, fsync of the folder"),
    ("np.save", "each tensor into one file, fsync, rename, fsync of the folder"),
    (RAW, "O_DIRECT, 8 MiB a piece, 4 threads, fallocate, fsync: no tensors, no checksums"),
    (COPIED, "the copy, then the same; restore: into new memory, then the copy: what applies all or nothing takes"),
    (COPY, "into memory that is there, by torch's threads"),
];

const OURS: &str = "bedplate";
const DCP: &str = "dcp";
const RAW: &str = "raw";
const COPIED: &str = "raw+copy";
const COPY: &str = "memcpy";

/// One way in one round: seconds of each save and restore, and bytes.
#[derive(Deserialize)]
struct Round {
    bytes: f64,
    paused: Vec<f64>,
    durable: Vec<f64>,
    peak: f64,
    cold: Vec<f64>,
    warm: Vec<f64>,
}

struct Measured {
    way: &'static str,
    how: &'static str,
    rounds: Vec<Round>,
    failure: Option<String>,
}

impl Measured {
    /// The median of all that were measured in all rounds.
    fn of(&self, values: fn(&Round) -> &[f64]) -> f64 {
        median(self.rounds.iter().flat_map(values).copied())
    }
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let (bin, site) = python::installed(true)?;
    let sizes: Vec<_> =
        options.gib.iter().map(|gib| (*gib, of_size(&bin, &site, *gib, (options.rounds / gib).max(1)))).collect();
    let versions = run::output(
        Command::new(bin.join("python"))
            .args(["-c", "from importlib.metadata import version; print(', '.join(f'{name} {version(name)}' for name in ('torch', 'safetensors', 'numpy', 'orbax-checkpoint', 'jax')))"]),
        &[0],
    )?;
    let mut text = introduction(versions.trim());
    for (gib, all) in &sizes {
        text += &table(*gib, all);
    }
    let mut failures = sizes.iter().flat_map(|(_, all)| all).filter_map(|one| Some((one.way, one.failure.as_ref()?)));
    super::publish("checkpoint", &text)?;
    failures.next().map_or(Ok(ExitCode::SUCCESS), |(way, error)| Err(format!("{way}: {error}")))
}

fn of_size(bin: &Path, site: &Path, gib: u32, rounds: u32) -> Vec<Measured> {
    let folder = run::target().join("bench-checkpoint");
    let mut all: Vec<_> =
        WAYS.iter().map(|&(way, how)| Measured { way, how, rounds: Vec::new(), failure: None }).collect();
    // By turns: a slower minute of the machine, or of its device, hits all alike.
    for round in 1..=rounds {
        for one in all.iter_mut().filter(|one| one.failure.is_none()) {
            eprintln!("xtask: {gib} GiB, round {round} of {rounds}: {}", one.way);
            match measure(bin, site, &folder, one.way, gib) {
                Ok(round) => one.rounds.push(round),
                // A peer that cannot be run here is a line of the table, not the end of the others.
                Err(error) => one.failure = Some(error),
            }
        }
    }
    all
}

fn measure(bin: &Path, site: &Path, folder: &Path, way: &str, gib: u32) -> Result<Round> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(run::file("remove", folder))?;
    }
    fs::create_dir_all(folder).map_err(run::file("create", folder))?;
    let script = run::root().join("benches/checkpoint/measure.py");
    let mut python = Command::new(bin.join("python"));
    python.arg(script).arg(way).arg(folder.join("run")).arg(gib.to_string());
    let said = run::output(python.env("PYTHONPATH", site).env("PYTHONWARNINGS", "ignore"), &[0]);
    fs::remove_dir_all(folder).map_err(run::file("remove", folder))?;
    let said = said?;
    let line = said.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| format!("{way} said {line:?}: {error}"))
}

fn introduction(versions: &str) -> String {
    let one = "float32 matrices of 16 MiB and vectors of 8 KiB, on the CPU";
    format!(
        "# Checkpoints: a state saved and restored\n\nWritten by `cargo xtask bench checkpoint`; {}; {versions}. The state: {one}. \
         A way is run in a process of its own, with a first save that does not count and four that do, each after all of the state has changed, and two restores of each kind. \
         Pause: until the training loop may go on. Durable: until a loss of power costs nothing of it. Memory: the peak above the state itself, with all that a way keeps. \
         Restore: into the tensors that are there, with nothing of the files in the page cache (cold) and all (warm; O_DIRECT, ours and the device's, goes to the device all the same). \
         Memory is touched right before each phase: what a host has not given to a virtual machine, or took back some seconds after it was freed, costs whoever comes to it first several times the copy. \
         The ways by turns, the median of all saves and restores of a way: single ones take twice the time where the host is slow with memory, or the device.\n",
        machine(),
    )
}

fn table(gib: u32, all: &[Measured]) -> String {
    let bytes = all.iter().find_map(|one| Some(one.rounds.first()?.bytes)).unwrap_or(f64::NAN);
    let of = |way: &str, values: fn(&Round) -> &[f64]| {
        all.iter().find(|one| one.way == way).map_or(f64::NAN, |one| one.of(values))
    };
    let raw = |values| of(RAW, values);
    let mut text = format!(
        "\n## {gib} GiB, rounds: {}\n\n\
         | way | pause, s | durable, s | GB/s | of the device | memory, GiB | restore cold, s | warm, s | how |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
        all.iter().map(|one| one.rounds.len()).max().unwrap_or(0),
    );
    for one in all {
        if let Some(failure) = &one.failure {
            let why = failure.lines().last().unwrap_or_default().replace('|', "/");
            let _ = writeln!(text, "| {} | failed: {why} | | | | | | | {} |", one.way, one.how);
            continue;
        }
        let durable = one.of(|round| &round.durable);
        let _ = writeln!(
            text,
            "| {} | {:.3} | {durable:.3} | {:.2} | {:.0} % | {:.2} | {:.3} | {:.3} | {} |",
            one.way,
            one.of(|round| &round.paused),
            bytes / durable / 1e9,
            raw(|round| &round.durable) / durable * 100.0,
            median(one.rounds.iter().map(|round| round.peak)) / f64::from(1 << 30),
            one.of(|round| &round.cold),
            one.of(|round| &round.warm),
            one.how,
        );
    }
    let ours = |values| of(OURS, values);
    let _ = write!(
        text,
        "\n| goal | wanted | measured |\n| --- | ---: | ---: |\n\
         | a durable save, the copy included, at the speed of a raw write | 90 % | {:.0} % |\n\
         | of the copy and the raw write, one after the other | | {:.0} % |\n\
         | a durable save beside torch DCP | 3 x | {:.1} x |\n\
         | the pause beside a copy of the memory | 1.3 x | {:.2} x |\n\
         | a restore, cold, at the speed of a raw read | 90 % | {:.0} % |\n\
         | of a raw read into new memory and a copy, which all or nothing takes | | {:.0} % |\n",
        raw(|round| &round.durable) / ours(|round| &round.durable) * 100.0,
        of(COPIED, |round| &round.durable) / ours(|round| &round.durable) * 100.0,
        of(DCP, |round| &round.durable) / ours(|round| &round.durable),
        ours(|round| &round.paused) / of(COPY, |round| &round.paused),
        raw(|round| &round.cold) / ours(|round| &round.cold) * 100.0,
        of(COPIED, |round| &round.cold) / ours(|round| &round.cold) * 100.0,
    );
    text
}
