//! Any text is read as YAML or JSON without a panic, and every span lies in the text.

#![no_main]

use bedplate_model::document::{Limits, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let parsed = parse(text, &Limits::DEFAULT);
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
