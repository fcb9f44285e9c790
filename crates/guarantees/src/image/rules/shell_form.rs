use bedplate_model::document::dockerfile::{Command, Dockerfile};
use bedplate_model::{Edit, Finding, Fix};

use crate::{BuildContext, Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds an `ENTRYPOINT` or `CMD` in shell form: words without brackets.
    ///
    /// ## Why
    /// It is run by `/bin/sh -c`. The shell is PID 1, gets the SIGTERM, does nothing with it and
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
    /// None.
    ///
    /// ## Sources
    /// - Dockerfile reference: shell and exec form.
    "shell-form", Image, Error, High, [Dockerfile(check)]
}

fn check(file: &Dockerfile, _: &dyn BuildContext, _: &Context<'_>, out: &mut Findings) {
    for (name, command) in [("ENTRYPOINT", file.entrypoint()), ("CMD", file.cmd())] {
        let Some(Command::Shell(text)) = command else { continue };
        // The CMD of an image whose ENTRYPOINT is in exec form becomes its arguments.
        let finding =
            Finding::new(text.span, format!("{name} in shell form: a shell is PID 1 and keeps SIGTERM to itself"))
                .label("run by `/bin/sh -c`");
        let plain = !text.text.contains(['$', '&', '|', ';', '<', '>', '*', '?', '~', '(', ')', '`', '\n', '\\', '#']);
        let first = text.text.split_whitespace().next().unwrap_or_default();
        let builtin = first.contains('=') || matches!(first, "exec" | "cd" | "source" | "." | "export" | "set");
        let words = if plain && !builtin { shlex::split(&text.text) } else { None };
        out.push(match words {
            Some(words) if !words.is_empty() => {
                let json = words
                    .iter()
                    .map(|word| serde_json::Value::from(word.as_str()).to_string())
                    .collect::<Vec<_>>()
                    .join(", ");
                finding.fix(Fix::unsafe_(
                    format!("use the exec form: `{name} [{json}]`"),
                    vec![Edit::Replace(text.span, format!("[{json}]"))],
                ))
            }
            _ => finding.help("use the exec form, and put what needs a shell into a script that ends with `exec`"),
        });
    }
}
