//! PID 1 forwards signals and reaps children.

pub mod rules;

pub use rules::RULES;
