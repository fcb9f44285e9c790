//! The rules of `image`, one a file.

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[];
