//! No job takes more than its share, and only trusted images run.

pub mod demand;
pub mod enforce;
pub mod rules;

pub use rules::RULES;
