//! How many runs may be in flight: as many as keep the path full, and no more.

use crate::Micros;

/// Runs in flight at most.
pub const RUNS_MAX: u32 = 64;
/// Runs in flight before anything is known about the path.
const RUNS_START: u32 = 16;
/// A run may take so long before it counts as queueing. The time is what the first client's request
/// that comes after a pause may have to wait; a queue of this length rides out any jitter.
pub(super) const ROUND_TRIP_GOAL: Micros = 10_000;
/// The shortest round trip is looked for so often.
const PROBE_EVERY: Micros = 10_000_000;
/// Runs in flight while it is looked for, and runs that answer it.
const PROBE_RUNS: u32 = 2;
const PROBE_ANSWERS: u32 = 4;
/// Fixed point: the window moves by fractions of a run.
const ONE: u32 = 256;

/// A window that is steered by delay: after each round it becomes what would have made the round
/// trip equal to its goal.
///
/// The goal depends on the shortest round trip, which can only be seen when there is no queue. So
/// every ten seconds, and at first, the window is two runs for a moment; otherwise a
/// queue that stands would in time be taken for the path's own length and doubled.
#[derive(Debug)]
pub(super) struct Window {
    /// Runs, times [`ONE`].
    size: u32,
    /// Shortest round trips since the last probe and between the two before.
    base: [Option<Micros>; 2],
    probe: Probe,
    /// Of the present round: runs, the sum of their round trips, and whether the window was full.
    runs: u32,
    sum: Micros,
    was_full: bool,
}

#[derive(Debug, Clone, Copy)]
enum Probe {
    /// Until then none is needed.
    Next(Micros),
    /// The queue drains.
    Drain,
    /// Runs begun since then see no queue; so many have been answered.
    Look(Micros, u32),
}

impl Window {
    pub fn new() -> Self {
        Self {
            size: RUNS_START * ONE,
            base: [None; 2],
            probe: Probe::Drain,
            runs: 0,
            sum: 0,
            was_full: false,
        }
    }

    /// Runs that may be in flight.
    pub fn runs(&self) -> u32 {
        match self.probe {
            Probe::Next(_) => self.size / ONE,
            Probe::Drain | Probe::Look(..) => PROBE_RUNS.min(self.size / ONE),
        }
    }

    /// A run was started and `in_flight` are on their way now.
    pub fn started(&mut self, now: Micros, in_flight: u32) {
        self.was_full |= in_flight >= self.runs();
        if matches!(self.probe, Probe::Drain) && in_flight <= PROBE_RUNS {
            self.probe = Probe::Look(now, 0);
        }
    }

    /// A run's acknowledgement came: what it says about the path.
    pub fn observe(&mut self, now: Micros, began: Micros) {
        let round_trip = now.saturating_sub(began);
        self.base[0] = Some(self.base[0].map_or(round_trip, |base| base.min(round_trip)));
        match self.probe {
            Probe::Look(since, answers) if began >= since => {
                self.probe = if answers + 1 >= PROBE_ANSWERS {
                    Probe::Next(now + PROBE_EVERY)
                } else {
                    Probe::Look(since, answers + 1)
                };
            }
            Probe::Next(at) if now >= at => {
                self.base = [None, self.base[0]];
                self.probe = Probe::Drain;
                self.forget_round();
            }
            _ => {}
        }
    }

    /// The same, and no client was there: what it says about the window.
    pub fn adapt(&mut self, now: Micros, began: Micros) {
        let Probe::Next(_) = self.probe else {
            return;
        };
        self.sum += now.saturating_sub(began);
        self.runs += 1;
        if self.runs >= self.runs().max(4) {
            self.end_round();
        }
    }

    /// The goal: 10 ms, or twice the shortest round trip of a path that is slower by nature. Were the
    /// shortest one believed below that, a single lucky run (one of zeroes, one from a cache) would
    /// make every other look queued.
    pub fn goal(&self) -> Micros {
        let base = self.base.iter().flatten().min().copied().unwrap_or(0);
        (2 * base).max(ROUND_TRIP_GOAL)
    }

    fn end_round(&mut self) {
        let mean = (self.sum / Micros::from(self.runs)).max(1);
        let wanted = Micros::from(self.size).saturating_mul(self.goal()) / mean;
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        // A window that was not full says nothing about a larger one.
        let most = if self.was_full {
            self.size + self.size / 2
        } else {
            self.size
        };
        self.size = wanted.clamp(self.size / 2, most).clamp(ONE, RUNS_MAX * ONE);
        self.forget_round();
    }

    /// Forgets what was measured of the present round.
    pub fn forget_round(&mut self) {
        (self.runs, self.sum, self.was_full) = (0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;

    /// Keeps the window full for `seconds` over a path that does `width` runs at a time, `time` each;
    /// gives the window's size and the runs that were done in the last second.
    fn settle(window: &mut Window, time: Micros, width: usize, seconds: u64) -> (u32, u64) {
        let mut flying: VecDeque<(Micros, Micros)> = VecDeque::new();
        let mut free = alloc::vec![0; width];
        let (mut now, mut done) = (0, 0);
        while now < seconds * 1_000_000 {
            while flying.len() < window.runs() as usize {
                let first = free.iter_mut().min().unwrap();
                *first = now.max(*first) + time;
                flying.push_back((*first, now));
                window.started(now, flying.len() as u32);
            }
            let (end, began) = flying.pop_front().unwrap();
            now = end;
            window.observe(now, began);
            window.adapt(now, began);
            done += u64::from(now >= (seconds - 1) * 1_000_000);
        }
        (window.size / ONE, done)
    }

    #[test]
    fn a_wide_path_is_filled_and_a_narrow_one_not_flooded() {
        // A millisecond, 20 at a time: ten times that many are not needed, 20 are.
        let (runs, done) = settle(&mut Window::new(), 1_000, 20, 5);
        assert!(runs == RUNS_MAX && done >= 19_900, "{runs} {done}");
        // One run at a time, 4 ms each: 10 ms are reached with two.
        let (runs, done) = settle(&mut Window::new(), 4_000, 1, 5);
        assert!((2..=4).contains(&runs) && done >= 248, "{runs} {done}");
        // A path of 50 ms is not mistaken for a queue.
        let (runs, done) = settle(&mut Window::new(), 50_000, 40, 5);
        assert!(runs >= 40 && done >= 780, "{runs} {done}");
        // A run that takes half a second is still sent, a few at a time.
        let (runs, _) = settle(&mut Window::new(), 500_000, 1, 60);
        assert!((2..=6).contains(&runs), "{runs}");
    }

    #[test]
    fn a_standing_queue_is_not_taken_for_the_path_in_time() {
        let (runs, done) = settle(&mut Window::new(), 8_000, 1, 300);
        assert!((2..=4).contains(&runs) && done >= 120, "{runs} {done}");
    }

    #[test]
    fn one_lucky_run_does_not_shrink_the_window() {
        let mut window = Window::new();
        let (before, _) = settle(&mut window, 1_000, 2, 5);
        window.observe(1, 0);
        let (after, done) = settle(&mut window, 1_000, 2, 5);
        assert!(
            after + 1 >= before && done >= 1_990,
            "{before} {after} {done}"
        );
    }

    #[test]
    fn a_window_that_was_not_needed_does_not_grow() {
        let mut window = Window::new();
        settle(&mut window, 4_000, 5, 1);
        window.forget_round();
        let before = window.runs();
        assert!(before < RUNS_MAX);
        for n in 2_000..3_000 {
            window.started(n * 1_000, 2);
            window.observe(n * 1_000 + 500, n * 1_000);
            window.adapt(n * 1_000 + 500, n * 1_000);
        }
        assert_eq!(window.runs(), before);
    }
}
