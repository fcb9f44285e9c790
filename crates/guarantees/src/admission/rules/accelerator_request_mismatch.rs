use bedplate_model::{Edit, Field, Finding, Fix, Workload, quantity};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds containers that request another number of accelerators (or of any other extended
    /// resource, such as a network card) than their limit, request without a limit, or ask for
    /// a part of one.
    ///
    /// ## Why
    /// Accelerators are extended resources: they are whole, and request and limit have to be
    /// the same. The API server refuses the pod, and it does so when the operator makes it: the
    /// job itself is accepted and then waits for ever, with the reason in an event.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: a
    ///           image: docker.io/pytorch/pytorch:2.7.0
    ///           resources: {requests: {nvidia.com/gpu: 2}, limits: {nvidia.com/gpu: 4}}
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
    ///       containers:
    ///         - name: a
    ///           image: docker.io/pytorch/pytorch:2.7.0
    ///           resources: {requests: {nvidia.com/gpu: 4}, limits: {nvidia.com/gpu: 4}}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubernetes, `pkg/apis/core/validation/validation.go`, `ValidateResourceRequirements`;
    ///   `pkg/apis/core/helper/helpers.go`, `IsExtendedResourceName`.
    "accelerator-request-mismatch", Admission, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    for (_, container) in workload.containers() {
        let (requests, limits) = (container.resources.key("requests"), container.resources.key("limits"));
        for (name, limit) in limits.entries().filter(|(name, _)| is_extended(name)) {
            let request = requests.key(name);
            match (number(&request), number(&limit)) {
                (_, Some(most)) if !is_whole(most) => out.push(not_whole(&limit, name, most)),
                (Some(asked), Some(most)) if asked != most => {
                    let edit = limit.node().map(|node| Edit::Set(request.path(), node.to_json()));
                    out.push(
                        Finding::new(
                            &request,
                            format!("requests {asked} of {name} with a limit of {most}: both have to be the same"),
                        )
                        .related(&limit, "the limit")
                        .evidence(asked, most)
                        .fix(Fix::unsafe_(format!("request {most}"), edit.into_iter().collect())),
                    );
                }
                _ => {}
            }
        }
        for (name, request) in requests.entries().filter(|(name, _)| is_extended(name)) {
            let limit = limits.key(name);
            if limit.exists() || !request.exists() {
                continue;
            }
            if let Some(asked) = number(&request).filter(|asked| !is_whole(*asked)) {
                out.push(not_whole(&request, name, asked));
                continue;
            }
            let edit = request.node().map(|node| Edit::Set(limit.path(), node.to_json()));
            out.push(
                Finding::new(&request, format!("requests {name} without a limit: the API server refuses the pod"))
                    .fix(Fix::safe("set the limit to the same number", edit.into_iter().collect())),
            );
        }
    }
}

/// Whether a resource is an extended one: accelerators, and the network cards beside them
/// (`IsExtendedResourceName`, `pkg/apis/core/helper/helpers.go`).
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// The quantity of a field; nothing for a placeholder.
fn number(field: &Field<'_>) -> Option<f64> {
    field.value().and_then(quantity::of)
}

fn is_whole(number: f64) -> bool {
    number >= 0.0 && number.fract() == 0.0
}

fn not_whole(field: &Field<'_>, name: &str, amount: f64) -> Finding {
    Finding::new(field, format!("asks for {amount} of {name}, which comes in whole devices only"))
        .label("the API server refuses this")
        .evidence(amount, "a whole number")
        .help("ask for a whole number, or for a slice that the device plugin offers (MIG)")
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, found, messages};

    fn pod(resources: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: a, image: x, resources: {resources}}}]}}\n"
        )
    }

    #[test]
    fn half_a_gpu_is_no_gpu() {
        for resources in ["{limits: {nvidia.com/gpu: 0.5}}", "{requests: {nvidia.com/gpu: 500m}}"] {
            let all = found(&super::RULE, &pod(resources));
            assert_eq!(all[0].message, "asks for 0.5 of nvidia.com/gpu, which comes in whole devices only");
            // A limit of half a device would be refused as well.
            assert!(all.len() == 1 && all[0].fix.as_ref().is_some_and(|fix| fix.edits.is_empty()), "{resources}");
        }
        let less = messages(&super::RULE, &pod("{limits: {nvidia.com/gpu: -1}}"));
        assert_eq!(less, ["asks for -1 of nvidia.com/gpu, which comes in whole devices only"]);
    }

    #[test]
    fn the_network_card_beside_the_gpu_follows_the_same_rule() {
        let text = pod("{requests: {vpc.amazonaws.com/efa: 4}}");
        assert_eq!(
            messages(&super::RULE, &text),
            ["requests vpc.amazonaws.com/efa without a limit: the API server refuses the pod"]
        );
        fixed(&super::RULE, &text);
    }

    #[test]
    fn what_may_be_overcommitted_or_is_not_known_yet_is_left_alone() {
        for resources in [
            "{requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 2, memory: 2Gi}}",
            "{requests: {nvidia.com/gpu: 1000m}, limits: {nvidia.com/gpu: 1}}",
            "{requests: {nvidia.com/gpu: \"${GPUS}\"}, limits: {nvidia.com/gpu: \"${GPUS}\"}}",
            "\"${RESOURCES}\"",
        ] {
            assert_eq!(messages(&super::RULE, &pod(resources)), [] as [String; 0], "{resources}");
        }
    }
}
