//! The old content of a resync's target, kept until the resync has ended (DRBD's `before-resync-target` and
//! `after-resync-target`).
//!
//! A target is Inconsistent while it is overwritten, and worth nothing if its source is lost for good in the middle. With a
//! reserve (docs/ONDISK.md) it can go back:
//!
//! - **Taking** the snapshot is one save of the superblock, the one that makes the disk Inconsistent: it notes the
//!   former generations and state of the disk. So there is no moment between the two.
//! - **Copying** (`copy`): a block is overwritten only after its old content and the table that says so are durable in the reserve.
//!   Whatever changes the volume waits for that, the resync's data and what clients write meanwhile alike.
//! - **Dropping** it is one save too, the one that makes the disk UpToDate. Where the reserve is full or a block cannot be
//!   read the policy decides: the snapshot is dropped, durably before anything more is overwritten, or the nodes
//!   part, and the reason is named.
//! - **Rolling back** (`rollback`) writes the old content back, marks it as out of sync, and then says so in one
//!   save. A crash in the middle has the next attach do it again from the beginning, before the node says a word to its peer.
//!
//! After that the disk is Outdated, with its former generations. It tells its peer that it is an unfinished target
//! ([`super::volume::Volume::hello`]), so that every peer with a whole copy is its source, whatever the generations say: between equal ones
//! the rules could otherwise take it for as good as the source, which has acknowledged more since. Both nodes' marks unite as
//! in every resync, and this node's have all that was written back. Promoted by force it begins a generation
//! of its own; a source that comes back then finds a split brain.

mod copy;
mod load;
mod read;
mod rollback;

use super::link::Next;
use super::slots::{List, SlotId};
use super::volume::Volume;
use super::{Engine, Slot, text};
use crate::api::{
    CommandId, DiskState, Level, ReplicationState, Role, SnapshotPolicy, SnapshotReport,
    SnapshotStage, Text,
};
use crate::buf::{Buf, Mem, PAGE};
use crate::lineage::Verdict;
use crate::ondisk::snapshot::TableName;
use crate::ondisk::{Reserve, Snapshot, SnapshotState};
use ::resync::BLOCK;
use ::resync::snapshot::Map;
use copy::Stage;
pub(super) use load::Loading;
pub(super) use read::OLDS_MAX;
pub(super) use rollback::Rolling;

/// Why no more can be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Full,
    /// The block with this number cannot be read.
    Unreadable(u64),
}

/// What the reserve's one operation at the disk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Idle,
    /// Planned blocks from this place on are copied, so many at once.
    Copy {
        stage: Stage,
        place: u32,
        count: u32,
    },
    /// See `rollback`.
    Roll {
        write: bool,
        place: u32,
        count: u32,
    },
    Flush,
    /// For nothing any more.
    Void,
}

/// The reserve of a volume whose disk is in use.
#[derive(Debug)]
pub(super) struct Copies {
    reserve: Reserve,
    map: Map,
    /// A table page, and behind it room for the content of blocks.
    buf: Buf,
    job: Job,
    /// Slots that wait until what they overwrite is copied.
    waiting: List,
    /// The next table page of the last group: its copy and sequence.
    next_table: (u8, u64),
    trouble: Option<Trouble>,
    /// There may be slots of before the snapshot was taken.
    settling: bool,
}

impl Copies {
    /// A reserve of which nothing is used.
    fn new(reserve: Reserve, map: Map, buf: Buf) -> Self {
        Self {
            reserve,
            map,
            buf,
            job: Job::Idle,
            waiting: List::EMPTY,
            next_table: (0, 1),
            trouble: None,
            settling: false,
        }
    }

    /// Blocks that are moved at once at most.
    fn at_once(&self) -> u32 {
        (self.buf.capacity() / PAGE).saturating_sub(1)
    }

    fn clear(&mut self) {
        self.map.clear();
        self.next_table = (0, 1);
        self.trouble = None;
        self.settling = false;
        if self.job != Job::Idle {
            self.job = Job::Void;
        }
    }

    pub fn is_idle(&self) -> bool {
        self.job == Job::Idle
    }

    pub fn bytes(&self) -> u64 {
        u64::from(self.buf.capacity())
    }
}

impl Volume {
    /// Whether what is overwritten must be copied first.
    pub fn holds_snapshot(&self) -> bool {
        self.snapshot
            .is_some_and(|snapshot| snapshot.state == SnapshotState::Held)
    }

    /// Whether the disk has its old content again, and was not made the one to go on with since.
    pub fn is_rolled_back(&self) -> bool {
        self.snapshot
            .is_some_and(|snapshot| snapshot.state == SnapshotState::RolledBack)
    }

    /// Forgets the snapshot: the disk is whole without it, or it cannot be had.
    pub fn forget_snapshot(&mut self) {
        self.snapshot = None;
        if let Some(copies) = &mut self.copies {
            copies.clear();
        }
    }

    /// The disk with its old content is the one to go on with. If the lost source may bear the same generation though it has acknowledged
    /// more, what is here takes the name `fresh`.
    pub fn goes_on_from_old(&mut self, fresh: impl FnOnce() -> u64) {
        if let Some(snapshot) = self.snapshot.take()
            && snapshot.same_name
            && self.gens.current == snapshot.gens.current
        {
            self.gens.current = fresh();
        }
    }

    fn blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK)
    }

    fn table_name(&self, group: u32) -> Option<TableName> {
        Some(TableName {
            device_id: self.meta.as_ref()?.superblock.device_id,
            snapshot: self.snapshot?.id,
            group,
        })
    }

    pub fn snapshot_report(&self) -> Option<SnapshotReport> {
        if !self.usable() {
            return None;
        }
        let (used, room) = self.copies.as_ref().map_or((0, 0), |copies| {
            (
                u64::from(copies.map.durable()) * BLOCK,
                u64::from(copies.reserve.slots()) * BLOCK,
            )
        });
        let stuck = self.copies.as_ref().is_some_and(|c| c.trouble.is_some());
        let stage = match self.snapshot.map(|snapshot| snapshot.state) {
            None if self.copies.is_none() => return None,
            None => SnapshotStage::Empty,
            Some(SnapshotState::Held) if stuck => SnapshotStage::Stuck,
            Some(SnapshotState::Held) => SnapshotStage::Held,
            Some(SnapshotState::RollingBack) => SnapshotStage::RollingBack,
            Some(SnapshotState::RolledBack) => SnapshotStage::RolledBack,
        };
        Some(SnapshotReport { stage, used, room })
    }
}

impl Engine {
    /// Why this node, by whose policy there is no resync without a snapshot, may not be the target of one. `blocks` are to be copied
    /// at most.
    fn snapshot_obstacle(&self, at: usize, blocks: u64) -> Option<Text> {
        let volume = &self.volumes[at];
        let index = volume.config.index;
        let required = volume.config.snapshot == SnapshotPolicy::Required;
        if !required || self.role == Role::Primary || volume.snapshot_waived || !volume.usable() {
            return None;
        }
        if volume.holds_snapshot() {
            let trouble = volume.copies.as_ref().and_then(|copies| copies.trouble)?;
            return Some(stuck_text(index, trouble));
        }
        if !volume.is_whole() {
            return None;
        }
        let Some(copies) = &volume.copies else {
            return Some(text!(
                "vol{index}: the resync waits: snapshot is \"required\", and the disk has no reserve for one: 'create-md' with snapshot-reserve, or 'drop-snapshot vol{index}'"
            ));
        };
        let room = u64::from(copies.reserve.slots());
        (blocks > room).then(|| {
            let (needs, has) = (blocks * BLOCK, room * BLOCK);
            text!(
                "vol{index}: the resync waits: its snapshot may need {needs} bytes, and the reserve has room for {has}: enlarge it (snapshot-reserve), or 'drop-snapshot vol{index}'"
            )
        })
    }

    /// At the end of a handshake: why a volume of this node may not become the target that it would be.
    pub(super) fn target_obstacle(&self) -> Option<(u16, Text)> {
        for (at, volume) in self.volumes.iter().enumerate() {
            let Some((Verdict::Target { full }, _)) = volume.verdict else {
                continue;
            };
            let theirs = self.link.peer_volumes.get(at).map_or(0, |v| v.dirty);
            let union = theirs.saturating_add(volume.dirty.count());
            let all = volume.blocks();
            let blocks = if full { all } else { union.min(all) };
            if let Some(reason) = self.snapshot_obstacle(at, blocks) {
                return Some((volume.config.index, reason));
            }
        }
        None
    }

    /// A resync of so many bytes, beside what this node has marked, is about to overwrite the volume; its unfinished copy will bear `uuid`. The
    /// snapshot is taken with the save that notes that. Answers `false` if it may not begin: then the nodes part.
    pub(super) fn take_snapshot(&mut self, at: usize, uuid: u64, bytes: u64) -> bool {
        let id = if self.volumes[at].config.snapshot == SnapshotPolicy::Off {
            0
        } else {
            self.random()
        };
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        let union = bytes.div_ceil(BLOCK).saturating_add(volume.dirty.count());
        let blocks = union.min(volume.blocks());
        let met = volume.replication == ReplicationState::SyncTarget;
        if let Some(reason) = self.snapshot_obstacle(at, blocks) {
            self.part_for_snapshot(reason);
            return false;
        }
        let theirs = self.link.peer_volumes.get(at).map_or(0, |v| v.current);
        let volume = &mut self.volumes[at];
        if volume.holds_snapshot() {
            return true;
        }
        let before = volume.snapshot.take();
        let waived = core::mem::take(&mut volume.snapshot_waived);
        if id == 0 || waived || self.role == Role::Primary || !volume.is_whole() {
            return true;
        }
        let Some(copies) = &mut volume.copies else {
            let why = text!(
                "vol{index}: no snapshot: the disk has no reserve for one ('create-md' with snapshot-reserve makes one)"
            );
            self.log(Level::Warn, why);
            return true;
        };
        let room = u64::from(copies.reserve.slots());
        if blocks > room {
            let (needs, has) = (blocks * BLOCK, room * BLOCK);
            let why = text!(
                "vol{index}: no snapshot: it may need {needs} bytes, and the reserve has room for {has}"
            );
            self.log(Level::Warn, why);
            return true;
        }
        copies.clear();
        copies.settling = true;
        // Only a handshake that has just been can tell that the source has gone on since.
        let went_on = met && theirs != 0 && theirs != volume.gens.current;
        let same_before = before.is_some_and(|before| before.same_name);
        volume.snapshot = Some(Snapshot {
            id,
            state: SnapshotState::Held,
            gens: volume.gens,
            same_name: same_before || (uuid == volume.gens.current && !went_on),
            disk: match volume.disk {
                DiskState::Outdated => DiskState::Outdated,
                _ => DiskState::Consistent,
            },
        });
        // What was under way before belongs to the old content.
        for id in 0..self.slots.capacity() as SlotId {
            let ours = |s: &Slot| s.volume == at && s.changes_data();
            if self.slots.get(id).is_some_and(ours) {
                self.slots.at(id).before_snapshot = true;
            }
        }
        self.log(
            Level::Info,
            text!(
                "vol{index}: snapshot taken before the resync; it may need {} bytes of {}",
                blocks * BLOCK,
                room * BLOCK
            ),
        );
        true
    }

    /// The resync may not go on without its snapshot.
    fn part_for_snapshot(&mut self, reason: Text) {
        self.complain(Level::Error, reason);
        self.close_link(Next::RetrySlowly);
    }

    /// No more can be copied.
    fn snapshot_trouble(&mut self, at: usize, trouble: Trouble, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        let Some(copies) = &mut volume.copies else {
            return;
        };
        copies.map.forget_planned();
        if volume.config.snapshot == SnapshotPolicy::Required {
            copies.trouble = Some(trouble);
            return self.part_for_snapshot(stuck_text(index, trouble));
        }
        // Nothing is overwritten before that is durable: see the gate.
        volume.forget_snapshot();
        let why = match trouble {
            Trouble::Full => text!("its reserve is full"),
            Trouble::Unreadable(block) => {
                text!(
                    "the disk cannot read its old content at byte {}",
                    block * BLOCK
                )
            }
        };
        self.log(
            Level::Warn,
            text!("vol{index}: the snapshot is dropped: {why}; the resync goes on"),
        );
        self.save(at, mem);
        self.release_copies(at);
    }

    /// `drop-snapshot`.
    pub(super) fn drop_snapshot(&mut self, id: CommandId, index: u16, mem: &mut Mem<'_>) {
        let Some(at) = self.volume_by_index(index) else {
            return self.done(id, Err(text!("there is no vol{index}")));
        };
        let volume = &mut self.volumes[at];
        let result = if volume.rolling.is_some() {
            Err(text!("vol{index} is being rolled back"))
        } else if volume.holds_snapshot() {
            volume.forget_snapshot();
            self.log(
                Level::Warn,
                text!("vol{index}: the snapshot is dropped by command"),
            );
            self.save(at, mem);
            self.release_copies(at);
            Ok(text!(
                "vol{index}: the snapshot is dropped; only the peer has good data now"
            ))
        } else if volume.config.snapshot == SnapshotPolicy::Required && volume.usable() {
            volume.snapshot_waived = true;
            Ok(text!("vol{index}: its next resync goes without a snapshot"))
        } else {
            Err(text!(
                "vol{index} holds no snapshot, and its resync would not wait for one"
            ))
        };
        self.done(id, result);
    }
}

fn stuck_text(index: u16, trouble: Trouble) -> Text {
    match trouble {
        Trouble::Full => text!(
            "vol{index}: the resync waits: the reserve of its snapshot is full: 'rollback vol{index}', or 'drop-snapshot vol{index}' and go on without"
        ),
        Trouble::Unreadable(block) => text!(
            "vol{index}: the resync waits: the disk cannot read its old content at byte {}: 'rollback vol{index}', or 'drop-snapshot vol{index}' and go on without",
            block * BLOCK
        ),
    }
}
