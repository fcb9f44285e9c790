//! Any text is read and checked as a Dockerfile without a panic.

#![no_main]

use bedplate_guarantees::check::{Run, Source, check};
use bedplate_guarantees::context::{Neighbours, NoContext};
use bedplate_model::Profile;
use bedplate_model::document::FileKind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let run = Run {
        profile: &Profile::default(),
        neighbours: &Neighbours::default(),
        now: "2026-01-01",
    };
    let checked = check(
        Source {
            text,
            kind: FileKind::Dockerfile,
            build: &NoContext,
        },
        run,
    );
    for located in checked.findings {
        let span = located.span;
        assert!(
            text.get(span.start as usize..span.end as usize).is_some(),
            "{span:?} is no part of the text"
        );
    }
});
