//! `cargo xtask python`: the Python package, built as its users install it, and tested with real numpy, torch and JAX.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use bedplate_devcluster::python::installed;
use bedplate_devcluster::run::{self, Result};

pub(crate) fn run() -> Result<ExitCode> {
    let (passed, failed) = test()?;
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds, lints and tests the package; gives how many tests passed and failed.
pub(crate) fn test() -> Result<(u32, u32)> {
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
    let mut counted = None;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
            println!("{line}");
            counted = counts(&line).or(counted);
        }
    }
    let status = child.wait().map_err(|error| format!("pytest: {error}"))?;
    match counted {
        Some((passed, failed)) => Ok((passed, if status.success() { failed } else { failed.max(1) })),
        None => Err(format!("pytest ended with {status}, and counted no test")),
    }
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
}
