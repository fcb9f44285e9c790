//! The guards inside a real API server: what they refuse, what they let pass, and that they agree with the rules.
#![allow(clippy::unwrap_used, clippy::panic)]

mod admission;
mod agreement;
mod commands;
mod deletion;
mod examples;

use std::sync::{Mutex, PoisonError};

use bedplate_tests::Harness;
use serde_json::json;

/// Brings what the profile and the exemptions say into the guards. One test at a time: of two who change the same guard
/// at once, one is told to try again.
fn carry_over(c: &Harness) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    c.bedplate("apply").accepted();
}

/// The cluster with Bedplate on it, as a user installs it.
fn cluster() -> &'static Harness {
    Harness::get(|harness| {
        let profile = json!({
            "apiVersion": "bedplate.dev/v1alpha1", "kind": "StabilityProfile", "metadata": { "name": "default" },
            "spec": { "deletion": { "crdGroups": ["widgets.*"] }, "namespaces": [
                { "names": ["roomy-*"], "admission": { "acceleratorsPerJob": 64 } },
                { "names": ["warned-*"], "modes": { "admission": "warn" } },
                { "names": ["old-*"], "modes": { "admission": "off" } },
            ] },
        });
        let file = harness.cluster.folder.join("bedplate.yaml");
        std::fs::write(&file, profile.to_string()).unwrap();
        harness.bedplate(&format!("apply --file {}", file.display())).accepted();
        // The API server reads new policies within seconds.
        let mut last = String::new();
        for _ in 0..50 {
            let answer = harness.bedplate("prove --quiet");
            if answer.code == 0 {
                return;
            }
            last = answer.text;
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        panic!("the guards do not hold: {last}");
    })
}
