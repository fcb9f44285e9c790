//! The eight guarantees: one folder each, with the same rooms. `rules/` holds one rule a file;
//! a rule's doc comment is its published page.
//!
//! ```text
//!   text ─▶ check::Source ─▶ Subjects ─▶ RULES ─▶ findings ─▶ suppressed? exempt? ─▶ Report
//! ```
//!
//! Nothing here does I/O: what a rule needs to know comes in as [`Context`].

pub mod admission;
pub mod check;
pub mod command;
pub mod context;
pub mod deletion;
pub mod dns;
pub mod enforce;
pub mod fairness;
pub mod image;
pub mod rule;
pub mod serving;
pub mod training;
pub mod upgrade;

pub use check::{Checked, Located, Source, check};
pub use context::{BuildContext, Context, Neighbours};
pub use rule::{Check, Findings, Rule};

/// Every rule, guarantee by guarantee.
pub static RULES: &[&[&Rule]] = &[
    admission::RULES,
    deletion::RULES,
    fairness::RULES,
    dns::RULES,
    image::RULES,
    training::RULES,
    serving::RULES,
    upgrade::RULES,
];

/// Every rule, one after the other.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().flat_map(|rules| rules.iter().copied())
}

/// Names that a profile or an exemption may speak of: every rule, and every guard that is no rule of `check`.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = rules().map(|rule| rule.name).collect();
    for (guard, _) in enforce::guarded() {
        if !names.contains(&guard) {
            names.push(guard);
        }
    }
    names
}

/// The definitions of Bedplate's own kinds.
#[must_use]
pub fn definitions() -> Vec<serde_json::Value> {
    bedplate_model::crd::definitions(&names())
}

/// The rule of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Rule> {
    rules().find(|rule| rule.name == name)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
