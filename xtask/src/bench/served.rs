//! Servers that are measured while they run.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
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

/// The answer of a server of this machine to a GET over plain HTTP, its head included; nothing where nobody answers.
pub(super) fn get(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

/// Whether a server of this machine says that it is well.
pub(super) fn well(port: u16, path: &str) -> bool {
    get(port, path).starts_with("HTTP/1.1 200")
}
