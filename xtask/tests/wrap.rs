//! `bedplate-wrap` goes into images of all kinds: distroless, Alpine, those of scratch.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;

use bedplate_devcluster::run;

/// PT_INTERP of elf(5): the path of the program that loads libraries.
const INTERPRETER: u64 = 3;

/// The types of the program headers of a 64-bit ELF file with the low byte first.
fn segments(program: &[u8]) -> Vec<u64> {
    assert_eq!(program[..6], [0x7f, b'E', b'L', b'F', 2, 1]);
    let number = |at: u64, size: u64| {
        let bytes = &program[usize::try_from(at).unwrap()..][..usize::try_from(size).unwrap()];
        bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let (first, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).map(|at| number(first + at * size, 4)).collect()
}

#[test]
fn it_asks_for_no_library_and_runs_where_there_is_none() {
    let program = run::wrap().unwrap();
    assert!(!segments(&std::fs::read(&program).unwrap()).contains(&INTERPRETER), "{} is not static", program.display());
    let this = std::env::current_exe().unwrap();
    assert!(segments(&std::fs::read(this).unwrap()).contains(&INTERPRETER), "this test can tell");

    let root = tempfile::tempdir().unwrap();
    std::fs::copy(&program, root.path().join("bedplate-wrap")).unwrap();
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user", "--root"]).arg(root.path());
    inside.args(["/bedplate-wrap", "--", "/bedplate-wrap", "--", "/bedplate-wrap", "--help"]);
    let output = inside.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.starts_with("usage: bedplate-wrap"), "{told}");
}
