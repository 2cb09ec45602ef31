//! The source of a resync: walks the bitmap, reads blocks, sends them, clears what was
//! acknowledged.
//!
//! A run's range is locked from before it is read until its acknowledgement, so no write can slip
//! between what was read and what is cleared. Clients' writes are mirrored all the while, whatever
//! the state of their blocks.

use super::slots::{Local, Op, Owner, Remote, Slot, SlotId};
use super::volume::SyncSource;
use super::worker::Budget;
use super::{Engine, Queued, text};
use crate::api::{DiskOp, DiskState, Level, Micros, ReplicationState, Role};
use crate::buf::{Buf, Mem};
use crate::mutation::{self, Mutation};
use crate::wire::Frame;
use fencing::Event;
use resync::codec::Decoder;
use resync::{MAX_RUN, Scheduler};

/// Pause after a block could not be read.
const UNREADABLE_PAUSE: Micros = 1_000_000;

impl Engine {
    /// A resync from this node begins: what is marked goes to the peer, whose copy bears `uuid` until it is
    /// whole. With `unite` the peer's marks are awaited and added first. The peer is told when this is durable.
    pub(super) fn begin_source(&mut self, at: usize, uuid: u64, unite: bool) {
        self.resync_begins(at, Event::BeforeResyncSource);
        let now = self.now;
        let key = self.config.resync.csums.then(|| self.digest_key());
        let volume = &mut self.volumes[at];
        let bytes = volume.dirty.dirty_bytes();
        volume.disk = DiskState::UpToDate;
        volume.steady = true;
        volume.peer_disk = DiskState::Inconsistent;
        volume.replication = ReplicationState::SyncSource;
        volume.mirrored = true;
        volume.may_run = false;
        volume.source = Some(SyncSource {
            scheduler: Scheduler::new(),
            ending: false,
            paused_until: 0,
            unreadable: None,
            peer_failed: false,
            uniting: unite.then(Decoder::new),
            key,
        });
        (volume.sync_total, volume.sync_started) = (bytes, now);
        volume.begin_progress(now);
        // Until the order of volumes lets it run.
        if let Some(progress) = &mut volume.progress {
            progress.set_paused(now, true);
        }
        volume.start_pending = Some((uuid, bytes));
    }

    /// Announces the end of a resync of which nothing is left. Volumes that let others go first need not
    /// wait for that; what an operator has paused does.
    pub(super) fn end_if_done(&mut self, at: usize, mem: &mut Mem<'_>) {
        let paused = self.is_paused(at);
        let volume = &self.volumes[at];
        let Some(source) = &volume.source else {
            return;
        };
        let busy = source.ending || source.uniting.is_some() || volume.start_pending.is_some();
        if !busy && !paused && source.scheduler.is_done(&volume.dirty) {
            self.announce_end(at, mem);
        }
    }

    /// Starts as many runs of a volume as there is room for.
    pub(super) fn pump_source(&mut self, at: usize, budget: &mut Budget, mem: &mut Mem<'_>) {
        let now = self.now;
        loop {
            let volume = &mut self.volumes[at];
            if !volume.has_work(now) || budget.is_spent() {
                return;
            }
            let Some(source) = &mut volume.source else {
                return;
            };
            let Some(mut run) = source.scheduler.peek(&volume.dirty, MAX_RUN) else {
                return;
            };
            let Some(buf) = self.run_buffer(run.len, mem) else {
                return;
            };
            run.len = buf.len();
            if let Some(source) = &mut self.volumes[at].source {
                source.scheduler.taken(run);
            }
            self.start_run(at, Op::Read, run, (buf, None), budget);
        }
    }

    /// A run was read. What a failed flush may have left in the disk's cache for good becomes durable only if it is
    /// written again; the marks cover all of that.
    pub(super) fn resync_read_done(&mut self, id: SlotId, all_zero: bool, mem: &mut Mem<'_>) {
        let slot = self.slots.at(id);
        let view = slot.buf.as_ref().map(Buf::view);
        let read = slot.local == Local::Done && !core::mem::replace(&mut slot.rewrites, false);
        let (offset, at) = (slot.offset, slot.volume);
        if let Some(view) = view
            && read
            && self.volumes[at].through.doomed
            && self.volumes[at].source.is_some()
        {
            let slot = self.slots.at(id);
            (slot.rewrites, slot.local) = (true, Local::Disk);
            return self.issue(id, DiskOp::Write { offset, view });
        }
        self.send_run(id, all_zero, mem);
    }

    /// Sends a run, or only the word that it is zero, or only its digests.
    fn send_run(&mut self, id: SlotId, all_zero: bool, mem: &mut Mem<'_>) {
        let connected = self.connected();
        let slot = self.slots.at(id);
        let at = slot.volume;
        let key = match &self.volumes[at].source {
            Some(source) if slot.local != Local::Failed && connected => source.key,
            _ => return self.finish_if_done(id, mem),
        };
        if !all_zero
            && let Some(key) = key
            && self.ask_which_differ(id, &key, mem)
        {
            return;
        }
        let request = self.slots.wire_id(id);
        let slot = self.slots.at(id);
        slot.remote = Remote::Sent;
        if mutation::is(Mutation::ClearBitEarly) {
            let (offset, len) = (slot.offset, u64::from(slot.len));
            self.volumes[at].mark_clean(offset, len);
        }
        let slot = self.slots.at(id);
        let (volume, offset, len) = (self.volumes[at].config.index, slot.offset, slot.len);
        let (frame, payload) = if all_zero {
            if let Some(buf) = slot.buf.take() {
                mem.free(buf);
            }
            let unmap = self.config.resync.rs_discard;
            let frame = Frame::SyncZeroes {
                volume,
                request,
                offset,
                len,
                unmap,
            };
            (frame, None)
        } else {
            let frame = Frame::SyncData {
                volume,
                request,
                offset,
            };
            (frame, slot.buf.as_ref().map(Buf::view))
        };
        self.count_sent();
        self.queue.push(Queued::Send { frame, payload });
    }

    /// A run ended. Only an acknowledgement of the peer's disk for this very range, which was
    /// locked since it was read, clears its bits.
    pub(super) fn finish_run(&mut self, slot: &Slot, copied: bool) {
        let until = self.now + UNREADABLE_PAUSE;
        let volume = &mut self.volumes[slot.volume];
        let Some(source) = &mut volume.source else {
            return;
        };
        source.scheduler.finished();
        if copied {
            source.unreadable = source.unreadable.filter(|at| *at != slot.offset);
            volume.mark_clean(slot.offset, u64::from(slot.len));
        } else {
            source.unreadable = Some(slot.offset);
            source.peer_failed = slot.remote == Remote::Done;
            source.paused_until = until;
        }
    }

    /// All blocks are on the peer's disk. First this disk is flushed: otherwise a power cut of both
    /// nodes could leave the peer, which flushes too, ahead of this one with no block marked.
    fn announce_end(&mut self, at: usize, pool: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        let Some(source) = &mut volume.source else {
            return;
        };
        source.ending = true;
        let uuid = volume.gens.current;
        self.resyncs_live += 1;
        let id = (self.slots).insert(Slot::new(Owner::Resync, Op::SyncEnd { uuid }, at, 0, 0));
        self.want_flush(id, pool);
    }

    /// This disk is flushed: let the peer flush and be UpToDate. From here on it may have the current generation,
    /// whether or not its answer arrives, so that is durable first.
    pub(super) fn sync_end_flushed(&mut self, id: SlotId, pool: &mut Mem<'_>) {
        let connected = self.connected();
        let slot = self.slots.at(id);
        let at = slot.volume;
        let volume = &mut self.volumes[at];
        if slot.local == Local::Failed || slot.orphan || !connected || volume.source.is_none() {
            return self.finish_if_done(id, pool);
        }
        volume.gens.end_announced();
        self.save(at, pool);
        if self.volumes[at].saving() {
            self.slots.at(id).local = Local::Held;
            self.slots.push(&mut self.volumes[at].held, id);
        } else {
            self.send_sync_end(id, pool);
        }
    }

    /// On the source: nothing is in the way of the announcement that the resync has ended.
    pub(super) fn send_sync_end(&mut self, id: SlotId, pool: &mut Mem<'_>) {
        self.end_epoch();
        let request = self.slots.wire_id(id);
        let connected = self.connected();
        let slot = self.slots.at(id);
        slot.local = Local::Done;
        let volume = &mut self.volumes[slot.volume];
        if slot.orphan || !connected || volume.source.is_none() {
            return self.finish_if_done(id, pool);
        }
        slot.remote = Remote::Sent;
        slot.tracked = volume.begin_flush();
        let (index, uuid) = (volume.config.index, volume.gens.current);
        self.count_sent();
        self.send(Frame::SyncEnd {
            volume: index,
            request,
            uuid,
        });
    }

    /// The peer is UpToDate. That is void if this node's disk has failed since the end was announced.
    pub(super) fn end_resync(&mut self, at: usize) {
        let now = self.now;
        let volume = &mut self.volumes[at];
        if volume.source.is_none() {
            return;
        }
        let index = volume.config.index;
        let bytes = volume.sync_total;
        let milliseconds = now.saturating_sub(volume.sync_started) / 1000;
        volume.in_sync();
        volume.through.doomed = false;
        self.log(
            Level::Info,
            text!(
                "vol{index}: resync done: {bytes} bytes in {milliseconds} ms; both nodes UpToDate"
            ),
        );
    }

    /// The other side of a resync: its beginning.
    pub(super) fn sync_start(&mut self, index: u16, uuid: u64, bytes: u64, mem: &mut Mem<'_>) {
        let Some(at) = self.volume_by_index(index) else {
            return self.protocol_error("a resync of an unknown volume");
        };
        let now = self.now;
        let volume = &mut self.volumes[at];
        // In sync by the handshake's rules, but the peer knows of something that this disk may have lost.
        let lost = volume.replication == ReplicationState::Established && volume.mirrored;
        let agreed = matches!(
            volume.replication,
            ReplicationState::SyncTarget | ReplicationState::Behind
        );
        if !(agreed || lost && self.role == Role::Secondary) || !volume.usable() || uuid == 0 {
            // A disk that failed in this moment has told the peer so.
            if volume.usable() {
                self.protocol_error("a resync that was not agreed");
            }
            return;
        }
        if !self.take_snapshot(at, uuid, bytes) {
            return;
        }
        self.resync_begins(at, Event::BeforeResyncTarget);
        let volume = &mut self.volumes[at];
        volume.disk = DiskState::Inconsistent;
        volume.replication = ReplicationState::SyncTarget;
        volume.mirrored = false;
        volume.peer_disk = DiskState::UpToDate;
        volume.unsynced_from = None;
        volume.gens.begin_target(uuid);
        volume.crashed = false;
        volume.steady = false;
        volume.through.sound = false;
        volume.stop_verify("a resync has begun");
        (volume.sync_total, volume.sync_left) = (bytes, bytes);
        volume.sync_started = now;
        volume.begin_progress(now);
        self.pause_target(at);
        self.tell_state();
        self.save(at, mem);
        self.send_bitmap(at, mem);
    }

    /// The other side of a resync: everything is flushed here.
    pub(super) fn sync_finished(&mut self, at: usize, uuid: u64) {
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        volume.gens.end_target(uuid);
        volume.through.doomed = false;
        volume.mark_all_clean();
        let held = volume.holds_snapshot();
        volume.in_sync();
        let dropped = if held {
            "; the snapshot is dropped"
        } else {
            ""
        };
        self.log(
            Level::Info,
            text!("vol{index}: resync done; both nodes UpToDate{dropped}"),
        );
        self.tell_state();
    }
}
