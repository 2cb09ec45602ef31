//! A volume's growth on this node's disk: first the metadata moves to where it has room, if it must; then the pages that
//! come into use are written; last the superblock says the new size (docs/ONDISK.md). While pages are copied the
//! activity log and the bitmap on the disk stand still: writes into extents that are hot already go on,
//! others wait.
//!
//! All memory that the larger volume takes is had before anything is written.

use super::meta::{Lane, Meta};
use super::pages::{bits_of, put};
use super::volume::Volume;
use super::{Engine, text};
use crate::api::{DiskError, DiskOp, Level, MetadataPlace, Role, Text};
use crate::buf::{Buf, BufView, MAX_BUF, Mem, PAGE};
use crate::mutation::{self, Mutation};
use crate::ondisk::{self, Disks, Layout, LayoutError};
use alloc::boxed::Box;
use resync::{BLOCK, Bitmap, GrowError, PAGE_COVERS, PAGE_WORDS};

/// A growth under way.
#[derive(Debug)]
pub(super) struct Growth {
    /// Where everything lies at the end, and the new size.
    to: Layout,
    /// The new part is not marked as out of sync.
    clean: bool,
    stage: Stage,
    /// An operation is at the disk.
    busy: bool,
    /// The disk failed, or nobody wants this any more: it ends when the disk has done with it.
    dead: bool,
    /// It may go on to the new size as soon as it is ready.
    committed: bool,
    /// The peer has the new size already, durably.
    peer_has: bool,
    buf: Buf,
    /// The bitmap of the larger volume.
    dirty: Bitmap,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The log and the bitmap come to a standstill; then the metadata moves.
    FreezeToMove,
    /// Pairs of pages of the log are copied, from this one on.
    CopyLog(u32),
    /// Pages of the bitmap are.
    CopyMap(u32),
    FlushCopy,
    /// The superblock goes to the new place, and what was at the old one is zeroed.
    Switch,
    /// There is room for the new size, durably.
    Ready,
    /// The log and the bitmap come to a standstill; then the new pages are written.
    FreezeToGrow,
    NewLog(u32),
    NewMap(u32),
    FlushNew,
    /// The superblock is being told the new size.
    Saving,
}

/// Why a volume cannot grow here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GrowthError {
    Layout(LayoutError),
    Memory(GrowError),
    /// No buffer at the moment.
    Buffer,
}

impl core::fmt::Display for GrowthError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Layout(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
            Self::Buffer => f.write_str("no memory at the moment: try again"),
        }
    }
}

impl Volume {
    /// Sizes of its disks.
    fn disk_sizes(&self) -> Disks {
        Disks {
            data: self.config.disk_bytes,
            metadata: match self.config.metadata {
                MetadataPlace::Internal => self.config.disk_bytes,
                MetadataPlace::External { disk_bytes } => disk_bytes,
            },
        }
    }

    /// The layout of the volume with `wanted` bytes, or as many as its disk allows.
    pub fn grown(&self, wanted: Option<u64>) -> Option<Result<Layout, LayoutError>> {
        let meta = self.meta.as_ref().filter(|_| self.usable())?;
        Some(meta.layout().grown(self.disk_sizes(), wanted))
    }

    /// Whether a growth is ready for the word that the peer is, too.
    pub fn growth_is_ready(&self) -> bool {
        self.growth
            .as_ref()
            .is_some_and(|growth| growth.stage == Stage::Ready)
    }
}

impl Engine {
    /// Whether some volume's size may be about to change.
    pub(super) fn growing(&self) -> bool {
        let grows = |growth: &Growth| !growth.dead;
        self.volumes
            .iter()
            .any(|volume| volume.growth.as_deref().is_some_and(grows))
    }

    /// A disk is attached whose volume has grown to `size` bytes without it, and clients know: all of it is out of sync,
    /// so that nothing need be written before it is used. The pages that come into use count as damaged until they are
    /// saved.
    pub(super) fn grow_at_attach(
        &self,
        at: usize,
        meta: &mut Meta,
        dirty: &mut Bitmap,
        size: u64,
    ) -> Result<(), Text> {
        let disks = self.volumes[at].disk_sizes();
        let layout = *meta.layout();
        match layout.grown(disks, Some(size)) {
            Ok(to) if to.superblock_a == layout.superblock_a => {}
            _ => {
                return Err(text!(
                    "the volume has grown to {size} bytes, for which this disk has no room: enlarge it, and attach it to a Secondary"
                ));
            }
        }
        let pages = Layout {
            volume_bytes: size,
            ..layout
        }
        .bitmap_pages_used();
        meta.reserve(size, pages)
            .map_err(|error| text!("{error}"))?;
        dirty.grow(size, true).map_err(|error| text!("{error}"))?;
        meta.grow(size, pages);
        Ok(())
    }

    /// Begins to make room for `size` bytes. [`Engine::growth_ready`] is called when there is, durably.
    pub(super) fn start_growth(
        &mut self,
        at: usize,
        size: u64,
        clean: bool,
        mem: &mut Mem<'_>,
    ) -> Result<(), GrowthError> {
        let volume = &mut self.volumes[at];
        let too_small = GrowthError::Layout(LayoutError::VolumeSize { volume: size });
        let to = match volume.grown(Some(size)) {
            Some(layout) => layout.map_err(GrowthError::Layout)?,
            None => return Err(too_small),
        };
        if volume.growth.is_some() {
            return Err(GrowthError::Buffer);
        }
        let Some(meta) = &mut volume.meta else {
            return Err(too_small);
        };
        meta.reserve(size, to.bitmap_pages_used())
            .map_err(GrowthError::Memory)?;
        let mut dirty = Bitmap::new(0);
        dirty.grow(size, false).map_err(GrowthError::Memory)?;
        let buf = mem.alloc_up_to(MAX_BUF).ok_or(GrowthError::Buffer)?;
        if buf.len() < 2 * PAGE {
            mem.free(buf);
            return Err(GrowthError::Buffer);
        }
        let moves = to.superblock_a != meta.layout().superblock_a;
        volume.growth = Some(Box::new(Growth {
            to,
            clean,
            stage: if moves {
                Stage::FreezeToMove
            } else {
                Stage::Ready
            },
            busy: false,
            dead: false,
            committed: false,
            peer_has: false,
            buf,
            dirty,
        }));
        if !moves {
            self.growth_ready(at);
        }
        Ok(())
    }

    /// What has just begun to grow follows the peer, which has the new size: it goes on to it as soon as there is room.
    pub(super) fn grow_as_peer(&mut self, at: usize) {
        if let Some(growth) = &mut self.volumes[at].growth {
            growth.peer_has = true;
        }
        self.commit_growth(at);
    }

    /// There is room: go on to the new size. [`Engine::growth_ended`] is called when it is durable.
    pub(super) fn commit_growth(&mut self, at: usize) {
        if let Some(growth) = &mut self.volumes[at].growth {
            growth.committed = true;
        }
    }

    /// Nobody wants it any more. What was made of it does no harm; one that was committed goes on.
    pub(super) fn leave_growth(&mut self, at: usize) {
        if let Some(growth) = &mut self.volumes[at].growth
            && !growth.committed
        {
            growth.dead = true;
        }
    }

    /// The disk is not used any more.
    pub(super) fn fail_growth(&mut self, at: usize, mem: &mut Mem<'_>) {
        let Some(growth) = &mut self.volumes[at].growth else {
            return;
        };
        growth.dead = true;
        growth.committed = false;
        self.pump_growth(at, mem);
        self.growth_failed(at);
    }

    /// An operation of it ended.
    pub(super) fn growth_done(
        &mut self,
        at: usize,
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let Some(growth) = &mut self.volumes[at].growth else {
            unreachable!("no volume was growing")
        };
        growth.busy = false;
        if let Err(error) = result
            && self.volumes[at].usable()
        {
            let why = text!("its metadata could not be written ({error:?})");
            return self.fail_disk(at, &why, mem);
        }
        self.pump_growth(at, mem);
    }

    /// Goes on with the growths that nothing holds up.
    pub(super) fn pump_growths(&mut self, mem: &mut Mem<'_>) {
        for at in 0..self.volumes.len() {
            self.pump_growth(at, mem);
        }
    }

    fn pump_growth(&mut self, at: usize, mem: &mut Mem<'_>) {
        loop {
            let volume = &mut self.volumes[at];
            let Some(mut growth) = volume.growth.take() else {
                return;
            };
            // What is written before the switch lies where nobody looks; a switch is carried through.
            let ends = growth.dead && growth.stage != Stage::Switch;
            if !growth.busy && (ends || !volume.usable()) {
                self.thaw_meta(at, mem);
                return mem.free(growth.buf);
            }
            if growth.busy || !volume.usable() {
                volume.growth = Some(growth);
                return;
            }
            let Some(mut meta) = volume.meta.take() else {
                unreachable!("a disk in use without metadata")
            };
            let before = growth.stage;
            let op = advance(&mut growth, &mut meta, &volume.dirty, mem);
            let (stage, to, clean) = (growth.stage, growth.to, growth.clean);
            growth.busy = op.is_some();
            let dead = growth.dead;
            let applied = before == Stage::FlushNew && stage == Stage::Saving;
            if applied {
                let old = volume.size;
                let mut dirty = core::mem::replace(&mut growth.dirty, Bitmap::new(0));
                dirty.or_from(&volume.dirty);
                meta.grow(to.volume_bytes, to.bitmap_pages_used());
                volume.dirty = dirty;
                volume.size = to.volume_bytes;
                if !clean && !mutation::is(Mutation::NewPartNotMarked) {
                    volume.dirty.set_range(old, to.volume_bytes - old);
                    volume.unsynced_from = Some(old);
                }
            }
            volume.meta = Some(meta);
            volume.growth = Some(growth);
            if let Some(op) = op {
                return self.meta_op(at, Lane::Attach, op);
            }
            if applied {
                self.thaw_meta(at, mem);
                self.save(at, mem);
            }
            match stage {
                Stage::Ready if before == Stage::Switch => {
                    self.thaw_meta(at, mem);
                    if !dead {
                        self.growth_ready(at);
                    }
                }
                Stage::Saving if !self.volumes[at].saving() => {
                    let growth = self.volumes[at].growth.take();
                    let peer_has = growth.as_ref().is_some_and(|growth| growth.peer_has);
                    if let Some(growth) = growth {
                        mem.free(growth.buf);
                    }
                    if peer_has && self.role == Role::Primary && !self.connected() {
                        // Promoted meanwhile, and alone: no handshake tells its clients.
                        self.offer(at);
                    }
                    let (index, size) = (self.volumes[at].config.index, to.volume_bytes);
                    self.log(Level::Info, text!("vol{index}: has {size} bytes now"));
                    return self.growth_ended(at, mem);
                }
                Stage::Switch if before != Stage::Switch => self.save(at, mem),
                _ => {}
            }
            let now = self.volumes[at].growth.as_ref().map(|growth| growth.stage);
            if now == Some(before) {
                return;
            }
        }
    }

    /// The log and the bitmap go on.
    fn thaw_meta(&mut self, at: usize, mem: &mut Mem<'_>) {
        let Some(meta) = &mut self.volumes[at].meta else {
            return;
        };
        if core::mem::take(&mut meta.frozen) {
            self.pump_log(at, mem);
        }
    }
}

/// The next thing to be done: an operation, or another stage, or nothing yet.
fn advance(
    growth: &mut Growth,
    meta: &mut Meta,
    dirty: &Bitmap,
    mem: &mut Mem<'_>,
) -> Option<DiskOp> {
    let old = *meta.layout();
    let pages = growth.buf.len() / PAGE;
    match growth.stage {
        Stage::FreezeToMove | Stage::FreezeToGrow => {
            let frozen = !mutation::is(Mutation::MovesUnfrozen);
            meta.frozen = frozen;
            if meta.is_still() || !frozen {
                let boundary = (old.volume_bytes / PAGE_COVERS) as u32;
                growth.stage = match growth.stage {
                    Stage::FreezeToMove => Stage::CopyLog(0),
                    _ if old.activity_pairs_used() < growth.to.activity_pairs_used() => {
                        Stage::NewLog(old.activity_pairs_used())
                    }
                    _ => Stage::NewMap(boundary),
                };
            }
            None
        }
        Stage::CopyLog(pair) => {
            let count = (pages / 2).min(old.activity_pairs_used() - pair);
            if count == 0 {
                growth.stage = Stage::CopyMap(0);
                return None;
            }
            growth.stage = Stage::CopyLog(pair + count);
            Some(log_pages(growth, meta, pair, count, mem))
        }
        Stage::CopyMap(page) => {
            let count = pages.min(old.bitmap_pages_used() - page);
            if count == 0 {
                growth.stage = Stage::FlushCopy;
                return Some(DiskOp::Flush);
            }
            growth.stage = Stage::CopyMap(page + count);
            Some(map_pages(growth, meta, dirty, page, count, mem))
        }
        Stage::FlushCopy => {
            meta.move_to(&growth.to);
            growth.stage = Stage::Switch;
            None
        }
        Stage::Switch => {
            if meta.is_settled() {
                growth.stage = Stage::Ready;
            }
            None
        }
        Stage::Ready => {
            if growth.committed {
                growth.stage = Stage::FreezeToGrow;
            }
            None
        }
        Stage::NewLog(pair) => {
            let count = (pages / 2).min(growth.to.activity_pairs_used() - pair);
            if count == 0 {
                growth.stage = Stage::NewMap((old.volume_bytes / PAGE_COVERS) as u32);
                return None;
            }
            growth.stage = Stage::NewLog(pair + count);
            Some(log_pages(growth, meta, pair, count, mem))
        }
        Stage::NewMap(page) => {
            let count = pages.min(growth.to.bitmap_pages_used() - page);
            if count == 0 {
                growth.stage = Stage::FlushNew;
                return Some(DiskOp::Flush);
            }
            growth.stage = Stage::NewMap(page + count);
            Some(map_pages(growth, meta, dirty, page, count, mem))
        }
        Stage::FlushNew => {
            growth.stage = Stage::Saving;
            None
        }
        Stage::Saving => None,
    }
}

/// Makes pairs of pages of the log: of the bits that the log has, or empty ones behind its end.
fn log_pages(growth: &Growth, meta: &Meta, first: u32, count: u32, mem: &mut Mem<'_>) -> DiskOp {
    let id = meta.superblock.device_id;
    let (out, _) = mem
        .bytes_mut(&growth.buf)
        .as_chunks_mut::<{ ondisk::PAGE }>();
    for (pair, slots) in (first..first + count).zip(out.chunks_exact_mut(2)) {
        let mut words = [0; PAGE_WORDS];
        let sequence = if pair < meta.log.pages() {
            meta.log.fill_copy(pair, &mut words)
        } else {
            1
        };
        for (page, sequence) in slots.iter_mut().zip(sequence..) {
            ondisk::activity::encode(id, pair, sequence, &words, page);
        }
    }
    let Some(offset) = growth.to.activity_page(first, 0) else {
        unreachable!("the new layout has room for the activity log")
    };
    write(growth, offset, 2 * count)
}

/// Makes pages of the bitmap: what is in memory, and what the volume grows by.
fn map_pages(
    growth: &Growth,
    meta: &mut Meta,
    dirty: &Bitmap,
    first: u32,
    count: u32,
    mem: &mut Mem<'_>,
) -> DiskOp {
    let id = meta.superblock.device_id;
    let grows = matches!(growth.stage, Stage::NewMap(_)) && !growth.clean;
    let new = meta.layout().volume_bytes / BLOCK..growth.to.volume_bytes.div_ceil(BLOCK);
    let (out, _) = mem
        .bytes_mut(&growth.buf)
        .as_chunks_mut::<{ ondisk::PAGE }>();
    for (page, out) in (first..first + count).zip(out) {
        let mut words = [0; PAGE_WORDS];
        bits_of(dirty, &meta.unflushed, page, &mut words);
        for (word, bits) in (u64::from(page) * PAGE_WORDS as u64..).zip(&mut words) {
            let from = new.start.clamp(word * 64, word * 64 + 64) - word * 64;
            let to = new.end.clamp(word * 64, word * 64 + 64) - word * 64;
            if grows && from < to {
                *bits |= (u64::MAX << from) & (u64::MAX >> (64 - to));
            }
        }
        meta.page_sequence += 1;
        let blank = words.iter().all(|word| *word == 0);
        // Pages that come into use have no place in the list yet, and are not known to be blank: that is safe.
        if page < meta.layout().bitmap_pages_used() {
            put(&mut meta.pages.blank, page, blank);
        }
        ondisk::bitmap::encode(id, page, meta.page_sequence, &words, out);
    }
    let Some(offset) = growth.to.bitmap_page(first) else {
        unreachable!("the new layout has room for the bitmap")
    };
    write(growth, offset, count)
}

fn write(growth: &Growth, offset: u64, pages: u32) -> DiskOp {
    let view = BufView {
        len: pages * PAGE,
        ..growth.buf.view()
    };
    DiskOp::Write { offset, view }
}
