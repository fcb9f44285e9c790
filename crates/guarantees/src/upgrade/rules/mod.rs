//! The rules of `upgrade`, one a file.

mod in_place_without_grace;
mod paused_is_no_fence;
mod readiness_gate_missing;
mod recreate_where_in_place_fits;

use bedplate_model::{Field, Workload};

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[
    &recreate_where_in_place_fits::RULE,
    &readiness_gate_missing::RULE,
    &paused_is_no_fence::RULE,
    &in_place_without_grace::RULE,
];

/// Where an OpenKruise kind says how it updates.
struct Strategy<'a> {
    /// The field that says whether pods are updated in place.
    policy: Field<'a>,
    /// The mapping with `partition`, `paused` and `inPlaceUpdateStrategy`.
    settings: Field<'a>,
}

impl Strategy<'_> {
    fn in_place(&self) -> bool {
        self.policy.str().is_some_and(|policy| policy.starts_with("InPlace"))
    }
}

fn strategy<'a>(workload: &Workload<'a>) -> Option<Strategy<'a>> {
    if workload.object.group() != "apps.kruise.io" {
        return None;
    }
    let update = workload.at("spec.updateStrategy");
    match workload.object.kind {
        "CloneSet" => Some(Strategy { policy: update.key("type"), settings: update }),
        "StatefulSet" => {
            let rolling = update.key("rollingUpdate");
            Some(Strategy { policy: rolling.key("podUpdatePolicy"), settings: rolling })
        }
        _ => None,
    }
}
