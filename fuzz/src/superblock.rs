//! The superblock: what decodes is possible and is written back to the same; nothing it says leads beyond
//! a disk.

use crate::Target;
use crate::frames::name;
use crate::input::Input;
use crate::pages::seal_superblock;
use replication::api::DiskState;
use replication::ondisk::{
    COMPAT_KNOWN, Disks, Layout, PAGE, Page, RESERVE, Reserve, Superblock, SuperblockError, find,
};

/// Input: what is mended (1: the magic, 2: the checksum, 4: one more byte lies behind the fields), two
/// sizes to which the disk grows, then the page from its beginning.
pub const TARGET: Target = Target {
    name: "superblock",
    max_len: 17 + 640,
    run,
    seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let what = input.byte();
    let disk = u64::from_le_bytes(input.array());
    let limit = u64::from_le_bytes(input.array());
    let mut page: Page = [0; PAGE];
    let fields = input.bytes(PAGE);
    page[..fields.len()].copy_from_slice(fields);
    if what & 4 != 0 {
        page[PAGE - 1] = what;
    }
    seal_superblock(&mut page, what & 1 != 0, what & 2 != 0);
    match Superblock::decode(&page) {
        Ok(superblock) => sound(&superblock, &page, disk, limit),
        Err(error) => {
            let intact = error.is_intact();
            let text = error.to_string();
            let visible = text.chars().all(|c| (' '..='~').contains(&c));
            assert!(!text.is_empty() && visible, "{text:?}");
            // One that is refused but meant is not passed over either.
            assert_eq!(find(&page, 8192).is_some(), intact, "{text}");
            assert_ne!(error, SuperblockError::Unreadable);
        }
    }
}

fn sound(superblock: &Superblock, page: &Page, disk: u64, limit: u64) {
    assert_eq!(superblock.layout.check(), Ok(()));
    let mut again: Page = [0xaa; PAGE];
    assert_eq!(superblock.encode(&mut again), Ok(()));
    let expected = Superblock {
        compat: superblock.compat & COMPAT_KNOWN,
        ..superblock.clone()
    };
    assert_eq!(Superblock::decode(&again), Ok(expected));
    for at in [
        superblock.layout.superblock_a,
        superblock.layout.superblock_b,
    ] {
        let found = find(page, at);
        assert_eq!(found, Some((at, Ok(superblock.clone()))));
    }
    layout(&superblock.layout);
    let disks = Disks {
        data: disk,
        metadata: disk,
    };
    for limit in [None, Some(limit)] {
        match superblock.layout.grown(disks, limit) {
            Ok(grown) => {
                assert!(
                    grown.volume_bytes >= superblock.layout.volume_bytes,
                    "it shrank"
                );
                layout(&grown);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Every page that the volume uses has its own place inside the area.
fn layout(layout: &Layout) {
    assert_eq!(layout.check(), Ok(()));
    let last_pair = layout.activity_pairs_used() - 1;
    let last_page = layout.bitmap_pages_used() - 1;
    let places = [
        Some(layout.superblock_a),
        layout.activity_page(0, 0),
        layout.activity_page(last_pair, 1),
        layout.bitmap_page(0),
    ];
    assert!(places.iter().all(Option::is_some));
    assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
    if layout.reserve_bytes > 0 {
        let reserve = Reserve::new(layout.reserve, layout.reserve_bytes);
        let last = reserve.slots().saturating_sub(1);
        let end = layout.reserve + layout.reserve_bytes;
        assert!(reserve.slots() == 0 || reserve.block(last) + PAGE as u64 <= end);
    }
    let last = layout.bitmap_page(last_page);
    assert!(last >= layout.bitmap_page(0) && last < Some(layout.superblock_b));
    assert!(layout.extents() * replication::ondisk::EXTENT >= layout.volume_bytes);
}

/// A superblock with something in every field.
pub fn sample(layout: Layout) -> Superblock {
    Superblock {
        compat: 0,
        incompat: 0,
        sequence: 7,
        device_id: 0x1234_5678_9abc_def0,
        resource: name("r0"),
        node: name("a"),
        volume: 3,
        block_size: 512,
        layout,
        current: 1,
        bitmap: 2,
        history: [3, 4],
        disk: DiskState::UpToDate,
        peer_disk: DiskState::Outdated,
        primary: true,
        all_dirty: false,
        was_primary: true,
        verify_cursor: 4096,
        reserve: [0x5a; RESERVE],
        moved_from: None,
        snapshot: None,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let layouts = [
        Layout::internal(1 << 30, None),
        Layout::internal(64 << 10, Some(4096)),
        Layout::external(1 << 20, 300 << 20),
        Layout::internal(1 << 51, None),
        Layout::internal(1 << 30, None).and_then(|layout| layout.with_reserve(64 << 20)),
    ];
    let seed = |layout: Layout| {
        let mut page = [0; PAGE];
        sample(layout).encode(&mut page).expect("a superblock");
        let mut out = vec![3];
        out.extend((2 * layout.end()).to_le_bytes());
        out.extend((layout.volume_bytes + 4096).to_le_bytes());
        out.extend(&page[..512]);
        out
    };
    layouts.into_iter().flatten().map(seed).collect()
}
