//! Occasions of DRBD's handlers, told to the arbiter, which runs them ([`fencing::notifier`], docs/MANAGEMENT.md, "Events").
//!
//! They are told one after the other and asked again until the arbiter says that the handler has run, or the node has lost
//! its patience. Two of them are awaited: the ones before a resync. No connection is made that would begin one before its handler
//! has run and agreed: each node says in its greeting whether it has one to run, so both know, and both part and try again. A
//! Primary writes on meanwhile as it did without its peer. A resync that begins within a connection (`invalidate`,
//! what a verify repairs, what a node that pulled ahead has left out) is told and not awaited: its target is there already.

use super::link::Next;
use super::{Engine, text};
use crate::api::{Answer, DiskState, Level, MAX_VOLUMES, Micros, Party, ReplicationState, Role};
use crate::lineage::{Settled, Verdict};
use fencing::Event;
use fencing::notifier::{NO_EXIT_CODE, Notifier, Outcome, Told, WAITING_MAX};

/// How often the pause between two questions doubles.
const DOUBLINGS: u8 = 3;
/// Connect intervals before a handler that did not agree is run again.
const AGAIN: Micros = 4;

/// The handler before the next resync of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// It is to be run, but not before this moment.
    Due(Micros),
    /// It is being run.
    Told(Event),
    /// It has agreed.
    Agreed(Event),
}

/// What the engine keeps for it.
#[derive(Debug)]
pub(super) struct Notify {
    notifier: Notifier,
    /// When each of those that wait is given up.
    patience: heapless::Deque<Micros, WAITING_MAX>,
    /// How often the first of them was asked.
    tries: u8,
    /// When it is asked next.
    due: Micros,
    before: [Before; MAX_VOLUMES],
    /// Neither node has good data, and this one is Primary: it was told.
    degraded: [bool; MAX_VOLUMES],
    /// This node is the target of a resync.
    copying: [bool; MAX_VOLUMES],
}

impl Notify {
    pub const fn new() -> Self {
        Self {
            notifier: Notifier::new(),
            patience: heapless::Deque::new(),
            tries: 0,
            due: 0,
            before: [Before::Due(0); MAX_VOLUMES],
            degraded: [false; MAX_VOLUMES],
            copying: [false; MAX_VOLUMES],
        }
    }
}

impl Engine {
    fn notifies(&self) -> bool {
        self.config.fencing.notify.is_some()
    }

    /// Something happened, to the volume at `at` or to the resource; answers whether it will be told. Of two of the same that
    /// wait one is enough.
    pub(super) fn notify(&mut self, event: Event, at: Option<usize>) -> bool {
        let Some(patience) = self.config.fencing.notify else {
            return false;
        };
        let index = at.map(|at| self.volumes[at].config.index);
        // Indices are 0 to 255.
        let volume = index.and_then(|index| u8::try_from(index).ok());
        if !event.awaited() && self.notify.notifier.waits(event, volume) {
            return true;
        }
        let idle = self.notify.patience.is_empty();
        if self.notify.notifier.notify(event, volume).is_err() {
            self.log(
                Level::Warn,
                text!("handler {event} is not run: too many wait for the arbiter"),
            );
            return false;
        }
        // As much room as the notifier has.
        let _ = self.notify.patience.push_back(self.now + patience);
        if idle {
            (self.notify.tries, self.notify.due) = (0, self.now);
        }
        true
    }

    /// When the first event is to be asked again, or given up.
    pub(super) fn notify_deadline(&self) -> Option<Micros> {
        let patience = self.notify.patience.front()?;
        Some(self.notify.due.min(*patience))
    }

    /// Asks what is due.
    pub(super) fn pump_notify(&mut self) {
        while let Some(patience) = self.notify.patience.front()
            && *patience <= self.now
            && let Some((told, outcome)) = self.notify.notifier.give_up()
        {
            self.handled(told, outcome);
        }
        if self.notify.due <= self.now
            && let Some(question) = self.notify.notifier.question()
        {
            let tries = self.notify.tries;
            self.notify.tries = DOUBLINGS.min(tries + 1);
            self.notify.due = self.now + (self.config.fencing.retry.max(1000) << tries);
            self.queue.ask(Party::Arbiter, question);
        }
    }

    /// An answer of the arbiter.
    pub(super) fn notified(&mut self, answer: &Answer) {
        if let Some((told, outcome)) = self.notify.notifier.answer(answer) {
            self.handled(told, outcome);
        }
    }

    fn handled(&mut self, told: Told, outcome: Outcome) {
        self.notify.patience.pop_front();
        (self.notify.tries, self.notify.due) = (0, self.now);
        let event = told.event;
        let of = match told.volume {
            Some(index) => text!("vol{index}: handler {event}"),
            None => text!("handler {event}"),
        };
        match outcome {
            Outcome::Code(0) => self.log(Level::Debug, text!("{of} has run")),
            Outcome::Code(NO_EXIT_CODE) => self.log(
                Level::Error,
                text!("{of} was killed or could not be run; see the arbiter's log"),
            ),
            Outcome::Code(code) => self.log(
                Level::Error,
                text!("{of} ended with exit code {code}; see the arbiter's log"),
            ),
            Outcome::NoAnswer => self.log(
                Level::Error,
                text!("{of}: the arbiter did not say in time whether it has run"),
            ),
        }
        let at = told
            .volume
            .and_then(|index| self.volume_by_index(index.into()));
        if event.awaited()
            && let Some(at) = at
            && self.notify.before[at] == Before::Told(event)
        {
            self.notify.before[at] = if outcome == Outcome::Code(0) {
                Before::Agreed(event)
            } else {
                Before::Due(self.now + AGAIN * self.config.timers.connect_interval)
            };
        }
    }

    /// Whether the greeting is to say that a resync of the volume must not begin yet.
    pub(super) fn handler_due(&self, at: usize) -> bool {
        self.notifies() && !matches!(self.notify.before[at], Before::Agreed(_))
    }

    /// Both greetings are known, and the verdicts: whether a resync would begin whose handler has not agreed, here or
    /// there. Then this node's is run, and the nodes part.
    pub(super) fn await_handlers(&mut self) -> bool {
        let mut waits = None;
        for at in 0..self.volumes.len() {
            let event = match self.volumes[at].verdict {
                Some((Verdict::Source { .. }, _)) => Event::BeforeResyncSource,
                Some((Verdict::Target { .. }, _)) => Event::BeforeResyncTarget,
                _ => continue,
            };
            let index = self.volumes[at].config.index;
            if self.notifies() {
                match self.notify.before[at] {
                    Before::Agreed(agreed) if agreed == event => {}
                    Before::Told(told) if told == event => {
                        waits = Some(text!("vol{index}: waits for handler {event} of this node"));
                    }
                    Before::Due(until) if until > self.now => {
                        waits = Some(text!(
                            "vol{index}: handler {event} of this node did not agree to a resync; it will be run again"
                        ));
                    }
                    Before::Due(_) | Before::Told(_) | Before::Agreed(_) => {
                        if self.notify(event, Some(at)) {
                            self.notify.before[at] = Before::Told(event);
                        }
                        waits = Some(text!("vol{index}: waits for handler {event} of this node"));
                    }
                }
            }
            let theirs = self.link.peer_volumes.get(at);
            if waits.is_none() && theirs.is_some_and(|peer| peer.handler_due) {
                waits = Some(text!(
                    "vol{index}: waits for the handler that the peer runs before a resync"
                ));
            }
        }
        let Some(why) = waits else {
            return false;
        };
        self.complain(Level::Info, why);
        self.link.next = Next::Retry;
        self.part();
        true
    }

    /// The nodes are connected: what a handler agreed to and was not needed is of the past.
    pub(super) fn handlers_not_needed(&mut self) {
        for at in 0..self.volumes.len() {
            let begins = matches!(
                self.volumes[at].verdict,
                Some((Verdict::Source { .. } | Verdict::Target { .. }, _))
            );
            if !begins && matches!(self.notify.before[at], Before::Agreed(_)) {
                self.notify.before[at] = Before::Due(0);
            }
        }
    }

    /// A resync of the volume begins here.
    pub(super) fn resync_begins(&mut self, at: usize, event: Event) {
        if !self.notifies() {
            return;
        }
        let before = core::mem::replace(&mut self.notify.before[at], Before::Due(0));
        if before != Before::Agreed(event) {
            self.notify(event, Some(at));
        }
    }

    /// Notices that this node has become the target of a resync, or is not any more, whichever way it ended.
    pub(super) fn notify_targets(&mut self, connected: bool) {
        if !self.notifies() {
            return;
        }
        for at in 0..self.volumes.len() {
            let volume = &self.volumes[at];
            let copying = connected
                && volume.replication == ReplicationState::SyncTarget
                && volume.disk == DiskState::Inconsistent;
            if self.notify.copying[at] && !copying {
                self.notify(Event::AfterResyncTarget, Some(at));
            }
            self.notify.copying[at] = copying;
        }
    }

    /// The connection is gone; the volumes are still as they were with it.
    pub(super) fn notify_lost(&mut self) {
        self.notify_targets(false);
        self.notify(Event::Disconnected, None);
    }

    /// What the handshake has found that somebody may want to know, before anything is done about it.
    pub(super) fn notify_verdicts(&mut self) {
        if !self.notifies() {
            return;
        }
        let primary = self.link.told.0 == Role::Primary;
        let [mut split, mut unresolved, mut lost] = [false; 3];
        for found in self.explanations(self.now).1 {
            let decision = &found.decision;
            let verdict = decision.verdict;
            unresolved |= verdict == Verdict::SplitBrain;
            split |= matches!(decision.settled, Settled::ByPolicy(_));
            lost |= matches!(
                verdict,
                Verdict::PrimaryIsTarget | Verdict::TargetAfterDemotion
            );
        }
        if split || unresolved {
            self.notify(Event::InitialSplitBrain, None);
        }
        if unresolved {
            self.notify(Event::SplitBrain, None);
        }
        if lost && primary {
            self.notify(Event::PriLost, None);
        }
    }

    /// Notices that a Primary has no good data left, here or there.
    pub(super) fn notify_degraded(&mut self) {
        if !self.notifies() {
            return;
        }
        for at in 0..self.volumes.len() {
            let volume = &self.volumes[at];
            let good = volume.good() || volume.through.on;
            let degraded = self.role == Role::Primary && self.serving && !good;
            if degraded && !self.notify.degraded[at] {
                self.notify(Event::PriOnInconDegr, Some(at));
            }
            self.notify.degraded[at] = degraded;
        }
    }
}
