//! `bedplate._core`: the durable store for the Python package. What a state is, and when it is saved, is Python's
//! (`bedplate/`); bytes, files and checksums are here, and no call holds the GIL while it waits for storage.

mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bedplate_checkpoint as store;
use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use store::{DType, Depth, Error};

/// The name of the blob in which a rank's tree is; its tensors are beside it.
const TREE: &str = "tree.json";

create_exception!(bedplate, CheckpointError, PyRuntimeError, "Why a checkpoint was not saved or not read.");
create_exception!(bedplate, DamagedError, CheckpointError, "A checkpoint is not as it was written.");
create_exception!(bedplate, FencedError, CheckpointError, "Another process has taken over the run: stop this one.");
create_exception!(bedplate, OtherRunError, CheckpointError, "The folder holds another run's checkpoints.");
create_exception!(bedplate, NoSpaceError, CheckpointError, "The device is full, or the quota used up.");

fn raised(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Damaged { .. } | Error::NothingWhole { .. } => DamagedError::new_err(text),
        Error::Fenced { .. } => FencedError::new_err(text),
        Error::OtherRun { .. } => OtherRunError::new_err(text),
        Error::NoSpace { .. } => NoSpaceError::new_err(text),
        Error::Io { source, .. } => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, text)),
            None => PyOSError::new_err(text),
        },
        _ => CheckpointError::new_err(text),
    }
}

/// The right to save in a folder, until another process takes over.
#[pyclass(frozen, module = "bedplate._core")]
struct Writer {
    writer: Mutex<store::Writer>,
    generation: u64,
    written: Arc<AtomicU64>,
}

/// A tensor to read: name, where it begins in the whole (not told for one that is the rank's own), shape, address, bytes.
type Wanted = (String, Option<Vec<u64>>, Vec<u64>, usize, usize);

/// What a resume found: step, generation, metrics as JSON; and each newer one that was passed over, with why.
type Resumed = (Option<(u64, u64, String)>, Vec<(String, String)>);

impl Writer {
    fn new(writer: store::Writer, written: Arc<AtomicU64>) -> Self {
        Self { generation: writer.generation(), writer: Mutex::new(writer), written }
    }

    fn lock(&self) -> MutexGuard<'_, store::Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Writer {
    /// Becomes the writer of a folder or URL. `now` in seconds since 1970.
    #[staticmethod]
    fn take_over(py: Python<'_>, folder: PathBuf, run: &str, owner: &str, now: u64) -> PyResult<Self> {
        let written = Arc::new(AtomicU64::new(0));
        let counted = open(&folder)?.counted(Arc::clone(&written));
        let writer = py.detach(|| counted.take_over(run, owner, now)).map_err(raised)?;
        Ok(Self::new(writer, written))
    }

    /// Writes as another rank of the writer that took over.
    #[staticmethod]
    fn join(py: Python<'_>, folder: PathBuf, run: &str, generation: u64) -> PyResult<Self> {
        let written = Arc::new(AtomicU64::new(0));
        let counted = open(&folder)?.counted(Arc::clone(&written));
        let writer = py.detach(|| counted.join(run, generation)).map_err(raised)?;
        Ok(Self::new(writer, written))
    }

    /// Which writer it is.
    #[getter]
    fn generation(&self) -> u64 {
        self.generation
    }

    /// Bytes that were written since it is there.
    #[getter]
    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Saves a rank's part durably: its tree, and the arrays of a snapshot, which may still be made meanwhile. `agreed` is what
    /// this rank takes for the same on all ranks. Gives bytes that were written, and bytes that were as before.
    fn save_part(
        &self,
        py: Python<'_>,
        save: (u64, u32, u32),
        rank: u32,
        tree: &[u8],
        agreed: &[u8],
        snapshot: &memory::Snapshot,
    ) -> PyResult<(u64, u64)> {
        let arrays = snapshot.arrays();
        let tensors = arrays.iter().map(memory::Array::tensor).collect();
        let state = store::State { tensors, blobs: vec![(TREE, tree)], agreed: Some(agreed) };
        let saved = py.detach(|| self.lock().save_part(at(save), rank, &state)).map_err(raised)?;
        Ok((saved.written, saved.linked))
    }

    /// Publishes a step. Gives the ranks whose part is not there yet: none when it is published.
    fn publish(
        &self,
        py: Python<'_>,
        save: (u64, u32, u32),
        rank: u32,
        created: u64,
        metrics: BTreeMap<String, f64>,
        user: &str,
    ) -> PyResult<Vec<u32>> {
        let user = serde_json::from_str(user).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let info = store::Info { created, metrics, user };
        let published = py.detach(|| self.lock().publish(at(save), rank, &info, Depth::Structure));
        match published.map_err(raised)? {
            store::Publication::Published(_) => Ok(Vec::new()),
            store::Publication::Waiting(ranks) => Ok(ranks),
        }
    }

    /// Gives up a save, for all ranks.
    fn give_up(&self, py: Python<'_>, save: (u64, u32, u32)) -> PyResult<()> {
        py.detach(|| self.lock().give_up(at(save))).map_err(raised)
    }

    /// Removes what is not to be kept. `best`: a metric, whether the lowest is the best, and how many. Gives what somebody
    /// should be told.
    fn prune(
        &self,
        py: Python<'_>,
        last: usize,
        every: Option<u64>,
        best: Option<(String, bool, usize)>,
    ) -> PyResult<Vec<String>> {
        let some = |count| NonZeroUsize::new(count).ok_or_else(|| PyValueError::new_err("keep at least 1"));
        let best = match best {
            Some((metric, lowest, count)) => Some(store::Best {
                metric,
                direction: if lowest { store::Direction::Min } else { store::Direction::Max },
                count: some(count)?,
            }),
            None => None,
        };
        let rules = store::Retention { last: some(last)?, every: every.and_then(NonZeroU64::new), best };
        let store = self.lock().store().clone();
        let pruning = py.detach(|| store.prune(&rules, Depth::Structure)).map_err(raised)?;
        Ok(pruning.told)
    }

    /// Reads the newest checkpoint that is whole. `load(step, ranks, tree, own, shared)` makes room: it is given the rank's
    /// tree, the tensors (name, type, shape) that are this rank's own and those that all share, and gives room for those that
    /// it wants. Where another number of ranks has saved it, the tree is that of rank 0. It may be called again, for an older
    /// checkpoint, when this one turns out to be damaged: it applies nothing.
    fn resume(&self, py: Python<'_>, rank: u32, world_size: u32, load: Py<PyAny>) -> PyResult<Resumed> {
        let mut thrown = None;
        let found = py.detach(|| {
            let mut writer = self.lock();
            let resume = writer.store().clone().resume_with(|checkpoint| {
                let ranks = checkpoint.manifest().world_size();
                let rank = if ranks == world_size { rank } else { 0 };
                let tree = checkpoint.blob(rank, TREE)?;
                let told =
                    |record: &store::Record| (record.name.clone(), record.dtype.name(), record.whole_shape().to_vec());
                let records = checkpoint.parts().iter().flat_map(|part| &part.tensors);
                let shared: BTreeSet<_> = records.filter(|record| record.global.is_some()).map(told).collect();
                let records = checkpoint.parts()[rank as usize].tensors.iter();
                let own: Vec<_> = records.filter(|record| record.global.is_none()).map(told).collect();
                let wanted = Python::attach(|py| -> PyResult<Vec<Wanted>> {
                    let tree = PyBytes::new(py, &tree);
                    let shared: Vec<_> = shared.into_iter().collect();
                    load.call1(py, (checkpoint.id().step, ranks, tree, own, shared))?.extract(py)
                });
                let wanted = wanted.map_err(|error| {
                    thrown = Some(error);
                    Error::Input("the state could not take it".to_owned())
                })?;
                let requests = wanted.iter().map(|(name, offset, shape, address, bytes)| store::Request {
                    name,
                    rank: offset.is_none().then_some(rank),
                    region: offset.clone().map(|offset| store::Region { offset, shape: shape.clone() }),
                    into: memory::writable(*address, *bytes),
                });
                checkpoint.read(requests.collect())
            })?;
            if let Some((checkpoint, _)) = &resume.found {
                writer.go_on_from(checkpoint);
            }
            Ok(resume)
        });
        if let Some(error) = thrown {
            return Err(error);
        }
        let resume: store::Resume<u64> = found.map_err(raised)?;
        let passed_over = resume.passed_over.into_iter().map(|one| (one.id.to_string(), one.reason)).collect();
        let found = resume.found.map(|(checkpoint, _)| {
            let manifest = checkpoint.manifest();
            (manifest.step, manifest.generation, serde_json::Value::Object(manifest.user.clone()).to_string())
        });
        Ok((found, passed_over))
    }
}

/// Bytes a second that a folder takes durably: writes at most `most` bytes, for about `enough` seconds, and removes them.
#[pyfunction]
fn measure(py: Python<'_>, folder: PathBuf, most: u64, enough: f64) -> PyResult<f64> {
    let enough = Duration::try_from_secs_f64(enough).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let store = open(&folder)?;
    py.detach(|| store.measure(most, enough)).map_err(raised)
}

/// How long a request to an object store is sent again when it gets no answer: a service that is away for a moment costs no
/// save, and one that is gone does not hold a job that is to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The store in a folder, or at a URL.
fn open(place: &Path) -> PyResult<store::Store> {
    store::Store::open(place, &store::Access::from_env(PATIENCE)).map_err(raised)
}

/// The type of a tensor's elements.
fn element(tensor: &str, dtype: &str) -> PyResult<DType> {
    let refused = || PyValueError::new_err(format!("`{tensor}` has the type `{dtype}`, which no file holds"));
    DType::named(dtype).ok_or_else(refused)
}

/// A save, from step, attempt and number of ranks.
fn at((step, attempt, world_size): (u64, u32, u32)) -> store::Save {
    store::Save { step, attempt, world_size }
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<Writer>()?;
    module.add_class::<memory::Memory>()?;
    module.add_class::<memory::Snapshot>()?;
    module.add_function(wrap_pyfunction!(measure, module)?)?;
    module.add("CheckpointError", py.get_type::<CheckpointError>())?;
    module.add("DamagedError", py.get_type::<DamagedError>())?;
    module.add("FencedError", py.get_type::<FencedError>())?;
    module.add("OtherRunError", py.get_type::<OtherRunError>())?;
    module.add("NoSpaceError", py.get_type::<NoSpaceError>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
