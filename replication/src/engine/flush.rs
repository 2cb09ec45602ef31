//! Flushes of the local disks: at most one a disk at a time; the next one serves everybody who
//! came while it ran. A flush covers what completed before it was issued, so it never serves
//! those who came later.

use super::Engine;
use super::slots::{List, Local, Owner, SlotId};
use crate::api::{DiskError, DiskToken};
use crate::buf::Mem;
use crate::mutation::{self, Mutation};

/// Disk operations from this number on are flushes of the volume at the position that is added.
pub(super) const FLUSH_TOKEN: DiskToken = 0x8000_0000;

impl Engine {
    /// The slot's local half ends with the next flush that is issued.
    pub(super) fn want_flush(&mut self, id: SlotId, pool: &mut Mem<'_>) {
        let at = self.slots.at(id).volume;
        self.slots.at(id).local = Local::Flush;
        let flush = &mut self.volumes[at].flush;
        if flush.busy && mutation::is(Mutation::FlushServesLatecomers) {
            return self.slots.push(&mut flush.running, id);
        }
        self.slots.push(&mut self.volumes[at].flush.waiting, id);
        if !self.volumes[at].flush.busy {
            self.next_flush(at, pool);
        }
    }

    /// Issues a flush for all who wait, or fails them when the disk is not used any more.
    fn next_flush(&mut self, at: usize, pool: &mut Mem<'_>) {
        let flush = &mut self.volumes[at].flush;
        let waiting = core::mem::replace(&mut flush.waiting, List::EMPTY);
        if waiting.is_empty() {
            return;
        }
        if self.volumes[at].usable() {
            let flush = &mut self.volumes[at].flush;
            flush.running = waiting;
            flush.busy = true;
            self.issue_flush(at);
        } else {
            self.end_flush(waiting, Local::Failed, pool);
        }
    }

    pub(super) fn flush_done(
        &mut self,
        at: usize,
        result: Result<(), DiskError>,
        pool: &mut Mem<'_>,
    ) {
        let flush = &mut self.volumes[at].flush;
        assert!(flush.busy, "completion of a flush that was not issued");
        flush.busy = false;
        let served = core::mem::replace(&mut flush.running, List::EMPTY);
        self.op_ended(at);
        let took = self.awake.saturating_sub(self.volumes[at].flush.since);
        self.volumes[at].latencies.flush.record(took);
        let local = match result {
            // Of a disk that failed meanwhile it is worth nothing.
            Ok(()) if !self.volumes[at].usable() => Local::Failed,
            Ok(()) => {
                self.volumes[at].through.here.flushed();
                Local::Done
            }
            Err(_) => {
                self.volumes[at].doom();
                self.fail_disk(at, "a flush failed: written data may be lost", pool);
                Local::Failed
            }
        };
        self.end_flush(served, local, pool);
        self.next_flush(at, pool);
    }

    /// Nobody waits for the flush any more: the disk was given up.
    pub(super) fn abandon_flush(&mut self, at: usize, pool: &mut Mem<'_>) {
        let flush = &mut self.volumes[at].flush;
        let served = core::mem::replace(&mut flush.running, List::EMPTY);
        let waiting = core::mem::replace(&mut flush.waiting, List::EMPTY);
        self.end_flush(served, Local::Failed, pool);
        self.end_flush(waiting, Local::Failed, pool);
    }

    fn end_flush(&mut self, mut served: List, local: Local, pool: &mut Mem<'_>) {
        while let Some(id) = self.slots.pop(&mut served) {
            let slot = self.slots.at(id);
            slot.local = local;
            if slot.owner == Owner::Resync {
                self.sync_end_flushed(id, pool);
            } else {
                self.finish_if_done(id, pool);
            }
        }
    }
}
