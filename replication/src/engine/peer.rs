//! Frames from the peer, and its requests to this node's disks.

use super::slots::{Local, Op, Owner, Remote, Slot, SlotId};
use super::{Engine, RESYNC_SLOTS};
use crate::api::{DiskState, Protocol, ReplicationState, Role};
use crate::buf::{Buf, Mem};
use crate::mutation::{self, Mutation};
use crate::wire::{Frame, MAX_PAYLOAD};

/// A request of the peer, before it is checked.
struct Request {
    volume: u16,
    number: u64,
    op: Op,
    offset: u64,
    len: u32,
    fua: bool,
    resync: bool,
}

impl Engine {
    pub(super) fn frame(&mut self, frame: Frame, buf: Option<Buf>, pool: &mut Mem<'_>) {
        if !self.link.up || self.link.closing {
            if let Some(buf) = buf {
                pool.free(buf);
            }
            return;
        }
        self.heard();
        let len = buf.as_ref().map_or(0, Buf::len);
        let (volume, number, op, offset, len, fua, resync) = match frame {
            Frame::Bitmap {
                volume,
                request,
                last,
            } => return self.bitmap_part(volume, request, last, buf, pool),
            Frame::Write {
                volume,
                request,
                offset,
                fua,
            } => (volume, request, Op::Write, offset, len, fua, false),
            Frame::SyncData {
                volume,
                request,
                offset,
            } => (volume, request, Op::Write, offset, len, false, true),
            Frame::Discard {
                volume,
                request,
                offset,
                len,
                fua,
            } => (volume, request, Op::Discard, offset, len, fua, false),
            Frame::WriteZeroes {
                volume,
                request,
                offset,
                len,
                unmap,
                fua,
            } => (
                volume,
                request,
                Op::Zeroes { unmap },
                offset,
                len,
                fua,
                false,
            ),
            Frame::SyncZeroes {
                volume,
                request,
                offset,
                len,
                unmap,
            } => {
                let op = Op::Zeroes { unmap };
                (volume, request, op, offset, len, false, true)
            }
            Frame::Compare {
                volume,
                request,
                offset,
                len,
            } => (volume, request, Op::Compare, offset, len, false, false),
            Frame::Flush { volume, request } => (volume, request, Op::Flush, 0, 0, false, false),
            Frame::ReadRequest {
                volume,
                request,
                offset,
                len,
            } => (volume, request, Op::Read, offset, len, false, false),
            Frame::ReadReply { request, reply } => {
                return self.read_reply(request, reply, buf, pool);
            }
            Frame::SyncEnd {
                volume,
                request,
                uuid,
            } => (volume, request, Op::SyncEnd { uuid }, 0, 0, false, true),
            control => {
                if let Some(buf) = buf {
                    pool.free(buf);
                }
                return self.control(control, pool);
            }
        };
        let request = Request {
            volume,
            number,
            op,
            offset,
            len,
            fua,
            resync,
        };
        self.peer_request(request, buf, pool);
    }

    /// Everything but requests to the disk.
    fn control(&mut self, frame: Frame, pool: &mut Mem<'_>) {
        match frame {
            Frame::Hello(hello) => return self.hello(hello),
            Frame::HelloVolume(volume) => return self.hello_volume(volume),
            Frame::Refuse { reason, volume } => return self.refused(reason, volume),
            Frame::Ping => return self.send(Frame::Pong),
            Frame::Pong => return self.pong(),
            _ => {}
        }
        if !self.connected() {
            if self.link.refused_until.is_none() {
                self.protocol_error("a request before the end of the handshake");
            }
            return;
        }
        match frame {
            Frame::Ack { request } => self.answered(request, true, pool),
            Frame::Nack { request } => self.answered(request, false, pool),
            Frame::Received { request } => self.received(request, pool),
            Frame::Barrier => self.barrier(),
            Frame::Ahead { volume, request } => self.left_behind_by(volume, request, pool),
            Frame::State(state) => self.peer_state(&state, pool),
            Frame::DiskLost {
                volume,
                request,
                uuid,
            } => self.disk_lost(volume, request, uuid),
            Frame::PromoteRequest { request } => self.promote_request(request),
            Frame::PromoteReply { request, granted } => self.promote_reply(request, granted, pool),
            Frame::NewGeneration { uuid } => self.new_generation(uuid, pool),
            Frame::NewGenerationReply { uuid, accepted } => {
                self.new_generation_reply(uuid, accepted, pool);
            }
            Frame::SyncStart {
                volume,
                uuid,
                bytes,
            } => self.sync_start(volume, uuid, bytes, pool),
            Frame::SyncLeft { volume, bytes } => self.sync_left(volume, bytes),
            Frame::Compared { request, outcome } => self.compared(request, outcome, pool),
            Frame::SyncRequest {
                volume,
                request,
                sender_is_source,
            } => self.sync_request(volume, request, sender_is_source, pool),
            Frame::SyncReply { request, granted } => self.sync_reply(request, granted, pool),
            Frame::Resize(resize) => self.resize_step(resize, pool),
            Frame::ResizeReply(reply) => self.resize_reply(reply, pool),
            _ => unreachable!("requests and the handshake were handled before"),
        }
    }

    fn peer_request(&mut self, request: Request, buf: Option<Buf>, pool: &mut Mem<'_>) {
        let at = match self.check_request(&request, buf.is_some()) {
            Ok(at) => at,
            Err(what) => {
                if let Some(buf) = buf {
                    pool.free(buf);
                }
                if self.link.refused_until.is_none() {
                    self.protocol_error(what);
                }
                return;
            }
        };
        let mut buf = buf;
        if request.op == Op::Compare
            && let Some(digests) = buf.take()
        {
            let range = (request.offset, request.len);
            return self.compare_request(at, request.number, range, digests, pool);
        }
        let volume = &mut self.volumes[at];
        let len = u64::from(request.len);
        volume.received_bytes += len;
        if request.resync {
            volume.sync_left = volume.sync_left.saturating_sub(len);
        }
        self.peers_live += 1;
        if mutation::is(Mutation::AckBeforeDisk) && request.op == Op::Write {
            self.send(Frame::Ack {
                request: request.number,
            });
        }
        let slot = Slot {
            fua: request.fua,
            buf,
            request: request.number,
            unlocked: self.role == Role::Primary,
            ..Slot::new(Owner::Peer, request.op, at, request.offset, request.len)
        };
        if slot.changes_data() && self.volumes[at].through.for_peer {
            // Already now: when it starts the connection may be gone, and it is done nevertheless.
            let len = u64::from(slot.len);
            self.volumes[at].mark_dirty(slot.offset, len);
        }
        // Of a disk that is not used any more the memory is no part either.
        if self.config.mirroring.protocol == Protocol::B
            && slot.changes_data()
            && !request.resync
            && !slot.fua
            && self.volumes[at].usable()
        {
            self.send(Frame::Received {
                request: request.number,
            });
        }
        self.enter_epoch(slot);
    }

    /// Requests of the peer that may be under way at once.
    pub(super) fn peers_limit(&self) -> usize {
        usize::from(self.config.max_requests + RESYNC_SLOTS)
    }

    fn check_request(&self, request: &Request, payload: bool) -> Result<usize, &'static str> {
        if !self.connected() {
            return Err("a request before the end of the handshake");
        }
        // A comparison only reads: of a disk that is attached again, say, and is being resynced.
        // A flush harms nobody: a Secondary's own, before it cools extents, may cross the word that this node is Primary now.
        let writes = !request.resync && !matches!(request.op, Op::Compare | Op::Flush);
        if self.role == Role::Primary && writes {
            return Err("a write to a Primary");
        }
        if self.peers_live >= self.peers_limit() {
            return Err("more requests than the window allows");
        }
        let Some(at) = self.volume_by_index(request.volume) else {
            return Err("a request for an unknown volume");
        };
        let volume = &self.volumes[at];
        if matches!(request.op, Op::Write | Op::Compare) != payload {
            return Err("a payload where none belongs, or none where one does");
        }
        let ranged = !matches!(
            request.op,
            Op::Flush | Op::Bitmap { .. } | Op::SyncEnd { .. }
        );
        if ranged && !volume.contains(request.offset, u64::from(request.len)) {
            return Err("a range outside of the volume");
        }
        if let Op::SyncEnd { uuid: 0 } = request.op {
            return Err("a resync to no generation");
        }
        // A disk that failed in this moment has told the peer so, and answers that it did.
        let target = volume.disk == DiskState::Inconsistent
            && volume.replication == ReplicationState::SyncTarget;
        if volume.usable() && request.resync && !target {
            return Err("resync data without a resync");
        }
        let length = request.len > 0 && request.len <= MAX_PAYLOAD;
        if request.op == Op::Read {
            return if length {
                Ok(at)
            } else {
                Err("a read of more than a frame can bring")
            };
        }
        if volume.usable() && !target && !volume.mirrored && !volume.through.for_peer {
            return Err("a write to a volume that is not mirrored");
        }
        Ok(at)
    }

    /// On the target: everything of the resync is flushed, and takes effect. The answer waits until it is durable.
    pub(super) fn settle_sync_end(&mut self, id: SlotId, mem: &mut Mem<'_>) {
        let connected = self.connected();
        let slot = self.slots.at(id);
        let Op::SyncEnd { uuid } = slot.op else {
            return;
        };
        let at = slot.volume;
        let target = self.volumes[at].replication == ReplicationState::SyncTarget;
        let good = slot.local == Local::Done && !slot.orphan && connected;
        if slot.owner == Owner::Peer && good && target && !slot.settled {
            slot.settled = true;
            self.sync_finished(at, uuid);
            self.save(at, mem);
        }
    }

    /// Answers a request of the peer that the disk has finished.
    pub(super) fn finish_peer(&mut self, slot: Slot, pool: &mut Mem<'_>) {
        self.peers_live -= 1;
        self.epoch_done(&slot);
        if slot.op == Op::Compare && !slot.orphan && self.connected() {
            self.answer_comparison(&slot, pool);
        }
        for buf in [slot.buf, slot.digests].into_iter().flatten() {
            if !mutation::is(Mutation::BufferLeak) {
                pool.free(buf);
            }
        }
        let over = slot.op == Op::Compare || slot.remote == Remote::Done;
        let orphan = slot.orphan && !mutation::is(Mutation::AcceptStaleAck);
        if over || orphan || !self.connected() {
            return;
        }
        if mutation::is(Mutation::AckBeforeDisk) && slot.op == Op::Write {
            return;
        }
        let request = slot.request;
        if slot.local == Local::Failed {
            return self.send(Frame::Nack { request });
        }
        if matches!(slot.op, Op::SyncEnd { .. }) && !slot.settled {
            return self.send(Frame::Nack { request });
        }
        self.send(Frame::Ack { request });
    }
}
