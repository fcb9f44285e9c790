//! An outside name costs two queries, not ten.

mod corefiles;
pub mod enforce;
mod hosts;
pub mod rules;

pub use rules::RULES;
