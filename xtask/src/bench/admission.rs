//! `cargo xtask bench admission`: what a creation costs with and without the guards, on one API server by turns.

use std::fmt::Write as _;
use std::process::{Command, ExitCode};
use std::time::Instant;

use bedplate_devcluster::run::{self, Result};
use bedplate_devcluster::{Cluster, Tier, tools};
use serde_json::json;

use super::measure::{quantile, samples};
use super::scale::{connect, metrics, runtime};

/// Rounds with and without the guards, by turns: what the machine does meanwhile falls on both.
const ROUNDS: usize = 3;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Jobs that are created in each round
    #[arg(long, default_value_t = 400)]
    jobs: usize,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // What is measured runs in the API server.
    let bedplate = run::bedplate(false)?;
    let (mut without, mut with, policies) =
        super::on_cluster(Tier::Api, &[], |cluster| measure(cluster, &bedplate, options.jobs))?;
    without.sort_by(f64::total_cmp);
    with.sort_by(f64::total_cmp);
    let mut text = format!(
        "# What a creation costs with the guards\n\nWritten by `cargo xtask bench admission`. {} Jobs with one GPU are created one after the other over one connection, \
         {ROUNDS} rounds without and {ROUNDS} with all guards in place, by turns, on one API server {} with etcd on the same 2 cores. Times in ms, as the client sees them.\n\n\
         | | p50 | p99 | mean |\n| --- | ---: | ---: | ---: |\n",
        options.jobs,
        tools::get("kubernetes")?.version,
    );
    for (name, times) in [("without", &without), ("with", &with)] {
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let _ = writeln!(text, "| {name} | {:.2} | {:.2} | {mean:.2} |", quantile(times, 0.5), quantile(times, 0.99));
    }
    let _ = writeln!(
        text,
        "| difference | {:.2} | {:.2} | |\n\n## Each policy\n\nThe API server's own `apiserver_validating_admission_policy_check_duration_seconds`, mean over every request that the policy was asked about.\n\n\
         | policy | checks | mean, ms |\n| --- | ---: | ---: |",
        quantile(&with, 0.5) - quantile(&without, 0.5),
        quantile(&with, 0.99) - quantile(&without, 0.99)
    );
    for (policy, count, mean) in policies {
        let _ = writeln!(text, "| {policy} | {count} | {mean:.3} |");
    }
    text.push_str(&costs(&bedplate)?);
    super::publish("admission", &text)
}

/// What one policy makes of one object, as `cel-cost` tells it.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cost {
    policy: String,
    object: String,
    compile_milliseconds: f64,
    matches: bool,
    match_cost: u64,
    cost: u64,
    microseconds: f64,
    #[serde(default)]
    error: String,
}

/// The API server's budgets (`k8s.io/apiserver/pkg/apis/cel/config.go`).
const BUDGETS: [u64; 2] = [2_500_000, 10_000_000];

/// The cost of each policy for small objects and for the largest that are judged, by the API server's own code.
fn costs(bedplate: &std::path::Path) -> Result<String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).map_err(run::file("write", &path))?;
        Ok::<_, String>(path)
    };
    let policies = write("policies.yaml", &run::output(Command::new(bedplate).arg("render"), &[0])?)?;
    let pod = |name: &str, containers: usize| {
        let containers: Vec<_> = (0..containers)
            .map(|n| {
                json!({ "name": format!("c{n}"), "image": "docker.io/pytorch/pytorch:2.7.0",
            "resources": { "limits": { "nvidia.com/gpu": "1" } } })
            })
            .collect();
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" }, "spec": { "containers": containers } })
    };
    let workflow = |steps: usize| {
        let templates: Vec<_> = (0..steps)
            .map(|n| json!({ "name": format!("s{n}"), "container": pod("", 1)["spec"]["containers"][0] }))
            .collect();
        json!({ "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": { "name": format!("{steps}-steps"), "namespace": "default" },
            "spec": { "templates": templates } })
    };
    let objects = [
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "small", "namespace": "default" } }),
        job("small", "default"),
        pod("small", 1),
        pod("1000-containers", 1000),
        workflow(1000),
    ];
    let objects = write("objects.yaml", &objects.map(|object| object.to_string()).join("\n---\n"))?;
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "clock" },
        "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" } });
    let params = write("params.yaml", &lease.to_string())?;
    let mut command = Command::new(tools::get("cel-cost")?.program()?);
    let lines =
        run::output(command.arg("--params").arg(params).args(["--repeat", "20"]).args([policies, objects]), &[0])?;
    let mut text = format!(
        "\n## CEL cost\n\nFor a creation, in the API server's units; it allows {} for the conditions and {} for the rest. Processor time of one judgement, and of compiling the policy, which every API server does once.\n\n\
         | policy | object | conditions | the rest | of the budget | judged in, µs | compiled in, ms |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
        BUDGETS[0], BUDGETS[1]
    );
    for line in lines.lines() {
        let cost: Cost = serde_json::from_str(line).map_err(|error| format!("cel-cost: {error}: {line}"))?;
        if !cost.error.is_empty() {
            return Err(format!("{} on {}: {}", cost.policy, cost.object, cost.error));
        }
        let rest = if cost.matches { cost.cost.to_string() } else { "not asked".to_owned() };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {rest} | {:.1} % | {:.0} | {:.0} |",
            cost.policy,
            cost.object,
            cost.match_cost,
            cost.cost as f64 / BUDGETS[1] as f64 * 100.0,
            cost.microseconds,
            cost.compile_milliseconds
        );
    }
    Ok(text)
}

fn job(name: &str, namespace: &str) -> serde_json::Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "suspend": true, "template": { "spec": { "restartPolicy": "Never", "containers": [{
            "name": "train", "image": "docker.io/pytorch/pytorch:2.7.0", "resources": { "limits": { "nvidia.com/gpu": "1" } },
        }] } } },
    })
}

/// A policy, how often it was asked, and the mean time of an answer in ms.
type Policy = (String, u64, f64);

fn measure(cluster: &Cluster, bedplate: &std::path::Path, jobs: usize) -> Result<(Vec<f64>, Vec<f64>, Vec<Policy>)> {
    let runtime = runtime()?;
    let command = |words: &[&str]| {
        run::output(Command::new(bedplate).args(words).env("KUBECONFIG", cluster.kubeconfig()), &[0]).map(drop)
    };
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..2 * ROUNDS {
        let guarded = round % 2 == 1;
        command(&[if guarded { "apply" } else { "uninstall" }])?;
        if guarded {
            command(&["apply", "--enforce"])?;
            let patch = ["patch", "stabilityprofile", "default", "--type=merge", "-p", r#"{"spec":{"modes":null}}"#];
            run::output(cluster.kubectl()?.args(patch), &[0])?;
            command(&["apply"])?;
            std::thread::sleep(std::time::Duration::from_secs(8));
        }
        let times = runtime.block_on(create(cluster, jobs, round))?;
        if guarded { with.extend(times) } else { without.extend(times) }
    }
    Ok((without, with, policies(&metrics(cluster)?)))
}

async fn create(cluster: &Cluster, jobs: usize, round: usize) -> Result<Vec<f64>> {
    let client = connect(cluster).await?;
    let mut times = Vec::with_capacity(jobs);
    for index in 0..jobs + 20 {
        let job = job(&format!("bench-{round}-{index}"), "default");
        let started = Instant::now();
        client.create(&job, false).await.map_err(|error| error.to_string())?;
        // The first ones warm up connections and caches.
        if index >= 20 {
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(times)
}

fn policies(metrics: &str) -> Vec<Policy> {
    let of = |part: &str| {
        samples(metrics, &format!("apiserver_validating_admission_policy_check_duration_seconds_{part}"), "policy")
    };
    let (sums, counts) = (of("sum"), of("count"));
    let asked = counts.into_iter().filter(|(_, count)| *count > 0.0);
    asked
        .map(|(name, count)| {
            let mean = sums.get(&name).copied().unwrap_or_default() / count * 1e3;
            (name, count as u64, mean)
        })
        .collect()
}
