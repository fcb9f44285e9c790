//! Debian packages without installing them: downloaded with what they depend on, unpacked, kept beside the tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node::is_root;
use crate::run::{self, Result};
use crate::tools;

/// The folder of a package's files, as this machine's sources have it now; without what it depends on.
///
/// # Errors
/// Where no source has it, or it cannot be downloaded.
pub fn unpacked(package: &str) -> Result<PathBuf> {
    let found = closure(&[package])?.into_iter().find(|one| one.name == package);
    found.ok_or_else(|| format!("Debian package {package} is a name for others"))?.unpacked()
}

/// The folders of packages and of all that they depend on.
///
/// # Errors
/// Where no source has one, or it cannot be downloaded.
pub fn unpacked_all(packages: &[&str]) -> Result<Vec<PathBuf>> {
    closure(packages)?.iter().map(Package::unpacked).collect()
}

struct Package {
    name: String,
    /// `NAME_VERSION_ARCHITECTURE.deb`
    file: String,
}

impl Package {
    fn unpacked(&self) -> Result<PathBuf> {
        let parent = tools::cache()?.join("debian");
        let folder = parent.join(self.file.trim_end_matches(".deb"));
        if folder.exists() {
            return Ok(folder);
        }
        let draft = parent.join(format!("draft-{}-{}", std::process::id(), self.name));
        let files = draft.join("files");
        fs::create_dir_all(&files).map_err(run::file("create", &files))?;
        let unpacked = self.unpack(&draft, &files).and_then(|()| match fs::rename(&files, &folder) {
            // Another run was quicker.
            Err(_) if folder.exists() => Ok(()),
            renamed => renamed.map_err(run::file("write", &folder)),
        });
        let _ = fs::remove_dir_all(&draft);
        unpacked.map(|()| folder)
    }

    fn unpack(&self, draft: &Path, files: &Path) -> Result<()> {
        let mut download = apt(&["download", "--quiet", &self.name]);
        run::output(download.current_dir(draft), &[0])?;
        let archive = draft.join(&self.file);
        run::output(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(files), &[0]).map(drop)
    }
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
