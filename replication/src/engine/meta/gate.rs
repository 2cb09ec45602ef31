//! What waits for metadata: writes for the activity log, answers for the superblock.

use super::super::Engine;
use super::super::slots::{List, Local, Op, Owner, SlotId};
use crate::buf::Mem;
use crate::mutation::{self, Mutation};

impl Engine {
    /// Whether a slot may start, as far as metadata is concerned. Otherwise it waits in the gate.
    pub(in crate::engine) fn pass_gate(&mut self, id: SlotId, mem: &mut Mem<'_>) -> bool {
        let slot = self.slots.at(id);
        if !slot.changes_data() {
            // A flush that is to be mirrored comes behind the word that the resync begins.
            let volume = &mut self.volumes[slot.volume];
            let early = slot.op == Op::Flush && volume.start_pending.is_some();
            if early {
                self.slots.push(&mut volume.gate, id);
            }
            return !early;
        }
        let (at, offset, len) = (slot.volume, slot.offset, u64::from(slot.len));
        // What a Primary without a disk writes here is noted as if this node were Primary.
        let client = slot.owner == Owner::Client
            || (slot.owner == Owner::Peer && (slot.outlives || self.volumes[at].through.for_peer));
        let volume = &mut self.volumes[at];
        let Some(meta) = &mut volume.meta else {
            return true;
        };
        let may = if !client || mutation::is(Mutation::SkipActivityLog) {
            true
        } else if slot.logged {
            meta.log.ready(offset, len)
        } else {
            slot.logged = true;
            meta.log.enter(self.now, offset, len)
        };
        let waits = meta.saving() && (client || !mutation::is(Mutation::ResyncBeforeInconsistent));
        if may && !waits {
            return true;
        }
        self.slots.push(&mut volume.gate, id);
        self.pump_log(at, mem);
        false
    }

    /// What waited for the superblock goes on: starts in the order of arrival, and answers.
    pub(in crate::engine) fn release(&mut self, at: usize, mem: &mut Mem<'_>) {
        self.send_sync_start(at);
        self.pay(at);
        self.release_gate(at);
        let mut held = core::mem::replace(&mut self.volumes[at].held, List::EMPTY);
        while let Some(id) = self.slots.pop(&mut held) {
            let slot = self.slots.at(id);
            let announces = slot.owner == Owner::Resync;
            slot.local = Local::Done;
            if announces {
                self.send_sync_end(id, mem);
            } else {
                self.finish_if_done(id, mem);
            }
        }
        self.durable();
    }

    pub(in crate::engine) fn release_gate(&mut self, at: usize) {
        let mut gate = core::mem::replace(&mut self.volumes[at].gate, List::EMPTY);
        while let Some(id) = self.slots.pop(&mut gate) {
            self.slots.push(&mut self.ready, id);
        }
    }

    /// Whether the answer to a slot that is done must wait until the superblock is durable. Then it is held.
    pub(in crate::engine) fn hold(&mut self, id: SlotId) -> bool {
        let slot = self.slots.at(id);
        let volume = &mut self.volumes[slot.volume];
        let answers = match slot.owner {
            Owner::Client => slot.op != Op::Read,
            Owner::Peer => matches!(slot.op, Op::SyncEnd { .. }) && !slot.orphan,
            Owner::Resync | Owner::Meta | Owner::Old | Owner::Abandoned => false,
        };
        let early = match slot.owner {
            Owner::Client => mutation::is(Mutation::GenerationNotDurable),
            _ => mutation::is(Mutation::EndNotHeld),
        };
        let saves = volume.saving() && volume.usable();
        let tells = volume.through.telling && slot.owner == Owner::Client;
        if early || !answers || slot.local != Local::Done || !(saves || tells) {
            return false;
        }
        slot.local = Local::Held;
        self.slots.push(&mut volume.held, id);
        true
    }
}
