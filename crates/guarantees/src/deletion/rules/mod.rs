//! The rules of `deletion`, one a file.

mod protection_typo;
mod unprotected_crd;
mod unprotected_namespace;

use bedplate_model::{Object, names};

use crate::Rule;

/// All of them.
pub static RULES: &[&Rule] = &[&unprotected_crd::RULE, &unprotected_namespace::RULE, &protection_typo::RULE];

/// Whether an object carries a mark that protects it: ours or OpenKruise's.
fn is_protected(object: &Object<'_>) -> bool {
    let ours = |field: bedplate_model::Field<'_>| field.str() == Some("true");
    ours(object.annotation(names::DELETE_PROTECTION))
        || ours(object.label(names::DELETE_PROTECTION))
        || matches!(object.label(names::KRUISE_DELETE_PROTECTION).str(), Some("Always" | "Cascading"))
}
