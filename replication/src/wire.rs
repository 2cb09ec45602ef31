//! Frames of the peer protocol (docs/PROTOCOL.md).
//!
//! A frame is a fixed header, a short body (only the handshake and state frames have one) and,
//! for writes and resync data, a payload. Header and body carry a CRC-32C each, and the header that
//! of the payload, unless the connection's records are sealed ([`crate::secure`]).

mod codec;
mod resize;
#[cfg(test)]
mod tests;

use crate::api::{DiskState, MAX_VOLUMES, Name, Policy, Protocol, Role};
use crate::lineage::Policies;

/// Bytes of a frame's fixed header.
pub const HEADER_LEN: usize = 52;
/// Bytes of a frame's control body at most (handshake, states); bulk data is a payload instead.
pub const MAX_BODY: usize = 256;
/// Bytes of a frame's payload at most.
pub const MAX_PAYLOAD: u32 = crate::buf::MAX_BUF;
/// The protocol version that this code speaks, and the oldest it still understands.
pub const VERSION: u16 = 3;
/// See [`VERSION`].
pub const VERSION_MIN: u16 = 3;
/// Feature bits that this code offers. None are defined yet: a feature is used only when both
/// nodes offer it.
pub const FEATURES: u64 = 0;

/// A message to or from the peer, without its payload.
///
/// `request` numbers are the sender's own and come back unchanged in [`Frame::Ack`] or
/// [`Frame::Nack`]. `volume` is the configured index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// First frame in each direction; [`Frame::HelloVolume`]s follow, one per volume.
    Hello(Hello),
    /// A volume as the sender knows it, in ascending order of index.
    HelloVolume(HelloVolume),
    /// The sender will not work with this peer as things are, and is about to hang up.
    Refuse {
        /// Why.
        reason: Refusal,
        /// The volume concerned, where one is.
        volume: u16,
    },
    /// Heartbeat; answered by [`Frame::Pong`].
    Ping,
    /// Answer to a heartbeat.
    Pong,
    /// Store the payload at `offset`.
    Write {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
        /// First byte.
        offset: u64,
        /// Durable before the acknowledgement.
        fua: bool,
    },
    /// The range is no longer needed.
    Discard {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
        /// Durable before the acknowledgement.
        fua: bool,
    },
    /// The range reads as zeroes afterwards.
    WriteZeroes {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
        /// Whether a hole may be punched.
        unmap: bool,
        /// Durable before the acknowledgement.
        fua: bool,
    },
    /// Make everything acknowledged before durable.
    Flush {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
    },
    /// Send what the range holds: the sender's own disk cannot.
    ReadRequest {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// The payload is what [`Frame::ReadRequest`] asked for.
    ReadReply {
        /// The number of the request.
        request: u64,
        /// The sender's own number, to be acknowledged: until then it keeps the payload.
        reply: u64,
    },
    /// The sender, Primary, has no disk any more that it could serve from, and does so from the receiver's.
    /// That begins generation `uuid` and is the only good one from now on; acknowledged when it is durable.
    DiskLost {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
        /// The new generation identifier; not 0.
        uuid: u64,
    },
    /// The request is done on the sender's disk.
    Ack {
        /// The number of the request.
        request: u64,
    },
    /// The request failed: the sender's disk of that volume is not used any more.
    Nack {
        /// The number of the request.
        request: u64,
    },
    /// The receiver has the write, discard or write-zeroes in its memory (protocol B); [`Frame::Ack`] or
    /// [`Frame::Nack`] follows.
    Received {
        /// The number of the request.
        request: u64,
    },
    /// The sender does not mirror the volume for now: the receiver's copy is Outdated at best; acknowledged
    /// when that is durable. [`Frame::SyncStart`] follows some time.
    Ahead {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
    },
    /// What comes later reaches the receiver's disk when everything that came before is done there: an epoch ends
    /// (protocols A and B).
    Barrier,
    /// The sender's role and disk states, whenever one changed.
    State(State),
    /// The sender wants to become Primary.
    PromoteRequest {
        /// The sender's number.
        request: u64,
    },
    /// Answer to [`Frame::PromoteRequest`]. Who grants stays Secondary until the peer's next
    /// [`Frame::State`].
    PromoteReply {
        /// The number of the request.
        request: u64,
        /// Whether the peer may become Primary.
        granted: bool,
    },
    /// The operator states that both nodes' disks are identical: all volumes are of generation
    /// `uuid` now.
    NewGeneration {
        /// The new generation identifier; not 0.
        uuid: u64,
    },
    /// Answer to [`Frame::NewGeneration`].
    NewGenerationReply {
        /// The identifier from the request.
        uuid: u64,
        /// Whether it was taken over.
        accepted: bool,
    },
    /// A resync of the volume towards the receiver begins: its disk is Inconsistent from now on.
    SyncStart {
        /// Index of the volume.
        volume: u16,
        /// The generation identifier that the receiver's unfinished copy bears, so that an
        /// interrupted resync can go on where it was.
        uuid: u64,
        /// Bytes to bring in sync.
        bytes: u64,
    },
    /// The payload is the next part of the sender's bitmap (`resync::codec`): the sender is the target of
    /// the resync that was announced, and its marks are brought in sync too.
    Bitmap {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
        /// No other part follows.
        last: bool,
    },
    /// The sender, the source of a resync, has added the receiver's marks to its own: so much there is to do.
    SyncLeft {
        /// Index of the volume.
        volume: u16,
        /// Bytes.
        bytes: u64,
    },
    /// Resync: store the payload at `offset`.
    SyncData {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
        /// First byte.
        offset: u64,
    },
    /// Resync: the range is zero.
    SyncZeroes {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
        /// Whether a hole may be punched.
        unmap: bool,
    },
    /// Which blocks of the range are not the same on both disks? The payload is a key of 16 bytes and the
    /// digests of the sender's blocks under it (`resync::digest`). Answered by [`Frame::Compared`].
    Compare {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// Answer to [`Frame::Compare`].
    Compared {
        /// The number of the request.
        request: u64,
        /// What came of it.
        outcome: Comparison,
    },
    /// The sender's operator gives up a whole copy of a volume: `invalidate` or `invalidate-remote`.
    SyncRequest {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
        /// The sender's copy is to be the source, and the receiver's the target; otherwise the reverse.
        sender_is_source: bool,
    },
    /// Answer to [`Frame::SyncRequest`].
    SyncReply {
        /// The number of the request.
        request: u64,
        /// Whether it will be so. The source goes on with [`Frame::SyncStart`].
        granted: bool,
    },
    /// A volume grows on both nodes; answered by [`Frame::ResizeReply`] unless it is the last step.
    Resize(Resize),
    /// Answer to [`Frame::Resize`].
    ResizeReply(ResizeReply),
    /// Every block was acknowledged: flush, be UpToDate with generation `uuid`, acknowledge.
    SyncEnd {
        /// Index of the volume.
        volume: u16,
        /// The sender's number.
        request: u64,
        /// The source's current generation.
        uuid: u64,
    },
}

pub use resize::{Resize, ResizeAnswer, ResizeReply, ResizeStep};

/// The opening of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Oldest protocol version that the sender understands.
    pub version_min: u16,
    /// Newest protocol version that the sender understands.
    pub version_max: u16,
    /// Features that the sender offers.
    pub features: u64,
    /// Random, new for every connection: a node that sees its own is talking to itself.
    pub nonce: u64,
    /// Requests that the sender lets the receiver have unanswered at once (at least 64).
    pub window: u16,
    /// How many [`Frame::HelloVolume`]s follow (1 to [`MAX_VOLUMES`]).
    pub volumes: u8,
    /// The sender's role.
    pub role: Role,
    /// The operator said that the sender's changes may be given up.
    pub discard_my_data: bool,
    /// The sender only asks what would be done: both sides decide, say it, refuse each other with
    /// [`Refusal::DryRun`] and part as they were.
    pub dry_run: bool,
    /// What the sender's operator wants done about a split brain.
    pub policies: Policies,
    /// The sender's name.
    pub node: Name,
    /// The name of the peer that the sender expects.
    pub peer: Name,
    /// The resource's name.
    pub resource: Name,
    /// When the sender answers clients' writes.
    pub protocol: Protocol,
    /// What the sender does when it loses its peer.
    pub fencing: Policy,
    /// What tells the resource from another one of the same name in out-of-band messages; 0: the sender knows none.
    pub identity: u64,
    /// The highest number of a fence that the sender has seen used.
    pub episode: u64,
}

/// What the clients of a Primary without a good disk saw last: what the peer must have, to be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The peer's current generation must be one of these; the first is not 0.
    pub generations: [u64; 2],
    /// And its disk the one under this number, since another may have lost something; 0: any.
    pub instance: u64,
}

/// A volume's identity and lineage in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloVolume {
    /// Index of the volume.
    pub volume: u16,
    /// Bytes.
    pub size: u64,
    /// Smallest unit of a request in bytes.
    pub block_size: u32,
    /// Whether the sender's disk can discard.
    pub can_discard: bool,
    /// State of the sender's disk.
    pub disk: DiskState,
    /// Current generation; 0: none known.
    pub current: u64,
    /// Generation in which the peer was lost; 0: none.
    pub bitmap: u64,
    /// Earlier bitmap generations, newest first; 0: none.
    pub history: [u64; 2],
    /// Dirty blocks of 4 KiB.
    pub dirty: u64,
    /// Drawn by the sender when it attached the disk: a disk under another number may have lost what
    /// was not flushed. 0: there is no disk.
    pub instance: u64,
    /// The sender stopped as Primary without saying so, and nothing has settled since what it wrote last.
    pub crashed: bool,
    /// The sender was Primary when it last lost its peer.
    pub was_primary: bool,
    /// The sender's disk has been in use without a break since it had everything of its generation.
    pub steady: bool,
    /// The sender's operator has paused the volume's resync.
    pub paused: bool,
    /// The sender has a handler to run before a resync of the volume may begin.
    pub handler_due: bool,
    /// There is something that the receiver had acknowledged and not flushed when the connection was lost. If it has lost
    /// that, the sender marks it when it has heard the receiver's greeting; as the target of a resync it tells its marks in any case.
    pub unflushed: bool,
    /// The sender is Primary without a good disk of its own.
    pub seen: Option<Seen>,
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Bit `n` is set if block `n` of the range differs.
    Blocks(u32),
    /// The range cannot be read.
    Unreadable,
    /// There was no memory for it: ask again.
    Busy,
}

/// A volume's part of [`State`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeState {
    /// The sender's disk.
    pub disk: DiskState,
    /// The sender's operator has paused the volume's resync.
    pub paused: bool,
    /// The sender is the source of a resync that waits for other volumes'.
    pub waits: bool,
    /// The sender compares the volume with the receiver's.
    pub verifies: bool,
}

/// Role and disk states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The sender's role.
    pub role: Role,
    /// The sender's volumes, in ascending order of index.
    pub volumes: heapless::Vec<VolumeState, MAX_VOLUMES>,
}

/// Why a node refuses its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No common protocol version.
    Version,
    /// Another resource.
    Resource,
    /// Both nodes have the same name.
    SameName,
    /// Not the name of the configured peer.
    NotThePeer,
    /// The nodes do not have the same volumes.
    Volumes,
    /// A volume's size differs.
    Size,
    /// A volume's block size differs.
    BlockSize,
    /// Both nodes wrote without the other: split brain.
    SplitBrain,
    /// The volumes' data never had anything to do with each other.
    Unrelated,
    /// A Primary would have to take the other's data.
    PrimaryIsTarget,
    /// Both nodes are Primary, though their data would not forbid a connection.
    BothPrimary,
    /// The nodes do not answer writes by the same protocol.
    Protocol,
    /// The nodes do not have the same fencing policy.
    Fencing,
    /// The sender keeps a snapshot of what a resync overwrites, and has no room for it.
    Snapshot,
    /// Nothing is wrong: it was a dry run, and the sender has decided what it would have done.
    DryRun,
}

/// A frame's decoded and checked header: enough to receive the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    kind: u8,
    flags: u8,
    volume: u16,
    body_len: u16,
    payload_len: u32,
    request: u64,
    offset: u64,
    length: u32,
    argument: u64,
    payload_crc: u32,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// The magic number is wrong: not a Palisade peer.
    Magic,
    /// The header's or the body's checksum is wrong.
    Checksum,
    /// A length beyond the limits, or one that does not fit the kind of frame.
    Length,
    /// A kind of frame that this version does not know.
    Kind(u8),
    /// A field with an impossible value.
    Field,
    /// A frame other than the handshake's in a protocol version that this code does not speak.
    Version(u16),
}

impl Header {
    /// Bytes of body that follow the header (at most [`MAX_BODY`]).
    #[must_use]
    pub fn body_len(&self) -> usize {
        usize::from(self.body_len)
    }
    /// Bytes of payload that follow the body (at most [`MAX_PAYLOAD`]).
    #[must_use]
    pub fn payload_len(&self) -> u32 {
        self.payload_len
    }
    /// The payload's CRC-32C, as the sender told it; 0 without a payload and on connections whose
    /// records are sealed.
    #[must_use]
    pub fn payload_crc(&self) -> u32 {
        self.payload_crc
    }
}
