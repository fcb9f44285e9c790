//! A flood never starves the controllers.

mod lanes;
pub mod rules;

pub use rules::RULES;
