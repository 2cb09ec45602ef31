//! Pages of the activity log: one bit per 4 MiB extent, each page stored twice.
//!
//! A set bit says: blocks of this extent may have been written on one node only. The two pages of
//! a pair are written in turn, each time with a sequence one higher, so that a torn write destroys
//! only the older of the two. Before a write to a cold extent starts, a page with its bit is
//! durable; what a torn page would have added was therefore never written, and the other page of
//! the pair is the whole truth.

use super::Page;
use super::page::{self, Kind, PageError};

/// How a pair of pages was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Both pages are intact.
    Intact,
    /// One page fails its checksum. Most likely it was being written at a crash; if instead it
    /// rotted it may have been the newer one, so its bits were added to the other's.
    Torn,
    /// Nothing is known of the pair: both pages are bad, or one cannot be read, is blank or of the
    /// wrong place, or the sequences are not neighbours. No crash alone does that. Every extent
    /// counts as hot.
    Lost,
}

/// What a pair of pages says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// How the pair was found.
    pub evidence: Evidence,
    /// Sequence of the newest intact page; 0 without one.
    pub sequence: u64,
    /// The slot (0 or 1) that the next page, of a higher sequence, must go to: never the one
    /// that holds the newest intact page.
    pub next_slot: u8,
}

/// Makes a page of pair `number` of the metadata `device_id`, to be written to the slot that does
/// not hold the newest page. `words` are the pair's bits, `number * 510` words from the beginning
/// of the hot-extent bitmap: 510 or fewer (the rest is stored as zero). `sequence` must be one
/// higher than the newest page's, and that one must have been flushed. New metadata begins with
/// sequence 1 in slot 0 and 2 in slot 1, both empty.
pub fn encode(device_id: u64, number: u32, sequence: u64, words: &[u64], page: &mut Page) {
    page::encode(Kind::Activity, device_id, number, sequence, words, page);
}

/// Checks one page of pair `number` and returns its sequence.
///
/// # Errors
///
/// [`PageError`].
pub fn check(device_id: u64, number: u32, page: &Page) -> Result<u64, PageError> {
    page::check(Kind::Activity, device_id, number, page)
}

/// Reads pair `number` into `words` (510 of them, or fewer for the last pair): every extent whose
/// bit is set may differ between the nodes if this node crashed as Primary. A slot that the disk
/// could not read is `None`. The caller ignores bits beyond the volume's end.
pub fn recover(
    device_id: u64,
    number: u32,
    slots: [Option<&Page>; 2],
    words: &mut [u64],
) -> Recovered {
    let checked = slots.map(|slot| match slot {
        Some(page) => check(device_id, number, page),
        None => Err(PageError::Unreadable),
    });
    let found = judge(checked);
    words.fill(0);
    match found.evidence {
        Evidence::Lost => words.fill(u64::MAX),
        Evidence::Intact => add(slots[usize::from(1 - found.next_slot)], words),
        Evidence::Torn => slots.iter().for_each(|slot| add(*slot, words)),
    }
    found
}

fn add(page: Option<&Page>, words: &mut [u64]) {
    let Some(page) = page else { return };
    for (word, stored) in words.iter_mut().zip(page::words(page)) {
        *word |= stored;
    }
}

/// Which page of a pair counts, from what [`check`] said of each.
#[must_use]
pub fn judge(slots: [Result<u64, PageError>; 2]) -> Recovered {
    let newest = |slot: u8, sequence, evidence| Recovered {
        evidence,
        sequence,
        next_slot: 1 - slot,
    };
    match slots {
        [Ok(a), Ok(b)] => {
            // Written in turn: anything but neighbours means that the disk lost a flushed write.
            let neighbours = a.abs_diff(b) == 1;
            let evidence = if neighbours {
                Evidence::Intact
            } else {
                Evidence::Lost
            };
            if a > b {
                newest(0, a, evidence)
            } else {
                newest(1, b, evidence)
            }
        }
        [Ok(a), Err(error)] => newest(0, a, blame(error)),
        [Err(error), Ok(b)] => newest(1, b, blame(error)),
        [Err(_), Err(_)] => newest(1, 0, Evidence::Lost),
    }
}

fn blame(error: PageError) -> Evidence {
    match error {
        PageError::Checksum => Evidence::Torn,
        // Both pages are written once before the metadata counts: a blank one was erased.
        PageError::Blank | PageError::Number { .. } | PageError::Unreadable => Evidence::Lost,
    }
}
