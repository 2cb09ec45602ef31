//! A token bucket: bytes a second.

use crate::Micros;

const SECOND: u64 = 1_000_000;

/// How far ahead of an even pace a burst may run, in microseconds' worth of bytes.
const BURST: Micros = 5_000;

/// Bytes that may be sent, at a rate. A request may overdraw, and the next one waits longer for it: so
/// a rate below one request a burst is kept as well.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Byte-microseconds per second: bytes times [`SECOND`], so that no rate loses by rounding.
    credit: i128,
    at: Micros,
}

impl Pace {
    /// Brings the credit up to date; call it before a rate changes, too.
    pub fn advance(&mut self, now: Micros, rate: u64) {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        let most = i128::from(rate) * i128::from(BURST);
        self.credit = (self.credit + i128::from(rate) * i128::from(passed)).min(most);
    }

    /// Whether another request may start.
    pub fn is_open(&self) -> bool {
        self.credit >= 0
    }

    /// Bytes that may start now; the last request may exceed it.
    pub fn bytes(&self) -> u64 {
        if self.is_open() {
            u64::try_from(self.credit / i128::from(SECOND)).unwrap_or(u64::MAX) + 1
        } else {
            0
        }
    }

    /// When another request may start, at `rate`.
    pub fn opens_at(&self, rate: u64) -> Micros {
        let missing = (-self.credit).max(0);
        let wait = missing.div_euclid(i128::from(rate.max(1))) + 1;
        self.at
            .saturating_add(Micros::try_from(wait).unwrap_or(Micros::MAX))
    }

    /// A request of `len` bytes starts.
    pub fn spend(&mut self, len: u32) {
        self.credit -= i128::from(len) * i128::from(SECOND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_to_the_byte_at_any_rate() {
        for rate in [1_000u64, 250 << 10, 100 << 20, 5 << 30] {
            let (mut pace, mut now, mut sent) = (Pace::default(), 0, 0u64);
            let len = 128 << 10;
            for _ in 0..2_000 {
                pace.advance(now, rate);
                if pace.is_open() {
                    pace.spend(len);
                    sent += u64::from(len);
                } else {
                    now = pace.opens_at(rate);
                }
            }
            pace.advance(now, rate);
            let due = u128::from(rate) * u128::from(now) / 1_000_000;
            let slack = u128::from(rate) * 5 / 1_000 + 2 * u128::from(len);
            assert!(
                u128::from(sent).abs_diff(due) <= slack,
                "{rate}: {sent} of {due}"
            );
        }
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let mut pace = Pace::default();
        pace.advance(3_600_000_000, 1 << 20);
        assert!(pace.bytes() <= (1 << 20) / 200 + 1);
    }
}
