//! Access to a [`Bitmap`] by words, by pages as they lie on a disk, and by ranges; and growing it.

use super::{BLOCK, Bitmap, GrowError, PAGE_BITS_BYTES, PAGE_WORDS, level_lengths};
use alloc::vec::Vec;
use core::ops::Range;

impl Bitmap {
    /// All words of the bitmap: bit `b` of word `w` is block `64 * w + b`. Bits beyond the volume
    /// are zero.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.levels[0]
    }

    /// Word number `index`; zero beyond the volume.
    #[must_use]
    pub fn word(&self, index: u64) -> u64 {
        self.level_word(0, index)
    }

    /// Marks the blocks whose bits are set in `bits`, in word number `index`. Bits beyond the
    /// volume are passed over.
    pub fn or_word(&mut self, index: u64, bits: u64) {
        let bits = bits & self.valid_bits(index);
        if bits != 0 {
            self.store(index, self.word(index) | bits);
        }
    }

    /// Those bits of word `index` that stand for blocks of the volume.
    pub(crate) fn valid_bits(&self, index: u64) -> u64 {
        match self.bits.saturating_sub(index.saturating_mul(64)) {
            0 => 0,
            left @ 1..64 => (1 << left) - 1,
            _ => u64::MAX,
        }
    }

    /// Pages that this bitmap takes on a disk.
    #[must_use]
    pub fn page_count(&self) -> u64 {
        self.bits.div_ceil(64 * PAGE_WORDS as u64)
    }

    /// The number of the page that holds the bit of byte `offset` of the volume.
    #[must_use]
    pub fn page_of(offset: u64) -> u64 {
        offset / super::PAGE_COVERS
    }

    /// The bits of page `page` as they lie on a disk: little-endian words. Words beyond the
    /// volume, and thus whole pages beyond it, are zero.
    pub fn save_page(&self, page: u64, out: &mut [u8; PAGE_BITS_BYTES]) {
        let first = page.saturating_mul(PAGE_WORDS as u64);
        let (words, _) = out.as_chunks_mut::<8>();
        for (nth, bytes) in (0..).zip(words) {
            *bytes = self.word(first.saturating_add(nth)).to_le_bytes();
        }
    }

    /// Marks the blocks that a page from a disk marks, in addition to those that are marked.
    pub fn or_page(&mut self, page: u64, bytes: &[u8; PAGE_BITS_BYTES]) {
        let first = page.saturating_mul(PAGE_WORDS as u64);
        let (words, _) = bytes.as_chunks::<8>();
        for (nth, bytes) in (0..).zip(words) {
            self.or_word(first.saturating_add(nth), u64::from_le_bytes(*bytes));
        }
    }

    /// Marks all blocks of a page: what becomes of one that could not be read or whose checksum
    /// is wrong.
    pub fn set_page(&mut self, page: u64) {
        let blocks = 64 * PAGE_WORDS as u64;
        let first = page.saturating_mul(blocks).min(self.bits);
        self.change(first, first.saturating_add(blocks).min(self.bits), true);
    }

    /// Marks what `other` marks. Looks only at words that are not empty there; blocks that
    /// this volume does not have are passed over.
    pub fn or_from(&mut self, other: &Self) {
        let mut from = 0;
        while let Some(bit) = other.next_set(from) {
            self.or_word(bit / 64, other.word(bit / 64));
            from = (bit / 64 + 1) * 64;
        }
    }

    /// Marks every byte range of `ranges` (start and end), as [`Bitmap::set_range`] does.
    pub fn or_ranges(&mut self, ranges: impl IntoIterator<Item = Range<u64>>) {
        for range in ranges {
            self.set_range(range.start, range.end.saturating_sub(range.start));
        }
    }

    /// Dirty blocks among those that the byte range touches, even in part.
    #[must_use]
    pub fn count_range(&self, offset: u64, len: u64) -> u64 {
        if len == 0 || offset >= self.size {
            return 0;
        }
        let end = offset.saturating_add(len).min(self.size).div_ceil(BLOCK);
        let mut total = 0;
        let mut from = offset / BLOCK;
        while let Some(bit) = self.next_set(from) {
            if bit >= end {
                break;
            }
            let next = ((bit / 64 + 1) * 64).min(end);
            let width = next - bit / 64 * 64;
            let below_end = if width == 64 {
                u64::MAX
            } else {
                (1 << width) - 1
            };
            let mask = below_end & (u64::MAX << (bit % 64));
            total += u64::from((self.word(bit / 64) & mask).count_ones());
            from = next;
        }
        total
    }

    /// The first clean block at or after `from` and before `limit`, or `limit`.
    pub(crate) fn next_clean(&self, from: u64, limit: u64) -> u64 {
        let mut bit = from;
        while bit < limit {
            let clean = !self.word(bit / 64) & (u64::MAX << (bit % 64));
            if clean != 0 {
                return (bit / 64 * 64 + u64::from(clean.trailing_zeros())).min(limit);
            }
            bit = (bit / 64 + 1) * 64;
        }
        limit
    }

    /// The first range of dirty bytes at or after byte `from`, as long as it is.
    #[must_use]
    pub fn next_range(&self, from: u64) -> Option<Range<u64>> {
        let first = self.next_set(from.div_ceil(BLOCK))?;
        let last = self.next_clean(first, self.bits);
        Some(first * BLOCK..(last * BLOCK).min(self.size))
    }

    /// All ranges of dirty bytes, ascending, none adjacent to the next.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let mut from = 0;
        core::iter::from_fn(move || {
            let range = self.next_range(from)?;
            from = range.end;
            Some(range)
        })
    }

    /// Makes room for a volume that grew to `new_size` bytes. The new blocks are dirty or clean
    /// as told; a block that was the volume's partial end counts as new when the new ones are
    /// dirty. This allocates, as [`Bitmap::new`] does: it belongs to a resize, not to steady state.
    ///
    /// # Errors
    /// [`GrowError`]; the bitmap is as it was.
    pub fn grow(&mut self, new_size: u64, dirty: bool) -> Result<(), GrowError> {
        let old_size = self.size;
        if new_size < old_size {
            return Err(GrowError::Shrinks {
                from: old_size,
                to: new_size,
            });
        }
        let bits = new_size.div_ceil(BLOCK);
        let no_memory = || GrowError::NoMemory {
            needs: level_lengths(bits).map(|words| words as u64 * 8).sum(),
        };
        // First all the memory, then the change: a failure in between leaves nothing half done.
        let lengths = || level_lengths(bits).enumerate();
        let mut added = Vec::new();
        for (level, words) in lengths() {
            match self.levels.get_mut(level) {
                Some(have) => have
                    .try_reserve_exact(words - have.len())
                    .map_err(|_| no_memory())?,
                None => {
                    let mut fresh = Vec::new();
                    fresh.try_reserve_exact(words).map_err(|_| no_memory())?;
                    added.try_reserve(1).map_err(|_| no_memory())?;
                    added.push(fresh);
                }
            }
        }
        let old_levels = self.levels.len();
        self.levels
            .try_reserve(added.len())
            .map_err(|_| no_memory())?;
        self.levels.append(&mut added);
        for (level, words) in lengths() {
            self.levels[level].resize(words, 0);
        }
        (self.size, self.bits) = (new_size, bits);
        // The level that was the top one has no summary yet.
        if self.count > 0 {
            for level in old_levels..self.levels.len() {
                self.levels[level][0] |= 1;
            }
        }
        if dirty {
            self.set_range(old_size, new_size - old_size);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitmap::PAGE_COVERS;
    use alloc::boxed::Box;
    use proptest::prelude::*;

    fn bitmap_of(size: u64, ranges: &[(u64, u64)]) -> Bitmap {
        let mut map = Bitmap::new(size);
        for (offset, len) in ranges {
            map.set_range(*offset, *len);
        }
        map
    }

    /// What a bitmap without summaries would say.
    fn plain(map: &Bitmap) -> Vec<bool> {
        (0..map.blocks()).map(|bit| map.is_set(bit)).collect()
    }

    #[test]
    fn a_word_never_marks_blocks_beyond_the_volume() {
        let mut map = Bitmap::new(70 * BLOCK);
        map.or_word(1, u64::MAX);
        map.or_word(2, u64::MAX);
        map.or_word(u64::MAX, u64::MAX);
        assert_eq!((map.count(), map.word(1)), (6, 0x3f));
        map.set_page(1);
        map.set_page(u64::MAX);
        assert_eq!(map.count(), 6);
        map.set_page(0);
        assert_eq!(map.count(), 70);
    }

    #[test]
    fn pages_cover_what_they_say() {
        let map = bitmap_of(
            3 * PAGE_COVERS - 5,
            &[(PAGE_COVERS, 1), (2 * PAGE_COVERS - 1, 2)],
        );
        assert_eq!(map.page_count(), 3);
        assert_eq!(Bitmap::page_of(PAGE_COVERS - 1), 0);
        assert_eq!(Bitmap::page_of(PAGE_COVERS), 1);
        let mut page = Box::new([0xffu8; PAGE_BITS_BYTES]);
        map.save_page(0, &mut page);
        assert!(page.iter().all(|b| *b == 0));
        map.save_page(1, &mut page);
        assert_eq!((page[0], page[PAGE_BITS_BYTES - 1]), (1, 0x80));
        map.save_page(2, &mut page);
        assert_eq!(page[0], 1);
        map.save_page(u64::MAX, &mut page);
        assert!(page.iter().all(|b| *b == 0));
    }

    #[test]
    fn growing_keeps_the_old_marks_and_marks_the_new_blocks_if_asked() {
        let mut map = bitmap_of(10 * BLOCK + 1, &[(0, 1)]);
        map.grow(5000 * BLOCK, false).unwrap();
        assert_eq!(map.count(), 1);
        assert_eq!(map.next_range(0), Some(0..BLOCK));
        assert_eq!(map.next_range(1), None);
        map.set_range(4999 * BLOCK, 1);
        assert_eq!(map.next_range(1), Some(4999 * BLOCK..5000 * BLOCK));
        map.grow(6000 * BLOCK - 1, true).unwrap();
        assert_eq!(map.count(), 1 + 1001);
        assert_eq!(
            map.grow(10, true),
            Err(GrowError::Shrinks {
                from: 6000 * BLOCK - 1,
                to: 10
            })
        );
        assert!(matches!(
            map.grow(u64::MAX, true),
            Err(GrowError::NoMemory { .. })
        ));
        assert_eq!((map.count(), map.size()), (1002, 6000 * BLOCK - 1));
    }

    #[test]
    fn a_partial_end_that_grows_is_dirty_with_the_new_blocks() {
        let mut map = Bitmap::new(BLOCK + 512);
        map.grow(2 * BLOCK, true).unwrap();
        assert_eq!(map.next_range(0), Some(BLOCK..2 * BLOCK));
    }

    proptest! {
        #[test]
        fn pages_words_and_ranges_agree_with_the_blocks(
            size in 1u64..400_000_000,
            ranges in proptest::collection::vec((0u64..400_000_000, 0u64..9_000_000), 0..12),
            window in (0u64..400_000_000, 0u64..400_000_000),
            more in 0u64..200_000_000,
            dirty in any::<bool>(),
        ) {
            let map = bitmap_of(size, &ranges);
            let mut copy = Bitmap::new(size);
            let mut page = Box::new([0u8; PAGE_BITS_BYTES]);
            for number in 0..map.page_count() {
                map.save_page(number, &mut page);
                copy.or_page(number, &page);
            }
            prop_assert_eq!(copy.words(), map.words());
            prop_assert_eq!(copy.count(), map.count());

            let mut again = Bitmap::new(size);
            again.or_ranges(map.ranges());
            prop_assert_eq!(again.words(), map.words());
            let mut end = None;
            for range in map.ranges() {
                prop_assert!(range.start < range.end && end.is_none_or(|end| end < range.start));
                end = Some(range.end);
            }
            let mut united = bitmap_of(size, &ranges[..ranges.len() / 2]);
            united.or_from(&bitmap_of(size, &ranges[ranges.len() / 2..]));
            prop_assert_eq!(united.words(), map.words());

            let blocks = plain(&map);
            let expected = blocks.iter().enumerate().filter(|(i, set)| {
                let start = *i as u64 * BLOCK;
                **set && window.1 > 0 && start < window.0 + window.1
                    && (start + BLOCK).min(size) > window.0
            });
            prop_assert_eq!(map.count_range(window.0, window.1), expected.count() as u64);

            let mut grown = bitmap_of(size, &ranges);
            grown.grow(size + more, dirty).unwrap();
            let mut fresh = Bitmap::new(size + more);
            fresh.or_ranges(map.ranges());
            if dirty {
                fresh.set_range(size, more);
            }
            prop_assert_eq!(&grown.levels, &fresh.levels);
            prop_assert_eq!(grown.count(), fresh.count());
        }
    }
}
