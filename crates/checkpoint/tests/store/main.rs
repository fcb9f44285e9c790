//! The store as a training run meets it: saves, crashes, damage, other writers, full disks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

/// A filesystem that does one thing in its own way, and everything else as the one in its first field.
macro_rules! files_but_for {
    (impl $([$($generics:tt)*])? for $type:ty { $($own:item)* }; and $($method:ident)*) => {
        impl $(<$($generics)*>)? bedplate_checkpoint::Files for $type {
            $($own)*
            $(files_but_for!(@ $method);)*
        }
    };
    (@ shown) => { fn shown(&self, path: &str) -> String { self.0.shown(path) } };
    (@ list) => { fn list(&self, folder: &str) -> std::io::Result<Vec<String>> { self.0.list(folder) } };
    (@ read) => { fn read(&self, path: &str, most: u64) -> std::io::Result<Vec<u8>> { self.0.read(path, most) } };
    (@ open) => { fn open(&self, path: &str) -> std::io::Result<Box<dyn bedplate_checkpoint::ReadAt>> { self.0.open(path) } };
    (@ create_folder) => { fn create_folder(&self, path: &str) -> std::io::Result<()> { self.0.create_folder(path) } };
    (@ create) => {
        fn create(&self, path: &str, bytes: u64) -> std::io::Result<Box<dyn bedplate_checkpoint::WriteAt>> {
            self.0.create(path, bytes)
        }
    };
    (@ link) => { fn link(&self, from: &str, to: &str) -> std::io::Result<()> { self.0.link(from, to) } };
    (@ rename) => { fn rename(&self, from: &str, to: &str) -> std::io::Result<()> { self.0.rename(from, to) } };
    (@ remove_file) => { fn remove_file(&self, path: &str) -> std::io::Result<()> { self.0.remove_file(path) } };
    (@ remove_folder) => { fn remove_folder(&self, path: &str) -> std::io::Result<()> { self.0.remove_folder(path) } };
    (@ sync_folder) => { fn sync_folder(&self, path: &str) -> std::io::Result<()> { self.0.sync_folder(path) } };
    (@ free) => { fn free(&self) -> Option<u64> { self.0.free() } };
}

mod coming;
mod damage;
mod faults;
mod interchange;
mod killed;
mod power;
mod saves;
mod shards;
mod sim;
mod writers;

use std::num::{NonZeroU64, NonZeroUsize};

use bedplate_checkpoint::{
    Checkpoint, DType, Data, Error, Info, Request, Result, Retention, Save, Saved, State, StepId, Store, Tensor, Writer,
};

/// The training state of a step: a frozen tensor, one that changes at every step, one that changes at some, a counter,
/// an empty one, and two blobs.
pub(crate) struct Model {
    tensors: Vec<(&'static str, DType, Vec<u64>, Vec<u8>)>,
    blobs: Vec<(&'static str, Vec<u8>)>,
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut data = vec![0; bytes];
    random.fill(&mut data);
    data
}

impl Model {
    /// `scale` times 4 KiB, about.
    pub(crate) fn at(step: u64, rank: u32, scale: usize) -> Self {
        let seed = |kind: u64, step: u64| kind << 48 | u64::from(rank) << 32 | step;
        let rows = scale as u64;
        Self {
            tensors: vec![
                ("base.weight", DType::F32, vec![rows, 512], noise(seed(1, 0), scale * 2048)),
                ("adapter", DType::BF16, vec![3, rows, 100], noise(seed(2, step), scale * 600)),
                ("slow", DType::U8, vec![rows, 333], noise(seed(3, step / 30), scale * 333)),
                ("step", DType::I64, vec![], step.to_le_bytes().to_vec()),
                ("empty", DType::F16, vec![0, 4], vec![]),
            ],
            blobs: vec![("rng", noise(seed(4, step), 100)), ("loader", b"epoch 3, shard 17".to_vec())],
        }
    }

    pub(crate) fn state(&self) -> State<'_> {
        let tensors = self.tensors.iter().map(|(name, dtype, shape, data)| Tensor {
            name,
            dtype: *dtype,
            shape: shape.clone(),
            global: None,
            data: Data::There(data),
        });
        State {
            tensors: tensors.collect(),
            blobs: self.blobs.iter().map(|(name, data)| (*name, &**data)).collect(),
            ..State::default()
        }
    }

    /// Reads everything that a rank saved, and compares it with what it was. A difference is the one thing that must not be.
    pub(crate) fn expect(checkpoint: &Checkpoint, rank: u32, scale: usize) -> Result<()> {
        let wanted = Self::at(checkpoint.id().step, rank, scale);
        let mut memory: Vec<Vec<u8>> = wanted.tensors.iter().map(|(.., data)| vec![1; data.len()]).collect();
        let requests = wanted.tensors.iter().zip(&mut memory);
        let requests = requests.map(|((name, ..), into)| Request { name, rank: Some(rank), region: None, into });
        checkpoint.read(requests.collect())?;
        for ((name, .., data), found) in wanted.tensors.iter().zip(&memory) {
            assert!(data == found, "{} gives another `{name}` than was saved, and no error", checkpoint.place());
        }
        for (name, data) in &wanted.blobs {
            assert!(checkpoint.blob(rank, name)? == *data, "{} gives another blob `{name}`", checkpoint.place());
        }
        Ok(())
    }
}

pub(crate) const SMALL: usize = 2;

pub(crate) fn info(step: u64) -> Info {
    let metrics = [("loss".to_owned(), 1.0 / step as f64)].into();
    Info { created: 1_790_000_000 + step, metrics, ..Info::default() }
}

pub(crate) fn save(writer: &mut Writer, step: u64) -> Result<Saved> {
    writer.save(step, &Model::at(step, 0, SMALL).state(), &info(step)).map(|(_, saved)| saved)
}

pub(crate) fn one(step: u64, world_size: u32) -> Save {
    Save { step, attempt: 0, world_size }
}

pub(crate) fn last(count: usize) -> Retention {
    Retention { last: NonZeroUsize::new(count).unwrap(), every: NonZeroU64::new(0), best: None }
}

pub(crate) fn id(step: u64, generation: u64) -> StepId {
    StepId { step, generation }
}

/// Which step is resumed, after everything of it was read and compared; and the steps that were passed over.
pub(crate) fn resumed(store: &Store, ranks: u32) -> Result<(Option<u64>, Vec<u64>)> {
    let resume = store.resume_with(|checkpoint| {
        assert_eq!(checkpoint.manifest().world_size(), ranks);
        (0..ranks).try_for_each(|rank| Model::expect(checkpoint, rank, SMALL))
    })?;
    let passed_over = resume.passed_over.iter().map(|one| one.id.step).collect();
    Ok((resume.found.map(|(checkpoint, ())| checkpoint.id().step), passed_over))
}

/// A store in a new folder.
pub(crate) fn folder() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(&folder.path().join("run"));
    (folder, store)
}

/// A store in memory, for tests of what is not about the device: nothing waits for it.
pub(crate) fn folder_in_memory() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = Store::at(&folder.path().join("run"));
    (folder, store)
}

pub(crate) fn take_over(store: &Store) -> Writer {
    store.take_over("run", "the test", 1_790_000_000).unwrap()
}

/// An error without the folder that is new each time.
pub(crate) fn told(error: &Error, folder: &tempfile::TempDir) -> String {
    error.to_string().replace(&folder.path().display().to_string(), "")
}
