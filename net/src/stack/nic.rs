//! The stack itself: construction and the turn of ingress and egress.

use super::config::{GroupConfig, MAX_GROUPS, NicConfig, StackError, check_groups};
use super::datagram::{Datagrams, LANES};
use super::dirty::{SlotSet, waker};
use super::floating::Announcements;
use super::neighbor::Outbox;
use super::sieve::Sieve;
use super::slot::{Slot, SlotState};
use super::watch::Watched;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::task::Waker;
use replication::api::Micros;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress};

/// How a round of sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Egress {
    /// Everything that may be sent now was handed to the device.
    Done,
    /// The transmit ring is full: call again when the device has sent something, not before.
    Blocked,
}

/// A group at run time.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) config: GroupConfig,
    /// Its slots are `first..first + config.slots`.
    pub(super) first: usize,
    /// Slots in [`SlotState::Listening`].
    pub(super) armed: usize,
    /// Slots in [`SlotState::Ready`].
    pub(super) ready: usize,
}

impl Group {
    /// Whether the next call would be dropped.
    pub(super) fn is_short(&self) -> bool {
        self.config.patient && self.armed == 0
    }
}

/// One NIC's TCP/IP: see the module's documentation for the order of calls.
pub struct Stack {
    pub(super) iface: Interface,
    pub(super) sockets: SocketSet<'static>,
    pub(super) slots: Vec<Slot>,
    pub(super) groups: heapless::Vec<Group, MAX_GROUPS>,
    /// Slots whose sockets changed and have not been looked at.
    pub(super) dirty: Arc<SlotSet>,
    pub(super) wakers: Vec<Waker>,
    pub(super) outbox: Outbox,
    pub(super) announcements: Announcements,
    pub(super) link_up: bool,
    /// Slots in [`SlotState::Closing`] or [`SlotState::Aborting`].
    pub(super) draining: usize,
    /// The time of this turn.
    pub(super) now: Micros,
    /// The last number given out for [`Slot::order`].
    pub(super) order: u64,
    pub(super) rng: u64,
    /// UDP, if it is open.
    pub(super) datagrams: Option<Datagrams>,
}

pub(super) fn instant(now: Micros) -> Instant {
    Instant::from_micros(i64::try_from(now).unwrap_or(i64::MAX))
}

impl Stack {
    /// A stack over `device` with all its sockets, listening ports armed. It announces itself in
    /// the first [`Stack::egress`].
    ///
    /// # Errors
    /// [`StackError`] names what in the configuration is impossible.
    pub fn new<D: Device>(
        now: Micros,
        device: &mut D,
        nic: &NicConfig,
        groups: &[GroupConfig],
    ) -> Result<Self, StackError> {
        let cidrs = nic.cidrs()?;
        let total = check_groups(groups)?;
        let mtu = device.capabilities().ip_mtu();
        if !(1280..=65535).contains(&mtu) {
            return Err(StackError::Mtu(mtu));
        }

        let mac = EthernetAddress(nic.mac);
        let mut config = Config::new(HardwareAddress::Ethernet(mac));
        config.random_seed = nic.seed;
        let mut iface = Interface::new(config, device, instant(now));
        iface.update_ip_addrs(|addrs| addrs.extend(cidrs.iter().copied()));
        if let Some(gateway) = nic.gateway {
            let added = match IpAddress::from(gateway) {
                IpAddress::Ipv4(v4) => iface.routes_mut().add_default_ipv4_route(v4).is_ok(),
                IpAddress::Ipv6(v6) => iface.routes_mut().add_default_ipv6_route(v6).is_ok(),
            };
            if !added {
                return Err(StackError::Gateway(gateway));
            }
        }

        let mut stack = Self {
            iface,
            sockets: SocketSet::new(Vec::with_capacity(total + LANES + 1)),
            slots: Vec::with_capacity(total),
            groups: heapless::Vec::new(),
            dirty: Arc::new(SlotSet::new()),
            wakers: Vec::with_capacity(total),
            outbox: Outbox::new(mac),
            announcements: Announcements::default(),
            link_up: true,
            draining: 0,
            now,
            order: 0,
            // Any odd constant: only keeps a zero seed from being a fixed point.
            rng: nic.seed ^ 0x9e37_79b9_7f4a_7c15,
            datagrams: None,
        };
        for (index, group) in groups.iter().enumerate() {
            stack.add_group(now, index, *group)?;
        }
        for slot in 0..stack.slots.len() {
            stack.silence(slot);
        }
        for index in 0..stack.groups.len() {
            stack.refill(index);
        }
        stack.announce();
        Ok(stack)
    }

    fn add_group(
        &mut self,
        now: Micros,
        index: usize,
        config: GroupConfig,
    ) -> Result<(), StackError> {
        let group = Group {
            config,
            first: self.slots.len(),
            armed: 0,
            ready: 0,
        };
        let number = u8::try_from(index).map_err(|_| StackError::TooManySockets)?;
        self.groups
            .push(group)
            .map_err(|_| StackError::TooManySockets)?;
        for _ in 0..config.slots {
            let slot = self.slots.len();
            let mut socket = Socket::new(
                SocketBuffer::new(vec![0; config.rx_bytes]),
                SocketBuffer::new(vec![0; config.tx_bytes]),
            );
            let waker = waker(&self.dirty, slot);
            socket.register_recv_waker(&waker);
            socket.register_send_waker(&waker);
            self.wakers.push(waker);
            // Parked at once, so that the set never has more places than sockets in use: smoltcp walks over all of them.
            let handle = self.sockets.add(socket);
            let parked = self.take_out(handle);
            self.slots.push(Slot {
                group: number,
                state: SlotState::Idle,
                generation: 0,
                order: 0,
                since: now,
                handle,
                parked: Some(parked),
                dialling: false,
            });
        }
        Ok(())
    }

    /// Processes up to `budget` received frames and returns how many there were. Fewer than
    /// `budget` means that the device is empty (or has no transmit buffer for an answer).
    pub fn ingress<D: Device>(&mut self, now: Micros, device: &mut D, budget: usize) -> usize {
        self.now = now;
        for done in 0..budget {
            let full = self.full_ports();
            let mut sieve = Sieve::new(device, &full);
            let result =
                self.iface
                    .poll_ingress_single(instant(now), &mut sieve, &mut self.sockets);
            if result == PollIngressSingleResult::None {
                return done;
            }
            // Between any two frames, so that a burst of SYNs finds sockets armed.
            self.service(now);
        }
        budget
    }

    /// Ports of patient groups without an armed socket.
    fn full_ports(&self) -> heapless::Vec<u16, MAX_GROUPS> {
        let full = self.groups.iter().filter(|group| group.is_short());
        full.filter_map(|group| group.config.port).collect()
    }

    /// Hands everything that may be sent now to the device. While the link is down nothing is
    /// sent and no retransmission timer backs off: what is due goes out at once when it is back.
    pub fn egress<D: Device>(&mut self, now: Micros, device: &mut D) -> Egress {
        if !self.link_up {
            return Egress::Done;
        }
        self.now = now;
        self.maintain(now);
        self.announce_taken(now);
        let mut watched = Watched::new(device);
        self.outbox
            .send(instant(now), &mut watched, self.iface.ip_addrs());
        while self
            .iface
            .poll_egress(instant(now), &mut watched, &mut self.sockets)
            == PollResult::SocketStateChanged
        {}
        let blocked = watched.was_full();
        self.service(now);
        if blocked {
            return Egress::Blocked;
        }
        if self.draining > 0 {
            // Their last acknowledgements are out: who is in TIME-WAIT makes room for those who call again.
            for group in 0..self.groups.len() {
                if self.groups[group].is_short() {
                    self.refill(group);
                }
            }
        }
        Egress::Done
    }

    /// When [`Stack::egress`] must be called again even if nothing else happens; a time not
    /// after `now` means at once (but not after [`Egress::Blocked`]). `None`: not before the
    /// next frame or call.
    pub fn poll_at(&mut self, now: Micros) -> Option<Micros> {
        if !self.link_up {
            return None;
        }
        if !self.outbox.is_empty() {
            return Some(now);
        }
        let tcp = self
            .iface
            .poll_at(instant(now), &self.sockets)
            .map(|at| u64::try_from(at.total_micros()).unwrap_or(0));
        let others = [self.next_deadline(), self.announcements.due()];
        tcp.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// The device's link came up or went down. A stack starts with the link up.
    pub fn set_link(&mut self, up: bool) {
        if up && !self.link_up {
            self.outbox.announce();
        }
        self.link_up = up;
    }

    /// Tells the segment where the own addresses live (gratuitous ARP, unsolicited neighbour
    /// advertisement), in the next [`Stack::egress`].
    pub fn announce(&mut self) {
        self.outbox.announce();
    }

    /// Asks for the hardware address of `addr`, or of the gateway towards it, in the next
    /// [`Stack::egress`], whatever smoltcp's rate limit says.
    pub fn solicit(&mut self, addr: core::net::IpAddr) {
        let addr = IpAddress::from(addr);
        if self.iface.ip_addrs().iter().any(|c| c.contains_addr(&addr)) {
            self.outbox.solicit(addr);
            return;
        }
        let mut gateway = None;
        self.iface.routes_mut().update(|routes| {
            gateway = routes
                .iter()
                .find(|route| route.via_router.version() == addr.version())
                .map(|route| route.via_router);
        });
        if let Some(gateway) = gateway {
            self.outbox.solicit(gateway);
        }
    }

    /// Connections that stand, accepted by the application or not.
    #[cfg(test)]
    pub(crate) fn established(&self) -> usize {
        let stands = |slot: &&Slot| {
            matches!(slot.state, SlotState::Owned | SlotState::Ready)
                && self.sockets.get::<Socket>(slot.handle).may_send()
        };
        self.slots.iter().filter(stands).count()
    }
}
