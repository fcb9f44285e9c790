//! `cargo xtask fuzz`: each libFuzzer target for a while, from the corpus kept in `fuzz/corpus/TARGET`.
//!
//! Coverage comes from stable compiler flags; only `-Z` sanitizers would need a nightly compiler, and they look for
//! memory errors, which safe Rust does not have. So `--sanitizer none` fuzzes with the project's own toolchain.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use bedplate_devcluster::{
    run::{self, Result},
    tools,
};

/// What to fuzz.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Targets, as named in fuzz/fuzz_targets; none means all.
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Afterwards add to fuzz/corpus the inputs that reached new code.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let known = targets()?;
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        return Err(format!("no fuzz target is called `{unknown}`; known: {}", known.join(", ")));
    }
    for target in if options.targets.is_empty() { &known } else { &options.targets } {
        eprintln!("\nxtask: fuzz {target} for {} s", options.seconds);
        fuzz(target, options.seconds)?;
        if options.keep {
            keep(target)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of all targets: the files in `fuzz/fuzz_targets`.
pub(crate) fn targets() -> Result<Vec<String>> {
    let files = run::files_below(&run::root().join("fuzz/fuzz_targets"))?;
    let stem = |file: PathBuf| file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Ok(files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs")).filter_map(stem).collect())
}

/// Fuzzes `target` for `seconds`; an error when an input breaks it.
pub(crate) fn fuzz(target: &str, seconds: u32) -> Result<()> {
    let seconds = format!("-max_total_time={seconds}");
    libfuzzer(
        target,
        &[found(target)?, kept(target)?],
        &["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", &seconds],
    )
}

/// Copies from the found inputs those that reach code which no kept input reaches.
fn keep(target: &str) -> Result<()> {
    libfuzzer(target, &[kept(target)?, found(target)?], &["-merge=1"])
}

fn libfuzzer(target: &str, corpora: &[PathBuf], flags: &[&str]) -> Result<()> {
    let program = tools::get("cargo-fuzz")?.program()?;
    let mut command = std::process::Command::new(program);
    command.current_dir(run::root()).args(["run", "--sanitizer", "none", target]).args(corpora).arg("--").args(flags);
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(|error| format!("cargo fuzz: {error}"))?;
    let mut told = Vec::new();
    run::each_line(child.stderr.take(), |line| {
        if is_progress(&line) {
            return;
        }
        eprintln!("{line}");
        // From where it says what went wrong; the rest is where the program was then.
        if told.len() < TOLD && (!told.is_empty() || line.contains("panicked at") || line.contains("error")) {
            told.push(line);
        }
    });
    let status = child.wait().map_err(|error| format!("cargo fuzz: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{target} ended with {status}:\n{}", told.join("\n")))
}

/// Lines of a failure that are told again.
const TOLD: usize = 40;

/// What libFuzzer tells of each input that it keeps, and of the words that it tried: thousands of lines, which hide in a log
/// all that was said before them.
fn is_progress(line: &str) -> bool {
    let counted = line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    (counted && !line.contains("\tDONE")) || line.starts_with(['"', '\'']) || line.starts_with("######")
}

/// Seeds under version control.
fn kept(target: &str) -> Result<PathBuf> {
    made(run::root().join("fuzz/corpus").join(target))
}

/// What this machine's runs found. libFuzzer writes only to the first folder it is given, so a test leaves the work
/// tree as it was.
fn found(target: &str) -> Result<PathBuf> {
    made(run::target().join("fuzz-found").join(target))
}

fn made(folder: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&folder).map_err(run::file("create", &folder))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    /// CI keeps the end of its log: it was all of libFuzzer, and which test of Python had failed could not be told.
    #[test]
    fn the_progress_of_libfuzzer_is_not_shown_and_what_it_found_is() {
        let progress = [
            "#52229\tREDUCE cov: 9069 ft: 46155 corp: 2725/5683Kb",
            "###### Recommended dictionary. ######",
            "\"us\" # Uses: 20",
        ];
        let told = [
            "#52810\tDONE   cov: 9069 ft: 46183",
            "thread panicked at fuzz_targets/fix.rs:12:5:",
            "   #0 0x55d1 in main",
        ];
        assert!(progress.iter().all(|line| super::is_progress(line)));
        assert!(!told.iter().any(|line| super::is_progress(line)));
    }
}
