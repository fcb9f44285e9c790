//! `kill -9` between any two requests: what is there then harms nobody, and the next run completes it.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::front::{Door, Front, Knock};
use crate::{Alone, State, installed};

fn changes_something(knock: &Knock) -> bool {
    knock.method != "GET" && !knock.path.contains("dryRun=All") && !knock.path.contains("selfsubject")
}

/// After how many changes the runs are killed, one after the other and over again: each of the first steps by itself,
/// then now a policy, now a binding.
const CHANGES: &[u32] = &[1, 1, 1, 2, 1, 8, 9];

/// Runs a command again and again; each run is killed as soon as the server has done the next changes, before the
/// command hears of the last. Calls `between` after each. Gives how many runs it took.
fn killed_again_and_again(c: &Alone, line: &str, between: impl Fn()) -> u32 {
    let running: Arc<Mutex<Option<u32>>> = Arc::default();
    let left = Arc::new(AtomicI64::new(0));
    let front = {
        let (running, left) = (running.clone(), left.clone());
        Front::new(
            c,
            |_| Door::Open,
            move |knock| {
                if changes_something(knock)
                    && left.fetch_sub(1, Ordering::SeqCst) == 1
                    && let Some(process) = *running.lock().unwrap()
                {
                    Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
                }
            },
        )
    };
    let config = c.kubeconfig("interrupted", &front.cluster(), &json!({}));
    for (run, changes) in (1..100).zip(CHANGES.iter().cycle()) {
        left.store(i64::from(*changes), Ordering::SeqCst);
        let mut held = running.lock().unwrap();
        let mut child = Command::new(c.program())
            .args(line.split_whitespace())
            .env("KUBECONFIG", &config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *held = Some(child.id());
        drop(held);
        let status = child.wait().unwrap();
        *running.lock().unwrap() = None;
        if status.code().is_some() {
            assert!(status.success(), "run {run} of `{line}` ended with {status}");
            return run;
        }
        between();
    }
    panic!("`{line}` does not come to an end");
}

#[test]
fn a_removal_and_an_installation_that_are_killed_at_any_step_are_completed_and_lock_nobody_out() {
    let c = installed();
    let runs = killed_again_and_again(&c, "uninstall", || {});
    assert!(runs > 6, "only {runs} runs");
    for kind in ["crd", "validatingadmissionpolicy", "validatingadmissionpolicybinding"] {
        let left = c.k(&format!("get {kind} -o name")).accepted();
        assert!(!left.contains("bedplate"), "{left}");
    }
    c.bedplate("rollback").refused("nothing to go back to");

    let ns = c.namespace("meanwhile");
    let runs = killed_again_and_again(&c, "apply", || {
        c.k(&format!("run x --image=docker.io/library/busybox:1.36 -n {ns} --dry-run=server")).accepted();
    });
    assert!(runs > 6, "only {runs} runs");
    let plan = c.bedplate("plan");
    assert_eq!(plan.code, 0, "{}", plan.text);
    let applied = c.k("get stabilityprofile default -o jsonpath={.status.conditions[0].status}").accepted();
    assert_eq!(applied, "True");
    c.bedplate("rollback").refused("the last apply was the first one");
    c.leave(State::Installed);
}
