//! A volume's metadata: what of it must reach the disk, and what waits until it has.
//!
//! Whatever changes in the lineage, the engine compares with what was saved last after every step,
//! so that no change can be forgotten. While a save is under way no write of the volume starts, and
//! no answer to one is given: a new generation is durable before the first write acknowledged in it, and
//! a resync's target is durably Inconsistent before the first block comes.
//!
//! Metadata goes to the disk in lanes that run beside each other, each with one request at most and a page
//! of the pool of its own.

use super::pages::{Pages, bits_of, first, get, put, want};
use super::slots::{List, Local, Op, Owner, Slot, SlotId};
use super::volume::Volume;
use super::{Engine, Queued, text};
use crate::activity::{ActivityLog, Commit, PageCopy, Unflushed, limit_for};
use crate::api::{DiskError, DiskOp, DiskState, DiskToken, Micros, Role};
use crate::buf::{Buf, Mem, PAGE};
use crate::lineage::{Generations, JUST_CREATED};
use crate::mutation::{self, Mutation};
use crate::ondisk::{self, Layout, Superblock, activity::Evidence};
use resync::{BLOCK, GrowError, PAGE_COVERS, PAGE_WORDS};

/// Disk operations from this number on (and below that of flushes) concern metadata.
pub(super) const META_TOKEN: DiskToken = 0x4000_0000;

/// What a metadata operation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Saving the superblock.
    Super,
    /// Saving a page of the activity log.
    Log,
    /// Saving pages of the bitmap.
    Bitmap,
    /// Attaching, or creating metadata.
    Attach,
    /// Looking at it for an operator.
    Inspect,
}

impl Lane {
    const ALL: [Self; Self::COUNT] = [
        Self::Super,
        Self::Log,
        Self::Bitmap,
        Self::Attach,
        Self::Inspect,
    ];
    /// How many there are.
    pub const COUNT: usize = 5;

    /// The number of the lane's operation on the volume at `at`.
    pub fn token(self, at: usize) -> DiskToken {
        META_TOKEN + (at * Self::ALL.len() + self as usize) as DiskToken
    }

    pub fn of(token: DiskToken) -> (usize, Self) {
        let n = (token - META_TOKEN) as usize;
        (n / Self::ALL.len(), Self::ALL[n % Self::ALL.len()])
    }
}

/// What of a volume's state is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub size: u64,
    pub gens: Generations,
    pub disk: DiskState,
    pub primary: bool,
    pub was_primary: bool,
    pub all_dirty: bool,
    pub verify_cursor: u64,
}

/// Where the saving of a superblock stands. Only when the first copy is durable is the second one touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SuperStage {
    Idle,
    WriteA,
    FlushA,
    WriteB,
    FlushB,
    /// Only after a move: the area where everything was before becomes zero, from this byte on.
    Zero(u64),
    FlushZeroes,
}

/// Bytes of a former area that are zeroed with one request.
const ZERO_AT_ONCE: u64 = 64 << 20;

/// A write that a flush must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Write,
    Flush,
}

/// Pages of the bitmap that changed are saved so often, so that a restart in the middle of a long resync does not begin
/// it again.
const SAVE_BITMAP: Micros = 5_000_000;

/// Cooling of extents of the activity log: both disks flush, the bitmap's pages are saved, then the extents may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cooling {
    None,
    Flushing,
    Saving,
}

/// The metadata of an attached volume.
#[derive(Debug)]
pub(super) struct Meta {
    /// The superblock as it was last written; its lineage and state come from [`Stored`].
    pub superblock: Superblock,
    /// The second copy is bad: it must be good before the first one is touched.
    repair_b: bool,
    asked: Stored,
    /// Saves asked for, and how many of these are durable.
    asked_count: u64,
    durable_count: u64,
    stage: SuperStage,
    /// What the save under way covers.
    covers: u64,
    pub log: ActivityLog,
    log_io: Option<(Commit, Stage)>,
    pub unflushed: Unflushed,
    pub pages: Pages,
    page_count: u32,
    page_io: Option<Stage>,
    pub page_sequence: u64,
    /// A page was written since the last flush of the bitmap lane.
    page_flush_due: bool,
    /// The bitmap on the disk says less than all; see [`Stored::all_dirty`].
    all_dirty: bool,
    cooling: Cooling,
    /// The cooling under way is for the sake of the bitmap: no extent takes part.
    bitmap_only: bool,
    /// The bitmap's pages that changed are not saved before.
    bitmap_from: Micros,
    /// No commit of the log, no cooling and no saving of pages begins: the metadata is about to grow or to move.
    pub frozen: bool,
    /// The metadata has moved here from these places of its superblocks, and they are not zero yet.
    moved: Option<[u64; 2]>,
    /// Bytes of memory for payload, which the limit of hot extents follows from.
    memory: u64,
}

impl Meta {
    /// For a volume whose metadata says `superblock`, on a node with so much memory for payload.
    pub fn new(superblock: Superblock, memory: u64) -> Self {
        let bytes = superblock.layout.volume_bytes;
        let page_count = superblock.layout.bitmap_pages_used();
        Self {
            asked: Stored::of(&superblock),
            // A move that was not finished is.
            asked_count: u64::from(superblock.moved_from.is_some()),
            durable_count: 0,
            stage: SuperStage::Idle,
            covers: 0,
            repair_b: false,
            log: ActivityLog::new(bytes, limit_for(bytes, memory)),
            log_io: None,
            unflushed: Unflushed::new(bytes),
            pages: Pages::new(page_count),
            page_count,
            page_io: None,
            page_sequence: 0,
            page_flush_due: false,
            all_dirty: superblock.all_dirty,
            cooling: Cooling::None,
            bitmap_only: false,
            bitmap_from: SAVE_BITMAP,
            frozen: false,
            moved: superblock.moved_from,
            memory,
            superblock,
        }
    }

    /// Whether the log and the bitmap on the disk will stay as they are while this is frozen, and the superblock is saved.
    pub fn is_still(&self) -> bool {
        self.frozen && self.cooling == Cooling::None && self.is_settled()
    }

    /// Whether the superblock is saved, and nothing is left where the metadata was before.
    pub fn is_settled(&self) -> bool {
        self.quiet() && !self.saving() && self.moved.is_none()
    }

    /// The copies of the log and the bitmap at `to` are durable: the next save is there, and then nothing is left at the
    /// present place. The size stays what it is.
    pub fn move_to(&mut self, to: &Layout) {
        let old = self.superblock.layout;
        self.moved = Some([old.superblock_a, old.superblock_b]);
        self.superblock.layout = Layout {
            volume_bytes: old.volume_bytes,
            ..*to
        };
        self.log.moved();
        self.asked_count += 1;
    }

    /// Gets the memory for a volume of so many bytes, and changes nothing else.
    ///
    /// # Errors
    /// [`GrowError::NoMemory`].
    pub fn reserve(&mut self, bytes: u64, pages: u32) -> Result<(), GrowError> {
        self.log.reserve(bytes)?;
        self.unflushed.reserve(bytes)?;
        let needs = 3 * u64::from(pages) / 8;
        let reserved = self.pages.reserve(pages);
        reserved.then_some(()).ok_or(GrowError::NoMemory { needs })
    }

    /// The volume has so many bytes now, and its bitmap so many pages.
    pub fn grow(&mut self, bytes: u64, pages: u32) {
        self.log.grow(bytes, limit_for(bytes, self.memory));
        self.unflushed.grow(bytes);
        self.pages.grow(pages);
        self.page_count = pages;
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.superblock.layout
    }

    /// Takes over a pair of pages of the activity log, but not the `unsure` one of them, which never took effect.
    pub fn load_log(
        &mut self,
        pair: u32,
        mut slots: [Option<&ondisk::Page>; 2],
        unsure: Option<(u32, PageCopy)>,
    ) {
        let mut words = [0; PAGE_WORDS];
        let id = self.superblock.device_id;
        let mut found = ondisk::activity::recover(id, pair, slots, &mut words);
        if let Some((_, copy)) = unsure.filter(|(page, _)| *page == pair) {
            let highest = found.sequence;
            slots[usize::from(copy == PageCopy::B)] = None;
            words = [0; PAGE_WORDS];
            found = ondisk::activity::recover(id, pair, slots, &mut words);
            found.sequence = found.sequence.max(highest);
        }
        if found.evidence == Evidence::Lost {
            self.log.load_damaged(pair, found.sequence);
        } else {
            let newest = if found.next_slot == 0 {
                PageCopy::B
            } else {
                PageCopy::A
            };
            self.log.load(pair, newest, found.sequence, &words);
        }
    }

    /// Takes over what is known of a good page of the bitmap.
    pub fn page_loaded(&mut self, page: u32, sequence: u64, words: &[u64; PAGE_WORDS]) {
        self.page_sequence = self.page_sequence.max(sequence);
        let blank = words.iter().all(|word| *word == 0);
        put(&mut self.pages.blank, page, blank);
    }

    /// The bitmap does not have yet what the hot extents stand for.
    pub fn touch_hot(&mut self) {
        let Self { log, pages, .. } = self;
        for range in log.hot_ranges() {
            for page in range.start / PAGE_COVERS..=(range.end - 1) / PAGE_COVERS {
                put(&mut pages.changed, page as u32, true);
            }
        }
    }

    /// Whether a change is not durable yet.
    pub fn saving(&self) -> bool {
        self.asked_count != self.durable_count
    }

    /// Has the superblock written anew though nothing changed: the copy that was not `chosen` is bad.
    pub fn repair(&mut self, chosen: ondisk::Which) {
        self.asked_count += 1;
        self.repair_b = chosen == ondisk::Which::A;
    }

    /// Has both copies of the superblock written anew, first the one that may not be durable.
    pub fn rewrite(&mut self, unsure: Option<ondisk::Which>) {
        if let Some(first) = unsure {
            self.asked_count += 1;
            self.repair_b = first == ondisk::Which::B;
        }
    }

    /// Whether the operation of a lane that is under way is a flush.
    fn flushes(&self, lane: Lane) -> bool {
        match lane {
            Lane::Super => matches!(self.stage, SuperStage::FlushA | SuperStage::FlushB),
            Lane::Log => self.log_io.is_some_and(|(_, stage)| stage == Stage::Flush),
            Lane::Bitmap | Lane::Attach => self.page_io == Some(Stage::Flush),
            Lane::Inspect => false,
        }
    }

    /// The bitmap page of a range is no longer what the disk has.
    pub fn touch(&mut self, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        let last = ((offset + len - 1) / PAGE_COVERS) as u32;
        for page in (offset / PAGE_COVERS) as u32..=last.min(self.page_count - 1) {
            put(&mut self.pages.changed, page, true);
        }
    }

    /// No bitmap page is what the disk has.
    pub fn touch_all(&mut self) {
        for page in 0..self.page_count {
            put(&mut self.pages.changed, page, true);
        }
    }

    /// The superblock is to say that all is out of sync, whatever the pages say, until they say so themselves.
    pub fn distrust_pages(&mut self) {
        self.all_dirty = true;
    }

    /// When the pages that changed are to be saved.
    fn bitmap_due(&self) -> Option<Micros> {
        first(&self.pages.changed).map(|_| self.bitmap_from)
    }

    /// Whether the bitmap on the disk is the one in memory.
    pub fn bitmap_saved(&self) -> bool {
        first(&self.pages.changed).is_none()
    }

    fn end_cooling(&mut self, ok: bool) {
        self.cooling = Cooling::None;
        if !core::mem::take(&mut self.bitmap_only) {
            self.log.end_cooling(ok);
        }
    }

    /// The peer has the range, but may lose it with its power.
    pub fn acknowledged(&mut self, offset: u64, len: u64) {
        self.unflushed.mark(offset, len);
        self.touch(offset, len);
    }

    /// Has everything saved at once; answers whether it is: no extent is hot, and the bitmap says all.
    pub fn leave_in_order(&mut self) -> bool {
        self.bitmap_from = 0;
        self.quiet()
            && !self.saving()
            && self.log.is_cold()
            && self.cooling == Cooling::None
            && first(&self.pages.changed).is_none()
    }

    /// Whether no metadata operation is on the way to the disk.
    pub fn quiet(&self) -> bool {
        self.stage == SuperStage::Idle && self.log_io.is_none() && self.page_io.is_none()
    }
}

impl Stored {
    pub fn of(superblock: &Superblock) -> Self {
        Self {
            size: superblock.layout.volume_bytes,
            gens: Generations {
                current: superblock.current,
                bitmap: superblock.bitmap,
                history: superblock.history,
            },
            disk: superblock.disk,
            primary: superblock.primary,
            was_primary: superblock.was_primary,
            all_dirty: superblock.all_dirty,
            verify_cursor: superblock.verify_cursor,
        }
    }

    fn put(&self, superblock: &mut Superblock) {
        superblock.layout.volume_bytes = self.size;
        superblock.current = self.gens.current;
        superblock.bitmap = self.gens.bitmap;
        superblock.history = self.gens.history;
        superblock.disk = self.disk;
        superblock.primary = self.primary;
        superblock.was_primary = self.was_primary;
        superblock.all_dirty = self.all_dirty;
        superblock.verify_cursor = self.verify_cursor;
    }
}

/// Metadata that was being written when a flush failed: what is read of it may never become durable. Whatever it
/// replaces is durable, and no step that waited for it was taken.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Unsure {
    pub superblock: Option<ondisk::Which>,
    /// Number and place of a page of the activity log.
    pub log: Option<(u32, PageCopy)>,
}

impl Volume {
    /// A flush of the disk failed: what it shows of the writes since the last good one it may lose any time, whatever
    /// later flushes answer.
    pub fn doom(&mut self) {
        self.through.doomed = true;
        let Some(meta) = &self.meta else { return };
        match meta.stage {
            // What was to become zero is zeroed again, as the superblock says.
            SuperStage::Idle | SuperStage::Zero(_) | SuperStage::FlushZeroes => {}
            SuperStage::WriteA | SuperStage::FlushA => {
                self.unsure.superblock = Some(ondisk::Which::A);
            }
            SuperStage::WriteB | SuperStage::FlushB => {
                self.unsure.superblock = Some(ondisk::Which::B);
            }
        }
        if let Some((commit, _)) = meta.log_io {
            self.unsure.log = Some((commit.page, commit.copy));
        }
    }

    /// The part of its state that must survive a restart.
    fn stored(&self, meta: &Meta, role: Role) -> Stored {
        Stored {
            size: self.size,
            gens: self.gens,
            // A node that starts is never sure that its data is the newest: the handshake finds out.
            disk: match self.disk {
                DiskState::Inconsistent | DiskState::Outdated => self.disk,
                _ => DiskState::UpToDate,
            },
            // A Primary that leaves its disk behind in order has not crashed on it.
            primary: ((role == Role::Primary && !self.leaving()) || self.crashed)
                && !mutation::is(Mutation::NoPrimaryFlag),
            was_primary: self.was_primary,
            all_dirty: meta.all_dirty,
            verify_cursor: self.verify.cursor,
        }
    }

    /// Marks a range as out of sync.
    pub fn mark_dirty(&mut self, offset: u64, len: u64) {
        self.dirty.set_range(offset, len);
        if let Some(meta) = &mut self.meta {
            meta.touch(offset, len);
        }
    }

    /// The peer has the range now, though it may not have flushed it.
    pub fn mark_clean(&mut self, offset: u64, len: u64) {
        self.dirty.clear_range(offset, len);
        if let Some(meta) = &mut self.meta {
            meta.acknowledged(offset, len);
        }
    }

    /// Everything is out of sync. The superblock says so at once, the bitmap's pages follow.
    pub fn mark_all_dirty(&mut self) {
        self.dirty.set_all();
        if let Some(meta) = &mut self.meta {
            meta.touch_all();
            meta.all_dirty = true;
        }
    }

    /// Nothing is out of sync, and nothing waits for the peer's flush.
    pub fn mark_all_clean(&mut self) {
        self.dirty.clear_all();
        if let Some(meta) = &mut self.meta {
            meta.unflushed.clear();
            meta.touch_all();
        }
    }

    /// The peer may have lost what it had acknowledged and not flushed.
    pub fn peer_forgot(&mut self) {
        if let Some(meta) = &mut self.meta {
            let ranges = meta.unflushed.ranges();
            for range in ranges.filter(|_| !mutation::is(Mutation::UnflushedForgotten)) {
                self.dirty.set_range(range.start, range.end - range.start);
            }
            meta.unflushed.clear();
        }
    }

    /// Blocks that the peer may have lost, at most, if it comes back under this instance; as
    /// [`Volume::peer_forgot`] would mark them.
    pub fn forgotten(&self, instance: u64) -> u64 {
        let known = self.peer_instance;
        let Some(meta) = self
            .meta
            .as_ref()
            .filter(|_| known != 0 && known != instance)
        else {
            return 0;
        };
        let ranges = meta.unflushed.ranges();
        ranges
            .map(|range| range.end.div_ceil(BLOCK) - range.start / BLOCK)
            .sum()
    }

    /// A flush goes to the peer. Answers whether its answer is to be told by [`Volume::peer_flushed`].
    pub fn begin_flush(&mut self) -> bool {
        let meta = self.meta.as_mut();
        meta.is_some_and(|meta| meta.unflushed.begin_flush())
    }

    /// The peer has flushed what it had acknowledged when [`Volume::begin_flush`] answered `true`.
    pub fn peer_flushed(&mut self) {
        if let Some(meta) = &mut self.meta {
            let Meta {
                unflushed, pages, ..
            } = &mut **meta;
            for range in unflushed.ranges() {
                for page in range.start / PAGE_COVERS..=(range.end - 1) / PAGE_COVERS {
                    put(&mut pages.changed, page as u32, true);
                }
            }
            unflushed.flushed();
        }
    }

    /// The sequence of the superblock on the disk, if none is being saved.
    pub fn superblock_at_rest(&self) -> Option<u64> {
        let meta = self.meta.as_ref()?;
        let rests = meta.stage == SuperStage::Idle && !meta.saving();
        rests.then_some(meta.superblock.sequence)
    }

    /// Whether writes must wait until the superblock is durable.
    pub fn saving(&self) -> bool {
        self.meta.as_ref().is_some_and(|meta| meta.saving())
    }
}

impl Engine {
    /// Saves what has changed in any volume since the last time.
    pub(super) fn save_all(&mut self, mem: &mut Mem<'_>) {
        for at in 0..self.volumes.len() {
            self.save(at, mem);
        }
    }

    /// Saves what has changed in a volume since the last time.
    pub(super) fn save(&mut self, at: usize, mem: &mut Mem<'_>) {
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
        let stored = volume.stored(&meta, self.role);
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

    fn start_save(&mut self, at: usize, mem: &mut Mem<'_>) {
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
    fn write_page(&mut self, at: usize, lane: Lane, offset: u64) {
        let volume = &self.volumes[at];
        let Some(pages) = &volume.lanes else { return };
        let view = match lane {
            Lane::Super => pages.superblock.view(),
            Lane::Log => pages.log.view(),
            Lane::Bitmap | Lane::Attach | Lane::Inspect => pages.bitmap.view(),
        };
        self.meta_op(at, lane, DiskOp::Write { offset, view });
    }

    pub(super) fn meta_op(&mut self, at: usize, lane: Lane, op: DiskOp) {
        self.lane_begins(at, lane);
        self.queue.push(Queued::Meta {
            token: lane.token(at),
            volume: self.volumes[at].config.index,
            op,
        });
    }

    /// A metadata operation ended.
    pub(super) fn meta_done(
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
                Lane::Bitmap | Lane::Attach | Lane::Inspect => meta.page_io = None,
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
            Lane::Bitmap | Lane::Attach | Lane::Inspect => self.page_done(at, mem),
        }
    }

    fn super_done(&mut self, at: usize, mem: &mut Mem<'_>) {
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
                meta.durable_count = meta.covers;
                meta.stage = SuperStage::WriteB;
                let durable = !meta.saving();
                if mutation::is(Mutation::SecondCopyNotWritten) {
                    meta.stage = SuperStage::Idle;
                    return if durable {
                        self.release(at, mem);
                    } else {
                        self.start_save(at, mem);
                    };
                }
                let offset = meta.layout().superblock_b;
                self.write_page(at, Lane::Super, offset);
                if durable {
                    self.release(at, mem);
                }
            }
            SuperStage::WriteB => {
                meta.stage = SuperStage::FlushB;
                self.meta_op(at, Lane::Super, DiskOp::Flush);
            }
            SuperStage::FlushB if meta.superblock.moved_from.is_some() => self.zero_old_area(at, 0),
            SuperStage::Zero(from) => self.zero_old_area(at, from),
            SuperStage::FlushB | SuperStage::FlushZeroes => {
                if meta.stage == SuperStage::FlushZeroes {
                    // Nor does the superblock say so any longer: clients may come to own these places.
                    meta.moved = None;
                    meta.asked_count += 1;
                }
                meta.stage = SuperStage::Idle;
                let saving = meta.saving();
                self.volumes[at].unsure.superblock = None;
                if saving {
                    self.start_save(at, mem);
                }
            }
        }
    }

    /// Zeroes the next part of the area where the metadata was before it moved.
    fn zero_old_area(&mut self, at: usize, from: u64) {
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

    /// Whether a slot may start, as far as metadata is concerned. Otherwise it waits in the gate.
    pub(super) fn pass_gate(&mut self, id: SlotId, mem: &mut Mem<'_>) -> bool {
        let slot = self.slots.at(id);
        if !slot.changes_data() {
            // A flush that is to be mirrored comes behind the word that the resync begins.
            let volume = &mut self.volumes[slot.volume];
            let early = slot.op == Op::Flush && volume.start_pending.is_some();
            if early {
                self.slots.push(&mut volume.gate, id);
            }
            return !early;
        }
        let (at, offset, len) = (slot.volume, slot.offset, u64::from(slot.len));
        // What a Primary without a disk writes here is noted as if this node were Primary.
        let client = slot.owner == Owner::Client
            || (slot.owner == Owner::Peer && (slot.outlives || self.volumes[at].through.for_peer));
        let volume = &mut self.volumes[at];
        let Some(meta) = &mut volume.meta else {
            return true;
        };
        let may = if !client || mutation::is(Mutation::SkipActivityLog) {
            true
        } else if slot.logged {
            meta.log.ready(offset, len)
        } else {
            slot.logged = true;
            meta.log.enter(self.now, offset, len)
        };
        let waits = meta.saving() && (client || !mutation::is(Mutation::ResyncBeforeInconsistent));
        if may && !waits {
            return true;
        }
        self.slots.push(&mut volume.gate, id);
        self.pump_log(at, mem);
        false
    }

    /// What waited for the superblock goes on: starts in the order of arrival, and answers.
    pub(super) fn release(&mut self, at: usize, mem: &mut Mem<'_>) {
        self.send_sync_start(at);
        self.pay(at);
        self.release_gate(at);
        let mut held = core::mem::replace(&mut self.volumes[at].held, List::EMPTY);
        while let Some(id) = self.slots.pop(&mut held) {
            let slot = self.slots.at(id);
            let announces = slot.owner == Owner::Resync;
            slot.local = Local::Done;
            if announces {
                self.send_sync_end(id, mem);
            } else {
                self.finish_if_done(id, mem);
            }
        }
        self.durable();
    }

    pub(super) fn release_gate(&mut self, at: usize) {
        let mut gate = core::mem::replace(&mut self.volumes[at].gate, List::EMPTY);
        while let Some(id) = self.slots.pop(&mut gate) {
            self.slots.push(&mut self.ready, id);
        }
    }

    /// Whether the answer to a slot that is done must wait until the superblock is durable. Then it is held.
    pub(super) fn hold(&mut self, id: SlotId) -> bool {
        let slot = self.slots.at(id);
        let volume = &mut self.volumes[slot.volume];
        let answers = match slot.owner {
            Owner::Client => slot.op != Op::Read,
            Owner::Peer => matches!(slot.op, Op::SyncEnd { .. }) && !slot.orphan,
            Owner::Resync | Owner::Meta | Owner::Abandoned => false,
        };
        let early = match slot.owner {
            Owner::Client => mutation::is(Mutation::GenerationNotDurable),
            _ => mutation::is(Mutation::EndNotHeld),
        };
        let saves = volume.saving() && volume.usable();
        let tells = volume.through.telling && slot.owner == Owner::Client;
        if early || !answers || slot.local != Local::Done || !(saves || tells) {
            return false;
        }
        slot.local = Local::Held;
        self.slots.push(&mut volume.held, id);
        true
    }

    /// Writes the next page of the activity log if one must be written.
    pub(super) fn pump_log(&mut self, at: usize, mem: &mut Mem<'_>) {
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

    fn log_done(&mut self, at: usize, mem: &mut Mem<'_>) {
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
    pub(super) fn cooling_deadline(&self) -> Option<Micros> {
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
    pub(super) fn cool_all(&mut self) {
        for at in 0..self.volumes.len() {
            self.cool(at);
        }
    }

    /// First whatever was written into the extents must be durable on both disks.
    fn cool(&mut self, at: usize) {
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
    pub(super) fn finish_meta(&mut self, slot: &Slot, mem: &mut Mem<'_>) {
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
    fn pump_pages(&mut self, at: usize, mem: &mut Mem<'_>) {
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

    fn page_done(&mut self, at: usize, mem: &mut Mem<'_>) {
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
    pub(super) fn abandon_meta(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        if let Some(meta) = &mut volume.meta {
            meta.durable_count = meta.asked_count;
            meta.cooling = Cooling::None;
        }
        self.release(at, mem);
        self.forget_failed(at);
    }

    /// Drops the metadata of a disk that is not used any more, once nothing of it is on its way.
    pub(super) fn forget_failed(&mut self, at: usize) {
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

/// The bytes of a lane's page.
pub(super) fn page_mut<'a>(mem: &'a mut Mem<'_>, buf: &Buf) -> Option<&'a mut ondisk::Page> {
    mem.bytes_mut(buf).first_chunk_mut()
}
