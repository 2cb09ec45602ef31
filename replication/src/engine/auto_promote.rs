//! A node becomes Primary because clients wait (DRBD's `auto-promote`).
//!
//! It is the promotion by command without `--force`, with all of its rules: a connected Secondary peer that consents, or a fence
//! that is granted. So it never goes ahead where the operator's word would be needed. What is here is when it is tried, and what
//! clients hear if it is denied. While it is being decided they wait, not greeted; the wait for a fence has a bound of its own
//! (`fence-timeout`), and so has a client's (`standby-hold`).

use super::{Engine, Queued, text};
use crate::api::{
    Command, CommandId, ConnectionState, DeniedPromotion, EngineConfig, FencingConfig, Level,
    Micros, Role, Text,
};
use crate::buf::Mem;
use fencing::Withheld;

/// Who waits for the promotion instead of an operator.
pub(super) const CLIENTS: CommandId = CommandId::MAX - 1;

/// Pause after a denial before anybody is asked again. It doubles with each one, for a peer and an arbiter that said no are
/// not to be asked without end by whoever connects.
const PAUSE: Micros = 1_000_000;
/// How often it doubles.
const DOUBLINGS: u8 = 4;

/// What the engine keeps for it.
#[derive(Debug)]
pub(super) struct AutoPromote {
    /// Clients that wait.
    pub waiting: u32,
    /// The operator made this node Secondary: clients that come back do not undo that. Until the node was Primary again, or
    /// its peer was.
    pub held: bool,
    /// The last promotion, if it was denied.
    pub denied: Option<DeniedPromotion>,
    /// It is being decided.
    asked: bool,
    /// A peer that was Primary is lost, and its clients reach nobody.
    orphaned: bool,
    /// Whether that counts.
    at_loss: bool,
    /// Nobody is asked before.
    next: Micros,
    /// Denials in a row, up to [`DOUBLINGS`].
    denials: u8,
    /// A node that has just started leaves its peer the time to be found: until then, or until it is.
    settled: Micros,
}

impl AutoPromote {
    pub fn new(now: Micros, config: &EngineConfig) -> Self {
        let fencing = &config.fencing;
        Self {
            waiting: 0,
            held: false,
            denied: None,
            asked: false,
            orphaned: false,
            at_loss: fencing.auto_promote && fencing.promote_at_loss,
            next: 0,
            denials: 0,
            settled: now + config.timers.timeout,
        }
    }

    /// The configuration was changed.
    pub fn tuned(&mut self, fencing: &FencingConfig) {
        self.at_loss = fencing.auto_promote && fencing.promote_at_loss;
        self.orphaned &= self.at_loss;
    }

    /// The node is Primary, whoever wanted it.
    pub fn over(&mut self) {
        self.denied = None;
        self.held = false;
        self.orphaned = false;
        self.denials = 0;
        self.next = 0;
    }

    /// The connection is gone, and the peer's role was this.
    pub fn peer_lost(&mut self, role: Role) {
        self.orphaned = self.at_loss && role == Role::Primary;
        self.denials = 0;
        self.next = 0;
    }

    /// A connected peer says that it has this role.
    pub fn peer_seen(&mut self, role: Role) {
        self.settled = 0;
        self.orphaned = false;
        self.denials = 0;
        self.next = 0;
        if role == Role::Primary {
            self.held = false;
            self.denied = None;
        }
    }

    const fn wanted(&self) -> bool {
        (self.waiting > 0 && !self.held) || self.orphaned
    }
}

impl Engine {
    /// Whether clients could have this node promoted, were it only for the time.
    fn auto_promotable(&self) -> bool {
        self.config.fencing.auto_promote
            && self.role == Role::Secondary
            && self.auto.wanted()
            && !self.auto.asked
            && !(self.connected() && self.peer_role == Role::Primary)
    }

    fn auto_due(&self) -> Micros {
        let settled = if self.connected() || self.link.state == ConnectionState::StandAlone {
            0
        } else {
            self.auto.settled
        };
        self.auto.next.max(settled)
    }

    /// When clients that wait are reason enough to try again.
    pub(super) fn auto_deadline(&self) -> Option<Micros> {
        let due = self.auto_due();
        (self.auto_promotable() && due > self.now).then_some(due)
    }

    /// Asks for the promotion if clients wait for it and nothing else is under way.
    pub(super) fn auto_promote(&mut self, mem: &mut Mem<'_>) {
        let idle = self.task.is_none() && self.deferred.is_empty();
        let known = !self.negotiating() && !self.attaching();
        if idle && known && self.auto_promotable() && self.auto_due() <= self.now {
            self.auto.asked = true;
            self.command(CLIENTS, Command::Primary { force: false }, mem);
        }
    }

    /// What became of it.
    pub(super) fn auto_promoted(&mut self, result: Result<Text, Text>) {
        self.auto.asked = false;
        match result {
            Ok(_) => self.log(
                Level::Info,
                text!("promoted by itself: clients waited (auto-promote)"),
            ),
            Err(_) => {
                self.auto.next = self.now + (PAUSE << self.auto.denials);
                self.auto.denials = DOUBLINGS.min(self.auto.denials + 1);
                if self.auto.waiting > 0 {
                    self.queue.push(Queued::RefuseClients);
                }
            }
        }
    }

    /// A promotion is denied. `status` and `explain` say why, and so does the log if nobody waits for the answer who could read it.
    pub(super) fn deny(&mut self, id: CommandId, code: Withheld, why: Text) {
        let for_clients = id == CLIENTS;
        let before = self.auto.denied.as_ref();
        let news = before.is_none_or(|before| before.why != why || !before.for_clients);
        if for_clients && news {
            self.log(
                Level::Warn,
                text!("not promoted for the clients that wait: {why}"),
            );
        }
        self.auto.denied = Some(DeniedPromotion {
            at: self.now,
            why: why.clone(),
            for_clients,
        });
        self.withhold(id, code);
        self.done(id, Err(why));
    }

    /// A command that waited for something was not done, and may be if it is tried again: clients wait on.
    pub(super) fn not_yet(&mut self, id: CommandId, why: Text) {
        if id == CLIENTS {
            self.auto.asked = false;
            self.auto.next = self.now + PAUSE;
            return self.log(Level::Debug, text!("not promoted yet: {why}"));
        }
        self.done(id, Err(why));
    }

    /// What clients that are not served are told; `None`: nothing, they are to be left waiting for a node that serves.
    #[must_use]
    pub fn not_serving(&self) -> Option<Text> {
        if !self.config.fencing.auto_promote || self.serving {
            return None;
        }
        let (node, peer) = (&self.config.node, &self.config.peer);
        let because = if self.connected() && self.peer_role == Role::Primary {
            text!("its peer {peer} is: connect there")
        } else if let Some(denied) = &self.auto.denied {
            denied.why.clone()
        } else if self.auto.held {
            text!("its operator made it Secondary, and 'primary' undoes that")
        } else {
            text!("it is not decided yet whether it may be; see 'status' there")
        };
        Some(text!("node {node} is not Primary: {because}"))
    }
}
