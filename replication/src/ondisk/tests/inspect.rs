use super::*;

fn inspection(superblock: &Superblock) -> Inspection {
    let page = page_of(superblock);
    Inspection::new(
        superblock.layout.end(),
        Superblock::decode(&page),
        Superblock::decode(&page),
    )
}

/// All activity log and bitmap pages empty, as create-md leaves them.
fn read_all(inspection: &mut Inspection) {
    let layout = *inspection.layout().unwrap();
    let mut pages = [[0; PAGE]; 2];
    for pair in 0..layout.activity_pairs_used() {
        activity::encode(DEVICE, pair, 1, &[], &mut pages[0]);
        activity::encode(DEVICE, pair, 2, &[], &mut pages[1]);
        inspection.activity_pair(pair, [Some(&pages[0]), Some(&pages[1])]);
    }
    for number in 0..layout.bitmap_pages_used() {
        bitmap::encode(DEVICE, number, 1, &[], &mut pages[0]);
        inspection.bitmap_page(number, Some(&pages[0]));
    }
}

#[test]
fn good_metadata_has_no_findings() {
    let quiet = Superblock {
        primary: false,
        ..sample()
    };
    let mut inspection = inspection(&quiet);
    read_all(&mut inspection);
    assert_eq!(inspection.findings().count(), 0);
    assert_eq!(inspection.verdict(), Verdict::Good);
    let text = std::format!("{inspection}");
    for line in [
        "superblock    copy A, save 7, device 123456789ABCDEF0, format 1 (from release 0.1.0 on)",
        "volume        vol3 of resource r0 on node a: 1023 MiB (1072693248 bytes), blocks of 512 bytes",
        "disk          UpToDate, peer Outdated, not Primary",
        "generation    0000000000000001, peer left at 0000000000000002, before 0000000000000003 0000000000000004",
        "verify        stopped at byte 4096",
        "fencing       the fencing state has form 90, which needs a later release",
        "activity log  0 of 256 extents hot; read 1 of 1 pairs: 0 torn, 0 lost",
        "bitmap        0 B dirty (0 blocks); read 9 of 9 pages: 0 bad",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn a_fenced_node_is_shown_as_that() {
    let record = fencing::Record {
        seen: 9,
        own: fencing::Own::Releasing(8),
        mark: Some(9),
        ..fencing::Record::default()
    };
    let mut inspection = inspection(&Superblock {
        reserve: record.encode(3).unwrap(),
        ..sample()
    });
    read_all(&mut inspection);
    let text = std::format!("{inspection}");
    let line = "fencing       episode 8 being released, fenced by the peer's episode 9, save 3";
    assert!(text.lines().any(|found| found == line), "{text}");
}

#[test]
fn a_crashed_primary_and_a_bad_bitmap_page() {
    let mut inspection = inspection(&sample());
    let mut pages = [[0; PAGE]; 2];
    activity::encode(DEVICE, 0, 1, &[], &mut pages[0]);
    // Extents 0, 2 and, beyond the volume's 256, one that does not count.
    activity::encode(DEVICE, 0, 2, &[5, 0, 0, 0, 1], &mut pages[1]);
    inspection.activity_pair(0, [Some(&pages[0]), Some(&pages[1])]);
    bitmap::encode(DEVICE, 0, 1, &[0xff], &mut pages[0]);
    inspection.bitmap_page(0, Some(&pages[0]));
    // The last page covers 3 MiB of the volume: 768 blocks.
    inspection.bitmap_page(8, None);
    let bitmap = inspection.bitmap();
    assert_eq!((bitmap.pages, bitmap.bad, bitmap.dirty), (2, 1, 8 + 768));
    let findings: Vec<_> = inspection.findings().collect();
    let expected = [
        Finding::BitmapBad {
            pages: 1,
            first: 8,
            error: PageError::Unreadable,
        },
        Finding::CrashedPrimary { hot: 2 },
    ];
    assert_eq!(findings, expected);
    assert_eq!(inspection.verdict(), Verdict::Problems);
    let text = std::format!("{inspection}");
    assert!(text.contains("problem: 1 bitmap page(s) are bad, page 8 first (cannot be read)"));
    assert!(text.contains("note: the node was Primary when it stopped: 2 hot extent(s), 8 MiB"));
}

#[test]
fn unusable_metadata_says_why() {
    let none = Inspection::new(
        4096,
        Err(SuperblockError::Blank),
        Err(SuperblockError::Blank),
    );
    assert_eq!(none.verdict(), Verdict::Unusable);
    assert!(none.layout().is_none());
    let text = std::format!("{none}");
    assert_eq!(
        text,
        "not usable: there is no metadata on this disk: run create-md\n"
    );
    let page = page_of(&sample());
    let decoded = Superblock::decode(&page);
    let shrunk = Inspection::new((1 << 30) - 1, decoded.clone(), decoded.clone());
    assert_eq!(shrunk.verdict(), Verdict::Unusable);
    assert!(shrunk.layout().is_none());
    let grown = Inspection::new(2 << 30, decoded.clone(), decoded);
    assert_eq!(grown.verdict(), Verdict::Good);
    assert!(std::format!("{grown}").contains("the disk has grown: 1 GiB lie behind the metadata"));
}

#[test]
fn the_rest_of_the_findings() {
    let new = Superblock {
        current: 0,
        disk: DiskState::Inconsistent,
        all_dirty: true,
        primary: false,
        ..sample()
    };
    let mut inspected = inspection(&new);
    inspected.bitmap_page(0, None);
    // An untrusted bitmap cannot be worse.
    assert_eq!(inspected.findings().collect::<Vec<_>>(), [Finding::New]);
    let old = page_of(&sample());
    let newer = Superblock {
        sequence: 9,
        compat: 8,
        all_dirty: true,
        primary: false,
        ..sample()
    };
    let mut behind = Inspection::new(1 << 30, Ok(newer), Superblock::decode(&old));
    let mut page = [0; PAGE];
    activity::encode(DEVICE, 0, 1, &[1], &mut page);
    behind.activity_pair(0, [Some(&page), Some(&[1; PAGE])]);
    behind.activity_pair(0, [None, None]);
    let findings: Vec<_> = behind.findings().collect();
    let copy = Finding::Copy {
        which: Which::B,
        repair: Repair::Behind { by: 2 },
    };
    assert_eq!(findings[..2], [copy, Finding::ActivityLost { pairs: 1 }]);
    for finding in [
        Finding::ActivityTorn { pairs: 1 },
        Finding::AllDirty,
        Finding::UnknownCompat { bits: 8 },
    ] {
        assert!(findings.contains(&finding), "{finding:?}");
    }
    let hot = |finding: &&Finding| matches!(finding, Finding::HotWithoutPrimary { .. });
    assert!(findings.iter().find(hot).is_some());
}
