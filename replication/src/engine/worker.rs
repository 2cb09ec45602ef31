//! The worker: what of resyncs and verifies is started now, over all volumes.
//!
//! How much may be in flight is the controller's to say ([`resync::controller`]): as much as keeps an idle
//! pair busy, and beside clients what leaves them most of their rate. On top of that a share of the
//! pool and of the peer's window bounds it, so that clients always find room in both.

use super::slots::{Compare, Local, Op, Owner, Remote, Slot, SlotId};
use super::{Engine, RESYNC_SLOTS};
use crate::api::{MAX_VOLUMES, Micros};
use crate::buf::{Buf, Mem};
use resync::controller::{Held, RUNS_MAX};
use resync::{MAX_RUN, Progress, Run, WaitReason};

/// Pause before memory is looked for again when there was none and nothing is in flight.
const NO_MEMORY_PAUSE: Micros = 10_000;
/// The part of the pool that runs in flight may hold.
const POOL_SHARE: u64 = 4;
/// How often the progress is looked at.
const WATCH: Micros = 1_000_000;
/// A request that takes longer than this is named as what the resync waits for.
const LONG: Micros = 1_000_000;

/// What may still be started in this step.
#[derive(Debug)]
pub(super) struct Budget {
    runs: u32,
    bytes: u64,
}

impl Budget {
    pub fn is_spent(&self) -> bool {
        self.runs == 0 || self.bytes == 0
    }
}

impl Engine {
    /// Starts what may be started, volume after volume.
    pub(super) fn pump_resync(&mut self, mem: &mut Mem<'_>) {
        self.resync_retry = None;
        self.watch_progress();
        if !self.connected() || !self.volumes.iter().any(|v| v.works()) {
            return;
        }
        self.settle_order();
        for at in 0..self.volumes.len() {
            self.end_if_done(at, mem);
        }
        let now = self.now;
        if !self.volumes.iter().any(|v| v.has_work(now)) {
            return self.wake_for_pauses();
        }
        let allowance = self.controller.allowance(now);
        self.held = allowance.held;
        let room = self.runs_max(mem).saturating_sub(self.resyncs_live as u32);
        let mut budget = Budget {
            runs: allowance.runs.min(room),
            bytes: allowance.bytes,
        };
        let volumes = self.volumes.len();
        for n in 0..volumes {
            let at = (self.next_resync_volume + n) % volumes;
            if self.volumes[at].verify.active {
                self.pump_verify(at, &mut budget, mem);
            } else {
                self.pump_source(at, &mut budget, mem);
            }
        }
        self.next_resync_volume = (self.next_resync_volume + 1) % volumes;
        if let Some(wake) = allowance.wake {
            self.wake_resync(wake.max(now + 1));
        }
        self.wake_for_pauses();
    }

    /// Runs in flight at most, whatever the controller allows.
    fn runs_max(&self, mem: &Mem<'_>) -> u32 {
        let memory = mem.total_bytes() / POOL_SHARE / u64::from(MAX_RUN);
        let memory = u32::try_from(memory).unwrap_or(RUNS_MAX);
        let window = self.resync_reserve().saturating_sub(MAX_VOLUMES);
        memory.min(window as u32).clamp(1, RUNS_MAX)
    }

    /// Of the peer's window, what is kept for the resync.
    pub(super) fn resync_reserve(&self) -> usize {
        usize::from(RESYNC_SLOTS).min(self.link.window / 2)
    }

    pub(super) fn wake_resync(&mut self, at: Micros) {
        self.resync_retry = Some(self.resync_retry.map_or(at, |other| other.min(at)));
    }

    fn wake_for_pauses(&mut self) {
        let now = self.now;
        let pauses = self.volumes.iter().filter_map(|v| v.paused_until(now));
        if let Some(until) = pauses.min() {
            self.wake_resync(until);
        }
    }

    /// Memory for the next run of `len` bytes, perhaps a part of it. Without any, it is looked for again.
    pub(super) fn run_buffer(&mut self, len: u32, mem: &mut Mem<'_>) -> Option<Buf> {
        let buf = mem.alloc_up_to(len);
        self.no_memory = buf.is_none();
        if buf.is_none() && self.resyncs_live == 0 {
            self.wake_resync(self.now + NO_MEMORY_PAUSE);
        }
        buf
    }

    /// Starts a run.
    pub(super) fn start_run(
        &mut self,
        at: usize,
        op: Op,
        run: Run,
        (buf, digests): (Buf, Option<Buf>),
        budget: &mut Budget,
    ) {
        budget.runs -= 1;
        budget.bytes = budget.bytes.saturating_sub(u64::from(run.len));
        self.resyncs_live += 1;
        self.controller.started(self.now, run.len);
        self.enter(Slot {
            buf: Some(buf),
            digests,
            ..Slot::new(Owner::Resync, op, at, run.offset, run.len)
        });
    }

    /// A slot of the worker ended.
    pub(super) fn finish_resync(&mut self, slot: Slot, mem: &mut Mem<'_>) {
        self.resyncs_live -= 1;
        self.worker_moved = self.now;
        for buf in [slot.buf, slot.digests].into_iter().flatten() {
            mem.free(buf);
        }
        let slot = Slot {
            buf: None,
            digests: None,
            ..slot
        };
        let good = slot.remote == Remote::Done && slot.local == Local::Done && !slot.orphan;
        if slot.op.reads() && !slot.orphan {
            // The controller has forgotten those of a connection that is gone.
            self.controller
                .finished(self.now, slot.len, slot.began, good);
        }
        match slot.op {
            Op::Verify => self.finish_verify_run(&slot),
            // A run of an earlier resync: the present one's scheduler does not know it.
            _ if slot.orphan => {}
            Op::SyncEnd { .. } if good => self.end_resync(slot.volume),
            Op::Bitmap { last: false } if good && self.volumes[slot.volume].sending.is_some() => {
                self.send_bitmap(slot.volume, mem);
            }
            Op::Read => {
                let copied = match slot.compare {
                    Compare::None => good,
                    Compare::Differ { left, .. } => good && left == 0,
                    Compare::Asked | Compare::Unreadable | Compare::Busy => false,
                };
                self.finish_run(&slot, copied);
            }
            _ => {}
        }
    }

    /// Keeps the figures of the progress up to date.
    pub(super) fn watch_progress(&mut self) {
        let now = self.now;
        if now < self.progress_due {
            return;
        }
        self.progress_due = now + WATCH;
        for volume in &mut self.volumes {
            let left = volume.left();
            if let Some(progress) = &mut volume.progress {
                progress.update(now, left);
            }
        }
    }

    /// What a volume's resync or verify waits for.
    pub(super) fn waits(&self, at: usize, now: Micros) -> Option<WaitReason> {
        let volume = &self.volumes[at];
        if volume.is_target() {
            return self
                .target_waits(at)
                .or_else(|| self.source_silent(at, now));
        }
        if let Some(source) = &volume.source {
            let index = volume.config.index;
            if let Some(reason) = self.order.waits(index) {
                return Some(reason);
            }
            if source.uniting.is_some() || volume.start_pending.is_some() {
                return Some(WaitReason::Bitmap);
            }
            if source.ending {
                return self.long_wait(at, now).or(Some(WaitReason::Flush));
            }
            if let Some(offset) = source.unreadable {
                return Some(if source.peer_failed {
                    WaitReason::FailedOnPeer { offset }
                } else {
                    WaitReason::UnreadableHere { offset }
                });
            }
        } else if !volume.verify.active {
            return None;
        }
        if self.no_memory {
            return Some(WaitReason::NoMemory);
        }
        let held = self.held.map(|held| match held {
            Held::MaxRate => WaitReason::MaxRate,
            Held::Clients => WaitReason::Clients,
        });
        self.long_wait(at, now)
            .or(held)
            .or_else(|| self.share_spent(at, now))
    }

    /// On a target: the source has sent nothing for long, for a reason that only it knows.
    fn source_silent(&self, at: usize, now: Micros) -> Option<WaitReason> {
        let volume = &self.volumes[at];
        let mut progress = volume.progress.clone()?;
        progress.update(now, volume.left());
        let ms = progress.still() / 1000;
        (progress.still() >= 2 * LONG && volume.left() > 0)
            .then_some(WaitReason::SourceSilent { ms })
    }

    /// Nothing of a volume is under way, because others' runs are.
    fn share_spent(&self, at: usize, now: Micros) -> Option<WaitReason> {
        let volume = &self.volumes[at];
        let slots = (0..self.slots.capacity() as SlotId).filter_map(|id| self.slots.get(id));
        let mut runs = slots.filter(|s| s.owner == Owner::Resync && !s.orphan);
        let spent = self.resyncs_live > 0 && !runs.any(|s| s.volume == at);
        (spent && volume.has_work(now)).then_some(WaitReason::Share)
    }

    /// What the oldest run in flight waits for, if it has for long.
    fn long_wait(&self, at: usize, now: Micros) -> Option<WaitReason> {
        if now < self.worker_moved + LONG {
            return None;
        }
        let slots = (0..self.slots.capacity() as SlotId).filter_map(|id| self.slots.get(id));
        let runs = slots.filter(|s| s.volume == at && s.owner == Owner::Resync && !s.orphan);
        let oldest = runs.min_by_key(|slot| slot.began)?;
        let waited = now.saturating_sub(oldest.began);
        if waited < LONG {
            return None;
        }
        let ms = waited / 1000;
        Some(match (oldest.local, oldest.remote) {
            (_, Remote::Sent) => WaitReason::PeerBusy { ms },
            (Local::Waiting, _) => WaitReason::Range,
            (Local::Disk | Local::Flush, _) => WaitReason::DiskBusy { ms },
            _ => WaitReason::InFlight,
        })
    }
}

impl super::volume::Volume {
    /// Whether a resync or a verify of this node is under way.
    pub fn works(&self) -> bool {
        self.source.is_some() || self.verify.active
    }

    /// Whether a run could be started, if the controller allows it.
    pub fn has_work(&self, now: Micros) -> bool {
        if self.verify.active {
            return self.verify.retry_at <= now;
        }
        self.may_run
            && self.start_pending.is_none()
            && self.source.as_ref().is_some_and(|source| {
                !source.ending && source.uniting.is_none() && source.paused_until <= now
            })
    }

    fn paused_until(&self, now: Micros) -> Option<Micros> {
        let until = if self.verify.active {
            self.verify.retry_at
        } else {
            self.source.as_ref()?.paused_until
        };
        (until > now).then_some(until)
    }

    /// Bytes that the running resync or verify still has to do.
    pub fn left(&self) -> u64 {
        if self.verify.active {
            self.verify.state.left_bytes()
        } else if self.is_target() {
            self.sync_left
        } else {
            self.dirty.dirty_bytes()
        }
    }

    /// Begins to measure the progress of what has just begun.
    pub fn begin_progress(&mut self, now: Micros) {
        self.progress = Some(Progress::new(now, self.left()));
    }
}
