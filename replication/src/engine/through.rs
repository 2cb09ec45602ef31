//! A Primary without a good disk of its own serves its clients from its peer's.
//!
//! Whoever reads this first wants to know why the following cannot lose anything:
//!
//! - When the Primary's disk fails, the peer is told ([`Frame::DiskLost`]) and begins a new generation, durable before
//!   it acknowledges anything that comes behind. Until its word is there, *no* write is answered, also none that
//!   the peer had acknowledged before. So a Primary that dies in between comes back with a disk that has
//!   everything that was answered, and afterwards with one that is known to be stale.
//! - What the Primary's disk may lack from before (in flight, or in its cache) is in the hot extents of its
//!   own activity log; what comes later is marked on the peer, which keeps an activity log for it as a
//!   Primary does.
//! - Writes go to the peer with FUA, and what it had acknowledged before is flushed, so that a power cut
//!   there loses nothing that was answered. Should it come before that flush, the Primary does not go on with such a peer.
//! - The Primary goes on only with a peer that bears the generation that its clients saw last
//!   ([`Through::exposed`]). Without one its requests wait ([`Way::Wait`]), those in flight included: they are
//!   sent again, in ranges that nobody else could touch meanwhile.
//! - A disk that is attached again becomes the target of a resync from the peer. Clients' writes go to the
//!   peer first and, when it has acknowledged them, to the target. The resync's data needs no lock against them:
//!   what the source had read before a write reached it, it holds its own lock for until this node has
//!   stored it, so the acknowledgement of the write comes behind; and what it reads later contains the write.

mod stand_in;

use super::link::Next;
use super::slots::{List, Local, Op, Owner, Remote, Slot, SlotId};
use super::volume::Volume;
use super::{Engine, Queued, text};
use crate::api::{
    ClientError, DiskError, DiskOp, DiskState, Level, Micros, OnIoError, OnNoData,
    ReplicationState, Role, Suspended,
};
use crate::buf::{Buf, Mem};
use crate::lineage::JUST_CREATED;
use crate::wire::{Frame, HelloVolume, Seen};

/// Pause before memory is looked for again.
const NO_MEMORY_PAUSE: Micros = 10_000;

/// Whether a disk may still lose writes that it has done: whether any came since the last flush.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Doubt {
    /// Since the last flush began.
    since: bool,
    /// Covered by the flush under way.
    covered: bool,
}

impl Doubt {
    pub fn written(&mut self) {
        self.since = true;
    }
    pub fn flush_begins(&mut self) {
        self.covered |= core::mem::take(&mut self.since);
    }
    pub fn flushed(&mut self) {
        self.covered = false;
    }
    /// The answer to the flush will not come.
    pub fn flush_lost(&mut self) {
        self.since |= core::mem::take(&mut self.covered);
    }
    pub fn any(self) -> bool {
        self.since || self.covered
    }
}

/// The instance of no disk: whatever the peer has is not it. (Instances are drawn at random.)
const NO_INSTANCE: u64 = u64::MAX;

/// A volume's part in this.
#[derive(Debug)]
pub(super) struct Through {
    /// This Primary serves from the peer's disk.
    pub on: bool,
    /// The peer has not said yet that it knows: no write is answered.
    pub telling: bool,
    /// While a Primary's own disk is not good: the generation that clients saw last; 0 otherwise...
    pub exposed: u64,
    /// ...or this one, which the peer may have begun, though nothing was answered in it.
    pub offered: u64,
    /// Clients were answered what the peer's disk does not have, and no generation tells: by protocols A and B what was under
    /// way at the loss of the connection, by any what the peer had not flushed when it lost power.
    pub ahead: bool,
    /// What the peer's disk may lose.
    pub there: Doubt,
    /// The peer's disk that this is about: another one under its name has lost it.
    pub instance: u64,
    /// What this node's disk may lose, or might have when it failed.
    pub here: Doubt,
    /// This Secondary's disk is what the peer serves its clients from.
    pub for_peer: bool,
    /// The peer's request to be answered when this is durable.
    pub owed: Option<u64>,
    /// This Primary's disk was attached again and is not what its clients saw last.
    pub stale: bool,
    /// It has everything of its generation, though.
    pub sound: bool,
    /// A flush failed: what the disk says that it has written, it may never make durable.
    pub doomed: bool,
    /// Clients' slots that wait for good data.
    pub frozen: List,
}

impl Through {
    /// The disk is whole again, or no clients are served.
    pub fn end(&mut self) {
        (self.on, self.telling, self.stale) = (false, false, false);
        (self.exposed, self.offered) = (0, 0);
    }

    pub const fn new() -> Self {
        Self {
            on: false,
            telling: false,
            exposed: 0,
            offered: 0,
            ahead: false,
            there: Doubt {
                since: false,
                covered: false,
            },
            instance: 0,
            here: Doubt {
                since: false,
                covered: false,
            },
            for_peer: false,
            owed: None,
            stale: false,
            sound: false,
            doomed: false,
            frozen: List::EMPTY,
        }
    }
}

/// Where a Primary's clients are served from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// This node's disk.
    Here,
    /// The peer's.
    There,
    /// Requests wait.
    Wait,
    /// There is nothing to wait for.
    Error,
}

impl Volume {
    /// Whether the disk is what a Primary may serve from.
    pub fn good(&self) -> bool {
        self.disk == DiskState::UpToDate
    }

    /// Whether the peer's disk can stand in for this one.
    fn peer_good(&self) -> bool {
        self.through.on
            || (self.mirrored
                && self.peer_disk == DiskState::UpToDate
                && self.replication == ReplicationState::Established)
    }

    /// What a peer must have so that this Primary can go on with it.
    pub fn seen(&self) -> Option<Seen> {
        let Through {
            exposed,
            offered,
            ahead,
            there,
            instance,
            ..
        } = self.through;
        (!self.good() && exposed != 0).then(|| Seen {
            generations: [exposed, offered],
            instance: match ahead {
                true => NO_INSTANCE,
                false if there.any() => instance,
                false => 0,
            },
        })
    }
}

/// Whether a node cannot go on with the other one's disk, since its clients saw last what is not there.
pub(super) fn left_behind(node: &HelloVolume, other: &HelloVolume) -> bool {
    node.seen.is_some_and(|seen| {
        let whole = matches!(other.disk, DiskState::Consistent | DiskState::UpToDate);
        let generation = other.current != 0 && seen.generations.contains(&other.current);
        let lost = seen.instance != 0 && seen.instance != other.instance;
        !whole || !generation || lost
    })
}

/// Whether a disk can be all that is left of a volume.
fn stands_in(disk: DiskState) -> bool {
    matches!(disk, DiskState::UpToDate | DiskState::Consistent)
}

impl Engine {
    /// Where the clients of a volume are served from now.
    pub(super) fn way(&self, at: usize) -> Way {
        let volume = &self.volumes[at];
        let held = self.suspended_by_user || self.fence.frozen();
        if held || volume.detaching.is_some() || volume.preparing.is_some() {
            Way::Wait
        } else if volume.good() {
            Way::Here
        } else if volume.through.on {
            Way::There
        } else if self.connected() && volume.peer_disk <= DiskState::Failed {
            Way::Error
        } else if self.waits_for_data() || self.link_in_motion() {
            Way::Wait
        } else {
            Way::Error
        }
    }

    fn waits_for_data(&self) -> bool {
        self.config.trouble.on_no_data == OnNoData::SuspendIo && !self.errors_by_user
    }

    /// A new handshake is under way, after which there may be a good disk.
    fn link_in_motion(&self) -> bool {
        (self.link.closing && self.link.next == Next::Reopen) || self.link.in_handshake()
    }

    /// Whether a volume's clients wait for good data.
    pub(super) fn no_data(&self, at: usize) -> bool {
        let volume = &self.volumes[at];
        self.serving
            && !volume.good()
            && !volume.through.on
            && volume.detaching.is_none()
            && (self.suspended_by_user || self.way(at) == Way::Wait)
    }

    /// Why clients' requests are held back.
    pub(super) fn suspended(&self) -> Suspended {
        Suspended {
            user: self.suspended_by_user,
            no_data: (0..self.volumes.len()).any(|at| self.no_data(at)),
            fencing: self.fence.frozen(),
        }
    }

    /// Starts a client's request, or has it wait.
    pub(super) fn start_client(&mut self, id: SlotId, mem: &mut Mem<'_>) {
        let at = self.slots.at(id).volume;
        let lags = self.volumes[at].lag.requests > 0 && !self.slots.at(id).answered;
        match self.way(at) {
            Way::Here => self.start_here(id, mem),
            // What was answered before must be on the peer's disk first: it may have to be sent again.
            Way::There if lags => self.freeze(id, mem),
            Way::There => self.start_there(id, mem),
            Way::Wait if self.serving => self.freeze(id, mem),
            // Its connection is being dropped.
            Way::Wait => self.end_client(id, ClientError::NotServing, mem),
            Way::Error => self.end_client(id, ClientError::Io, mem),
        }
    }

    fn end_client(&mut self, id: SlotId, error: ClientError, mem: &mut Mem<'_>) {
        let slot = self.slots.at(id);
        slot.error = Some(error);
        slot.local = Local::Failed;
        self.finish_if_done(id, mem);
    }

    fn freeze(&mut self, id: SlotId, mem: &mut Mem<'_>) {
        self.lighten(id, mem);
        let slot = self.slots.at(id);
        slot.local = Local::Waiting;
        let volume = &mut self.volumes[slot.volume];
        if core::mem::take(&mut slot.logged)
            && let Some(meta) = &mut volume.meta
        {
            meta.log.leave(slot.offset, u64::from(slot.len));
        }
        self.slots.push(&mut volume.through.frozen, id);
    }

    /// Lets what waited go on where there is a way.
    pub(super) fn thaw(&mut self) {
        if self.errors_by_user && self.volumes.iter().all(|v| v.good() || v.through.on) {
            self.errors_by_user = false;
        }
        for at in 0..self.volumes.len() {
            if self.volumes[at].through.frozen.is_empty()
                || (self.serving && self.way(at) == Way::Wait)
            {
                continue;
            }
            let mut frozen = core::mem::replace(&mut self.volumes[at].through.frozen, List::EMPTY);
            while let Some(id) = self.slots.pop(&mut frozen) {
                self.slots.push(&mut self.ready, id);
            }
        }
        let mut starved = core::mem::replace(&mut self.starved, List::EMPTY);
        self.starved_until = None;
        while let Some(id) = self.slots.pop(&mut starved) {
            if self.takes_range(id) {
                self.slots.push(&mut self.ready, id);
            }
        }
    }

    /// Whether a read has the memory it needs; otherwise it waits for some. Not with its range locked: those that wait
    /// for the range may hold all the memory there is.
    pub(super) fn has_buffer(&mut self, id: SlotId, mem: &mut Mem<'_>) -> bool {
        let slot = self.slots.at(id);
        if slot.op != Op::Read || slot.buf.is_some() {
            return true;
        }
        slot.buf = mem.alloc(slot.len);
        if slot.buf.is_some() {
            return true;
        }
        let Self {
            overlaps,
            slots,
            ready,
            ..
        } = self;
        if slots.at(id).locks_range() {
            overlaps.leave(id, |unblocked| slots.push(ready, unblocked));
        }
        let mut starved = self.starved;
        self.slots.push(&mut starved, id);
        self.starved = starved;
        self.starved_until = Some(self.now + NO_MEMORY_PAUSE);
        false
    }

    /// Starts a client's request on the peer's disk; the own one, if it is a resync's target, follows.
    fn start_there(&mut self, id: SlotId, mem: &mut Mem<'_>) {
        let at = self.slots.at(id).volume;
        if self.volumes[at].usable() && !self.pass_gate(id, mem) {
            return;
        }
        if !self.window_open() {
            let mut stalled = self.stalled;
            self.slots.push(&mut stalled, id);
            self.stalled = stalled;
            return;
        }
        let slot = self.slots.at(id);
        let volume = &self.volumes[at];
        let target = volume.usable();
        match slot.op {
            Op::Read => {
                slot.local = Local::AfterPeer;
                self.ask_peer(id, mem);
            }
            // Only a discard that both disks perform leaves the replicas equal.
            Op::Discard if target && !(volume.config.can_discard && volume.peer_can_discard) => {
                slot.local = Local::Done;
                slot.acked = true;
                self.finish_if_done(id, mem);
            }
            // The target may be whole, and be said to have all that was flushed, before the peer answers.
            Op::Flush if target => {
                self.send_change(id, true);
                self.start_local(id, mem);
            }
            Op::Flush => {
                slot.local = Local::Done;
                self.send_change(id, true);
            }
            _ => {
                slot.local = if target {
                    Local::AfterPeer
                } else {
                    Local::Done
                };
                self.send_change(id, true);
            }
        }
    }

    /// Frees the buffer of a read that waits for others than the disk. What the peer sends comes with memory of its
    /// own; were all memory with those who wait for it, it could never arrive.
    pub(super) fn lighten(&mut self, id: SlotId, mem: &mut Mem<'_>) {
        let slot = self.slots.at(id);
        let reads = slot.owner == Owner::Client && slot.op == Op::Read;
        if reads
            && !slot.at_disk
            && let Some(buf) = slot.buf.take()
        {
            mem.free(buf);
        }
    }

    /// Sends a read to the peer.
    fn ask_peer(&mut self, id: SlotId, mem: &mut Mem<'_>) {
        self.lighten(id, mem);
        let request = self.slots.wire_id(id);
        let slot = self.slots.at(id);
        (slot.remote, slot.sent) = (Remote::Sent, self.now);
        let (offset, len) = (slot.offset, slot.len);
        let volume = self.volumes[slot.volume].config.index;
        self.count_sent();
        self.send(Frame::ReadRequest {
            volume,
            request,
            offset,
            len,
        });
    }

    /// What the peer's disk has where this node's could not be read.
    pub(super) fn read_reply(
        &mut self,
        request: u64,
        reply: u64,
        buf: Option<Buf>,
        mem: &mut Mem<'_>,
    ) {
        let found = self.slots.by_wire_id(request).filter(|id| {
            self.slots
                .get(*id)
                .is_some_and(|s| s.remote == Remote::Sent && s.op == Op::Read)
        });
        let fits = found.filter(|id| {
            buf.as_ref()
                .is_some_and(|b| b.len() == self.slots.at(*id).len)
        });
        let (id, buf) = match (fits, buf) {
            (Some(id), Some(buf)) => (id, buf),
            (_, buf) => {
                if let Some(buf) = buf {
                    mem.free(buf);
                }
                return self.protocol_error("the content of a range that nobody asked for");
            }
        };
        self.send(Frame::Ack { request: reply });
        self.link.outstanding -= 1;
        self.link.last_progress = self.now;
        let slot = self.slots.at(id);
        let volume = &mut self.volumes[slot.volume];
        let good = volume.good();
        let took = self.now.saturating_sub(slot.sent);
        volume.latencies.peer.record(took);
        slot.remote = Remote::Done;
        slot.local = Local::Done;
        let repairs = slot.repair && good && !slot.at_disk;
        let (offset, view) = (slot.offset, buf.view());
        let old = slot.buf.replace(buf);
        if slot.at_disk {
            slot.lent = old;
        } else if let Some(old) = old {
            mem.free(old);
        }
        if repairs {
            slot.local = Local::Disk;
            self.issue(id, DiskOp::Write { offset, view });
        } else {
            self.finish_if_done(id, mem);
        }
        self.release_stalled();
    }

    /// The disk ended the writing of what it could not read.
    pub(super) fn repaired(
        &mut self,
        id: SlotId,
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let slot = self.slots.at(id);
        let (at, offset, len) = (slot.volume, slot.offset, slot.len);
        slot.local = Local::Done;
        let index = self.volumes[at].config.index;
        match result {
            Ok(()) => self.log(
                Level::Warn,
                text!(
                    "vol{index}: {len} bytes at {offset} that the disk could not read came from the peer and were written anew"
                ),
            ),
            Err(error) => {
                let why = text!(
                    "it could neither read nor write ({error:?}) the {len} bytes at {offset}"
                );
                self.fail_disk(at, &why, mem);
            }
        }
        self.finish_if_done(id, mem);
    }

    /// This node's disk has read what the peer asked for.
    pub(super) fn send_read(&mut self, id: SlotId, mem: &mut Mem<'_>) {
        let connected = self.connected();
        let reply = self.slots.wire_id(id);
        let slot = self.slots.at(id);
        if slot.orphan || !connected {
            return self.finish_if_done(id, mem);
        }
        slot.remote = Remote::Sent;
        let request = slot.request;
        let payload = slot.buf.as_ref().map(Buf::view);
        self.count_sent();
        self.queue.push(Queued::Send {
            frame: Frame::ReadReply { request, reply },
            payload,
        });
    }

    /// Whether a slot of which neither half is under way has what it was for. A client's slot that has not
    /// goes another way, if there is one.
    pub(super) fn is_served(&mut self, id: SlotId, mem: &mut Mem<'_>) -> bool {
        let connected = self.connected();
        let slot = self.slots.at(id);
        if slot.owner != Owner::Client || slot.error.is_some() {
            return true;
        }
        if self.fence.frozen() && self.serving && !slot.answered {
            // Nobody is answered, and it is done again by whoever goes on.
            slot.remote = Remote::None;
            (slot.acked, slot.refused, slot.repair) = (false, false, false);
            self.freeze(id, mem);
            return false;
        }
        if core::mem::take(&mut slot.again) && slot.local == Local::Done && self.serving {
            (slot.acked, slot.refused, slot.repair) = (false, false, false);
            (slot.local, slot.remote) = (Local::Waiting, Remote::None);
            self.slots.push(&mut self.ready, id);
            return false;
        }
        let at = slot.volume;
        let volume = &self.volumes[at];
        let (good, peer_good) = (volume.good(), connected && volume.peer_good());
        let done = slot.local == Local::Done;
        let changes = slot.op != Op::Read;
        if done && (good || !changes) {
            return true;
        }
        if changes && slot.acked && peer_good {
            // The peer's disk alone has it.
            slot.local = Local::Done;
            return true;
        }
        if good && slot.refused {
            // The disk is in use, and has refused this.
            if !changes && !slot.repair && peer_good {
                slot.repair = true;
                self.ask_peer(id, mem);
                return false;
            }
            slot.error = Some(ClientError::Io);
            return true;
        }
        if !good && !changes && slot.remote == Remote::Done {
            // Nor could the peer.
            slot.error = Some(ClientError::Io);
            return true;
        }
        if !self.serving {
            slot.error = Some(ClientError::NotServing);
            return true;
        }
        slot.remote = Remote::None;
        (slot.acked, slot.refused, slot.repair) = (false, false, false);
        if self.way(at) == Way::Wait {
            self.freeze(id, mem);
        } else {
            let slot = self.slots.at(id);
            slot.local = Local::Waiting;
            self.slots.push(&mut self.ready, id);
        }
        false
    }

    /// The disk of this Primary is not used any more: what serves its clients from now on?
    pub(super) fn lose_disk(&mut self, at: usize) {
        let connected = self.connected();
        let volume = &mut self.volumes[at];
        let peer_good = connected && volume.peer_good();
        if volume.good() && self.role == Role::Primary {
            let current = volume.gens.current;
            (volume.through.exposed, volume.through.offered) = (current, current);
            volume.through.instance = volume.peer_instance;
            if volume.mirrored {
                volume.through.there.written();
            }
        }
        volume.through.stale = false;
        if peer_good && self.role == Role::Primary {
            self.volumes[at].through.on = true;
            self.tell_lost(at);
        }
    }

    /// Has the peer begin a new generation, in which its disk is the only good one.
    fn tell_lost(&mut self, at: usize) {
        let uuid = self.random();
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        volume.through.telling = true;
        volume.through.offered = uuid;
        // The new generation has everything that was answered before, so the word comes behind all of that.
        self.end_epoch();
        let request = self.tell_peer(at, Op::DiskLost { uuid });
        self.send(Frame::DiskLost {
            volume: index,
            request,
            uuid,
        });
    }

    /// A slot for a word to the peer.
    pub(super) fn tell_peer(&mut self, at: usize, op: Op) -> u64 {
        self.metas_live += 1;
        let id = self.slots.insert(Slot {
            local: Local::Done,
            remote: Remote::Sent,
            ..Slot::new(Owner::Meta, op, at, 0, 0)
        });
        self.count_sent();
        self.slots.wire_id(id)
    }

    /// The peer's disk carries on: what was answered on both must be durable there.
    pub(super) fn flush_there(&mut self) {
        if !self.connected() {
            return;
        }
        for at in 0..self.volumes.len() {
            let volume = &mut self.volumes[at];
            let there = &mut volume.through.there;
            if volume.through.on && there.since && !there.covered {
                there.flush_begins();
                self.end_epoch();
                let volume = &self.volumes[at];
                let index = volume.config.index;
                let request = self.tell_peer(at, Op::PeerFlush);
                self.send(Frame::Flush {
                    volume: index,
                    request,
                });
            }
        }
    }

    /// The peer answered one of these words.
    pub(super) fn told(&mut self, at: usize, op: Op, mem: &mut Mem<'_>) {
        let through = &mut self.volumes[at].through;
        match op {
            Op::DiskLost { uuid } if through.offered == uuid => {
                through.exposed = uuid;
                through.telling = false;
                let index = self.volumes[at].config.index;
                self.log(
                    Level::Warn,
                    text!(
                        "vol{index}: this node serves from the peer's disk, in generation {uuid:016x}"
                    ),
                );
                self.fence_stands_in(false, mem);
                self.look_again(at, mem);
            }
            Op::PeerFlush => through.there.flushed(),
            Op::Ahead => self.is_ahead(at, mem),
            _ => {}
        }
    }

    /// Clients' slots whose answers were held are looked at again.
    pub(super) fn look_again(&mut self, at: usize, mem: &mut Mem<'_>) {
        let mut held = core::mem::replace(&mut self.volumes[at].held, List::EMPTY);
        while let Some(id) = self.slots.pop(&mut held) {
            let slot = self.slots.at(id);
            if slot.owner == Owner::Client {
                slot.local = Local::Done;
                self.finish_if_done(id, mem);
            } else {
                self.slots.push(&mut self.volumes[at].held, id);
            }
        }
    }

    /// The peer's disk cannot be used for this Primary's clients any more.
    pub(super) fn leave_through(&mut self, at: usize, mem: &mut Mem<'_>) {
        let through = &mut self.volumes[at].through;
        through.there.flush_lost();
        if core::mem::take(&mut through.on) {
            through.telling = false;
            self.look_again(at, mem);
        }
    }

    /// In a handshake: whether what this Primary's own disk is worth depends on what the peer says, which so comes first.
    pub(super) fn awaits_word(&self) -> bool {
        let open = |volume: &Volume| volume.through.exposed != volume.through.offered;
        self.role == Role::Primary && self.volumes.iter().any(open)
    }

    /// A peer that was to begin a generation, and has not, never will: it was asked over a connection that is gone. So
    /// this Primary's own disk, if it has what was seen before, is good again.
    pub(super) fn withdraw_offers(&mut self, mem: &mut Mem<'_>) {
        for at in 0..self.volumes.len() {
            let Some(theirs) = self.link.peer_volumes.get(at) else {
                return;
            };
            let volume = &mut self.volumes[at];
            let known = theirs.disk > DiskState::Failed && theirs.current != JUST_CREATED;
            if !known || theirs.current == volume.through.offered {
                continue;
            }
            volume.through.offered = volume.through.exposed;
            if !volume.through.stale {
                continue;
            }
            volume.reattached();
            if volume.good() {
                let index = volume.config.index;
                self.log(
                    Level::Info,
                    text!("vol{index}: the peer never stood in for this node's disk, which has what clients saw last"),
                );
                self.ensure_generation(at, mem);
            }
        }
    }

    /// After a handshake: whether a Primary without a good disk goes on with the peer's.
    pub(super) fn go_through(&mut self, at: usize, theirs: &HelloVolume) {
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        if self.role != Role::Primary || volume.good() || theirs.disk <= DiskState::Failed {
            return;
        }
        let told = volume.told.as_ref();
        if told.is_none_or(|told| left_behind(told, theirs)) {
            let instance = told
                .and_then(|told| told.seen)
                .map_or(0, |seen| seen.instance);
            let why = if instance != 0 && instance != theirs.instance {
                "the peer does not have, or has lost, writes that clients were answered"
            } else {
                "the peer does not have what this node's clients saw last"
            };
            self.complain(
                Level::Error,
                text!(
                    "vol{index}: {why}, and this node's disk is not good: 'attach vol{index}' if it is sound, or 'secondary --force' here and 'primary' on the peer"
                ),
            );
            return;
        }
        volume.through.on = true;
        volume.through.instance = theirs.instance;
        volume.peer_disk = DiskState::UpToDate;
        if volume.usable() {
            // The target of a resync that begins: never again to be taken for something whole.
            volume.through.sound = false;
            volume.through.exposed = theirs.current;
            volume.through.offered = theirs.current;
            volume.disk = DiskState::Inconsistent;
        } else {
            self.tell_lost(at);
        }
    }

    /// Whether a write that the disk refused is the client's business.
    pub(super) fn passes_on(&self, id: SlotId) -> bool {
        let client = self.slots.get(id).is_some_and(|s| s.owner == Owner::Client);
        client && self.config.trouble.on_io_error == OnIoError::PassOn
    }
}
