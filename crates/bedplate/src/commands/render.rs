//! `bedplate render`: the objects of `apply` as text, for those who apply by other means.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bedplate_cluster::bundle::first_profile;
use bedplate_cluster::yaml;
use bedplate_guarantees::deletion::enforce::{OLDER_SERVERS, static_objects};
use bedplate_guarantees::enforce;
use bedplate_model::Profile;
use bedplate_operator::{chart, deploy};

use super::{Error, print};

/// Options of `render`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The definitions only
    #[arg(long, conflicts_with = "static_policies")]
    crds: bool,
    /// Policies for the API server's `staticManifestsDir` (Kubernetes 1.37): nobody deletes the guards through the API
    #[arg(long = "static")]
    static_policies: bool,
    /// What runs the operator: Deployment, rights, webhooks
    #[arg(long, conflicts_with_all = ["crds", "static_policies"])]
    operator: bool,
    /// The Helm chart of this version, into a folder: its files are written, others there stay
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["crds", "static_policies", "operator"])]
    helm: Option<PathBuf>,
    /// The image of the operator: one that was built with deploy/Dockerfile
    #[arg(long, value_name = "IMAGE", requires = "operator", default_value = deploy::PLACEHOLDER)]
    image: String,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    if let Some(folder) = &args.helm {
        write_all(folder, &chart::files())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.operator {
        if args.image == deploy::PLACEHOLDER {
            anstream::eprintln!(
                "note: {} is a placeholder: build an image with deploy/Dockerfile, and name it with --image",
                args.image
            );
        }
        print(&deploy::text(&args.image))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (head, objects) = if args.static_policies {
        (OLDER_SERVERS, static_objects())
    } else if args.crds {
        ("", bedplate_guarantees::definitions())
    } else {
        let mut all = bedplate_guarantees::definitions();
        all.push(first_profile(true));
        all.extend(enforce::objects(enforce::Installation::any(&Profile::default())));
        ("", all)
    };
    let texts: Vec<_> = objects.iter().map(yaml::text).collect();
    print(&format!("{head}{}", texts.join("---\n")))?;
    Ok(ExitCode::SUCCESS)
}

fn write_all(folder: &Path, files: &[(&str, String)]) -> Result<(), Error> {
    for (name, text) in files {
        let path = folder.join(name);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        written.map_err(|error| Error::Other(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}
