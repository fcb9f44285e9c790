//! Runs a command so that a notice to end reaches the process that can act on it, and waits for all of them.
//!
//! tini and dumb-init forward a signal to their direct child and end when that does. So `tini -- bash -c "cd /app; python
//! train.py"` ends 14 ms after the SIGTERM, when the shell has died of it, and the container takes the training with it: the
//! training was told nothing, and its save is lost.
//!
//! # Who is told, when, and why
//!
//! *Our children are told.* What the kernel says of each (proc_pid_status(5)) decides what follows; no program is known by
//! its name here, but shells in one row:
//!
//! | a child that | is told | and what it has started |
//! | --- | --- | --- |
//! | handles the signal (or blocks it, to wait for it) | at once | is its own business, as long as it lives |
//! | handles it and is a shell | at once | is told as well at half of the time: a shell runs its `trap` only when the command that it waits for has ended |
//! | does neither: it dies of it | at once | becomes ours as it dies, and is told then |
//! | would die of it, and reads through a pipe what another of ours prints (`… \| tee log`, `$(…)`, `conda run`) | a second after nobody prints there any more; its writer would die of the broken pipe | is told as if it were ours, where that is who prints |
//! | ignores it | never | is told as if it were ours |
//!
//! A shell without a `trap` so goes first, and starts nothing more of its script; what it was waiting for is told when
//! the kernel has made it ours, which it does before the shell can be buried: in between there is no moment at which the
//! wrong one could be told. Workers of a program that saves (DataLoader, ranks of a launcher) hear nothing until it is gone.
//!
//! *All are waited for*, until the deadline: a second before the end of the grace whoever is left is named and killed. That
//! nobody is left is what wait(2) says; `/proc` is read process by process, and may miss one that has just become ours.
//! It is read again at every death and five times a second, so that this one is told then.
//!
//! Who is PID 1 gets every orphan; as any other process we ask for them (`PR_SET_CHILD_SUBREAPER`).
//!
//! # The exit code
//!
//! Without a notice that of the command: its own, or 128+n when signal n ended it. After a notice n, that of the programs
//! that handled it, where they agree on one which is not 0; else the command's own; else 128+n. A job that was told to end
//! and did is not finished, so it is never 0. 137 when one that handles the signal, or the command, had to be killed; 126
//! and 127 when the command could not be started.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use self::table::{Answer, Process, Table};

/// Seconds between SIGTERM and SIGKILL that Kubernetes gives a pod which asks for no other number.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// The variable that tells the grace, as for the Python package.
pub const GRACE_VARIABLE: &str = "BEDPLATE_GRACE_SECONDS";

/// Before the end of the grace the rest is killed: the report has to be written before whoever gave the notice kills us.
const MARGIN: Duration = Duration::from_secs(1);

/// Between two looks at who is there, after the notice.
const LOOK: Duration = Duration::from_millis(200);

/// How long one that reads from a pipe has to end by itself when nobody prints there any more.
const READERS: Duration = Duration::from_secs(1);

/// How long the killed may take to be gone. One that waits for a device in the kernel may take for ever.
const KILLED: Duration = Duration::from_secs(2);

/// Signals that ask to end.
const NOTICES: [i32; 4] = [SIGTERM, SIGINT, SIGQUIT, SIGHUP];

/// Signals that tell something else. They go to those that handle them, and kill nobody.
const OTHERS: [i32; 3] = [SIGUSR1, SIGUSR2, SIGWINCH];

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The command and its arguments; not empty.
    pub command: Vec<OsString>,
    /// Between the notice and the kill by whoever gave it: the pod's `terminationGracePeriodSeconds`.
    pub grace: Duration,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The exit code, as the module says.
    pub code: u8,
    /// Who had to be killed, or why the command could not be started; nothing when there is nothing to tell.
    pub report: Option<String>,
}

/// The grace from what an option says, else [`GRACE_VARIABLE`], else 30 s.
///
/// # Errors
/// One of them is no number of seconds.
pub fn grace(option: Option<&str>, variable: Option<&str>) -> Result<Duration, String> {
    let said = option.map(|text| ("--grace", text));
    let Some((whence, text)) = said.or(variable.filter(|text| !text.is_empty()).map(|text| (GRACE_VARIABLE, text)))
    else {
        return Ok(DEFAULT_GRACE);
    };
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("{whence}: `{text}` is no number of seconds, such as 600"))
}

/// Runs it to its end. To be called by a program that has no other children: all are waited for.
///
/// # Errors
/// What the system says of signals and processes. That the command cannot be started is no error, but an exit code.
pub fn run(options: &Options) -> io::Result<End> {
    let (program, arguments) = options
        .command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "there is no command to run"))?;
    let me = rustix::process::getpid();
    if !me.is_init() {
        set_child_subreaper(Some(me))?;
    }
    // Before the command is there: no signal is missed.
    let mut signals = Signals::new(NOTICES.iter().chain(&OTHERS).chain([&SIGCHLD]))?;
    let child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            return Ok(End { code, report: Some(format!("cannot run {}: {error}", program.display())) });
        }
    };
    let (sender, heard) = mpsc::channel();
    thread::spawn(move || signals.forever().try_for_each(|number| sender.send(number)));
    let mut run = Run::new(number_of(me), child.id(), options.grace);
    loop {
        let next = if run.notice.is_some() {
            heard.recv_timeout(LOOK)
        } else {
            heard.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        let now = Instant::now();
        match next {
            Ok(SIGCHLD) | Err(RecvTimeoutError::Timeout) => {}
            Ok(number) if NOTICES.contains(&number) => run.hear(number, is_told_by_the_terminal(number), now),
            Ok(number) => run.pass_on(number),
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("signals are heard no more")),
        }
        if run.reap()? {
            return Ok(End { code: run.code(), report: None });
        }
        if let Some(end) = run.step(now)? {
            return Ok(end);
        }
    }
}

/// Ctrl-C: the terminal has told everybody in its foreground by itself.
fn is_told_by_the_terminal(number: i32) -> bool {
    matches!(number, SIGINT | SIGQUIT)
        && rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// A request to end.
#[derive(Clone, Copy)]
struct Notice {
    number: i32,
    since: Instant,
    /// Somebody asked for it while the command ran. Otherwise the command has ended by itself, and what it left has to go.
    asked: bool,
    /// Those that the command has in the terminal's foreground were told by it.
    by_terminal: bool,
}

/// One that was told.
struct Told {
    /// In ticks since the boot: numbers of processes are used again.
    started: u64,
    handles: bool,
    /// Of the newest notice.
    heard: bool,
}

struct Run {
    me: u32,
    command: u32,
    /// How the command ended.
    status: Option<ExitStatus>,
    notice: Option<Notice>,
    told: BTreeMap<u32, Told>,
    /// When somebody last printed into a pipe that this one reads.
    reading: BTreeMap<(u32, u64), Instant>,
    /// Exit codes but 0 of those that were told and handle it.
    answers: BTreeSet<u8>,
    grace: Duration,
}

impl Run {
    fn new(me: u32, command: u32, grace: Duration) -> Self {
        let (told, reading, answers) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { me, command, status: None, notice: None, told, reading, answers, grace }
    }

    /// Buries whoever has died: our children, and orphans that the system gave to us. Gives whether nobody is left: every
    /// descendant that lives has an ancestor that is our child.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let (pid, status) = (number_of(pid), ExitStatus::from_raw(status.as_raw()));
                    if pid == self.command {
                        self.status = Some(status);
                    }
                    if self.told.remove(&pid).is_some_and(|told| told.handles) {
                        self.answers.extend(Some(code(status)).filter(|code| *code != 0));
                    }
                }
                Ok(None) => return Ok(false),
                Err(rustix::io::Errno::CHILD) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A notice. A second one is passed on as the first was; the time counts from the first.
    fn hear(&mut self, number: i32, by_terminal: bool, now: Instant) {
        self.told.values_mut().for_each(|told| told.heard = false);
        let since = self.notice.map_or(now, |notice| notice.since);
        let asked = self.status.is_none() || self.notice.is_some_and(|notice| notice.asked);
        self.notice = Some(Notice { number, since, asked, by_terminal });
    }

    /// Passes a signal that is no notice on to the first on each way down that handle it.
    fn pass_on(&self, number: i32) {
        for process in Table::read(self.me).that_handle(self.me, number) {
            send(process.pid, number);
        }
    }

    /// What time asks for; gives the end.
    fn step(&mut self, now: Instant) -> io::Result<Option<End>> {
        if self.notice.is_none() && self.status.is_some() {
            // The command is done. What it has left in the background is told so, and has the same time.
            self.notice = Some(Notice { number: SIGTERM, since: now, asked: false, by_terminal: false });
        }
        let Some(notice) = self.notice else { return Ok(None) };
        let spent = now.saturating_duration_since(notice.since);
        if spent >= self.deadline() {
            return self.kill(notice).map(Some);
        }
        if !(notice.by_terminal && self.status.is_none()) {
            self.tell(notice.number, spent >= self.deadline() / 2, now);
        }
        Ok(None)
    }

    /// Tells those whose turn it is and that were not told yet.
    fn tell(&mut self, number: i32, late: bool, now: Instant) {
        let table = Table::read(self.me);
        if table.is_empty() && self.status.is_none() && !self.told.contains_key(&self.command) {
            // Without a /proc of ours the command at least is known.
            self.told.insert(self.command, Told { started: 0, handles: true, heard: true });
            send(self.command, number);
        }
        let turn = table.turn(self.me, number, late);
        for process in turn.reading {
            self.reading.insert((process.pid, process.started), now);
        }
        for process in turn.told {
            let last = self.reading.get(&(process.pid, process.started));
            if !late && last.is_some_and(|last| now.saturating_duration_since(*last) < READERS) {
                continue;
            }
            if self.told.get(&process.pid).is_some_and(|told| told.started == process.started && told.heard) {
                continue;
            }
            let handles = process.answer(number) == Answer::Handles;
            self.told.insert(process.pid, Told { started: process.started, handles, heard: true });
            send(process.pid, number);
            if process.state == 'T' {
                // One that is stopped hears nothing until it goes on.
                send(process.pid, SIGCONT);
            }
        }
    }

    fn deadline(&self) -> Duration {
        self.grace.saturating_sub(MARGIN).max(self.grace / 2)
    }

    /// Kills the rest, and says who that was.
    fn kill(&mut self, notice: Notice) -> io::Result<End> {
        let table = Table::read(self.me);
        let mut report = String::new();
        let mut count = 0;
        let mut hung = self.status.is_none();
        for process in table.below(self.me) {
            count += 1;
            let told = self.told.get(&process.pid).filter(|told| told.started == process.started);
            hung |= told.is_some_and(|told| told.handles);
            let why = self.why(process, notice.number, told.is_some());
            let Process { pid, state, command, .. } = process;
            let _ = write!(report, "\n  {pid} {command} (state {state}; {why})");
        }
        let until = Instant::now() + KILLED;
        // Who is killed may just have started another.
        while Instant::now() < until {
            for process in Table::read(self.me).below(self.me) {
                send(process.pid, SIGKILL);
            }
            if self.status.is_none() {
                send(self.command, SIGKILL);
            }
            thread::sleep(Duration::from_millis(10));
            self.told.clear();
            if self.reap()? {
                break;
            }
        }
        let code = if hung { 128 + 9 } else { self.code() };
        if count == 0 {
            return Ok(End { code, report: None });
        }
        let (plural, name) = (if count == 1 { "" } else { "es" }, name(notice.number));
        let seconds = self.deadline().as_secs_f64();
        let what = if notice.asked {
            format!("{seconds:.1} s of {name}")
        } else {
            format!("{seconds:.1} s of the command's end")
        };
        Ok(End {
            code,
            report: Some(format!("killed {count} process{plural} that did not end within {what}:{report}")),
        })
    }

    fn why(&self, process: &Process, number: i32, told: bool) -> String {
        let name = name(number);
        match (process.answer(number), told) {
            (Answer::Handles, true) => format!("handles {name}, and was told"),
            (Answer::Dies, true) => "was told".to_owned(),
            (Answer::Ignores, _) => format!("ignores {name}"),
            (_, false) if process.parent == self.me => "was not told".to_owned(),
            (_, false) => format!("left to its parent {}", process.parent),
        }
    }

    /// See the module.
    fn code(&self) -> u8 {
        let own = self.status.map_or(128 + 9, code);
        let Some(Notice { number, .. }) = self.notice.filter(|notice| notice.asked) else { return own };
        let asked = u8::try_from(128 + number).unwrap_or(1);
        match (self.answers.len(), self.answers.first()) {
            (1, Some(answer)) => *answer,
            (0, _) if own != 0 => own,
            _ => asked,
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|number| 128 + number));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn name(number: i32) -> String {
    signal_hook::low_level::signal_name(number).map_or_else(|| format!("signal {number}"), str::to_owned)
}

fn number_of(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// Who is gone by now needs no signal.
fn send(pid: u32, number: i32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(number)) {
        let _ = kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wait statuses: an exit code in the second byte, a signal in the first.
    fn ended(command: Option<i32>, asked: bool, answers: &[u8]) -> u8 {
        let mut run = Run::new(1, 2, DEFAULT_GRACE);
        run.hear(SIGTERM, false, Instant::now());
        run.notice = run.notice.filter(|_| asked);
        run.status = command.map(ExitStatus::from_raw);
        run.answers.extend(answers);
        run.code()
    }

    #[test]
    fn a_job_that_was_told_to_end_is_never_finished() {
        let (done, chosen, of_term) = (Some(0), Some(75 << 8), Some(15));
        assert_eq!(ended(done, false, &[]), 0);
        assert_eq!(ended(chosen, false, &[]), 75);
        assert_eq!(ended(Some(9), false, &[]), 137);
        assert_eq!(ended(done, true, &[]), 143, "it saved, and said that all is well");
        assert_eq!(ended(of_term, true, &[]), 143);
        assert_eq!(ended(chosen, true, &[]), 75);
        assert_eq!(ended(of_term, true, &[75]), 75, "the shell died, and its program chose");
        assert_eq!(ended(Some(241 << 8), true, &[143]), 143, "one that was passed over knows less than the program");
        assert_eq!(ended(of_term, true, &[1, 75]), 143, "they do not agree");
        // A command that ends before the notice is finished, whatever its background does.
        let mut run = Run::new(1, 2, DEFAULT_GRACE);
        run.status = Some(ExitStatus::from_raw(0));
        run.hear(SIGTERM, false, Instant::now());
        assert_eq!(run.code(), 0);
    }

    #[test]
    fn the_rest_is_killed_a_second_before_the_kubelet_would() {
        let deadline = |seconds| Run::new(1, 2, Duration::from_secs_f64(seconds)).deadline().as_secs_f64();
        assert_eq!([deadline(600.0), deadline(30.0), deadline(2.0), deadline(1.0)], [599.0, 29.0, 1.0, 0.5]);
        assert_eq!(grace(None, None), Ok(DEFAULT_GRACE));
        assert_eq!(grace(Some("2.5"), Some("600")), Ok(Duration::from_millis(2500)));
        assert_eq!(grace(None, Some("600")), Ok(Duration::from_secs(600)));
        assert!(grace(None, Some("soon")).unwrap_err().starts_with("BEDPLATE_GRACE_SECONDS: `soon`"));
        assert!(grace(Some("-1"), None).is_err());
    }
}
