//! Listening without a backlog: armed sockets, half-open ones, and who gives way to whom.

use super::config::{GroupConfig, GroupId};
use super::conn::ConnHandle;
use super::nic::Stack;
use super::slot::SlotState;
use replication::api::Micros;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{CongestionControl, Socket, State};
use smoltcp::time::Duration;

/// A handshake that takes longer gives its slot back; in need, it does so earlier.
const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Not earlier than after so long where who comes later calls again by itself, in microseconds.
const HALF_OPEN_GRACE: Micros = 1_000_000;

impl Stack {
    /// The next established connection of the group's port, oldest first.
    pub fn accept(&mut self, group: GroupId) -> Option<ConnHandle> {
        let index = usize::from(group.0);
        if self.groups.get(index)?.ready == 0 {
            return None;
        }
        let slot = self.oldest(index, |stack, i| stack.slots[i].state == SlotState::Ready)?;
        self.enter(slot, SlotState::Owned);
        self.slots[slot].dialling = false;
        Some(self.conn_handle(slot))
    }

    /// Arms sockets up to the group's backlog; in need, at the expense of the oldest half-open
    /// connection.
    pub(super) fn refill(&mut self, group: usize) {
        let Some(port) = self.groups[group].config.port else {
            return;
        };
        let backlog = self.groups[group].config.backlog.max(1);
        while self.groups[group].armed < backlog {
            let slot = self.free_slot(group).or_else(|| {
                if self.groups[group].armed > 0 {
                    return None;
                }
                self.recycle_half_open(group)
            });
            let Some(slot) = slot else {
                return;
            };
            let socket = self.freshen(slot);
            socket.set_timeout(Some(HALF_OPEN_TIMEOUT));
            let listening = socket.listen(port).is_ok();
            debug_assert!(listening, "a fresh socket and a port above zero");
            self.enter(slot, SlotState::Listening);
        }
    }

    /// Takes the slot of the oldest half-open connection, unless it is the only one: that is the
    /// client that has just come.
    fn recycle_half_open(&mut self, group: usize) -> Option<usize> {
        let half_open = |stack: &Self, i: usize| stack.slots[i].state == SlotState::HalfOpen;
        let victim = self.oldest(group, half_open)?;
        self.oldest(group, |stack, i| i != victim && half_open(stack, i))?;
        // Its answer may be on its way, and would be answered with a reset.
        if self.groups[group].config.patient
            && self.now.saturating_sub(self.slots[victim].since) < HALF_OPEN_GRACE
        {
            return None;
        }
        self.silence(victim);
        Some(victim)
    }

    /// A slot that may be used for something new: idle, or merely waiting out TIME-WAIT.
    pub(super) fn free_slot(&mut self, group: usize) -> Option<usize> {
        if let Some(idle) = self.oldest(group, |stack, i| stack.slots[i].state == SlotState::Idle) {
            return Some(idle);
        }
        let waiting = self.oldest(group, |stack, i| {
            matches!(stack.slots[i].state, SlotState::Closing { .. })
                && stack.tcp_state(i) == State::TimeWait
        })?;
        self.silence(waiting);
        Some(waiting)
    }

    /// The slot of the group that satisfies `wanted` and entered its state first.
    pub(super) fn oldest(
        &self,
        group: usize,
        wanted: impl Fn(&Self, usize) -> bool,
    ) -> Option<usize> {
        let group = &self.groups[group];
        (group.first..group.first + group.config.slots)
            .filter(|&i| wanted(self, i))
            .min_by_key(|&i| self.slots[i].order)
    }

    pub(super) fn tcp_state(&self, slot: usize) -> State {
        self.sockets.get::<Socket>(self.slots[slot].handle).state()
    }

    /// Makes the slot's closed socket as good as a new one, keeping its rings, and has it in the
    /// set.
    ///
    /// smoltcp's own reset (in `listen` and `connect`) keeps the congestion controller of the
    /// last connection, and the set's record that a neighbour was missing would silence the next
    /// connection for up to a second. Taking the socket out of the set and putting it back
    /// forgets the latter.
    pub(super) fn freshen(&mut self, slot: usize) -> &mut Socket<'static> {
        let mut socket = match self.slots[slot].parked.take() {
            Some(socket) => socket,
            None => self.take_out(self.slots[slot].handle),
        };
        socket.abort();
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_keep_alive(None);
        socket.set_timeout(None);
        // What woke it while it was parked was not looked at.
        socket.register_recv_waker(&self.wakers[slot]);
        socket.register_send_waker(&self.wakers[slot]);
        let place = self.sockets.add(socket);
        self.slots[slot].handle = place;
        self.sockets.get_mut(place)
    }

    /// Takes a slot's socket out of the set.
    pub(super) fn take_out(&mut self, handle: SocketHandle) -> Socket<'static> {
        match self.sockets.remove(handle) {
            smoltcp::socket::Socket::Tcp(socket) => socket,
            smoltcp::socket::Socket::Udp(_) => panic!("a slot's socket is one of TCP"),
        }
    }

    /// Frees the slot at once without telling the other side.
    pub(super) fn silence(&mut self, slot: usize) {
        let socket = self.freshen(slot);
        // Listening forgets the connection, so that no reset is sent for it.
        let forgotten = socket.listen(1).is_ok();
        debug_assert!(forgotten, "a fresh socket and a port above zero");
        socket.close();
        self.enter(slot, SlotState::Idle);
        if self.parks(self.slots[slot].group) {
            self.slots[slot].parked = Some(self.take_out(self.slots[slot].handle));
        }
    }

    /// Whether the group's idle sockets leave the set. Those of the last group do; the places of
    /// the groups before it are kept, as smoltcp serves sockets in the order of their places.
    pub(super) fn parks(&self, group: u8) -> bool {
        usize::from(group) + 1 == self.groups.len()
    }

    /// Moves a slot to another state and keeps the counts.
    pub(super) fn enter(&mut self, slot: usize, state: SlotState) {
        self.order += 1;
        let entry = &mut self.slots[slot];
        let old = core::mem::replace(&mut entry.state, state);
        entry.order = self.order;
        entry.since = self.now;
        if matches!(old, SlotState::Owned) || matches!(state, SlotState::Owned) {
            entry.generation = entry.generation.wrapping_add(1);
        }
        let group = &mut self.groups[usize::from(entry.group)];
        let drains = |s| matches!(s, SlotState::Closing { .. } | SlotState::Aborting { .. });
        group.armed -= usize::from(old == SlotState::Listening);
        group.armed += usize::from(state == SlotState::Listening);
        group.ready -= usize::from(old == SlotState::Ready);
        group.ready += usize::from(state == SlotState::Ready);
        self.draining -= usize::from(drains(old));
        self.draining += usize::from(drains(state));
    }

    /// Applies the group's timers to an established connection.
    pub(super) fn set_timers(&mut self, slot: usize) {
        let GroupConfig {
            liveness,
            ack_delay,
            ..
        } = self.groups[usize::from(self.slots[slot].group)].config;
        let micros = |t: Micros| Duration::from_micros(t);
        let socket = self.sockets.get_mut::<Socket>(self.slots[slot].handle);
        socket.set_timeout(liveness.map(|l| micros(l.timeout)));
        socket.set_keep_alive(liveness.map(|l| micros(l.probe)));
        socket.set_ack_delay(ack_delay.map(micros));
    }
}
