//! What everything hangs on cannot be deleted by mistake.

pub mod enforce;
pub mod rules;

pub use rules::RULES;
