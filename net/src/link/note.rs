//! What happened on the replication port that a person may want to read in the log.

use super::rx::LinkError;
use super::search::Search;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use replication::secure::{LinkRefusal, PreambleError};

/// A line for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkNote {
    /// A connection from an address that is not the peer's was refused.
    Stranger(SocketAddr),
    /// A connection from the peer's address did not speak this protocol and was dropped; the
    /// link, if there is one, goes on.
    NotPalisade(IpAddr, PreambleError),
    /// A connection with the peer's address did not finish its preamble in time and was dropped.
    Silent(IpAddr),
    /// A new connection from the peer's address was refused while the link stood.
    Refused(IpAddr, LinkRefusal),
    /// The peer has connected anew; its old connection was dropped.
    Replaced(IpAddr),
    /// The peer sent something that is not this protocol; the link was dropped.
    Garbage(IpAddr, LinkError),
    /// The peer has not read for so long that the queue is full; the link was dropped.
    Overflow(IpAddr),
    /// The peer is still being looked for.
    Search(Search),
}

impl fmt::Display for LinkNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger(from) => {
                write!(f, "replication port: refused {from}, which is not the peer")
            }
            Self::NotPalisade(from, error) => {
                write!(
                    f,
                    "replication port: dropped a connection with {from}: {error}"
                )
            }
            Self::Silent(from) => {
                write!(
                    f,
                    "replication port: dropped a silent connection with {from}"
                )
            }
            Self::Refused(from, refusal) => {
                write!(
                    f,
                    "replication port: refused another connection from {from}: {refusal}"
                )
            }
            Self::Replaced(peer) => write!(f, "peer {peer} connected anew, old connection dropped"),
            Self::Search(search) => write!(f, "{search}"),
            Self::Garbage(peer, error) => write!(f, "peer {peer}: {error}, connection dropped"),
            Self::Overflow(peer) => {
                write!(
                    f,
                    "peer {peer} does not read: send queue full, connection dropped"
                )
            }
        }
    }
}
