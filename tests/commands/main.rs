//! The commands as a person meets them on a bad day: no rights, a server that is slow, old or half broken, a program
//! that is killed, somebody else who changes the same objects.
//!
//! Most of these change what holds for the whole cluster, so they run one after the other.
#![allow(clippy::unwrap_used, clippy::panic)]

mod conflicts;
mod contradictions;
mod dns;
mod front;
mod inputs;
mod interrupted;
mod rights;
mod taken_back;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use bedplate_tests::{Answer, Harness};
use serde_json::{Value, json};

/// The cluster, for one test alone.
struct Alone {
    c: &'static Harness,
    state: MutexGuard<'static, State>,
}

/// How a test leaves the cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Without Bedplate.
    Bare,
    /// With Bedplate, as the first installation leaves it: refusing nothing.
    Installed,
    /// The test has changed something.
    Unknown,
}

impl std::ops::Deref for Alone {
    type Target = Harness;

    fn deref(&self) -> &Harness {
        self.c
    }
}

/// The cluster in whatever state.
fn alone() -> Alone {
    static STATE: Mutex<State> = Mutex::new(State::Bare);
    // A test that failed must not fail the others.
    let state = STATE.lock().unwrap_or_else(|poisoned| {
        let mut state = poisoned.into_inner();
        *state = State::Unknown;
        state
    });
    let c = Harness::get(|_| {});
    STATE.clear_poison();
    Alone { c, state }
}

/// The cluster without Bedplate, for a test that changes that.
fn bare() -> Alone {
    let mut alone = alone();
    if *alone.state != State::Bare {
        alone.bedplate("uninstall").accepted();
    }
    *alone.state = State::Unknown;
    alone
}

/// The cluster with Bedplate, for a test that changes it.
fn installed() -> Alone {
    let mut alone = installed_to_look();
    *alone.state = State::Unknown;
    alone
}

/// The same for a test that leaves it as it is.
fn installed_to_look() -> Alone {
    let mut alone = alone();
    if *alone.state == State::Unknown {
        alone.bedplate("uninstall").accepted();
        *alone.state = State::Bare;
    }
    if *alone.state == State::Bare {
        alone.bedplate("apply").accepted();
        *alone.state = State::Installed;
    }
    alone
}

impl Alone {
    /// Says that the cluster is again as the test found it.
    fn leave(mut self, state: State) {
        *self.state = state;
    }

    /// Makes the guards refuse.
    fn enforce(&self) {
        let modes = r#"{"spec":{"modes":null}}"#;
        self.kubectl(&["patch", "stabilityprofile", "default", "--type=merge", "-p", modes], "").accepted();
        self.bedplate("apply").accepted();
    }

    /// A kubeconfig with another server, authority or user: `cluster` and `user` as they stand in one.
    fn kubeconfig(&self, name: &str, cluster: &Value, user: &Value) -> PathBuf {
        let path = self.cluster.folder.join(format!("{name}.kubeconfig"));
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{ "name": "x", "cluster": cluster }],
            "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
            "users": [{ "name": "x", "user": user }],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }

    fn authority(&self) -> PathBuf {
        self.cluster.folder.join("ca.crt")
    }
}

/// `bedplate` in an environment of its own.
fn bedplate(c: &Harness, kubeconfig: Option<&Path>, home: &Path, line: &str) -> Answer {
    let mut command = Command::new(c.program());
    command.args(line.split_whitespace()).env_clear().env("HOME", home).stdin(Stdio::null());
    if let Some(path) = kubeconfig {
        command.env("KUBECONFIG", path);
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Answer { code: output.status.code().unwrap_or(-1), text: String::from_utf8_lossy(&text).into_owned() }
}

/// It could not run, and a person is told why.
#[track_caller]
fn told(answer: &Answer, words: &[&str]) {
    assert_eq!(answer.code, 2, "{}", answer.text);
    for word in words {
        assert!(answer.text.contains(word), "expected {word:?} in: {}", answer.text);
    }
}
