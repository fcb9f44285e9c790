//! `cargo xtask test`: every test, and one line at the end that counts them.

use std::process::{ExitCode, Stdio};

use crate::{fuzz, python};
use bedplate_devcluster::run::{self, cargo};
use bedplate_devcluster::{AddOn, node, tools};

/// What to leave out.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds for each fuzz target; 0 leaves fuzzing out
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
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
    for name in ["etcd", "kubernetes", "helm", "corefile-replay"].iter().chain(if node::is_root() { NODE } else { &[] })
    {
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
    let mut results = Results::default();
    run::each_line(child.stdout.take(), |line| {
        println!("{line}");
        results.read(line);
    });
    let status = child.wait().map_err(|error| format!("cargo: {error}"))?;
    // A crate that does not compile is a failure that no result line counts.
    if !status.success() && results.failed == 0 {
        results.failed = 1;
        results.told.push("cargo test could not run everything: see above".to_owned());
    }
    match python::test() {
        Ok(python) => {
            results.passed += python.passed;
            results.failed += python.failed;
            results.told.extend(python.told);
        }
        Err(error) => {
            results.failed += 1;
            results.told.push(format!("the Python package: {error}"));
        }
    }
    for target in if options.fuzz_seconds > 0 { fuzz::targets()? } else { Vec::new() } {
        println!("== fuzz {target}, {} s", options.fuzz_seconds);
        match fuzz::fuzz(&target, options.fuzz_seconds) {
            Ok(()) => results.passed += 1,
            Err(error) => {
                results.failed += 1;
                results.told.push(format!("fuzz {target}: {error}"));
            }
        }
    }
    let Results { passed, failed, told, .. } = results;
    if !told.is_empty() {
        println!("== what failed, once more");
        told.iter().for_each(|line| println!("{line}"));
    }
    println!("{passed} passed, {failed} failed");
    let good = failed == 0 && passed > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What libtest told so far.
#[derive(Default)]
struct Results {
    passed: u32,
    failed: u32,
    /// What is said of failures, from `failures:` to the list of their names: a log of CI is read from its end.
    told: Vec<String>,
    in_failures: bool,
}

impl Results {
    fn read(&mut self, line: String) {
        if let Some((passed, failed)) = counts(&line) {
            self.passed += passed;
            self.failed += failed;
            self.in_failures = false;
        }
        self.in_failures |= line == "failures:";
        if self.in_failures {
            self.told.push(line);
        }
    }
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
    /// CI keeps the end of its log, and the end was a minute of fuzzing: which test had failed could not be told.
    #[test]
    fn what_failed_is_told_once_more_at_the_end() {
        let mut results = super::Results::default();
        let log = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nthe reason\n\n\n\
                   failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\nrunning 1 test";
        log.lines().for_each(|line| results.read(line.to_owned()));
        assert_eq!((results.passed, results.failed), (1, 1));
        assert!(results.told.iter().any(|line| line == "the reason"), "{:?}", results.told);
        assert!(!results.told.iter().any(|line| line.starts_with("running")), "{:?}", results.told);
    }

    #[test]
    fn a_result_line_is_counted() {
        let line = "test result: FAILED. 17 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(super::counts(line), Some((17, 2)));
        assert_eq!(super::counts("running 3 tests"), None);
    }
}
