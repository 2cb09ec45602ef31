//! Saving a volume's superblock, and the operations of all lanes.

use super::super::pages::{Pages, first};
use super::super::{Engine, Queued, text};
use super::{Lane, SuperStage, ZERO_AT_ONCE, page_mut};
use crate::api::{DiskError, DiskOp, DiskToken};
use crate::buf::{Mem, PAGE};
use crate::lineage::JUST_CREATED;
use crate::mutation::{self, Mutation};

impl Engine {
    /// Saves what has changed in any volume since the last time.
    pub(in crate::engine) fn save_all(&mut self, mem: &mut Mem<'_>) {
        for at in 0..self.volumes.len() {
            self.save(at, mem);
        }
    }

    /// Saves what has changed in a volume since the last time.
    pub(in crate::engine) fn save(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        if !volume.usable() {
            return;
        }
        let Some(mut meta) = volume.meta.take() else {
            return;
        };
        // Of just created metadata the superblock says it all.
        let pages_count = meta.all_dirty && volume.gens.current != JUST_CREATED;
        if pages_count && first(&meta.pages.changed).is_none() && meta.page_io.is_none() {
            // Every page says itself what is dirty.
            meta.all_dirty = false;
        }
        let stored = volume.stored(&meta, self.role, self.fence.revision());
        if stored != meta.asked {
            meta.asked = stored;
            meta.asked_count += 1;
        }
        let start = meta.saving() && meta.stage == SuperStage::Idle;
        // Until every page is what it should be, a crash costs a full resync.
        let write_pages = pages_count && meta.all_dirty && meta.page_io.is_none() && !meta.frozen;
        if write_pages {
            let Pages {
                changed, wanted, ..
            } = &mut meta.pages;
            wanted.copy_from_slice(changed);
        }
        volume.meta = Some(meta);
        if start {
            self.start_save(at, mem);
        }
        if write_pages {
            self.pump_pages(at, mem);
        }
    }

    pub(super) fn start_save(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        let (Some(meta), Some(pages)) = (&mut volume.meta, &volume.lanes) else {
            return;
        };
        let mut offset = meta.layout().superblock_a;
        if core::mem::take(&mut meta.repair_b) {
            offset = meta.layout().superblock_b;
            meta.stage = SuperStage::WriteB;
        } else {
            meta.covers = meta.asked_count;
            meta.superblock.sequence += 1;
            meta.asked.put(&mut meta.superblock);
            if meta.asked.fence != 0 {
                meta.superblock.reserve = *self.fence.bytes();
            }
            meta.superblock.moved_from = meta.moved;
            meta.stage = SuperStage::WriteA;
        }
        let encoded = page_mut(mem, &pages.superblock).map(|page| meta.superblock.encode(page));
        match encoded {
            Some(Ok(())) => self.write_page(at, Lane::Super, offset),
            other => {
                let why = text!("no superblock can be made of what is known of it ({other:?})");
                meta.stage = SuperStage::Idle;
                self.fail_disk(at, &why, mem);
            }
        }
    }

    /// Issues the write of a lane's page.
    pub(super) fn write_page(&mut self, at: usize, lane: Lane, offset: u64) {
        let volume = &self.volumes[at];
        let Some(pages) = &volume.lanes else { return };
        let view = match lane {
            Lane::Super => pages.superblock.view(),
            Lane::Log => pages.log.view(),
            Lane::Bitmap | Lane::Attach | Lane::Inspect | Lane::Snapshot => pages.bitmap.view(),
        };
        self.meta_op(at, lane, DiskOp::Write { offset, view });
    }

    pub(in crate::engine) fn meta_op(&mut self, at: usize, lane: Lane, op: DiskOp) {
        self.lane_begins(at, lane);
        self.queue.push(Queued::Meta {
            token: lane.token(at),
            volume: self.volumes[at].config.index,
            op,
        });
    }

    /// A metadata operation ended.
    pub(in crate::engine) fn meta_done(
        &mut self,
        token: DiskToken,
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let (at, lane) = Lane::of(token);
        self.lane_ended(at, lane);
        if lane == Lane::Attach {
            return self.attach_done(at, result, mem);
        }
        if lane == Lane::Inspect {
            return self.inspect_done(at, result, mem);
        }
        if lane == Lane::Snapshot {
            return self.snapshot_done(at, result, mem);
        }
        let volume = &mut self.volumes[at];
        let usable = volume.usable();
        let Some(meta) = &mut volume.meta else {
            unreachable!("metadata was dropped while it was being written")
        };
        if result.is_err() && meta.flushes(lane) {
            // Of data too.
            volume.doom();
        }
        let Some(meta) = &mut volume.meta else {
            return;
        };
        if result.is_err() || !usable {
            match lane {
                Lane::Super => meta.stage = SuperStage::Idle,
                Lane::Log => meta.log_io = None,
                Lane::Bitmap | Lane::Attach | Lane::Inspect | Lane::Snapshot => meta.page_io = None,
            }
            if let Err(error) = result {
                let why = text!("its metadata could not be written ({error:?})");
                self.fail_disk(at, &why, mem);
            }
            return self.forget_failed(at);
        }
        match lane {
            Lane::Super => self.super_done(at, mem),
            Lane::Log => self.log_done(at, mem),
            Lane::Bitmap | Lane::Attach | Lane::Inspect | Lane::Snapshot => self.page_done(at, mem),
        }
    }

    pub(super) fn super_done(&mut self, at: usize, mem: &mut Mem<'_>) {
        let Some(meta) = &mut self.volumes[at].meta else {
            return;
        };
        match meta.stage {
            SuperStage::Idle => unreachable!("no superblock was being saved"),
            SuperStage::WriteA => {
                meta.stage = SuperStage::FlushA;
                self.meta_op(at, Lane::Super, DiskOp::Flush);
            }
            SuperStage::FlushA => {
                meta.stage = SuperStage::WriteB;
                if mutation::is(Mutation::SecondCopyNotWritten) {
                    return self.both_copies_durable(at, mem);
                }
                let offset = meta.layout().superblock_b;
                self.write_page(at, Lane::Super, offset);
            }
            SuperStage::WriteB => {
                meta.stage = SuperStage::FlushB;
                self.meta_op(at, Lane::Super, DiskOp::Flush);
            }
            SuperStage::FlushB => self.both_copies_durable(at, mem),
            SuperStage::Zero(from) => self.zero_old_area(at, from),
            SuperStage::FlushZeroes => {
                // Nor does the superblock say so any longer: clients may come to own these places.
                meta.moved = None;
                meta.asked_count += 1;
                meta.stage = SuperStage::Idle;
                self.start_save(at, mem);
            }
        }
    }

    /// What was saved takes effect: not before, since then it is found whichever of the copies cannot be read one day. Were
    /// one enough, a disk that fails between the two, and later cannot read the first, would take back what others relied on.
    fn both_copies_durable(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        volume.unsure.superblock = None;
        let Some(meta) = &mut volume.meta else { return };
        meta.durable_count = meta.covers;
        let saving = meta.saving();
        meta.stage = SuperStage::Idle;
        if meta.superblock.moved_from.is_some() {
            self.zero_old_area(at, 0);
        } else if saving {
            self.start_save(at, mem);
        }
        if !saving {
            self.release(at, mem);
        }
    }

    /// Zeroes the next part of the area where the metadata was before it moved.
    pub(super) fn zero_old_area(&mut self, at: usize, from: u64) {
        let Some(meta) = &mut self.volumes[at].meta else {
            return;
        };
        let Some([a, b]) = meta.moved else { return };
        let (offset, end) = (from.max(a), b + u64::from(PAGE));
        let len = (end - offset).min(ZERO_AT_ONCE) as u32;
        let op = if len == 0 {
            meta.stage = SuperStage::FlushZeroes;
            DiskOp::Flush
        } else {
            meta.stage = SuperStage::Zero(offset + u64::from(len));
            let unmap = true;
            DiskOp::WriteZeroes { offset, len, unmap }
        };
        self.meta_op(at, Lane::Super, op);
    }
}
