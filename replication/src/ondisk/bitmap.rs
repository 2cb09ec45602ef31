//! Pages of the dirty bitmap: one bit per 4 KiB block, one copy of each page.
//!
//! A page that does not decode is all dirty: nothing is known of its 127.5 MiB, and a resync of
//! them is always correct.

use super::page::{self, Kind, PageError};
use super::{PAGE_WORDS, Page};

/// Makes bitmap page `number` of the metadata `device_id`. `words` are the page's part of the
/// bitmap, `number * 510` words from its beginning: 510, or fewer in the last page (the rest is
/// stored as zero). `sequence` should grow with every save of the page; it is for people.
pub fn encode(device_id: u64, number: u32, sequence: u64, words: &[u64], page: &mut Page) {
    page::encode(Kind::Bitmap, device_id, number, sequence, words, page);
}

/// Reads bitmap page `number` into `words` (510 of them, or fewer for the last page) and returns
/// its sequence.
///
/// # Errors
///
/// [`PageError`]; all of `words` is set to ones then, that is dirty. The caller ignores bits beyond the
/// volume's end.
pub fn decode(
    device_id: u64,
    number: u32,
    page: &Page,
    words: &mut [u64],
) -> Result<u64, PageError> {
    let sequence = page::check(Kind::Bitmap, device_id, number, page);
    match sequence {
        Ok(_) => {
            for (word, stored) in words.iter_mut().zip(page::words(page)) {
                *word = stored;
            }
        }
        Err(_) => words.fill(u64::MAX),
    }
    debug_assert!(words.len() <= PAGE_WORDS);
    sequence
}
