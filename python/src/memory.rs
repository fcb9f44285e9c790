//! Memory that Python's arrays are in, by its address. All `unsafe` code of the package is here.
//!
//! The stable interface of Python 3.10 has no buffers, and neither do torch's tensors: so `bedplate/_state.py` passes an
//! address and a length. It holds a reference to the owner of each until the call returns; for a save that goes on in
//! the background the owner is a [`Memory`], which is held by the save.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

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
            py.detach(|| each(&[(memory.address, memory.address, nbytes)], |_, to, bytes| touch(to, bytes)));
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

/// Does something with pieces (from, to, bytes) in chunks, with a few threads.
fn each(pieces: &[(usize, usize, usize)], work: impl Fn(usize, usize, usize) + Sync) {
    let mut chunks = Vec::new();
    for &(from, to, bytes) in pieces {
        for start in (0..bytes).step_by(CHUNK) {
            chunks.push((from + start, to + start, CHUNK.min(bytes - start)));
        }
    }
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(&(from, to, bytes)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(from, to, bytes);
        }
    };
    let total: usize = chunks.iter().map(|chunk| chunk.2).sum();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4).min(total / CHUNK + 1);
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
}

/// Copies pieces (from, to, bytes) of memory that do not overlap, without the GIL.
#[pyfunction]
pub(crate) fn copy(py: Python<'_>, pieces: Vec<(usize, usize, usize)>) -> PyResult<()> {
    if pieces.iter().any(|&(from, to, bytes)| bytes > 0 && (from == 0 || to == 0)) {
        return Err(PyValueError::new_err("an array has no memory of its own"));
    }
    py.detach(|| {
        each(&pieces, |from, to, bytes| {
            // SAFETY: the caller holds the owners of both, which are as long as it says and do not overlap; any byte is a u8.
            unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) }
        });
    });
    Ok(())
}

/// Memory of an array to read, as long as the caller holds its owner.
pub(crate) fn readable<'a>(address: usize, bytes: usize) -> &'a [u8] {
    if bytes == 0 {
        return &[];
    }
    // SAFETY: the caller holds the owner of so many bytes, and nobody writes to them meanwhile.
    unsafe { std::slice::from_raw_parts(address as *const u8, bytes) }
}

/// Memory of a new array to fill, as long as the caller holds its owner.
pub(crate) fn writable<'a>(address: usize, bytes: usize) -> &'a mut [u8] {
    if bytes == 0 {
        return &mut [];
    }
    // SAFETY: the caller holds the owner of so many bytes, which was made for this and is seen by nobody else yet.
    unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes) }
}
