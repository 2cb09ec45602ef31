//! An address that follows the Primary.
//!
//! The node that begins to serve takes the address and says so to the segment; the one that stops gives it up. Clients
//! connect to it again and find the node that serves. Whoever still sends to the old connection is answered by the
//! new owner with a reset, since it knows no such connection (RFC 9293, 3.10.7.1).

use super::Stack;
use super::config::StackError;
use core::net::IpAddr;
use replication::api::Micros;
use smoltcp::wire::{IpAddress, IpCidr};

/// How often an address that was taken is announced: a switch or a host may miss one.
const ANNOUNCEMENTS: u8 = 5;
/// Between two of them.
const ANNOUNCE_EVERY: Micros = 1_000_000;

/// Announcements of a taken address that are still due.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Announcements {
    left: u8,
    next: Micros,
}

impl Announcements {
    /// When the next is due.
    pub(super) fn due(self) -> Option<Micros> {
        (self.left > 0).then_some(self.next)
    }
}

impl Stack {
    /// Takes `address` as a further own one and announces it: at once, and some times more over the next seconds.
    /// Taking one that is already taken only announces it again.
    ///
    /// # Errors
    /// [`StackError::Address`] unless the address lies in the prefix of another own one, from which it takes the
    /// prefix's length.
    pub fn take_address(&mut self, now: Micros, address: IpAddr) -> Result<(), StackError> {
        let ip = IpAddress::from(address);
        let has = |cidr: &&IpCidr| cidr.contains_addr(&ip) && cidr.address() != ip;
        let Some(prefix) = (self.iface.ip_addrs().iter().find(has)).map(IpCidr::prefix_len) else {
            return Err(StackError::Address(address, 0));
        };
        let cidr = IpCidr::new(ip, prefix);
        if !self.iface.ip_addrs().contains(&cidr) {
            let mut full = false;
            self.iface
                .update_ip_addrs(|own| full = own.push(cidr).is_err());
            if full {
                return Err(StackError::Address(address, prefix));
            }
        }
        self.announcements = Announcements {
            left: ANNOUNCEMENTS,
            next: now,
        };
        Ok(())
    }

    /// No longer answers for `address`, which [`Stack::take_address`] took: neither who asks for its hardware address,
    /// nor what comes to it. Connections to it must have been ended before.
    pub fn give_up_address(&mut self, address: IpAddr) {
        let ip = IpAddress::from(address);
        self.iface
            .update_ip_addrs(|own| own.retain(|cidr| cidr.address() != ip));
        self.announcements = Announcements::default();
    }

    /// Announces an address that was taken, if that is due.
    pub(super) fn announce_taken(&mut self, now: Micros) {
        if self.announcements.due().is_some_and(|at| at <= now) {
            self.announcements.left -= 1;
            self.announcements.next = now + ANNOUNCE_EVERY;
            self.outbox.announce();
        }
    }
}
