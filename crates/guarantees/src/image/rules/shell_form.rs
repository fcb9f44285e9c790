use bedplate_model::document::dockerfile::{Command, Dockerfile};
use bedplate_model::{Confidence, Edit, Finding, Fix};

use super::{command_words, entrypoint};
use crate::command::{Pid1, is_wrapped, pid1, steps, traps};
use crate::{BuildContext, Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds an `ENTRYPOINT` or `CMD` in shell form: words without brackets.
    ///
    /// ## Why
    /// It is run by `/bin/sh -c`. The shell is PID 1 (dash, the `sh` of Debian and Ubuntu, stays
    /// even for one command), gets the SIGTERM, does nothing with it and
    /// tells nobody; after the grace period everything is killed. An `ENTRYPOINT` in shell form
    /// ignores the manifest's `args` as well.
    ///
    /// ## Example
    /// ```dockerfile
    /// FROM docker.io/library/python:3.12-slim
    /// USER 1000
    /// ENTRYPOINT python train.py --epochs 5
    /// ```
    ///
    /// ## Use instead
    /// ```dockerfile
    /// FROM docker.io/library/python:3.12-slim
    /// USER 1000
    /// ENTRYPOINT ["/usr/bin/tini", "--", "python", "train.py", "--epochs", "5"]
    /// ```
    ///
    /// ## Options
    /// None. `ENTRYPOINT exec python train.py` is left alone: the shell becomes the program.
    ///
    /// ## Sources
    /// - Dockerfile reference: shell and exec form.
    "shell-form", Image, Error, High, [Dockerfile(check)]
}

/// Characters by which a shell's line means more than its words.
const SYNTAX: &[char] =
    &['$', '&', '|', ';', '<', '>', '*', '?', '~', '(', ')', '[', ']', '{', '}', '`', '\n', '\\', '#', '!'];

/// Words that only a shell knows.
const BUILTINS: &[&str] =
    &["exec", "cd", "source", ".", ":", "export", "set", "eval", "ulimit", "umask", "trap", "wait"];

fn check(file: &Dockerfile, _: &dyn BuildContext, cx: &Context<'_>, out: &mut Findings) {
    let entrypoint = entrypoint(file);
    let cmd = file.cmd();
    if let Some(command) = entrypoint {
        judge(file, "ENTRYPOINT", command, "a shell is PID 1 and keeps SIGTERM to itself", cmd.is_none(), cx, out);
    }
    match (entrypoint, cmd) {
        (None, Some(cmd)) => judge(file, "CMD", cmd, "a shell is PID 1 and keeps SIGTERM to itself", true, cx, out),
        (Some(Command::Exec(..)), Some(cmd)) => {
            judge(file, "CMD", cmd, "the ENTRYPOINT runs a shell, which does not pass SIGTERM on", true, cx, out);
        }
        // An ENTRYPOINT in shell form ignores the CMD.
        _ => {}
    }
}

fn judge(
    file: &Dockerfile,
    name: &str,
    command: &Command,
    what: &str,
    safe: bool,
    cx: &Context<'_>,
    out: &mut Findings,
) {
    let Command::Shell(text) = command else { return };
    // A shell that becomes its command is not in the way, nor is one that handles signals.
    let Pid1::Shell(_) = pid1(&command_words(file, command), cx.settings) else { return };
    let wrapped = name == "CMD" && entrypoint(file).is_some_and(|command| is_wrapped(&command.words(), cx.settings));
    if traps(&text.text) || wrapped {
        return;
    }
    let mut finding = Finding::new(text.span, format!("{name} in shell form: {what}")).label("run by `/bin/sh -c`");
    if let [only] = steps(&text.text)[..]
        && !only.forks
    {
        finding = finding
            .confidence(Confidence::Medium)
            .note("dash, the `sh` of Debian and Ubuntu, stays in front of a single command; some shells become it.");
    }
    out.push(match exec_form(&text.text) {
        Some(json) => {
            let help = format!("use the exec form: `{name} {json}`");
            let edits = vec![Edit::Replace(text.span, json)];
            // The exec form would take the CMD as arguments, the shell form ignored it.
            finding.fix(if safe { Fix::safe(help, edits) } else { Fix::unsafe_(help, edits) })
        }
        None => finding.help("use the exec form, and put what needs a shell into a script that ends with `exec`"),
    });
}

/// The words as a JSON list, where the line is nothing but words.
fn exec_form(text: &str) -> Option<String> {
    let words = if text.contains(SYNTAX) { None } else { shlex::split(text) }?;
    let first = words.first()?;
    let plain = !first.is_empty() && !first.contains('=') && !BUILTINS.contains(&first.as_str());
    plain.then(|| {
        let json: Vec<_> = words.iter().map(|word| serde_json::Value::from(word.as_str()).to_string()).collect();
        format!("[{}]", json.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use bedplate_model::finding::Safety;

    use super::super::tests::{found, messages};
    use super::{RULE, exec_form};

    #[test]
    fn plain_words_become_exec_form_and_nothing_else_does() {
        assert_eq!(
            exec_form("python a.py --name 'a b' x\"y\"").unwrap(),
            "[\"python\", \"a.py\", \"--name\", \"a b\", \"xy\"]"
        );
        for text in ["python $A", "A=1 python", "cd /app", "a && b", "a *.py", "ls ~", "a > b", "a 'b", "", "{a,b}"] {
            assert_eq!(exec_form(text), None, "{text}");
        }
    }

    #[test]
    fn the_edit_makes_the_finding_go_away() {
        let text = "FROM python:3.12\nCMD python a.py\n";
        let finding = found(&RULE, text, &[]).remove(0);
        let fix = finding.fix.unwrap();
        assert_eq!(fix.safety, Safety::Safe);
        let fixed = bedplate_model::edit::apply(text, None, &fix.edits).unwrap();
        assert_eq!(fixed, "FROM python:3.12\nCMD [\"python\", \"a.py\"]\n");
        assert!(messages(&RULE, &fixed, &[]).is_empty());
    }

    #[test]
    fn a_cmd_that_was_ignored_makes_the_edit_unsafe() {
        let finding = found(&RULE, "FROM python:3.12\nENTRYPOINT python a.py\nCMD --fast\n", &[]);
        assert_eq!(finding.len(), 1);
        assert_eq!(finding[0].fix.as_ref().unwrap().safety, Safety::Unsafe);
    }

    #[test]
    fn a_shell_that_becomes_its_program_is_no_pid_1() {
        assert!(messages(&RULE, "FROM python:3.12\nENTRYPOINT exec python a.py\n", &[]).is_empty());
        assert!(messages(&RULE, "FROM a:1\nSHELL [\"/bin/bash\", \"-c\"]\nCMD python a.py\n", &[]).is_empty());
        assert_eq!(
            messages(&RULE, "FROM a:1\nENTRYPOINT [\"tini\", \"--\"]\nCMD python a.py\n", &[]),
            ["CMD in shell form: the ENTRYPOINT runs a shell, which does not pass SIGTERM on"]
        );
        let wrapped = "FROM a:1\nENTRYPOINT [\"bedplate\", \"wrap\", \"--\"]\nCMD python a.py\n";
        assert!(messages(&RULE, wrapped, &[]).is_empty(), "it goes through the shell");
    }
}
