//! A node of the model: what is durable, what a crash takes away, and what its client was told.

use super::super::super::{Generations, Side};
use crate::api::DiskState;
use std::vec::Vec;

/// Blocks of the volume.
pub const BLOCKS: usize = 5;
/// All of them, as a mask.
pub const ALL: u8 = (1 << BLOCKS) - 1;

/// A write, by its place in [`Writes`]. 0 is what both disks hold at first.
pub type Version = usize;

#[derive(Debug, Clone, Copy, Default)]
struct Write {
    /// What it overwrote.
    parent: Version,
    /// The client was told that it is done.
    acknowledged: bool,
    /// The client was told that it is durable.
    flushed: bool,
    /// Its Primary, or the last node that was up, lost it in a crash.
    lost: bool,
    /// The operator or a policy gave it up.
    given_up: bool,
}

/// Every write there ever was.
#[derive(Debug)]
pub struct Writes(Vec<Write>);

impl Writes {
    pub fn new() -> Self {
        Self(Vec::from([Write::default()]))
    }

    pub fn add(&mut self, parent: Version) -> Version {
        self.0.push(Write {
            parent,
            ..Write::default()
        });
        self.0.len() - 1
    }

    /// The version and all that it overwrote, newest first.
    fn chain(&self, newest: Version) -> impl Iterator<Item = Version> + '_ {
        core::iter::successors(Some(newest), |at| (*at != 0).then(|| self.0[*at].parent))
    }

    pub fn contains(&self, newest: Version, wanted: Version) -> bool {
        self.chain(newest).any(|at| at == wanted)
    }

    pub fn acknowledge(&mut self, version: Version) {
        self.0[version].acknowledged = true;
    }

    /// A flush was answered while this was what a block held.
    pub fn flush(&mut self, newest: Version) {
        for at in self.chain(newest).collect::<Vec<_>>() {
            let write = &mut self.0[at];
            write.flushed |= write.acknowledged;
        }
    }

    fn required(&self, at: Version) -> bool {
        let write = self.0[at];
        write.acknowledged && !write.given_up && (write.flushed || !write.lost)
    }

    /// The newest write of which a client relies that it is there, if it is not in `other`.
    pub fn missing(&self, newest: Version, other: Version) -> Option<Version> {
        let relied_on = self.chain(newest).find(|at| self.required(*at))?;
        (!self.contains(other, relied_on)).then_some(relied_on)
    }

    /// Everything up to `newest` is given up.
    pub fn give_up_all(&mut self, newest: Version) {
        self.give_up(newest, 0, 0);
    }

    /// What `newest` has and `other` has not is given up, and with it what that branch's flushes promised
    /// beyond the `other_stable` of the one that goes on.
    pub fn give_up(&mut self, newest: Version, other: Version, other_stable: Version) {
        let all = self.chain(newest).collect::<Vec<_>>();
        for at in all {
            self.0[at].given_up |= !self.contains(other, at);
            self.0[at].flushed &= self.contains(other_stable, at);
        }
    }

    /// A block of the last node that counts fell back from `newest` to `kept`. Whether a client was told of any of it.
    pub fn lose(&mut self, newest: Version, kept: Version) -> bool {
        let lost = self.chain(newest).take_while(|at| *at != kept);
        let mut any = false;
        for at in lost.collect::<Vec<_>>() {
            self.0[at].lost = true;
            any |= self.0[at].acknowledged;
        }
        any
    }
}

#[derive(Debug, Clone)]
pub struct Node {
    pub up: bool,
    pub primary: bool,
    /// Changes at every boot.
    pub instance: u32,
    // On the disk, in the superblock.
    pub generations: Generations,
    pub disk: DiskState,
    pub crashed: bool,
    pub was_primary: bool,
    /// Up without a break since it had everything of its generation.
    pub steady: bool,
    /// The dirty bitmap.
    pub dirty: u8,
    /// The activity log.
    pub hot: u8,
    /// What the peer acknowledged and has not flushed; saved with the bitmap.
    pub unflushed: u8,
    /// The part of it that the end of the resync, which was announced, lets the peer flush.
    pub flushing: u8,
    pub peer_instance: u32,
    pub discard: bool,
    pub data: [Version; BLOCKS],
    /// What a power cut leaves at least.
    pub stable: [Version; BLOCKS],
    /// Whether it went on alone since both had the same data.
    pub went_on: bool,
    /// Whether it went on from just created metadata, without the peer's data.
    pub founded: bool,
}

impl Node {
    pub fn new(current: u64, disk: DiskState) -> Self {
        Self {
            up: true,
            primary: false,
            instance: 1,
            generations: Generations {
                current,
                ..Generations::default()
            },
            disk,
            crashed: false,
            was_primary: false,
            steady: true,
            dirty: 0,
            hot: 0,
            unflushed: 0,
            flushing: 0,
            peer_instance: 0,
            discard: false,
            data: [0; BLOCKS],
            stable: [0; BLOCKS],
            went_on: false,
            founded: false,
        }
    }

    pub fn side(&self, first: bool) -> Side {
        let Generations {
            current,
            bitmap,
            history,
        } = self.generations;
        Side {
            left_behind: false,
            current,
            bitmap,
            history,
            dirty: u64::from(self.dirty.count_ones()),
            disk: self.disk,
            primary: self.primary,
            crashed: self.crashed,
            was_primary: self.was_primary,
            steady: self.steady,
            discard: self.discard,
            first,
        }
    }

    pub fn flush(&mut self) {
        self.stable = self.data;
    }

    /// A Secondary without its peer cannot know whether that goes on.
    pub fn doubt(&mut self) {
        if !self.primary && self.disk == DiskState::UpToDate {
            self.disk = DiskState::Consistent;
        }
    }
}
