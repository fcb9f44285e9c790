//! The guards of admission: the GPU ceiling, trusted registries, tags that move.

use bedplate_model::Guarantee;
use bedplate_model::profile::REGISTRIES;
use serde_json::{Value, json};

use crate::enforce::cel::Variable;
use crate::enforce::{Guard, Params, Policy, Validation, cel, setting};

/// The policy of the guards.
#[must_use]
pub fn policies() -> Vec<Policy> {
    vec![Policy {
        name: "admission",
        guarantee: Guarantee::Admission,
        params: Params::Profile,
        spares_system: true,
        resources: resources(),
        guards: vec![gpu_ceiling(), untrusted_registry(), mutable_tag()],
    }]
}

/// What changes nothing of the pods leaves an old object as it is.
const SOMETHING_NEW: &str =
    "request.operation != 'UPDATE' || !has(object.spec) || !has(oldObject.spec) || object.spec != oldObject.spec";

fn guard(rule: &'static str, variables: Vec<Variable>, validations: Vec<Validation>) -> Guard {
    Guard { rule, when: SOMETHING_NEW.to_owned(), variables, validations }
}

/// Every kind whose pods stand in it. A pod's ephemeral containers come by a request of their own.
fn resources() -> Vec<Value> {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for kind in cel::rows() {
        let plural = kind.plural();
        match groups.iter_mut().find(|(group, _)| *group == kind.group) {
            Some((_, resources)) if resources.contains(&plural) => {}
            Some((_, resources)) => resources.push(plural),
            None => groups.push((kind.group, vec![plural])),
        }
    }
    if let Some((_, core)) = groups.iter_mut().find(|(group, _)| group.is_empty()) {
        core.push("pods/ephemeralcontainers".to_owned());
    }
    groups
        .into_iter()
        .map(|(group, resources)| {
            json!({
                "apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": resources,
            })
        })
        .collect()
}

const EXEMPTION: &str = " or ask for an Exemption (kubectl explain exemption.spec)";

fn gpu_ceiling() -> Guard {
    // What was so before may stay so: an old object can be repaired step by step.
    let no_worse = |what: &str, before: String| {
        format!(
            "variables.tooLarge || variables.{what} == 0 || variables.{what} <= variables.{what}Allowed || \
             (request.operation == 'UPDATE' && [{}].exists(b, variables.{what} <= {before}))",
            cel::accelerators(1)
        )
    };
    guard(
        "gpu-ceiling",
        vec![
            cel::pods(),
            cel::too_large(),
            ("accelerators".to_owned(), cel::accelerators(0)),
            ("largest".to_owned(), cel::largest("variables.accelerators")),
            ("total".to_owned(), cel::total("variables.accelerators")),
            ("largestAllowed".to_owned(), setting("admission.acceleratorsPerPod", "8")),
            ("totalAllowed".to_owned(), setting("admission.acceleratorsPerJob", "8")),
        ],
        vec![
            Validation {
                expression: "!variables.tooLarge".to_owned(),
                message: format!(
                    "'this ' + request.kind.kind + ' has more than {} pods or containers in one list, more than can be judged: split it'",
                    cel::MOST
                ),
            },
            Validation {
                expression: no_worse("largest", cel::largest("b")),
                message: format!(
                    "variables.tooLarge ? '' : 'a pod of this ' + request.kind.kind + ' asks for ' + string(variables.largest) + ' accelerators, the ceiling is ' + \
                     string(variables.largestAllowed) + ': ask for fewer, raise spec.admission.acceleratorsPerPod of the StabilityProfile,{EXEMPTION}'"
                ),
            },
            Validation {
                expression: no_worse("total", cel::total("b")),
                message: format!(
                    "variables.tooLarge ? '' : variables.total >= {} ? 'nothing bounds the accelerators of this ' + request.kind.kind + ': its autoscaler may start any number of pods, \
                     set maxReplicas' : 'this ' + request.kind.kind + ' asks for ' + string(variables.total) + ' accelerators, the ceiling is ' + \
                     string(variables.totalAllowed) + ': make it fit, raise spec.admission.acceleratorsPerJob of the StabilityProfile for this namespace,{EXEMPTION}'",
                    cel::NO_MAXIMUM
                ),
            },
        ],
    )
}

/// `name`: images that `bad` (CEL over an image `i`) speaks against, less those that the object had before.
fn images(name: &str, bad: &str) -> Vec<Variable> {
    let before = format!("request.operation == 'UPDATE' ? ({}).split('\\n') : []", cel::images(1));
    vec![
        cel::pods(),
        (
            "images".to_owned(),
            format!("({}).split('\\n').filter(i, i != '' && !{})", cel::images(0), cel::is_placeholder("i")),
        ),
        (
            name.to_owned(),
            format!(
                "[variables.images.filter(i, {bad})].map(l, l.size() == 0 ? l : [{before}].map(b, l.filter(i, !(i in b)))[0])[0]"
            ),
        ),
    ]
}

fn untrusted_registry() -> Guard {
    let mut variables =
        vec![("trusted".to_owned(), setting("admission.registries", &cel::list(REGISTRIES.iter().copied())))];
    variables.extend(images(
        "untrusted",
        &format!("![{} + '/'].exists(n, variables.trusted.exists(t, n.startsWith(t + '/')))", cel::image_name("i")),
    ));
    guard(
        "untrusted-registry",
        variables,
        vec![Validation {
            expression: "variables.tooLarge || variables.untrusted.size() == 0".to_owned(),
            message: format!(
                "variables.tooLarge ? '' : 'the image ' + variables.untrusted[0] + ' is from no trusted registry: take it from ' + \
                 (variables.trusted.size() == 1 ? variables.trusted[0] : 'one of the ' + string(variables.trusted.size()) + ' that are trusted') + \
                 ', add its registry to spec.admission.registries of the StabilityProfile,{EXEMPTION}'"
            ),
        }],
    )
}

fn mutable_tag() -> Guard {
    guard(
        "mutable-tag",
        images("mutable", &cel::is_mutable("i")),
        vec![Validation {
            expression: "variables.tooLarge || variables.mutable.size() == 0".to_owned(),
            message: format!(
                "variables.tooLarge ? '' : 'the image ' + variables.mutable[0] + ' can change under you: name a version, best with its digest,{EXEMPTION}'"
            ),
        }],
    )
}
