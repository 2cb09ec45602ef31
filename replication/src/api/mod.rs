//! What goes into the engine and what comes out of it.
//!
//! The engine ([`crate::engine::Engine`]) is one synchronous state machine: the caller feeds
//! [`Event`]s with the current time and drains [`Action`]s after each. It does no I/O, reads no
//! clock and, once built, allocates nothing. The kernel's tasks and the simulator are two pumps
//! around the very same code.

mod command;
mod config;
mod status;

use crate::buf::Buf;
use crate::secure::LinkRefusal;
use crate::wire::Frame;
pub use fencing::{
    Answer, Episode, Grantors, Own as OwnFence, Party, Request, Status as FenceStatus,
};
use heapless::String;

pub use command::Command;
pub use config::{
    EngineConfig, FencingConfig, MAX_VOLUMES, MetadataPlace, Mirroring, OnCongestion, OnIoError,
    OnNoData, OnTimeout, Policy, Protocol, ResyncConfig, ResyncLimits, SnapshotPolicy, Timers,
    Trouble, VolumeConfig,
};
pub use status::{
    ConnectionState, DeniedPromotion, DiskState, MetadataKind, Progress, ReplicationState, Role,
    SnapshotReport, SnapshotStage, Status, Suspended, VerifyReport, VolumeStatus,
};

/// Microseconds since some fixed point, monotonic.
pub type Micros = u64;

/// A name of a node or resource: ASCII letters, digits, `-`, `_`, `.`; 1 to 32 bytes.
pub type Name = String<32>;

/// Text for a person: the console or the log.
pub type Text = String<224>;

/// The submitter's own number for a client request; returned unchanged in [`Action::Reply`].
pub type RequestId = u64;

/// The engine's number for a disk operation; returned unchanged in [`Event::DiskDone`].
pub type DiskToken = u32;

/// The console's number for a command; returned unchanged in [`Action::CommandDone`].
pub type CommandId = u32;

/// An operation of a client on a volume, already checked for alignment by the session. Ranges
/// are checked by the engine again: one that does not fit gets [`ClientError::Invalid`].
#[derive(Debug)]
pub struct ClientRequest {
    /// The submitter's number.
    pub id: RequestId,
    /// Index of the volume.
    pub volume: u16,
    /// First byte.
    pub offset: u64,
    /// What to do.
    pub op: ClientOp,
}

/// What a client wants. The engine owns a buffer from [`Event::Client`] on: it frees a write's
/// itself and hands a read's back in [`Action::Reply`].
#[derive(Debug)]
pub enum ClientOp {
    /// Fill the buffer's `len` bytes.
    Read(Buf),
    /// Fill the buffer's `len` bytes with the old content, of before the resync to this node. Served whatever the role.
    ReadSnapshot(Buf),
    /// Store the buffer's `len` bytes; with `fua` durably on both nodes before the answer.
    Write {
        /// The payload.
        buf: Buf,
        /// Force unit access (NBD_CMD_FLAG_FUA).
        fua: bool,
    },
    /// Everything answered before is durable on both nodes before the answer.
    Flush,
    /// The range's content is no longer needed.
    Discard {
        /// Bytes.
        len: u32,
        /// Durable before the answer.
        fua: bool,
    },
    /// The range reads as zeroes afterwards.
    WriteZeroes {
        /// Bytes.
        len: u32,
        /// Whether the disk may punch a hole (not NBD_CMD_FLAG_NO_HOLE).
        unmap: bool,
        /// Durable before the answer.
        fua: bool,
    },
}

/// Why a client's request failed. Only these reach a client; every other trouble (loss of the
/// peer, a role change) either is invisible or drops the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientError {
    /// The range or alignment is impossible (EINVAL).
    Invalid,
    /// The disk failed (EIO).
    Io,
    /// This node does not serve the volume now: the session must drop its connection, not
    /// answer (reference/nbd.md: an error reply would reach the guest).
    NotServing,
}

/// What the engine is told.
#[derive(Debug)]
pub enum Event {
    /// A client's request. Only while [`crate::engine::Engine::has_room`] says so.
    Client(ClientRequest),
    /// A disk operation ended.
    DiskDone {
        /// From [`Action::Disk`].
        token: DiskToken,
        /// How.
        result: Result<(), DiskError>,
        /// Of a [`DiskOp::Read`] with `detect_zeroes`: whether every byte is zero.
        all_zero: bool,
    },
    /// The TCP connection to the peer stands; nothing has been sent or received on it.
    LinkUp,
    /// The connection to the peer is gone (or the attempt failed). Every frame handed out
    /// before is dead: the pump has dropped its queue and will deliver no more of its frames.
    LinkDown(LinkDownReason),
    /// A frame from the peer, with its payload if it has one.
    Frame {
        /// The decoded frame.
        frame: Frame,
        /// The payload; the engine owns it now.
        buf: Option<Buf>,
    },
    /// The operator's word.
    Command {
        /// Returned in [`Action::CommandDone`].
        id: CommandId,
        /// What is wanted.
        command: Command,
    },
    /// The number of NBD clients that have a volume open, after it changed.
    OpenClients(u32),
    /// The number of NBD clients that are connected and not greeted, since this node does not serve, after it changed.
    WaitingClients(u32),
    /// The driver found the disk's capacity changed, or the disk gone.
    DiskChanged {
        /// Index of the volume.
        volume: u16,
        /// It is the disk that has the volume's metadata alone.
        metadata: bool,
        /// New capacity in bytes; 0 when the disk is gone.
        size: u64,
    },
    /// A question came in out of band, authentic and fresh. Answered with [`Action::Answer`], later or not at
    /// all: whoever asked asks again.
    Asked {
        /// Who asks.
        from: Party,
        /// The pump's number for it.
        token: u32,
        /// What.
        request: Request,
    },
    /// An answer came in out of band, authentic, to a question of this node.
    Answered {
        /// Who answers.
        from: Party,
        /// What.
        answer: Answer,
    },
    /// The time that [`crate::engine::Engine::poll_timeout`] asked for has come.
    Tick,
}

/// How a disk operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskError {
    /// The device said VIRTIO_BLK_S_IOERR or answered nonsense.
    Io,
    /// The device said VIRTIO_BLK_S_UNSUPP.
    Unsupported,
    /// The device needs a reset or is gone.
    Gone,
}

/// Why a link went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkDownReason {
    /// The attempt to connect failed or timed out.
    ConnectFailed,
    /// The peer closed or reset the connection, or TCP gave up.
    Closed,
    /// Bytes that are not frames of this protocol.
    Garbage,
    /// What came was altered on its way: a checksum is wrong, or a sealed record does not open.
    Corrupt,
    /// One node refuses the other before the first frame.
    Refused(LinkRefusal),
    /// The engine asked for it ([`Action::CloseLink`]).
    Requested,
}

/// What the engine wants done, in order.
#[derive(Debug)]
pub enum Action {
    /// Perform a disk operation and report [`Event::DiskDone`]. Operations may complete in any
    /// order; a flush covers those that completed before it was issued.
    Disk {
        /// Number to report.
        token: DiskToken,
        /// Index of the volume.
        volume: u16,
        /// What to do.
        op: DiskOp,
    },
    /// As [`Action::Disk`], on the disk that holds the volume's metadata: the volume's own or another, by
    /// [`VolumeConfig::metadata`]. Offsets count from that disk's beginning.
    Meta {
        /// Number to report.
        token: DiskToken,
        /// Index of the volume.
        volume: u16,
        /// What to do.
        op: DiskOp,
    },
    /// The size of a volume is known, or has changed: clients are to be told this one.
    Size {
        /// Index of the volume.
        volume: u16,
        /// Bytes.
        size: u64,
    },
    /// The old content of a volume, of before the resync to this node, can be read from now on
    /// ([`ClientOp::ReadSnapshot`]), or not any more: who reads it is to be dropped.
    Snapshot {
        /// Index of the volume.
        volume: u16,
        /// Whether it can.
        readable: bool,
    },
    /// Send a frame, after all sent before. The view stays valid until the peer's answer to it
    /// was delivered or [`Event::LinkDown`] was.
    Send {
        /// The frame.
        frame: Frame,
        /// The payload to copy behind it.
        payload: Option<crate::buf::BufView>,
    },
    /// Answer a client's request.
    Reply {
        /// Its number.
        id: RequestId,
        /// How it went.
        result: Result<(), ClientError>,
        /// A read's buffer, or another one of the same length; `None` only if it failed and there is no memory.
        buf: Option<Buf>,
    },
    /// Try to have a connection to the peer (dial or accept); report [`Event::LinkUp`], or
    /// [`Event::LinkDown`] when an attempt to dial failed. A standing one is left as it is.
    OpenLink,
    /// Drop the connection at once (report [`Event::LinkDown`]), and open none before
    /// [`Action::OpenLink`].
    CloseLink,
    /// This node must stop (or may start) serving clients: on `false` every client's
    /// connection is dropped, without answers to what is in flight.
    Serve(bool),
    /// This node does not become Primary for the clients that wait: they are to be told why
    /// ([`crate::engine::Engine::not_serving`]). Only with [`FencingConfig::auto_promote`].
    RefuseClients,
    /// A command ended.
    CommandDone {
        /// Its number.
        id: CommandId,
        /// A word of success or what is wrong and what to do.
        result: Result<Text, Text>,
    },
    /// Ask this party out of band, once: the engine asks again by itself. The answer is [`Event::Answered`].
    Ask {
        /// Who is asked.
        to: Party,
        /// What.
        request: Request,
    },
    /// Answer what was asked out of band. What the answer says is durable.
    Answer {
        /// Who asked.
        to: Party,
        /// The number of [`Event::Asked`].
        token: u32,
        /// The answer.
        answer: Answer,
    },
    /// A line for the log.
    Log {
        /// How grave.
        level: Level,
        /// What happened.
        text: Text,
    },
}

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed that someone must look at.
    Error,
    /// Something is not as it should be.
    Warn,
    /// Something an operator wants to have been told.
    Info,
    /// For developers.
    Debug,
}

/// A disk operation. Views point into the pool; offsets and lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOp {
    /// Read `view.len` bytes at `offset`.
    Read {
        /// First byte.
        offset: u64,
        /// Where to.
        view: crate::buf::BufView,
        /// Whether [`Event::DiskDone`] must tell if all bytes are zero.
        detect_zeroes: bool,
    },
    /// Write `view.len` bytes at `offset`.
    Write {
        /// First byte.
        offset: u64,
        /// Where from.
        view: crate::buf::BufView,
    },
    /// Make every completed operation durable.
    Flush,
    /// The range is no longer needed. A disk that cannot discard answers `Ok` at once.
    Discard {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// The range reads as zeroes afterwards. A disk that cannot is written zeroes by the pump.
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
        /// Whether a hole may be punched.
        unmap: bool,
    },
}
