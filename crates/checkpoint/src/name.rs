//! Names of files and folders in a store. Pure: one place says how each is made and read.

use std::fmt;

/// A published checkpoint: the step, and the generation of the writer that saved it.
///
/// The order is the order of age in a run: by step, and where a step was saved twice (the first one was damaged, and the
/// run came past it again) by writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId {
    /// The training step.
    pub step: u64,
    /// Which writer.
    pub generation: u64,
}

impl fmt::Display for StepId {
    /// Its folder: `step-000000000100-g00000003`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step-{:012}-g{:08}", self.step, self.generation)
    }
}

impl StepId {
    /// Reads the name of a published folder; only the one way in which it is written.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (step, generation) = name.strip_prefix("step-")?.split_once("-g")?;
        let id = Self { step: step.parse().ok()?, generation: generation.parse().ok()? };
        (id.to_string() == name).then_some(id)
    }

    /// Where an attempt to save it is put together.
    pub(crate) fn staging(self, attempt: u32) -> String {
        format!("{self}.tmp-{attempt}")
    }

    /// The attempt whose staging folder this is, also when it was given up.
    pub(crate) fn attempt(self, folder: &str) -> Option<u32> {
        let number = folder.strip_prefix(&format!("{self}.tmp-"))?;
        number.split_once('.').map_or(number, |(number, _)| number).parse().ok()
    }

    /// The file with the tensors (or `blobs`) that a rank writes for this step.
    pub(crate) fn data_file(self, rank: u32, blobs: bool) -> String {
        format!("{self}.rank-{rank:05}{}.safetensors", if blobs { ".blobs" } else { "" })
    }
}

/// What a folder in a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    /// A checkpoint.
    Published(StepId),
    /// A save that goes on, or that a crash left behind.
    Staging(StepId),
    /// Taken out of sight, and being deleted.
    Gone,
}

impl Folder {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let Some((id, rest)) = name.split_once('.') else { return StepId::parse(name).map(Self::Published) };
        let id = StepId::parse(id)?;
        if name.rsplit_once(".gone-").is_some_and(|(_, number)| number.parse::<u32>().is_ok()) {
            return Some(Self::Gone);
        }
        rest.strip_prefix("tmp-")?.parse::<u32>().ok().map(|_| Self::Staging(id))
    }
}

/// The name under which a folder waits for its deletion; the number makes it free.
pub(crate) fn gone(folder: &str, number: u32) -> String {
    format!("{folder}.gone-{number}")
}

/// Whose the store is.
pub(crate) const STORE: &str = "store.json";
/// The last file of a checkpoint.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The folder with a file for each writer there was.
pub(crate) const WRITERS: &str = "writers";

/// What one rank saved.
pub(crate) fn part(rank: u32) -> String {
    format!("rank-{rank:05}.json")
}

/// The file of a writer's generation.
pub(crate) fn writer(generation: u64) -> String {
    format!("{generation:08}.json")
}

/// Reads the name of a writer's file.
pub(crate) fn parse_writer(name: &str) -> Option<u64> {
    let generation = name.strip_suffix(".json")?.parse().ok()?;
    (writer(generation) == name).then_some(generation)
}

/// Joins names of a store.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Whether a data file may have this name: a plain one, which cannot lead out of its folder.
pub(crate) fn is_plain(name: &str) -> bool {
    name.len() <= 255
        && name.ends_with(".safetensors")
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_known_by_its_one_name() {
        let id = StepId { step: 100, generation: 3 };
        assert_eq!(id.to_string(), "step-000000000100-g00000003");
        let read = |name: &str| Folder::parse(name);
        assert_eq!(read(&id.to_string()), Some(Folder::Published(id)));
        assert_eq!(read(&id.staging(2)), Some(Folder::Staging(id)));
        assert_eq!(read(&gone(&id.staging(2), 0)), Some(Folder::Gone));
        assert_eq!(read(&gone(&id.to_string(), 7)), Some(Folder::Gone));
        let large = StepId { step: u64::MAX, generation: u64::MAX };
        assert_eq!(read(&large.to_string()), Some(Folder::Published(large)));
        for other in [
            "step-100-g3",
            "step-000000000100",
            "step-+00000000100-g00000003",
            "x",
            "",
            "step-000000000100-g00000003.bak",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_data_file_cannot_lead_out_of_its_folder() {
        assert!(is_plain(&StepId { step: 1, generation: 1 }.data_file(0, true)));
        for hostile in
            ["../x.safetensors", "/x.safetensors", "a/b.safetensors", "..safetensors", "x", "a\0.safetensors", ""]
        {
            assert!(!is_plain(hostile), "{hostile}");
        }
    }
}
