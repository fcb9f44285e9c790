use bedplate_model::Finding;
use bedplate_model::document::dockerfile::{Command, Dockerfile};

use super::{first_process, start};
use crate::command::Pid1;
use crate::{BuildContext, Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds images whose first process is no init: the `ENTRYPOINT` of the final stage does not
    /// start with tini, dumb-init, catatonit or a declared equivalent.
    ///
    /// ## Why
    /// PID 1 has two duties that a Python program does not know of. The kernel gives it no
    /// default action for SIGTERM, so a program without a handler ignores it and is killed 30 s
    /// later with its work unsaved; and it inherits every orphan: dead DataLoader workers pile
    /// up as zombies until the pod's limit of processes is reached.
    ///
    /// ## Example
    /// ```dockerfile
    /// FROM docker.io/library/python:3.12-slim
    /// USER 1000
    /// ENTRYPOINT ["python", "train.py"]
    /// ```
    ///
    /// ## Use instead
    /// ```dockerfile
    /// FROM docker.io/library/python:3.12-slim
    /// RUN apt-get update && apt-get install -y --no-install-recommends tini
    /// USER 1000
    /// ENTRYPOINT ["/usr/bin/tini", "--", "python", "train.py"]
    /// ```
    ///
    /// ## Options
    /// `spec.image.inits`: programs of your own that forward signals and reap children.
    ///
    /// ## Sources
    /// - `pid_namespaces(7)`: signals to the init process; tini's README.
    "no-init", Image, Warning, High, [Dockerfile(check)]
}

fn check(file: &Dockerfile, _: &dyn BuildContext, cx: &Context<'_>, out: &mut Findings) {
    // A shell form and a shell that stays have findings of their own.
    let Some(Command::Exec(_, span)) = start(file) else { return };
    if let Pid1::Program(program, _) | Pid1::Exec(program) = first_process(file, cx.settings) {
        out.push(
            Finding::new(
                *span,
                format!(
                    "`{}` is PID 1: it has to handle SIGTERM and reap children itself",
                    program.split(' ').next().unwrap_or_default()
                ),
            )
            .label("no init in front")
            .help("put an init in front: `[\"/usr/bin/tini\", \"--\", …]`"),
        );
    }
}
