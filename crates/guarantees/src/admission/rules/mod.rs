//! The rules of `admission`, one a file.

mod accelerator_quota;
mod accelerator_request_mismatch;
mod finished_jobs_kept;
mod gpu_ceiling;
mod missing_requests;
mod mutable_tag;
mod unbounded_search;
mod untrusted_registry;

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[
    &gpu_ceiling::RULE,
    &accelerator_quota::RULE,
    &accelerator_request_mismatch::RULE,
    &untrusted_registry::RULE,
    &mutable_tag::RULE,
    &missing_requests::RULE,
    &unbounded_search::RULE,
    &finished_jobs_kept::RULE,
];
