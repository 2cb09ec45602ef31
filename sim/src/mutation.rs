//! Deliberate faults of the product, made in the pump, to prove that the oracle bites.

use crate::disk::Misdeed;
use crate::world::World;
use replication::api::DiskState;

/// One deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The Secondary acknowledges mirrored writes without making them.
    LoseMirroredWrite,
    /// The Secondary applies overlapping writes in the wrong order.
    ReorderOverlapping,
    /// Flushes are acknowledged and nothing becomes durable.
    LoseFlush,
    /// A sector of one replica changes by itself.
    FlipReplica,
    /// The sync target forgets resynced blocks.
    LoseResyncBlock,
    /// The Secondary writes one sector beside the place.
    Misdirect,
    /// At the arbiter an UNFENCE counts for whatever is held, whatever its number.
    StaleUnfence,
    /// The arbiter forgets whom it granted a fence.
    ForgetfulArbiter,
    /// The Primary reads what was there at the last flush.
    StaleRead,
}

/// All of them, with the name the command line knows.
pub const MUTATIONS: [(&str, Mutation); 9] = [
    ("lose-mirrored-write", Mutation::LoseMirroredWrite),
    ("reorder-overlapping", Mutation::ReorderOverlapping),
    ("lose-flush", Mutation::LoseFlush),
    ("flip-replica", Mutation::FlipReplica),
    ("lose-resync-block", Mutation::LoseResyncBlock),
    ("misdirect", Mutation::Misdirect),
    ("stale-read", Mutation::StaleRead),
    ("fence-stale-unfence", Mutation::StaleUnfence),
    ("fence-forgetful-arbiter", Mutation::ForgetfulArbiter),
];

impl World {
    /// What the disk shall do wrong with the operation that it completes now.
    pub(crate) fn draw_misdeed(&mut self, n: usize, volume: usize) -> Option<Misdeed> {
        let mutation = self.mutation.filter(|_| volume < self.plan.volumes.len())?;
        let target = self.oracle.disk_state(n, volume) == Some(DiskState::Inconsistent);
        let primary = self.oracle.is_primary(n);
        let misdeed = match mutation {
            Mutation::LoseMirroredWrite if !primary && !target => Misdeed::LoseWrite,
            Mutation::ReorderOverlapping if !primary && !target => Misdeed::Reorder,
            Mutation::LoseFlush => Misdeed::LoseFlush,
            Mutation::LoseResyncBlock if target => Misdeed::LoseWrite,
            Mutation::Misdirect if !primary => Misdeed::Misdirect,
            Mutation::StaleRead if primary => Misdeed::StaleRead,
            Mutation::FlipReplica => {
                self.flip(n, volume);
                return None;
            }
            _ => return None,
        };
        self.rng.one_in(5).then_some(misdeed)
    }

    fn flip(&mut self, n: usize, volume: usize) {
        if !self.rng.one_in(50) {
            return;
        }
        let disk = &mut self.nodes[n].disks[volume];
        let sector = self.rng.index(disk.current().len());
        let value = disk.current()[sector];
        // Keep the place, change who wrote it.
        let other = if value == 0 {
            crate::stamp::stamp(0, 1 << 20, volume, sector)
        } else {
            value ^ (1 << 40)
        };
        disk.set(sector, other);
    }
}
