//! Page writes.

use super::super::PAGE_WORDS;
use super::super::extents::{List, State};
use super::{ActivityLog, Commit};

impl ActivityLog {
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
}
