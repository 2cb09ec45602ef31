//! The source of a resync: walks the bitmap, reads blocks, sends them, clears what was
//! acknowledged.
//!
//! A run's range is locked from before it is read until its acknowledgement, so no write can slip
//! between what was read and what is cleared. Clients' writes are mirrored all the while, whatever
//! the state of their blocks.

use super::slots::{Local, Op, Owner, Remote, Slot, SlotId};
use super::{Engine, Queued, text};
use crate::api::{DiskState, Level, Micros, ReplicationState, Role};
use crate::buf::{Buf, Mem};
use crate::wire::Frame;
use resync::{BUSY_IN_FLIGHT, IDLE_IN_FLIGHT, MAX_RUN};

/// Clients count as busy for so long after their last request.
const CLIENT_LINGER: Micros = 5_000;
/// Pause before memory is looked for again when there was none and nothing is in flight.
const NO_MEMORY_PAUSE: Micros = 10_000;
/// Pause after a block could not be read.
const UNREADABLE_PAUSE: Micros = 1_000_000;

impl Engine {
    fn clients_busy(&self) -> bool {
        self.clients_live > 0 || self.now < self.last_client + CLIENT_LINGER
    }

    fn resync_limit(&self) -> usize {
        if self.clients_busy() {
            BUSY_IN_FLIGHT as usize
        } else {
            IDLE_IN_FLIGHT as usize
        }
    }

    /// Starts as many runs as the limit allows, volume after volume.
    pub(super) fn pump_resync(&mut self, pool: &mut Mem<'_>) {
        self.resync_retry = None;
        if !self.connected() || self.volumes.iter().all(|v| v.source.is_none()) {
            return;
        }
        let limit = self.resync_limit();
        let volumes = self.volumes.len();
        for n in 0..volumes {
            let at = (self.next_resync_volume + n) % volumes;
            self.pump_volume(at, limit, pool);
        }
        self.next_resync_volume = (self.next_resync_volume + 1) % volumes;
        if self.resyncs_live < IDLE_IN_FLIGHT as usize && self.clients_live == 0 {
            // The limit rises when the clients have been quiet for a while.
            let quiet = self.last_client + CLIENT_LINGER;
            if quiet > self.now {
                self.wake_resync(quiet);
            }
        }
    }

    fn wake_resync(&mut self, at: Micros) {
        self.resync_retry = Some(self.resync_retry.map_or(at, |other| other.min(at)));
    }

    fn pump_volume(&mut self, at: usize, limit: usize, pool: &mut Mem<'_>) {
        loop {
            let volume = &mut self.volumes[at];
            let Some(source) = &mut volume.source else {
                return;
            };
            if source.ending || source.uniting.is_some() || volume.start_pending.is_some() {
                return;
            }
            if source.scheduler.is_done(&volume.dirty) {
                return self.announce_end(at, pool);
            }
            if source.paused_until > self.now {
                let until = source.paused_until;
                return self.wake_resync(until);
            }
            if self.resyncs_live >= limit {
                return;
            }
            let Some(mut run) = source.scheduler.peek(&volume.dirty, MAX_RUN) else {
                return;
            };
            let Some(buf) = pool.alloc_up_to(run.len) else {
                if self.resyncs_live == 0 {
                    source.no_memory = true;
                    self.wake_resync(self.now + NO_MEMORY_PAUSE);
                }
                return;
            };
            run.len = buf.len();
            source.no_memory = false;
            source.scheduler.taken(run);
            self.resyncs_live += 1;
            self.enter(Slot {
                buf: Some(buf),
                ..Slot::new(Owner::Resync, Op::Read, at, run.offset, run.len)
            });
        }
    }

    /// A run was read: send it, or only the word that it is zero.
    pub(super) fn resync_read_done(&mut self, id: SlotId, all_zero: bool, pool: &mut Mem<'_>) {
        let wire = self.slots.wire_id(id);
        let connected = self.connected();
        let slot = self.slots.at(id);
        let at = slot.volume;
        if slot.local == Local::Failed || !connected || self.volumes[at].source.is_none() {
            return self.finish_if_done(id, pool);
        }
        slot.remote = Remote::Sent;
        let (volume, offset, len) = (self.volumes[at].config.index, slot.offset, slot.len);
        let (frame, payload) = if all_zero {
            if let Some(buf) = slot.buf.take() {
                pool.free(buf);
            }
            let frame = Frame::SyncZeroes {
                volume,
                request: wire,
                offset,
                len,
            };
            (frame, None)
        } else {
            let frame = Frame::SyncData {
                volume,
                request: wire,
                offset,
            };
            (frame, slot.buf.as_ref().map(Buf::view))
        };
        self.count_sent();
        self.queue.push(Queued::Send { frame, payload });
    }

    /// A run ended. Only an acknowledgement of the peer's disk for this very range, which was
    /// locked since it was read, clears its bits.
    pub(super) fn finish_resync(&mut self, slot: Slot, pool: &mut Mem<'_>) {
        self.resyncs_live -= 1;
        if let Some(buf) = slot.buf {
            pool.free(buf);
        }
        let acknowledged = slot.remote == Remote::Done && slot.local == Local::Done && !slot.orphan;
        let volume = &mut self.volumes[slot.volume];
        let Some(source) = &mut volume.source else {
            return;
        };
        if slot.orphan {
            // A run of an earlier resync; this one's scheduler does not know it.
            return;
        }
        if let Op::Bitmap { .. } = slot.op {
            return;
        }
        if matches!(slot.op, Op::SyncEnd { .. }) {
            if acknowledged {
                self.end_resync(slot.volume);
            }
            return;
        }
        source.scheduler.finished();
        if acknowledged {
            source.unreadable = source.unreadable.filter(|at| *at != slot.offset);
            volume.mark_clean(slot.offset, u64::from(slot.len));
        } else {
            source.unreadable = Some(slot.offset);
            source.paused_until = self.now + UNREADABLE_PAUSE;
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

    fn end_resync(&mut self, at: usize) {
        let now = self.now;
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        let bytes = volume.sync_total;
        let milliseconds = now.saturating_sub(volume.sync_started) / 1000;
        volume.in_sync();
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
        let agreed = volume.replication == ReplicationState::SyncTarget;
        if !(agreed || lost && self.role == Role::Secondary) || !volume.usable() || uuid == 0 {
            // A disk that failed in this moment has told the peer so.
            if volume.usable() {
                self.protocol_error("a resync that was not agreed");
            }
            return;
        }
        volume.disk = DiskState::Inconsistent;
        volume.replication = ReplicationState::SyncTarget;
        volume.mirrored = false;
        volume.peer_disk = DiskState::UpToDate;
        volume.gens.begin_target(uuid);
        volume.crashed = false;
        volume.steady = false;
        (volume.sync_total, volume.sync_left) = (bytes, bytes);
        volume.sync_started = now;
        self.tell_state();
        self.save(at, mem);
        self.send_bitmap(at, mem);
    }

    /// The other side of a resync: everything is flushed here.
    pub(super) fn sync_finished(&mut self, at: usize, uuid: u64) {
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        volume.gens.end_target(uuid);
        volume.mark_all_clean();
        volume.in_sync();
        self.log(
            Level::Info,
            text!("vol{index}: resync done; both nodes UpToDate"),
        );
        self.tell_state();
    }
}
