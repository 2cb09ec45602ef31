//! Metadata as it lies on a disk (docs/ONDISK.md): superblock, activity log, bitmap.
//!
//! Everything here is a pure function over byte slices: no I/O, no clock, no allocation. The order of use:
//!
//! 1. [`Layout`] says where on the metadata's disk each page lies.
//! 2. [`Superblock::decode`] reads both copies and [`choose`] picks the one that counts.
//! 3. [`activity::recover`] reads each pair of activity log pages, [`bitmap::decode`] each bitmap page.
//! 4. [`Superblock::encode`], [`activity::encode`] and [`bitmap::encode`] make the pages to write.
//!
//! [`find`] looks for metadata that is not at the end of the disk any more because the disk has
//! grown, [`foreign`] tells what else may be on a disk before metadata is created on it, and
//! [`Inspection`] sums everything up for a person.

pub mod activity;
pub mod bitmap;
mod choose;
mod create;
mod error;
mod finding;
mod foreign;
mod growth;
mod inspect;
mod layout;
mod page;
mod search;
pub mod snapshot;
mod superblock;
mod survey;
#[cfg(test)]
mod tests;

pub use choose::{Chosen, Repair, Unusable, Which, choose};
pub use create::{Creation, Step};
pub use error::{Field, Release, SuperblockError};
pub(crate) use finding::Bytes;
pub use finding::{Finding, Verdict};
pub use foreign::{FOREIGN_BYTES, foreign};
pub use growth::Disks;
pub use inspect::{ActivitySummary, BitmapSummary, Inspection};
pub use layout::{Layout, LayoutError, LayoutFault, Place};
pub use page::PageError;
pub use search::Search;
pub use snapshot::{Reserve, Snapshot, SnapshotState};
pub use superblock::{
    COMPAT_KNOWN, INCOMPAT_KNOWN, RELEASE_NEEDED, RESERVE, Superblock, VERSION, VERSION_MIN, find,
};
pub use survey::{Depth, Survey};

/// Bytes of every page of metadata; also the alignment of every page on the disk.
pub const PAGE: usize = 4096;
/// Words of bits that an activity log or bitmap page holds: 4080 bytes.
pub const PAGE_WORDS: usize = 510;
/// Bytes of volume that one bit of the activity log stands for.
pub const EXTENT: u64 = 4 << 20;
/// Extents that a pair of activity log pages covers (127.5 GiB of volume).
pub const ACTIVITY_PAGE_EXTENTS: u64 = PAGE_WORDS as u64 * 64;
/// Bytes of volume that a bitmap page covers: 127.5 MiB.
pub const BITMAP_PAGE_BYTES: u64 = PAGE_WORDS as u64 * 64 * resync::BLOCK;
/// Bytes of the largest volume: 1 PiB, whose bitmap takes 32 GiB.
pub const MAX_VOLUME: u64 = 1 << 50;

/// A page of metadata.
pub type Page = [u8; PAGE];

/// CRC-32C (Castagnoli) over the parts one after the other. The one place that computes the
/// checksums of metadata.
fn crc32c(parts: &[&[u8]]) -> u32 {
    parts
        .iter()
        .fold(0, |crc, part| crate::crc32c::extend(crc, part))
}

/// Whether every byte is zero, as on a disk that nobody wrote to.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
