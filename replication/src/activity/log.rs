//! The hot-extent bitmap of one volume.

mod ahead;
mod commit;
mod cooling;
mod growing;

use super::extents::{Class, Extents, List, State};
use super::{EXTENT, PAGE_EXTENTS, PAGE_WORDS};
use crate::api::Micros;
use ahead::Streams;
use alloc::{vec, vec::Vec};
use core::ops::Range;

/// One of the two places of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageCopy {
    /// The first.
    A,
    /// The second.
    B,
}

impl PageCopy {
    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A write of a page that is to be done, or under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Number of the page.
    pub page: u32,
    /// Where to write it. The other place holds the newest page that is known to be durable.
    pub copy: PageCopy,
    /// The page's sequence number: higher than any before.
    pub sequence: u64,
}

/// Numbers for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Hot extents to keep: see [`super::limit_for`].
    pub limit: u32,
    /// Extents that are, may be or are about to be hot on the disk.
    pub hot: u32,
    /// Extents that requests wait for, or that are heated ahead of a stream of writes.
    pub coming: u32,
    /// Extents that requests are in.
    pub busy: u32,
    /// Page writes begun.
    pub commits: u64,
    /// Requests that had to wait.
    pub waits: u64,
    /// Extents that became cold.
    pub cooled: u64,
}

#[derive(Debug, Clone)]
struct Page {
    /// The highest sequence number that was ever given to a write of this page.
    sequence: u64,
    /// Where the newest durable page is.
    newest: PageCopy,
    /// Extents to be changed by the next commit: `Wanted`, `Cooled`, `Stale`.
    pending: List,
    /// Extents that the commit under way changes: `Adding`, `Removing`, `Returning`.
    changing: List,
    under_way: bool,
}

const FRESH: Page = Page {
    sequence: 0,
    newest: PageCopy::B,
    pending: List::EMPTY,
    changing: List::EMPTY,
    under_way: false,
};

/// The hot extents of one volume: which are durably so, which shall be, and which need not be
/// any more.
///
/// It is a bitmap on the disk, not a log of transactions: a page holds the bits of 32640 extents
/// and is written to its two places in turn, so that a torn write leaves its predecessor.
///
/// # A write
///
/// [`enter`](Self::enter) before it goes to either disk. If that answers `false`, the write waits: until
/// [`ready`](Self::ready), asked after every [`committed`](Self::committed), answers `true`.
/// [`leave`](Self::leave) when it has ended on both sides, or was given up. An extent cannot cool while a
/// request is in it, waiting or not. So a request waits for two commits of each of its pages at
/// most, however many extents it covers and whatever the others do.
///
/// # A commit
///
/// After every event: while [`next_commit`](Self::next_commit) answers, write that page
/// ([`fill`](Self::fill)), flush the disk, and report [`committed`](Self::committed) or
/// [`failed`](Self::failed). Everybody who comes while a commit is under way is served by the next one. Extents right
/// ahead of a sequential writer are heated with those that it enters, so that it seldom waits.
///
/// # A cooling
///
/// After every event, and at [`next_due`](Self::next_due): if [`begin_cooling`](Self::begin_cooling) says so, save
/// the dirty bits of the ranges in [`cooling`](Self::cooling), flush both disks and report
/// [`end_cooling`](Self::end_cooling). Extents that were entered meanwhile stay hot: the flush does not cover what
/// was written into them.
///
/// The limit is soft: nobody waits for a cooling. Under random writes over a cold disk
/// there are more hot extents than the limit, by what comes in a cooling's time.
#[derive(Debug)]
pub struct ActivityLog {
    volume_bytes: u64,
    limit: u32,
    extents: Extents,
    pages: Vec<Page>,
    /// The bits of all pages, as written last or being written.
    bits: Vec<u64>,
    /// `Hot` extents without users; the oldest is the one left first.
    idle: List,
    /// `Cooling` extents.
    cooling: List,
    cooling_runs: bool,
    draining: bool,
    /// No cooling before.
    cooling_from: Micros,
    /// No search for idle extents before.
    sweep_from: Micros,
    /// Extents in all pages' `pending`.
    pending: u32,
    streams: Streams,
    /// Where the search for the next commit begins.
    cursor: usize,
    /// The latest time that anybody told.
    now: Micros,
    commits: u64,
    waits: u64,
    cooled: u64,
}

impl ActivityLog {
    /// A log without hot extents, for a volume of `volume_bytes` that keeps about `limit` extents
    /// hot. All memory it will ever need is allocated here: 12.2 bytes an extent, 3 MiB per TiB.
    #[must_use]
    pub fn new(volume_bytes: u64, limit: u32) -> Self {
        // A volume whose extents cannot be numbered cannot be allocated either.
        let count = u32::try_from(volume_bytes.div_ceil(EXTENT)).unwrap_or(u32::MAX);
        let pages = u64::from(count).div_ceil(PAGE_EXTENTS) as usize;
        Self {
            volume_bytes,
            limit: limit.max(1),
            extents: Extents::new(count),
            pages: vec![FRESH; pages],
            bits: vec![0; pages * PAGE_WORDS],
            idle: List::EMPTY,
            cooling: List::EMPTY,
            cooling_runs: false,
            draining: false,
            cooling_from: 0,
            sweep_from: 0,
            pending: 0,
            streams: Streams::NONE,
            cursor: 0,
            now: 0,
            commits: 0,
            waits: 0,
            cooled: 0,
        }
    }

    /// Forgets everything but the figures: before the log of a disk that is attached anew is loaded. No
    /// request may be in, no commit and no cooling under way; what is still reported of them
    /// later would be taken for something else.
    pub fn reset(&mut self) {
        self.extents.reset();
        self.pages.fill(FRESH);
        self.bits.fill(0);
        (self.idle, self.cooling) = (List::EMPTY, List::EMPTY);
        (self.cooling_runs, self.draining) = (false, false);
        (self.cooling_from, self.sweep_from) = (0, 0);
        (self.pending, self.cursor) = (0, 0);
        self.streams = Streams::NONE;
    }

    /// Pages of this log.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages.len() as u32
    }

    /// At attach, for each page: the valid copy with the highest sequence number. Its extents are
    /// hot, and idle: they cool like all others. Bits beyond the volume and pages beyond
    /// the log are ignored.
    ///
    /// The disk must be flushed between the reading of the pages and the first commit. What was
    /// read may have been in the disk's cache only: a power cut in the first commit would tear the one
    /// place and take back the other.
    pub fn load(&mut self, page: u32, copy: PageCopy, sequence: u64, words: &[u64; PAGE_WORDS]) {
        let Some(known) = self.pages.get_mut(page as usize) else {
            return;
        };
        known.newest = copy;
        known.sequence = sequence;
        let first_word = page as usize * PAGE_WORDS;
        for (n, &word) in words.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                let extent = (first_word + n) as u64 * 64 + u64::from(rest.trailing_zeros());
                rest &= rest - 1;
                if extent < u64::from(self.extents.len()) {
                    self.load_extent(extent as u32);
                }
            }
        }
    }

    /// At attach, for a page that has no valid copy: all of it is hot. `sequence` is the highest
    /// number that a place of this page may ever show again: 0 when both can be read, and neither is valid.
    pub fn load_damaged(&mut self, page: u32, sequence: u64) {
        self.load(page, PageCopy::B, sequence, &[u64::MAX; PAGE_WORDS]);
    }

    fn load_extent(&mut self, extent: u32) {
        if self.extents.state(extent) == State::Cold {
            self.set_bit(extent, true);
            self.extents.set_state(extent, State::Hot);
            self.extents
                .set_left(extent, self.tick().wrapping_sub(cooling::IDLE_TICKS));
            self.extents.push(&mut self.idle, extent);
        }
    }

    /// The hot byte ranges, ascending, adjacent extents together. At the attach of a crashed Primary, after the
    /// pages were loaded: what has to be compared again. Once these ranges are dirty in memory nothing
    /// else is special about them: the cooling that removes them saves their dirty bits first.
    pub fn hot_ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut from = 0;
        core::iter::from_fn(move || {
            let first = self.next_bit(from, true)?;
            let last = self
                .next_bit(first, false)
                .unwrap_or(u64::from(self.extents.len()));
            from = last;
            Some(first * EXTENT..(last * EXTENT).min(self.volume_bytes))
        })
    }

    /// The first extent at or after `from` whose bit is set, or is not.
    fn next_bit(&self, from: u64, set: bool) -> Option<u64> {
        let flip = if set { 0 } else { u64::MAX };
        let first = (from / 64) as usize;
        let mut mask = u64::MAX << (from % 64);
        for (n, word) in self.bits.iter().enumerate().skip(first) {
            let found = (word ^ flip) & mask;
            if found != 0 {
                let extent = n as u64 * 64 + u64::from(found.trailing_zeros());
                return (extent < u64::from(self.extents.len())).then_some(extent);
            }
            mask = u64::MAX;
        }
        None
    }

    /// A request that writes into the range (not empty, inside the volume) wants to start. `true`: it may, a
    /// crash would find all its extents hot. `false`: its extents come with the next commits, and
    /// it waits until [`ready`](Self::ready). In both cases it is in, until it leaves.
    pub fn enter(&mut self, now: Micros, offset: u64, len: u64) -> bool {
        self.see(now);
        let mut all = true;
        let extents = self.extents_of(offset, len);
        let next = extents.end;
        for extent in extents {
            all &= self.enter_extent(extent);
        }
        self.waits += u64::from(!all);
        self.look_ahead(offset, len, next);
        all
    }

    fn enter_extent(&mut self, extent: u32) -> bool {
        let only = self.extents.join(extent);
        match self.extents.state(extent) {
            State::Hot => {
                if only {
                    self.extents.remove(&mut self.idle, extent);
                }
                true
            }
            State::Cooling => {
                self.extents.remove(&mut self.cooling, extent);
                self.extents.set_state(extent, State::Hot);
                true
            }
            State::Cooled => {
                let page = &mut self.pages[page_of(extent)];
                self.extents.remove(&mut page.pending, extent);
                self.pending -= 1;
                self.extents.set_state(extent, State::Hot);
                true
            }
            State::Cold => {
                self.want(extent);
                false
            }
            State::Stale => {
                self.extents.set_state(extent, State::Wanted);
                false
            }
            State::Removing => {
                self.extents.set_state(extent, State::Returning);
                false
            }
            State::Wanted | State::Adding | State::Returning => false,
        }
    }

    /// Whether a request that had to wait may start now. Once it may, that remains so until it leaves.
    #[must_use]
    pub fn ready(&self, offset: u64, len: u64) -> bool {
        self.extents_of(offset, len)
            .all(|extent| self.extents.state(extent).durable())
    }

    /// A request that entered has ended on both sides (on a side that is lost: its range is in the
    /// dirty bitmap), or it was given up before it started.
    pub fn leave(&mut self, offset: u64, len: u64) {
        for extent in self.extents_of(offset, len) {
            if self.extents.part(extent) && self.extents.state(extent) == State::Hot {
                self.put_idle(extent);
            }
        }
    }

    /// Whether extents are still to become hot: because requests wait for them, or ahead of a stream.
    #[must_use]
    pub fn anyone_waits(&self) -> bool {
        self.extents.count(Class::Coming) > 0
    }

    /// Whether no extent is hot on the disk, or may be, and nobody waits for one.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        self.extents.count(Class::Cold) == self.extents.len()
    }

    /// Numbers for people.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            limit: self.limit,
            hot: self.extents.len() - self.extents.count(Class::Cold),
            coming: self.extents.count(Class::Coming),
            busy: self.extents.busy(),
            commits: self.commits,
            waits: self.waits,
            cooled: self.cooled,
        }
    }

    fn see(&mut self, now: Micros) {
        self.now = self.now.max(now);
    }

    fn put_idle(&mut self, extent: u32) {
        let tick = self.tick();
        self.extents.set_left(extent, tick);
        self.extents.push(&mut self.idle, extent);
    }

    /// Has a cold extent set by the next commit.
    fn want(&mut self, extent: u32) {
        self.extents.set_state(extent, State::Wanted);
        self.push_pending(extent);
    }

    fn push_pending(&mut self, extent: u32) {
        let page = &mut self.pages[page_of(extent)];
        self.extents.push(&mut page.pending, extent);
        self.pending += 1;
    }

    fn set_bit(&mut self, extent: u32, on: bool) {
        let mask = 1 << (extent % 64);
        let word = &mut self.bits[(extent / 64) as usize];
        *word = if on { *word | mask } else { *word & !mask };
    }

    /// The extents that the range touches.
    fn extents_of(&self, offset: u64, len: u64) -> Range<u32> {
        let end = offset.saturating_add(len).min(self.volume_bytes);
        if offset >= end {
            return 0..0;
        }
        // Not more than there are, which `new` counted in 32 bits.
        (offset / EXTENT) as u32..end.div_ceil(EXTENT) as u32
    }
}

fn page_of(extent: u32) -> usize {
    (u64::from(extent) / PAGE_EXTENTS) as usize
}
