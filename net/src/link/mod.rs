//! The connection between the two nodes: frames over a byte stream, and who calls whom.
//!
//! [`LinkRx`] and [`LinkTx`] turn bytes into frames and back over any
//! [`crate::stream::ByteStream`]. [`Dialer`] is the pure logic of attempts and pauses.
//! [`PeerLink`] joins them with a [`crate::stack::Stack`] and is what the kernel pumps:
//!
//! 1. `OpenLink` and `CloseLink` of the engine become [`PeerLink::open`] and
//!    [`PeerLink::close`], `Send` becomes [`PeerLink::send`];
//! 2. after the stack's ingress, drain [`PeerLink::poll`]: link up, link down, frames, notes for
//!    the log;
//! 3. [`PeerLink::flush`], then the stack's egress;
//! 4. [`PeerLink::poll_at`] says when to come back.
//!
//! # Who calls whom
//!
//! Both nodes listen; the one with the numerically larger address and port dials. Each
//! connection begins with a preamble ([`replication::secure`]), in which the nodes prove to each
//! other who they are; only when it has succeeded is the link up. Until then an established link
//! is left alone: a stranger (another address is refused at once) or garbage on the port cannot
//! disturb it. The newest connection that passes replaces an older one, which is how a peer that
//! was power-cycled is back before the old connection has timed out.

mod dialer;
mod greeting;
mod note;
mod peer;
mod rx;
mod search;
#[cfg(test)]
mod tests;
mod tx;

pub use dialer::{DialStep, Dialer, Side};
pub use note::LinkNote;
pub use peer::{LinkEvent, PeerLink, PeerLinkConfig};
pub use rx::{LinkError, LinkRx};
pub use search::{Search, Sought};
pub use tx::{LinkTx, QueueFull};
