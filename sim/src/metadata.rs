//! A look at the metadata on the simulated disks: not to judge by it, but to know what a fault means.

use crate::stamp::Value;
use crate::world::World;
use replication::ondisk::{Layout, Page, Superblock};

impl World {
    /// Position of the disk that holds a volume's metadata, and where it lies there.
    pub(crate) fn place_of_metadata(&self, volume: usize) -> (usize, Layout) {
        let plan = &self.plan.volumes[volume];
        let (data, external) = plan.disks();
        let (disk, layout) = match external {
            None if plan.small.is_some() => {
                let (bytes, disk) = plan.at_first();
                (volume, Layout::internal(disk, Some(bytes)))
            }
            None => (volume, Layout::internal(data, Some(plan.bytes()))),
            Some(bytes) => (
                self.plan.volumes.len() + volume,
                Layout::external(bytes, plan.bytes()),
            ),
        };
        match layout.and_then(|layout| layout.with_reserve(plan.reserve_bytes())) {
            Ok(layout) => (disk, layout),
            Err(error) => unreachable!("the plan's disks have room: {error}"),
        }
    }

    /// As [`Self::place_of_metadata`], where a node's metadata lies now: a growth moves it, and what was there before
    /// becomes the clients'.
    pub(crate) fn metadata_now(&self, n: usize, volume: usize) -> (usize, Layout) {
        let (disk, first) = self.place_of_metadata(volume);
        let now = self.metadata(n, volume, None);
        (disk, now.map_or(first, |superblock| superblock.layout))
    }

    /// Places of a volume's superblocks: those on the small disk, and those on the larger one.
    pub(crate) fn superblocks(&self, volume: usize) -> Vec<u64> {
        let (_, layout) = self.place_of_metadata(volume);
        let plan = &self.plan.volumes[volume];
        let grown = plan
            .small
            .and_then(|_| Layout::internal(plan.disks().0, None).ok());
        let layouts = std::iter::once(layout).chain(grown);
        layouts
            .flat_map(|layout| [layout.superblock_a, layout.superblock_b])
            .collect()
    }

    /// What an attach would read after a power cut in which nothing unflushed survives.
    pub(crate) fn durable_metadata(&self, n: usize, volume: usize) -> Option<Superblock> {
        let (at, _) = self.place_of_metadata(volume);
        let disk = &self.nodes[n].disks[at];
        let places = self.superblocks(volume).into_iter();
        newest(places.map(|offset| disk.durable_page(offset)))
    }

    /// Whether every copy of the superblock that an attach could have to go by after a power cut in which nothing unflushed
    /// survives satisfies this: whichever of them it cannot read then, what was acted upon must be in the other one. Where
    /// metadata moves only the newest one is asked.
    pub(crate) fn durably(
        &self,
        n: usize,
        volume: usize,
        says: impl Fn(&Superblock) -> bool,
    ) -> bool {
        if self.plan.volumes[volume].small.is_some() {
            return self.durable_metadata(n, volume).is_none_or(|s| says(&s));
        }
        let (at, _) = self.place_of_metadata(volume);
        let disk = &self.nodes[n].disks[at];
        let places = self.superblocks(volume).into_iter();
        let pages = places.map(|offset| disk.durable_page(offset));
        let mut sound = pages.filter_map(|page| Superblock::decode(&page).ok());
        sound.all(|superblock| says(&superblock))
    }

    /// What an attach would read now, or from an old copy of the disk.
    pub(crate) fn metadata(
        &self,
        n: usize,
        volume: usize,
        copies: Option<&[Vec<Value>]>,
    ) -> Option<Superblock> {
        let (at, _) = self.place_of_metadata(volume);
        let disk = &self.nodes[n].disks[at];
        let copy = copies.map(|copies| copies[at].as_slice());
        let places = self.superblocks(volume).into_iter();
        newest(places.map(|offset| disk.page(offset, copy)))
    }
}

/// The newest sound copy. (The engine's own choice is not asked: it may be what is wrong.)
fn newest(pages: impl Iterator<Item = Page>) -> Option<Superblock> {
    let sound = pages.filter_map(|page| Superblock::decode(&page).ok());
    sound.max_by_key(|s| s.sequence)
}
