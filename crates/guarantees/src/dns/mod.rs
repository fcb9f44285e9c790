//! An outside name costs two queries, not ten.

pub mod rules;

pub use rules::RULES;
