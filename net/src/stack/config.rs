//! What a [`super::Stack`] is told at its construction.

use core::fmt;
use core::net::IpAddr;
use replication::api::Micros;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

/// Groups in a stack at most.
pub const MAX_GROUPS: usize = 4;
/// Sockets in a stack at most. Every received segment and every egress round walks the sockets
/// in order, so tens are cheap and hundreds are not.
pub const MAX_SLOTS: usize = 256;

/// Addresses and identity of one NIC.
#[derive(Debug, Clone)]
pub struct NicConfig {
    /// The NIC's hardware address; must be unicast.
    pub mac: [u8; 6],
    /// Own addresses with their prefix lengths.
    pub addresses: heapless::Vec<(IpAddr, u8), 4>,
    /// Default gateway, if any; must lie in the prefix of an own address.
    pub gateway: Option<IpAddr>,
    /// Seed of initial sequence numbers and local ports; must differ on each boot.
    pub seed: u64,
}

/// When a silent peer is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// Idle time before a keep-alive probe, in microseconds; less than `timeout`.
    pub probe: Micros,
    /// Time without any segment after which the connection is reset, in microseconds.
    pub timeout: Micros,
}

/// A set of sockets with one use.
#[derive(Debug, Clone, Copy)]
pub struct GroupConfig {
    /// The TCP port to listen on, if any.
    pub port: Option<u16>,
    /// Sockets: established, half-open, closing and armed ones together.
    pub slots: usize,
    /// Armed sockets to keep while there are free slots.
    pub backlog: usize,
    /// Receive ring of each socket in bytes; also the largest window advertised.
    pub rx_bytes: usize,
    /// Transmit ring of each socket in bytes: the most that is in flight.
    pub tx_bytes: usize,
    /// Keep-alive; `None` where the protocol above has heartbeats of its own.
    pub liveness: Option<Liveness>,
    /// While all slots are taken a call is not refused but dropped: the client's TCP calls again after a second, and then less and less often. A connection
    /// that was closed here and that the other side has learnt that of ([`super::maintain`]) makes room early.
    pub patient: bool,
    /// How long an acknowledgement may wait for data to travel with, in microseconds. Only where
    /// the other side does not hold back small segments until it has one (Nagle); `None`: never.
    pub ack_delay: Option<Micros>,
}

/// Names a group: its place in the list given to [`super::Stack::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupId(pub(super) u8);

impl GroupId {
    /// The group at `index` of the list given to [`super::Stack::new`].
    #[must_use]
    pub const fn new(index: u8) -> Self {
        Self(index)
    }
}

/// Why a stack cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackError {
    /// The hardware address is not unicast.
    Mac([u8; 6]),
    /// Not a unicast address, or a prefix length beyond the address.
    Address(IpAddr, u8),
    /// The gateway is in no own prefix.
    Gateway(IpAddr),
    /// The device's MTU (bytes of IP packet) is below 1280 or above 65535.
    Mtu(usize),
    /// More than [`MAX_GROUPS`] groups or [`MAX_SLOTS`] slots.
    TooManySockets,
    /// The group at this index has no slot, a ring of less than 2 KiB or more than 64 MiB, port
    /// zero, another group's port, or keep-alive times that make no sense.
    Group(usize),
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(
                f,
                "hardware address {} is not unicast",
                EthernetAddress(*mac)
            ),
            Self::Address(addr, prefix) => write!(f, "{addr}/{prefix} is not a usable own address"),
            Self::Gateway(addr) => write!(f, "gateway {addr} is in no prefix of this NIC"),
            Self::Mtu(mtu) => write!(f, "MTU {mtu} is not within 1280..=65535"),
            Self::TooManySockets => {
                write!(
                    f,
                    "more than {MAX_GROUPS} socket groups or {MAX_SLOTS} sockets"
                )
            }
            Self::Group(index) => write!(f, "socket group {index} is impossible"),
        }
    }
}

impl core::error::Error for StackError {}

impl NicConfig {
    /// The own addresses in smoltcp's terms, checked.
    pub(super) fn cidrs(&self) -> Result<heapless::Vec<IpCidr, 4>, StackError> {
        if !EthernetAddress(self.mac).is_unicast() {
            return Err(StackError::Mac(self.mac));
        }
        let mut cidrs = heapless::Vec::new();
        for &(addr, prefix) in &self.addresses {
            let longest = if addr.is_ipv4() { 32 } else { 128 };
            let ip = IpAddress::from(addr);
            if prefix > longest || !ip.is_unicast() || addr.is_loopback() {
                return Err(StackError::Address(addr, prefix));
            }
            cidrs
                .push(IpCidr::new(ip, prefix))
                .map_err(|_| StackError::Address(addr, prefix))?;
        }
        if let Some(gateway) = self.gateway {
            let ip = IpAddress::from(gateway);
            if !ip.is_unicast() || !cidrs.iter().any(|cidr| cidr.contains_addr(&ip)) {
                return Err(StackError::Gateway(gateway));
            }
        }
        Ok(cidrs)
    }
}

/// Checks the groups and returns the number of sockets they need.
pub(super) fn check_groups(groups: &[GroupConfig]) -> Result<usize, StackError> {
    let total: usize = groups.iter().map(|group| group.slots).sum();
    if groups.len() > MAX_GROUPS || total > MAX_SLOTS {
        return Err(StackError::TooManySockets);
    }
    let ring = 2048..=64 << 20;
    for (index, group) in groups.iter().enumerate() {
        let port_taken =
            group.port.is_some() && groups[..index].iter().any(|other| other.port == group.port);
        let liveness_ok = group
            .liveness
            .is_none_or(|l| l.probe > 0 && l.probe < l.timeout);
        if group.slots == 0
            || group.port == Some(0)
            || port_taken
            || !ring.contains(&group.rx_bytes)
            || !ring.contains(&group.tx_bytes)
            || !liveness_ok
        {
            return Err(StackError::Group(index));
        }
    }
    Ok(total)
}
