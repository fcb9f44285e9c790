//! Answers to recorded requests.

use bedplate_guarantees::Neighbours;
use bedplate_guarantees::check::Run;
use bedplate_model::Profile;
use serde_json::{Value, json};

use super::review::{API_VERSION, Malformed};
use super::{Answer, Outcome, explain, judge, read};

const HEAD: &str = "apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\nspec:\n";

fn profile(spec: &str) -> Profile {
    let rules: Vec<_> = bedplate_guarantees::rules().map(|rule| rule.name).collect();
    let text = if spec.is_empty() { String::new() } else { format!("{HEAD}{spec}") };
    Profile::parse(&text, &rules).unwrap()
}

fn review(namespace: &str, object: &Value, old: Option<&Value>) -> Vec<u8> {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    json!({
        "apiVersion": API_VERSION, "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": group, "version": version, "kind": object["kind"] },
            "resource": { "group": group, "version": version, "resource": "things" },
            "name": object["metadata"]["name"], "namespace": namespace,
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "userInfo": { "username": "ada", "groups": ["system:authenticated"] },
            "object": object, "oldObject": old, "dryRun": false, "options": {},
        },
    })
    .to_string()
    .into_bytes()
}

struct Asked {
    profile: Profile,
    namespace: &'static str,
}

impl Asked {
    fn with(spec: &str) -> Self {
        Self { profile: profile(spec), namespace: "team" }
    }

    fn ask(&self, object: &Value, old: Option<&Value>) -> (Answer, Answer) {
        let body = review(self.namespace, object, old);
        let request = read(&body).unwrap();
        let neighbours = Neighbours::default();
        let run = Run { profile: &self.profile, neighbours: &neighbours, now: "2026-11-24" };
        (explain(&request, run), judge(&request, run))
    }

    fn judge(&self, object: &Value) -> Answer {
        self.ask(object, None).1
    }
}

fn pytorch(workers: u64, gpus: u64) -> Value {
    let template = json!({ "spec": { "containers": [{ "name": "pytorch", "image": "docker.io/pytorch/pytorch:2.7.0",
        "command": ["tini", "--", "python", "train.py"],
        "resources": { "requests": { "cpu": 1, "memory": "1Gi" }, "limits": { "memory": "1Gi", "nvidia.com/gpu": gpus } } }] } });
    json!({
        "apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": { "name": "big" },
        "spec": { "pytorchReplicaSpecs": {
            "Master": { "replicas": 1, "template": template }, "Worker": { "replicas": workers, "template": template },
        } },
    })
}

fn katib(parallel: u64) -> Value {
    json!({
        "apiVersion": "kubeflow.org/v1alpha3", "kind": "Experiment", "metadata": { "name": "sweep" },
        "spec": { "parallelTrialCount": parallel, "maxTrialCount": 100, "trialTemplate": { "goTemplate": { "rawTemplate":
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: \"{{.Trial}}\"}\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        image: docker.io/pytorch/pytorch:2.7.0\n        resources: {limits: {nvidia.com/gpu: 4}}\n" } } },
    })
}

fn message(answer: &Answer) -> &str {
    answer.refusal.as_ref().map_or("", |refusal| &refusal.message)
}

/// "the ceiling is 8" alone sent a team hunting through four manifests.
#[test]
fn a_refusal_shows_the_whole_reckoning_role_by_role() {
    let (explained, judged) = Asked::with("").ask(&pytorch(7, 8), None);
    let expected = "this PyTorchJob asks for 64 accelerators, the ceiling is 8 (gpu-ceiling)\n  \
        Master: 1 pod x 8 nvidia.com/gpu = 8\n  \
        Worker: 7 replicas x 8 nvidia.com/gpu = 56\n  \
        at: spec.pytorchReplicaSpecs.Worker.replicas\n  \
        fix: make it fit into 8, or raise `spec.admission.acceleratorsPerJob` for this namespace in bedplate.yaml\n\
        or ask for an Exemption of PyTorchJob team/big from gpu-ceiling (kubectl explain exemption.spec, bedplate.dev/v1alpha1)";
    assert_eq!(message(&explained), expected);
    assert_eq!(message(&judged), expected);
    assert_eq!((judged.outcome(), explained.outcome()), (Outcome::Refused, Outcome::Refused));
    let body: Value = serde_json::from_slice(&judged.body("u")).unwrap();
    assert_eq!(body["response"]["uid"], "u");
    assert_eq!(body["response"]["status"]["code"], 403);
    assert_eq!(body["response"]["status"]["details"]["causes"][0]["reason"], "gpu-ceiling");
}

/// A policy of the API server cannot look into a string.
#[test]
fn a_template_in_a_string_counts_as_one_outside() {
    let asked = Asked::with("");
    let answer = asked.judge(&katib(20));
    assert!(
        message(&answer)
            .starts_with("the trials of this search ask for 80 accelerators at once, the ceiling is 64 (unbounded-search)\n  trial / pod: 20 trials x 4 = 80\n"),
        "{}",
        message(&answer)
    );
    assert_eq!(message(&asked.judge(&katib(16))), "");
    // An image that hides in a patch of pods.
    let patch = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": { "name": "w" },
        "spec": { "entrypoint": "a", "templates": [{ "name": "a", "container": { "image": "docker.io/library/python:3.13" },
            "podSpecPatch": "{\"containers\": [{\"name\": \"main\", \"image\": \"registry.evil.example/miner:1\"}]}" }] },
    });
    let told = asked.judge(&patch);
    assert!(message(&told).contains("`registry.evil.example/miner` is from no trusted registry"), "{told:?}");
    assert!(message(&told).contains("at: spec.templates[0].podSpecPatch.containers[0].image"), "{told:?}");
}

#[test]
fn an_old_job_over_the_ceiling_may_be_labelled_and_shrunk_but_not_grow() {
    let asked = Asked::with("");
    let old = pytorch(7, 8);
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({ "team": "vision" });
    let (explained, judged) = asked.ask(&labelled, Some(&old));
    assert_eq!((explained, judged), (Answer::default(), Answer::default()), "nothing that was there before is told");
    assert!(asked.ask(&pytorch(3, 8), Some(&old)).1.allowed());
    assert!(!asked.ask(&pytorch(8, 8), Some(&old)).1.allowed());
    // The finding moves to another field when no replicas multiply any more.
    assert!(asked.ask(&pytorch(1, 5), Some(&pytorch(2, 5))).1.allowed());
    // An image that was there may stay; another one may not come, however alike.
    let image = |image: &str| {
        let mut job = pytorch(1, 1);
        job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        job
    };
    let old = image("registry.evil.example/miner:1");
    assert!(asked.ask(&old, Some(&old)).1.allowed());
    assert!(!asked.ask(&image("registry.evil.example/miner:2"), Some(&old)).1.allowed());
    // What is on its way out is never held up.
    let mut leaving = pytorch(9, 8);
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-24T12:00:00Z");
    assert!(asked.ask(&leaving, Some(&pytorch(7, 8))).1.allowed());
}

#[test]
fn the_profile_says_how_strict_each_rule_is_in_each_namespace() {
    let warned = Asked::with("  namespaces: [{names: [te*], modes: {admission: warn}}]\n").judge(&pytorch(7, 8));
    assert!(warned.allowed() && warned.warnings.iter().any(|w| w.contains("64 accelerators")), "{warned:?}");
    let audited = Asked::with("  modes: {admission: audit}\n").judge(&pytorch(7, 8));
    assert!(audited.allowed() && audited.annotations["gpu-ceiling.audit"].contains("64 accelerators"), "{audited:?}");
    assert!(!audited.warnings.iter().any(|warning| warning.contains("64")), "{audited:?}");
    let own = Asked::with("  modes: {admission: off, gpu-ceiling: enforce}\n").judge(&pytorch(7, 8));
    assert!(!own.allowed());
    assert!(Asked::with("  rules: {gpu-ceiling: off}\n").judge(&pytorch(7, 8)).allowed());
    // Advice refuses only where the profile names it.
    let mut job = pytorch(1, 1);
    job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(5);
    let advised = Asked::with("").judge(&job);
    assert!(advised.allowed() && advised.warnings.iter().any(|w| w.starts_with("grace-too-short:")), "{advised:?}");
    assert!(Asked::with("  modes: {training: enforce}\n").judge(&job).allowed());
    assert!(!Asked::with("  modes: {grace-too-short: enforce}\n").judge(&job).allowed());
}

#[test]
fn an_exemption_opens_one_door_until_its_day_and_is_told_to_the_audit_log() {
    let rules: Vec<_> = bedplate_guarantees::rules().map(|rule| rule.name).collect();
    let exempt = |expires: &str| {
        let text = format!(
            "apiVersion: bedplate.dev/v1alpha1\nkind: Exemption\nspec: {{rule: gpu-ceiling, subject: {{kind: PyTorchJob, namespace: team, name: big}}, reason: the yearly run, expires: {expires}}}\n"
        );
        Asked { profile: Profile::parse(&text, &rules).unwrap(), namespace: "team" }
    };
    let answer = exempt("2026-11-24").judge(&pytorch(7, 8));
    assert!(answer.allowed());
    assert_eq!(answer.annotations["gpu-ceiling.exempt"], "until 2026-11-24: the yearly run");
    assert!(!exempt("2026-11-23").judge(&pytorch(7, 8)).allowed());
    // Nobody is surprised by its end.
    for (expires, told) in [
        ("2026-11-24", Some("today is its last day")),
        ("2026-11-25", Some("tomorrow is its last day")),
        ("2026-12-01", Some("it ends in 7 days")),
        ("2026-12-02", None),
    ] {
        let warnings = exempt(expires).judge(&pytorch(7, 8)).warnings;
        let warnings: Vec<_> = warnings.iter().filter(|warning| warning.contains("Exemption")).collect();
        let wanted = told
            .map(|told| format!("gpu-ceiling: let through by an Exemption until {expires}: the yearly run; {told}"));
        assert_eq!(warnings, wanted.iter().collect::<Vec<_>>());
    }
    let elsewhere = Asked { namespace: "other", ..exempt("2999-01-01") };
    assert!(!elsewhere.judge(&pytorch(7, 8)).allowed());
}

/// The trainer's controller made 56 pods, and its log had 56 times six warnings.
#[test]
fn what_a_controller_makes_is_refused_like_everything_but_not_warned_of() {
    let pod = |gpus: u64| {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "big-worker-0", "ownerReferences": [
                { "apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": "big", "uid": "1", "controller": true }] },
            "spec": { "containers": [{ "name": "a", "image": "docker.io/library/python:3.13",
                "resources": { "limits": { "nvidia.com/gpu": gpus } } }] } })
    };
    let asked = Asked::with("");
    assert_eq!(asked.judge(&pod(1)), Answer::default());
    assert!(!asked.judge(&pod(9)).allowed());
}

#[test]
fn what_a_cluster_needs_to_come_back_is_not_judged() {
    for namespace in ["kube-system", "bedplate-system"] {
        let asked = Asked { namespace, ..Asked::with("") };
        assert_eq!(asked.ask(&pytorch(7, 8), None), (Answer::default(), Answer::default()));
    }
}

#[test]
fn a_fix_that_the_profile_asks_for_is_made_and_told() {
    let job = || {
        json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "j" }, "spec": { "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "a", "image": "docker.io/library/python:3.13", "resources": {
                "requests": { "nvidia.com/gpu": 2, "cpu": 1, "memory": "1Gi" } } }] } } } })
    };
    let (explained, _) = Asked::with("").ask(&job(), None);
    assert_eq!(explained.patch, [] as [Value; 0], "nothing is changed that nobody asked for");
    let (explained, _) = Asked::with("  fixes: [accelerator-request-mismatch]\n").ask(&job(), None);
    assert_eq!(
        explained.patch,
        [
            json!({ "op": "add", "path": "/spec/template/spec/containers/0/resources/limits", "value": { "nvidia.com/gpu": 2 } })
        ]
    );
    assert_eq!(explained.outcome(), Outcome::Fixed);
    assert_eq!(explained.warnings, ["accelerator-request-mismatch: done for you: set the limit to the same number"]);
    let body: Value = serde_json::from_slice(&explained.body("u")).unwrap();
    assert_eq!(body["response"]["patchType"], "JSONPatch");
    // What a fix makes is judged too.
    let mut large = job();
    large["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] = json!(9);
    let (explained, _) = Asked::with("  fixes: [accelerator-request-mismatch]\n").ask(&large, None);
    assert!(!explained.allowed() && explained.patch.is_empty());
}

/// A queue starts a job that was there before its rule was listed: a change of its template would be refused.
#[test]
fn what_was_there_before_is_not_fixed_on_the_way() {
    let job = |suspend: bool, container: &str| {
        json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "j" }, "spec": { "suspend": suspend, "template": {
            "spec": { "restartPolicy": "Never", "containers": [{ "name": container, "image": "docker.io/library/python:3.13",
                "command": ["python", "train.py"], "env": [{ "name": "DATA", "value": "https://s3.eu-west-1.amazonaws.com" }],
                "resources": { "requests": { "cpu": 1, "memory": "1Gi" }, "limits": { "nvidia.com/gpu": 2 } } }] } } } })
    };
    let asked = Asked::with("  fixes: [ndots-trap, grace-too-short]\n");
    let (created, _) = asked.ask(&job(true, "a"), None);
    assert_eq!(
        created.patch,
        [
            json!({ "op": "add", "path": "/spec/template/spec/dnsConfig", "value": { "options": [{ "name": "ndots", "value": "2" }] } }),
            json!({ "op": "add", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 300 }),
        ],
        "named by the profile, so made though they change what the pod does"
    );
    let (started, _) = asked.ask(&job(false, "a"), Some(&job(true, "a")));
    assert_eq!(started.patch, [] as [Value; 0]);
}

#[test]
fn warnings_fit_into_a_header_and_stay_few() {
    let image = |n: u32| format!("registry.evil.example/{}{n}\u{7}\u{7f}:latest", "é".repeat(300));
    let containers: Vec<_> = (0..40).map(|n| json!({ "name": format!("c{n}"), "image": image(n) })).collect();
    let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "j" },
        "spec": { "template": { "spec": { "containers": containers } } } });
    let answer = Asked::with("  modes: {admission: warn}\n").judge(&job);
    assert_eq!(answer.warnings.len(), 9, "{:?}", answer.warnings);
    assert!(!Asked::with("").judge(&job).allowed());
    assert!(message(&Asked::with("").judge(&job)).len() <= 8192);
    for warning in &answer.warnings {
        assert!(warning.len() <= 256 && !warning.contains(|c: char| c.is_control()), "{warning:?}");
    }
}

#[test]
fn bodies_that_are_no_review_are_told_what_was_expected() {
    let good = String::from_utf8(review("team", &pytorch(1, 1), None)).unwrap();
    let told = |body: &str| read(body.as_bytes()).unwrap_err();
    for body in ["", "{", "[]", "null", "\"x\"", "{\"apiVersion\": 1}", "apiVersion: v1"] {
        assert!(matches!(told(body), Malformed::Shape(_)), "{body}");
    }
    let old = good.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1");
    assert_eq!(
        told(&old).to_string(),
        "apiVersion `admission.k8s.io/v1beta1`, kind `AdmissionReview` is not understood; expected `admission.k8s.io/v1`, `AdmissionReview`: set admissionReviewVersions: [v1]"
    );
    assert_eq!(told(r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#), Malformed::NoRequest);
    let no_object = good.replace("\"oldObject\":null", "\"oldObject\":[1]");
    assert!(matches!(told(&no_object), Malformed::Part { part: "oldObject", .. }));
    let uid = good.replace("705ab4f5-6393-11e8-b7cc-42010a800002", &"u".repeat(300));
    assert!(matches!(told(&uid), Malformed::Part { part: "uid", .. }));
    assert!(matches!(told(&good.replace("\"CREATE\"", "\"create\"")), Malformed::Shape(_)));
    let deep = |key: &str| {
        good.replace(
            &format!("\"{key}\":{{"),
            &format!("\"{key}\":{{\"deep\":{}{},", "[".repeat(50_000), "]".repeat(50_000)),
        )
    };
    assert!(matches!(told(&deep("metadata")), Malformed::Part { part: "object", .. }), "depth");
    assert!(read(deep("userInfo").as_bytes()).is_ok(), "what nobody reads costs nothing");
}

#[test]
fn kinds_that_nobody_knows_are_judged_by_their_structure_but_never_refused() {
    let unknown = json!({ "apiVersion": "ml.example.com/v7", "kind": "SuperJob", "metadata": { "name": "s" }, "spec": {
        "replicas": 64, "template": { "spec": { "containers": [{ "name": "a", "image": "docker.io/library/python:3.13",
            "resources": { "limits": { "nvidia.com/gpu": 8 } } }] } } } });
    let answer = Asked::with("").judge(&unknown);
    assert!(answer.allowed() && answer.warnings.iter().any(|w| w.contains("512 accelerators")), "{answer:?}");
}

/// A Workflow near etcd's limit, changed: both versions come in one body.
#[test]
fn a_large_object_is_judged_within_the_limits() {
    let templates: Vec<_> = (0..2500)
        .map(|n| {
            json!({ "name": format!("step-{n}"), "container": { "image": "docker.io/pytorch/pytorch:2.7.0",
            "resources": { "limits": { "nvidia.com/gpu": if n == 2499 { 9 } else { 1 } } },
            "env": [{ "name": "NOTES", "value": "x".repeat(1000) }] } })
        })
        .collect();
    let workflow = json!({ "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": { "name": "large" },
        "spec": { "entrypoint": "step-0", "templates": templates } });
    let mut old = workflow.clone();
    old["spec"]["templates"][2499]["container"]["resources"]["limits"]["nvidia.com/gpu"] = json!(1);
    assert!(review("team", &workflow, Some(&old)).len() > 5_000_000);
    let (_, judged) = Asked::with("").ask(&workflow, Some(&old));
    assert!(message(&judged).contains("2508 accelerators"), "{}", message(&judged));
}

proptest::proptest! {
    /// Whatever bytes come: an answer or an error, never a panic. Also what is nearly right.
    #[test]
    fn no_bytes_make_it_fall(at in 0..600_usize, byte in proptest::num::u8::ANY, cut in 0..900_usize) {
        let mut body = review("team", &pytorch(7, 8), Some(&pytorch(1, 8)));
        body[at] = byte;
        body.truncate(body.len().saturating_sub(cut));
        if let Ok(request) = read(&body) {
            let run = Run { profile: &Profile::default(), neighbours: &Neighbours::default(), now: "2026-11-24" };
            let _ = explain(&request, run).body(&request.uid);
            let _ = judge(&request, run).body(&request.uid);
        }
    }

    /// To judge is to repeat what was recorded: no clock, no state.
    #[test]
    fn the_same_request_gets_the_same_answer(workers in 0..20_u64, gpus in 0..12_u64, old in proptest::option::of(0..20_u64)) {
        let asked = Asked::with("");
        let before = old.map(|workers| pytorch(workers, gpus));
        let first = asked.ask(&pytorch(workers, gpus), before.as_ref());
        proptest::prop_assert_eq!(&first, &asked.ask(&pytorch(workers, gpus), before.as_ref()));
        // The early stage refuses what the late one refuses, and nothing else.
        proptest::prop_assert_eq!(first.0.allowed(), first.1.allowed());
        // What does not grow is not refused.
        if old.is_some_and(|old| workers <= old) {
            proptest::prop_assert!(first.1.allowed());
        }
    }
}
