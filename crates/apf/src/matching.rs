//! Which schema takes a request (`pkg/util/flowcontrol/match.go`), and which can take none.

use std::borrow::Cow;

use crate::bootstrap;
use crate::types::{FlowSchema, NonResourceRule, PolicyRules, PriorityLevel, ResourceRule, Subject};

/// A request, as the server sees it after impersonation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The user's name.
    pub user: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// The verb.
    pub verb: String,
    /// What is asked for.
    pub target: Target,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A resource: API group, resource or `resource/subresource`, namespace (empty for none).
    Resource(String, String, String),
    /// Another path.
    Path(String),
}

const ALL: &str = "*";
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// Schemas in the order in which the server asks them: precedence, then name.
#[must_use]
pub fn sorted(schemas: &[FlowSchema]) -> Vec<&FlowSchema> {
    let mut order: Vec<_> = schemas.iter().collect();
    order.sort_by_key(|schema| (schema.spec.matching_precedence, &schema.metadata.name));
    order
}

/// Whether there is no level of the name that a schema gives: the server passes over it, as if it were not there
/// (`digestFlowSchemasLocked`, `goodPriorityRef`).
#[must_use]
pub fn is_dangling(schema: &FlowSchema, levels: &[PriorityLevel]) -> bool {
    let name = &schema.spec.priority_level_configuration.name;
    !bootstrap::MANDATORY.contains(&name.as_str()) && levels.iter().all(|level| level.metadata.name != *name)
}

/// The schema that takes a request.
#[must_use]
pub fn first_match<'a>(
    schemas: &'a [FlowSchema],
    levels: &[PriorityLevel],
    request: &Request,
) -> Option<&'a FlowSchema> {
    let takes = |schema: &FlowSchema| schema.spec.rules.iter().any(|rule| matches(rule, request));
    sorted(schemas).into_iter().find(|schema| takes(schema) && !is_dangling(schema, levels))
}

/// What a schema says to a request, and why.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// It takes it by this rule, counted from 1, if nothing before did.
    Takes(usize),
    /// A rule means the user, but nothing of the request: how far the nearest comes.
    NotThis(Miss),
    /// No rule means the user or a group of it.
    NotThem,
}

/// The first thing that keeps the nearest rule from a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Miss {
    /// All but the namespace is meant, or requests without one are not (`clusterScope: false`).
    Scope,
    /// Another resource.
    Resource,
    /// Another API group.
    Group,
    /// Another verb.
    Verb,
    /// Another path.
    Path,
    /// Only resources, or only paths.
    Form,
}

/// What a schema says to a request.
#[must_use]
pub fn verdict(schema: &FlowSchema, request: &Request) -> Verdict {
    let rules = || {
        schema.spec.rules.iter().enumerate().filter(|(_, rule)| rule.subjects.iter().any(|one| is_meant(one, request)))
    };
    if let Some((at, _)) = rules().find(|(_, rule)| matches(rule, request)) {
        return Verdict::Takes(at + 1);
    }
    rules().map(|(_, rule)| Verdict::NotThis(nearest(rule, request))).min().unwrap_or(Verdict::NotThem)
}

fn nearest(rule: &PolicyRules, request: &Request) -> Miss {
    let misses: Vec<Miss> = match &request.target {
        Target::Resource(group, resource, _) => rule
            .resource_rules
            .iter()
            .map(|rule| match () {
                () if !has(&rule.verbs, &request.verb) => Miss::Verb,
                () if !has(&rule.api_groups, group) => Miss::Group,
                () if !has(&rule.resources, resource) => Miss::Resource,
                () => Miss::Scope,
            })
            .collect(),
        Target::Path(_) => rule
            .non_resource_rules
            .iter()
            .map(|rule| if has(&rule.verbs, &request.verb) { Miss::Path } else { Miss::Verb })
            .collect(),
    };
    misses.into_iter().min().unwrap_or(Miss::Form)
}

/// Whether a subject is the user of a request, or a group of it.
#[must_use]
pub fn is_meant(subject: &Subject, request: &Request) -> bool {
    match subject {
        Subject::User { user } => user.name == ALL || user.name == request.user,
        Subject::Group { group } => group.name == ALL || request.groups.contains(&group.name),
        Subject::ServiceAccount { service_account: sa } => {
            let prefix = format!("system:serviceaccount:{}:", sa.namespace);
            request.user.strip_prefix(&prefix).is_some_and(|name| sa.name == ALL || sa.name == name)
        }
    }
}

/// The groups that a server gives a user by itself: who is authenticated, and a service account's.
#[must_use]
pub fn implied_groups(user: &str) -> Vec<String> {
    let mut groups = Vec::new();
    if let Some((namespace, _)) = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        groups.extend([SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")]);
    }
    groups.push(if user == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" }.to_owned());
    groups
}

/// What tells the flow of a request from others of its schema (`computeFlowDistinguisher`); empty where all are one.
#[must_use]
pub fn flow<'a>(schema: &FlowSchema, request: &'a Request) -> &'a str {
    match (schema.spec.distinguisher_method.as_ref().map(|method| method.kind.as_str()), &request.target) {
        (Some("ByUser"), _) => &request.user,
        (Some("ByNamespace"), Target::Resource(.., namespace)) => namespace,
        _ => "",
    }
}

fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|entry| entry == ALL || entry == word)
}

fn matches(rule: &PolicyRules, request: &Request) -> bool {
    rule.subjects.iter().any(|subject| is_meant(subject, request))
        && match &request.target {
            Target::Resource(group, resource, namespace) => rule.resource_rules.iter().any(|rule| {
                has(&rule.verbs, &request.verb)
                    && has(&rule.api_groups, group)
                    && has(&rule.resources, resource)
                    && if namespace.is_empty() { rule.cluster_scope } else { has(&rule.namespaces, namespace) }
            }),
            Target::Path(path) => rule.non_resource_rules.iter().any(|rule| {
                has(&rule.verbs, &request.verb) && rule.non_resource_urls.iter().any(|url| path_covers(url, path))
            }),
        }
}

/// Whether a rule's path means a request's: the path itself, or what is below it, with `*` at its end or without
/// (`matchPolicyRuleNonResourceURL`, `rule.go`).
fn path_covers(pattern: &str, path: &str) -> bool {
    pattern == ALL || pattern == path || path.starts_with(&*below(pattern))
}

/// What every path below a rule's path begins with.
fn below(pattern: &str) -> Cow<'_, str> {
    let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
    if prefix.ends_with('/') { prefix.into() } else { format!("{prefix}/").into() }
}

/// A schema that no request can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Its name.
    pub schema: String,
    /// The earlier schemas that take everything that it could match.
    pub by: Vec<String>,
}

/// Schemas that no request can reach. Sound but not complete: each of a schema's subjects and
/// rules has to be covered by *one* rule of an earlier schema; a union of several that covers
/// it together is missed.
#[must_use]
pub fn shadowed(schemas: &[FlowSchema]) -> Vec<Shadow> {
    // Earlier schemas. One with the rules of another takes nothing more: a thousand clusters in one folder have the
    // same few.
    let mut before: Vec<&FlowSchema> = Vec::new();
    let mut found = Vec::new();
    for schema in sorted(schemas) {
        let mut by = Vec::new();
        let mut parts = 0;
        let covered = schema.spec.rules.iter().all(|rule| {
            rule.subjects.iter().all(|subject| {
                let mut covered_by = |test: &dyn Fn(&PolicyRules) -> bool| {
                    parts += 1;
                    let hit = before.iter().find(|earlier| {
                        earlier
                            .spec
                            .rules
                            .iter()
                            .any(|r| r.subjects.iter().any(|s| subject_covers(s, subject)) && test(r))
                    });
                    hit.is_some_and(|earlier| {
                        by.push(earlier.metadata.name.clone());
                        true
                    })
                };
                rule.resource_rules
                    .iter()
                    .all(|wanted| covered_by(&|r| r.resource_rules.iter().any(|have| resource_covers(have, wanted))))
                    && rule
                        .non_resource_rules
                        .iter()
                        .all(|wanted| covered_by(&|r| r.non_resource_rules.iter().any(|have| url_covers(have, wanted))))
            })
        });
        if covered && parts > 0 {
            by.sort();
            by.dedup();
            found.push(Shadow { schema: schema.metadata.name.clone(), by });
        }
        if before.iter().all(|earlier| earlier.spec.rules != schema.spec.rules) {
            before.push(schema);
        }
    }
    found
}

/// Whether everyone whom `inner` means is meant by `outer` too.
fn subject_covers(outer: &Subject, inner: &Subject) -> bool {
    let everyone = |subject: &Subject| match subject {
        Subject::User { user } => user.name == ALL,
        Subject::Group { group } => group.name == ALL,
        Subject::ServiceAccount { .. } => false,
    };
    if everyone(outer) || outer == inner {
        return true;
    }
    match (outer, inner) {
        (Subject::Group { group }, Subject::ServiceAccount { service_account: sa }) => {
            group.name == "system:authenticated"
                || group.name == SERVICE_ACCOUNTS
                || group.name == format!("{SERVICE_ACCOUNTS}:{}", sa.namespace)
        }
        // Everyone in these groups is authenticated.
        (Subject::Group { group: outer }, Subject::Group { group: inner }) => {
            outer.name == "system:authenticated" && inner.name.starts_with(SERVICE_ACCOUNTS)
                || outer.name == SERVICE_ACCOUNTS && inner.name.starts_with(&format!("{SERVICE_ACCOUNTS}:"))
        }
        (Subject::ServiceAccount { service_account: outer }, Subject::ServiceAccount { service_account: inner }) => {
            outer.namespace == inner.namespace && outer.name == ALL
        }
        (Subject::User { user }, Subject::ServiceAccount { service_account: sa }) => {
            user.name == format!("system:serviceaccount:{}:{}", sa.namespace, sa.name)
        }
        _ => false,
    }
}

fn list_covers(outer: &[String], inner: &[String]) -> bool {
    outer.iter().any(|word| word == ALL) || inner.iter().all(|word| outer.contains(word))
}

fn resource_covers(outer: &ResourceRule, inner: &ResourceRule) -> bool {
    list_covers(&outer.verbs, &inner.verbs)
        && list_covers(&outer.api_groups, &inner.api_groups)
        && list_covers(&outer.resources, &inner.resources)
        && (outer.cluster_scope || !inner.cluster_scope)
        && list_covers(&outer.namespaces, &inner.namespaces)
}

fn url_covers(outer: &NonResourceRule, inner: &NonResourceRule) -> bool {
    list_covers(&outer.verbs, &inner.verbs)
        && inner.non_resource_urls.iter().all(|url| {
            let covers = |have: &String| {
                have == ALL || url != ALL && path_covers(have, url) && below(url).starts_with(&*below(have))
            };
            outer.non_resource_urls.iter().any(covers)
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn schema(name: &str, precedence: i64, rules: serde_json::Value) -> FlowSchema {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"priorityLevelConfiguration": {"name": "x"}, "matchingPrecedence": precedence, "rules": rules}
        }))
        .unwrap()
    }

    fn level(name: &str) -> PriorityLevel {
        serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap()
    }

    /// Somebody deleted the controllers' level: we said that they ride in catch-all, and the server let them ride as if
    /// they had never had a lane.
    #[test]
    fn a_schema_without_its_level_is_passed_over() {
        let own = schema("own", 500, everything(json!({"kind": "User", "user": {"name": "amy"}})));
        let mut rest = schema("rest", 900, everything(json!({"kind": "User", "user": {"name": "*"}})));
        rest.spec.priority_level_configuration.name = "catch-all".to_owned();
        let request = Request {
            user: "amy".to_owned(),
            groups: Vec::new(),
            verb: "list".to_owned(),
            target: Target::Resource(String::new(), "pods".to_owned(), String::new()),
        };
        let schemas = [own, rest];
        let taken = |levels: &[PriorityLevel]| first_match(&schemas, levels, &request).map(|one| &*one.metadata.name);
        assert_eq!(taken(&[level("x")]), Some("own"));
        assert_eq!(taken(&[level("y")]), Some("rest"), "what is mandatory is there without an object");
    }

    fn everything(subject: serde_json::Value) -> serde_json::Value {
        json!([{"subjects": [subject], "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]}])
    }

    #[test]
    fn a_lane_behind_all_service_accounts_is_never_reached() {
        let all = schema("a", 500, everything(json!({"kind": "Group", "group": {"name": "system:serviceaccounts"}})));
        let lane = schema(
            "b",
            600,
            everything(
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kubeflow", "name": "training-operator"}}),
            ),
        );
        let shadows = shadowed(&[lane.clone(), all.clone()]);
        assert_eq!(shadows, [Shadow { schema: "b".into(), by: vec!["a".into()] }]);
        // In front of it, both are reached.
        let mut lane = lane;
        lane.spec.matching_precedence = 400;
        assert_eq!(shadowed(&[lane, all]), []);
    }

    #[test]
    fn why_a_schema_passes_a_request_over_is_told() {
        let rules = json!([{ "subjects": [{ "kind": "Group", "group": { "name": "system:serviceaccounts:a" } }],
            "resourceRules": [{ "verbs": ["list"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["a"] }] }]);
        let schema = schema("s", 100, rules);
        let request = |user: &str, verb: &str, resource: &str, namespace: &str| Request {
            user: user.to_owned(),
            groups: implied_groups(user),
            verb: verb.to_owned(),
            target: Target::Resource(String::new(), resource.to_owned(), namespace.to_owned()),
        };
        let own = "system:serviceaccount:a:x";
        for (request, verdict_) in [
            (request(own, "list", "pods", "a"), Verdict::Takes(1)),
            (request(own, "list", "pods", ""), Verdict::NotThis(Miss::Scope)),
            (request(own, "list", "secrets", "a"), Verdict::NotThis(Miss::Resource)),
            (request(own, "get", "secrets", "a"), Verdict::NotThis(Miss::Verb)),
            (request("system:serviceaccount:b:x", "list", "pods", "a"), Verdict::NotThem),
        ] {
            assert_eq!(verdict(&schema, &request), verdict_, "{request:?}");
            assert_eq!(
                first_match(std::slice::from_ref(&schema), &[level("x")], &request).is_some(),
                verdict_ == Verdict::Takes(1)
            );
        }
    }

    /// The explainer put `/healthz/ping` elsewhere than the API server does.
    #[test]
    fn a_path_means_what_is_below_it() {
        for (pattern, path, meant) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/ping", true),
            ("/healthz", "/healthzes", false),
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz/*", "/healthz", false),
            ("/healthz*", "/healthzes", false),
            ("/", "/version", true),
            ("*", "/version", true),
        ] {
            assert_eq!(path_covers(pattern, path), meant, "{pattern} {path}");
        }
        let rule = |url: &str| NonResourceRule { verbs: vec!["*".into()], non_resource_urls: vec![url.into()] };
        for (outer, inner, covers) in [
            ("/healthz", "/healthz/*", true),
            ("/healthz/*", "/healthz", false),
            ("*", "/healthz", true),
            ("/healthz", "*", false),
        ] {
            assert_eq!(url_covers(&rule(outer), &rule(inner)), covers, "{outer} {inner}");
        }
    }

    #[test]
    fn at_the_same_precedence_the_name_decides() {
        let rules = || everything(json!({"kind": "User", "user": {"name": "*"}}));
        let both = [schema("b", 9000, rules()), schema("a", 9000, rules())];
        assert_eq!(shadowed(&both)[0].schema, "b");
    }

    #[test]
    fn of_schemas_that_say_the_same_the_first_takes_the_requests() {
        let rules = || everything(json!({"kind": "Group", "group": {"name": "dev"}}));
        let shadows = shadowed(&["a", "b", "c"].map(|name| schema(name, 900, rules())));
        let expected = ["b", "c"].map(|name| Shadow { schema: name.into(), by: vec!["a".into()] });
        assert_eq!(shadows, expected);
    }

    fn words(of: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(prop::sample::select(of).prop_map(str::to_owned), 1..3)
    }

    fn any_schema() -> impl Strategy<Value = FlowSchema> {
        let subject = prop_oneof![
            prop::sample::select(&["*", "amy", "system:serviceaccount:a:x"][..])
                .prop_map(|name| json!({"kind": "User", "user": {"name": name}})),
            prop::sample::select(
                &["system:authenticated", "system:serviceaccounts", "system:serviceaccounts:a", "dev"][..]
            )
            .prop_map(|name| json!({"kind": "Group", "group": {"name": name}})),
            prop::sample::select(&["*", "x", "y"][..])
                .prop_map(|name| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": name}})),
        ];
        let resource = (words(&["*", "get", "list"]), words(&["*", "", "batch"]), words(&["*", "pods", "jobs"]), any::<bool>(), words(&["*", "a", "b"]))
            .prop_map(|(verbs, groups, resources, cluster, namespaces)| {
                json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "clusterScope": cluster, "namespaces": namespaces})
            });
        (0_i64..4, 0_u32..1000, prop::collection::vec(subject, 1..3), prop::collection::vec(resource, 1..3)).prop_map(
            |(precedence, name, subjects, rules)| {
                schema(&format!("s{name}"), precedence, json!([{"subjects": subjects, "resourceRules": rules}]))
            },
        )
    }

    proptest! {
        /// What is called unreachable is reached by no request at all.
        #[test]
        fn no_request_reaches_a_shadowed_schema(
            schemas in prop::collection::vec(any_schema(), 2..6),
            who in 0_usize..4,
            verb in prop::sample::select(&["get", "list", "create"][..]),
            group in prop::sample::select(&["", "batch", "apps"][..]),
            resource in prop::sample::select(&["pods", "jobs", "nodes"][..]),
            namespace in prop::sample::select(&["", "a", "b", "c"][..]),
        ) {
            let mut names: Vec<_> = schemas.iter().map(|s| s.metadata.name.clone()).collect();
            names.sort();
            names.dedup();
            prop_assume!(names.len() == schemas.len());
            let sa = |name: &str| (format!("system:serviceaccount:a:{name}"), vec!["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
            let (user, groups) = match who {
                0 => ("amy".to_owned(), vec!["dev", "system:authenticated"]),
                1 => sa("x"),
                2 => sa("y"),
                _ => ("system:anonymous".to_owned(), vec!["system:unauthenticated"]),
            };
            let request = Request {
                user,
                groups: groups.into_iter().map(str::to_owned).collect(),
                verb: verb.to_owned(),
                target: Target::Resource(group.to_owned(), resource.to_owned(), namespace.to_owned()),
            };
            if let Some(hit) = first_match(&schemas, &[level("x")], &request) {
                prop_assert!(!shadowed(&schemas).iter().any(|shadow| shadow.schema == hit.metadata.name));
            }
        }
    }
}
