//! The bytes of a tensor that is saved, some of which may still be on their way into memory.

use std::ops::Range;

/// The bytes of a tensor, row-major, little endian.
#[derive(Clone, Copy)]
pub enum Data<'a> {
    /// All of them are there.
    There(&'a [u8]),
    /// Somebody puts them there while they are saved.
    Coming(&'a dyn Coming),
}

/// Bytes that somebody puts into memory while they are saved: a save takes what is there, and waits for the rest.
pub trait Coming: Sync {
    /// How many it will be.
    fn bytes(&self) -> usize;

    /// Returns when these bytes are there; from then on nobody writes to them. `None` when some of them never will be:
    /// whoever was to put them there gave up. It has to be told so, or a save waits for ever.
    fn wait(&self, range: Range<usize>) -> Option<&[u8]>;
}

impl<'a> Data<'a> {
    /// How many bytes it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::There(bytes) => bytes.len(),
            Self::Coming(coming) => coming.bytes(),
        }
    }

    /// These bytes, when they are there; `None` when they never will be.
    pub(crate) fn wait(&self, range: Range<usize>) -> Option<&'a [u8]> {
        match self {
            Self::There(bytes) => bytes.get(range),
            Self::Coming(coming) => coming.wait(range),
        }
    }
}

impl std::fmt::Debug for Data<'_> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} bytes", self.bytes())
    }
}
