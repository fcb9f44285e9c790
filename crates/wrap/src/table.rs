//! Who is there, from `/proc`, and whose turn it is to be told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Programs that run a `trap` only when the command that they wait for has ended.
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "busybox", "zsh", "ksh", "mksh", "fish"];

/// What a process does about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has a handler, or waits for it by other means (sigwait, signalfd).
    Handles,
    /// Nothing: the kernel ends it.
    Dies,
    Ignores,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// A letter, as in proc_pid_stat(5).
    pub(crate) state: char,
    /// In ticks since the boot.
    pub(crate) started: u64,
    /// Signals that have a handler, are blocked, are ignored, as bits: those of its main thread.
    caught: u64,
    blocked: u64,
    ignored: u64,
    /// Its program's file name.
    program: String,
    /// Its arguments, for people.
    pub(crate) command: String,
    /// The pipes that it may read, and those that its standard output and error are. None where we may not look.
    reads: BTreeSet<String>,
    prints: BTreeSet<String>,
}

impl Process {
    /// What it does about a signal whose default is to end a process.
    pub(crate) fn answer(&self, number: i32) -> Answer {
        let bit = 1_u64 << (number - 1);
        if (self.caught | self.blocked) & bit != 0 {
            Answer::Handles
        } else if self.ignored & bit != 0 {
            Answer::Ignores
        } else {
            Answer::Dies
        }
    }

    fn is_shell(&self) -> bool {
        SHELLS.contains(&&*self.program)
    }

    /// The dead wait to be buried by their parent.
    fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Turn<'a> {
    /// To be told; some of them were already.
    pub(crate) told: Vec<&'a Process>,
    /// Passed over, because they read what others print.
    pub(crate) reading: Vec<&'a Process>,
}

/// All descendants of a process, at about one time.
#[derive(Debug, Default)]
pub(crate) struct Table {
    processes: BTreeMap<u32, Process>,
}

impl Table {
    /// Reads the descendants of a process. Empty where `/proc` is not there, or not that of our PID namespace.
    pub(crate) fn read(ancestor: u32) -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut table = Self::of(pids.filter_map(process));
        let below: BTreeSet<u32> = table.below(ancestor).map(|process| process.pid).collect();
        table.processes.retain(|pid, _| below.contains(pid));
        // More is asked of them only: a node may have thousands of others.
        table.processes.values_mut().for_each(describe);
        table
    }

    fn of(processes: impl IntoIterator<Item = Process>) -> Self {
        Self { processes: processes.into_iter().map(|process| (process.pid, process)).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    fn children(&self, parent: u32) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(move |process| process.parent == parent && process.lives())
    }

    /// All descendants that live, parents first.
    pub(crate) fn below(&self, ancestor: u32) -> impl Iterator<Item = &Process> {
        let mut found: Vec<&Process> = self.children(ancestor).collect();
        let mut at = 0;
        while let Some(process) = found.get(at) {
            // A number that was used again while we read could make a circle.
            let next: Vec<_> = self.children(process.pid).filter(|child| !found.contains(child)).collect();
            found.extend(next);
            at += 1;
        }
        found.into_iter()
    }

    /// The first on each way down that handle a signal.
    pub(crate) fn that_handle(&self, ancestor: u32, number: i32) -> Vec<&Process> {
        let handles = |process: &&Process| process.answer(number) == Answer::Handles;
        self.walk(ancestor, |process| (handles(&process), !handles(&process)))
    }

    /// Whose turn it is to be told of a notice, as the table in the module's documentation says; `late`: from half of the
    /// time on.
    pub(crate) fn turn(&self, ancestor: u32, number: i32, late: bool) -> Turn<'_> {
        let mut reading = Vec::new();
        let told = self.walk(ancestor, |process| match process.answer(number) {
            Answer::Handles => (true, late && process.is_shell()),
            Answer::Ignores => (false, true),
            Answer::Dies => match self.printers(process).as_slice() {
                [] => (true, false),
                _ if late => (true, false),
                printers => {
                    reading.push(process.pid);
                    // What a shell starts for each line that it reads is not told: the line would be lost.
                    (false, printers.iter().all(|printer| self.is_below(printer, process)))
                }
            },
        });
        Turn { told, reading: reading.into_iter().filter_map(|pid| self.processes.get(&pid)).collect() }
    }

    /// Goes down from the children; of each, whether it is taken, and whether its children are looked at.
    fn walk<'a>(&'a self, ancestor: u32, mut look: impl FnMut(&'a Process) -> (bool, bool)) -> Vec<&'a Process> {
        let (mut taken, mut seen) = (Vec::new(), BTreeSet::from([ancestor]));
        let mut next: Vec<&Process> = self.children(ancestor).collect();
        while let Some(process) = next.pop() {
            if seen.insert(process.pid) {
                let (take, further) = look(process);
                taken.extend(take.then_some(process));
                next.extend(further.then(|| self.children(process.pid)).into_iter().flatten());
            }
        }
        taken.sort_by_key(|process| process.pid);
        taken
    }

    /// Those that live and print into a pipe from which this one reads.
    fn printers(&self, reader: &Process) -> Vec<&Process> {
        if reader.reads.is_empty() {
            return Vec::new();
        }
        let others = self.processes.values().filter(|other| other.pid != reader.pid && other.lives());
        others.filter(|other| !other.prints.is_disjoint(&reader.reads)).collect()
    }

    fn is_below(&self, process: &Process, ancestor: &Process) -> bool {
        // As many steps as there are processes, should a number that was used again make a circle.
        let parents = std::iter::successors(Some(process), |process| self.processes.get(&process.parent));
        parents.skip(1).take(self.processes.len()).any(|parent| parent.pid == ancestor.pid)
    }
}

/// Reads a process; `None` when it is gone meanwhile.
fn process(pid: u32) -> Option<Process> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5): the name is in brackets and may hold any character, so fields count from the last bracket.
fn parse(pid: u32, stat: &str) -> Option<Process> {
    let (before, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        state: fields.first()?.chars().next()?,
        started: fields.get(19)?.parse().ok()?,
        program: before.split_once('(')?.1.to_owned(),
        ..Process::default()
    })
}

/// Adds what else is told of a process. Of one that has just died nothing is, and of one of another user less.
fn describe(process: &mut Process) {
    let pid = process.pid;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let name = process.program.clone();
    // A script's own name is told as that of its process; the program is its shell.
    if let Some(file) = exe.as_ref().and_then(|path| path.file_name()) {
        process.program = file.to_string_lossy().into_owned();
    }
    process.command = shown(&command, &name);
    (process.caught, process.blocked, process.ignored) = masks(&status);
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let (Ok(target), Ok(link)) = (fs::read_link(entry.path()), entry.path().symlink_metadata()) else { continue };
        let Some(pipe) = target.to_str().filter(|target| target.starts_with("pipe:")) else { continue };
        // The rights of the link are those of the descriptor (proc_pid_fd(5)).
        if link.permissions().mode() & 0o400 != 0 {
            process.reads.insert(pipe.to_owned());
        } else if matches!(entry.file_name().to_str(), Some("1" | "2")) {
            process.prints.insert(pipe.to_owned());
        }
    }
}

/// Of proc_pid_status(5): signals that are caught, blocked, ignored.
fn masks(status: &str) -> (u64, u64, u64) {
    let mask = |key: &str| {
        let text = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        u64::from_str_radix(text.trim(), 16).unwrap_or(0)
    };
    (mask("SigCgt:"), mask("SigBlk:"), mask("SigIgn:"))
}

/// A command line for people, on one line and no longer than they read.
fn shown(command: &[u8], name: &str) -> String {
    let words: Vec<_> = command.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return format!("[{name}]");
    }
    let text = String::from_utf8_lossy(&words.join(&b' ')).into_owned();
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: i32 = 15;
    const BIT: u64 = 1 << (TERM - 1);

    fn one(pid: u32, parent: u32, program: &str) -> Process {
        Process { pid, parent, state: 'S', program: program.to_owned(), ..Process::default() }
    }

    fn handles(process: Process) -> Process {
        Process { caught: BIT, ..process }
    }

    fn reads(process: Process, pipe: &str) -> Process {
        Process { reads: BTreeSet::from([pipe.to_owned()]), ..process }
    }

    fn prints(process: Process, pipe: &str) -> Process {
        Process { prints: BTreeSet::from([pipe.to_owned()]), ..process }
    }

    fn told(processes: &[Process], late: bool) -> Vec<u32> {
        let table = Table::of(processes.to_vec());
        table.turn(1, TERM, late).told.iter().map(|process| process.pid).collect()
    }

    #[test]
    fn a_shell_goes_first_and_then_what_it_waited_for_and_its_workers_hear_nothing() {
        let worker = one(4, 3, "python3");
        assert_eq!(told(&[one(2, 1, "bash"), handles(one(3, 2, "python3")), worker.clone()], false), [2]);
        assert_eq!(told(&[handles(one(3, 1, "python3")), worker.clone()], false), [3]);
        assert_eq!(told(&[handles(one(3, 1, "python3")), worker.clone()], true), [3], "nor late");
        assert_eq!(told(&[worker, one(5, 1, "python3")], false), [5]);
    }

    #[test]
    fn a_shell_that_traps_is_told_and_what_it_waits_for_is_at_half_of_the_time() {
        let all = [handles(one(2, 1, "bash")), handles(one(3, 2, "python3")), one(4, 3, "python3")];
        assert_eq!((told(&all, false), told(&all, true)), (vec![2], vec![2, 3]));
        let ignores = [Process { ignored: BIT, ..one(2, 1, "bash") }, handles(one(3, 2, "python3"))];
        assert_eq!(told(&ignores, false), [3]);
        let waits = [Process { blocked: BIT, ..one(2, 1, "tini") }, handles(one(3, 2, "python3"))];
        assert_eq!(told(&waits, false), [2], "sigwait");
    }

    /// `python train.py | tee log`: a tee that is gone is a broken pipe for the last lines of the save.
    #[test]
    fn who_reads_what_another_prints_is_passed_over_until_that_one_is_gone() {
        let (train, tee) = (prints(handles(one(3, 1, "python3")), "pipe:[7]"), reads(one(2, 1, "tee"), "pipe:[7]"));
        let both = [tee.clone(), train.clone()];
        assert_eq!((told(&both, false), told(&both, true)), (vec![3], vec![2, 3]));
        assert_eq!(told(&[tee.clone(), Process { state: 'Z', ..train.clone() }], false), [2]);
        // A training that reads its data from a pipe, and saves.
        assert_eq!(told(&[handles(tee), train.clone()], false), [2, 3]);
        // conda run reads what its program prints.
        let conda = reads(one(2, 1, "python3"), "pipe:[7]");
        let between = [conda, prints(one(9, 2, "bash"), "pipe:[7]"), Process { parent: 9, ..train.clone() }];
        assert_eq!(told(&between, false), [9]);
        // `python train.py | while read -r line; do echo "$(date) $line"; done`: the date of this line is still wanted.
        let dated = prints(one(8, 2, "date"), "pipe:[8]");
        let mut lines = reads(one(2, 1, "bash"), "pipe:[7]");
        lines.reads.insert("pipe:[8]".to_owned());
        assert_eq!(told(&[lines, dated, train], false), [3]);
    }

    #[test]
    fn a_signal_that_is_no_notice_kills_nobody() {
        let all = [one(2, 1, "bash"), handles(one(3, 2, "python3")), one(4, 3, "python3"), one(5, 1, "tee")];
        let table = Table::of(all);
        assert_eq!(table.that_handle(1, TERM).iter().map(|process| process.pid).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_and_a_circle_ends() {
        let stat = "7 (a) b (c)) S 3 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        let process = parse(7, stat).unwrap();
        assert_eq!((process.parent, process.state, process.started, &*process.program), (3, 'S', 4242, "a) b (c)"));
        assert_eq!(masks("Name:\tx\nSigBlk:\t0000000000000001\nSigCgt:\t0000000000004000\n"), (0x4000, 1, 0));
        assert_eq!(shown(b"a\0b c\n\0", "x"), "a b c ");
        assert_eq!(shown(b"", "kworker"), "[kworker]");
        let circle = Table::of([one(2, 1, "a"), one(3, 4, "b"), one(4, 3, "c"), one(1, 2, "d")]);
        assert_eq!(circle.below(1).count(), 2);
        assert_eq!(circle.turn(1, TERM, false).told.len(), 1);
    }
}
