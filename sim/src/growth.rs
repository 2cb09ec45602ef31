//! Volumes that grow. In some worlds the first volume's disks are small at first, and the operator enlarges
//! them and lets the volume grow.
//!
//! The metadata at the end of the small disk lies on an island of the grown volume (the *scar*), whose sectors no client
//! ever uses: what is left there is nobody's data, but has to become equal on both nodes as all else.

use crate::places::Places;
use crate::plan::VolumePlan;
use crate::stamp::SECTOR;
use crate::trace::letter;
use crate::world::{Time, World};
use replication::api::{Command, Event};
use std::ops::Range;

/// Sectors of an extent of the activity log.
const EXTENT: usize = 8192;
/// Sectors of an island: the metadata of a small disk fits on the half of one, and a page more.
const ISLAND: usize = 64;

/// How a volume begins that will grow.
#[derive(Debug, Clone, Copy)]
pub struct Small {
    /// The island on whose last sector the small disk ends.
    pub scar: usize,
}

impl Small {
    /// Places of a volume of `extents` extents that begins with so many of them, and the beginning.
    #[must_use]
    pub fn of(extents: usize, first: usize) -> (Places, Self) {
        let places = Places::islands(extents - 1, ISLAND, EXTENT);
        (places, Self { scar: first - 1 })
    }
}

impl VolumePlan {
    /// Bytes of the volume at first, and of its disk.
    #[must_use]
    pub fn at_first(&self) -> (u64, u64) {
        let Some(Small { scar }) = self.small else {
            return (self.bytes(), self.disks().0);
        };
        let border = ((scar + 1) * EXTENT) as u64 * SECTOR;
        (border - (1 << 20), border + (ISLAND / 2) as u64 * SECTOR)
    }

    /// Whether a sector of this model lies in the volume before it grows.
    #[must_use]
    pub fn uses_at_first(&self, sector: usize) -> bool {
        (self.places.real(sector) as u64) * SECTOR < self.at_first().0
    }

    /// The sectors of the scar; none if there is none.
    #[must_use]
    pub fn scar(&self) -> Range<usize> {
        self.small
            .map_or(0..0, |small| self.places.island(small.scar))
    }

    /// The islands that clients may use when they were told this size: not the scar.
    #[must_use]
    pub fn ashore(&self, bytes: u64) -> Vec<usize> {
        let scar = self.small.map(|small| small.scar);
        let inside = |island: &usize| {
            let last = self.places.real(self.places.island(*island).end - 1) as u64;
            (last + 1) * SECTOR <= bytes && Some(*island) != scar
        };
        (0..self.places.count()).filter(inside).collect()
    }
}

impl World {
    /// Whether what a sector holds is not judged: a disk lied about it, or it was metadata once.
    pub(crate) fn unjudged(&self, volume: usize, sector: usize) -> bool {
        self.oracle.spoiled[volume].contains(&sector)
            || self.plan.volumes[volume].scar().contains(&sector)
    }

    /// Puts a volume's larger disk into a node. A node that runs notices.
    pub fn enlarge(&mut self, n: usize, volume: usize) {
        let bytes = self.plan.volumes[volume].disks().0;
        if self.nodes[n].disk_bytes[volume] == bytes {
            return;
        }
        self.nodes[n].disk_bytes[volume] = bytes;
        self.trace.line(self.now, letter(n), || {
            format!("vol{volume} has a larger disk")
        });
        if self.nodes[n].runs() {
            let volume = volume as u16;
            self.feed(
                n,
                Event::DiskChanged {
                    volume,
                    metadata: false,
                    size: bytes,
                },
            );
        }
    }

    /// Clients of a node are told a volume's size.
    pub(crate) fn size_told(&mut self, n: usize, volume: usize, size: u64) {
        let Some(plan) = self.plan.volumes.get(volume).copied() else {
            return;
        };
        let rule = "clients are told the volume's size";
        if size != plan.bytes() && size != plan.at_first().0 {
            return self.fail(rule, format!("node {} vol{volume}: {size}", letter(n)));
        }
        let before = std::mem::replace(&mut self.nodes[n].told[volume], size);
        if !self.nodes[n].serving || before == size {
            return;
        }
        if size < before {
            let detail = format!("node {} vol{volume}: {size} after {before}", letter(n));
            return self.fail("clients never see a volume shrink", detail);
        }
        for holder in 0..2 {
            let durable = self.durable_metadata(holder, volume);
            if self.oracle.disk_state(holder, volume)
                >= Some(replication::api::DiskState::Inconsistent)
                && durable.is_some_and(|s| s.layout.volume_bytes < size)
            {
                let detail = format!("node {} vol{volume}: {size}", letter(n));
                self.fail(
                    "clients are told of a size that both nodes have durably",
                    detail,
                );
            }
        }
    }

    /// Whatever has grown so far: in the end all that can has.
    pub(crate) fn grow_all(&mut self, bound: Time) {
        for volume in 0..self.plan.volumes.len() {
            let plan = self.plan.volumes[volume];
            if plan.small.is_none() || self.violation().is_some() {
                continue;
            }
            (0..2).for_each(|n| self.enlarge(n, volume));
            let leader = self.rng.index(2);
            let grow = Command::Resize {
                volume: volume as u16,
                size: None,
                assume_clean: false,
            };
            // A node may be about to be promoted, or to have something else settled.
            let mut answer = self.command(leader, grow);
            for _ in 0..10 {
                if answer.is_err() {
                    self.run_for(self.plan.timers.timeout);
                    answer = self.command(leader, grow);
                }
            }
            if let Err(why) = answer {
                return self.fail("a healthy pair can grow", format!("vol{volume}: {why}"));
            }
            let grown = |w: &mut Self| {
                let told = w.nodes.iter().all(|n| n.told[volume] == plan.bytes());
                told && w.oracle.all_in_sync() && !w.waiting()
            };
            if !self.run_until(bound, grown) && self.violation().is_none() {
                let told = [0, 1].map(|n: usize| self.nodes[n].told[volume]);
                self.fail("a healthy pair can grow", format!("vol{volume}: {told:?}"));
                return;
            }
        }
    }

    /// Whether what a volume would grow by is the same on both nodes, as who says `--assume-clean` vouches for. Metadata in use
    /// there moves and leaves zeroes; remains of a `create-md` that was cut short, before the disk grew, stay.
    pub(crate) fn adds_the_same(&self, volume: usize) -> bool {
        let scar = self.plan.volumes[volume].scar();
        let moves = [0, 1].map(|n: usize| {
            let (at, layout) = self.metadata_now(n, volume);
            let first = (layout.superblock_a / SECTOR) as usize;
            at == volume && scar.contains(&self.nodes[n].disks[volume].number_of(first))
        });
        scar.into_iter().all(|sector| {
            let left = |n: usize| match moves[n] {
                true => 0,
                false => self.nodes[n].disks[volume].current()[sector],
            };
            left(0) == left(1)
        })
    }

    /// At the end: both nodes agree on each volume's size, and what was metadata once is equal, too.
    pub(crate) fn judge_sizes(&mut self) {
        for volume in 0..self.plan.volumes.len() {
            let told = [0, 1].map(|n: usize| self.nodes[n].told[volume]);
            if told[0] != told[1] {
                let detail = format!("vol{volume}: {told:?}");
                self.fail("both nodes agree on a volume's size", detail);
                return;
            }
            let plan = self.plan.volumes[volume];
            if told[0] < plan.bytes() || !self.plan.compares_scars() {
                continue;
            }
            let differs = |sector: &usize| {
                let [a, b] = [0, 1].map(|n: usize| self.nodes[n].disks[volume].current()[*sector]);
                a != b && !self.oracle.spoiled[volume].contains(sector)
            };
            if let Some(sector) = plan.scar().find(differs) {
                let detail = format!("vol{volume} sector {sector}, which was metadata");
                self.fail("what a volume has grown by is equal on both nodes", detail);
                return;
            }
        }
    }
}
