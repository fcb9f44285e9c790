//! The rules of `deletion`, one a file.

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[];
