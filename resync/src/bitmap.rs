//! The dirty bitmap: one bit per 4 KiB block, with summary levels for a fast search.
//!
//! Level 0 has a bit per block. A bit of level `n + 1` says that some bit of the corresponding
//! word of level `n` is set, up to a level of one word. Finding the next dirty block of a 16 TiB
//! volume thus looks at a handful of words, however sparse the bitmap is.

use alloc::{vec, vec::Vec};
use core::fmt;

mod words;

/// Bytes that one bit stands for.
pub const BLOCK: u64 = 4096;

/// Words in a page of a bitmap on disk: 4096 bytes less a header of 16.
pub const PAGE_WORDS: usize = 510;

/// Bytes of bits in a page of a bitmap on disk.
pub const PAGE_BITS_BYTES: usize = PAGE_WORDS * 8;

/// Bytes of the volume that a page of a bitmap on disk stands for: 127.5 MiB.
pub const PAGE_COVERS: u64 = PAGE_WORDS as u64 * 64 * BLOCK;

/// Levels at most: more than a bitmap of 2^52 blocks (all that 64-bit byte offsets name) needs.
const MAX_LEVELS: usize = 10;

/// Adjacent dirty blocks, as bytes of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First byte; a multiple of [`BLOCK`].
    pub offset: u64,
    /// Bytes; a multiple of [`BLOCK`] unless the run ends with the volume.
    pub len: u32,
}

impl Run {
    /// The parts of the run whose blocks are set in `mask` (bit 0 is its first block), adjacent
    /// blocks joined. Bits beyond the run are passed over.
    pub fn select(self, mask: u32) -> impl Iterator<Item = Self> {
        let end = self.offset + u64::from(self.len);
        let mut from = 0;
        core::iter::from_fn(move || {
            let left = mask & u32::MAX.checked_shl(from)?;
            let first = left.trailing_zeros();
            let offset = self.offset + u64::from(first) * BLOCK;
            if left == 0 || offset >= end {
                return None;
            }
            from = first + (left >> first).trailing_ones();
            let stop = (self.offset + u64::from(from) * BLOCK).min(end);
            Some(Self {
                offset,
                len: u32::try_from(stop - offset).unwrap_or(u32::MAX),
            })
        })
    }
}

/// Why a bitmap could not grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrowError {
    /// The new size, in bytes, is less than the present one: volumes only grow.
    Shrinks {
        /// Bytes now.
        from: u64,
        /// Bytes asked for.
        to: u64,
    },
    /// The heap has no room for the larger bitmap.
    NoMemory {
        /// Bytes of memory that the larger bitmap would take.
        needs: u64,
    },
}

impl fmt::Display for GrowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shrinks { from, to } => write!(
                f,
                "the volume has {from} bytes and cannot shrink to {to}; only growing is possible"
            ),
            Self::NoMemory { needs } => write!(
                f,
                "no memory for the larger bitmap, which takes {needs} bytes: start the node again, which sets memory aside for its disks as they are then, or give it more"
            ),
        }
    }
}

impl core::error::Error for GrowError {}

/// Lengths, in words, of all levels of a bitmap of `bits` bits, from the largest to one word.
fn level_lengths(bits: u64) -> impl Iterator<Item = usize> {
    let mut next = Some(bits.div_ceil(64).max(1));
    core::iter::from_fn(move || {
        let words = next?;
        next = (words > 1).then(|| words.div_ceil(64));
        // A volume whose bitmap cannot be addressed cannot be allocated either.
        Some(usize::try_from(words).unwrap_or(usize::MAX))
    })
}

/// The set of blocks of a volume that differ, or may differ, from the peer's.
#[derive(Debug)]
pub struct Bitmap {
    size: u64,
    bits: u64,
    count: u64,
    levels: Vec<Vec<u64>>,
}

impl Bitmap {
    /// A clean bitmap for a volume of `size` bytes. All memory it will ever need is allocated
    /// here: 32 KiB per GiB of volume, and 1/63 of that for the summaries.
    #[must_use]
    pub fn new(size: u64) -> Self {
        let bits = size.div_ceil(BLOCK);
        let mut levels = Vec::with_capacity(MAX_LEVELS);
        for words in level_lengths(bits) {
            levels.push(vec![0u64; words]);
        }
        Self {
            size,
            bits,
            count: 0,
            levels,
        }
    }

    /// Bytes of the volume.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Blocks of the volume, dirty or not; the last one may be partial.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.bits
    }

    /// Number of dirty blocks.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Dirty bytes; the volume's last block counts only as far as the volume reaches.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        let tail = self.bits * BLOCK - self.size;
        let last_dirty = tail != 0 && self.is_set(self.bits - 1);
        self.count * BLOCK - if last_dirty { tail } else { 0 }
    }

    /// Marks every block that the byte range touches, even in part.
    pub fn set_range(&mut self, offset: u64, len: u64) {
        if len == 0 || offset >= self.size {
            return;
        }
        let end = offset.saturating_add(len).min(self.size);
        self.change(offset / BLOCK, end.div_ceil(BLOCK), true);
    }

    /// Clears every block that lies wholly in the byte range. A range that reaches the end of
    /// the volume covers its last block.
    pub fn clear_range(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let last = if end >= self.size {
            self.bits
        } else {
            end / BLOCK
        };
        self.change(offset.div_ceil(BLOCK), last, false);
    }

    /// Marks the whole volume.
    pub fn set_all(&mut self) {
        self.change(0, self.bits, true);
    }

    /// Clears the whole volume.
    pub fn clear_all(&mut self) {
        self.change(0, self.bits, false);
    }

    /// Whether block number `bit` is dirty; a block beyond the volume is not.
    #[must_use]
    pub fn is_set(&self, bit: u64) -> bool {
        bit < self.bits && self.word(bit / 64) & (1 << (bit % 64)) != 0
    }

    /// The first run of dirty blocks at or after byte `from`, of at most `max` bytes (at least
    /// one block) and not crossing a multiple of `max`, which should be a power of two.
    #[must_use]
    pub fn next_run(&self, from: u64, max: u32) -> Option<Run> {
        let first = self.next_set(from.div_ceil(BLOCK))?;
        let max_blocks = (u64::from(max) / BLOCK).max(1);
        let stop = (first / max_blocks + 1) * max_blocks;
        let mut last = first + 1;
        while last < stop && self.is_set(last) {
            last += 1;
        }
        let offset = first * BLOCK;
        let end = (last * BLOCK).min(self.size);
        Some(Run {
            offset,
            len: u32::try_from(end - offset).unwrap_or(u32::MAX),
        })
    }

    fn level_word(&self, level: usize, index: u64) -> u64 {
        usize::try_from(index)
            .ok()
            .and_then(|i| self.levels.get(level)?.get(i))
            .copied()
            .unwrap_or(0)
    }

    /// The first set bit of level 0 at or after `from`: climb until a summary word has a bit
    /// beyond, then descend along the lowest ones.
    pub(crate) fn next_set(&self, from: u64) -> Option<u64> {
        let mut position = from;
        let mut level = 0;
        loop {
            let masked = self.level_word(level, position / 64) & (u64::MAX << (position % 64));
            if masked != 0 {
                let mut bit = position / 64 * 64 + u64::from(masked.trailing_zeros());
                while level > 0 {
                    level -= 1;
                    bit = bit * 64 + u64::from(self.level_word(level, bit).trailing_zeros());
                }
                return Some(bit);
            }
            level += 1;
            if level == self.levels.len() {
                return None;
            }
            position = position / 64 + 1;
        }
    }

    /// Sets or clears the bits `first..last`, which must be within the volume, a word at a time.
    pub(crate) fn change(&mut self, first: u64, last: u64, on: bool) {
        let mut bit = first;
        while bit < last {
            let index = bit / 64;
            let end = last.min((index + 1) * 64);
            let width = end - bit;
            let mask = if width == 64 {
                u64::MAX
            } else {
                ((1 << width) - 1) << (bit % 64)
            };
            let before = self.word(index);
            self.store(index, if on { before | mask } else { before & !mask });
            bit = end;
        }
    }

    /// Writes a word of level 0 and keeps count and summaries true to it.
    fn store(&mut self, index: u64, after: u64) {
        let word = &mut self.levels[0][index as usize];
        let before = core::mem::replace(word, after);
        self.count += u64::from((after & !before).count_ones());
        self.count -= u64::from((before & !after).count_ones());
        if (before == 0) != (after == 0) {
            self.summarise(index, after != 0);
        }
    }

    /// Carries a word's change between empty and not empty into the levels above.
    fn summarise(&mut self, mut index: u64, on: bool) {
        for level in 1..self.levels.len() {
            let word = &mut self.levels[level][(index / 64) as usize];
            let before = *word;
            let bit = 1 << (index % 64);
            *word = if on { before | bit } else { before & !bit };
            if (before == 0) == (*word == 0) {
                return;
            }
            index /= 64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_partial_block_counts_as_far_as_the_volume_reaches() {
        let mut map = Bitmap::new(3 * BLOCK + 512);
        map.set_all();
        assert_eq!((map.count(), map.dirty_bytes()), (4, 3 * BLOCK + 512));
        let run = map.next_run(0, 1 << 17).unwrap();
        assert_eq!((run.offset, u64::from(run.len)), (0, 3 * BLOCK + 512));
        map.clear_range(3 * BLOCK, 512);
        assert_eq!((map.count(), map.dirty_bytes()), (3, 3 * BLOCK));
        map.clear_range(1, 2 * BLOCK);
        assert!(map.is_set(0) && !map.is_set(1) && map.is_set(2));
    }

    #[test]
    fn a_volume_of_16_tib_is_searched_at_once() {
        // The numbers only; 512 MiB of level 0 would be too much for a unit test.
        let bits = (16u64 << 40) / BLOCK;
        assert_eq!(bits, 1 << 32);
        let mut map = Bitmap::new(64 << 30);
        map.set_range((64 << 30) - 1, 1);
        let run = map.next_run(0, 1 << 17).unwrap();
        assert_eq!(run.offset, (64 << 30) - BLOCK);
        assert!(map.next_run(run.offset + 1, 1 << 17).is_none());
        map.set_range(u64::MAX - 1, 1);
        map.set_range(0, u64::MAX);
        assert_eq!(map.dirty_bytes(), 64 << 30);
    }

    #[test]
    fn runs_do_not_cross_their_alignment() {
        let mut map = Bitmap::new(1 << 20);
        map.set_range(100 * 1024, 200 * 1024);
        let first = map.next_run(0, 128 << 10).unwrap();
        assert_eq!((first.offset, first.len), (100 << 10, 28 << 10));
        let second = map.next_run(128 << 10, 128 << 10).unwrap();
        assert_eq!((second.offset, second.len), (128 << 10, 128 << 10));
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(
            size in 1u64..3_000_000,
            steps in proptest::collection::vec((0u64..3_000_000, 0u64..400_000, any::<bool>()), 1..40),
        ) {
            let blocks = size.div_ceil(BLOCK) as usize;
            let mut plain = vec![false; blocks];
            let mut map = Bitmap::new(size);
            for (offset, len, on) in steps {
                if on {
                    map.set_range(offset, len);
                } else {
                    map.clear_range(offset, len);
                }
                for (i, bit) in plain.iter_mut().enumerate() {
                    let (start, end) = (i as u64 * BLOCK, ((i as u64 + 1) * BLOCK).min(size));
                    if on && offset < end && offset + len > start && len > 0 {
                        *bit = true;
                    }
                    if !on && offset <= start && offset + len >= end {
                        *bit = false;
                    }
                }
                prop_assert_eq!(map.count(), plain.iter().filter(|b| **b).count() as u64);
            }
            let mut found = vec![false; blocks];
            let mut from = 0;
            while let Some(run) = map.next_run(from, 1 << 17) {
                prop_assert!(run.offset >= from);
                from = run.offset + u64::from(run.len);
                for bit in run.offset / BLOCK..from.div_ceil(BLOCK) {
                    found[bit as usize] = true;
                }
            }
            prop_assert_eq!(found, plain);
        }
    }
}
