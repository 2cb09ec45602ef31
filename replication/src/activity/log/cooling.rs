//! Which extents need not be hot any more, and when that is looked for.

use super::super::EXTENT;
use super::super::extents::{Class, List, State};
use super::ActivityLog;
use crate::api::Micros;
use core::ops::Range;

/// An extent that nobody wrote into for so many ticks is idle.
pub(super) const IDLE_TICKS: u8 = 10;
/// A tick is 2^20 microseconds: about a second.
const TICK_SHIFT: u32 = 20;
/// Idle extents are looked for so often.
const SWEEP: Micros = 5_000_000;
/// Between a cooling for the limit's sake and the next: a batch may gather.
const PAUSE: Micros = 100_000;
/// After a cooling that failed.
const RETRY: Micros = 1_000_000;

impl ActivityLog {
    /// Demotion or poweroff: from now on every extent cools as soon as nobody is in it. `false`: go on as
    /// usual.
    pub fn drain(&mut self, on: bool) {
        self.draining = on;
        if on {
            self.cooling_from = 0;
        }
    }

    /// When [`begin_cooling`](Self::begin_cooling) should be tried next, if nothing happens before.
    #[must_use]
    pub fn next_due(&self) -> Option<Micros> {
        if self.cooling_runs || self.idle.is_empty() {
            return None;
        }
        let sweep = if self.draining || self.excess() > 0 {
            0
        } else {
            self.sweep_from
        };
        Some(self.cooling_from.max(sweep))
    }

    /// Extents to cool for the limit's sake: a quarter below it, so that it is not at once
    /// reached again.
    fn excess(&self) -> u32 {
        let hot = self.extents.count(Class::Coming) + self.extents.count(Class::Steady);
        if hot > self.limit {
            hot - (self.limit - self.limit / 4)
        } else {
            0
        }
    }

    /// Begins a cooling if one is due and none runs: over the limit, the extents left longest ago; those
    /// idle for ten seconds; all when draining. Answers how many extents take part. Never those that a request
    /// is in.
    pub fn begin_cooling(&mut self, now: Micros) -> Option<u32> {
        self.see(now);
        if self.next_due().is_none_or(|due| due > self.now) {
            return None;
        }
        let excess = self.excess();
        if self.sweep_from <= self.now {
            self.sweep_from = self.now + SWEEP;
        }
        while let Some(extent) = self.idle.oldest() {
            let age = self.tick().wrapping_sub(self.extents.left(extent));
            if !self.draining && self.cooling.len() >= excess && age < IDLE_TICKS {
                break;
            }
            self.extents.remove(&mut self.idle, extent);
            self.extents.set_state(extent, State::Cooling);
            self.extents.push(&mut self.cooling, extent);
        }
        self.cooling_runs = !self.cooling.is_empty();
        self.cooling_runs.then_some(self.cooling.len())
    }

    /// The byte ranges of the extents that take part in the cooling under way and were not entered
    /// since, an extent each, in no order.
    pub fn cooling(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.extents.iter(&self.cooling).map(|extent| {
            let offset = u64::from(extent) * EXTENT;
            offset..(offset + EXTENT).min(self.volume_bytes)
        })
    }

    /// The cooling ended. `ok`: the dirty bits of its ranges are durable and both disks (those in use) were
    /// flushed since it began; the extents that nobody entered since leave with the next commits.
    /// Otherwise they stay hot, and the next attempt is a second away.
    pub fn end_cooling(&mut self, ok: bool) {
        assert!(self.cooling_runs, "end of a cooling that is not under way");
        self.cooling_runs = false;
        self.cooling_from = match (ok, self.draining) {
            (false, _) => self.now + RETRY,
            (true, false) => self.now + PAUSE,
            (true, true) => 0,
        };
        let mut list = core::mem::replace(&mut self.cooling, List::EMPTY);
        // The newest first: they are put back as the oldest of all.
        while let Some(extent) = self.extents.pop_newest(&mut list) {
            if ok {
                self.extents.set_state(extent, State::Cooled);
                self.push_pending(extent);
            } else {
                self.extents.set_state(extent, State::Hot);
                self.extents.push_oldest(&mut self.idle, extent);
            }
        }
    }

    /// Seconds, about, that wrap around. An age is wrong after four minutes; then an idle extent
    /// cools some seconds later.
    pub(super) fn tick(&self) -> u8 {
        (self.now >> TICK_SHIFT) as u8
    }
}
