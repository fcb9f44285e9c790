use bedplate_model::document::dockerfile::Dockerfile;
use bedplate_model::{Confidence, Finding};

use super::{base, image, words};
use crate::command::{self, Pid1, behind_init};
use crate::{BuildContext, Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds images built on a whole distribution where a distroless base would do, and names
    /// the one that fits.
    ///
    /// ## Why
    /// A shell and a package manager are what an intruder needs and a model server does not;
    /// and each of their packages is one to patch. The image is also pulled by every new node.
    ///
    /// ## Example
    /// ```dockerfile
    /// FROM docker.io/library/python:3.12-slim
    /// USER 1000
    /// ENTRYPOINT ["tini", "--", "python", "serve.py"]
    /// ```
    ///
    /// ## Use instead
    /// ```dockerfile
    /// FROM gcr.io/distroless/python3-debian13:nonroot
    /// COPY --from=tini /usr/bin/tini-static /tini
    /// ENTRYPOINT ["/tini", "--", "/usr/bin/python3", "serve.py"]
    /// ```
    ///
    /// ## Options
    /// None. Images that start a shell, a script or a notebook are left alone.
    ///
    /// ## Sources
    /// - The distroless project's README: `python3`, `java`, `nodejs`, `cc`, `static`.
    "not-distroless", Image, Info, Medium, [Dockerfile(check)]
}

/// Bases that carry a distribution, and the distroless base of the same use; nothing where the
/// program decides.
const FAT: &[(&str, Option<&str>)] = &[
    ("library/python", Some(PYTHON)),
    ("pytorch/pytorch", Some(PYTHON)),
    ("library/node", Some(NODE)),
    ("library/golang", Some("gcr.io/distroless/static-debian13")),
    ("library/rust", Some(CC)),
    ("library/openjdk", Some(JAVA)),
    ("library/eclipse-temurin", Some(JAVA)),
    ("library/debian", None),
    ("library/ubuntu", None),
    ("nvidia/cuda", None),
];

const PYTHON: &str = "gcr.io/distroless/python3-debian13";
const NODE: &str = "gcr.io/distroless/nodejs24-debian13";
const JAVA: &str = "gcr.io/distroless/java21-debian13";
const CC: &str = "gcr.io/distroless/cc-debian13";

fn check(file: &Dockerfile, _: &dyn BuildContext, cx: &Context<'_>, out: &mut Findings) {
    // An image that starts nothing is a base for others.
    let program = match behind_init(&words(file), cx.settings) {
        Pid1::Program(program, _) => program,
        Pid1::Exec(line) => line.split_whitespace().next().unwrap_or_default().to_owned(),
        // It needs its shell.
        Pid1::Shell(_) | Pid1::Init(_) | Pid1::Nothing => return,
    };
    let program = command::base(&program);
    // A script needs a shell, and so does someone's desk.
    if program.ends_with(".sh") || program.starts_with("jupyter") {
        return;
    }
    let Some(written) = base(file) else { return };
    let Some(base) = image(file, &written.text).filter(|image| image.registry == "docker.io") else { return };
    let Some((_, fits)) = FAT.iter().find(|(name, _)| *name == base.repository) else { return };
    let fits = fits.unwrap_or(match program {
        "java" => JAVA,
        "node" => NODE,
        program if program.starts_with("python") => PYTHON,
        _ => CC,
    });
    let mut finding = Finding::new(
        written.span,
        format!(
            "`{}` carries a shell and a package manager that nothing here starts: `{fits}` has what `{program}` needs",
            base.base()
        ),
    )
    .confidence(Confidence::Medium)
    .help(format!("build in a stage of its own and copy the result into `{fits}:nonroot`"));
    if fits == PYTHON {
        finding = finding.note("Its Python is Debian 13's 3.13: build the wheels for that.");
    }
    out.push(finding);
}

#[cfg(test)]
mod tests {
    use super::super::tests::messages;
    use super::RULE;

    #[test]
    fn what_needs_a_shell_keeps_it() {
        for start in ["[\"/run.sh\"]", "[\"tini\", \"--\", \"bash\", \"-c\", \"a; b\"]", "[\"jupyter\", \"lab\"]"] {
            assert!(messages(&RULE, &format!("FROM python:3.12\nCMD {start}\n"), &[]).is_empty(), "{start}");
        }
    }

    #[test]
    fn the_program_decides_where_the_base_does_not() {
        let text = "ARG V=24.04\nFROM ubuntu:$V\nENTRYPOINT [\"tini\", \"--\", \"python3\", \"a.py\"]\n";
        assert_eq!(
            messages(&RULE, text, &[]),
            [
                "`ubuntu` carries a shell and a package manager that nothing here starts: `gcr.io/distroless/python3-debian13` has what `python3` needs"
            ]
        );
        assert!(messages(&RULE, &text.replace("python3", "java"), &[])[0].contains("java21-debian13"));
        // What a build stage carries does not ship.
        let text = "FROM golang:1.25 AS b\nFROM scratch\nCOPY --from=b /a /a\nENTRYPOINT [\"/a\"]\n";
        assert!(messages(&RULE, text, &[]).is_empty());
    }
}
