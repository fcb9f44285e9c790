//! The rules of `training`, one a file.

mod checkpoint_at_risk;
mod eviction_counted_as_failure;
mod grace_too_short;
mod no_durable_checkpoint;
mod pods;
mod report;
mod restart_policy_loses_work;
mod save_exceeds_grace;
mod spot_grace;

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[
    &grace_too_short::RULE,
    &no_durable_checkpoint::RULE,
    &restart_policy_loses_work::RULE,
    &eviction_counted_as_failure::RULE,
    &spot_grace::RULE,
    &checkpoint_at_risk::RULE,
    &save_exceeds_grace::RULE,
];
