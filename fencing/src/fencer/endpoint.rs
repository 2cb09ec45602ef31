//! What the peer and the arbiter ask: the management endpoint of a node.

use super::Fencer;
use super::api::Denied;
use crate::{Answer, EPISODE_MAX, Episode, Own, Party, Refusal, Request, Standing};

impl Fencer {
    pub(super) fn request_from(&mut self, from: Party, token: u32, request: Request) {
        let answer = match (request, from) {
            (
                Request::Outdate {
                    episode,
                    vouched,
                    primary,
                },
                Party::Peer,
            ) => match self.outdate(episode, vouched, primary) {
                Ok(()) => Answer::Granted { episode },
                Err(why) => Answer::Refused { episode, why },
            },
            (Request::Unfence { episode, .. }, Party::Peer) => {
                if episode < EPISODE_MAX {
                    self.rival = false;
                    self.lifted(episode);
                }
                Answer::Released { episode }
            }
            (Request::Query, _) => Answer::State(Standing {
                holder: self
                    .may_hold()
                    .map(|episode| (self.config.node.clone(), episode)),
                last: self.stored.seen,
                over: 0,
                primary: self.view.primary,
            }),
            // Nobody of this pair asks that, or not the worker: it is not answered.
            (Request::Fence { .. } | Request::Promote { .. } | Request::Notify { .. }, _)
            | (Request::Outdate { .. } | Request::Unfence { .. }, Party::Arbiter) => return,
        };
        // An older answer that still waits is worth nothing beside this one: it would be asked for again.
        self.reply = Some((from, token, answer));
    }

    /// The episode by which this node fences its peer, or may any moment: the grant of one that was asked for may be on its way.
    const fn may_hold(&self) -> Option<Episode> {
        match self.stored.own {
            Own::Held(episode, _) | Own::Requested(episode) => Some(episode),
            Own::None | Own::Releasing(_) => None,
        }
    }

    /// The peer wants this node Outdated, as long as it holds `episode`. A number that is refused is not taken for used:
    /// it is asked again until the peer gives it back, and may be right then.
    fn outdate(
        &mut self,
        episode: Episode,
        vouched: Episode,
        peer_is_primary: bool,
    ) -> Result<(), Refusal> {
        let older = vouched < self.record.vouched && !peer_is_primary;
        if self.record.mark == Some(episode) && !older {
            return Ok(());
        }
        if episode >= EPISODE_MAX {
            return Err(Refusal::Future);
        }
        if self.record.mark == Some(episode) {
            // It asks whether it still holds it, and its disks lack something.
            let vouched = self.record.vouched;
            return Err(Refusal::Older { vouched });
        }
        let newer = episode > self.record.seen;
        if let Own::Held(own, _) = self.record.own {
            // Also with a number that was used: two that outbid each other must learn which of them holds.
            if newer {
                self.rival = peer_is_primary;
            }
            return Err(Refusal::Held {
                holder: self.config.node.clone(),
                episode: own,
            });
        }
        if !newer {
            let last = self.record.seen;
            return Err(Refusal::Stale { last });
        }
        if (self.view.primary && !self.gives_way()) || self.forced {
            return Err(Refusal::Primary);
        }
        if older {
            let vouched = self.record.vouched;
            return Err(Refusal::Older { vouched });
        }
        match self.record.own {
            Own::Requested(own) if self.needed() => {
                // Both want it. Once the arbiter was asked, it decides; before that the Primary goes first, else the
                // node whose name sorts first.
                let goes_first = !peer_is_primary && self.config.node < self.config.peer;
                if self.arbiter.wanted || goes_first {
                    return Err(Refusal::Requesting { episode: own });
                }
                self.deny(Denied::PeerGoesFirst(episode));
            }
            Own::None | Own::Requested(_) | Own::Held(..) | Own::Releasing(_) => {}
        }
        self.fenced(episode);
        Ok(())
    }
}
