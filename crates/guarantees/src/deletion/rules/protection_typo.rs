use bedplate_model::{Confidence, Edit, Field, Finding, Fix, Object, names};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds marks that were meant to protect an object from deletion and do not: a key that is
    /// nearly right, a value that means nothing, OpenKruise's label among the annotations.
    /// On a Service or an Ingress OpenKruise knows `Always` only.
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
    /// - OpenKruise, `apis/policy/v1alpha1/resources_deletion_protection.go`,
    ///   `pkg/webhook/util/deletionprotection/deletion_protection.go`.
    "protection-typo", Deletion, Error, High, [Object(check)]
}

/// What people write when they mean yes, besides what is near to `true`.
const YES: &[&str] = &["yes", "y", "on", "1", "enabled", "always", "cascading"];

fn check(object: &Object<'_>, _: &Context<'_>, out: &mut Findings) {
    for part in ["annotations", "labels"] {
        for (key, value) in object.root.key("metadata").key(part).entries() {
            if key == names::DELETE_PROTECTION {
                ours(&value, out);
            } else if key == names::KRUISE_DELETE_PROTECTION {
                kruise(object, part, &value, out);
            } else if let Some((meant, confidence)) = meant(key) {
                out.push(
                    Finding::new(&value, format!("`{key}` protects nothing; `{meant}` would"))
                        .label("nearly the right name")
                        .evidence(key, meant)
                        .confidence(confidence)
                        .help(format!("write `{meant}`")),
                );
            }
        }
    }
}

/// Ours: the text `true`, as an annotation or a label.
fn ours(value: &Field<'_>, out: &mut Findings) {
    let found = value.scalar().unwrap_or_default();
    let word = found.to_ascii_lowercase();
    if value.str() == Some("true") || super::super::enforce::NO.contains(&word.as_str()) || is_placeholder(&found) {
        return;
    }
    let right = || Fix::safe("write \"true\" in quotes", vec![Edit::Set(value.path(), "true".into())]);
    let finding = if value.str().is_none() && found == "true" {
        Finding::new(value, "`true` without quotes is no text: the API server refuses the whole object").fix(right())
    } else {
        let finding = Finding::new(value, format!("only \"true\" protects; `{found}` lets every deletion pass"));
        let near = YES.contains(&word.as_str()) || strsim::damerau_levenshtein(&word, "true") <= 2;
        if near { finding.fix(right()) } else { finding.help("write \"true\", or \"false\" for a deliberate no") }
    };
    out.push(finding.label("meant to protect").evidence(found, "true"));
}

/// OpenKruise's: a label, `Always` or `Cascading` to the letter (`ValidateWorkloadDeletion` and
/// the like, `pkg/webhook/util/deletionprotection`).
fn kruise(object: &Object<'_>, part: &str, value: &Field<'_>, out: &mut Findings) {
    if part == "annotations" {
        if !object.label(names::KRUISE_DELETE_PROTECTION).exists() {
            let message = "OpenKruise reads delete-protection from the labels only: this annotation protects nothing";
            out.push(Finding::new(value, message).help("move it to `metadata.labels`"));
        }
        return;
    }
    let found = value.scalar().unwrap_or_default();
    let word = found.to_ascii_lowercase();
    // Services and Ingresses have nothing that could cascade.
    let only_always = object.is("", "Service") || object.is("networking.k8s.io", "Ingress");
    if found == "Always"
        || (found == "Cascading" && !only_always)
        || super::super::enforce::NO.contains(&word.as_str())
        || is_placeholder(&found)
    {
        return;
    }
    if found == "Cascading" {
        let message = format!("OpenKruise knows no `Cascading` for a {}: only `Always` protects it", object.kind);
        let fix = Fix::safe("write `Always`", vec![Edit::Set(value.path(), "Always".into())]);
        out.push(Finding::new(value, message).evidence(found, "Always").fix(fix));
        return;
    }
    let finding = Finding::new(value, format!("OpenKruise takes `{found}` for no protection at all"))
        .label("only `Always` and `Cascading` protect");
    let near = |name: &str| strsim::damerau_levenshtein(&word, name) <= 2;
    let right = if near("cascading") || word.starts_with("casc") {
        Some(if only_always { "Always" } else { "Cascading" })
    } else {
        near("always").then_some("Always")
    };
    let write = |name: &str| vec![Edit::Set(value.path(), name.into())];
    out.push(if let Some(right) = right {
        finding.evidence(found, right).fix(Fix::safe(format!("write `{right}`"), write(right)))
    } else if YES.contains(&word.as_str()) || word == "true" {
        // Which of the two was meant is not written here.
        let help = "write `Always`, or `Cascading` to allow it once nothing runs";
        finding.evidence(found, "Always").fix(Fix::unsafe_(help, write("Always")))
    } else {
        finding.evidence(found, "Always or Cascading").help("write `Always` or `Cascading`")
    });
}

/// A value that a template fills in later.
fn is_placeholder(value: &str) -> bool {
    value.contains("${") || value.contains("$(") || value.contains("{{")
}

/// The name that a key was meant to be, and how sure that is: a slip in the name, in the domain
/// or in both. The same name under a domain that is neither ours nor OpenKruise's is someone
/// else's mark.
fn meant(key: &str) -> Option<(&'static str, Confidence)> {
    let (domain, name) = key.rsplit_once('/').unwrap_or(("", key));
    let (own_domain, right) = names::DELETE_PROTECTION.split_once('/')?;
    let (kruise_domain, _) = names::KRUISE_DELETE_PROTECTION.split_once('/')?;
    // Most keys are told apart by their length alone.
    if name.len().abs_diff(right.len()) > 4 {
        return None;
    }
    let name = name.to_ascii_lowercase();
    // Two slips leave one of these whole; distances are dear, and every key of every object comes by.
    if !["del", "ete", "prot", "ection"].iter().any(|piece| name.contains(piece)) {
        return None;
    }
    let name = name.replace('_', "-").replace("deletion", "delete");
    if strsim::damerau_levenshtein(&name, right) > 2 {
        return None;
    }
    let domain = domain.to_ascii_lowercase();
    let near = |word: &str, other: &str| domain.contains(word) || strsim::damerau_levenshtein(&domain, other) <= 2;
    if near("kruise", kruise_domain) {
        Some((names::KRUISE_DELETE_PROTECTION, Confidence::High))
    } else if near("bedplate", own_domain) {
        Some((names::DELETE_PROTECTION, Confidence::High))
    } else {
        domain.is_empty().then_some((names::DELETE_PROTECTION, Confidence::Medium))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    fn namespace(metadata: &str) -> String {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: n, {metadata}}}\n")
    }

    fn ours(value: &str) -> String {
        namespace(&format!("annotations: {{bedplate.dev/delete-protection: {value}}}"))
    }

    fn kruise(value: &str) -> String {
        namespace(&format!("labels: {{policy.kruise.io/delete-protection: {value}}}"))
    }

    #[test]
    fn a_value_that_was_meant_to_protect_is_made_to() {
        for value in ["true", "\"True\"", "treu", "\"yes\"", "1"] {
            assert_eq!(messages(&super::RULE, &ours(value)).len(), 1, "{value}");
            assert!(fixed(&super::RULE, &ours(value)).contains("delete-protection: \"true\""), "{value}");
        }
        for (value, right) in
            [("always", "Always"), ("cascade", "Cascading"), ("Alway", "Always"), ("\"true\"", "Always")]
        {
            assert_eq!(messages(&super::RULE, &kruise(value)).len(), 1, "{value}");
            assert!(
                fixed(&super::RULE, &kruise(value)).replace('"', "").contains(&format!("delete-protection: {right}")),
                "{value}"
            );
        }
        assert_eq!(
            messages(&super::RULE, &ours("true")),
            ["`true` without quotes is no text: the API server refuses the whole object"]
        );
    }

    #[test]
    fn a_deliberate_no_and_a_value_that_is_filled_in_later_are_left_alone() {
        for value in ["\"false\"", "\"False\"", "\"off\"", "\"${PROTECT}\""] {
            assert_eq!(messages(&super::RULE, &ours(value)), [] as [String; 0], "{value}");
            assert_eq!(messages(&super::RULE, &kruise(value)), [] as [String; 0], "{value}");
        }
    }

    #[test]
    fn names_with_a_slip_in_them_are_seen_and_names_of_others_are_not() {
        for key in [
            "bedplate.dev/delete-protecton",
            "bedplate.dev/Delete-Protection",
            "bedplate.dev/delete_protection",
            "bedplate.dev/deletion-protection",
            "bedplate.io/delete-protection",
            "bedplat.dev/delete-protection",
            "kruise.io/delete-protection",
            "policy.kruise.io/deletion-protection",
            "delete-protection",
        ] {
            for part in ["annotations", "labels"] {
                let text = namespace(&format!("{part}: {{{key}: Always}}"));
                assert_eq!(messages(&super::RULE, &text).len(), 1, "{key}");
            }
        }
        for key in ["resources.gardener.cloud/delete-protection", "bedplate.dev/production", "app.kubernetes.io/name"] {
            let text = namespace(&format!("annotations: {{{key}: \"true\"}}"));
            assert_eq!(messages(&super::RULE, &text), [] as [String; 0], "{key}");
        }
    }

    #[test]
    fn openkruise_reads_labels_only_and_knows_no_cascading_service() {
        let metadata = "annotations: {policy.kruise.io/delete-protection: Always}";
        assert_eq!(
            messages(&super::RULE, &namespace(metadata)),
            ["OpenKruise reads delete-protection from the labels only: this annotation protects nothing"]
        );
        let service = kruise("Cascading").replace("Namespace", "Service");
        assert_eq!(
            messages(&super::RULE, &service),
            ["OpenKruise knows no `Cascading` for a Service: only `Always` protects it"]
        );
        fixed(&super::RULE, &service);
        assert_eq!(messages(&super::RULE, &kruise("Cascading")), [] as [String; 0]);
    }
}
