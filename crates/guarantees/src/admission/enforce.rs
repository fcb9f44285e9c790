//! The guards of admission: the GPU ceiling, trusted registries, tags that move.

use bedplate_model::profile::{Mode, Settings};
use bedplate_model::workload::kinds::{self, Kind, TABLE};
use bedplate_model::{Guarantee, ImageRef, Profile};
use serde_json::{Value, json};

use crate::enforce::cel::Variable;
use crate::enforce::{Guard, Params, Policy, Setting, Validation, cel};

/// The policies of the guards: one for what is created and changed, and one for each kind that can be scaled and is
/// `served`, in that version.
#[must_use]
pub fn policies(profile: &Profile, served: &dyn Fn(&str, &str) -> Option<String>) -> Vec<Policy> {
    let mut policies = vec![Policy {
        name: "admission".to_owned(),
        guarantee: Guarantee::Admission,
        params: Params::Nothing,
        modes: &Mode::ACTIVE,
        spares_system: true,
        resources: resources(),
        suspicion: Some(suspicion(profile)),
        guards: vec![gpu_ceiling(), untrusted_registry(), mutable_tag()],
    }];
    policies.extend(TABLE.iter().filter_map(|kind| scale(kind, served)));
    policies
}

/// A request to the `scale` subresource names a number and no pods: the workload comes as the parameter.
fn scale(kind: &'static Kind, served: &dyn Fn(&str, &str) -> Option<String>) -> Option<Policy> {
    kind.scale?;
    let version = served(kind.group, kind.kind)?;
    Some(Policy {
        name: format!("scale.{}", kind.plural_in_group()),
        guarantee: Guarantee::Admission,
        params: Params::Workload(kind, version),
        modes: &Mode::ACTIVE,
        spares_system: true,
        resources: vec![json!({
            "apiGroups": [kind.group], "apiVersions": ["*"], "operations": ["UPDATE"],
            "resources": [format!("{}/scale", kind.plural())],
        })],
        suspicion: None,
        guards: vec![scale_ceiling(kind)],
    })
}

/// `variables.totalAllowed`: most accelerators of a job.
const TOTAL_ALLOWED: Setting = Setting { variable: "totalAllowed", of: |of| of.accelerators_per_job().into() };
/// `variables.largestAllowed`: most accelerators of a pod.
const LARGEST_ALLOWED: Setting = Setting { variable: "largestAllowed", of: |of| of.accelerators_per_pod().into() };
/// `variables.trusted`: the registries.
const TRUSTED: Setting = Setting { variable: "trusted", of: |of| of.registries().into() };

/// The pods of the object as it would be, and as it was.
const NOW: &str = "variables.pods[0]";
const BEFORE: &str = "variables.pods[1]";

/// What changes nothing of the pods leaves an old object as it is.
const SOMETHING_NEW: &str =
    "request.operation != 'UPDATE' || !has(object.spec) || !has(oldObject.spec) || object.spec != oldObject.spec";

fn guard(rule: &'static str, settings: &[Setting], variables: Vec<Variable>, validations: Vec<Validation>) -> Guard {
    Guard { rule, when: SOMETHING_NEW.to_owned(), settings: settings.to_vec(), variables, validations }
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

/// Whether an object might be refused under the strictest settings of any namespace, whatever it was before.
fn suspicion(profile: &Profile) -> String {
    let everywhere =
        || std::iter::once(profile.settings(None)).chain(profile.namespaces().map(|(_, settings)| settings));
    let least = |of: fn(&Settings) -> u64| everywhere().map(of).min().unwrap_or_default();
    let mut trusted = profile.settings(None).registries();
    trusted.retain(|registry| everywhere().all(|of| of.registries().contains(registry)));
    // A reference that begins with a trusted registry need not be written out first, unless it would change.
    let stays = |registry: &&&str| {
        let image = format!("{registry}/a/b");
        ImageRef::parse(&image).is_some_and(|written_out| written_out.name() == image)
    };
    let starts = trusted.iter().filter(stays).map(|t| format!("!i.startsWith({}) && ", cel::quote(&format!("{t}/"))));
    let starts: String = starts.collect();
    let untrusted = format!("({starts}{})", untrusted(&cel::list(trusted)));
    let bad = format!("({untrusted} || {}) && !{}", cel::is_mutable("i"), cel::is_placeholder("i"));
    cel::may_be(&format!(
        "{} || [{}].exists(a, {} > {} || {} > {}) || {}",
        cel::too_large("v"),
        cel::accelerators("v"),
        cel::largest("a"),
        least(Settings::accelerators_per_pod),
        cel::total("a"),
        least(Settings::accelerators_per_job),
        cel::any_image("v", &bad),
    ))
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
        &[LARGEST_ALLOWED, TOTAL_ALLOWED],
        vec![
            cel::pods(),
            ("tooLarge".to_owned(), cel::too_large(NOW)),
            ("accelerators".to_owned(), cel::accelerators(NOW)),
            ("acceleratorsBefore".to_owned(), cel::accelerators(BEFORE)),
            ("largest".to_owned(), cel::largest("variables.accelerators")),
            ("total".to_owned(), cel::total("variables.accelerators")),
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
        settings: vec![TOTAL_ALLOWED],
        variables: vec![
            cel::scaled_pods(kind),
            ("accelerators".to_owned(), cel::accelerators(NOW)),
            ("total".to_owned(), cel::total("variables.accelerators")),
        ],
        validations: vec![Validation {
            expression: "variables.total == 0 || variables.total <= variables.totalAllowed".to_owned(),
            message: format!(
                "'scaled to ' + string(object.spec.replicas) + ' replicas, the {} ' + request.name + ' asks for ' + string(variables.total) +                  ' accelerators, the ceiling is ' + string(variables.totalAllowed) + ': ask for fewer, raise spec.admission.acceleratorsPerJob of the StabilityProfile for this namespace,{EXEMPTION}'",
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
            format!("({}).split('\\n').filter(i, i != '' && !{})", cel::images(NOW), cel::is_placeholder("i")),
        ),
        (
            "imagesBefore".to_owned(),
            format!("request.operation == 'UPDATE' ? ({}).split('\\n') : []", cel::images(BEFORE)),
        ),
        (name.to_owned(), format!("variables.images.filter(i, {bad} && !(i in variables.imagesBefore))")),
    ]
}

/// Whether the image `i` is from none of some registries.
fn untrusted(trusted: &str) -> String {
    format!("![{} + '/'].exists(n, {trusted}.exists(t, n.startsWith(t + '/')))", cel::image_name("i"))
}

fn untrusted_registry() -> Guard {
    guard(
        "untrusted-registry",
        &[TRUSTED],
        images("untrusted", &untrusted("variables.trusted")),
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
        &[],
        images("mutable", &cel::is_mutable("i")),
        vec![Validation {
            expression: "variables.tooLarge || variables.mutable.size() == 0".to_owned(),
            message: format!(
                "variables.tooLarge ? '' : 'the image ' + variables.mutable[0] + ' can change under you: name a version, best with its digest,{EXEMPTION}'"
            ),
        }],
    )
}
