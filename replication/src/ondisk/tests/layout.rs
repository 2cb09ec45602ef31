use super::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

#[test]
fn a_gibibyte_disk() {
    let layout = Layout::internal(GIB, None).unwrap();
    assert_eq!(layout.volume_bytes, GIB - MIB);
    // A, a pair, 1023 / 127.5 rounded up bitmap pages, B.
    assert_eq!((layout.activity_pairs, layout.bitmap_pages), (1, 9));
    let area = Layout::area_bytes_for(GIB - MIB);
    assert_eq!(area, 13 * 4096);
    assert_eq!(layout.superblock_a, GIB - area);
    assert_eq!(layout.activity, layout.superblock_a + 4096);
    assert_eq!(layout.bitmap, layout.superblock_a + 3 * 4096);
    assert_eq!(layout.superblock_b, GIB - 4096);
    assert_eq!(layout.extents(), 256);
}

#[test]
fn the_smallest_disk() {
    let layout = Layout::internal(24 * KIB, None).unwrap();
    assert_eq!((layout.volume_bytes, layout.superblock_a), (4096, 4096));
    assert_eq!(
        Layout::internal(24 * KIB - 1, None),
        Err(LayoutError::DiskTooSmall {
            disk: 24 * KIB - 1,
            needed: 24 * KIB
        })
    );
    assert_eq!(
        Layout::internal(MIB, None).unwrap().volume_bytes,
        MIB - 20 * KIB
    );
    assert_eq!(
        Layout::external(16 * KIB, 4096),
        Err(LayoutError::DiskTooSmall {
            disk: 16 * KIB,
            needed: 20 * KIB
        })
    );
    assert_eq!(
        Layout::external(20 * KIB, 4096).unwrap().superblock_b,
        16 * KIB
    );
}

#[test]
fn impossible_volumes_are_refused() {
    for volume in [0, 511, 513, MAX_VOLUME + 512, u64::MAX] {
        let refused = Err(LayoutError::VolumeSize { volume });
        assert_eq!(Layout::internal(GIB, Some(volume)), refused);
        assert_eq!(Layout::external(GIB, volume), refused);
    }
    assert_eq!(
        Layout::internal(u64::MAX, None).unwrap().volume_bytes,
        MAX_VOLUME
    );
    assert_eq!(
        Layout::external(u64::MAX, MAX_VOLUME).unwrap().check(),
        Ok(())
    );
}

#[test]
fn a_limit_moves_nothing_and_can_be_raised() {
    let small = Layout::internal(10 * GIB, Some(GIB)).unwrap();
    assert_eq!(small.volume_bytes, GIB);
    let large = small.grown(one(10 * GIB), Some(2 * GIB)).unwrap();
    let volume_bytes = 2 * GIB;
    assert_eq!(
        large,
        Layout {
            volume_bytes,
            ..small
        }
    );
    assert_eq!(
        large.grown(one(10 * GIB), Some(GIB)),
        Err(LayoutError::Shrinks {
            volume: 2 * GIB,
            new: GIB
        })
    );
    // A volume ends where its limit says, to the sector.
    assert_eq!(
        Layout::internal(GIB, Some(513 * 512)).unwrap().volume_bytes,
        513 * 512
    );
}

#[test]
fn a_grown_disk_gets_a_new_area_that_leaves_the_old_one_whole() {
    let old = Layout::internal(GIB, None).unwrap();
    let new = old.grown(one(2 * GIB), None).unwrap();
    assert_eq!(new, Layout::internal(2 * GIB, None).unwrap());
    let Err(LayoutError::GrowthTooSmall { disk, needed }) = old.grown(one(GIB + 4096), None) else {
        panic!("the new area would lie over the old one");
    };
    assert_eq!(disk, GIB + 4096);
    assert!(old.grown(one(needed), None).unwrap().superblock_a >= old.end());
    assert!(old.grown(one(needed - 4096), None).is_err());
    // Less than a page is no growth, and nothing moves.
    assert_eq!(old.grown(one(GIB + 4095), None), Ok(old));
    assert_eq!(
        old.grown(one(GIB - 1), Some(MIB)),
        Err(LayoutError::DiskTooSmall {
            disk: GIB - 1,
            needed: GIB
        })
    );
}

#[test]
fn external_metadata_grows_in_place_until_its_disk_is_full() {
    // 12 pages: 8 of bitmap.
    let old = Layout::external(48 * KIB, GIB / 2).unwrap();
    assert_eq!((old.superblock_a, old.superblock_b), (0, 44 * KIB));
    let new = old.grown(two(1020 * MIB + 17), None).unwrap();
    let volume_bytes = 1020 * MIB;
    assert_eq!(
        new,
        Layout {
            volume_bytes,
            ..old
        }
    );
    // As far as there is room, and no further.
    assert_eq!(old.grown(two(GIB), None), Ok(new));
    assert_eq!(
        old.grown(two(GIB), Some(GIB)),
        Err(LayoutError::GrowthTooSmall {
            disk: 48 * KIB,
            needed: 84 * KIB
        })
    );
    assert_eq!(old.grown(two(GIB), Some(1020 * MIB)), Ok(new));
}

#[test]
fn external_metadata_moves_behind_itself_on_a_larger_disk() {
    let old = Layout::external(48 * KIB, GIB / 2).unwrap();
    let disks = |metadata| Disks {
        data: 4 * GIB,
        metadata,
    };
    let new = old.grown(disks(MIB), None).unwrap();
    assert_eq!(new.check(), Ok(()));
    assert_eq!(
        (new.superblock_a, new.superblock_b, new.volume_bytes),
        (48 * KIB, MIB - 4 * KIB, 4 * GIB)
    );
    let again = new.grown(disks(MIB), None).unwrap();
    assert_eq!(again, new, "there is nothing more");
}

#[test]
fn an_area_with_room_stays_where_it_is_though_the_disk_grew() {
    let old = Layout::internal(10 * GIB, Some(GIB)).unwrap();
    let new = old.grown(one(20 * GIB), Some(2 * GIB)).unwrap();
    assert_eq!(new.superblock_a, old.superblock_a);
    let new = old.grown(one(20 * GIB), Some(15 * GIB)).unwrap();
    assert!(new.superblock_a >= old.end() && new.volume_bytes == 15 * GIB);
    assert!(matches!(
        old.grown(one(20 * GIB), Some(20 * GIB)),
        Err(LayoutError::DiskTooSmall { needed, .. }) if needed > 20 * GIB
    ));
}

#[test]
fn faults_of_a_layout_are_found() {
    let good = Layout::internal(GIB, None).unwrap();
    assert_eq!(good.check(), Ok(()));
    type Spoil = fn(&mut Layout);
    let cases: [(Spoil, LayoutFault); 9] = [
        (|l| l.volume_bytes = 0, LayoutFault::Volume),
        (|l| l.volume_bytes += 1, LayoutFault::Volume),
        (|l| l.superblock_a += 1, LayoutFault::Order),
        (|l| l.superblock_b = l.bitmap, LayoutFault::Order),
        (|l| l.bitmap_pages += 1, LayoutFault::Order),
        (|l| l.superblock_b = u64::MAX - 4095, LayoutFault::Order),
        (|l| l.bitmap_pages -= 1, LayoutFault::Room),
        (|l| l.volume_bytes += MIB, LayoutFault::Overlap),
        (
            |l| l.volume_bytes = l.superblock_a + 512,
            LayoutFault::Overlap,
        ),
    ];
    for (spoil, fault) in cases {
        let mut layout = good;
        spoil(&mut layout);
        assert_eq!(layout.check(), Err(fault));
    }
}

#[test]
fn errors_say_what_is_needed() {
    let text = std::format!("{}", Layout::internal(0, None).unwrap_err());
    assert_eq!(
        text,
        "the disk of 0 bytes is too small: at least 24576 bytes are needed"
    );
}

/// A disk that holds both.
fn one(bytes: u64) -> Disks {
    Disks {
        data: bytes,
        metadata: bytes,
    }
}

/// A data disk; the metadata's stays as it is.
fn two(data: u64) -> Disks {
    Disks {
        data,
        metadata: 48 * KIB,
    }
}

fn disk_sizes() -> impl Strategy<Value = u64> {
    prop_oneof![24 * KIB..4 * MIB, MIB..2 * TIB, 24 * KIB..MAX_VOLUME * 2]
}

proptest! {
    #[test]
    fn an_internal_layout_fits_and_wastes_little(disk in disk_sizes()) {
        let layout = Layout::internal(disk, None).unwrap();
        prop_assert_eq!(layout.check(), Ok(()));
        prop_assert_eq!(layout.superblock_b, disk / 4096 * 4096 - 4096);
        let unit = if layout.volume_bytes >= MIB { MIB } else { 4096 };
        prop_assert_eq!(layout.volume_bytes % unit, 0);
        if layout.volume_bytes < MAX_VOLUME {
            let larger = layout.volume_bytes + unit;
            prop_assert!(larger + Layout::area_bytes_for(larger) > disk / 4096 * 4096);
        }
    }

    #[test]
    fn pages_lie_in_the_area_and_nowhere_twice(disk in 24 * KIB..200 * GIB, limit in 1u64..1 << 30) {
        let limit = limit * 512;
        for layout in [Layout::internal(disk, Some(limit)), Layout::external(disk, limit)] {
            let Ok(layout) = layout else { continue };
            prop_assert_eq!(layout.check(), Ok(()));
            let mut last = layout.superblock_a;
            let pairs = (0..layout.activity_pairs_used()).flat_map(|pair| [(pair, 0), (pair, 1)]);
            let logs = pairs.map(|(pair, slot)| layout.activity_page(pair, slot).unwrap());
            let pages = (0..layout.bitmap_pages_used()).map(|page| layout.bitmap_page(page).unwrap());
            for at in logs.chain(pages) {
                prop_assert!(at > last && at % 4096 == 0);
                last = at;
            }
            prop_assert!(last < layout.superblock_b);
            prop_assert_eq!(layout.activity_page(layout.activity_pairs, 0), None);
            prop_assert_eq!(layout.activity_page(0, 2), None);
            prop_assert_eq!(layout.bitmap_page(layout.bitmap_pages), None);
        }
    }

    #[test]
    fn growth_never_lays_the_new_area_over_the_old_one(disk in disk_sizes(), more in disk_sizes()) {
        let old = Layout::internal(disk, None).unwrap();
        match old.grown(one(disk + more), None) {
            Ok(new) => prop_assert!(new.superblock_a >= old.end() || new.superblock_b == old.superblock_b),
            Err(LayoutError::GrowthTooSmall { needed, .. }) => {
                prop_assert!(needed > disk + more);
                prop_assert!(old.grown(one(needed), None).is_ok());
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
