//! `cargo xtask demo`: the example platform, checked; each incident explained.

use std::process::{Command, ExitCode};

use bedplate_devcluster::run::{bedplate, root};

pub(crate) fn run() -> Result<ExitCode, String> {
    println!("building bedplate …");
    let program = bedplate(true)?;
    let check = |args: &[&str]| {
        let status =
            Command::new(&program).arg("check").args(args).arg("examples/platform").current_dir(root()).status();
        status.map_err(|error| error.to_string())
    };
    println!("$ bedplate check examples/platform\n");
    let found = check(&[])?;
    if found.code() != Some(1) {
        return Err(format!("the example platform should be full of findings, but check ended with {found}"));
    }
    let report = root().join("target/demo/report.html");
    if let Some(folder) = report.parent() {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    check(&["--quiet", "--format", "html", "--output", &report.to_string_lossy()])?;
    println!("\nThe same as a page: {}", report.display());
    println!("What a rule wants and why: bedplate rules gpu-ceiling");
    Ok(ExitCode::SUCCESS)
}
