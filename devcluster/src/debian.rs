//! Debian packages without installing them: downloaded with what they depend on, unpacked, kept beside the tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::image::digest;
use crate::node::is_root;
use crate::run::{self, Result};
use crate::tools;

/// The folder of a package's files, as this machine's sources have it now; without what it depends on.
///
/// # Errors
/// Where no source has it, or it cannot be downloaded.
pub fn unpacked(package: &str) -> Result<PathBuf> {
    let mut found = closure(&[package])?;
    found.retain(|one| one.name == package);
    unpack(&found)?.pop().ok_or_else(|| format!("Debian package {package} is a name for others"))
}

/// The folders of packages and of all that they depend on.
///
/// # Errors
/// Where no source has one, or it cannot be downloaded.
pub fn unpacked_all(packages: &[&str]) -> Result<Vec<PathBuf>> {
    unpack(&closure(packages)?)
}

/// One folder with the files of packages and of all that they depend on, as if they were installed, but not set up.
///
/// # Errors
/// Where no source has one, or it cannot be downloaded.
pub fn merged(packages: &[&str]) -> Result<PathBuf> {
    let all = closure(packages)?;
    let names: Vec<_> = all.iter().map(|package| &*package.file).collect();
    let digest = digest(names.join("\n").as_bytes());
    let hash = digest.trim_start_matches("sha256:").get(..12).unwrap_or_default();
    let parent = tools::cache()?.join("debian");
    let folder = parent.join(format!("merged-{}-{hash}", packages.join("-")));
    if !folder.exists() {
        let draft = parent.join(format!("draft-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::create_dir_all(&draft).map_err(run::file("create", &draft))?;
        let done = unpack(&all)?.iter().try_for_each(|from| {
            let from = from.join(".");
            run::output(Command::new("cp").args(["--archive", "--link", "--force"]).arg(from).arg(&draft), &[0])
                .map(drop)
        });
        // Another run may have been quicker: then it is there.
        if done.is_err() || fs::rename(&draft, &folder).is_err() {
            let _ = fs::remove_dir_all(&draft);
        }
        done?;
    }
    Ok(folder)
}

struct Package {
    name: String,
    /// `NAME_VERSION_ARCHITECTURE.deb`
    file: String,
}

/// The folder of each, downloaded where it is not there yet.
fn unpack(packages: &[Package]) -> Result<Vec<PathBuf>> {
    let parent = tools::cache()?.join("debian");
    let folder = |package: &Package| parent.join(package.file.trim_end_matches(".deb"));
    let missing: Vec<_> = packages.iter().filter(|package| !folder(package).exists()).collect();
    if !missing.is_empty() {
        let draft = parent.join(format!("draft-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::create_dir_all(&draft).map_err(run::file("create", &draft))?;
        let done = download(&missing, &draft).and_then(|()| {
            missing.into_iter().try_for_each(|package| {
                let files = draft.join(&package.name);
                let archive = draft.join(&package.file);
                run::output(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(&files), &[0])?;
                match fs::rename(&files, folder(package)) {
                    // Another run was quicker.
                    Err(_) if folder(package).exists() => Ok(()),
                    renamed => renamed.map_err(run::file("write", &folder(package))),
                }
            })
        });
        let _ = fs::remove_dir_all(&draft);
        done?;
    }
    Ok(packages.iter().map(folder).collect())
}

fn download(packages: &[&Package], into: &Path) -> Result<()> {
    let mut download = apt(&["download", "--quiet"]);
    download.args(packages.iter().map(|package| &package.name)).current_dir(into);
    run::output(&mut download, &[0]).map(drop)
}

/// What would be installed on a machine that has nothing.
fn closure(packages: &[&str]) -> Result<Vec<Package>> {
    let list = || {
        let nothing = ["--option", "Dir::State::status=/dev/null", "--option", "Debug::NoLocking=1"];
        let install = ["install", "--print-uris", "--yes", "--no-install-recommends"];
        run::output(&mut apt(&[&install[..], &nothing, packages].concat()), &[0])
    };
    let listed = match list() {
        // A new machine has no lists.
        Err(_) if is_root() => {
            run::output(&mut apt(&["update", "--quiet"]), &[0])?;
            list()
        }
        listed => listed,
    }?;
    // 'ADDRESS' FILE SIZE CHECKSUM
    let files = listed.lines().filter(|line| line.starts_with('\'')).filter_map(|line| line.split_whitespace().nth(1));
    Ok(files
        .map(|file| Package { name: file.split('_').next().unwrap_or_default().to_owned(), file: file.to_owned() })
        .collect())
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    // Downloads are for the one who asks, whose folders nobody else may see.
    command.args(["--option", "APT::Sandbox::User=root"]).args(arguments);
    command
}
