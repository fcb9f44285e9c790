use bedplate_model::document::dockerfile::{Command, Dockerfile};
use bedplate_model::{Confidence, Finding, ImageRef};

use super::{Handover, base, copied, entrypoint, first_process, handover, image, start};
use crate::command::{self, NATIVE, Pid1, pid1};
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

/// Images whose own `ENTRYPOINT` starts with an init: docker-stacks with tini, Kubeflow's
/// notebooks with s6.
const WITH_INIT: &[&str] = &[
    "docker.io/jupyter",
    "quay.io/jupyter",
    "docker.io/kubeflownotebookswg",
    "ghcr.io/kubeflow/kubeflow/notebook-servers",
];

fn check(file: &Dockerfile, build: &dyn BuildContext, cx: &Context<'_>, out: &mut Findings) {
    let Some(start) = start(file) else { return };
    // A shell that stays has a finding of its own.
    let program = match first_process(file, cx.settings) {
        Pid1::Program(program, _) => program,
        Pid1::Exec(line) => line.split_whitespace().next().unwrap_or_default().to_owned(),
        Pid1::Init(_) | Pid1::Shell(_) | Pid1::Nothing => return,
    };
    let name = command::base(&program);
    if NATIVE.contains(&name) {
        return;
    }
    let written = base(file).map_or("", |base| base.text.as_str());
    let base = image(file, written);
    let under = |prefix: &str| base.as_ref().is_some_and(|image: &ImageRef| image.is_under(prefix));
    // One static binary, mostly Go's, whose runtime ends on SIGTERM.
    if written == "scratch" || base.as_ref().is_some_and(|i| i.registry == "gcr.io" && i.base().starts_with("static")) {
        return;
    }
    let inherits = entrypoint(file).is_none() && file.entrypoint().is_none();
    if inherits && WITH_INIT.iter().any(|prefix| under(prefix)) {
        return;
    }
    // A script of the build context may become an init, or a server that needs none.
    if let Some((path, text)) = copied(file, build, &program)
        && let Some(Handover::Exec(line)) = handover(&path, &text)
    {
        match pid1(&line.split_whitespace().collect::<Vec<_>>(), cx.settings) {
            Pid1::Init(_) => return,
            Pid1::Program(program, _) if NATIVE.contains(&command::base(&program)) => return,
            _ => {}
        }
    }
    let what = if matches!(start, Command::Exec(..)) { "no init in front" } else { "the shell becomes it" };
    let mut finding =
        Finding::new(start.span(), format!("`{name}` is PID 1: it has to handle SIGTERM and reap children itself"))
            .label(what)
            .help("put an init in front: `[\"/usr/bin/tini\", \"--\", …]`");
    // An ENTRYPOINT of the base stays in force; Docker's official images have none with an init.
    if inherits && !under("docker.io/library") {
        finding = finding.confidence(Confidence::Medium).note("True unless the ENTRYPOINT of the base is an init.");
    }
    out.push(finding);
}

#[cfg(test)]
mod tests {
    use super::super::tests::messages;
    use super::RULE;

    #[test]
    fn a_notebook_image_keeps_the_tini_of_its_base() {
        let text = "FROM quay.io/jupyter/scipy-notebook:2025-06-01\nCMD [\"jupyter\", \"lab\"]\n";
        assert!(messages(&RULE, text, &[]).is_empty());
        // An ENTRYPOINT of its own replaces it.
        assert_eq!(messages(&RULE, &text.replace("CMD", "ENTRYPOINT"), &[]).len(), 1);
    }

    #[test]
    fn a_script_that_becomes_tini_is_enough() {
        let text = "FROM python:3.12\nCOPY run.sh /\nENTRYPOINT [\"/run.sh\"]\n";
        assert!(messages(&RULE, text, &[("run.sh", "#!/bin/sh\nexec tini -- \"$@\"\n")]).is_empty());
        assert!(messages(&RULE, text, &[("run.sh", "#!/bin/sh\nexec nginx\n")]).is_empty());
        assert_eq!(messages(&RULE, text, &[("run.sh", "#!/bin/sh\nexec \"$@\"\n")]).len(), 1);
    }

    #[test]
    fn static_binaries_native_servers_and_bases_for_others_are_left_alone() {
        for text in [
            "FROM golang:1.25 AS b\nFROM scratch\nCOPY --from=b /a /a\nENTRYPOINT [\"/a\"]\n",
            "FROM gcr.io/distroless/static-debian13:nonroot\nENTRYPOINT [\"/manager\"]\n",
            "FROM nginx:1.29\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n",
            "FROM python:3.12\nRUN pip install x\n",
        ] {
            assert!(messages(&RULE, text, &[]).is_empty(), "{text}");
        }
    }

    #[test]
    fn only_the_final_stage_counts() {
        let text = "FROM python:3.12 AS a\nENTRYPOINT [\"python\"]\nFROM a\nENTRYPOINT [\"tini\", \"--\"]\nCMD [\"python\", \"a.py\"]\n";
        assert!(messages(&RULE, text, &[]).is_empty());
        assert_eq!(
            messages(&RULE, "FROM python:3.12\nENTRYPOINT exec python a.py\n", &[]),
            ["`python` is PID 1: it has to handle SIGTERM and reap children itself"]
        );
    }
}
