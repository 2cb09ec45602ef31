//! Promotion and demotion, and the operator's statement that both disks are identical: commands
//! that take several steps. One runs at a time; others wait, and none waits for ever.

use super::resize::Leading;
use super::slots::SlotId;
use super::volume::Volume;
use super::{Engine, Queued, draw, text};
use crate::api::{
    Command, CommandId, ConnectionState, DiskState, Level, Micros, ReplicationState, Role, Text,
};
use crate::buf::Mem;
use crate::lineage::JUST_CREATED;
use crate::mutation::{self, Mutation};
use crate::wire::Frame;
use fencing::{DiskGrade, Facts, PeerView, Policy, Withheld, may_promote};

/// A command that waits for the handshake, or for another command, to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deferred {
    pub id: CommandId,
    pub command: Command,
    pub deadline: Micros,
}

/// The command under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    pub id: CommandId,
    pub kind: TaskKind,
    pub deadline: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskKind {
    /// The peer was asked.
    Promote { force: bool, request: u64 },
    /// Clients are gone; their requests in flight end. Whether the operator was answered.
    Demote { answered: bool },
    /// The peer was told of the new generation.
    NewGeneration { uuid: u64 },
    /// Both nodes took it over; this one's disks save it.
    Saving { uuid: u64 },
    /// The peer was asked to agree that one copy of a volume is replaced by the other.
    GiveUp {
        at: usize,
        request: u64,
        source_here: bool,
    },
    /// A volume grows on both nodes.
    Resize {
        at: usize,
        request: u64,
        size: u64,
        clean: bool,
        stage: Leading,
    },
    /// A fence is asked for, or the operator's word that there is none to fear is being stored.
    Fencing { force: bool },
    /// The disks save that they are outdated.
    Outdating,
    /// The node is Primary, and lets clients in as soon as that is durable. Whether the operator was
    /// answered.
    Serving { answered: bool },
}

/// Who says that a disk that may not be the newest is the one to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vouched {
    /// Nobody needs to.
    No,
    /// The peer cannot have gone on without it.
    Fence,
    /// The operator.
    Operator,
}

impl Vouched {
    fn by_operator(force: bool) -> Self {
        if force { Self::Operator } else { Self::No }
    }
}

impl Engine {
    pub(super) fn disk_grade(&self) -> DiskGrade {
        let grade = |volume: &Volume| match volume.disk {
            // Its beginning was agreed on and may only not have arrived yet.
            _ if volume.replication == ReplicationState::SyncTarget => DiskGrade::Unusable,
            // Nothing is on it that could be lost.
            DiskState::Inconsistent if volume.gens.current == JUST_CREATED => DiskGrade::Doubtful,
            DiskState::UpToDate => DiskGrade::Best,
            DiskState::Outdated | DiskState::DUnknown | DiskState::Consistent => {
                DiskGrade::Doubtful
            }
            DiskState::Diskless
            | DiskState::Attaching
            | DiskState::Failed
            | DiskState::Negotiating
            | DiskState::Inconsistent => DiskGrade::Unusable,
        };
        (self.volumes.iter().map(grade).min()).unwrap_or(DiskGrade::Unusable)
    }

    fn peer_view(&self) -> PeerView {
        match self.peer_role {
            _ if !self.connected() => PeerView::Unreachable,
            Role::Primary => PeerView::Primary,
            Role::Secondary | Role::Unknown => PeerView::Secondary,
        }
    }

    /// Since when the peer has been asked for its consent.
    pub(super) fn promotion_asked(&self) -> Option<Micros> {
        let task = self.task?;
        matches!(task.kind, TaskKind::Promote { .. })
            .then(|| task.deadline - self.config.timers.timeout)
    }

    pub(super) fn promote(&mut self, id: CommandId, force: bool, mem: &mut Mem<'_>) {
        if self.role == Role::Primary {
            return self.done(id, Ok(text!("already Primary")));
        }
        let peer = self.peer_view();
        let facts = Facts {
            force,
            disk: self.disk_grade(),
            peer,
        };
        // What the operator need not vouch for if there is a fence.
        let fences = self.fences() && peer == PeerView::Unreachable;
        let vouched = Facts {
            force: force || fences,
            ..facts
        };
        if let Err(denial) = may_promote(Policy::DontCare, vouched) {
            let reason = self.denial_text(denial);
            return self.deny(id, denial.into(), reason);
        }
        if fences {
            return self.promote_by_fence(id, force, mem);
        }
        if let Some(denied) = self.fenced().filter(|_| peer != PeerView::Unreachable) {
            let reason = self.fenced_by_connected(denied);
            return self.deny(id, denied.into(), reason);
        }
        if self.granted {
            let reason = text!("the peer is becoming Primary; see 'status'");
            return self.not_yet(id, reason);
        }
        if peer == PeerView::Unreachable {
            let vouched = Vouched::by_operator(force);
            return self.become_primary(id, vouched, mem);
        }
        let request = self.random();
        self.task = Some(Task {
            id,
            kind: TaskKind::Promote { force, request },
            deadline: self.now + self.config.timers.timeout,
        });
        self.send(Frame::PromoteRequest { request });
    }

    /// The promotion takes effect. By force a doubtful disk becomes the one to go on with, in a
    /// generation of its own; a connected peer must then learn of it in a new handshake.
    pub(super) fn become_primary(&mut self, id: CommandId, by: Vouched, mem: &mut Mem<'_>) {
        let mut vouched = false;
        for at in 0..self.volumes.len() {
            let uuid = self.random();
            let volume = &mut self.volumes[at];
            let doubtful = match by {
                Vouched::No => false,
                Vouched::Fence => volume.disk == DiskState::Consistent,
                Vouched::Operator => volume.disk != DiskState::UpToDate,
            };
            if doubtful {
                vouched = true;
                volume.disk = DiskState::UpToDate;
                volume.through.doomed = false;
                let rng = &mut self.rng;
                volume.goes_on_from_old(|| draw(rng));
                if volume.gens.current == JUST_CREATED {
                    volume.mark_all_dirty();
                    // A name for what is there; the generation that clients write follows.
                    volume.gens.current = uuid;
                    continue;
                }
            }
            if !volume.mirrored {
                volume.steady = volume.usable();
                // What it has from now on is not what anybody was told of.
                volume.gens.promoted_alone(uuid);
                let index = volume.config.index;
                self.log(
                    Level::Info,
                    text!("vol{index}: goes on without the peer in new generation {uuid:016x}"),
                );
            }
        }
        self.role = Role::Primary;
        self.auto.over();
        self.link.discard_my_data = false;
        for at in 0..self.volumes.len() {
            if !self.connected() {
                self.offer(at);
            }
            self.ensure_generation(at, mem);
            self.save(at, mem);
        }
        self.log(
            Level::Info,
            text!(
                "now Primary{}",
                match by {
                    Vouched::No => "",
                    Vouched::Fence => " (the peer is fenced)",
                    Vouched::Operator => " (forced)",
                }
            ),
        );
        self.tell_state();
        if vouched && self.connected() {
            self.reopen_link();
        }
        // What a client reads must not be taken back by a restart that knows of no promotion.
        self.task = Some(Task {
            id,
            kind: TaskKind::Serving { answered: false },
            deadline: self.now + self.config.timers.timeout,
        });
        self.durable();
    }

    pub(super) fn set_serving(&mut self, on: bool) {
        if self.serving != on {
            self.serving = on;
            self.queue.push(Queued::Serve(on));
        }
    }

    /// The peer wants to become Primary. It is answered when it may let clients in: these must not be served from the source of a
    /// resync while its target, after a power cut of both, would come back as a copy like any other. (They have the same
    /// generation, and by the rules of equals the target's could be the one to go on with.)
    pub(super) fn promote_request(&mut self, request: u64) {
        self.promotion_waits = Some(request);
        self.answer_promotion();
    }

    /// Answers a peer that wants to become Primary, unless a resync to this node has begun and this is not durable.
    pub(super) fn answer_promotion(&mut self) {
        let begins = |v: &Volume| {
            let target = v.replication == ReplicationState::SyncTarget;
            target && v.usable() && (v.disk != DiskState::Inconsistent || v.saving())
        };
        if self.volumes.iter().any(begins) {
            return;
        }
        if let Some(request) = self.promotion_waits.take() {
            self.decide_promotion(request);
        }
    }

    /// When both want to become Primary, the name that sorts first wins.
    fn decide_promotion(&mut self, request: u64) {
        let contended = match self.task.map(|task| task.kind) {
            Some(TaskKind::Promote { .. }) => self.config.node < self.config.peer,
            Some(
                TaskKind::NewGeneration { .. }
                | TaskKind::Saving { .. }
                | TaskKind::Serving { .. }
                | TaskKind::Demote { .. }
                | TaskKind::GiveUp { .. }
                | TaskKind::Resize { .. }
                | TaskKind::Fencing { .. }
                | TaskKind::Outdating,
            ) => true,
            // The peer is about to learn that its copy is not good.
            None => self.volumes.iter().any(|v| {
                v.start_pending.is_some() || v.preparing.is_some() || v.following.is_some()
            }),
        };
        let granted = self.role == Role::Secondary && !contended && self.consents();
        self.granted = granted;
        if granted {
            self.stop_verifies(
                "the peer becomes Primary, and writes pass through it; run it there",
            );
        }
        self.send(Frame::PromoteReply { request, granted });
    }

    pub(super) fn promote_reply(&mut self, request: u64, granted: bool, mem: &mut Mem<'_>) {
        let promotes = self.task.and_then(|task| match task.kind {
            TaskKind::Promote {
                force,
                request: asked,
            } if asked == request => Some((task, force)),
            _ => None,
        });
        let Some((task, force)) = promotes else {
            // It came too late: the peer is released from what it granted.
            return self.tell_state();
        };
        self.task = None;
        // What was true when the peer was asked may have changed.
        let facts = Facts {
            force,
            disk: self.disk_grade(),
            peer: self.peer_view(),
        };
        if !granted || self.granted {
            // Release the peer from what it granted.
            self.tell_state();
            let reason = text!(
                "the peer is becoming Primary, is busy with another command, or its fence is not given back yet; see 'status' there"
            );
            return self.not_yet(task.id, reason);
        }
        if let Err(denial) = may_promote(Policy::DontCare, facts) {
            let reason = self.denial_text(denial);
            self.tell_state();
            return self.deny(task.id, denial.into(), reason);
        }
        self.become_primary(task.id, Vouched::by_operator(force), mem);
    }

    pub(super) fn demote(&mut self, id: CommandId, force: bool) {
        if self.role != Role::Primary {
            return self.done(id, Ok(text!("already Secondary")));
        }
        if self.open_clients > 0 && !force {
            let clients = self.open_clients;
            let reason = text!(
                "{clients} client connections have a volume open: disconnect them, or drop them with 'secondary --force'"
            );
            return self.done(id, Err(reason));
        }
        self.set_serving(false);
        self.task = Some(Task {
            id,
            kind: TaskKind::Demote { answered: false },
            deadline: self.now + self.config.timers.timeout,
        });
    }

    /// As [`Engine::demote`], without an operator who waits for its end.
    pub(super) fn demote_by_policy(&mut self) {
        let serving = match self.task {
            None => true,
            Some(task) => matches!(task.kind, TaskKind::Serving { .. }),
        };
        if self.role == Role::Primary && serving {
            if let Some(task) = self.task.take()
                && task.kind == (TaskKind::Serving { answered: false })
            {
                let reason = text!(
                    "this node must give way to its peer meanwhile, and its clients are dropped; see 'log'"
                );
                self.deny(task.id, Withheld::GaveWay, reason);
            }
            self.set_serving(false);
            self.task = Some(Task {
                id: 0,
                kind: TaskKind::Demote { answered: true },
                deadline: Micros::MAX,
            });
        }
    }

    /// Cools the activity logs of a node without clients; answers whether nothing is hot any more. Both disks are flushed
    /// in doing so, and what may differ is exactly what the bitmap on the disk says.
    fn drained(&mut self) -> bool {
        let mut cold = true;
        for volume in self.volumes.iter_mut().filter(|v| v.usable()) {
            if let Some(meta) = &mut volume.meta {
                let done = meta.log.is_cold();
                meta.log.drain(!done);
                cold &= done;
            }
        }
        cold
    }

    /// Ends a demotion when no client's request is left on the way to either disk.
    pub(super) fn check_demotion(&mut self) {
        let Some(task) = self.task else { return };
        let TaskKind::Demote { answered } = task.kind else {
            return;
        };
        if self.clients_live > 0 || self.negotiating() || !self.drained() {
            return;
        }
        self.task = None;
        self.role = Role::Secondary;
        self.volumes.iter_mut().for_each(|v| v.through.end());
        if !self.connected() {
            self.volumes.iter_mut().for_each(Volume::doubt);
        }
        self.log(Level::Info, text!("now Secondary"));
        self.tell_state();
        if !answered {
            self.done(task.id, Ok(text!("now Secondary")));
        }
    }

    /// The operator states that both nodes' disks are identical.
    pub(super) fn declare_identical(&mut self, id: CommandId) {
        let reason = match self.peer_view() {
            PeerView::Unreachable if self.link.state == ConnectionState::StandAlone => {
                Some("this node is StandAlone: 'connect' first")
            }
            PeerView::Unreachable => {
                Some("the peer is not connected: see 'status', and try again when it is")
            }
            PeerView::Primary => Some("the peer is Primary: run 'secondary' there first"),
            PeerView::Secondary if self.role == Role::Primary => {
                Some("this node is Primary: run 'secondary' first")
            }
            PeerView::Secondary if self.granted => Some("the peer is becoming Primary"),
            PeerView::Secondary if !self.all_comparable() => {
                Some("a resync runs, or a disk is Inconsistent, failed or missing; see 'status'")
            }
            PeerView::Secondary => None,
        };
        if let Some(reason) = reason {
            return self.done(id, Err(text!("{reason}")));
        }
        let uuid = self.random();
        self.task = Some(Task {
            id,
            kind: TaskKind::NewGeneration { uuid },
            deadline: self.now + self.config.timers.timeout,
        });
        // The peer may take it over without its answer ever arriving.
        self.send(Frame::NewGeneration { uuid });
    }

    fn all_comparable(&self) -> bool {
        let created = |v: &Volume| v.usable() && v.gens.current == JUST_CREATED;
        self.volumes.iter().all(|v| {
            (v.disk > DiskState::Inconsistent || created(v))
                && (v.peer_disk > DiskState::Inconsistent || v.peer_created)
                && v.replication == ReplicationState::Established
        })
    }

    pub(super) fn new_generation(&mut self, uuid: u64, mem: &mut Mem<'_>) {
        let accepted = self.role == Role::Secondary && self.task.is_none() && self.all_comparable();
        if accepted {
            self.generation_taken = Some(uuid);
            self.take_generation(uuid, mem);
        } else {
            self.send(Frame::NewGenerationReply { uuid, accepted });
        }
    }

    pub(super) fn new_generation_reply(&mut self, uuid: u64, accepted: bool, mem: &mut Mem<'_>) {
        let Some(task) = self.task else { return };
        if task.kind != (TaskKind::NewGeneration { uuid }) {
            return;
        }
        self.task = None;
        let result: Result<Text, Text> = if accepted && self.all_comparable() {
            self.task = Some(Task {
                kind: TaskKind::Saving { uuid },
                ..task
            });
            return self.take_generation(uuid, mem);
        } else if accepted {
            self.reopen_link();
            Err(text!("a disk failed meanwhile; see 'status'"))
        } else {
            Err(text!(
                "the peer is busy with another command, or its disk is not whole; see 'status' there"
            ))
        };
        self.done(task.id, result);
    }

    /// Everything that was to be saved is: tell whoever waits for that.
    pub(super) fn durable(&mut self) {
        let early = mutation::is(Mutation::ServesBeforeDurable);
        if self.volumes.iter().any(Volume::saving) && !early {
            return;
        }
        if let Some(uuid) = self.generation_taken.take()
            && self.connected()
        {
            let accepted = true;
            self.send(Frame::NewGenerationReply { uuid, accepted });
        }
        if let Some(task) = self.task
            && let TaskKind::Saving { uuid } = task.kind
        {
            self.task = None;
            let said = text!("both nodes are UpToDate in generation {uuid:016x}");
            self.done(task.id, Ok(said));
        }
        if let Some(task) = self.task
            && task.kind == TaskKind::Outdating
        {
            self.task = None;
            let said = text!("outdated: only 'primary --force' makes this node Primary now");
            self.done(task.id, Ok(said));
        }
        if let Some(task) = self.task
            && let TaskKind::Serving { answered } = task.kind
        {
            self.task = None;
            let lost = self.volumes.iter().find(|v| !(v.good() || v.through.on));
            if let Some(index) = lost.map(|volume| volume.config.index) {
                return self.promotion_failed(&task, index);
            }
            self.set_serving(true);
            if !answered {
                self.done(task.id, Ok(text!("now Primary")));
            }
        }
    }

    /// The disk went out of use before clients were let in. No other one can ever have the generation that was to be served.
    fn promotion_failed(&mut self, task: &Task, index: u16) {
        let reason = text!(
            "vol{index}: its disk went out of use before the promotion was saved, so this node becomes Secondary again: see 'disks'"
        );
        if task.kind == (TaskKind::Serving { answered: false }) {
            self.deny(task.id, Withheld::Disk, reason);
        } else {
            self.log(Level::Error, reason);
        }
        // The peer may be in the middle of learning of the role.
        self.task = Some(Task {
            id: 0,
            kind: TaskKind::Demote { answered: true },
            deadline: Micros::MAX,
        });
    }

    fn take_generation(&mut self, uuid: u64, mem: &mut Mem<'_>) {
        // What is known of the peer's caches goes, and with it what answers to flushes would say of that.
        for id in 0..self.slots.capacity() as SlotId {
            if self.slots.get(id).is_some() {
                self.slots.at(id).tracked = false;
            }
        }
        for volume in &mut self.volumes {
            volume.gens.declared_identical(uuid);
            volume.mark_all_clean();
            volume.verdict = None;
            volume.in_sync();
        }
        self.link.reason.clear();
        self.log(
            Level::Info,
            text!("the operator states that both disks are identical: generation {uuid:016x}"),
        );
        self.tell_state();
        self.save_all(mem);
        self.durable();
    }

    /// The connection is gone: a promotion is decided without the peer, what else waited for its answer
    /// fails.
    pub(super) fn fail_link_task(&mut self) {
        let Some(task) = self.task else { return };
        match task.kind {
            TaskKind::Demote { .. }
            | TaskKind::Saving { .. }
            | TaskKind::Serving { .. }
            | TaskKind::Fencing { .. }
            | TaskKind::Outdating => return,
            TaskKind::Promote { force, .. } => {
                let again = Deferred {
                    id: task.id,
                    command: Command::Primary { force },
                    deadline: self.now + self.config.timers.timeout,
                };
                self.task = None;
                if self.deferred.push_front(again).is_ok() {
                    return;
                }
            }
            TaskKind::NewGeneration { .. } | TaskKind::GiveUp { .. } => self.task = None,
            TaskKind::Resize { at, .. } => {
                self.task = None;
                self.stop_leading(at);
            }
        }
        let reason =
            text!("the connection to the peer was lost meanwhile; see 'status' and try again");
        self.not_yet(task.id, reason);
    }

    /// Commands wait for a bounded time only.
    pub(super) fn tick_task(&mut self, mem: &mut Mem<'_>) {
        let Some(mut task) = self.task else { return };
        if task.deadline > self.now {
            return;
        }
        if let TaskKind::Demote { answered } = &mut task.kind {
            let in_flight = self.clients_live;
            if !core::mem::replace(answered, true) {
                let reason = text!(
                    "{in_flight} requests are still on their way to a disk; clients are dropped and the demotion goes on when these end; see 'status'"
                );
                self.done(task.id, Err(reason));
            }
            task.deadline = Micros::MAX;
            self.task = Some(task);
            return;
        }
        if let TaskKind::Serving { answered } = &mut task.kind {
            if !core::mem::replace(answered, true) {
                let reason = text!(
                    "this node is Primary, but its disk has not saved that yet: clients are let in as soon as it has; see 'disks'"
                );
                self.withhold(task.id, Withheld::NotSaved);
                self.not_yet(task.id, reason);
            }
            task.deadline = Micros::MAX;
            self.task = Some(task);
            return;
        }
        if let TaskKind::Fencing { .. } = task.kind {
            if self.cancel_promotion(mem).is_err() {
                task.deadline = self.now + self.config.timers.timeout;
                self.task = Some(task);
                return;
            }
            self.task = None;
            let reason = text!(
                "the disk has not saved the word in time: this node stays Secondary; see 'disks', and try again"
            );
            return self.done(task.id, Err(reason));
        }
        self.task = None;
        // Whatever the peer still answers is void; it learns that this node stayed Secondary.
        self.tell_state();
        if let TaskKind::Resize { at, .. } = task.kind {
            // The peer may have the new size by now: the next handshake settles that.
            self.stop_leading(at);
            self.reopen_link();
        }
        if matches!(task.kind, TaskKind::NewGeneration { .. }) {
            // It may have taken the generation over: find out.
            self.reopen_link();
        }
        self.not_yet(
            task.id,
            text!("the peer did not answer in time; see 'status'"),
        );
    }
}
