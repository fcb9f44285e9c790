//! One plain safetensors file of a checkpoint, for other tools.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::checkpoint::{Checkpoint, PORTION, TensorInfo};
use crate::error::{Error, Result};
use crate::region::{Region, portions};
use crate::safetensors::{header, order};

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Tensors, each whole.
    pub tensors: usize,
    /// All bytes of the file.
    pub bytes: u64,
    /// Blobs, which a safetensors file has no place for.
    pub blobs_left_out: usize,
}

/// The name of a tensor in one file: where several ranks have one of their own under the name, the rank is added.
fn name(tensor: &TensorInfo<'_>) -> String {
    tensor.rank.map_or_else(|| tensor.name.to_owned(), |rank| format!("{}@rank-{rank}", tensor.name))
}

impl Checkpoint {
    /// Writes every tensor, put together from its shards, into one safetensors file. Every byte is verified on the way. The
    /// file gets its name when it is whole and durable; memory does not grow with the tensors.
    ///
    /// # Errors
    /// When there is such a file; [`Error::Damaged`]; what the system says. No half of a file is left then.
    pub fn export(&self, to: &Path) -> Result<Exported> {
        let fail = |doing, path: &Path| {
            let path = path.display().to_string();
            move |source| Error::Io { doing, path, source }
        };
        if to.exists() {
            return Err(Error::Input(format!("{} is there already, and stays: give another name", to.display())));
        }
        let mut temporary = to.as_os_str().to_owned();
        temporary.push(format!(".tmp-{}", std::process::id()));
        let temporary = Path::new(&temporary);
        let result = self.write_to(temporary).and_then(|exported| {
            std::fs::rename(temporary, to).map_err(fail("create", to))?;
            let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail("sync", folder))?;
            Ok(exported)
        });
        if result.is_err() {
            let _ = std::fs::remove_file(temporary);
        }
        result
    }

    fn write_to(&self, path: &Path) -> Result<Exported> {
        let fail = |source| Error::Io { doing: "write", path: path.display().to_string(), source };
        let mut tensors: Vec<(String, TensorInfo<'_>)> =
            self.tensors().into_iter().map(|one| (name(&one), one)).collect();
        tensors.sort_by(|(a, one), (b, other)| order(one.dtype, one.shape, a).cmp(&order(other.dtype, other.shape, b)));
        let head = header(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dtype, tensor.shape)));
        let head = head.map_err(Error::Input)?;
        let mut file = File::create_new(path).map_err(fail)?;
        file.write_all(&head).map_err(fail)?;
        let mut bytes = head.len() as u64;
        for (_, tensor) in &tensors {
            for portion in portions(&Region::whole(tensor.shape), tensor.dtype, PORTION) {
                let data = self.slice(tensor.name, tensor.rank, Some(portion))?;
                file.write_all(&data).map_err(fail)?;
                bytes += data.len() as u64;
            }
        }
        file.sync_all().map_err(fail)?;
        let blobs_left_out = self.parts().iter().map(|part| part.blobs.len()).sum();
        Ok(Exported { tensors: tensors.len(), bytes, blobs_left_out })
    }
}
