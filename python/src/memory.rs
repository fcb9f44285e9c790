//! Memory that Python's arrays are in, by its address. All `unsafe` code of the package is here.
//!
//! The stable interface of Python 3.10 has no buffers, and neither do torch's tensors: so `bedplate/_state.py` passes an
//! address and a length. It holds a reference to the owner of each until the call returns; what is saved in the background
//! is a [`Snapshot`], which holds its memory.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::{ptr, slice, thread};

use bedplate_checkpoint::{Coming, DType, Data, Global, Tensor, file_order};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::element;

/// Where huge pages begin.
const HUGE: usize = 2 << 20;

/// What a thread copies at a time.
const CHUNK: usize = 8 << 20;

/// Host memory of its own, in huge pages where the system has them: a first touch of 1 GiB in small ones costs as much as
/// half its way to a fast device.
#[pyclass(frozen, module = "bedplate._core")]
pub(crate) struct Memory {
    /// The first multiple of [`HUGE`] in the mapping.
    address: usize,
    nbytes: usize,
    mapping: (usize, usize),
}

#[pymethods]
impl Memory {
    /// With `touched` its pages are there when it is made: a training step that copies into it waits for no page fault.
    /// Without, whoever reads into it makes them.
    #[new]
    fn new(py: Python<'_>, nbytes: usize, touched: bool) -> PyResult<Self> {
        let length = nbytes
            .max(1)
            .checked_add(HUGE)
            .ok_or_else(|| PyMemoryError::new_err(format!("no memory can have {nbytes} bytes")))?;
        // SAFETY: a new mapping at a place that the system chooses touches no other memory.
        let mapped =
            unsafe { mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
        let mapping = mapped.map_err(|error| {
            PyMemoryError::new_err(format!("there is no memory for a snapshot of {nbytes} bytes: {error}"))
        })? as usize;
        let memory = Self { address: mapping.next_multiple_of(HUGE), nbytes, mapping: (mapping, length) };
        // SAFETY: advice about pages of our own mapping that nobody uses yet. Refused where there are no huge pages: it is
        // only a help.
        let _ = unsafe { madvise(memory.address as *mut c_void, nbytes, Advice::LinuxHugepage) };
        if touched {
            let chunks: Vec<usize> = (0..nbytes).step_by(CHUNK).collect();
            py.detach(|| each(&chunks, |start| touch(memory.address + start, CHUNK.min(nbytes - start))));
        }
        Ok(memory)
    }

    /// Where it begins.
    #[getter]
    fn address(&self) -> usize {
        self.address
    }

    /// Its length.
    #[getter]
    fn nbytes(&self) -> usize {
        self.nbytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let (address, length) = self.mapping;
        // SAFETY: the whole of a mapping that `new` made; whoever holds its address holds this object too.
        let _ = unsafe { munmap(address as *mut c_void, length) };
    }
}

fn touch(address: usize, bytes: usize) {
    for page in (0..bytes).step_by(4096) {
        // SAFETY: within the mapping of the caller, which no other thread has yet; volatile, so that it is not left out.
        unsafe { ((address + page) as *mut u8).write_volatile(0) }
    }
}

/// Does jobs with a few threads, in their order.
fn each<T: Sync>(jobs: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(job);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4).min(jobs.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
}

/// The first bytes of each array are copied before the rest of any: by these a save sees what has changed since the one
/// before, and can begin with its file.
const FIRST: usize = 1 << 20;

/// An array of a [`Snapshot`].
struct Part {
    name: String,
    dtype: DType,
    shape: Vec<u64>,
    /// Where it belongs, when it is not this rank's own.
    global: Option<Global>,
    /// Where it is in Python; 0 when Python copies it.
    from: usize,
    to: usize,
    bytes: usize,
    /// The index of its first chunk among those of all.
    chunk: usize,
}

impl Part {
    /// Which of its chunks has this byte: one of [`FIRST`] bytes, then those of [`CHUNK`].
    fn chunk_of(&self, byte: usize) -> usize {
        self.chunk + if byte < FIRST { 0 } else { 1 + (byte - FIRST) / CHUNK }
    }

    /// All of its chunks, and the bytes of one.
    fn chunks(&self) -> Range<usize> {
        if self.bytes == 0 { self.chunk..self.chunk } else { self.chunk..self.chunk_of(self.bytes - 1) + 1 }
    }

    fn bytes_of(&self, chunk: usize) -> Range<usize> {
        let end = |index: usize| (FIRST + index * CHUNK).min(self.bytes);
        match chunk - self.chunk {
            0 => 0..end(0),
            index => end(index - 1)..end(index),
        }
    }
}

/// An array as Python gives it: name, type, shape; where it belongs, when it is not this rank's own (the shape of the whole, and
/// where it begins in that); from where it is copied, 0 when Python does that; to where; its bytes.
type Given = (String, String, Vec<u64>, Option<(Vec<u64>, Vec<u64>)>, usize, usize, usize);

/// A copy of a state's arrays in memory of our own, which is saved while it is made.
#[pyclass(frozen, module = "bedplate._core")]
pub(crate) struct Snapshot {
    /// Where it is.
    _memory: Py<Memory>,
    parts: Vec<Part>,
    /// Indexes of `parts`, as the store writes them.
    order: Vec<usize>,
    /// Which chunks are copied.
    copied: Vec<AtomicBool>,
    given_up: Mutex<bool>,
    changed: Condvar,
}

#[pymethods]
impl Snapshot {
    /// For arrays whose `to` is within `memory`.
    #[new]
    fn new(memory: Py<Memory>, arrays: Vec<Given>) -> PyResult<Self> {
        let (start, end) = (memory.get().address, memory.get().address + memory.get().nbytes);
        let mut parts: Vec<Part> = Vec::with_capacity(arrays.len());
        let mut chunk = 0;
        for (name, dtype, shape, place, from, to, bytes) in arrays {
            if to < start || to.checked_add(bytes).is_none_or(|past| past > end) {
                return Err(PyValueError::new_err(format!("`{name}` is not within the memory of the snapshot")));
            }
            let global = place.map(|(shape, offset)| Global { shape, offset });
            let part = Part { dtype: element(&name, &dtype)?, name, shape, global, from, to, bytes, chunk };
            chunk = part.chunks().end;
            parts.push(part);
        }
        let named: Vec<_> = parts.iter().map(|part| (&*part.name, part.dtype, &*part.shape)).collect();
        let order = file_order(&named);
        let copied = (0..chunk).map(|_| AtomicBool::new(false)).collect();
        Ok(Self { _memory: memory, parts, order, copied, given_up: Mutex::new(false), changed: Condvar::new() })
    }

    /// Copies all that has a place in Python, and gives the indexes of those that Python has to copy, in the order in which
    /// a save takes them.
    fn copy(&self, py: Python<'_>) -> Vec<usize> {
        py.detach(|| {
            let (mut first, mut rest) = (Vec::new(), Vec::new());
            for part in self.order.iter().map(|index| &self.parts[*index]).filter(|part| part.from != 0) {
                let mut chunks = part.chunks().map(|chunk| (part, chunk));
                first.extend(chunks.next());
                rest.extend(chunks);
            }
            first.append(&mut rest);
            self.copy_all(&first);
        });
        self.order.iter().copied().filter(|index| self.parts[*index].from == 0).collect()
    }

    /// Where Python copies this array to.
    fn address(&self, index: usize) -> PyResult<usize> {
        Ok(self.part(index)?.to)
    }

    /// Python has copied this array.
    fn copied(&self, index: usize) -> PyResult<()> {
        self.are_there(self.part(index)?.chunks());
        Ok(())
    }

    /// What is not copied yet never will be: a save that waits for it fails.
    fn give_up(&self) {
        *self.given_up.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

impl Snapshot {
    fn part(&self, index: usize) -> PyResult<&Part> {
        self.parts.get(index).ok_or_else(|| PyValueError::new_err(format!("the snapshot has no array {index}")))
    }

    /// Copies chunks, with a few threads, in this order; small ones together.
    fn copy_all(&self, chunks: &[(&Part, usize)]) {
        let mut batches = Vec::new();
        let (mut begin, mut bytes) = (0, 0);
        for (index, (part, chunk)) in chunks.iter().enumerate() {
            bytes += part.bytes_of(*chunk).len();
            if bytes >= CHUNK / 2 || index + 1 == chunks.len() {
                batches.push(&chunks[begin..=index]);
                (begin, bytes) = (index + 1, 0);
            }
        }
        each(&batches, |batch| {
            for (part, chunk) in *batch {
                let range = part.bytes_of(*chunk);
                // SAFETY: Python holds the array at `from` until all is copied, and `new` saw that `to` is within the memory,
                // which we hold; these do not overlap, any byte is a u8, and nobody reads the chunk before it is marked.
                unsafe {
                    ptr::copy_nonoverlapping(
                        (part.from + range.start) as *const u8,
                        (part.to + range.start) as *mut u8,
                        range.len(),
                    );
                }
            }
            self.are_there(batch.iter().map(|(_, chunk)| *chunk));
        });
    }

    fn are_there(&self, chunks: impl Iterator<Item = usize>) {
        for chunk in chunks {
            self.copied[chunk].store(true, Ordering::Release);
        }
        // Whoever looked before is waiting when we have had the lock.
        drop(self.given_up.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// The arrays, as a save takes them.
    pub(crate) fn arrays(&self) -> Vec<Array<'_>> {
        self.parts.iter().map(|part| Array { snapshot: self, part }).collect()
    }
}

/// One array of a [`Snapshot`].
pub(crate) struct Array<'a> {
    snapshot: &'a Snapshot,
    part: &'a Part,
}

impl Array<'_> {
    pub(crate) fn tensor(&self) -> Tensor<'_> {
        let Part { name, dtype, shape, global, .. } = self.part;
        let (shape, global, data) = (shape.clone(), global.clone(), Data::Coming(self));
        Tensor { name, dtype: *dtype, shape, global, data }
    }
}

impl Coming for Array<'_> {
    fn bytes(&self) -> usize {
        self.part.bytes
    }

    fn wait(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.part.bytes {
            return None;
        }
        if range.is_empty() {
            return Some(&[]);
        }
        let (first, last) = (self.part.chunk_of(range.start), self.part.chunk_of(range.end - 1));
        let is_there = || self.snapshot.copied[first..=last].iter().all(|chunk| chunk.load(Ordering::Acquire));
        if !is_there() {
            let given_up = self.snapshot.given_up.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.snapshot.changed.wait_while(given_up, |given_up| !*given_up && !is_there());
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            if !is_there() {
                return None;
            }
        }
        // SAFETY: within the memory, which the snapshot holds; these chunks were written before they were marked, and nobody
        // writes to them after that.
        Some(unsafe { slice::from_raw_parts((self.part.to + range.start) as *const u8, range.len()) })
    }
}

/// Memory of a new array to fill, as long as the caller holds its owner.
pub(crate) fn writable<'a>(address: usize, bytes: usize) -> &'a mut [u8] {
    if bytes == 0 {
        return &mut [];
    }
    // SAFETY: the caller holds the owner of so many bytes, which was made for this and is seen by nobody else yet.
    unsafe { slice::from_raw_parts_mut(address as *mut u8, bytes) }
}
