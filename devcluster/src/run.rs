//! Running programs, and saying so.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What went wrong, as a sentence.
pub type Result<T> = std::result::Result<T, String>;

/// The root of the project.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Cargo, in the root of the project.
#[must_use]
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    // What cargo tells the program that it runs of its package: a build script that asks for it (ring's) would be run
    // anew here, and once more by the cargo outside, each time with all that depends on it.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|start| name.starts_with(start)) {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs a command to its end.
pub fn succeed(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown} ended with {status}")) }
}

/// The folder that cargo builds into.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Builds `bedplate` and gives its path.
pub fn bedplate(release: bool) -> Result<PathBuf> {
    program("bedplate", release)
}

/// Builds a package whose program has its name, and gives the program's path.
pub fn program(package: &str, release: bool) -> Result<PathBuf> {
    let mut build = cargo(&["build", "--quiet", "--package", package]);
    if release {
        build.arg("--release");
    }
    succeed(&mut build)?;
    Ok(target().join(if release { "release" } else { "debug" }).join(package))
}

/// Builds `bedplate-wrap` as one static program, which runs in an image without any library, and gives its path.
///
/// With musl, where that target of Rust is installed; else with the system's own C library: what that would load later (name
/// services, character sets) is not used.
pub fn wrap() -> Result<PathBuf> {
    let rustc = |arguments: &[&str]| output(Command::new("rustc").args(arguments).current_dir(root()), &[0]);
    let musl = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let has_musl =
        rustc(&["--print", "target-libdir", "--target", &musl]).is_ok_and(|dir| Path::new(dir.trim()).exists());
    let target = if has_musl { musl } else { rustc(&["--print", "host-tuple"])?.trim().to_owned() };
    let mut build = cargo(&["build", "--quiet", "--release", "--package", "bedplate-wrap", "--target", &target]);
    // With `--target` it holds for the program, and not for build scripts.
    succeed(build.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(self::target().join(target).join("release/bedplate-wrap"))
}

/// Runs a command, and gives its standard output. An exit code in `accepted` counts as success.
pub fn output(command: &mut Command, accepted: &[i32]) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.code().is_some_and(|code| accepted.contains(&code)) {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{shown} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Gives each line that comes through a pipe, until its other end is closed. What is no UTF-8 is shown as well as it can be.
pub fn each_line(pipe: Option<impl Read>, mut each: impl FnMut(String)) {
    let lines = pipe.map(|pipe| BufReader::new(pipe).split(b'\n'));
    for line in lines.into_iter().flatten().map_while(std::result::Result::ok) {
        each(String::from_utf8_lossy(&line).into_owned());
    }
}

/// Runs a command that reads `input`, and gives its standard output.
pub fn fed(command: &mut Command, input: &str) -> Result<String> {
    let shown = format!("{command:?}");
    let failed = |error: std::io::Error| format!("{shown}: {error}");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let pipe = child.stdin.take();
    // From a thread of its own: a program may write much before it has read all.
    let output = std::thread::scope(|scope| {
        scope.spawn(|| pipe.map(|mut pipe| pipe.write_all(input.as_bytes())));
        child.wait_with_output()
    });
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{shown} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// For `map_err` after something done to a path; `what` is a verb.
pub fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("cannot {what} {path}: {error}")
}

/// Every file below `folder`, as paths relative to it, sorted; none when there is no such folder.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        let entries = match std::fs::read_dir(&next) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(file("read", &next)(error)),
        };
        for entry in entries {
            let path = entry.map_err(file("read", &next))?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if let Ok(relative) = path.strip_prefix(folder) {
                found.push(relative.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}
