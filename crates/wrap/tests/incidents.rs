//! What a container's first process does to a save: real shells, and Python that saves on SIGTERM.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Trains until it is told to end; then saves for half a second, and its worker has to be there at the end of that. It prints
/// all along, so it dies of a pipe that nobody reads. `saved` is a file of its folder, as is `ready`.
const TRAIN: &str = r#"
import os, signal, sys, time
code = int(sys.argv[1]) if len(sys.argv) > 1 else 143
worker = os.fork()
if worker == 0:
    time.sleep(60)
    os._exit(0)
told = []
signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
os.close(os.open("ready", os.O_CREAT))
while not told:
    time.sleep(0.02)
print("saving", flush=True)
for part in range(10):
    time.sleep(0.05)
    print("part", part, flush=True)
if os.waitpid(worker, os.WNOHANG)[0] == 0:
    open("saved", "w").close()
print("saved", flush=True)
os._exit(code)
"#;

/// A launcher that handles nothing. With a word it reads what its program prints, as `conda run` does.
const LAUNCH: &str = r#"
import subprocess, sys
if len(sys.argv) > 1:
    done = subprocess.run(["bash", "-c", "python3 train.py 75; exit $?"], stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
else:
    done = subprocess.run(["python3", "train.py", "75"])
sys.exit(done.returncode)
"#;

struct Wrapped {
    folder: tempfile::TempDir,
    child: Child,
}

/// Code, standard output and standard error.
type Ended = (Option<i32>, String, String);

impl Wrapped {
    fn run(arguments: &[&str]) -> Self {
        Self::by(Command::new(env!("CARGO_BIN_EXE_bedplate-wrap")).args(arguments))
    }

    fn shell(line: &str) -> Self {
        Self::run(&["--", "bash", "-c", line])
    }

    fn by(command: &mut Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train.py"), TRAIN).unwrap();
        std::fs::write(folder.path().join("launch.py"), LAUNCH).unwrap();
        let child = command
            .current_dir(folder.path())
            .env_remove("BEDPLATE_GRACE_SECONDS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { folder, child }
    }

    fn has(&self, file: &str) -> bool {
        self.folder.path().join(file).exists()
    }

    fn ready(mut self) -> Self {
        let since = Instant::now();
        while !self.has("ready") {
            assert!(since.elapsed() < Duration::from_secs(40), "it never was ready");
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before it was ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        self
    }

    fn told(self) -> Self {
        signal(self.child.id());
        self
    }

    fn ended(&mut self) -> Ended {
        let since = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if since.elapsed() > Duration::from_secs(50) {
                self.child.kill().unwrap();
                panic!("it did not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let (mut out, mut error) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        (self.child.wait().unwrap().code(), out, error)
    }
}

fn signal(pid: u32) {
    assert!(Command::new("kill").args(["-s", "TERM", &pid.to_string()]).status().unwrap().success());
}

fn child_of(parent: u32) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok()) == Some(parent)
    })
}

/// Each with the exit code that it has to have: the program's, and never 0.
#[test]
fn a_shell_or_a_launcher_between_costs_no_save() {
    for (line, code) in [
        // One that bash replaces itself by, one that it waits for, one in the background.
        ("python3 train.py", 143),
        ("cd . && python3 train.py 75; exit $?", 75),
        ("python3 train.py 0 & wait", 143),
        // What dash, the `sh` of Debian, does with the only command: it waits for it.
        ("sh -c 'python3 train.py 75'", 75),
        // Programs that end with their input, and would break the pipe.
        ("python3 train.py 75 2>&1 | tee log", 75),
        ("python3 train.py 75 | while read -r line; do echo \"$(date): $line\"; done", 75),
        ("text=$(python3 train.py 143); exec sleep 50", 143),
        // Launchers that handle nothing: one that only waits, one that reads what is printed.
        ("python3 launch.py", 75),
        ("python3 launch.py reads; :", 75),
        ("exec python3 launch.py reads", 75),
    ] {
        let mut wrapped = Wrapped::shell(line).ready().told();
        let (ended, out, error) = wrapped.ended();
        assert!(wrapped.has("saved"), "`{line}` lost the save: {ended:?} {out} {error}");
        assert_eq!((ended, &*error), (Some(code), ""), "{line}");
        assert!(out.contains("saved") || line.contains("text="), "`{line}` lost the last lines: {out}");
    }
}

#[test]
fn what_a_script_would_go_on_to_do_is_not_begun() {
    for line in ["python3 train.py; touch later; sleep 60; true", "while true; do python3 train.py; touch later; done"]
    {
        for shell in ["sh", "bash"] {
            let mut wrapped = Wrapped::run(&["--", shell, "-c", line]).ready().told();
            let (code, _, error) = wrapped.ended();
            assert_eq!((code, &*error), (Some(143), ""), "{shell}: {line}");
            assert!(wrapped.has("saved") && !wrapped.has("later"), "{shell}: {line}");
        }
    }
}

#[test]
fn a_shell_that_traps_the_signal_is_left_to_do_so() {
    let line = "trap 'echo trapped; kill -TERM $!; wait $!; exit 7' TERM; python3 train.py & while :; do wait; done";
    let mut wrapped = Wrapped::shell(line).ready().told();
    let (code, out, _) = wrapped.ended();
    assert!(out.contains("trapped") && wrapped.has("saved"), "{out}");
    // Its program says 143, and it says 7: it is the one that was told.
    assert_eq!(code, Some(7));
}

/// bash runs a trap when the command in front has ended, which nobody had told.
#[test]
fn a_trap_that_waits_for_the_training_does_not_cost_its_save() {
    let line = "trap 'echo trapped; exit 9' TERM; python3 train.py 0";
    let mut wrapped = Wrapped::run(&["--grace", "8", "--", "bash", "-c", line]).ready().told();
    let (code, out, error) = wrapped.ended();
    assert!(wrapped.has("saved") && out.contains("trapped"), "{out}");
    assert_eq!((code, &*error), (Some(9), ""));
}

#[test]
fn who_does_not_stop_is_named_and_killed_at_the_deadline() {
    let line = "trap '' TERM; touch ready; sleep 1000.25; :";
    let mut wrapped = Wrapped::run(&["--grace", "2", "--", "bash", "-c", line]).ready().told();
    let (code, _, error) = wrapped.ended();
    assert_eq!(code, Some(137));
    assert!(error.contains("killed 2 processes that did not end within 1.0 s of SIGTERM:"), "{error}");
    assert!(error.contains("sleep 1000.25 (state S; ignores SIGTERM)"), "{error}");
}

#[test]
fn a_save_in_the_background_is_waited_for_when_the_command_is_done() {
    let line = "python3 train.py 1 & until [ -e ready ]; do sleep 0.05; done";
    let mut wrapped = Wrapped::shell(line);
    let (code, _, error) = wrapped.ended();
    // Nobody asked it to end: the command is finished.
    assert_eq!((code, &*error), (Some(0), ""));
    assert!(wrapped.has("saved"));
}

#[test]
fn the_exit_code_is_the_commands() {
    let ended = |arguments: &[&str]| {
        let (code, _, error) = Wrapped::run(arguments).ended();
        (code, error)
    };
    assert_eq!(ended(&["--", "sh", "-c", "exit 42"]), (Some(42), String::new()));
    assert_eq!(ended(&["--", "true"]), (Some(0), String::new()));
    assert_eq!(ended(&["--", "sh", "-c", "kill -9 $$"]).0, Some(137));
    assert_eq!(ended(&["--", "/nonexistent"]).0, Some(127));
    assert_eq!(ended(&["--", "/"]).0, Some(126));
    let (code, error) = ended(&["--grace", "soon", "--", "true"]);
    assert!(code == Some(2) && error.contains("`soon` is no number of seconds"), "{error}");
    let (code, error) = ended(&["python3", "train.py"]);
    assert!(code == Some(2) && error.contains("behind `--`"), "{error}");
}

/// Counts zombies that are not the children of `echo`'s own shell.
const ORPHANS: &str = "for i in 1 2 3 4 5 6 7 8; do (sleep 0.05 &) ; done; sleep 1; \
                       echo zombies $(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z'\" $PPID \")";

/// A long-lived first process that buries nobody fills the table of processes.
#[test]
fn orphans_are_buried() {
    let (code, out, _) = Wrapped::shell(ORPHANS).ended();
    assert_eq!((code, &*out), (Some(0), "zombies 0\n"));
}

/// As in a container, where the kernel gives PID 1 no default for SIGTERM.
#[test]
fn as_pid_1_it_passes_the_signal_on_and_buries_orphans() {
    let namespace = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    // Needs the right to make one: root, or a system that lets users.
    if !Command::new("unshare").args(namespace).arg("true").status().is_ok_and(|status| status.success()) {
        println!("left out: this user may make no PID namespace");
        return;
    }
    let inside = |line: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(namespace).args([env!("CARGO_BIN_EXE_bedplate-wrap"), "--", "bash", "-c", line]);
        Wrapped::by(&mut unshare)
    };
    let (code, out, error) = inside(ORPHANS).ended();
    assert_eq!((code, &*out), (Some(0), "zombies 0\n"), "{error}");
    let mut wrapped = inside("[ $PPID = 1 ] && python3 train.py 75; exit $?").ready();
    signal(child_of(wrapped.child.id()).unwrap());
    let (code, out, error) = wrapped.ended();
    assert!(wrapped.has("saved"), "{out} {error}");
    assert_eq!(code, Some(75));
}
