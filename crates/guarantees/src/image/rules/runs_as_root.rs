use bedplate_model::Finding;
use bedplate_model::document::dockerfile::{Dockerfile, What};

use crate::{BuildContext, Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds images that run as root: no `USER` in the final stage, or `USER root`.
    ///
    /// ## Why
    /// Root in the container is root on what is mounted into it: it can overwrite every team's
    /// checkpoints on a shared volume, and an escape from it is root on a GPU node.
    ///
    /// ## Example
    /// ```dockerfile
    /// FROM docker.io/library/python:3.12-slim
    /// ENTRYPOINT ["tini", "--", "python", "train.py"]
    /// ```
    ///
    /// ## Use instead
    /// ```dockerfile
    /// FROM docker.io/library/python:3.12-slim
    /// USER 1000
    /// ENTRYPOINT ["tini", "--", "python", "train.py"]
    /// ```
    ///
    /// ## Options
    /// None. Bases whose tag says `nonroot` have a user.
    ///
    /// ## Sources
    /// - Kubernetes, pod security standards: restricted asks for `runAsNonRoot`.
    "runs-as-root", Image, Warning, Medium, [Dockerfile(check)]
}

fn check(file: &Dockerfile, _: &dyn BuildContext, _: &Context<'_>, out: &mut Findings) {
    let Some(start) = super::start(file) else { return };
    let user = file.last(|instruction| if let What::User(user) = &instruction.what { Some(user) } else { None });
    match user {
        Some(user) => {
            let name = user.text.split(':').next().unwrap_or_default();
            if matches!(name, "root" | "0") {
                out.push(
                    Finding::new(user.span, "this image runs as root")
                        .help("end with a `USER` of its own, by number: `USER 1000`"),
                );
            }
        }
        None => {
            let base = file.base_image().map(|base| base.text).unwrap_or_default();
            if !base.contains("nonroot") {
                out.push(
                    Finding::new(start.span(), "this image runs as root: its final stage has no `USER`")
                        .help("add a user by number: `USER 1000`"),
                );
            }
        }
    }
}
