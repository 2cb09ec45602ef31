//! What others answered.

use super::Fencer;
use super::api::{Action, Denied, Notice};
use super::confirmation::Confirmation;
use crate::{Answer, EPISODE_MAX, Episode, Grantors, Own, Party, Refusal, Standing};

impl Fencer {
    pub(super) fn answer_from(&mut self, from: Party, answer: Answer) {
        match answer {
            Answer::Granted { episode } => match self.record.own {
                // Not one that is not needed any more: the peer is back, or the promotion was cancelled.
                Own::Requested(own) if own == episode && self.needed() => {
                    self.grant(from, Grantors::default(), episode);
                }
                Own::Held(own, by) if own == episode => self.grant(from, by, episode),
                _ => {}
            },
            Answer::Released { episode } => {
                if self.record.own == Own::Releasing(episode) {
                    self.progress(from).wanted = false;
                }
            }
            Answer::Refused { episode, why } => self.refused(from, episode, why),
            Answer::State(standing) if from == Party::Arbiter => self.standing(standing),
            Answer::State(standing) => self.peers_standing(&standing),
            Answer::Promoting { .. } | Answer::Handled { .. } => {}
        }
    }

    /// Whether a number may be taken note of; it is said if not.
    fn plausible(&mut self, from: Party, episode: Episode) -> bool {
        let plausible = episode < EPISODE_MAX;
        if !plausible {
            self.notice(Notice::Implausible(episode, from));
        }
        plausible
    }

    fn refused(&mut self, from: Party, episode: Episode, why: Refusal) {
        let requested = match self.record.own {
            Own::Requested(own) if own == episode && self.needed() => true,
            Own::Held(own, _) if own == episode => false,
            _ => return,
        };
        // Whether it is still held, for a promotion.
        let confirms = self.confirmation == Confirmation::Asked;
        self.notice(Notice::Refused(episode, from, why.clone()));
        match why {
            Refusal::Held {
                holder,
                episode: other,
            } => {
                if !self.plausible(from, other) {
                    return;
                }
                self.saw(other);
                if holder == self.config.node {
                    if requested && other >= episode {
                        self.request();
                    }
                } else if holder != self.config.peer {
                    self.notice(Notice::Stranger(holder, other));
                } else if other > self.record.released && (requested || other > episode) {
                    self.fenced(other);
                }
            }
            Refusal::Stale { last } => {
                if !self.plausible(from, last) {
                    return;
                }
                self.saw(last);
                if requested && last >= episode {
                    self.request();
                } else if !requested {
                    // The other one's grant stands; here the number can be entered no more.
                    self.progress(from).wanted = false;
                    if confirms && (from == Party::Arbiter || !self.config.arbiter) {
                        self.deny(Denied::Unconfirmed(episode));
                    }
                    self.turn_to_arbiter();
                }
            }
            Refusal::Primary if confirms => self.deny(Denied::PeerIsPrimary),
            Refusal::Primary if requested && !self.view.primary => {
                self.deny(Denied::PeerIsPrimary);
                self.push(Action::OutdateSelf(None));
            }
            Refusal::Older { vouched } if requested || confirms => {
                if self.plausible(from, vouched) {
                    self.saw(vouched);
                    self.deny(Denied::Older(vouched));
                    self.push(Action::OutdateSelf(None));
                }
            }
            Refusal::Requesting { episode: other } => {
                if self.plausible(from, other) {
                    self.saw(other);
                    self.turn_to_arbiter();
                }
            }
            // Two nodes that are Primary, neither of which knows better: the arbiter decides, or the operator. The
            // others may pass.
            Refusal::Primary
            | Refusal::Older { .. }
            | Refusal::OtherResource
            | Refusal::NotStored
            | Refusal::Handler(_)
            | Refusal::Future => {}
        }
    }

    /// The peer fences this node.
    pub(super) fn fenced(&mut self, episode: Episode) {
        self.saw(episode);
        if self.record.mark < Some(episode) {
            self.record.mark = Some(episode);
            self.outdating = Some(episode);
            self.notice(Notice::Marked(episode));
            // The arbiter gave the peer a newer one, as it does by an operator's word only.
            if let Own::Held(own, _) = self.record.own {
                self.release(own);
            }
        }
        self.deny(Denied::Fenced(episode));
    }

    /// The end of the peer's episode: a mark of it, or of an older one that it took the place of, is lifted.
    pub(super) fn lifted(&mut self, episode: Episode) {
        self.saw(episode);
        self.record.released = self.record.released.max(episode);
        if let Some(mark) = self.record.mark
            && mark <= episode
        {
            self.record.mark = None;
            self.notice(Notice::MarkLifted(mark));
        }
    }

    /// How things stand at the peer, which knows of the number by which it fenced this node and does not hold it any more: it
    /// was given back and nobody could say so, or its disk was replaced. Numbers are not used twice, so the answer may be old;
    /// in sync there is no data that only one of the two has.
    fn peers_standing(&mut self, standing: &Standing) {
        let Some(mark) = self.record.mark else { return };
        let holds = matches!(standing.holder, Some((_, episode)) if episode >= mark);
        if self.view.in_sync && standing.last >= mark && standing.last < EPISODE_MAX && !holds {
            self.lifted(mark);
            self.query.wanted = false;
        }
    }

    /// How things stand at the arbiter. What is taken from it stays true, so it may be old.
    fn standing(&mut self, standing: Standing) {
        // While it is fenced beside a peer in sync it asks on, at its pace, until the fence was given back.
        let marked = self.view.in_sync && self.record.mark.is_some();
        // So it does while the arbiter has it for the holder by what a disk of it knew that is gone: until both are in sync.
        let lost = matches!(&standing.holder, Some((holder, _)) if *holder == self.config.node)
            && self.unused
            && self.record.own == Own::None;
        self.query.wanted = marked || self.gives_way() || lost;
        if !self.plausible(Party::Arbiter, standing.last) {
            return;
        }
        let fencing = match standing.holder {
            Some((holder, episode)) if holder == self.config.peer => Some(episode),
            Some((holder, episode)) if holder == self.config.node => {
                // Of an episode that this node has seen it knows better.
                if self.record.own == Own::None && episode > self.record.seen {
                    let by = Grantors {
                        peer: false,
                        arbiter: true,
                    };
                    self.saw(standing.last.max(episode));
                    self.record.own = Own::Held(episode, by);
                    self.notice(Notice::Adopted(episode));
                    // What it wrote under it, these disks do not have.
                    self.push(Action::OutdateSelf(None));
                } else if lost && self.view.in_sync {
                    // The peer has everything, and is not to stay fenced by it for ever.
                    self.query.wanted = false;
                    self.notice(Notice::Releasing(episode));
                    self.release(episode);
                }
                None
            }
            Some((holder, episode)) => return self.notice(Notice::Stranger(holder, episode)),
            None => None,
        };
        self.saw(standing.last);
        match (fencing, self.record.mark) {
            (Some(episode), _)
                if episode > self.record.released && (!self.view.primary || self.gives_way()) =>
            {
                self.fenced(episode);
            }
            (None, Some(mark)) if standing.over >= mark => {
                self.lifted(mark);
                self.query.wanted = false;
            }
            (_, Some(mark)) => self.deny(Denied::Fenced(mark)),
            _ => {}
        }
    }
}
