//! What a profile must not say is refused by the API server and found in files, for the same reasons and in the same
//! words: both come from one table, and here each is held against the other.

use bedplate_guarantees::names;
use bedplate_model::Profile;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::{State, installed, installed_to_look};

fn object(kind: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": kind, "metadata": { "name": "drawn" }, "spec": spec })
}

/// Some of some texts.
fn some(texts: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(texts), 0..=most)
}

const REGISTRIES: &[&str] = &[
    "docker.io",
    "docker.io/library",
    "localhost:5000",
    "a",
    "a/b/c.d",
    "registry.example.com:443/x",
    "https://ghcr.io",
    "*",
    "ghcr.io/",
    "ghcr.io/*",
    "a:b",
    "a/b:1",
    "Ghcr.io",
    "",
    "a//b",
    "a/b_c",
    "-a",
    "a.",
    "a@sha256",
    "a\nb",
    "é",
];
const NAMESPACES: &[&str] = &[
    "prod",
    "prod-*",
    "*",
    "*-a",
    "kube-system",
    "kube-public",
    "a-",
    "-a",
    "A",
    "",
    "a_b",
    "a.b",
    "a\n",
    "a*b",
    "team-a",
];
const MODES: &[&str] =
    &["admission", "deletion", "gpu-ceiling", "delete-protection", "upgrade", "no-init", "admision", "", "all"];
const RULES: &[&str] = &["gpu-ceiling", "no-init", "mutable-tag", "gpu-cieling", "admission", "delete-protection", ""];

fn map(keys: &'static [&'static str], values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let entry = (prop::sample::select(keys), prop::sample::select(values));
    prop::collection::vec(entry, 0..3).prop_map(|entries| {
        Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect())
    })
}

fn settings() -> impl Strategy<Value = Map<String, Value>> {
    let number = || prop::option::weighted(0.4, prop::sample::select(&[0_u64, 1, 7, 8, 9, 63, 64, 65, 1 << 40][..]));
    let admission = (number(), number(), number(), prop::option::weighted(0.4, some(REGISTRIES, 2)));
    (
        prop::option::weighted(0.8, admission),
        prop::option::weighted(0.3, some(NAMESPACES, 2)),
        prop::option::weighted(0.4, map(RULES, &["off", "error"])),
        prop::option::weighted(0.4, map(MODES, &["off", "warn"])),
        prop::option::weighted(0.1, some(RULES, 2)),
    )
        .prop_map(|(admission, production, rules, modes, fixes)| {
            let mut made = Map::new();
            if let Some((job, pod, search, registries)) = admission {
                let mut fields = Map::new();
                let numbers =
                    [("acceleratorsPerJob", job), ("acceleratorsPerPod", pod), ("acceleratorsPerSearch", search)];
                for (key, number) in numbers {
                    fields.extend(number.map(|number| (key.to_owned(), json!(number))));
                }
                fields.extend(registries.map(|texts| ("registries".to_owned(), json!(texts))));
                made.insert("admission".to_owned(), Value::Object(fields));
            }
            made.extend(production.map(|texts| ("deletion".to_owned(), json!({ "productionNamespaces": texts }))));
            made.extend(rules.map(|rules| ("rules".to_owned(), rules)));
            made.extend(modes.map(|modes| ("modes".to_owned(), modes)));
            made.extend(fixes.map(|texts| ("fixes".to_owned(), json!(texts))));
            made
        })
}

fn profile() -> impl Strategy<Value = Value> {
    let entry = (some(NAMESPACES, 3), settings()).prop_map(|(names, mut settings)| {
        settings.insert("names".to_owned(), json!(names));
        Value::Object(settings)
    });
    (settings(), prop::option::weighted(0.5, prop::collection::vec(entry, 0..3))).prop_map(|(mut spec, entries)| {
        spec.extend(entries.map(|entries| ("namespaces".to_owned(), Value::Array(entries))));
        object("StabilityProfile", &Value::Object(spec))
    })
}

fn exemption() -> impl Strategy<Value = Value> {
    let days = &[
        "2026-12-31",
        "2026-02-29",
        "2026-02-30",
        "2026-13-01",
        "2026-00-01",
        "2026-01-00",
        "26-01-01",
        "",
        "2026-1-1",
        "٢٠٢٦-01-01",
    ];
    let names = &["a", "*", "a-*", "A", "a.b", "", "-a", "a_b", "*-x"];
    let reasons = &["the yearly run", " ", "", "\t\n", "x", "é"];
    (
        prop::sample::select(RULES),
        prop::sample::select(&names[..]),
        prop::option::of(prop::sample::select(NAMESPACES)),
        prop::option::of(Just("Job")),
        prop::sample::select(&reasons[..]),
        prop::sample::select(&days[..]),
    )
        .prop_map(|(rule, name, namespace, kind, reason, expires)| {
            let mut subject = json!({ "name": name });
            if let Some(namespace) = namespace {
                subject["namespace"] = json!(namespace);
            }
            if let Some(kind) = kind {
                subject["kind"] = json!(kind);
            }
            object("Exemption", &json!({ "rule": rule, "subject": subject, "reason": reason, "expires": expires }))
        })
}

#[test]
fn files_and_the_api_server_refuse_the_same_profiles_and_exemptions() {
    let c = installed_to_look();
    let mut runner = TestRunner::deterministic();
    let strategy = prop_oneof![3 => profile(), 1 => exemption()];
    let objects: Vec<Value> = (0..2000).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let answers = c.dry_run(&objects);
    let mut accepted = 0;
    for (object, answer) in objects.iter().zip(&answers) {
        let found = Profile::parse(&object.to_string(), &names()).err().unwrap_or_default();
        accepted += usize::from(answer.is_ok());
        assert_eq!(answer.is_ok(), found.is_empty(), "{object}\nAPI server: {answer:?}\nfile: {found:#?}");
    }
    // Neither says yes or no to everything.
    assert!((200..1800).contains(&accepted), "{accepted} of {} were accepted", objects.len());
}

/// What a person reads who makes every mistake at once.
#[test]
fn every_contradiction_is_told_in_the_same_words() {
    let c = installed_to_look();
    let bad = object(
        "StabilityProfile",
        &json!({
            "admission": { "acceleratorsPerJob": 8, "acceleratorsPerPod": 16, "registries": [] },
            "rules": { "gpu-cieling": "off", "no-init": "off" }, "modes": { "admision": "warn", "no-init": "warn" },
            "fixes": ["gpu-cieling"],
            "namespaces": [{ "names": ["kube-system", "a"] }, { "names": ["a"] }],
        }),
    );
    let told = c.create(&bad);
    let found = Profile::parse(&bad.to_string(), &names()).unwrap_err();
    assert_eq!(found.len(), 8, "{found:#?}");
    for mistake in &found {
        assert!(told.text.contains(&mistake.message), "expected {:?} in: {}", mistake.message, told.text);
    }
}

#[test]
fn an_exemption_says_how_it_stands() {
    let c = installed();
    for (name, rule, expires) in [
        ("now", "gpu-ceiling", "2999-01-01"),
        ("past", "gpu-ceiling", "2020-01-01"),
        ("files", "no-init", "2999-01-01"),
    ] {
        let spec = json!({ "rule": rule, "subject": { "name": "x" }, "reason": "a drill", "expires": expires });
        let mut made = object("Exemption", &spec);
        made["metadata"]["name"] = json!(name);
        c.create(&made).accepted();
    }
    c.bedplate("apply").accepted();
    let told = |name: &str| {
        c.k(&format!(
            "get exemption {name} -o jsonpath={{.status.conditions[0].status}}/{{.status.conditions[0].reason}}"
        ))
        .accepted()
    };
    assert_eq!([told("now"), told("past"), told("files")], ["True/Published", "False/Lapsed", "True/NoGuard"]);
    assert!(c.k("get exempt").accepted().contains("HONOURED"));
    // Who audits is told that one has lapsed, as who checks files is.
    let audit = c.bedplate("audit");
    assert!(audit.code == 1 && audit.text.contains("lapsed on 2020-01-01"), "{}", audit.text);
    c.k("delete exemption now past files").accepted();
    c.bedplate("apply").accepted();
    c.leave(State::Installed);
}
