use bedplate_model::document::dockerfile::{Dockerfile, What};
use bedplate_model::{Confidence, Finding, ImageRef};

use super::{base, image, start};
use crate::command;
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
    /// None. Bases whose tag says `nonroot`, and some known ones, have a user.
    ///
    /// ## Sources
    /// - Kubernetes, pod security standards: restricted asks for `runAsNonRoot`.
    "runs-as-root", Image, Warning, Medium, [Dockerfile(check)]
}

/// Images with a user of their own: docker-stacks, Kubeflow's notebooks, Ray, Chainguard, Bitnami.
const WITH_USER: &[&str] = &[
    "docker.io/jupyter",
    "quay.io/jupyter",
    "docker.io/kubeflownotebookswg",
    "ghcr.io/kubeflow/kubeflow/notebook-servers",
    "docker.io/rayproject",
    "cgr.dev",
    "docker.io/bitnami",
    "docker.io/bitnamilegacy",
];

fn check(file: &Dockerfile, _: &dyn BuildContext, _: &Context<'_>, out: &mut Findings) {
    let Some(start) = start(file) else { return };
    // The entrypoint takes another user itself.
    if start.words().first().is_some_and(|word| matches!(command::base(word), "gosu" | "su-exec" | "setpriv")) {
        return;
    }
    let user = file.last(|instruction| if let What::User(user) = &instruction.what { Some(user) } else { None });
    if let Some(user) = user {
        let name = user.text.split(':').next().unwrap_or_default();
        if matches!(name, "root" | "0") {
            out.push(
                Finding::new(user.span, "this image runs as root")
                    .help("end with a `USER` of its own, by number: `USER 1000`"),
            );
        }
        return;
    }
    // What an ARG without a default stands for is not known.
    let written = base(file).map_or("", |base| base.text.as_str());
    let base = image(file, written);
    let known = base.as_ref().is_some_and(|image: &ImageRef| {
        let tag = image.tag.as_deref().unwrap_or_default();
        tag.contains("nonroot")
            || image.base().contains("nonroot")
            || image.base().contains("unprivileged")
            || WITH_USER.iter().any(|prefix| image.is_under(prefix))
    });
    if known || base.is_none() && written != "scratch" {
        return;
    }
    let official = written == "scratch" || base.is_some_and(|image| image.is_under("docker.io/library"));
    let mut finding = Finding::new(start.span(), "this image runs as root: no stage of it sets a `USER`")
        .help("add a user by number: `USER 1000`");
    if !official {
        finding = finding.confidence(Confidence::Low).note("True unless its base sets one.");
    }
    out.push(finding);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, messages};
    use super::*;

    #[test]
    fn the_last_user_of_the_chain_decides() {
        let of = |text: &str| messages(&RULE, &format!("{text}CMD [\"a\"]\n"), &[]).len();
        assert_eq!(of("FROM a:1\nUSER 1000\nUSER 0:0\n"), 1);
        assert_eq!(of("FROM a:1 AS b\nUSER 1000\nFROM b\n"), 0);
        assert_eq!(of("FROM a:1 AS b\nUSER 1000\nFROM c:1\n"), 1);
        assert_eq!(of("FROM a:1\nUSER ${NB_UID}\n"), 0);
    }

    #[test]
    fn a_base_with_a_user_of_its_own_is_left_alone_and_an_unknown_one_is_a_guess() {
        for base in [
            "quay.io/jupyter/base-notebook:1",
            "gcr.io/distroless/cc-debian13:nonroot",
            "$BASE",
            "nginxinc/nginx-unprivileged:1",
        ] {
            assert!(messages(&RULE, &format!("FROM {base}\nCMD [\"a\"]\n"), &[]).is_empty(), "{base}");
        }
        let confidence = |base: &str| found(&RULE, &format!("FROM {base}\nCMD [\"a\"]\n"), &[])[0].confidence;
        assert_eq!(confidence("registry.example.com/a:1"), Confidence::Low);
        assert_eq!(confidence("python:3.12"), Confidence::Medium);
    }
}
