//! The disks of the volumes.

use crate::config::{Metadata, SERIAL_BYTES_MAX, Volume};
use crate::units::{ExactSize, Size};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Bytes of a page of metadata, which is written as one.
const PAGE_BYTES: u32 = 4096;

type Serial = heapless::String<SERIAL_BYTES_MAX>;

/// A disk as its driver found it.
#[derive(Debug, Clone, Copy)]
pub struct FoundDisk<'a> {
    /// Serial number; empty if the device has none.
    pub serial: &'a str,
    /// Size in bytes.
    pub capacity: u64,
    /// Whether the device refuses writes (VIRTIO_BLK_F_RO).
    pub read_only: bool,
    /// Logical block size in bytes.
    pub block_size: u32,
}

/// The disk of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskMatch {
    /// Its place in the list of found disks.
    pub disk: usize,
    /// The place of the disk that has the metadata; `None`: they are at the end of `disk`.
    pub metadata: Option<usize>,
    /// Bytes of it that the volume uses: the volume's size.
    pub size: u64,
}

/// Why a volume has no usable disk. The `Display` form says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskProblem {
    /// Index of the volume.
    pub volume: u16,
    /// Whether it is about the disk of its metadata, not that of its data.
    pub of_metadata: bool,
    /// The serial that the configuration names.
    pub serial: heapless::String<SERIAL_BYTES_MAX>,
    /// What is wrong.
    pub kind: DiskProblemKind,
}

/// The ways in which a disk can be missing or unfit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskProblemKind {
    /// No disk has the serial.
    Missing {
        /// The serials that were found, each quoted; says so if there are none.
        found: String,
    },
    /// Several disks have the serial.
    Duplicate {
        /// How many.
        count: usize,
    },
    /// The disk refuses writes.
    ReadOnly,
    /// The disk's blocks are larger than the volume's.
    BlockTooLarge {
        /// The disk's, in bytes.
        disk: u32,
        /// The volume's, in bytes.
        volume: u32,
    },
    /// The blocks of a disk for metadata are larger than its pages of 4 KiB.
    PageTooSmall {
        /// The disk's, in bytes.
        disk: u32,
    },
    /// The disk has no room for the configured size.
    TooSmall {
        /// The disk's bytes.
        capacity: u64,
        /// Of those, bytes that a volume can have: less if metadata is at the end.
        room: u64,
        /// The configured bytes, or the fewest that a volume can have.
        size: u64,
    },
    /// The whole disk is to be used, and it is no multiple of the block size.
    Uneven {
        /// The disk's bytes.
        capacity: u64,
        /// The volume's block size in bytes.
        block_size: u32,
    },
}

impl fmt::Display for DiskProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (volume, serial) = (self.volume, &self.serial);
        let what = if self.of_metadata {
            " for its metadata"
        } else {
            ""
        };
        write!(f, "volume {volume} has no usable disk{what}: ")?;
        match &self.kind {
            DiskProblemKind::Missing { found } => write!(
                f,
                "none has the serial \"{serial}\" (found: {found}); attach it or correct \
                 the serial in [[volume]]"
            ),
            DiskProblemKind::Duplicate { count } => write!(
                f,
                "{count} disks have the serial \"{serial}\"; give each a serial of its own"
            ),
            DiskProblemKind::ReadOnly => write!(
                f,
                "\"{serial}\" is read-only; attach it writable (QEMU: readonly=off)"
            ),
            DiskProblemKind::BlockTooLarge { disk, volume } => write!(
                f,
                "\"{serial}\" has blocks of {disk} bytes; set block-size = {disk} instead of \
                 {volume} on both nodes, or attach a disk with smaller blocks"
            ),
            DiskProblemKind::PageTooSmall { disk } => write!(
                f,
                "\"{serial}\" has blocks of {disk} bytes; attach one with blocks of 4096 or fewer"
            ),
            DiskProblemKind::TooSmall {
                capacity,
                room,
                size,
            } => {
                write!(f, "\"{serial}\" has {} ({capacity} bytes)", Size(*capacity))?;
                if room < capacity {
                    write!(f, ", {room} of them in front of its metadata,")?;
                }
                write!(
                    f,
                    " but size says {} ({size} bytes); enlarge the disk or lower size on both nodes",
                    Size(*size)
                )
            }
            DiskProblemKind::Uneven {
                capacity,
                block_size,
            } => write!(
                f,
                "\"{serial}\" has {capacity} bytes, no multiple of block-size {block_size}; \
                 set size = \"{}\" on both nodes",
                ExactSize(capacity - capacity % u64::from(*block_size))
            ),
        }
    }
}

/// Finds the disks of every volume: one result each, in the order of `volumes`.
///
/// `room` says how many bytes a volume can have on a disk of so many bytes that also holds its
/// metadata; 0 if none. The first problem of a volume is reported, its data's disk before its
/// metadata's.
pub fn match_disks(
    volumes: &[Volume],
    found: &[FoundDisk<'_>],
    room: impl Fn(u64, u64) -> u64,
) -> Vec<Result<DiskMatch, DiskProblem>> {
    let one = |volume: &Volume| {
        let problem = |serial: &Serial, of_metadata, kind| DiskProblem {
            volume: volume.index,
            of_metadata,
            serial: serial.clone(),
            kind,
        };
        let (disk, size) = match_data(volume, found, &room)
            .map_err(|kind| problem(&volume.serial, false, kind))?;
        let metadata = match &volume.metadata {
            Metadata::Internal => None,
            Metadata::External(serial) => {
                Some(match_metadata(serial, found).map_err(|kind| problem(serial, true, kind))?)
            }
        };
        Ok(DiskMatch {
            disk,
            metadata,
            size,
        })
    };
    volumes.iter().map(one).collect()
}

/// The one disk that has the serial and can be written.
fn find(serial: &Serial, found: &[FoundDisk<'_>]) -> Result<usize, DiskProblemKind> {
    let mut candidates = found
        .iter()
        .enumerate()
        .filter(|(_, disk)| disk.serial == serial.as_str());
    let Some((place, disk)) = candidates.next() else {
        let found = serials(found);
        return Err(DiskProblemKind::Missing { found });
    };
    let others = candidates.count();
    if others > 0 {
        return Err(DiskProblemKind::Duplicate { count: others + 1 });
    }
    if disk.read_only {
        return Err(DiskProblemKind::ReadOnly);
    }
    Ok(place)
}

fn match_metadata(serial: &Serial, found: &[FoundDisk<'_>]) -> Result<usize, DiskProblemKind> {
    let place = find(serial, found)?;
    match found[place].block_size {
        disk if disk > PAGE_BYTES => Err(DiskProblemKind::PageTooSmall { disk }),
        _ => Ok(place),
    }
}

/// The place of a volume's disk, and the volume's size.
fn match_data(
    volume: &Volume,
    found: &[FoundDisk<'_>],
    room: impl Fn(u64, u64) -> u64,
) -> Result<(usize, u64), DiskProblemKind> {
    let place = find(&volume.serial, found)?;
    let disk = &found[place];
    if disk.block_size > volume.block_size {
        return Err(DiskProblemKind::BlockTooLarge {
            disk: disk.block_size,
            volume: volume.block_size,
        });
    }
    let capacity = disk.capacity;
    let room = match volume.metadata {
        Metadata::Internal => room(capacity, volume.snapshot_reserve).min(capacity),
        Metadata::External(_) => capacity,
    };
    let least = u64::from(volume.block_size);
    let size = volume.size.unwrap_or(room).max(least);
    if room < size {
        return Err(DiskProblemKind::TooSmall {
            capacity,
            room,
            size,
        });
    }
    if !size.is_multiple_of(least) {
        return Err(DiskProblemKind::Uneven {
            capacity,
            block_size: volume.block_size,
        });
    }
    Ok((place, size))
}

/// The serials there are, for a message.
fn serials(found: &[FoundDisk<'_>]) -> String {
    let mut list = String::new();
    for disk in found {
        if !list.is_empty() {
            list.push_str(", ");
        }
        if disk.serial.is_empty() {
            list.push_str("one without a serial");
            continue;
        }
        list.push('"');
        list.extend(crate::text::printable(disk.serial));
        list.push('"');
    }
    if list.is_empty() {
        list.push_str("no disk at all");
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SnapshotPolicy;
    use std::string::ToString;

    const DISK: FoundDisk<'static> = FoundDisk {
        serial: "a-vol0",
        capacity: 1 << 30,
        read_only: false,
        block_size: 512,
    };

    /// As if metadata took no room.
    fn whole(disk: u64, _reserve: u64) -> u64 {
        disk
    }

    fn volume() -> Volume {
        Volume {
            index: 3,
            serial: heapless::String::try_from("a-vol0").unwrap(),
            size: None,
            block_size: 512,
            description: None,
            metadata: Metadata::Internal,
            resync_after: None,
            snapshot: SnapshotPolicy::Off,
            snapshot_reserve: 0,
        }
    }

    fn disk_error(volume: &Volume, found: &[FoundDisk<'_>]) -> String {
        let result = match_disks(core::slice::from_ref(volume), found, whole);
        result[0].as_ref().unwrap_err().to_string()
    }

    #[test]
    fn a_disk_is_found_by_its_serial() {
        let other = FoundDisk {
            serial: "x",
            ..DISK
        };
        let sized = Volume {
            size: Some(1 << 20),
            ..volume()
        };
        let result = match_disks(&[volume(), sized], &[other, DISK], whole);
        assert_eq!(
            result[0],
            Ok(DiskMatch {
                disk: 1,
                metadata: None,
                size: 1 << 30
            })
        );
        assert_eq!(
            result[1],
            Ok(DiskMatch {
                disk: 1,
                metadata: None,
                size: 1 << 20
            })
        );
    }

    #[test]
    fn a_missing_disk_names_those_that_are_there() {
        let found = [
            FoundDisk {
                serial: "b\u{7}d",
                ..DISK
            },
            FoundDisk { serial: "", ..DISK },
        ];
        assert_eq!(
            disk_error(&volume(), &found),
            "volume 3 has no usable disk: none has the serial \"a-vol0\" (found: \"b?d\", one \
             without a serial); attach it or correct the serial in [[volume]]"
        );
        assert!(disk_error(&volume(), &[]).contains("(found: no disk at all)"));
    }

    #[test]
    fn unfit_disks_are_refused_with_advice() {
        let volume = volume();
        assert!(disk_error(&volume, &[DISK, DISK]).contains("2 disks have the serial \"a-vol0\""));
        let disk = FoundDisk {
            read_only: true,
            ..DISK
        };
        assert!(disk_error(&volume, &[disk]).contains("read-only; attach it writable"));
        let disk = FoundDisk {
            block_size: 4096,
            ..DISK
        };
        assert!(disk_error(&volume, &[disk]).contains("set block-size = 4096 instead of 512"));
        let large = Volume {
            size: Some(2 << 30),
            ..volume.clone()
        };
        assert!(
            disk_error(&large, &[DISK])
                .contains("has 1 GiB (1073741824 bytes) but size says 2 GiB (2147483648 bytes)")
        );
        let big_blocks = Volume {
            block_size: 4096,
            ..volume.clone()
        };
        let disk = FoundDisk {
            capacity: (1 << 30) + 512,
            ..DISK
        };
        assert!(
            disk_error(&big_blocks, &[disk])
                .contains("1073742336 bytes, no multiple of block-size 4096; set size = \"1GiB\"")
        );
        let disk = FoundDisk {
            capacity: 0,
            ..DISK
        };
        assert!(disk_error(&volume, &[disk]).contains("has 0 B (0 bytes)"));
    }

    #[test]
    fn metadata_at_the_end_takes_room_and_on_another_disk_none() {
        let room = |disk: u64, reserve: u64| disk - reserve - (1 << 20);
        let size = (1 << 30) - (1 << 20);
        let internal = match_disks(&[volume()], &[DISK], room);
        assert_eq!(
            internal[0],
            Ok(DiskMatch {
                disk: 0,
                metadata: None,
                size
            })
        );
        let full = Volume {
            size: Some(1 << 30),
            ..volume()
        };
        let problem = match_disks(core::slice::from_ref(&full), &[DISK], room);
        assert_eq!(
            problem[0].as_ref().unwrap_err().to_string(),
            "volume 3 has no usable disk: \"a-vol0\" has 1 GiB (1073741824 bytes), 1072693248 of them in \
             front of its metadata, but size says 1 GiB (1073741824 bytes); enlarge the disk or lower \
             size on both nodes"
        );
        let external = Volume {
            metadata: Metadata::External(heapless::String::try_from("a-md0").unwrap()),
            ..full
        };
        let other = FoundDisk {
            serial: "a-md0",
            capacity: 1 << 20,
            ..DISK
        };
        let found = match_disks(core::slice::from_ref(&external), &[other, DISK], room);
        assert_eq!(
            found[0],
            Ok(DiskMatch {
                disk: 1,
                metadata: Some(0),
                size: 1 << 30
            })
        );
        assert_eq!(
            disk_error(&external, &[DISK]),
            "volume 3 has no usable disk for its metadata: none has the serial \"a-md0\" (found: \
             \"a-vol0\"); attach it or correct the serial in [[volume]]"
        );
        let coarse = FoundDisk {
            block_size: 8192,
            ..other
        };
        assert!(
            disk_error(&external, &[DISK, coarse]).contains("\"a-md0\" has blocks of 8192 bytes")
        );
    }

    #[test]
    fn a_disk_without_room_for_a_block_is_too_small() {
        let problem = match_disks(&[volume()], &[DISK], |_, _| 0);
        let problem = problem[0].as_ref().unwrap_err();
        assert!(matches!(
            problem.kind,
            DiskProblemKind::TooSmall {
                room: 0,
                size: 512,
                ..
            }
        ));
    }
}
