//! How long requests take, and where: histograms with fixed limits, a few instructions a request and no allocation.

use crate::api::Micros;

/// The first limit is this power of two of microseconds: 16 µs, below which no disk or network answers.
const FIRST: u32 = 4;
/// Limits, each twice the one before: the last is 8.4 s.
pub const LIMITS: usize = 20;

/// Durations, counted by powers of two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram {
    /// How many were at most [`Histogram::limit`] of the place and more than that of the place before; the last: longer than all limits.
    counts: [u64; LIMITS + 1],
    sum: Micros,
}

impl Histogram {
    /// Counts one that took so long.
    pub fn record(&mut self, took: Micros) {
        // The power of two that is not below it.
        let power = u64::BITS - took.saturating_sub(1).leading_zeros();
        let place = (power.saturating_sub(FIRST) as usize).min(LIMITS);
        self.counts[place] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// The longest duration, in microseconds, that is counted at this place, which is below [`LIMITS`].
    #[must_use]
    pub const fn limit(place: usize) -> Micros {
        1 << (FIRST as usize + place)
    }

    /// How many were counted at each place; at the last one those that took longer than every limit.
    #[must_use]
    pub const fn counts(&self) -> &[u64; LIMITS + 1] {
        &self.counts
    }

    /// Of all together, in microseconds.
    #[must_use]
    pub const fn sum(&self) -> Micros {
        self.sum
    }
}

/// Where the time of one volume's requests goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Latencies {
    /// Of this node's clients, from admission to the answer.
    pub request: Histogram,
    /// A read or a write at this node's disk, of whoever: clients, the peer, a resync.
    pub disk: Histogram,
    /// A flush of this node's disk; one serves everybody who waits for it.
    pub flush: Histogram,
    /// What this node's clients want of the peer, from the frame to its answer.
    pub peer: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_below_the_first_limit_that_it_does_not_exceed() {
        let place = |took| {
            let mut histogram = Histogram::default();
            histogram.record(took);
            histogram.counts().iter().position(|count| *count == 1)
        };
        assert_eq!([0, 1, 16].map(place), [Some(0); 3]);
        assert_eq!([17, 32, 33].map(place), [Some(1), Some(1), Some(2)]);
        for limit in 0..LIMITS {
            assert_eq!(place(Histogram::limit(limit)), Some(limit));
            assert_eq!(place(Histogram::limit(limit) + 1), Some(limit + 1));
        }
        assert_eq!(place(u64::MAX), Some(LIMITS));
    }

    #[test]
    fn the_sum_does_not_wrap() {
        let mut histogram = Histogram::default();
        histogram.record(100);
        histogram.record(23);
        assert_eq!(histogram.sum(), 123);
        histogram.record(u64::MAX);
        assert_eq!(histogram.sum(), u64::MAX);
    }
}
