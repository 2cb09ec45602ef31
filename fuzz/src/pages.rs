//! Checksums of metadata (docs/ONDISK.md), computed here once more: no fuzzer would guess them.

use crc::{CRC_32_ISCSI, Crc};
use replication::ondisk::Page;

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Gives a page a superblock's magic number, its checksum, or both.
pub fn seal_superblock(page: &mut Page, magic: bool, checksum: bool) {
    if magic {
        page[..8].copy_from_slice(b"PALISADE");
    }
    if checksum {
        let crc = CRC32C.checksum(&page[12..]);
        page[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Gives a page the checksum of an activity log (`b"PLSD-act"`) or bitmap (`b"PLSD-bmp"`) page of a device.
pub fn seal_bits(page: &mut Page, tag: &[u8; 8], device_id: u64) {
    let mut digest = CRC32C.digest();
    digest.update(tag);
    digest.update(&device_id.to_le_bytes());
    digest.update(&page[4..]);
    page[..4].copy_from_slice(&digest.finalize().to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::superblock::sample;
    use replication::ondisk::{Layout, PAGE, activity, bitmap};

    #[test]
    fn sealing_what_is_sound_changes_nothing() {
        let mut page = [0; PAGE];
        let superblock = sample(Layout::internal(1 << 30, None).expect("a layout"));
        superblock.encode(&mut page).expect("a superblock");
        let before = page;
        seal_superblock(&mut page, true, true);
        assert!(page == before, "superblock");
        activity::encode(9, 1, 2, &[3], &mut page);
        let before = page;
        seal_bits(&mut page, b"PLSD-act", 9);
        assert!(page == before, "activity log");
        bitmap::encode(9, 1, 2, &[3], &mut page);
        let before = page;
        seal_bits(&mut page, b"PLSD-bmp", 9);
        assert!(page == before, "bitmap");
    }
}
