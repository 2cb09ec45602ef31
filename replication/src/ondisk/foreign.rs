//! What is on a disk already? Asked before metadata is created on it.
//!
//! Marks are taken from the published descriptions of each format. A wrong "yes" costs the operator
//! a `--force`; a wrong "no" costs data, so anything that is not zero counts in the end.

use super::{PAGE, is_blank};

/// Bytes that [`foreign`] wants to see of each end of the disk (all of a smaller disk).
pub const FOREIGN_BYTES: usize = 128 << 10;

/// Bytes at a place that tell a format.
struct Mark {
    at: usize,
    bytes: &'static [u8],
    name: &'static str,
}

const fn mark(at: usize, bytes: &'static [u8], name: &'static str) -> Mark {
    Mark { at, bytes, name }
}

/// At the beginning of the disk; the first match counts, so that what lies in front of
/// something more general comes first.
const MARKS: &[Mark] = &[
    mark(0, b"PALISADE", "Palisade metadata"),
    mark(512, b"EFI PART", "a GPT partition table"),
    mark(4096, b"EFI PART", "a GPT partition table"),
    mark(0, b"LUKS\xba\xbe", "a LUKS encrypted volume"),
    mark(0, b"XFSB", "an XFS filesystem"),
    mark(0, b"QFI\xfb", "a qcow2 image"),
    mark(0, b"KDMV", "a VMDK image"),
    mark(0, b"vhdxfile", "a VHDX image"),
    mark(0, b"conectix", "a VHD image"),
    mark(0, b"hsqs", "a squashfs filesystem"),
    mark(0, b"bluestore block device", "a Ceph BlueStore device"),
    mark(3, b"NTFS    ", "an NTFS filesystem"),
    mark(3, b"EXFAT   ", "an exFAT filesystem"),
    mark(3, b"-FVE-FS-", "a BitLocker volume"),
    mark(32, b"NXSB", "an APFS container"),
    mark(54, b"FAT1", "a FAT filesystem"),
    mark(82, b"FAT32   ", "a FAT filesystem"),
    mark(1024, b"\x10\x20\xf5\xf2", "an F2FS filesystem"),
    mark(1024, b"H+", "an HFS+ filesystem"),
    mark(1024, b"HX", "an HFS+ filesystem"),
    mark(1024 + 56, b"\x53\xef", "an ext2/3/4 filesystem"),
    mark(0, MD_MAGIC, "a Linux MD RAID member"),
    mark(4096, MD_MAGIC, "a Linux MD RAID member"),
    mark(0, b"swsusp", "a hibernation image"),
    mark(4096 - 10, b"SWAPSPACE2", "swap space"),
    mark(4096 - 10, b"SWAP-SPACE", "swap space"),
    mark(8192 - 10, b"SWAPSPACE2", "swap space"),
    mark(16384 - 10, b"SWAPSPACE2", "swap space"),
    mark(65536 - 10, b"SWAPSPACE2", "swap space"),
    mark(4096 + 24, BCACHE, "a bcache device"),
    mark(4096 + 24, BCACHEFS, "a bcachefs filesystem"),
    mark(32768, b"JFS1", "a JFS filesystem"),
    mark(32769, b"CD001", "an ISO 9660 filesystem"),
    mark(32769, b"BEA01", "a UDF filesystem"),
    mark(65536 + 52, b"ReIsEr", "a ReiserFS filesystem"),
    mark(65536 + 64, b"_BHRfS_M", "a btrfs filesystem"),
    mark(FOREIGN_BYTES - 40, ZFS_LITTLE, "a ZFS pool member"),
    mark(FOREIGN_BYTES - 40, ZFS_BIG, "a ZFS pool member"),
    mark(510, b"\x55\xaa", "an MBR partition table or boot sector"),
];

const MD_MAGIC: &[u8] = b"\xfc\x4e\x2b\xa9";
const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const BCACHEFS: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";
/// The checksum trailer that ends a ZFS label's name list and each uberblock, in both byte orders.
const ZFS_LITTLE: &[u8] = b"\x11\x7a\x0c\xb1\x7a\xda\x10\x02";
const ZFS_BIG: &[u8] = b"\x02\x10\xda\x7a\xb1\x0c\x7a\x11";
/// DRBD's magic number begins so, at byte 60 of its superblock; the fourth byte tells the version.
const DRBD: &[u8] = b"\x83\x74\x02";
const DRBD_AT: usize = 60;

/// What is on a disk, as the end of the sentence "the disk holds ...", or `None` if it looks
/// blank. `first` is the disk's first [`FOREIGN_BYTES`] (all, if it has fewer), `last` its last.
#[must_use]
pub fn foreign(first: &[u8], last: &[u8]) -> Option<&'static str> {
    let known = MARKS.iter().find(|mark| has(first, mark.at, mark.bytes));
    known
        .map(|mark| mark.name)
        .or_else(|| lvm(first))
        .or_else(|| drbd(first))
        .or_else(|| at_the_end(last))
        .or_else(|| (!is_blank(first) || !is_blank(last)).then_some("data that is not zero"))
}

fn has(bytes: &[u8], at: usize, wanted: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|tail| tail.starts_with(wanted))
}

/// The label lies in one of the first four sectors.
fn lvm(first: &[u8]) -> Option<&'static str> {
    let label = |at: usize| has(first, at, b"LABELONE") && has(first, at + 24, b"LVM2 001");
    (0..4)
        .any(|sector| label(sector * 512))
        .then_some("an LVM2 physical volume")
}

fn drbd(superblock: &[u8]) -> Option<&'static str> {
    if !has(superblock, DRBD_AT, DRBD) {
        return None;
    }
    match superblock.get(DRBD_AT + DRBD.len())? {
        0x6b | 0x6c => Some("DRBD 8 metadata"),
        0x6d => Some("DRBD 9 metadata"),
        _ => None,
    }
}

/// Formats that put their mark at the end of the disk. Their distance from it depends on how the
/// size is rounded, so every page or sector of the last bytes is looked at.
fn at_the_end(last: &[u8]) -> Option<&'static str> {
    let distances = |step: usize| (step..=last.len()).step_by(step);
    let at = |back: usize| last.get(last.len() - back..).unwrap_or_default();
    let palisade = distances(PAGE).find(|back| at(*back).starts_with(b"PALISADE"));
    if palisade.is_some() {
        return Some("Palisade metadata");
    }
    if let Some(name) = distances(512).find_map(|back| drbd(at(back))) {
        return Some(name);
    }
    let backup = |sector: usize| at(sector).starts_with(b"EFI PART");
    if last.len() >= PAGE && (backup(512) || backup(PAGE)) {
        return Some("a GPT partition table (its backup)");
    }
    // Version 0.90 with its minor number, or 1.0: a bare magic could be chance in a large area.
    let raid = |back: &usize| {
        let block = at(*back);
        has(block, 0, MD_MAGIC) && (has(block, 4, &[1, 0, 0, 0]) || has(block, 8, &[90, 0, 0, 0]))
    };
    if distances(512).any(|back| raid(&back)) {
        return Some("a Linux MD RAID member");
    }
    let zfs =
        |slot: usize| has(at(slot), 1024 - 40, ZFS_LITTLE) || has(at(slot), 1024 - 40, ZFS_BIG);
    distances(1024).any(zfs).then_some("a ZFS pool member")
}
