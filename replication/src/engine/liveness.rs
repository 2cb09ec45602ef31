//! Is the peer alive? Heartbeats, and the limits of patience.
//!
//! Silence is counted from the last frame that arrived, so a peer is given up at most `timeout` after its
//! last byte, and sooner when a command waits for it.

use super::link::Next;
use super::{Engine, text};
use crate::api::{Level, Micros};
use crate::wire::Frame;

/// A peer that is alive but answers no request for so many timeouts is given up (DRBD's
/// `ko-count`): its disk hangs, and clients must not hang with it.
const STALLED_TIMEOUTS: Micros = 7;
/// A peer that an operator waits for is asked for a sign of life, and given up when it is silent for so long
/// (DRBD's `ping-timeout`), at most half the ordinary timeout.
const PROBE: Micros = 500_000;

impl Engine {
    /// Any frame is a sign of life.
    pub(super) fn heard(&mut self) {
        self.link.last_received = self.now;
    }

    /// Time-driven duties of the connection.
    pub(super) fn tick_link(&mut self) {
        if self.link.retry_at.is_some_and(|at| at <= self.now) {
            self.open_link();
        }
        if !self.link.up || self.link.closing {
            return;
        }
        if self.link.refused_until.is_some_and(|at| at <= self.now) {
            let next = self.link.next;
            self.close_link(next);
            return;
        }
        let timeout = self.config.timers.timeout;
        if self.now.saturating_sub(self.link.last_received) >= timeout {
            self.give_up_silent(timeout);
        } else if let Some(at) = self.probe_deadline().filter(|at| *at <= self.now) {
            if self.now - at >= self.probe_limit() {
                // So late a tick: it was this node that stood still. Its peer is asked again.
                self.probe_peer();
            } else {
                self.give_up_silent(self.probe_limit());
            }
        } else if self.handshake_deadline().is_some_and(|at| at <= self.now) {
            let peer = self.config.peer.clone();
            self.complain(
                Level::Warn,
                text!("peer {peer} does not finish the handshake: its disk may hang; see 'status' there"),
            );
            self.close_link(Next::Retry);
        } else if self.stall_deadline().is_some_and(|at| at <= self.now) {
            let (peer, count) = (self.config.peer.clone(), self.link.outstanding);
            self.log(
                Level::Error,
                text!("peer {peer} is alive but answers none of {count} requests: its disk may hang; going on without it"),
            );
            self.close_link(Next::Retry);
        } else if self.now >= self.next_ping() {
            self.link.last_ping = self.now;
            self.send(Frame::Ping);
        }
    }

    fn give_up_silent(&mut self, silence: Micros) {
        let milliseconds = silence / 1000;
        self.log(
            Level::Warn,
            text!(
                "peer {} was silent for {milliseconds} ms: treated as lost",
                self.config.peer
            ),
        );
        let next = self.link.next;
        self.close_link(next);
    }

    /// Asks a connected peer for a sign of life, for a command that must not be decided on what was true
    /// before the peer died.
    pub(super) fn probe_peer(&mut self) {
        if self.connected() {
            self.link.probe = Some(self.now);
            self.link.last_ping = self.now;
            self.send(Frame::Ping);
        }
    }

    pub(super) fn pong(&mut self) {
        self.link.probe = None;
    }

    fn probe_limit(&self) -> Micros {
        PROBE.min(self.config.timers.timeout / 2)
    }

    /// When the peer that a command waits for is given up, unless it is heard.
    fn probe_deadline(&self) -> Option<Micros> {
        let asked = self.link.probe.max(self.promotion_asked())?;
        Some(asked.max(self.link.last_received) + self.probe_limit())
    }

    fn handshake_deadline(&self) -> Option<Micros> {
        let waiting = self.link.in_handshake() && self.link.hello_sent;
        waiting.then_some(self.link.handshake_until)
    }

    fn stall_deadline(&self) -> Option<Micros> {
        let limit = STALLED_TIMEOUTS * self.config.timers.timeout;
        (self.link.outstanding > 0).then_some(self.link.last_progress + limit)
    }

    /// Counts a request that the peer must answer.
    pub(super) fn count_sent(&mut self) {
        if self.link.outstanding == 0 {
            self.link.last_progress = self.now;
        }
        self.link.outstanding += 1;
    }

    fn next_ping(&self) -> Micros {
        let interval = self.config.timers.ping_interval;
        let interval = match self.promotion_asked() {
            // The answer may take its time, and the peer is to be heard meanwhile.
            Some(_) => interval.min(self.probe_limit() / 2),
            None => interval,
        };
        self.link.last_received.max(self.link.last_ping) + interval
    }

    /// When the connection needs a tick.
    pub(super) fn link_deadline(&self) -> Option<Micros> {
        if !self.link.up || self.link.closing {
            return self.link.retry_at;
        }
        let silence = self.link.last_received + self.config.timers.timeout;
        [
            Some(self.next_ping()),
            Some(silence),
            self.probe_deadline(),
            self.link.refused_until,
            self.handshake_deadline(),
            self.stall_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
