//! What must hold after every step, for the tests and the simulator.

use super::Engine;
use super::slots::{Owner, Remote, SlotId};
use crate::api::{ConnectionState, DiskState, ReplicationState, Role};

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

    /// At most one node acknowledges writes.
    fn check_roles(&self) {
        assert!(
            !self.serving || self.role == Role::Primary,
            "serves but is not Primary"
        );
        let both = self.role == Role::Primary && self.peer_role == Role::Primary;
        assert!(!both, "both nodes are Primary over a live connection");
    }

    fn check_data(&self) {
        for volume in &self.volumes {
            let index = volume.config.index;
            let unfinished = volume.disk == DiskState::Inconsistent;
            assert!(
                !(unfinished && self.role == Role::Primary),
                "vol{index}: a sync target was promoted"
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
            let in_sync = volume.mirrored && volume.replication == ReplicationState::Established;
            assert!(
                !in_sync || (volume.dirty.count() == 0 && volume.disk == DiskState::UpToDate),
                "vol{index}: called in sync with blocks marked out of sync"
            );
            assert!(
                self.role != Role::Primary || !volume.usable() || volume.gens.current != 0,
                "vol{index}: a Primary without a generation"
            );
            assert!(
                self.role != Role::Primary
                    || volume.mirrored
                    || !volume.gens.peer_may_have_current()
                    || volume.disk != DiskState::UpToDate,
                "vol{index}: goes on without the peer in the peer's generation"
            );
        }
    }

    fn check_slots(&self) {
        let (mut clients, mut peers, mut resyncs, mut metas, mut sent, mut orphans) =
            (0, 0, 0, 0, 0, 0);
        for id in 0..self.slots.capacity() as SlotId {
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            match slot.owner {
                Owner::Client => clients += 1,
                Owner::Peer => peers += 1,
                Owner::Resync => resyncs += 1,
                Owner::Meta => metas += 1,
            }
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
            self.slots.live(),
            clients + peers + resyncs + metas,
            "slots in use"
        );
    }
}
