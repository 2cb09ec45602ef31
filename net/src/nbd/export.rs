//! What the server offers: one export per volume.

use core::fmt;
use heapless::String;
use replication::buf::PAGE;

/// Longest name of an export, in bytes.
pub const NAME_MAX: usize = 32;
/// What the name of a snapshot's export has behind the volume's.
pub const SNAPSHOT_SUFFIX: &str = "@before-resync";
/// Longest description of an export, in bytes.
pub const DESCRIPTION_MAX: usize = 128;
/// Smallest block size the protocol is served with, in bytes.
pub const BLOCK_SIZE_MIN: u32 = 512;

/// A volume as clients see it. Both nodes of a pair must build equal exports: QEMU gives up on a
/// server whose size or flags change across a reconnect (reference/nbd.md, "Seen by trial" 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    pub(super) name: String<NAME_MAX>,
    pub(super) description: String<DESCRIPTION_MAX>,
    pub(super) volume: u16,
    pub(super) size: u64,
    pub(super) block_size: u32,
    pub(super) fast_zero: bool,
    /// The old content of a resync's target, read-only.
    pub(super) snapshot: bool,
    /// Clients may have it. Of a volume always.
    pub(super) offered: bool,
}

/// Why an export cannot be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportError {
    /// The name is empty, longer than [`NAME_MAX`] bytes or holds a NUL.
    Name,
    /// The description is longer than [`DESCRIPTION_MAX`] bytes or holds a NUL.
    Description,
    /// The block size is no power of two from [`BLOCK_SIZE_MIN`] to a pool page.
    BlockSize(u32),
    /// The size is not a multiple of the block size, or 2^63 or more (clients keep it in a
    /// signed number).
    Size(u64),
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => write!(
                f,
                "an export's name must have 1 to {NAME_MAX} bytes, no NUL"
            ),
            Self::Description => {
                write!(
                    f,
                    "an export's description must have at most {DESCRIPTION_MAX} bytes, no NUL"
                )
            }
            Self::BlockSize(size) => write!(
                f,
                "an export's block size must be a power of two from {BLOCK_SIZE_MIN} to {PAGE}, not {size}"
            ),
            Self::Size(size) => write!(
                f,
                "an export's size must be a multiple of its block size and below 2^63, not {size}"
            ),
        }
    }
}

impl Export {
    /// An export of `volume` (its index in the engine) with `size` bytes in blocks of
    /// `block_size`. `fast_zero` says whether zeroing is faster than writing zeroes on both
    /// nodes; otherwise NBD_CMD_FLAG_FAST_ZERO is refused with ENOTSUP, as it is made for.
    ///
    /// # Errors
    ///
    /// See [`ExportError`].
    pub fn new(
        name: &str,
        description: &str,
        volume: u16,
        size: u64,
        block_size: u32,
        fast_zero: bool,
    ) -> Result<Self, ExportError> {
        if !block_size.is_power_of_two() || !(BLOCK_SIZE_MIN..=PAGE).contains(&block_size) {
            return Err(ExportError::BlockSize(block_size));
        }
        check_size(size, block_size)?;
        if name.is_empty() || name.contains('\0') {
            return Err(ExportError::Name);
        }
        if description.contains('\0') {
            return Err(ExportError::Description);
        }
        Ok(Self {
            name: String::try_from(name).map_err(|_| ExportError::Name)?,
            description: String::try_from(description).map_err(|_| ExportError::Description)?,
            volume,
            size,
            block_size,
            fast_zero,
            snapshot: false,
            offered: true,
        })
    }

    /// The export of the old content that `volume` had before the resync to this node, read-only: its name is the volume's
    /// and [`SNAPSHOT_SUFFIX`]. It is not offered before [`super::Server::offer_snapshot`] says so.
    ///
    /// # Errors
    ///
    /// [`ExportError::Name`]: it would be too long.
    pub fn before_resync(volume: &Self) -> Result<Self, ExportError> {
        let mut name = volume.name.clone();
        name.push_str(SNAPSHOT_SUFFIX)
            .map_err(|_| ExportError::Name)?;
        Ok(Self {
            name,
            fast_zero: false,
            snapshot: true,
            offered: false,
            ..volume.clone()
        })
    }

    pub(super) fn set_size(&mut self, size: u64) -> Result<(), ExportError> {
        check_size(size, self.block_size)?;
        self.size = size;
        Ok(())
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `len` bytes at `offset` lie within the export.
    #[must_use]
    pub fn contains(&self, offset: u64, len: u32) -> bool {
        offset
            .checked_add(u64::from(len))
            .is_some_and(|end| end <= self.size)
    }

    /// Whether `offset` and `len` are multiples of the block size.
    #[must_use]
    pub fn is_aligned(&self, offset: u64, len: u32) -> bool {
        (offset | u64::from(len)) & u64::from(self.block_size - 1) == 0
    }
}

fn check_size(size: u64, block_size: u32) -> Result<(), ExportError> {
    if size >= 1 << 63 || !size.is_multiple_of(u64::from(block_size)) {
        return Err(ExportError::Size(size));
    }
    Ok(())
}

/// The export that a client means by `name`: the empty name is the first export.
#[must_use]
pub fn find(exports: &[Export], name: &[u8]) -> Option<usize> {
    if name.is_empty() {
        return exports.iter().position(|e| e.offered);
    }
    exports
        .iter()
        .position(|e| e.offered && e.name.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_exports_are_refused() {
        let new = |name, size, block| Export::new(name, "", 0, size, block, false);
        assert!(new("vol0", 1 << 30, 512).is_ok());
        assert!(new("vol0", 0, 4096).is_ok());
        assert_eq!(new("", 512, 512), Err(ExportError::Name));
        assert_eq!(new("a\0b", 512, 512), Err(ExportError::Name));
        assert_eq!(new("v", 513, 512), Err(ExportError::Size(513)));
        assert_eq!(new("v", 1 << 63, 512), Err(ExportError::Size(1 << 63)));
        assert_eq!(new("v", 512, 256), Err(ExportError::BlockSize(256)));
        assert_eq!(new("v", 8192, 8192), Err(ExportError::BlockSize(8192)));
        assert_eq!(new("v", 3072, 1536), Err(ExportError::BlockSize(1536)));
    }

    #[test]
    fn ranges_do_not_wrap() {
        let export = Export::new("v", "", 0, 1 << 20, 512, false).expect("valid");
        assert!(export.contains(0, 1 << 20) && export.contains(1 << 20, 0));
        assert!(!export.contains(512, 1 << 20) && !export.contains(u64::MAX - 511, 1024));
        assert!(export.is_aligned(512, 1024) && !export.is_aligned(512, 1));
    }
}
