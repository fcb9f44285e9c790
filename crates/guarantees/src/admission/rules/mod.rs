//! The rules of `admission`, one a file.

mod gpu_ceiling;

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[&gpu_ceiling::RULE];
