//! The rules of `upgrade`, one a file.

mod in_place_without_grace;
mod paused_is_no_fence;
mod readiness_gate_missing;
mod recreate_where_in_place_fits;
mod strategy;

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[
    &recreate_where_in_place_fits::RULE,
    &readiness_gate_missing::RULE,
    &paused_is_no_fence::RULE,
    &in_place_without_grace::RULE,
];
