//! A store in a bucket: S3, Google Cloud Storage, Azure.
//!
//! An object is there as a whole or not at all, and what was written is seen by whoever looks next; but there are no
//! folders, and nothing is moved. So a save is put together where it stays, and its manifest, written last and only if no
//! object has that name (a conditional put), is what makes a checkpoint of it:
//!
//! ```text
//! step-000000000100-g00000003/           the first attempt at step 100 by writer 3; .try-1 is the second
//!   ….rank-00000.safetensors
//!   ….rank-00000.safetensors.upload      while it is on its way: the id of its upload in parts, to abort it by
//!   rank-00000.json
//!   manifest.json                        a checkpoint; empty: given up for good
//! ```
//!
//! Whoever takes an attempt away (a new writer, or a rank that gave up) puts an empty manifest there in the same way. Of
//! the two only one comes first: either the checkpoint is there before the new writer looks, or it never will be. That is
//! what a rename does on a filesystem.
//!
//! To the rest of this crate such a store looks like a folder: [`Files::list`] gives the names of the folders that stand
//! there on a filesystem, and a path with such a name is found ([`Remote::key`]).

mod place;
#[cfg(test)]
mod tests;
mod told;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::runtime::Runtime;

use crate::files::{Files, ReadAt, WriteAt};
use crate::name::{self, StepId};
use told::Service;
use upload::{Small, Upload};

pub(crate) use place::open;

/// Pieces that are read at the same time; one connection to S3 has about 80 MB/s.
const AT_ONCE: usize = 12;

/// Generations of writers for which it is remembered that a save was given up: a process that slept longer than that finds
/// that its data are gone, and whoever reads passes over what it publishes.
const REMEMBERED: u64 = 16;

/// The end of the name of an object that remembers an upload.
const UPLOAD: &str = ".upload";

/// What is done with a service, from whatever thread.
struct Bucket {
    objects: Arc<dyn ObjectStore>,
    multipart: Arc<dyn MultipartStore>,
    service: Service,
}

/// A store in a bucket.
pub(crate) struct Remote {
    bucket: Arc<Bucket>,
    /// The prefix of the store, without a slash at its end.
    prefix: String,
    /// The URL of the store, without a slash at its end.
    url: String,
    /// Which attempt was published, of the checkpoints that were seen.
    published: Mutex<BTreeMap<StepId, u32>>,
}

/// What an attempt to save has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// It has no manifest.
    Goes,
    /// It is a checkpoint.
    Published,
    /// Its manifest is empty.
    GivenUp,
}

/// The runtime of this process. A forked child has none of its threads, and gets one of its own.
fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: Mutex<Option<(u32, &Runtime)>> = Mutex::new(None);
    let mut current = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    match *current {
        Some((process, runtime)) if process == std::process::id() => Ok(runtime),
        _ => {
            let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            // For as long as the process lives: to end it would wait for threads.
            let leaked: &'static Runtime = Box::leak(Box::new(threads));
            *current = Some((std::process::id(), leaked));
            Ok(leaked)
        }
    }
}

impl Bucket {
    /// Waits for an answer.
    fn wait<T>(&self, what: impl Future<Output = object_store::Result<T>>) -> io::Result<T> {
        runtime()?.block_on(what).map_err(|error| self.service.told(&error))
    }

    /// Writes an object; with `new`, only when there is none of that name: `AlreadyExists` then.
    fn put(&self, key: &Path, bytes: Vec<u8>, new: bool) -> io::Result<()> {
        let mode = if new { PutMode::Create } else { PutMode::Overwrite };
        let options = PutOptions { mode, ..PutOptions::default() };
        self.wait(self.objects.put_opts(key, PutPayload::from(bytes), options)).map(|_| ())
    }

    /// The bytes of an object; `None` where there is none.
    fn size(&self, key: &Path) -> io::Result<Option<u64>> {
        match self.wait(self.objects.head(key)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(|meta| Some(meta.size)),
        }
    }
}

/// Where an attempt is, in the bucket.
fn tried(id: StepId, attempt: u32) -> String {
    if attempt == 0 { id.to_string() } else { format!("{id}.try-{attempt}") }
}

/// Reads the name of [`tried`].
fn parse_tried(name: &str) -> Option<(StepId, u32)> {
    let Some((id, number)) = name.split_once(".try-") else { return Some((StepId::parse(name)?, 0)) };
    let found = (StepId::parse(id)?, number.parse().ok()?);
    (tried(found.0, found.1) == name).then_some(found)
}

/// The attempt that is meant by the name of a folder that goes on or was taken away.
fn attempt_of(folder: &str) -> Option<(StepId, u32)> {
    let id = StepId::parse(folder.split_once('.')?.0)?;
    Some((id, id.attempt(folder)?))
}

/// Whether it is too long ago that an attempt was given up.
fn is_forgotten(id: StepId, newest_writer: u64) -> bool {
    id.generation.saturating_add(REMEMBERED) < newest_writer
}

impl Remote {
    fn new(bucket: Bucket, prefix: String, url: String) -> Self {
        Self { bucket: Arc::new(bucket), prefix, url, published: Mutex::default() }
    }

    fn published(&self) -> MutexGuard<'_, BTreeMap<StepId, u32>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &str) -> Path {
        Path::from(name::join(&self.prefix, key))
    }

    /// Where the folder of this name is.
    fn folder(&self, folder: &str) -> io::Result<String> {
        if let Some((id, attempt)) = attempt_of(folder) {
            return Ok(tried(id, attempt));
        }
        // One that was published and then taken away.
        let Some(id) = StepId::parse(folder.split_once('.').map_or(folder, |(id, _)| id)) else {
            return Ok(folder.to_owned());
        };
        let known = self.published().get(&id).copied();
        let attempt = match known {
            Some(attempt) => attempt,
            None => {
                self.list("")?;
                self.published().get(&id).copied().unwrap_or(0)
            }
        };
        Ok(tried(id, attempt))
    }

    /// Where the object of this path is.
    fn key(&self, path: &str) -> io::Result<Path> {
        Ok(match path.split_once('/') {
            Some((folder, name)) => self.object(&name::join(&self.folder(folder)?, name)),
            None => self.object(path),
        })
    }

    fn manifest(&self, id: StepId, attempt: u32) -> Path {
        self.object(&name::join(&tried(id, attempt), name::MANIFEST))
    }

    fn attempt(&self, id: StepId, attempt: u32) -> io::Result<Attempt> {
        Ok(match self.bucket.size(&self.manifest(id, attempt))? {
            None => Attempt::Goes,
            Some(0) => Attempt::GivenUp,
            Some(_) => Attempt::Published,
        })
    }

    /// Keys of all objects of a folder.
    fn objects(&self, folder: &str) -> io::Result<Vec<Path>> {
        let prefix = self.object(folder);
        let list = self.bucket.objects.list(Some(&prefix)).map_ok(|meta| meta.location);
        self.bucket.wait(list.try_collect())
    }

    /// Names of the objects in a folder.
    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let found = self.bucket.wait(self.bucket.objects.list_with_delimiter(Some(&self.object(folder))))?;
        Ok(found.objects.iter().filter_map(|meta| meta.location.filename().map(str::to_owned)).collect())
    }

    /// Everything of the store, under the names that it has on a filesystem. One request for a thousand objects: fewer than
    /// to ask for the manifest of each attempt.
    fn list_store(&self) -> io::Result<BTreeSet<String>> {
        let prefix = self.object("");
        let prefix = (!prefix.as_ref().is_empty()).then_some(&prefix);
        let all: Vec<ObjectMeta> = self.bucket.wait(self.bucket.objects.list(prefix).try_collect())?;
        let begin = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let mut names = BTreeSet::new();
        // The size of the manifest of each attempt, and whether there is anything else of it.
        let mut attempts: BTreeMap<(StepId, u32), (Option<u64>, bool)> = BTreeMap::new();
        let mut newest = 0;
        for meta in &all {
            let Some(key) = meta.location.as_ref().strip_prefix(&begin) else { continue };
            let (folder, name) = key.split_once('/').unwrap_or((key, ""));
            match parse_tried(folder) {
                Some(attempt) if name == name::MANIFEST => attempts.entry(attempt).or_default().0 = Some(meta.size),
                Some(attempt) => attempts.entry(attempt).or_default().1 = true,
                None => {
                    newest = newest.max(name::parse_writer(name).filter(|_| folder == name::WRITERS).unwrap_or(0));
                    names.insert(folder.to_owned());
                }
            }
        }
        let mut published = BTreeMap::new();
        for ((id, attempt), (manifest, more)) in attempts {
            names.insert(match manifest {
                None => id.staging(attempt),
                Some(0) if more || is_forgotten(id, newest) => name::gone(&id.staging(attempt), 0),
                // Nothing is to be deleted of it, and its number is taken.
                Some(0) => format!("{}.given-up", id.staging(attempt)),
                Some(_) => {
                    published.entry(id).or_insert(attempt);
                    id.to_string()
                }
            });
        }
        *self.published() = published;
        Ok(names)
    }

    /// Aborts the uploads in parts that are remembered under these keys.
    fn abort_uploads(&self, keys: &[Path]) -> io::Result<()> {
        for key in keys {
            let Some(data) = key.as_ref().strip_suffix(UPLOAD).map(Path::from) else { continue };
            if keys.contains(&data) {
                // It was completed, and only the record is left.
                continue;
            }
            let abort = async {
                let id = self.bucket.objects.get(key).await?.bytes().await?;
                let id = String::from_utf8_lossy(&id).into_owned();
                self.bucket.multipart.abort_multipart(&data, &id).await
            };
            match self.bucket.wait(abort) {
                // It is aborted already; or the bucket's own rule for such uploads has to do it.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn newest_writer(&self) -> io::Result<u64> {
        Ok(self.names(name::WRITERS)?.iter().filter_map(|name| name::parse_writer(name)).max().unwrap_or(0))
    }
}

impl Files for Remote {
    fn shown(&self, path: &str) -> String {
        name::join(&self.url, path).trim_end_matches('/').to_owned()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        if folder.is_empty() {
            return Ok(self.list_store()?.into_iter().collect());
        }
        let names = self.names(&self.folder(folder)?)?;
        // What has a manifest is no staging folder any more.
        if attempt_of(folder).is_some() && names.iter().any(|name| name == name::MANIFEST) {
            return Err(told::none());
        }
        Ok(names)
    }

    fn read(&self, path: &str, at_most: u64) -> io::Result<Vec<u8>> {
        let key = self.key(path)?;
        let found = self.bucket.wait(self.bucket.objects.get(&key))?;
        if found.meta.size > at_most {
            let bytes = found.meta.size;
            return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has {bytes} bytes, not {at_most}")));
        }
        let bytes = self.bucket.wait(found.bytes())?;
        if bytes.is_empty() && key.filename() == Some(name::MANIFEST) {
            return Err(told::none());
        }
        Ok(bytes.to_vec())
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn ReadAt>> {
        let key = self.key(path)?;
        let bytes = self.bucket.size(&key)?.ok_or_else(told::none)?;
        Ok(Box::new(Object { bucket: Arc::clone(&self.bucket), key, bytes }))
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        match attempt_of(path) {
            // There are none; but whoever saves to an attempt that was taken away is told before it writes.
            Some((id, attempt)) => match self.attempt(id, attempt)? {
                Attempt::Goes => Ok(()),
                Attempt::Published | Attempt::GivenUp => Err(told::none()),
            },
            // The first that a writer does: a bucket that is not there is told now.
            None => self.names(name::WRITERS).map(|_| ()),
        }
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Box<dyn WriteAt>> {
        let key = self.key(path)?;
        let bucket = Arc::clone(&self.bucket);
        if path.starts_with(&name::join(name::WRITERS, "")) {
            return Ok(Box::new(Small::new(bucket, key, true)));
        }
        // Only its rank writes an object of a save, and an answer that was lost is asked for again: no condition.
        if self.bucket.size(&key)?.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if bytes <= upload::PART {
            return Ok(Box::new(Small::new(bucket, key, false)));
        }
        Ok(Box::new(Upload::begin(bucket, key, bytes)?))
    }

    fn link(&self, _: &str, _: &str) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        let key = self.key(path)?;
        self.bucket.wait(self.bucket.objects.delete(&key))
    }

    fn remove_folder(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> Option<u64> {
        None
    }

    fn put(&self, path: &str, _: &str, bytes: &[u8]) -> io::Result<()> {
        self.bucket.put(&self.key(path)?, bytes.to_vec(), false)
    }

    fn stage(&self, _: &str, _: &str, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn publish(&self, staging: &str, _: &str, manifest: &[u8]) -> io::Result<()> {
        let Some((id, attempt)) = attempt_of(staging) else { return Err(told::none()) };
        let key = self.manifest(id, attempt);
        match self.bucket.put(&key, manifest.to_vec(), true) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(told::none()),
            Err(error) => {
                // The answer may have been lost, and not the request.
                let found = self.bucket.wait(async { self.bucket.objects.get(&key).await?.bytes().await });
                if !found.is_ok_and(|found| *found == *manifest) {
                    return Err(error);
                }
            }
            Ok(()) => {}
        }
        self.published().insert(id, attempt);
        Ok(())
    }

    fn hide(&self, folder: &str) -> io::Result<Option<String>> {
        if let Some((id, attempt)) = attempt_of(folder) {
            match self.bucket.put(&self.manifest(id, attempt), Vec::new(), true) {
                // It was taken away before; or it was published.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if self.attempt(id, attempt)? == Attempt::Published {
                        return Ok(None);
                    }
                }
                other => other?,
            }
            return Ok(Some(name::gone(folder, 0)));
        }
        let Some(id) = StepId::parse(folder) else { return Ok(None) };
        let Some(attempt) = self.list("").map(|_| self.published().get(&id).copied())? else { return Ok(None) };
        self.bucket.put(&self.manifest(id, attempt), Vec::new(), false)?;
        // All its ranks are done with it: 1 tells so.
        Ok(Some(name::gone(&id.staging(attempt), 1)))
    }

    fn delete(&self, hidden: &str) -> io::Result<()> {
        let Some((id, attempt)) = attempt_of(hidden) else { return Ok(()) };
        let keys = self.objects(&tried(id, attempt))?;
        self.abort_uploads(&keys)?;
        let manifest = self.manifest(id, attempt);
        let data: Vec<_> = keys.into_iter().filter(|key| *key != manifest).map(Ok).collect();
        let deleted = self.bucket.objects.delete_stream(futures::stream::iter(data).boxed());
        self.bucket.wait(deleted.try_for_each(|_| std::future::ready(Ok(()))))?;
        let newest = self.newest_writer()?;
        let is_done = hidden.ends_with(".gone-1") && id.generation == newest;
        if is_done || is_forgotten(id, newest) {
            self.bucket.wait(self.bucket.objects.delete(&manifest))?;
        }
        Ok(())
    }
}

/// An object that is read in pieces.
struct Object {
    bucket: Arc<Bucket>,
    key: Path,
    bytes: u64,
}

impl ReadAt for Object {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = self.bytes.min(offset.saturating_add(buffer.len() as u64));
        if offset >= end {
            return Ok(0);
        }
        let bytes = self.bucket.wait(self.bucket.objects.get_range(&self.key, offset..end))?;
        let room = buffer.get_mut(..bytes.len()).ok_or(ErrorKind::InvalidData)?;
        room.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }
}
