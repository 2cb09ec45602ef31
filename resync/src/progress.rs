//! How far a resync or a verify is, how fast, and how long it will take.
//!
//! A sample of what is left is kept every 3 s, for 18 s. Rates over the last 3 s and 18 s come from
//! these, as does the time to the end. Everything is in whole numbers: bytes, seconds, bytes a second.

use crate::Micros;

/// Between two samples.
const STEP: Micros = 3_000_000;
/// Samples kept: they span 18 s and the one under way.
const SAMPLES: usize = 7;
/// No progress for so long is a stall.
const STALLED: Micros = 30_000_000;

/// What a status row shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgressReport {
    /// Bytes there were to do at the beginning, or more if more became known since.
    pub total: u64,
    /// Bytes left.
    pub left: u64,
    /// Parts in a thousand that are done.
    pub done_permille: u64,
    /// Bytes a second over the last 3 to 6 s.
    pub rate_3s: u64,
    /// Bytes a second over the last 18 to 21 s.
    pub rate_18s: u64,
    /// Bytes a second since the beginning, pauses left out.
    pub rate_whole: u64,
    /// Seconds to the end at the rate of the last 18 s. `None` while nothing moves.
    pub eta: Option<u64>,
    /// Seconds since the beginning, pauses left out.
    pub elapsed: u64,
    /// Nothing has moved for half a minute, though nobody paused it.
    pub stalled: bool,
}

/// Watches the bytes that are left to do.
#[derive(Debug, Clone)]
pub struct Progress {
    total: u64,
    done: u64,
    left: u64,
    /// Time that counts, and bytes done by then; the newest is at `newest`.
    samples: [(Micros, u64); SAMPLES],
    newest: usize,
    kept: usize,
    /// Time that counts: it stands still in pauses.
    clock: Micros,
    at: Micros,
    paused: bool,
    /// When, by `clock`, something was last done.
    moved: Micros,
}

impl Progress {
    /// Begins at `now` with `left` bytes to do.
    #[must_use]
    pub fn new(now: Micros, left: u64) -> Self {
        Self {
            total: left,
            done: 0,
            left,
            samples: [(0, 0); SAMPLES],
            newest: 0,
            kept: 1,
            clock: 0,
            at: now,
            paused: false,
            moved: 0,
        }
    }

    /// Pauses or goes on: rates and stalls do not count a pause.
    pub fn set_paused(&mut self, now: Micros, paused: bool) {
        self.pass(now);
        self.paused = paused;
    }

    /// At `now`, `left` bytes are left. Call it about once a second, and before a report. More left
    /// than before (blocks became dirty) is more to do, not a step back.
    pub fn update(&mut self, now: Micros, left: u64) {
        self.pass(now);
        if left < self.left {
            self.done += self.left - left;
            self.moved = self.clock;
        }
        self.left = left;
        self.total = self.done.saturating_add(left);
        if self.clock - self.samples[self.newest].0 >= STEP {
            self.newest = (self.newest + 1) % SAMPLES;
            self.samples[self.newest] = (self.clock, self.done);
            self.kept = (self.kept + 1).min(SAMPLES);
        }
    }

    /// For how long, pauses left out, nothing has been done, as of the last [`Progress::update`].
    #[must_use]
    pub fn still(&self) -> Micros {
        self.clock - self.moved
    }

    fn pass(&mut self, now: Micros) {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        if !self.paused {
            self.clock += passed;
        }
    }

    /// Bytes a second since the youngest sample that is at least `span` old, or the oldest there is.
    fn rate_over(&self, span: Micros) -> u64 {
        let at = |age: usize| self.samples[(self.newest + SAMPLES - age) % SAMPLES];
        let found = (0..self.kept).map(at).find(|(t, _)| self.clock - t >= span);
        let (since, done) = found.unwrap_or_else(|| at(self.kept - 1));
        per_second(self.done - done, self.clock - since)
    }

    /// The figures as of the last [`Progress::update`].
    #[must_use]
    pub fn report(&self) -> ProgressReport {
        let rate_18s = self.rate_over(6 * STEP);
        let done_permille = match self.total {
            0 => 1000,
            total => (u128::from(self.done) * 1000 / u128::from(total)) as u64,
        };
        ProgressReport {
            total: self.total,
            left: self.left,
            done_permille,
            rate_3s: self.rate_over(STEP),
            rate_18s,
            rate_whole: per_second(self.done, self.clock),
            eta: match (self.left, rate_18s) {
                (0, _) => Some(0),
                (_, 0) => None,
                (left, rate) => Some(left.div_ceil(rate)),
            },
            elapsed: self.clock / 1_000_000,
            stalled: !self.paused && self.left > 0 && self.clock - self.moved >= STALLED,
        }
    }
}

fn per_second(bytes: u64, time: Micros) -> u64 {
    if time == 0 {
        return 0;
    }
    u64::try_from(u128::from(bytes) * 1_000_000 / u128::from(time)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Micros = 1_000_000;
    const MIB: u64 = 1 << 20;

    /// Updates each second with `rate` bytes done in it.
    fn go(progress: &mut Progress, now: &mut Micros, seconds: u64, rate: u64) {
        for _ in 0..seconds {
            *now += S;
            let left = progress.left.saturating_sub(rate);
            progress.update(*now, left);
        }
    }

    #[test]
    fn rates_look_back_as_far_as_they_say() {
        let (mut now, mut progress) = (5 * S, Progress::new(5 * S, 1000 * MIB));
        go(&mut progress, &mut now, 30, 10 * MIB);
        let report = progress.report();
        assert_eq!((report.left, report.done_permille), (700 * MIB, 300));
        assert_eq!((report.rate_3s, report.rate_18s), (10 * MIB, 10 * MIB));
        assert_eq!((report.eta, report.elapsed), (Some(70), 30));
        go(&mut progress, &mut now, 6, 40 * MIB);
        let report = progress.report();
        assert_eq!(report.rate_3s, 40 * MIB);
        assert_eq!(report.rate_18s, 20 * MIB);
        assert_eq!(report.rate_whole, 540 * MIB / 36);
        assert_eq!(report.eta, Some(23));
    }

    #[test]
    fn the_first_seconds_have_a_rate_already() {
        let (mut now, mut progress) = (0, Progress::new(0, 100 * MIB));
        assert_eq!(progress.report().eta, None);
        go(&mut progress, &mut now, 1, 10 * MIB);
        let report = progress.report();
        assert_eq!((report.rate_3s, report.eta), (10 * MIB, Some(9)));
    }

    #[test]
    fn a_stall_is_told_apart_from_a_pause() {
        let (mut now, mut progress) = (0, Progress::new(0, 100 * MIB));
        go(&mut progress, &mut now, 5, MIB);
        go(&mut progress, &mut now, 29, 0);
        assert!(!progress.report().stalled);
        assert_eq!(progress.still(), 29 * S);
        assert_eq!(
            (progress.report().rate_18s, progress.report().eta),
            (0, None)
        );
        go(&mut progress, &mut now, 1, 0);
        assert!(progress.report().stalled);
        go(&mut progress, &mut now, 1, MIB);
        assert!(!progress.report().stalled);
        progress.set_paused(now, true);
        go(&mut progress, &mut now, 1000, 0);
        let report = progress.report();
        assert!(!report.stalled && report.elapsed == 36);
        assert_eq!(report.rate_whole, 6 * MIB / 36);
        progress.set_paused(now, false);
        go(&mut progress, &mut now, 40, 0);
        assert!(progress.report().stalled);
    }

    #[test]
    fn more_to_do_is_not_a_step_back() {
        let mut progress = Progress::new(0, 100);
        progress.update(S, 50);
        progress.update(2 * S, 150);
        let report = progress.report();
        assert_eq!(
            (report.total, report.left, report.done_permille),
            (200, 150, 250)
        );
        progress.update(3 * S, 0);
        let report = progress.report();
        assert_eq!(
            (report.done_permille, report.eta, report.stalled),
            (1000, Some(0), false)
        );
        assert_eq!(Progress::new(0, 0).report().done_permille, 1000);
    }

    proptest! {
        #[test]
        fn no_order_of_calls_breaks_it(
            steps in proptest::collection::vec((any::<u32>(), any::<u64>(), any::<bool>()), 0..60),
        ) {
            let (mut now, mut progress) = (0, Progress::new(7, 1 << 40));
            for (passed, left, pause) in steps {
                now += u64::from(passed);
                if pause {
                    progress.set_paused(now, passed % 2 == 0);
                } else {
                    progress.update(now, left >> 8);
                }
                let report = progress.report();
                prop_assert!(report.done_permille <= 1000);
                prop_assert!(report.total >= report.left);
            }
        }
    }
}
