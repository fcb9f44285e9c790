//! Whatever the manifest: a fix either cannot be applied, or its result is a text that can be checked again.

#![no_main]

use bedplate_guarantees::check::{Run, Source, check};
use bedplate_guarantees::context::{Neighbours, NoContext};
use bedplate_model::document::FileKind;
use bedplate_model::{Profile, edit};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let run = Run {
        profile: &Profile::default(),
        neighbours: &Neighbours::default(),
        now: "2026-01-01",
    };
    let look = |text: &str| {
        check(
            Source {
                text,
                kind: FileKind::Yaml,
                build: &NoContext,
            },
            run,
        )
    };
    for located in look(text).findings {
        let span = located.span;
        assert!(
            text.get(span.start as usize..span.end as usize).is_some(),
            "{span:?} is no part of the text"
        );
        let Some(fix) = &located.finding.fix else { continue };
        if let Ok(fixed) = edit::apply(text, located.document, &fix.edits) {
            look(&fixed);
        }
    }
});
