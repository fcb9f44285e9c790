//! `cargo xtask test`: every test, and one line at the end that counts them.

use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};

use crate::run::cargo;

pub(crate) fn run() -> Result<ExitCode, String> {
    println!("== cargo test --workspace");
    let mut child = cargo(&["test", "--workspace", "--no-fail-fast"])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo: {error}"))?;
    let (mut passed, mut failed) = (0, 0);
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            if let Some((p, f)) = counts(&line) {
                passed += p;
                failed += f;
            }
        }
    }
    let status = child.wait().map_err(|error| format!("cargo: {error}"))?;
    println!("{passed} passed, {failed} failed");
    let good = status.success() && failed == 0 && passed > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The counts of a line such as `test result: ok. 17 passed; 0 failed; 0 ignored; …`.
fn counts(line: &str) -> Option<(u32, u32)> {
    let rest = line.strip_prefix("test result: ")?;
    let number =
        |word: &str| rest.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok());
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_result_line_is_counted() {
        let line = "test result: FAILED. 17 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(super::counts(line), Some((17, 2)));
        assert_eq!(super::counts("running 3 tests"), None);
    }
}
