use bedplate_model::Finding;
use bedplate_model::document::dockerfile::{Dockerfile, Text, What};

use super::{start, words};
use crate::command::{Pid1, base, commands, pid1};
use crate::{BuildContext, Context, Findings, rule};

rule! {
    /// ## What it does
    /// Reads the script that an image starts with, where it is in the build context, and finds
    /// one that starts its program without `exec`.
    ///
    /// ## Why
    /// The shell waits for the program and keeps the SIGTERM. tini in front does not help: it
    /// tells its child, which is the shell, and goes when that goes, 14 ms later, with the save
    /// lost.
    ///
    /// ## Example
    /// ```dockerfile
    /// FROM docker.io/library/python:3.12-slim
    /// COPY entrypoint.sh /usr/local/bin/
    /// USER 1000
    /// ENTRYPOINT ["tini", "--", "/usr/local/bin/entrypoint.sh"]
    /// ```
    /// ```sh entrypoint.sh
    /// #!/bin/sh
    /// set -e
    /// python train.py "$@"
    /// ```
    ///
    /// ## Use instead
    /// ```dockerfile
    /// FROM docker.io/library/python:3.12-slim
    /// COPY entrypoint.sh /usr/local/bin/
    /// USER 1000
    /// ENTRYPOINT ["tini", "--", "/usr/local/bin/entrypoint.sh"]
    /// ```
    /// ```sh entrypoint.sh
    /// #!/bin/sh
    /// set -e
    /// exec python train.py "$@"
    /// ```
    ///
    /// ## Options
    /// None. A script that forwards signals itself (`trap`) is left alone.
    ///
    /// ## Sources
    /// - POSIX shell, `exec`; tini signals only its direct child.
    "shell-wrapper-without-exec", Image, Error, High, [Dockerfile(check)]
}

fn check(file: &Dockerfile, build: &dyn BuildContext, cx: &Context<'_>, out: &mut Findings) {
    let Some(command) = start(file) else { return };
    let all = words(file);
    let program = match pid1(&all, cx.settings) {
        Pid1::Init(rest) => rest.first().cloned(),
        Pid1::Program(program, _) => Some(program),
        _ => None,
    };
    let Some(program) = program.filter(|program| !program.is_empty()) else { return };
    // `bash script.sh` behind an init: the script is the next word.
    let program = if matches!(base(&program), "sh" | "bash") {
        match all.iter().find(|word| word.ends_with(".sh")) {
            Some(word) => (*word).to_owned(),
            None => return,
        }
    } else {
        program
    };
    let Some((path, text)) = source(file, build, &program) else { return };
    let shell = text.lines().next().is_some_and(|line| line.starts_with("#!") && line.contains("sh"));
    if !(shell || path.ends_with(".sh")) || text.contains("trap ") {
        return;
    }
    let all = commands(&text);
    let Some(last) = all.last() else { return };
    let ends = matches!(last.as_str(), "fi" | "done" | "esac" | "}" | "wait");
    if all.iter().any(|command| command.starts_with("exec ") || command.contains(" exec "))
        && (ends || last.starts_with("exec "))
    {
        return;
    }
    if last.starts_with("exec ") {
        return;
    }
    let line = text.trim_end().lines().count();
    out.push(
        Finding::new(
            command.span(),
            format!("the script `{path}` starts its program without `exec`: the shell keeps SIGTERM to itself"),
        )
        .label(format!("line {line} of {path}"))
        .note(format!("Line {line} of {path} is `{}`.", last.chars().take(80).collect::<String>()))
        .help(format!("write `exec {}` there", last.split_whitespace().next().unwrap_or_default())),
    );
}

/// The file of the build context that becomes `program` in the image, and its text.
fn source(file: &Dockerfile, build: &dyn BuildContext, program: &str) -> Option<(String, String)> {
    let name = base(program);
    let copied = file.final_stages().into_iter().flat_map(|stage| &stage.instructions).find_map(|instruction| {
        let What::Copy(sources, dest, None) = &instruction.what else { return None };
        let named = sources.iter().find(|source: &&Text| base(&source.text) == name || dest.text == program);
        let folder = sources.iter().find(|source| matches!(source.text.trim_end_matches('/'), "." | "" | "./"));
        named.map(|source| source.text.clone()).or_else(|| folder.map(|_| name.to_owned()))
    });
    let candidates = copied.into_iter().chain([program.trim_start_matches('/').to_owned()]);
    candidates.into_iter().find_map(|path| build.read(&path).map(|text| (path, text)))
}
