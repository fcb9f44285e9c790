//! The rules of `serving`, one a file.

mod drain_longer_than_grace;
mod liveness_kills_loading;
mod no_disruption_budget;
mod no_drain;
mod no_readiness;
mod pods;
mod prestop_needs_shell;
mod readiness_ignores_model;
mod rollout_loses_capacity;
mod single_replica;

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[
    &no_readiness::RULE,
    &readiness_ignores_model::RULE,
    &liveness_kills_loading::RULE,
    &no_drain::RULE,
    &drain_longer_than_grace::RULE,
    &prestop_needs_shell::RULE,
    &rollout_loses_capacity::RULE,
    &single_replica::RULE,
    &no_disruption_budget::RULE,
];
