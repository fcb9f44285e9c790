//! `bedplate explain FILE`: what the model sees.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bedplate_guarantees::command::{Pid1, pid1};
use bedplate_model::document::{Limits, read};
use bedplate_model::workload::{ContainerRole, PodSet};
use bedplate_model::{Field, Object, Settings, Workload};

use super::{Error, print};
use crate::{files, profile};

/// Options of `explain`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Files with manifests; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The profile [default: the nearest bedplate.yaml upward from the first file]
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let mut seen = false;
    let start = args.files.first().filter(|path| path.as_os_str() != "-").map_or(Path::new("."), PathBuf::as_path);
    let loaded = profile::load(args.profile.as_deref(), start)?;
    for path in &args.files {
        let text = files::read(path)?;
        let parsed = read(&text, &Limits::DEFAULT).map_err(|_| {
            Error::Other(format!("{}: a Helm template: render it first with `helm template`", path.display()))
        })?;
        for error in &parsed.errors {
            let at = bedplate_model::LineIndex::new(&text).position(error.span.start);
            anstream::eprintln!("error: {}:{}:{}: {}", path.display(), at.line, at.column, error.message);
        }
        for document in &parsed.documents {
            for object in Object::of(document) {
                if let Some(workload) = Workload::new(&object) {
                    seen = true;
                    print(&describe(&workload, loaded.profile.settings(object.namespace())))?;
                }
            }
        }
    }
    if !seen {
        anstream::eprintln!("note: no object here holds pods");
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(workload: &Workload<'_>, settings: &Settings) -> String {
    let mut out = String::new();
    let guess = if workload.guessed() { "  (unknown kind: a guess by structure)" } else { "" };
    let _ = writeln!(out, "{}  {}{guess}", workload.object.subject(), workload.object.api_version);
    let _ = writeln!(out, "  purpose       {} ({})", workload.purpose.name(), workload.purpose_reason);
    let _ = writeln!(out, "  accelerators  {}", workload.accelerators());
    if workload.overlaps {
        let _ = writeln!(out, "  schedule      runs may overlap (concurrencyPolicy: Allow)");
    }
    let last = workload.pod_sets.len().saturating_sub(1);
    for (i, pods) in workload.pod_sets.iter().enumerate() {
        let (branch, stem) = if i == last { ("└─", "   ") } else { ("├─", "│  ") };
        let _ = writeln!(out, "  {branch} {}: {}", pods.role, pods.replicas.reckoning());
        let accelerators: Vec<_> =
            pods.accelerators_per_pod().into_iter().map(|(name, n)| format!("{n} {name}")).collect();
        if !accelerators.is_empty() {
            let _ = writeln!(out, "  {stem}  each     {}; together {}", accelerators.join(" + "), pods.accelerators());
        }
        for claim in pods.claims() {
            let name =
                claim.key("resourceClaimTemplateName").scalar().or_else(|| claim.key("resourceClaimName").scalar());
            let _ = writeln!(out, "  {stem}  claim    {}", name.unwrap_or_else(|| claim.last()));
        }
        if pods.has_pod_spec() {
            let set = pods.spec.key("terminationGracePeriodSeconds").exists();
            let _ =
                writeln!(out, "  {stem}  grace    {} s{}", pods.grace_seconds(), if set { "" } else { " (default)" });
        }
        for container in &pods.containers {
            let kind = match container.role {
                ContainerRole::Init => "init",
                ContainerRole::Sidecar => "sidecar",
                ContainerRole::Main => "main",
                ContainerRole::Ephemeral => "debug",
            };
            let image = container.image().scalar().unwrap_or_else(|| "(image of the platform)".to_owned());
            let _ = writeln!(out, "  {stem}  {kind:<8} {}  {image}", container.name());
            if container.role == ContainerRole::Main {
                let _ = writeln!(out, "  {stem}  signals  {}", signals(pods, &container.field, settings));
            }
        }
    }
    out.push('\n');
    out
}

/// The way of a SIGTERM to the work.
fn signals(pods: &PodSet<'_>, container: &Field<'_>, settings: &Settings) -> String {
    if pods.spec.key("shareProcessNamespace").bool() == Some(true) {
        return "pause is PID 1 and reaps; SIGTERM goes to the container's first process".to_owned();
    }
    let words: Vec<_> = container.key("command").strings().chain(container.key("args").strings()).collect();
    if !container.key("command").exists() {
        return "the image's ENTRYPOINT is PID 1".to_owned();
    }
    match pid1(&words, settings) {
        Pid1::Nothing => "nothing is run".to_owned(),
        Pid1::Init(init) => format!("an init is PID 1 → {}", init.command.join(" ")),
        Pid1::Shell(_) => "a shell is PID 1 and does not pass SIGTERM on".to_owned(),
        Pid1::Exec(rest) => format!("a shell becomes PID 1's program → {rest}"),
        Pid1::Program(program, _) => format!("{program} is PID 1 itself (no init)"),
    }
}
