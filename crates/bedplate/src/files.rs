//! Finding and reading files: the only I/O of `check`.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use bedplate_guarantees::BuildContext;
use bedplate_model::Field;
use bedplate_model::document::{FileKind, Limits, file_kind, parse};

/// What is wrong with a file as such.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The system's own words.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not text.
    #[error("{}: {why}", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A walk that went wrong.
    #[error("{0}")]
    Walk(String),
}

/// A file to check.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Input {
    /// As it is shown. `-` is standard input.
    pub(crate) path: PathBuf,
    /// What it is read as.
    pub(crate) kind: Kind,
}

/// [`FileKind`] with an order, so that inputs sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// YAML or JSON.
    Yaml,
    /// A Dockerfile.
    Dockerfile,
    /// A Corefile.
    Corefile,
}

impl From<Kind> for FileKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Yaml => Self::Yaml,
            Kind::Dockerfile => Self::Dockerfile,
            Kind::Corefile => Self::Corefile,
        }
    }
}

fn kind_of(path: &Path) -> Option<Kind> {
    Some(match file_kind(path.file_name()?.to_str()?)? {
        FileKind::Yaml => Kind::Yaml,
        FileKind::Dockerfile => Kind::Dockerfile,
        FileKind::Corefile => Kind::Corefile,
    })
}

/// The files of a run, sorted, and what could not be walked.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// Files to check.
    pub(crate) files: Vec<Input>,
    /// Paths that are not there or may not be read.
    pub(crate) errors: Vec<FileError>,
    /// Kustomizations, which another program has to render.
    pub(crate) kustomizations: Vec<PathBuf>,
}

/// Finds the files under some paths. A folder is searched for names that promise something; a
/// file is taken whatever its name.
pub(crate) fn find(paths: &[PathBuf], no_ignore: bool) -> Inputs {
    let mut found = Inputs::default();
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            files.push(Input { path: path.clone(), kind: Kind::Yaml });
            continue;
        }
        match std::fs::metadata(path) {
            Err(source) => found.errors.push(FileError::Io { path: path.clone(), source }),
            Ok(metadata) if metadata.is_dir() => {
                let mut walk = ignore::WalkBuilder::new(path);
                // Each folder by its names: all together then have the order of paths.
                let order = |a: &Path, b: &Path| a.as_os_str().cmp(b.as_os_str());
                walk.standard_filters(!no_ignore).require_git(false).sort_by_file_path(order);
                for entry in walk.build() {
                    match entry {
                        Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_file()) => {
                            if let Some(kind) = kind_of(entry.path()) {
                                files.push(Input { path: entry.into_path(), kind });
                            }
                        }
                        Ok(_) => {}
                        Err(error) => found.errors.push(FileError::Walk(error.to_string())),
                    }
                }
            }
            Ok(_) => {
                files.push(Input { path: path.clone(), kind: kind_of(path).unwrap_or(Kind::Yaml) });
            }
        }
    }
    // The same file may be named twice.
    if paths.len() > 1 {
        files.sort_unstable();
        files.dedup();
    }
    let patches = kustomize(&files, &mut found.kustomizations);
    files.retain(|file| {
        !found.kustomizations.contains(&file.path)
            && !patches.contains(&file.path)
            && file.path.file_name().is_none_or(|name| name != crate::profile::NAME)
    });
    found.files = files;
    found
}

/// Kustomizations are instructions, and their patches pieces of objects: neither can be judged.
/// Their resources are whole objects and are.
fn kustomize(files: &[Input], kustomizations: &mut Vec<PathBuf>) -> BTreeSet<PathBuf> {
    let mut patches = BTreeSet::new();
    for file in files {
        let name = file.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !matches!(name, "kustomization.yaml" | "kustomization.yml") {
            continue;
        }
        kustomizations.push(file.path.clone());
        let (Some(folder), Ok(text)) = (file.path.parent(), read(&file.path)) else { continue };
        for document in parse(&text, &Limits::DEFAULT).documents {
            let root = Field::root(&document.root);
            let listed = ["patches", "patchesJson6902"].into_iter().flat_map(|key| root.key(key).items());
            let paths = listed.filter_map(|patch| patch.key("path").str());
            for path in paths.chain(root.key("patchesStrategicMerge").strings()) {
                patches.insert(folder.join(path));
            }
        }
    }
    patches
}

/// Reads a file as text.
pub(crate) fn read(path: &Path) -> Result<String, FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let not_text = |why: String| FileError::NotText { path: path.to_owned(), why };
    let limit = Limits::DEFAULT.bytes as u64;
    let too_large = |size: u64| {
        not_text(format!(
            "{} MiB, more than the limit of {} MiB: split it, or check what renders it",
            size >> 20,
            limit >> 20
        ))
    };
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    } else {
        let file = std::fs::File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let size = metadata.len();
        if size > limit {
            return Err(too_large(size));
        }
        bytes.reserve_exact(size as usize);
        // A file is read in one go. A pipe or a device has no size: it is bounded too.
        let most = if metadata.is_file() && size > 0 { size } else { limit + 1 };
        file.take(most).read_to_end(&mut bytes).map_err(io)?;
    }
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    if memchr::memchr(0, &bytes).is_some() {
        return Err(not_text("a binary file, expected YAML, JSON, a Dockerfile or a Corefile".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        not_text(format!(
            "line {line}: not UTF-8 (byte {:#04x} at offset {at}): save it as UTF-8",
            error.as_bytes()[at]
        ))
    })
}

/// The folder of a Dockerfile as its build context, or a folder above it in the same
/// repository: `docker build -f docker/Dockerfile .`.
pub(crate) struct Folder<'a>(pub(crate) Option<&'a Path>);

impl BuildContext for Folder<'_> {
    fn read(&self, path: &str) -> Option<String> {
        let path = Path::new(path.trim_start_matches('/'));
        // Nothing outside the context is ever sent to a builder.
        let inside = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
        if !inside {
            return None;
        }
        let folder = self.0?;
        let above = folder.ancestors().position(|folder| folder.join(".git").exists()).unwrap_or(0);
        let small = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() < 1 << 20);
        let file = folder.ancestors().take(above + 1).map(|folder| folder.join(path)).find(small)?;
        read(&file).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_the_order_of_their_paths() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a/z.yaml", "a/b/c.yaml", "a-b.yaml", "a.yaml", "B.yaml", "é/x.yaml", "a b/x.yaml", "a/b.yaml"];
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = find(&[folder.path().to_owned()], false).files;
        assert_eq!(found.len(), names.len());
        assert!(found.is_sorted(), "{found:?}");
    }
}
