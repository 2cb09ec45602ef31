//! The hot-extent bitmap of one volume.

use super::extents::{Class, Extents, List, State};
use super::{EXTENT, PAGE_EXTENTS, PAGE_WORDS};
use crate::api::Micros;
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
    /// Extents that somebody waits for.
    pub coming: u32,
    /// Page writes begun.
    pub commits: u64,
    /// Requests that had to wait.
    pub waits: u64,
    /// Extents that became cold.
    pub cooled: u64,
}

/// An extent that nobody wrote into for so many ticks is idle.
const IDLE_TICKS: u8 = 10;
/// A tick is 2^20 microseconds: about a second.
const TICK_SHIFT: u32 = 20;
/// Idle extents are looked for so often.
const SWEEP: Micros = 5_000_000;
/// Between a cooling for the limit's sake and the next: a batch may gather.
const PAUSE: Micros = 100_000;
/// After a cooling that failed.
const RETRY: Micros = 1_000_000;

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
/// [`failed`](Self::failed). Everybody who comes while a commit is under way is served by the next one.
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
                .set_left(extent, self.tick().wrapping_sub(IDLE_TICKS));
            self.extents.push(&mut self.idle, extent);
        }
    }

    /// The hot byte ranges, ascending, adjacent extents together. At the attach of a crashed Primary, after the
    /// pages were loaded: what has to be compared again.
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
        for extent in self.extents_of(offset, len) {
            all &= self.enter_extent(extent);
        }
        self.waits += u64::from(!all);
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
                self.extents.set_state(extent, State::Wanted);
                self.push_pending(extent);
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

    /// The next page to write: one whose bits have to change and which is not being written.
    /// Pages take turns; several may be under way at once.
    pub fn next_commit(&mut self) -> Option<Commit> {
        if self.pending == 0 {
            return None;
        }
        let count = self.pages.len();
        let number = (self.cursor..count)
            .chain(0..self.cursor)
            .find(|&n| !self.pages[n].under_way && !self.pages[n].pending.is_empty())?;
        self.cursor = (number + 1) % count;
        let page = &mut self.pages[number];
        page.sequence += 1;
        page.under_way = true;
        page.changing = core::mem::replace(&mut page.pending, List::EMPTY);
        let commit = Commit {
            page: number as u32,
            copy: page.newest.other(),
            sequence: page.sequence,
        };
        let mut changing = page.changing;
        self.pending -= changing.len();
        let mut changed = List::EMPTY;
        while let Some(extent) = self.extents.pop(&mut changing) {
            let adding = self.extents.state(extent) == State::Wanted;
            let next = if adding {
                State::Adding
            } else {
                State::Removing
            };
            self.set_bit(extent, adding);
            self.extents.set_state(extent, next);
            self.extents.push(&mut changed, extent);
        }
        self.pages[number].changing = changed;
        self.commits += 1;
        Some(commit)
    }

    /// The bits to write for a commit under way: bit `n % 64` of word `n / 64` is the page's `n`th extent.
    pub fn fill(&self, commit: Commit, words: &mut [u64; PAGE_WORDS]) {
        let first = commit.page as usize * PAGE_WORDS;
        words.copy_from_slice(&self.bits[first..first + PAGE_WORDS]);
    }

    /// The page was written and the disk flushed thereafter. Waiting requests may be
    /// [`ready`](Self::ready) now.
    pub fn committed(&mut self, commit: Commit) {
        self.end_commit(commit, true);
    }

    /// The page was perhaps written, perhaps torn, perhaps not at all. It comes again with the next
    /// [`next_commit`](Self::next_commit), to the same place: the other holds all there is.
    pub fn failed(&mut self, commit: Commit) {
        self.end_commit(commit, false);
    }

    fn end_commit(&mut self, commit: Commit, durable: bool) {
        let page = &mut self.pages[commit.page as usize];
        assert!(
            page.under_way && page.sequence == commit.sequence,
            "end of a commit that is not under way"
        );
        page.under_way = false;
        if durable {
            page.newest = commit.copy;
        }
        let mut changing = core::mem::replace(&mut page.changing, List::EMPTY);
        while let Some(extent) = self.extents.pop(&mut changing) {
            let next = match (self.extents.state(extent), durable) {
                (State::Adding, true) => State::Hot,
                (State::Removing, true) => State::Cold,
                (State::Removing, false) => State::Stale,
                _ => State::Wanted,
            };
            self.extents.set_state(extent, next);
            match next {
                State::Cold => self.cooled += 1,
                State::Hot if self.extents.used(extent) => {}
                State::Hot => self.put_idle(extent),
                _ => self.push_pending(extent),
            }
        }
    }

    /// Whether a request waits for a commit, or waited and left before it came.
    #[must_use]
    pub fn anyone_waits(&self) -> bool {
        self.extents.count(Class::Coming) > 0
    }

    /// Demotion or poweroff: from now on every extent cools as soon as nobody is in it. `false`: go on as
    /// usual.
    pub fn drain(&mut self, on: bool) {
        self.draining = on;
        if on {
            self.cooling_from = 0;
        }
    }

    /// When [`begin_cooling`](Self::begin_cooling) should be tried next, if nothing happens before.
    #[must_use]
    pub fn next_due(&self) -> Option<Micros> {
        if self.cooling_runs || self.idle.is_empty() {
            return None;
        }
        let sweep = if self.draining || self.excess() > 0 {
            0
        } else {
            self.sweep_from
        };
        Some(self.cooling_from.max(sweep))
    }

    /// Extents to cool for the limit's sake: a quarter below it, so that it is not at once
    /// reached again.
    fn excess(&self) -> u32 {
        let hot = self.extents.count(Class::Coming) + self.extents.count(Class::Steady);
        if hot > self.limit {
            hot - (self.limit - self.limit / 4)
        } else {
            0
        }
    }

    /// Begins a cooling if one is due and none runs: over the limit, the extents left longest ago; those
    /// idle for ten seconds; all when draining. Answers how many extents take part. Never those that a request
    /// is in.
    pub fn begin_cooling(&mut self, now: Micros) -> Option<u32> {
        self.see(now);
        if self.next_due().is_none_or(|due| due > self.now) {
            return None;
        }
        let excess = self.excess();
        if self.sweep_from <= self.now {
            self.sweep_from = self.now + SWEEP;
        }
        while let Some(extent) = self.idle.oldest() {
            let age = self.tick().wrapping_sub(self.extents.left(extent));
            if !self.draining && self.cooling.len() >= excess && age < IDLE_TICKS {
                break;
            }
            self.extents.remove(&mut self.idle, extent);
            self.extents.set_state(extent, State::Cooling);
            self.extents.push(&mut self.cooling, extent);
        }
        self.cooling_runs = !self.cooling.is_empty();
        self.cooling_runs.then_some(self.cooling.len())
    }

    /// The byte ranges of the extents that take part in the cooling under way and were not entered
    /// since, an extent each, in no order.
    pub fn cooling(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.extents.iter(&self.cooling).map(|extent| {
            let offset = u64::from(extent) * EXTENT;
            offset..(offset + EXTENT).min(self.volume_bytes)
        })
    }

    /// The cooling ended. `ok`: the dirty bits of its ranges are durable and both disks (those in use) were
    /// flushed since it began; the extents that nobody entered since leave with the next commits.
    /// Otherwise they stay hot, and the next attempt is a second away.
    pub fn end_cooling(&mut self, ok: bool) {
        assert!(self.cooling_runs, "end of a cooling that is not under way");
        self.cooling_runs = false;
        self.cooling_from = match (ok, self.draining) {
            (false, _) => self.now + RETRY,
            (true, false) => self.now + PAUSE,
            (true, true) => 0,
        };
        let mut list = core::mem::replace(&mut self.cooling, List::EMPTY);
        // The newest first: they are put back as the oldest of all.
        while let Some(extent) = self.extents.pop_newest(&mut list) {
            if ok {
                self.extents.set_state(extent, State::Cooled);
                self.push_pending(extent);
            } else {
                self.extents.set_state(extent, State::Hot);
                self.extents.push_oldest(&mut self.idle, extent);
            }
        }
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
            commits: self.commits,
            waits: self.waits,
            cooled: self.cooled,
        }
    }

    fn see(&mut self, now: Micros) {
        self.now = self.now.max(now);
    }

    /// Seconds, about, that wrap around. An age is wrong after four minutes; then an idle extent
    /// cools some seconds later.
    fn tick(&self) -> u8 {
        (self.now >> TICK_SHIFT) as u8
    }

    fn put_idle(&mut self, extent: u32) {
        let tick = self.tick();
        self.extents.set_left(extent, tick);
        self.extents.push(&mut self.idle, extent);
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
