//! Datagrams that were dropped: counted all, told now and then.

use core::fmt;
use core::net::SocketAddr;
use fencing::datagram::Rejected;
use replication::api::Micros;

/// The log gets a line at most so often, in microseconds: whoever floods the port must not flood the log.
pub const EVERY: Micros = 10_000_000;

/// A line for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complaint {
    from: SocketAddr,
    why: Rejected,
    /// Dropped since the last line, this one included.
    count: u64,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, why, count } = self;
        write!(f, "management: a datagram from {from} was dropped: {why}")?;
        match count {
            1 => Ok(()),
            more => write!(
                f,
                " ({more} were dropped since the last such line, perhaps for other reasons)"
            ),
        }
    }
}

/// The count.
#[derive(Debug, Default)]
pub struct Complaints {
    total: u64,
    told: u64,
    next: Micros,
}

impl Complaints {
    /// Counts a datagram that was dropped. What the log should say, if it is time for that.
    pub fn note(&mut self, now: Micros, from: SocketAddr, why: Rejected) -> Option<Complaint> {
        self.total += 1;
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        let count = self.total - self.told;
        self.told = self.total;
        Some(Complaint { from, why, count })
    }

    /// Datagrams dropped so far.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }
}
