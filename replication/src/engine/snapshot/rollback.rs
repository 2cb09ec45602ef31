//! Going back to the old content (`rollback`).
//!
//! 1. Everything in the reserve is read and checked: if any of it is damaged, nothing is changed.
//! 2. The superblock says that the disk is being rolled back. From here on it is only good when that has ended.
//!    All of what is in the reserve is marked as out of sync.
//! 3. Block after block is written back; then the disk is flushed.
//! 4. One save says all of it: the former generations, Outdated, rolled back; and that all is out of sync until the bitmap's
//!    pages say what.
//!
//! The reserve stays as it is all the while, so an attach after a crash begins step 3 again. The nodes do not meet before its
//! end: the source would not know that what it had copied is gone.

use super::super::volume::Volume;
use super::super::{Engine, text};
use super::copy::bytes_in;
use super::{Copies, Job};
use crate::api::{CommandId, DiskError, DiskOp, DiskState, Level, Micros, Role, Text};
use crate::buf::{Mem, PAGE};
use crate::ondisk::{PAGE as PAGE_LEN, Snapshot, SnapshotState};
use ::resync::BLOCK;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The reserve is checked.
    Check,
    /// The superblock is being saved; then what is to be done next.
    Save(After),
    Restore,
    Flush,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Restore,
    Done,
}

/// A rollback under way.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Rolling {
    /// Who waits for it, and until when.
    command: Option<(CommandId, Micros)>,
    step: Step,
    /// What comes next of the reserve.
    place: u32,
}

impl Rolling {
    /// One that a crash cut off.
    pub fn again() -> Self {
        Self {
            command: None,
            step: Step::Restore,
            place: 0,
        }
    }
}

impl Copies {
    /// Whether what was read from a place on is what was once written there.
    fn is_sound(&self, place: u32, count: u32, mem: &Mem<'_>) -> bool {
        let content = mem.bytes(&self.buf).get(PAGE_LEN..).unwrap_or_default();
        let blocks = content.chunks_exact(PAGE_LEN);
        (place..place + count)
            .zip(blocks)
            .all(|(place, content)| crate::crc32c::extend(0, content) == self.map.crc(place))
    }
}

impl Engine {
    /// Whether some volume is being rolled back: the nodes do not meet meanwhile.
    pub(in crate::engine) fn rolling_back(&self) -> bool {
        self.volumes.iter().any(|v| v.rolling.is_some())
    }

    /// `rollback`.
    pub(in crate::engine) fn rollback(&mut self, id: CommandId, index: u16, dry_run: bool) {
        let at = match self.may_roll_back(index) {
            Ok(at) => at,
            Err(why) => return self.done(id, Err(why)),
        };
        let blocks = self.volumes[at]
            .copies
            .as_ref()
            .map_or(0, |c| c.map.durable());
        let (bytes, state) = (
            u64::from(blocks) * BLOCK,
            self.volumes[at]
                .snapshot
                .map_or(DiskState::Outdated, |s| s.disk),
        );
        if dry_run {
            let said = text!(
                "vol{index}: {bytes} bytes would be written back, to what the disk had as {state:?} before the resync; what the source has sent is given up. Nothing was changed"
            );
            return self.done(id, Ok(said));
        }
        let deadline = self.now + self.config.timers.timeout;
        self.volumes[at].rolling = Some(Rolling {
            command: Some((id, deadline)),
            step: Step::Check,
            place: 0,
        });
        self.log(
            Level::Warn,
            text!("vol{index}: is rolled back by command: {bytes} bytes"),
        );
    }

    fn may_roll_back(&self, index: u16) -> Result<usize, Text> {
        let Some(at) = self.volume_by_index(index) else {
            return Err(text!("there is no vol{index}"));
        };
        let volume = &self.volumes[at];
        if volume.rolling.is_some() {
            return Err(text!(
                "vol{index} is being rolled back already: see 'status'"
            ));
        }
        if !volume.usable() || !volume.holds_snapshot() {
            return Err(text!(
                "vol{index} holds no snapshot: there is one only from the beginning of a resync to this node to its end, see 'status'"
            ));
        }
        if self.role == Role::Primary {
            return Err(text!("this node is Primary: run 'secondary' first"));
        }
        if self.link.up {
            return Err(text!(
                "the peer is connected, and can end the resync: run 'disconnect' first if its data is not wanted"
            ));
        }
        Ok(at)
    }

    /// Brings a rollback further, where nothing is at the disk.
    pub(super) fn pump_rollback(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        let Some(rolling) = volume.rolling else {
            return;
        };
        let Some(copies) = &volume.copies else {
            return;
        };
        if !copies.is_idle() || !volume.usable() {
            return;
        }
        // Nothing else may be at work on it.
        let busy = rolling.step == Step::Check
            && rolling.place == 0
            && (!copies.waiting.is_empty() || self.orphans > 0);
        if busy {
            return;
        }
        let volume = &mut self.volumes[at];
        let left = volume
            .copies
            .as_ref()
            .is_some_and(|copies| rolling.place < copies.map.durable());
        match rolling.step {
            Step::Check | Step::Restore if left => self.read_back(at, rolling.place),
            Step::Check => {
                if let Some(snapshot) = &mut volume.snapshot {
                    snapshot.state = SnapshotState::RollingBack;
                }
                volume.mark_old();
                self.roll_on(at, Step::Save(After::Restore));
                self.save(at, mem);
            }
            Step::Save(_) if volume.saving() => {}
            Step::Save(After::Restore) => self.roll_on(at, Step::Restore),
            Step::Save(After::Done) => self.rolled_back(at),
            Step::Restore => {
                if let Some(copies) = &mut volume.copies {
                    copies.job = Job::Flush;
                }
                self.roll_on(at, Step::Flush);
                self.data_op(at, DiskOp::Flush);
            }
            Step::Flush => {}
        }
        let step = self.volumes[at].rolling.map(|rolling| rolling.step);
        let goes_on = matches!(step, Some(Step::Restore | Step::Save(_)))
            && step != Some(rolling.step)
            && !self.volumes[at].saving();
        if goes_on {
            self.pump_rollback(at, mem);
        }
    }

    fn roll_on(&mut self, at: usize, step: Step) {
        if let Some(rolling) = &mut self.volumes[at].rolling {
            (rolling.step, rolling.place) = (step, 0);
        }
    }

    /// Reads from the reserve.
    fn read_back(&mut self, at: usize, place: u32) {
        let Some(copies) = &mut self.volumes[at].copies else {
            return;
        };
        let count = copies.neighbours(place, copies.map.durable());
        copies.job = Job::Roll {
            write: false,
            place,
            count,
        };
        let op = DiskOp::Read {
            offset: copies.reserve.block(place),
            view: copies.content(count * PAGE),
            detect_zeroes: false,
        };
        self.meta_op(at, super::super::meta::Lane::Snapshot, op);
    }

    pub(super) fn roll_done(
        &mut self,
        at: usize,
        (write, place, count): (bool, u32, u32),
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let volume = &mut self.volumes[at];
        let (Some(rolling), Some(copies)) = (&mut volume.rolling, &mut volume.copies) else {
            return;
        };
        let size = volume.size;
        if write {
            if let Err(error) = result {
                let why = text!("it could not be rolled back ({error:?})");
                return self.fail_disk(at, &why, mem);
            }
            rolling.place = place + count;
            volume.through.here.written();
            return;
        }
        if result == Err(DiskError::Gone) {
            return self.fail_reserve(at, DiskError::Gone, mem);
        }
        if result.is_err() || !copies.is_sound(place, count, mem) {
            return self.roll_failed(at, place, mem);
        }
        if rolling.step == Step::Check {
            rolling.place = place + count;
            return;
        }
        copies.job = Job::Roll {
            write: true,
            place,
            count,
        };
        let block = copies.map.block(place);
        let op = DiskOp::Write {
            offset: block * BLOCK,
            view: copies.content(bytes_in(size, block, count)),
        };
        self.data_op(at, op);
    }

    /// Something in the reserve is damaged. If blocks were written back already, nobody knows any more what the disk
    /// has: all of it is out of sync.
    fn roll_failed(&mut self, at: usize, place: u32, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        let Some(rolling) = volume.rolling.take() else {
            return;
        };
        let checking = rolling.step == Step::Check;
        let reason = if checking {
            text!(
                "vol{index}: block {place} of the reserve is damaged, so the disk cannot be rolled back; nothing was changed"
            )
        } else {
            volume.forget_snapshot();
            volume.mark_all_dirty();
            text!(
                "vol{index}: block {place} of the reserve is damaged: the rollback failed, and all of the volume must be copied from the peer"
            )
        };
        self.log(Level::Error, reason.clone());
        if let Some((id, _)) = rolling.command {
            self.done(id, Err(reason));
        }
        self.save(at, mem);
    }

    /// Everything is written back, durably.
    pub(super) fn roll_flushed(
        &mut self,
        at: usize,
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let volume = &mut self.volumes[at];
        if result.is_err() {
            volume.doom();
            return self.fail_disk(at, "a flush failed: what was rolled back may be lost", mem);
        }
        let Some(snapshot) = volume.snapshot else {
            return;
        };
        volume.gens = snapshot.gens;
        volume.disk = DiskState::Outdated;
        (volume.crashed, volume.steady) = (false, false);
        volume.snapshot = Some(Snapshot {
            state: SnapshotState::RolledBack,
            ..snapshot
        });
        if let Some(meta) = &mut volume.meta {
            meta.distrust_pages();
        }
        self.roll_on(at, Step::Save(After::Done));
        self.tell_state();
        self.save(at, mem);
    }

    fn rolled_back(&mut self, at: usize) {
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        let Some(rolling) = volume.rolling.take() else {
            return;
        };
        if let Some(copies) = &mut volume.copies {
            copies.clear();
        }
        let generation = volume.gens.current;
        let said = text!(
            "vol{index}: rolled back to generation {generation:016x}: Outdated; only 'primary --force' makes this node Primary now, and a peer with a whole copy replaces this one"
        );
        self.log(Level::Warn, said.clone());
        if let Some((id, _)) = rolling.command {
            self.done(id, Ok(said));
        }
    }

    /// The disk is not used any more; the next attach goes on, if anything was written back.
    pub(in crate::engine) fn stop_rollback(&mut self, at: usize) {
        let index = self.volumes[at].config.index;
        if let Some(Rolling {
            command: Some((id, _)),
            ..
        }) = self.volumes[at].rolling.take()
        {
            let reason = text!("vol{index}: the disk failed meanwhile; see 'status'");
            self.done(id, Err(reason));
        }
    }

    /// Commands wait for a bounded time.
    pub(in crate::engine) fn tick_rollbacks(&mut self) {
        for at in 0..self.volumes.len() {
            let now = self.now;
            let volume = &mut self.volumes[at];
            let index = volume.config.index;
            if let Some(rolling) = &mut volume.rolling
                && let Some((id, deadline)) = rolling.command
                && deadline <= now
            {
                rolling.command = None;
                let said =
                    text!("vol{index}: is being rolled back; 'status' shows when it is done");
                self.done(id, Ok(said));
            }
        }
    }

    pub(in crate::engine) fn rollback_deadline(&self) -> Option<Micros> {
        let of = |volume: &Volume| Some(volume.rolling?.command?.1);
        self.volumes.iter().filter_map(of).min()
    }
}

impl Volume {
    /// What is about to be written back will be out of sync.
    pub(super) fn mark_old(&mut self) {
        let Self {
            copies,
            dirty,
            meta,
            size,
            ..
        } = self;
        let (Some(copies), Some(meta)) = (copies, meta) else {
            return;
        };
        for place in 0..copies.map.durable() {
            let offset = copies.map.block(place) * BLOCK;
            let len = BLOCK.min(size.saturating_sub(offset));
            dirty.set_range(offset, len);
            meta.touch(offset, len);
        }
    }
}
