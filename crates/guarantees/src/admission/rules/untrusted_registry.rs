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

const DEFAULT_LIST: &str = "No list of registries is set, so the image was held against the places in which the projects of the field publish.";

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
            finding.confidence(Confidence::Medium).note(DEFAULT_LIST).help(format!(
                "list the registries that you trust in bedplate.yaml, `spec.admission.registries` (`bedplate init` finds yours: {})",
                image.registry
            ))
        });
    }
}

#[cfg(test)]
mod tests {
    use bedplate_model::Confidence;

    use crate::testing::{found, messages};

    #[test]
    fn a_miner_hides_in_no_kind_of_container() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  initContainers: [{name: i, image: evil.example/i:1}]\n  containers: [{name: a, image: python:3.12}]\n  ephemeralContainers: [{name: e, image: evil.example/e:1}]\n---\napiVersion: sparkoperator.k8s.io/v1beta2\nkind: SparkApplication\nmetadata: {name: s}\nspec: {image: \"evil.example/spark:1\", driver: {cores: 1}}\n---\napiVersion: trainer.kubeflow.org/v1alpha1\nkind: TrainJob\nmetadata: {name: t}\nspec: {trainer: {image: \"evil.example/train:1\"}}\n";
        let all = found(&super::RULE, text);
        let names: Vec<_> = all.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(
            names,
            ["i", "e", "spark", "train"].map(|name| format!("`evil.example/{name}` is from no trusted registry"))
        );
        // Nobody has said what is trusted: the default list is a guess.
        assert!(all.iter().all(|finding| finding.confidence == Confidence::Medium && finding.notes.len() == 1));
    }

    #[test]
    fn an_image_that_is_filled_in_later_is_not_judged() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: \"${REGISTRY}/train:1\"}]}\n";
        assert_eq!(messages(&super::RULE, text), [] as [String; 0]);
    }
}
