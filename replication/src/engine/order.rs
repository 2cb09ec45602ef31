//! Which volumes' resyncs may run: the order of volumes, their number, and what operators have paused.
//!
//! The source decides, by its own configuration; only its own resyncs count for the order, so that two
//! nodes that are each other's source never wait for each other. A pause of either operator holds it. Both
//! sides tell each other: in the handshake, and whenever it changes.

use super::{Engine, text};
use crate::api::{CommandId, EngineConfig, Level, ReplicationState};
use crate::wire::VolumeState;
use alloc::vec::Vec;
use resync::{Need, Order, OrderError, WaitReason};

/// The order that the configuration wants, or why that cannot be and the one without it.
pub(super) fn order_of(config: &EngineConfig) -> (Order, Option<OrderError>) {
    let volumes = config.volumes.iter();
    let wanted: Vec<_> = volumes.map(|v| (v.index, v.resync_after)).collect();
    let limit = config.resync.max_parallel;
    match Order::new(&wanted, limit) {
        Ok(order) => (order, None),
        Err(error) => {
            let free: Vec<_> = wanted.iter().map(|(index, _)| (*index, None)).collect();
            match Order::new(&free, limit) {
                Ok(order) => (order, Some(error)),
                Err(twice) => unreachable!("the volumes are in ascending order: {twice}"),
            }
        }
    }
}

impl Engine {
    /// Tells the order who needs a resync, and the volumes who may run.
    pub(super) fn settle_order(&mut self) {
        let mut changed = false;
        for volume in &self.volumes {
            let need = if volume.source.is_some() {
                Need::Resync
            } else {
                Need::None
            };
            self.order.set_need(volume.config.index, need);
        }
        let now = self.now;
        for volume in &mut self.volumes {
            let may_run = self.order.may_run(volume.config.index);
            let was = core::mem::replace(&mut volume.may_run, may_run);
            if volume.source.is_none() || was == may_run {
                continue;
            }
            changed = true;
            if let Some(progress) = &mut volume.progress {
                progress.set_paused(now, !may_run);
            }
        }
        if changed {
            self.tell_state();
        }
    }

    /// Whether an operator of either node has paused a volume's resync.
    pub(super) fn is_paused(&self, at: usize) -> bool {
        let volume = &self.volumes[at];
        volume.peer_paused || self.order.is_paused_here(volume.config.index)
    }

    /// The peer's operator has paused a volume's resync, or ended that.
    pub(super) fn set_peer_paused(&mut self, at: usize, paused: bool) {
        let volume = &mut self.volumes[at];
        volume.peer_paused = paused;
        self.order.set_paused_on_peer(volume.config.index, paused);
        self.pause_target(at);
    }

    /// On a target, pauses are left out of the rates as on the source.
    pub(super) fn pause_target(&mut self, at: usize) {
        let (now, held) = (self.now, self.target_waits(at).is_some());
        let volume = &mut self.volumes[at];
        if volume.is_target()
            && let Some(progress) = &mut volume.progress
        {
            progress.set_paused(now, held);
        }
    }

    /// Why the resync to this node waits, as far as it was told.
    pub(super) fn target_waits(&self, at: usize) -> Option<WaitReason> {
        let volume = &self.volumes[at];
        if self.order.is_paused_here(volume.config.index) {
            Some(WaitReason::PausedHere)
        } else if volume.peer_paused {
            Some(WaitReason::PausedOnPeer)
        } else if volume.peer_waits {
            Some(WaitReason::SourceWaits)
        } else {
            let uniting =
                volume.disk != crate::api::DiskState::Inconsistent || volume.uniting_target();
            uniting.then_some(WaitReason::Bitmap)
        }
    }

    /// `pause-sync` and `resume-sync`.
    pub(super) fn pause_sync(&mut self, id: CommandId, volume: Option<u16>, paused: bool) {
        let chosen = |index: u16| volume.is_none_or(|one| one == index);
        let mut changed = false;
        let mut held_by_peer = false;
        for at in 0..self.volumes.len() {
            let index = self.volumes[at].config.index;
            if !chosen(index) {
                continue;
            }
            changed |= self.order.is_paused_here(index) != paused;
            self.order.set_paused_here(index, paused);
            held_by_peer |= self.volumes[at].peer_paused;
            self.pause_target(at);
        }
        let said = match (changed, paused) {
            (true, true) => text!("resync paused; 'resume-sync' ends it"),
            (true, false) if held_by_peer => {
                text!(
                    "resumed on this node, but the peer's operator has paused it too: 'resume-sync' there"
                )
            }
            (true, false) => text!("resync resumed"),
            (false, true) => text!("already paused on this node"),
            (false, false) if held_by_peer => {
                let reason = text!(
                    "not paused on this node: the peer's operator has paused it; run 'resume-sync' there"
                );
                return self.done(id, Err(reason));
            }
            (false, false) => text!("not paused"),
        };
        if changed {
            self.settle_order();
            self.tell_state();
            self.log(Level::Info, said.clone());
        }
        self.done(id, Ok(said));
    }

    /// What the peer is told of a volume.
    pub(super) fn volume_state(&self, at: usize) -> VolumeState {
        let volume = &self.volumes[at];
        let index = volume.config.index;
        let paused = self.order.is_paused_here(index);
        VolumeState {
            disk: volume.disk,
            paused,
            waits: volume.source.is_some() && !volume.may_run && !self.is_paused(at),
            verifies: volume.verify.active,
        }
    }
}

impl super::volume::Volume {
    /// Whether this node's marks, as those of a resync's target, are still on their way into the source's.
    pub fn uniting_target(&self) -> bool {
        self.sending.is_some() || self.left_unknown
    }

    /// Whether the peer's blocks come here.
    pub fn is_target(&self) -> bool {
        self.replication == ReplicationState::SyncTarget
    }
}
