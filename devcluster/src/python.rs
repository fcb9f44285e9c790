//! The Python package as its users install it, and the environment that it is tested in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{self, Result};
use crate::tools;

/// Builds the wheel and unpacks it; gives the programs of the environment, and the folder of the package.
///
/// # Errors
/// Where it does not build.
pub fn installed(release: bool) -> Result<(PathBuf, PathBuf)> {
    let pytest = tools::get("pytest")?.program()?;
    let bin = pytest.parent().unwrap_or(Path::new("")).to_owned();
    let place = run::target().join(if release { "python-release" } else { "python" });
    let wheels = place.join("wheels");
    if wheels.exists() {
        fs::remove_dir_all(&wheels).map_err(run::file("remove", &wheels))?;
    }
    let mut build = Command::new(bin.join("maturin"));
    build.args(["build", "--quiet", "--out"]).arg(&wheels).current_dir(run::root().join("python"));
    if release {
        build.arg("--release");
    }
    run::succeed(&mut build)?;
    let site = place.join("site");
    let mut install = Command::new(bin.join("pip"));
    install.args(["install", "--quiet", "--no-deps", "--no-index", "--upgrade", "--target"]).arg(&site);
    run::succeed(install.args(run::files_below(&wheels)?.iter().map(|file| wheels.join(file))))?;
    Ok((bin, site))
}
