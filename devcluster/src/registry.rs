//! A registry for images on this machine: Debian's `docker-registry`, which is the reference implementation of the OCI
//! distribution API, over plain HTTP.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::Cluster;
use crate::certificates::write;
use crate::cluster::{LOOPBACK, ended, free_ports};
use crate::debian;
use crate::image::{Image, MANIFEST};
use crate::node::Network;
use crate::process::Part;
use crate::run::{self, Result};

/// The registry's program.
pub(crate) fn program() -> Result<PathBuf> {
    Ok(debian::unpacked("docker-registry")?.join("usr/bin/docker-registry"))
}

/// Starts the registry of a cluster, where its node finds it, and tells containerd that it speaks plain HTTP.
pub(crate) fn start(cluster: &mut Cluster, children: &mut Vec<(String, Child)>) -> Result<()> {
    let folder = cluster.folder.clone();
    let [port] = free_ports()?;
    let address = format!("{}:{port}", cluster.network.map_or(LOOPBACK, Network::host));
    let config = serde_json::json!({
        "version": "0.1",
        "log": { "level": "warn", "accesslog": { "disabled": true } },
        "storage": { "filesystem": { "rootdirectory": folder.join("registry") }, "delete": { "enabled": true } },
        "http": { "addr": address },
    });
    let path = folder.join("registry.json");
    write(&path, &config.to_string())?;
    let part = Part {
        name: "registry",
        program: program()?,
        called: None,
        inside: None,
        arguments: vec!["serve".to_owned(), path.display().to_string()],
        environment: Vec::new(),
    };
    children.push((part.name.to_owned(), part.start(&folder)?));
    let started = Instant::now();
    while TcpStream::connect(&address).is_err() {
        if let Some(Ok(Some(status))) = children.last_mut().map(|(_, child)| child.try_wait()) {
            return Err(ended("registry", status, &folder));
        }
        if started.elapsed() > Duration::from_secs(20) {
            return Err(format!("the registry does not listen on {address}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let hosts = folder.join("registries").join(&address);
    std::fs::create_dir_all(&hosts).map_err(run::file("create", &hosts))?;
    write(
        &hosts.join("hosts.toml"),
        &format!(
            "server = \"http://{address}\"\n[host.\"http://{address}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        ),
    )?;
    cluster.registry = Some(address);
    Ok(())
}

/// Pushes an image and gives its name by digest: `REGISTRY/REPOSITORY@sha256:…`. `registry` is `ADDRESS:PORT`.
///
/// # Errors
/// What the registry says.
pub fn push(registry: &str, repository: &str, tag: &str, image: &Image) -> Result<String> {
    // Never over a proxy that the environment names.
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().into();
    let base = format!("http://{registry}/v2/{repository}");
    let put = |address: &str, kind: &str, bytes: &[u8]| {
        let failed = |error: ureq::Error| format!("PUT {address}: {error}");
        let mut answer = agent.put(address).content_type(kind).send(bytes).map_err(failed)?;
        if answer.status() == 201 {
            return Ok(());
        }
        let said = answer.body_mut().read_to_string().unwrap_or_default();
        Err(format!("PUT {address}: {}: {said}", answer.status()))
    };
    let blobs = image.blobs()?;
    for blob in [&blobs.config, &blobs.layer] {
        let uploads = format!("{base}/blobs/uploads/");
        let answer = agent.post(&uploads).send_empty().map_err(|error| format!("POST {uploads}: {error}"))?;
        let location = answer.headers().get("location").and_then(|location| location.to_str().ok());
        let location = location.ok_or_else(|| format!("POST {uploads}: {}, no Location", answer.status()))?;
        let joint = if location.contains('?') { '&' } else { '?' };
        put(&format!("{location}{joint}digest={}", blob.digest), "application/octet-stream", &blob.bytes)?;
    }
    put(&format!("{base}/manifests/{tag}"), MANIFEST, &blobs.manifest.bytes)?;
    Ok(format!("{registry}/{repository}@{}", blobs.manifest.digest))
}
