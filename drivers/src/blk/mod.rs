//! virtio-blk (virtio 1.2 §5.2): many requests in flight on one queue, nothing blocking.
//!
//! Calls, in order: [`Blk::new`], [`Blk::identify`] while the disk is idle, then
//! [`Blk::submit`] as often as there is room, [`Blk::kick`] once for the batch, [`Blk::poll`]
//! until it gives nothing, and [`Blk::arm`] before sleeping. After a configuration interrupt call
//! [`Blk::config_changed`].
//!
//! Requests are unordered, as in the standard: a flush covers writes that were completed before
//! it was submitted. One operation may become several device requests (a discard beyond the
//! device's limit, a buffer beyond its segment size); it completes once, with its first error.

mod config;
mod driver;
mod request;

use core::fmt;

pub use config::DiskInfo;
pub use driver::Blk;

use crate::{PhysAddr, virtq::QueueError};

/// Bytes in a sector, the unit of addresses and counts, whatever the block size.
pub const SECTOR_BYTES: u32 = 512;

/// The disk's serial number as its owner set it: up to 20 ASCII characters, may be empty. Bytes
/// that are not printable ASCII appear as `?`.
pub type Serial = heapless::String<20>;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Reads into physically contiguous memory.
    Read {
        /// First sector.
        sector: u64,
        /// Where the bytes go.
        paddr: PhysAddr,
        /// How many: whole logical blocks.
        bytes: u32,
    },
    /// Writes from physically contiguous memory.
    Write {
        /// First sector.
        sector: u64,
        /// Where the bytes are.
        paddr: PhysAddr,
        /// How many: whole logical blocks.
        bytes: u32,
    },
    /// Makes writes that completed before durable.
    Flush,
    /// Says that the range's content is no longer needed; it then reads as anything.
    Discard {
        /// First sector.
        sector: u64,
        /// Sectors: whole logical blocks.
        sectors: u64,
    },
    /// Makes the range read as zeroes.
    WriteZeroes {
        /// First sector.
        sector: u64,
        /// Sectors: whole logical blocks.
        sectors: u64,
        /// The host may deallocate the range.
        unmap: bool,
    },
}

/// Why an operation was not taken. Nothing happened then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// As many operations as the queue has slots are in flight: poll first.
    Full,
    /// The disk cannot do this kind of operation.
    Unsupported,
    /// The disk is read-only.
    ReadOnly,
    /// The range is empty.
    Empty,
    /// The range is not whole logical blocks.
    Misaligned {
        /// The logical block size in bytes.
        block_bytes: u32,
    },
    /// The range ends beyond the disk.
    OutOfRange {
        /// The disk's size in sectors.
        capacity_sectors: u64,
    },
    /// The device broke the rules earlier and was reset.
    Broken(QueueError),
}

/// How an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlkError {
    /// `VIRTIO_BLK_S_IOERR`: the host could not do it.
    Io,
    /// `VIRTIO_BLK_S_UNSUPP`: the device does not know the request.
    Unsupported,
    /// The status byte has a value the standard does not know (255: the device wrote none).
    BadStatus(u8),
    /// The device reports success but fewer bytes than were to be read.
    ShortRead {
        /// Bytes it says it wrote, status included.
        written: u32,
    },
    /// The device broke the rules and was reset; whether the operation was done is unknown.
    Broken(QueueError),
}

/// An operation's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The caller's name for it.
    pub token: u32,
    /// How it went.
    pub result: Result<(), BlkError>,
}

/// Why the serial number could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentifyError {
    /// Operations are in flight; ask before the first one.
    Busy,
    /// The device took too long.
    Timeout,
    /// The device failed the request.
    Failed(BlkError),
}

/// What changed in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigChange {
    /// Sectors before.
    pub capacity_before: u64,
    /// Sectors now.
    pub capacity_now: u64,
}

/// How to set a disk up.
#[derive(Debug, Clone, Copy)]
pub struct BlkOptions {
    /// Most operations in flight; the device's queue size may be smaller.
    pub queue_size: u16,
    /// MSI-X table entry for completions; `None` where the transport has no MSI-X.
    pub queue_vector: Option<u16>,
    /// MSI-X table entry for configuration changes.
    pub config_vector: Option<u16>,
}

impl Default for BlkOptions {
    /// 256 requests, no MSI-X.
    fn default() -> Self {
        Self {
            queue_size: 256,
            queue_vector: None,
            config_vector: None,
        }
    }
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("too many operations in flight"),
            Self::Unsupported => f.write_str("the disk does not support the operation"),
            Self::ReadOnly => f.write_str("the disk is read-only"),
            Self::Empty => f.write_str("empty range"),
            Self::Misaligned { block_bytes } => {
                write!(f, "not whole blocks of {block_bytes} bytes")
            }
            Self::OutOfRange { capacity_sectors } => {
                write!(f, "beyond the disk's {capacity_sectors} sectors")
            }
            Self::Broken(error) => write!(f, "device failed: {error}"),
        }
    }
}

impl fmt::Display for BlkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io => f.write_str("I/O error"),
            Self::Unsupported => f.write_str("not supported by the device"),
            Self::BadStatus(status) => write!(f, "impossible status {status}"),
            Self::ShortRead { written } => write!(f, "short read of {written} bytes"),
            Self::Broken(error) => write!(f, "device failed: {error}"),
        }
    }
}

impl fmt::Display for IdentifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("operations in flight"),
            Self::Timeout => f.write_str("no answer"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
