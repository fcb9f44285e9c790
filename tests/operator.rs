//! The operator beside a real API server: what users read, and what they do not notice.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bedplate_cluster::clock::now;
use bedplate_model::names;
use bedplate_operator::certificate::Pair;
use bedplate_operator::certificate::issue::Rcgen;
use bedplate_operator::certificate::rotation::Mint;
use bedplate_operator::deploy;
use bedplate_tests::replica::{self, Operator};
use bedplate_tests::{Harness, job, pytorch};
use serde_json::{Value, json};

/// Two replicas as they are deployed: with the rights of their service account, certificates of their own making that
/// live for half a minute, and webhooks that refuse when they are not answered, so that no failure stays unseen.
struct World {
    c: &'static Harness,
    replicas: [Operator; 2],
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let c = cluster();
        let kubeconfig = replica::account(c);
        let replicas = ["a", "b"]
            .map(|name| Operator::start(c, name, &kubeconfig, &["--certificate-life", "30s", "--audit-every", "4s"]));
        for mut webhooks in deploy::webhooks(&deploy::Address::Url(replicas[0].url())) {
            webhooks["webhooks"][0]["failurePolicy"] = json!("Fail");
            webhooks["webhooks"][0]["timeoutSeconds"] = json!(20);
            webhooks["webhooks"][0]["namespaceSelector"]["matchExpressions"]
                .as_array_mut()
                .unwrap()
                .push(json!({ "key": "test", "operator": "In", "values": ["shared"] }));
            c.apply(&webhooks).accepted();
        }
        let world = World { c, replicas };
        c.eventually(|| {
            world
                .replicas
                .iter()
                .all(|replica| replica.ready() && replica.get("/readyz").contains("[+] webhook-configuration"))
        });
        let ns = world.namespace("first");
        c.eventually(|| c.create(&job(&ns, "first", 64, 1)).text.contains("explain.bedplate.dev"));
        world
    })
}

impl World {
    /// Waits until it is so; where it does not come so, the replicas tell what they did.
    #[track_caller]
    fn eventually(&self, so: impl FnMut() -> bool) {
        self.c.eventually_or(so, || {
            for replica in &self.replicas {
                eprintln!("{}\n{}", replica.get("/readyz"), replica.log());
            }
        });
    }

    /// A namespace whose objects the replicas are asked about.
    fn namespace(&self, prefix: &str) -> String {
        let name = self.c.namespace(prefix);
        self.c.k(&format!("label namespace {name} test=shared")).accepted();
        name
    }
}

fn cluster() -> &'static Harness {
    Harness::get(|harness| {
        let profile = json!({
            "apiVersion": "bedplate.dev/v1alpha1", "kind": "StabilityProfile", "metadata": { "name": "default" },
            "spec": { "namespaces": [
                { "names": ["fixed-*"], "fixes": ["accelerator-request-mismatch", "ndots-trap", "grace-too-short"] },
                { "names": ["quota-*"], "admission": { "acceleratorsPerNamespace": 16 } },
            ] },
        });
        let file = harness.cluster.folder.join("bedplate.yaml");
        std::fs::write(&file, profile.to_string()).unwrap();
        harness.bedplate(&format!("apply --file {}", file.display())).accepted();
        harness.eventually(|| harness.bedplate("prove --quiet").code == 0);
        replica::install(harness);
    })
}

/// A replica of its own for a test: judged by the defaults, with a certificate from files, asked about one namespace.
struct Own {
    operator: Operator,
    namespace: String,
    /// A metric of the API server tells how often it went on without an answer.
    webhook: String,
}

fn own(c: &Harness, name: &'static str, arguments: &[&str], certificate: impl FnOnce(&Pair) -> Pair) -> Own {
    let authority = Rcgen.authority(now(), 86_400).unwrap();
    let serving = certificate(&authority);
    let folder = c.cluster.folder.clone();
    let file = |end: &str, text: &str| {
        let path = folder.join(format!("{name}{end}"));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (file(".crt", &serving.certificate), file(".key", &serving.key));
    let profile = file(".yaml", "apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\nspec: {}\n");
    let files = ["--tls-cert", &cert, "--tls-key", &key, "--profile", &profile];
    let operator = Operator::start(c, name, Path::new("/nonexistent"), &[&files[..], arguments].concat());
    let namespace = c.namespace(name);
    c.k(&format!("label namespace {namespace} test={name}")).accepted();
    c.eventually(|| !operator.get("/healthz").is_empty());
    let webhook = format!("judge.{name}.bedplate.dev");
    for mut webhooks in deploy::webhooks(&deploy::Address::Url(operator.url())) {
        webhooks["metadata"]["name"] = json!(format!("{name}.test"));
        let hook = &mut webhooks["webhooks"][0];
        hook["name"] = json!(hook["name"].as_str().unwrap().replace(".bedplate", &format!(".{name}.bedplate")));
        hook["clientConfig"]["caBundle"] = json!(base64(&authority.certificate));
        hook["namespaceSelector"] = json!({ "matchLabels": { "test": name } });
        c.apply(&webhooks).accepted();
    }
    Own { operator, namespace, webhook }
}

fn base64(text: &str) -> String {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap().as_str().unwrap().to_owned()
}

fn good(authority: &Pair) -> Pair {
    Rcgen.serving(authority, &["127.0.0.1".to_owned()], now(), now() + 3600).unwrap()
}

/// Creates, as dry runs from `clients` connections, until `done`; every second one is over the ceiling. Gives how many
/// were asked, and every answer that was not as it should be.
fn load(c: &Harness, namespace: &str, clients: usize, done: &AtomicBool) -> (usize, BTreeMap<String, usize>) {
    let one = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = bedplate_cluster::Cluster::connect(Some(&c.cluster.kubeconfig()), None).await.unwrap();
            let (mut asked, mut wrong) = (0, BTreeMap::<String, usize>::new());
            while !done.load(Ordering::Relaxed) {
                let bad = asked % 2 == 1;
                let answer = cluster.create(&job(namespace, "load", if bad { 64 } else { 1 }, 1), true).await;
                asked += 1;
                let told = answer.err().map(|error| error.to_string()).unwrap_or_default();
                if bad != told.contains("asks for 64 accelerators, the ceiling is 8") || !bad && !told.is_empty() {
                    *wrong.entry(told).or_default() += 1;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (asked, wrong)
        })
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap()).fold((0, BTreeMap::new()), |mut sum, (asked, wrong)| {
            sum.0 += asked;
            for (told, count) in wrong {
                *sum.1.entry(told).or_default() += count;
            }
            sum
        })
    })
}

/// Puts load on while `incident` happens.
fn under_load<T>(c: &Harness, namespace: &str, incident: impl FnOnce() -> T) -> (usize, BTreeMap<String, usize>, T) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load(c, namespace, 3, &done));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(incident));
        done.store(true, Ordering::Relaxed);
        let (asked, wrong) = load.join().unwrap();
        (asked, wrong, result.unwrap_or_else(|why| std::panic::resume_unwind(why)))
    })
}

#[test]
fn a_refused_user_reads_the_whole_reckoning_before_any_policy_speaks() {
    let w = world();
    let ns = w.namespace("team");
    let told =
        w.c.create(&pytorch(&ns, "big", 7, 8)).refused("this PyTorchJob asks for 64 accelerators, the ceiling is 8");
    assert!(told.contains("admission webhook \"explain.bedplate.dev\" denied the request"), "{told}");
    assert!(told.contains("Master: 1 pod x 8 nvidia.com/gpu = 8"), "{told}");
    assert!(told.contains("Worker: 7 replicas x 8 nvidia.com/gpu = 56"), "{told}");
    assert!(told.contains(&format!("Exemption of PyTorchJob {ns}/big from gpu-ceiling")), "{told}");
    // Beside a policy, not in its place.
    let elsewhere = w.c.namespace("unasked");
    let told = w.c.create(&pytorch(&elsewhere, "big", 7, 8)).refused("64 accelerators, the ceiling is 8");
    assert!(told.contains("ValidatingAdmissionPolicy 'admission.bedplate.dev' with binding"), "{told}");
}

#[test]
fn a_search_that_hides_its_template_in_a_string_is_refused_by_the_webhook_alone() {
    let w = world();
    let ns = w.namespace("team");
    let search = |parallel: u64| {
        json!({ "apiVersion": "kubeflow.org/v1alpha3", "kind": "Experiment", "metadata": { "name": "sweep", "namespace": ns },
            "spec": { "parallelTrialCount": parallel, "maxTrialCount": 100, "trialTemplate": { "goTemplate": { "rawTemplate":
                "apiVersion: batch/v1\nkind: Job\nmetadata: {name: \"{{.Trial}}\"}\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        image: docker.io/pytorch/pytorch:2.7.0\n        resources: {limits: {nvidia.com/gpu: 4}}\n" } } } })
    };
    w.c.create(&search(20)).refused("the trials of this search ask for 80 accelerators at once, the ceiling is 64");
    w.c.create(&search(2)).accepted();
}

/// A loop started fifty jobs, each of them small enough, and half of every gang waited for the other half.
#[test]
fn a_loop_of_small_jobs_is_stopped_at_the_quota_of_its_namespace() {
    let w = world();
    let ns = w.namespace("quota");
    w.eventually(|| w.replicas.iter().all(|replica| replica.get("/readyz").contains("[+] demand\n")));
    for name in ["a", "b"] {
        w.c.create(&job(&ns, name, 8, 1)).accepted();
    }
    // Each replica hears of it by itself.
    let asked = format!("bedplate_requested_accelerators{{namespace=\"{ns}\"}} 16");
    w.eventually(|| w.replicas.iter().all(|replica| replica.get("/metrics").contains(&asked)));
    let third = job(&ns, "c", 4, 1);
    let told = w.c.create(&third).refused(&format!(
        "the namespace {ns} would ask for 20 accelerators together, its quota is 16: 16 of others, 4 of this Job"
    ));
    assert!(told.contains(&format!("Job {ns}/a: 8")), "{told}");
    w.c.create(&job(&ns, "small", 1, 0)).accepted();
    w.c.k(&format!("label job a -n {ns} team=vision")).accepted();
    // What has finished leaves room.
    let ended = json!({ "status": { "startTime": "2026-01-01T00:00:00Z", "conditions": [
        { "type": "FailureTarget", "status": "True" }, { "type": "Failed", "status": "True" }] } });
    let patch = ["patch", "job", "a", "-n", &ns, "--subresource=status", "--type=merge", "-p", &ended.to_string()];
    w.c.kubectl(&patch, "").accepted();
    w.eventually(|| w.c.create(&third).code == 0);
}

/// Pods that nobody's job had made took every GPU of a team, and its quota knew of none of them.
#[test]
fn pods_that_no_workload_made_count_against_the_quota_too() {
    let w = world();
    let ns = w.namespace("quota");
    let pod = |name: &str| {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": ns }, "spec": { "containers": [{
            "name": "a", "image": "docker.io/library/python:3.13", "resources": { "limits": { "nvidia.com/gpu": "8" } } }] } })
    };
    for name in ["a", "b"] {
        w.c.create(&pod(name)).accepted();
    }
    let asked = format!("bedplate_requested_accelerators{{namespace=\"{ns}\"}} 16");
    w.eventually(|| w.replicas.iter().all(|replica| replica.get("/metrics").contains(&asked)));
    let third = job(&ns, "c", 4, 1);
    let told = w.c.create(&third).refused(&format!("the namespace {ns} would ask for 20 accelerators together"));
    assert!(told.contains(&format!("Pod {ns}/a: 8")), "{told}");
    w.c.k(&format!("delete pod a -n {ns} --grace-period=0 --force")).accepted();
    w.eventually(|| w.c.create(&third).code == 0);
}

#[test]
fn who_is_not_refused_is_warned_with_the_fix() {
    let w = world();
    let ns = w.namespace("team");
    let told = w.c.create(&job(&ns, "kept", 1, 1)).accepted();
    assert!(told.contains("Warning: finished-jobs-kept:") && told.contains("ttlSecondsAfterFinished"), "{told}");
    let told = w.c.k(&format!("label job kept -n {ns} team=vision")).accepted();
    assert!(!told.contains("Warning"), "what was there before is not told again: {told}");
}

#[test]
fn a_fix_is_made_where_the_profile_asks_for_it_and_nowhere_else() {
    let w = world();
    let pod = |ns: &str| {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": ns }, "spec": { "containers": [{
            "name": "a", "image": "docker.io/library/python:3.13", "resources": { "requests": { "nvidia.com/gpu": "1" } } }] } })
    };
    w.c.create(&pod(&w.namespace("team"))).refused("Limit must be set for non overcommitable resources");
    let ns = w.namespace("fixed");
    let told = w.c.create(&pod(&ns)).accepted();
    assert!(told.contains("done for you: set the limit to the same number"), "{told}");
    let limit =
        w.c.k(&format!(r"get pod p -n {ns} -o jsonpath={{.spec.containers[0].resources.limits.nvidia\.com/gpu}}"));
    assert_eq!(limit.accepted().trim(), "1");

    // A job from before the webhook was there is started by its queue: its template must not change any more.
    let late = w.c.namespace("fixed");
    let train = |name: &str| {
        let mut train = job(&late, name, 1, 1);
        train["spec"]["suspend"] = json!(true);
        train["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{ "name": "DATA", "value": "https://s3.eu-west-1.amazonaws.com" }]);
        train
    };
    w.c.create(&train("before")).accepted();
    w.c.k(&format!("label namespace {late} test=shared")).accepted();
    w.c.k(&format!("patch job before -n {late} --type merge -p {{\"spec\":{{\"suspend\":false}}}}")).accepted();
    let told = w.c.create(&train("after")).accepted();
    assert!(told.contains("ndots-trap: done for you") && told.contains("grace-too-short: done for you"), "{told}");
    let spec = w.c.k(&format!("get job after -n {late} -o jsonpath={{.spec.template.spec}}")).accepted();
    assert!(spec.contains("\"ndots\",\"value\":\"2\"") && spec.contains("GracePeriodSeconds\":300"), "{spec}");
}

/// A drained node cost a training its last save: 95 seconds, in a pod with the grace that somebody once found enough. And the
/// disk was full since Friday, which only the pod's log told.
#[test]
fn a_training_that_tells_of_its_checkpoints_gets_the_grace_that_its_saves_take() {
    let w = world();
    let ns = w.namespace("fixed");
    w.c.create(&pytorch(&ns, "llama", 1, 2)).accepted();
    let uid = w.c.k(&format!("get pytorchjob llama -n {ns} -o jsonpath={{.metadata.uid}}")).accepted();
    // As Kubeflow's operator makes it.
    let pod = |name: &str| {
        json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": ns, "labels": { "training.kubeflow.org/job-name": "llama" },
                "ownerReferences": [{ "apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "name": "llama", "uid": uid.trim(), "controller": true }] },
            "spec": { "terminationGracePeriodSeconds": 60, "containers": [{ "name": "pytorch", "image": "docker.io/pytorch/pytorch:2.7.0",
                "resources": { "limits": { "nvidia.com/gpu": 2 } } }] } })
    };
    let grace = |name: &str| {
        w.c.k(&format!("get pod {name} -n {ns} -o jsonpath={{.spec.terminationGracePeriodSeconds}}")).accepted()
    };
    w.c.create(&pod("llama-master-0")).accepted();
    assert_eq!(grace("llama-master-0").trim(), "300", "nobody has told of a save yet: the profile's number");
    let uid = w.c.k(&format!("get pod llama-master-0 -n {ns} -o jsonpath={{.metadata.uid}}")).accepted();

    // What the Python package sends, with the rights of the pod.
    let report = json!({ "apiVersion": names::API_VERSION, "kind": "CheckpointReport",
        "metadata": { "name": "llama-master-0", "namespace": ns,
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "llama-master-0", "uid": uid.trim() }] },
        "spec": { "run": "llama", "place": "/mnt/ckpt/llama", "startedAt": "2026-01-01T00:00:00Z", "step": 1200,
            "savedAt": "2026-01-01T08:00:00Z", "stateBytes": 80_000_000_000_u64, "saveSeconds": 290.0, "pods": 2 } });
    let as_pod = |verb: &[&str], input: &Value| {
        let user = format!("--as=system:serviceaccount:{ns}:default");
        let groups = [format!("--as-group=system:serviceaccounts:{ns}"), "--as-group=system:authenticated".to_owned()];
        w.c.kubectl(&[verb, &[&user, &groups[0], &groups[1]]].concat(), &input.to_string())
    };
    let send = ["apply", "--server-side", "--field-manager=bedplate-guard", "-f", "-"];
    as_pod(&send, &report).refused("cannot patch resource \"checkpointreports\"");
    w.c.k(&format!(
        "create rolebinding bedplate-checkpoint-reporter --namespace={ns} --clusterrole=bedplate-checkpoint-reporter \
         --group=system:serviceaccounts:{ns}"
    ))
    .accepted();
    w.eventually(|| as_pod(&send, &report).code == 0);
    as_pod(&["delete", "checkpointreport", "llama-master-0", "-n", &ns], &json!({})).refused("cannot delete");
    as_pod(&["get", "pods", "-n", &ns], &json!({})).refused("cannot list");
    let told = w.c.k(&format!("get checkpointreports -n {ns}")).accepted();
    assert!(told.contains("llama") && told.contains("1200") && told.contains("/mnt/ckpt/llama"), "{told}");

    // The next pod of the job, on another node; each replica hears of it by itself.
    w.eventually(|| {
        w.c.k(&format!("delete pod llama-worker-0 -n {ns} --ignore-not-found --force --grace-period=0")).accepted();
        w.c.create(&pod("llama-worker-0")).accepted();
        grace("llama-worker-0").trim() == "367"
    });
    let found = w.c.bedplate(&format!("audit --namespace {ns}")).text;
    assert!(found.contains("save-exceeds-grace") && found.contains("takes 290 s"), "{found}");
    assert!(found.contains("checkpoint-at-risk") && found.contains("(4 of them)"), "{found}");

    // It goes with its pod.
    w.c.k(&format!("delete pod llama-master-0 -n {ns} --force --grace-period=0")).accepted();
    w.eventually(|| w.c.k(&format!("get checkpointreports -n {ns}")).text.contains("No resources found"));
}

#[test]
fn an_exemption_holds_for_the_policies_too_without_anybody_applying_it() {
    let w = world();
    let ns = w.namespace("team");
    let exempt = |kind: &str, name: &str| {
        json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": "Exemption", "metadata": { "name": format!("{ns}-{name}") }, "spec": {
            "rule": "gpu-ceiling", "subject": { "kind": kind, "namespace": ns, "name": name }, "reason": "the yearly run",
            "expires": "2999-01-01" } })
    };
    w.c.create(&job(&ns, "yearly", 64, 1)).refused("64 accelerators");
    w.c.create(&exempt("Job", "yearly")).accepted();
    // What has it written in, since it cannot read it, is written anew.
    w.c.create(&exempt("Deployment", "scaled-once-a-year")).accepted();
    w.eventually(|| {
        w.c.k("get validatingadmissionpolicy scale.deployments.apps.bedplate.dev -o yaml")
            .text
            .contains("scaled-once-a-year")
    });
    w.eventually(|| w.c.create(&job(&ns, "yearly", 64, 1)).code == 0);
    w.c.create(&job(&ns, "other", 64, 1)).refused("64 accelerators");
}

/// Trials did not start, and the search's page said nothing.
#[test]
fn a_refusal_that_a_controller_got_stands_at_what_it_works_for() {
    let w = world();
    let ns = w.namespace("team");
    let mut trial = job(&ns, "trial-1", 64, 1);
    trial["metadata"]["ownerReferences"] = json!([{ "apiVersion": "batch/v1", "kind": "CronJob", "name": "sweep",
        "uid": "6a3a1f30-0000-4000-8000-000000000001", "controller": true }]);
    w.c.create(&trial).refused("64 accelerators");
    w.c.create(&job(&ns, "by-hand", 64, 1)).refused("64 accelerators");
    let events = || {
        let path = "{range .items[?(@.reason=='Refused')]}{.involvedObject.kind} {.involvedObject.name} {.type} {.message}{'\\n'}{end}";
        w.c.kubectl(&["get", "events", "-n", &ns, "-o", &format!("jsonpath={path}")], "").text
    };
    w.eventually(|| {
        let told = events();
        ["CronJob sweep Warning Job trial-1 of ", &format!("Namespace {ns} Warning Job by-hand of ")].iter().all(
            |words| {
                told.lines().any(|line| {
                    line.starts_with(words) && line.contains("was refused: this Job asks for 64 accelerators")
                })
            },
        )
    });
}

/// A debugging session ended with `validationActions: [Audit]`, and nobody noticed for a month.
#[test]
fn a_guard_that_somebody_weakens_is_put_back_and_they_are_named() {
    let w = world();
    let actions = || {
        let path = "{.spec.validationActions}";
        w.c.k(&format!("get validatingadmissionpolicybinding scale.statefulsets.apps.bedplate.dev -o jsonpath={path}"))
            .accepted()
    };
    // One that no other test rests on.
    let (kind, name) = ("validatingadmissionpolicybinding", "scale.statefulsets.apps.bedplate.dev");
    let leader = w.replicas.iter().find(|replica| replica.leads()).unwrap();
    w.eventually(|| leader.get("/readyz").contains("[+] guards"));
    let was = actions();
    let change = |patch: &str| w.c.kubectl(&["patch", kind, name, "--type=merge", "-p", patch], "").accepted();
    change("{\"spec\":{\"validationActions\":[\"Audit\"]}}");
    w.eventually(|| actions() == was);
    change("{\"spec\":{\"paramRef\":{\"parameterNotFoundAction\":\"Deny\"}}}");
    let words =
        "ValidatingAdmissionPolicyBinding scale.statefulsets.apps.bedplate.dev was changed by kubectl-patch at ";
    w.eventually(|| w.c.k("get events -n default -o json").text.contains(words));
    assert!(leader.get("/metrics").contains("bedplate_guard_repairs_total{reason=\"Changed\"}"));

    // Taken away altogether: by whom, the API server's audit log tells.
    w.c.k("delete validatingadmissionpolicy unlock.bedplate.dev").accepted();
    w.eventually(|| w.c.k("get validatingadmissionpolicy unlock.bedplate.dev").code == 0);
    // When all is in order, nothing is written.
    let version = || {
        w.c.k("get validatingadmissionpolicies,validatingadmissionpolicybindings -o jsonpath={.items[*].metadata.generation}").accepted()
    };
    let before = version();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(version(), before);
}

/// A dashboard showed what was forbidden; nobody saw what was already there.
#[test]
fn what_is_wrong_in_the_cluster_stands_in_reports_in_the_status_and_in_metrics() {
    let w = world();
    let reports = bedplate_devcluster::definitions::of_reports().unwrap();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": reports });
    w.c.kubectl(&["create", "-f", "-"], &list.to_string()).accepted();
    // No webhook is asked about it, and this policy only warns there.
    let ns = w.c.namespace("reported");
    w.c.create(&job(&ns, "kept-for-ever", 1, 1)).accepted();
    let report = |kind: &str| {
        let answer = w.c.k(&format!("get {kind} bedplate -n {ns} -o json"));
        serde_json::from_str::<Value>(&answer.text).unwrap_or_default()
    };
    let line = |report: &Value| {
        let results = report["results"].as_array().cloned().unwrap_or_default();
        results.into_iter().find(|line| line["policy"] == "finished-jobs-kept")
    };
    w.eventually(|| line(&report("reports.openreports.io")).is_some());
    let made = report("reports.openreports.io");
    assert_eq!(line(&made).unwrap()["resources"][0]["name"], "kept-for-ever");
    let count = |key: &str| made["summary"][key].as_u64().unwrap();
    assert_eq!((count("fail") + count("warn")) as usize, made["results"].as_array().unwrap().len(), "{made}");
    // The same again is not written again.
    let leader = w.replicas.iter().find(|replica| replica.leads()).unwrap();
    let audits = || leader.log().matches("\"audited\"").count();
    let before = audits();
    w.eventually(|| audits() > before + 1);
    assert_eq!(report("reports.openreports.io")["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);

    // The profile tells of each guarantee what is wanted, what holds, what is there, and what was shown.
    let standing = |guarantee: &str| {
        let path = format!("get stabilityprofile default -o jsonpath={{.status.guarantees.{guarantee}}}");
        serde_json::from_str::<Value>(&w.c.k(&path).text).unwrap_or_default()
    };
    w.eventually(|| standing("admission")["observed"]["warnings"].as_u64() > Some(0));
    assert_eq!(standing("admission")["enforced"]["status"], "True");
    assert_eq!(standing("fairness")["enforced"]["status"], "False");
    w.c.bedplate("prove admission --quiet").accepted();
    let proven = standing("admission");
    assert_eq!(proven["proven"]["status"], "True");
    assert!(proven["proven"]["refused"].as_u64() > Some(50), "{proven}");
    assert!(leader.get("/metrics").contains("bedplate_findings{guarantee=\"admission\",severity=\"warning\"}"));

    // Somebody takes the reports away: those of the older form are written, and nothing fails.
    let names = "reports.openreports.io clusterreports.openreports.io";
    w.c.k(&format!("delete crd {names}")).accepted();
    w.eventually(|| line(&report("policyreports.wgpolicyk8s.io")).is_some());
    assert!(leader.get("/readyz").contains("[+] audit"), "{}", leader.get("/readyz"));
    // What is mended is reported no more.
    w.c.k(&format!("delete job kept-for-ever -n {ns}")).accepted();
    w.eventually(|| line(&report("policyreports.wgpolicyk8s.io")).is_none());
}

/// Who let the namespace go was asked a week later, when the Events of that night were gone.
#[test]
fn who_unlocked_what_and_what_was_refused_is_on_record() {
    let w = world();
    let ns = w.namespace("recorded");
    w.c.create(&job(&ns, "too-big", 64, 1)).refused("64 accelerators");
    w.c.k(&format!("annotate namespace {ns} bedplate.dev/delete-protection=true")).accepted();
    w.c.bedplate(&format!("unlock namespace {ns} --reason moved-away")).accepted();
    // By hand too, in the words that the guards ask for.
    let other = w.namespace("recorded");
    w.c.k(&format!("annotate namespace {other} bedplate.dev/delete-protection=true")).accepted();
    let until = bedplate_model::moment::timestamp(now() + 600);
    let unlock = format!("bedplate.dev/unlock={other} until {until} by bedplate-devcluster-admin: no reason");
    w.c.kubectl(&["annotate", "namespace", &other, &unlock], "").accepted();
    let exemption = json!({ "apiVersion": "bedplate.dev/v1alpha1", "kind": "Exemption", "metadata": { "name": ns.clone() },
        "spec": { "rule": "gpu-ceiling", "subject": { "name": ns.clone() }, "reason": "the paper", "expires": "2999-01-01" } });
    w.c.create(&exemption).accepted();
    let trail = |text: &str| w.c.bedplate(&format!("trail {text}")).accepted();
    w.eventually(|| trail(&ns).contains("this Job asks for 64 accelerators, the ceiling is 8"));
    w.eventually(|| trail(&other).contains("unlocked") && trail(&ns).contains("exempted"));
    w.c.k(&format!("delete exemption {ns}")).accepted();
    w.eventually(|| trail(&ns).contains("exemption-removed"));
    let told = trail(&ns);
    assert!(told.contains(&format!("Job {ns}/too-big, by ")), "{told}");
    assert!(trail(&other).contains(", by bedplate-devcluster-admin"), "{}", trail(&other));
    // The operator saw the unlock of the command line too: it is on record once.
    assert_eq!(trail("moved-away").matches("Namespace").count(), 1, "{}", trail("moved-away"));
}

/// Certificates that live for half a minute, an authority for two: whole lives go by under load.
#[test]
fn certificates_and_their_authority_are_rotated_and_nobody_notices() {
    let w = world();
    let ns = w.namespace("load");
    // The authority and the serving certificate.
    let held = || -> (String, String) {
        let secret = w.c.k(&format!("get secret {} -n {} -o json", deploy::SECRET, names::NAMESPACE)).accepted();
        let secret: Value = serde_json::from_str(&secret).unwrap();
        let text = |key: &str| secret["data"][key].as_str().unwrap_or_default().to_owned();
        (text("ca.crt"), text("tls.crt"))
    };
    let before = held().0;
    let (asked, wrong, seen) = under_load(w.c, &ns, || {
        let (started, mut seen, mut switched) = (Instant::now(), vec![held().1], None);
        // And a while under the new authority, until the old one is forgotten.
        while switched.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(15)) {
            assert!(started.elapsed() < Duration::from_secs(300), "no other authority after five minutes");
            std::thread::sleep(Duration::from_millis(500));
            let (authority, serving) = held();
            if seen.last() != Some(&serving) {
                seen.push(serving);
            }
            if authority != before {
                switched.get_or_insert_with(Instant::now);
            }
        }
        seen.len()
    });
    println!("{asked} requests, {seen} serving certificates");
    assert_eq!(wrong, BTreeMap::new(), "of {asked} requests");
    assert!(asked > 200 && seen >= 3, "{asked} requests, {seen} certificates");
    // Both replicas show what the Secret says.
    for replica in &w.replicas {
        assert!(replica.ready(), "{}", replica.get("/readyz"));
    }
}

#[test]
fn two_replicas_have_one_leader_and_the_other_takes_over() {
    let c = cluster();
    let ns = c.namespace("election");
    let authority = Rcgen.authority(now(), 86_400).unwrap();
    let serving = good(&authority);
    let file = |end: &str, text: &str| {
        let path = c.cluster.folder.join(format!("election{end}"));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (file(".crt", &serving.certificate), file(".key", &serving.key));
    let start = |name: &'static str| {
        let arguments = ["--tls-cert", &cert, "--tls-key", &key, "--namespace", &ns, "--drain", "0s"];
        Operator::start(c, name, &c.cluster.kubeconfig(), &arguments)
    };
    let mut replicas = vec![start("one"), start("two")];
    let leader = |replicas: &[Operator]| {
        let mut found = None;
        c.eventually(|| {
            let leaders: Vec<_> = (0..replicas.len()).filter(|n| replicas[*n].leads()).collect();
            assert!(leaders.len() <= 1, "two leaders");
            found = leaders.first().copied();
            found.is_some() && replicas.iter().all(Operator::ready)
        });
        found.unwrap()
    };
    // Told to stop, it hands over.
    let mut first = replicas.remove(leader(&replicas));
    first.signal("TERM");
    assert_eq!(first.end(), Some(0), "{}", first.log());
    let started = Instant::now();
    leader(&replicas);
    println!("taken over {:.1} s after the leader stepped down", started.elapsed().as_secs_f32());
    // Killed, the other waits until its lease is over.
    replicas.push(start("three"));
    c.eventually(|| replicas[1].ready());
    replicas.remove(leader(&replicas)).signal("KILL");
    let started = Instant::now();
    leader(&replicas);
    println!("taken over {:.1} s after the leader was killed", started.elapsed().as_secs_f32());
    let lease = c.k(&format!(
        "get lease {} -n {ns} -o jsonpath={{.spec.holderIdentity}}/{{.spec.leaseTransitions}}",
        deploy::LEASE
    ));
    let lease = lease.accepted();
    assert!(lease.ends_with("/2"), "{lease}");
}

/// The node of the webhook lost power.
#[test]
fn a_webhook_that_is_killed_lets_nothing_through_and_locks_nobody_out() {
    let c = cluster();
    let mut own = own(c, "killed", &[], good);
    let ns = own.namespace.clone();
    c.eventually(|| c.create(&job(&ns, "x", 64, 1)).text.contains("explain.killed.bedplate.dev"));
    let (asked, wrong, ()) = under_load(c, &ns, || {
        std::thread::sleep(Duration::from_secs(2));
        own.operator.signal("KILL");
        own.operator.end();
        std::thread::sleep(Duration::from_secs(5));
    });
    assert_eq!(wrong, BTreeMap::new(), "of {asked} requests");
    let told = c.create(&job(&ns, "x", 64, 1)).refused("64 accelerators, the ceiling is 8");
    assert!(told.contains("ValidatingAdmissionPolicy"), "{told}");
    c.create(&job(&ns, "fits", 1, 1)).accepted();
    let metrics = c.k("get --raw /metrics").accepted();
    let open = metrics
        .lines()
        .any(|line| line.starts_with("apiserver_admission_webhook_fail_open_count") && line.contains(&own.webhook));
    assert!(open, "the API server went on without it");
}

/// A rollout of the operator itself.
#[test]
fn a_webhook_that_is_told_to_stop_answers_what_was_asked() {
    let c = cluster();
    let mut own = own(c, "stopped", &["--drain", "2s"], good);
    let ns = own.namespace.clone();
    c.eventually(|| c.create(&job(&ns, "x", 64, 1)).text.contains("explain.stopped.bedplate.dev"));
    let (asked, wrong, unready) = under_load(c, &ns, || {
        std::thread::sleep(Duration::from_secs(1));
        own.operator.signal("TERM");
        // First it says so, while it still answers.
        let unready = (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            own.operator.get("/readyz").contains("[-] stopping")
        });
        assert_eq!(own.operator.end(), Some(0), "{}", own.operator.log());
        unready
    });
    assert!(unready, "readyz fails first");
    assert_eq!(wrong, BTreeMap::new(), "of {asked} requests");
    assert!(own.operator.log().contains("\"cut\":0"), "{}", own.operator.log());
    // A second signal does not wait.
    let mut hurried = Operator::start(
        c,
        "hurried",
        Path::new("/nonexistent"),
        &[
            "--tls-cert",
            &c.cluster.folder.join("stopped.crt").display().to_string(),
            "--tls-key",
            &c.cluster.folder.join("stopped.key").display().to_string(),
            "--profile",
            &c.cluster.folder.join("stopped.yaml").display().to_string(),
            "--drain",
            "10m",
        ],
    );
    c.eventually(|| hurried.ready());
    hurried.signal("TERM");
    c.eventually(|| !hurried.ready());
    hurried.signal("TERM");
    assert_eq!(hurried.end(), Some(1));
}

/// Nobody looked after the files, and the day came.
#[test]
fn a_certificate_that_has_ended_is_told_by_readyz_and_costs_nobody_a_job() {
    let c = cluster();
    let own = own(c, "expired", &[], |authority| {
        Rcgen.serving(authority, &["127.0.0.1".to_owned()], now() - 1000, now() - 10).unwrap()
    });
    c.eventually(|| own.operator.get("/readyz").contains("the certificate was valid until"));
    assert!(own.operator.get("/readyz").starts_with("HTTP/1.1 503"));
    let ns = &own.namespace;
    c.create(&job(ns, "fits", 1, 1)).accepted();
    c.create(&job(ns, "big", 64, 1)).refused("ValidatingAdmissionPolicy");
    // A new one in the same files is taken without a restart.
    let authority = Rcgen.authority(now(), 86_400).unwrap();
    let serving = good(&authority);
    std::fs::write(c.cluster.folder.join("expired.crt"), &serving.certificate).unwrap();
    std::fs::write(c.cluster.folder.join("expired.key"), &serving.key).unwrap();
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        let bundle = json!([{ "op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": base64(&authority.certificate) }]);
        c.kubectl(&["patch", kind, "expired.test", "--type=json", "-p", &bundle.to_string()], "").accepted();
    }
    c.eventually(|| own.operator.ready());
    c.eventually(|| c.create(&job(ns, "big", 64, 1)).text.contains("explain.expired.bedplate.dev"));
}

/// What the operator costs when nobody asks it anything, and that it is small.
#[test]
fn a_replica_is_small_and_says_how_it_is() {
    let w = world();
    let metrics = w.replicas[0].get("/metrics");
    for name in [
        "bedplate_admission_requests_total{stage=\"mutate\"",
        "bedplate_certificate_not_after_timestamp_seconds",
        "# EOF",
    ] {
        assert!(metrics.contains(name), "{name} is not in {metrics}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", w.replicas[0].child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    println!("a replica (debug build) after its part of these tests: {line}");
    let decisions = w.replicas[0].log();
    let decision = decisions
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["outcome"] == "refused");
    let decision = decision.unwrap();
    assert!(
        decision["rules"] == "gpu-ceiling" && decision["micros"].is_u64() && decision["user"].is_string(),
        "{decision}"
    );
}
