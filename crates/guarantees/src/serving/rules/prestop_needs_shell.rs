use bedplate_model::{Edit, Finding, Fix, ImageRef, Workload};
use serde_json::json;

use super::pods;
use crate::{Context, Findings, command, rule};

rule! {
    /// ## What it does
    /// Finds `preStop` hooks that run a shell or `sleep` in an image that has neither.
    ///
    /// ## Why
    /// The hook fails with "executable file not found", Kubernetes notes an event that nobody
    /// reads, and the container is stopped at once. The drain looks right in the manifest and
    /// has never happened.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: gateway, namespace: prod}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: gateway
    ///           image: gcr.io/distroless/python3-debian13:nonroot
    ///           ports: [{containerPort: 8080}]
    ///           lifecycle:
    ///             preStop: {exec: {command: [sh, -c, sleep 10]}}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: gateway, namespace: prod}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: gateway
    ///           image: gcr.io/distroless/python3-debian13:nonroot
    ///           ports: [{containerPort: 8080}]
    ///           lifecycle:
    ///             preStop: {sleep: {seconds: 10}}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Distroless images have no shell, those tagged `debug` have busybox: GoogleContainerTools/distroless, README.
    /// - What happens when a hook fails: Kubernetes, "Container Lifecycle Hooks".
    /// - The `sleep` action runs in the kubelet: KEP-3960, on by default from Kubernetes 1.30, stable in 1.34.
    "prestop-needs-shell", Serving, Error, High, [Workload(check)]
}

/// Programs that an image without a shell does not have.
const TOOLS: &[&str] = &["sh", "bash", "ash", "dash", "sleep", "env", "kill", "curl", "wget", "timeout"];

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    for container in pods::serving(workload).flat_map(|pods| pods.main_containers()) {
        let hook = container.field.at("lifecycle.preStop");
        let words = hook.at("exec.command");
        let Some(program) = words.strings().next().filter(|word| TOOLS.contains(&command::base(word))) else {
            continue;
        };
        let Some(image) = container.image().str().and_then(ImageRef::parse).filter(has_no_shell) else { continue };
        let finding = Finding::new(
            &words,
            format!("the preStop hook runs `{program}`, which the image {} does not have", image.base()),
        )
        .label("not in the image")
        .related(&container.image(), "an image without a shell");
        // A script that does more than sleep cannot be told as a sleep.
        let only = words.strings().last().is_some_and(|last| {
            let mut parts = last.split_whitespace();
            !last.contains([';', '&', '|', '\n'])
                && (command::base(program) == "sleep"
                    || parts.next().is_some_and(|word| command::base(word) == "sleep") && parts.count() == 1)
        });
        out.push(match pods::sleeps(container).filter(|_| only) {
            Some(seconds) => finding.fix(Fix::unsafe_(
                format!(
                    "let the kubelet sleep: `preStop: {{sleep: {{seconds: {seconds}}}}}` (Kubernetes 1.30 or newer)"
                ),
                vec![Edit::Set(hook.path(), json!({"sleep": {"seconds": seconds}}))],
            )),
            None => finding.help("use the `sleep` action, which needs no shell, or `httpGet` on the server itself"),
        });
    }
}

fn has_no_shell(image: &ImageRef) -> bool {
    let tag = image.tag.as_deref().unwrap_or_default();
    if tag.contains("debug") || tag.contains("-dev") {
        return false;
    }
    image.is_under("gcr.io/distroless") || image.repository.contains("distroless") || tag.contains("distroless")
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    fn with(image: &str, hook: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        image: {image}\n        ports: [{{containerPort: 80}}]\n        lifecycle:\n          preStop:\n            exec:\n              command: {hook}\n"
        )
    }

    #[test]
    fn the_debug_image_and_the_images_own_program_are_fine() {
        for (image, hook) in [
            ("gcr.io/distroless/base:debug-nonroot", "[sh, -c, sleep 5]"),
            ("gcr.io/distroless/base:nonroot", "[/app/drain]"),
            ("python:3.13-slim", "[sh, -c, sleep 5]"),
        ] {
            assert_eq!(messages(&super::RULE, &with(image, hook)), [] as [&str; 0], "{image} {hook}");
        }
    }

    #[test]
    fn only_a_mere_sleep_is_rewritten() {
        let text = fixed(&super::RULE, &with("gcr.io/distroless/cc", "[sleep, '7']"));
        assert!(text.contains("seconds: 7"), "{text}");
        let found =
            crate::testing::found(&super::RULE, &with("gcr.io/distroless/cc", "[sh, -c, 'touch /down; sleep 7']"));
        assert!(found[0].fix.as_ref().is_some_and(|fix| fix.edits.is_empty()));
    }
}
