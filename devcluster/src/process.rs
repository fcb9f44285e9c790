//! Processes that end with the one that started them, and processes known by more than a number.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

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

    /// Starts it, so that the kernel kills it when this process ends: the thread that asks may end before, as that of a
    /// test does.
    ///
    /// # Errors
    /// As [`Part::start`].
    pub fn start_until_exit(self, logs: &Path) -> Result<Child> {
        let (send, receive) = std::sync::mpsc::channel();
        let (logs, name) = (logs.to_owned(), self.name);
        std::thread::spawn(move || {
            let _ = send.send(self.start(&logs));
            loop {
                std::thread::park();
            }
        });
        receive.recv().map_err(|_| format!("the thread that starts {name} ended"))?
    }
}

/// The answer of a server of this machine to a GET over plain HTTP, its head included; nothing where nobody answers.
#[must_use]
pub fn get(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return String::new() };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

/// Whether a server of this machine says that it is well.
#[must_use]
pub fn well(port: u16, path: &str) -> bool {
    get(port, path).starts_with("HTTP/1.1 200")
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

/// From here on, Ctrl-C and SIGTERM end everything that this process started, and then this process, which says so:
/// `what` is what is being done, such as "starting cluster `dev`", and `then` is how things stand when it is ended.
///
/// # Errors
/// Where the signals cannot be waited for.
pub fn end_all_on_signal(what: String, then: String) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| format!("signals: {error}"))?;
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        INTERRUPTED.store(true, Ordering::SeqCst);
        eprintln!("xtask: interrupted while {what}; ending what was started for it");
        let waiting = end_descendants(Duration::from_secs(30));
        if waiting.is_empty() {
            eprintln!("xtask: {then}");
            std::process::exit(128 + signal);
        }
        eprintln!("error: these processes do not end: {waiting:?}");
        std::process::exit(1);
    });
    Ok(())
}

/// Stays here for good if a signal is ending this process: what fails now fails for that reason.
pub fn wait_if_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_secs(1));
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every process below this one, and gives those that are still there after `patience`.
fn end_descendants(patience: Duration) -> Vec<Id> {
    let started = Instant::now();
    let mut known: Vec<Id> = Vec::new();
    loop {
        // Stopped first, until there are no more: one that goes on could start another unseen.
        let before = known.len();
        loop {
            let new: Vec<_> = descendants().into_iter().filter(|id| !known.contains(id)).collect();
            if new.is_empty() {
                break;
            }
            new.iter().for_each(|id| id.signal("STOP"));
            known.extend(new);
        }
        for id in &known[before..] {
            id.signal("TERM");
            id.signal("CONT");
        }
        known.retain(|id| id.runs());
        if known.is_empty() || started.elapsed() > patience {
            return known;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Every process below this one.
fn descendants() -> Vec<Id> {
    let mut all = Vec::new();
    let mut waiting = vec![std::process::id()];
    while let Some(parent) = waiting.pop() {
        let below = children_of(parent);
        waiting.extend(&below);
        all.extend(below.into_iter().filter_map(Id::of));
    }
    all
}

/// The children of every thread of a process.
fn children_of(parent: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The last lines of a log, for a message.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
