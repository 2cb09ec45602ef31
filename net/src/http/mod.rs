//! The web server of the management network: HTTP/1.1 without I/O (RFC 9112), a few read-only documents, events,
//! a page for a browser, and, for who has the token, commands.
//!
//! A [`Server`] has a fixed number of sessions, each with a buffer for a request's head, and a few buffers for documents, all
//! of it taken in [`Server::new`]; a session without a request costs nothing more. What documents say is the caller's
//! ([`Site`]): this module knows requests, answers, limits and times.
//!
//! # One turn
//!
//! 1. [`Budget::allows`]: the data path goes first; this server has a share of the processor's time.
//! 2. [`Server::accept`] for each new connection; without a slot the connection gets [`BUSY`] and is closed.
//! 3. [`Server::poll`] for each session that [`Server::wants_poll`]; it reads at most one request.
//! 4. [`Server::answer`], which makes one document that was asked for, fetches events for one reader ([`Server::stir`] when there
//!    are new ones), or has the site begin a command, which [`Server::finish`] ends at any time later; [`Server::poll`] sends it.
//! 5. [`Budget::spent`], and sleep until [`Server::poll_timeout`] or [`Budget::due`].
//!
//! # Limits
//!
//! A head has [`HEAD_BYTES_MAX`] bytes and [`HEADERS_MAX`] lines at most (431), a body [`BODY_BYTES_MAX`] (413). A request
//! must be complete [`REQUEST_LIMIT`] after its first byte (408), an answer taken [`ANSWER_LIMIT`] after it began, and a connection
//! without a request is closed after [`IDLE_LIMIT`]. When all slots are taken, a new connection takes the place of one that has waited
//! for a request for longer than [`GRACE`], or else of one whose request has been coming for so long.

mod budget;
mod documents;
mod page;
mod reply;
mod request;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod token;

pub use budget::Budget;
pub use reply::{BUSY, Code, Counts};
pub use server::{Accepted, Server, ServerConfig};
pub use session::Verdict;

use core::fmt;
use replication::api::Micros;

/// Longest head of a request in bytes.
pub const HEAD_BYTES_MAX: usize = 4096;
/// Most header lines of a request.
pub const HEADERS_MAX: usize = 32;
/// Longest command in bytes.
pub const COMMAND_BYTES_MAX: usize = 256;
/// Longest body of a request in bytes: a command, and the end of a line.
pub const BODY_BYTES_MAX: usize = COMMAND_BYTES_MAX + 2;
/// Time for a request to come whole, from its first byte.
pub const REQUEST_LIMIT: Micros = 10_000_000;
/// Time for an answer to be taken whole, for a document to be made, and for a command to be begun.
pub const ANSWER_LIMIT: Micros = 10_000_000;
/// A connection without a request is closed after this time.
pub const IDLE_LIMIT: Micros = 30_000_000;
/// A connection without a request for so long, or whose request has been coming for so long, may have to make room for another one.
pub const GRACE: Micros = 1_000_000;

/// How often a reader of events who has nothing to read is sent a sign of life.
pub const HEARTBEAT: Micros = 15_000_000;
/// Readers of events at most.
pub const READERS_MAX: usize = 6;
/// Longest event in bytes, as [`Site::event`] writes it.
pub const EVENT_BYTES_MAX: usize = 512;

/// What can be asked for and is made anew for each answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Whether the node does its duty, in a word or a sentence.
    Health,
    /// Everything, as JSON.
    Status,
    /// Everything, in Prometheus' text format.
    Metrics,
}

/// A place among the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The number of the last event that the reader knows.
    pub sequence: u64,
    /// The boot that this number is of; `None`: the reader did not say, and means the present one.
    pub boot: Option<u64>,
}

/// What the server tells the world about.
pub trait Site {
    /// Writes a document. The answer is whether all is well, which only [`Page::Health`] may deny.
    ///
    /// # Errors
    /// That of `out`: the document is larger than a document may be.
    fn write(&mut self, page: Page, out: &mut dyn fmt::Write) -> Result<bool, fmt::Error>;

    /// The reader in `slot` is a new one: it wants what happened after `mark`, or, without, the state and what happens from now on.
    fn follow(&mut self, slot: u16, mark: Option<Mark>);

    /// Writes the next event for the reader in `slot`, in the form of an event stream (`id: `, the number, `-`, the boot in hexadecimal; `data: `). `false`: there is none now.
    ///
    /// # Errors
    /// That of `out`: it is longer than [`EVENT_BYTES_MAX`].
    fn event(&mut self, slot: u16, out: &mut dyn fmt::Write) -> Result<bool, fmt::Error>;

    /// Begins to carry out a command for the one in `slot`: one line of printable ASCII, of at most [`COMMAND_BYTES_MAX`] bytes. There is no other
    /// one before [`Server::finish`] was told how it ended.
    fn command(&mut self, slot: u16, line: &str);
}
