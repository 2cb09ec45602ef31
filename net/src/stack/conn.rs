//! Connections as the application sees them.

use super::config::GroupId;
use super::nic::Stack;
use super::slot::SlotState;
use super::stream::TcpStream;
use core::fmt;
use core::net::SocketAddr;
use replication::api::Micros;
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::IpEndpoint;

/// First port that is chosen for dialled connections (the dynamic range of RFC 6335).
const EPHEMERAL_FIRST: u16 = 49152;

/// Names a connection that the application accepted or dialled, until it closes or aborts it.
/// A handle that is no longer valid is recognised and harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnHandle {
    slot: u16,
    generation: u32,
}

/// What can be expected of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnState {
    /// Dialled, no answer yet.
    Connecting,
    /// Both directions are open.
    Open,
    /// The other side has finished sending; received bytes may still be unread, and bytes can
    /// be sent.
    PeerFinished,
    /// Refused, reset or given up by TCP, or closed by both sides. Received bytes may still be
    /// unread.
    Dead,
    /// The handle is not valid (any more).
    Unknown,
}

/// Why a connection cannot even be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialError {
    /// There is no such group.
    Group,
    /// All of the group's sockets are taken.
    NoSlot,
    /// The address is unspecified, has port zero, or there is no own address of its family.
    Unaddressable,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Group => "no such group of sockets",
            Self::NoSlot => "all sockets are taken",
            Self::Unaddressable => "the address cannot be reached from this NIC",
        })
    }
}

impl core::error::Error for DialError {}

impl Stack {
    /// Starts a connection to `remote` from a socket of `group`, asking for its hardware address
    /// at the same time. It stands when [`Stack::status`] says [`ConnState::Open`]; the caller
    /// sets the time limit.
    ///
    /// # Errors
    /// [`DialError`], before anything was sent.
    pub fn dial(&mut self, group: GroupId, remote: SocketAddr) -> Result<ConnHandle, DialError> {
        let index = usize::from(group.0);
        if index >= self.groups.len() {
            return Err(DialError::Group);
        }
        let own_family = self
            .iface
            .ip_addrs()
            .iter()
            .any(|cidr| core::net::IpAddr::from(cidr.address()).is_ipv4() == remote.is_ipv4());
        if !own_family || remote.port() == 0 || remote.ip().is_unspecified() {
            return Err(DialError::Unaddressable);
        }
        let slot = match self.free_slot(index) {
            Some(slot) => slot,
            // Rather one armed socket less than no connection.
            None => self
                .oldest(index, |stack, i| {
                    stack.slots[i].state == SlotState::Listening
                })
                .ok_or(DialError::NoSlot)?,
        };
        let local = self.ephemeral_port();
        self.freshen(slot);
        let socket = self.sockets.get_mut::<Socket>(self.slots[slot].handle);
        let dialled = socket.connect(self.iface.context(), IpEndpoint::from(remote), local);
        if dialled.is_err() {
            self.silence(slot);
            self.refill(index);
            return Err(DialError::Unaddressable);
        }
        self.enter(slot, SlotState::Owned);
        self.slots[slot].dialling = true;
        self.solicit(remote.ip());
        Ok(self.conn_handle(slot))
    }

    /// A local port that no socket uses now. Random, so that after a reboot the other side does
    /// not take the connection for an old one.
    fn ephemeral_port(&mut self) -> u16 {
        loop {
            // xorshift64: no secrecy is needed.
            self.rng ^= self.rng << 13;
            self.rng ^= self.rng >> 7;
            self.rng ^= self.rng << 17;
            let port = EPHEMERAL_FIRST | (self.rng >> 40) as u16;
            let used = self
                .slots
                .iter()
                .filter(|slot| slot.parked.is_none())
                .any(|slot| {
                    let local = self.sockets.get::<Socket>(slot.handle).local_endpoint();
                    local.is_some_and(|local| local.port == port)
                });
            if !used {
                return port;
            }
        }
    }

    pub(super) fn conn_handle(&self, slot: usize) -> ConnHandle {
        ConnHandle {
            // At most MAX_SLOTS.
            slot: slot as u16,
            generation: self.slots[slot].generation,
        }
    }

    fn owned(&self, conn: ConnHandle) -> Option<usize> {
        let slot = usize::from(conn.slot);
        let entry = self.slots.get(slot)?;
        (entry.state == SlotState::Owned && entry.generation == conn.generation).then_some(slot)
    }

    /// What can be expected of the connection.
    #[must_use]
    pub fn status(&self, conn: ConnHandle) -> ConnState {
        let Some(slot) = self.owned(conn) else {
            return ConnState::Unknown;
        };
        match self.tcp_state(slot) {
            State::SynSent | State::SynReceived => ConnState::Connecting,
            State::Established => ConnState::Open,
            State::CloseWait => ConnState::PeerFinished,
            _ => ConnState::Dead,
        }
    }

    /// The connection's bytes, or `None` when the handle is not valid (any more).
    pub fn stream(&mut self, conn: ConnHandle) -> Option<TcpStream<'_>> {
        let slot = self.owned(conn)?;
        Some(TcpStream {
            socket: self.sockets.get_mut::<Socket>(self.slots[slot].handle),
        })
    }

    /// The other side's address, while TCP knows it.
    #[must_use]
    pub fn peer(&self, conn: ConnHandle) -> Option<SocketAddr> {
        let slot = self.owned(conn)?;
        let socket = self.sockets.get::<Socket>(self.slots[slot].handle);
        let remote = socket.remote_endpoint()?;
        Some(SocketAddr::new(remote.addr.into(), remote.port))
    }

    /// Gives the connection back: what was written is still sent, then the FIN; what is received
    /// is discarded; after five seconds without an orderly end it is reset.
    pub fn close(&mut self, now: Micros, conn: ConnHandle) {
        if let Some(slot) = self.owned(conn) {
            self.finish(now, slot);
        }
    }

    /// Gives the connection back and resets it: what was written may be lost.
    pub fn abort(&mut self, now: Micros, conn: ConnHandle) {
        if let Some(slot) = self.owned(conn) {
            self.reset(now, slot);
        }
    }
}
