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

use super::slots::{List, Local, Op, Owner, Remote, SlotId};
use super::{Engine, Queued, text};
use crate::api::{
    ConnectionState, DiskState, Level, LinkDownReason, MAX_VOLUMES, Micros, ReplicationState, Role,
    Text,
};
use crate::buf::Pool;
use crate::wire::{Frame, Hello, HelloVolume};

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

/// A peer that is alive but answers no request for so many timeouts is given up (DRBD's
/// `ko-count`): its disk hangs, and clients must not hang with it.
const STALLED_TIMEOUTS: Micros = 7;
/// A peer that an operator waits for is asked for a sign of life, and given up when it is silent for so long
/// (DRBD's `ping-timeout`), at most half the ordinary timeout.
const PROBE: Micros = 500_000;
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
    /// Role and willingness to give data up, as the handshake told the peer.
    pub told: (Role, bool),
    pub peer_hello: Option<Hello>,
    pub peer_volumes: heapless::Vec<HelloVolume, MAX_VOLUMES>,
    /// A refusal was sent; hang up then unless the peer does.
    pub refused_until: Option<Micros>,
    pub discard_my_data: bool,
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
            told: (Role::Secondary, false),
            peer_hello: None,
            peer_volumes: heapless::Vec::new(),
            refused_until: None,
            discard_my_data: false,
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
        self.link.next = Next::Retry;
        self.link.retry_at = None;
        self.queue.push(Queued::OpenLink);
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

    pub(super) fn link_down(&mut self, why: LinkDownReason, pool: &mut Pool) {
        let was = self.link.state;
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
        }
        if was == ConnectionState::Connected {
            self.peer_lost(pool);
            if self.link.next == Next::Retry {
                // A connection that worked is worth an attempt at once.
                self.link.next = Next::Reopen;
            }
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
    fn peer_lost(&mut self, pool: &mut Pool) {
        self.log(
            Level::Warn,
            text!("connection to peer {} lost", self.config.peer),
        );
        self.peer_role = Role::Unknown;
        self.granted = false;
        self.link.outstanding = 0;
        for at in 0..self.volumes.len() {
            let primary = self.role == Role::Primary;
            let volume = &mut self.volumes[at];
            volume.end_sync();
            volume.replication = ReplicationState::Off;
            volume.mirrored = false;
            volume.peer_disk = DiskState::DUnknown;
            if !primary {
                volume.doubt();
            }
            self.ensure_generation(at);
        }
        self.link_lost_slots(pool);
        self.release_stalled_all();
        self.fail_link_task();
    }

    /// What was sent will not be answered, and what the peer asked need not be.
    fn link_lost_slots(&mut self, pool: &mut Pool) {
        for id in 0..self.slots.capacity() as SlotId {
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            let (owner, local, sent) = (slot.owner, slot.local, slot.remote != Remote::None);
            if owner == Owner::Client {
                if sent {
                    // Even an answered one: its local half may still fail.
                    let slot = self.slots.at(id);
                    slot.remote = Remote::Done;
                    let (at, offset, len) = (slot.volume, slot.offset, slot.len);
                    self.volumes[at].dirty.set_range(offset, u64::from(len));
                }
            } else if !slot.orphan {
                self.orphans += 1;
                let slot = self.slots.at(id);
                slot.orphan = true;
                slot.remote = Remote::None;
            }
            let ends = matches!(local, Local::Done | Local::Failed);
            if ends && (sent || owner != Owner::Client) {
                self.finish_if_done(id, pool);
            }
        }
    }

    fn release_stalled_all(&mut self) {
        let mut stalled = core::mem::replace(&mut self.stalled, List::EMPTY);
        while let Some(id) = self.slots.pop(&mut stalled) {
            self.slots.push(&mut self.ready, id);
        }
    }

    /// Any frame is a sign of life.
    pub(super) fn heard(&mut self) {
        self.link.last_received = self.now;
    }

    /// Time-driven duties of the connection.
    pub(super) fn tick_link(&mut self) {
        if self.link.retry_at.is_some_and(|at| at <= self.now) {
            self.open_link();
        }
        if !self.link.up || self.link.closing {
            return;
        }
        if self.link.refused_until.is_some_and(|at| at <= self.now) {
            let next = self.link.next;
            self.close_link(next);
            return;
        }
        let timeout = self.config.timers.timeout;
        if self.now.saturating_sub(self.link.last_received) >= timeout {
            self.give_up_silent(timeout);
        } else if let Some(at) = self.probe_deadline().filter(|at| *at <= self.now) {
            if self.now - at >= self.probe_limit() {
                // So late a tick: it was this node that stood still. Its peer is asked again.
                self.probe_peer();
            } else {
                self.give_up_silent(self.probe_limit());
            }
        } else if self.handshake_deadline().is_some_and(|at| at <= self.now) {
            let peer = self.config.peer.clone();
            self.complain(
                Level::Warn,
                text!("peer {peer} does not finish the handshake: its disk may hang; see 'status' there"),
            );
            self.close_link(Next::Retry);
        } else if self.stall_deadline().is_some_and(|at| at <= self.now) {
            let (peer, count) = (self.config.peer.clone(), self.link.outstanding);
            self.log(
                Level::Error,
                text!("peer {peer} is alive but answers none of {count} requests: its disk may hang; going on without it"),
            );
            self.close_link(Next::Retry);
        } else if self.now >= self.next_ping() {
            self.link.last_ping = self.now;
            self.send(Frame::Ping);
        }
    }

    fn give_up_silent(&mut self, silence: Micros) {
        let milliseconds = silence / 1000;
        self.log(
            Level::Warn,
            text!(
                "peer {} was silent for {milliseconds} ms: treated as lost",
                self.config.peer
            ),
        );
        let next = self.link.next;
        self.close_link(next);
    }

    /// Asks a connected peer for a sign of life, for a command that must not be decided on what was true
    /// before the peer died.
    pub(super) fn probe_peer(&mut self) {
        if self.connected() {
            self.link.probe = Some(self.now);
            self.link.last_ping = self.now;
            self.send(Frame::Ping);
        }
    }

    pub(super) fn pong(&mut self) {
        self.link.probe = None;
    }

    fn probe_limit(&self) -> Micros {
        PROBE.min(self.config.timers.timeout / 2)
    }

    /// When the peer that a command waits for is given up, unless it is heard.
    fn probe_deadline(&self) -> Option<Micros> {
        let asked = self.link.probe.max(self.promotion_asked())?;
        Some(asked.max(self.link.last_received) + self.probe_limit())
    }

    fn handshake_deadline(&self) -> Option<Micros> {
        let waiting = self.link.in_handshake() && self.link.hello_sent;
        waiting.then_some(self.link.handshake_until)
    }

    fn stall_deadline(&self) -> Option<Micros> {
        let limit = STALLED_TIMEOUTS * self.config.timers.timeout;
        (self.link.outstanding > 0).then_some(self.link.last_progress + limit)
    }

    /// Counts a request that the peer must answer.
    pub(super) fn count_sent(&mut self) {
        if self.link.outstanding == 0 {
            self.link.last_progress = self.now;
        }
        self.link.outstanding += 1;
    }

    fn next_ping(&self) -> Micros {
        self.link.last_received.max(self.link.last_ping) + self.config.timers.ping_interval
    }

    /// When the connection needs a tick.
    pub(super) fn link_deadline(&self) -> Option<Micros> {
        if !self.link.up || self.link.closing {
            return self.link.retry_at;
        }
        let silence = self.link.last_received + self.config.timers.timeout;
        [
            Some(self.next_ping()),
            Some(silence),
            self.probe_deadline(),
            self.link.refused_until,
            self.handshake_deadline(),
            self.stall_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The acknowledgement of a slot, or its refusal by the peer's disk.
    pub(super) fn answered(&mut self, wire: u64, ok: bool, pool: &mut Pool) {
        let found = self.slots.by_wire_id(wire).filter(|id| {
            self.slots
                .get(*id)
                .is_some_and(|s| s.remote == Remote::Sent)
        });
        let Some(id) = found else {
            return self.protocol_error("an answer to nothing that was asked");
        };
        self.link.outstanding -= 1;
        self.link.last_progress = self.now;
        let slot = self.slots.at(id);
        slot.remote = Remote::Done;
        let (owner, op, at) = (slot.owner, slot.op, slot.volume);
        if !ok {
            let (offset, len) = (slot.offset, u64::from(slot.len));
            if op != Op::Flush {
                self.volumes[at].dirty.set_range(offset, len);
            }
            if owner == Owner::Resync {
                self.slots.at(id).local = Local::Failed;
            }
            self.peer_disk_failed(at);
        }
        self.finish_if_done(id, pool);
        self.release_stalled();
    }

    /// The peer's disk of a volume is no use any more: go on without it.
    pub(super) fn peer_disk_failed(&mut self, at: usize) {
        let volume = &mut self.volumes[at];
        if volume.peer_disk <= DiskState::Failed && !volume.mirrored {
            return;
        }
        let index = volume.config.index;
        volume.peer_disk = DiskState::Failed;
        volume.mirrored = false;
        volume.end_sync();
        self.log(
            Level::Error,
            text!(
                "vol{index}: the peer's disk failed; writes go to this node alone and are marked out of sync"
            ),
        );
        self.ensure_generation(at);
    }
}
