use bedplate_model::Finding;
use bedplate_model::document::dockerfile::Dockerfile;

use super::{Handover, copied, handover, start, words};
use crate::command::{Pid1, behind_init, is_wrapped};
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
    /// None. A script that forwards signals itself (`trap`) is left alone, and so is one behind `bedplate wrap`.
    ///
    /// ## Sources
    /// - POSIX shell, `exec`; tini signals only its direct child.
    "shell-wrapper-without-exec", Image, Error, High, [Dockerfile(check)]
}

fn check(file: &Dockerfile, build: &dyn BuildContext, cx: &Context<'_>, out: &mut Findings) {
    let Some(command) = start(file) else { return };
    let words = words(file);
    if is_wrapped(&words, cx.settings) {
        return;
    }
    let program = match behind_init(&words, cx.settings) {
        Pid1::Program(program, _) => program,
        Pid1::Exec(line) => line.split_whitespace().next().unwrap_or_default().to_owned(),
        _ => return,
    };
    let Some((path, text)) = copied(file, build, &program) else { return };
    let Some(Handover::Waits(step)) = handover(&path, &text) else { return };
    let short: String = step.text.lines().next().unwrap_or_default().chars().take(80).collect();
    out.push(
        Finding::new(
            command.span(),
            format!("the script `{path}` starts its program without `exec`: the shell does not pass SIGTERM on"),
        )
        .label(format!("line {} of {path}", step.line))
        .note(format!("Line {} of {path} is `{short}`.", step.line))
        .help(format!("start the program with `exec` in line {} of {path}", step.line)),
    );
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, messages};
    use super::RULE;

    const IMAGE: &str =
        "FROM python:3.12\nWORKDIR /app\nCOPY . .\nENTRYPOINT [\"tini\", \"--\", \"bash\", \"scripts/run.sh\"]\n";

    fn of(script: &str) -> usize {
        messages(&RULE, IMAGE, &[("scripts/run.sh", script)]).len()
    }

    #[test]
    fn the_line_that_waits_is_named_behind_comments_and_exits() {
        let script = "#!/bin/bash\nset -e\npython train.py \\\n  --fast\ncode=1 # why\nexit $?\n# end\n";
        let notes = found(&RULE, IMAGE, &[("scripts/run.sh", &script.replace("code=1 # why\n", ""))]).remove(0).notes;
        assert_eq!(notes, ["Line 3 of scripts/run.sh is `python train.py \\`."]);
    }

    #[test]
    fn scripts_that_hand_over_or_forward_are_left_alone() {
        for script in [
            "exec \"$@\"\n",
            "if [ -n \"$A\" ]; then\n  exec python a.py\nelse exec python b.py; fi\n",
            "case $1 in\n a) exec python a.py;;\n *) exec \"$@\" ;;\nesac\n",
            "main() {\n  exec python a.py\n}\nmain \"$@\"\n",
            "trap 'kill $p' TERM\npython a.py & p=$!\nwait\n",
        ] {
            assert_eq!(of(script), 0, "{script}");
        }
        let wrapped = IMAGE.replace("\"tini\"", "\"bedplate-wrap\"");
        assert_eq!(messages(&RULE, &wrapped, &[("scripts/run.sh", "python a.py\n")]).len(), 0);
        // Redirecting the shell's own output hands nothing over.
        for script in [
            "exec > /log 2>&1\npython a.py\n",
            "python a.py &\nwait\n",
            "for i in 1 2; do python $i; done\n",
            "\"$@\"\n",
        ] {
            assert_eq!(of(script), 1, "{script}");
        }
    }

    #[test]
    fn the_script_is_found_where_copy_put_it() {
        for (copy, start, path) in [
            ("docker/entry.sh /entry", "/entry", "docker/entry.sh"),
            ("docker/ /opt/docker/", "/opt/docker/entry.sh", "docker/entry.sh"),
            ("docker/*.sh /usr/local/bin/", "entry.sh", "docker/entry.sh"),
            ("a.txt entry.sh ./", "./entry.sh", "entry.sh"),
        ] {
            let text = format!("FROM a:1\nWORKDIR /app\nCOPY {copy}\nENTRYPOINT [\"{start}\"]\n");
            assert_eq!(messages(&RULE, &text, &[(path, "#!/bin/sh\npython a.py\n")]).len(), 1, "{copy}");
        }
        // Another stage's file of the same name is not ours, nor is a program that is no script.
        let text = "FROM a:1 AS b\nFROM a:1\nCOPY --from=b /x/run.sh /run.sh\nENTRYPOINT [\"/run.sh\"]\n";
        assert!(messages(&RULE, text, &[("run.sh", "python a.py\n")]).is_empty());
        let text = "FROM a:1\nCOPY run /run\nENTRYPOINT [\"/run\"]\n";
        assert!(messages(&RULE, text, &[("run", "#!/usr/bin/env python\nprint()\n")]).is_empty());
    }
}
