use bedplate_model::document::dockerfile::Dockerfile;
use bedplate_model::finding::Place;
use bedplate_model::{Finding, Purpose, Settings, Workload};

use super::{start, words};
use crate::command::{Pid1, base, pid1};
use crate::{BuildContext, Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds launchers that stand between the signal and the training: `conda run`, `torchrun`
    /// without `--shutdown-timeout`, `tini -g`, a shell with more than one command.
    ///
    /// ## Why
    /// `conda run` does not pass SIGTERM on. torchrun kills its workers 30 s after SIGTERM,
    /// whatever the grace period is. `tini -g` tells the DataLoader workers too: they die, and
    /// the save that needs them fails. A shell with two commands waits for the first.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: train}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       template:
    ///         spec:
    ///           containers:
    ///             - {name: pytorch, image: "docker.io/acme/train:1", command: [tini, --, conda, run, -n, train, python, train.py]}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: train}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       template:
    ///         spec:
    ///           containers:
    ///             - {name: pytorch, image: "docker.io/acme/train:1", command: [tini, --, /opt/conda/envs/train/bin/python, train.py]}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - conda#10351; pytorch#68258 and #119856 (`--shutdown-timeout` since torch 2.12); tini's README, `-g`.
    "launcher-swallows-signals", Image, Error, High, [Workload(workload), Dockerfile(dockerfile)]
}

fn workload(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !matches!(workload.purpose, Purpose::Training | Purpose::Serving | Purpose::Notebook) {
        return;
    }
    for (_, container) in workload.containers() {
        let command = container.field.key("command");
        let place = if command.exists() { command } else { container.field.key("args") };
        judge(&container.command_line(), (&place).into(), cx.settings, out);
    }
}

fn dockerfile(file: &Dockerfile, _: &dyn BuildContext, cx: &Context<'_>, out: &mut Findings) {
    if let Some(command) = start(file) {
        judge(&words(file), command.span().into(), cx.settings, out);
    }
}

fn judge(words: &[&str], place: Place, settings: &Settings, out: &mut Findings) {
    let Some(first) = words.first() else { return };
    if matches!(base(first), "tini" | "tini-static")
        && words.iter().take_while(|word| **word != "--").any(|word| *word == "-g")
    {
        out.push(
            Finding::new(
                place.clone(),
                "`tini -g` sends SIGTERM to the DataLoader workers too: the save that needs them fails",
            )
            .help("take `-g` away and let the program end its own children"),
        );
    }
    let first_process = pid1(words, settings);
    let line: Vec<&str> = match &first_process {
        Pid1::Init(rest) => rest.iter().map(String::as_str).collect(),
        Pid1::Exec(line) => line.split_whitespace().collect(),
        Pid1::Shell(script) => {
            out.push(
                Finding::new(place, "a shell with more than one command is in front: it keeps SIGTERM to itself")
                    .note(format!("The script is `{}`.", script.chars().take(80).collect::<String>()))
                    .help("start the last command with `exec`, or move the others to an init container"),
            );
            return;
        }
        _ => words.to_vec(),
    };
    let program = line.first().map_or("", |word| base(word));
    if matches!(program, "conda" | "mamba" | "micromamba") && line.get(1) == Some(&"run") {
        out.push(
            Finding::new(place, format!("`{program} run` does not pass SIGTERM on to the training"))
                .help("start the environment's own python: `/opt/conda/envs/NAME/bin/python`"),
        );
        return;
    }
    let torchrun = program == "torchrun"
        || line.iter().any(|word| matches!(*word, "torch.distributed.run" | "torch.distributed.launch"));
    if torchrun
        && !line.iter().any(|word| word.starts_with("--shutdown-timeout") || word.starts_with("--shutdown_timeout"))
    {
        out.push(
            Finding::new(place, "torchrun kills its workers 30 s after SIGTERM, whatever the grace period is")
                .evidence("30 s", "the grace period")
                .help("set `--shutdown-timeout` to the grace period less a few seconds (torch 2.12 and later)"),
        );
    }
}
