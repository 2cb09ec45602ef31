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
            None => (volume, Layout::internal(data, Some(plan.bytes()))),
            Some(bytes) => (
                self.plan.volumes.len() + volume,
                Layout::external(bytes, plan.bytes()),
            ),
        };
        match layout {
            Ok(layout) => (disk, layout),
            Err(error) => unreachable!("the plan's disks have room: {error}"),
        }
    }

    /// What an attach would read after a power cut in which nothing unflushed survives.
    pub(crate) fn durable_metadata(&self, n: usize, volume: usize) -> Option<Superblock> {
        let (at, layout) = self.place_of_metadata(volume);
        let disk = &self.nodes[n].disks[at];
        let pages = [layout.superblock_a, layout.superblock_b];
        newest(pages.map(|offset| disk.durable_page(offset)))
    }

    /// What an attach would read now, or from an old copy of the disk.
    pub(crate) fn metadata(
        &self,
        n: usize,
        volume: usize,
        copies: Option<&[Vec<Value>]>,
    ) -> Option<Superblock> {
        let (at, layout) = self.place_of_metadata(volume);
        let disk = &self.nodes[n].disks[at];
        let copy = copies.map(|copies| copies[at].as_slice());
        let pages = [layout.superblock_a, layout.superblock_b];
        newest(pages.map(|offset| disk.page(offset, copy)))
    }
}

/// The newest sound copy. (The engine's own choice is not asked: it may be what is wrong.)
fn newest(pages: [Page; 2]) -> Option<Superblock> {
    let sound = pages
        .iter()
        .filter_map(|page| Superblock::decode(page).ok());
    sound.max_by_key(|s| s.sequence)
}
