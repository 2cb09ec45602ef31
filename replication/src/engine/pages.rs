//! The pages of a volume's bitmap on the disk: which of them differ from what is in memory, and what they must say.

use crate::activity::Unflushed;
use crate::mutation::{self, Mutation};
use alloc::{vec, vec::Vec};
use resync::{BLOCK, Bitmap, PAGE_COVERS, PAGE_WORDS};

/// What the bitmap's pages on the disk need.
#[derive(Debug)]
pub(super) struct Pages {
    /// Differs from what is in memory.
    pub changed: Vec<u64>,
    /// To be saved now.
    pub wanted: Vec<u64>,
    /// Known to be all zero on the disk.
    pub blank: Vec<u64>,
}

impl Pages {
    /// Gets the memory for so many pages in all; answers whether there is as much.
    pub fn reserve(&mut self, count: u32) -> bool {
        let words = count.div_ceil(64) as usize;
        [&mut self.changed, &mut self.wanted, &mut self.blank]
            .into_iter()
            .all(|bits| {
                let more = words.saturating_sub(bits.len());
                bits.try_reserve_exact(more).is_ok()
            })
    }

    /// So many pages in all.
    pub fn grow(&mut self, count: u32) {
        let words = count.div_ceil(64) as usize;
        for bits in [&mut self.changed, &mut self.wanted, &mut self.blank] {
            bits.resize(words.max(bits.len()), 0);
        }
    }

    pub fn new(count: u32) -> Self {
        let words = count.div_ceil(64) as usize;
        Self {
            changed: vec![0; words],
            wanted: vec![0; words],
            blank: vec![0; words],
        }
    }
}

pub(super) fn get(bits: &[u64], at: u32) -> bool {
    bits[(at / 64) as usize] >> (at % 64) & 1 == 1
}

pub(super) fn put(bits: &mut [u64], at: u32, on: bool) {
    let mask = 1 << (at % 64);
    let word = &mut bits[(at / 64) as usize];
    if on {
        *word |= mask;
    } else {
        *word &= !mask;
    }
}

pub(super) fn first(bits: &[u64]) -> Option<u32> {
    let (n, word) = bits.iter().enumerate().find(|(_, word)| **word != 0)?;
    Some(n as u32 * 64 + word.trailing_zeros())
}

/// What a page of the bitmap must say: what is out of sync, and what the peer may still lose.
pub(super) fn bits_of(
    dirty: &Bitmap,
    unflushed: &Unflushed,
    page: u32,
    words: &mut [u64; PAGE_WORDS],
) {
    let first = page as usize * PAGE_WORDS;
    let all = dirty.words();
    for (word, n) in words.iter_mut().zip(first..) {
        *word = all.get(n).copied().unwrap_or(0);
    }
    let start = u64::from(page) * PAGE_COVERS;
    let ranges = unflushed.ranges_in(start..start + PAGE_COVERS);
    for range in ranges.filter(|_| !mutation::is(Mutation::PageWithoutUnflushed)) {
        for block in (range.start - start) / BLOCK..(range.end - start).div_ceil(BLOCK) {
            words[(block / 64) as usize] |= 1 << (block % 64);
        }
    }
}

pub(super) fn want(pages: &mut Pages, start: u64, end: u64) {
    if start < end {
        for page in start / PAGE_COVERS..=(end - 1) / PAGE_COVERS {
            put(&mut pages.wanted, page as u32, true);
        }
    }
}
