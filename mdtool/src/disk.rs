//! A raw image file or block device.

use crate::error::Error;
use replication::ondisk::Page;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Linux's O_EXCL: on a block device, refuse one that is mounted or otherwise in use.
const O_EXCL: i32 = 0o200;

/// An open raw image or block device.
pub struct Disk {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Disk {
    /// Opens for reading only.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::with(path, OpenOptions::new().read(true))
    }

    /// Opens for writing too; a block device that is in use is refused.
    pub fn open_to_write(path: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let metadata = std::fs::metadata(path).map_err(|error| Error::io("open", path, error))?;
        if metadata.file_type().is_block_device() {
            options.custom_flags(O_EXCL);
        }
        Self::with(path, &options)
    }

    fn with(path: &Path, options: &OpenOptions) -> Result<Self, Error> {
        let mut file = options.open(path).map_err(|e| Error::io("open", path, e))?;
        // A block device's metadata has no size; its end has.
        let end = file.seek(SeekFrom::End(0));
        Ok(Self {
            file,
            path: path.to_owned(),
            bytes: end.map_err(|e| Error::io("find the size of", path, e))?,
        })
    }

    /// Bytes of the disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads `len` bytes at `at`, which must lie on the disk.
    pub fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; len];
        let done = self.file.read_exact_at(&mut bytes, at);
        done.map_err(|error| Error::io("read", &self.path, error))?;
        Ok(bytes)
    }

    /// Writes a page at `at`.
    pub fn write(&self, at: u64, page: &Page) -> Result<(), Error> {
        let done = self.file.write_all_at(page, at);
        done.map_err(|error| Error::io("write", &self.path, error))
    }

    /// Makes all writes durable.
    pub fn flush(&self) -> Result<(), Error> {
        let done = self.file.sync_data();
        done.map_err(|error| Error::io("flush", &self.path, error))
    }
}
