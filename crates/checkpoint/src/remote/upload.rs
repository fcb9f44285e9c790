//! Objects on their way: small ones in one request, large ones in parts, several at a time.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{MultipartId, PutPayload};
use tokio::task::AbortHandle;

use super::{Bucket, UPLOAD, runtime};
use crate::files::WriteAt;
use crate::transfer::PIECE;

/// Bytes of a part: what a thread that writes has at once, and more than the 5 MiB that S3 asks for.
pub(super) const PART: u64 = PIECE;

/// Parts of an upload at most, of S3 and the others.
const MOST_PARTS: u64 = 10_000;

/// Parts that are on their way at the same time; one connection to S3 has about 80 MB/s.
const AT_ONCE: usize = 8;

/// An object that is written in one request when it is whole.
pub(super) struct Small {
    bucket: Arc<Bucket>,
    key: Path,
    /// Whether it is an error that there is one of that name, as the service has to say.
    new: bool,
    bytes: Mutex<Vec<u8>>,
}

impl Small {
    pub(super) fn new(bucket: Arc<Bucket>, key: Path, new: bool) -> Self {
        Self { bucket, key, new, bytes: Mutex::default() }
    }
}

impl WriteAt for Small {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut all = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if all.len() < to {
            all.resize(to, 0);
        }
        all[from..to].copy_from_slice(bytes);
        Ok(())
    }

    fn finish(&self, bytes: u64) -> io::Result<()> {
        let mut all = std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        all.resize(bytes as usize, 0);
        self.bucket.put(&self.key, all.clone(), self.new)?;
        // What fences writers has to be so, and not only be asked for: some services ignore the condition.
        if self.new {
            match self.bucket.put(&self.key, all, true) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                other => return other.and_then(|()| Err(self.bucket.service.ignores_conditions())),
            }
        }
        Ok(())
    }
}

/// An object that is written in parts.
pub(super) struct Upload {
    bucket: Arc<Bucket>,
    key: Path,
    /// Where the id is remembered.
    record: Path,
    id: MultipartId,
    bytes: u64,
    part: u64,
    shared: Arc<(Mutex<Progress>, Condvar)>,
}

#[derive(Default)]
struct Progress {
    /// Parts of which some bytes are there, and how many.
    filling: BTreeMap<u64, (Vec<u8>, u64)>,
    sent: BTreeMap<u64, PartId>,
    on_their_way: BTreeMap<u64, AbortHandle>,
    failed: Option<io::Error>,
}

impl Progress {
    /// The first error is told to all who write; its text is what counts.
    fn error(&self) -> Option<io::Error> {
        self.failed.as_ref().map(|error| io::Error::new(error.kind(), error.to_string()))
    }
}

/// How large parts are, so that there are not too many of them.
fn part_size(bytes: u64) -> u64 {
    bytes.div_ceil(MOST_PARTS).next_multiple_of(PART).max(PART)
}

impl Upload {
    pub(super) fn begin(bucket: Arc<Bucket>, key: Path, bytes: u64) -> io::Result<Self> {
        let id = bucket.wait(bucket.multipart.create_multipart(&key))?;
        let record = Path::from(format!("{key}{UPLOAD}"));
        let upload = Self { key, record, id, bytes, part: part_size(bytes), shared: Arc::default(), bucket };
        // A process that is killed leaves parts that no list of objects shows: whoever sweeps aborts them by this.
        upload.bucket.put(&upload.record, upload.id.clone().into_bytes(), false)?;
        Ok(upload)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'a>(
        &'a self,
        progress: MutexGuard<'a, Progress>,
        busy: impl Fn(&Progress) -> bool,
    ) -> MutexGuard<'a, Progress> {
        self.shared.1.wait_while(progress, |progress| busy(progress)).unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a part that is whole, when there are not too many on their way.
    fn send<'a>(&'a self, number: u64, part: Vec<u8>, progress: MutexGuard<'a, Progress>) -> io::Result<()> {
        let mut progress = self.wait_while(progress, |progress| progress.on_their_way.len() >= AT_ONCE);
        if let Some(error) = progress.error() {
            return Err(error);
        }
        let (bucket, shared) = (Arc::clone(&self.bucket), Arc::clone(&self.shared));
        let (key, id) = (self.key.clone(), self.id.clone());
        let task = runtime()?.spawn(async move {
            let sent = bucket.multipart.put_part(&key, &id, number as usize, PutPayload::from(part)).await;
            let mut progress = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            progress.on_their_way.remove(&number);
            match sent {
                Ok(part) => {
                    progress.sent.insert(number, part);
                }
                Err(error) => {
                    progress.failed.get_or_insert_with(|| bucket.service.told(&error));
                }
            }
            shared.1.notify_all();
        });
        // The lock is held: the task is not done with it yet.
        progress.on_their_way.insert(number, task.abort_handle());
        Ok(())
    }
}

impl WriteAt for Upload {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // What is written beyond the end only fills a page.
        let end = self.bytes.min(offset + bytes.len() as u64);
        let mut at = offset;
        while at < end {
            let number = at / self.part;
            let start = number * self.part;
            let length = self.part.min(self.bytes - start);
            let to = end.min(start + length);
            let mut progress = self.progress();
            if let Some(error) = progress.error() {
                return Err(error);
            }
            let (part, filled) = progress.filling.entry(number).or_insert_with(|| (vec![0; length as usize], 0));
            part[(at - start) as usize..(to - start) as usize]
                .copy_from_slice(&bytes[(at - offset) as usize..(to - offset) as usize]);
            *filled += to - at;
            if *filled == length
                && let Some((part, _)) = progress.filling.remove(&number)
            {
                self.send(number, part, progress)?;
            }
            at = to;
        }
        Ok(())
    }

    fn finish(&self, bytes: u64) -> io::Result<()> {
        let mut progress = self.wait_while(self.progress(), |progress| !progress.on_their_way.is_empty());
        if let Some(error) = progress.error() {
            return Err(error);
        }
        if bytes != self.bytes || progress.sent.len() as u64 != self.bytes.div_ceil(self.part) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not all of it was written"));
        }
        let parts = std::mem::take(&mut progress.sent).into_values().collect();
        drop(progress);
        self.bucket.wait(self.bucket.multipart.complete_multipart(&self.key, &self.id, parts))?;
        // It is only in the way of whoever looks what there is.
        let _ =
            self.bucket.wait(async { object_store::ObjectStoreExt::delete(&*self.bucket.objects, &self.record).await });
        Ok(())
    }
}

impl Drop for Upload {
    /// Sends no more; what was sent is aborted when the save is given up or swept away.
    fn drop(&mut self) {
        for task in std::mem::take(&mut self.progress().on_their_way).into_values() {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_large_enough_that_there_are_never_too_many() {
        assert_eq!(part_size(PART + 1), PART);
        assert_eq!(part_size(MOST_PARTS * PART), PART);
        for bytes in [MOST_PARTS * PART + 1, 1 << 40, 5 << 40] {
            let part = part_size(bytes);
            assert!(part.is_multiple_of(PART) && bytes.div_ceil(part) <= MOST_PARTS, "{bytes}: {part}");
        }
    }
}
