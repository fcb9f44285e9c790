//! The guards of deletion. A deletion that is meant takes two requests: one that unlocks the object for a while and
//! says why, and the deletion itself.
//!
//! | guard | refuses |
//! | --- | --- |
//! | `delete-protection` | deleting what is marked, what is a CRD of the field, what is a production namespace |
//! | `protection-removed` | taking the mark away, from an object that is not unlocked |
//! | `protected-content` | marking an object in a namespace that is not marked itself: the namespace would take it along |
//! | `profile-narrowed` | a profile that protects less than before |
//! | `unlock-lapsed` | what an unlock no longer covers |
//! | `unlock-form` | an unlock for another object, by another user, or for long |

use bedplate_model::names::{DELETE_PROTECTION, FIELD_MANAGER, GROUP, KRUISE_DELETE_PROTECTION, PRODUCTION, UNLOCK};
use bedplate_model::profile::{self, Mode, Settings};
use bedplate_model::workload::kinds::crd_groups;
use bedplate_model::{Guarantee, Profile};
use serde_json::{Value, json};

use crate::enforce::{Guard, Params, Policy, Validation, cel};

/// Longest time for which an object may be unlocked, in minutes.
pub const UNLOCK_MINUTES: u32 = 60;

/// The form of an unlock: name, end, user and reason.
const UNLOCK_FORM: &str = r"^\S+ until \d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z by \S+: .*\S.*$";

/// The policies: one that follows the profile, one that asks the clock.
#[must_use]
pub fn policies(profile: &Profile) -> Vec<Policy> {
    let policy = |name: &str, params, modes, guards| Policy {
        name: name.to_owned(),
        guarantee: Guarantee::Deletion,
        params,
        modes,
        spares_system: false,
        resources: vec![json!({
            "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"], "resources": ["*"],
        })],
        suspicion: None,
        guards,
    };
    // What is production is said once for the whole cluster: no namespace has a word of its own in it.
    let everywhere = profile.settings(None);
    vec![
        policy(
            "deletion",
            Params::Nothing,
            &Mode::ACTIVE,
            vec![
                delete_protection(everywhere),
                protection_removed(),
                protected_content(everywhere),
                profile_narrowed(),
            ],
        ),
        policy("unlock", Params::Clock, &[Mode::Enforce], vec![unlock_lapsed(), unlock_form()]),
    ]
}

/// CEL: an annotation (or label) of an object.
fn annotation(of: &str, name: &str) -> String {
    format!("{of}.?metadata.?annotations[?{}]", cel::quote(name))
}

fn label(of: &str, name: &str) -> String {
    format!("{of}.?metadata.?labels[?{}]", cel::quote(name))
}

/// CEL: whether an object is marked. Whatever is written but a plain no protects: a typo must not let a deletion pass.
fn is_marked(of: &str) -> String {
    let no = cel::list(NO.iter().copied());
    let ours = |value: String| format!("({value}.hasValue() && !({value}.orValue('').lowerAscii() in {no}))");
    format!(
        "({} || {} || {})",
        ours(annotation(of, DELETE_PROTECTION)),
        ours(label(of, DELETE_PROTECTION)),
        ours(label(of, KRUISE_DELETE_PROTECTION))
    )
}

/// What people write when they mean no.
pub const NO: &[&str] = &["false", "no", "n", "off", "0", "never", "none", "disabled"];

fn is_unlocked(of: &str) -> String {
    format!("{}.hasValue()", annotation(of, UNLOCK))
}

/// The namespace controller empties a namespace whose deletion was let through: to refuse it would leave the namespace
/// between life and death.
const NOT_NAMESPACE_CONTROLLER: &str =
    "request.userInfo.username != 'system:serviceaccount:kube-system:namespace-controller'";

const CRD: &str =
    "request.resource.group == 'apiextensions.k8s.io' && request.resource.resource == 'customresourcedefinitions'";
const NAMESPACE: &str = "request.resource.group == '' && request.resource.resource == 'namespaces'";

/// CEL: whether it is about a profile.
fn is_profile() -> String {
    format!("request.resource.group == {} && request.resource.resource == 'stabilityprofiles'", cel::quote(GROUP))
}

/// CEL: whether a namespace is one of production.
fn is_production(of: &str, settings: &Settings) -> String {
    format!(
        "({}.orValue('') == 'true' || {}.exists(p, {}))",
        label(of, PRODUCTION),
        cel::list(settings.production_namespaces()),
        cel::glob("p", &format!("{of}.metadata.name"))
    )
}

/// `variables.what`: the object as `bedplate unlock` takes it.
fn what() -> cel::Variable {
    let of = "request.resource.resource + ' ' + oldObject.metadata.name + oldObject.metadata.?namespace.optMap(n, n == '' ? '' : ' -n ' + n).orValue('')";
    ("what".to_owned(), of.to_owned())
}

/// CEL: the way out, for the end of a message. Needs [`what`].
const HOW_TO_UNLOCK: &str = "'. If it has to go: bedplate impact delete ' + variables.what + ' shows what goes with it; \
                             bedplate unlock ' + variables.what + ' --reason WHY lets one deletion through'";

fn delete_protection(settings: &Settings) -> Guard {
    let groups = crd_groups().into_iter().chain([GROUP]);
    let (marked, profile) = (is_marked("oldObject"), is_profile());
    Guard {
        rule: "delete-protection",
        // Most deletions are of pods and of nothing that is marked.
        when: format!(
            "request.operation == 'DELETE' && {NOT_NAMESPACE_CONTROLLER} && ({marked} || ({CRD}) || ({NAMESPACE}) || ({profile}))"
        ),
        settings: Vec::new(),
        variables: vec![
            (
                "crd".to_owned(),
                format!(
                    "({CRD}) && (oldObject.spec.group in {} || {}.exists(p, {}))",
                    cel::list(groups),
                    cel::list(settings.crd_groups()),
                    cel::glob("p", "oldObject.spec.group")
                ),
            ),
            ("production".to_owned(), format!("({NAMESPACE}) && {}", is_production("oldObject", settings))),
            what(),
        ],
        validations: vec![Validation {
            expression: format!(
                "!({marked} || variables.crd || variables.production || ({profile})) || {}",
                is_unlocked("oldObject")
            ),
            message: format!(
                "(variables.crd ? 'deleting the CRD ' + oldObject.metadata.name + ' deletes every ' + oldObject.spec.names.kind + ' of every namespace' : \
                 variables.production ? oldObject.metadata.name + ' is a production namespace: everything in it would be deleted' : \
                 request.resource.resource + ' ' + oldObject.metadata.name + ' is protected from deletion') + {HOW_TO_UNLOCK}"
            ),
        }],
    }
}

fn protection_removed() -> Guard {
    Guard {
        rule: "protection-removed",
        when: format!("request.operation == 'UPDATE' && {} && !{}", is_marked("oldObject"), is_marked("object")),
        settings: Vec::new(),
        variables: vec![what()],
        validations: vec![Validation {
            expression: is_unlocked("oldObject"),
            message: format!(
                "request.resource.resource + ' ' + oldObject.metadata.name + ' would lose its protection from deletion' + {HOW_TO_UNLOCK}"
            ),
        }],
    }
}

fn protected_content(settings: &Settings) -> Guard {
    Guard {
        rule: "protected-content",
        // `namespaceObject` is not there yet when conditions are asked; of a namespace its own name is.
        when: format!(
            "request.operation != 'DELETE' && {} && (oldObject == null || !{}) && request.?namespace.orValue('') != '' && !({NAMESPACE})",
            is_marked("object"),
            is_marked("oldObject")
        ),
        settings: Vec::new(),
        variables: Vec::new(),
        validations: vec![Validation {
            expression: format!("{} || {}", is_marked("namespaceObject"), is_production("namespaceObject", settings)),
            message: format!(
                "'the namespace ' + request.namespace + ' is not protected itself, and deleting it would take this along: \
                 kubectl annotate namespace ' + request.namespace + ' {DELETE_PROTECTION}=true, then try again'"
            ),
        }],
    }
}

fn profile_narrowed() -> Guard {
    let patterns = |of: &str| {
        format!(
            "{of}.?spec.?deletion.?productionNamespaces.orValue({})",
            cel::list(profile::PRODUCTION.iter().copied())
        )
    };
    let groups = |of: &str| format!("{of}.?spec.?deletion.?crdGroups.orValue([])");
    // The guards of deletion, and what speaks for all of them.
    let rules = ["deletion", "delete-protection", "protection-removed", "protected-content", "profile-narrowed"];
    let rules = cel::list(rules);
    let weak = |of: &str, r: &str| {
        format!("({of}.?modes[?{r}].orValue('enforce') != 'enforce' || {of}.?rules[?{r}].orValue('') == 'off')")
    };
    let base = format!("{rules}.exists(r, {} && !{})", weak("object.?spec", "r"), weak("oldObject.?spec", "r"));
    let entries = format!(
        "object.?spec.?namespaces.orValue([]).exists(n, {rules}.exists(r, {}) && !(n in oldObject.?spec.?namespaces.orValue([])))",
        weak("n", "r")
    );
    Guard {
        rule: "profile-narrowed",
        when: format!("request.operation == 'UPDATE' && {}", is_profile()),
        settings: Vec::new(),
        variables: vec![
            ("lost".to_owned(), format!("{}.filter(p, !(p in {}))", patterns("oldObject"), patterns("object"))),
            ("lostGroups".to_owned(), format!("{}.filter(p, !(p in {}))", groups("oldObject"), groups("object"))),
            what(),
        ],
        validations: vec![
            Validation {
                expression: format!("variables.lost.size() == 0 || {}", is_unlocked("oldObject")),
                message: format!(
                    "'namespaces named ' + variables.lost[0] + ' would be protected no longer' + {HOW_TO_UNLOCK}"
                ),
            },
            Validation {
                expression: format!("variables.lostGroups.size() == 0 || {}", is_unlocked("oldObject")),
                message: format!(
                    "'CRDs of the group ' + variables.lostGroups[0] + ' would be protected no longer' + {HOW_TO_UNLOCK}"
                ),
            },
            Validation {
                expression: format!("!({base} || {entries}) || {}", is_unlocked("oldObject")),
                message: format!("'the guards of deletion would hold less strictly' + {HOW_TO_UNLOCK}"),
            },
        ],
    }
}

/// The guard of the guards, as files for the API server (KEP-5793, on by default from Kubernetes 1.37): no policy of the
/// API is asked about policies, one from a file is. For older servers see [`OLDER_SERVERS`].
#[must_use]
pub fn static_objects() -> Vec<Value> {
    let name = "guards.bedplate.static.k8s.io";
    let what = "request.resource.resource + ' ' + oldObject.metadata.name";
    let unlock = "bedplate unlock ' + request.resource.resource + ' ' + oldObject.metadata.name + ' --reason WHY";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": ["admissionregistration.k8s.io"], "apiVersions": ["*"], "operations": ["DELETE", "UPDATE"],
                "resources": ["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
            }] },
            "matchConditions": [{
                "name": "ours", "expression": format!("oldObject.metadata.name.endsWith({})", cel::quote(&format!(".{GROUP}"))),
            }],
            "validations": [{
                // What the profile says stands in the guards: `bedplate apply` and the operator write them when it changes.
                "expression": format!(
                    "(request.operation == 'UPDATE' && (object.spec == oldObject.spec || request.?options.?fieldManager.orValue('') == {})) || {}",
                    cel::quote(FIELD_MANAGER),
                    is_unlocked("oldObject")
                ),
                "messageExpression": format!("{what} is a guard of Bedplate, and this would take it away. If it has to be: {unlock}'")
                    .replacen(" is a guard", " + ' is a guard", 1),
                "reason": "Forbidden",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"] },
    });
    vec![policy, binding]
}

/// What has to cover the guards where policies can't come from files.
pub const OLDER_SERVERS: &str = "\
# Kubernetes before 1.37 takes no policies from files: there RBAC has to guard the guards. Give nobody but those who run
# Bedplate these verbs, and look through your roles for `*`:
#   apiGroups: [admissionregistration.k8s.io]
#   resources: [validatingadmissionpolicies, validatingadmissionpolicybindings]
#   verbs: [create, update, patch, delete, deletecollection]
# kubectl auth can-i delete validatingadmissionpolicybindings --as=SOMEONE   tells of each.
";

/// CEL: the parts of an unlock's text.
fn unlock_part(of: &str, part: &str) -> String {
    let text = format!("{}.orValue('')", annotation(of, UNLOCK));
    match part {
        "name" => format!("{text}.split(' until ')[0]"),
        "until" => format!("timestamp({text}.split(' until ')[1].split(' by ')[0])"),
        // A reason may have these words too.
        _ => format!("{text}.split(': ')[0].split(' by ')[1]"),
    }
}

/// The time, as the API server knows it: never more than a few seconds old.
const NOW: &str = "timestamp(params.spec.renewTime)";

fn unlock_lapsed() -> Guard {
    Guard {
        rule: "unlock-lapsed",
        // Taking the unlock back is always right; so is what changes no protection.
        when: format!(
            "request.operation != 'CREATE' && {} && (request.operation == 'DELETE' || ({} && !{}))",
            is_unlocked("oldObject"),
            is_marked("oldObject"),
            is_marked("object")
        ),
        settings: Vec::new(),
        variables: Vec::new(),
        validations: vec![Validation {
            expression: format!(
                "{}.orValue('').matches({}) && {} > {NOW}",
                annotation("oldObject", UNLOCK),
                cel::quote(UNLOCK_FORM),
                unlock_part("oldObject", "until")
            ),
            message: format!(
                "'the unlock of ' + oldObject.metadata.name + ' has lapsed or can not be read: ' + {}.orValue('')",
                annotation("oldObject", UNLOCK)
            ),
        }],
    }
}

fn unlock_form() -> Guard {
    let new = annotation("object", UNLOCK);
    Guard {
        rule: "unlock-form",
        when: format!(
            "request.operation != 'DELETE' && {new}.hasValue() && (oldObject == null || {}.orValue('') != {new}.orValue(''))",
            annotation("oldObject", UNLOCK)
        ),
        settings: Vec::new(),
        variables: Vec::new(),
        validations: vec![
            Validation {
                expression: format!("{new}.orValue('').matches({})", cel::quote(UNLOCK_FORM)),
                message: format!(
                    "'{UNLOCK} is not of the form \"NAME until 2026-01-01T00:00:00Z by USER: REASON\": use bedplate unlock'"
                ),
            },
            Validation {
                expression: format!("{} == object.metadata.name", unlock_part("object", "name")),
                message: format!(
                    "'{UNLOCK} names ' + {} + ', and this is ' + object.metadata.name",
                    unlock_part("object", "name")
                ),
            },
            Validation {
                expression: format!("{} == request.userInfo.username", unlock_part("object", "by")),
                message: format!(
                    "'{UNLOCK} names the user ' + {} + ', and this request comes from ' + request.userInfo.username",
                    unlock_part("object", "by")
                ),
            },
            Validation {
                expression: format!("{} <= {NOW} + duration('{UNLOCK_MINUTES}m')", unlock_part("object", "until")),
                message: format!("'an unlock holds for at most {UNLOCK_MINUTES} minutes'"),
            },
            Validation {
                expression: "request.operation == 'UPDATE'".to_owned(),
                message: "'an object is not unlocked when it is made'".to_owned(),
            },
        ],
    }
}
