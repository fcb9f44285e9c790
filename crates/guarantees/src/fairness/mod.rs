//! A flood never starves the controllers.

pub mod detect;
pub mod enforce;
pub mod identities;
mod lanes;
pub mod prove;
pub mod rules;

pub use rules::RULES;
