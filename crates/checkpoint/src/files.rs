//! The edge to storage: the few operations on files that a store is made of.
//!
//! Everything durable goes through here, so that tests can drop what was not synced, and so that other storage can stand
//! beside a filesystem: a reader needs only [`Files::list`], [`Files::read`] and [`Files::open`].
//!
//! Paths are relative to the store, with `/` between names; the empty path is the store itself.

use std::io;

/// Where a store is kept.
pub trait Files: Send + Sync {
    /// A path as a person finds it.
    fn shown(&self, path: &str) -> String;

    /// Names in a folder, in any order.
    ///
    /// # Errors
    /// `NotFound`, and what the system says.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// All of a small file.
    ///
    /// # Errors
    /// `NotFound`; `FileTooLarge` when it has more than `at_most` bytes; what the system says.
    fn read(&self, path: &str, at_most: u64) -> io::Result<Vec<u8>>;

    /// Opens a file that is read in pieces.
    ///
    /// # Errors
    /// `NotFound`, and what the system says.
    fn open(&self, path: &str) -> io::Result<Box<dyn ReadAt>>;

    /// Makes a folder; its parent is there.
    ///
    /// # Errors
    /// `AlreadyExists`, and what the system says.
    fn create_folder(&self, path: &str) -> io::Result<()>;

    /// Makes a file and its room on the device. Who calls it alone made the file: that is what fences writers.
    ///
    /// # Errors
    /// `AlreadyExists`, `StorageFull`, and what the system says.
    fn create(&self, path: &str, bytes: u64) -> io::Result<Box<dyn WriteAt>>;

    /// Gives a file a second name, which was not there.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound`, and what the system says; not every filesystem has links.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// Moves a file, over one that is there, or a folder, over nothing or an empty folder: in one step or not at all.
    ///
    /// # Errors
    /// `NotFound`, `DirectoryNotEmpty`, and what the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound`, and what the system says.
    fn remove_file(&self, path: &str) -> io::Result<()>;

    /// Removes an empty folder.
    ///
    /// # Errors
    /// `NotFound`, and what the system says.
    fn remove_folder(&self, path: &str) -> io::Result<()>;

    /// Returns when what was made, moved and removed in a folder outlives a loss of power.
    ///
    /// # Errors
    /// What the system says.
    fn sync_folder(&self, path: &str) -> io::Result<()>;

    /// Bytes that may still be written, where that is known.
    fn free(&self) -> Option<u64>;
}

/// A file that is read in pieces, by several threads.
pub trait ReadAt: Send + Sync {
    /// Its bytes.
    ///
    /// # Errors
    /// What the system says.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads from `offset` on until `buffer` is full or the file ends; gives how many bytes that were.
    ///
    /// Fastest where offset, length and place in memory of the buffer are multiples of 4096.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// A new file that is written in pieces, by several threads.
pub trait WriteAt: Send + Sync {
    /// Writes all of `bytes` at `offset`.
    ///
    /// Fastest where offset, length and place in memory of the bytes are multiples of 4096.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file to its length, and returns when its contents outlive a loss of power.
    ///
    /// # Errors
    /// What the system says: also an error of an earlier write that the system had not told yet.
    fn finish(&self, bytes: u64) -> io::Result<()>;
}
