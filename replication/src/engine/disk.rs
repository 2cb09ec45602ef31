//! The local disks: completions and failures.

use super::attach::Attach;
use super::flush::FLUSH_TOKEN;
use super::meta::META_TOKEN;
use super::slots::{Local, Op, Owner, SlotId};
use super::{Engine, Queued, text};
use crate::api::{DiskError, DiskState, DiskToken, Level, Role};
use crate::buf::Mem;
use crate::mutation::{self, Mutation};

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
        let known = self.slots.get(id).is_some_and(|s| s.local == Local::Disk);
        assert!(known, "completion of a disk operation that was not issued");
        let slot = self.slots.at(id);
        let (owner, op, at, fua, orphan) =
            (slot.owner, slot.op, slot.volume, slot.fua, slot.orphan);
        let ok = match result {
            Ok(()) => true,
            // Nothing was lost: the content of a discarded range is nobody's business.
            Err(DiskError::Unsupported) => op == Op::Discard,
            Err(error) => {
                self.disk_error(at, op, error, pool);
                false
            }
        };
        // What a disk that has failed since still completes is worth nothing: it is not used any more.
        let ok = ok && (op.reads() || self.volumes[at].usable());
        let slot = self.slots.at(id);
        slot.local = if ok { Local::Done } else { Local::Failed };
        if ok && fua && !orphan && !mutation::is(Mutation::ForgetFuaFlush) {
            return self.want_flush(id, pool);
        }
        if owner == Owner::Resync && op == Op::Read && !orphan {
            return self.resync_read_done(id, all_zero, pool);
        }
        if op == Op::Verify && !orphan {
            return self.verify_read_done(id, pool);
        }
        self.finish_if_done(id, pool);
    }

    /// A read that fails costs only that read, unless the disk is gone; a failed write leaves the
    /// disk different from what was promised, so it is not used any more.
    fn disk_error(&mut self, at: usize, op: Op, error: DiskError, mem: &mut Mem<'_>) {
        let index = self.volumes[at].config.index;
        if op.reads() && error != DiskError::Gone {
            self.log(
                Level::Error,
                text!("vol{index}: the disk could not read a block ({error:?})"),
            );
        } else {
            self.fail_disk(at, text!("it answered {error:?} to {op:?}").as_str(), mem);
        }
    }

    /// Gives up the local disk of a volume.
    pub(super) fn fail_disk(&mut self, at: usize, why: &str, mem: &mut Mem<'_>) {
        if !self.volumes[at].usable() {
            return;
        }
        let primary = self.role == Role::Primary;
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        let peer_good = volume.mirrored && volume.peer_disk == DiskState::UpToDate;
        volume.disk = DiskState::Failed;
        volume.attach = Attach::NoDisk;
        volume.mirrored = false;
        volume.end_sync();
        let advice = match (primary, peer_good) {
            (true, true) => {
                "clients get I/O errors; run 'secondary --force' here and 'primary' on the peer"
            }
            (true, false) => "clients get I/O errors and the peer has no good copy",
            (false, _) => "replace it and restart this node",
        };
        self.log(
            Level::Error,
            text!("vol{index}: the disk is not used any more: {why}; {advice}"),
        );
        self.abandon_meta(at, mem);
        self.tell_state();
        if self.link.in_handshake() {
            // What this node said of itself is no longer true.
            self.reopen_link();
        }
    }

    pub(super) fn disk_changed(&mut self, index: u16, size: u64, mem: &mut Mem<'_>) {
        let Some(at) = self.volume_by_index(index) else {
            return;
        };
        let configured = self.volumes[at].config.disk_bytes;
        if size == 0 {
            self.fail_disk(at, "it is gone", mem);
        } else if size < configured {
            let why = text!("it shrank to {size} bytes, {configured} are needed");
            self.fail_disk(at, &why, mem);
        } else {
            self.log(
                Level::Info,
                text!("vol{index}: the disk has {size} bytes now; {configured} are used"),
            );
        }
    }

    pub(super) fn issue_flush(&mut self, at: usize) {
        self.queue.push(Queued::Disk {
            token: FLUSH_TOKEN + at as DiskToken,
            volume: self.volumes[at].config.index,
            op: crate::api::DiskOp::Flush,
        });
    }
}
