//! The rules of `dns`, one a file.

mod autopath_harms;
mod autopath_silent;
mod dotted_endpoint;
mod host_network_dns_policy;
mod ndots_trap;
mod no_cache;
mod no_ready_or_health;
mod search_of_many_names;
mod unbounded_forward;
mod unknown_plugin;

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[
    &ndots_trap::RULE,
    &dotted_endpoint::RULE,
    &search_of_many_names::RULE,
    &host_network_dns_policy::RULE,
    &autopath_silent::RULE,
    &autopath_harms::RULE,
    &no_cache::RULE,
    &no_ready_or_health::RULE,
    &unbounded_forward::RULE,
    &unknown_plugin::RULE,
];
