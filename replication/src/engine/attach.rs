//! Attaching a disk: its metadata is read and tells what the disk is worth. Until that is known of every
//! volume, the handshake with the peer waits.
//!
//! Reading goes from the superblock (`locate`) to the activity log and the bitmap. What cannot be read or is damaged counts as out of sync, never as in sync.

use super::locate::Locate;
use super::meta::{Lane, Meta};
use super::snapshot::Loading;
use super::volume::Volume;
use super::{Engine, text};
use crate::api::{
    ConnectionState, DiskError, DiskOp, DiskState, Level, MetadataPlace, Micros, Role, Text,
};
use crate::buf::{Buf, BufView, MAX_BUF, Mem, PAGE};
use crate::lineage::{Generations, JUST_CREATED};
use crate::mutation::{self, Mutation};
use crate::ondisk::{self, Layout, LayoutError, Repair, Superblock};
use ::resync::{Bitmap, PAGE_WORDS};
use alloc::boxed::Box;

/// When there is no memory for reading the metadata, look again after this.
const RETRY: Micros = 10_000;

/// Pages of the pool that metadata is written from, a page a lane; taken once.
#[derive(Debug)]
pub(super) struct Lanes {
    pub superblock: Buf,
    pub log: Buf,
    pub bitmap: Buf,
}

impl Lanes {
    pub fn take(mem: &mut Mem<'_>) -> Option<Self> {
        let mut pages = heapless::Vec::<Buf, 3>::new();
        for _ in 0..3 {
            let Some(page) = mem.alloc(PAGE) else {
                pages.into_iter().for_each(|page| mem.free(page));
                return None;
            };
            // There is room for three.
            let _ = pages.push(page);
        }
        Some(Self {
            superblock: pages.pop()?,
            log: pages.pop()?,
            bitmap: pages.pop()?,
        })
    }
}

/// How far a disk is from being used.
#[derive(Debug)]
pub(super) enum Attach {
    /// There is no disk, or it failed.
    NoDisk,
    /// Reading begins as soon as there is memory, at this time or later.
    Due(Micros),
    /// The metadata is being read.
    Reading { buf: Buf, step: Step },
    /// There is no metadata to be used, and why.
    Blank(Text),
    /// Metadata is being created.
    Creating(Box<super::create::Create>),
    /// The disk is in use.
    Attached,
    /// It did not answer while its metadata was read or created, and may still use the buffer.
    Stuck(Buf),
    /// The operator detached it.
    Detached,
}

/// What is being read.
#[derive(Debug)]
pub(super) enum Step {
    /// The superblock is being looked for, and its copies read.
    Locate(Locate),
    Log {
        meta: Box<Meta>,
        dirty: Bitmap,
        pair: u32,
    },
    Bitmap {
        meta: Box<Meta>,
        dirty: Bitmap,
        page: u32,
        pages: u32,
    },
    /// The tables in the reserve, of a snapshot that is held.
    Tables {
        meta: Box<Meta>,
        dirty: Bitmap,
        loading: Box<Loading>,
    },
    /// What was read may have been in the disk's cache only. It must not vanish while the first new page of the
    /// activity log is being written over its predecessor.
    Flush {
        meta: Box<Meta>,
        dirty: Bitmap,
        loading: Option<Box<Loading>>,
    },
}

impl Volume {
    /// Whether no metadata is on its way to or from the disk, and none is about to be.
    pub fn is_settled(&self) -> bool {
        let busy = matches!(
            self.attach,
            Attach::Due(_) | Attach::Reading { .. } | Attach::Creating(_) | Attach::Stuck(_)
        );
        !busy
            && self.inspecting.is_none()
            && self
                .meta
                .as_ref()
                .is_none_or(|meta| meta.quiet() && !meta.saving())
            && self.growth.is_none()
            && self.rolling.is_none()
            && self.copies.as_ref().is_none_or(|copies| copies.is_idle())
    }

    /// Bytes of the pool that are kept for writing metadata.
    pub fn lane_bytes(&self) -> u64 {
        let lanes = if self.lanes.is_some() {
            3 * u64::from(PAGE)
        } else {
            0
        };
        lanes + self.copies.as_ref().map_or(0, |copies| copies.bytes())
    }

    /// Bytes of the disk that the metadata lies on.
    pub fn metadata_disk_bytes(&self) -> u64 {
        match self.config.metadata {
            MetadataPlace::Internal => self.config.disk_bytes,
            MetadataPlace::External { disk_bytes } => disk_bytes,
        }
    }

    /// Where new metadata belongs.
    pub fn new_layout(&self) -> Result<Layout, LayoutError> {
        let limit = self.config.size_limit;
        let layout = match self.config.metadata {
            MetadataPlace::Internal => Layout::internal(self.config.disk_bytes, limit),
            MetadataPlace::External { disk_bytes } => {
                let whole = self.config.disk_bytes;
                let bytes = limit.unwrap_or(whole).min(whole);
                Layout::external(disk_bytes, bytes - bytes % u64::from(PAGE))
            }
        }?;
        layout.with_reserve(self.config.snapshot_reserve)
    }

    /// Whether it is not known yet what the disk is worth.
    pub fn attaching(&self) -> bool {
        matches!(self.attach, Attach::Due(_) | Attach::Reading { .. })
    }

    /// Whether the disk works on attaching, or on creating metadata.
    pub fn busy_attaching(&self) -> bool {
        matches!(self.attach, Attach::Reading { .. } | Attach::Creating(_))
    }
}

impl Engine {
    /// Whether the metadata of some volume is still being read.
    pub(super) fn attaching(&self) -> bool {
        self.volumes.iter().any(Volume::attaching)
    }

    pub(super) fn attach_deadline(&self) -> Option<Micros> {
        let due = |volume: &Volume| match volume.attach {
            Attach::Due(at) => Some(at),
            _ => None,
        };
        self.volumes.iter().filter_map(due).min()
    }

    /// Starts reading where that is due.
    pub(super) fn start_attaching(&mut self, mem: &mut Mem<'_>) {
        for at in 0..self.volumes.len() {
            let volume = &mut self.volumes[at];
            let Attach::Due(when) = volume.attach else {
                continue;
            };
            if when > self.now {
                continue;
            }
            if volume.lanes.is_none() {
                volume.lanes = Lanes::take(mem);
            }
            let buf = volume.lanes.as_ref().and_then(|_| mem.alloc_up_to(MAX_BUF));
            let Some(buf) = buf.filter(|buf| buf.len() >= 2 * PAGE || mem.total_bytes() == 0)
            else {
                volume.attach = Attach::Due(self.now + RETRY);
                continue;
            };
            volume.disk = DiskState::Attaching;
            self.start_locating(at, buf);
        }
    }

    /// Reads so many pages into the attach buffer.
    pub(super) fn read_metadata(&mut self, at: usize, offset: u64, pages: u32) {
        let Attach::Reading { buf, .. } = &self.volumes[at].attach else {
            return;
        };
        let view = BufView {
            len: pages * PAGE,
            ..buf.view()
        };
        let op = DiskOp::Read {
            offset,
            view,
            detect_zeroes: false,
        };
        self.meta_op(at, Lane::Attach, op);
    }

    /// A step of attaching or of creating metadata ended.
    pub(super) fn attach_done(
        &mut self,
        at: usize,
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        if matches!(self.volumes[at].attach, Attach::Creating(_)) {
            return self.create_done(at, result, mem);
        }
        if self.volumes[at].growth.is_some() {
            return self.growth_done(at, result, mem);
        }
        let attach = core::mem::replace(&mut self.volumes[at].attach, Attach::NoDisk);
        let (buf, step) = match attach {
            Attach::Reading { buf, step } => (buf, step),
            Attach::Stuck(buf) => return mem.free(buf),
            other => {
                // It failed meanwhile: `Lane::Attach` is void.
                self.volumes[at].attach = other;
                return;
            }
        };
        if result == Err(DiskError::Gone) {
            mem.free(buf);
            return self.no_metadata(at, text!("the disk does not answer"));
        }
        match step {
            Step::Locate(step) => self.located(at, buf, step, result, mem),
            Step::Log { meta, dirty, pair } => {
                self.got_log(at, buf, meta, dirty, pair, result, mem);
            }
            Step::Tables {
                meta,
                dirty,
                mut loading,
            } => {
                let bytes = mem.bytes(&buf);
                loading.take(&meta.superblock, bytes, result);
                self.read_tables(at, buf, meta, dirty, loading);
            }
            Step::Flush {
                meta,
                dirty,
                loading,
            } => match result {
                Ok(()) => self.attached(at, meta, dirty, (loading, buf), mem),
                Err(error) => {
                    mem.free(buf);
                    self.volumes[at].doom();
                    self.no_metadata(at, text!("the disk cannot flush ({error:?})"));
                }
            },
            Step::Bitmap {
                meta,
                dirty,
                page,
                pages,
            } => self.got_bitmap(at, buf, meta, dirty, (page, pages), result, mem),
        }
    }

    /// The superblock that counts was chosen: the activity log is read next.
    pub(super) fn got_superblock(
        &mut self,
        at: usize,
        buf: Buf,
        chosen: ondisk::Chosen,
        mem: &mut Mem<'_>,
    ) {
        let ondisk::Chosen {
            superblock,
            from,
            repair,
        } = chosen;
        if let Some(problem) = self.misplaced(at, &superblock) {
            mem.free(buf);
            return self.no_metadata(at, problem);
        }
        let mut meta = Box::new(Meta::new(superblock, mem.total_bytes()));
        if let Some(repair) = repair {
            let index = self.volumes[at].config.index;
            let what = match repair {
                Repair::Behind { .. } => {
                    text!("vol{index}: the copies of the superblock differ, as after a crash")
                }
                Repair::Bad(error) => text!(
                    "vol{index}: one copy of the superblock is bad ({error}) and is written anew"
                ),
            };
            self.log(Level::Warn, what);
            meta.repair(from);
        }
        let dirty = Bitmap::new(meta.layout().volume_bytes);
        let offset = meta.layout().activity;
        let step = Step::Log {
            meta,
            dirty,
            pair: 0,
        };
        self.volumes[at].attach = Attach::Reading { buf, step };
        self.read_metadata(at, offset, 2);
    }

    /// Why metadata that is sound does not belong here.
    fn misplaced(&self, at: usize, superblock: &Superblock) -> Option<Text> {
        let config = &self.volumes[at].config;
        if superblock.resource != self.config.resource || superblock.volume != config.index {
            return Some(text!(
                "its metadata is that of vol{} of resource '{}': correct the configuration, or run 'create-md vol{} --force' if its content may go",
                superblock.volume,
                superblock.resource,
                config.index
            ));
        }
        if superblock.block_size != config.block_size {
            return Some(text!(
                "its metadata says blocks of {} bytes, the configuration {}: correct 'block_size'",
                superblock.block_size,
                config.block_size
            ));
        }
        if let Some(problem) = super::fence::unreadable(&superblock.reserve) {
            return Some(problem);
        }
        if superblock.layout.volume_bytes > config.disk_bytes {
            return Some(text!(
                "its metadata says {} bytes, the disk has {}: give the disk back its size",
                superblock.layout.volume_bytes,
                config.disk_bytes
            ));
        }
        None
    }

    #[allow(clippy::too_many_arguments)]
    fn got_log(
        &mut self,
        at: usize,
        buf: Buf,
        mut meta: Box<Meta>,
        dirty: Bitmap,
        pair: u32,
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let (slots, _) = mem.bytes(&buf).as_chunks::<{ ondisk::PAGE }>();
        let slots = match result {
            Ok(()) => [slots.first(), slots.get(1)],
            Err(_) => [None, None],
        };
        let unsure = self.volumes[at].unsure.log;
        meta.load_log(pair, slots, unsure);
        let next = pair + 1;
        let more = meta.layout().activity_page(next, 0);
        let more = more.filter(|_| next < meta.layout().activity_pairs_used());
        if let Some(offset) = more {
            let step = Step::Log {
                meta,
                dirty,
                pair: next,
            };
            self.volumes[at].attach = Attach::Reading { buf, step };
            return self.read_metadata(at, offset, 2);
        }
        self.read_bitmap(at, buf, meta, dirty, 0);
    }

    fn read_bitmap(&mut self, at: usize, buf: Buf, meta: Box<Meta>, dirty: Bitmap, page: u32) {
        let left = meta.layout().bitmap_pages_used() - page;
        let pages = left.min(buf.len() / PAGE);
        let Some(offset) = meta.layout().bitmap_page(page).filter(|_| left > 0) else {
            let held = meta.superblock.snapshot.is_some_and(|s| s.is_held());
            return match self.volumes[at].load_reserve(&meta.superblock) {
                Some(loading) if held => self.read_tables(at, buf, meta, dirty, loading),
                loading => self.flush_at_attach(at, buf, meta, dirty, loading),
            };
        };
        let step = Step::Bitmap {
            meta,
            dirty,
            page,
            pages,
        };
        self.volumes[at].attach = Attach::Reading { buf, step };
        self.read_metadata(at, offset, pages);
    }

    fn read_tables(
        &mut self,
        at: usize,
        buf: Buf,
        meta: Box<Meta>,
        dirty: Bitmap,
        loading: Box<Loading>,
    ) {
        let Some(offset) = loading.next() else {
            return self.flush_at_attach(at, buf, meta, dirty, Some(loading));
        };
        let step = Step::Tables {
            meta,
            dirty,
            loading,
        };
        self.volumes[at].attach = Attach::Reading { buf, step };
        self.read_metadata(at, offset, 2);
    }

    fn flush_at_attach(
        &mut self,
        at: usize,
        buf: Buf,
        meta: Box<Meta>,
        dirty: Bitmap,
        loading: Option<Box<Loading>>,
    ) {
        let step = Step::Flush {
            meta,
            dirty,
            loading,
        };
        self.volumes[at].attach = Attach::Reading { buf, step };
        self.meta_op(at, Lane::Attach, DiskOp::Flush);
    }

    #[allow(clippy::too_many_arguments)]
    fn got_bitmap(
        &mut self,
        at: usize,
        buf: Buf,
        mut meta: Box<Meta>,
        mut dirty: Bitmap,
        (first, pages): (u32, u32),
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let (bytes, _) = mem.bytes(&buf).as_chunks::<{ ondisk::PAGE }>();
        let mut bad = 0;
        for (page, bytes) in (first..first + pages).zip(bytes) {
            let mut words = [u64::MAX; PAGE_WORDS];
            if result.is_ok() {
                let id = meta.superblock.device_id;
                match ondisk::bitmap::decode(id, page, bytes, &mut words) {
                    Ok(sequence) => meta.page_loaded(page, sequence, &words),
                    Err(_) if mutation::is(Mutation::BadPageIsClean) => words = [0; PAGE_WORDS],
                    Err(_) => bad += 1,
                }
            } else {
                bad += 1;
            }
            if mutation::is(Mutation::BitmapNotRead) {
                continue;
            }
            let start = page as usize * PAGE_WORDS;
            for (n, word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
                dirty.or_word((start + n) as u64, *word);
            }
        }
        if bad > 0 {
            let index = self.volumes[at].config.index;
            self.log(
                Level::Warn,
                text!(
                    "vol{index}: {bad} pages of the bitmap are damaged: what they stand for counts as out of sync"
                ),
            );
        }
        self.read_bitmap(at, buf, meta, dirty, first + pages);
    }

    /// There is nothing to attach.
    pub(super) fn no_metadata(&mut self, at: usize, why: Text) {
        let volume = &mut self.volumes[at];
        volume.disk = DiskState::Diskless;
        volume.attach = Attach::Blank(why.clone());
        let index = volume.config.index;
        let reason = text!("vol{index}: cannot be attached: {why}");
        self.log(Level::Error, reason.clone());
        self.attach_ended(at, Err(reason));
        self.tell_state();
    }

    /// Everything was read: the disk takes part from now on.
    fn attached(
        &mut self,
        at: usize,
        mut meta: Box<Meta>,
        mut dirty: Bitmap,
        (loading, buf): (Option<Box<Loading>>, Buf),
        mem: &mut Mem<'_>,
    ) {
        let instance = self.random();
        let mut superblock = meta.superblock.clone();
        let mut size = meta.layout().volume_bytes;
        let offered = self.volumes[at].offered;
        if self.role == Role::Primary && size < offered {
            // The volume has grown without this disk, and clients know.
            match self.grow_at_attach(at, &mut meta, &mut dirty, offered) {
                Ok(()) => (size, superblock.all_dirty) = (offered, true),
                Err(why) => {
                    mem.free(buf);
                    return self.no_metadata(at, why);
                }
            }
        }
        let volume = &mut self.volumes[at];
        if superblock.all_dirty {
            dirty.set_all();
            meta.touch_all();
            meta.distrust_pages();
        }
        let mut hot = 0;
        let ranges = meta.log.hot_ranges();
        for range in ranges.filter(|_| !mutation::is(Mutation::HotNotMarked)) {
            dirty.set_range(range.start, range.end - range.start);
            hot += 1;
        }
        volume.size = size;
        volume.gens = Generations {
            current: superblock.current,
            bitmap: superblock.bitmap,
            history: superblock.history,
        };
        volume.crashed = superblock.primary;
        // Nothing of what was answered is missing: this node had it all before, and neither lost power. A generation
        // that could not be saved any more, after this one, is one that nothing was answered in.
        let same = |(gens, sequence): (Generations, u64)| {
            let before = gens.bitmap != 0 && gens.bitmap == superblock.current;
            let range = sequence.saturating_sub(1)..=sequence;
            (gens == volume.gens || before) && range.contains(&superblock.sequence)
        };
        volume.steady = volume.left.take().is_some_and(same);
        volume.was_primary = superblock.was_primary || superblock.primary;
        volume.disk = match superblock.disk {
            DiskState::Inconsistent | DiskState::Outdated => superblock.disk,
            _ if superblock.current == JUST_CREATED => DiskState::Inconsistent,
            // The peer may have the same, and the medium behind all of it.
            _ if volume.through.doomed && superblock.bitmap == 0 => DiskState::Outdated,
            _ => DiskState::Consistent,
        };
        volume.instance = instance;
        volume.dirty = dirty;
        if self.role == Role::Primary {
            // After a flush that failed nobody knows what the disk still holds, whatever later ones answer.
            volume.through.sound = volume.disk == DiskState::Consistent
                && !volume.through.doomed
                && (volume.steady || !volume.through.here.any());
            volume.reattached();
        }
        volume.verify.cursor = superblock.verify_cursor;
        meta.touch_hot();
        if volume.through.doomed {
            meta.touch_all();
            meta.rewrite(volume.unsure.superblock);
        }
        volume.snapshot = superblock.snapshot;
        volume.meta = Some(meta);
        volume.attach = Attach::Attached;
        self.use_reserve(at, loading, buf, mem);
        let volume = &self.volumes[at];
        let (index, disk, crashed) = (volume.config.index, volume.disk, volume.crashed);
        let bytes = volume.dirty.dirty_bytes();
        let primary = self.role == Role::Primary;
        let how = match (crashed, disk) {
            _ if primary && disk == DiskState::UpToDate => "what clients saw last",
            _ if primary => "not what clients saw last",
            (true, _) => "this node stopped as Primary without saying so",
            (false, DiskState::Inconsistent) if self.volumes[at].gens.current == JUST_CREATED => {
                "just created"
            }
            (false, DiskState::Inconsistent) => "the target of an unfinished resync",
            (false, DiskState::Outdated) => "known to be outdated",
            (false, _) => "consistent",
        };
        self.log(
            Level::Info,
            text!(
                "vol{index}: attached, {size} bytes: {how}; {bytes} bytes out of sync ({hot} spans from the activity log)"
            ),
        );
        if offered == 0 || offered > size {
            // Else clients are told when the nodes have agreed.
            self.offer(at);
        }
        self.record_found(at, &superblock.reserve, mem);
        self.attach_ended(at, Ok(()));
        self.ensure_generation(at, mem);
        if self.link.state == ConnectionState::Connected
            || (self.link.hello_sent && self.link.refused_until.is_none())
        {
            // The peer knows this disk as missing.
            self.reopen_link();
        }
    }
}
