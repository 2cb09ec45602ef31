//! Where on a disk the pages of a volume's metadata lie.
//!
//! ```text
//! internal:  | volume ... | slack | reserve | A | activity log pairs | bitmap | B |   end of the disk
//! external:                                 | A | activity log pairs | bitmap | slack | reserve | B |
//! ```
//!
//! The reserve, for a snapshot (`snapshot`), is there only if it was asked for.
//!
//! The area has room for the largest volume that the disk allows, not only for the volume that
//! there is: a volume grows within its room without anything moving, and a disk that has grown
//! gets a new area at its new end.

use super::{ACTIVITY_PAGE_EXTENTS, BITMAP_PAGE_BYTES, EXTENT, MAX_VOLUME, PAGE};
use core::fmt;

pub(super) const PAGE_BYTES: u64 = PAGE as u64;
/// Volumes of at least this size end at a multiple of it.
pub(super) const VOLUME_UNIT: u64 = 1 << 20;
/// A volume's size is a multiple of this, the smallest block that a client may address.
const SECTOR: u64 = 512;
/// No disk is larger; keeps all arithmetic on offsets far from 64 bits.
pub(super) const MAX_DISK: u64 = 1 << 60;

/// Which disk holds the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The end of the data disk: the volume is bytes 0 to `volume_bytes` of the same disk.
    Internal,
    /// A disk of its own: the volume is the data disk from its first byte.
    External,
}

/// Absolute byte offsets, on the metadata's disk, of everything. All are multiples of 4 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Which disk this is about.
    pub place: Place,
    /// Size of the volume in bytes; a multiple of 512.
    pub volume_bytes: u64,
    /// First superblock copy: the first page of the area.
    pub superblock_a: u64,
    /// First activity log page; the two pages of a pair are neighbours.
    pub activity: u64,
    /// Pairs of activity log pages that there is room for.
    pub activity_pairs: u32,
    /// First bitmap page.
    pub bitmap: u64,
    /// Bitmap pages that there is room for.
    pub bitmap_pages: u32,
    /// Second superblock copy: the last page of the area.
    pub superblock_b: u64,
    /// First byte of the reserve for a snapshot; 0 without one.
    pub reserve: u64,
    /// Bytes of the reserve; 0: there is none.
    pub reserve_bytes: u64,
}

/// Why there is no layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutError {
    /// The disk cannot hold the metadata (and, when internal, any volume besides).
    DiskTooSmall {
        /// Bytes of the disk.
        disk: u64,
        /// Bytes that it needs at least.
        needed: u64,
    },
    /// The size of the volume is 0, not a multiple of 512 or more than [`MAX_VOLUME`].
    VolumeSize {
        /// The size asked for, in bytes.
        volume: u64,
    },
    /// The disk grew by so little that the new area would lie over the old one, which must stay
    /// whole until the new one is.
    GrowthTooSmall {
        /// Bytes of the disk now.
        disk: u64,
        /// Bytes from which on the growth can be used.
        needed: u64,
    },
    /// The volume would become smaller; only growing is possible.
    Shrinks {
        /// Bytes of the volume now.
        volume: u64,
        /// Bytes that there would be.
        new: u64,
    },
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskTooSmall { disk, needed } => write!(
                f,
                "the disk of {disk} bytes is too small: at least {needed} bytes are needed"
            ),
            Self::VolumeSize { volume } => write!(
                f,
                "a volume cannot have {volume} bytes: use a multiple of 512 up to {MAX_VOLUME}"
            ),
            Self::GrowthTooSmall { disk, needed } => write!(
                f,
                "the disk grew too little (to {disk} bytes) for its metadata to move: make it at least {needed} bytes"
            ),
            Self::Shrinks { volume, new } => write!(
                f,
                "a volume never shrinks: it has {volume} bytes, and {new} are less"
            ),
        }
    }
}

/// What is impossible about a layout that was read from a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutFault {
    /// The size of the volume is 0, odd or too large.
    Volume,
    /// Pages are not at multiples of 4 KiB, in the wrong order, or over each other.
    Order,
    /// There is not room for the volume's activity log and bitmap.
    Room,
    /// The volume reaches into the area.
    Overlap,
    /// The reserve lies over something else, or outside of the area.
    Reserve,
}

impl Layout {
    /// The layout at the end of a data disk of `disk_bytes`. The volume gets what is left in
    /// front of the area, rounded down to 1 MiB (to 4 KiB if there is less than that), and at most
    /// `limit` bytes. Raising the limit later moves nothing.
    ///
    /// # Errors
    ///
    /// [`LayoutError::DiskTooSmall`]; [`LayoutError::VolumeSize`] for an impossible limit.
    pub fn internal(disk_bytes: u64, limit: Option<u64>) -> Result<Self, LayoutError> {
        let smallest = Self::area_bytes_for(PAGE_BYTES) + PAGE_BYTES;
        let end = page_floor(disk_bytes.min(MAX_DISK));
        if end < smallest {
            return Err(LayoutError::DiskTooSmall {
                disk: disk_bytes,
                needed: smallest,
            });
        }
        let room = largest_volume(end).min(MAX_VOLUME);
        let volume_bytes = match limit {
            Some(limit) => checked_volume(limit)?.min(room),
            None => room,
        };
        let area = end - Self::area_bytes_for(room);
        Ok(Self::build(Place::Internal, area, end, room, volume_bytes))
    }

    /// The layout of metadata that has a disk of `meta_disk_bytes` for itself, for a volume of
    /// `volume_bytes` on another disk.
    ///
    /// # Errors
    ///
    /// [`LayoutError::DiskTooSmall`], [`LayoutError::VolumeSize`].
    pub fn external(meta_disk_bytes: u64, volume_bytes: u64) -> Result<Self, LayoutError> {
        let needed = Self::area_bytes_for(checked_volume(volume_bytes)?);
        let end = page_floor(meta_disk_bytes.min(MAX_DISK));
        if end < needed {
            return Err(LayoutError::DiskTooSmall {
                disk: meta_disk_bytes,
                needed,
            });
        }
        let room = largest_area(end).max(volume_bytes);
        Ok(Self::build(Place::External, 0, end, room, volume_bytes))
    }

    /// Bytes of metadata for a volume of `volume_bytes`: 32.2 KiB per GiB, and at least 20 KiB.
    /// Volumes beyond [`MAX_VOLUME`] are counted as that.
    #[must_use]
    pub fn area_bytes_for(volume_bytes: u64) -> u64 {
        let pages = 2 + 2 * activity_pairs_for(volume_bytes) + bitmap_pages_for(volume_bytes);
        pages * PAGE_BYTES
    }

    pub(super) fn build(place: Place, area: u64, end: u64, room: u64, volume_bytes: u64) -> Self {
        let activity = area + PAGE_BYTES;
        let pairs = activity_pairs_for(room);
        // At most MAX_VOLUME, so that both counts fit 32 bits by far.
        Self {
            place,
            volume_bytes,
            superblock_a: area,
            activity,
            activity_pairs: pairs as u32,
            bitmap: activity + 2 * pairs * PAGE_BYTES,
            bitmap_pages: bitmap_pages_for(room) as u32,
            superblock_b: end - PAGE_BYTES,
            reserve: 0,
            reserve_bytes: 0,
        }
    }

    /// This layout with a reserve of `bytes`, rounded down to whole pages, for a snapshot. With internal metadata the
    /// volume becomes so much smaller where it needs the room, with external metadata the room that it has for growing.
    ///
    /// # Errors
    ///
    /// [`LayoutError::DiskTooSmall`].
    pub fn with_reserve(self, bytes: u64) -> Result<Self, LayoutError> {
        let bytes = page_floor(bytes);
        if bytes == 0 {
            return Ok(self);
        }
        let end = self.end();
        let too_small = LayoutError::DiskTooSmall {
            disk: end,
            needed: bytes.saturating_add(match self.place {
                Place::Internal => end - self.superblock_a + PAGE_BYTES,
                Place::External => self.superblock_a + Self::area_bytes_for(self.volume_bytes),
            }),
        };
        match self.place {
            Place::Internal => {
                let reserve = self.superblock_a.saturating_sub(bytes);
                if reserve < PAGE_BYTES {
                    return Err(too_small);
                }
                let unit = if reserve < VOLUME_UNIT {
                    PAGE_BYTES
                } else {
                    VOLUME_UNIT
                };
                Ok(Self {
                    volume_bytes: self.volume_bytes.min(reserve - reserve % unit),
                    reserve,
                    reserve_bytes: bytes,
                    ..self
                })
            }
            Place::External => {
                let area = self.superblock_a;
                let left = (end - area).saturating_sub(bytes);
                if left < Self::area_bytes_for(self.volume_bytes) {
                    return Err(too_small);
                }
                let room = largest_area(left).max(self.volume_bytes);
                let built = Self::build(Place::External, area, end, room, self.volume_bytes);
                Ok(Self {
                    reserve: built.superblock_b - bytes,
                    reserve_bytes: bytes,
                    ..built
                })
            }
        }
    }

    /// First byte of what lies behind a volume that has its metadata on its own disk.
    #[must_use]
    pub fn front(&self) -> u64 {
        match (self.place, self.reserve_bytes) {
            (Place::External, _) | (_, 0) => self.superblock_a,
            _ => self.reserve,
        }
    }

    /// First byte behind the area.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.superblock_b + PAGE_BYTES
    }

    /// Extents of the volume; the last one may be shorter than [`EXTENT`].
    #[must_use]
    pub fn extents(&self) -> u64 {
        self.volume_bytes.div_ceil(EXTENT)
    }

    /// Pairs of activity log pages that the volume uses; pages behind them are never read.
    #[must_use]
    pub fn activity_pairs_used(&self) -> u32 {
        activity_pairs_for(self.volume_bytes) as u32
    }

    /// Bitmap pages that the volume uses; pages behind them are never read.
    #[must_use]
    pub fn bitmap_pages_used(&self) -> u32 {
        bitmap_pages_for(self.volume_bytes) as u32
    }

    /// Where page `slot` (0 or 1) of activity log pair `pair` lies; `None` beyond the room.
    #[must_use]
    pub fn activity_page(&self, pair: u32, slot: u8) -> Option<u64> {
        let inside = pair < self.activity_pairs && slot < 2;
        let index = 2 * u64::from(pair) + u64::from(slot);
        inside.then_some(self.activity + index * PAGE_BYTES)
    }

    /// Where bitmap page `page` lies; `None` beyond the room.
    #[must_use]
    pub fn bitmap_page(&self, page: u32) -> Option<u64> {
        let inside = page < self.bitmap_pages;
        inside.then_some(self.bitmap + u64::from(page) * PAGE_BYTES)
    }

    /// Whether the layout, read from a disk, can be one that this code made: everything aligned,
    /// in order and large enough.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be.
    pub fn check(&self) -> Result<(), LayoutFault> {
        if checked_volume(self.volume_bytes).is_err() {
            return Err(LayoutFault::Volume);
        }
        let offsets = [
            self.superblock_a,
            self.activity,
            self.bitmap,
            self.superblock_b,
        ];
        let sane = |offset: &u64| offset.is_multiple_of(PAGE_BYTES) && *offset < MAX_DISK;
        let pairs = 2 * u64::from(self.activity_pairs) * PAGE_BYTES;
        let pages = u64::from(self.bitmap_pages) * PAGE_BYTES;
        if !offsets.iter().all(sane)
            || self.activity != self.superblock_a + PAGE_BYTES
            || self.bitmap != self.activity + pairs
            || self.superblock_b < self.bitmap + pages
        {
            return Err(LayoutFault::Order);
        }
        if self.activity_pairs < self.activity_pairs_used()
            || self.bitmap_pages < self.bitmap_pages_used()
        {
            return Err(LayoutFault::Room);
        }
        self.check_reserve(self.bitmap + pages)?;
        if self.place == Place::Internal && self.volume_bytes > self.front() {
            return Err(LayoutFault::Overlap);
        }
        Ok(())
    }

    fn check_reserve(&self, bitmap_end: u64) -> Result<(), LayoutFault> {
        let (start, bytes) = (self.reserve, self.reserve_bytes);
        if bytes == 0 {
            return (start == 0).then_some(()).ok_or(LayoutFault::Reserve);
        }
        let (first, limit) = match self.place {
            Place::Internal => (PAGE_BYTES, self.superblock_a),
            Place::External => (bitmap_end, self.superblock_b),
        };
        let aligned = start.is_multiple_of(PAGE_BYTES) && bytes.is_multiple_of(PAGE_BYTES);
        let inside = start >= first && bytes <= MAX_DISK && start.saturating_add(bytes) <= limit;
        (aligned && inside)
            .then_some(())
            .ok_or(LayoutFault::Reserve)
    }
}

pub(super) fn page_floor(bytes: u64) -> u64 {
    bytes - bytes % PAGE_BYTES
}

pub(super) fn checked_volume(volume: u64) -> Result<u64, LayoutError> {
    if volume == 0 || volume > MAX_VOLUME || !volume.is_multiple_of(SECTOR) {
        return Err(LayoutError::VolumeSize { volume });
    }
    Ok(volume)
}

pub(super) fn activity_pairs_for(volume: u64) -> u64 {
    let extents = volume.min(MAX_VOLUME).div_ceil(EXTENT);
    extents.div_ceil(ACTIVITY_PAGE_EXTENTS).max(1)
}

pub(super) fn bitmap_pages_for(volume: u64) -> u64 {
    volume.min(MAX_VOLUME).div_ceil(BITMAP_PAGE_BYTES).max(1)
}

/// The largest multiple of `unit` that is at most `high` and fits, by `fits`, which holds up to
/// some size and fails from there on.
fn largest(unit: u64, high: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let (mut good, mut bad) = (0, high / unit + 1);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle * unit) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good * unit
}

/// The largest volume that fits a disk of `end` bytes together with its area.
pub(super) fn largest_volume(end: u64) -> u64 {
    let fits = |volume| volume + Layout::area_bytes_for(volume) <= end;
    let high = end.min(MAX_VOLUME);
    match largest(VOLUME_UNIT, high, fits) {
        0 => largest(PAGE_BYTES, high, fits),
        volume => volume,
    }
}

/// The largest volume whose area fits `end` bytes.
pub(super) fn largest_area(end: u64) -> u64 {
    largest(PAGE_BYTES, MAX_VOLUME, |volume| {
        Layout::area_bytes_for(volume) <= end
    })
}

/// The smallest disk whose area begins at or behind `start`.
pub(super) fn end_for_area_behind(start: u64) -> u64 {
    let mut end = start;
    // Every step takes the area of the disk so far; it settles at once or after a page more.
    loop {
        let next = start + Layout::area_bytes_for(largest_volume(end));
        if next <= end || next >= MAX_DISK {
            return end;
        }
        end = next;
    }
}
