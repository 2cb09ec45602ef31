//! What the sessions of a server share: limits, and the queue for payload memory.

use super::chains::Chains;
use alloc::collections::VecDeque;
use replication::api::Micros;
use replication::buf::{Buf, MAX_BUF, Pool};

/// Largest request by convention of the protocol (proto.md, "Block size constraints"), and the
/// most that is ever advertised.
pub(super) const REQUEST_MAX: u32 = 32 << 20;
/// A write above the advertised maximum is drained and refused up to here (libnbd's own limit);
/// beyond, the connection is dropped.
pub(super) const DRAIN_MAX: u32 = 64 << 20;

/// Sizes and times, fixed for a server's life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The largest write, which is the advertised maximum block size.
    pub write_max: u32,
    /// Bytes of pool buffers that one session's reads hold at most.
    pub session_read_bytes: u64,
    /// Bytes of pool buffers that all sessions' reads hold at most; beyond, a session that holds
    /// none still gets one part.
    pub total_read_bytes: u64,
    /// A connection that nobody greets is closed after this time.
    pub withhold: Micros,
    /// A negotiation must end within this time.
    pub handshake: Micros,
    /// A write's payload must make progress within this time.
    pub stall: Micros,
    /// The same while other writes wait for memory.
    pub contended_stall: Micros,
}

impl Limits {
    /// The largest write and the read budgets that suit `pool`. Reads get half of what the
    /// largest write leaves free, so that clients that do not fetch their replies cannot keep
    /// that write from ever being admitted.
    pub(super) fn sizes(pool: &Pool) -> (u32, u64, u64) {
        let most = u32::try_from(pool.max_reservation()).unwrap_or(u32::MAX);
        let write_max = match most.checked_ilog2() {
            Some(log) => (1 << log).min(REQUEST_MAX),
            None => 0,
        };
        let spare = pool.max_reservation() - u64::from(write_max);
        let total = (spare / 2).clamp(1 << 20, 64 << 20);
        let session = (total / 2).clamp(2 * u64::from(MAX_BUF), 4 << 20);
        (write_max, session, total)
    }
}

/// Operations that a session may submit in a turn while others wait for room in the engine.
const TURN: u32 = 8;

/// Why a read gets no buffer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoBuf {
    /// The sessions' own budget is used up: a reply that leaves will free some.
    Budget,
    /// The pool has none; whoever frees some may not tell.
    Pool,
}

/// State that all sessions of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub limits: Limits,
    pub chains: Chains,
    /// Slots of the sessions that wait for a reservation, in order of arrival.
    waiting: VecDeque<u16>,
    /// Slots of the sessions that wait for room in the engine, in the order of their turns.
    turns: VecDeque<u16>,
    /// Operations left to the first of them.
    turn_left: u32,
    /// Bytes of pool buffers that reads hold, dead sessions' reads in the engine included.
    read_bytes: u64,
    /// Counts what may let a blocked session go on: engine replies and memory given back.
    pub epoch: u32,
}

impl Shared {
    pub(super) fn new(limits: Limits, slots: u16, pool: &Pool) -> Self {
        Self {
            limits,
            chains: Chains::new(pool),
            waiting: VecDeque::with_capacity(usize::from(slots)),
            turns: VecDeque::with_capacity(usize::from(slots)),
            turn_left: TURN,
            read_bytes: 0,
            epoch: 0,
        }
    }

    /// Notes that memory or room in the engine may have come free.
    pub(super) fn stir(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Whether a write waits for memory.
    pub(super) fn is_contended(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tries to get `bytes` promised to the session in `slot`. On failure the session is queued;
    /// nobody is served before those that came earlier, so a large write is not starved by small
    /// ones.
    pub(super) fn reserve(&mut self, slot: u16, bytes: u32, pool: &mut Pool) -> bool {
        let first = match self.waiting.front() {
            None => true,
            Some(&front) => front == slot,
        };
        if first && pool.reserve(u64::from(bytes)) {
            if self.waiting.pop_front().is_some() {
                self.stir();
            }
            return true;
        }
        if !self.waiting.contains(&slot) {
            self.waiting.push_back(slot);
        }
        false
    }

    /// Forgets a session that waits no longer.
    pub(super) fn leave(&mut self, slot: u16) {
        self.waiting.retain(|&s| s != slot);
        self.end_turn(slot);
    }

    /// Whether the session in `slot` may submit an operation to the engine, which `has_room` or
    /// not. While the engine is full the sessions take turns, so that one with many requests
    /// does not take every place that comes free.
    pub(super) fn take_turn(&mut self, slot: u16, has_room: bool) -> bool {
        if has_room && self.has_turn(slot) {
            self.turn_left -= u32::from(!self.turns.is_empty());
            if self.turn_left == 0 {
                self.turns.pop_front();
                self.turn_left = TURN;
                self.stir();
            }
            return true;
        }
        if !self.turns.contains(&slot) {
            self.turns.push_back(slot);
        }
        false
    }

    /// Whether nobody is before the session in `slot`.
    pub(super) fn has_turn(&self, slot: u16) -> bool {
        self.turns.front().is_none_or(|&front| front == slot)
    }

    /// The session in `slot` has nothing to submit for now.
    pub(super) fn end_turn(&mut self, slot: u16) {
        if self.turns.front() == Some(&slot) {
            self.turn_left = TURN;
            self.stir();
        }
        self.turns.retain(|&s| s != slot);
    }

    /// Whether the session in `slot` is the next to get memory.
    pub(super) fn is_first(&self, slot: u16) -> bool {
        self.waiting.front() == Some(&slot)
    }

    /// A buffer for up to `bytes` of a read of a session that holds `held` bytes already.
    pub(super) fn alloc_read(
        &mut self,
        held: u64,
        bytes: u32,
        pool: &mut Pool,
    ) -> Result<Buf, NoBuf> {
        let bytes = bytes.min(MAX_BUF);
        let over = held + u64::from(bytes) > self.limits.session_read_bytes
            || self.read_bytes + u64::from(bytes) > self.limits.total_read_bytes;
        if held > 0 && over {
            return Err(NoBuf::Budget);
        }
        let buf = pool.alloc(bytes).or_else(|| pool.alloc_up_to(bytes));
        let buf = buf.ok_or(NoBuf::Pool)?;
        self.read_bytes += u64::from(buf.capacity());
        Ok(buf)
    }

    /// A read's buffer does not come back: the engine had no other for the one that its disk keeps.
    pub(super) fn forget_read(&mut self, capacity: u32) {
        self.read_bytes = self.read_bytes.saturating_sub(u64::from(capacity));
        self.stir();
    }

    /// Gives a read's buffer back.
    pub(super) fn free_read(&mut self, buf: Buf, pool: &mut Pool) {
        self.read_bytes = self.read_bytes.saturating_sub(u64::from(buf.capacity()));
        pool.free(buf);
        self.stir();
    }

    /// Sizes of what could grow, which must not.
    #[cfg(test)]
    pub(super) fn capacities(&self) -> [usize; 3] {
        let queues = [self.waiting.capacity(), self.turns.capacity()];
        [queues[0], queues[1], self.chains.capacity()]
    }

    #[cfg(test)]
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replication::buf::PAGE;

    #[test]
    fn the_largest_write_follows_the_pool() {
        let sizes = |mib: u32| Limits::sizes(&Pool::new((mib << 20) / PAGE));
        assert_eq!(sizes(40).0, 32 << 20);
        assert_eq!(sizes(400).0, 32 << 20);
        assert_eq!(sizes(36).0, 16 << 20, "an eighth stays for others");
        assert_eq!(sizes(8).0, 4 << 20);
        for mib in [8, 16, 36, 40, 100, 2000] {
            let (write_max, session, total) = sizes(mib);
            assert!(session <= total && u64::from(write_max) < u64::from(mib) << 20);
        }
    }

    #[test]
    fn reservations_are_first_come_first_served() {
        let mut pool = Pool::new(80);
        let (write_max, session_read_bytes, total_read_bytes) = Limits::sizes(&pool);
        let limits = Limits {
            write_max,
            session_read_bytes,
            total_read_bytes,
            withhold: 1,
            handshake: 1,
            stall: 1,
            contended_stall: 1,
        };
        let mut shared = Shared::new(limits, 4, &pool);
        assert!(shared.reserve(0, 60 * PAGE, &mut pool));
        assert!(!shared.reserve(1, 60 * PAGE, &mut pool));
        assert!(!shared.reserve(2, PAGE, &mut pool), "would overtake");
        assert!(shared.is_contended());
        pool.unreserve(60 * u64::from(PAGE));
        assert!(!shared.reserve(2, PAGE, &mut pool), "still behind 1");
        assert!(shared.reserve(1, 60 * PAGE, &mut pool));
        assert!(shared.reserve(2, PAGE, &mut pool));
        assert!(!shared.is_contended());
        assert!(!shared.reserve(3, 60 * PAGE, &mut pool));
        shared.leave(3);
        assert!(!shared.is_contended());
    }
}
