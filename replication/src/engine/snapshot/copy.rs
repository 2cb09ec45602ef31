//! Copying blocks into the reserve before they are overwritten.
//!
//! What waits is copied in batches: all blocks that the waiting slots need, up to the end of a group of the reserve, a flush,
//! then the group's table, and another flush. A batch never crosses groups, so a group is full and durable before the next one is begun.

use super::super::meta::Lane;
use super::super::slots::{List, Local, Owner, SlotId};
use super::super::{Engine, Queued, text};
use super::{Copies, Job, Trouble};
use crate::api::{DiskError, DiskOp};
use crate::buf::{BufView, Mem, PAGE};
use crate::mutation::{self, Mutation};
use crate::ondisk::snapshot::{Entry, GROUP};
use crate::ondisk::{PAGE as PAGE_LEN, snapshot};
use ::resync::BLOCK;

/// What is being done for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Read,
    Write,
    /// The content must be durable before a table says that it is there.
    FlushContent,
    Table,
    FlushTable,
}

impl Copies {
    /// Neighbours from a place on, in the reserve and in the volume, up to `end`: as many as are moved at once.
    pub(super) fn neighbours(&self, place: u32, end: u32) -> u32 {
        let group_end = (place / GROUP + 1) * GROUP;
        let end = end.min(group_end).min(place + self.at_once());
        let first = self.map.block(place);
        let more = (place + 1..end)
            .take_while(|next| self.map.block(*next) == first + u64::from(next - place));
        1 + more.count() as u32
    }

    /// Where content is moved through.
    pub(super) fn content(&self, bytes: u32) -> BufView {
        BufView {
            offset: self.buf.view().offset + PAGE_LEN,
            len: bytes,
        }
    }

    /// Whether all of a range is in the reserve.
    fn covers(&self, offset: u64, len: u64) -> bool {
        blocks_of(offset, len).all(|block| self.map.covered(block).is_some())
    }
}

fn blocks_of(offset: u64, len: u64) -> impl Iterator<Item = u64> {
    offset / BLOCK..(offset + len).div_ceil(BLOCK)
}

/// Bytes of a volume of `size` in so many blocks: its last one may be a part of one.
pub(super) fn bytes_in(size: u64, block: u64, count: u32) -> u32 {
    let whole = u64::from(count) * BLOCK;
    // At most what is moved at once.
    whole.min(size.saturating_sub(block * BLOCK)) as u32
}

impl Engine {
    /// Whether a slot may change the volume, as far as the snapshot is concerned. Otherwise it waits for that.
    pub(in crate::engine) fn pass_snapshot(&mut self, id: SlotId) -> bool {
        let slot = self.slots.at(id);
        let volume = &mut self.volumes[slot.volume];
        if slot.owner != Owner::Peer
            || !slot.changes_data()
            || slot.before_snapshot
            || !volume.holds_snapshot()
            || mutation::is(Mutation::OverwriteBeforeCopy)
        {
            return true;
        }
        let Some(copies) = &mut volume.copies else {
            unreachable!("a snapshot is held without its reserve")
        };
        if copies.covers(slot.offset, u64::from(slot.len)) {
            return true;
        }
        self.slots.push(&mut copies.waiting, id);
        false
    }

    /// Brings snapshots further.
    pub(in crate::engine) fn pump_snapshots(&mut self, mem: &mut Mem<'_>) {
        for at in 0..self.volumes.len() {
            if self.volumes[at].copies.is_some() {
                self.pump_copies(at, mem);
                self.pump_rollback(at, mem);
            }
        }
        self.offer_old();
        if !self.ready.is_empty() {
            self.run_ready(mem);
        }
    }

    /// Nobody waits for the reserve any more.
    pub(in crate::engine) fn release_copies(&mut self, at: usize) {
        let Some(copies) = &mut self.volumes[at].copies else {
            return;
        };
        let mut waiting = core::mem::replace(&mut copies.waiting, List::EMPTY);
        while let Some(id) = self.slots.pop(&mut waiting) {
            self.slots.push(&mut self.ready, id);
        }
    }

    /// Slots of before the snapshot was taken are still under way.
    fn is_settling(&mut self, at: usize) -> bool {
        let old = |id| {
            let slot = self.slots.get(id);
            slot.is_some_and(|slot| slot.volume == at && slot.before_snapshot)
        };
        let settling = (0..self.slots.capacity() as SlotId).any(old);
        if let Some(copies) = &mut self.volumes[at].copies {
            copies.settling = settling;
        }
        settling
    }

    fn pump_copies(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &self.volumes[at];
        let Some(copies) = &volume.copies else {
            return;
        };
        if copies.waiting.is_empty() {
            return;
        }
        if !volume.holds_snapshot() || !volume.usable() {
            return self.release_copies(at);
        }
        if !copies.is_idle() || (copies.settling && self.is_settling(at)) {
            return;
        }
        self.plan_batch(at, mem);
    }

    fn plan_batch(&mut self, at: usize, mem: &mut Mem<'_>) {
        let Some(copies) = &mut self.volumes[at].copies else {
            return;
        };
        let mut waiting = core::mem::replace(&mut copies.waiting, List::EMPTY);
        let durable = copies.map.durable();
        let group_end = (durable / GROUP + 1) * GROUP;
        let mut trouble = copies.trouble;
        let mut refused = List::EMPTY;
        while let Some(id) = self.slots.pop(&mut waiting) {
            let slot = self.slots.at(id);
            let (offset, len) = (slot.offset, u64::from(slot.len));
            let dropped = slot.orphan && !slot.outlives;
            if dropped || copies.covers(offset, len) {
                self.slots.push(&mut self.ready, id);
                continue;
            }
            let end = group_end.min(copies.map.capacity());
            for block in blocks_of(offset, len) {
                if copies.map.find(block).is_some() {
                    continue;
                }
                // What is beyond this group comes with the next batch.
                if copies.map.len() < end && copies.map.plan(block).is_ok() {
                    continue;
                }
                if copies.map.len() == copies.map.capacity() {
                    trouble = trouble.or(Some(Trouble::Full));
                }
                break;
            }
            let list = if trouble.is_some() && slot.orphan {
                // Nobody waits for it, and it cannot be done.
                &mut refused
            } else {
                &mut copies.waiting
            };
            self.slots.push(list, id);
        }
        let (first, known) = (copies.map.durable(), copies.trouble.is_some());
        let planned = copies.map.len() > first;
        while let Some(id) = self.slots.pop(&mut refused) {
            self.slots.at(id).local = Local::Failed;
            self.finish_if_done(id, mem);
        }
        match trouble {
            None if planned => self.copy_from(at, first),
            Some(trouble) if !known => self.snapshot_trouble(at, trouble, mem),
            _ => {}
        }
    }

    /// Reads the next blocks of the batch, from this place on; behind the last ones all of them are flushed.
    fn copy_from(&mut self, at: usize, place: u32) {
        let volume = &mut self.volumes[at];
        let size = volume.size;
        let Some(copies) = &mut volume.copies else {
            return;
        };
        let end = copies.map.len();
        if place == end {
            copies.job = Job::Copy {
                stage: Stage::FlushContent,
                place: copies.map.durable(),
                count: 0,
            };
            return self.meta_op(at, Lane::Snapshot, DiskOp::Flush);
        }
        let count = copies.neighbours(place, end);
        let block = copies.map.block(place);
        copies.job = Job::Copy {
            stage: Stage::Read,
            place,
            count,
        };
        let op = DiskOp::Read {
            offset: block * BLOCK,
            view: copies.content(bytes_in(size, block, count)),
            detect_zeroes: false,
        };
        self.data_op(at, op);
    }

    /// An operation on the volume's own disk.
    pub(super) fn data_op(&mut self, at: usize, op: DiskOp) {
        self.lane_begins(at, Lane::Snapshot);
        self.queue.push(Queued::Disk {
            token: Lane::Snapshot.token(at),
            volume: self.volumes[at].config.index,
            op,
        });
    }

    /// The reserve's operation at the disk ended.
    pub(in crate::engine) fn snapshot_done(
        &mut self,
        at: usize,
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let volume = &mut self.volumes[at];
        let usable = volume.usable();
        let Some(copies) = &mut volume.copies else {
            unreachable!("the reserve was dropped while it was being written")
        };
        let job = core::mem::replace(&mut copies.job, Job::Idle);
        if !usable {
            return;
        }
        match job {
            Job::Idle => unreachable!("nothing of the reserve was at the disk"),
            Job::Void => {}
            Job::Copy {
                stage,
                place,
                count,
            } => self.copy_done(at, (stage, place, count), result, mem),
            Job::Roll {
                write,
                place,
                count,
            } => self.roll_done(at, (write, place, count), result, mem),
            Job::Flush => self.roll_flushed(at, result, mem),
        }
    }

    fn copy_done(
        &mut self,
        at: usize,
        (stage, place, count): (Stage, u32, u32),
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let Some(copies) = &mut self.volumes[at].copies else {
            return;
        };
        if let Err(error) = result {
            if stage == Stage::Read && error != DiskError::Gone {
                let block = copies.map.block(place);
                return self.snapshot_trouble(at, Trouble::Unreadable(block), mem);
            }
            if matches!(stage, Stage::FlushContent | Stage::FlushTable) {
                self.volumes[at].doom();
            }
            return self.fail_reserve(at, error, mem);
        }
        match stage {
            Stage::Read => self.copy_read(at, place, count, mem),
            Stage::Write => self.copy_from(at, place + count),
            Stage::FlushContent => self.write_table(at, mem),
            Stage::Table => {
                copies.job = Job::Copy {
                    stage: Stage::FlushTable,
                    place,
                    count,
                };
                self.meta_op(at, Lane::Snapshot, DiskOp::Flush);
            }
            Stage::FlushTable => {
                copies.map.commit();
                let full = copies.map.durable().is_multiple_of(GROUP);
                let (copy, sequence) = copies.next_table;
                copies.next_table = if full {
                    (0, 1)
                } else {
                    (1 - copy, sequence + 1)
                };
                self.release_copies(at);
            }
        }
    }

    /// Old content was read: it goes to the reserve.
    fn copy_read(&mut self, at: usize, place: u32, count: u32, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        let Some(copies) = &mut volume.copies else {
            return;
        };
        let block = copies.map.block(place);
        let end = block * BLOCK + u64::from(count) * BLOCK;
        // The volume's last block may be a part of one.
        let beyond = end.saturating_sub(volume.size) as usize;
        let bytes = count as usize * PAGE_LEN;
        let Some(content) = mem
            .bytes_mut(&copies.buf)
            .get_mut(PAGE_LEN..PAGE_LEN + bytes)
        else {
            unreachable!("the buffer has room for what is moved at once")
        };
        content[bytes - beyond..].fill(0);
        for (n, content) in content.chunks_exact(PAGE_LEN).enumerate() {
            let crc = crate::crc32c::extend(0, content);
            copies.map.set_crc(place + n as u32, crc);
        }
        copies.job = Job::Copy {
            stage: Stage::Write,
            place,
            count,
        };
        let op = DiskOp::Write {
            offset: copies.reserve.block(place),
            view: copies.content(count * PAGE),
        };
        self.meta_op(at, Lane::Snapshot, op);
    }

    /// All content of the batch is written: the table of its group follows.
    fn write_table(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        let first = volume.copies.as_ref().map_or(0, |c| c.map.durable());
        let group = first / GROUP;
        let (Some(name), Some(copies)) = (volume.table_name(group), &mut volume.copies) else {
            unreachable!("a snapshot is copied for")
        };
        copies.job = Job::Copy {
            stage: Stage::Table,
            place: first,
            count: 0,
        };
        let (copy, sequence) = copies.next_table;
        let entries = copies.map.len() - group * GROUP;
        let Some(page) = mem.bytes_mut(&copies.buf).first_chunk_mut() else {
            unreachable!("the buffer has two pages at least")
        };
        let map = &copies.map;
        let entries = (0..entries).map(|n| Entry {
            block: map.block(group * GROUP + n),
            crc: map.crc(group * GROUP + n),
        });
        snapshot::encode(name, sequence, entries, page);
        let op = DiskOp::Write {
            offset: copies.reserve.table(group, copy),
            view: BufView {
                len: PAGE,
                ..copies.buf.view()
            },
        };
        self.meta_op(at, Lane::Snapshot, op);
    }

    /// The disk with the reserve has failed.
    pub(super) fn fail_reserve(&mut self, at: usize, error: DiskError, mem: &mut Mem<'_>) {
        let why = text!("the reserve of its snapshot could not be used ({error:?})");
        self.fail_disk(at, &why, mem);
    }
}
