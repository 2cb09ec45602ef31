//! What the engine knows of one volume.

use super::attach::{Attach, Lanes};
use super::congestion::Ahead;
use super::detach::Detaching;
use super::epochs::Lag;
use super::grow::Growth;
use super::inspect::Inspecting;
use super::invalidate::Preparing;
use super::meta::{Lane, Meta, Unsure};
use super::resize::Following;
use super::slots::List;
use super::snapshot::{Copies, Rolling};
use super::through::Through;
use super::verify::Verifying;
use crate::api::{CommandId, DiskState, Micros, ReplicationState, Role, VolumeConfig};
use crate::latency::Latencies;
use crate::lineage::{Generations, JUST_CREATED, Rule, Side, Verdict};
use crate::mutation::{self, Mutation};
use crate::ondisk::{Depth, Snapshot, Survey};
use crate::wire::HelloVolume;
use alloc::boxed::Box;
use resync::codec::{Decoder, Encoder};
use resync::digest::Digest;
use resync::{Bitmap, Progress, Scheduler};

/// Coalesces flushes of one disk: those waiting when one is issued are all served by it.
#[derive(Debug)]
pub(super) struct FlushQueue {
    /// Served by the next flush.
    pub waiting: List,
    /// Served by the running flush.
    pub running: List,
    pub busy: bool,
    /// Since when it runs, by the clock that disks are timed by.
    pub since: Micros,
}

/// A resync from this node.
#[derive(Debug)]
pub(super) struct SyncSource {
    pub scheduler: Scheduler,
    /// The target's bitmap is still coming in.
    pub uniting: Option<Decoder>,
    /// The end was announced; its acknowledgement is awaited.
    pub ending: bool,
    /// After a block that could not be read: do not try the next one before.
    pub paused_until: Micros,
    /// Where the last run that could not be read begins, until it could.
    pub unreadable: Option<u64>,
    /// The peer's disk was what failed at `unreadable`.
    pub peer_failed: bool,
    /// Digests are compared before blocks are sent, under this key.
    pub key: Option<Digest>,
}

#[derive(Debug)]
pub(super) struct Volume {
    pub config: VolumeConfig,
    /// Bytes; 0 until the metadata or the peer told it.
    pub size: u64,
    /// Bytes that clients were told: not more than `size`.
    pub offered: u64,
    /// It grows on this node's disk.
    pub growth: Option<Box<Growth>>,
    /// The peer leads its growth.
    pub following: Option<Following>,
    /// From this byte on the volume is new and marked, and its resync has not begun.
    pub unsynced_from: Option<u64>,
    /// How far the disk is from being used, or why it is not.
    pub attach: Attach,
    /// Pages that metadata is written from, once they were taken.
    pub lanes: Option<Lanes>,
    /// The metadata of the attached disk.
    pub meta: Option<Box<Meta>>,
    /// Slots that wait for the activity log or the superblock.
    pub gate: List,
    /// Slots that are done and whose answers wait for the superblock.
    pub held: List,
    /// The old content of a resync's target, or what is left of it: what the superblock says of it.
    pub snapshot: Option<Snapshot>,
    /// The reserve that it is in; only if there is one, and it is used.
    pub copies: Option<Box<Copies>>,
    /// The old content is being written back.
    pub rolling: Option<Rolling>,
    /// The snapshot whose content whoever exports it knows to be readable.
    pub old_offered: Option<u64>,
    /// The operator wants the next resync to go without.
    pub snapshot_waived: bool,
    /// How a Primary goes on without a good disk.
    pub through: Through,
    /// The operator takes the disk out of use.
    pub detaching: Option<Detaching>,
    /// Who waits for the disk to be attached, and until when.
    pub attach_command: Option<(CommandId, Micros)>,
    /// The operator looks at the metadata.
    pub inspecting: Option<Inspecting>,
    /// What is found there, or was the last time.
    pub survey: Box<Survey>,
    /// Operations that the disk, or that of the metadata, has not completed.
    pub ops: u32,
    /// Since when it works on those of each lane of metadata, by that clock.
    pub lane_since: [Option<Micros>; Lane::COUNT],
    /// This node stopped as Primary without saying so, and what it wrote last may differ.
    pub crashed: bool,
    /// Drawn when the disk is attached: a peer that knows another number has to do with a disk that may
    /// have lost what was not flushed.
    pub instance: u64,
    /// The peer's, as it last told; 0: none yet.
    pub peer_instance: u64,
    /// The peer's disk was just created, and nothing is on it.
    pub peer_created: bool,
    pub disk: DiskState,
    pub peer_disk: DiskState,
    pub replication: ReplicationState,
    pub gens: Generations,
    pub dirty: Bitmap,
    /// Client writes go to the peer too.
    pub mirrored: bool,
    /// All of the volume is to replace the peer's copy, and is being made durable before.
    pub preparing: Option<Preparing>,
    /// The beginning of a resync that the peer is told when it is durable: generation and bytes.
    pub start_pending: Option<(u64, u64)>,
    /// What the fence record of the disk, as it was attached, vouched for.
    pub vouched: u64,
    /// This node was Primary when it last lost its peer.
    pub was_primary: bool,
    /// The disk has been in use without a break since it had everything of its generation: whatever a client
    /// was told of that generation is on it, flushed or not.
    pub steady: bool,
    /// Metadata that a failed flush left in doubt.
    pub unsure: Unsure,
    /// The disk was taken out of use with everything of its generation on it, and this was its last superblock.
    pub left: Option<(Generations, u64)>,
    pub peer_can_discard: bool,
    pub lag: Lag,
    pub ahead: Ahead,
    /// How long it stays ahead.
    pub ahead_pause: Micros,
    /// The peer has marks that it tells at the beginning of each resync.
    pub peer_marks: bool,
    /// This node has told the peer that it tells its marks as the target of a resync, also if there are none.
    pub owes_marks: bool,
    pub flush: FlushQueue,
    /// How long its requests take, and where.
    pub latencies: Box<Latencies>,
    pub source: Option<SyncSource>,
    /// On a resync's target: the sending of its bitmap.
    pub sending: Option<Encoder>,
    /// Bytes that the running resync had to do at its start, and when it began.
    pub sync_total: u64,
    pub sync_started: Micros,
    /// Of the running resync or verify.
    pub progress: Option<Progress>,
    /// The peer waits with the resync to this node: paused by its operator, or for another volume's.
    pub peer_paused: bool,
    pub peer_waits: bool,
    /// The peer compares this volume with its own.
    pub peer_verifies: bool,
    /// The order of volumes lets its resync run.
    pub may_run: bool,
    pub verify: Box<Verifying>,
    /// On a sync target: the source has not told yet how much there is to do with the marks of both.
    pub left_unknown: bool,
    /// On a sync target: bytes still to come.
    pub sync_left: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub received_bytes: u64,
    /// What the running handshake told the peer.
    pub told: Option<HelloVolume>,
    /// What the last handshake decided.
    pub verdict: Option<(Verdict, Rule)>,
}

impl Volume {
    pub fn new(config: VolumeConfig) -> Self {
        let (disk, attach) = if config.disk_bytes > 0 {
            (DiskState::Attaching, Attach::Due(0))
        } else {
            (DiskState::Diskless, Attach::NoDisk)
        };
        Self {
            disk,
            size: 0,
            offered: 0,
            growth: None,
            following: None,
            unsynced_from: None,
            attach,
            lanes: None,
            meta: None,
            gate: List::EMPTY,
            held: List::EMPTY,
            snapshot: None,
            copies: None,
            rolling: None,
            old_offered: None,
            snapshot_waived: false,
            through: Through::new(),
            detaching: None,
            attach_command: None,
            inspecting: None,
            survey: Box::new(Survey::new(0, Depth::All)),
            ops: 0,
            lane_since: [None; Lane::COUNT],
            crashed: false,
            instance: 0,
            peer_instance: 0,
            peer_created: false,
            peer_disk: DiskState::DUnknown,
            replication: ReplicationState::Off,
            gens: Generations::default(),
            dirty: Bitmap::new(0),
            mirrored: false,
            preparing: None,
            start_pending: None,
            was_primary: false,
            vouched: 0,
            steady: false,
            unsure: Unsure::default(),
            left: None,
            peer_can_discard: false,
            lag: Lag::default(),
            ahead: Ahead::No,
            ahead_pause: 0,
            peer_marks: false,
            owes_marks: false,
            flush: FlushQueue {
                waiting: List::EMPTY,
                running: List::EMPTY,
                busy: false,
                since: 0,
            },
            latencies: Box::default(),
            source: None,
            sending: None,
            sync_total: 0,
            sync_started: 0,
            progress: None,
            peer_paused: false,
            peer_waits: false,
            peer_verifies: false,
            may_run: false,
            verify: Box::new(Verifying::new()),
            left_unknown: false,
            sync_left: 0,
            read_bytes: 0,
            written_bytes: 0,
            received_bytes: 0,
            told: None,
            verdict: None,
            config,
        }
    }

    pub fn usable(&self) -> bool {
        self.disk > DiskState::Negotiating
    }

    /// Whether the disk has a whole copy of some generation.
    pub fn is_whole(&self) -> bool {
        self.disk > DiskState::Inconsistent && self.gens.current != JUST_CREATED
    }

    /// Whether `len` bytes at `offset` (not none) lie in the volume, block by block.
    pub fn contains(&self, offset: u64, len: u64) -> bool {
        let block = u64::from(self.config.block_size);
        len > 0
            && offset.is_multiple_of(block)
            && len.is_multiple_of(block)
            && offset.checked_add(len).is_some_and(|end| end <= self.size)
    }

    /// A Secondary without its peer cannot know whether that went on.
    pub fn doubt(&mut self) {
        if self.disk == DiskState::UpToDate && !mutation::is(Mutation::SecondaryKnowsBest) {
            self.disk = DiskState::Consistent;
        }
    }

    /// The peer has all data now.
    pub fn in_sync(&mut self) {
        self.disk = DiskState::UpToDate;
        self.crashed = false;
        self.steady = true;
        self.peer_disk = DiskState::UpToDate;
        self.replication = ReplicationState::Established;
        self.mirrored = true;
        self.peer_marks = false;
        self.owes_marks = false;
        self.through.end();
        self.through.ahead = false;
        self.forget_snapshot();
        self.end_sync();
    }

    /// Forgets the running resync, and stops a verify.
    pub fn end_sync(&mut self) {
        self.stop_verify("the disks are not in sync any more");
        self.source = None;
        self.progress = None;
        (self.peer_waits, self.peer_verifies) = (false, false);
        self.sending = None;
        (self.preparing, self.start_pending) = (None, None);
        (self.sync_total, self.sync_left) = (0, 0);
        self.ahead = Ahead::No;
        self.left_unknown = false;
        if matches!(
            self.replication,
            ReplicationState::SyncSource
                | ReplicationState::SyncTarget
                | ReplicationState::Ahead
                | ReplicationState::Behind
        ) {
            self.replication = ReplicationState::Established;
        }
    }

    /// How it is told to the peer. `paused`: by the operator of this node.
    pub fn hello(&self, paused: bool) -> HelloVolume {
        HelloVolume {
            volume: self.config.index,
            size: self.size,
            block_size: self.config.block_size,
            can_discard: self.config.can_discard,
            // A disk that a live Primary's clients have left behind is no candidate for anything but a target, nor is one
            // that was rolled back.
            disk: match self.disk {
                disk if (self.through.stale || self.is_rolled_back())
                    && disk > DiskState::Inconsistent =>
                {
                    DiskState::Inconsistent
                }
                disk => disk,
            },
            current: self.gens.current,
            bitmap: self.gens.bitmap,
            history: self.gens.history,
            dirty: self.dirty.count(),
            instance: self.instance,
            crashed: self.crashed,
            was_primary: self.was_primary,
            steady: self.steady,
            seen: self.seen(),
            paused,
            handler_due: false,
            unflushed: (self.meta.as_ref()).is_some_and(|meta| !meta.unflushed.is_empty()),
        }
    }
}

/// A node's description of a volume, as the lineage rules take it.
pub(super) fn side(volume: &HelloVolume, role: Role, discard: bool, first: bool) -> Side {
    Side {
        current: volume.current,
        bitmap: volume.bitmap,
        history: volume.history,
        dirty: volume.dirty,
        disk: volume.disk,
        // A Primary that goes on through its peer does not vouch for a disk that was attached again.
        primary: role == Role::Primary && volume.disk == DiskState::UpToDate,
        crashed: volume.crashed,
        was_primary: volume.was_primary,
        steady: volume.steady,
        discard,
        left_behind: false,
        first,
    }
}
