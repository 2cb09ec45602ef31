//! Follows what TCP did to the sockets: the transitions of [`super::slot`] that nobody asked for.

use super::nic::Stack;
use super::slot::SlotState;
use replication::api::Micros;
use smoltcp::socket::tcp::{Socket, State};

/// How long the last bytes and the FIN of a closed connection may take to be acknowledged, and
/// the other side to close too, in microseconds.
pub(super) const LINGER: Micros = 5_000_000;
/// The same where the other side has acknowledged the FIN, and so has all there is, and somebody else waits for the slot.
const LINGER_SHORT: Micros = 500_000;
/// How long a reset may wait for the neighbour's address, in microseconds.
const RESET_WAIT: Micros = 1_000_000;

impl Stack {
    /// Looks at every socket that changed.
    pub(super) fn service(&mut self, now: Micros) {
        while let Some(slot) = self.dirty.pop() {
            self.service_slot(now, slot);
        }
    }

    fn service_slot(&mut self, now: Micros, slot: usize) {
        if self.slots[slot].parked.is_some() {
            return;
        }
        let socket = self.sockets.get_mut::<Socket>(self.slots[slot].handle);
        // A waker works once.
        socket.register_recv_waker(&self.wakers[slot]);
        socket.register_send_waker(&self.wakers[slot]);
        let tcp = socket.state();
        let group = usize::from(self.slots[slot].group);
        match (self.slots[slot].state, tcp) {
            (SlotState::Listening, State::SynReceived) => {
                self.enter(slot, SlotState::HalfOpen);
                self.refill(group);
            }
            (SlotState::Listening | SlotState::HalfOpen, State::Established | State::CloseWait) => {
                self.enter(slot, SlotState::Ready);
                self.set_timers(slot);
                self.refill(group);
            }
            (SlotState::Owned, State::Established | State::CloseWait)
                if self.slots[slot].dialling =>
            {
                self.slots[slot].dialling = false;
                self.set_timers(slot);
            }
            (SlotState::HalfOpen, State::Listen | State::Closed)
            | (
                SlotState::Ready | SlotState::Closing { .. } | SlotState::Aborting { .. },
                State::Closed,
            ) => self.release(now, slot),
            (SlotState::Closing { .. }, _) => self.discard_received(slot),
            // Steps within a state; smoltcp woke us for nothing.
            _ => {}
        }
    }

    /// The other side's FIN only comes after its data, and its data only while the window is
    /// open: read what nobody wants.
    fn discard_received(&mut self, slot: usize) {
        let socket = self.sockets.get_mut::<Socket>(self.slots[slot].handle);
        while socket.can_recv() && socket.recv(|bytes| (bytes.len(), ())).is_ok() {}
    }

    /// Ends the slot's connection with a reset.
    pub(super) fn reset(&mut self, now: Micros, slot: usize) {
        let socket = self.sockets.get_mut::<Socket>(self.slots[slot].handle);
        if socket.state() == State::SynSent {
            // Nothing to reset: a late answer finds no socket, and gets a reset for that. To
            // wait for a neighbour that may not exist would only hold the slot.
            self.silence(slot);
            self.refill(usize::from(self.slots[slot].group));
        } else {
            socket.abort();
            self.release(now, slot);
        }
    }

    /// The slot's connection is over: frees the slot, after its reset was sent if one is due.
    pub(super) fn release(&mut self, now: Micros, slot: usize) {
        let socket = self.sockets.get_mut::<Socket>(self.slots[slot].handle);
        if socket.state() == State::Closed && socket.remote_endpoint().is_some() {
            if !matches!(self.slots[slot].state, SlotState::Aborting { .. }) {
                let deadline = now.saturating_add(RESET_WAIT);
                self.enter(slot, SlotState::Aborting { deadline });
            }
            return;
        }
        self.silence(slot);
        self.refill(usize::from(self.slots[slot].group));
    }

    /// Starts the orderly end of the slot's connection.
    pub(super) fn finish(&mut self, now: Micros, slot: usize) {
        let socket = self.sockets.get_mut::<Socket>(self.slots[slot].handle);
        if matches!(socket.state(), State::SynSent | State::Closed) {
            self.reset(now, slot);
            return;
        }
        socket.close();
        let deadline = now.saturating_add(LINGER);
        self.enter(slot, SlotState::Closing { deadline });
        self.discard_received(slot);
    }

    /// Whether a closing slot is wanted by others and the other side only has to close, too.
    fn may_go(&self, slot: usize) -> bool {
        let group = &self.groups[usize::from(self.slots[slot].group)];
        group.is_short() && self.tcp_state(slot) == State::FinWait2
    }

    /// Ends waits that took too long.
    pub(super) fn maintain(&mut self, now: Micros) {
        if self.draining == 0 {
            return;
        }
        for slot in 0..self.slots.len() {
            match self.slots[slot].state {
                SlotState::Closing { .. }
                    if self.slots[slot].since + LINGER_SHORT <= now && self.may_go(slot) =>
                {
                    // Without a reset: what the other side has not read yet it may read on.
                    self.silence(slot);
                    self.refill(usize::from(self.slots[slot].group));
                }
                SlotState::Closing { deadline } if deadline <= now => {
                    if self.tcp_state(slot) != State::TimeWait {
                        let handle = self.slots[slot].handle;
                        self.sockets.get_mut::<Socket>(handle).abort();
                    }
                    self.release(now, slot);
                }
                SlotState::Aborting { deadline } if deadline <= now => {
                    self.silence(slot);
                    self.refill(usize::from(self.slots[slot].group));
                }
                _ => {}
            }
        }
    }

    /// When [`Stack::maintain`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Micros> {
        if self.draining == 0 {
            return None;
        }
        let slots = self.slots.iter().enumerate();
        slots
            .filter_map(|(at, slot)| match slot.state {
                SlotState::Closing { .. } if self.may_go(at) => Some(slot.since + LINGER_SHORT),
                SlotState::Closing { deadline } | SlotState::Aborting { deadline } => {
                    Some(deadline)
                }
                _ => None,
            })
            .min()
    }
}
