//! What a crash would leave in doubt: the hot extents of a volume, and what the peer has
//! acknowledged but not flushed.
//!
//! A Primary that crashes with writes in flight does not know which of them reached its own disk
//! and which its peer's. [`ActivityLog`] bounds the doubt: before the first write into an extent
//! of 4 MiB the extent is *hot* on the disk, and it stays so until both disks were flushed after
//! the last write into it. After a crash the hot extents, and only they, are compared again.
//!
//! [`Unflushed`] bounds another doubt: a peer that acknowledged writes and then lost its power may
//! have forgotten those that it had not flushed.
//!
//! Both are pure: no I/O, no clock, and no allocation after construction.

mod extents;
mod log;
#[cfg(test)]
mod tests;
mod unflushed;

pub use log::{ActivityLog, Commit, Figures, PageCopy};
pub use unflushed::{GRAIN, Unflushed};

/// Bytes of an extent: the unit of the activity log.
pub const EXTENT: u64 = 4 << 20;

/// 64-bit words of bits in a page of the log: 4 KiB without its header of 16 bytes.
pub const PAGE_WORDS: usize = 510;

/// Extents whose bits a page of the log holds: 127.5 GiB of volume.
pub const PAGE_EXTENTS: u64 = PAGE_WORDS as u64 * 64;

/// Hot extents kept at most, whatever the disk: 32 GiB, which a resync of 350 MiB/s compares
/// in about a minute and a half.
const LIMIT_MAX: u64 = 8192;

/// Hot extents kept at least (1 GiB), unless the volume has fewer.
const LIMIT_MIN: u64 = 256;

/// How many extents of a volume are kept hot before the oldest are cooled.
///
/// More hot extents mean fewer waits for the log, fewer mean less to resync after a crash. An
/// eighth of the volume is kept, but not more than 32 GiB. It is at least as many extents as writes
/// that the node's memory can hold in flight at once (64 KiB of memory for each: a request and
/// its share of everything else), since with fewer a burst of random writes would heat and cool
/// without end. The limit is soft: see [`ActivityLog`].
#[must_use]
pub fn limit_for(volume_bytes: u64, memory_bytes: u64) -> u32 {
    let extents = volume_bytes.div_ceil(EXTENT);
    let in_flight = (memory_bytes >> 16).clamp(LIMIT_MIN, LIMIT_MAX / 2);
    let limit = (extents / 8)
        .clamp(in_flight, LIMIT_MAX)
        .min(extents)
        .max(1);
    u32::try_from(limit).unwrap_or(u32::MAX)
}
