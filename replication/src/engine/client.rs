//! Clients' requests: admission, start, and the end of both halves.

use super::slots::{List, Local, Op, Owner, Remote, Slot, SlotId};
use super::through::Way;
use super::{Engine, Queued};
use crate::api::{ClientError, ClientOp, ClientRequest, DiskOp, Micros, RequestId, Role};
use crate::buf::{Buf, Mem};
use crate::mutation::{self, Mutation};
use crate::wire::Frame;
use resync::controller::Class;

impl Engine {
    pub(super) fn client(&mut self, request: ClientRequest, pool: &mut Mem<'_>) {
        let ClientRequest {
            id,
            volume,
            offset,
            op,
        } = request;
        let (op, len, fua, buf) = match op {
            ClientOp::ReadSnapshot(buf) => return self.read_old(id, volume, offset, buf),
            ClientOp::Read(buf) => (Op::Read, buf.len(), false, Some(buf)),
            ClientOp::Write { buf, fua } => (Op::Write, buf.len(), fua, Some(buf)),
            ClientOp::Flush => (Op::Flush, 0, false, None),
            ClientOp::Discard { len, fua } => (Op::Discard, len, fua, None),
            ClientOp::WriteZeroes { len, unmap, fua } => (Op::Zeroes { unmap }, len, fua, None),
        };
        let at = match self.admit(volume, offset, op, len) {
            Ok(at) => at,
            Err(error) => return self.answer(id, op, Err(error), buf, pool),
        };
        let volume = &mut self.volumes[at];
        match op {
            Op::Read => volume.read_bytes += u64::from(len),
            _ => volume.written_bytes += u64::from(len),
        }
        self.clients_live += 1;
        self.controller.client_started(self.now);
        let waits = self.way(at) != Way::Here;
        let id = self.enter(Slot {
            fua,
            buf,
            request: id,
            ..Slot::new(Owner::Client, op, at, offset, len)
        });
        if waits {
            self.lighten(id, pool);
        }
    }

    fn admit(&self, volume: u16, offset: u64, op: Op, len: u32) -> Result<usize, ClientError> {
        if !self.serving || !self.has_slots() {
            return Err(ClientError::NotServing);
        }
        let at = self.volume_by_index(volume).ok_or(ClientError::Invalid)?;
        let volume = &self.volumes[at];
        let end = offset.saturating_add(len.into());
        if op != Op::Flush && (!volume.contains(offset, len.into()) || end > volume.offered) {
            return Err(ClientError::Invalid);
        }
        Ok(at)
    }

    /// Answers a request: a read's buffer goes back with it, a write's is freed.
    fn answer(
        &mut self,
        id: RequestId,
        op: Op,
        result: Result<(), ClientError>,
        buf: Option<Buf>,
        pool: &mut Mem<'_>,
    ) {
        let buf = match buf {
            Some(buf) if op != Op::Read => {
                pool.free(buf);
                None
            }
            other => other,
        };
        self.queue.push(Queued::Reply { id, result, buf });
    }

    /// Puts a new slot into the table and starts it before the step ends, unless an overlapping
    /// one is in its way.
    pub(super) fn enter(&mut self, mut slot: Slot) -> SlotId {
        slot.began = self.now;
        let id = self.slots.insert(slot);
        self.enter_slot(id);
        id
    }

    /// As [`Engine::enter`], of a slot that is in the table already.
    pub(super) fn enter_slot(&mut self, id: SlotId) {
        if self.takes_range(id) {
            self.slots.push(&mut self.ready, id);
        }
    }

    /// Has a slot queue for its range, if it is about one; answers whether it may start at once.
    pub(super) fn takes_range(&mut self, id: SlotId) -> bool {
        let slot = self.slots.at(id);
        if !slot.locks_range() {
            return true;
        }
        let (at, offset, len) = (slot.volume, slot.offset, u64::from(slot.len));
        let reads = slot.op.reads();
        self.overlaps.enter(id, at, offset, len, reads)
    }

    /// Starts a slot that nothing blocks.
    pub(super) fn start(&mut self, id: SlotId, pool: &mut Mem<'_>) {
        match self.slots.at(id).owner {
            Owner::Client => self.start_client(id, pool),
            Owner::Old => self.start_old(id, pool),
            _ => self.start_here(id, pool),
        }
    }

    /// Starts a slot on this node's disk, and beside it on the peer's.
    pub(super) fn start_here(&mut self, id: SlotId, pool: &mut Mem<'_>) {
        let slot = self.slots.at(id);
        let dropped = slot.orphan && !slot.outlives;
        if self.volumes[slot.volume].usable()
            && !dropped
            && (!self.pass_gate(id, pool) || !self.pass_snapshot(id))
        {
            return;
        }
        // A Primary takes no requests; what it wrote is for itself to flush.
        let to_primary = self.peer_role == Role::Primary;
        let slot = self.slots.at(id);
        if slot.owner == Owner::Meta && mutation::is(Mutation::CooledWithoutFlush) {
            slot.local = Local::Done;
            return self.finish_if_done(id, pool);
        }
        let mirrors = match slot.owner {
            Owner::Client => true,
            Owner::Meta => !to_primary,
            Owner::Peer | Owner::Resync | Owner::Old | Owner::Abandoned => false,
        };
        let volume = &self.volumes[slot.volume];
        let usable = volume.usable();
        // Only a discard that both disks perform leaves the replicas equal.
        let forget = slot.owner == Owner::Client
            && slot.op == Op::Discard
            && volume.mirrored
            && !(volume.config.can_discard && volume.peer_can_discard);
        let peer_reads = slot.owner == Owner::Peer && slot.op == Op::Read;
        if dropped || (usable && forget) {
            slot.local = Local::Done;
        } else if !usable || (peer_reads && !volume.good()) {
            slot.local = Local::Failed;
        } else if !self.has_buffer(id, pool) {
            return;
        } else if !mirrors || self.start_mirror(id, pool) {
            self.note_for_peer(id);
            self.start_local(id, pool);
            return;
        } else {
            let mut stalled = self.stalled;
            self.slots.push(&mut stalled, id);
            self.stalled = stalled;
            return;
        }
        self.finish_if_done(id, pool);
    }

    /// Sends a client's request to the peer, or marks its range as out of sync. Answers `false`
    /// when it must wait for the peer's window.
    fn start_mirror(&mut self, id: SlotId, mem: &mut Mem<'_>) -> bool {
        let window_open = self.window_open();
        let slot = self.slots.at(id);
        if slot.op == Op::Read {
            return true;
        }
        let volume = &mut self.volumes[slot.volume];
        if !volume.mirrored {
            if !mutation::is(Mutation::AloneNotMarked) {
                volume.mark_dirty(slot.offset, u64::from(slot.len));
            }
            return true;
        }
        if slot.op == Op::Flush && mutation::is(Mutation::ForgetPeerFlush) {
            return true;
        }
        let (at, len) = (slot.volume, slot.len);
        if !window_open || !self.uncongested(at, len, mem) {
            return false;
        }
        let slot = self.slots.at(id);
        let fua = slot.fua;
        self.send_change(id, fua);
        true
    }

    /// Sends a write, or whatever else changes or flushes data, to the peer.
    pub(super) fn send_change(&mut self, id: SlotId, fua: bool) {
        self.end_epoch();
        self.joins_epoch(id);
        let wire = self.slots.wire_id(id);
        let slot = self.slots.at(id);
        let volume = &mut self.volumes[slot.volume];
        let (index, offset, len) = (volume.config.index, slot.offset, slot.len);
        slot.fua_there = fua;
        let frame = match slot.op {
            Op::Write => Frame::Write {
                volume: index,
                request: wire,
                offset,
                fua,
            },
            Op::Discard => Frame::Discard {
                volume: index,
                request: wire,
                offset,
                len,
                fua,
            },
            Op::Zeroes { unmap } => Frame::WriteZeroes {
                volume: index,
                request: wire,
                offset,
                len,
                unmap,
                fua,
            },
            _ => {
                slot.tracked = volume.mirrored && volume.begin_flush();
                Frame::Flush {
                    volume: index,
                    request: wire,
                }
            }
        };
        (slot.remote, slot.tried, slot.sent) = (Remote::Sent, true, self.now);
        let payload = slot.buf.as_ref().map(Buf::view);
        self.count_sent();
        self.queue.push(Queued::Send { frame, payload });
    }

    /// Whether the peer takes another client's request: part of its window is kept for the resync.
    /// While the connection is being dropped the answer is no: what comes now waits until this
    /// node may go on alone, in a new generation.
    pub(super) fn window_open(&self) -> bool {
        !self.link.closing && self.link.outstanding + self.resync_reserve() < self.link.window
    }

    /// Issues a slot's disk operation.
    pub(super) fn start_local(&mut self, id: SlotId, pool: &mut Mem<'_>) {
        let slot = self.slots.at(id);
        let (offset, len) = (slot.offset, slot.len);
        let view = slot.buf.as_ref().map(Buf::view);
        let op = match (slot.op, view) {
            (Op::Read | Op::Verify | Op::Compare, Some(view)) => DiskOp::Read {
                offset,
                view,
                detect_zeroes: slot.owner == Owner::Resync && slot.op == Op::Read,
            },
            (Op::Write, Some(view)) => DiskOp::Write { offset, view },
            (Op::Discard, _) => DiskOp::Discard { offset, len },
            (Op::Zeroes { unmap }, _) => DiskOp::WriteZeroes { offset, len, unmap },
            (Op::SyncEnd { .. }, _) if mutation::is(Mutation::UpToDateBeforeFlush) => {
                slot.local = Local::Done;
                return self.finish_if_done(id, pool);
            }
            (Op::Flush | Op::SyncEnd { .. } | Op::Prepare { .. }, _) => {
                return self.want_flush(id, pool);
            }
            (Op::DiskLost { uuid }, _) => return self.stand_in(id, uuid, pool),
            (Op::Bitmap { .. } | Op::PeerFlush | Op::Ahead, _) => {
                unreachable!("this is for the peer only")
            }
            (Op::Read | Op::Verify | Op::Compare | Op::Write, None) => {
                unreachable!("a transfer without a buffer")
            }
        };
        (slot.local, slot.tried) = (Local::Disk, true);
        self.issue(id, op);
    }

    /// Ends a slot of which neither the disk nor the peer has anything left to do.
    pub(super) fn finish_if_done(&mut self, id: SlotId, pool: &mut Mem<'_>) {
        let slot = self.slots.at(id);
        if mutation::is(Mutation::AckBeforePeer)
            && slot.owner == Owner::Client
            && slot.op != Op::Read
            && (slot.local, slot.remote) == (Local::Done, Remote::Sent)
        {
            let early = core::mem::replace(&mut slot.request, RequestId::MAX);
            if early != RequestId::MAX {
                self.queue.push(Queued::Reply {
                    id: early,
                    result: Ok(()),
                    buf: None,
                });
            }
        }
        let slot = self.slots.at(id);
        if !matches!(slot.local, Local::Done | Local::Failed) {
            return;
        }
        if slot.remote == Remote::Sent {
            return self.answer_early(id, pool);
        }
        let answered = slot.answered;
        self.settle_sync_end(id, pool);
        if !self.is_served(id, pool) || (!answered && self.hold(id)) {
            return;
        }
        let slot = self.take_out(id);
        if slot.logged
            && let Some(meta) = &mut self.volumes[slot.volume].meta
        {
            meta.log.leave(slot.offset, u64::from(slot.len));
        }
        if slot.locks_range() {
            let Self {
                overlaps,
                slots,
                ready,
                ..
            } = self;
            overlaps.leave(id, |unblocked| slots.push(ready, unblocked));
        }
        if slot.orphan {
            self.orphans -= 1;
        }
        match slot.owner {
            Owner::Client => self.finish_client(slot, pool),
            Owner::Peer => self.finish_peer(slot, pool),
            Owner::Resync => self.finish_resync(slot, pool),
            Owner::Meta => self.finish_meta(&slot, pool),
            Owner::Old => self.finish_old(slot, pool),
            Owner::Abandoned => {}
        }
    }

    /// A client is about to have its answer.
    pub(super) fn client_served(
        &mut self,
        at: usize,
        op: Op,
        (len, fua): (u32, bool),
        began: Micros,
    ) {
        let class = match op {
            Op::Read => Class::read(len),
            Op::Write => Class::write(len, fua),
            Op::Flush => Class::Flush,
            _ => Class::Other,
        };
        self.controller.client_finished(self.now, class, began);
        let took = self.now.saturating_sub(began);
        self.volumes[at].latencies.request.record(took);
    }

    fn finish_client(&mut self, slot: Slot, pool: &mut Mem<'_>) {
        self.clients_live -= 1;
        if slot.answered {
            self.caught_up(&slot);
            // It is not sent again: what it changed is on this disk alone.
            self.volumes[slot.volume].through.ahead |= slot.changes_data() && !slot.acked;
        } else {
            self.client_served(slot.volume, slot.op, (slot.len, slot.fua), slot.began);
        }
        if slot.error.is_some() && slot.changes_data() && slot.tried {
            let volume = &mut self.volumes[slot.volume];
            volume.mark_dirty(slot.offset, u64::from(slot.len));
            if core::mem::take(&mut volume.mirrored) {
                // It was frozen beside a connected peer, whatever that has of it, and its client was dropped: a handshake
                // evens it out.
                self.reopen_link();
            }
        }
        if slot.request == RequestId::MAX && mutation::is(Mutation::AckBeforePeer) {
            if let Some(buf) = slot.buf {
                pool.free(buf);
            }
            return;
        }
        if slot.answered {
            if let Some(buf) = slot.buf {
                pool.free(buf);
            }
            return;
        }
        let result = slot.error.map_or(Ok(()), Err);
        let mut buf = slot.buf;
        if slot.op == Op::Read && buf.is_none() {
            // A reader gets a buffer back even if there is nothing in it.
            buf = pool.alloc(slot.len);
        }
        self.answer(slot.request, slot.op, result, buf, pool);
    }

    /// Lets slots that waited for the peer's window try again.
    pub(super) fn release_stalled(&mut self) {
        if self.stalled.is_empty() || !self.window_open() {
            return;
        }
        let mut stalled = core::mem::replace(&mut self.stalled, List::EMPTY);
        while let Some(id) = self.slots.pop(&mut stalled) {
            self.slots.push(&mut self.ready, id);
        }
    }
}
