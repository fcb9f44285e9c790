//! Any text is read as a Corefile without a panic; what is edited has autopath, and every other byte that it had.

#![no_main]

use bedplate_dns::autopath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(edited) = autopath::add(text) else { return };
    assert!(autopath::has_it(&edited.text));
    let mut rest = edited.text.as_str();
    let mut from = 0;
    for edit in &edited.edits {
        rest = rest.strip_prefix(&text[from..edit.span.start]).unwrap().strip_prefix(edit.text.as_str()).unwrap();
        from = edit.span.end;
    }
    assert_eq!(rest, &text[from..]);
});
