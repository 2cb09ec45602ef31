//! The arbiter: a compare-and-swap of (resource, holder, episode). It knows nothing of data; it sees to it that of
//! two nodes that cannot see each other one at most is told that it may go on.
//!
//! [`Arbiter::ask`] is a pure function of what is stored and what is asked. Whoever calls it stores the result
//! before sending the answer, and sends none if that fails.

use crate::{Answer, EPISODE_MAX, Episode, Name, Refusal, Request, Standing};
use heapless::Vec;

/// How far a number may lie ahead of the highest one used: a pair that does not talk to the arbiter for years does not
/// use so many.
pub const AHEAD_MAX: Episode = 1 << 32;

/// What is stored of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Arbiter {
    /// Who holds a fence, and by which episode.
    pub holder: Option<(Name, Episode)>,
    /// The highest number used. None up to it is granted any more, but to who holds it already.
    pub last: Episode,
    /// The highest episode that each node gave back; in the order of the names.
    pub over: Vec<(Name, Episode), 2>,
    /// The highest episode after which both nodes had everything. Who does not know of it has old data.
    pub vouched: Episode,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// To be stored, if it differs from what is.
    pub next: Arbiter,
    /// To be sent when it is stored.
    pub answer: Answer,
}

/// What the exit code of a `fence-peer` handler counts for, by DRBD's convention; `up_to_date`: whether all disks of the
/// node that asks are.
///
/// # Errors
///
/// The peer is not fenced. A code that says nothing, as 0, is one of these.
pub const fn fenced_by_exit_code(code: u8, up_to_date: bool) -> Result<(), Refusal> {
    match code {
        // Its disk is Inconsistent; Outdated; it was powered off.
        3 | 4 | 7 => Ok(()),
        // It was not reached. Only the latest data may be gone on with then.
        5 if up_to_date => Ok(()),
        6 => Err(Refusal::Primary),
        _ => Err(Refusal::Handler(code)),
    }
}

impl Arbiter {
    /// Answers `node`. `None`: not a question that is about the fence.
    #[must_use]
    pub fn ask(&self, node: &Name, request: Request) -> Option<Verdict> {
        let mut next = self.clone();
        let answer = match request {
            Request::Fence {
                episode,
                released,
                vouched,
                force,
                ..
            } => match next.fence(node, episode, (released, vouched), force) {
                Ok(()) => Answer::Granted { episode },
                Err(why) => Answer::Refused { episode, why },
            },
            Request::Unfence { episode, vouched } => {
                next.unfence(node, episode, vouched);
                Answer::Released { episode }
            }
            Request::Query => Answer::State(Standing {
                holder: self.holder.clone(),
                last: self.last,
                over: self.over_of_others(node),
                primary: false,
            }),
            Request::Outdate { .. } | Request::Promote { .. } | Request::Notify { .. } => {
                return None;
            }
        };
        Some(Verdict { next, answer })
    }

    /// Takes the fence from its holder by the administrator's word. The holder is not asked: it must be off, or
    /// Outdated, for good. `false`: that is not the holder.
    pub fn release_by_hand(&mut self, node: &Name, episode: Episode) -> bool {
        let holds = self.holder.as_ref() == Some(&(node.clone(), episode));
        if holds {
            self.holder = None;
        }
        holds
    }

    /// The highest episode that a node other than this one gave back.
    fn over_of_others(&self, node: &Name) -> Episode {
        let others = self.over.iter().filter(|(name, _)| name != node);
        others.map(|(_, episode)| *episode).max().unwrap_or(0)
    }

    /// Takes note that `node` gave back everything up to `episode`.
    fn give_back(&mut self, node: &Name, episode: Episode) {
        if let Some((_, over)) = self.over.iter_mut().find(|(name, _)| name == node) {
            *over = episode.max(*over);
        } else if self.over.push((node.clone(), episode)).is_ok() {
            self.over.sort_unstable();
        }
    }

    fn plausible(&self, episode: Episode) -> bool {
        episode > 0 && episode < EPISODE_MAX && episode <= self.last.saturating_add(AHEAD_MAX)
    }

    fn fence(
        &mut self,
        node: &Name,
        episode: Episode,
        (released, vouched): (Episode, Episode),
        force: bool,
    ) -> Result<(), Refusal> {
        let older = vouched < self.vouched && !force;
        if self.holder.as_ref() == Some(&(node.clone(), episode)) && !older {
            return Ok(());
        }
        if !self.plausible(episode) {
            return Err(Refusal::Future);
        }
        if let Some((holder, held)) = &self.holder
            && holder != node
            // Or the sender was told by the holder that it gave its episode back, before the arbiter was.
            && *held > released
            && !force
        {
            // The number is not entered as used: the sender gives it back in any case, and until then it may be right
            // in asking again.
            return Err(Refusal::Held {
                holder: holder.clone(),
                episode: *held,
            });
        }
        if older {
            let vouched = self.vouched;
            return Err(Refusal::Older { vouched });
        }
        if episode <= self.last {
            return Err(Refusal::Stale { last: self.last });
        }
        self.last = episode;
        self.holder = Some((node.clone(), episode));
        Ok(())
    }

    fn unfence(&mut self, node: &Name, episode: Episode, vouched: Episode) {
        if !self.plausible(episode) {
            return;
        }
        if let Some((holder, held)) = &self.holder
            && holder == node
            && *held <= episode
        {
            self.holder = None;
        }
        // A copy of the FENCE that comes after this finds its number used.
        self.last = self.last.max(episode);
        if self.plausible(vouched) {
            self.vouched = self.vouched.max(vouched);
        }
        self.give_back(node, episode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_fence_as_drbd_says() {
        for code in 0..=u8::MAX {
            for up_to_date in [false, true] {
                let verdict = fenced_by_exit_code(code, up_to_date);
                match (code, up_to_date) {
                    (3 | 4 | 7, _) | (5, true) => assert_eq!(verdict, Ok(())),
                    (6, _) => assert_eq!(verdict, Err(Refusal::Primary)),
                    _ => assert_eq!(verdict, Err(Refusal::Handler(code))),
                }
            }
        }
    }
}
