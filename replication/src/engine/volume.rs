//! What the engine knows of one volume.

use super::slots::List;
use crate::api::{DiskState, Micros, ReplicationState, Role, VolumeConfig};
use crate::lineage::{Rule, Side, Verdict};
use crate::wire::HelloVolume;
use resync::{Bitmap, Scheduler};

/// Coalesces flushes of one disk: those waiting when one is issued are all served by it.
#[derive(Debug)]
pub(super) struct FlushQueue {
    /// Served by the next flush.
    pub waiting: List,
    /// Served by the running flush.
    pub running: List,
    pub busy: bool,
}

/// A resync from this node.
#[derive(Debug)]
pub(super) struct SyncSource {
    pub scheduler: Scheduler,
    /// The end was announced; its acknowledgement is awaited.
    pub ending: bool,
    /// After a block that could not be read: do not try the next one before.
    pub paused_until: Micros,
    /// Where the last run that could not be read begins, until it could.
    pub unreadable: Option<u64>,
    /// There was no buffer for the next run.
    pub no_memory: bool,
}

#[derive(Debug)]
pub(super) struct Volume {
    pub config: VolumeConfig,
    pub disk: DiskState,
    pub peer_disk: DiskState,
    pub replication: ReplicationState,
    pub current: u64,
    pub bitmap_uuid: u64,
    pub history: [u64; 2],
    pub dirty: Bitmap,
    /// Client writes go to the peer too.
    pub mirrored: bool,
    /// The peer has, or may have, data of the current generation, and could be promoted with it:
    /// going on without it needs a new generation.
    pub peer_has_current: bool,
    pub peer_can_discard: bool,
    pub flush: FlushQueue,
    pub source: Option<SyncSource>,
    /// Bytes that the running resync had to do at its start, and when it began.
    pub sync_total: u64,
    pub sync_started: Micros,
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
        let disk = if config.disk_present {
            DiskState::DUnknown
        } else {
            DiskState::Diskless
        };
        Self {
            disk,
            peer_disk: DiskState::DUnknown,
            replication: ReplicationState::Off,
            current: 0,
            bitmap_uuid: 0,
            history: [0; 2],
            dirty: Bitmap::new(config.size),
            mirrored: false,
            peer_has_current: false,
            peer_can_discard: false,
            flush: FlushQueue {
                waiting: List::EMPTY,
                running: List::EMPTY,
                busy: false,
            },
            source: None,
            sync_total: 0,
            sync_started: 0,
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
        self.disk > DiskState::Failed
    }

    /// Whether `len` bytes at `offset` (not none) lie in the volume, block by block.
    pub fn contains(&self, offset: u64, len: u64) -> bool {
        let block = u64::from(self.config.block_size);
        len > 0
            && offset.is_multiple_of(block)
            && len.is_multiple_of(block)
            && offset
                .checked_add(len)
                .is_some_and(|end| end <= self.config.size)
    }

    /// Begins a new generation; the peer's data is of the old one.
    pub fn rotate(&mut self, uuid: u64) {
        if self.bitmap_uuid != 0 {
            self.history = [self.bitmap_uuid, self.history[0]];
        }
        self.bitmap_uuid = self.current;
        self.current = uuid;
        self.peer_has_current = false;
    }

    /// A Secondary without its peer cannot know whether that went on.
    pub fn doubt(&mut self) {
        if self.disk == DiskState::UpToDate {
            self.disk = DiskState::Consistent;
        }
    }

    /// The peer has all data now.
    pub fn in_sync(&mut self) {
        if self.bitmap_uuid != 0 {
            self.history = [self.bitmap_uuid, self.history[0]];
            self.bitmap_uuid = 0;
        }
        self.disk = DiskState::UpToDate;
        self.peer_disk = DiskState::UpToDate;
        self.replication = ReplicationState::Established;
        self.peer_has_current = true;
        self.mirrored = true;
        self.end_sync();
    }

    /// Forgets the running resync.
    pub fn end_sync(&mut self) {
        self.source = None;
        (self.sync_total, self.sync_left) = (0, 0);
        if matches!(
            self.replication,
            ReplicationState::SyncSource | ReplicationState::SyncTarget
        ) {
            self.replication = ReplicationState::Established;
        }
    }

    pub fn hello(&self) -> HelloVolume {
        HelloVolume {
            volume: self.config.index,
            size: self.config.size,
            block_size: self.config.block_size,
            can_discard: self.config.can_discard,
            disk: self.disk,
            current: self.current,
            bitmap: self.bitmap_uuid,
            history: self.history,
            dirty: self.dirty.count(),
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
        primary: role == Role::Primary,
        crashed: false,
        was_primary: false,
        discard,
        first,
    }
}
