//! The rules of `deletion`, one a file.

mod protection_typo;
mod unprotected_crd;
mod unprotected_namespace;

use bedplate_model::{Edit, Finding, Fix, Object, names};

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

/// Says how to protect an object; with an edit, unless someone has written that it shall not be.
fn protect(finding: Finding, object: &Object<'_>) -> Finding {
    let help = format!("annotate it with `{}: \"true\"`", names::DELETE_PROTECTION);
    let no = |field: bedplate_model::Field<'_>| field.scalar().as_deref() == Some("false");
    if no(object.annotation(names::DELETE_PROTECTION)) || no(object.label(names::DELETE_PROTECTION)) {
        return finding.note("Someone has written `\"false\"` here: ask before you change it.").help(help);
    }
    let path = object.annotation(names::DELETE_PROTECTION).path();
    finding.fix(Fix::safe(help, vec![Edit::Set(path, "true".into())]))
}
