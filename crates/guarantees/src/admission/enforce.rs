//! The guards of admission: the GPU ceiling, trusted registries, tags that move.

use bedplate_model::Guarantee;
use bedplate_model::profile::REGISTRIES;
use serde_json::{Value, json};

use crate::enforce::cel::Variable;
use crate::enforce::{Guard, Params, Validation, cel, setting};

/// The guards.
#[must_use]
pub fn guards() -> Vec<Guard> {
    vec![gpu_ceiling(), untrusted_registry(), mutable_tag()]
}

fn guard(rule: &'static str, variables: Vec<Variable>, validations: Vec<Validation>) -> Guard {
    Guard {
        rule,
        guarantee: Guarantee::Admission,
        params: Params::Profile,
        spares_system: true,
        resources: resources(),
        conditions: Vec::new(),
        variables,
        validations,
    }
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
    let mut variables =
        vec![("names".to_owned(), cel::accelerator_names()), ("prefixes".to_owned(), cel::accelerator_prefixes())];
    variables.extend(cel::accelerators());
    let now = "variables.accelerators[0]";
    variables.extend([
        ("largest".to_owned(), format!("{now}[0]")),
        ("total".to_owned(), format!("{now}[1]")),
        ("perPod".to_owned(), setting("admission.acceleratorsPerPod", "8")),
        ("perJob".to_owned(), setting("admission.acceleratorsPerJob", "8")),
    ]);
    // What was so before may stay so: an old object can be repaired step by step.
    let no_worse =
        |new: &str, part: u8| format!("(request.operation == 'UPDATE' && {new} <= variables.accelerators[1][{part}])");
    guard(
        "gpu-ceiling",
        variables,
        vec![
            Validation {
                expression: format!("variables.largest <= variables.perPod || {}", no_worse("variables.largest", 0)),
                message: format!(
                    "'a pod of this ' + request.kind.kind + ' asks for ' + string(variables.largest) + ' accelerators, the ceiling is ' + \
                     string(variables.perPod) + ': ask for fewer, raise spec.admission.acceleratorsPerPod of the StabilityProfile,{EXEMPTION}'"
                ),
            },
            Validation {
                expression: format!("variables.total <= variables.perJob || {}", no_worse("variables.total", 1)),
                message: format!(
                    "'this ' + request.kind.kind + ' asks for ' + string(variables.total) + ' accelerators, the ceiling is ' + \
                     string(variables.perJob) + ': make it fit, raise spec.admission.acceleratorsPerJob of the StabilityProfile for this namespace,{EXEMPTION}'"
                ),
            },
        ],
    )
}

/// Images that `bad` (CEL over an image `i`) speaks against, less those that the object had before.
fn images(bad: &str) -> Vec<Variable> {
    let mut variables = cel::all_images();
    variables.push((
        "bad".to_owned(),
        format!(
            "variables.images[0].filter(i, !{} && !(variables.images.size() > 1 && i in variables.images[1]) && {bad})",
            cel::is_placeholder("i")
        ),
    ));
    variables
}

fn untrusted_registry() -> Guard {
    let mut variables =
        vec![("trusted".to_owned(), setting("admission.registries", &cel::list(REGISTRIES.iter().copied())))];
    variables.extend(images(&format!(
        "![{}].exists(n, variables.trusted.exists(t, n == t || n.startsWith(t + '/')))",
        cel::image_name("i")
    )));
    guard(
        "untrusted-registry",
        variables,
        vec![Validation {
            expression: "variables.bad.size() == 0".to_owned(),
            message: format!(
                "'the image ' + variables.bad[0] + ' is from no trusted registry: take it from ' + \
                 (variables.trusted.size() == 1 ? variables.trusted[0] : 'one of the ' + string(variables.trusted.size()) + ' that are trusted') + \
                 ', add its registry to spec.admission.registries of the StabilityProfile,{EXEMPTION}'"
            ),
        }],
    )
}

fn mutable_tag() -> Guard {
    guard(
        "mutable-tag",
        images(&cel::is_mutable("i")),
        vec![Validation {
            expression: "variables.bad.size() == 0".to_owned(),
            message: format!(
                "'the image ' + variables.bad[0] + ' can change under you: name a version, best with its digest,{EXEMPTION}'"
            ),
        }],
    )
}
