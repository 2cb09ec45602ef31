//! What a disk says about itself: virtio 1.2 §5.2.4, `struct virtio_blk_config`.

use virtio_drivers::transport::Transport;

use crate::transport::{ConfigError, config, read_consistent};

/// Feature bits (§5.2.3).
pub(super) mod feature {
    pub const SIZE_MAX: u64 = 1 << 1;
    pub const SEG_MAX: u64 = 1 << 2;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
    /// All that this driver uses.
    pub const WANTED: u64 = SIZE_MAX
        | SEG_MAX
        | RO
        | BLK_SIZE
        | FLUSH
        | TOPOLOGY
        | DISCARD
        | WRITE_ZEROES
        | crate::transport::F_EVENT_IDX
        | crate::transport::F_INDIRECT_DESC
        | crate::transport::F_VERSION_1;
}

const CAPACITY: usize = 0;
const SIZE_MAX: usize = 8;
const SEG_MAX: usize = 12;
const BLK_SIZE: usize = 20;
const PHYSICAL_BLOCK_EXP: usize = 24;
const OPT_IO_SIZE: usize = 28;
const MAX_DISCARD_SECTORS: usize = 36;
const DISCARD_SECTOR_ALIGNMENT: usize = 44;
const MAX_WRITE_ZEROES_SECTORS: usize = 48;
const WRITE_ZEROES_MAY_UNMAP: usize = 56;

/// A disk's properties. Fixed while the driver runs, except for `capacity_sectors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskInfo {
    /// Size in sectors of 512 bytes.
    pub capacity_sectors: u64,
    /// Writes, discards and zeroes are refused.
    pub read_only: bool,
    /// Logical block size in bytes: requests are in multiples of it.
    pub block_bytes: u32,
    /// Physical block size in bytes: smaller writes may cost a read in the host.
    pub physical_block_bytes: u32,
    /// The transfer size in bytes at which the host says it is fastest; 0 when it does not say.
    pub optimal_io_bytes: u32,
    /// Flush does something: the device has a volatile write cache, or may have one. Without it
    /// a completed write is durable and [`super::Op::Flush`] completes at once.
    pub flush: bool,
    /// [`super::Op::Discard`] is supported.
    pub discard: bool,
    /// [`super::Op::WriteZeroes`] is supported.
    pub write_zeroes: bool,
    /// Zeroed ranges may be deallocated on request.
    pub write_zeroes_may_unmap: bool,
    /// The device's limit on one data segment, in bytes.
    pub segment_bytes_max: u32,
    /// The device's limit on the data segments of a request.
    pub segments_max: u32,
    /// The device's limit on one discard, in sectors. The driver splits longer ones.
    pub discard_sectors_max: u32,
    /// Split points of discards are multiples of this, in sectors.
    pub discard_alignment_sectors: u32,
    /// The device's limit on one zeroing, in sectors. The driver splits longer ones.
    pub write_zeroes_sectors_max: u32,
}

impl DiskInfo {
    /// Reads everything as one, with `features` agreed on.
    pub(super) fn read<T: Transport>(transport: &T, features: u64) -> Result<Self, ConfigError> {
        read_consistent(transport, |t| Self::read_once(t, features))
    }

    fn read_once<T: Transport>(t: &T, features: u64) -> Result<Self, ConfigError> {
        let has = |bit: u64| features & bit != 0;
        let word = |bit: u64, offset: usize, absent: u32| -> Result<u32, ConfigError> {
            if has(bit) {
                config(t, offset)
            } else {
                Ok(absent)
            }
        };
        let block_bytes = word(feature::BLK_SIZE, BLK_SIZE, 512)?;
        if !block_bytes.is_power_of_two() || !(512..=65536).contains(&block_bytes) {
            return Err(ConfigError::Invalid {
                offset: BLK_SIZE,
                value: u64::from(block_bytes),
            });
        }
        let exponent: u8 = if has(feature::TOPOLOGY) {
            config(t, PHYSICAL_BLOCK_EXP)?
        } else {
            0
        };
        let sectors_max = |bit: u64, offset: usize| -> Result<u32, ConfigError> {
            let sectors = word(bit, offset, 0)?;
            // Whole logical blocks; at least one, or nothing could ever be asked for.
            let block = block_bytes / 512;
            Ok((sectors - sectors % block).max(block))
        };
        Ok(Self {
            capacity_sectors: read_capacity(t)?,
            read_only: has(feature::RO),
            block_bytes,
            physical_block_bytes: block_bytes
                .checked_shl(u32::from(exponent))
                .unwrap_or(0)
                .max(block_bytes),
            optimal_io_bytes: word(feature::TOPOLOGY, OPT_IO_SIZE, 0)?.saturating_mul(block_bytes),
            flush: has(feature::FLUSH),
            discard: has(feature::DISCARD),
            write_zeroes: has(feature::WRITE_ZEROES),
            write_zeroes_may_unmap: if has(feature::WRITE_ZEROES) {
                config::<T, u8>(t, WRITE_ZEROES_MAY_UNMAP)? != 0
            } else {
                false
            },
            segment_bytes_max: match word(feature::SIZE_MAX, SIZE_MAX, u32::MAX)? {
                // A segment holds at least a block, or a request could not be whole blocks.
                bytes if bytes < block_bytes => {
                    return Err(ConfigError::Invalid {
                        offset: SIZE_MAX,
                        value: u64::from(bytes),
                    });
                }
                bytes => bytes,
            },
            segments_max: word(feature::SEG_MAX, SEG_MAX, 1)?.max(1),
            discard_sectors_max: sectors_max(feature::DISCARD, MAX_DISCARD_SECTORS)?,
            discard_alignment_sectors: word(feature::DISCARD, DISCARD_SECTOR_ALIGNMENT, 1)?
                .max(block_bytes / 512),
            write_zeroes_sectors_max: sectors_max(feature::WRITE_ZEROES, MAX_WRITE_ZEROES_SECTORS)?,
        })
    }
}

/// The capacity alone, in sectors, once: callers repeat it while the generation changes.
pub(super) fn read_capacity<T: Transport>(t: &T) -> Result<u64, ConfigError> {
    let low: u32 = config(t, CAPACITY)?;
    let high: u32 = config(t, CAPACITY + 4)?;
    Ok(u64::from(high) << 32 | u64::from(low))
}
