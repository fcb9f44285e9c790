//! The rules of `image`, one a file.

mod init_bypassed;
mod launcher_swallows_signals;
mod no_init;
mod not_distroless;
mod runs_as_root;
mod shell_form;
mod shell_wrapper_without_exec;
mod unpinned_base;

use bedplate_model::Settings;
use bedplate_model::document::dockerfile::{Command, Dockerfile};

use crate::Rule;
use crate::command::{Pid1, pid1, script};

/// All of them.
pub static RULES: &[&Rule] = &[
    &no_init::RULE,
    &shell_form::RULE,
    &shell_wrapper_without_exec::RULE,
    &init_bypassed::RULE,
    &launcher_swallows_signals::RULE,
    &not_distroless::RULE,
    &unpinned_base::RULE,
    &runs_as_root::RULE,
];

/// The command that starts the image: `ENTRYPOINT`, or `CMD` where there is none.
fn start(file: &Dockerfile) -> Option<&Command> {
    file.entrypoint().or_else(|| file.cmd())
}

/// All words that start the image, in exec form: `ENTRYPOINT` with `CMD` as its arguments.
fn words(file: &Dockerfile) -> Vec<&str> {
    let mut words = file.entrypoint().map(Command::words).unwrap_or_default();
    words.extend(file.cmd().map(Command::words).unwrap_or_default());
    words
}

/// What PID 1 of the image is.
fn first_process(file: &Dockerfile, settings: &Settings) -> Pid1 {
    match start(file) {
        None => Pid1::Nothing,
        Some(Command::Shell(text)) => script(&text.text),
        Some(Command::Exec(..)) => pid1(&words(file), settings),
    }
}
