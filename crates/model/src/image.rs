//! Image references, normalised as containerd and Docker do
//! (`github.com/distribution/reference`, `normalize.go`).

use std::fmt;

/// An image reference with everything that it implies written out.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct ImageRef {
    /// Host and port, such as `docker.io` or `registry.example.com:5000`.
    pub registry: String,
    /// The repository, such as `library/python`.
    pub repository: String,
    /// The tag, where one is written.
    pub tag: Option<String>,
    /// The digest, where one is written: `sha256:…`.
    pub digest: Option<String>,
}

impl ImageRef {
    /// Reads a reference; nothing where it is not one (empty, or with a placeholder in it).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.contains([' ', '$', '{', '}', '<', '>']) {
            return None;
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        // A colon after the last slash is a tag, one before it a port.
        let after_slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[after_slash..].rfind(':') {
            Some(at) => (&rest[..after_slash + at], Some(rest[after_slash + at + 1..].to_owned())),
            None => (rest, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" || host.to_lowercase() != host => {
                (host, path.to_owned())
            }
            _ => ("docker.io", name.to_owned()),
        };
        let registry = registry.to_ascii_lowercase();
        let registry = if registry == "index.docker.io" { "docker.io" } else { &registry };
        let repository = if registry == "docker.io" && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        let valid = !repository.is_empty() && tag.as_deref() != Some("") && digest.as_deref() != Some("");
        valid.then(|| Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// Registry and repository: `docker.io/library/python`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The last segment of the repository: `python`.
    #[must_use]
    pub fn base(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or(&self.repository)
    }

    /// Whether the image is under a prefix such as `docker.io/library` or `quay.io`. A prefix
    /// ends at a path segment: `docker.io/acme` does not hold `docker.io/acme-evil/x`.
    #[must_use]
    pub fn is_under(&self, prefix: &str) -> bool {
        let Some(path) = prefix.strip_prefix(&*self.registry) else { return false };
        let path = path.trim_end_matches('/').trim_end_matches("/*");
        if path.is_empty() {
            return true;
        }
        let rest = path.strip_prefix('/').and_then(|path| self.repository.strip_prefix(path));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether what runs can change under this reference: no digest, and no tag or `latest`.
    #[must_use]
    pub fn is_mutable(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref().is_none_or(|tag| MOVING_TAGS.contains(&tag))
    }
}

/// Tags that are made to move.
pub const MOVING_TAGS: &[&str] = &[
    "latest", "stable", "edge", "main", "master", "dev", "develop", "nightly", "canary", "release", "current", "prod",
];

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_written_out_as_containerd_does() {
        let cases = [
            ("python", "docker.io/library/python"),
            ("acme/train:1", "docker.io/acme/train:1"),
            ("index.docker.io/python:3", "docker.io/library/python:3"),
            ("localhost/x", "localhost/x"),
            ("host:5000/a/b@sha256:00", "host:5000/a/b@sha256:00"),
            ("quay.io/a/b:v1@sha256:00", "quay.io/a/b:v1@sha256:00"),
        ];
        for (text, full) in cases {
            assert_eq!(ImageRef::parse(text).map(|image| image.to_string()).as_deref(), Some(full), "{text}");
        }
        assert_eq!(ImageRef::parse("${image}"), None);
        assert_eq!(ImageRef::parse("x:"), None);
    }

    #[test]
    fn a_prefix_ends_at_a_path_segment() {
        let image = ImageRef::parse("docker.io/acme-evil/miner:1").unwrap();
        assert!(!image.is_under("docker.io/acme"));
        assert!(image.is_under("docker.io") && image.is_under("docker.io/acme-evil/"));
        assert!(!ImageRef::parse("docker.io.evil.com/x").unwrap().is_under("docker.io"));
    }

    #[test]
    fn only_a_digest_or_a_version_stays_the_same() {
        let mutable = |text| ImageRef::parse(text).unwrap().is_mutable();
        assert!(mutable("a/b") && mutable("a/b:latest") && mutable("a/b:main"));
        assert!(!mutable("a/b:v1") && !mutable("a/b:latest@sha256:00"));
    }
}
