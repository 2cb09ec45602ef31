//! Damage that disks take, or show, by themselves: it must be noticed wherever there is a checksum.

use crate::rng::Rng;
use crate::stamp::SECTOR;
use crate::world::World;
use replication::api::DiskState;
use replication::ondisk::{PAGE, PAGE_WORDS, bitmap};

impl World {
    /// One bit of data or metadata changes. Not while metadata is being written: damage of one copy of the
    /// superblock in the very moment in which the other is rewritten cannot be survived with two copies.
    pub(crate) fn bit_rot(&mut self, n: usize, rng: &mut Rng) {
        let volume = rng.index(self.plan.volumes.len());
        let (meta, layout) = self.metadata_now(n, volume);
        let at = if rng.coin() { meta } else { volume };
        let attached = self.oracle.disk_state(n, volume) >= Some(DiskState::Inconsistent);
        let settled = attached && !self.nodes[n].disks[meta].saving();
        let disk = &mut self.nodes[n].disks[at];
        let data = disk.current().len();
        let all = if settled { disk.sectors() } else { data };
        if all == 0 {
            return;
        }
        let sector = if settled && at == meta && rng.coin() {
            // Superblocks, activity log and bitmap are hit alike, whatever their size.
            let last = layout.superblock_b + PAGE as u64;
            let (from, to) = rng.pick(&[
                (layout.superblock_a, layout.activity),
                (layout.activity, layout.bitmap),
                (layout.bitmap, layout.superblock_b),
                (layout.superblock_b, last),
            ]);
            disk.number_of(rng.range(from / SECTOR, to / SECTOR - 1) as usize)
        } else {
            rng.index(all)
        };
        let copies = [layout.superblock_a, layout.superblock_b];
        let hit = copies.iter().any(|offset| {
            let first = disk.number_of((offset / SECTOR) as usize);
            (first..first + PAGE / SECTOR as usize).contains(&sector)
        });
        if disk.rot(sector, rng.next()) {
            self.spoil(volume, sector..sector + 1);
        }
        if at == meta {
            self.oracle.rotten[n][volume] |= hit;
        }
    }

    /// One bit of a page of marks changes while its node is off, if possible of a page that says something: then all that the page
    /// covers counts as out of sync.
    pub(crate) fn bitmap_rot(&mut self, n: usize, rng: &mut Rng) {
        let mut pages = Vec::new();
        for volume in 0..self.plan.volumes.len() {
            let (meta, _) = self.place_of_metadata(volume);
            let Some(superblock) = self.metadata(n, volume, None) else {
                continue;
            };
            let layout = superblock.layout;
            for page in 0..layout.bitmap_pages_used() {
                let Some(offset) = layout.bitmap_page(page) else {
                    continue;
                };
                let mut words = [0; PAGE_WORDS];
                let bytes = self.nodes[n].disks[meta].page(offset, None);
                let sound = bitmap::decode(superblock.device_id, page, &bytes, &mut words);
                let says = sound.is_ok() && words.iter().any(|word| *word != 0);
                pages.push((says, meta, offset));
            }
        }
        if pages.iter().any(|page| page.0) {
            pages.retain(|page| page.0);
        }
        if pages.is_empty() {
            return;
        }
        let (_, meta, offset) = pages[rng.index(pages.len())];
        let disk = &mut self.nodes[n].disks[meta];
        let sector = (offset + rng.below(PAGE as u64)) / SECTOR;
        disk.rot(disk.number_of(sector as usize), rng.next());
    }

    /// The next read of the activity log or of marks, at an attach, shows something else.
    pub(crate) fn meta_misread(&mut self, n: usize, rng: &mut Rng) {
        let volume = rng.index(self.plan.volumes.len());
        let (meta, layout) = self.metadata_now(n, volume);
        let disk = &mut self.nodes[n].disks[meta];
        let [from, to] = [layout.activity, layout.superblock_b]
            .map(|offset| disk.number_of((offset / SECTOR) as usize));
        disk.trouble.misread = Some((from..to, rng.next()));
    }
}
