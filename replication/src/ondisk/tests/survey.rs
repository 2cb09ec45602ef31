//! Looking for metadata and reading it finds what is there, however it is read.

use super::*;
use std::string::{String, ToString};

/// A disk with good internal metadata at its end.
fn disk() -> (Vec<u8>, Layout) {
    let bytes = 40 << 20;
    let layout = Layout::internal(bytes, None).unwrap();
    let superblock = Superblock { layout, ..sample() };
    let mut creation = Creation::new(superblock, None).unwrap();
    let mut disk = std::vec![0; bytes as usize];
    let mut page = [0; PAGE];
    while let Some(step) = creation.next_step(&mut page) {
        if let Step::Write(at) = step {
            disk[at as usize..at as usize + PAGE].copy_from_slice(&page);
        }
    }
    (disk, layout)
}

/// Reads at most `most` pages at once; those at `bad` cannot be read. Returns what was found and the reads it took.
fn survey(disk: &[u8], depth: Depth, most: u32, bad: &[u64]) -> (Survey, usize) {
    let mut survey = Survey::new(disk.len() as u64, depth);
    for reads in 0.. {
        assert!(reads < 100_000, "no end of it");
        let Some((offset, pages)) = survey.wants(most) else {
            return (survey, reads);
        };
        let (start, len) = (offset as usize, pages as usize * PAGE);
        assert!(pages >= 1 && pages <= most.max(2));
        let range = offset..offset + len as u64;
        let bytes = disk.get(start..start + len);
        let bytes = bytes.filter(|_| !bad.iter().any(|at| range.contains(at)));
        survey.got(bytes);
    }
    unreachable!("the loop has no end of its own")
}

fn text(survey: &Survey) -> String {
    survey.inspection().expect("it is complete").to_string()
}

#[test]
fn however_many_pages_are_read_at_once_the_same_is_found() {
    let (disk, layout) = disk();
    let (whole, reads) = survey(&disk, Depth::All, 256, &[]);
    assert_eq!(whole.found_at(), Some(layout.superblock_b));
    assert_eq!(reads, 5, "good metadata takes a read for each part");
    assert!(text(&whole).contains("read 1 of 1 pairs: 0 torn, 0 lost"));
    for most in [1, 2, 3, 7, 16] {
        for depth in [Depth::All, Depth::Ends(None), Depth::Ends(Some(0))] {
            let (found, _) = survey(&disk, depth, most, &[]);
            assert_eq!(text(&found), text(&whole));
        }
    }
}

#[test]
fn what_cannot_be_read_does_not_hide_what_can() {
    let (disk, layout) = disk();
    let slot = layout.activity_page(0, 1).unwrap();
    let (found, _) = survey(&disk, Depth::All, 256, &[slot]);
    assert!(
        text(&found).contains("read 1 of 1 pairs: 0 torn, 1 lost"),
        "{}",
        text(&found)
    );
    let bitmap = layout.bitmap_page(0).unwrap();
    let (found, _) = survey(&disk, Depth::All, 256, &[bitmap]);
    let said = text(&found);
    assert!(
        said.contains("1 bad") && said.contains("page 0 first"),
        "{said}"
    );
    // The second copy, by which all of it is found: the first one is where it should be.
    let (found, _) = survey(
        &disk,
        Depth::Ends(Some(layout.superblock_a)),
        16,
        &[layout.superblock_b],
    );
    assert!(
        text(&found).contains("superblock copy B"),
        "{}",
        text(&found)
    );
    let (found, _) = survey(&disk, Depth::All, 16, &[layout.superblock_b]);
    assert_eq!(found.found_at(), Some(layout.superblock_a));
    // Neither.
    let both = [layout.superblock_a, layout.superblock_b];
    let (found, _) = survey(&disk, Depth::All, 256, &both);
    assert_eq!(found.found_at(), None);
    assert_eq!(found.inspection().unwrap().verdict(), Verdict::Unusable);
}

#[test]
fn a_disk_that_has_grown_is_searched_only_by_who_looks_everywhere() {
    let (mut disk, layout) = disk();
    disk.resize(disk.len() + (8 << 20), 0);
    let (found, _) = survey(&disk, Depth::All, 64, &[]);
    assert_eq!(found.found_at(), Some(layout.superblock_b));
    assert!(text(&found).contains("the disk has grown"));
    let (found, _) = survey(&disk, Depth::Ends(None), 64, &[]);
    assert!(
        text(&found).contains("there is no metadata"),
        "{}",
        text(&found)
    );
    for len in [0, 1, PAGE - 1, PAGE, PAGE + 1] {
        let (found, _) = survey(&disk[..len], Depth::All, 64, &[]);
        assert_eq!(found.inspection().unwrap().verdict(), Verdict::Unusable);
    }
}
