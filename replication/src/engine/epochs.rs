//! Protocols A and B: writes are answered before the peer's disk has them, and reach it in order all the same.
//!
//! What must hold: a write that was begun after another one was answered never reaches the peer's disk before it, on
//! whichever volume. The Primary ends an epoch ([`Frame::Barrier`]) when it is about to send something while a
//! write of the epoch is answered to its client and not acknowledged by the peer. The peer starts nothing of an epoch
//! before everything of the earlier ones is done on its disk. So whenever the Primary is lost, the peer has all of
//! some epochs, a part of the next one, whose writes were all under way together, and nothing of later
//! ones. Under protocol C no write is answered early, so there is no barrier, and no epoch ever waits.
//!
//! The peer does not flush between epochs. Its disk may lose in a power cut what was not flushed, in any order, as any
//! disk with a cache may; and a flush, or a write with FUA, is answered when it is durable on both nodes, in every
//! protocol. So a client that needs order across a power cut gets it by the means that it uses on any disk.
//!
//! Until the peer acknowledges it, an answered write keeps its slot, its memory, its place in the activity log, and
//! its range against later writes (not against reads): if the connection is lost it is marked out of sync like any
//! write in flight, and a Primary whose disk fails sends it again. That bounds the lag: so many writes are
//! answered early as leave a quarter of the slots and half of the memory to others; the next ones are
//! answered as by protocol C.

use super::slots::{List, Local, Op, Owner, Remote, Slot, SlotId};
use super::{Engine, Queued};
use crate::api::Protocol;
use crate::buf::Mem;
use crate::mutation::{self, Mutation};
use crate::wire::Frame;

/// Both sides' account of the epochs of a connection.
#[derive(Debug)]
pub(super) struct Epochs {
    /// Of what is sent now.
    sending: u32,
    /// Writes of it that are answered and not acknowledged.
    early: u32,
    /// Bytes of clients' changes that are sent and not acknowledged.
    pub flying: u64,
    /// Of what arrives now.
    arriving: u32,
    /// Of what the disk is given now.
    running: u32,
    /// Changes of it that are not done.
    live: u32,
    /// What arrived for later epochs, in order of arrival.
    waiting: List,
}

impl Epochs {
    pub const fn new() -> Self {
        Self {
            sending: 0,
            early: 0,
            flying: 0,
            arriving: 0,
            running: 0,
            live: 0,
            waiting: List::EMPTY,
        }
    }
}

/// Answered writes that the peer has not acknowledged.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lag {
    pub requests: u32,
    pub bytes: u64,
}

impl Engine {
    /// What was answered early and not acknowledged, over all volumes.
    pub(super) fn lag(&self) -> Lag {
        let mut lag = Lag::default();
        for volume in &self.volumes {
            lag.requests += volume.lag.requests;
            lag.bytes += volume.lag.bytes;
        }
        lag
    }

    /// On the Primary: something is about to be sent that must come behind what was answered.
    pub(super) fn end_epoch(&mut self) {
        if self.epochs.early > 0 && !mutation::is(Mutation::NoBarrier) {
            self.epochs.early = 0;
            self.epochs.sending = self.epochs.sending.wrapping_add(1);
            self.send(Frame::Barrier);
        }
    }

    /// A client's change is sent, in the present epoch; again, if it was answered before.
    pub(super) fn joins_epoch(&mut self, id: SlotId) {
        let slot = self.slots.at(id);
        slot.epoch = self.epochs.sending;
        self.epochs.flying += u64::from(slot.len);
        self.epochs.early += u32::from(slot.answered);
    }

    /// A slot waits only for the peer's disk: whether its client need not.
    pub(super) fn answer_early(&mut self, id: SlotId, mem: &Mem<'_>) {
        if self.config.mirroring.protocol == Protocol::C || !self.may_answer_early(id, mem) {
            return;
        }
        if self.hold(id) {
            return;
        }
        let Self {
            slots,
            overlaps,
            ready,
            volumes,
            epochs,
            ..
        } = self;
        let slot = slots.at(id);
        slot.answered = true;
        let (request, op, len, fua) = (slot.request, slot.op, slot.len, slot.fua);
        let (began, at) = (slot.began, slot.volume);
        let lag = &mut volumes[at].lag;
        lag.requests += 1;
        lag.bytes += u64::from(len);
        if slot.epoch == epochs.sending {
            epochs.early += 1;
        }
        if slot.locks_range() {
            overlaps.let_readers_in(id, |unblocked| slots.push(ready, unblocked));
        }
        self.client_served(at, op, (len, fua), began);
        self.queue.push(Queued::Reply {
            id: request,
            result: Ok(()),
            buf: None,
        });
    }

    fn may_answer_early(&self, id: SlotId, mem: &Mem<'_>) -> bool {
        let Some(slot) = self.slots.get(id) else {
            return false;
        };
        let durable = (slot.fua || slot.op == Op::Flush) && !mutation::is(Mutation::FlushHereOnly);
        let waits_for_peer = slot.owner == Owner::Client
            && slot.local == Local::Done
            && slot.remote == Remote::Sent
            && !slot.answered
            && slot.error.is_none();
        if !waits_for_peer || durable || slot.op == Op::Read || self.fence.frozen() {
            return false;
        }
        let received = slot.received || self.config.mirroring.protocol == Protocol::A;
        let received = received || mutation::is(Mutation::NotReceived);
        let lag = self.lag();
        let bytes = lag.bytes + u64::from(slot.len);
        let room = lag.requests < self.lag_limit() && bytes <= self.fill_limit(mem);
        // A Primary without a good disk of its own has no other copy to answer from.
        received && room && self.volumes[slot.volume].good()
    }

    /// The peer has done what was answered early, or it will not.
    pub(super) fn caught_up(&mut self, slot: &Slot) {
        let lag = &mut self.volumes[slot.volume].lag;
        lag.requests -= 1;
        lag.bytes -= u64::from(slot.len);
    }

    /// The peer has acknowledged a slot of this epoch.
    pub(super) fn leaves_epoch(&mut self, id: SlotId) {
        let slot = self.slots.at(id);
        if slot.owner == Owner::Client && slot.op != Op::Read {
            self.epochs.flying -= u64::from(slot.len);
        }
        if slot.answered && slot.epoch == self.epochs.sending {
            self.epochs.early -= 1;
        }
    }

    /// The peer has the request in its memory.
    pub(super) fn received(&mut self, wire: u64, mem: &mut Mem<'_>) {
        let b = self.config.mirroring.protocol == Protocol::B;
        let found = self.slots.by_wire_id(wire).filter(|id| {
            // Of a block that a verify repairs it means nothing.
            self.slots
                .get(*id)
                .is_some_and(|s| b && s.remote == Remote::Sent)
        });
        let Some(id) = found else {
            return self.protocol_error("the receipt of what was not sent");
        };
        self.slots.at(id).received = true;
        self.finish_if_done(id, mem);
    }

    /// On the peer: an epoch ends.
    pub(super) fn barrier(&mut self) {
        let epochs = &mut self.epochs;
        if epochs.live > 0 || !epochs.waiting.is_empty() {
            epochs.arriving = epochs.arriving.wrapping_add(1);
        }
        if mutation::is(Mutation::EpochsNotKept) {
            epochs.arriving = epochs.running;
        }
    }

    /// On the peer: a request arrived. It is started when its epoch is.
    pub(super) fn enter_epoch(&mut self, mut slot: Slot) {
        let epochs = &mut self.epochs;
        slot.epoch = epochs.arriving;
        if epochs.waiting.is_empty() && (epochs.live == 0 || slot.epoch == epochs.running) {
            epochs.running = slot.epoch;
            epochs.live += u32::from(slot.changes_data());
            self.enter(slot);
        } else {
            let id = self.slots.insert(slot);
            self.slots.push(&mut self.epochs.waiting, id);
        }
    }

    /// On the peer: a request ended. The last one of an epoch lets the next one begin.
    pub(super) fn epoch_done(&mut self, slot: &Slot) {
        self.epochs.live -= u32::from(slot.changes_data());
        while self.epochs.live == 0 && !self.epochs.waiting.is_empty() {
            self.next_epoch();
        }
    }

    fn next_epoch(&mut self) {
        let mut waiting = core::mem::replace(&mut self.epochs.waiting, List::EMPTY);
        let mut first = true;
        while let Some(id) = waiting.first() {
            let slot = self.slots.at(id);
            if !first && slot.epoch != self.epochs.running {
                break;
            }
            first = false;
            self.epochs.running = slot.epoch;
            self.epochs.live += u32::from(slot.changes_data());
            self.slots.pop(&mut waiting);
            self.enter_slot(id);
        }
        self.epochs.waiting = waiting;
    }

    /// The connection is gone. Nothing that was sent counts any more; what has arrived goes to the disk, epoch
    /// after epoch: it may have been answered.
    pub(super) fn epochs_lost(&mut self) {
        (self.epochs.sending, self.epochs.early, self.epochs.flying) = (0, 0, 0);
    }

    /// Whether a request of a lost connection is done nevertheless.
    pub(super) fn outlives_link(&self, slot: &Slot) -> bool {
        self.config.mirroring.protocol != Protocol::C
            && slot.owner == Owner::Peer
            && slot.changes_data()
            && !mutation::is(Mutation::ReceivedIsDropped)
    }

    /// Whether changes by the peer to a volume have come that are not done: by B these are answered.
    pub(super) fn has_received(&self, at: usize) -> bool {
        let slots = (0..self.slots.capacity() as SlotId).filter_map(|id| self.slots.get(id));
        let mut theirs = slots.filter(|slot| slot.owner == Owner::Peer && slot.volume == at);
        theirs.any(Slot::changes_data)
    }

    /// Whether everything that a former Primary's clients may have been answered is on the disk, as far as it came.
    pub(super) fn received_all(&self) -> bool {
        self.config.mirroring.protocol == Protocol::C || self.orphans == 0
    }
}
