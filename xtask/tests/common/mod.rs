//! What tests of `cargo xtask cluster` share.
#![allow(dead_code, unreachable_pub)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bedplate_devcluster::{Cluster, cluster};

/// Whether the tier `node` can be tested here; says so where it cannot.
pub fn can_have_a_node() -> bool {
    let checked = bedplate_devcluster::node::check(Path::new("/"));
    if let Err(why) = &checked {
        skipped(&format!("the tier `node` is not tested here: {why}"));
    }
    checked.is_ok()
}

/// Says so, loudly, where something cannot be tested.
pub fn skipped(why: &str) {
    // Not `eprintln`, which the test harness keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {why}\n");
}

/// Ends the cluster of this name when the test ends, however it does.
pub struct Down(pub &'static str);

impl Drop for Down {
    fn drop(&mut self) {
        if let Some(cluster) = Cluster::find(self.0) {
            let _ = cluster.down();
        }
    }
}

/// `cargo xtask cluster up`, with more arguments.
pub fn up(name: &str, arguments: &[&str]) -> Cluster {
    xtask(&[&["cluster", "up", "--name", name], arguments].concat());
    Cluster::find(name).expect("it is up")
}

/// Processes, mounts, interfaces and control groups of the cluster.
pub fn left(cluster: &Cluster) -> Vec<String> {
    let mut left = left_in(&cluster.folder);
    if cluster.network.is_some_and(|network| !network.is_gone()) {
        left.push("an interface or a control group".to_owned());
    }
    left
}

/// Processes and mounts that name a cluster's folder.
pub fn left_in(folder: &Path) -> Vec<String> {
    let mut left = Vec::new();
    let folder = folder.display().to_string();
    let mut namespaces = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ");
        // A shim names neither folder nor cluster; its mounts do. They are seen by one process of each namespace.
        let namespace = std::fs::read_link(entry.path().join("ns/mnt")).ok();
        if command.contains(&folder) {
            left.push(format!("process: {command}"));
        }
        let mounts = std::fs::read_to_string(entry.path().join("mounts")).unwrap_or_default();
        if mounts.contains(&folder) {
            left.push(format!("in a namespace with its mounts: {command}"));
        }
        if let Some(namespace) = namespace.filter(|namespace| !namespaces.contains(namespace)) {
            left.extend(mounts.lines().filter(|line| line.contains(&folder)).map(|line| format!("mount: {line}")));
            namespaces.push(namespace);
        }
    }
    left
}

/// `cargo xtask`, which is expected to go well; gives what it prints.
pub fn xtask(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    stdout(&output)
}

/// `kubectl`, which may be refused.
pub fn try_kubectl(cluster: &Cluster, arguments: &[&str]) -> Output {
    cluster::kubectl(&cluster.kubeconfig()).unwrap().args(arguments).output().unwrap()
}

/// `kubectl`, which is expected to go well; gives what it prints.
pub fn kubectl(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = try_kubectl(cluster, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    stdout(&output)
}

/// What a program printed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for what other processes are about to do; the limit is only there to end a test that fails.
pub fn eventually(mut attempt: impl FnMut() -> Result<(), String>) {
    let started = Instant::now();
    while let Err(error) = attempt() {
        assert!(started.elapsed() < Duration::from_secs(60), "{error}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Where a program is.
pub fn which(program: &str) -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.exists()).expect(program)
}
