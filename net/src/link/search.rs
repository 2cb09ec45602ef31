//! What a node that has no connection can say about its search for the peer.

use core::fmt;
use core::net::SocketAddr;
use replication::api::Micros;

/// What came of looking for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// This node dials, and nothing came back at all.
    NoAnswer,
    /// This node dials, and the last attempt was refused, or TCP could not even make it.
    Refused,
    /// This node listens, and was not called.
    NotCalled,
}

/// A search for the peer, to be shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Where the peer is looked for.
    pub peer: SocketAddr,
    /// What came of it.
    pub found: Sought,
    /// How long it has lasted.
    pub lasted: Micros,
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, seconds) = (self.peer, self.lasted / 1_000_000);
        match self.found {
            Sought::NoAnswer => write!(
                f,
                "no answer from {peer} for {seconds} s: is the peer up, and its replication network connected?"
            ),
            Sought::Refused => write!(
                f,
                "{peer} refuses connections, for {seconds} s: the peer's address is right, but does it run, and has it taken its configuration?"
            ),
            Sought::NotCalled => write!(
                f,
                "no call from {} for {seconds} s, and that node is the one that calls: is it up, and its replication network connected?",
                peer.ip()
            ),
        }
    }
}
