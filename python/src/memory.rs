//! Memory that Python's arrays are in, by its address. All `unsafe` code of the package is here.
//!
//! The stable interface of Python 3.10 has no buffers, and neither do torch's tensors: so `bedplate/_state.py` passes an
//! address and a length. It holds a reference to the owner of each until the call returns; for a save that goes on in
//! the background the owner is a [`Memory`], which is held by the save.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;

/// Where huge pages begin. The allocator gives memory that begins there as a mapping of its own.
const HUGE: usize = 2 << 20;

/// What a thread copies at a time.
const CHUNK: usize = 8 << 20;

/// Host memory for a snapshot. Its pages are there when it is made: a training step that copies into it waits for no page
/// fault (a first touch costs several times the copy).
#[pyclass(frozen, module = "bedplate._core")]
pub(crate) struct Memory {
    address: usize,
    layout: Layout,
}

#[pymethods]
impl Memory {
    #[new]
    fn new(py: Python<'_>, nbytes: usize) -> PyResult<Self> {
        let layout = Layout::from_size_align(nbytes.max(1), HUGE)
            .map_err(|_| PyMemoryError::new_err(format!("no memory can have {nbytes} bytes")))?;
        let address = py.detach(|| {
            // SAFETY: the layout has a size that is not 0.
            (unsafe { alloc_zeroed(layout) }) as usize
        });
        if address == 0 {
            return Err(PyMemoryError::new_err(format!("there is no memory for a snapshot of {nbytes} bytes")));
        }
        // An allocator may give pages that are zero because nobody has touched them.
        py.detach(|| each(&[(address, address, layout.size())], |_, to, bytes| touch(to, bytes)));
        Ok(Self { address, layout })
    }

    /// Where it begins.
    #[getter]
    fn address(&self) -> usize {
        self.address
    }

    /// Its length.
    #[getter]
    fn nbytes(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it came from `alloc_zeroed` with this layout, and nothing else frees it.
        unsafe { dealloc(self.address as *mut u8, self.layout) }
    }
}

fn touch(address: usize, bytes: usize) {
    for page in (0..bytes).step_by(4096) {
        // SAFETY: within the allocation of the caller, which no other thread has yet; volatile, so that it is not left out.
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
