//! How a training is started decides whether its save survives a SIGTERM. Each way is tried as the first process of a PID
//! namespace and as a pod, and the rules of `check` have to say the same beforehand. The table is docs/signals.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bedplate_devcluster::process::child_of;
use bedplate_devcluster::{Image, debian, run, tools};
use common::{Down, can_have_a_node, kubectl, try_kubectl, up};
use serde_json::{Value, json};

/// Saves for so many seconds when it is told to end. With workers it does what torch does about a DataLoader's: one that a
/// signal has ended is an error in the middle of whatever the main process does.
const TRAIN: &str = r#"
import os, signal, sys, time
worker = os.fork() if sys.argv[1] == "workers" else None
if worker == 0:
    time.sleep(600)
    os._exit(0)
def lost(number, frame):
    raise RuntimeError("DataLoader worker (pid %d) is killed by signal" % worker)
if worker:
    signal.signal(signal.SIGCHLD, lost)
told = []
signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
os.close(os.open("ready", os.O_CREAT))
while not told:
    time.sleep(0.02)
end = time.monotonic() + float(os.environ["SAVE"])
while time.monotonic() < end:
    time.sleep(0.02)
os.close(os.open("saved", os.O_CREAT))
os._exit(143)
"#;

/// Seconds that it takes to save, and that a pod would have for that; then its first process is killed.
#[derive(Clone, Copy)]
struct Save {
    takes: f64,
    grace: f64,
}

/// Less than any launcher's clock, more than mpirun's, more than torchrun's.
const SHORT: Save = Save { takes: 0.3, grace: 4.0 };
const MIDDLE: Save = Save { takes: 5.0, grace: 15.0 };
const LONG: Save = Save { takes: 34.0, grace: 38.0 };

/// The ways, as the words of a container's command, and the save. `TRAIN` is `python3 train.py …`, in words or
/// in a script; `SCRIPT` is `train.py …`, for who starts Python itself.
const WAYS: &[(&[&str], Save)] = &[
    (&["TRAIN"], SHORT),
    (&["env", "A=b", "TRAIN"], SHORT),
    (&["sh", "-c", "TRAIN"], SHORT),
    (&["sh", "-c", "exec TRAIN"], SHORT),
    (&["bash", "-c", "TRAIN"], SHORT),
    (&["bash", "-c", "cd . && TRAIN"], SHORT),
    (&["bash", "-c", "cd . && TRAIN 2>&1"], SHORT),
    (&["bash", "-c", "cd .; true && TRAIN"], SHORT),
    (&["bash", "-c", "TRAIN; echo done"], SHORT),
    (&["bash", "-c", "cd . && exec TRAIN"], SHORT),
    (&["bash", "-c", "TRAIN 2>&1 | tee log"], SHORT),
    (&["bash", "-c", "trap 'kill $!; wait $!' TERM; TRAIN & wait; wait"], SHORT),
    (&["tini", "--", "TRAIN"], SHORT),
    (&["tini", "-g", "--", "TRAIN"], SHORT),
    (&["env", "A=b", "tini", "-g", "--", "TRAIN"], SHORT),
    (&["tini", "--", "sh", "-c", "TRAIN"], SHORT),
    (&["tini", "--", "bash", "-c", "TRAIN"], SHORT),
    (&["tini", "--", "bash", "-c", "cd . && TRAIN"], SHORT),
    (&["tini", "--", "bash", "-c", "TRAIN; echo done"], SHORT),
    (&["tini", "--", "bash", "-c", "cd . && exec TRAIN"], SHORT),
    (&["bash", "-c", "exec tini -- TRAIN"], SHORT),
    (&["bash", "-c", "cd . && exec tini -g -- TRAIN"], SHORT),
    (&["dumb-init", "TRAIN"], SHORT),
    (&["dumb-init", "--single-child", "TRAIN"], SHORT),
    (&["dumb-init", "--single-child", "bash", "-c", "cd . && TRAIN"], SHORT),
    (&["bedplate-wrap", "--", "TRAIN"], SHORT),
    (&["bedplate-wrap", "--", "sh", "-c", "TRAIN"], SHORT),
    (&["bedplate-wrap", "--", "bash", "-c", "cd . && TRAIN; echo done"], SHORT),
    (&["bedplate-wrap", "--", "bash", "-c", "TRAIN 2>&1 | tee log"], SHORT),
    (&["bash", "-c", "exec bedplate-wrap -- TRAIN"], SHORT),
    (&["bash", "-c", "cd . && exec bedplate-wrap -- bash -c 'cd . && TRAIN; echo done'"], SHORT),
    (&["bash", "-c", "bedplate-wrap -- TRAIN; echo done"], SHORT),
    (&["tini", "-g", "--", "bedplate-wrap", "--", "bash", "-c", "cd . && TRAIN"], SHORT),
    (&["bedplate-wrap", "--", "tini", "-g", "--", "TRAIN"], SHORT),
    (&["torchrun", "--standalone", "SCRIPT"], SHORT),
    (&["torchrun", "--standalone", "SCRIPT"], LONG),
    (&["torchrun", "--standalone", "--shutdown-timeout=590", "SCRIPT"], LONG),
    (&["bedplate-wrap", "--", "torchrun", "--standalone", "SCRIPT"], LONG),
    (&["bash", "-c", "cd . && torchrun --standalone SCRIPT"], SHORT),
    (&["mpirun", "-n", "1", "TRAIN"], SHORT),
    (&["mpirun", "-n", "1", "TRAIN"], MIDDLE),
    (&["mpirun", "--mca", "odls_base_sigkill_timeout", "6", "-n", "1", "TRAIN"], MIDDLE),
    (&["mpirun", "--mca", "odls_base_sigkill_timeout", "590", "-n", "1", "TRAIN"], MIDDLE),
    (&["bedplate-wrap", "--", "mpirun", "-n", "1", "TRAIN"], MIDDLE),
    (&["bash", "-c", "cd . && mpirun -n 1 TRAIN"], SHORT),
];

const PAGE: &str = "# What a SIGTERM costs a training

Seen by `xtask/tests/signals.rs`, which also holds it against what `bedplate check` says of a job that is started so: each way
as the first process of a PID namespace and as a pod on a real node (kubelet, containerd), told SIGTERM once, and killed at the
end of the grace. Both come out the same.

`TRAIN` is `python3 train.py`, which handles SIGTERM. Workers: of a DataLoader; torch breaks off what the main process does
when one of them is ended by a signal, unless `bedplate.Guard` saves. Programs: those of Debian 12 (bash 5.2, dash 0.5.12 as
`sh`, tini 0.19, dumb-init 1.2.5, Open MPI 4.1) and torch 2.15.

bash from 5.1 on becomes the last command of a plain list, so that such a line costs nothing; an older one stays in front of it.
What is found for that reason is said to be a guess, and `exec` makes sure.

Not tried: `conda run`. No registry that this project takes programs from has it. `check` goes by conda#10351; a program that
does as `conda run` does is started behind `bedplate wrap` by `crates/wrap/tests/incidents.rs`.

| command | save, grace | alone | with workers | found by |
| --- | --- | --- | --- | --- |
";

/// One trial.
#[derive(Clone, Copy)]
struct Trial {
    words: &'static [&'static str],
    save: Save,
    workers: bool,
}

impl Trial {
    /// All, the long ones first.
    fn all() -> Vec<(usize, Self)> {
        let of = |&(words, save)| [false, true].map(|workers| Self { words, save, workers });
        let mut all: Vec<_> = WAYS.iter().flat_map(of).enumerate().collect();
        all.sort_by(|(_, a), (_, b)| b.save.takes.total_cmp(&a.save.takes));
        all
    }

    fn command(self) -> Vec<String> {
        let script = if self.workers { "train.py workers" } else { "train.py alone" };
        let python = format!("python3 {script}");
        let split = |text: &str| text.split(' ').map(str::to_owned).collect();
        let words = self.words.iter().enumerate().flat_map(|(at, word)| match *word {
            // A shell's script is one word.
            "TRAIN" if at == 0 || self.words[at - 1] != "-c" => split(&python),
            "SCRIPT" => split(script),
            word => vec![word.replace("TRAIN", &python).replace("SCRIPT", script)],
        });
        words.collect()
    }

    fn environment(self) -> [(&'static str, String); 4] {
        let yes = || "1".to_owned();
        [
            ("SAVE", self.save.takes.to_string()),
            // What a pod would be given; here whoever waits has a clock of its own.
            ("BEDPLATE_GRACE_SECONDS", "600".to_owned()),
            ("OMPI_ALLOW_RUN_AS_ROOT", yes()),
            ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", yes()),
        ]
    }
}

/// Where the programs are, in this order.
static PATH: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let own = run::target().join("signals");
    fs::create_dir_all(&own).unwrap();
    let mpi = debian::merged(&["openmpi-bin"]).unwrap();
    let draft = own.join(format!("draft-{}", std::process::id()));
    fs::write(&draft, mpirun(&mpi)).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(draft, own.join("mpirun")).unwrap();
    let mut folders = vec![own, run::wrap().unwrap().parent().unwrap().to_owned()];
    folders.extend(["tini", "dumb-init"].map(|package| debian::unpacked(package).unwrap().join("usr/bin")));
    folders.extend([base_prefix().join("bin"), "/usr/bin".into(), "/bin".into()]);
    // torchrun, which names its Python itself.
    folders.push(environment().join("bin"));
    folders
});

/// The Python environment that has torch.
fn environment() -> PathBuf {
    let program = tools::get("pytest").unwrap().program().unwrap();
    program.parent().unwrap().parent().unwrap().to_owned()
}

/// Where that environment's Python is installed.
fn base_prefix() -> PathBuf {
    let mut ask = Command::new(environment().join("bin/python3"));
    run::output(ask.args(["-c", "import sys; print(sys.base_prefix)"]), &[0]).unwrap().trim_end().into()
}

fn path() -> String {
    std::env::join_paths(&*PATH).unwrap().into_string().unwrap()
}

/// A script that becomes Open MPI's, which is not where it was built for.
fn mpirun(root: &Path) -> String {
    let usr = root.join("usr");
    let libraries = usr.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    format!(
        "#!/bin/sh\nexport OPAL_PREFIX='{usr}' LD_LIBRARY_PATH='{libraries}:{libraries}/openmpi/lib'\nexec '{usr}/bin/orterun' \"$@\"\n",
        usr = usr.display(),
        libraries = libraries.display()
    )
}

const NAMESPACE: [&str; 5] = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];

fn kill(signal: &str, pid: u32) {
    let _ = Command::new("kill").args(["-s", signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Whether the save was there when the PID namespace was gone.
fn is_saved(trial: Trial) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("train.py"), TRAIN).unwrap();
    let mut unshare = Command::new("unshare");
    unshare.args(NAMESPACE).args(trial.command()).envs(trial.environment()).current_dir(folder.path());
    unshare.env("PATH", path()).env("TMPDIR", folder.path());
    let log = fs::File::create(at("told")).unwrap();
    let mut child = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let since = Instant::now();
    while !at("ready").exists() {
        let ended = child.try_wait().unwrap();
        if ended.is_some() || since.elapsed() > Duration::from_secs(120) {
            let told = fs::read_to_string(at("told")).unwrap();
            if let (None, Some(first)) = (ended, child_of(child.id())) {
                kill("KILL", first);
            }
            panic!("{:?} never was ready ({ended:?}): {told}", trial.command());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let first = child_of(child.id()).unwrap();
    kill("TERM", first);
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed().as_secs_f64() > trial.save.grace {
            kill("KILL", first);
        }
        thread::sleep(Duration::from_millis(10));
    }
    at("saved").exists()
}

/// What is seen of each way, alone and with workers.
fn in_namespaces() -> Vec<[bool; 2]> {
    LazyLock::force(&PATH);
    let mut waiting = Trial::all();
    waiting.reverse();
    let (waiting, seen) = (Mutex::new(waiting), Mutex::new(vec![[false; 2]; WAYS.len()]));
    // As many at a time as mostly wait: the long ones are under way while the others come and go.
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let Some((at, trial)) = waiting.lock().unwrap().pop() else { return };
                    let saved = is_saved(trial);
                    seen.lock().unwrap()[at / 2][at % 2] = saved;
                }
            });
        }
    });
    seen.into_inner().unwrap()
}

/// What the rules say of a job that is started so: whether it saves alone and with workers, and which say so.
fn predicted(bedplate: &Path, words: &'static [&'static str], save: Save) -> ([bool; 2], String) {
    let command = Trial { words, save, workers: true }.command();
    let container = json!({ "name": "pytorch", "image": "docker.io/acme/train:1", "command": command });
    let spec = json!({ "terminationGracePeriodSeconds": 600, "containers": [container] });
    let replicas = json!({ "Worker": { "replicas": 1, "template": { "spec": spec } } });
    let job = json!({ "apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": { "name": "train" },
        "spec": { "pytorchReplicaSpecs": replicas } });
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("job.yaml"), job.to_string()).unwrap();
    let mut check = Command::new(bedplate);
    let said = run::output(check.args(["check", "--format", "json", "."]).current_dir(folder.path()), &[0, 1]).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    let (mut alone, mut workers, mut rules) = (true, true, Vec::new());
    for finding in said["findings"].as_array().unwrap() {
        let (rule, message) = (finding["rule"].as_str().unwrap(), finding["message"].as_str().unwrap());
        if rule != "launcher-swallows-signals"
            && !(rule == "init-bypassed" && message.contains("does not pass SIGTERM on"))
        {
            continue;
        }
        if finding.to_string().contains("bash from 5.1 on mostly becomes") {
            rules.push(format!("[{rule}](rules/{rule}.md), for an older bash"));
            continue;
        }
        let clock =
            message.split_once(" s after SIGTERM").and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
        // The notes count: a finding about a clock tells of the workers there.
        let of_workers = finding.to_string().contains("DataLoader workers");
        alone &= clock.map_or(of_workers, |seconds: f64| save.takes < seconds);
        workers &= alone && !of_workers;
        rules.push(format!("[{rule}](rules/{rule}.md)"));
    }
    rules.dedup();
    ([alone, workers], rules.join(", "))
}

fn shown(words: &[&str]) -> String {
    let words = words.iter().map(|word| if word.contains(' ') { format!("\"{word}\"") } else { (*word).to_owned() });
    words.collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The rows of the page. Where it is not as the rules say, it fails.
fn rows(seen: &[[bool; 2]]) -> String {
    let bedplate = run::bedplate(false).unwrap();
    let (mut rows, mut differ) = (String::new(), Vec::new());
    for (&(words, save), &seen) in WAYS.iter().zip(seen) {
        let (said, rules) = predicted(&bedplate, words, save);
        let shown = shown(words);
        if said != seen {
            differ.push(format!(
                "`{shown}`, a save of {} s: seen {seen:?}, the rules say {said:?} ({rules})",
                save.takes
            ));
        }
        let [alone, workers] = seen.map(|saved| if saved { "saved" } else { "**lost**" });
        let _ = writeln!(rows, "| `{shown}` | {} s, {} s | {alone} | {workers} | {rules} |", save.takes, save.grace);
    }
    assert!(differ.is_empty(), "{differ:#?}");
    rows
}

#[test]
fn what_a_sigterm_costs_is_what_the_rules_say() {
    if !Command::new("unshare").args(NAMESPACE).arg("true").status().is_ok_and(|status| status.success()) {
        common::skipped(
            "what a SIGTERM costs is not tried here: this user may make no PID namespace; run it as root, or allow it \
             (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)",
        );
        return;
    }
    let page = format!("{PAGE}{}", rows(&in_namespaces()));
    let place = run::root().join("docs/signals.md");
    if fs::read_to_string(&place).ok().as_deref() != Some(&page) {
        fs::write(&place, page).unwrap();
        panic!("docs/signals.md was not what is seen, and is made anew: look at it, and commit it");
    }
}

const NAME: &str = "test-of-signals";

/// The folders of this machine that a pod is given, at the same places: so what runs there is what runs here.
fn mounts() -> Vec<PathBuf> {
    let system = ["/usr", "/bin", "/sbin", "/lib", "/lib64"].map(PathBuf::from);
    let merged = debian::merged(&["openmpi-bin"]).unwrap();
    let own = PATH.iter().filter(|folder| !folder.starts_with("/usr")).cloned();
    let all = system.into_iter().chain(own).chain([environment(), base_prefix(), merged]);
    let mut mounts: Vec<_> = all.filter(|path| path.exists() && !path.is_symlink()).collect();
    mounts.sort();
    // One inside of another is there with that.
    mounts.dedup_by(|inner, outer| inner.starts_with(outer));
    mounts
}

/// Nothing but the links that a system with one folder for programs has, such as `/bin`.
fn image() -> Image {
    let mut image = Image {
        files: vec![("etc/passwd".to_owned(), 0o644, b"root:x:0:0:root:/:/bin/sh\n".to_vec())],
        ..Image::default()
    };
    for name in ["bin", "sbin", "lib", "lib64"] {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            image.links.push((name.to_owned(), target.display().to_string()));
        }
    }
    image
}

fn pod(name: &str, trial: Trial, folder: &Path, mounts: &[PathBuf]) -> Value {
    let variable = |(name, value): (&str, String)| json!({ "name": name, "value": value });
    let environment = trial.environment().into_iter().chain([("PATH", path())]).map(variable).collect::<Vec<_>>();
    let numbered = || mounts.iter().enumerate();
    let mut volumes: Vec<_> =
        numbered().map(|(at, path)| json!({ "name": format!("m{at}"), "hostPath": { "path": path } })).collect();
    volumes.push(json!({ "name": "work", "hostPath": { "path": folder } }));
    volumes.push(json!({ "name": "tmp", "emptyDir": {} }));
    let mut inside: Vec<_> =
        numbered().map(|(at, path)| json!({ "name": format!("m{at}"), "mountPath": path, "readOnly": true })).collect();
    inside.push(json!({ "name": "work", "mountPath": "/work" }));
    inside.push(json!({ "name": "tmp", "mountPath": "/tmp" }));
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": trial.save.grace as u64,
        "volumes": volumes,
        "containers": [{ "name": "pytorch", "image": "local/signals:1", "imagePullPolicy": "Never", "workingDir": "/work",
            "command": trial.command(), "env": environment, "volumeMounts": inside }],
    }})
}

/// Deleted by kubelet and containerd, which is what a drain does to a training.
#[test]
fn the_same_is_seen_of_pods() {
    if !can_have_a_node() {
        return;
    }
    let _end = Down(NAME);
    let cluster = up(NAME, &["--tier", "node"]);
    cluster.load_image("docker.io/local/signals:1", &image()).unwrap();
    let mounts = mounts();
    let trials: Vec<_> = Trial::all()
        .into_iter()
        .map(|(at, trial)| {
            let folder = cluster.folder.join("signals").join(at.to_string());
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("train.py"), TRAIN).unwrap();
            (at, trial, folder)
        })
        .collect();
    let pods: Vec<_> =
        trials.iter().map(|(at, trial, folder)| pod(&format!("way-{at}"), *trial, folder, &mounts)).collect();
    cluster.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": pods }).to_string()).unwrap();
    let since = Instant::now();
    loop {
        let late: Vec<_> = trials.iter().filter(|(_, _, folder)| !folder.join("ready").exists()).collect();
        let Some((at, trial, _)) = late.first() else { break };
        if since.elapsed() > Duration::from_secs(300) {
            let told = try_kubectl(&cluster, &["logs", &format!("way-{at}")]);
            let pods = kubectl(&cluster, &["get", "pods"]);
            panic!("{} are not ready, such as {:?}: {told:?}\n{pods}", late.len(), trial.command());
        }
        thread::sleep(Duration::from_millis(200));
    }
    kubectl(&cluster, &["delete", "pods", "--all", "--timeout=300s"]);
    let mut seen = vec![[false; 2]; WAYS.len()];
    for (at, _, folder) in trials {
        seen[at / 2][at % 2] = folder.join("saved").exists();
    }
    rows(&seen);
}
