//! The disk's image, what happens to it, and what attaching it must hold to.

use crate::input::Input;
use crate::pages::{seal_bits, seal_superblock};
use crate::superblock::sample;
use replication::api::DiskState;
use replication::ondisk::activity::{self, Evidence};
use replication::ondisk::{
    ACTIVITY_PAGE_EXTENTS, Creation, Depth, Inspection, Layout, PAGE, PAGE_WORDS, Page, Step,
    Superblock, Survey, Verdict, bitmap, choose, find, foreign,
};

/// Pages of the image.
const PAGES: usize = 16;
const SECTOR: usize = 512;

/// A disk of 64 KiB that holds metadata.
pub struct Image {
    pages: [Page; PAGES],
    superblock: Superblock,
    /// Sequence of the newest activity log page of each pair, and where it is not.
    log: (u64, u8),
    bitmap_sequence: u64,
}

impl Image {
    /// Fresh metadata: at the end of a small disk, or alone on it and for three bitmap pages.
    pub fn new(external: bool) -> Self {
        let bytes = (PAGES * PAGE) as u64;
        let layout = match external {
            false => Layout::internal(bytes, None),
            true => Layout::external(bytes, 300 << 20),
        };
        let mut superblock = sample(layout.expect("a layout"));
        superblock.sequence = 1;
        let mut image = Self {
            pages: [[0; PAGE]; PAGES],
            superblock: superblock.clone(),
            log: (2, 0),
            bitmap_sequence: 1,
        };
        let mut creation = Creation::new(superblock, None).expect("a superblock");
        let mut page = [0; PAGE];
        while let Some(step) = creation.next_step(&mut page) {
            if let Step::Write(at) = step {
                image.write(at, &page, u8::MAX);
            }
        }
        image
    }

    fn page(&self, at: u64) -> Option<&Page> {
        self.pages.get(at as usize / PAGE)
    }

    /// Writes a page, of which only the sectors in `mask` arrive.
    fn write(&mut self, at: u64, new: &Page, mask: u8) {
        let page = &mut self.pages[at as usize / PAGE];
        for sector in (0..8).filter(|sector| mask & (1 << sector) != 0) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            page[range.clone()].copy_from_slice(&new[range]);
        }
    }

    /// The next move of the input.
    pub fn one(&mut self, input: &mut Input<'_>) {
        match input.pick(7) {
            0 => self.save(input),
            1 => self.log_page(input),
            2 => self.bitmap_page(input),
            3 => {
                let (page, at) = (input.pick(PAGES), usize::from(input.u16()) % PAGE);
                let len = usize::from(input.byte()).min(PAGE - at);
                let bytes = input.bytes(len);
                self.pages[page][at..at + bytes.len()].copy_from_slice(bytes);
            }
            4 => self.reseal(input),
            5 => {
                let (from, to) = (input.pick(PAGES + 1), input.pick(PAGES));
                self.pages[to] = self.pages.get(from).copied().unwrap_or([0; PAGE]);
            }
            _ => {
                let (page, bit) = (input.pick(PAGES), usize::from(input.u16()) % (8 * PAGE));
                self.pages[page][bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    /// A save, which may end after its first copy or in the middle of one.
    fn save(&mut self, input: &mut Input<'_>) {
        let flags = input.byte();
        let superblock = &mut self.superblock;
        superblock.sequence += 1;
        superblock.primary = flags & 1 != 0;
        superblock.all_dirty = flags & 2 != 0;
        superblock.disk =
            [DiskState::UpToDate, DiskState::Inconsistent][usize::from(flags >> 2 & 1)];
        superblock.current = u64::from(input.byte());
        let mut page = [0; PAGE];
        superblock.encode(&mut page).expect("a superblock");
        let (a, b) = (
            superblock.layout.superblock_a,
            superblock.layout.superblock_b,
        );
        match flags >> 4 {
            0 => self.write(a, &page, flags),
            1 => self.write(a, &page, u8::MAX),
            2 => {
                self.write(a, &page, u8::MAX);
                self.write(b, &page, flags);
            }
            _ => {
                self.write(a, &page, u8::MAX);
                self.write(b, &page, u8::MAX);
            }
        }
    }

    fn words(input: &mut Input<'_>) -> [u64; PAGE_WORDS] {
        let (at, byte) = (input.u16(), input.byte());
        let mut words = [0; PAGE_WORDS];
        words[usize::from(at) % PAGE_WORDS] = u64::from(byte) * 0x0101_0101_0101_0101;
        words[0] |= u64::from(byte);
        words
    }

    fn log_page(&mut self, input: &mut Input<'_>) {
        let (mask, words) = (input.byte(), Self::words(input));
        let (sequence, slot) = (self.log.0 + 1, self.log.1);
        let mut page = [0; PAGE];
        activity::encode(self.superblock.device_id, 0, sequence, &words, &mut page);
        let at = self.superblock.layout.activity_page(0, slot);
        self.write(at.expect("the first page"), &page, mask);
        if mask == u8::MAX {
            self.log = (sequence, 1 - slot);
        }
    }

    fn bitmap_page(&mut self, input: &mut Input<'_>) {
        let (mask, words) = (input.byte(), Self::words(input));
        let pages = self.superblock.layout.bitmap_pages_used();
        let number = u32::from(input.byte()) % pages;
        self.bitmap_sequence += 1;
        let mut page = [0; PAGE];
        let device = self.superblock.device_id;
        bitmap::encode(device, number, self.bitmap_sequence, &words, &mut page);
        let at = self.superblock.layout.bitmap_page(number);
        self.write(at.expect("a page in use"), &page, mask);
    }

    /// Makes a page intact, whatever it holds.
    fn reseal(&mut self, input: &mut Input<'_>) {
        let page = &mut self.pages[input.pick(PAGES)];
        let device = self.superblock.device_id;
        match input.pick(3) {
            0 => seal_superblock(page, true, true),
            1 => seal_bits(page, b"PLSD-act", device),
            _ => seal_bits(page, b"PLSD-bmp", device),
        }
    }

    /// What a node does with the disk.
    pub fn attach(&self) {
        let layout = self.superblock.layout;
        let decode = |at: u64| Superblock::decode(self.page(at).expect("inside"));
        let (a, b) = (decode(layout.superblock_a), decode(layout.superblock_b));
        let newest = [&a, &b].into_iter().flatten().map(|s| s.sequence).max();
        match choose(a.clone(), b.clone()) {
            Ok(chosen) => {
                assert_eq!(Some(chosen.superblock.sequence), newest, "not the newest");
                assert_eq!(chosen.repair.is_none(), a == b, "{:?}", chosen.repair);
            }
            Err(why) => assert!(!why.to_string().is_empty()),
        }
        self.find();
        for (depth, most) in [(Depth::All, 2), (Depth::All, 7), (Depth::Ends(None), 3)] {
            self.survey(depth, most);
        }
        self.inspect(Inspection::new((PAGES * PAGE) as u64, a, b));
    }

    /// Metadata that is looked for is found, and told from a blank disk.
    fn find(&self) {
        let bytes = self.pages.as_flattened();
        if let Some((at, found)) = find(bytes, 0) {
            let page = self.page(at).expect("inside");
            assert_eq!(Superblock::decode(page), found);
            match found {
                Ok(superblock) => assert!(superblock.belongs_at(at)),
                Err(error) => assert!(error.is_intact()),
            }
        }
        let blank = bytes.iter().all(|byte| *byte == 0);
        assert_eq!(foreign(bytes, bytes).is_none(), blank);
    }

    /// What `inspect` does comes to an end and says something, wherever the metadata is and however it is read.
    fn survey(&self, depth: Depth, most: u32) {
        let bytes = self.pages.as_flattened();
        let mut survey = Survey::new(bytes.len() as u64, depth);
        let mut reads = 0;
        while let Some((offset, pages)) = survey.wants(most) {
            reads += 1;
            assert!(
                reads <= 4 * PAGES && (1..=most).contains(&pages),
                "no end of it"
            );
            let (start, len) = (offset as usize, pages as usize * PAGE);
            survey.got(bytes.get(start..start + len));
        }
        let inspection = survey.inspection().expect("it is complete");
        let text = inspection.to_string();
        let visible = |c: char| c == '\n' || (' '..='~').contains(&c);
        assert!(text.chars().all(visible) && !text.is_empty(), "{text:?}");
    }

    fn inspect(&self, mut inspection: Inspection) {
        if let Some(layout) = inspection.layout().copied() {
            let superblock = inspection.superblock().expect("there is a layout").clone();
            assert!(layout.end() <= (PAGES * PAGE) as u64);
            for pair in 0..layout.activity_pairs_used() {
                self.pair(&superblock, pair);
                let slots = [0, 1].map(|slot| self.page(layout.activity_page(pair, slot)?));
                inspection.activity_pair(pair, slots);
            }
            for number in 0..layout.bitmap_pages_used() {
                let page = layout.bitmap_page(number).and_then(|at| self.page(at));
                let page = page.expect("inside");
                let mut words = [0; PAGE_WORDS];
                let result = bitmap::decode(superblock.device_id, number, page, &mut words);
                let dirty = words.iter().all(|word| *word == u64::MAX);
                assert!(result.is_ok() || dirty, "a bad page is not all dirty");
                inspection.bitmap_page(number, Some(page));
            }
            assert!(inspection.activity().hot <= layout.extents());
            assert!(inspection.bitmap().dirty <= layout.volume_bytes.div_ceil(4096));
        }
        let text = inspection.to_string();
        let visible = |c: char| c == '\n' || (' '..='~').contains(&c);
        assert!(text.chars().all(visible), "{text:?}");
        let gravest = inspection.findings().map(|finding| finding.verdict()).max();
        assert_eq!(gravest.unwrap_or(Verdict::Good), inspection.verdict());
        let usable = inspection.layout().is_some();
        assert_eq!(usable, inspection.verdict() != Verdict::Unusable, "{text}");
    }

    /// The log's pair says at least what its newest intact page says, and that one is not overwritten next.
    fn pair(&self, superblock: &Superblock, pair: u32) {
        let places = [0, 1].map(|slot| superblock.layout.activity_page(pair, slot));
        let pages = places.map(|at| at.and_then(|at| self.page(at)));
        let mut words = [0; PAGE_WORDS];
        let found = activity::recover(superblock.device_id, pair, pages, &mut words);
        assert!(found.next_slot < 2 && u64::from(pair) < ACTIVITY_PAGE_EXTENTS);
        for (slot, page) in pages.into_iter().enumerate() {
            let page = page.expect("inside");
            let Ok(sequence) = activity::check(superblock.device_id, pair, page) else {
                continue;
            };
            assert!(sequence <= found.sequence, "there is a newer page");
            if sequence < found.sequence {
                continue;
            }
            let alone = found.evidence != Evidence::Lost;
            assert!(
                !alone || usize::from(found.next_slot) != slot,
                "the newest would be lost"
            );
            let stored = page[16..].chunks_exact(8).map(|bytes| {
                let bytes = bytes.try_into().expect("eight bytes");
                u64::from_le_bytes(bytes)
            });
            let all = words
                .iter()
                .zip(stored)
                .all(|(word, stored)| word & stored == stored);
            assert!(all, "hot extents are forgotten");
        }
    }
}

/// Saves, crashes in the middle of saves, and damage.
pub fn seeds() -> Vec<Vec<u8>> {
    let save = |flags: u8, current: u8| vec![0, flags, current];
    let log = |mask: u8, at: u8| vec![1, mask, at, 0, 0xf0];
    let map = |mask: u8, at: u8| vec![2, mask, at, 0, 0x0f, at];
    let reseal = |page: u8, kind: u8| vec![4, page, kind];
    let patch = |page: u8, at: u8| vec![3, page, at, 0, 4, 1, 2, 3, 4];
    let flip = |page: u8, at: u8| vec![6, page, at, 0];
    let join = |kind: u8, moves: &[Vec<u8>]| [&[kind][..], &moves.concat()[..]].concat();
    let mut all = vec![vec![0], vec![1]];
    for kind in 0..2 {
        let first = if kind == 0 { 11 } else { 0 };
        all.push(join(
            kind,
            &[save(0xf1, 9), log(255, 3), map(255, 2), save(0xf1, 10)],
        ));
        all.push(join(
            kind,
            &[
                save(0xf1, 9),
                log(255, 3),
                log(15, 4),
                map(3, 1),
                save(0x11, 10),
            ],
        ));
        all.push(join(kind, &[save(0x05, 9)]));
        all.push(join(kind, &[save(0x27, 9), log(255, 1), log(255, 2)]));
        for page in 0..5 {
            let page = first + page;
            all.push(join(kind, &[log(255, 1), flip(page, 99)]));
            let seals = (0..3).map(|seal| [patch(page, 64), reseal(page, seal)].concat());
            all.extend(seals.map(|moves| join(kind, &[moves])));
            all.push(join(kind, &[vec![5, 16, page], vec![5, page, first]]));
        }
    }
    all
}
