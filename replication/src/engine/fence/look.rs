//! What the fence worker sees of the engine.

use super::super::Engine;
use super::super::congestion::Ahead;
use super::super::volume::Volume;
use crate::api::{DiskState, ReplicationState, Role};
use crate::buf::Mem;
use crate::lineage::JUST_CREATED;
use crate::mutation::{self, Mutation};
use fencing::api::{Disk, Input, View};

fn grade(volume: &Volume) -> Disk {
    match volume.disk {
        // Its beginning was agreed on and may only not have arrived yet.
        _ if volume.replication == ReplicationState::SyncTarget => Disk::Unusable,
        // Nothing is on it that could be lost: the operator may begin with it.
        DiskState::Inconsistent if volume.gens.current == JUST_CREATED => Disk::Outdated,
        DiskState::UpToDate => Disk::UpToDate,
        DiskState::Consistent => Disk::Consistent,
        DiskState::Outdated | DiskState::DUnknown => Disk::Outdated,
        DiskState::Diskless
        | DiskState::Attaching
        | DiskState::Failed
        | DiskState::Negotiating
        | DiskState::Inconsistent => Disk::Unusable,
    }
}

/// Whether both disks of a volume are UpToDate, and stay so.
fn in_sync(volume: &Volume) -> bool {
    volume.mirrored
        && volume.replication.in_sync()
        && volume.disk == DiskState::UpToDate
        && volume.peer_disk == DiskState::UpToDate
        && volume.preparing.is_none()
        && volume.unsynced_from.is_none()
}

/// Whether a Primary's changes stay with it although the peer is connected. The target of a resync, and a peer that was
/// pulled ahead of, know by their own disks that they lack something.
fn lone(volume: &Volume) -> bool {
    volume.good()
        && !volume.mirrored
        && volume.ahead == Ahead::No
        && volume.source.is_none()
        && volume.start_pending.is_none()
        && volume.preparing.is_none()
}

impl Engine {
    fn pair_in_sync(&self) -> bool {
        if mutation::is(Mutation::UnfenceOnConnect) {
            true
        } else if mutation::is(Mutation::UnfencePerVolume) {
            self.volumes.iter().any(in_sync)
        } else {
            self.volumes.iter().all(in_sync)
        }
    }

    fn fence_view(&self, connected: bool) -> View {
        let primary = self.role == Role::Primary || self.fence.promoted.is_some();
        View {
            primary,
            connected,
            connection: self.fence.connection,
            // A peer that is lost may have come to have everything in the last moment, a resync's target too.
            peer_may_be_current: connected || !self.fence.peer_fenced,
            in_sync: connected && self.pair_in_sync(),
            lone: primary
                && connected
                && self.volumes.iter().any(lone)
                && !mutation::is(Mutation::LoneNotFenced),
            elsewhere: primary && self.volumes.iter().any(|v| v.seen().is_some()),
            agreed: if connected && !mutation::is(Mutation::NotVouched) {
                self.fence.agreed
            } else {
                0
            },
            disk: (self.volumes.iter().map(grade).min()).unwrap_or(Disk::Unusable),
        }
    }

    /// Hands the view over if it changed. `connected`: whether there is a connection; it may just be getting lost.
    pub(in crate::engine) fn fence_look(&mut self, connected: bool, mem: &mut Mem<'_>) {
        if self.fence_is_idle() {
            return;
        }
        // What the worker has done because of a view may change the next one, never back again.
        for _ in 0..8 {
            let was = self.fence.view.is_some_and(|view| view.connected);
            self.fence.connection += u64::from(was && !connected);
            if connected {
                self.fence.peer_fenced = false;
            }
            let view = self.fence_view(connected);
            if self.fence.view == Some(view) {
                return;
            }
            self.fence.view = Some(view);
            self.fence_input(Input::View(view), mem);
            let mark = self.fence.status().record.mark;
            if let Some(mark) = mark
                && view.in_sync
                && mutation::is(Mutation::UnfenceOnTarget)
            {
                self.fence_input(Input::ReleaseByHand(mark), mem);
            }
        }
    }
}
