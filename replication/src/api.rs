//! What goes into the engine and what comes out of it.
//!
//! The engine ([`crate::engine::Engine`]) is one synchronous state machine: the caller feeds
//! [`Event`]s with the current time and drains [`Action`]s after each. It does no I/O, reads no
//! clock and, once built, allocates nothing. The kernel's tasks and the simulator are two pumps
//! around the very same code.

use crate::buf::Buf;
use crate::lineage::Policies;
use crate::secure::LinkRefusal;
use crate::wire::Frame;
use heapless::String;
pub use resync::controller::Limits as ResyncLimits;

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

/// Limits and identity of an engine, fixed for its life.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// This node's name; must differ from the peer's.
    pub node: Name,
    /// The expected name of the peer.
    pub peer: Name,
    /// The resource's name; must be the peer's too.
    pub resource: Name,
    /// The resource's volumes, in ascending order of index.
    pub volumes: heapless::Vec<VolumeConfig, MAX_VOLUMES>,
    /// Times, all in microseconds.
    pub timers: Timers,
    /// What to do about a split brain; must be the same on both nodes to have an effect.
    pub policies: Policies,
    /// What to do when disks fail.
    pub trouble: Trouble,
    /// How resyncs from this node go about.
    pub resync: ResyncConfig,
    /// When clients' writes are answered.
    pub mirroring: Mirroring,
    /// Seed of the generation identifiers: must be unpredictable in production, fixed in tests.
    pub seed: u64,
    /// Client requests that may be in the engine at once (a power of two, 64 to 4096).
    pub max_requests: u16,
}

/// How a node brings its peer in sync. Only the source's configuration counts: the target needs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResyncConfig {
    /// Limits of the rate; without any it is found out.
    pub limits: ResyncLimits,
    /// Blocks that are marked but alike are found by their digests and not sent.
    pub csums: bool,
    /// Blocks of zeroes may become holes on the peer's disk.
    pub rs_discard: bool,
    /// Volumes that may be in resync at once; `None`, and zero: all.
    pub max_parallel: Option<u16>,
}

impl Default for ResyncConfig {
    fn default() -> Self {
        Self {
            limits: ResyncLimits::default(),
            csums: false,
            rs_discard: true,
            max_parallel: None,
        }
    }
}

/// How clients' writes are mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirroring {
    /// When a write is answered; must be the same on both nodes.
    pub protocol: Protocol,
    /// What is done when more is on its way to the peer than the next two allow.
    pub on_congestion: OnCongestion,
    /// Bytes of clients' changes on their way to the peer from which on the link is congested (DRBD's
    /// `congestion-fill`). Half of the pool is the limit in any case.
    pub congestion_fill: u64,
    /// Extents of a volume's activity log that requests on their way hold from which on the link is congested
    /// (DRBD's `congestion-extents`); `None`: they are not counted.
    pub congestion_extents: Option<u32>,
}

impl Default for Mirroring {
    fn default() -> Self {
        Self {
            protocol: Protocol::C,
            on_congestion: OnCongestion::Block,
            congestion_fill: 2 << 20,
            congestion_extents: None,
        }
    }
}

/// What is done when the link to the peer is congested (DRBD's `on-congestion`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCongestion {
    /// Clients wait for the peer.
    #[default]
    Block,
    /// Writes are marked out of sync instead of sent, and resynced later. Only with [`Protocol::A`].
    PullAhead,
    /// The connection is dropped, and made anew later.
    Disconnect,
}

/// When a client's write is answered while it is mirrored (DRBD's `protocol`). A flush, and a write with FUA, is
/// answered when it is durable on both nodes, whatever the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// When this node's disk has completed it and it is queued for the peer.
    A,
    /// When this node's disk has completed it and the peer has received it.
    B,
    /// When both nodes' disks have completed it.
    #[default]
    C,
}

impl Protocol {
    /// Its letter.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::A => 'A',
            Self::B => 'B',
            Self::C => 'C',
        }
    }
}

/// Volumes of a resource at most.
pub const MAX_VOLUMES: usize = 16;

/// One volume, as the configuration names it.
#[derive(Debug, Clone)]
pub struct VolumeConfig {
    /// Index: the number in `vol0`; the same on both nodes.
    pub index: u16,
    /// Smallest unit of a request in bytes: 512 or 4096; the same on both nodes.
    pub block_size: u32,
    /// Bytes of the local disk; 0: there is none.
    pub disk_bytes: u64,
    /// Where the metadata is, or belongs.
    pub metadata: MetadataPlace,
    /// Metadata is created for a volume of so many bytes at most; `None`: as many as fit.
    pub size_limit: Option<u64>,
    /// Whether the disk can discard; otherwise discards are acknowledged and forgotten locally.
    pub can_discard: bool,
    /// Whether the disk can write zeroes; otherwise the pump writes a zeroed buffer instead.
    pub can_write_zeroes: bool,
    /// Index of the volume whose resync from this node goes before this one's.
    pub resync_after: Option<u16>,
}

/// What to do when disks fail; each node may have its own opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trouble {
    /// A write that the local disk refuses.
    pub on_io_error: OnIoError,
    /// Requests that no good disk can serve.
    pub on_no_data: OnNoData,
    /// A disk that has not completed an operation after so many microseconds is given up; 0: never.
    pub disk_timeout: Micros,
}

/// What becomes of a write that the local disk of the Primary refuses (DRBD's `on-io-error`). A failed flush,
/// failed metadata, and a Secondary's failed write always detach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnIoError {
    /// The disk is not used any more; the Primary goes on through its peer, and clients notice nothing.
    #[default]
    Detach,
    /// The client is told, and the disk stays in use.
    PassOn,
}

/// What becomes of requests while no good disk can be reached (DRBD's `on-no-data-accessible`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNoData {
    /// They wait until a good disk is back.
    #[default]
    SuspendIo,
    /// They fail.
    IoError,
}

/// Where a volume's metadata is (docs/ONDISK.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataPlace {
    /// At the end of the volume's own disk.
    Internal,
    /// On a disk of its own.
    External {
        /// Bytes of that disk.
        disk_bytes: u64,
    },
}

/// The engine's times, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Timers {
    /// A peer that was silent for so long is lost (DRBD's `timeout`; default 6 s).
    pub timeout: Micros,
    /// Heartbeat when the link is otherwise silent (default a third of `timeout`).
    pub ping_interval: Micros,
    /// Pause between attempts to connect (DRBD's `connect-int`).
    pub connect_interval: Micros,
}

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
    /// The driver found the disk's capacity changed, or the disk gone.
    DiskChanged {
        /// Index of the volume.
        volume: u16,
        /// It is the disk that has the volume's metadata alone.
        metadata: bool,
        /// New capacity in bytes; 0 when the disk is gone.
        size: u64,
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
    /// A command ended.
    CommandDone {
        /// Its number.
        id: CommandId,
        /// A word of success or what is wrong and what to do.
        result: Result<Text, Text>,
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

/// The operator's verbs that concern the engine, by DRBD's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Become Primary. Without `force` only next to a connected Secondary and on an UpToDate disk.
    Primary {
        /// The operator vouches that this node's data is the one to go on with.
        force: bool,
    },
    /// Become Secondary. Refused while clients have a volume open, unless `force` drops them.
    Secondary {
        /// Drop the clients.
        force: bool,
    },
    /// Look for the peer (again).
    Connect {
        /// After a split brain: give up this node's changes (it becomes the sync target).
        discard_my_data: bool,
    },
    /// Find out what [`Command::Connect`] would lead to, and change nothing: the nodes meet, decide and part. Answered
    /// when they have; [`crate::engine::Engine::forecasts`] tells what was decided.
    DryRun {
        /// As for [`Command::Connect`].
        discard_my_data: bool,
    },
    /// Read the metadata of the volume as it is on the disk, whether that is attached or not.
    /// [`crate::engine::Engine::inspection`] tells what was found.
    Inspect {
        /// Index of the volume.
        volume: u16,
    },
    /// Leave the peer and do not look for it.
    Disconnect,
    /// The operator states that the disks of both nodes are identical (fresh and blank, or
    /// compared): both become UpToDate without a resync. DRBD's `new-current-uuid --clear-bitmap`.
    NewCurrentUuid,
    /// Take the volume's disk into use (again): after it failed or was detached.
    Attach {
        /// Index of the volume.
        volume: u16,
    },
    /// Take the volume's disk out of use, its metadata in order. Refused where no good disk would be left.
    Detach {
        /// Index of the volume.
        volume: u16,
        /// At once, as if it had failed, and even if no good disk is left.
        force: bool,
    },
    /// Hold clients' requests back, unanswered.
    SuspendIo,
    /// End of [`Command::SuspendIo`].
    ResumeIo,
    /// Create metadata on the volume's disk and attach it. Whatever metadata was there is lost.
    CreateMd {
        /// Index of the volume.
        volume: u16,
        /// Even if the disk seems to hold somebody's data.
        force: bool,
    },
    /// Hold resyncs, whichever node is the source, until [`Command::ResumeSync`] on this node.
    PauseSync {
        /// Index of the volume; `None`: all.
        volume: Option<u16>,
    },
    /// End [`Command::PauseSync`] of this node.
    ResumeSync {
        /// Index of the volume; `None`: all.
        volume: Option<u16>,
    },
    /// Compare both nodes' disks. Answered when it has begun; what it finds goes to the log and the status.
    Verify {
        /// Index of the volume.
        volume: u16,
        /// First byte; `None`: where an unfinished one stopped, or 0.
        start: Option<u64>,
        /// First byte that is not compared any more; `None`: the end.
        stop: Option<u64>,
        /// Copy blocks that differ from this node to the peer.
        repair: bool,
    },
    /// End a verify of this node; the next one goes on from there.
    VerifyAbort {
        /// Index of the volume.
        volume: u16,
    },
    /// Give up this node's copy of a volume: all of it is copied from the peer.
    Invalidate {
        /// Index of the volume.
        volume: u16,
    },
    /// Give up the peer's copy of a volume: all of it is copied from this node.
    InvalidateRemote {
        /// Index of the volume.
        volume: u16,
    },
    /// Note durably that this node's data is not the newest.
    Outdate,
    /// Let a volume grow on both nodes, whose disks were enlarged.
    Resize {
        /// Index of the volume.
        volume: u16,
        /// To so many bytes; `None`: as far as the disks of both nodes allow.
        size: Option<u64>,
        /// The operator states that the new part is identical on both disks: it is not copied.
        assume_clean: bool,
    },
}

/// A node's role in the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Not known (of a peer that is not connected).
    Unknown,
    /// Mirrors, serves nobody.
    Secondary,
    /// Serves clients.
    Primary,
}

/// State of a disk, ordered from worst to best; DRBD's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskState {
    /// There is no disk.
    Diskless,
    /// Its metadata is being read.
    Attaching,
    /// The disk answered an error and is not used any more.
    Failed,
    /// Its metadata is read; the handshake with the peer decides what it is worth.
    Negotiating,
    /// A sync target in progress, or one that was interrupted.
    Inconsistent,
    /// Known to be older than the peer's.
    Outdated,
    /// Nothing is known: of a peer that is not connected.
    DUnknown,
    /// In itself good, but a peer may have gone on without it.
    Consistent,
    /// Known best.
    UpToDate,
}

/// State of the connection to the peer; DRBD's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not looking for the peer: by command, or after a refusal that needs the operator.
    StandAlone,
    /// About to look for it again.
    Unconnected,
    /// Looking for it.
    Connecting,
    /// TCP stands, the handshake runs.
    Handshake,
    /// Connected.
    Connected,
}

/// What a volume's replication does; DRBD's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicationState {
    /// Not connected.
    Off,
    /// Connected; writes are mirrored.
    Established,
    /// The bitmaps are being united; then this node's blocks go to the peer.
    WFBitMapS,
    /// The bitmaps are being united; then the peer's blocks come here.
    WFBitMapT,
    /// This node's blocks go to the peer.
    SyncSource,
    /// The peer's blocks come here.
    SyncTarget,
    /// As SyncSource, but it waits: [`VolumeStatus::waits`] says for what.
    PausedSyncS,
    /// As SyncTarget, but it waits: [`VolumeStatus::waits`] says for what.
    PausedSyncT,
    /// This node compares its blocks with the peer's, and asked for it.
    VerifyS,
    /// The peer compares its blocks with this node's.
    VerifyT,
    /// The link is congested: this node's writes are noted as out of sync instead of sent.
    Ahead,
    /// The peer is Ahead of this node.
    Behind,
}

impl ReplicationState {
    /// Whether a resync from this node is under way, a waiting one included.
    #[must_use]
    pub const fn is_source(self) -> bool {
        matches!(self, Self::WFBitMapS | Self::SyncSource | Self::PausedSyncS)
    }

    /// Whether a resync to this node is under way, a waiting one included.
    #[must_use]
    pub const fn is_target(self) -> bool {
        matches!(self, Self::WFBitMapT | Self::SyncTarget | Self::PausedSyncT)
    }

    /// Whether writes are mirrored and both disks are the same but for those under way.
    #[must_use]
    pub const fn in_sync(self) -> bool {
        matches!(self, Self::Established | Self::VerifyS | Self::VerifyT)
    }
}

/// Where a volume's metadata is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataKind {
    /// Nowhere: none was found, or none is needed.
    None,
    /// At the end of the data disk.
    Internal,
    /// On a disk of its own.
    External,
}

/// Why clients' requests are held back, unanswered; several reasons may hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suspended {
    /// The operator said `suspend-io`.
    pub user: bool,
    /// Neither this node nor the peer has good data to serve.
    pub no_data: bool,
}

impl Suspended {
    /// Whether any reason holds.
    #[must_use]
    pub const fn any(self) -> bool {
        self.user || self.no_data
    }
}

/// How far a resync or a verify is; which of them, [`VolumeStatus::replication`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done of `total`.
    pub done: u64,
    /// Bytes it had to do at its start, and was given since.
    pub total: u64,
    /// Bytes per second over the last few seconds.
    pub rate_now: u64,
    /// Bytes per second over the last 18 s or so.
    pub rate_18s: u64,
    /// Bytes per second over its life so far, pauses left out.
    pub rate_avg: u64,
    /// Seconds that the rest takes at the rate of the last 18 s; `None` while nothing moves.
    pub eta_seconds: Option<u64>,
    /// Whether nothing has moved for long enough that someone should look.
    pub stalled: bool,
}

/// What the last verify that this node ran has found, or the running one so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyReport {
    /// It still runs.
    pub running: bool,
    /// It came to its end; otherwise the next one goes on at `position`.
    pub finished: bool,
    /// Everything that it was to compare before this byte was compared.
    pub position: u64,
    /// Bytes compared.
    pub compared: u64,
    /// Blocks of 4 KiB that differ.
    pub differing_blocks: u64,
    /// Blocks of these that were copied from this node to the peer.
    pub repaired_blocks: u64,
    /// Bytes that one of the disks could not read.
    pub unreadable_bytes: u64,
}

/// A snapshot of everything an operator may ask.
#[derive(Debug, Clone)]
pub struct Status {
    /// This node.
    pub node: Name,
    /// The peer's name.
    pub peer: Name,
    /// The resource.
    pub resource: Name,
    /// This node's role.
    pub role: Role,
    /// The peer's role, as it last said while connected.
    pub peer_role: Role,
    /// The connection.
    pub connection: ConnectionState,
    /// When clients' writes are answered.
    pub protocol: Protocol,
    /// Why the node is StandAlone or what it waits for; empty when nothing is amiss.
    pub reason: Text,
    /// NBD clients with an open volume.
    pub open_clients: u32,
    /// Whether clients are served.
    pub serving: bool,
    /// Whether and why clients' requests are held back.
    pub suspended: Suspended,
    /// Per volume.
    pub volumes: heapless::Vec<VolumeStatus, MAX_VOLUMES>,
}

/// A volume's part of [`Status`].
#[derive(Debug, Clone)]
pub struct VolumeStatus {
    /// Index.
    pub index: u16,
    /// Bytes.
    pub size: u64,
    /// The local disk.
    pub disk: DiskState,
    /// The peer's disk.
    pub peer_disk: DiskState,
    /// What the replication does.
    pub replication: ReplicationState,
    /// Bytes that differ or may differ from the peer's.
    pub out_of_sync: u64,
    /// The running resync or verify, paused ones included; `None` without one.
    pub progress: Option<Progress>,
    /// What the resync or verify waits for, to follow "waits:"; empty when it does not wait.
    pub waits: Text,
    /// The last verify of this node since it started; `None` without one.
    pub verify: Option<VerifyReport>,
    /// Extents that the activity log holds hot.
    pub activity_hot: u32,
    /// Extents that it can hold hot; 0 without an activity log.
    pub activity_limit: u32,
    /// Where the metadata is.
    pub metadata: MetadataKind,
    /// Bytes answered to clients that the peer has not acknowledged (protocols A and B).
    pub lag_bytes: u64,
    /// Current generation identifier; 0: none known.
    pub current_uuid: u64,
    /// Generation in which the peer was lost; 0: none.
    pub bitmap_uuid: u64,
    /// Bytes that clients read and wrote here, and that the peer's writes brought, since boot.
    pub read_bytes: u64,
    /// See `read_bytes`.
    pub written_bytes: u64,
    /// See `read_bytes`.
    pub received_bytes: u64,
}
