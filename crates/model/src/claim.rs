//! Devices of dynamic resource allocation (`resource.k8s.io`): how many a claim asks for.

use crate::field::Field;
use crate::object::Object;

/// How many devices a claim asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Devices {
    /// So many.
    Count(u64),
    /// Every one that fits (`allocationMode: All`).
    All,
}

/// What a `ResourceClaim` or `ResourceClaimTemplate` asks for; nothing for other objects.
///
/// Where a request has alternatives (`firstAvailable`), the largest of them counts. Source: `resource.k8s.io/v1`,
/// DeviceRequest; its betas did not wrap the request in `exactly`.
#[must_use]
pub fn devices(object: &Object<'_>) -> Option<Devices> {
    if object.group() != "resource.k8s.io" {
        return None;
    }
    let requests = match object.kind {
        "ResourceClaim" => object.at("spec.devices.requests"),
        "ResourceClaimTemplate" => object.at("spec.spec.devices.requests"),
        _ => return None,
    };
    let mut total = 0u64;
    for request in requests.items() {
        let one = |request: &Field<'_>| match request.key("allocationMode").str() {
            Some("All") => None,
            _ => Some(request.key("count").u64().unwrap_or(1)),
        };
        let alternatives: Vec<_> = request.key("firstAvailable").items().collect();
        let exactly = request.key("exactly");
        let count = if alternatives.is_empty() {
            one(if exactly.exists() { &exactly } else { &request })
        } else {
            alternatives.iter().map(one).try_fold(0, |most, count| Some(most.max(count?)))
        };
        let Some(count) = count else { return Some(Devices::All) };
        total = total.saturating_add(count);
    }
    Some(Devices::Count(total))
}
