//! How fast storage is, and how far a save has come.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::data::Data;
use crate::error::Result;
use crate::files::{Files, ReadAt, WriteAt};
use crate::safetensors::PAGE;
use crate::store::Store;
use crate::transfer::{self, PIECE};

/// The name of the file that [`Store::measure`] writes and removes. It is no name of the format, so readers pass it by.
const PROBE: &str = "bandwidth.probe";

/// Storage that counts the bytes which are written to it.
struct Counted {
    files: Arc<dyn Files>,
    written: Arc<AtomicU64>,
}

struct CountedFile {
    file: Box<dyn WriteAt>,
    written: Arc<AtomicU64>,
}

impl Store {
    /// The same store; every byte that is written by way of it is added to `written`. So whoever waits for a save can tell
    /// how far it is.
    #[must_use]
    pub fn counted(&self, written: Arc<AtomicU64>) -> Self {
        Self::on(Arc::new(Counted { files: Arc::clone(&self.files), written }))
    }

    /// Bytes a second that this store takes durably: writes up to `most` bytes as a save does (and no more than a quarter of
    /// what is free), ends when `enough` time is spent, and removes them. The folder must be there.
    ///
    /// # Errors
    /// What the system says; nothing is left then.
    pub fn measure(&self, most: u64, enough: Duration) -> Result<f64> {
        let done = self.write_probe(most, enough);
        // Also what a killed run left.
        let _ = self.files.remove_file(PROBE);
        done
    }

    fn write_probe(&self, most: u64, enough: Duration) -> Result<f64> {
        let fail = |source| self.io("write", PROBE)(source);
        let _ = self.files.remove_file(PROBE);
        // Not zeros, which some storage does not store.
        let most = most.min(self.files.free().map_or(u64::MAX, |free| free / 4)).max(PAGE);
        let page: Vec<u8> = (0..PAGE).map(|byte| (byte.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect();
        let block = page.repeat((most.min(4 * PIECE) / PAGE) as usize);
        let mut rate = 0.0;
        let mut bytes = block.len() as u64;
        let started = Instant::now();
        loop {
            let one = (PROBE, Data::There(&block));
            let contents = vec![one; (bytes / block.len() as u64) as usize];
            let begun = Instant::now();
            let file = self.files.create(PROBE, bytes).map_err(fail)?;
            transfer::write(&*file, &[], &contents, &fail)?;
            rate = f64::max(rate, bytes as f64 / begun.elapsed().as_secs_f64().max(1e-9));
            self.files.remove_file(PROBE).map_err(fail)?;
            bytes *= 2;
            if bytes > most || started.elapsed() >= enough {
                return Ok(rate);
            }
        }
    }
}

impl Files for Counted {
    fn shown(&self, path: &str) -> String {
        self.files.shown(path)
    }
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.files.list(folder)
    }
    fn read(&self, path: &str, at_most: u64) -> io::Result<Vec<u8>> {
        self.files.read(path, at_most)
    }
    fn open(&self, path: &str) -> io::Result<Box<dyn ReadAt>> {
        self.files.open(path)
    }
    fn create_folder(&self, path: &str) -> io::Result<()> {
        self.files.create_folder(path)
    }
    fn create(&self, path: &str, bytes: u64) -> io::Result<Box<dyn WriteAt>> {
        let file = self.files.create(path, bytes)?;
        Ok(Box::new(CountedFile { file, written: Arc::clone(&self.written) }))
    }
    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.link(from, to)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.files.remove_file(path)
    }
    fn remove_folder(&self, path: &str) -> io::Result<()> {
        self.files.remove_folder(path)
    }
    fn sync_folder(&self, path: &str) -> io::Result<()> {
        self.files.sync_folder(path)
    }
    fn free(&self) -> Option<u64> {
        self.files.free()
    }
    fn put(&self, path: &str, temporary: &str, bytes: &[u8]) -> io::Result<()> {
        self.files.put(path, temporary, bytes)
    }
    fn stage(&self, staging: &str, temporary: &str, manifest: &[u8]) -> io::Result<()> {
        self.files.stage(staging, temporary, manifest)
    }
    fn publish(&self, staging: &str, checkpoint: &str, manifest: &[u8]) -> io::Result<()> {
        self.files.publish(staging, checkpoint, manifest)
    }
    fn hide(&self, folder: &str) -> io::Result<Option<String>> {
        self.files.hide(folder)
    }
    fn delete(&self, hidden: &str) -> io::Result<()> {
        self.files.delete(hidden)
    }
}

impl WriteAt for CountedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)?;
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
    fn finish(&self, bytes: u64) -> io::Result<()> {
        self.file.finish(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Info, State, Tensor};

    /// Who waits for the last save of a job that is told to end sees how much is left.
    #[test]
    fn every_byte_of_a_save_is_counted_and_a_measurement_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let written = Arc::new(AtomicU64::new(0));
        let store = Store::at(folder.path()).counted(Arc::clone(&written));
        let mut writer = store.take_over("run", "test", 0).unwrap();
        let data = vec![7; 3 << 20];
        let tensor = Tensor {
            name: "w",
            dtype: DType::U8,
            shape: vec![data.len() as u64],
            global: None,
            data: Data::There(&data),
        };
        writer.save(1, &State { tensors: vec![tensor], ..State::default() }, &Info::default()).unwrap();
        assert!(written.load(Ordering::Relaxed) >= data.len() as u64);
        let before = std::fs::read_dir(folder.path()).unwrap().count();
        assert!(store.measure(1, Duration::ZERO).unwrap() > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before);
    }
}
