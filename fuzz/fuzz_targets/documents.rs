//! Any text is read as YAML or JSON without a panic, every span lies in the text, and the fast path for everyday
//! YAML gives what the YAML library gives.

#![no_main]

use bedplate_model::document::{Limits, parse, parse_slowly};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let parsed = parse(text, &Limits::DEFAULT);
    assert_eq!(parsed, parse_slowly(text, &Limits::DEFAULT));
    for document in &parsed.documents {
        let span = document.span;
        assert!(
            text.get(span.start as usize..span.end as usize).is_some(),
            "{span:?} is no part of the text"
        );
    }
    for error in &parsed.errors {
        let span = error.span;
        assert!(
            text.get(span.start as usize..span.end as usize).is_some(),
            "{span:?} is no part of the text"
        );
    }
});
