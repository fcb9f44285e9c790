//! Workloads as their authors would count them.

use crate::document::{Limits, parse};
use crate::object::Object;
use crate::workload::{Purpose, Workload};

fn with<T>(yaml: &str, look: impl FnOnce(&Workload<'_>) -> T) -> T {
    let parsed = parse(yaml, &Limits::DEFAULT);
    assert_eq!(parsed.errors, []);
    let object = Object::of(&parsed.documents[0]).remove(0);
    look(&Workload::new(&object).expect("a workload"))
}

const GPUS: &str = "{containers: [{name: a, image: x, resources: {limits: {nvidia.com/gpu: 8}}}]}";

#[test]
fn a_job_of_eight_workers_with_eight_gpus_is_64_gpus() {
    let yaml = format!(
        "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata: {{name: a}}\nspec:\n  pytorchReplicaSpecs:\n    Worker:\n      replicas: 8\n      template:\n        spec: {GPUS}\n"
    );
    with(&yaml, |w| {
        assert_eq!(w.accelerators(), 64);
        assert_eq!(w.pod_sets[0].replicas.reckoning(), "8 replicas");
        assert_eq!(w.purpose, Purpose::Training);
    });
}

#[test]
fn elastic_jobs_count_at_their_maximum() {
    let yaml = format!(
        "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nspec:\n  elasticPolicy: {{minReplicas: 1, maxReplicas: 4}}\n  pytorchReplicaSpecs:\n    Worker: {{replicas: 2, template: {{spec: {GPUS}}}}}\n"
    );
    with(&yaml, |w| assert_eq!(w.accelerators(), 32));
}

#[test]
fn a_search_counts_every_trial_that_runs_at_once() {
    let yaml = format!(
        "apiVersion: kubeflow.org/v1beta1\nkind: Experiment\nspec:\n  parallelTrialCount: 10\n  maxTrialCount: 100\n  trialTemplate:\n    trialSpec:\n      apiVersion: batch/v1\n      kind: Job\n      spec: {{template: {{spec: {GPUS}}}}}\n"
    );
    with(&yaml, |w| {
        assert_eq!(w.accelerators(), 80);
        assert_eq!(w.pod_sets[0].role, "trial / pod");
        assert_eq!(w.pod_sets[0].replicas.reckoning(), "10 trials");
    });
}

#[test]
fn ray_groups_multiply_by_hosts_and_ignore_the_unset_maximum() {
    let yaml = format!(
        "apiVersion: ray.io/v1\nkind: RayCluster\nspec:\n  enableInTreeAutoscaling: true\n  headGroupSpec: {{template: {{spec: {{containers: [{{name: h, image: r}}]}}}}}}\n  workerGroupSpecs:\n  - {{groupName: a, replicas: 1, maxReplicas: 3, numOfHosts: 2, template: {{spec: {GPUS}}}}}\n  - {{groupName: b, replicas: 1, maxReplicas: 2147483647, template: {{spec: {GPUS}}}}}\n"
    );
    with(&yaml, |w| {
        assert_eq!(w.accelerators(), 3 * 2 * 8 + 8);
        let roles: Vec<_> = w.pod_sets.iter().map(|p| p.role.as_str()).collect();
        assert_eq!(roles, ["head", "a", "b"]);
        assert_eq!(w.pod_sets[2].replicas.reckoning(), "1 pod or more, nothing bounds them");
        assert!(w.pod_sets[1].replicas.unbounded.is_none());
    });
    // Without the autoscaler nothing ever reaches the maximum.
    with(&yaml.replace("Autoscaling: true", "Autoscaling: false"), |w| assert_eq!(w.accelerators(), 2 * 8 + 8));
}

#[test]
fn init_containers_and_sidecars_count_as_the_scheduler_counts() {
    let gpu = |n: u32| format!("resources: {{limits: {{nvidia.com/gpu: {n}}}}}");
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  initContainers:\n  - {{name: side, image: x, restartPolicy: Always, {}}}\n  - {{name: init, image: x, {}}}\n  containers:\n  - {{name: a, image: x, {}}}\n  - {{name: b, image: x, {}}}\n",
        gpu(1),
        gpu(4),
        gpu(2),
        gpu(1)
    );
    // init 4 + sidecar 1 is more than 2 + 1 + sidecar 1.
    with(&yaml, |w| assert_eq!(w.accelerators(), 5));
}

#[test]
fn a_job_never_runs_more_pods_than_completions() {
    let yaml = format!(
        "apiVersion: batch/v1\nkind: Job\nspec: {{parallelism: 10, completions: 3, template: {{spec: {GPUS}}}}}\n"
    );
    with(&yaml, |w| assert_eq!(w.accelerators(), 24));
}

#[test]
fn argo_fan_out_counts_where_it_is_literal() {
    let yaml = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nspec:\n  entrypoint: main\n  templates:\n  - name: main\n    steps:\n    - - {name: s, template: train, withItems: [1, 2, 3, 4, 5]}\n  - name: train\n    container: {image: x, resources: {limits: {nvidia.com/gpu: 2}}}\n";
    with(yaml, |w| {
        assert_eq!(w.pod_sets.len(), 1);
        assert_eq!(w.accelerators(), 10);
    });
    with(&yaml.replace("  entrypoint", "  parallelism: 2\n  entrypoint"), |w| assert_eq!(w.accelerators(), 4));
}

#[test]
fn an_unknown_kind_is_a_guess() {
    let yaml = format!(
        "apiVersion: example.com/v1\nkind: Fancy\nspec: {{group: {{replicas: 3, template: {{spec: {GPUS}}}}}}}\n"
    );
    with(&yaml, |w| {
        assert!(w.guessed());
        assert_eq!(w.accelerators(), 24);
    });
}

#[test]
fn a_known_server_is_serving_and_an_operator_is_platform() {
    let deployment = |image: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nspec: {{template: {{spec: {{containers: [{{name: a, image: {image}}}]}}}}}}\n"
        )
    };
    let purpose = |image: &str| with(&deployment(image), |w| w.purpose);
    assert_eq!(purpose("docker.io/vllm/vllm-openai:v0.9.1"), Purpose::Serving);
    assert_eq!(purpose("docker.io/kubeflow/training-operator:v1"), Purpose::Platform);
    assert_eq!(purpose("docker.io/kubeflownotebookswg/jupyter-scipy:v1"), Purpose::Notebook);
}

/// A loop in Argo is a template that calls itself; following every call took for ever.
#[test]
fn an_argo_template_that_calls_itself_ends() {
    let calls: String = (0..40).map(|i| format!("      - {{name: again{i}, template: main}}\n")).collect();
    let yaml = format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nspec:\n  entrypoint: main\n  templates:\n  - name: main\n    dag:\n      tasks:\n{calls}      - {{name: t, template: train, withItems: [1, 2, 3]}}\n  - name: train\n    container: {{image: x, resources: {{limits: {{nvidia.com/gpu: 2}}}}}}\n"
    );
    with(&yaml, |w| assert_eq!(w.accelerators(), 6));
    // The same count of templates that call one another in layers.
    let layer = |i: u32| {
        format!("  - name: l{i}\n    steps: [[{{name: a, template: l{0}}}, {{name: b, template: l{0}}}]]\n", i + 1)
    };
    let layers: String = (0..60).map(layer).collect();
    let yaml = format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nspec:\n  entrypoint: l0\n  templates:\n{layers}  - name: l60\n    container: {{image: x, resources: {{limits: {{nvidia.com/gpu: 1}}}}}}\n"
    );
    with(&yaml, |w| assert!(w.accelerators() >= 1_000_000));
}

#[test]
fn a_trial_that_stands_in_a_string_is_counted_like_any_other() {
    let yaml = "apiVersion: kubeflow.org/v1alpha3\nkind: Experiment\nspec:\n  parallelTrialCount: 5\n  trialTemplate:\n    goTemplate:\n      rawTemplate: |\n        apiVersion: batch/v1\n        kind: Job\n        metadata: {name: \"{{.Trial}}\"}\n        spec:\n          template:\n            spec:\n              containers:\n              - name: t\n                image: x\n                command:\n                {{- range .HyperParameters}}\n                - \"{{.Name}}={{.Value}}\"\n                {{- end}}\n                resources: {limits: {nvidia.com/gpu: 8}}\n";
    with(yaml, |w| {
        assert_eq!(w.accelerators(), 40);
        assert_eq!(w.pod_sets[0].role, "trial / pod");
    });
}

/// A patch in a string asked for sixteen times what the template said.
#[test]
fn a_patch_of_the_pod_counts_where_argo_merges_it() {
    let workflow = |patch: &str| {
        format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nspec:\n  entrypoint: a\n{patch}  templates:\n  - name: a\n    container: {{image: x, resources: {{limits: {{nvidia.com/gpu: 1}}}}}}\n"
        )
    };
    with(&workflow(""), |w| assert_eq!(w.accelerators(), 1));
    let json = "'{\"containers\": [{\"name\": \"main\", \"resources\": {\"limits\": {\"nvidia.com/gpu\": 16}}}]}'";
    with(&workflow(&format!("  podSpecPatch: {json}\n")), |w| assert_eq!(w.accelerators(), 16));
    let yaml = "|\n    containers:\n    - name: main\n      image: evil.io/x\n";
    with(&workflow(&format!("  podSpecPatch: {yaml}")), |w| {
        assert_eq!(w.accelerators(), 1);
        assert_eq!(w.pod_sets[0].containers[0].image().str(), Some("evil.io/x"));
    });
}

#[test]
fn the_pods_of_a_seldon_predictor_have_its_name() {
    let yaml = format!(
        "apiVersion: machinelearning.seldon.io/v1\nkind: SeldonDeployment\nspec:\n  predictors:\n  - {{name: main, componentSpecs: [{{spec: {GPUS}}}, {{spec: {GPUS}}}]}}\n  - {{name: canary, componentSpecs: [{{spec: {GPUS}}}]}}\n"
    );
    with(&yaml, |w| {
        let roles: Vec<_> = w.pod_sets.iter().map(|p| p.role.as_str()).collect();
        assert_eq!(roles, ["main", "main #1", "canary"]);
    });
}
