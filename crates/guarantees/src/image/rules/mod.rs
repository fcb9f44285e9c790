//! The rules of `image`, one a file.

mod init_bypassed;
mod launcher_swallows_signals;
mod no_init;
mod not_distroless;
mod runs_as_root;
mod shell_form;
mod shell_wrapper_without_exec;
mod unpinned_base;

use bedplate_model::document::dockerfile::{Command, Dockerfile, Text, What};
use bedplate_model::{ImageRef, Settings};

use crate::command::{self, Pid1, Step, is_shell, pid1, steps};
use crate::{BuildContext, Rule};

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

/// The `ENTRYPOINT` that the file sets. `ENTRYPOINT []` takes the base's away and sets none.
fn entrypoint(file: &Dockerfile) -> Option<&Command> {
    file.entrypoint().filter(|command| !matches!(command, Command::Exec(words, _) if words.is_empty()))
}

/// The command that starts the image: `ENTRYPOINT`, or `CMD` where there is none.
fn start(file: &Dockerfile) -> Option<&Command> {
    entrypoint(file).or_else(|| file.cmd())
}

/// The words of a command, those of the shell included where it is in shell form.
fn command_words<'a>(file: &'a Dockerfile, command: &'a Command) -> Vec<&'a str> {
    let Command::Shell(text) = command else { return command.words() };
    let shell = file.last(|i| if let What::Shell(words) = &i.what { Some(words) } else { None });
    let mut words: Vec<&str> = match shell {
        Some(words) => words.iter().map(|word| word.text.as_str()).collect(),
        None => vec!["/bin/sh", "-c"],
    };
    words.push(&text.text);
    words
}

/// All words that start the image: `ENTRYPOINT` with `CMD` as its arguments. One in shell form
/// ignores the `CMD`.
fn words(file: &Dockerfile) -> Vec<&str> {
    let entrypoint = entrypoint(file);
    let mut words = entrypoint.map(|command| command_words(file, command)).unwrap_or_default();
    if !matches!(entrypoint, Some(Command::Shell(_))) {
        words.extend(file.cmd().map(|command| command_words(file, command)).unwrap_or_default());
    }
    words
}

/// What PID 1 of the image is.
fn first_process(file: &Dockerfile, settings: &Settings) -> Pid1 {
    pid1(&words(file), settings)
}

/// A reference with the defaults of the file's `ARG`s filled in; nothing where it stays open.
fn image(file: &Dockerfile, reference: &str) -> Option<ImageRef> {
    let mut text = String::with_capacity(reference.len());
    let mut rest = reference;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        let (expression, behind) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => after.split_at(after.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(after.len())),
        };
        let (name, default) = match expression.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (expression, None),
        };
        let value = file.global_args.iter().rev().find(|(arg, _)| arg == name).map(|(_, value)| value.as_str());
        text.push_str(value.or(default)?);
        rest = behind;
    }
    text.push_str(rest);
    ImageRef::parse(&text)
}

/// The reference that the final stage is built on, as written.
fn base(file: &Dockerfile) -> Option<&Text> {
    file.final_stages().last().map(|stage| &stage.base)
}

/// The file of the build context that the image runs as `program`, and its text: the last
/// `COPY` that puts it there.
fn copied(file: &Dockerfile, build: &dyn BuildContext, program: &str) -> Option<(String, String)> {
    let (copies, workdir) = copies(file);
    let wanted: Vec<String> = if program.contains('/') {
        vec![absolute(&workdir, program)]
    } else {
        // Found through PATH, or by a shell in its own folder.
        let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        folders.iter().copied().chain([workdir.as_str()]).map(|folder| absolute(folder, program)).collect()
    };
    copies.iter().rev().find_map(|(source, dest)| {
        let source = source.trim_start_matches("./").trim_matches('/');
        let source = if source == "." { "" } else { source };
        let join = |folder: &str, rest: &str| match folder {
            "" => rest.to_owned(),
            folder => format!("{folder}/{rest}"),
        };
        wanted.iter().find_map(|program| {
            let inside = program.strip_prefix(dest.as_str()).map(|rest| (rest, rest.trim_start_matches('/')));
            let candidate = match inside? {
                ("", _) => source.to_owned(),
                (rest, _) if !rest.starts_with('/') && dest != "/" => return None,
                (_, rest) if rest == command::base(source) => source.to_owned(),
                (_, rest) if source.contains('*') => {
                    join(source.rsplit_once('/').map_or("", |(folder, _)| folder), rest)
                }
                (_, rest) => join(source, rest),
            };
            build.read(&candidate).map(|text| (candidate, text))
        })
    })
}

/// Every source and absolute destination of the image's `COPY`s out of the build context, in
/// order, and the last `WORKDIR`.
fn copies(file: &Dockerfile) -> (Vec<(&str, String)>, String) {
    let mut found = Vec::new();
    let mut workdir = "/".to_owned();
    for instruction in file.final_stages().into_iter().rev().flat_map(|stage| &stage.instructions) {
        match &instruction.what {
            What::Workdir(path) => workdir = absolute(&workdir, &path.text),
            What::Copy(sources, dest, None) => {
                let dest = absolute(&workdir, &dest.text);
                found.extend(sources.iter().map(|source| (source.text.as_str(), dest.clone())));
            }
            _ => {}
        }
    }
    (found, workdir)
}

/// A path from the root, without `.` and a slash at its end.
fn absolute(folder: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") };
    let parts: Vec<_> = whole.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    format!("/{}", parts.join("/"))
}

/// How a script hands over to its program.
enum Handover<'a> {
    /// It becomes the program, whose words follow `exec`.
    Exec(&'a str),
    /// It says itself what to do on a signal, or runs nothing.
    Own,
    /// It waits for this command.
    Waits(Step<'a>),
}

/// How a script hands over; nothing for a text that is no shell script.
fn handover<'a>(path: &str, text: &'a str) -> Option<Handover<'a>> {
    let first = text.lines().next().and_then(|line| line.strip_prefix("#!"));
    let shell = match first {
        Some(line) => line.split_whitespace().any(is_shell),
        None => path.ends_with(".sh"),
    };
    if !shell {
        return None;
    }
    if command::traps(text) {
        return Some(Handover::Own);
    }
    let steps = steps(text);
    let Some(last) = steps.last() else { return Some(Handover::Own) };
    if let Some(line) = last.exec() {
        return Some(Handover::Exec(line));
    }
    // An `exec` in a branch or a function counts where the script ends with that.
    let called = |name: &str| steps.iter().any(|step| step.text.replace(' ', "").starts_with(&format!("{name}()")));
    let closes = matches!(last.text, "fi" | "done" | "esac" | "}");
    if (closes || called(last.program()))
        && let Some(line) = steps.iter().rev().find_map(Step::exec)
    {
        return Some(Handover::Exec(line));
    }
    let work = |step: &&Step<'_>| !matches!(step.program(), "exit" | "return" | "wait" | "fi" | "done" | "esac" | "}");
    Some(Handover::Waits(*steps.iter().rev().find(work).unwrap_or(last)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bedplate_model::document::{FileKind, Limits};
    use bedplate_model::{Finding, Profile};

    use super::*;
    use crate::Neighbours;
    use crate::check::{Run, Source, check};

    struct Files(BTreeMap<String, String>);

    impl BuildContext for Files {
        fn read(&self, path: &str) -> Option<String> {
            self.0.get(path).cloned()
        }
    }

    /// What a rule finds in a Dockerfile with files beside it.
    pub(super) fn found(rule: &Rule, text: &str, files: &[(&str, &str)]) -> Vec<Finding> {
        let files = Files(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect());
        let checked = check(
            Source { text, kind: FileKind::Dockerfile, build: &files },
            Run { profile: &Profile::default(), neighbours: &Neighbours::default(), now: "2026-01-01" },
        );
        let findings: Vec<_> = checked.findings.into_iter().map(|located| located.finding).collect();
        assert!(findings.iter().all(|finding| finding.rule != "syntax"), "{findings:?}");
        findings.into_iter().filter(|finding| finding.rule == rule.name).collect()
    }

    pub(super) fn messages(rule: &Rule, text: &str, files: &[(&str, &str)]) -> Vec<String> {
        found(rule, text, files).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn an_argument_is_filled_in_by_its_whole_name() {
        let text = "ARG PY=3.12\nARG PYTHON=python\nFROM ${PYTHON}:$PY\n";
        let file = Dockerfile::parse(text, &Limits::DEFAULT).unwrap();
        let name = |text: &str| image(&file, text).map(|image| image.to_string());
        assert_eq!(name("$PYTHON:$PY").as_deref(), Some("docker.io/library/python:3.12"));
        assert_eq!(name("${OTHER:-a}:${PY}-slim").as_deref(), Some("docker.io/library/a:3.12-slim"));
        assert_eq!(name("$OTHER"), None);
        assert_eq!(name("${PY"), None);
    }
}
