//! The rules of `training`, one a file.

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[];
