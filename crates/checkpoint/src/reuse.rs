//! Which files of the checkpoint before are named again instead of written again. Pure.
//!
//! A file is the unit, by a hard link: each checkpoint stays a folder that is whole by itself (copied, packed and deleted
//! without a look at any other), a file lives as long as any checkpoint has its name, and no removal can race with a
//! save. References from one checkpoint into another's folder would save no more and need a retention that follows
//! them, under a lock. Where a filesystem has no links, everything is written.
//!
//! A file is linked though some of its tensors have changed: those are written anew to the step's own file, and the part
//! says which is which. The step in a file's name is the one it was written for, so it never tells what is not so.

use crate::format::{DataFile, Part};

/// A checkpoint names at most so many files of earlier ones: opening thousands is slower than writing once more.
const MOST_LINKED: usize = 8;

/// Whether so many bytes are at least half of what is in a file.
pub(crate) fn is_mostly(bytes: u64, file: &DataFile) -> bool {
    bytes >= (file.bytes - file.header) / 2
}

/// The files (indexes of [`Part::files`]) that are worth a link, when so many bytes of each are as they were: at least
/// half, so that a store never has more than twice the bytes that are alive.
pub(crate) fn worth_linking(previous: &Part, unchanged: &[u64]) -> Vec<usize> {
    let mut worth: Vec<(u64, usize)> = previous
        .files
        .iter()
        .zip(unchanged)
        .enumerate()
        .filter(|(_, (file, alive))| **alive > 0 && is_mostly(**alive, file))
        .map(|(index, (_, alive))| (*alive, index))
        .collect();
    worth.sort_unstable_by(|a, b| b.cmp(a));
    worth.truncate(MOST_LINKED);
    let mut files: Vec<usize> = worth.into_iter().map(|(_, index)| index).collect();
    files.sort_unstable();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Digest;

    #[test]
    fn a_file_that_is_mostly_as_it_was_is_named_again_and_one_that_is_mostly_dead_is_left_behind() {
        let file = |index: usize| DataFile {
            name: format!("{index}.safetensors"),
            bytes: 4096 + 100,
            header: 4096,
            header_xxh3: Digest(0),
            block: 4096,
        };
        let part = |files: usize| Part {
            run: "r".to_owned(),
            step: 1,
            generation: 1,
            attempt: 0,
            rank: 0,
            world_size: 1,
            agreed: None,
            files: (0..files).map(file).collect(),
            tensors: Vec::new(),
            blobs: Vec::new(),
        };
        assert_eq!(worth_linking(&part(4), &[100, 50, 49, 0]), [0, 1]);
        let many: Vec<u64> = (0..20).map(|index| 60 + index).collect();
        assert_eq!(worth_linking(&part(20), &many), [12, 13, 14, 15, 16, 17, 18, 19]);
    }
}
