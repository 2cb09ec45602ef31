//! Reading the old content of a resync's target while it is kept: what was overwritten since from the reserve, the rest
//! from the disk.
//!
//! A read holds its range as any other, so nothing of it is overwritten between the look into the map and the end of the
//! read. It goes piece by piece: neighbours in the reserve, or blocks that were not overwritten.

use super::super::slots::{Local, Op, Owner, Slot, SlotId};
use super::super::{Engine, Queued, olds_limit};
use crate::api::{ClientError, DiskError, DiskOp, RequestId};
use crate::buf::{Buf, BufView, Mem};
use crate::ondisk::PAGE as PAGE_LEN;
use crate::ondisk::snapshot::GROUP;
use ::resync::BLOCK;

/// Reads that may be under way at once.
pub(in crate::engine) const OLDS_MAX: usize = 32;

/// Where the next bytes of a read are.
enum Piece {
    /// On the volume's disk, so many.
    Disk(u32),
    /// In the reserve, from this byte of the metadata's disk on, so many.
    Reserve(u64, u32),
}

impl Engine {
    /// A client reads the old content.
    pub(in crate::engine) fn read_old(&mut self, id: RequestId, index: u16, offset: u64, buf: Buf) {
        let len = buf.len();
        let at = self.volume_by_index(index);
        let held = at.and_then(|at| {
            let volume = &self.volumes[at];
            let readable = volume.usable()
                && volume.holds_snapshot()
                && volume.contains(offset, u64::from(len))
                && self.olds_live < olds_limit(&self.config);
            let snapshot = volume.snapshot.filter(|_| readable)?;
            Some((at, snapshot.id))
        });
        let Some((at, snapshot)) = held else {
            let (result, buf) = (Err(ClientError::NotServing), Some(buf));
            self.queue.push(Queued::Reply { id, result, buf });
            return;
        };
        self.olds_live += 1;
        self.enter(Slot {
            buf: Some(buf),
            request: id,
            old: snapshot,
            ..Slot::new(Owner::Old, Op::Read, at, offset, len)
        });
    }

    /// Reads the next piece; there is nothing more to read: answers.
    pub(in crate::engine) fn start_old(&mut self, id: SlotId, mem: &mut Mem<'_>) {
        let slot = self.slots.at(id);
        let (at, old) = (slot.volume, slot.old);
        let (done, len, offset) = (slot.progress, slot.len, slot.offset);
        let view = slot.buf.as_ref().map(Buf::view);
        let volume = &self.volumes[at];
        let same = volume.snapshot.is_some_and(|snapshot| snapshot.id == old);
        let readable = same && volume.usable() && volume.holds_snapshot();
        let (Some(view), true) = (view, readable) else {
            return self.end_old(id, Some(ClientError::NotServing), mem);
        };
        if done == len {
            return self.end_old(id, None, mem);
        }
        let place = offset + u64::from(done);
        let piece = self.next_piece(at, place, len - done);
        let bytes = match piece {
            Piece::Disk(bytes) | Piece::Reserve(_, bytes) => bytes,
        };
        let view = BufView {
            offset: view.offset + done as usize,
            len: bytes,
        };
        let slot = self.slots.at(id);
        slot.local = Local::Disk;
        slot.piece = bytes;
        let read = |offset| DiskOp::Read {
            offset,
            view,
            detect_zeroes: false,
        };
        match piece {
            Piece::Disk(_) => self.issue(id, read(place)),
            Piece::Reserve(from, _) => self.issue_there(id, read(from), true),
        }
    }

    fn next_piece(&self, at: usize, from: u64, left: u32) -> Piece {
        let end = from + u64::from(left);
        let first = from / BLOCK;
        let until = |block: u64| (end.min(block * BLOCK) - from) as u32;
        let Some(copies) = &self.volumes[at].copies else {
            return Piece::Disk(left);
        };
        let blocks = first + 1..end.div_ceil(BLOCK);
        match copies.map.covered(first) {
            None => {
                let next = blocks.clone().find(|b| copies.map.covered(*b).is_some());
                Piece::Disk(next.map_or(left, until))
            }
            Some(place) => {
                let follows = |block: u64| {
                    let there = u64::from(place) + (block - first);
                    let same_group = there / u64::from(GROUP) == u64::from(place / GROUP);
                    same_group && copies.map.covered(block).map(u64::from) == Some(there)
                };
                let next = blocks.clone().find(|block| !follows(*block));
                let within = from - first * BLOCK;
                Piece::Reserve(
                    copies.reserve.block(place) + within,
                    next.map_or(left, until),
                )
            }
        }
    }

    /// A piece was read.
    pub(in crate::engine) fn old_done(
        &mut self,
        id: SlotId,
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let sound = result.is_ok() && self.is_piece_sound(id, mem);
        let slot = self.slots.at(id);
        slot.local = Local::Waiting;
        slot.progress += slot.piece;
        if sound {
            self.start_old(id, mem);
        } else {
            self.end_old(id, Some(ClientError::Io), mem);
        }
    }

    /// Whether what was read of the reserve in whole blocks is what was written there.
    fn is_piece_sound(&self, id: SlotId, mem: &Mem<'_>) -> bool {
        let Some(slot) = self.slots.get(id) else {
            return false;
        };
        let (Some(buf), Some(copies)) = (&slot.buf, &self.volumes[slot.volume].copies) else {
            return false;
        };
        let from = slot.offset + u64::from(slot.progress);
        let whole = from.next_multiple_of(BLOCK);
        let skip = slot.progress as usize + (whole - from) as usize;
        let end = (slot.progress + slot.piece) as usize;
        let bytes = mem.bytes(buf).get(skip..end).unwrap_or_default();
        (whole / BLOCK..)
            .zip(bytes.chunks_exact(PAGE_LEN))
            .all(|(block, bytes)| match copies.map.covered(block) {
                Some(place) => crate::crc32c::extend(0, bytes) == copies.map.crc(place),
                None => true,
            })
    }

    fn end_old(&mut self, id: SlotId, error: Option<ClientError>, mem: &mut Mem<'_>) {
        let slot = self.slots.at(id);
        slot.error = error;
        slot.local = if error.is_none() {
            Local::Done
        } else {
            Local::Failed
        };
        self.finish_if_done(id, mem);
    }

    /// Answers a read of the old content that has ended.
    pub(in crate::engine) fn finish_old(&mut self, slot: Slot, mem: &mut Mem<'_>) {
        self.olds_live -= 1;
        let result = match slot.error {
            None if slot.local == Local::Done => Ok(()),
            None => Err(ClientError::Io),
            Some(error) => Err(error),
        };
        let buf = slot.buf.or_else(|| mem.alloc(slot.len));
        let id = slot.request;
        self.queue.push(Queued::Reply { id, result, buf });
    }

    /// Tells whoever exports it which volumes' old content can be read, where that has changed.
    pub(in crate::engine) fn offer_old(&mut self) {
        for at in 0..self.volumes.len() {
            let volume = &mut self.volumes[at];
            let readable = volume.usable() && volume.holds_snapshot();
            let held = volume.snapshot.filter(|_| readable);
            let (id, index) = (held.map(|snapshot| snapshot.id), volume.config.index);
            let before = core::mem::replace(&mut volume.old_offered, id);
            let tell = |readable| Queued::Snapshot {
                volume: index,
                readable,
            };
            if before.is_some() && before != id {
                self.queue.push(tell(false));
            }
            if id.is_some() && before != id {
                self.queue.push(tell(true));
            }
        }
    }
}
