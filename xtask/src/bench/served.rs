//! Servers that are measured while they run.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use bedplate_devcluster::process::{Part, tail};
use bedplate_devcluster::run::Result;

use super::measure::Used;

/// A server that runs; ended with this value, or with this process.
#[derive(Debug)]
pub(super) struct Served {
    name: &'static str,
    child: Child,
    log: std::path::PathBuf,
}

impl Served {
    /// Starts it; its log goes to `folder`.
    pub(super) fn start(part: &Part, folder: &Path) -> Result<Self> {
        let child = part.start(folder)?;
        Ok(Self { name: part.name, child, log: folder.join(format!("{}.log", part.name)) })
    }

    /// The number of its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far.
    pub(super) fn used(&self) -> Result<Used> {
        Used::of(self.pid())
    }

    /// Waits until it is so, and gives how long that took.
    ///
    /// # Errors
    /// The end of the server's log, where it ends or it does not come so in time.
    pub(super) fn until(&mut self, what: &str, patience: Duration, mut so: impl FnMut() -> bool) -> Result<Duration> {
        let started = Instant::now();
        while !so() {
            let ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if ended || started.elapsed() > patience {
                let state = if ended { "ended" } else { "took too long" };
                return Err(format!("{} {state}, before {what}:\n{}", self.name, tail(&self.log, 20)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(started.elapsed())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
