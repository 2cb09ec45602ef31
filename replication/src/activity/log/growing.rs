//! A volume that grows, and a log that moves to another place.

use super::super::{EXTENT, PAGE_EXTENTS, PAGE_WORDS};
use super::{ActivityLog, FRESH, Page, PageCopy};
use resync::GrowError;

impl ActivityLog {
    /// Gets the memory for a volume of so many bytes, and changes nothing else.
    ///
    /// # Errors
    /// [`GrowError::NoMemory`].
    pub fn reserve(&mut self, volume_bytes: u64) -> Result<(), GrowError> {
        let (count, pages) = sizes(volume_bytes);
        let no_memory = GrowError::NoMemory {
            needs: u64::from(count) * 12 + pages as u64 * PAGE_WORDS as u64 * 8,
        };
        let reserved = self.extents.reserve(count)
            && more(&mut self.pages, pages)
            && more(&mut self.bits, pages * PAGE_WORDS);
        reserved.then_some(()).ok_or(no_memory)
    }

    /// The volume has so many bytes now, not less than before, and about `limit` extents are kept hot. Allocates
    /// unless that was reserved.
    pub fn grow(&mut self, volume_bytes: u64, limit: u32) {
        let (count, pages) = sizes(volume_bytes);
        self.volume_bytes = volume_bytes;
        self.limit = limit.max(1);
        self.extents.grow(count);
        // As they are written before they come into use.
        let empty = Page {
            sequence: 2,
            newest: PageCopy::B,
            ..FRESH
        };
        self.pages.resize(pages.max(self.pages.len()), empty);
        let words = self.pages.len() * PAGE_WORDS;
        self.bits.resize(words, 0);
    }

    /// Fills the words of a page for a copy of it in another place, to be written there to both slots: first with the sequence
    /// answered, then with the one after it. No commit may be under way from here to [`ActivityLog::moved`].
    pub fn fill_copy(&self, page: u32, words: &mut [u64; PAGE_WORDS]) -> u64 {
        let first = page as usize * PAGE_WORDS;
        words.copy_from_slice(&self.bits[first..first + PAGE_WORDS]);
        self.pages[page as usize].sequence + 1
    }

    /// All pages are in the other place, as [`ActivityLog::fill_copy`] said, and that place counts.
    pub fn moved(&mut self) {
        for page in &mut self.pages {
            page.sequence += 2;
            page.newest = PageCopy::B;
        }
    }
}

/// Extents and pages of a volume.
fn sizes(volume_bytes: u64) -> (u32, usize) {
    let count = u32::try_from(volume_bytes.div_ceil(EXTENT)).unwrap_or(u32::MAX);
    (count, u64::from(count).div_ceil(PAGE_EXTENTS) as usize)
}

/// Reserves memory for so many elements in all.
fn more<T>(vec: &mut alloc::vec::Vec<T>, count: usize) -> bool {
    vec.try_reserve_exact(count.saturating_sub(vec.len()))
        .is_ok()
}
