//! One run of one program: how long it took and how much memory it had at its peak.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wait4::Wait4 as _;

use bedplate_devcluster::run::Result;

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
