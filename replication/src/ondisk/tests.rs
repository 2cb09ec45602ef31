use super::*;
use crate::api::{DiskState, Name};

fn sample() -> Superblock {
    Superblock {
        compat: 0,
        incompat: 0,
        sequence: 1,
        device_id: 0x1234,
        resource: Name::try_from("r0").unwrap(),
        node: Name::try_from("a").unwrap(),
        volume: 0,
        block_size: 512,
        layout: Layout::internal(1 << 30, None).unwrap(),
        current: 1,
        bitmap: 2,
        history: [3, 4],
        disk: DiskState::UpToDate,
        peer_disk: DiskState::Outdated,
        primary: true,
        all_dirty: false,
        verify_cursor: 4096,
        reserve: [7; RESERVE],
    }
}

#[test]
fn a_superblock_comes_back() {
    let mut page = [0; PAGE];
    sample().encode(&mut page).unwrap();
    assert_eq!(Superblock::decode(&page), Ok(sample()));
}
