//! A termination costs no training progress.

pub mod rules;

pub use rules::RULES;
