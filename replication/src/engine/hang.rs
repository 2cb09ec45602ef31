//! Operations that are at a disk, and disks that do not answer (DRBD's `disk-timeout`).
//!
//! A disk that has not completed an operation in time is given up. What was under way there ends as failed; but
//! the device may still read or write the buffers it was given, at any time. So such an operation keeps its slot,
//! and with it its number and its buffer, until it does complete ([`Owner::Abandoned`]); only so many may do so
//! that there always are slots for everybody else. A disk is attached again only when nothing of
//! earlier days is under way on it.
//!
//! A node that stood still (its virtual machine was paused, or its clock jumped) finds everything late at once, and its disk is not to blame.
//! So operations are timed by a clock of their own, which stops where a tick that was due does not come. While
//! operations are under way one is due at least every quarter of the timeout: standing still counts for no more than that.

use super::attach::Attach;
use super::meta::Lane;
use super::slots::{Local, Owner, Remote, Slot, SlotId};
use super::{Engine, Queued, RESYNC_SLOTS, text};
use crate::api::{DiskOp, DiskState, Micros};
use crate::buf::Mem;

/// Slots that may be abandoned at once, for an engine with so many clients' requests.
pub(super) fn abandoned_limit(max_requests: u16) -> usize {
    usize::from(max_requests) + usize::from(RESYNC_SLOTS)
}

impl Engine {
    /// Issues an operation of a slot.
    pub(super) fn issue(&mut self, id: SlotId, op: DiskOp) {
        self.issue_there(id, op, false);
    }

    /// As [`Engine::issue`], perhaps to the disk that has the metadata.
    pub(super) fn issue_there(&mut self, id: SlotId, op: DiskOp, metadata: bool) {
        let now = self.awake;
        let slot = self.slots.at(id);
        slot.at_disk = true;
        slot.since = now;
        let at = slot.volume;
        self.op_begins(at);
        let volume = self.volumes[at].config.index;
        let token = id;
        self.queue.push(if metadata {
            Queued::Meta { token, volume, op }
        } else {
            Queued::Disk { token, volume, op }
        });
    }

    /// An operation, also one on metadata, goes to the disk.
    pub(super) fn op_begins(&mut self, at: usize) {
        self.volumes[at].ops += 1;
        let limit = self.config.trouble.disk_timeout;
        if limit > 0 && self.hang_check.is_none() {
            self.hang_check = Some(self.now + limit.div_ceil(4));
        }
    }

    /// It is `now`: moves the clock on that operations are timed by.
    pub(super) fn stay_awake(&mut self, now: Micros) {
        let due = self.hang_check.unwrap_or(now);
        self.awake += now.min(due).saturating_sub(self.now);
    }

    /// It completed.
    pub(super) fn op_ended(&mut self, at: usize) {
        let Some(left) = self.volumes[at].ops.checked_sub(1) else {
            unreachable!("more disk operations ended than began")
        };
        self.volumes[at].ops = left;
    }

    /// The disk has done with a slot's operation; answers whether anybody still waits for that.
    pub(super) fn take_back(&mut self, id: SlotId, mem: &mut Mem<'_>) -> bool {
        let known = self.slots.get(id).is_some_and(|s| s.at_disk);
        assert!(known, "completion of a disk operation that was not issued");
        let slot = self.slots.at(id);
        slot.at_disk = false;
        let (at, waits) = (slot.volume, slot.local == Local::Disk);
        let took = self.awake.saturating_sub(slot.since);
        self.volumes[at].latencies.disk.record(took);
        if let Some(lent) = slot.lent.take() {
            mem.free(lent);
        }
        if slot.owner == Owner::Abandoned {
            self.abandoned -= 1;
            if let Some(buf) = self.slots.remove(id).buf {
                mem.free(buf);
            }
        }
        self.op_ended(at);
        waits
    }

    /// Removes a slot that ended. If the disk still has its number, that stays behind, with the buffer.
    pub(super) fn take_out(&mut self, id: SlotId) -> Slot {
        let slot = self.slots.at(id);
        if !slot.at_disk {
            return self.slots.remove(id);
        }
        let buf = slot.lent.take().or_else(|| slot.buf.take());
        self.abandoned += 1;
        self.slots.abandon(id, buf)
    }

    pub(super) fn hang_deadline(&self) -> Option<Micros> {
        self.hang_check
    }

    /// The time that disks have was changed: what is under way is looked at by the new one.
    pub(super) fn time_disks(&mut self) {
        let limit = self.config.trouble.disk_timeout;
        let busy = self.volumes.iter().any(|volume| volume.ops > 0);
        self.hang_check = (limit > 0 && busy).then(|| self.now + limit.div_ceil(4));
    }

    /// Gives up the disks that have not answered in time.
    pub(super) fn check_hangs(&mut self, mem: &mut Mem<'_>) {
        if self.hang_check.is_none_or(|at| at > self.now) {
            return;
        }
        self.hang_check = None;
        let limit = self.config.trouble.disk_timeout;
        for at in 0..self.volumes.len() {
            if self.volumes[at].ops == 0 {
                continue;
            }
            if self
                .oldest_op(at)
                .is_some_and(|since| since + limit <= self.awake)
            {
                let seconds = limit / 1_000_000;
                let why = text!(
                    "it has not answered for {seconds} s (disk-timeout), with {} operations under way",
                    self.volumes[at].ops
                );
                self.give_up_disk(at, &why, mem);
            }
            // What could not be given up is looked at again.
            let quarter = limit.div_ceil(4);
            let next = self.oldest_op(at).map(|since| {
                let left = (since + limit).saturating_sub(self.awake);
                self.now
                    + if left == 0 {
                        quarter
                    } else {
                        left.min(quarter)
                    }
            });
            self.hang_check = [self.hang_check, next].into_iter().flatten().min();
        }
    }

    /// When the oldest operation that somebody waits for began, by the clock of [`Engine::stay_awake`].
    fn oldest_op(&self, at: usize) -> Option<Micros> {
        let volume = &self.volumes[at];
        let slots = (0..self.slots.capacity() as SlotId)
            .filter_map(|id| self.slots.get(id))
            .filter(|slot| slot.volume == at && slot.local == Local::Disk)
            .map(|slot| slot.since);
        let flush = &volume.flush;
        let waited = flush.busy && !flush.running.is_empty();
        let lanes = volume.lane_since.iter().copied().flatten();
        let lanes = lanes.filter(|_| volume.usable() || volume.busy_attaching());
        slots
            .chain(waited.then_some(flush.since))
            .chain(lanes)
            .min()
    }

    /// The disk hangs: nobody waits for it any more.
    fn give_up_disk(&mut self, at: usize, why: &str, mem: &mut Mem<'_>) {
        if self.volumes[at].busy_attaching() {
            self.give_up_attaching(at, why);
        }
        self.fail_disk(at, why, mem);
        for id in 0..self.slots.capacity() as SlotId {
            let hangs = self
                .slots
                .get(id)
                .is_some_and(|s| s.volume == at && s.local == Local::Disk);
            if hangs && self.abandoned < abandoned_limit(self.config.max_requests) {
                let slot = self.slots.at(id);
                slot.local = Local::Failed;
                if core::mem::take(&mut slot.repair) {
                    // What the peer sent is in the memory that the disk keeps: the peer is asked anew.
                    slot.remote = Remote::None;
                }
                self.finish_if_done(id, mem);
            }
        }
        self.abandon_flush(at, mem);
    }

    /// The disk hangs while its metadata is read or created; it keeps the buffer.
    fn give_up_attaching(&mut self, at: usize, why: &str) {
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        let attach = core::mem::replace(&mut volume.attach, Attach::NoDisk);
        let reason = text!("vol{index}: cannot be attached: {why}");
        let next = match attach {
            Attach::Reading { buf, .. } => Attach::Stuck(buf),
            Attach::Creating(create) => {
                let (id, buf) = create.into_parts();
                self.done(id, Err(reason.clone()));
                Attach::Stuck(buf)
            }
            other => other,
        };
        self.volumes[at].attach = next;
        self.volumes[at].disk = DiskState::Failed;
        self.attach_ended(at, Err(reason));
        self.tell_state();
    }

    /// A metadata operation goes to the disk.
    pub(super) fn lane_begins(&mut self, at: usize, lane: Lane) {
        self.volumes[at].lane_since[lane as usize] = Some(self.awake);
        self.op_begins(at);
    }

    /// It ended.
    pub(super) fn lane_ended(&mut self, at: usize, lane: Lane) {
        self.volumes[at].lane_since[lane as usize] = None;
        self.op_ended(at);
    }
}
