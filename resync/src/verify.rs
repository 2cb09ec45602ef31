//! Online verify: the side that compares.
//!
//! ```text
//!          next()            compared() | unreadable()
//!  ahead ─────────► in flight ─────────────────────────► done
//!                     │  ▲
//!       link_lost()   ▼  │ next()
//!                    again
//! ```
//!
//! # What the caller guarantees, so that nothing is reported that is not so
//!
//! For each run that [`Verify::next`] gives, on the node that all writes pass through (the Primary; if
//! there is none, either):
//!
//! 1. it takes the range lock that client writes take, and has it once every write that overlaps
//!    the run has finished *on both disks*; later ones wait;
//! 2. both disks are read after that, and the digests are made of what was read;
//! 3. it calls [`Verify::compared`], and only then gives up the lock, so that with `repair` the
//!    block is marked before anyone can write to it.
//!
//! A block is then compared while no write to it is under way anywhere, and both sides' bytes are
//! those of the same set of writes. Blocks that are known to be out of sync are not to be verified:
//! verify only when both disks are UpToDate.

use crate::{BLOCK, Bitmap, MAX_RUN, RangeList, Run};
use alloc::vec::Vec;
use core::ops::Range;

/// Runs in flight at most.
pub const VERIFY_IN_FLIGHT: usize = 64;
/// Ranges that differ which are remembered one by one; the rest is counted.
pub const VERIFY_RANGES: usize = 256;

/// What to verify, and what to do about differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyOptions {
    /// First byte; the block that it lies in is compared whole.
    pub start: u64,
    /// End, in bytes; the block before it is compared whole. Beyond the volume means its end.
    pub stop: u64,
    /// Mark blocks that differ as out of sync, so that a resync from this side repairs them.
    pub repair: bool,
}

impl Default for VerifyOptions {
    /// The whole volume, without repair.
    fn default() -> Self {
        Self {
            start: 0,
            stop: u64::MAX,
            repair: false,
        }
    }
}

/// Whose disk could not read a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This node's.
    Here,
    /// The peer's.
    Peer,
}

#[derive(Debug)]
struct Outstanding {
    run: Run,
    in_flight: bool,
}

/// A verify of one volume.
#[derive(Debug)]
pub struct Verify {
    range: Range<u64>,
    repair: bool,
    cursor: u64,
    compared: u64,
    outstanding: Vec<Outstanding>,
    differing: RangeList,
    differing_blocks: u64,
    unreadable: [RangeList; 2],
}

impl Verify {
    /// A verify of a volume of `size` bytes. All memory it will need is allocated here.
    #[must_use]
    pub fn new(size: u64, options: VerifyOptions) -> Self {
        let list = || RangeList::new(VERIFY_RANGES);
        let mut verify = Self {
            range: 0..0,
            repair: false,
            cursor: 0,
            compared: 0,
            outstanding: Vec::with_capacity(VERIFY_IN_FLIGHT),
            differing: list(),
            differing_blocks: 0,
            unreadable: [list(), list()],
        };
        verify.restart(size, options);
        verify
    }

    /// Begins another verify, of a volume of `size` bytes, in the same memory. Everything of the one before
    /// is forgotten.
    pub fn restart(&mut self, size: u64, options: VerifyOptions) {
        let stop = options
            .stop
            .min(size)
            .div_ceil(BLOCK)
            .saturating_mul(BLOCK)
            .min(size);
        let start = (options.start / BLOCK * BLOCK).min(stop);
        self.range = start..stop;
        self.repair = options.repair;
        self.cursor = start;
        self.compared = 0;
        self.outstanding.clear();
        self.differing.clear();
        self.differing_blocks = 0;
        self.unreadable.iter_mut().for_each(RangeList::clear);
    }

    /// The next run to compare, at most `max` bytes (at least a block) and not crossing a multiple of
    /// [`MAX_RUN`]. It is in flight from now on. A run that comes again after [`Verify::link_lost`] is as
    /// long as it was. `None` when all are in flight or done, or [`VERIFY_IN_FLIGHT`] are in flight.
    pub fn next(&mut self, max: u32) -> Option<Run> {
        if let Some(again) = self.outstanding.iter_mut().find(|o| !o.in_flight) {
            again.in_flight = true;
            return Some(again.run);
        }
        if self.outstanding.len() == VERIFY_IN_FLIGHT || self.cursor >= self.range.end {
            return None;
        }
        let boundary = (self.cursor / u64::from(MAX_RUN) + 1) * u64::from(MAX_RUN);
        let max = (u64::from(max.min(MAX_RUN)) / BLOCK).max(1) * BLOCK;
        let end = boundary.min(self.range.end).min(self.cursor + max);
        let run = Run {
            offset: self.cursor,
            len: u32::try_from(end - self.cursor).unwrap_or(MAX_RUN),
        };
        self.cursor = end;
        self.outstanding.push(Outstanding {
            run,
            in_flight: true,
        });
        Some(run)
    }

    /// Ends a run; false if it was not in flight, as when the link broke meanwhile.
    fn end(&mut self, run: Run) -> bool {
        let found = self
            .outstanding
            .iter()
            .position(|o| o.in_flight && o.run == run);
        if let Some(at) = found {
            self.outstanding.swap_remove(at);
            self.compared += u64::from(run.len);
        }
        found.is_some()
    }

    /// A run was compared: bit `i` of `mask` says that its block `i` differs (see
    /// [`crate::digest::diff`]). With `repair` those are marked in `dirty`, the volume's bitmap. A
    /// run that is not in flight is passed over.
    pub fn compared(&mut self, run: Run, mask: u32, dirty: &mut Bitmap) {
        if !self.end(run) {
            return;
        }
        for part in run.select(mask) {
            let len = u64::from(part.len);
            self.differing.add(part.offset..part.offset + len);
            self.differing_blocks += len.div_ceil(BLOCK);
            if self.repair {
                dirty.set_range(part.offset, len);
            }
        }
    }

    /// A run could not be read on `side`, and therefore not be compared.
    pub fn unreadable(&mut self, run: Run, side: Side) {
        if self.end(run) {
            self.unreadable[side as usize].add(run.offset..run.offset + u64::from(run.len));
        }
    }

    /// A run could not be compared now, for want of memory: it comes again from [`Verify::next`]. One that
    /// is not in flight is passed over.
    pub fn again(&mut self, run: Run) {
        let found = self.outstanding.iter_mut();
        if let Some(o) = found.into_iter().find(|o| o.in_flight && o.run == run) {
            o.in_flight = false;
        }
    }

    /// What is in flight will not be answered: it comes again from [`Verify::next`].
    pub fn link_lost(&mut self) {
        for outstanding in &mut self.outstanding {
            outstanding.in_flight = false;
        }
    }

    /// Runs that were given out and have not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.outstanding.iter().filter(|o| o.in_flight).count()
    }

    /// Everything before this byte was compared: where to start again after a restart.
    #[must_use]
    pub fn position(&self) -> u64 {
        let offsets = self.outstanding.iter().map(|o| o.run.offset);
        offsets.fold(self.cursor, u64::min)
    }

    /// Whether everything was compared (or found unreadable).
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.cursor >= self.range.end && self.outstanding.is_empty()
    }

    /// Bytes to compare in all.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Bytes not yet compared.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.total_bytes() - self.compared
    }

    /// Whether differences are marked for a resync.
    #[must_use]
    pub fn repairs(&self) -> bool {
        self.repair
    }

    /// The ranges that differ, as far as there was room, and their bytes.
    #[must_use]
    pub fn differing(&self) -> &RangeList {
        &self.differing
    }

    /// How many blocks differ.
    #[must_use]
    pub fn differing_blocks(&self) -> u64 {
        self.differing_blocks
    }

    /// The ranges that could not be read on `side`.
    #[must_use]
    pub fn unreadable_ranges(&self, side: Side) -> &RangeList {
        &self.unreadable[side as usize]
    }
}

#[cfg(test)]
mod tests;
