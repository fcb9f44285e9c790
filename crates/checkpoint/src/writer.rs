//! The one writer of a run: takes over, saves, publishes, or is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use serde_json::{Map, Value};

use crate::checkpoint::{Checkpoint, Depth, read_json, read_part};
use crate::data::Data;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::format::{
    DataFile, Digest, Global, MOST_RANKS, MOST_USER, Manifest, Metric, Part, Record, StoreFile, WriterFile,
    check_parts, seal,
};
use crate::name::{self, Folder, StepId};
use crate::reuse::worth_linking;
use crate::safetensors::{header, order};
use crate::store::Store;
use crate::transfer::{self, BLOCK};

/// Files of earlier writers that are kept, to tell who took over from whom.
const WRITERS_KEPT: usize = 16;

/// A tensor to save.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// The type of its elements.
    pub dtype: DType,
    /// Elements along each axis, of what this rank has.
    pub shape: Vec<u64>,
    /// Where that belongs, when it is a shard of a tensor that several ranks hold. Ranks that hold the same shard hold
    /// copies of it; without this, a tensor is a rank's own.
    pub global: Option<Global>,
    /// Its elements. Where they begin on a page (4096 bytes) and are whole pages, they are written from where they are; else
    /// they are copied on the way. Of what is still coming, that in the order of [`file_order`](crate::file_order) is written
    /// soonest.
    pub data: Data<'a>,
}

/// What a rank saves.
#[derive(Clone, Debug, Default)]
pub struct State<'a> {
    /// Tensors.
    pub tensors: Vec<Tensor<'a>>,
    /// Opaque bytes, by name: random number generators, positions in the data, pickles.
    pub blobs: Vec<(&'a str, &'a [u8])>,
    /// What this rank takes for the same on all ranks, in any form: a step is not published where they differ. Who leaves a
    /// tensor to another rank to save says so here, or it would be missed when it is read.
    pub agreed: Option<&'a [u8]>,
}

/// What is told of a step.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// The time, in seconds since 1970.
    pub created: u64,
    /// What was measured. NaN and infinities are kept as such.
    pub metrics: BTreeMap<String, f64>,
    /// What the user wants to find again.
    pub user: Map<String, Value>,
}

/// One save, as all ranks agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Save {
    /// The step.
    pub step: u64,
    /// 0, and one more after a save of the same step that was given up: what is left of that one is never mixed in.
    pub attempt: u32,
    /// How many ranks save.
    pub world_size: u32,
}

/// What a rank did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Bytes of tensors and blobs that were written.
    pub written: u64,
    /// Bytes that were as in the checkpoint before, and are named again.
    pub linked: u64,
}

/// Where a publication stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publication {
    /// It is there, and durable.
    Published(StepId),
    /// These ranks have not saved their part.
    Waiting(Vec<u32>),
}

/// The right to publish, until another takes over.
pub struct Writer {
    store: Store,
    run: String,
    generation: u64,
    /// What each rank of this process has in a file that it wrote or read whole: what a next save compares with.
    previous: BTreeMap<u32, Part>,
}

impl Store {
    /// Becomes the writer of this store, and of a new one. Whoever was it can publish nothing any more, and what its saves
    /// left unfinished is swept away. `owner` is told to whoever is refused; `now` in seconds since 1970.
    ///
    /// Resume after this call, not before: then no other writer can add a checkpoint in between.
    ///
    /// What it relies on: that of two processes which create the same file only one succeeds, and that a rename happens
    /// as a whole. Both hold on local filesystems, NFSv4, CephFS, Lustre. On NFSv3 a request that is sent again can
    /// answer "exists" to the one who made it, which costs a generation and no safety; where directory listings
    /// are cached (`acdirmin`), a stale writer may hear late that it is one, but its publication fails all the
    /// same: the folder that it would rename is gone.
    ///
    /// # Errors
    /// [`Error::OtherRun`], and what the system says.
    pub fn take_over(&self, run: &str, owner: &str, now: u64) -> Result<Writer> {
        let exists = |result: std::io::Result<()>| match result {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        };
        exists(self.files.create_folder("")).map_err(self.io("create", ""))?;
        self.require_run(run)?;
        exists(self.files.create_folder(name::WRITERS)).map_err(self.io("create", name::WRITERS))?;
        self.files.sync_folder("").map_err(self.io("sync", ""))?;
        let generation = self.next_generation(owner, now)?;
        self.write_store_file(run, generation)?;
        // A stale writer looks for newer ones when all of its save is in its staging folder. If it saw none, the folder was
        // there before our file, and goes now: then its rename finds nothing. Or it came first, and is published.
        self.sweep(|folder| match folder {
            Folder::Published(_) => false,
            Folder::Staging(id) => id.generation < generation,
            Folder::Gone => true,
        })?;
        self.files.sync_folder("").map_err(self.io("sync", ""))?;
        Ok(Writer { store: self.clone(), run: run.to_owned(), generation, previous: BTreeMap::new() })
    }

    /// Writes as another rank of the writer that took over with this generation.
    ///
    /// # Errors
    /// [`Error::Fenced`] when it is not the newest, [`Error::OtherRun`].
    pub fn join(&self, run: &str, generation: u64) -> Result<Writer> {
        self.require_run(run)?;
        let writer = Writer { store: self.clone(), run: run.to_owned(), generation, previous: BTreeMap::new() };
        writer.require_newest()?;
        Ok(writer)
    }

    /// Clears away what earlier attempts to save this checkpoint left, and gives the number of the next.
    fn next_attempt(&self, id: StepId) -> Result<u32> {
        let mut next = 0;
        for name in self.files.list("").map_err(self.io("list", ""))? {
            if let Some(attempt) = id.attempt(&name) {
                next = next.max(attempt.saturating_add(1));
                if Folder::parse(&name) == Some(Folder::Staging(id)) {
                    self.discard(&name)?;
                }
            }
        }
        Ok(next)
    }

    fn next_generation(&self, owner: &str, now: u64) -> Result<u64> {
        loop {
            let writers = self.writers()?;
            // Also past every checkpoint: somebody may have deleted the folder of the writers.
            let folders = self.folders()?.into_iter().filter_map(|(_, folder)| match folder {
                Folder::Published(id) | Folder::Staging(id) => Some(id.generation),
                Folder::Gone => None,
            });
            let newest = writers.iter().copied().chain(folders).max().unwrap_or(0);
            let generation =
                newest.checked_add(1).ok_or_else(|| Error::damaged(self.place(), "no generation is left"))?;
            let file = WriterFile { generation, owner: owner.to_owned(), taken: now };
            let path = name::join(name::WRITERS, &name::writer(generation));
            match self.write_json(&path, &file) {
                Err(error) if error.is(ErrorKind::AlreadyExists) => continue,
                other => other?,
            }
            self.files.sync_folder(name::WRITERS).map_err(self.io("sync", name::WRITERS))?;
            for old in writers.iter().rev().skip(WRITERS_KEPT) {
                // Another may have done it; and they are only in the way.
                let _ = self.files.remove_file(&name::join(name::WRITERS, &name::writer(*old)));
            }
            return Ok(generation);
        }
    }

    /// Says whose the store is, where nothing readable says it.
    fn write_store_file(&self, run: &str, generation: u64) -> Result<()> {
        let begin = format!("{}.tmp-", name::STORE);
        for name in self.files.list("").map_err(self.io("list", ""))? {
            // What a crash left of an earlier writer's.
            if name.strip_prefix(&begin).and_then(|old| old.parse::<u64>().ok()).is_some_and(|old| old < generation) {
                let _ = self.files.remove_file(&name);
            }
        }
        match read_json::<StoreFile>(&*self.files, name::STORE) {
            // Another run may have come first since the last look.
            Ok(_) => return self.require_run(run),
            Err(error) if !error.is_damage() => return Err(error),
            Err(_) => {}
        }
        let bytes = seal(&StoreFile { run: run.to_owned() }).map_err(Error::Input)?;
        match self.files.put(name::STORE, &format!("{begin}{generation}"), &bytes) {
            // A newer writer took it away, and writes its own.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.map_err(|error| self.cannot_write(name::STORE, bytes.len() as u64, error))?,
        }
        self.files.sync_folder("").map_err(self.io("sync", ""))?;
        self.require_run(run)
    }

    fn write_json<T: crate::format::Kind>(&self, path: &str, body: &T) -> Result<()> {
        let bytes = seal(body).map_err(Error::Input)?;
        let fail = |error| self.cannot_write(path, bytes.len() as u64, error);
        let file = self.files.create(path, bytes.len() as u64).map_err(fail)?;
        file.write_at(&bytes, 0).map_err(fail)?;
        file.finish(bytes.len() as u64).map_err(fail)
    }

    fn cannot_write(&self, path: &str, needed: u64, source: std::io::Error) -> Error {
        let path = self.files.shown(path);
        if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return Error::NoSpace { path, needed, free: self.files.free() };
        }
        Error::Io { doing: "write", path, source }
    }
}

/// A tensor or a blob, as the same thing.
struct Item<'a> {
    tensor: Tensor<'a>,
    blob: bool,
}

impl Writer {
    /// Which writer it is.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Goes on from a checkpoint: a next save names again what is as it was. Only what was read whole from it, and was
    /// right, counts: what nobody looked at may be damaged, and is written again.
    pub fn go_on_from(&mut self, checkpoint: &Checkpoint) {
        self.previous = (0..).map_while(|rank| Some((rank, checkpoint.seen(rank as usize)?))).collect();
    }

    /// # Errors
    /// [`Error::Fenced`].
    fn require_newest(&self) -> Result<()> {
        let newest = self.store.writers()?.last().copied().unwrap_or(0);
        if newest <= self.generation {
            return Ok(());
        }
        let owner = match self.store.newest_writer() {
            Ok(Some(file)) => file.owner,
            _ => "which has not yet said who it is".to_owned(),
        };
        Err(Error::Fenced { path: self.store.place(), mine: self.generation, newest, owner })
    }

    fn id(&self, save: Save) -> StepId {
        StepId { step: save.step, generation: self.generation }
    }

    fn staging(&self, save: Save) -> String {
        self.id(save).staging(save.attempt)
    }

    /// What it means that something of a save is not there any more.
    fn lost(&self, save: Save, error: Error) -> Error {
        if !error.is(ErrorKind::NotFound) {
            return error;
        }
        let path = self.store.place();
        self.require_newest().err().unwrap_or(Error::GivenUp { path, step: save.step })
    }

    /// Saves one rank's part of a step, durably; it is invisible until [`Writer::publish`]. Parts of different ranks may be
    /// saved at the same time, by this process or others.
    ///
    /// # Errors
    /// On an error the whole attempt is given up, for all ranks, and its space is free again: a step is saved by all ranks
    /// or not at all. [`Error::NoSpace`], [`Error::Fenced`], [`Error::AlreadyPublished`], [`Error::Input`] for names or
    /// sizes that make no sense.
    pub fn save_part(&mut self, save: Save, rank: u32, state: &State<'_>) -> Result<Saved> {
        let items = items(save, rank, state)?;
        self.require_newest()?;
        let id = self.id(save);
        if self.store.steps()?.contains(&id) {
            return Err(Error::AlreadyPublished { path: self.store.place(), id });
        }
        match self.write_part(save, rank, &items, state.agreed) {
            Ok((part, saved)) => {
                self.previous.insert(rank, part);
                Ok(saved)
            }
            // Not ours to give up: what is there may be whole, and others go on.
            Err(error) if error.is(ErrorKind::AlreadyExists) => Err(Error::Input(format!(
                "rank {rank} has begun to save step {} with attempt number {} before: take the next number",
                save.step, save.attempt
            ))),
            Err(error) => {
                let error = self.lost(save, error);
                // The first error is the one to tell.
                let _ = self.give_up(save);
                Err(error)
            }
        }
    }

    /// Gives up a save: what was written of it goes, and ranks that still save get [`Error::GivenUp`].
    ///
    /// # Errors
    /// What the system says.
    pub fn give_up(&self, save: Save) -> Result<()> {
        self.store.discard(&self.staging(save))
    }

    fn write_part(&self, save: Save, rank: u32, items: &[Item<'_>], agreed: Option<&[u8]>) -> Result<(Part, Saved)> {
        let files = &*self.store.files;
        let staging = self.staging(save);
        match files.create_folder(&staging) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(self.store.io("create", &staging)(error));
            }
            _ => {}
        }
        let mut part = Part {
            run: self.run.clone(),
            step: save.step,
            generation: self.generation,
            attempt: save.attempt,
            rank,
            world_size: save.world_size,
            agreed: agreed.map(Digest::of),
            files: Vec::new(),
            tensors: Vec::new(),
            blobs: Vec::new(),
        };
        let linked = self.link(&staging, rank, items, &mut part);
        let mut saved = Saved::default();
        for (item, linked) in items.iter().zip(&linked) {
            if let Some(record) = linked {
                saved.linked += record.bytes();
                if item.blob { &mut part.blobs } else { &mut part.tensors }.push(record.clone());
            }
        }
        for blob in [false, true] {
            let new: Vec<&Tensor<'_>> = items
                .iter()
                .zip(&linked)
                .filter(|(item, linked)| linked.is_none() && item.blob == blob)
                .map(|(item, _)| &item.tensor)
                .collect();
            if !new.is_empty() {
                saved.written += new.iter().map(|tensor| tensor.data.bytes() as u64).sum::<u64>();
                let file = self.id(save).data_file(rank, blob);
                let records = self.write_file(&staging, &file, &new, &mut part.files)?;
                if blob { &mut part.blobs } else { &mut part.tensors }.extend(records);
            }
        }
        part.tensors.sort_by(|a, b| a.name.cmp(&b.name));
        part.blobs.sort_by(|a, b| a.name.cmp(&b.name));

        let path = name::join(&staging, &name::part(rank));
        let bytes = seal(&part).map_err(Error::Input)?;
        // Seen by the publisher, which may be on another machine, only when all that it lists is durable.
        files.sync_folder(&staging).map_err(self.store.io("sync", &staging))?;
        let put = files.put(&path, &format!("{path}.tmp"), &bytes);
        put.map_err(|error| self.store.cannot_write(&path, bytes.len() as u64, error))?;
        Ok((part, saved))
    }

    /// Links the files of the save before that hold what is unchanged; gives the record of each item that is in one.
    fn link(&self, staging: &str, rank: u32, items: &[Item<'_>], part: &mut Part) -> Vec<Option<Record>> {
        let mut linked = vec![None; items.len()];
        let Some(previous) = self.previous.get(&rank) else { return linked };
        let records: BTreeMap<(bool, &str), &Record> =
            (previous.tensors.iter().map(|record| ((false, &*record.name), record)))
                .chain(previous.blobs.iter().map(|record| ((true, &*record.name), record)))
                .collect();
        let pairs: Vec<(usize, &Record)> = items
            .iter()
            .enumerate()
            .filter_map(|(index, Item { tensor, blob })| {
                let record = *records.get(&(*blob, tensor.name))?;
                let same =
                    record.dtype == tensor.dtype && record.shape == tensor.shape && record.global == tensor.global;
                same.then_some((index, record))
            })
            .collect();
        let compared: Vec<_> = pairs.iter().map(|(index, record)| (items[*index].tensor.data, *record)).collect();
        let same = transfer::unchanged(&compared, &previous.files);
        let pairs: Vec<_> = pairs.into_iter().zip(same).filter(|(_, same)| *same).map(|(pair, _)| pair).collect();
        let mut alive = vec![0; previous.files.len()];
        for (_, record) in &pairs {
            alive[record.file] += record.bytes();
        }
        let folder = StepId { step: previous.step, generation: previous.generation }.to_string();
        for file in worth_linking(previous, &alive) {
            let data = &previous.files[file];
            let (from, to) = (name::join(&folder, &data.name), name::join(staging, &data.name));
            // Without links here, or when the save before was pruned or never published: it is written again.
            if self.store.files.link(&from, &to).is_err() {
                continue;
            }
            for (index, record) in pairs.iter().filter(|(_, record)| record.file == file) {
                linked[*index] = Some(Record { file: part.files.len(), ..(*record).clone() });
            }
            part.files.push(data.clone());
        }
        linked
    }

    fn write_file(
        &self,
        staging: &str,
        file: &str,
        tensors: &[&Tensor<'_>],
        files: &mut Vec<DataFile>,
    ) -> Result<Vec<Record>> {
        let mut tensors = tensors.to_vec();
        tensors.sort_by_key(|tensor| order(tensor.dtype, &tensor.shape, tensor.name));
        let head =
            header(tensors.iter().map(|tensor| (tensor.name, tensor.dtype, &*tensor.shape))).map_err(Error::Input)?;
        let contents: Vec<(&str, Data<'_>)> = tensors.iter().map(|tensor| (tensor.name, tensor.data)).collect();
        let bytes = (head.len() + contents.iter().map(|(_, data)| data.bytes()).sum::<usize>()) as u64;
        let path = name::join(staging, file);
        let fail = |error| self.store.cannot_write(&path, bytes, error);
        let opened = self.store.files.create(&path, bytes).map_err(fail)?;
        let sums = transfer::write(&*opened, &head, &contents, &fail)?;
        let mut start = head.len() as u64;
        let mut records = Vec::new();
        for (tensor, xxh3) in tensors.into_iter().zip(sums) {
            let Tensor { name, dtype, ref shape, ref global, data } = *tensor;
            let (name, shape, global) = (name.to_owned(), shape.clone(), global.clone());
            records.push(Record { name, dtype, shape, global, file: files.len(), start, xxh3 });
            start += data.bytes() as u64;
        }
        let (name, header) = (file.to_owned(), head.len() as u64);
        files.push(DataFile { name, bytes, header, header_xxh3: Digest::of(&head), block: BLOCK });
        Ok(records)
    }

    /// Publishes a step when all ranks have saved their part; any rank may try, and several at the same time. When it
    /// returns [`Publication::Published`], the checkpoint outlives a loss of power. The parts are verified to `depth`
    /// before: [`Depth::Data`] reads back everything.
    ///
    /// # Errors
    /// [`Error::Fenced`], [`Error::GivenUp`], [`Error::AlreadyPublished`], [`Error::Damaged`] when the parts do not fit
    /// together or are not as they were written; nothing is published then.
    pub fn publish(&self, save: Save, rank: u32, info: &Info, depth: Depth) -> Result<Publication> {
        match self.try_publish(save, rank, info, depth) {
            Err(error) if error.is(ErrorKind::NotFound) => self.published_by_another(save, error),
            other => other,
        }
    }

    /// Another rank may have published while this one was about to.
    fn published_by_another(&self, save: Save, error: Error) -> Result<Publication> {
        let id = self.id(save);
        let folder = id.to_string();
        match read_json::<Manifest>(&*self.store.files, &name::join(&folder, name::MANIFEST)) {
            Ok(manifest) if manifest.attempt == save.attempt => {
                for folder in [&*folder, ""] {
                    self.store.files.sync_folder(folder).map_err(self.store.io("sync", folder))?;
                }
                Ok(Publication::Published(id))
            }
            _ => Err(self.lost(save, error)),
        }
    }

    fn try_publish(&self, save: Save, rank: u32, info: &Info, depth: Depth) -> Result<Publication> {
        let files = &self.store.files;
        let (id, staging) = (self.id(save), self.staging(save));
        let present: BTreeSet<String> =
            files.list(&staging).map_err(self.store.io("list", &staging))?.into_iter().collect();
        let missing: Vec<u32> = (0..save.world_size).filter(|rank| !present.contains(&name::part(*rank))).collect();
        if !missing.is_empty() {
            return Ok(Publication::Waiting(missing));
        }
        let (mut parts, mut references) = (Vec::new(), Vec::new());
        for rank in 0..save.world_size {
            let (part, reference) = read_part(&**files, &staging, rank)?;
            parts.push(part);
            references.push(reference);
        }
        let manifest = Manifest {
            run: self.run.clone(),
            step: save.step,
            generation: self.generation,
            attempt: save.attempt,
            created: info.created,
            metrics: info.metrics.iter().map(|(name, value)| (name.clone(), Metric(*value))).collect(),
            user: info.user.clone(),
            parts: references,
        };
        let told = serde_json::to_vec(&(&manifest.metrics, &manifest.user)).map_or(0, |bytes| bytes.len());
        if told > MOST_USER {
            return Err(Error::Input(format!(
                "metrics and metadata have {told} bytes, more than {MOST_USER}: save large things as blobs"
            )));
        }
        check_parts(&manifest, &parts).map_err(Error::Input)?;
        Checkpoint::new(files, staging.clone(), manifest.clone(), parts)?.verify(depth)?;

        let bytes = seal(&manifest).map_err(Error::Input)?;
        let staged = files.stage(&staging, &format!("{}.tmp-{rank}", name::MANIFEST), &bytes);
        let path = name::join(&staging, name::MANIFEST);
        staged.map_err(|error| self.store.cannot_write(&path, bytes.len() as u64, error))?;
        // When everything is in the staging folder, see `Store::take_over`.
        self.require_newest()?;
        match files.publish(&staging, &id.to_string(), &bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                Err(Error::AlreadyPublished { path: self.store.place(), id })
            }
            other => other.map_err(self.store.io("publish", &staging)).map(|()| Publication::Published(id)),
        }
    }

    /// Saves a step of a run with one rank, and publishes it.
    ///
    /// # Errors
    /// As of [`Writer::save_part`] and [`Writer::publish`]; nothing is left of the save then.
    pub fn save(&mut self, step: u64, state: &State<'_>, info: &Info) -> Result<(StepId, Saved)> {
        // What is left of an earlier try: an object store remembers that it was given up, and takes the next number.
        let attempt = self.store.next_attempt(StepId { step, generation: self.generation })?;
        let save = Save { step, attempt, world_size: 1 };
        let saved = self.save_part(save, 0, state)?;
        match self.publish(save, 0, info, Depth::Structure) {
            Ok(Publication::Published(id)) => Ok((id, saved)),
            Ok(Publication::Waiting(_)) => Err(Error::GivenUp { path: self.store.place(), step }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = self.give_up(save);
                Err(error)
            }
        }
    }
}

/// What a rank saves, checked.
fn items<'a>(save: Save, rank: u32, state: &State<'a>) -> Result<Vec<Item<'a>>> {
    if save.world_size == 0 || save.world_size > MOST_RANKS || rank >= save.world_size {
        return Err(Error::Input(format!("there is no rank {rank} of {} (at most {MOST_RANKS})", save.world_size)));
    }
    for tensor in &state.tensors {
        let Tensor { name, dtype, shape, data, .. } = tensor;
        let wanted = dtype.bytes(shape);
        if wanted != Some(data.bytes() as u64) {
            let wanted = wanted.map_or("an impossible number of".to_owned(), |bytes| bytes.to_string());
            return Err(Error::Input(format!(
                "the tensor `{name}` of {} {shape:?} needs {wanted} bytes and has {}",
                dtype.name(),
                data.bytes()
            )));
        }
    }
    let blobs = state.blobs.iter().map(|(name, data)| {
        let shape = vec![data.len() as u64];
        Item { tensor: Tensor { name, dtype: DType::U8, shape, global: None, data: Data::There(data) }, blob: true }
    });
    Ok(state.tensors.iter().map(|tensor| Item { tensor: tensor.clone(), blob: false }).chain(blobs).collect())
}
