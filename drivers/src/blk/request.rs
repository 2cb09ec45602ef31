//! The parts of an operation: what one device request carries, and where operations are split.

use super::{BlkError, DiskInfo, Op, SECTOR_BYTES, SubmitError};
use crate::PhysAddr;

/// Request types (virtio 1.2 §5.2.6).
pub(super) mod kind {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// Most data segments in a request; bounds the indirect tables.
pub(super) const DATA_SEGMENTS_MAX: u32 = 32;
/// Most bytes in one read or write request; bounds what a host is asked to do at once.
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Flag of a write-zeroes range: deallocation is allowed.
const RANGE_UNMAP: u32 = 1;

/// How this disk wants its requests cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    /// Most bytes in a data segment, whole blocks.
    pub segment_bytes: u32,
    /// Most bytes in a request, whole blocks.
    pub request_bytes: u32,
    discard_sectors: u32,
    discard_alignment: u32,
    zero_sectors: u32,
}

impl Split {
    pub fn new(info: &DiskInfo) -> Self {
        let block = info.block_bytes;
        let whole = |bytes: u32| bytes - bytes % block;
        let segment_bytes = whole(info.segment_bytes_max.min(REQUEST_BYTES_MAX));
        let segments = info.segments_max.min(DATA_SEGMENTS_MAX);
        let request_bytes = segment_bytes
            .saturating_mul(segments)
            .min(REQUEST_BYTES_MAX);
        let block_sectors = block / SECTOR_BYTES;
        let alignment = info.discard_alignment_sectors;
        Self {
            segment_bytes,
            request_bytes,
            discard_sectors: info.discard_sectors_max,
            discard_alignment: if alignment.is_multiple_of(block_sectors) {
                alignment
            } else {
                block_sectors
            },
            zero_sectors: info.write_zeroes_sectors_max,
        }
    }

    /// Most data segments that a request of this disk has.
    pub fn segments(&self) -> u16 {
        self.request_bytes.div_ceil(self.segment_bytes) as u16
    }
}

/// An operation on its way: what of it has not been handed to the device yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    pub kind: u32,
    sector: u64,
    left: u64,
    paddr: PhysAddr,
    unmap: bool,
    whole: bool,
}

/// One device request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub kind: u32,
    pub sector: u64,
    pub sectors: u32,
    pub paddr: PhysAddr,
    /// Flags of a discard or write-zeroes range.
    pub flags: u32,
}

impl Part {
    pub fn bytes(&self) -> u32 {
        match self.kind {
            kind::IN | kind::OUT => self.sectors * SECTOR_BYTES,
            _ => 0,
        }
    }
}

impl Progress {
    /// Checks an operation against the disk.
    pub fn new(op: Op, info: &DiskInfo) -> Result<Self, SubmitError> {
        let (kind, sector, left, paddr, unmap) = match op {
            Op::Read {
                sector,
                paddr,
                bytes,
            } => (kind::IN, sector, sectors(bytes, info)?, paddr, false),
            Op::Write {
                sector,
                paddr,
                bytes,
            } => (kind::OUT, sector, sectors(bytes, info)?, paddr, false),
            Op::Flush => return Ok(Self::whole(kind::FLUSH)),
            Op::Discard { sector, sectors } => {
                supported(info.discard)?;
                (kind::DISCARD, sector, sectors, 0, false)
            }
            Op::WriteZeroes {
                sector,
                sectors,
                unmap,
            } => {
                supported(info.write_zeroes)?;
                let unmap = unmap && info.write_zeroes_may_unmap;
                (kind::WRITE_ZEROES, sector, sectors, 0, unmap)
            }
        };
        if info.read_only && kind != kind::IN {
            return Err(SubmitError::ReadOnly);
        }
        if left == 0 {
            return Err(SubmitError::Empty);
        }
        let block_sectors = u64::from(info.block_bytes / SECTOR_BYTES);
        if !sector.is_multiple_of(block_sectors) || !left.is_multiple_of(block_sectors) {
            return Err(SubmitError::Misaligned {
                block_bytes: info.block_bytes,
            });
        }
        match sector.checked_add(left) {
            Some(end) if end <= info.capacity_sectors => Ok(Self {
                kind,
                sector,
                left,
                paddr,
                unmap,
                whole: false,
            }),
            _ => Err(SubmitError::OutOfRange {
                capacity_sectors: info.capacity_sectors,
            }),
        }
    }

    /// A request without a range: one part.
    pub fn whole(kind: u32) -> Self {
        Self {
            kind,
            sector: 0,
            left: 1,
            paddr: 0,
            unmap: false,
            whole: true,
        }
    }

    /// Whether everything was handed out.
    pub fn is_finished(&self) -> bool {
        self.left == 0
    }

    /// Gives up what was not handed out.
    pub fn cut(&mut self) {
        self.left = 0;
    }

    /// The next part, without taking it.
    pub fn next(&self, split: &Split) -> Option<Part> {
        if self.left == 0 {
            return None;
        }
        if self.whole {
            return Some(Part {
                kind: self.kind,
                sector: 0,
                sectors: 1,
                paddr: 0,
                flags: 0,
            });
        }
        let limit = match self.kind {
            kind::DISCARD => {
                let end = self.sector + u64::from(split.discard_sectors);
                let aligned = end - end % u64::from(split.discard_alignment);
                // Alignment is a wish (§5.2.6.2); progress is not.
                if aligned > self.sector {
                    aligned - self.sector
                } else {
                    u64::from(split.discard_sectors)
                }
            }
            kind::WRITE_ZEROES => u64::from(split.zero_sectors),
            _ => u64::from(split.request_bytes / SECTOR_BYTES),
        };
        Some(Part {
            kind: self.kind,
            sector: self.sector,
            // At most `limit`, which is within 32 bits in every case above.
            sectors: self.left.min(limit) as u32,
            paddr: self.paddr,
            flags: if self.unmap { RANGE_UNMAP } else { 0 },
        })
    }

    /// Takes `part`, which [`Progress::next`] gave.
    pub fn advance(&mut self, part: &Part) {
        self.left -= u64::from(part.sectors);
        self.sector += u64::from(part.sectors);
        self.paddr += u64::from(part.bytes());
    }
}

/// The meaning of a status byte (§5.2.6).
pub(super) fn result_of(status: u8) -> Result<(), BlkError> {
    match status {
        0 => Ok(()),
        1 => Err(BlkError::Io),
        2 => Err(BlkError::Unsupported),
        other => Err(BlkError::BadStatus(other)),
    }
}

fn sectors(bytes: u32, info: &DiskInfo) -> Result<u64, SubmitError> {
    if bytes.is_multiple_of(SECTOR_BYTES) {
        Ok(u64::from(bytes / SECTOR_BYTES))
    } else {
        Err(SubmitError::Misaligned {
            block_bytes: info.block_bytes,
        })
    }
}

fn supported(yes: bool) -> Result<(), SubmitError> {
    if yes {
        Ok(())
    } else {
        Err(SubmitError::Unsupported)
    }
}
