//! Whether to look again or to halt when there is nothing to do.
//!
//! Waking a halted processor costs tens of microseconds, on the host's side mostly. So after something came in, the
//! data path keeps looking for a while before it halts, as long as that pays: when halts turn out to be shorter than
//! the while would have been, it is given; when they are longer, it is cut in half until nothing is left. An idle
//! node halts at once. Measured in docs/decisions/0003-poll-before-halt.md.

use replication::api::Micros;

/// The longest time to look for more, in microseconds; about that of a write's way to the peer's disk and back.
const MOST: Micros = 400;
/// Less than this is not worth the looking.
const LEAST: Micros = 25;

/// Decides between polling and halting.
#[derive(Debug)]
pub struct Polling {
    allowed: bool,
    /// How long to look for more after something came in.
    window: Micros,
    /// When something last came in.
    active_at: Micros,
}

impl Polling {
    /// Nothing is known yet. Unless `allowed`, every look ends in a halt.
    pub fn new(allowed: bool) -> Self {
        Self {
            allowed,
            window: 0,
            active_at: 0,
        }
    }

    /// Something came in at `now`.
    pub fn active(&mut self, now: Micros) {
        self.active_at = now;
    }

    /// Whether to look again at `now` rather than to halt.
    pub fn goes_on(&self, now: Micros) -> bool {
        now.saturating_sub(self.active_at) < self.window
    }

    /// A halt lasted for `slept`.
    pub fn woken(&mut self, slept: Micros) {
        if slept < MOST && self.allowed {
            self.window = MOST;
        } else {
            self.window /= 2;
            if self.window < LEAST {
                self.window = 0;
            }
        }
    }
}
