//! `cargo xtask demo`: the incidents that platforms fear, on the example platform's files and on a real cluster.

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use bedplate_devcluster::run::{bedplate, root};
use bedplate_devcluster::{Cluster, Tier, cluster};

/// The demonstration's cluster; it stays up for a look round.
const NAME: &str = "demo";

/// What a tired engineer, a script or a pipeline does, and what has to be read then.
struct Incident {
    title: &'static str,
    /// Words of a `kubectl` command.
    command: &'static str,
    /// What it reads from its standard input.
    input: &'static str,
    /// What the refusal has to say.
    told: &'static str,
}

const INCIDENTS: &[Incident] = &[
    Incident {
        title: "A training job that adds up to 64 GPUs",
        command: "create -f -",
        input: include_str!("demo/too-much.yaml"),
        told: "asks for 64 accelerators, the ceiling is 8",
    },
    Incident {
        title: "An image from a registry that nobody knows",
        command: "create -f -",
        input: include_str!("demo/miner.yaml"),
        told: "is from no trusted registry",
    },
    Incident {
        title: "One command that ends every TensorFlow training of every team",
        command: "delete crd tfjobs.kubeflow.org",
        input: "",
        told: "deletes every TFJob of every namespace",
    },
    Incident {
        title: "The namespace of the production models, deleted in the wrong terminal",
        command: "delete namespace models-prod --wait=false",
        input: "",
        told: "is a production namespace",
    },
    Incident {
        title: "The guard itself, switched off to get round it",
        command: "patch stabilityprofile default --type=merge -p {\"spec\":{\"modes\":{\"deletion\":\"off\"}}}",
        input: "",
        told: "would hold less strictly",
    },
];

pub(crate) fn run() -> Result<ExitCode, String> {
    println!("building bedplate …");
    let program = bedplate(false)?;
    files(&program)?;
    live(&program)
}

/// Part one: files, without any cluster.
fn files(program: &Path) -> Result<(), String> {
    let check = |args: &[&str]| {
        let status =
            Command::new(program).arg("check").args(args).arg("examples/platform").current_dir(root()).status();
        status.map_err(|error| error.to_string())
    };
    println!("\n== In files\n$ bedplate check examples/platform\n");
    let found = check(&[])?;
    if found.code() != Some(1) {
        return Err(format!("the example platform should be full of findings, but check ended with {found}"));
    }
    let report = root().join("target/demo/report.html");
    if let Some(folder) = report.parent() {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    check(&["--quiet", "--format", "html", "--output", &report.to_string_lossy()])?;
    println!("\nThe same as a page: {}", report.display());
    Ok(())
}

/// Part two: a real API server, with Bedplate installed as a user would.
fn live(program: &Path) -> Result<ExitCode, String> {
    println!("\n== On a cluster: etcd, kube-apiserver and kube-controller-manager on this machine");
    let started = Instant::now();
    let (cluster, _) = Cluster::up(NAME, Tier::Api, &[])?;
    println!("up after {:.1} s", started.elapsed().as_secs_f64());
    prepare(&cluster)?;
    let bedplate = |words: &str| {
        println!("\n$ bedplate {words}");
        let status =
            Command::new(program).args(words.split_whitespace()).env("KUBECONFIG", cluster.kubeconfig()).status();
        status.map_err(|error| error.to_string())
    };
    if !bedplate("apply --enforce")?.success() {
        return Err("bedplate apply failed".to_owned());
    }
    let mut stopped = 0;
    for incident in INCIDENTS {
        println!("\n-- {}\n$ kubectl {}", incident.title, incident.command);
        let told = kubectl(&cluster, incident.command, incident.input)?;
        let stop = told.contains(incident.told);
        stopped += usize::from(stop);
        println!("{}\n{}", told.trim(), if stop { "=> stopped" } else { "=> NOT STOPPED" });
    }
    bedplate("impact delete namespace models-prod")?;
    let proof = bedplate("prove --quiet")?;
    println!("\n{stopped} of {} incidents stopped", INCIDENTS.len());
    println!("Look round: export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("When done:  cargo xtask cluster down --name {NAME}");
    let good = stopped == INCIDENTS.len() && proof.success();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is on the platform before: a definition of the field, a production namespace with a server in it.
fn prepare(cluster: &Cluster) -> Result<(), String> {
    let told = kubectl(cluster, "apply --server-side -f -", include_str!("demo/platform.yaml"))?;
    println!("{}", told.trim());
    Ok(())
}

fn kubectl(cluster: &Cluster, words: &str, input: &str) -> Result<String, String> {
    let mut command = cluster::kubectl(&cluster.kubeconfig())?;
    command.args(words.split_whitespace());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("kubectl: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that reads nothing may be gone already; what it says is what counts.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| format!("kubectl: {error}"))?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
