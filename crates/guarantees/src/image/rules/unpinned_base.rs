use bedplate_model::document::dockerfile::{Dockerfile, Text};
use bedplate_model::{Finding, ImageRef};

use crate::{BuildContext, Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds `FROM` images without a tag, or with one that is made to move, and without a digest.
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
            file.stages[..index]
                .iter()
                .any(|s| s.name.as_ref().is_some_and(|n: &Text| n.text.eq_ignore_ascii_case(name)))
        };
        if stage.base.text == "scratch" || earlier(&stage.base.text) {
            continue;
        }
        let mut text = stage.base.text.clone();
        for (name, value) in &file.global_args {
            text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
        }
        let Some(image) = ImageRef::parse(&text).filter(ImageRef::is_mutable) else { continue };
        let tag = image.tag.as_deref().unwrap_or("latest");
        // Distroless publishes under moving tags only; a digest pins it.
        if image.is_under("gcr.io/distroless") && tag != "latest" {
            continue;
        }
        out.push(
            Finding::new(
                stage.base.span,
                format!("`{}` is whatever `{tag}` means on the day of the build", image.name()),
            )
            .label("can change under you")
            .help("name a version, best with its digest"),
        );
    }
}
