//! Bytes between memory and files: large aligned pieces, several at a time, checksums on the way.

use std::ops::{Deref, DerefMut, Range};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::data::Data;
use crate::error::{Error, Result};
use crate::files::{ReadAt, THREADS, WriteAt};
use crate::format::{DataFile, Digest, MOST_BLOCK, Record, cuts};
use crate::region::Runs;
use crate::reuse::is_mostly;
use crate::safetensors::PAGE;

/// Bytes that are read or written at once: whole blocks of any file. Measured: 8 MiB by 4 threads is as fast as an NVMe volume;
/// more threads gain nothing, smaller pieces lose.
pub(crate) const PIECE: u64 = MOST_BLOCK;

/// Where checksums are cut. Smaller: a slice reads less that it does not need. Larger: the list of checksums is shorter.
pub(crate) const BLOCK: u64 = 1 << 20;

/// Memory that begins on a page, which O_DIRECT needs.
struct Aligned {
    memory: Vec<u8>,
    range: Range<usize>,
}

impl Aligned {
    fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + PAGE as usize];
        // May in theory be told impossible (`usize::MAX`); then the buffer begins where it begins, and is only slower.
        let start = memory.as_ptr().align_offset(PAGE as usize).min(PAGE as usize);
        Self { memory, range: start..start + bytes }
    }
}

impl Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.range.clone()]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.range.clone()]
    }
}

/// Does jobs with so many threads at most, each with a buffer of its own of `buffer` bytes. The first error ends it.
fn each<J: Send, R: Send>(
    jobs: Vec<J>,
    threads: usize,
    buffer: u64,
    work: impl Fn(J, &mut [u8]) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let threads = threads.min(jobs.len());
    let queue = Mutex::new(jobs.into_iter());
    let failed = AtomicBool::new(false);
    let run = || -> Result<Vec<R>> {
        let mut memory = Aligned::new(buffer as usize);
        let mut results = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let Some(job) = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next() else { break };
            results.push(work(job, &mut memory).inspect_err(|_| failed.store(true, Ordering::Relaxed))?);
        }
        Ok(results)
    };
    if threads <= 1 {
        return run();
    }
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let mut all = Vec::new();
        for handle in handles {
            // A panic of a thread goes on in ours, as if there were no threads.
            all.extend(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}

/// The pieces of a file.
fn pieces(bytes: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    cuts(bytes.start, bytes.end - bytes.start, PIECE).map(|(start, end)| start..end)
}

/// Whether bytes can be written from where they are, around the page cache: whole pages in memory and in the file, and
/// enough of them to be worth a write of their own.
fn is_worth_no_copy(bytes: &[u8], offset: u64) -> bool {
    let whole = |number: u64| number.is_multiple_of(PAGE);
    bytes.len() as u64 >= BLOCK / 4 && whole(bytes.len() as u64) && whole(offset) && whole(bytes.as_ptr().addr() as u64)
}

/// Writes a header and what comes after it, one behind the other; gives the checksums of each of `contents`, which have
/// names. Returns when all of it is durable. Of contents that are still coming, each piece is written when it is there.
pub(crate) fn write(
    file: &dyn WriteAt,
    header: &[u8],
    contents: &[(&str, Data<'_>)],
    fail: &(dyn Fn(std::io::Error) -> Error + Sync),
) -> Result<Vec<Vec<Digest>>> {
    let mut starts = vec![0];
    let mut end = header.len() as u64;
    for (_, data) in contents {
        starts.push(end);
        end += data.bytes() as u64;
    }
    let source = |index: usize| if index == 0 { ("", Data::There(header)) } else { contents[index - 1] };
    let cut = each(pieces(0..end).collect(), THREADS, PIECE.min(end.next_multiple_of(PAGE)), |piece, buffer| {
        let mut sums = Vec::new();
        // What was copied and is not yet written.
        let mut copied = piece.start..piece.start;
        let write_copied = |copied: &Range<u64>, buffer: &mut [u8]| {
            let length = (copied.end - copied.start) as usize;
            let padded = length.next_multiple_of(PAGE as usize);
            buffer[length..padded].fill(0);
            if length == 0 { Ok(()) } else { file.write_at(&buffer[..padded], copied.start).map_err(fail) }
        };
        // The last that begins at or before the piece, and all that begin within it.
        let first = starts.partition_point(|start| *start <= piece.start) - 1;
        for index in (first..starts.len()).take_while(|index| starts[*index] < piece.end) {
            let (start, (name, data)) = (starts[index], source(index));
            let (from, to) = (start.max(piece.start), (start + data.bytes() as u64).min(piece.end));
            if from >= to {
                continue;
            }
            let part = data.wait((from - start) as usize..(to - start) as usize);
            let part = part.ok_or_else(|| Error::NeverCame { name: name.to_owned() })?;
            let direct = is_worth_no_copy(part, from);
            if direct {
                write_copied(&copied, buffer)?;
                copied = to..to;
            }
            for (cut, past) in cuts(from, to - from, BLOCK) {
                let block = &part[(cut - from) as usize..(past - from) as usize];
                if !direct {
                    let at = (cut - copied.start) as usize;
                    buffer[at..at + block.len()].copy_from_slice(block);
                    copied.end = past;
                }
                sums.push((index, cut, Digest::of(block)));
            }
            if direct {
                file.write_at(part, from).map_err(fail)?;
            }
        }
        write_copied(&copied, buffer)?;
        Ok(sums)
    })?;
    file.finish(end).map_err(fail)?;
    let mut sums: Vec<_> = cut.into_iter().flatten().collect();
    sums.sort_unstable_by_key(|(_, from, _)| *from);
    let mut of_each = vec![Vec::new(); contents.len()];
    for (index, _, sum) in sums {
        if index > 0 {
            of_each[index - 1].push(sum);
        }
    }
    Ok(of_each)
}

/// Which of some contents are, byte for byte, what records say, of which `files` are the files. Where most of a file has
/// changed, the rest of it is not looked at, and not waited for: it counts as changed too.
pub(crate) fn unchanged(pairs: &[(Data<'_>, &Record)], files: &[DataFile]) -> Vec<bool> {
    let jobs: Vec<usize> = (0..pairs.len()).collect();
    let alive: Vec<AtomicU64> = files.iter().map(|file| AtomicU64::new(file.bytes - file.header)).collect();
    let same = |index: usize| {
        let (data, record) = pairs[index];
        let (file, alive) = (&files[record.file], &alive[record.file]);
        // Most that has changed has changed in its first block.
        let same = cuts(record.start, record.bytes(), file.block).zip(&record.xxh3).all(|((from, to), sum)| {
            is_mostly(alive.load(Ordering::Relaxed), file)
                && data
                    .wait((from - record.start) as usize..(to - record.start) as usize)
                    .is_some_and(|bytes| Digest::of(bytes) == *sum)
        });
        if !same {
            alive.fetch_sub(record.bytes(), Ordering::Relaxed);
        }
        same
    };
    let mut result = vec![false; pairs.len()];
    for (index, same) in each(jobs, THREADS, 0, |index, _| Ok((index, same(index)))).unwrap_or_default() {
        result[index] = same;
    }
    result
}

/// What is read: a record, and the file it is in.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a dyn ReadAt,
    pub(crate) data: &'a DataFile,
    pub(crate) record: &'a Record,
    /// The file, for messages.
    pub(crate) path: &'a str,
}

/// Takes bytes that belong at this place of what was asked for; called from several threads.
pub(crate) type Put<'a> = dyn Fn(u64, &[u8]) + Sync + 'a;

/// Where what was read goes.
pub(crate) enum To<'a> {
    /// Nowhere: only the checksums are of interest.
    Nowhere,
    /// Into one block of memory, from this byte of the record on.
    Block(u64, &'a mut [u8]),
    /// Here and there.
    Scattered(Runs, &'a Put<'a>),
}

/// Bytes of a file, and where they go.
type Window<'a> = (Source<'a>, Range<u64>, To<'a>);

/// Reads, and verifies every block of which it takes a byte. Gives how many bytes were read.
pub(crate) fn read(reads: Vec<(Source<'_>, To<'_>)>) -> Result<u64> {
    let mut windows = Vec::new();
    for (source, to) in reads {
        let start = source.record.start;
        let mut add = |window: Range<u64>, to| windows.push((source, window, to));
        match to {
            To::Nowhere => {
                pieces(start..start + source.record.bytes()).for_each(|window| add(window, To::Nowhere));
            }
            To::Block(from, mut memory) => {
                for window in pieces(start + from..start + from + memory.len() as u64) {
                    let (now, later) = memory.split_at_mut((window.end - window.start) as usize);
                    memory = later;
                    add(window.clone(), To::Block(window.start - start, now));
                }
            }
            To::Scattered(runs, put) => {
                let last = runs.at(runs.count - 1).0 + runs.length;
                for window in pieces(start + runs.at(0).0..start + last) {
                    add(window, To::Scattered(runs.clone(), put));
                }
            }
        }
    }
    let threads = windows.iter().map(|(source, ..)| source.file.at_once()).max().unwrap_or(1);
    let jobs = together(windows);
    let buffer = jobs.iter().map(|job| job.bytes()).max().unwrap_or(0);
    Ok(each(jobs, threads, buffer, Job::read)?.into_iter().sum())
}

/// What is read at once.
enum Job<'a> {
    One(Window<'a>),
    /// Small ones of one file, one behind the other, from this byte to that: a device, and an object store all the more, is
    /// asked once, not a hundred thousand times.
    Many(Range<u64>, Vec<Window<'a>>),
}

/// Puts windows together that are small and neighbours; in the order of the files.
fn together(mut windows: Vec<Window<'_>>) -> Vec<Job<'_>> {
    let place = |(source, window, _): &Window<'_>| (ptr::from_ref(source.data).addr(), window.start);
    windows.sort_by_key(place);
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for one in windows {
        let (range, memory) = one.0.read_for(&one.1);
        if memory >= BLOCK / 4 || matches!(one.2, To::Scattered(..)) {
            jobs.push(Job::One(one));
            continue;
        }
        match jobs.last_mut() {
            // Nothing between them but what the pages have that both begin and end in.
            Some(Job::Many(all, many))
                if many.last().is_some_and(|(before, ..)| ptr::eq(before.data, one.0.data))
                    && range.start <= all.end.next_multiple_of(PAGE)
                    && range.end - all.start <= PIECE - PAGE =>
            {
                all.end = all.end.max(range.end);
                many.push(one);
            }
            _ => jobs.push(Job::Many(range, vec![one])),
        }
    }
    jobs
}

impl Job<'_> {
    /// How large a buffer it takes.
    fn bytes(&self) -> u64 {
        match self {
            Self::One((source, window, _)) => source.read_for(window).1,
            Self::Many(all, _) => pages(all),
        }
    }

    /// Gives how many bytes were read.
    fn read(self, buffer: &mut [u8]) -> Result<u64> {
        match self {
            Self::One((source, window, To::Nowhere)) => source.read(&window, buffer, |_| ()),
            Self::One((source, window, To::Block(_, memory))) if source.fits(&window, memory) => {
                source.read(&window, memory, |_| ())
            }
            Self::One((source, window, To::Block(_, memory))) => {
                source.read(&window, buffer, |bytes| memory.copy_from_slice(bytes))
            }
            Self::One((source, window, To::Scattered(runs, put))) => source.read_runs(&window, &runs, buffer, put),
            Self::Many(all, many) => {
                let Some((first, ..)) = many.first() else { return Ok(0) };
                let bytes = first.fetch(&all, buffer)?;
                let mut total = 0;
                for (source, window, to) in many {
                    let (range, _) = source.read_for(&window);
                    let taken = source.verified(&window, bytes, all.start / PAGE * PAGE)?;
                    if let To::Block(_, memory) = to {
                        memory.copy_from_slice(taken);
                    }
                    total += range.end - range.start;
                }
                Ok(total)
            }
        }
    }
}

/// Bytes of the whole pages that these are in.
fn pages(range: &Range<u64>) -> u64 {
    range.end.next_multiple_of(PAGE) - range.start / PAGE * PAGE
}

impl Source<'_> {
    /// The whole blocks of the record that have these bytes of the file, and how much memory it takes to read them.
    fn read_for(&self, window: &Range<u64>) -> (Range<u64>, u64) {
        let (start, block) = (self.record.start, self.data.block);
        let from = (window.start / block * block).max(start);
        let to = window.end.next_multiple_of(block).min(start + self.record.bytes());
        (from..to, pages(&(from..to)))
    }

    /// Whether these bytes of the file can be read to where they belong, without a copy: whole blocks and pages.
    fn fits(&self, window: &Range<u64>, memory: &[u8]) -> bool {
        let (range, needed) = self.read_for(window);
        range == *window && needed == memory.len() as u64 && is_worth_no_copy(memory, window.start)
    }

    /// Reads the whole pages of these bytes of the file, as far as there are some.
    fn fetch<'b>(&self, range: &Range<u64>, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
        let buffer = &mut buffer[..pages(range) as usize];
        let io = |source| Error::Io { doing: "read", path: self.path.to_owned(), source };
        let read = self.file.read_at(buffer, range.start / PAGE * PAGE).map_err(io)?;
        Ok(&buffer[..read])
    }

    /// These bytes of the file, out of `bytes` which begin at its byte `first`, when their blocks are as they were written.
    fn verified<'b>(&self, window: &Range<u64>, bytes: &'b [u8], first: u64) -> Result<&'b [u8]> {
        let (range, _) = self.read_for(window);
        let end = first + bytes.len() as u64;
        if end < range.end {
            let why = format!("it ends at byte {end}; `{}` needs it up to {}", self.record.name, range.end);
            return Err(Error::damaged(self.path, why));
        }
        let at = |byte: u64| (byte - first) as usize;
        let before = (range.start / self.data.block - self.record.start / self.data.block) as usize;
        let sums = self.record.xxh3.iter().skip(before);
        for ((from, to), sum) in cuts(range.start, range.end - range.start, self.data.block).zip(sums) {
            let found = Digest::of(&bytes[at(from)..at(to)]);
            if found != *sum {
                let name = &self.record.name;
                let why = format!("the bytes {from}..{to}, of `{name}`, have the checksum {found}, not {sum}");
                return Err(Error::damaged(self.path, why));
            }
        }
        Ok(&bytes[at(window.start)..at(window.end)])
    }

    /// Reads these bytes of the file, verifies their blocks and gives them to `take`.
    fn read(&self, window: &Range<u64>, buffer: &mut [u8], take: impl FnOnce(&[u8])) -> Result<u64> {
        let (range, _) = self.read_for(window);
        let bytes = self.fetch(&range, buffer)?;
        take(self.verified(window, bytes, range.start / PAGE * PAGE)?);
        Ok(range.end - range.start)
    }

    /// Reads the runs that lie within these bytes of the file, and only the blocks that they touch.
    fn read_runs(&self, window: &Range<u64>, runs: &Runs, buffer: &mut [u8], put: &Put<'_>) -> Result<u64> {
        let start = self.record.start;
        // What a run has within the window: bytes of the file, and the place of the first.
        let clipped = |index: u64| {
            let (from, to) = runs.at(index);
            let from = start + from;
            let range = from.max(window.start)..(from + runs.length).min(window.end);
            let place = to + range.start - from;
            (range, place)
        };
        let mut next = runs.after(window.start - start);
        let mut total = 0;
        while next < runs.count && clipped(next).0.start < window.end {
            let first = next;
            let mut group = clipped(first).0;
            // As far as no block lies between.
            while next < runs.count {
                let range = clipped(next).0;
                if range.start >= window.end || range.start / self.data.block > group.end / self.data.block {
                    break;
                }
                group.end = range.end;
                next += 1;
            }
            total += self.read(&group, buffer, |bytes| {
                for index in first..next {
                    let (range, place) = clipped(index);
                    put(place, &bytes[(range.start - group.start) as usize..(range.end - group.start) as usize]);
                }
            })?;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in memory, and from where in memory each write came.
    #[derive(Default)]
    struct Memory(Mutex<(Vec<u8>, Vec<usize>)>);

    impl WriteAt for Memory {
        fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
            assert!(
                bytes.as_ptr().addr().is_multiple_of(4096)
                    && bytes.len().is_multiple_of(4096)
                    && offset.is_multiple_of(4096)
            );
            let (data, places) = &mut *self.0.lock().unwrap();
            let end = offset as usize + bytes.len();
            data.resize(data.len().max(end), 0);
            data[offset as usize..end].copy_from_slice(bytes);
            places.push(bytes.as_ptr().addr());
            Ok(())
        }

        fn finish(&self, bytes: u64) -> std::io::Result<()> {
            self.0.lock().unwrap().0.truncate(bytes as usize);
            Ok(())
        }
    }

    fn filled(bytes: usize, seed: u64) -> Aligned {
        let mut memory = Aligned::new(bytes);
        fastrand::Rng::with_seed(seed).fill(&mut memory);
        memory
    }

    #[test]
    fn whole_pages_are_written_from_where_they_are_and_all_else_in_whole_pages_too() {
        let header = vec![b' '; 4096];
        let large = filled(20 << 20, 1);
        let pages = filled((3 << 20) + 4096, 2);
        let odd = filled((9 << 20) + 77, 3);
        let after = filled(1 << 20, 4);
        // The last two do not begin on a page of the file; one of them not on one in memory.
        let contents: [&[u8]; 6] = [&large, &pages, &[], &odd[5..], &[7; 3], &after];
        let file = Memory::default();
        let named: Vec<_> = contents.iter().map(|bytes| ("w", Data::There(bytes))).collect();
        let sums = write(&file, &header, &named, &|error| panic!("{error}")).unwrap();
        let (data, places) = file.0.into_inner().unwrap();
        assert!(data == [&header, &contents.concat()[..]].concat());
        for start in [large.as_ptr().addr(), pages.as_ptr().addr()] {
            assert!(places.contains(&start), "it was copied");
        }
        let mut start = 4096;
        for (bytes, sums) in contents.iter().zip(sums) {
            let cut = |(from, to): (u64, u64)| Digest::of(&bytes[(from - start) as usize..(to - start) as usize]);
            assert_eq!(cuts(start, bytes.len() as u64, BLOCK).map(cut).collect::<Vec<_>>(), sums);
            start += bytes.len() as u64;
        }
    }
}
