//! No job takes more than its share, and only trusted images run.

use bedplate_tests::{deployment, job, pytorch};
use serde_json::json;

use crate::{carry_over, cluster};

#[test]
fn a_job_that_adds_up_to_64_gpus_is_refused_and_told_how_many() {
    let c = cluster();
    let ns = c.namespace("a");
    c.create(&pytorch(&ns, "big", 7, 8)).refused("this PyTorchJob asks for 64 accelerators, the ceiling is 8");
    c.create(&job(&ns, "big", 64, 1)).refused("this Job asks for 64 accelerators, the ceiling is 8");
    c.create(&job(&ns, "pod", 1, 9)).refused("a pod of this Job asks for 9 accelerators, the ceiling is 8");
    c.create(&pytorch(&ns, "fits", 7, 1)).accepted();
}

#[test]
fn a_team_with_a_higher_ceiling_may_use_it() {
    let c = cluster();
    let ns = c.namespace("roomy");
    c.create(&pytorch(&ns, "big", 7, 8)).accepted();
    c.create(&pytorch(&ns, "bigger", 8, 8)).refused("72 accelerators, the ceiling is 64");
}

#[test]
fn workers_added_later_count_as_much_as_those_of_the_start() {
    let c = cluster();
    let ns = c.namespace("a");
    c.create(&pytorch(&ns, "grows", 1, 1)).accepted();
    let raise = json!({ "spec": { "pytorchReplicaSpecs": { "Worker": { "replicas": 63 } } } }).to_string();
    c.kubectl(&["patch", "pytorchjob", "grows", "-n", &ns, "--type=merge", "-p", &raise], "")
        .refused("64 accelerators");
    c.k(&format!("label pytorchjob grows -n {ns} team=vision")).accepted();
}

/// A request to scale names a number and no pods: what one pod asks for stands in the workload.
#[test]
fn scaling_up_counts_as_much_as_replicas_in_a_manifest() {
    let c = cluster();
    let ns = c.namespace("a");
    let with_gpus = |name: &str, gpus: u32| {
        let mut object = deployment(&ns, name);
        object["spec"]["replicas"] = json!(1);
        object["spec"]["template"]["spec"]["containers"][0]["resources"] =
            json!({ "limits": { "nvidia.com/gpu": gpus } });
        object
    };
    c.create(&with_gpus("llm", 2)).accepted();
    c.create(&with_gpus("web", 0)).accepted();
    // The workload reaches the policy through a cache.
    c.eventually(|| c.k(&format!("scale deployment llm -n {ns} --replicas=32 --dry-run=server")).code != 0);
    c.k(&format!("scale deployment llm -n {ns} --replicas=32"))
        .refused("scaled to 32 replicas, the Deployment llm asks for 64 accelerators, the ceiling is 8");
    c.k(&format!("scale deployment llm -n {ns} --replicas=4")).accepted();
    c.k(&format!("scale deployment web -n {ns} --replicas=32")).accepted();
    // Where the number is not `spec.replicas`, the table says which it is.
    let mut elastic = pytorch(&ns, "elastic", 1, 2);
    elastic["spec"]["elasticPolicy"] = json!({ "minReplicas": 1, "maxReplicas": 2 });
    c.create(&elastic).accepted();
    c.eventually(|| c.k(&format!("scale pytorchjob elastic -n {ns} --replicas=7 --dry-run=server")).code != 0);
    c.k(&format!("scale pytorchjob elastic -n {ns} --replicas=7"))
        .refused("the PyTorchJob elastic asks for 16 accelerators");
    let roomy = c.namespace("roomy");
    c.create(&{
        let mut object = with_gpus("llm", 2);
        object["metadata"]["namespace"] = json!(roomy);
        object
    })
    .accepted();
    c.k(&format!("scale deployment llm -n {roomy} --replicas=32")).accepted();
    c.eventually(|| {
        c.k(&format!("scale deployment llm -n {roomy} --replicas=33 --dry-run=server"))
            .text
            .contains("the ceiling is 64")
    });
}

/// Guards that come after the objects must not freeze what runs.
#[test]
fn an_old_job_over_the_ceiling_may_be_labelled_and_shrunk_but_not_grow() {
    let c = cluster();
    let ns = c.namespace("old");
    c.create(&pytorch(&ns, "old", 7, 8)).accepted();
    let entry = json!([{ "op": "add", "path": "/spec/namespaces/-", "value": { "names": [ns], "modes": { "admission": "enforce" } } }]);
    c.kubectl(&["patch", "stabilityprofile", "default", "--type=json", "-p", &entry.to_string()], "").accepted();
    carry_over(c);
    c.eventually(|| c.create(&pytorch(&ns, "new", 7, 8)).code != 0);
    c.k(&format!("label pytorchjob old -n {ns} team=vision")).accepted();
    let workers = |n: u32| json!({ "spec": { "pytorchReplicaSpecs": { "Worker": { "replicas": n } } } }).to_string();
    let patch = |n: u32| c.kubectl(&["patch", "pytorchjob", "old", "-n", &ns, "--type=merge", "-p", &workers(n)], "");
    patch(8).refused("72 accelerators");
    patch(3).accepted();
}

#[test]
fn an_image_from_an_unknown_place_is_refused_wherever_it_hides() {
    let c = cluster();
    let ns = c.namespace("a");
    let pod = |part: &str, image: &str| {
        let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": ns }, "spec": {
            "containers": [{ "name": "a", "image": "docker.io/library/python:3.13" }] } });
        pod["spec"][part] = json!([{ "name": "hidden", "image": image }]);
        pod
    };
    c.create(&pod("containers", "registry.evil.example/miner:1")).refused("is from no trusted registry");
    c.create(&pod("initContainers", "registry.evil.example/miner:1"))
        .refused("registry.evil.example/miner:1 is from no");
    c.create(&pod("containers", "docker.io.evil.example/library/python:3.13")).refused("no trusted registry");
    c.create(&pod("containers", "docker.io/pytorch-evil/pytorch:2.7.0")).refused("no trusted registry");
    c.create(&pod("containers", "python:3.13")).accepted();
    // A container to debug comes by a request of its own.
    let debug = c.kubectl(&["debug", "p", "-n", &ns, "--image=registry.evil.example/shell:1", "--profile=general"], "");
    debug.refused("registry.evil.example/shell:1 is from no trusted registry");
    let set = c.k(&format!("set image pod/p hidden=registry.evil.example/miner:1 -n {ns}"));
    set.refused("no trusted registry");
}

#[test]
fn a_tag_that_moves_is_refused_and_a_digest_is_not() {
    let c = cluster();
    let ns = c.namespace("a");
    let run = |name: &str, image: &str| c.k(&format!("run {name} --image={image} -n {ns}"));
    run("a", "docker.io/library/python:latest").refused("can change under you");
    run("a", "docker.io/library/python").refused("can change under you");
    let digest = "0".repeat(64);
    run("a", &format!("docker.io/library/python:latest@sha256:{digest}")).accepted();
}

#[test]
fn names_made_by_the_server_and_dry_runs_are_judged_the_same() {
    let c = cluster();
    let ns = c.namespace("a");
    let mut nameless = job(&ns, "x", 64, 1);
    nameless["metadata"] = json!({ "generateName": "x-", "namespace": ns });
    c.create(&nameless).refused("64 accelerators");
    c.kubectl(&["create", "--dry-run=server", "-f", "-"], &job(&ns, "x", 64, 1).to_string()).refused("64 accelerators");
}

#[test]
fn a_team_that_is_only_warned_sees_the_warning_and_gets_its_job() {
    let c = cluster();
    let ns = c.namespace("warned");
    let told = c.create(&job(&ns, "big", 64, 1)).accepted();
    assert!(told.contains("Warning:") && told.contains("64 accelerators"), "{told}");
}

#[test]
fn an_exemption_opens_one_door_and_closes_it_on_its_day() {
    let c = cluster();
    let ns = c.namespace("a");
    let exemption = |name: &str, expires: &str| {
        json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": "Exemption", "metadata": { "name": format!("{ns}-{name}") },
            "spec": { "rule": "gpu-ceiling", "subject": { "kind": "Job", "namespace": ns, "name": name },
                "reason": "the yearly full-size run", "expires": expires } })
    };
    c.create(&exemption("full-size", "2999-01-01")).accepted();
    c.create(&exemption("last-year", "2020-01-01")).accepted();
    carry_over(c);
    c.eventually(|| c.create(&job(&ns, "full-size", 64, 1)).code == 0);
    c.create(&job(&ns, "other", 64, 1)).refused("64 accelerators");
    c.create(&job(&ns, "last-year", 64, 1)).refused("64 accelerators");
    // And on an update, which has another clock.
    let suspend = r#"{"spec":{"parallelism":65}}"#;
    c.kubectl(&["patch", "job", "full-size", "-n", &ns, "--type=merge", "-p", suspend], "").accepted();
    let nothing = json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": "Exemption", "metadata": { "name": "x" }, "spec": {
        "rule": "gpu-ceiling", "subject": { "name": "x" }, "reason": " ", "expires": "2999-01-01" } });
    c.create(&nothing).refused("a reason that a person can read");
}

#[test]
fn what_a_cluster_needs_to_come_back_is_never_refused() {
    let c = cluster();
    c.create(&job("kube-system", "repair", 64, 1)).accepted();
}

/// A policy that runs out of the API server's CEL budget refuses: a large workflow must not meet that.
#[test]
fn a_workflow_of_500_gpu_steps_and_a_megabyte_is_judged_within_the_budget() {
    let c = cluster();
    let ns = c.namespace("roomy");
    let mut large = workflow(&ns, 500);
    large["spec"]["templates"][0]["container"]["env"] = json!([{ "name": "NOTES", "value": "x".repeat(1_000_000) }]);
    c.create(&large).accepted();
    large["metadata"]["name"] = json!("large-and-bad");
    large["spec"]["templates"][499]["container"]["resources"]["limits"]["nvidia.com/gpu"] = json!(9);
    c.create(&large).refused("a pod of this Workflow asks for 9 accelerators");
}

fn workflow(namespace: &str, steps: usize) -> serde_json::Value {
    let templates: Vec<_> = (0..steps)
        .map(|n| {
            json!({ "name": format!("step-{n}"), "container": {
                "image": "docker.io/pytorch/pytorch:2.7.0", "resources": { "limits": { "nvidia.com/gpu": 1 } },
            } })
        })
        .collect();
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": { "name": "large", "namespace": namespace },
        "spec": { "entrypoint": "step-0", "templates": templates },
    })
}

/// Of the largest objects that the API server takes none may run the policies out of their budget: a workflow's pods are
/// judged as they come, anything else is refused in words.
#[test]
fn an_object_too_large_to_be_judged_is_refused_in_words_and_a_workflow_pod_by_pod() {
    let c = cluster();
    let ns = c.namespace("a");
    c.create(&workflow(&ns, 8_000)).accepted();
    let mut pod =
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": ns }, "spec": {} });
    pod["spec"]["containers"] = (0..8_000)
        .map(|n| json!({ "name": format!("c{n}"), "image": "python:3.13", "resources": { "limits": { "nvidia.com/gpu": 1 } } }))
        .collect();
    c.create(&pod).refused("has more than 1000 pods or containers in one list, more than can be judged");
}

/// An autoscaler without a maximum took every GPU of the cluster overnight.
#[test]
fn an_autoscaler_without_a_maximum_is_refused_where_it_starts_gpus() {
    let c = cluster();
    let ns = c.namespace("a");
    let ray = |gpus: u32, maximum: serde_json::Value| {
        json!({ "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": { "generateName": "r-", "namespace": ns }, "spec": {
            "enableInTreeAutoscaling": true,
            "headGroupSpec": { "rayStartParams": {}, "template": { "spec": { "containers": [{ "name": "ray-head", "image": "docker.io/rayproject/ray:2.46.0" }] } } },
            "workerGroupSpecs": [{
                "groupName": "gpu", "rayStartParams": {}, "minReplicas": 0, "replicas": 1, "maxReplicas": maximum, "template": { "spec": { "containers": [{
                    "name": "ray-worker", "image": "docker.io/rayproject/ray:2.46.0", "resources": { "limits": { "nvidia.com/gpu": gpus } } }] } } }],
        } })
    };
    c.create(&ray(1, json!(2_147_483_647))).refused("nothing bounds the accelerators of this RayCluster");
    c.create(&ray(0, json!(2_147_483_647))).accepted();
    c.create(&ray(1, json!(8))).accepted();
}

/// GPUs that come by dynamic allocation stand in no container.
#[test]
fn a_claim_of_more_devices_than_a_pod_may_have_is_refused() {
    let c = cluster();
    let ns = c.namespace("a");
    let claim = |request: serde_json::Value| {
        json!({ "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": { "generateName": "c-", "namespace": ns },
            "spec": { "spec": { "devices": { "requests": [request] } } } })
    };
    let exactly = |more: serde_json::Value| {
        let mut request = json!({ "name": "g", "exactly": { "deviceClassName": "gpu.nvidia.com" } });
        request["exactly"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    c.create(&claim(exactly(json!({ "allocationMode": "ExactCount", "count": 8 })))).accepted();
    c.create(&claim(exactly(json!({ "allocationMode": "ExactCount", "count": 9 }))))
        .refused("asks for 9 accelerators, the ceiling is 8");
    c.create(&claim(exactly(json!({ "allocationMode": "All" }))))
        .refused("asks for every device that fits, the ceiling is 8");
    let either = json!({ "name": "g", "firstAvailable": [
        { "name": "one", "deviceClassName": "gpu.nvidia.com" }, { "name": "many", "deviceClassName": "gpu.nvidia.com", "count": 9 } ] });
    c.create(&claim(either)).refused("asks for 9 accelerators");
}

/// What an init container asks for and what runs may be different slices of one device.
#[test]
fn slices_of_different_sizes_are_counted_each_by_itself() {
    let c = cluster();
    let ns = c.namespace("a");
    let with = |name: &str, main: u32, init: u32| {
        let slices = |size: &str, n: u32| {
            let mut limits = json!({});
            limits[format!("nvidia.com/mig-{size}")] = json!(n);
            json!({ "limits": limits })
        };
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": ns }, "spec": {
            "initContainers": [{ "name": "i", "image": "python:3.13", "resources": slices("1g.5gb", init) }],
            "containers": [{ "name": "a", "image": "python:3.13", "resources": slices("2g.10gb", main) }] } })
    };
    c.create(&with("fits", 4, 4)).accepted();
    c.create(&with("too-much", 5, 4)).refused("asks for 9 accelerators");
}
