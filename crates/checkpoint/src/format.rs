//! The JSON files of a store: who writes, what a rank saved, what a checkpoint is. Pure: bytes in, values out.
//!
//! `docs/checkpoint-format.md` says it for those who write a reader of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::dtype::DType;
use crate::name::{StepId, is_plain};
use crate::region::{Region, Runs, covers};
use crate::safetensors::{METADATA, MOST_HEADER, PAGE};

/// The version that this program writes, and the newest it reads.
pub const VERSION: u64 = 1;

/// What a JSON file may have at most: a bound for memory, far above what is real (a part of a terabyte has 35 MB).
pub(crate) const MOST_JSON: u64 = 256 << 20;

/// Ranks of a checkpoint at most.
pub(crate) const MOST_RANKS: u32 = 1 << 16;

/// Bytes of a block, where checksums are cut, at most.
pub(crate) const MOST_BLOCK: u64 = 8 << 20;

/// Axes of a tensor at most.
const MOST_AXES: usize = 64;

/// Bytes of a name at most.
const MOST_NAME: usize = 4096;

/// Bytes of the metrics and the user's metadata at most.
pub(crate) const MOST_USER: usize = 1 << 20;

/// An xxh3-128 checksum, in JSON as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub u128);

impl Digest {
    /// The checksum of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let digest = u128::from_str_radix(&text, 16).map(Self).map_err(D::Error::custom)?;
        if digest.to_string() == text { Ok(digest) } else { Err(D::Error::custom("a checksum has 32 digits")) }
    }
}

/// What a file of JSON is.
pub(crate) trait Kind: Serialize + DeserializeOwned {
    /// Its name in the file.
    const KIND: &'static str;
    /// Half a sentence that tells what does not fit together.
    fn check(&self) -> Result<(), String>;
}

/// Whose the store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreFile {
    /// The run.
    pub(crate) run: String,
}

impl Kind for StoreFile {
    const KIND: &'static str = "store";
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A writer that took over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterFile {
    /// Which one; each is larger than those before it.
    pub generation: u64,
    /// Who, for whoever is refused: host, pod, process.
    pub owner: String,
    /// When, in seconds since 1970.
    pub taken: u64,
}

impl Kind for WriterFile {
    const KIND: &'static str = "writer";
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A number that was measured at a step. JSON has no NaN and no infinity: those are the texts `NaN`, `inf`, `-inf`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric(pub f64);

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() { serializer.serialize_f64(self.0) } else { serializer.collect_str(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(f64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(Self(number)),
            Either::Text(text) if ["NaN", "inf", "-inf"].contains(&text.as_str()) => {
                text.parse().map(Self).map_err(D::Error::custom)
            }
            Either::Text(text) => Err(D::Error::custom(format!("`{text}` is no number"))),
        }
    }
}

/// A checkpoint: written last, and with it the checkpoint is whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The run.
    pub run: String,
    /// The step.
    pub step: u64,
    /// The writer.
    pub generation: u64,
    /// Which attempt of this writer to save the step.
    pub attempt: u32,
    /// When it was published, in seconds since 1970.
    pub created: u64,
    /// What was measured.
    pub metrics: BTreeMap<String, Metric>,
    /// What the user wants to find again.
    pub user: Map<String, Value>,
    /// What each rank saved, from rank 0 on; their number is the world size.
    pub parts: Vec<PartRef>,
}

/// A part, by what its file has in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRef {
    /// Bytes of the part's file.
    pub bytes: u64,
    /// Their checksum.
    pub xxh3: Digest,
}

impl Manifest {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> StepId {
        StepId { step: self.step, generation: self.generation }
    }

    /// Ranks that saved it.
    #[must_use]
    pub fn world_size(&self) -> u32 {
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX)
    }
}

impl Kind for Manifest {
    const KIND: &'static str = "manifest";
    fn check(&self) -> Result<(), String> {
        let ranks = self.parts.len();
        if ranks == 0 || ranks > MOST_RANKS as usize {
            return Err(format!("it has {ranks} parts; 1 to {MOST_RANKS} are possible"));
        }
        Ok(())
    }
}

/// What one rank saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The run.
    pub run: String,
    /// The step.
    pub step: u64,
    /// The writer.
    pub generation: u64,
    /// Which attempt of this writer to save the step.
    pub attempt: u32,
    /// Whose it is.
    pub rank: u32,
    /// How many ranks save together.
    pub world_size: u32,
    /// The checksum of what the rank takes for the same on all ranks: it is the same in all parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<Digest>,
    /// Files with its data, in the checkpoint's folder.
    pub files: Vec<DataFile>,
    /// Tensors, by name.
    pub tensors: Vec<Record>,
    /// Opaque bytes, by name: each a `U8` tensor with one axis in its file.
    pub blobs: Vec<Record>,
}

/// A safetensors file. It was written for the step in its name, and may hold tensors that have changed since: only what
/// a record names is part of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Its plain name.
    pub name: String,
    /// All its bytes.
    pub bytes: u64,
    /// The bytes before its data: length, JSON and spaces. A multiple of 4096.
    pub header: u64,
    /// The checksum of those.
    pub header_xxh3: Digest,
    /// Checksums of data are cut where the file is a multiple of this. A power of two, from 4096 to 8 MiB.
    pub block: u64,
}

/// Where a tensor or a blob is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name, which is also its name in the file.
    pub name: String,
    /// The type of its elements.
    pub dtype: DType,
    /// Elements along each axis, of what is stored here.
    pub shape: Vec<u64>,
    /// Where that belongs, when it is a shard of a larger tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<Global>,
    /// Index of its file in [`Part::files`].
    pub file: usize,
    /// Its first byte in the file.
    pub start: u64,
    /// The checksums of its bytes, cut at the file's blocks.
    pub xxh3: Vec<Digest>,
}

/// The tensor that a shard is a part of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {
    /// Elements along each axis of the whole tensor.
    pub shape: Vec<u64>,
    /// Where the shard begins in it.
    pub offset: Vec<u64>,
}

impl Record {
    /// Its bytes. Only for a record that was checked.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.dtype.bytes(&self.shape).unwrap_or(0)
    }

    /// The shape of the whole tensor.
    #[must_use]
    pub fn whole_shape(&self) -> &[u64] {
        self.global.as_ref().map_or(&self.shape, |global| &global.shape)
    }

    /// The place of what is stored here in the whole tensor.
    #[must_use]
    pub fn region(&self) -> Region {
        let offset = self.global.as_ref().map_or_else(|| vec![0; self.shape.len()], |global| global.offset.clone());
        Region { offset, shape: self.shape.clone() }
    }

    /// One checksum for all its checksums: what tells two tensors apart that were cut the same way.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        let all: Vec<u8> = self.xxh3.iter().flat_map(|digest| digest.0.to_be_bytes()).collect();
        Digest::of(&all)
    }
}

/// The ranges into which the bytes `start..start + bytes` of a file are cut for their checksums.
pub(crate) fn cuts(start: u64, bytes: u64, block: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = start + bytes;
    let first = start / block;
    let past = if bytes == 0 { first } else { (end - 1) / block + 1 };
    (first..past).map(move |index| ((index * block).max(start), ((index + 1) * block).min(end)))
}

impl Part {
    /// Tensors and blobs.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.tensors.iter().chain(&self.blobs)
    }

    fn check_file(file: &DataFile) -> Result<(), String> {
        let DataFile { name, bytes, header, block, .. } = file;
        if !is_plain(name) {
            return Err(format!("{name:?} is no name of a data file"));
        }
        if *header < PAGE
            || *header % PAGE != 0
            || *header > MOST_HEADER + 8
            || header > bytes
            || *bytes > i64::MAX as u64
        {
            return Err(format!("{name} cannot have {bytes} bytes with a header of {header}"));
        }
        if !block.is_power_of_two() || !(PAGE..=MOST_BLOCK).contains(block) {
            return Err(format!("{name} cannot be cut into blocks of {block} bytes"));
        }
        Ok(())
    }

    fn check_record(&self, record: &Record) -> Result<(), String> {
        let Record { name, dtype, shape, start, .. } = record;
        if name.is_empty() || name == METADATA || name.len() > MOST_NAME {
            return Err(format!("`{}` is no name of a tensor", name.chars().take(60).collect::<String>()));
        }
        let bytes = (shape.len() <= MOST_AXES).then(|| dtype.bytes(shape)).flatten();
        let bytes = bytes.ok_or_else(|| format!("`{name}` has an impossible shape"))?;
        let file = self
            .files
            .get(record.file)
            .ok_or_else(|| format!("`{name}` is in file {}, which is not listed", record.file))?;
        if *start < file.header || start.checked_add(bytes).is_none_or(|end| end > file.bytes) {
            return Err(format!("`{name}` would have {bytes} bytes from {start}, {} has {}", file.name, file.bytes));
        }
        if let Some(global) = &record.global
            && (dtype.bytes(&global.shape).is_none() || !record.region().fits(&global.shape))
        {
            return Err(format!("the shard of `{name}` at {:?} is outside of {:?}", global.offset, global.shape));
        }
        let wanted = if bytes == 0 { 0 } else { (start + bytes - 1) / file.block - start / file.block + 1 };
        if record.xxh3.len() as u64 != wanted {
            return Err(format!("`{name}` has {} checksums, {wanted} are needed", record.xxh3.len()));
        }
        Ok(())
    }
}

impl Kind for Part {
    const KIND: &'static str = "part";
    fn check(&self) -> Result<(), String> {
        if self.world_size == 0 || self.world_size > MOST_RANKS || self.rank >= self.world_size {
            return Err(format!("there is no rank {} of {}", self.rank, self.world_size));
        }
        self.files.iter().try_for_each(Self::check_file)?;
        let names: BTreeSet<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        if names.len() != self.files.len() {
            return Err("it lists a file twice".to_owned());
        }
        self.records().try_for_each(|record| self.check_record(record))?;
        for records in [&self.tensors, &self.blobs] {
            let names: BTreeSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
            if names.len() != records.len() {
                return Err("it has a name twice".to_owned());
            }
        }
        if let Some(blob) =
            self.blobs.iter().find(|blob| blob.dtype != DType::U8 || blob.shape.len() != 1 || blob.global.is_some())
        {
            return Err(format!("the blob `{}` is not plain bytes", blob.name));
        }
        let mut ranges: Vec<_> =
            self.records().filter(|r| r.bytes() > 0).map(|r| (r.file, r.start, r.start + r.bytes(), &r.name)).collect();
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].2 > pair[1].1) {
            return Err(format!("`{}` and `{}` share bytes", pair[0].3, pair[1].3));
        }
        Ok(())
    }
}

/// Whether parts belong to one checkpoint, one a rank, and hold every tensor whole.
pub(crate) fn check_parts(manifest: &Manifest, parts: &[Part]) -> Result<(), String> {
    for (rank, part) in parts.iter().enumerate() {
        let found = (part.run.as_str(), part.step, part.generation, part.attempt, part.rank as usize, part.world_size);
        let m = manifest;
        let wanted = (m.run.as_str(), m.step, m.generation, m.attempt, rank, m.world_size());
        if found != wanted {
            return Err(format!(
                "the part of rank {rank} is of another save: (run, step, writer, attempt, rank, ranks) is {found:?}, not {wanted:?}"
            ));
        }
    }
    if let Some(other) = parts.iter().find(|part| part.agreed != parts[0].agreed) {
        return Err(format!("the ranks 0 and {} do not have alike what all ranks share", other.rank));
    }
    let mut shards: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in parts.iter().flat_map(|part| &part.tensors).filter(|record| record.global.is_some()) {
        shards.entry(&record.name).or_default().push(record);
    }
    for (name, shards) in shards {
        let first = shards[0];
        if let Some(other) =
            shards.iter().find(|shard| shard.dtype != first.dtype || shard.whole_shape() != first.whole_shape())
        {
            return Err(format!(
                "the shards of `{name}` disagree: {} {:?} and {} {:?}",
                first.dtype.name(),
                first.whole_shape(),
                other.dtype.name(),
                other.whole_shape()
            ));
        }
        let boxes: Vec<Region> = shards.iter().map(|shard| shard.region()).collect();
        covers(first.whole_shape(), &boxes.iter().collect::<Vec<_>>()).map_err(|why| format!("`{name}`: {why}"))?;
    }
    Ok(())
}

/// What a file of JSON begins with, before its checksum and after.
const BEFORE: &[u8] = b"{\"xxh3\":\"";
const AFTER: &[u8] = b"\",";

/// What the checksum covers.
#[derive(Serialize, Deserialize)]
struct Envelope<B> {
    format: String,
    version: u64,
    kind: String,
    body: B,
}

const FORMAT: &str = "bedplate-checkpoint";

/// Why bytes are no file of a store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// A newer program wrote it.
    Newer(u64),
    /// Half a sentence.
    Damaged(String),
}

/// Writes a file of JSON.
pub(crate) fn seal<T: Kind>(body: &T) -> Result<Vec<u8>, String> {
    body.check()?;
    let envelope = Envelope { format: FORMAT.to_owned(), version: VERSION, kind: T::KIND.to_owned(), body };
    let json = serde_json::to_string(&envelope).map_err(|error| error.to_string())?;
    let rest = format!("{}\n", &json[1..]);
    if rest.len() as u64 > MOST_JSON {
        return Err(format!("the list of its contents takes {} bytes; {MOST_JSON} are possible", rest.len()));
    }
    Ok([BEFORE, Digest::of(rest.as_bytes()).to_string().as_bytes(), AFTER, rest.as_bytes()].concat())
}

/// Reads a file of JSON: not one byte of it may have changed.
pub(crate) fn unseal<T: Kind>(bytes: &[u8]) -> Result<T, Bad> {
    let damaged = |why: &str| Bad::Damaged(why.to_owned());
    let rest = bytes.strip_prefix(BEFORE).ok_or_else(|| damaged("it does not begin as a file of a checkpoint does"))?;
    let (found, rest) = rest.split_at_checked(32).ok_or_else(|| damaged("it is cut off"))?;
    let rest = rest.strip_prefix(AFTER).ok_or_else(|| damaged("it does not begin as a file of a checkpoint does"))?;
    if Digest::of(rest).to_string().as_bytes() != found {
        return Err(damaged("its checksum is not that of its contents"));
    }
    parse(&[b"{", rest].concat())
}

/// Reads what the checksum covers. Checked as what a stranger wrote: a checksum is no signature.
pub(crate) fn parse<T: Kind>(json: &[u8]) -> Result<T, Bad> {
    let damaged = |error: serde_json::Error| Bad::Damaged(format!("it is not what its format says: {error}"));
    // The body of a newer version may be anything.
    let envelope: Envelope<&RawValue> = serde_json::from_slice(json).map_err(damaged)?;
    if envelope.format != FORMAT || envelope.kind != T::KIND {
        return Err(Bad::Damaged(format!("it is a `{}` of `{}`, not a `{}`", envelope.kind, envelope.format, T::KIND)));
    }
    if envelope.version > VERSION {
        return Err(Bad::Newer(envelope.version));
    }
    let body: T = serde_json::from_str(envelope.body.get()).map_err(damaged)?;
    body.check().map_err(Bad::Damaged)?;
    Ok(body)
}

/// Reads bytes as every kind of file there is, without their checksums: for fuzzing.
#[doc(hidden)]
pub fn parse_anything(bytes: &[u8]) {
    if let Ok(part) = parse::<Part>(bytes) {
        // What was accepted can be worked with.
        for record in part.records() {
            let _ = (record.bytes(), record.region(), record.fingerprint());
            let (block, whole) = (part.files[record.file].block, Region::whole(record.whole_shape()));
            if let Some(shared) = record.region().meets(&whole)
                && let Some(runs) = Runs::new(&shared, &record.region(), &whole, record.dtype)
            {
                let (from, to) = runs.at(runs.count - 1);
                assert!(from + runs.length <= record.bytes() && to + runs.length <= u64::MAX / 8);
            }
            assert_eq!(cuts(record.start, record.bytes(), block).count(), record.xxh3.len());
        }
        let parts = vec![PartRef { bytes: 0, xxh3: Digest(0) }; part.world_size as usize];
        let Part { ref run, step, generation, attempt, .. } = part;
        let (run, metrics, user) = (run.clone(), BTreeMap::new(), Map::new());
        let _ = check_parts(&Manifest { run, step, generation, attempt, created: 0, metrics, user, parts }, &[part]);
    }
    let _ = parse::<Manifest>(bytes);
    let _ = parse::<WriterFile>(bytes);
    let _ = unseal::<Part>(bytes);
    let _ = crate::safetensors::Header::parse(bytes);
}
