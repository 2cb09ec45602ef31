//! The local disks: completions and failures.

use super::attach::Attach;
use super::flush::FLUSH_TOKEN;
use super::meta::META_TOKEN;
use super::slots::{Local, Op, Owner, Slot, SlotId};
use super::{Engine, Queued, text};
use crate::api::{
    ClientError, DiskError, DiskState, DiskToken, Level, MetadataPlace, Protocol, Role,
};
use crate::buf::Mem;
use crate::mutation::{self, Mutation};
use fencing::Event;

impl Engine {
    pub(super) fn disk_done(
        &mut self,
        token: DiskToken,
        result: Result<(), DiskError>,
        all_zero: bool,
        pool: &mut Mem<'_>,
    ) {
        if token >= FLUSH_TOKEN {
            return self.flush_done((token - FLUSH_TOKEN) as usize, result, pool);
        }
        if token >= META_TOKEN {
            return self.meta_done(token, result, pool);
        }
        let id: SlotId = token;
        if !self.take_back(id, pool) {
            return;
        }
        let slot = self.slots.at(id);
        let (owner, op, at, fua, orphan) =
            (slot.owner, slot.op, slot.volume, slot.fua, slot.orphan);
        if owner == Owner::Old {
            return self.old_done(id, result, pool);
        }
        let reads = op.reads() && !slot.rewrites;
        if slot.repair {
            // Whatever has become of the connection: what the peer sent is here.
            return self.repaired(id, result, pool);
        }
        let ok = match result {
            Ok(()) => true,
            // Nothing was lost: the content of a discarded range is nobody's business.
            Err(DiskError::Unsupported) => op == Op::Discard,
            Err(DiskError::Io) if op != Op::Read && self.passes_on(id) => {
                self.pass_on(id, pool);
                false
            }
            Err(error) => {
                self.disk_error(at, op, reads, error, pool);
                false
            }
        };
        // What a disk that has failed since still completes is worth nothing: it is not used any more.
        let ok = ok && (reads || self.volumes[at].usable());
        if ok && !reads {
            self.volumes[at].through.here.written();
        }
        let slot = self.slots.at(id);
        slot.local = if ok { Local::Done } else { Local::Failed };
        slot.refused = !ok;
        if ok && fua && !orphan && !mutation::is(Mutation::ForgetFuaFlush) {
            return self.want_flush(id, pool);
        }
        if owner == Owner::Resync && op == Op::Read && !orphan {
            return self.resync_read_done(id, all_zero, pool);
        }
        if owner == Owner::Peer && op == Op::Read && ok {
            return self.send_read(id, pool);
        }
        if op == Op::Verify && !orphan {
            return self.verify_read_done(id, pool);
        }
        self.finish_if_done(id, pool);
    }

    /// A write that the disk refused, by policy: the client is told, the disk stays in use. What the peer has of it
    /// is brought here by the resync that a new handshake leads to, or the other way round.
    fn pass_on(&mut self, id: SlotId, mem: &mut Mem<'_>) {
        let slot = self.slots.at(id);
        slot.error = Some(ClientError::Io);
        let (at, offset, len) = (slot.volume, slot.offset, slot.len);
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        volume.mirrored = false;
        volume.mark_dirty(offset, u64::from(len));
        self.log(
            Level::Error,
            text!(
                "vol{index}: the disk could not write {len} bytes at {offset}: the client is told (on-io-error pass-on)"
            ),
        );
        self.notify(Event::LocalIoError, Some(at));
        self.ensure_generation(at, mem);
        self.reopen_link();
    }

    /// A read that fails costs only that read, unless the disk is gone; a failed write leaves the
    /// disk different from what was promised, so it is not used any more.
    fn disk_error(&mut self, at: usize, op: Op, reads: bool, error: DiskError, mem: &mut Mem<'_>) {
        let index = self.volumes[at].config.index;
        self.notify(Event::LocalIoError, Some(at));
        if reads && error != DiskError::Gone {
            self.log(
                Level::Error,
                text!("vol{index}: the disk could not read a block ({error:?})"),
            );
        } else {
            self.fail_disk(at, text!("it answered {error:?} to {op:?}").as_str(), mem);
            if error == DiskError::Gone {
                // Perhaps without power.
                self.volumes[at].left = None;
            }
        }
    }

    /// Gives up the local disk of a volume.
    pub(super) fn fail_disk(&mut self, at: usize, why: &str, mem: &mut Mem<'_>) {
        if !self.volumes[at].usable() {
            return;
        }
        let index = self.volumes[at].config.index;
        self.log(
            Level::Error,
            text!("vol{index}: the disk is not used any more: {why}"),
        );
        self.drop_disk(at, DiskState::Failed, Attach::NoDisk, mem);
    }

    /// Takes a disk that is in use out of it: it failed, or was detached.
    pub(super) fn drop_disk(
        &mut self,
        at: usize,
        disk: DiskState,
        attach: Attach,
        mem: &mut Mem<'_>,
    ) {
        self.lose_disk(at);
        for id in 0..self.slots.capacity() as SlotId {
            let waits = |s: &Slot| s.volume == at && s.local == Local::Waiting;
            if self.slots.get(id).is_some_and(waits) {
                self.lighten(id, mem);
            }
        }
        // What a Primary's clients were told early, this disk may not have got. By B it got all that was received.
        let told = match self.config.mirroring.protocol {
            _ if self.role == Role::Primary => true,
            Protocol::A => false,
            Protocol::B => !self.has_received(at),
            Protocol::C => true,
        };
        let volume = &mut self.volumes[at];
        let superblock = volume.meta.as_ref().map(|meta| meta.superblock.sequence);
        volume.left = superblock
            .filter(|_| told && volume.steady && !volume.through.doomed)
            .map(|sequence| (volume.gens, sequence));
        volume.disk = disk;
        volume.attach = attach;
        volume.mirrored = false;
        volume.through.for_peer = false;
        volume.end_sync();
        let (index, serves) = (volume.config.index, volume.through.on);
        self.stop_detaching(at, "the disk failed meanwhile", mem);
        self.pay(at);
        for id in 0..self.slots.capacity() as SlotId {
            if self.slots.get(id).is_some_and(|s| s.volume == at) {
                // The activity log goes with the disk, and what is known of the peer's.
                let slot = self.slots.at(id);
                (slot.logged, slot.tracked, slot.outlives) = (false, false, false);
            }
        }
        let primary = self.role == Role::Primary;
        if primary {
            let next = if serves {
                "clients are served from the peer's disk"
            } else {
                "the peer has no good copy at hand"
            };
            self.log(Level::Error, text!("vol{index}: {next}"));
        }
        self.fail_growth(at, mem);
        self.stop_rollback(at);
        self.release_copies(at);
        self.abandon_meta(at, mem);
        self.tell_state();
        let other = self.volumes[at].peer_disk > DiskState::Failed;
        if self.link.in_handshake() || (primary && !serves && other && self.connected()) {
            // What this node said of itself is no longer true; and the peer's disk may be better than was known.
            self.reopen_link();
        }
    }

    /// The driver found another capacity of the volume's disk, or of the one that has its metadata alone.
    pub(super) fn disk_changed(
        &mut self,
        index: u16,
        metadata: bool,
        size: u64,
        mem: &mut Mem<'_>,
    ) {
        let Some(at) = self.volume_by_index(index) else {
            return;
        };
        let volume = &mut self.volumes[at];
        let (what, configured) = match (&mut volume.config.metadata, metadata) {
            (MetadataPlace::External { disk_bytes }, true) => ("the metadata's disk", disk_bytes),
            (_, true) => return,
            (_, false) => ("the disk", &mut volume.config.disk_bytes),
        };
        let before = *configured;
        if size == 0 {
            self.fail_disk(at, "it is gone", mem);
            self.volumes[at].left = None;
        } else if size < before {
            let why = text!("{what} shrank to {size} bytes, {before} are needed");
            self.fail_disk(at, &why, mem);
        } else if before > 0 {
            *configured = size;
            self.log(
                Level::Info,
                text!(
                    "vol{index}: {what} has grown from {before} to {size} bytes; 'resize vol{index}' uses that when both nodes' disks have"
                ),
            );
        }
    }

    pub(super) fn issue_flush(&mut self, at: usize) {
        self.volumes[at].through.here.flush_begins();
        self.volumes[at].flush.since = self.awake;
        self.op_begins(at);
        self.queue.push(Queued::Disk {
            token: FLUSH_TOKEN + at as DiskToken,
            volume: self.volumes[at].config.index,
            op: crate::api::DiskOp::Flush,
        });
    }
}
