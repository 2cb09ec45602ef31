use super::*;
use std::vec;

/// A disk whose unflushed writes may be lost.
struct Disk {
    durable: Vec<u8>,
    pending: Vec<(usize, Page)>,
}

impl Disk {
    fn new(content: Vec<u8>) -> Self {
        let pending = Vec::new();
        Self {
            durable: content,
            pending,
        }
    }

    fn apply(&mut self, step: Step, page: &Page) {
        match step {
            Step::Write(at) => self.pending.push((usize::try_from(at).unwrap(), *page)),
            Step::Flush => self.crash(|_| true),
        }
    }

    /// Forgets the unflushed writes that `kept` does not keep, by their number.
    fn crash(&mut self, kept: impl Fn(usize) -> bool) {
        for (number, (at, page)) in core::mem::take(&mut self.pending).into_iter().enumerate() {
            if kept(number) {
                self.durable[at..at + PAGE].copy_from_slice(&page);
            }
        }
    }

    fn page(&self, at: u64) -> Page {
        let at = usize::try_from(at).unwrap();
        self.durable[at..at + PAGE].try_into().unwrap()
    }

    fn inspect(&self, layout: &Layout) -> Inspection {
        let copy = |at| Superblock::decode(&self.page(at));
        let (a, b) = (copy(layout.superblock_a), copy(layout.superblock_b));
        let mut inspection = Inspection::new(self.durable.len() as u64, a, b);
        for pair in 0..layout.activity_pairs_used() {
            let slots = [0, 1].map(|slot| self.page(layout.activity_page(pair, slot).unwrap()));
            inspection.activity_pair(pair, [Some(&slots[0]), Some(&slots[1])]);
        }
        for number in 0..layout.bitmap_pages_used() {
            let page = self.page(layout.bitmap_page(number).unwrap());
            inspection.bitmap_page(number, Some(&page));
        }
        inspection
    }
}

fn superblock(device_id: u64, disk: u64) -> Superblock {
    let name = |text| Name::try_from(text).unwrap();
    let layout = Layout::internal(disk, None).unwrap();
    Superblock::new(device_id, name("r0"), name("a"), 0, 512, layout)
}

#[test]
fn new_metadata_is_whole_and_all_dirty() {
    let superblock = superblock(1, 64 << 10);
    let layout = superblock.layout;
    let mut disk = Disk::new(vec![0x11; 64 << 10]);
    let mut creation = Creation::new(superblock.clone(), None).unwrap();
    let mut page = [0; PAGE];
    while let Some(step) = creation.next_step(&mut page) {
        disk.apply(step, &page);
    }
    assert!(disk.pending.is_empty(), "the last step is a flush");
    let inspection = disk.inspect(&layout);
    assert_eq!(inspection.superblock(), Some(&superblock));
    assert_eq!(inspection.findings().collect::<Vec<_>>(), [Finding::New]);
    let bitmap = inspection.bitmap();
    assert_eq!(bitmap.dirty * 4096, layout.volume_bytes);
    assert!(
        disk.durable[..usize::try_from(layout.superblock_a).unwrap()]
            .iter()
            .all(|b| *b == 0x11)
    );
}

#[test]
fn metadata_that_would_not_be_read_again_is_not_created() {
    let bad = Superblock {
        block_size: 1024,
        ..superblock(1, 64 << 10)
    };
    assert_eq!(Creation::new(bad, None).unwrap_err(), Field::BlockSize);
}

proptest! {
    #[test]
    fn a_crash_leaves_the_old_none_or_the_new(steps in 0usize..24, kept in any::<u32>(), grown in any::<bool>()) {
        let old = superblock(1, 64 << 10);
        let bytes = if grown { 128u64 << 10 } else { 64 << 10 };
        let new = superblock(2, bytes);
        let mut disk = Disk::new(vec![0; usize::try_from(bytes).unwrap()]);
        let mut page = [0; PAGE];
        let mut creation = Creation::new(old.clone(), None).unwrap();
        while let Some(step) = creation.next_step(&mut page) {
            disk.apply(step, &page);
        }
        let mut creation = Creation::new(new.clone(), Some(old.layout)).unwrap();
        let mut ended = false;
        for _ in 0..steps {
            match creation.next_step(&mut page) {
                Some(step) => disk.apply(step, &page),
                None => ended = true,
            }
        }
        disk.crash(|number| kept & 1 << (number % 32) != 0);
        match find(&disk.durable, 0) {
            None => prop_assert!(!ended),
            Some((_, found)) => {
                let found = found.unwrap();
                prop_assert!(found == new || found == old && !ended);
                // Whole, except that one superblock copy may be missing still, or already.
                let inspection = disk.inspect(&found.layout);
                prop_assert_eq!(inspection.superblock(), Some(&found));
                prop_assert_eq!(inspection.activity().lost, 0);
                prop_assert_eq!(inspection.bitmap().bad, 0);
                if ended {
                    prop_assert_eq!(inspection.verdict(), Verdict::Good);
                    if grown {
                        let old = [old.layout.superblock_a, old.layout.superblock_b];
                        prop_assert!(old.iter().all(|at| is_blank(&disk.page(*at))));
                    }
                }
            }
        }
    }
}
