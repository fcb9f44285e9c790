use bedplate_model::{Finding, ImageRef, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds images without a tag, or with one that is made to move (`latest`, `main`, …), and
    /// without a digest.
    ///
    /// ## Why
    /// The pod that comes back after an eviction may run other code than the one that wrote the
    /// checkpoint, workers of one job may run different code, and no rollback leads back.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers: [{name: a, image: "docker.io/pytorch/pytorch:latest"}]
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
    /// None.
    ///
    /// ## Sources
    /// - OCI distribution specification: a tag may be moved, a digest may not.
    "mutable-tag", Admission, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    for (_, container) in workload.containers() {
        let field = container.image();
        let Some(image) = field.str().and_then(ImageRef::parse).filter(ImageRef::is_mutable) else { continue };
        let message = match &image.tag {
            Some(tag) => format!("`{}` is whatever `{tag}` means on the day", image.name()),
            None => format!("`{}` has no tag: it is whatever `latest` means on the day", image.name()),
        };
        out.push(
            Finding::new(&field, message).label("can change under you").help("name a version, best with its digest"),
        );
    }
}
