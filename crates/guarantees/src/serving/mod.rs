//! A new version drops no request.

pub mod rules;

pub use rules::RULES;
