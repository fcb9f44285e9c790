//! `bedplate-wrap`: `bedplate wrap` as a small program of its own, for images.

#![allow(clippy::print_stderr)]

use std::ffi::OsString;
use std::process::ExitCode;

use bedplate_wrap::{GRACE_VARIABLE, Options};

const USAGE: &str = "usage: bedplate-wrap [--grace SECONDS] -- COMMAND [ARGUMENT…]
Runs a command, as PID 1 of a container or anywhere: a SIGTERM reaches the program behind shells and launchers, the dead are
buried, all descendants are waited for, and who is left a second before the end of the grace is named and killed.
--grace: the pod's terminationGracePeriodSeconds; else BEDPLATE_GRACE_SECONDS, else 30";

fn main() -> ExitCode {
    let options = match options(std::env::args_os().skip(1), std::env::var(GRACE_VARIABLE).ok()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            eprintln!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("bedplate-wrap: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match bedplate_wrap::run(&options) {
        Ok(end) => {
            if let Some(report) = end.report {
                eprintln!("bedplate-wrap: {report}");
            }
            ExitCode::from(end.code)
        }
        Err(error) => {
            eprintln!("bedplate-wrap: {error}");
            ExitCode::from(2)
        }
    }
}

/// `None`: only the usage is asked for.
fn options(mut arguments: impl Iterator<Item = OsString>, variable: Option<String>) -> Result<Option<Options>, String> {
    let mut grace = None;
    loop {
        match arguments.next() {
            Some(word) if word == "--help" || word == "-h" => return Ok(None),
            Some(word) if word == "--grace" => {
                let value = arguments.next().ok_or("--grace needs a number of seconds")?;
                grace = Some(value.to_string_lossy().into_owned());
            }
            Some(word) if word == "--" => break,
            Some(word) => return Err(format!("`{}` is not known; the command comes behind `--`", word.display())),
            None => return Err("there is no command".to_owned()),
        }
    }
    let command: Vec<OsString> = arguments.collect();
    if command.is_empty() {
        return Err("there is no command behind `--`".to_owned());
    }
    Ok(Some(Options { command, grace: bedplate_wrap::grace(grace.as_deref(), variable.as_deref())? }))
}
