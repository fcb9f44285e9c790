//! One checkpoint: what is in it, verified reads of tensors, slices and blobs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files::{Files, ReadAt};
use crate::format::{self, Bad, DataFile, Digest, Kind, MOST_JSON, Manifest, Part, Record, check_parts};
use crate::name::{self, StepId};
use crate::region::{Region, Runs, portions};
use crate::safetensors::Header;
use crate::transfer::{self, Put, Source, To};

/// Bytes of a tensor that are read at once where all of it might not fit into memory.
pub(crate) const PORTION: u64 = 64 << 20;

/// How far to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Manifest, parts, the size and the header of every file. Reads kilobytes; what is cut off or missing is found.
    Structure,
    /// Every byte of every tensor and blob too.
    Data,
}

/// A checkpoint whose manifest and parts were read and fit together.
pub struct Checkpoint {
    files: Arc<dyn Files>,
    folder: String,
    manifest: Manifest,
    parts: Vec<Part>,
    /// Where the tensors of a name are: rank and index.
    index: HashMap<String, Vec<(usize, usize)>>,
    /// Which records were read whole, and were as they should be: by rank and index in [`Part::records`].
    seen: Vec<Vec<AtomicBool>>,
}

/// A tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// The rank whose own it is; `None` when ranks hold shards of one tensor, or only one rank has the name.
    pub rank: Option<u32>,
    /// The type of its elements.
    pub dtype: DType,
    /// Elements along each axis, of the whole.
    pub shape: &'a [u64],
    /// In how many pieces it is stored; copies count once.
    pub shards: usize,
}

impl TensorInfo<'_> {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.dtype.bytes(self.shape).unwrap_or(0)
    }
}

/// What to read, and where to.
pub struct Request<'a> {
    /// The tensor.
    pub name: &'a str,
    /// What this rank saved under the name, by itself; `None` for the whole tensor, from whichever ranks hold it.
    pub rank: Option<u32>,
    /// Which part; `None` for all.
    pub region: Option<Region>,
    /// Room for exactly that, row-major.
    pub into: &'a mut [u8],
}

/// A tensor that was found: its type, its shape, and the records that hold it.
struct Found {
    dtype: DType,
    shape: Vec<u64>,
    /// Rank, index, and the place in the shape.
    pieces: Vec<(usize, usize, Region)>,
}

/// Reads a JSON file of a store.
pub(crate) fn read_json<T: Kind>(files: &dyn Files, path: &str) -> Result<T> {
    let bytes = files.read(path, MOST_JSON).map_err(|source| unreadable(files, path, source))?;
    unseal(files, path, &bytes)
}

fn unseal<T: Kind>(files: &dyn Files, path: &str, bytes: &[u8]) -> Result<T> {
    format::unseal(bytes).map_err(|bad| match bad {
        Bad::Newer(found) => Error::Newer { path: files.shown(path), found },
        Bad::Damaged(why) => Error::damaged(files.shown(path), why),
    })
}

fn unreadable(files: &dyn Files, path: &str, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::FileTooLarge {
        return Error::damaged(files.shown(path), source.to_string());
    }
    Error::Io { doing: "read", path: files.shown(path), source }
}

/// Reads the part of a rank, and what the manifest says of it.
pub(crate) fn read_part(files: &dyn Files, folder: &str, rank: u32) -> Result<(Part, format::PartRef)> {
    let path = name::join(folder, &name::part(rank));
    let bytes = files.read(&path, MOST_JSON).map_err(|source| unreadable(files, &path, source))?;
    let reference = format::PartRef { bytes: bytes.len() as u64, xxh3: Digest::of(&bytes) };
    Ok((unseal(files, &path, &bytes)?, reference))
}

impl Checkpoint {
    /// Reads a published checkpoint.
    pub(crate) fn load(files: &Arc<dyn Files>, id: StepId) -> Result<Self> {
        let folder = id.to_string();
        let path = name::join(&folder, name::MANIFEST);
        let manifest: Manifest = read_json(&**files, &path)?;
        if manifest.id() != id {
            return Err(Error::damaged(files.shown(&path), format!("it is the manifest of {}", manifest.id())));
        }
        let mut parts = Vec::new();
        for (rank, wanted) in (0..).zip(&manifest.parts) {
            let (part, found) = read_part(&**files, &folder, rank)?;
            if found != *wanted {
                let path = files.shown(&name::join(&folder, &name::part(rank)));
                return Err(Error::damaged(path, "it is not the one that the manifest was written for"));
            }
            parts.push(part);
        }
        Self::new(files, folder, manifest, parts)
    }

    /// Puts together what was read.
    pub(crate) fn new(files: &Arc<dyn Files>, folder: String, manifest: Manifest, parts: Vec<Part>) -> Result<Self> {
        check_parts(&manifest, &parts).map_err(|why| Error::damaged(files.shown(&folder), why))?;
        let mut index: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        for (rank, part) in parts.iter().enumerate() {
            for (number, record) in part.tensors.iter().enumerate() {
                index.entry(record.name.clone()).or_default().push((rank, number));
            }
        }
        let seen = parts.iter().map(|part| part.records().map(|_| AtomicBool::new(false)).collect()).collect();
        Ok(Self { files: Arc::clone(files), folder, manifest, parts, index, seen })
    }

    /// Which one.
    #[must_use]
    pub fn id(&self) -> StepId {
        self.manifest.id()
    }

    /// Step, metrics, metadata.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What each rank saved, by rank.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Its folder, as a person finds it.
    #[must_use]
    pub fn place(&self) -> String {
        self.files.shown(&self.folder)
    }

    /// Bytes of tensors and blobs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().flat_map(Part::records).map(Record::bytes).sum()
    }

    /// Bytes of tensors and blobs that are in files which an earlier step wrote, and that this one names again.
    #[must_use]
    pub fn linked_bytes(&self) -> u64 {
        let own = self.id().to_string();
        let of = |part: &Part| -> u64 {
            let linked = part.records().filter(|record| !part.files[record.file].name.starts_with(&own));
            linked.map(Record::bytes).sum()
        };
        self.parts.iter().map(of).sum()
    }

    /// Every tensor, by name.
    #[must_use]
    pub fn tensors(&self) -> Vec<TensorInfo<'_>> {
        let mut list = Vec::new();
        for (name, places) in &self.index {
            let mut regions = BTreeSet::new();
            for (rank, number) in places {
                let record = &self.parts[*rank].tensors[*number];
                let (dtype, shape) = (record.dtype, record.whole_shape());
                let own = record.global.is_none();
                if !own && !regions.insert(record.region()) || regions.len() > 1 {
                    continue;
                }
                let rank = (own && places.len() > 1).then(|| u32::try_from(*rank).unwrap_or(u32::MAX));
                list.push(TensorInfo { name, rank, dtype, shape, shards: 1 });
            }
            if let Some(sharded) = list.last_mut().filter(|_| regions.len() > 1) {
                sharded.shards = regions.len();
            }
        }
        list.sort_by_key(|tensor| (tensor.name, tensor.rank));
        list
    }

    fn absent(&self, what: String, why: String) -> Error {
        Error::Absent { path: self.place(), what, why }
    }

    fn find(&self, name: &str, rank: Option<u32>) -> Result<Found> {
        let what = || format!("the tensor `{name}`");
        let places =
            self.index.get(name).ok_or_else(|| self.absent(what(), "no rank saved one of that name".to_owned()))?;
        if let Some(wanted) = rank {
            let (rank, number) = places.iter().find(|(rank, _)| *rank == wanted as usize).ok_or_else(|| {
                self.absent(what(), format!("rank {wanted} of {} has none of that name", self.parts.len()))
            })?;
            let record = &self.parts[*rank].tensors[*number];
            let pieces = vec![(*rank, *number, Region::whole(&record.shape))];
            return Ok(Found { dtype: record.dtype, shape: record.shape.clone(), pieces });
        }
        let records = || places.iter().map(|(rank, number)| (*rank, *number, &self.parts[*rank].tensors[*number]));
        if let [(rank, number)] = places[..] {
            let record = &self.parts[rank].tensors[number];
            return Ok(Found {
                dtype: record.dtype,
                shape: record.whole_shape().to_vec(),
                pieces: vec![(rank, number, record.region())],
            });
        }
        let mut pieces: BTreeMap<Region, (usize, usize)> = BTreeMap::new();
        for (rank, number, record) in records() {
            if record.global.is_none() {
                let why = format!("{} ranks each have one of their own: name a rank", places.len());
                return Err(self.absent(what(), why));
            }
            // Copies are alike: the lowest rank's is read.
            pieces.entry(record.region()).or_insert((rank, number));
        }
        let (rank, number) = places[0];
        let first = &self.parts[rank].tensors[number];
        let pieces = pieces.into_iter().map(|(region, (rank, number))| (rank, number, region)).collect();
        Ok(Found { dtype: first.dtype, shape: first.whole_shape().to_vec(), pieces })
    }

    fn open(&self, data: &DataFile) -> Result<(Box<dyn ReadAt>, String)> {
        let path = name::join(&self.folder, &data.name);
        let shown = self.files.shown(&path);
        let io = |source| Error::Io { doing: "open", path: shown.clone(), source };
        let file = self.files.open(&path).map_err(io)?;
        let bytes = file.bytes().map_err(io)?;
        if bytes != data.bytes {
            return Err(Error::damaged(shown, format!("it has {bytes} bytes, not {}", data.bytes)));
        }
        Ok((file, shown))
    }

    /// Reads parts of tensors, all at once and in parallel, and no more blocks of files than they touch. Every byte is
    /// verified. Gives how many bytes were read.
    ///
    /// # Errors
    /// [`Error::Absent`] for what is not there, [`Error::Damaged`]; what is in `into` then means nothing.
    pub fn read(&self, requests: Vec<Request<'_>>) -> Result<u64> {
        let mut opened: HashMap<(usize, usize), (Box<dyn ReadAt>, String)> = HashMap::new();
        let mut plans = Vec::new();
        let mut whole = Vec::new();
        for request in &requests {
            let found = self.find(request.name, request.rank)?;
            let want = request.region.clone().unwrap_or_else(|| Region::whole(&found.shape));
            let what = || format!("{:?} at {:?} of `{}`", want.shape, want.offset, request.name);
            if !want.fits(&found.shape) {
                return Err(self.absent(what(), format!("its shape is {:?}", found.shape)));
            }
            let odd = || self.absent(what(), format!("{} elements there begin within a byte", found.dtype.name()));
            if found.dtype.bytes(&want.shape).ok_or_else(odd)? != request.into.len() as u64 {
                let bytes = request.into.len();
                return Err(Error::Input(format!("{} does not fit into {bytes} bytes exactly", what())));
            }
            let mut plan = Vec::new();
            let mut held = 0;
            for (rank, number, region) in &found.pieces {
                let Some(part) = region.meets(&want).filter(|_| want.elements() > 0) else { continue };
                held += part.elements();
                let record = &self.parts[*rank].tensors[*number];
                let key = (*rank, record.file);
                if let std::collections::hash_map::Entry::Vacant(entry) = opened.entry(key) {
                    entry.insert(self.open(&self.parts[*rank].files[record.file])?);
                }
                if part == *region {
                    whole.push((*rank, *number));
                }
                plan.push((key, record, Runs::new(&part, region, &want, found.dtype).ok_or_else(odd)?));
            }
            if held != want.elements() {
                return Err(self.absent(what(), format!("its shards hold {held} of {} elements", want.elements())));
            }
            plans.push(plan);
        }
        let source = |key: (usize, usize), record| {
            let (file, path) = &opened[&key];
            Source { file: &**file, data: &self.parts[key.0].files[key.1], record, path }
        };
        let mut reads = Vec::new();
        let mut scattered = Vec::new();
        for (request, mut plan) in requests.into_iter().zip(plans) {
            if plan.iter().all(|(.., runs)| runs.count == 1) {
                // Each piece is one block of the memory: no two threads write to the same.
                plan.sort_by_key(|(.., runs)| runs.at(0).1);
                let mut rest = request.into;
                for (key, record, runs) in plan {
                    let (now, later) = rest.split_at_mut(runs.length as usize);
                    rest = later;
                    reads.push((source(key, record), To::Block(runs.at(0).0, now)));
                }
            } else {
                scattered.push((plan, Mutex::new(request.into)));
            }
        }
        let puts: Vec<Box<Put<'_>>> = scattered
            .iter()
            .map(|(_, memory)| -> Box<Put<'_>> {
                Box::new(|place, bytes| {
                    let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                    memory[place as usize..place as usize + bytes.len()].copy_from_slice(bytes);
                })
            })
            .collect();
        for ((plan, _), put) in scattered.iter().zip(&puts) {
            for (key, record, runs) in plan {
                reads.push((source(*key, record), To::Scattered(runs.clone(), &**put)));
            }
        }
        let read = transfer::read(reads)?;
        for (rank, number) in whole {
            self.seen[rank][number].store(true, Ordering::Relaxed);
        }
        Ok(read)
    }

    /// A part of a tensor, row-major.
    ///
    /// # Errors
    /// As of [`Checkpoint::read`], and when there is no memory for it.
    pub fn slice(&self, name: &str, rank: Option<u32>, region: Option<Region>) -> Result<Vec<u8>> {
        let found = self.find(name, rank)?;
        // A hostile manifest may promise any size: the files have to be as large before memory is taken.
        for (rank, number, _) in &found.pieces {
            let part = &self.parts[*rank];
            self.open(&part.files[part.tensors[*number].file])?;
        }
        let want = region.clone().unwrap_or_else(|| Region::whole(&found.shape));
        // What is wrong with it is told by `read`.
        let bytes = if want.fits(&found.shape) { found.dtype.bytes(&want.shape).unwrap_or(0) } else { 0 };
        let mut into = room(bytes)
            .ok_or_else(|| self.absent(format!("`{name}`"), format!("there is no memory for {bytes} bytes")))?;
        self.read(vec![Request { name, rank, region, into: &mut into }])?;
        Ok(into)
    }

    /// A whole tensor, row-major, put together from its shards.
    ///
    /// # Errors
    /// As of [`Checkpoint::slice`].
    pub fn tensor(&self, name: &str) -> Result<Vec<u8>> {
        self.slice(name, None, None)
    }

    /// Whether a tensor is the same here and in another checkpoint of a store. Checksums tell that where both were cut
    /// alike, and else the bytes.
    ///
    /// # Errors
    /// As of [`Checkpoint::read`].
    pub fn is_same(&self, other: &Self, name: &str, rank: Option<u32>) -> Result<bool> {
        let (mine, theirs) = (self.find(name, rank)?, other.find(name, rank)?);
        if (mine.dtype, &mine.shape) != (theirs.dtype, &theirs.shape) {
            return Ok(false);
        }
        // How a tensor was cut for its checksums, and the checksums.
        let cut = |of: &'_ Self, found: &Found| -> (Vec<(Region, u64, u64)>, Vec<Digest>) {
            let mut sums = Vec::new();
            let cuts = found.pieces.iter().map(|(rank, number, region)| {
                let part = &of.parts[*rank];
                let record = &part.tensors[*number];
                let block = part.files[record.file].block;
                sums.extend_from_slice(&record.xxh3);
                (region.clone(), block, record.start % block)
            });
            (cuts.collect(), sums)
        };
        let (a, b) = (cut(self, &mine), cut(other, &theirs));
        if a.0 == b.0 {
            return Ok(a.1 == b.1);
        }
        for region in portions(&Region::whole(&mine.shape), mine.dtype, PORTION) {
            if self.slice(name, rank, Some(region.clone()))? != other.slice(name, rank, Some(region))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A blob of a rank.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Damaged`].
    pub fn blob(&self, rank: u32, name: &str) -> Result<Vec<u8>> {
        let what = || format!("the blob `{name}` of rank {rank}");
        let part = self
            .parts
            .get(rank as usize)
            .ok_or_else(|| self.absent(what(), format!("it was saved by {} ranks", self.parts.len())))?;
        let (number, record) =
            part.blobs.iter().enumerate().find(|(_, record)| record.name == name).ok_or_else(|| {
                let names: Vec<&str> = part.blobs.iter().map(|record| record.name.as_str()).take(8).collect();
                self.absent(what(), format!("the rank saved {} blobs: {}", part.blobs.len(), names.join(", ")))
            })?;
        let data = &part.files[record.file];
        let (file, path) = self.open(data)?;
        let mut bytes =
            room(record.bytes()).ok_or_else(|| self.absent(what(), "there is no memory for it".to_owned()))?;
        transfer::read(vec![(Source { file: &*file, data, record, path: &path }, To::Block(0, &mut bytes))])?;
        self.seen[rank as usize][part.tensors.len() + number].store(true, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Everything that is wrong with a file of a rank.
    fn verify_file(&self, rank: usize, file: usize, depth: Depth) -> Result<()> {
        let part = &self.parts[rank];
        let data = &part.files[file];
        let (opened, path) = self.open(data)?;
        // Not more than was compared with the real size.
        let mut head = room(data.header).ok_or_else(|| Error::damaged(&path, "its header is larger than memory"))?;
        let read = opened.read_at(&mut head, 0);
        let read = read.map_err(|source| Error::Io { doing: "read", path: path.clone(), source })?;
        let found = Digest::of(&head[..read]);
        if found != data.header_xxh3 {
            let why = format!("its header has the checksum {found}, not {}", data.header_xxh3);
            return Err(Error::damaged(path, why));
        }
        let header = Header::parse(&head).map_err(|why| Error::damaged(&path, why))?;
        if header.start + header.length != data.bytes {
            let why = format!("it has {} bytes, by its header {}", data.bytes, header.start + header.length);
            return Err(Error::damaged(path, why));
        }
        let entries: HashMap<&str, _> = header.tensors.iter().map(|(name, entry)| (name.as_str(), entry)).collect();
        let mine = || part.records().enumerate().filter(|(_, record)| record.file == file);
        for (_, record) in mine() {
            let from = record.start - header.start;
            let same = entries.get(record.name.as_str()).is_some_and(|entry| {
                entry.dtype == record.dtype
                    && entry.shape == record.shape
                    && entry.data_offsets == (from, from + record.bytes())
            });
            if !same {
                return Err(Error::damaged(
                    path,
                    format!("its header tells other things of `{}` than the part", record.name),
                ));
            }
        }
        if depth == Depth::Data {
            let source = |record| Source { file: &*opened, data, record, path: &path };
            transfer::read(mine().map(|(_, record)| (source(record), To::Nowhere)).collect())?;
            for (number, _) in mine() {
                self.seen[rank][number].store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Verifies what one rank saved.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify_rank(&self, rank: u32, depth: Depth) -> Result<()> {
        let files = self.parts.get(rank as usize).map_or(0, |part| part.files.len());
        (0..files).try_for_each(|file| self.verify_file(rank as usize, file, depth))
    }

    /// Verifies what all ranks saved.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self, depth: Depth) -> Result<()> {
        (0..self.manifest.world_size()).try_for_each(|rank| self.verify_rank(rank, depth))
    }

    /// The first thing that is wrong with each file.
    #[must_use]
    pub fn faults(&self, depth: Depth) -> Vec<Error> {
        let all =
            self.parts.iter().enumerate().flat_map(|(rank, part)| (0..part.files.len()).map(move |file| (rank, file)));
        all.filter_map(|(rank, file)| self.verify_file(rank, file, depth).err()).collect()
    }

    /// What a rank saved, as far as it was read whole and found right since this checkpoint was opened.
    pub(crate) fn seen(&self, rank: usize) -> Option<Part> {
        let mut part = self.parts.get(rank)?.clone();
        let mut seen = self.seen[rank].iter().map(|seen| seen.load(Ordering::Relaxed));
        part.tensors.retain(|_| seen.next().unwrap_or(false));
        part.blobs.retain(|_| seen.next().unwrap_or(false));
        Some(part)
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Checkpoint").field(&self.place()).finish()
    }
}

fn room(bytes: u64) -> Option<Vec<u8>> {
    let bytes = usize::try_from(bytes).ok()?;
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes).ok()?;
    memory.resize(bytes, 0);
    Some(memory)
}
