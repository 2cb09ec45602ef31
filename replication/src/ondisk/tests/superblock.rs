use super::*;
use crate::lineage::Generations;
use crate::ondisk::{Snapshot, SnapshotState};

#[test]
fn the_first_fields_stay_where_they_are() {
    // What every release must be able to read of every other's superblock (docs/ONDISK.md).
    let page = page_of(&sample());
    assert_eq!(&page[..8], b"PALISADE");
    assert_eq!(page[8..12], crc32c(&[&page[12..]]).to_le_bytes());
    assert_eq!(page[12..14], 1u16.to_le_bytes());
    assert_eq!(page[16..32], [0; 16]);
    assert_eq!(&page[32..48], b"0.1.0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(page[48..56], 7u64.to_le_bytes());
    assert_eq!(page[56..64], DEVICE.to_le_bytes());
}

#[test]
fn the_other_fields_are_where_the_document_says() {
    let page = page_of(&sample());
    assert_eq!(&page[64..66], b"r0");
    assert_eq!(&page[96..97], b"a");
    assert_eq!(page[128..136], [3, 0, 1, 9, 6, 0, 0, 0]);
    assert_eq!(page[136..144], [1, 0, 0, 0, 0, 2, 0, 0]);
    let layout = sample().layout;
    let words = [
        EXTENT,
        layout.volume_bytes,
        layout.superblock_a,
        layout.activity,
        layout.bitmap,
        layout.superblock_b,
        u64::from(layout.activity_pairs) | u64::from(layout.bitmap_pages) << 32,
        1,
        2,
        3,
        4,
        4096,
    ];
    for (index, word) in words.into_iter().enumerate() {
        let at = 144 + index * 8;
        assert_eq!(page[at..at + 8], word.to_le_bytes(), "byte {at}");
    }
    assert_eq!(page[240..432], [0x5a; RESERVE]);
    // No reserve, no snapshot, nothing moved.
    assert!(is_blank(&page[432..]));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let page = page_of(&sample());
    for bit in 0..PAGE * 8 {
        let mut flipped = page;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Superblock::decode(&flipped).is_err(), "bit {bit}");
    }
}

/// A page of which everything but the checksum was changed on purpose.
fn signed(change: impl FnOnce(&mut Page)) -> Page {
    let mut page = page_of(&sample());
    change(&mut page);
    let crc = crc32c(&[&page[12..]]);
    page[8..12].copy_from_slice(&crc.to_le_bytes());
    page
}

#[test]
fn errors_tell_what_it_is() {
    use SuperblockError as Error;
    let release = || Release::try_from("0.9.2").unwrap();
    let named = |page: &mut Page| page[32..48].copy_from_slice(b"0.9.2\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(Superblock::decode(&[0; PAGE]), Err(Error::Blank));
    assert_eq!(Superblock::decode(&[1; PAGE]), Err(Error::NotSuperblock));
    let mut damaged = page_of(&sample());
    damaged[4000] = 1;
    assert_eq!(Superblock::decode(&damaged), Err(Error::Checksum));
    let newer = signed(|page| {
        page[12] = 2;
        named(page);
    });
    let too_new = Error::TooNew {
        version: 2,
        release: release(),
    };
    assert_eq!(Superblock::decode(&newer), Err(too_new.clone()));
    assert!(std::format!("{too_new}").contains("use release 0.9.2 or later"));
    let old = signed(|page| page[12] = 0);
    assert_eq!(Superblock::decode(&old), Err(Error::TooOld { version: 0 }));
    let features = signed(|page| {
        page[24] = 6;
        named(page);
    });
    let expected = Error::Features {
        bits: 6,
        release: release(),
    };
    assert_eq!(Superblock::decode(&features), Err(expected));
}

#[test]
fn unknown_compatible_features_are_ignored_and_not_kept() {
    let page = signed(|page| page[16] = 4);
    let read = Superblock::decode(&page).unwrap();
    assert_eq!(read.compat, 4);
    assert_eq!(Superblock::decode(&page_of(&read)), Ok(sample()));
}

#[test]
fn impossible_fields_are_named() {
    let cases: [(usize, &[u8], Field); 14] = [
        (48, &[0; 8], Field::Sequence),
        (56, &[0; 8], Field::DeviceId),
        (64, b"r 0", Field::Resource),
        (64, &[0; 2], Field::Resource),
        (98, b"a", Field::Node),
        (130, &[3], Field::Place),
        (131, &[1], Field::Disk),
        (131, &[10], Field::Disk),
        (132, &[0], Field::PeerDisk),
        (132, &[10], Field::PeerDisk),
        (136, &[8], Field::Flags),
        (141, &[4], Field::BlockSize),
        (144, &[1], Field::ExtentSize),
        (160, &[1], Field::Layout(LayoutFault::Order)),
    ];
    for (at, bytes, field) in cases {
        let page = signed(|page| page[at..at + bytes.len()].copy_from_slice(bytes));
        let expected = Err(SuperblockError::Impossible(field));
        assert_eq!(Superblock::decode(&page), expected, "byte {at}");
    }
    let beyond = Superblock {
        verify_cursor: 1 << 30,
        ..sample()
    };
    assert_eq!(beyond.encode(&mut [0; PAGE]), Err(Field::VerifyCursor));
    let unstorable = Superblock {
        disk: DiskState::DUnknown,
        ..sample()
    };
    assert_eq!(unstorable.encode(&mut [0; PAGE]), Err(Field::Disk));
    let features = Superblock {
        incompat: 1,
        ..sample()
    };
    assert_eq!(features.encode(&mut [0; PAGE]), Err(Field::Incompat));
}

#[test]
fn the_copy_with_the_higher_sequence_counts() {
    let old = sample();
    let new = Superblock {
        sequence: 8,
        primary: false,
        ..sample()
    };
    let behind = Some(Repair::Behind { by: 1 });
    let chosen = choose(Ok(new.clone()), Ok(old.clone())).unwrap();
    assert_eq!((chosen.from, &chosen.repair), (Which::A, &behind));
    assert_eq!(chosen.superblock, new);
    let chosen = choose(Ok(old.clone()), Ok(new.clone())).unwrap();
    assert_eq!((chosen.from, &chosen.repair), (Which::B, &behind));
    let chosen = choose(Ok(new.clone()), Ok(new.clone())).unwrap();
    assert_eq!(chosen.repair, None);
    let bad = SuperblockError::Unreadable;
    let chosen = choose(Err(bad.clone()), Ok(old.clone())).unwrap();
    assert_eq!(chosen.superblock, old);
    assert_eq!(chosen.repair, Some(Repair::Bad(bad)));
}

#[test]
fn an_intact_copy_is_never_passed_over() {
    let error = SuperblockError::TooNew {
        version: 9,
        release: Release::new(),
    };
    for (a, b, which) in [
        (Err(error.clone()), Ok(sample()), Which::A),
        (Ok(sample()), Err(error.clone()), Which::B),
    ] {
        let refused = Unusable::Refused {
            which,
            error: error.clone(),
        };
        assert_eq!(choose(a, b), Err(refused));
    }
    let other = Superblock {
        device_id: 1,
        ..sample()
    };
    assert_eq!(
        choose(Ok(sample()), Ok(other.clone())),
        Err(Unusable::Conflict)
    );
    // A higher sequence does not excuse another device.
    let sequence = 99;
    let newer = Superblock { sequence, ..other };
    assert_eq!(choose(Ok(sample()), Ok(newer)), Err(Unusable::Conflict));
    let twin = Superblock {
        current: 99,
        ..sample()
    };
    assert_eq!(choose(Ok(sample()), Ok(twin)), Err(Unusable::Conflict));
}

#[test]
fn without_a_good_copy_it_says_why() {
    let none = choose(
        Err(SuperblockError::Blank),
        Err(SuperblockError::NotSuperblock),
    );
    assert_eq!(none, Err(Unusable::NoMetadata));
    let (a, b) = (SuperblockError::Checksum, SuperblockError::Blank);
    let damaged = choose(Err(a.clone()), Err(b.clone())).unwrap_err();
    assert_eq!(damaged, Unusable::Damaged { a, b });
    assert!(std::format!("{damaged}").contains("create-md --force"));
}

#[test]
fn metadata_is_found_where_it_was_written_for() {
    // The disk was 64 KiB and is larger now; a guest has a stray copy of another superblock.
    let layout = Layout::internal(64 << 10, None).unwrap();
    let superblock = Superblock {
        layout,
        verify_cursor: 0,
        ..sample()
    };
    let page = page_of(&superblock);
    let mut disk = std::vec![0u8; 128 << 10];
    let mut put = |at: u64, page: &Page| {
        let at = usize::try_from(at).unwrap();
        disk[at..at + PAGE].copy_from_slice(page);
    };
    put(layout.superblock_a, &page);
    put(layout.superblock_b, &page);
    put(80 << 10, &page);
    let found = find(&disk, 0).unwrap();
    assert_eq!(found, (layout.superblock_b, Ok(superblock.clone())));
    // In chunks; the hit is the same.
    let (low, high) = disk.split_at(64 << 10);
    assert_eq!(find(high, 64 << 10), None);
    assert_eq!(find(low, 0), Some(found));
    // With B gone, A is found.
    let b = usize::try_from(layout.superblock_b).unwrap();
    disk[b..b + PAGE].fill(0);
    assert_eq!(find(&disk, 0), Some((layout.superblock_a, Ok(superblock))));
    // One of a later release is not passed over.
    disk[72 << 10..][..PAGE].copy_from_slice(&signed(|page| page[12] = 2));
    let (at, found) = find(&disk, 0).unwrap();
    assert_eq!(at, 72 << 10);
    assert!(matches!(
        found,
        Err(SuperblockError::TooNew { version: 2, .. })
    ));
    assert_eq!(find(&disk[..100], 0), None);
}

fn superblocks() -> impl Strategy<Value = Superblock> {
    use DiskState::{
        Attaching, Consistent, DUnknown, Diskless, Failed, Inconsistent, Negotiating, Outdated,
        UpToDate,
    };
    let stored = proptest::sample::select(&[Inconsistent, Outdated, Consistent, UpToDate]);
    let peer = proptest::sample::select(&[
        Diskless,
        Attaching,
        Failed,
        Negotiating,
        Inconsistent,
        Outdated,
        DUnknown,
        Consistent,
        UpToDate,
    ]);
    let name = "[A-Za-z0-9._-]{1,32}".prop_map(|text| Name::try_from(text.as_str()).unwrap());
    let layout = (24u64 << 10..1 << 45, 8u64..1 << 36, any::<bool>()).prop_map(
        |(disk, blocks, internal)| {
            let volume = blocks * 4096;
            let outside = Layout::external(Layout::area_bytes_for(volume) + disk, volume);
            let inside = Layout::internal(disk, Some(volume));
            let layout = if internal { inside } else { outside }.unwrap();
            let reserve = if blocks % 3 == 0 { 0 } else { blocks << 9 };
            layout.with_reserve(reserve).unwrap_or(layout)
        },
    );
    (
        (1u64.., 1u64.., name.clone(), name, any::<u16>(), layout),
        (any::<[u64; 4]>(), stored, peer, any::<[bool; 3]>()),
        (any::<u64>(), any::<[u8; 32]>()),
    )
        .prop_map(
            |(
                (sequence, device_id, resource, node, volume, layout),
                (ids, disk, peer_disk, flags),
                (cursor, reserve),
            )| {
                let mut bytes = [0; RESERVE];
                bytes[100..132].copy_from_slice(&reserve);
                Superblock {
                    compat: 0,
                    incompat: 0,
                    sequence,
                    device_id,
                    resource,
                    node,
                    volume,
                    block_size: 4096,
                    layout,
                    current: ids[0],
                    bitmap: ids[1],
                    history: [ids[2], ids[3]],
                    disk,
                    peer_disk,
                    primary: flags[0],
                    all_dirty: flags[1],
                    was_primary: flags[2],
                    verify_cursor: cursor % (layout.volume_bytes + 1),
                    reserve: bytes,
                    moved_from: moved_from(&layout, cursor),
                    snapshot: snapshot(&layout, disk, ids),
                }
            },
        )
}

/// A snapshot, where one can be.
fn snapshot(layout: &Layout, disk: DiskState, ids: [u64; 4]) -> Option<Snapshot> {
    let held = disk == DiskState::Inconsistent && layout.reserve_bytes > 0;
    let state = match ids[0] % 4 {
        0 => return None,
        1 if held => SnapshotState::Held,
        2 if held => SnapshotState::RollingBack,
        _ => SnapshotState::RolledBack,
    };
    Some(Snapshot {
        id: ids[1].max(1),
        state,
        gens: Generations {
            current: ids[2].max(1),
            bitmap: ids[3],
            history: [ids[1], ids[0]],
        },
        same_name: ids[3].is_multiple_of(2),
        disk: if ids[3].is_multiple_of(3) {
            DiskState::Outdated
        } else {
            DiskState::Consistent
        },
    })
}

/// Places of an earlier area, if one fits in front of this one.
fn moved_from(layout: &Layout, any: u64) -> Option<[u64; 2]> {
    let page = PAGE as u64;
    let first = match layout.place {
        Place::Internal => layout.volume_bytes.next_multiple_of(page),
        Place::External => 0,
    };
    let b = layout.superblock_a.checked_sub(page)?;
    (any.is_multiple_of(2) && first < b).then_some([first, b])
}

proptest! {
    #[test]
    fn it_comes_back_as_it_was(superblock in superblocks()) {
        prop_assert_eq!(Superblock::decode(&page_of(&superblock)), Ok(superblock));
    }

    #[test]
    fn a_crash_in_a_save_leaves_the_old_or_the_new_one(
        old in superblocks(), step in 0..5, cut in 0..=PAGE, sector in any::<u8>(),
    ) {
        let new = Superblock { sequence: old.sequence.saturating_add(1), current: !old.current, ..old.clone() };
        prop_assume!(new.sequence != old.sequence);
        let (before, after) = (page_of(&old), page_of(&new));
        // While a page is being written it may be anything between; one that was not flushed may be the old one.
        let mut writing = if sector & 1 == 0 { torn(&before, &after, sector) } else { before };
        writing[..cut].copy_from_slice(&after[..cut]);
        let (a, b) = match step {
            0 => (before, before),
            1 => (writing, before),
            2 => (after, before),
            3 => (after, writing),
            _ => (after, after),
        };
        let chosen = choose(Superblock::decode(&a), Superblock::decode(&b)).unwrap();
        prop_assert!(chosen.superblock == old || chosen.superblock == new);
        if step >= 2 {
            prop_assert_eq!(&chosen.superblock, &new);
        }
        // Idle means both are the same.
        prop_assert_eq!(chosen.repair.is_none(), a == b);
    }

    #[test]
    fn nothing_makes_decode_panic(bytes in any::<[u8; 512]>(), sign in any::<bool>()) {
        let mut page = [0; PAGE];
        page[..512].copy_from_slice(&bytes);
        if sign {
            page[..8].copy_from_slice(b"PALISADE");
            page[12..32].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            let crc = crc32c(&[&page[12..]]);
            page[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(read) = Superblock::decode(&page) {
            prop_assert_eq!(Superblock::decode(&page_of(&read)), Ok(read));
        }
    }

    #[test]
    fn nothing_that_is_signed_makes_decode_panic(superblock in superblocks(), at in 12usize..496, byte in any::<u8>(), len in 1usize..9) {
        let mut page = page_of(&superblock);
        let end = (at + len).min(496);
        page[at..end].fill(byte);
        let crc = crc32c(&[&page[12..]]);
        page[8..12].copy_from_slice(&crc.to_le_bytes());
        match Superblock::decode(&page) {
            Ok(read) => {
                prop_assert_eq!(read.layout.check(), Ok(()));
                prop_assert_eq!(Superblock::decode(&page_of(&read)).map(|again| again.sequence), Ok(read.sequence));
            }
            Err(error) => prop_assert!(error.is_intact()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_torn_page_is_the_old_or_the_new_one(old in superblocks(), new in superblocks(), cut in 0..PAGE) {
        let (old_page, new_page) = (page_of(&old), page_of(&new));
        for mask in 0..=u8::MAX {
            // All fields lie in the first sector: never even invalid.
            let read = Superblock::decode(&torn(&old_page, &new_page, mask));
            prop_assert_eq!(read.as_ref(), Ok(if mask & 1 == 0 { &old } else { &new }));
        }
        // A disk without atomic sectors stops anywhere.
        let mut page = old_page;
        page[..cut].copy_from_slice(&new_page[..cut]);
        if let Ok(read) = Superblock::decode(&page) {
            prop_assert!(read == old || read == new);
        }
    }
}
