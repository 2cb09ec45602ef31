//! What an engine is configured with, fixed for its life.

use super::{Micros, Name};
use crate::lineage::Policies;
pub use fencing::Policy;
pub use fencing::api::OnTimeout;
pub use resync::controller::Limits as ResyncLimits;

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
    /// What is done when the peer is lost.
    pub fencing: FencingConfig,
    /// Seed of the generation identifiers: must be unpredictable in production, fixed in tests.
    pub seed: u64,
    /// Client requests that may be in the engine at once (a power of two, 64 to 4096).
    pub max_requests: u16,
}

/// What is done about a peer that is not connected, and whom this node can ask (docs/FENCING.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FencingConfig {
    /// What a Primary does when it loses its peer; must be the same on both nodes.
    pub policy: Policy,
    /// The peer's management endpoint can be asked ([`Action::Ask`](super::Action::Ask)).
    pub peer_endpoint: bool,
    /// There is an arbiter to be asked.
    pub arbiter: bool,
    /// What becomes of frozen clients when nobody has decided in time.
    pub on_timeout: OnTimeout,
    /// In so many microseconds a fence must be decided.
    pub timeout: Micros,
    /// A node that wants to become Primary waits so many microseconds for its peer before it asks the arbiter.
    pub peer_wait: Micros,
    /// Pause in microseconds before a question is asked again; it doubles up to eight times as long.
    pub retry: Micros,
    /// Clients that wait ([`Event::WaitingClients`](super::Event::WaitingClients)) are reason enough to become Primary, by the
    /// same rules as by the command without `--force` (DRBD's `auto-promote`).
    pub auto_promote: bool,
    /// With `auto_promote`: so is the loss of a peer that was Primary. For exports whose address moves with the Primary, so that
    /// its clients reach no standby.
    pub promote_at_loss: bool,
    /// The arbiter is told of the occasions for handlers ([`fencing::Event`]), and this is for how many microseconds it is asked
    /// about one; `None`: it is not told.
    pub notify: Option<Micros>,
}

impl Default for FencingConfig {
    fn default() -> Self {
        Self {
            policy: Policy::DontCare,
            peer_endpoint: false,
            arbiter: false,
            on_timeout: OnTimeout::KeepFrozen,
            timeout: 30_000_000,
            peer_wait: 1_000_000,
            retry: 250_000,
            auto_promote: false,
            promote_at_loss: false,
            notify: None,
        }
    }
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
    /// What is done for the old content before a resync to this node begins.
    pub snapshot: SnapshotPolicy,
    /// Bytes of the disk with the metadata that are set aside for it when metadata is created.
    pub snapshot_reserve: u64,
}

/// Whether a resync's target keeps what the resync overwrites, until it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotPolicy {
    /// It does not.
    #[default]
    Off,
    /// It does if there is room; the resync goes on in any case.
    BestEffort,
    /// There is no resync without that.
    Required,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// A peer that was silent for so long is lost (DRBD's `timeout`; default 6 s).
    pub timeout: Micros,
    /// Heartbeat when the link is otherwise silent (default a third of `timeout`).
    pub ping_interval: Micros,
    /// Pause between attempts to connect (DRBD's `connect-int`).
    pub connect_interval: Micros,
}
