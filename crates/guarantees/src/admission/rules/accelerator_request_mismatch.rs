use bedplate_model::{Edit, Finding, Fix, Workload, accelerator, quantity};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds containers that request another number of accelerators than their limit, request
    /// without a limit, or ask for a part of one.
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
    /// - Kubernetes, `pkg/apis/core/validation/validation.go`, `ValidateResourceRequirements`.
    "accelerator-request-mismatch", Admission, Error, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    for (_, container) in workload.containers() {
        let (requests, limits) = (container.resources.key("requests"), container.resources.key("limits"));
        for (name, limit) in limits.entries().filter(|(name, _)| accelerator::find(name).is_some()) {
            let request = requests.key(name);
            let number = |value| quantity::of(value);
            if let Some(amount) = limit.value().and_then(number).filter(|amount| amount.fract() != 0.0 || *amount < 0.0)
            {
                out.push(
                    Finding::new(&limit, format!("{amount} of {name} cannot be had: accelerators are whole"))
                        .help("ask for a whole number, or for a slice that the device plugin offers (MIG)"),
                );
            } else if let (Some(asked), Some(most)) = (request.value().and_then(number), limit.value().and_then(number))
                && asked != most
            {
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
        }
        for (name, request) in requests.entries().filter(|(name, _)| accelerator::find(name).is_some()) {
            let limit = limits.key(name);
            if !limit.exists() {
                let edit = request.node().map(|node| Edit::Set(limit.path(), node.to_json()));
                out.push(
                    Finding::new(&request, format!("requests {name} without a limit: the API server refuses the pod"))
                        .fix(Fix::safe("set the limit to the same number", edit.into_iter().collect())),
                );
            }
        }
    }
}
