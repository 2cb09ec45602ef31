//! Giving up a copy by hand: `invalidate` (this node's), `invalidate-remote` (the peer's), and `outdate`.
//!
//! A whole resync over a standing connection begins by agreement, so that two operators who both command one
//! do not make each node the other's source: the node asks, and the peer consents unless it has asked
//! itself and its name sorts first.
//!
//! Before the source notes that it is the source, everything that was answered is durable on its disk: its clients
//! wait, what is under way ends, and the disk is flushed. Otherwise it could lose with its power what only the
//! copy that is given up still has. It notes that in a new generation, so that a crash of either node does not turn the
//! operator's word round, and a copy that does not know yet that it was given up cannot pass for the same: if it is
//! promoted, that is a split brain. The data given up is overwritten when the source's SyncStart has arrived and is
//! durable there.

use super::roles::{Task, TaskKind};
use super::slots::{Local, Op, Owner, Remote, Slot, SlotId};
use super::{Engine, text};
use crate::api::{CommandId, DiskState, Level, ReplicationState, Role, Text};
use crate::buf::Mem;
use crate::wire::Frame;

/// What the source of a whole resync waits for before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preparing {
    /// Clients' requests that are under way.
    Requests,
    /// The flush of this number.
    Flush(u64),
}

impl Engine {
    /// `invalidate`, and `invalidate-remote` if this node is to be the source.
    pub(super) fn give_up(&mut self, id: CommandId, index: u16, source_here: bool) {
        let Some(at) = self.volume_by_index(index) else {
            return self.done(id, Err(text!("there is no vol{index}")));
        };
        if let Err(why) = self.may_give_up(at, source_here) {
            return self.done(id, Err(why));
        }
        let request = self.random();
        self.task = Some(Task {
            id,
            kind: TaskKind::GiveUp {
                at,
                request,
                source_here,
            },
            deadline: self.now + self.config.timers.timeout,
        });
        self.send(Frame::SyncRequest {
            volume: index,
            request,
            sender_is_source: source_here,
        });
    }

    /// Whether all of one copy may be replaced by the other one.
    fn may_give_up(&self, at: usize, source_here: bool) -> Result<(), Text> {
        let volume = &self.volumes[at];
        let index = volume.config.index;
        if !self.connected() {
            return Err(text!(
                "the peer is not connected, and only its copy could replace this one: see 'status', and try again when it is"
            ));
        }
        if self.granted {
            return Err(text!("the peer is becoming Primary; try again when it is"));
        }
        let (target, whose) = if source_here {
            (self.peer_role, "the peer")
        } else {
            (self.role, "this node")
        };
        if target == Role::Primary {
            return Err(text!(
                "{whose} is Primary and serves from this copy: run 'secondary' there first"
            ));
        }
        let running = matches!(
            volume.replication,
            ReplicationState::SyncSource | ReplicationState::SyncTarget
        );
        if running || volume.preparing.is_some() {
            return Err(text!(
                "a resync of vol{index} runs; try again at its end, see 'status'"
            ));
        }
        // Until the peer has acknowledged it, a volume that is pulled ahead looks as if it were in sync.
        let good = volume.mirrored
            && volume.replication == ReplicationState::Established
            && volume.disk == DiskState::UpToDate
            && volume.peer_disk == DiskState::UpToDate;
        if !good {
            return Err(text!(
                "vol{index}: the copy that would replace the other is not known to be UpToDate; see 'status' on both nodes"
            ));
        }
        Ok(())
    }

    /// The peer's operator wants a copy given up.
    pub(super) fn sync_request(
        &mut self,
        index: u16,
        request: u64,
        sender_is_source: bool,
        mem: &mut Mem<'_>,
    ) {
        let Some(at) = self.volume_by_index(index) else {
            return self.protocol_error("a resync of an unknown volume");
        };
        let contended = match self.task.map(|task| task.kind) {
            Some(TaskKind::GiveUp { .. }) => self.config.node < self.config.peer,
            Some(_) => true,
            None => false,
        };
        let granted = !contended && self.may_give_up(at, !sender_is_source).is_ok();
        self.send(Frame::SyncReply { request, granted });
        if granted && !sender_is_source {
            self.prepare_whole_resync(at, mem);
        }
    }

    /// The peer's consent, or not.
    pub(super) fn sync_reply(&mut self, wire: u64, granted: bool, mem: &mut Mem<'_>) {
        let Some(task) = self.task else { return };
        let TaskKind::GiveUp {
            at,
            request,
            source_here,
        } = task.kind
        else {
            return;
        };
        if request != wire {
            return;
        }
        self.task = None;
        let index = self.volumes[at].config.index;
        if !granted {
            let reason = text!(
                "the peer did not consent: it is busy with another command, or vol{index} is not in sync there; see 'status' there"
            );
            return self.done(task.id, Err(reason));
        }
        if !source_here {
            let said = text!("vol{index}: all of it is copied from the peer; see 'status'");
            return self.done(task.id, Ok(said));
        }
        // What was true when the peer was asked may have changed.
        if let Err(why) = self.may_give_up(at, true) {
            return self.done(task.id, Err(why));
        }
        self.prepare_whole_resync(at, mem);
        let said = text!("vol{index}: all of it is copied to the peer; see 'status'");
        self.done(task.id, Ok(said));
    }

    /// All of a volume is to go to the peer, as soon as all of it is durable here.
    fn prepare_whole_resync(&mut self, at: usize, mem: &mut Mem<'_>) {
        self.volumes[at].preparing = Some(Preparing::Requests);
        self.check_preparing(mem);
    }

    /// Brings the preparations of whole resyncs further.
    pub(super) fn check_preparing(&mut self, mem: &mut Mem<'_>) {
        for at in 0..self.volumes.len() {
            if self.volumes[at].preparing != Some(Preparing::Requests) || self.clients_at_work(at) {
                continue;
            }
            let number = self.random();
            self.volumes[at].preparing = Some(Preparing::Flush(number));
            self.metas_live += 1;
            let op = Op::Prepare { number };
            let id = self.slots.insert(Slot::new(Owner::Meta, op, at, 0, 0));
            self.want_flush(id, mem);
        }
    }

    /// Whether a client's request that has begun is under way on a volume.
    pub(super) fn clients_at_work(&self, at: usize) -> bool {
        let begun = |slot: &Slot| {
            slot.volume == at
                && slot.owner == Owner::Client
                && (slot.at_disk || slot.local != Local::Waiting || slot.remote != Remote::None)
        };
        (0..self.slots.capacity() as SlotId).any(|id| self.slots.get(id).is_some_and(begun))
    }

    /// The flush ended. What was true when the resync was agreed on may have changed.
    pub(super) fn prepared(&mut self, at: usize, number: u64, flushed: bool, mem: &mut Mem<'_>) {
        if self.volumes[at].preparing != Some(Preparing::Flush(number)) {
            return;
        }
        self.volumes[at].preparing = None;
        match self.may_give_up(at, true) {
            Ok(()) if flushed => self.start_whole_resync(at, mem),
            Ok(()) => {}
            Err(why) => self.log(Level::Warn, text!("the peer's copy is not given up: {why}")),
        }
    }

    /// All of a volume goes to the peer, over the connection as it stands.
    fn start_whole_resync(&mut self, at: usize, mem: &mut Mem<'_>) {
        let fresh = self.random();
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        volume.stop_verify("a resync has begun");
        volume.mark_all_dirty();
        let given_up = volume.gens.current;
        volume.gens.peer_lost(fresh);
        let uuid = volume.gens.begin_source(given_up, false, fresh);
        self.begin_source(at, uuid, false);
        self.log(
            Level::Info,
            text!("vol{index}: the operator gave the peer's copy up: all of it is resynced"),
        );
        self.save(at, mem);
        self.send_sync_start(at);
    }

    /// `outdate`.
    pub(super) fn outdate(&mut self, id: CommandId, mem: &mut Mem<'_>) {
        let reason = if self.role == Role::Primary {
            Some("this node is Primary, its data is the newest: run 'secondary' first")
        } else if self.link.up {
            Some("the peer is connected and knows better: 'disconnect' first")
        } else if self.volumes.iter().any(|v| v.usable() && v.crashed) {
            // By protocol A the peer may lack the end of what clients were told; under any protocol nobody else can know.
            Some(
                "this node stopped as Primary without saying so, and may have what the peer has not: connect them, which decides it; 'connect --discard-my-data' gives this node's data up",
            )
        } else if !self.volumes.iter().any(|v| v.usable()) {
            Some("no volume has a disk that could be outdated; see 'status'")
        } else {
            None
        };
        if let Some(reason) = reason {
            return self.done(id, Err(text!("{reason}")));
        }
        for volume in &mut self.volumes {
            if volume.usable() && volume.disk > DiskState::Outdated {
                volume.disk = DiskState::Outdated;
            }
        }
        self.log(
            Level::Info,
            text!("outdated by command: this node's data is not the newest"),
        );
        self.task = Some(Task {
            id,
            kind: TaskKind::Outdating,
            deadline: self.now + self.config.timers.timeout,
        });
        self.save_all(mem);
        self.durable();
    }
}
