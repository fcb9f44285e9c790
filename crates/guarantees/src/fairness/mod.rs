//! A flood never starves the controllers.

pub mod rules;

pub use rules::RULES;
