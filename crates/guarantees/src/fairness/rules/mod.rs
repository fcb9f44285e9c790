//! The rules of `fairness`, one a file.

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[];
