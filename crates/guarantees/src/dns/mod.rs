//! An outside name costs two queries, not ten.

mod corefiles;
mod hosts;
pub mod rules;

pub use rules::RULES;
