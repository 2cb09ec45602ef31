//! A volume that grows: how far it can, and where its metadata lies then.

use super::layout::{
    Layout, LayoutError, MAX_DISK, PAGE_BYTES, Place, VOLUME_UNIT, checked_volume,
    end_for_area_behind, largest_area, page_floor,
};
use super::{ACTIVITY_PAGE_EXTENTS, BITMAP_PAGE_BYTES, EXTENT, MAX_VOLUME};

/// Sizes of the disks of a volume, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disks {
    /// The disk that holds the volume.
    pub data: u64,
    /// The disk that holds its metadata; the same one if that is internal.
    pub metadata: u64,
}

impl Layout {
    /// Bytes of the largest volume that this area has room for.
    #[must_use]
    pub fn room(&self) -> u64 {
        let log = u64::from(self.activity_pairs)
            .saturating_mul(ACTIVITY_PAGE_EXTENTS)
            .saturating_mul(EXTENT);
        let map = u64::from(self.bitmap_pages).saturating_mul(BITMAP_PAGE_BYTES);
        let room = log.min(map).min(MAX_VOLUME);
        match self.place {
            Place::Internal => room.min(self.front()),
            Place::External => room,
        }
    }

    /// The layout of the volume grown to `wanted` bytes, or as far as the disks allow. Where the area has no room for
    /// that, it moves behind its present place, to the end of the disk that it lies on; it never touches the
    /// present area, so that one of the two is whole at any time. An answer with this very layout means that there
    /// is nothing to grow into.
    ///
    /// # Errors
    ///
    /// [`LayoutError`]: what is in the way, and how large the disk would have to be.
    pub fn grown(&self, disks: Disks, wanted: Option<u64>) -> Result<Self, LayoutError> {
        let own = match self.place {
            Place::Internal => disks.data,
            Place::External => disks.metadata,
        };
        if own < self.end() {
            return Err(LayoutError::DiskTooSmall {
                disk: own,
                needed: self.end(),
            });
        }
        if self.place == Place::External && disks.data < self.volume_bytes {
            return Err(LayoutError::DiskTooSmall {
                disk: disks.data,
                needed: self.volume_bytes,
            });
        }
        let data = match self.place {
            Place::Internal => self.front(),
            Place::External => disks.data,
        };
        let here = self.room().min(data);
        let moved = self.moved(own, disks.data);
        if let Some(wanted) = wanted {
            let wanted = checked_volume(wanted)?;
            if wanted < self.volume_bytes {
                return Err(LayoutError::Shrinks {
                    volume: self.volume_bytes,
                    new: wanted,
                });
            }
            let of = |layout: Self| Self {
                volume_bytes: wanted,
                ..layout
            };
            if wanted <= here {
                return Ok(of(*self));
            }
            let moved = moved?;
            return if wanted <= moved.volume_bytes {
                Ok(of(moved))
            } else if self.place == Place::External && wanted <= disks.data {
                Err(LayoutError::DiskTooSmall {
                    disk: own,
                    needed: self.end() + Self::area_bytes_for(wanted) + self.reserve_bytes,
                })
            } else {
                Err(LayoutError::DiskTooSmall {
                    disk: disks.data,
                    needed: match self.place {
                        Place::Internal => {
                            wanted + self.reserve_bytes + Self::area_bytes_for(wanted)
                        }
                        Place::External => wanted,
                    },
                })
            };
        }
        let here = Self {
            volume_bytes: rounded(here).max(self.volume_bytes),
            ..*self
        };
        match moved {
            Ok(moved) if moved.volume_bytes > here.volume_bytes => Ok(moved),
            // It grew, but not enough for that to be of any use.
            Err(error) if here == *self && own >= self.end() + PAGE_BYTES => Err(error),
            _ => Ok(here),
        }
    }

    /// The area at the end of the disk that it lies on, with the largest volume it is good for.
    fn moved(&self, own: u64, data: u64) -> Result<Self, LayoutError> {
        let too_small = LayoutError::GrowthTooSmall {
            disk: own,
            needed: match self.place {
                Place::Internal => end_for_area_behind(self.end() + self.reserve_bytes),
                Place::External => {
                    self.end() + Self::area_bytes_for(self.volume_bytes) + self.reserve_bytes
                }
            },
        };
        match self.place {
            Place::Internal => {
                let new = Self::internal(own, None)?;
                // The old area, its reserve too, lies in front of the new one.
                if new.superblock_a < self.end() + self.reserve_bytes {
                    return Err(too_small);
                }
                new.with_reserve(self.reserve_bytes)
            }
            Place::External => {
                let end = page_floor(own.min(MAX_DISK));
                let room = largest_area((end - self.end()).saturating_sub(self.reserve_bytes));
                let volume = rounded(room.min(data));
                if volume < self.volume_bytes {
                    return Err(too_small);
                }
                let area = self.end();
                Self::build(Place::External, area, end, room, volume)
                    .with_reserve(self.reserve_bytes)
            }
        }
    }
}

/// Volumes end at round numbers, as those that are created do.
fn rounded(bytes: u64) -> u64 {
    let unit = if bytes < VOLUME_UNIT {
        PAGE_BYTES
    } else {
        VOLUME_UNIT
    };
    bytes - bytes % unit
}
