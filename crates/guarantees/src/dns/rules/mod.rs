//! The rules of `dns`, one a file.

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[];
