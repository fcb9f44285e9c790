//! A rule and its policy are one: thousands of objects, judged by both.

use std::collections::BTreeSet;

use bedplate_guarantees::Neighbours;
use bedplate_guarantees::check::{Run, object_findings};
use bedplate_guarantees::enforce::{self, cel};
use bedplate_model::document::{Limits, parse};
use bedplate_model::{FieldPath, Node, Object, Profile, Segment, Workload};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::cluster;

const GUARDED: [&str; 3] = ["gpu-ceiling", "untrusted-registry", "mutable-tag"];

/// What is done to one object before it is judged.
#[derive(Clone, Debug)]
struct Case {
    example: usize,
    accelerators: Vec<(usize, &'static str, Value)>,
    images: Vec<(usize, &'static str)>,
    counts: Vec<(usize, i64)>,
    init: bool,
}

const IMAGES: &[&str] = &[
    "python",
    "python:3.13",
    "docker.io/library/python:latest",
    "index.docker.io/python:3",
    "evil.example/x:1",
    "evil.example:5000/x",
    "localhost/x:1",
    "quay.io/jupyter/base:1",
    "quay.io/jupyter-evil/base:1",
    "QUAY.io/argoproj/x:1",
    "nvcr.io/nvidia/pytorch:25.01-py3",
    "registry.k8s.io/pause@sha256:00",
    "pytorch/pytorch:2.7",
    "pytorch:main",
    "ghcr.io/kserve/x:dev",
    "${IMAGE}",
    "{{image}}",
    "a/b/c:1",
    "docker.io/pytorch",
    "Evil/x:1",
];
const RESOURCES: &[&str] = &[
    "nvidia.com/gpu",
    "nvidia.com/mig-1g.10gb",
    "amd.com/gpu",
    "huawei.com/Ascend910",
    "huawei.com/Ascend910-memory",
    "nvidia.com/gpumem",
    "aws.amazon.com/neuroncore",
    "cpu",
    "example.com/fpga",
    "gpu.intel.com/i915",
];

fn cases(examples: usize) -> impl Strategy<Value = Case> {
    let amount = prop_oneof![
        (0..12i64).prop_map(|n| json!(n)),
        (0..12i64).prop_map(|n| json!(n.to_string())),
        Just(json!("8k")),
        Just(json!("8000m")),
        Just(json!("500m")),
        Just(json!("1e1")),
        Just(json!("x")),
        Just(json!("-3")),
        Just(json!("")),
    ];
    let resource = prop::sample::select(RESOURCES.to_vec());
    let image = prop::sample::select(IMAGES.to_vec());
    (
        0..examples,
        prop::collection::vec((0..4usize, resource, amount), 0..4),
        prop::collection::vec((0..4usize, image), 0..3),
        prop::collection::vec((0..4usize, prop_oneof![-1..6i64, Just(100), Just(2_147_483_647)]), 0..3),
        any::<bool>(),
    )
        .prop_map(|(example, accelerators, images, counts, init)| Case {
            example,
            accelerators,
            images,
            counts,
            init,
        })
}

fn set(object: &mut Value, path: &FieldPath, value: Value) {
    let mut at = object;
    for segment in &path.0 {
        at = match segment {
            Segment::Key(key) => {
                if !at.is_object() {
                    *at = json!({});
                }
                &mut at[&**key]
            }
            Segment::Index(index) => match at.as_array_mut().and_then(|items| items.get_mut(*index)) {
                Some(item) => item,
                None => return,
            },
        };
    }
    *at = value;
}

/// The manifests of the table's kinds, less what is judged in what it creates (Katib, AppWrapper) or by the webhook.
fn examples() -> Vec<Value> {
    let folder = bedplate_devcluster::run::root().join("examples/kinds");
    let mut all = Vec::new();
    for file in bedplate_devcluster::run::files_below(&folder).unwrap() {
        let text = std::fs::read_to_string(folder.join(&file)).unwrap();
        let object = parse(&text, &Limits::DEFAULT).documents[0].root.to_json();
        let group = object["apiVersion"].as_str().unwrap().split_once('/').map_or("", |(group, _)| group);
        let row = cel::rows().find(|row| row.group == group && object["kind"] == row.kind);
        // Argo's totals need the whole of a workflow's steps.
        if row.is_some_and(cel::has_total) {
            all.push(object);
        }
    }
    all
}

fn made(case: &Case, example: &Value, namespace: &str) -> Value {
    let mut object = example.clone();
    object["metadata"] = json!({ "generateName": "agree-", "namespace": namespace });
    let before = object.clone();
    let node = Node::from_json(&before);
    let subject = Object::of_node(&node).unwrap();
    let workload = Workload::new(&subject).unwrap();
    let containers: Vec<_> = workload.containers().map(|(_, c)| (c.resources.path(), c.image.path())).collect();
    // Every number that multiplies pods, also where the example leaves it at one.
    let counts: Vec<FieldPath> = workload
        .pod_sets
        .iter()
        .flat_map(|pods| pods.replicas.factors.iter().map(|factor| factor.path.clone()))
        .collect();
    let specs: Vec<FieldPath> =
        workload.pod_sets.iter().filter(|pods| pods.has_pod_spec()).map(|pods| pods.spec.path()).collect();
    for (index, name, amount) in &case.accelerators {
        if let Some((resources, _)) = containers.get(index % containers.len().max(1)) {
            let path = resources.clone().key(if index % 2 == 0 { "limits" } else { "requests" }).key(*name);
            set(&mut object, &path, amount.clone());
        }
    }
    for (index, image) in &case.images {
        if let Some((_, path)) = containers.get(index % containers.len().max(1)) {
            set(&mut object, path, json!(image));
        }
    }
    for (index, count) in &case.counts {
        if let Some(path) = counts.get(index % counts.len().max(1)) {
            set(&mut object, path, json!(count));
        }
    }
    if case.init {
        for path in &specs {
            let gpus = |n: u32| json!({ "limits": { "nvidia.com/gpu": n } });
            set(
                &mut object,
                &path.clone().key("initContainers"),
                json!([
                    { "name": "s", "image": "python:3.13", "restartPolicy": "Always", "resources": gpus(1) },
                    { "name": "i", "image": "python:3.13", "resources": gpus(case.example as u32 % 10) },
                ]),
            );
        }
    }
    object
}

#[test]
fn rules_and_policies_agree_on_every_object() {
    let c = cluster();
    let ns = c.namespace("agree");
    let examples = examples();
    assert!(examples.len() > 35, "{} examples", examples.len());
    let strategy = cases(examples.len());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let profile = Profile::default();
    let neighbours = Neighbours::default();
    let run = Run { profile: &profile, neighbours: &neighbours, now: "2026-01-01" };
    let (mut judged, mut refused, mut invalid) = (0, 0, 0);
    for _ in 0..6 {
        let objects: Vec<Value> = (0..500)
            .map(|_| strategy.new_tree(&mut runner).unwrap().current())
            .map(|case| made(&case, &examples[case.example], &ns))
            .collect();
        for (object, answer) in objects.iter().zip(c.dry_run(&objects)) {
            // What passed is judged as the server keeps it: a field that the kind does not have is not there.
            let node = Node::from_json(answer.as_ref().unwrap_or(object));
            let by_rule: BTreeSet<&str> = object_findings(&Object::of_node(&node).unwrap(), run)
                .into_iter()
                .map(|finding| finding.rule)
                .filter(|rule| GUARDED.contains(rule))
                .collect();
            let answer = answer.err().unwrap_or_default();
            if answer.contains("is invalid")
                || answer.contains("expected API version")
                || answer.contains("cannot be handled")
            {
                invalid += 1;
                continue;
            }
            judged += 1;
            // The first guard that refuses is the one that is told of.
            let by_policy = GUARDED.iter().find(|rule| answer.contains(&enforce::refusal(rule))).copied();
            match by_policy {
                Some(rule) => {
                    refused += 1;
                    assert!(by_rule.contains(rule), "refused by {rule}, found by {by_rule:?}: {answer}\n{object:#}");
                }
                None => assert!(
                    by_rule.is_empty() && answer.is_empty(),
                    "let pass, found by {by_rule:?}: {answer}\n{object:#}"
                ),
            }
        }
    }
    println!("{judged} judged by both, {refused} refused, {invalid} no valid object of their kind");
    assert!(
        judged > 1500 && refused > 300 && judged - refused > 100,
        "{judged} judged, {refused} refused, {invalid} invalid"
    );
}
