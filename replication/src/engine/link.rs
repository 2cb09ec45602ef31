//! The connection to the peer: opening, heartbeats, loss.
//!
//! ```text
//! StandAlone --connect--> Connecting --LinkUp--> Handshake --both sides told--> Connected
//!      ^                  ^    |                     |                              |
//!      |                  |    +-----LinkDown--------+-----------LinkDown-----------+
//!      |                  +--retry_at-- Unconnected <--(a connection still wanted)--+
//!      +-----------------------(disconnect, or a refusal for the operator)----------+
//! ```
//!
//! The engine never acts on a loss it only suspects: it asks for [`Action::CloseLink`] and cleans
//! up when [`Event::LinkDown`] arrives, because until then payloads are still being read.
//!
//! [`Action::CloseLink`]: crate::api::Action::CloseLink
//! [`Event::LinkDown`]: crate::api::Event::LinkDown

use super::dry_run::DryRun;
use super::slots::{Compare, List, Local, Op, Owner, Remote, SlotId};
use super::{Engine, Queued, text};
use crate::api::{
    ConnectionState, DiskState, Level, LinkDownReason, MAX_VOLUMES, Micros, Protocol,
    ReplicationState, Role, Text,
};
use crate::buf::Mem;
use crate::mutation::{self, Mutation};
use crate::wire::{Hello, HelloVolume};

/// What comes after the connection that is being closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Try again at once: this side wants to negotiate anew.
    Reopen,
    /// Try again after the connect interval.
    Retry,
    /// Try again, but not soon: a mistake in a configuration must be repaired first.
    RetrySlowly,
    /// Wait for the operator.
    StandAlone,
}

/// Longer pauses between attempts while the peer is misconfigured.
const SLOW: Micros = 4;

#[derive(Debug)]
pub(super) struct Link {
    pub state: ConnectionState,
    /// TCP stands (until the link-down event, even when closing).
    pub up: bool,
    pub closing: bool,
    pub next: Next,
    /// Why all is not well; shown in the status, logged when it changes.
    pub reason: Text,
    pub hello_sent: bool,
    /// When this side, having told all, no longer waits for the other's part.
    pub handshake_until: Micros,
    pub nonce: u64,
    /// What a connection would lead to is asked, not wanted.
    pub dry_run: Option<DryRun>,
    /// The handshake told the peer so.
    pub told_dry: bool,
    /// Role and willingness to give data up, as the handshake told the peer.
    pub told: (Role, bool),
    pub peer_hello: Option<Hello>,
    pub peer_volumes: heapless::Vec<HelloVolume, MAX_VOLUMES>,
    /// A refusal was sent; hang up then unless the peer does.
    pub refused_until: Option<Micros>,
    pub discard_my_data: bool,
    /// It was given up because both nodes are Primary, and may be taken up when this one is fenced.
    pub yields: bool,
    pub last_received: Micros,
    pub last_ping: Micros,
    /// Since when a command waits for a sign of life.
    pub probe: Option<Micros>,
    pub retry_at: Option<Micros>,
    /// Requests that the peer lets us have unanswered, and those that are.
    pub window: usize,
    pub outstanding: usize,
    /// When the peer last answered a request, or the first unanswered one was sent.
    pub last_progress: Micros,
}

impl Link {
    pub fn new() -> Self {
        Self {
            state: ConnectionState::Unconnected,
            up: false,
            closing: false,
            next: Next::Retry,
            reason: Text::new(),
            hello_sent: false,
            handshake_until: 0,
            nonce: 0,
            dry_run: None,
            told_dry: false,
            told: (Role::Secondary, false),
            peer_hello: None,
            peer_volumes: heapless::Vec::new(),
            refused_until: None,
            discard_my_data: false,
            yields: false,
            last_received: 0,
            last_ping: 0,
            probe: None,
            retry_at: None,
            window: 0,
            outstanding: 0,
            last_progress: 0,
        }
    }

    pub fn in_handshake(&self) -> bool {
        self.state == ConnectionState::Handshake
    }
}

impl Engine {
    pub(super) fn connected(&self) -> bool {
        self.link.state == ConnectionState::Connected && !self.link.closing
    }

    pub(super) fn open_link(&mut self) {
        self.link.state = ConnectionState::Connecting;
        self.link.yields = false;
        self.link.next = Next::Retry;
        self.link.retry_at = None;
        self.queue.push(Queued::OpenLink);
    }

    /// A Primary that was paused, or cut off, is none any more because its successor fences it: it follows that.
    pub(super) fn follow_successor(&mut self) {
        if !self.link.yields || self.fence.is_saving() {
            return;
        }
        self.link.yields = false;
        if !self.is_fenced() {
            return;
        }
        if self.link.closing {
            self.link.next = Next::Reopen;
            if self.link.state == ConnectionState::StandAlone {
                self.link.state = ConnectionState::Unconnected;
            }
        } else if self.link.state == ConnectionState::StandAlone {
            self.open_link();
        }
    }

    /// Neither dials nor accepts any more.
    pub(super) fn stand_alone(&mut self) {
        self.link.state = ConnectionState::StandAlone;
        self.link.retry_at = None;
        self.link.discard_my_data = false;
        self.queue.push(Queued::CloseLink);
    }

    /// Asks for the connection to be dropped; `next` follows when it is.
    pub(super) fn close_link(&mut self, next: Next) {
        self.link.next = next;
        if self.link.up && !self.link.closing {
            self.link.closing = true;
            self.queue.push(Queued::CloseLink);
        }
    }

    /// Drops the connection in order to negotiate anew.
    pub(super) fn reopen_link(&mut self) {
        self.close_link(Next::Reopen);
    }

    /// Records why things are not well, and logs it unless it is known already.
    pub(super) fn complain(&mut self, level: Level, reason: Text) {
        if self.link.reason != reason {
            self.log(level, reason.clone());
            self.link.reason = reason;
        }
    }

    /// The peer does not keep to the protocol.
    pub(super) fn protocol_error(&mut self, what: &str) {
        self.complain(
            Level::Error,
            text!(
                "the peer broke the protocol: {what}; check that both nodes run the same release"
            ),
        );
        self.close_link(Next::RetrySlowly);
    }

    pub(super) fn link_up(&mut self) {
        self.link.up = true;
        self.link.closing = false;
        self.link.hello_sent = false;
        self.link.told_dry = false;
        self.link.peer_hello = None;
        self.link.peer_volumes.clear();
        self.link.refused_until = None;
        self.link.probe = None;
        self.link.retry_at = None;
        self.link.last_received = self.now;
        self.link.last_ping = self.now;
        if self.link.state == ConnectionState::StandAlone {
            self.close_link(Next::StandAlone);
            return;
        }
        self.link.next = Next::Retry;
        self.link.state = ConnectionState::Handshake;
    }

    pub(super) fn link_down(&mut self, why: LinkDownReason, pool: &mut Mem<'_>) {
        let was = self.link.state;
        let mut failed = self.dry_run_over().then_some(Next::StandAlone);
        self.link.up = false;
        self.link.closing = false;
        self.link.refused_until = None;
        self.link.probe = None;
        if why == LinkDownReason::Garbage {
            self.complain(
                Level::Error,
                text!(
                    "what answers at the peer's address does not speak this protocol: check the address and that both nodes run the same release"
                ),
            );
            self.link.next = Next::RetrySlowly;
            let reason = self.link.reason.clone();
            failed = self.fail_dry_run(reason);
        }
        if let LinkDownReason::Refused(refusal) = why {
            self.complain(Level::Error, text!("{refusal}"));
            self.link.next = Next::RetrySlowly;
            failed = self.fail_dry_run(text!("{refusal}"));
        }
        if was == ConnectionState::Connected {
            self.peer_lost(pool);
            if self.link.next == Next::Retry {
                // A connection that worked is worth an attempt at once.
                self.link.next = Next::Reopen;
            }
        }
        if let Some(next) = failed.filter(|_| self.link.next != Next::Reopen) {
            self.link.next = next;
        }
        self.link.peer_hello = None;
        self.link.peer_volumes.clear();
        let pause = match self.link.next {
            _ if was == ConnectionState::StandAlone => return,
            Next::StandAlone => return self.stand_alone(),
            Next::Reopen => return self.open_link(),
            Next::Retry => 1,
            Next::RetrySlowly => SLOW,
        };
        self.link.next = Next::Retry;
        self.link.state = ConnectionState::Unconnected;
        self.link.retry_at = Some(self.now + pause * self.config.timers.connect_interval);
    }

    /// A working connection is gone: the Primary goes on, the Secondary no longer knows.
    fn peer_lost(&mut self, pool: &mut Mem<'_>) {
        self.log(
            Level::Warn,
            text!("connection to peer {} lost", self.config.peer),
        );
        // Before anything is begun that only a node that goes on alone may begin.
        self.fence_look(false, pool);
        // What a Primary's clients were told may not have come. By protocol B it has, and is done yet.
        let lags = self.config.mirroring.protocol == Protocol::A
            && self.peer_role == Role::Primary
            && !mutation::is(Mutation::LaggingIsSteady);
        self.auto.peer_lost(self.peer_role);
        self.notify_lost();
        self.peer_role = Role::Unknown;
        self.granted = false;
        self.generation_taken = None;
        self.promotion_waits = None;
        self.link.outstanding = 0;
        self.epochs_lost();
        self.controller.link_lost();
        let peer_disk = self.lost_peer_disk();
        for at in 0..self.volumes.len() {
            let primary = self.role == Role::Primary;
            let volume = &mut self.volumes[at];
            volume.stop_verify("the connection was lost");
            volume.end_sync();
            volume.was_primary = primary;
            volume.steady &= primary || !lags;
            if let Some(meta) = &mut volume.meta {
                meta.unflushed.lost();
            }
            volume.replication = ReplicationState::Off;
            volume.mirrored = false;
            volume.peer_disk = peer_disk;
            volume.through.for_peer = false;
            volume.through.owed = None;
            if !primary {
                volume.doubt();
            }
            self.stop_following(at);
            self.ensure_generation(at, pool);
        }
        let lost = "the connection to the peer was lost meanwhile; see 'status' and try again";
        for at in 0..self.volumes.len() {
            self.stop_detaching(at, lost, pool);
        }
        self.link_lost_slots(pool);
        for at in 0..self.volumes.len() {
            self.leave_through(at, pool);
        }
        self.release_stalled_all();
        self.fail_link_task();
    }

    /// What was sent will not be answered, and what the peer asked need not be.
    fn link_lost_slots(&mut self, pool: &mut Mem<'_>) {
        let primary = self.role == Role::Primary;
        for id in 0..self.slots.capacity() as SlotId {
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            let (owner, local, sent) = (slot.owner, slot.local, slot.remote != Remote::None);
            if matches!(owner, Owner::Abandoned | Owner::Old) {
                continue;
            } else if owner == Owner::Client {
                if sent {
                    // Even an answered one: its local half may still fail, and what the peer has it may lose.
                    let slot = self.slots.at(id);
                    slot.remote = Remote::None;
                    slot.acked = false;
                    if slot.local == Local::AfterPeer {
                        slot.local = Local::Failed;
                    }
                    if slot.changes_data() && !mutation::is(Mutation::InFlightNotMarked) {
                        let (at, offset, len) = (slot.volume, slot.offset, slot.len);
                        self.volumes[at].mark_dirty(offset, u64::from(len));
                    }
                }
            } else if owner == Owner::Meta {
                self.slots.at(id).remote = Remote::Done;
            } else if !slot.orphan {
                self.orphans += 1;
                let outlives = self.outlives_link(slot);
                let slot = self.slots.at(id);
                slot.outlives = outlives;
                slot.orphan = true;
                slot.remote = Remote::None;
                if !outlives && primary && self.overlaps.is_blocked(id) {
                    // It waits for a client's request, which may wait for the very connection that waits for it.
                    self.slots.at(id).local = Local::Done;
                    self.finish_if_done(id, pool);
                    continue;
                }
            }
            let ends = matches!(local, Local::Done | Local::Failed | Local::AfterPeer);
            if ends && (sent || !matches!(owner, Owner::Client | Owner::Meta)) {
                self.finish_if_done(id, pool);
            }
        }
    }

    pub(super) fn release_stalled_all(&mut self) {
        let mut stalled = core::mem::replace(&mut self.stalled, List::EMPTY);
        while let Some(id) = self.slots.pop(&mut stalled) {
            self.slots.push(&mut self.ready, id);
        }
    }

    /// The acknowledgement of a slot, or its refusal by the peer's disk.
    pub(super) fn answered(&mut self, wire: u64, ok: bool, pool: &mut Mem<'_>) {
        let found = self.slots.by_wire_id(wire).filter(|id| {
            self.slots
                .get(*id)
                .is_some_and(|s| s.remote == Remote::Sent)
        });
        let Some(id) = found else {
            if mutation::is(Mutation::AcceptStaleAck) {
                return;
            }
            return self.protocol_error("an answer to nothing that was asked");
        };
        let slot = self.slots.at(id);
        let reads = slot.owner == Owner::Client && slot.op == Op::Read;
        if (reads && ok) || (slot.owner == Owner::Peer && !ok) {
            return self.protocol_error("an answer that does not fit what was asked");
        }
        if ok && slot.compare == Compare::Asked {
            return self.protocol_error("a comparison that was only acknowledged");
        }
        self.link.outstanding -= 1;
        self.link.last_progress = self.now;
        let slot = self.slots.at(id);
        slot.remote = Remote::Done;
        slot.acked = ok;
        self.leaves_epoch(id);
        let slot = self.slots.at(id);
        let after = slot.local == Local::AfterPeer;
        let (owner, op, at) = (slot.owner, slot.op, slot.volume);
        let (offset, len, fua) = (slot.offset, u64::from(slot.len), slot.fua_there);
        let tracked = core::mem::take(&mut slot.tracked);
        let took = self.now.saturating_sub(slot.sent);
        let volume = &mut self.volumes[at];
        if owner == Owner::Client {
            volume.latencies.peer.record(took);
        }
        if tracked && ok {
            volume.peer_flushed();
        } else if tracked && let Some(meta) = &mut volume.meta {
            meta.unflushed.lost();
        } else if ok && !fua && owner == Owner::Client && op != Op::Flush {
            volume.through.there.written();
            if let Some(meta) = &mut volume.meta {
                meta.acknowledged(offset, len);
            }
        }
        if ok && owner == Owner::Meta {
            self.told(at, op, pool);
        }
        if after && ok && self.volumes[at].usable() {
            self.start_local(id, pool);
        } else if after {
            self.slots.at(id).local = Local::Failed;
        }
        if !ok && !reads {
            if op != Op::Flush {
                self.volumes[at].mark_dirty(offset, len);
            }
            if owner == Owner::Resync {
                self.slots.at(id).local = Local::Failed;
            }
            self.peer_disk_failed(at, pool);
        }
        if !ok || !self.part_copied(id, pool) {
            self.finish_if_done(id, pool);
        }
        self.release_stalled();
    }

    /// The peer's disk of a volume is no use any more: go on without it.
    pub(super) fn peer_disk_failed(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        if volume.peer_disk <= DiskState::Failed && !volume.mirrored && !volume.through.on {
            return;
        }
        let index = volume.config.index;
        volume.peer_disk = DiskState::Failed;
        volume.mirrored = false;
        volume.end_sync();
        let good = volume.good();
        // Before anything is answered that the peer may not be able to remember it lacks.
        self.fence_look(self.connected(), mem);
        let next = if good {
            "writes go to this node alone and are marked out of sync"
        } else {
            "no good disk is left"
        };
        self.log(
            Level::Error,
            text!("vol{index}: the peer's disk is not used any more; {next}"),
        );
        self.ensure_generation(at, mem);
        self.stop_detaching(
            at,
            "the peer's disk failed meanwhile, so this one stays attached",
            mem,
        );
        self.leave_through(at, mem);
    }
}
