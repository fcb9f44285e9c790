//! What kind of file a name promises.

/// What a file is read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// YAML, or JSON, which is YAML too.
    Yaml,
    /// A Dockerfile or Containerfile.
    Dockerfile,
    /// A CoreDNS configuration.
    Corefile,
}

/// The kind that a file name promises, or nothing for a file that is not ours to read.
/// A directory is searched for these names only; a file named on the command line is read as
/// YAML whatever its name.
#[must_use]
pub fn file_kind(name: &str) -> Option<FileKind> {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension {
        "yaml" | "yml" | "json" => return Some(FileKind::Yaml),
        // A document about a Dockerfile is not one.
        "md" | "txt" | "rst" | "html" | "dockerignore" | "py" | "rs" | "go" | "sh" | "tmpl" | "j2" => {
            return None;
        }
        _ => {}
    }
    if name.contains("Dockerfile") || name.contains("Containerfile") || name == "dockerfile" {
        Some(FileKind::Dockerfile)
    } else if name.contains("Corefile") {
        Some(FileKind::Corefile)
    } else {
        None
    }
}
