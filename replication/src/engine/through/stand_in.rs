//! The Secondary's part: its disk stands in for the one that its Primary lost.

use super::stands_in;
use crate::api::{DiskState, Level, Role};
use crate::buf::Mem;
use crate::engine::slots::{Local, Op, Owner, Remote, Slot, SlotId};
use crate::engine::{Engine, text};
use crate::wire::Frame;

impl Engine {
    /// On the Secondary: the peer serves its clients from this node's disk from now on. By protocols A and B that disk may
    /// still lack what these were answered: then this takes effect behind it.
    pub(in crate::engine) fn disk_lost(&mut self, index: u16, request: u64, uuid: u64) {
        let Some(at) = self.volume_by_index(index) else {
            return self.protocol_error("a lost disk of an unknown volume");
        };
        if self.role == Role::Primary || self.peer_role != Role::Primary {
            return self.protocol_error("a lost disk of a node that is not Primary");
        }
        if self.peers_live >= self.peers_limit() {
            return self.protocol_error("more requests than the window allows");
        }
        let volume = &mut self.volumes[at];
        if !stands_in(volume.disk) {
            return self.send(Frame::Nack { request });
        }
        // What comes from now on the peer's disk lacks, whether this one ever stands in for it or not.
        volume.mirrored = false;
        volume.end_sync();
        volume.peer_disk = DiskState::Failed;
        volume.through.for_peer = true;
        self.peers_live += 1;
        self.enter_epoch(Slot {
            request,
            ..Slot::new(Owner::Peer, Op::DiskLost { uuid }, at, 0, 0)
        });
    }

    /// On the Secondary: this disk has everything that the peer's clients were answered before its disk was lost.
    pub(in crate::engine) fn stand_in(&mut self, id: SlotId, uuid: u64, mem: &mut Mem<'_>) {
        let slot = self.slots.at(id);
        let (at, request) = (slot.volume, slot.request);
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        slot.local = Local::Failed;
        if !stands_in(volume.disk) {
            return self.finish_if_done(id, mem);
        }
        // It is answered when it is durable.
        slot.remote = Remote::Done;
        volume.disk = DiskState::UpToDate;
        volume.gens.promoted_alone(uuid);
        // Or the peer has given up being Primary meanwhile.
        volume.through.for_peer = self.peer_role == Role::Primary;
        volume.through.owed = Some(request);
        self.log(
            Level::Warn,
            text!(
                "vol{index}: the Primary lost its disk and serves from this node's, the only good one now, in generation {uuid:016x}"
            ),
        );
        self.finish_if_done(id, mem);
        self.tell_state();
        // In the same save, if none is under way: before the peer's clients are answered anything that its disk lacks.
        self.fence_stands_in(true, mem);
        self.save(at, mem);
        self.pay(at);
    }

    /// What the peer writes here lacks on its own disk; perhaps also what is done after the connection was lost.
    pub(in crate::engine) fn note_for_peer(&mut self, id: SlotId) {
        let slot = self.slots.at(id);
        let volume = &mut self.volumes[slot.volume];
        let lacks = volume.through.for_peer || slot.outlives;
        if slot.owner == Owner::Peer && slot.changes_data() && lacks {
            volume.mark_dirty(slot.offset, u64::from(slot.len));
        }
    }

    /// Answers [`Frame::DiskLost`] when that is durable.
    pub(in crate::engine) fn pay(&mut self, at: usize) {
        let volume = &mut self.volumes[at];
        let saving = volume.saving()
            || volume.through.owed.is_some() && self.fence.is_vouching(self.config.fencing.policy);
        let volume = &mut self.volumes[at];
        if saving && volume.usable() {
            return;
        }
        let usable = volume.usable();
        if let Some(request) = volume.through.owed.take()
            && self.connected()
        {
            self.send(if usable {
                Frame::Ack { request }
            } else {
                Frame::Nack { request }
            });
        }
    }
}
