//! `bedplate init`: a first profile, from the manifests that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bedplate_model::document::{Limits, read};
use bedplate_model::{ImageRef, Object, Settings, Workload};

use super::{Error, print};
use crate::files::{self, Kind};
use crate::profile;

/// Options of `init`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Files and folders to look at
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Print it instead of writing bedplate.yaml
    #[arg(long)]
    stdout: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let mut registries: BTreeMap<String, usize> = BTreeMap::new();
    let mut namespaces = BTreeSet::new();
    let (mut workloads, mut largest) = (0_usize, (0_u64, String::new()));
    for file in files::find(&args.paths, false).files.iter().filter(|file| file.kind == Kind::Yaml) {
        let Ok(text) = files::read(&file.path) else { continue };
        let Ok(parsed) = read(&text, &Limits::DEFAULT) else { continue };
        for document in &parsed.documents {
            for object in Object::of(document) {
                let Some(workload) = Workload::new(&object) else { continue };
                workloads += 1;
                namespaces.extend(object.namespace().map(str::to_owned));
                if workload.accelerators() > largest.0 {
                    largest = (workload.accelerators(), object.subject().to_string());
                }
                for (_, container) in workload.containers() {
                    if let Some(image) = container.image().str().and_then(ImageRef::parse) {
                        let owner = image.repository.split_once('/').map_or("", |(owner, _)| owner);
                        // On shared registries the owner is what one trusts.
                        let shared = matches!(image.registry.as_str(), "docker.io" | "ghcr.io" | "quay.io" | "gcr.io");
                        let name = if shared && !owner.is_empty() {
                            format!("{}/{owner}", image.registry)
                        } else {
                            image.registry
                        };
                        *registries.entry(name).or_default() += 1;
                    }
                }
            }
        }
    }
    let text = render(workloads, &largest, &registries, &namespaces);
    if args.stdout {
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = PathBuf::from(profile::NAME);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(|e| {
        let what = if e.kind() == std::io::ErrorKind::AlreadyExists {
            "is there already; nothing was changed (see --stdout)".to_owned()
        } else {
            e.to_string()
        };
        Error::Other(format!("{} {what}", path.display()))
    })?;
    std::io::Write::write_all(&mut file, text.as_bytes())
        .map_err(|e| Error::Other(format!("{}: {e}", path.display())))?;
    anstream::eprintln!("wrote {} from {workloads} workloads; `bedplate check` reads it from now on", path.display());
    Ok(ExitCode::SUCCESS)
}

fn render(
    workloads: usize,
    largest: &(u64, String),
    registries: &BTreeMap<String, usize>,
    namespaces: &BTreeSet<String>,
) -> String {
    let defaults = Settings::default();
    let mut out = String::new();
    let _ = writeln!(out, "# What Bedplate holds this platform to. Every line may go: `spec: {{}}` has good defaults.");
    let _ = writeln!(out, "# Written after a look at {workloads} workloads.");
    let _ =
        writeln!(out, "apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\nmetadata:\n  name: default\nspec:");
    let _ = writeln!(out, "  admission:");
    if largest.0 > 0 {
        let _ = writeln!(out, "    # The largest job here is {} with {} accelerators.", largest.1, largest.0);
    }
    let _ = writeln!(out, "    acceleratorsPerJob: {}", defaults.accelerators_per_job());
    let _ = writeln!(out, "    acceleratorsPerPod: {}", defaults.accelerators_per_pod());
    if registries.is_empty() {
        let _ = writeln!(out, "    # registries: [registry.example.com]");
    } else {
        let _ = writeln!(out, "    # Found in the manifests: take away what you do not trust.");
        let _ = writeln!(out, "    registries:");
        for (registry, count) in registries {
            let _ = writeln!(out, "      - {registry} # {count} container{}", if *count == 1 { "" } else { "s" });
        }
    }
    let _ = writeln!(
        out,
        "  training:\n    # Seconds that a training pod needs to save its state.\n    graceSeconds: {}",
        defaults.grace_seconds()
    );
    let _ = writeln!(
        out,
        "  serving:\n    # Seconds that a server needs to finish open requests.\n    drainSeconds: {}",
        defaults.drain_seconds()
    );
    let _ = writeln!(out, "  # rules:\n  #   single-replica: off");
    if let Some(namespace) = namespaces.iter().next() {
        let _ = writeln!(
            out,
            "  # namespaces:\n  #   - names: [{namespace}]\n  #     admission: {{acceleratorsPerJob: 16}}"
        );
    }
    let _ = writeln!(
        out,
        "# ---\n# apiVersion: bedplate.dev/v1alpha1\n# kind: Exemption\n# metadata: {{name: nightly}}\n# spec:\n#   rule: gpu-ceiling\n#   subject: {{kind: PyTorchJob, namespace: research, name: nightly-*}}\n#   reason: why it may, for who reads it next year\n#   expires: 2027-01-31"
    );
    out
}
