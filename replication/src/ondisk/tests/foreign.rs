use super::*;

/// What is found when `bytes` are at `at` of an otherwise blank disk's first 128 KiB.
fn at_start(at: usize, bytes: &[u8]) -> Option<&'static str> {
    let mut first = std::vec![0u8; FOREIGN_BYTES];
    first[at..at + bytes.len()].copy_from_slice(bytes);
    foreign(&first, &std::vec![0u8; FOREIGN_BYTES])
}

/// The same, `back` bytes before the disk's end.
fn at_end(back: usize, bytes: &[u8]) -> Option<&'static str> {
    let mut last = std::vec![0u8; FOREIGN_BYTES];
    let at = FOREIGN_BYTES - back;
    last[at..at + bytes.len()].copy_from_slice(bytes);
    foreign(&std::vec![0u8; FOREIGN_BYTES], &last)
}

#[test]
fn a_blank_disk_is_blank() {
    assert_eq!(foreign(&[], &[]), None);
    assert_eq!(foreign(&[0; 4096], &[0; 4096]), None);
    assert_eq!(at_start(0, &[0]), None);
}

#[test]
fn common_formats_are_recognised() {
    let cases: [(usize, &[u8], &str); 14] = [
        (510, b"\x55\xaa", "MBR"),
        (512, b"EFI PART", "GPT"),
        (1080, b"\x53\xef", "ext2/3/4"),
        (0, b"XFSB", "XFS"),
        (0x10040, b"_BHRfS_M", "btrfs"),
        (0, b"LUKS\xba\xbe\x00\x02", "LUKS"),
        (4086, b"SWAPSPACE2", "swap"),
        (0, b"QFI\xfb\0\0\0\x03", "qcow2"),
        (4096, b"\xfc\x4e\x2b\xa9\x01\0\0\0", "MD RAID"),
        (3, b"NTFS    ", "NTFS"),
        (82, b"FAT32   ", "FAT"),
        (54, b"FAT16   ", "FAT"),
        (0x8001, b"CD001\x01", "ISO 9660"),
        (0x1ffd8, b"\x11\x7a\x0c\xb1\x7a\xda\x10\x02", "ZFS"),
    ];
    for (at, bytes, name) in cases {
        let found = at_start(at, bytes).unwrap();
        assert!(found.contains(name), "{name}: {found}");
    }
    let mut label = [0; 32];
    label[..8].copy_from_slice(b"LABELONE");
    label[24..].copy_from_slice(b"LVM2 001");
    assert_eq!(at_start(512, &label), Some("an LVM2 physical volume"));
    // A boot sector of a filesystem is that filesystem.
    let mut sector = [0; 512];
    sector[3..11].copy_from_slice(b"NTFS    ");
    sector[510..].copy_from_slice(b"\x55\xaa");
    assert_eq!(at_start(0, &sector), Some("an NTFS filesystem"));
}

#[test]
fn formats_at_the_end_are_recognised() {
    let mut drbd = [0; 64];
    drbd[60..].copy_from_slice(b"\x83\x74\x02\x6b");
    assert_eq!(at_end(4096, &drbd), Some("DRBD 8 metadata"));
    drbd[63] = 0x6d;
    assert_eq!(at_end(4096 + 512, &drbd), Some("DRBD 9 metadata"));
    assert_eq!(at_start(0, &drbd), Some("DRBD 9 metadata"));
    drbd[63] = 0x6e;
    assert_eq!(at_end(4096, &drbd), Some("data that is not zero"));
    let raid = b"\xfc\x4e\x2b\xa9\x01\0\0\0";
    assert_eq!(at_end(8192, raid), Some("a Linux MD RAID member"));
    let raid = b"\xfc\x4e\x2b\xa9\0\0\0\0\x5a\0\0\0";
    assert_eq!(at_end(65536, raid), Some("a Linux MD RAID member"));
    assert_eq!(
        at_end(512, b"EFI PART"),
        Some("a GPT partition table (its backup)")
    );
    let zfs = b"\x11\x7a\x0c\xb1\x7a\xda\x10\x02";
    assert_eq!(at_end(1024 + 40, zfs), Some("a ZFS pool member"));
}

#[test]
fn our_own_metadata_is_recognised() {
    let page = page_of(&sample());
    assert_eq!(at_end(4096, &page), Some("Palisade metadata"));
    assert_eq!(at_start(0, &page), Some("Palisade metadata"));
}

#[test]
fn anything_else_is_data() {
    assert_eq!(
        at_start(FOREIGN_BYTES - 1, &[1]),
        Some("data that is not zero")
    );
    assert_eq!(at_end(1, &[1]), Some("data that is not zero"));
}

proptest! {
    #[test]
    fn short_disks_do_no_harm(first in proptest::collection::vec(any::<u8>(), 0..9000), last in 0usize..9000) {
        let last = &first[..last.min(first.len())];
        let blank = is_blank(&first);
        prop_assert_eq!(foreign(&first, last).is_none(), blank);
    }
}
