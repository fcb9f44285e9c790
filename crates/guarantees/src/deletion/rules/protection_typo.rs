use bedplate_model::{Edit, Field, Finding, Fix, Object, names};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds marks that were meant to protect an object from deletion and do not: a key that is
    /// nearly right, a value that means nothing, OpenKruise's label among the annotations.
    ///
    /// ## Why
    /// A guard that is not there is known to be missing; one with a typo is believed in until
    /// the day of the deletion. OpenKruise lets every value but `Always` and `Cascading` pass.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: models
    ///   annotations: {bedplate.dev/delete-protection: "treu"}
    ///   labels: {policy.kruise.io/delete-protection: always}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: v1
    /// kind: Namespace
    /// metadata:
    ///   name: models
    ///   annotations: {bedplate.dev/delete-protection: "true"}
    ///   labels: {policy.kruise.io/delete-protection: Always}
    /// ```
    ///
    /// ## Options
    /// None. `"false"` is a deliberate no and is left alone.
    ///
    /// ## Sources
    /// - OpenKruise, `apis/policy/v1alpha1/resources_deletion_protection.go`.
    "protection-typo", Deletion, Error, High, [Object(check)]
}

fn check(object: &Object<'_>, _: &Context<'_>, out: &mut Findings) {
    for part in ["annotations", "labels"] {
        for (key, value) in object.root.key("metadata").key(part).entries() {
            if key == names::DELETE_PROTECTION {
                ours(&value, out);
            } else if key == names::KRUISE_DELETE_PROTECTION {
                kruise(part, &value, out);
            } else if let Some(meant) = meant(key) {
                out.push(
                    Finding::new(&value, format!("`{key}` protects nothing; `{meant}` would"))
                        .label("nearly the right name")
                        .help(format!("write `{meant}`")),
                );
            }
        }
    }
}

fn ours(value: &Field<'_>, out: &mut Findings) {
    match value.scalar().as_deref() {
        Some("true") if value.str().is_some() => {}
        Some("false") => {}
        found => out.push(
            Finding::new(value, format!("`{}` is no value of delete-protection", found.unwrap_or_default()))
                .label("meant to protect")
                .evidence(found.unwrap_or_default(), "true")
                .fix(Fix::safe("write \"true\" in quotes", vec![Edit::Set(value.path(), "true".into())])),
        ),
    }
}

fn kruise(part: &str, value: &Field<'_>, out: &mut Findings) {
    if part == "annotations" {
        out.push(
            Finding::new(
                value,
                "OpenKruise reads delete-protection from the labels only: this annotation protects nothing",
            )
            .help("move it to `metadata.labels`"),
        );
        return;
    }
    let found = value.scalar().unwrap_or_default();
    if matches!(found.as_str(), "Always" | "Cascading") {
        return;
    }
    let right = if found.to_ascii_lowercase().starts_with("casc") { "Cascading" } else { "Always" };
    out.push(
        Finding::new(value, format!("OpenKruise takes `{found}` for no protection at all"))
            .label("only `Always` and `Cascading` protect")
            .evidence(found, right)
            .fix(Fix::safe(format!("write `{right}`"), vec![Edit::Set(value.path(), right.into())])),
    );
}

/// The name that a key was meant to be.
fn meant(key: &str) -> Option<&'static str> {
    let lower = key.to_ascii_lowercase().replace('_', "-");
    if !(lower.contains("prot") || lower.contains("delet")) {
        return None;
    }
    [names::DELETE_PROTECTION, names::KRUISE_DELETE_PROTECTION]
        .into_iter()
        .find(|name| strsim::damerau_levenshtein(name, &lower) <= 3)
}
