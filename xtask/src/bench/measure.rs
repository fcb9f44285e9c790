//! What programs cost: one run from start to end, or a while of one that goes on; and what many numbers come to.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wait4::Wait4 as _;

use bedplate_devcluster::run::{self, Result};

/// No run may take longer; it is killed then.
const LIMIT: Duration = Duration::from_secs(600);

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// From start to end.
    pub(super) wall: Duration,
    /// Peak resident memory in bytes of the largest process (`ru_maxrss` of wait4(2)): a program that works with
    /// several processes at once uses more than this.
    pub(super) peak: u64,
}

/// Runs `command` with its output thrown away. Exit codes in `accepted` count as success; most checkers end with 1
/// when they find something.
pub(super) fn measure(command: &mut Command, accepted: &[i32]) -> Result<Run> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let program = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    loop {
        if let Some(used) = child.try_wait4().map_err(|error| format!("{program}: {error}"))? {
            let wall = started.elapsed();
            return match used.status.code() {
                Some(code) if accepted.contains(&code) => Ok(Run { wall, peak: used.rusage.maxrss }),
                _ => Err(format!("{program} ended with {}", used.status)),
            };
        }
        if started.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{program} was stopped after {} s", LIMIT.as_secs()));
        }
        // Half a millisecond is below one percent of the shortest run measured.
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// What a process that runs has used so far (proc_pid_stat(5), proc_pid_status(5)).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// Processor time in seconds, exact to a hundredth.
    pub(super) seconds: f64,
    /// Resident memory in bytes.
    pub(super) memory: u64,
    /// Its peak, since the start or since [`forget_peak`].
    pub(super) peak: u64,
}

/// Ticks a second of the times in `/proc`: 100 on every architecture (`USER_HZ`).
const TICKS: f64 = 100.0;

impl Used {
    /// What the process `pid` has used.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|error| format!("process {pid}: {error}"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        // The second field may hold spaces and brackets of its own; the times are the 14th and the 15th.
        let times = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
        let ticks: u64 = times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        let bytes = |key: &str| {
            let kib = status.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB"));
            kib.and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
        };
        Ok(Self { seconds: ticks as f64 / TICKS, memory: bytes("VmRSS:"), peak: bytes("VmHWM:") })
    }
}

/// From now on the peak of the process `pid` counts anew (proc_pid_clear_refs(5)).
pub(super) fn forget_peak(pid: u32) -> Result<()> {
    let path = std::path::PathBuf::from(format!("/proc/{pid}/clear_refs"));
    std::fs::write(&path, "5").map_err(run::file("write", &path))
}

/// The value below which this part of sorted values lies; nothing of none.
pub(super) fn quantile(sorted: &[f64], part: f64) -> f64 {
    sorted.get((sorted.len().saturating_sub(1) as f64 * part) as usize).copied().unwrap_or(f64::NAN)
}

/// The value in the middle; nothing of none.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// The samples of a metric, in the text form of Prometheus, summed up by the value of a label.
pub(super) fn samples(metrics: &str, name: &str, label: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    let key = format!("{label}=\"");
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' '])) else { continue };
        let of = rest.split(&key).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let value: f64 = rest.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0.0);
        *sums.entry(of.to_owned()).or_default() += value;
    }
    sums
}
