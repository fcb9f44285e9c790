//! An upgrade keeps its address; a new model proves itself on one pod first.

pub mod rules;

pub use rules::RULES;
