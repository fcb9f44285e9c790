//! The durable store for training state.
//!
//! A save is complete or invisible. Each rank writes its tensors into safetensors files in a staging folder and then its
//! *part*, a list of them with checksums; when all parts are there, the *manifest* is written and the folder gets its
//! name by one rename. Everything is synced before the step that relies on it, so a crash or a loss of power at any
//! point leaves the checkpoints before it, and this one whole or not at all.
//!
//! ```text
//! run-7/
//!   store.json                               whose checkpoints these are
//!   writers/00000003.json                    who writes: the newest one only
//!   step-000000000100-g00000003/             a checkpoint: step 100, saved by writer 3
//!     step-000000000100-g00000003.rank-00000.safetensors
//!     rank-00000.json                        the part of rank 0
//!     manifest.json
//!   step-000000000200-g00000003.tmp-0/       a save that goes on, or that a crash left
//! ```
//!
//! ```no_run
//! # use bedplate_checkpoint::{DType, Data, Depth, Info, State, Store, Tensor};
//! # fn main() -> bedplate_checkpoint::Result<()> {
//! let store = Store::at("/mnt/ckpt/run-7".as_ref());
//! let mut writer = store.take_over("run-7", "pod trainer-0", 1_790_000_000)?;
//! let resume = store.resume_with(|checkpoint| checkpoint.tensor("weight"))?;
//! let (step, weight) = match resume.found {
//!     Some((checkpoint, weight)) => (checkpoint.id().step, weight),
//!     None => (0, vec![0; 4096]),
//! };
//! let tensor = Tensor { name: "weight", dtype: DType::F32, shape: vec![32, 32], global: None, data: Data::There(&weight) };
//! writer.save(step + 1, &State { tensors: vec![tensor], ..State::default() }, &Info::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! Layers: `format`, `name`, `safetensors`, `region`, `retention` and `reuse` decide, without a file or a clock; `store`,
//! `writer`, `checkpoint` and `transfer` carry out; [`Files`] is the edge to storage, with a filesystem behind it (`disk`)
//! or, with the feature `remote`, an object store (`remote`). The format: `docs/checkpoint-format.md`.

mod checkpoint;
mod data;
mod disk;
mod dtype;
mod error;
mod export;
mod files;
mod format;
mod measure;
mod name;
mod region;
#[cfg(feature = "remote")]
mod remote;
mod retention;
mod reuse;
mod safetensors;
mod store;
mod transfer;
mod writer;

pub use checkpoint::{Checkpoint, Depth, Request, TensorInfo};
pub use data::{Coming, Data};
pub use dtype::DType;
pub use error::{Bytes, Error, PassedOver, Result};
pub use export::Exported;
pub use files::{Files, ReadAt, WriteAt};
pub use format::{
    DataFile, Digest, Global, Manifest, Metric, Part, PartRef, Record, VERSION, WriterFile, parse_anything,
};
pub use name::StepId;
pub use region::Region;
pub use retention::{Best, Direction, Health, Known, Retention, Verdict};
pub use safetensors::{Entry, Header, file_order};
pub use store::{Access, Pruning, Resume, Store, is_url};
pub use writer::{Info, Publication, Save, Saved, State, Tensor, Writer};
