//! `cargo xtask cluster up` is given up half-way: nothing goes on behind one's back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bedplate_devcluster::{Cluster, run};
use common::{Down, can_have_a_node, eventually, left_in};

/// Starts a cluster as far as its API server, which takes seconds to answer, and gives the folder of it.
fn half_way(name: &str, tier: &str) -> (Child, PathBuf) {
    let folder = run::target().join("clusters").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    let up = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["cluster", "up", "--name", name, "--tier", tier])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = folder.join("kube-apiserver.log");
    eventually(|| log.exists().then_some(()).ok_or(format!("no {}", log.display())));
    assert!(left_in(&folder).iter().any(|line| line.contains("etcd")), "this test sees what is left");
    (up, folder)
}

fn signal(name: &str, process: &Child) {
    assert!(Command::new("kill").args(["-s", name, &process.id().to_string()]).status().unwrap().success());
}

/// Sends the signal, and sees that `up` says what it did, and that it is so at once.
fn ends(cluster: &str, tier: &str, name: &str, code: i32) -> PathBuf {
    let (up, folder) = half_way(cluster, tier);
    signal(name, &up);
    let told = up.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(code), "{words}");
    assert!(words.contains(&format!("interrupted while starting cluster `{cluster}`")), "{words}");
    assert!(words.ends_with("nothing of it runs any more\n"), "{words}");
    assert_eq!(left_in(&folder), Vec::<String>::new());
    assert!(Cluster::find(cluster).is_none());
    folder
}

#[test]
fn ctrl_c_and_term_end_what_was_started_and_say_so() {
    let cluster = "test-of-interrupt";
    let _end = Down(cluster);
    ends(cluster, "api", "INT", 130);
    ends(cluster, "api", "TERM", 143);
}

#[test]
fn of_a_node_no_interface_and_no_control_group_stays() {
    if !can_have_a_node() {
        return;
    }
    let cluster = "test-of-node-interrupt";
    let _end = Down(cluster);
    let folder = ends(cluster, "node", "INT", 130);
    // https://10.245.N.1:PORT is bedplateN.
    let config = std::fs::read_to_string(folder.join("kubeconfig")).unwrap();
    let number = config.split("https://10.245.").nth(1).and_then(|rest| rest.split('.').next()).expect("an address");
    for place in ["/sys/class/net", "/sys/fs/cgroup", "/sys/fs/cgroup/memory"] {
        let place = Path::new(place).join(format!("bedplate{number}"));
        assert!(!place.exists(), "{}", place.display());
    }
}

#[test]
fn a_killed_one_leaves_nothing_either() {
    let cluster = "test-of-kill";
    let _end = Down(cluster);
    let (mut up, folder) = half_way(cluster, "api");
    signal("KILL", &up);
    up.wait().unwrap();
    eventually(|| {
        let left = left_in(&folder);
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
}
