//! A node becomes Primary without its peer: with a fence, or by the operator's word.

use super::super::roles::{Task, TaskKind, Vouched};
use super::super::{Engine, text};
use crate::api::{Answer, CommandId, Micros, Party, Role};
use crate::buf::Mem;
use crate::mutation::{self, Mutation};
use fencing::api::{Denied, Input};
use fencing::{DiskGrade, Own, Withheld};

impl Engine {
    /// Asks for the fence that the promotion needs. The worker bounds the time that it takes.
    pub(in crate::engine) fn promote_by_fence(
        &mut self,
        id: CommandId,
        force: bool,
        mem: &mut Mem<'_>,
    ) {
        self.task = Some(Task {
            id,
            kind: TaskKind::Fencing { force },
            // Who asks others is bounded by the worker; the operator's word waits for this node's disks only.
            deadline: if force {
                self.now + self.config.timers.timeout
            } else {
                Micros::MAX
            },
        });
        // A word that is being stored still stands.
        self.fence.forced |= force;
        self.fence_look(self.connected(), mem);
        self.fence_input(Input::Promote { force }, mem);
        if mutation::is(Mutation::HeldNotConfirmed)
            && let Own::Held(episode, _) = self.fence.status().record.own
        {
            let from = Party::Arbiter;
            let answer = Answer::Granted { episode };
            self.fence_input(Input::Answer { from, answer }, mem);
        }
        self.finish_promotion(mem);
    }

    /// Gives up a promotion that is being decided.
    ///
    /// # Errors
    ///
    /// It is decided, and takes effect as soon as the handshake that is under way has ended.
    pub(in crate::engine) fn cancel_promotion(&mut self, mem: &mut Mem<'_>) -> Result<(), ()> {
        if self.fence.promoted.is_some() {
            return Err(());
        }
        self.fence_input(Input::PromoteCancelled, mem);
        Ok(())
    }

    /// Why this node may not become Primary beside its connected peer: the peer's fence.
    pub(in crate::engine) fn fenced(&self) -> Option<Denied> {
        self.fence.fencer.may_promote_connected().err()
    }

    /// Whether the connected peer may become Primary as far as this node's own fence is concerned.
    pub(in crate::engine) fn consents(&self) -> bool {
        self.fence.fencer.consent().is_ok()
    }

    pub(super) fn take_fencing_task(&mut self) -> Option<(CommandId, bool)> {
        let task = self.task?;
        let TaskKind::Fencing { force } = task.kind else {
            return None;
        };
        self.task = None;
        Some((task.id, force))
    }

    /// The worker has decided: the node is Primary, unless the peer is back meanwhile, which is to be asked then.
    pub(super) fn finish_promotion(&mut self, mem: &mut Mem<'_>) {
        let Some(force) = self.fence.promoted else {
            return;
        };
        if self.negotiating() {
            return;
        }
        let (id, _) = self.take_fencing_task().unwrap_or((super::NOBODY, force));
        if self.connected() {
            self.fence.promoted = None;
            return self.defer_promotion(id, force);
        }
        if self.disk_grade() == DiskGrade::Unusable {
            self.fence.promoted = None;
            let why = text!("a disk was lost meanwhile; see 'status'");
            return self.deny(id, Withheld::Disk, why);
        }
        if self.task.is_none() && self.role != Role::Primary {
            let vouched = if force {
                Vouched::Operator
            } else {
                Vouched::Fence
            };
            self.become_primary(id, vouched, mem);
        }
        self.fence.promoted = None;
    }
}
