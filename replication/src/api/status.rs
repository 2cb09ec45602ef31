//! What an operator can ask of the engine.

use super::{MAX_VOLUMES, Micros, Name, Policy, Protocol, Text};

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

impl DiskState {
    /// All of them, from the worst to the best.
    pub const ALL: [Self; 9] = [
        Self::Diskless,
        Self::Attaching,
        Self::Failed,
        Self::Negotiating,
        Self::Inconsistent,
        Self::Outdated,
        Self::DUnknown,
        Self::Consistent,
        Self::UpToDate,
    ];
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
    /// The peer was lost, and it is not decided yet whether this node may go on alone.
    pub fencing: bool,
}

impl Suspended {
    /// Whether any reason holds.
    #[must_use]
    pub const fn any(self) -> bool {
        self.user || self.no_data || self.fencing
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

/// A promotion that was denied, since which the node was not Primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedPromotion {
    /// When, in microseconds of the engine's clock.
    pub at: Micros,
    /// Why, and what would help.
    pub why: Text,
    /// It was asked for since clients wait, and not by a command.
    pub for_clients: bool,
}

/// What the snapshot of a resync's target is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotStage {
    /// There is a reserve, and nothing in it.
    Empty,
    /// It keeps the old content until the resync has ended.
    Held,
    /// As held, but the resync may not go on: there is no room for more of it, or a block could not be read.
    Stuck,
    /// The old content is being written back.
    RollingBack,
    /// The disk has the old content again.
    RolledBack,
}

/// A volume's reserve for the old content of a resync's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotReport {
    /// What it is at.
    pub stage: SnapshotStage,
    /// Bytes of old content in the reserve.
    pub used: u64,
    /// Bytes of old content that it has room for; 0 without a reserve in use.
    pub room: u64,
}

/// Everything that an operator may ask.
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
    /// What is done when the peer is lost.
    pub fencing_policy: Policy,
    /// Whether this node fences its peer or is fenced by it, and what is being waited for.
    pub fencing: fencing::Status,
    /// Whether clients that wait are reason enough to become Primary.
    pub auto_promote: bool,
    /// NBD clients that are connected and not greeted, since this node does not serve.
    pub waiting_clients: u32,
    /// The last promotion, if it was denied.
    pub denied: Option<DeniedPromotion>,
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
    /// The reserve for a snapshot; `None` where none is used.
    pub snapshot: Option<SnapshotReport>,
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
