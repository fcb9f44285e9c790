use bedplate_model::document::dockerfile::Dockerfile;
use bedplate_model::{Finding, ImageRef};

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
    /// None.
    ///
    /// ## Sources
    /// - The distroless project's README: `python3`, `java`, `nodejs`, `cc`, `static`.
    "not-distroless", Image, Info, Medium, [Dockerfile(check)]
}

/// Last segments of common bases, and the distroless base of the same use.
const FITS: &[(&str, &str)] = &[
    ("python", "gcr.io/distroless/python3-debian13"),
    ("node", "gcr.io/distroless/nodejs24-debian13"),
    ("golang", "gcr.io/distroless/static-debian13"),
    ("rust", "gcr.io/distroless/cc-debian13"),
    ("openjdk", "gcr.io/distroless/java21-debian13"),
    ("eclipse-temurin", "gcr.io/distroless/java21-debian13"),
    ("debian", "gcr.io/distroless/cc-debian13"),
    ("ubuntu", "gcr.io/distroless/cc-debian13"),
];

fn check(file: &Dockerfile, _: &dyn BuildContext, _: &Context<'_>, out: &mut Findings) {
    // An image that starts nothing is a base for others.
    if super::start(file).is_none() {
        return;
    }
    let Some(base) = file.base_image() else { return };
    let Some(image) = ImageRef::parse(&base.text).filter(|image| image.registry == "docker.io") else { return };
    if let Some((_, fits)) = FITS.iter().find(|(name, _)| image.repository == format!("library/{name}")) {
        out.push(
            Finding::new(base.span, format!("this image carries a whole distribution; `{fits}` has what it runs on"))
                .help(format!("build in a stage of its own and copy the result into `{fits}:nonroot`")),
        );
    }
}
