//! The activity log and the bitmap on the disk: extents that become hot and cold, pages that are saved.

use super::super::Engine;
use super::super::pages::{bits_of, first, get, put, want};
use super::super::slots::{Local, Op, Owner, Slot, SlotId};
use super::{Cooling, Lane, Meta, SAVE_BITMAP, Stage, page_mut};
use crate::activity::PageCopy;
use crate::api::{DiskOp, Micros};
use crate::buf::Mem;
use crate::mutation::{self, Mutation};
use crate::ondisk;
use resync::PAGE_WORDS;

impl Engine {
    /// Writes the next page of the activity log if one must be written.
    pub(in crate::engine) fn pump_log(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        let usable = volume.usable();
        let (Some(meta), Some(pages)) = (&mut volume.meta, &volume.lanes) else {
            return;
        };
        if meta.log_io.is_some() || !usable || meta.frozen {
            return;
        }
        let Some(commit) = meta.log.next_commit() else {
            return;
        };
        let mut words = [0; PAGE_WORDS];
        meta.log.fill(commit, &mut words);
        let id = meta.superblock.device_id;
        if let Some(page) = page_mut(mem, &pages.log) {
            ondisk::activity::encode(id, commit.page, commit.sequence, &words, page);
        }
        let slot = u8::from(commit.copy == PageCopy::B);
        let Some(offset) = meta.layout().activity_page(commit.page, slot) else {
            unreachable!("the layout has room for the volume's activity log")
        };
        meta.log_io = Some((commit, Stage::Write));
        self.write_page(at, Lane::Log, offset);
    }

    pub(super) fn log_done(&mut self, at: usize, mem: &mut Mem<'_>) {
        let Some(meta) = &mut self.volumes[at].meta else {
            return;
        };
        let Some((commit, stage)) = meta.log_io.take() else {
            unreachable!("no page of the activity log was being written")
        };
        if stage == Stage::Write {
            meta.log_io = Some((commit, Stage::Flush));
            return self.meta_op(at, Lane::Log, DiskOp::Flush);
        }
        meta.log.committed(commit);
        let volume = &mut self.volumes[at];
        volume.unsure.log = (volume.unsure.log).filter(|(page, _)| *page != commit.page);
        self.release_gate(at);
        self.pump_log(at, mem);
        self.cool(at);
    }

    /// The node is about to be stopped: what is known goes to the disks with the next [`crate::api::Event::Tick`],
    /// [`Engine::is_saved`] tells when it is there.
    pub fn save_everything(&mut self) {
        for meta in self.volumes.iter_mut().filter_map(|v| v.meta.as_mut()) {
            meta.bitmap_from = 0;
        }
    }

    /// When extents should be looked at for cooling.
    pub(in crate::engine) fn cooling_deadline(&self) -> Option<Micros> {
        let metas = self.volumes.iter().filter(|v| v.usable());
        metas
            .filter_map(|v| v.meta.as_ref())
            .filter(|meta| meta.cooling == Cooling::None && !meta.frozen)
            .filter_map(|meta| {
                meta.log
                    .next_due()
                    .into_iter()
                    .chain(meta.bitmap_due())
                    .min()
            })
            .min()
    }

    /// Begins to cool extents where that is due.
    pub(in crate::engine) fn cool_all(&mut self) {
        for at in 0..self.volumes.len() {
            self.cool(at);
        }
    }

    /// First whatever was written into the extents must be durable on both disks.
    pub(super) fn cool(&mut self, at: usize) {
        let now = self.now;
        let volume = &mut self.volumes[at];
        let usable = volume.usable();
        let Some(meta) = &mut volume.meta else { return };
        if !usable || meta.cooling != Cooling::None || meta.frozen {
            return;
        }
        let bitmap = meta.bitmap_due().is_some_and(|due| due <= now);
        let extents = meta.log.begin_cooling(now).is_some();
        if !bitmap && !extents {
            return;
        }
        meta.bitmap_only = !extents;
        let Meta { log, pages, .. } = &mut **meta;
        for range in log.cooling() {
            want(pages, range.start, range.end);
        }
        if bitmap {
            pages.wanted.copy_from_slice(&pages.changed);
            meta.bitmap_from = now + SAVE_BITMAP;
        }
        meta.cooling = Cooling::Flushing;
        self.metas_live += 1;
        let id = self
            .slots
            .insert(Slot::new(Owner::Meta, Op::Flush, at, 0, 0));
        self.slots.push(&mut self.ready, id);
    }

    /// The flush before a cooling ended: the bitmap says what the peer lacks or may lose.
    pub(in crate::engine) fn finish_meta(&mut self, slot: &Slot, mem: &mut Mem<'_>) {
        self.metas_live -= 1;
        let flushed = slot.local == Local::Done;
        if let Op::Prepare { number } = slot.op {
            return self.prepared(slot.volume, number, flushed, mem);
        }
        if slot.op != Op::Flush {
            return;
        }
        let Some(meta) = &mut self.volumes[slot.volume].meta else {
            return;
        };
        if meta.cooling != Cooling::Flushing {
            // The disk was detached meanwhile, and perhaps attached again.
            return;
        }
        if flushed {
            meta.cooling = Cooling::Saving;
            self.pump_pages(slot.volume, mem);
        } else {
            meta.end_cooling(false);
        }
    }

    /// Saves the next wanted page of the bitmap; when there is none, the cooling ends.
    pub(super) fn pump_pages(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        let usable = volume.usable();
        let (Some(meta), Some(lanes)) = (&mut volume.meta, &volume.lanes) else {
            return;
        };
        if meta.page_io.is_some() || !usable {
            return;
        }
        while let Some(page) = first(&meta.pages.wanted) {
            put(&mut meta.pages.wanted, page, false);
            if !get(&meta.pages.changed, page) {
                continue;
            }
            put(&mut meta.pages.changed, page, false);
            if mutation::is(Mutation::CooledWithoutBitmap) {
                continue;
            }
            let mut words = [0; PAGE_WORDS];
            bits_of(&volume.dirty, &meta.unflushed, page, &mut words);
            let blank = words.iter().all(|word| *word == 0);
            if blank && get(&meta.pages.blank, page) {
                continue;
            }
            put(&mut meta.pages.blank, page, blank);
            let Some(offset) = meta.layout().bitmap_page(page) else {
                unreachable!("the layout has room for the volume's bitmap")
            };
            meta.page_sequence += 1;
            let (id, sequence) = (meta.superblock.device_id, meta.page_sequence);
            if let Some(out) = page_mut(mem, &lanes.bitmap) {
                ondisk::bitmap::encode(id, page, sequence, &words, out);
            }
            meta.page_io = Some(Stage::Write);
            return self.write_page(at, Lane::Bitmap, offset);
        }
        if core::mem::take(&mut meta.page_flush_due) {
            meta.page_io = Some(Stage::Flush);
            return self.meta_op(at, Lane::Bitmap, DiskOp::Flush);
        }
        if meta.cooling == Cooling::Saving {
            meta.end_cooling(true);
            self.pump_log(at, mem);
        }
    }

    pub(super) fn page_done(&mut self, at: usize, mem: &mut Mem<'_>) {
        let Some(meta) = &mut self.volumes[at].meta else {
            return;
        };
        match meta.page_io.take() {
            Some(Stage::Write) => meta.page_flush_due = true,
            Some(Stage::Flush) => {}
            None => unreachable!("no page of the bitmap was being written"),
        }
        self.pump_pages(at, mem);
    }

    /// The disk is not used any more: nothing of its metadata can be saved, and nothing waits for that.
    pub(in crate::engine) fn abandon_meta(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        if let Some(meta) = &mut volume.meta {
            meta.durable_count = meta.asked_count;
            meta.cooling = Cooling::None;
        }
        self.release(at, mem);
        self.forget_failed(at);
    }

    /// Drops the metadata of a disk that is not used any more, once nothing of it is on its way.
    pub(in crate::engine) fn forget_failed(&mut self, at: usize) {
        let volume = &mut self.volumes[at];
        if !volume.usable() && volume.meta.as_ref().is_some_and(|meta| meta.quiet()) {
            volume.meta = None;
            // The log of the next disk knows nothing of them.
            for id in 0..self.slots.capacity() as SlotId {
                if self.slots.get(id).is_some_and(|slot| slot.volume == at) {
                    self.slots.at(id).logged = false;
                }
            }
        }
    }
}
