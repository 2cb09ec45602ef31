//! What must hold after every step, for the tests and the simulator.

use super::Engine;
use super::slots::{Local, Op, Owner, Remote, SlotId};
use crate::api::{ConnectionState, DiskState, MAX_VOLUMES, ReplicationState, Role};

impl Engine {
    /// Checks what one node can check of the invariants in docs/ARCHITECTURE.md. It looks at every
    /// slot, so it is for tests.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check_invariants(&self) {
        self.check_roles();
        self.check_data();
        self.check_slots();
    }

    /// Whether this node would copy the block at `offset` to its peer, or ask for it, if they met anew: it is
    /// marked, or a request on it is under way, or the peer acknowledged one that it may not have flushed. It looks at every slot, so it is
    /// for tests. `volume` is the position, `offset` in bytes.
    #[must_use]
    pub fn may_differ(&self, volume: usize, offset: u64) -> bool {
        let Some(known) = self.volumes.get(volume) else {
            return false;
        };
        let marked = known.dirty.is_set(offset / resync::BLOCK);
        let unflushed = known
            .meta
            .as_ref()
            .is_some_and(|meta| meta.unflushed.overlaps(offset..offset + 1));
        marked || unflushed || self.under_way(volume, offset)
    }

    /// Whether a request that changes the byte at `offset` has not come to its end. It looks at every slot, so it is for
    /// tests. `volume` is the position.
    #[must_use]
    pub fn under_way(&self, volume: usize, offset: u64) -> bool {
        let covers = |id| {
            self.slots.get(id).is_some_and(|slot| {
                let range = slot.offset..slot.offset + u64::from(slot.len);
                slot.volume == volume && slot.changes_data() && range.contains(&offset)
            })
        };
        (0..self.slots.capacity() as SlotId).any(covers)
    }

    /// At most one node acknowledges writes.
    fn check_roles(&self) {
        assert!(
            !self.serving || self.role == Role::Primary,
            "serves but is not Primary"
        );
        let both = self.role == Role::Primary && self.peer_role == Role::Primary;
        assert!(!both, "both nodes are Primary over a live connection");
    }

    /// Whether the peer's lost disk is heard of, and what came before that is not done yet.
    fn is_asked_to_stand_in(&self, index: u16) -> bool {
        let mut slots = (0..self.slots.capacity() as SlotId).filter_map(|id| self.slots.get(id));
        slots.any(|slot| {
            let ours = self.volumes[slot.volume].config.index == index;
            ours && slot.owner == Owner::Peer && matches!(slot.op, Op::DiskLost { .. })
        })
    }

    fn check_data(&self) {
        for volume in &self.volumes {
            let index = volume.config.index;
            let through = &volume.through;
            assert!(
                !through.on
                    || (self.role == Role::Primary
                        && !volume.good()
                        && volume.peer_disk == DiskState::UpToDate
                        && self.link.state == ConnectionState::Connected),
                "vol{index}: served from a peer that has nothing to serve from"
            );
            assert!(
                !through.telling || through.on,
                "vol{index}: waits for the word of nobody"
            );
            assert!(
                !through.for_peer
                    || (self.role == Role::Secondary
                        && (volume.gens.bitmap != 0 || self.is_asked_to_stand_in(index))),
                "vol{index}: serves the peer's clients without counting what its disk lacks"
            );
            assert!(
                volume.good() || !volume.mirrored || self.role != Role::Primary,
                "vol{index}: a Primary mirrors from a disk that is not good"
            );
            let alone = self.link.state != ConnectionState::Connected;
            assert!(
                !(alone && self.role == Role::Secondary && volume.disk == DiskState::UpToDate),
                "vol{index}: a Secondary without its peer calls itself UpToDate"
            );
            let online = volume.replication != ReplicationState::Off;
            assert!(
                online || !volume.mirrored,
                "vol{index}: writes are mirrored without a connection"
            );
            assert_eq!(
                volume.source.is_some(),
                volume.replication == ReplicationState::SyncSource,
                "vol{index}: resync state"
            );
            // What the volume has just grown by is about to be brought in sync.
            let new = volume.unsynced_from.unwrap_or(volume.size);
            let marked = volume.dirty.count() - volume.dirty.count_range(new, volume.size - new);
            assert!(
                volume.offered <= volume.size,
                "vol{index}: clients were told too large a size"
            );
            let in_sync = volume.mirrored && volume.replication == ReplicationState::Established;
            assert!(
                !in_sync || (marked == 0 && volume.disk == DiskState::UpToDate),
                "vol{index}: called in sync with blocks marked out of sync"
            );
            assert!(
                self.role != Role::Primary || !volume.good() || volume.gens.current != 0,
                "vol{index}: a Primary without a generation"
            );
            assert!(
                self.role != Role::Primary
                    || volume.mirrored
                    || !volume.gens.peer_may_have_current()
                    || volume.disk != DiskState::UpToDate
                    || self.nothing_comes(),
                "vol{index}: goes on without the peer in the peer's generation"
            );
        }
    }

    fn check_slots(&self) {
        let (mut clients, mut peers, mut resyncs, mut metas, mut sent, mut orphans) =
            (0, 0, 0, 0, 0, 0);
        let (mut abandoned, mut olds) = (0, 0);
        let mut ops = [0; MAX_VOLUMES];
        for id in 0..self.slots.capacity() as SlotId {
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            match slot.owner {
                Owner::Client => clients += 1,
                Owner::Peer => peers += 1,
                Owner::Resync => resyncs += 1,
                Owner::Meta => metas += 1,
                Owner::Old => olds += 1,
                Owner::Abandoned => abandoned += 1,
            }
            ops[slot.volume] += u32::from(slot.at_disk);
            let volume = &self.volumes[slot.volume];
            let begins = slot.local == Local::Disk && slot.at_disk;
            assert!(
                slot.local != Local::Disk || begins,
                "a slot waits for a disk that has not its number"
            );
            let reads = slot.owner == Owner::Client && slot.op == Op::Read && begins;
            assert!(
                !reads || volume.good() || !volume.usable() || !self.serving,
                "a client reads from a disk that is not good"
            );
            sent += usize::from(slot.remote == Remote::Sent);
            orphans += usize::from(slot.orphan);
        }
        assert_eq!(
            (clients, peers, resyncs, metas, sent, orphans),
            (
                self.clients_live,
                self.peers_live,
                self.resyncs_live,
                self.metas_live,
                self.link.outstanding,
                self.orphans
            ),
            "slots: clients, peer, resync, metadata, unanswered, orphans"
        );
        assert_eq!(
            (self.slots.live(), self.abandoned, self.olds_live),
            (
                clients + peers + resyncs + metas + olds + abandoned,
                abandoned,
                olds
            ),
            "slots in use, those abandoned, reads of old content"
        );
        for (volume, slots) in self.volumes.iter().zip(ops) {
            let lanes = volume.lane_since.iter().flatten().count() as u32;
            let flush = u32::from(volume.flush.busy);
            assert_eq!(
                volume.ops,
                slots + lanes + flush,
                "vol{}: operations at the disk",
                volume.config.index
            );
        }
    }
}
