//! Processes that end with the one that started them, and processes known by more than a number.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::run::{self, Result};

/// A process, told from a later one with the same number by the time of its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Id {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (proc_pid_stat(5), field 22).
    started: u64,
}

impl Id {
    /// The identity of a process that runs.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field may hold spaces and brackets of its own.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(Self { pid, started })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends it a signal, by name, if it still runs.
    pub fn signal(self, name: &str) {
        if self.runs() {
            // Whether it is gone already is seen by who waits for it.
            let _ = Command::new("kill").args(["-s", name, &self.pid.to_string()]).stderr(Stdio::null()).status();
        }
    }

    /// Its resident memory, in bytes.
    #[must_use]
    pub fn memory(self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

/// A program to start: its name, where it is, its arguments, and what is set in its environment.
#[derive(Debug)]
pub struct Part {
    /// What it is called in messages and as its log: `NAME.log`.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// What it is called as, where one program is many.
    pub called: Option<&'static str>,
    /// A process in whose namespaces it is to run.
    pub inside: Option<u32>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What is set in its environment.
    pub environment: Vec<(&'static str, String)>,
}

impl Part {
    /// Starts it, so that the kernel kills it when the thread that started it ends.
    ///
    /// # Errors
    /// Where the program or its log cannot be opened.
    pub fn start(&self, logs: &Path) -> Result<Child> {
        let path = logs.join(format!("{}.log", self.name));
        let log = File::create(&path).map_err(run::file("write", &path))?;
        let err = log.try_clone().map_err(run::file("write", &path))?;
        // setpriv: setting it in a child takes unsafe code in Rust. The program's own name goes by a link.
        let program = self.called.map_or_else(|| self.program.clone(), |name| self.program.with_file_name(name));
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(process) = self.inside {
            let enter = crate::node::enter(process);
            command.arg(enter.get_program()).args(enter.get_args());
        }
        command
            .arg(program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(logs)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(err)
            .spawn()
            .map_err(|error| format!("setpriv (Debian package util-linux), to start {}: {error}", self.name))
    }
}

/// The first child of a process, once it has one: `unshare` and `nsenter` start what they are asked for as theirs.
#[must_use]
pub fn child_of(parent: u32) -> Option<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    for _ in 0..500 {
        if let Some(child) = std::fs::read_to_string(&path).ok()?.split_whitespace().next() {
            return child.parse().ok();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// The last lines of a log, for a message.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
