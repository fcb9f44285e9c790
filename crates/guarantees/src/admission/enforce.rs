//! The guards of admission: the GPU ceiling, trusted registries, tags that move.

use bedplate_model::Guarantee;
use bedplate_model::profile::{Mode, REGISTRIES};
use bedplate_model::workload::kinds::{self, Kind, TABLE};
use serde_json::{Value, json};

use crate::enforce::cel::Variable;
use crate::enforce::{Guard, Installation, Params, Policy, Validation, cel, setting};

/// The policies of the guards: one for what is created and changed, and one for each kind that can be scaled.
#[must_use]
pub fn policies(installation: Installation<'_>) -> Vec<Policy> {
    let mut policies = vec![Policy {
        name: "admission".to_owned(),
        guarantee: Guarantee::Admission,
        params: Params::Profile,
        modes: Mode::ACTIVE.to_vec(),
        spares_system: true,
        resources: resources(),
        profile: None,
        guards: vec![gpu_ceiling(), untrusted_registry(), mutable_tag()],
    }];
    policies.extend(TABLE.iter().filter_map(|kind| scale(kind, installation)));
    policies
}

/// A request to the `scale` subresource names a number and no pods: the workload comes as the parameter, and as a policy
/// has one parameter, what the profile says of the ceiling is written into it.
fn scale(kind: &'static Kind, installation: Installation<'_>) -> Option<Policy> {
    kind.scale?;
    let version = (installation.served)(kind.group, kind.kind)?;
    let profile = of_ceiling(installation.profile, kind.kind);
    let modes: Vec<_> = Mode::ACTIVE.into_iter().filter(|mode| is_chosen(&profile["spec"], *mode)).collect();
    Some(Policy {
        name: format!("scale.{}", kind.plural_in_group()),
        guarantee: Guarantee::Admission,
        params: Params::Workload(kind, version),
        modes,
        spares_system: true,
        resources: vec![json!({
            "apiGroups": [kind.group], "apiVersions": ["*"], "operations": ["UPDATE"],
            "resources": [format!("{}/scale", kind.plural())],
        })],
        profile: Some(profile),
        guards: vec![scale_ceiling(kind)],
    })
}

/// What the ceiling reads of a profile.
fn of_ceiling(profile: &Value, kind: &str) -> Value {
    let settings = |of: &Value| {
        let mut kept = json!({});
        for part in ["modes", "rules"] {
            let named =
                |name: &str| of.pointer(&format!("/{part}/{name}")).map(|value| (name.to_owned(), value.clone()));
            let named: serde_json::Map<_, _> = ["gpu-ceiling", "admission"].into_iter().filter_map(named).collect();
            if !named.is_empty() {
                kept[part] = named.into();
            }
        }
        if let Some(ceiling) = of.pointer("/admission/acceleratorsPerJob") {
            kept["admission"] = json!({ "acceleratorsPerJob": ceiling });
        }
        kept
    };
    let list = |path: &str| profile.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut spec = settings(&profile["spec"]);
    let namespaces = list("/spec/namespaces").into_iter().map(|entry| {
        let mut kept = settings(&entry);
        kept["names"] = entry["names"].clone();
        kept
    });
    spec["namespaces"] = namespaces.collect();
    let exemptions = list("/status/exemptions").into_iter().filter_map(|mut exemption| {
        let of_kind = exemption.pointer("/subject/kind").is_none_or(|of| of == kind);
        // The request's own kind is Scale.
        exemption.get_mut("subject").and_then(Value::as_object_mut)?.remove("kind");
        exemption.as_object_mut()?.remove("reason");
        (of_kind && exemption["rule"] == "gpu-ceiling").then_some(exemption)
    });
    json!({ "spec": spec, "status": { "exemptions": exemptions.collect::<Value>() } })
}

fn is_chosen(spec: &Value, mode: Mode) -> bool {
    let of = |settings: &Value| {
        let named = |name: &str| settings.pointer(&format!("/modes/{name}")).and_then(Value::as_str).map(str::to_owned);
        named("gpu-ceiling").or_else(|| named("admission"))
    };
    let base = of(spec).unwrap_or_else(|| Mode::Enforce.name().to_owned());
    let entries = spec["namespaces"].as_array().into_iter().flatten().filter_map(of);
    entries.chain([base]).any(|chosen| chosen == mode.name())
}

/// What changes nothing of the pods leaves an old object as it is.
const SOMETHING_NEW: &str =
    "request.operation != 'UPDATE' || !has(object.spec) || !has(oldObject.spec) || object.spec != oldObject.spec";

fn guard(rule: &'static str, variables: Vec<Variable>, validations: Vec<Validation>) -> Guard {
    Guard { rule, when: SOMETHING_NEW.to_owned(), variables, validations }
}

/// Every kind whose pods stand in it, and claims of devices.
fn resources() -> Vec<Value> {
    let mut groups = kinds::resources(cel::rows());
    groups.push((
        cel::CLAIM_GROUP,
        cel::CLAIMS.iter().map(|(kind, _)| format!("{}s", kind.to_ascii_lowercase())).collect(),
    ));
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
             (request.operation == 'UPDATE' && variables.{what} <= {before})"
        )
    };
    guard(
        "gpu-ceiling",
        vec![
            cel::pods(),
            cel::too_large(),
            ("accelerators".to_owned(), cel::accelerators(0)),
            ("acceleratorsBefore".to_owned(), cel::accelerators(1)),
            ("largest".to_owned(), cel::largest("variables.accelerators")),
            ("total".to_owned(), cel::total("variables.accelerators")),
            ("largestAllowed".to_owned(), setting("params", "admission.acceleratorsPerPod", "8")),
            ("totalAllowed".to_owned(), setting("params", "admission.acceleratorsPerJob", "8")),
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
                expression: no_worse("largest", cel::largest("variables.acceleratorsBefore")),
                message: format!(
                    "variables.tooLarge ? '' : 'a pod of this ' + request.kind.kind + ' asks for ' + (variables.largest >= {} ? 'every device that fits' : string(variables.largest) + ' accelerators') + ', the ceiling is ' + \
                     string(variables.largestAllowed) + ': ask for fewer, raise spec.admission.acceleratorsPerPod of the StabilityProfile,{EXEMPTION}'",
                    cel::NO_MAXIMUM
                ),
            },
            Validation {
                expression: no_worse("total", cel::total("variables.acceleratorsBefore")),
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

fn scale_ceiling(kind: &'static Kind) -> Guard {
    Guard {
        rule: "gpu-ceiling",
        // Every workload of the namespace is a parameter once; less may always be asked for.
        when: "params.metadata.name == request.name && object.?spec.?replicas.orValue(0) > oldObject.?spec.?replicas.orValue(0)"
            .to_owned(),
        variables: vec![
            cel::scaled_pods(kind),
            ("accelerators".to_owned(), cel::accelerators(0)),
            ("total".to_owned(), cel::total("variables.accelerators")),
            ("totalAllowed".to_owned(), setting("variables.profile", "admission.acceleratorsPerJob", "8")),
        ],
        validations: vec![Validation {
            expression: "variables.total == 0 || variables.total <= variables.totalAllowed".to_owned(),
            message: format!(
                "'scaled to ' + string(object.spec.replicas) + ' replicas, the {} ' + request.name + ' asks for ' + string(variables.total) +                  ' accelerators, the ceiling is ' + string(variables.totalAllowed) + ': ask for fewer, raise spec.admission.acceleratorsPerJob of the                  StabilityProfile for this namespace,{EXEMPTION}'",
                kind.kind
            ),
        }],
    }
}

/// `name`: images that `bad` (CEL over an image `i`) speaks against, less those that the object had before.
fn images(name: &str, bad: &str) -> Vec<Variable> {
    vec![
        cel::pods(),
        (
            "images".to_owned(),
            format!("({}).split('\\n').filter(i, i != '' && !{})", cel::images(0), cel::is_placeholder("i")),
        ),
        ("imagesBefore".to_owned(), format!("request.operation == 'UPDATE' ? ({}).split('\\n') : []", cel::images(1))),
        (name.to_owned(), format!("variables.images.filter(i, {bad} && !(i in variables.imagesBefore))")),
    ]
}

fn untrusted_registry() -> Guard {
    let mut variables =
        vec![("trusted".to_owned(), setting("params", "admission.registries", &cel::list(REGISTRIES.iter().copied())))];
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
