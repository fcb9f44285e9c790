//! What everything hangs on cannot be deleted by mistake.

pub mod rules;

pub use rules::RULES;
