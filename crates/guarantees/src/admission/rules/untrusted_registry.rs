use bedplate_model::{Confidence, Finding, ImageRef, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds images that come from none of the trusted registries. References are written out
    /// as containerd does first: `python` is `docker.io/library/python`.
    ///
    /// ## Why
    /// Training pods hold the data, the credentials of the object store and the accelerators.
    /// An image from a place that nobody looks after has them too.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers: [{name: a, image: "registry.evil.example/miner:1"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers: [{name: a, image: "docker.io/pytorch/pytorch:2.7.0"}]
    /// ```
    ///
    /// ## Options
    /// `spec.admission.registries`: prefixes that end at a path segment, such as
    /// `registry.example.com` or `docker.io/kubeflow`. Without it, the places in which the
    /// projects of the field publish; then the confidence is lower.
    ///
    /// ## Sources
    /// - `github.com/distribution/reference`, `normalize.go`.
    "untrusted-registry", Admission, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    let trusted = cx.settings.registries();
    for (_, container) in workload.containers() {
        let field = container.image();
        let Some(image) = field.str().and_then(ImageRef::parse) else { continue };
        if trusted.iter().any(|prefix| image.is_under(prefix)) {
            continue;
        }
        let finding =
            Finding::new(&field, format!("`{}` is from no trusted registry", image.name())).label("not on the list");
        out.push(if cx.settings.admission.registries.is_some() {
            finding.help("use an image from a trusted registry, or add this one to `spec.admission.registries`")
        } else {
            finding.confidence(Confidence::Medium).help(format!(
                "list the registries that you trust in bedplate.yaml, `spec.admission.registries` (`bedplate init` finds yours: {})",
                image.registry
            ))
        });
    }
}
