//! Container images from files, static programs, Debian and PyPI packages: an OCI archive that `ctr images import`
//! reads, or blobs for a registry.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::debian;
use crate::run::{self, Result};
use crate::tools;

/// The media type of an image's manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What an image is made of.
pub(crate) struct Blobs {
    pub(crate) manifest: Blob,
    pub(crate) config: Blob,
    pub(crate) layer: Blob,
}

/// Bytes and their digest, `sha256:…`.
pub(crate) struct Blob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: String,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: digest(&bytes), bytes }
    }

    fn descriptor(&self, kind: &str) -> Value {
        json!({ "mediaType": kind, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// An image of one layer.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its files: a path without a leading `/`, its mode, its content.
    pub files: Vec<(String, u32, Vec<u8>)>,
    /// Symbolic links: a path and where it leads.
    pub links: Vec<(String, String)>,
    /// What it runs.
    pub command: Vec<String>,
    /// The environment of what it runs, as `NAME=VALUE`.
    pub environment: Vec<String>,
    /// What a pod's `args` are arguments of.
    pub entrypoint: Vec<String>,
    /// The user that it runs as, where it is not root.
    pub user: Option<String>,
}

impl Image {
    /// A static busybox with a link for each program that it is. It sleeps, unless it is told otherwise: so it serves
    /// as the first container of a pod, too.
    ///
    /// # Errors
    /// Where the program cannot be read or does not list what it is.
    pub fn busybox(program: &Path) -> Result<Self> {
        let bytes = std::fs::read(program).map_err(run::file("read", program))?;
        let list = run::output(std::process::Command::new(program).arg("--list"), &[0])?;
        let links = list.lines().filter(|name| *name != "busybox");
        Ok(Self {
            files: vec![
                ("bin/busybox".to_owned(), 0o755, bytes),
                ("etc/passwd".to_owned(), 0o644, b"root:x:0:0:root:/:/bin/sh\n".to_vec()),
            ],
            links: links.map(|name| (format!("bin/{name}"), "busybox".to_owned())).collect(),
            command: vec!["/bin/sleep".to_owned(), "2000000000".to_owned()],
            environment: vec!["PATH=/bin".to_owned()],
            ..Self::default()
        })
    }

    /// The files of Debian packages and of all that they depend on, unpacked but not set up.
    ///
    /// # Errors
    /// Where no source has a package.
    pub fn debian(packages: &[&str]) -> Result<Self> {
        let mut image = Self { environment: vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()], ..Self::default() };
        for folder in debian::unpacked_all(packages)? {
            image.add_folder(&folder, "")?;
        }
        Ok(image)
    }

    /// Adds a wheel from PyPI, without what it depends on, where Debian's Python finds it.
    ///
    /// # Errors
    /// Where there is no such wheel.
    pub fn add_wheel(&mut self, package: &str, version: &str) -> Result<()> {
        let parent = tools::cache()?.join("wheels");
        let folder = parent.join(format!("{package}-{version}"));
        if !folder.exists() {
            let draft = parent.join(format!("draft-{}-{package}", std::process::id()));
            let mut install = Command::new("python3");
            install.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:"]);
            install.arg("--target").arg(&draft).arg(format!("{package}=={version}"));
            run::output(&mut install, &[0])?;
            // Another run may have been quicker: then it is there.
            if std::fs::rename(&draft, &folder).is_err() {
                let _ = std::fs::remove_dir_all(&draft);
            }
        }
        self.add_folder(&folder, "usr/lib/python3/dist-packages/")
    }

    /// Adds what is in a folder, below a path that is empty or ends with `/`.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn add_folder(&mut self, folder: &Path, below: &str) -> Result<()> {
        for entry in std::fs::read_dir(folder).map_err(run::file("read", folder))? {
            let path = entry.map_err(run::file("read", folder))?.path();
            let metadata = path.symlink_metadata().map_err(run::file("read", &path))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let place = format!("{below}{name}");
            if metadata.is_symlink() {
                let target = std::fs::read_link(&path).map_err(run::file("read", &path))?;
                self.links.push((place, target.to_string_lossy().into_owned()));
            } else if metadata.is_dir() {
                self.add_folder(&path, &format!("{place}/"))?;
            } else {
                let bytes = std::fs::read(&path).map_err(run::file("read", &path))?;
                self.files.push((place, metadata.permissions().mode() & 0o7777, bytes));
            }
        }
        Ok(())
    }

    /// What a registry keeps of it.
    ///
    /// # Errors
    /// Where a path is too long for an archive.
    pub(crate) fn blobs(&self) -> Result<Blobs> {
        let failed = |path: &str, error: std::io::Error| format!("image: {path}: {error}");
        let mut layer = tar::Builder::new(Vec::new());
        for (path, mode, bytes) in &self.files {
            add(&mut layer, path, *mode, bytes)?;
        }
        for (path, target) in &self.links {
            let mut header = header(0o777, 0);
            header.set_entry_type(tar::EntryType::Symlink);
            layer.append_link(&mut header, path, target).map_err(|error| failed(path, error))?;
        }
        let layer = Blob::new(layer.into_inner().map_err(|error| failed("its layer", error))?);
        // Go's names of architectures.
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Entrypoint": self.entrypoint, "Cmd": self.command, "Env": self.environment, "User": self.user.as_deref().unwrap_or_default() },
            // Not compressed: what is digested is what is unpacked.
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        });
        let config = Blob::new(config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": [layer.descriptor(LAYER)],
        });
        Ok(Blobs { manifest: Blob::new(manifest.to_string().into_bytes()), config, layer })
    }

    /// The archive; containerd will know the image as `name`, such as `docker.io/local/busybox:1`.
    ///
    /// # Errors
    /// Where a path is too long for an archive.
    pub fn archive(&self, name: &str) -> Result<Vec<u8>> {
        let blobs = self.blobs()?;
        let mut entry = blobs.manifest.descriptor(MANIFEST);
        entry["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry],
        });
        let mut archive = tar::Builder::new(Vec::new());
        add(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        add(&mut archive, "index.json", 0o644, index.to_string().as_bytes())?;
        for blob in [&blobs.config, &blobs.manifest, &blobs.layer] {
            add(&mut archive, &format!("blobs/{}", blob.digest.replace(':', "/")), 0o644, &blob.bytes)?;
        }
        archive.into_inner().map_err(|error| format!("image {name}: {error}"))
    }
}

fn header(mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn add(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    archive.append_data(&mut header(mode, bytes.len()), path, bytes).map_err(|error| format!("{path}: {error}"))
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_names_its_image_and_the_digests_are_those_of_its_blobs() {
        let image = Image { files: vec![("bin/true".to_owned(), 0o755, b"program".to_vec())], ..Image::default() };
        let bytes = image.archive("docker.io/local/test:1").unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut blobs = 0;
        let mut index = Value::Null;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest(&content), format!("sha256:{hex}"));
                blobs += 1;
            } else if path == "index.json" {
                index = serde_json::from_slice(&content).unwrap();
            }
        }
        assert_eq!(blobs, 3);
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "docker.io/local/test:1");
    }
}
