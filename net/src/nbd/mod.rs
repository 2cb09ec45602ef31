//! The NBD server: fixed newstyle negotiation and transmission, without I/O.
//!
//! [`Server`] holds a fixed table of session slots. The integrator owns the sockets and calls, for
//! each connection:
//!
//! 1. [`Server::accept`] when TCP stands: it names the slot (and may name a connection to reset,
//!    because every slot was taken and that one had not got beyond its handshake);
//! 2. [`Server::poll`] whenever [`Server::wants_poll`] says so: it reads requests from the
//!    [`ByteStream`](crate::stream::ByteStream), submits them through [`SessionIo`], writes
//!    replies, and returns a [`Verdict`];
//! 3. [`Server::hang_up`] when the connection died underneath.
//!
//! and for the engine [`Server::on_reply`] per reply and [`Server::set_serving`] when the role
//! changes. [`Server::poll_timeout`] says when to poll again at the latest.
//!
//! The old content of a resync's target is exported beside that, read-only ([`Export::before_resync`]): to connections to a
//! port of its own ([`Server::accept_snapshots`]), in every role, while the engine has it ([`Server::offer_snapshot`]).
//!
//! # Memory
//!
//! A WRITE is admitted when the pool promises room for its whole payload, first come first served
//! among all sessions (`shared`); its bytes go from the socket straight into pool buffers and
//! nothing is submitted before all have arrived, so a connection that dies within a payload has
//! changed nothing. A READ is cut into parts of at most one pool buffer each, bounded per session
//! and in total, so that clients that do not fetch their replies can neither hold the pool nor
//! starve a write. A session that has all its request slots taken reads no further request:
//! TCP's window does the rest.
//!
//! # Map
//!
//! [`proto`] constants and codecs; [`export`] what is served; `options` and `handshake` the
//! negotiation; `receive` requests in; `issue` requests to the engine and its answers; `transmit`
//! replies out; `session` ties these together; `server` the table.
//!
//! Rules cited as "proto.md" are in the protocol document, NetworkBlockDevice/nbd doc/proto.md.

mod chains;
pub mod export;
mod handshake;
mod issue;
mod options;
mod out;
pub mod proto;
mod receive;
mod requests;
mod server;
mod session;
mod shared;
mod transmit;

pub use export::{Export, ExportError, SNAPSHOT_SUFFIX};
pub use server::{Accepted, Server, ServerConfig, SessionStatus};
pub use session::{Phase, Verdict};

use replication::api::{ClientRequest, Text};
use replication::buf::{Pool, PoolMemory};

/// What a session needs besides its byte stream: payload memory and the engine.
pub trait SessionIo: PoolMemory {
    /// The payload pool.
    fn pool(&mut self) -> &mut Pool;
    /// Whether the engine takes another request now.
    fn has_room(&self) -> bool;
    /// Hands a request to the engine; called only after [`SessionIo::has_room`] said yes. The
    /// answer goes to [`Server::on_reply`], not from within this call.
    fn submit(&mut self, request: ClientRequest);
    /// Why this node does not serve, for clients that are to hear that instead of being closed when their wait ends; `None`:
    /// they are not.
    fn not_serving(&self) -> Option<Text> {
        None
    }
}

#[cfg(test)]
mod tests;
