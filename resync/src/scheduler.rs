//! The order in which a resync's source visits the dirty blocks, and how many at once.

use crate::{Bitmap, Run};

/// Bytes of one resync request at most.
pub const MAX_RUN: u32 = 128 << 10;

/// Walks a [`Bitmap`] in ascending passes.
///
/// A run stays dirty until its write was acknowledged, so a pass never looks behind its cursor:
/// a new one starts only when nothing is in flight, and no run is handed out twice at once.
#[derive(Debug, Default)]
pub struct Scheduler {
    cursor: u64,
    in_flight: u32,
}

impl Scheduler {
    /// A scheduler before its first pass.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next run to bring in sync, at most `max` bytes of it; [`Scheduler::taken`] must
    /// follow when it is used. `None` when there is nothing to start now.
    #[must_use]
    pub fn peek(&mut self, bitmap: &Bitmap, max: u32) -> Option<Run> {
        if let Some(run) = bitmap.next_run(self.cursor, max.min(MAX_RUN)) {
            return Some(run);
        }
        if self.in_flight > 0 {
            return None;
        }
        self.cursor = 0;
        bitmap.next_run(0, max.min(MAX_RUN))
    }

    /// The run was started.
    pub fn taken(&mut self, run: Run) {
        self.cursor = run.offset + u64::from(run.len);
        self.in_flight += 1;
    }

    /// A run's request ended, well or not; a run that failed is still dirty and will come again.
    pub fn finished(&mut self) {
        debug_assert!(self.in_flight > 0, "more runs ended than were started");
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Whether every block is in sync and acknowledged.
    #[must_use]
    pub fn is_done(&self, bitmap: &Bitmap) -> bool {
        self.in_flight == 0 && bitmap.count() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_never_handed_out_twice_at_once_and_comes_back_when_it_failed() {
        let mut map = Bitmap::new(1 << 20);
        map.set_range(0, 300 << 10);
        let mut scheduler = Scheduler::new();
        let mut taken = alloc::vec::Vec::new();
        while let Some(run) = scheduler.peek(&map, MAX_RUN) {
            assert!(!taken.contains(&run));
            scheduler.taken(run);
            taken.push(run);
        }
        assert_eq!(taken.iter().map(|r| r.len).sum::<u32>(), 300 << 10);
        // All but the first are acknowledged; the first failed.
        for run in &taken[1..] {
            map.clear_range(run.offset, u64::from(run.len));
            scheduler.finished();
        }
        assert!(scheduler.peek(&map, MAX_RUN).is_none());
        scheduler.finished();
        assert!(!scheduler.is_done(&map));
        let again = scheduler.peek(&map, MAX_RUN).unwrap();
        assert_eq!(again, taken[0]);
        scheduler.taken(again);
        map.clear_range(again.offset, u64::from(again.len));
        scheduler.finished();
        assert!(scheduler.is_done(&map));
    }
}
