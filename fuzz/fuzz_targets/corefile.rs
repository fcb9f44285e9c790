//! Any text is read as a Corefile without a panic.

#![no_main]

use bedplate_dns::corefile::Corefile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(corefile) = Corefile::parse(text) {
        for block in corefile.servers() {
            let _ = corefile.plugins(block);
        }
    }
});
