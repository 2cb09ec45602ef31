//! Where to look for metadata on a disk whose end is not where it was when the metadata was written.
//!
//! Reading all of a large disk takes long, and most disks without metadata at their end never had any. So a
//! search first looks where the end of a disk is likely to have been; only one that is asked for looks everywhere.

use super::PAGE;

const PAGE_BYTES: u64 = PAGE as u64;
/// So much of the disk's end is read completely. A node looks at a blank disk before it serves: this and the guesses are 96
/// reads of a disk of 513 MiB, one after another.
const TAIL: u64 = 4 << 20;
/// Ends of earlier days are multiples of this at least.
const UNIT: u64 = 1 << 20;
/// Earlier ends that are tried.
const GUESSES: u64 = 128;

/// A search for a superblock, from the disk's end backwards: what is found first is the newest.
#[derive(Debug, Clone)]
pub struct Search {
    end: u64,
    chunk: u64,
    all: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Down from this byte.
    Tail(u64),
    /// In front of this multiple of the unit.
    Guesses(u64),
    /// Down from this byte.
    Rest(u64),
}

impl Search {
    /// Of a disk of so many bytes, in reads of at most `chunk` bytes (a multiple of 4 KiB). With `all` nothing is left out.
    #[must_use]
    pub fn new(disk_bytes: u64, chunk: u64, all: bool) -> Self {
        let end = disk_bytes - disk_bytes % PAGE_BYTES;
        Self {
            end,
            chunk: chunk.max(PAGE_BYTES),
            all,
            stage: Stage::Tail(end),
        }
    }

    /// What to read next, and give to [`super::find`]: first byte and length. `None`: there is nothing.
    pub fn next_read(&mut self) -> Option<(u64, u64)> {
        let floor = self.end.saturating_sub(TAIL);
        loop {
            match self.stage {
                Stage::Tail(at) if at > floor => {
                    let from = at.saturating_sub(self.chunk).max(floor);
                    self.stage = Stage::Tail(from);
                    return Some((from, at - from));
                }
                Stage::Tail(at) => self.stage = Stage::Guesses(at / self.unit()),
                Stage::Guesses(0) if self.all => self.stage = Stage::Rest(floor),
                Stage::Guesses(0) => return None,
                Stage::Guesses(number) => {
                    self.stage = Stage::Guesses(number - 1);
                    return Some((number * self.unit() - PAGE_BYTES, PAGE_BYTES));
                }
                Stage::Rest(0) => return None,
                Stage::Rest(at) => {
                    let from = at.saturating_sub(self.chunk);
                    self.stage = Stage::Rest(from);
                    return Some((from, at - from));
                }
            }
        }
    }

    fn unit(&self) -> u64 {
        (self.end / GUESSES).next_power_of_two().max(UNIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn reads(disk: u64, all: bool) -> std::vec::Vec<(u64, u64)> {
        let mut search = Search::new(disk, 128 << 10, all);
        std::iter::from_fn(|| search.next_read()).collect()
    }

    #[test]
    fn a_small_disk_is_read_completely_and_backwards() {
        for disk in [4096, 3 << 20, TAIL + 4095] {
            let mut end = disk - disk % 4096;
            for (from, bytes) in reads(disk, false) {
                assert_eq!(from + bytes, end);
                end = from;
            }
            assert_eq!(end, disk.saturating_sub(4095 + TAIL) / 4096 * 4096);
        }
        assert!(reads(4095, true).is_empty());
    }

    #[test]
    fn a_large_disk_costs_a_bounded_number_of_reads_and_round_ends_are_found() {
        for disk in [2 * GIB, 1 << 40, (1 << 44) + 12288] {
            let reads = reads(disk, false);
            assert!(reads.len() < 200, "{}", reads.len());
            let unit = (disk / GUESSES).next_power_of_two();
            for end in [disk / 2, disk / 4].map(|end| end - end % unit) {
                assert!(reads.contains(&(end - 4096, 4096)), "{disk} {end}");
            }
        }
    }

    #[test]
    fn a_complete_search_leaves_no_page_out() {
        let disk = 40 << 20;
        let mut seen = std::vec![false; (disk / 4096) as usize];
        for (from, bytes) in reads(disk, true) {
            for page in from / 4096..(from + bytes) / 4096 {
                seen[page as usize] = true;
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
