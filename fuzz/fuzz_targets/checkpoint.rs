//! Any bytes are read as every file of a checkpoint without a panic: parts, manifests, writers, headers of safetensors.
//! What is accepted can be worked with.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bedplate_checkpoint::parse_anything(bytes));
