//! The rules of `serving`, one a file.

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[];
