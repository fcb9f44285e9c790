//! `cargo xtask test`: every test, and one line at the end that counts them.

use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};

use crate::fuzz;
use bedplate_devcluster::run::cargo;
use bedplate_devcluster::{AddOn, node, tools};

/// What to leave out.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds for each fuzz target; 0 leaves fuzzing out
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    fuzz_seconds: u32,
}

/// Further tools of the tier node.
const NODE: &[&str] = &["containerd", "coredns", "kwok"];

/// What the tests add to a node.
const ON_NODE: &[AddOn] = &[AddOn::GatewayApi, AddOn::Openkruise, AddOn::Registry];

pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    // What the tests of real pods need; who is not root is told by the test that it leaves them out.
    if node::is_root() {
        node::install_missing()?;
    }
    // Built with its progress shown, before a test waits for it in silence.
    for name in ["etcd", "kubernetes"].iter().chain(if node::is_root() { NODE } else { &[] }) {
        tools::get(name)?.program()?;
    }
    for add_on in [AddOn::Crds].iter().chain(if node::is_root() { ON_NODE } else { &[] }) {
        add_on.build()?;
    }
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
    // A crate that does not compile is a failure that no result line counts.
    if !status.success() && failed == 0 {
        failed = 1;
    }
    for target in if options.fuzz_seconds > 0 { fuzz::targets()? } else { Vec::new() } {
        println!("== fuzz {target}, {} s", options.fuzz_seconds);
        match fuzz::fuzz(&target, options.fuzz_seconds) {
            Ok(()) => passed += 1,
            Err(error) => {
                println!("{error}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    let good = failed == 0 && passed > 0;
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
