//! The edge to storage: the few operations on files that a store is made of.
//!
//! Everything durable goes through here, so that tests can drop what was not synced, and so that an object store can stand
//! beside a filesystem. The methods with a body are made of the others, as a filesystem does them; an object store, which
//! moves no folder, does those in its own way, and needs no `rename`.
//!
//! Paths are relative to the store, with `/` between names; the empty path is the store itself.

use std::io::{self, ErrorKind};

use crate::name;

/// How many threads read or write a file at once.
pub(crate) const THREADS: usize = 4;

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

    /// Writes a small file that is seen whole or not at all, over one that is there. Its contents are durable then, and its
    /// name after the next [`Files::sync_folder`]. `temporary` is a free name in the same folder.
    ///
    /// # Errors
    /// What the system says.
    fn put(&self, path: &str, temporary: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.create(temporary, bytes.len() as u64)?;
        file.write_at(bytes, 0)?;
        file.finish(bytes.len() as u64)?;
        self.rename(temporary, path)
    }

    /// Puts the manifest into a staging folder that has everything else, durably. It is published by [`Files::publish`].
    ///
    /// # Errors
    /// What the system says.
    fn stage(&self, staging: &str, temporary: &str, manifest: &[u8]) -> io::Result<()> {
        let temporary = name::join(staging, temporary);
        // What an earlier try of this rank left.
        let _ = self.remove_file(&temporary);
        self.put(&name::join(staging, name::MANIFEST), &temporary, manifest)?;
        self.sync_folder(staging)
    }

    /// Makes a staging folder, with its manifest in it, the checkpoint of this name: in one step, and durably.
    ///
    /// # Errors
    /// `NotFound` when the staging folder is not there any more, since another published it or took it away;
    /// `DirectoryNotEmpty` or `AlreadyExists` when the name is taken; what the system says.
    fn publish(&self, staging: &str, checkpoint: &str, manifest: &[u8]) -> io::Result<()> {
        let _ = manifest;
        self.rename(staging, checkpoint)?;
        self.sync_folder("")
    }

    /// Takes a folder out of sight: in one step, durably, and so that nobody can publish it from then on. Gives the name
    /// under which it waits for its deletion; `None` where there is no such folder.
    ///
    /// # Errors
    /// What the system says.
    fn hide(&self, folder: &str) -> io::Result<Option<String>> {
        let mut number = 0;
        loop {
            let hidden = name::gone(folder, number);
            match self.rename(folder, &hidden) {
                Ok(()) => return self.sync_folder("").map(|()| Some(hidden)),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                // An earlier deletion of the same name did not come to its end.
                Err(error)
                    if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists)
                        && number < 1000 =>
                {
                    number += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes a folder that is out of sight. Another process may do the same.
    ///
    /// # Errors
    /// What the system says.
    fn delete(&self, hidden: &str) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let names = match self.list(hidden) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for name in names {
            gone(self.remove_file(&name::join(hidden, &name)))?;
        }
        gone(self.remove_folder(hidden))
    }
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

    /// How many pieces are best read at the same time: of a device few, over a network more.
    fn at_once(&self) -> usize {
        THREADS
    }
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
