//! A volume's metadata: what of it must reach the disk, and what waits until it has.
//!
//! Whatever changes in the lineage, the engine compares with what was saved last after every step,
//! so that no change can be forgotten. While a save is under way no write of the volume starts, and
//! no answer to one is given: a new generation is durable before the first write acknowledged in it, and
//! a resync's target is durably Inconsistent before the first block comes.
//!
//! Metadata goes to the disk in lanes that run beside each other, each with one request at most and a page
//! of the pool of its own.

mod cooling;
mod gate;
mod save;

use super::pages::{Pages, first, put};
use super::volume::Volume;
use crate::activity::{ActivityLog, Commit, PageCopy, Unflushed, limit_for};
use crate::api::{DiskState, DiskToken, Micros, Role};
use crate::buf::{Buf, Mem};
use crate::lineage::Generations;
use crate::mutation::{self, Mutation};
use crate::ondisk::activity::Evidence;
use crate::ondisk::{self, Layout, Snapshot, Superblock};
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
    /// Copying into the reserve, or back.
    Snapshot,
}

impl Lane {
    const ALL: [Self; Self::COUNT] = [
        Self::Super,
        Self::Log,
        Self::Bitmap,
        Self::Attach,
        Self::Inspect,
        Self::Snapshot,
    ];
    /// How many there are.
    pub const COUNT: usize = 6;

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
    /// Revision of the fencing state; 0: none was ever stored.
    pub fence: u64,
    pub size: u64,
    pub gens: Generations,
    pub disk: DiskState,
    pub primary: bool,
    pub was_primary: bool,
    pub all_dirty: bool,
    pub verify_cursor: u64,
    pub snapshot: Option<Snapshot>,
}

/// Where the saving of a superblock stands. Only when the first copy is durable is the second one touched, and only when both are
/// does what waits for it go on.
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
        // A reserve that lay in front of it becomes zero, too.
        self.moved = Some([old.front(), old.superblock_b]);
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

    /// The revision of the fencing state that is durable, if nothing is being saved.
    pub fn fence_stored(&self) -> Option<u64> {
        (!self.saving()).then_some(self.asked.fence)
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
            Lane::Inspect | Lane::Snapshot => false,
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
            fence: fencing::Record::decode(&superblock.reserve).map_or(0, |(_, revision)| revision),
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
            snapshot: superblock.snapshot,
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
        superblock.snapshot = self.snapshot;
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
    fn stored(&self, meta: &Meta, role: Role, fence: u64) -> Stored {
        Stored {
            fence,
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
            snapshot: self.snapshot,
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
            self.through.ahead |= meta.unflushed.ranges().next().is_some();
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

/// The bytes of a lane's page.
pub(super) fn page_mut<'a>(mem: &'a mut Mem<'_>, buf: &Buf) -> Option<&'a mut ondisk::Page> {
    mem.bytes_mut(buf).first_chunk_mut()
}
