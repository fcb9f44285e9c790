use bedplate_model::document::dockerfile::{Dockerfile, Text, What};
use bedplate_model::{Finding, ImageRef};

use super::image;
use crate::{BuildContext, Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds `FROM` and `COPY --from` images without a tag, or with one that is made to move, and without a digest.
    ///
    /// ## Why
    /// The same Dockerfile gives another image tomorrow: another Python, another CUDA. The fix
    /// for the old one cannot be built again.
    ///
    /// ## Example
    /// ```dockerfile
    /// FROM docker.io/library/python:latest
    /// USER 1000
    /// ENTRYPOINT ["tini", "--", "python", "train.py"]
    /// ```
    ///
    /// ## Use instead
    /// ```dockerfile
    /// FROM docker.io/library/python:3.12.11-slim
    /// USER 1000
    /// ENTRYPOINT ["tini", "--", "python", "train.py"]
    /// ```
    ///
    /// ## Options
    /// None. A base that comes from an `ARG` without a default is not judged.
    ///
    /// ## Sources
    /// - OCI distribution specification: a tag may be moved, a digest may not.
    "unpinned-base", Image, Warning, High, [Dockerfile(check)]
}

fn check(file: &Dockerfile, _: &dyn BuildContext, _: &Context<'_>, out: &mut Findings) {
    for (index, stage) in file.stages.iter().enumerate() {
        let earlier = |name: &str| {
            let is = |n: &Text| n.text.eq_ignore_ascii_case(name);
            file.stages[..index].iter().any(|stage| stage.name.as_ref().is_some_and(is))
        };
        if stage.base.text != "scratch" && !earlier(&stage.base.text) {
            judge(file, &stage.base, out);
        }
        for instruction in &stage.instructions {
            // A word alone may be a build context of `docker build --build-context`, a number a stage.
            if let What::Copy(.., Some(from)) = &instruction.what
                && from.text.contains(['/', ':'])
                && !earlier(&from.text)
            {
                judge(file, from, out);
            }
        }
    }
}

fn judge(file: &Dockerfile, written: &Text, out: &mut Findings) {
    let Some(image) = image(file, &written.text).filter(ImageRef::is_mutable) else { return };
    let means = match image.tag.as_deref() {
        Some(tag) => format!("`{tag}`"),
        None => "`latest`, as no tag is given,".to_owned(),
    };
    out.push(
        Finding::new(written.span, format!("`{}` is whatever {means} means on the day of the build", image.name()))
            .label("can change under you")
            .help("name a version, best with its digest"),
    );
}

#[cfg(test)]
mod tests {
    use super::super::tests::messages;
    use super::RULE;

    #[test]
    fn every_image_from_outside_is_judged_and_no_stage() {
        let text = "ARG TAG\nARG BASE=python\nFROM $BASE AS Build\nFROM a:$TAG AS x\nFROM build\nCOPY --from=ghcr.io/astral-sh/uv:latest /uv /\nCOPY --from=build /a /a\nCOPY --from=0 /a /a\nCOPY --from=tini /a /a\nFROM scratch\nFROM a@sha256:0000\n";
        assert_eq!(
            messages(&RULE, text, &[]),
            [
                "`docker.io/library/python` is whatever `latest`, as no tag is given, means on the day of the build",
                "`ghcr.io/astral-sh/uv` is whatever `latest` means on the day of the build"
            ]
        );
    }
}
