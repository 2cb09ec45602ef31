//! What activity log and bitmap pages have in common: a header of 16 bytes, then bits.
//!
//! ```text
//!  0  u32  CRC-32C over: tag of the kind (8 bytes), device id (8 bytes), bytes 4 to 4095
//!  4  u32  number of the page
//!  8  u64  sequence
//! 16  510 words of 64 bits, least significant bit first
//! ```
//!
//! The tag and the device id are not in the page: a page of another kind, of another device or
//! of an older life of the same device (create-md draws a new id) fails its checksum.

use super::{PAGE_WORDS, Page, crc32c, is_blank};
use core::fmt;

const HEADER: usize = 16;

/// Which pages: enters the checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Activity,
    Bitmap,
}

impl Kind {
    fn tag(self) -> &'static [u8; 8] {
        match self {
            Self::Activity => b"PLSD-act",
            Self::Bitmap => b"PLSD-bmp",
        }
    }
}

/// Why a page's bits cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageError {
    /// All zero: never written.
    Blank,
    /// The checksum is wrong: torn, rotten, or a page of another device or kind.
    Checksum,
    /// An intact page of this device, but another one: it was written to the wrong place.
    Number {
        /// The number that belongs here.
        wanted: u32,
        /// The number in the page.
        found: u32,
    },
    /// The disk could not read it. Set by the caller.
    Unreadable,
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("all zero"),
            Self::Checksum => f.write_str("wrong checksum (torn, damaged or not of this device)"),
            Self::Number { wanted, found } => {
                write!(f, "is page {found} where page {wanted} belongs")
            }
            Self::Unreadable => f.write_str("cannot be read"),
        }
    }
}

fn checksum(kind: Kind, device_id: u64, page: &Page) -> u32 {
    crc32c(&[kind.tag(), &device_id.to_le_bytes(), &page[4..]])
}

/// Fills `page`. Words beyond the first 510 are not stored, missing ones are stored as zero.
pub(super) fn encode(
    kind: Kind,
    device_id: u64,
    number: u32,
    sequence: u64,
    words: &[u64],
    page: &mut Page,
) {
    page[4..8].copy_from_slice(&number.to_le_bytes());
    page[8..16].copy_from_slice(&sequence.to_le_bytes());
    let missing = core::iter::repeat_n(&0, PAGE_WORDS.saturating_sub(words.len()));
    let (bits, _) = page[HEADER..].as_chunks_mut::<8>();
    for (bytes, word) in bits.iter_mut().zip(words.iter().chain(missing)) {
        *bytes = word.to_le_bytes();
    }
    let crc = checksum(kind, device_id, page);
    page[..4].copy_from_slice(&crc.to_le_bytes());
}

/// Checks `page` and returns its sequence.
pub(super) fn check(
    kind: Kind,
    device_id: u64,
    number: u32,
    page: &Page,
) -> Result<u64, PageError> {
    let (crc, sequence) = (u32_at(page, 0), sequence(page));
    if crc != checksum(kind, device_id, page) {
        let blank = is_blank(page);
        return Err(if blank {
            PageError::Blank
        } else {
            PageError::Checksum
        });
    }
    match u32_at(page, 4) {
        found if found != number => Err(PageError::Number {
            wanted: number,
            found,
        }),
        _ => Ok(sequence),
    }
}

/// The sequence that the page claims, whether or not it is intact.
fn sequence(page: &Page) -> u64 {
    u64::from(u32_at(page, 8)) | u64::from(u32_at(page, 12)) << 32
}

fn u32_at(page: &Page, at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

/// The words of a page, whether or not it is intact.
pub(super) fn words(page: &Page) -> impl Iterator<Item = u64> {
    let (bits, _) = page[HEADER..].as_chunks::<8>();
    bits.iter().map(|bytes| u64::from_le_bytes(*bytes))
}
