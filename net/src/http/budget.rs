//! The server's share of the processor.

use replication::api::Micros;

/// After so much time for the web, in microseconds ...
const SHARE: Micros = 1;
/// ... the data path has at least so much for itself.
const REST: Micros = 15;

/// Keeps the web server from taking more than a sixteenth of the processor, whatever it is asked: after each turn that did something it
/// rests for fifteen times as long as that took. What storage waits for the web is one turn's work at most.
#[derive(Debug, Default)]
pub struct Budget {
    rests_until: Micros,
}

impl Budget {
    /// Whether the server may have a turn.
    #[must_use]
    pub const fn allows(&self, now: Micros) -> bool {
        now >= self.rests_until
    }

    /// A turn lasted from `began` to `ended`.
    pub const fn spent(&mut self, began: Micros, ended: Micros) {
        let took = ended.saturating_sub(began);
        self.rests_until = ended.saturating_add(took.saturating_mul(REST) / SHARE);
    }

    /// When the rest ends; in the past if it does not rest.
    #[must_use]
    pub const fn due(&self) -> Micros {
        self.rests_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_fifteen_times_as_long_as_it_worked() {
        let mut budget = Budget::default();
        assert!(budget.allows(0));
        budget.spent(1_000, 1_100);
        assert!(!budget.allows(1_100) && !budget.allows(2_599));
        assert!(budget.allows(2_600));
        assert_eq!(budget.due(), 2_600);
        // A clock that jumps costs a turn, not the server.
        budget.spent(9_000, 8_000);
        assert!(budget.allows(8_000));
    }
}
