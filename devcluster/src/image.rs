//! Container images from files, without a registry: an OCI archive that `ctr images import` reads.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::run::{self, Result};

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
            user: None,
        })
    }

    /// The archive; containerd will know the image as `name`, such as `docker.io/local/busybox:1`.
    ///
    /// # Errors
    /// Where a path is too long for an archive.
    pub fn archive(&self, name: &str) -> Result<Vec<u8>> {
        let mut layer = tar::Builder::new(Vec::new());
        for (path, mode, bytes) in &self.files {
            add(&mut layer, path, *mode, bytes)?;
        }
        for (path, target) in &self.links {
            let mut header = header(0o777, 0);
            header.set_entry_type(tar::EntryType::Symlink);
            layer.append_link(&mut header, path, target).map_err(|error| format!("image {name}: {path}: {error}"))?;
        }
        let layer = layer.into_inner().map_err(|error| format!("image {name}: {error}"))?;
        // Go's names of architectures.
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Cmd": self.command, "Env": self.environment, "User": self.user.as_deref().unwrap_or_default() },
            // Not compressed: what is digested is what is unpacked.
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        })
        .to_string()
        .into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        })
        .to_string()
        .into_bytes();
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry],
        });
        let mut archive = tar::Builder::new(Vec::new());
        add(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        add(&mut archive, "index.json", 0o644, index.to_string().as_bytes())?;
        for blob in [&config, &manifest, &layer] {
            add(&mut archive, &format!("blobs/{}", digest(blob).replace(':', "/")), 0o644, blob)?;
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

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() })
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
