//! What can go wrong: each says what, where, what was expected and what to do.

use std::fmt;
use std::io;

use crate::name::StepId;

/// Why something could not be done. Nothing is half applied then: a checkpoint that was published before stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filesystem said no.
    #[error("cannot {doing} {path}: {source}{}", hint(source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The device is full, or the quota used up.
    #[error("no space for {path}: it needs {} and {} free; the checkpoints before it are whole: free space, or keep fewer (`bedplate checkpoint prune`)", Bytes(*needed), free.map_or("too little is".to_owned(), |free| format!("{} are", Bytes(free))))]
    NoSpace {
        /// The file that did not fit.
        path: String,
        /// Its bytes.
        needed: u64,
        /// Bytes that a user may still take there, where that is known.
        free: Option<u64>,
    },
    /// Not what the format allows: cut off, flipped, hostile, or never written to the end.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file or folder.
        path: String,
        /// Half a sentence.
        why: String,
    },
    /// A newer program wrote it.
    #[error("{path} has format version {found}, this program reads up to {known}: use the version of Bedplate that wrote it, or a newer one", known = crate::format::VERSION)]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        found: u64,
    },
    /// The folder belongs to another run.
    #[error(
        "{path} holds the checkpoints of run `{found}`, not of `{wanted}`: give each run a folder of its own, or set the run id to `{found}` to go on with it"
    )]
    OtherRun {
        /// The folder.
        path: String,
        /// Whose it is.
        found: String,
        /// Who asked.
        wanted: String,
    },
    /// Another writer has taken over.
    #[error(
        "writer {mine} of {path} was replaced by writer {newest} ({owner}): this process is stale and publishes nothing; stop it"
    )]
    Fenced {
        /// The folder.
        path: String,
        /// The generation that asked.
        mine: u64,
        /// The newest one.
        newest: u64,
        /// Who holds it.
        owner: String,
    },
    /// The staging place went away under a save.
    #[error(
        "the save of step {step} in {path} was given up by another rank, or swept away: save again with the next attempt number"
    )]
    GivenUp {
        /// The folder.
        path: String,
        /// The step.
        step: u64,
    },
    /// A tensor was still being put into memory while it was saved, and whoever did so gave up.
    #[error(
        "`{name}` did not come into memory whole: nothing of this save is there, and the checkpoint before it stands"
    )]
    NeverCame {
        /// The tensor.
        name: String,
    },
    /// This writer has published this step.
    #[error("{path} has {id} already: a step is published once by a writer, and it is whole")]
    AlreadyPublished {
        /// The folder.
        path: String,
        /// The step.
        id: StepId,
    },
    /// What the caller gave makes no sense.
    #[error("{0}")]
    Input(String),
    /// A checkpoint has no such tensor, blob or slice.
    #[error("{path} cannot give {what}: {why}")]
    Absent {
        /// The checkpoint.
        path: String,
        /// What was asked for.
        what: String,
        /// Half a sentence.
        why: String,
    },
    /// There are checkpoints, and none is whole.
    #[error("none of the {} checkpoints in {path} can be resumed; starting anew would lose them, so nothing was started:{}", passed_over.len(), listed(passed_over))]
    NothingWhole {
        /// The folder.
        path: String,
        /// Each, and why not.
        passed_over: Vec<PassedOver>,
    },
}

/// A checkpoint that was not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The checkpoint.
    pub id: StepId,
    /// The whole error, as a sentence.
    pub reason: String,
}

/// What functions of this crate give.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn damaged(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), why: why.into() }
    }

    /// Whether it tells of a checkpoint that is broken, so that the one before it is the next best. What may go away by
    /// itself or needs a hand (rights, too many open files, a newer program) is not: falling back would lose progress.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
                    || source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
            }
            _ => false,
        }
    }

    pub(crate) fn is(&self, kind: io::ErrorKind) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == kind)
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            ": the filesystem is mounted read-only, or turned so after an error of its device; what was published is whole"
        }
        // An object store tells of its own rights.
        io::ErrorKind::PermissionDenied if source.raw_os_error().is_some() => {
            ": give this user the right to it (fsGroup or runAsUser of the pod)"
        }
        io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull => ": free space, or keep fewer checkpoints",
        _ => "",
    }
}

fn listed(passed_over: &[PassedOver]) -> String {
    passed_over.iter().map(|one| format!("\n  {}: {}", one.id, one.reason)).collect()
}

/// Bytes as a person reads them: `1.50 GiB`.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in UNITS {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        if unit == "B" { f.pad(&format!("{} B", self.0)) } else { f.pad(&format!("{value:.2} {unit}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_damage_is_passed_over_at_a_resume() {
        let io = |errno: rustix::io::Errno| Error::Io { doing: "read", path: "x".to_owned(), source: errno.into() };
        // Gone, and a sector that the device cannot read.
        assert!(io(rustix::io::Errno::NOENT).is_damage() && io(rustix::io::Errno::IO).is_damage());
        // What a hand or a second try mends: the checkpoint before it would cost progress for nothing.
        for errno in [rustix::io::Errno::ACCESS, rustix::io::Errno::MFILE, rustix::io::Errno::STALE] {
            assert!(!io(errno).is_damage(), "{errno}");
        }
        let text = io(rustix::io::Errno::ACCESS).to_string();
        insta::assert_snapshot!(text, @"cannot read x: Permission denied (os error 13): give this user the right to it (fsGroup or runAsUser of the pod)");
    }
}
