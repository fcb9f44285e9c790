//! A store in a folder of a filesystem.
//!
//! Large files go around the page cache (O_DIRECT) where the filesystem takes that: 3.9 GB/s instead of 0.9 on one
//! NVMe volume. tmpfs, overlay on tmpfs, many FUSE and network filesystems do not; there it is left out, when the file is
//! opened or at the first piece that is refused.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::files::{Files, ReadAt, WriteAt};
use crate::safetensors::PAGE;

/// Files below this are not worth a way around the page cache.
const LARGE: u64 = 1 << 20;

/// A folder.
pub(crate) struct Disk {
    root: PathBuf,
}

impl Disk {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

/// Opens around the page cache where that is worth it and possible. Linux says EINVAL where a filesystem cannot.
fn open(path: &Path, flags: OFlags, bytes: u64) -> io::Result<File> {
    let mode = Mode::from_raw_mode(0o666);
    let flags = flags | OFlags::CLOEXEC;
    let opened =
        match rustix::fs::open(path, flags | if bytes < LARGE { OFlags::empty() } else { OFlags::DIRECT }, mode) {
            // The file was made before the flag was refused, or not: that differs between filesystems.
            Err(Errno::INVAL) if flags.contains(OFlags::EXCL) => {
                let _ = rustix::fs::unlink(path);
                rustix::fs::open(path, flags, mode)
            }
            Err(Errno::INVAL) => rustix::fs::open(path, flags, mode),
            other => other,
        };
    Ok(File::from(opened?))
}

fn is_direct(file: &File) -> bool {
    rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.contains(OFlags::DIRECT))
}

/// From here on through the page cache.
fn be_buffered(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?)
}

fn is_aligned(bytes: &[u8], offset: u64) -> bool {
    bytes.as_ptr().addr().is_multiple_of(PAGE as usize)
        && bytes.len().is_multiple_of(PAGE as usize)
        && offset.is_multiple_of(PAGE)
}

impl Files for Disk {
    fn shown(&self, path: &str) -> String {
        self.at(path).display().to_string()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.at(folder))? {
            // A name that is no UTF-8 is not one of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn read(&self, path: &str, at_most: u64) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let mut file = File::open(self.at(path))?;
        let bytes = file.metadata()?.len();
        if bytes > at_most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {bytes} bytes, not {at_most}")));
        }
        let mut text = Vec::new();
        file.by_ref().take(at_most).read_to_end(&mut text)?;
        Ok(text)
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn ReadAt>> {
        let path = self.at(path);
        let bytes = std::fs::metadata(&path)?.len();
        Ok(Box::new(OnDisk(open(&path, OFlags::RDONLY, bytes)?)))
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        let made = std::fs::create_dir(self.at(path));
        if path.is_empty() {
            // The store's own name has to outlive a loss of power too, and its parent is no folder of ours: where it cannot
            // be synced, it was there before or is somebody else's to keep.
            if let Some(parent) = self.root.parent() {
                let _ = File::open(parent).and_then(|parent| parent.sync_all());
            }
        }
        made
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Box<dyn WriteAt>> {
        let path = self.at(path);
        let file = open(&path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, bytes)?;
        if bytes >= LARGE {
            // A full device is told now, not after most was written; and the blocks lie together.
            let room = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes.next_multiple_of(PAGE));
            // Other errors: there is no such thing here, and it is only a help.
            if let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) = room {
                let _ = rustix::fs::unlink(&path);
                return Err(error.into());
            }
        }
        Ok(Box::new(OnDisk(file)))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::linkat(CWD, self.at(from), CWD, self.at(to), AtFlags::empty())?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.at(from), self.at(to))
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.at(path))
    }

    fn remove_folder(&self, path: &str) -> io::Result<()> {
        std::fs::remove_dir(self.at(path))
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        File::open(self.at(path))?.sync_all()
    }

    fn free(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.root).ok()?;
        stat.f_bavail.checked_mul(stat.f_frsize)
    }
}

struct OnDisk(File);

impl ReadAt for OnDisk {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let (rest, at) = (&mut buffer[done..], offset + done as u64);
            match rustix::io::pread(&self.0, &mut *rest, at) {
                Ok(0) => break,
                Ok(read) => {
                    done += read;
                    // Around the page cache only the end of a file is no whole page, and nothing can be read after it.
                    if !read.is_multiple_of(PAGE as usize) && is_direct(&self.0) {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::INVAL) if is_direct(&self.0) => be_buffered(&self.0)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }
}

impl WriteAt for OnDisk {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let (rest, at) = (&bytes[done..], offset + done as u64);
            if !is_aligned(rest, at) && is_direct(&self.0) {
                be_buffered(&self.0)?;
            }
            match rustix::io::pwrite(&self.0, rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(Errno::INVAL) if is_direct(&self.0) => be_buffered(&self.0)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn finish(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)?;
        self.0.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_is_no_page_is_written_and_read_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path());
        let bytes = 3 * LARGE + 5;
        let data: Vec<u8> = (0..bytes).map(|byte| (byte % 253) as u8).collect();
        let file = disk.create("large", bytes).unwrap();
        // Neither the place in memory nor the one in the file is a multiple of a page.
        file.write_at(&data[1..], 1).unwrap();
        file.write_at(&data[..1], 0).unwrap();
        file.finish(bytes).unwrap();
        let file = disk.open("large").unwrap();
        assert_eq!(file.bytes().unwrap(), bytes);
        let mut read = vec![0; data.len() + 100];
        assert_eq!(file.read_at(&mut read[..10], 7).unwrap(), 10);
        assert_eq!(read[..10], data[7..17]);
        assert_eq!(file.read_at(&mut read, 0).unwrap(), data.len());
        assert!(read[..data.len()] == data);
        assert_eq!(disk.create("large", bytes).map(|_| ()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
