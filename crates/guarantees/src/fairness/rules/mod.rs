//! The rules of `fairness`, one a file.

mod bootstrap_annotation;
mod client_side_limit;
mod cluster_scope_forgotten;
mod lane_too_wide;
mod level_missing;
mod schema_shadowed;
mod shares_starved;

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[
    &level_missing::RULE,
    &schema_shadowed::RULE,
    &lane_too_wide::RULE,
    &bootstrap_annotation::RULE,
    &cluster_scope_forgotten::RULE,
    &shares_starved::RULE,
    &client_side_limit::RULE,
];
