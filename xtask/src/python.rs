//! `cargo xtask python`: the Python package, built as its users install it, and tested with real numpy, torch and JAX.

use std::process::{Command, ExitCode, Stdio};

use bedplate_devcluster::python::installed;
use bedplate_devcluster::run::{self, Result};

pub(crate) fn run() -> Result<ExitCode> {
    let Results { passed, failed, .. } = test()?;
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What pytest told.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    /// All that is said of failures, and what comes after it.
    pub(crate) told: Vec<String>,
}

impl Results {
    fn read(&mut self, line: String) {
        if let Some((passed, failed)) = counts(&line) {
            (self.passed, self.failed) = (passed, failed);
        }
        let begins = |title: &str| line.starts_with('=') && line.trim_matches(['=', ' ']) == title;
        if !self.told.is_empty() || begins("FAILURES") || begins("ERRORS") {
            self.told.push(line);
        }
    }
}

/// Builds, lints and tests the package.
pub(crate) fn test() -> Result<Results> {
    println!("== python");
    let (bin, site) = installed(false)?;
    let folder = run::root().join("python");
    let tool = |name: &str, arguments: &[&str]| {
        run::succeed(Command::new(bin.join(name)).args(arguments).current_dir(&folder))
    };
    tool("ruff", &["check", "--quiet", "."])?;
    tool("ruff", &["format", "--quiet", "--check", "."])?;
    tool("mypy", &["--no-error-summary"])?;
    let mut pytest = Command::new(bin.join("pytest"));
    // The package that was installed, not the folder beside the tests.
    pytest.current_dir(folder.join("tests")).env("PYTHONPATH", site).stdout(Stdio::piped());
    // A real S3 server on loopback.
    pytest.env("BEDPLATE_S3", run::program("bedplate-s3", false)?);
    let mut child = pytest.spawn().map_err(|error| format!("pytest: {error}"))?;
    let mut results = Results::default();
    run::each_line(child.stdout.take(), |line| {
        println!("{line}");
        results.read(line);
    });
    let status = child.wait().map_err(|error| format!("pytest: {error}"))?;
    if results.passed + results.failed == 0 {
        return Err(format!("pytest ended with {status}, and counted no test"));
    }
    if !status.success() {
        results.failed = results.failed.max(1);
    }
    Ok(results)
}

/// The counts of pytest's last line: `2 failed, 40 passed, 1 skipped in 61.20s (0:01:01)`.
fn counts(line: &str) -> Option<(u32, u32)> {
    let (counted, _) = line.trim_matches(['=', ' ']).split_once(" in ")?;
    let of = |word: &str| counted.split(", ").find_map(|part| part.strip_suffix(word)?.trim_end().parse::<u32>().ok());
    let failed = [of("failed"), of("error"), of("errors")].into_iter().flatten().sum();
    (of("passed").is_some() || failed > 0).then(|| (of("passed").unwrap_or(0), failed))
}

#[cfg(test)]
mod tests {
    #[test]
    fn pytests_last_line_is_counted() {
        assert_eq!(super::counts("42 passed in 61.20s (0:01:01)"), Some((42, 0)));
        assert_eq!(super::counts("= 2 failed, 40 passed, 1 error in 61.20s ="), Some((40, 3)));
        assert_eq!(super::counts("no tests ran in 0.01s"), None);
        assert_eq!(super::counts("a line about 3 passed things"), None);
    }

    #[test]
    fn which_test_failed_and_why_is_kept() {
        let mut results = super::Results::default();
        let log = "collected 2 items\n\ntest_a.py .F   [100%]\n\n==== FAILURES ====\n___ test_b ___\nE   the reason\n\
                   ==== short test summary info ====\nFAILED test_a.py::test_b\n==== 1 failed, 1 passed in 2.00s ====";
        log.lines().for_each(|line| results.read(line.to_owned()));
        assert_eq!((results.passed, results.failed), (1, 1));
        assert_eq!(results.told.first().map(String::as_str), Some("==== FAILURES ===="));
        assert!(results.told.iter().any(|line| line == "E   the reason"), "{:?}", results.told);
    }
}
