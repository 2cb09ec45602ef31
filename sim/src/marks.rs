//! What differs is marked: the bits that tell a resync what to copy, judged long before one copies it.
//!
//! A bit is cleared only when the peer has the block durably, in this generation. So at any moment, and above all after a
//! power cut, each block that is not the same on both disks is marked on one of them at least: in the memory of a node
//! that runs (or it is under way, or acknowledged and not flushed), else in what its next attach finds on the disk.

use crate::stamp::SECTOR;
use crate::trace::letter;
use crate::world::World;
use replication::api::DiskState;
use replication::engine::Engine;
use replication::lineage::JUST_CREATED;
use replication::ondisk::{EXTENT, PAGE_WORDS, Superblock, activity, bitmap};

/// Bytes that a bit of the bitmap stands for.
const BLOCK: u64 = 4096;

/// What a node would bring to a resync by its marks.
enum Marks<'a> {
    /// A disk that is in use.
    Memory(&'a Engine, usize),
    /// One that is not: the words of log and bitmap.
    Disk { hot: Vec<u64>, dirty: Vec<u64> },
}

impl Marks<'_> {
    fn has(&self, byte: u64) -> bool {
        let bit = |words: &[u64], at: u64| {
            let word = words.get((at / 64) as usize).copied();
            word.is_none_or(|word| word >> (at % 64) & 1 == 1)
        };
        match self {
            Self::Memory(engine, volume) => engine.may_differ(*volume, byte),
            Self::Disk { hot, dirty } => bit(hot, byte / EXTENT) || bit(dirty, byte / BLOCK),
        }
    }
}

/// Whether two copies are of one history, so that marks decide what is copied between them, and not everything is.
fn related(a: &Superblock, b: &Superblock) -> bool {
    let known = |s: &Superblock| s.current != JUST_CREATED && !s.all_dirty;
    known(a)
        && known(b)
        && (a.current == b.current || a.bitmap == b.current || b.bitmap == a.current)
}

impl World {
    /// Whether what differs is marked.
    pub(crate) fn judge_marks(&mut self, volume: usize) {
        let oracle = &self.oracle;
        if oracle.amnesty || oracle.parted(volume) || self.violation.is_some() {
            return;
        }
        let (Some(a), Some(b)) = (
            self.metadata(0, volume, None),
            self.metadata(1, volume, None),
        ) else {
            return;
        };
        if !related(&a, &b) {
            return;
        }
        let [one, two] = [(0, &a), (1, &b)].map(|(n, s)| self.marks(n, volume, s));
        let places = self.plan.volumes[volume].places;
        // What the volume may yet grow into is nobody's.
        let size = a.layout.volume_bytes.min(b.layout.volume_bytes);
        let [x, y] = [0, 1].map(|n: usize| self.nodes[n].disks[volume].current());
        let unmarked = (0..places.sectors).find(|&sector| {
            let byte = places.real(sector) as u64 * SECTOR;
            byte < size
                && x[sector] != y[sector]
                && !self.unjudged(volume, sector)
                && !one.has(byte)
                && !two.has(byte)
                && !self.in_flight(volume, sector)
        });
        if let Some(sector) = unmarked {
            let who = [0, 1].map(|n: usize| {
                let disk = &self.nodes[n].disks[volume];
                let value = crate::stamp::describe(disk.current()[sector]);
                format!("\n      {} holds {value}", letter(n))
            });
            let detail = format!("vol{volume} sector {sector}:{}{}", who[0], who[1]);
            self.fail("what differs is marked", detail);
        }
    }

    fn marks(&self, n: usize, volume: usize, superblock: &Superblock) -> Marks<'_> {
        let in_use = self.oracle.disk_state(n, volume) > Some(DiskState::Attaching)
            && self.oracle.disk_state(n, volume) != Some(DiskState::Failed);
        if let Some(engine) = self.nodes[n].engine.as_ref().filter(|_| in_use) {
            return Marks::Memory(engine, volume);
        }
        let (at, layout) = (self.place_of_metadata(volume).0, &superblock.layout);
        let disk = &self.nodes[n].disks[at];
        let id = superblock.device_id;
        let (mut hot, mut dirty) = (Vec::new(), Vec::new());
        for pair in 0..layout.activity_pairs_used() {
            let pages = [0, 1].map(|slot| layout.activity_page(pair, slot));
            let pages = pages.map(|offset| offset.map(|offset| disk.page(offset, None)));
            let mut words = [0; PAGE_WORDS];
            activity::recover(id, pair, [pages[0].as_ref(), pages[1].as_ref()], &mut words);
            hot.extend(words);
        }
        for page in 0..layout.bitmap_pages_used() {
            let mut words = [u64::MAX; PAGE_WORDS];
            if let Some(offset) = layout.bitmap_page(page) {
                let bytes = disk.page(offset, None);
                // Of a bad page all is out of sync, which is what `decode` then says.
                let _ = bitmap::decode(id, page, &bytes, &mut words);
            }
            dirty.extend(words);
        }
        Marks::Disk { hot, dirty }
    }
}
