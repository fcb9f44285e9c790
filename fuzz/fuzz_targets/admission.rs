//! Whatever bytes come to the webhook: an answer that is an AdmissionReview, or an error that is told; and what the
//! early stage refuses, the late one refuses too.

#![no_main]

use bedplate_guarantees::Neighbours;
use bedplate_guarantees::check::Run;
use bedplate_model::Profile;
use bedplate_operator::admission::{explain, judge, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(request) = read(body) else { return };
    let run = Run {
        profile: &Profile::default(),
        neighbours: &Neighbours::default(),
        now: "2026-11-24",
    };
    let (early, late) = (explain(&request, run), judge(&request, run));
    assert_eq!(early.allowed(), late.allowed());
    for answer in [&early, &late] {
        assert!(answer.warnings.iter().all(|warning| warning.len() <= 256 && !warning.contains('\n')));
        serde_json::from_slice::<serde_json::Value>(&answer.body(&request.uid)).expect("JSON");
    }
});
