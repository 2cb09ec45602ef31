//! What happens when more is on its way to the peer than the link takes (DRBD's `on-congestion`).
//!
//! - *Block*: no more writes are answered early than the limits allow, so clients wait for the peer.
//! - *Disconnect*: the connection is dropped; the Primary goes on alone, and a resync follows when it is back.
//! - *Pull ahead* (protocol A): this node becomes Ahead, the peer Behind. Writes are marked out of sync instead of
//!   sent, and copied by a resync over the same connection some time after everything that was on its way has
//!   been acknowledged.
//!
//! All volumes that are mirrored are pulled ahead together: they have one order of writes. Before the first write is
//! answered that the peer will not get, the peer is durably Outdated (or still Inconsistent), so that it is never
//! taken for something that lags by no more than the limits; and this node is in a new generation, as
//! when it goes on without its peer. That word to the peer comes behind what is on its way, and until it is
//! acknowledged writes wait.

use super::link::Next;
use super::slots::{Op, Owner, Remote, SlotId};
use super::{Engine, text};
use crate::api::{DiskState, Level, Micros, OnCongestion, Protocol, ReplicationState, Role};
use crate::buf::Mem;
use crate::mutation::{self, Mutation};
use crate::wire::Frame;

/// How long a volume stays ahead at first, and at most if its resync is congested again and again.
const PAUSE: Micros = 500_000;
const PAUSE_MAX: Micros = 16_000_000;
/// What is on its way is looked at again after so long.
const LOOK: Micros = 20_000;

/// How far a volume was pulled ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    No,
    /// The peer was told; what it did not hear yet waits.
    Telling,
    /// Since the peer knows; not resynced before.
    Until(Micros),
}

impl Engine {
    /// Bytes that may be on their way to the peer.
    pub(super) fn fill_limit(&self, mem: &Mem<'_>) -> u64 {
        (mem.total_bytes() / 2).min(self.config.mirroring.congestion_fill)
    }

    /// Requests that may be answered and not acknowledged.
    pub(super) fn lag_limit(&self) -> u32 {
        u32::from(self.config.max_requests) / 4 * 3
    }

    /// Whether a client's change may be sent now. If the way to the peer is congested, what the policy says is done.
    pub(super) fn uncongested(&mut self, at: usize, len: u32, mem: &mut Mem<'_>) -> bool {
        if self.volumes[at].ahead == Ahead::Telling {
            return false;
        }
        let mirroring = self.config.mirroring;
        if mirroring.on_congestion == OnCongestion::Block || self.epochs.flying == 0 {
            return true;
        }
        let (bytes, fill) = (self.epochs.flying, self.fill_limit(mem));
        let extents = self.volumes[at].meta.as_ref();
        let extents = extents.map_or(0, |meta| meta.log.figures().busy);
        let congested = bytes + u64::from(len) > fill
            || self.lag().requests >= self.lag_limit()
            || mirroring
                .congestion_extents
                .is_some_and(|most| extents > most);
        if !congested {
            return true;
        }
        let said = text!(
            "{bytes} bytes in {extents} extents of the activity log are on their way to the peer (on-congestion)"
        );
        match mirroring.on_congestion {
            OnCongestion::PullAhead if mirroring.protocol == Protocol::A => {
                self.pull_ahead(&said, mem)
            }
            OnCongestion::Disconnect => {
                self.complain(Level::Warn, text!("the peer is left: {said}"));
                self.close_link(Next::RetrySlowly);
                false
            }
            OnCongestion::PullAhead | OnCongestion::Block => true,
        }
    }

    /// Pulls every volume ahead that is mirrored, if none is at a point where that cannot be. Answers whether the
    /// change that led to this may be sent after all.
    fn pull_ahead(&mut self, why: &str, mem: &mut Mem<'_>) -> bool {
        let settled = |v: &super::volume::Volume| {
            let source = v.source.as_ref();
            v.start_pending.is_none()
                && v.preparing.is_none()
                && source.is_none_or(|s| s.uniting.is_none() && !s.ending)
        };
        if !self.volumes.iter().filter(|v| v.mirrored).all(settled) {
            return true;
        }
        self.log(Level::Warn, text!("pulls ahead of the peer: {why}"));
        self.end_epoch();
        for at in 0..self.volumes.len() {
            let volume = &mut self.volumes[at];
            if !volume.mirrored {
                continue;
            }
            volume.ahead_pause = match volume.source {
                Some(_) => (2 * volume.ahead_pause).clamp(PAUSE, PAUSE_MAX),
                None => PAUSE,
            };
            volume.end_sync();
            volume.ahead = Ahead::Telling;
            volume.replication = ReplicationState::Ahead;
            let index = volume.config.index;
            let request = self.tell_peer(at, Op::Ahead);
            self.send(Frame::Ahead {
                volume: index,
                request,
            });
            if mutation::is(Mutation::AheadUntold) {
                self.is_ahead(at, mem);
            }
        }
        self.tell_state();
        false
    }

    /// The peer is durably Outdated, or Inconsistent: what follows it will not get.
    pub(super) fn is_ahead(&mut self, at: usize, mem: &mut Mem<'_>) {
        let until = self.now + self.volumes[at].ahead_pause;
        let volume = &mut self.volumes[at];
        if volume.ahead != Ahead::Telling {
            return;
        }
        volume.ahead = Ahead::Until(until);
        volume.mirrored = false;
        volume.peer_disk = volume.peer_disk.min(DiskState::Outdated);
        self.ensure_generation(at, mem);
        self.save(at, mem);
        self.release_stalled_all();
    }

    /// On the Secondary: its Primary goes ahead.
    pub(super) fn left_behind_by(&mut self, index: u16, request: u64, mem: &mut Mem<'_>) {
        let Some(at) = self.volume_by_index(index) else {
            return self.protocol_error("a volume that nobody knows is left behind");
        };
        let volume = &mut self.volumes[at];
        let target = volume.replication == ReplicationState::SyncTarget
            && volume.disk == DiskState::Inconsistent;
        if !volume.usable() {
            return self.send(Frame::Nack { request });
        }
        if self.role == Role::Primary || !(target || volume.mirrored) {
            return self.protocol_error("a volume is left behind that was not mirrored");
        }
        volume.end_sync();
        volume.mirrored = false;
        volume.replication = ReplicationState::Behind;
        volume.disk = volume.disk.min(DiskState::Outdated);
        volume.steady = false;
        volume.through.owed = Some(request);
        self.tell_state();
        self.save(at, mem);
        self.pay(at);
    }

    /// When a volume that is ahead is looked at.
    pub(super) fn ahead_deadline(&self) -> Option<Micros> {
        let due = self.volumes.iter().filter_map(|v| match v.ahead {
            Ahead::Until(due) => Some(due),
            Ahead::No | Ahead::Telling => None,
        });
        due.min()
    }

    /// Brings the peer in sync again where what was on its way has arrived.
    pub(super) fn check_ahead(&mut self, mem: &mut Mem<'_>) {
        if self.ahead_deadline().is_none_or(|due| due > self.now) {
            return;
        }
        for at in 0..self.volumes.len() {
            match self.volumes[at].ahead {
                Ahead::Until(due) if due <= self.now => {}
                _ => continue,
            }
            let sent = |id: SlotId| {
                self.slots.get(id).is_some_and(|s| {
                    s.volume == at && (s.remote == Remote::Sent || s.owner == Owner::Resync)
                })
            };
            let busy = (0..self.slots.capacity() as SlotId).any(sent);
            if busy || self.volumes[at].saving() || !self.connected() {
                self.volumes[at].ahead = Ahead::Until(self.now + LOOK);
            } else {
                self.catch_up(at, mem);
            }
        }
    }

    fn catch_up(&mut self, at: usize, mem: &mut Mem<'_>) {
        let fresh = self.random();
        let volume = &mut self.volumes[at];
        volume.ahead = Ahead::No;
        let (index, unite) = (volume.config.index, volume.peer_marks);
        let theirs = if volume.gens.bitmap == 0 {
            volume.gens.current
        } else {
            volume.gens.bitmap
        };
        let uuid = volume.gens.begin_source(theirs, false, fresh);
        let bytes = volume.dirty.dirty_bytes();
        self.begin_source(at, uuid, unite);
        self.log(
            Level::Info,
            text!("vol{index}: the way to the peer is free again: resync of {bytes} bytes"),
        );
        self.save(at, mem);
        self.send_sync_start(at);
    }
}
