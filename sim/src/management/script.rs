//! What a scripted scenario does to the management network and the arbiter, and sees of them.

use super::{Question, name};
use crate::schedule::{NodeEvent, Occurrence};
use crate::world::{Time, World};
use fencing::arbiter::Arbiter;
use fencing::{Episode, Record};
use replication::api::{Answer, Party, Request};

/// Delay of what is delivered late, in microseconds.
const DELAY: Time = 50;

/// A datagram.
#[derive(Debug, Clone)]
pub enum Message {
    /// Of this node, to a party.
    Question(usize, Party, Request),
    /// To this node, of a party.
    Answer(usize, Party, Answer),
}

/// Chooses what is held back.
pub type Pick = fn(&Message) -> bool;

impl World {
    /// Nothing is drawn: the script alone disturbs the management network.
    pub(crate) fn with_calm_management(&mut self, seed: u64) {
        self.with_management(seed);
        self.end_management_faults();
    }

    /// Whether a datagram is kept for later.
    pub(super) fn holds_back(&mut self, message: Message) -> bool {
        let Some(management) = &mut self.management else {
            return false;
        };
        let held = management.pick.is_some_and(|pick| pick(&message));
        if held {
            management.held.push(message);
        }
        held
    }

    /// Cuts these paths, and mends the others: of node 0 and of node 1 to the arbiter, and between the nodes.
    pub fn cut_management(&mut self, paths: [bool; 3]) {
        if let Some(management) = &mut self.management {
            management.cut = paths.map(|cut| if cut { Time::MAX } else { 0 });
        }
    }

    /// Stops the arbiter, or starts it with what it has stored.
    pub fn stop_arbiter(&mut self, stopped: bool) {
        if let Some(management) = &mut self.management {
            management.down_until = if stopped { Time::MAX } else { 0 };
        }
    }

    /// The arbiter's disk is replaced by a blank one.
    pub fn blank_arbiter(&mut self) {
        if let Some(management) = &mut self.management {
            management.arbiter = Arbiter::default();
        }
    }

    /// From now on holds back what is picked.
    pub fn hold_back(&mut self, pick: Option<Pick>) {
        if let Some(management) = &mut self.management {
            management.pick = pick;
        }
    }

    /// How many datagrams are held back.
    #[must_use]
    pub fn held_back(&self) -> usize {
        self.management.as_ref().map_or(0, |m| m.held.len())
    }

    /// Loses what is held back.
    pub fn lose_held(&mut self) {
        if let Some(management) = &mut self.management {
            management.held.clear();
        }
    }

    /// Delivers what was held back, in its order.
    pub fn deliver_held(&mut self) {
        let held = (self.management.as_mut()).map_or(Vec::new(), |m| std::mem::take(&mut m.held));
        for message in held {
            match message {
                Message::Question(from, Party::Arbiter, request) => {
                    let boot = self.nodes[from].boot;
                    let question = Question {
                        from,
                        boot,
                        request,
                    };
                    let at = self.now + DELAY;
                    self.schedule.push(at, Occurrence::Question(question));
                }
                Message::Question(from, Party::Peer, request) => {
                    let boot = self.nodes[from].boot;
                    let event = NodeEvent::Asked(Party::Peer, request, boot);
                    self.later(1 - from, DELAY, event);
                }
                Message::Answer(to, from, answer) => {
                    self.later(to, DELAY, NodeEvent::Answered(from, answer));
                }
            }
        }
    }

    /// What a node knows of fences.
    #[must_use]
    pub fn fencing_record(&self, n: usize) -> Record {
        self.record_of(n).unwrap_or_default()
    }

    /// Who holds the fence at the arbiter: the node and its episode.
    #[must_use]
    pub fn holder(&self) -> Option<(usize, Episode)> {
        let holder = self.management.as_ref()?.arbiter.holder.as_ref();
        holder.map(|(holder, episode)| (usize::from(*holder == name(1)), *episode))
    }

    /// Who held the fence at the arbiter, change by change.
    #[must_use]
    pub fn holders(&self) -> Vec<Option<(usize, Episode)>> {
        let journal = self.management.iter().flat_map(|m| &m.journal);
        journal
            .map(|held| {
                held.as_ref()
                    .map(|(node, episode)| (usize::from(*node == name(1)), *episode))
            })
            .collect()
    }
}
