//! What the peer has acknowledged but not flushed.

use core::ops::Range;
use resync::{BLOCK, Bitmap, GrowError};

/// Bytes of a grain: the unit in which unflushed data is remembered.
pub const GRAIN: u64 = 64 << 10;

/// A run of grains is looked up in pieces of so many blocks of the scaled bitmap.
const PIECE: u32 = 1 << 30;

/// The parts of a volume that the peer has acknowledged and not flushed since: should it come back
/// after a power cut, they may be missing there.
///
/// A flush covers what was acknowledged before it was sent. So there are two generations: what a
/// flush under way will cover, and what came later.
#[derive(Debug)]
pub struct Unflushed {
    volume_bytes: u64,
    /// Acknowledged since the last flush was sent. A bit, which is a block for [`Bitmap`], stands for a grain.
    recent: Bitmap,
    /// Covered by the flush under way.
    covered: Bitmap,
    flushing: bool,
}

impl Unflushed {
    /// Nothing is unflushed yet. All memory is allocated here: 4 KiB per GiB of volume.
    #[must_use]
    pub fn new(volume_bytes: u64) -> Self {
        let scaled = volume_bytes.div_ceil(GRAIN) * BLOCK;
        Self {
            volume_bytes,
            recent: Bitmap::new(scaled),
            covered: Bitmap::new(scaled),
            flushing: false,
        }
    }

    /// Gets the memory for a volume of so many bytes, and changes nothing else.
    ///
    /// # Errors
    /// [`GrowError::NoMemory`].
    pub fn reserve(&mut self, volume_bytes: u64) -> Result<(), GrowError> {
        let scaled = volume_bytes.div_ceil(GRAIN) * BLOCK;
        for map in [&mut self.recent, &mut self.covered] {
            // Grains beyond the volume are never marked.
            if map.size() < scaled {
                map.grow(scaled, false)?;
            }
        }
        Ok(())
    }

    /// The volume has so many bytes now, for which memory was reserved.
    pub fn grow(&mut self, volume_bytes: u64) {
        self.volume_bytes = volume_bytes;
    }

    /// The peer acknowledged a write, discard or write-zeroes of the range and it has not said
    /// that it is durable.
    pub fn mark(&mut self, offset: u64, len: u64) {
        if let Some(grains) = self.grains(offset..offset.saturating_add(len)) {
            self.recent
                .set_range(grains.start * BLOCK, (grains.end - grains.start) * BLOCK);
        }
    }

    /// A flush is sent to the peer: its answer will cover what is marked now. `false` if the
    /// answer of an earlier one is still awaited; then this one is not tracked, and its answer must
    /// not be reported.
    pub fn begin_flush(&mut self) -> bool {
        if self.flushing {
            return false;
        }
        self.flushing = true;
        core::mem::swap(&mut self.recent, &mut self.covered);
        true
    }

    /// The peer answered the tracked flush: what was marked when it began is durable.
    pub fn flushed(&mut self) {
        assert!(self.flushing, "answer to a flush that is not tracked");
        self.flushing = false;
        wipe(&mut self.covered);
    }

    /// The tracked flush, if any, failed, or its answer will never come: it covers nothing.
    pub fn lost(&mut self) {
        self.flushing = false;
        let mut from = 0;
        while let Some(run) = self.covered.next_run(from, PIECE) {
            from = run.offset + u64::from(run.len);
            self.recent.set_range(run.offset, u64::from(run.len));
        }
        wipe(&mut self.covered);
    }

    /// All of it is durable, or is in the dirty bitmap now. A tracked flush is forgotten.
    pub fn clear(&mut self) {
        self.flushing = false;
        wipe(&mut self.recent);
        wipe(&mut self.covered);
    }

    /// Whether everything acknowledged was flushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.recent.count() == 0 && self.covered.count() == 0
    }

    /// Whether a flush is tracked.
    #[must_use]
    pub fn is_flushing(&self) -> bool {
        self.flushing
    }

    /// Whether some of the byte range is, or may be, unflushed.
    #[must_use]
    pub fn overlaps(&self, range: Range<u64>) -> bool {
        self.grains(range).is_some_and(|grains| {
            self.next(grains.start * BLOCK)
                .is_some_and(|found| found.start < grains.end * BLOCK)
        })
    }

    /// The unflushed byte ranges of both generations: whole grains, clipped to the volume,
    /// ascending and disjoint; adjacent ones may be apart.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut from = 0;
        core::iter::from_fn(move || {
            let found = self.next(from)?;
            from = found.end;
            let end = found.end / BLOCK * GRAIN;
            Some(found.start / BLOCK * GRAIN..end.min(self.volume_bytes))
        })
    }

    /// The part of [`ranges`](Self::ranges) that lies in the byte range.
    pub fn ranges_in(&self, within: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut from = within.start / GRAIN * BLOCK;
        core::iter::from_fn(move || {
            let found = self.next(from)?;
            from = found.end;
            let start = (found.start / BLOCK * GRAIN).max(within.start);
            let end = found.end / BLOCK * GRAIN;
            (start < within.end).then(|| start..end.min(self.volume_bytes).min(within.end))
        })
    }

    /// The first run of grains in either generation at or after `from`; all scaled.
    fn next(&self, from: u64) -> Option<Range<u64>> {
        let run = |map: &Bitmap| {
            map.next_run(from, PIECE)
                .map(|run| run.offset..run.offset + u64::from(run.len))
        };
        match (run(&self.recent), run(&self.covered)) {
            (Some(a), Some(b)) if a.start <= b.start => Some(join(a, b)),
            (Some(a), Some(b)) => Some(join(b, a)),
            (a, b) => a.or(b),
        }
    }

    /// The grains that the range touches, if any.
    fn grains(&self, range: Range<u64>) -> Option<Range<u64>> {
        let end = range.end.min(self.volume_bytes);
        (range.start < end).then(|| range.start / GRAIN..end.div_ceil(GRAIN))
    }
}

/// The first range, made longer by the second if that begins in it or right after it.
fn join(first: Range<u64>, second: Range<u64>) -> Range<u64> {
    if second.start <= first.end {
        first.start..first.end.max(second.end)
    } else {
        first
    }
}

/// Clears a map at a cost of what is in it: most have little in much.
fn wipe(map: &mut Bitmap) {
    let mut from = 0;
    while let Some(run) = map.next_run(from, PIECE) {
        from = run.offset + u64::from(run.len);
        map.clear_range(run.offset, u64::from(run.len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};
    use proptest::prelude::*;

    const SIZE: u64 = 10 * GRAIN + 512;

    #[test]
    fn a_flush_covers_what_was_acknowledged_before_it_began() {
        let mut unflushed = Unflushed::new(SIZE);
        unflushed.mark(0, 1);
        assert!(unflushed.begin_flush());
        unflushed.mark(GRAIN, 1);
        assert!(!unflushed.begin_flush(), "only one is tracked");
        assert!(unflushed.overlaps(0..1) && unflushed.overlaps(GRAIN..2 * GRAIN));
        unflushed.flushed();
        assert!(!unflushed.overlaps(0..GRAIN) && unflushed.overlaps(0..GRAIN + 1));
        assert!(unflushed.begin_flush());
        unflushed.flushed();
        assert!(unflushed.is_empty());
    }

    #[test]
    fn a_lost_flush_covers_nothing() {
        let mut unflushed = Unflushed::new(SIZE);
        unflushed.mark(SIZE - 1, 1);
        unflushed.begin_flush();
        unflushed.mark(0, 2 * GRAIN);
        unflushed.lost();
        assert!(!unflushed.is_flushing());
        let ranges: Vec<_> = unflushed.ranges().collect();
        assert_eq!(ranges, [0..2 * GRAIN, 10 * GRAIN..SIZE]);
        unflushed.clear();
        assert!(unflushed.is_empty() && unflushed.ranges().next().is_none());
    }

    #[test]
    fn what_is_outside_the_volume_is_ignored() {
        let mut unflushed = Unflushed::new(SIZE);
        unflushed.mark(SIZE, u64::MAX);
        unflushed.mark(5, 0);
        assert!(unflushed.is_empty());
        unflushed.mark(SIZE - 1, u64::MAX);
        assert!(!unflushed.overlaps(SIZE..u64::MAX) && !unflushed.overlaps(0..10 * GRAIN));
        assert!(unflushed.overlaps(0..u64::MAX));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Mark(u64, u64),
        Begin,
        Flushed,
        Lost,
        Clear,
        Ask(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let range = (0..SIZE + GRAIN, 0..3 * GRAIN);
        prop_oneof![
            6 => range.clone().prop_map(|(offset, len)| Step::Mark(offset, len)),
            3 => Just(Step::Begin),
            2 => Just(Step::Flushed),
            1 => Just(Step::Lost),
            1 => Just(Step::Clear),
            4 => range.prop_map(|(offset, len)| Step::Ask(offset, offset + len)),
        ]
    }

    proptest! {
        /// A plain model: for every grain, whether it is marked in either generation.
        #[test]
        fn behaves_like_two_plain_sets(steps in proptest::collection::vec(step(), 1..100)) {
            let mut unflushed = Unflushed::new(SIZE);
            let grains = SIZE.div_ceil(GRAIN) as usize;
            let (mut recent, mut covered) = (vec![false; grains], vec![false; grains]);
            let mut flushing = false;
            let touched = |n: usize, from: u64, to: u64| {
                let start = n as u64 * GRAIN;
                from < to.min(SIZE) && start < to && from < (start + GRAIN).min(SIZE)
            };
            for step in steps {
                match step {
                    Step::Mark(offset, len) => {
                        unflushed.mark(offset, len);
                        for (n, grain) in recent.iter_mut().enumerate() {
                            *grain |= touched(n, offset, offset + len);
                        }
                    }
                    Step::Begin => {
                        prop_assert_eq!(unflushed.begin_flush(), !flushing);
                        if !flushing {
                            core::mem::swap(&mut recent, &mut covered);
                            flushing = true;
                        }
                    }
                    Step::Flushed if flushing => {
                        unflushed.flushed();
                        covered.fill(false);
                        flushing = false;
                    }
                    Step::Flushed => {}
                    Step::Lost => {
                        unflushed.lost();
                        for (grain, old) in recent.iter_mut().zip(&mut covered) {
                            *grain |= core::mem::take(old);
                        }
                        flushing = false;
                    }
                    Step::Clear => {
                        unflushed.clear();
                        (recent, covered) = (vec![false; grains], vec![false; grains]);
                        flushing = false;
                    }
                    Step::Ask(from, to) => {
                        let expected = (0..grains)
                            .any(|n| (recent[n] || covered[n]) && touched(n, from, to));
                        prop_assert_eq!(unflushed.overlaps(from..to), expected);
                    }
                }
                prop_assert_eq!(unflushed.is_flushing(), flushing);
                let mut found = vec![false; grains];
                let mut from = 0;
                for range in unflushed.ranges() {
                    prop_assert!(range.start >= from && range.end > range.start);
                    prop_assert!(range.end <= SIZE);
                    from = range.end;
                    for n in range.start / GRAIN..range.end.div_ceil(GRAIN) {
                        found[n as usize] = true;
                    }
                }
                let expected: Vec<_> = recent.iter().zip(&covered).map(|(a, b)| *a || *b).collect();
                prop_assert_eq!(unflushed.is_empty(), !expected.contains(&true));
                prop_assert_eq!(found, expected);
            }
        }
    }
}
