//! A termination costs no training progress.

pub mod rules;
pub mod saves;

pub use rules::RULES;
