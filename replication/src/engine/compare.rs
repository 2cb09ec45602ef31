//! Digests of blocks, compared between the nodes: a resync sends only what differs, a verify reports it.
//!
//! The node that asks reads a run under its range lock, which keeps clients' writes out on both nodes, and sends
//! the digests of its blocks. The other one reads the same range and answers which blocks differ. Of
//! these, if they are to be copied, adjacent ones are sent one part at a time, while the lock is held.

use super::slots::{Compare, Local, Op, Owner, Remote, Slot, SlotId};
use super::{Engine, Queued};
use crate::api::{ReplicationState, Role};
use crate::buf::{Buf, BufView, Mem, PAGE};
use crate::wire::{Comparison, Frame};
use resync::digest::{Digest, Digester, diff};
use resync::{BLOCK, MAX_RUN, Run};

/// Bytes of a digest, and of the key before them.
const DIGEST: usize = 16;
/// Digests of a run at most.
const DIGESTS: usize = resync::digest::DIGESTS_MAX;

fn digests_of(key: &Digest, bytes: &[u8]) -> ([Digest; DIGESTS], usize) {
    let mut digests = [[0; DIGEST]; DIGESTS];
    let count = Digester::new(key).digests(bytes, &mut digests);
    (digests, count)
}

impl Engine {
    /// A key for digests, known to nobody before.
    pub(super) fn digest_key(&mut self) -> Digest {
        let (high, low) = (self.random(), self.random());
        (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
    }

    /// On the node that asks: a run was read. Answers `false` if there is no memory for the digests.
    pub(super) fn ask_which_differ(&mut self, id: SlotId, key: &Digest, mem: &mut Mem<'_>) -> bool {
        let wire = self.slots.wire_id(id);
        let slot = self.slots.at(id);
        let Some(data) = &slot.buf else { return false };
        let (digests, count) = digests_of(key, mem.bytes(data));
        let Some(mut buf) = slot.digests.take().or_else(|| mem.alloc(PAGE)) else {
            return false;
        };
        buf.set_len(((1 + count) * DIGEST) as u32);
        let (parts, _) = mem.bytes_mut(&buf).as_chunks_mut::<DIGEST>();
        for (part, digest) in parts
            .iter_mut()
            .zip(core::iter::once(key).chain(&digests[..count]))
        {
            *part = *digest;
        }
        let payload = Some(buf.view());
        slot.digests = Some(buf);
        slot.compare = Compare::Asked;
        slot.remote = Remote::Sent;
        let (at, offset, len) = (slot.volume, slot.offset, slot.len);
        let frame = Frame::Compare {
            volume: self.volumes[at].config.index,
            request: wire,
            offset,
            len,
        };
        self.count_sent();
        self.queue.push(Queued::Send { frame, payload });
        true
    }

    /// On the node that asks: the peer's answer.
    pub(super) fn compared(&mut self, wire: u64, outcome: Comparison, mem: &mut Mem<'_>) {
        let asked = |slot: &Slot| slot.remote == Remote::Sent && slot.compare == Compare::Asked;
        let found = self.slots.by_wire_id(wire);
        let Some(id) = found.filter(|id| self.slots.get(*id).is_some_and(asked)) else {
            return self.protocol_error("an answer to nothing that was asked");
        };
        self.link.outstanding -= 1;
        self.link.last_progress = self.now;
        let slot = self.slots.at(id);
        slot.remote = Remote::Done;
        if let Some(buf) = slot.digests.take() {
            mem.free(buf);
        }
        let blocks = u64::from(slot.len).div_ceil(BLOCK);
        let whole = u32::MAX >> (32 - blocks.clamp(1, 32));
        let copies = slot.op == Op::Read;
        slot.compare = match outcome {
            Comparison::Blocks(mask) => Compare::Differ {
                all: mask & whole,
                left: mask & whole,
                sent: 0,
            },
            // For a resync the block is to be overwritten anyway.
            _ if copies => Compare::Differ {
                all: whole,
                left: whole,
                sent: 0,
            },
            Comparison::Unreadable => Compare::Unreadable,
            Comparison::Busy => Compare::Busy,
        };
        self.copy_next(id, mem);
        self.release_stalled();
    }

    /// Sends the next blocks that differ, or ends the slot.
    fn copy_next(&mut self, id: SlotId, mem: &mut Mem<'_>) {
        let wire = self.slots.wire_id(id);
        let slot = self.slots.at(id);
        let run = Run {
            offset: slot.offset,
            len: slot.len,
        };
        let volume = &self.volumes[slot.volume];
        let copies = match slot.op {
            Op::Verify => volume.verify.active && volume.verify.repair,
            _ => volume.source.is_some(),
        };
        let Compare::Differ { left, sent, .. } = &mut slot.compare else {
            return self.finish_if_done(id, mem);
        };
        let next = run.select(*left).next();
        let (Some(part), Some(data), true) = (next, &slot.buf, copies) else {
            return self.finish_if_done(id, mem);
        };
        let first = (part.offset - run.offset) / BLOCK;
        let count = u64::from(part.len).div_ceil(BLOCK);
        *sent = (u32::MAX >> (32 - count)) << first;
        let view = data.view();
        let payload = Some(BufView {
            offset: view.offset + (part.offset - run.offset) as usize,
            len: part.len,
        });
        slot.remote = Remote::Sent;
        let (volume, request, offset) = (volume.config.index, wire, part.offset);
        let frame = match slot.op {
            // Like a client's write: the peer's disk stays as good as it was, block by block it gets better.
            Op::Verify => Frame::Write {
                volume,
                request,
                offset,
                fua: false,
            },
            _ => Frame::SyncData {
                volume,
                request,
                offset,
            },
        };
        self.count_sent();
        self.queue.push(Queued::Send { frame, payload });
    }

    /// The peer has stored what was sent of a run that was compared. Answers `false` for any other slot.
    pub(super) fn part_copied(&mut self, id: SlotId, mem: &mut Mem<'_>) -> bool {
        let slot = self.slots.at(id);
        let Compare::Differ { left, sent, .. } = &mut slot.compare else {
            return false;
        };
        let copied = core::mem::take(sent);
        *left &= !copied;
        let run = Run {
            offset: slot.offset,
            len: slot.len,
        };
        let volume = &mut self.volumes[slot.volume];
        if slot.op == Op::Verify
            && let Some(meta) = &mut volume.meta
        {
            for part in run.select(copied) {
                meta.acknowledged(part.offset, u64::from(part.len));
            }
        }
        self.copy_next(id, mem);
        true
    }

    /// On the other node: the peer asks which blocks differ from what it has.
    pub(super) fn compare_request(
        &mut self,
        at: usize,
        request: u64,
        range: (u64, u32),
        digests: Buf,
        mem: &mut Mem<'_>,
    ) {
        let (offset, len) = range;
        let expected = (1 + u64::from(len).div_ceil(BLOCK)) * DIGEST as u64;
        if len > MAX_RUN || u64::from(digests.len()) != expected || !offset.is_multiple_of(BLOCK) {
            mem.free(digests);
            return self.protocol_error("digests that do not fit their range");
        }
        let Some(buf) = mem.alloc(len) else {
            mem.free(digests);
            let outcome = Comparison::Busy;
            return self.send(Frame::Compared { request, outcome });
        };
        self.peers_live += 1;
        self.enter_epoch(Slot {
            buf: Some(buf),
            digests: Some(digests),
            request,
            unlocked: self.role == Role::Primary,
            ..Slot::new(Owner::Peer, Op::Compare, at, offset, len)
        });
    }

    /// On the other node: the range was read, or could not be.
    pub(super) fn answer_comparison(&mut self, slot: &Slot, mem: &Mem<'_>) {
        let request = slot.request;
        let volume = &mut self.volumes[slot.volume];
        if !volume.usable() {
            return self.send(Frame::Nack { request });
        }
        let outcome = match (&slot.buf, &slot.digests) {
            // What is read may be in the disk's cache for good: a resync writes all of it again.
            (Some(_), Some(_))
                if slot.local == Local::Done
                    && volume.through.doomed
                    && volume.replication == ReplicationState::SyncTarget =>
            {
                Comparison::Blocks(u32::MAX)
            }
            (Some(data), Some(theirs)) if slot.local == Local::Done => {
                let (chunks, _) = mem.bytes(theirs).as_chunks::<DIGEST>();
                let (key, theirs) = chunks.split_first().unwrap_or((&[0; DIGEST], &[]));
                let (ours, count) = digests_of(key, mem.bytes(data));
                Comparison::Blocks(diff(&ours[..count], theirs))
            }
            _ => Comparison::Unreadable,
        };
        if let Comparison::Blocks(mask) = outcome
            && volume.replication == ReplicationState::SyncTarget
        {
            let run = Run {
                offset: slot.offset,
                len: slot.len,
            };
            let equal = run.select(!mask).map(|part| u64::from(part.len));
            volume.sync_left = volume.sync_left.saturating_sub(equal.sum());
        }
        self.send(Frame::Compared { request, outcome });
    }
}
