//! PROMOTE: a person or a cluster manager has a node become Primary, by way of the arbiter (docs/MANAGEMENT.md, "PROMOTE").
//!
//! The node decides by its own rules, as by its console's `primary` without `--force`. What is here is how the two sides come to
//! mean the same promotion, whatever is lost, repeated or held back on the way. Asked without a number, the node draws one
//! and obeys nothing yet; asked with it, in time, it sets about it, once; asked again, it says what has become of it. So a
//! datagram that somebody held back for longer does nothing, and neither does a repetition.
//!
//! No I/O and no clock: [`Bidding`] is told the time, [`Promoter`] is asked how long to wait.

use crate::api::{Denied, Disk};
use crate::{Answer, Denial, Episode, Request};
use core::fmt;
use core::time::Duration;

/// How a promotion stands at the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Promoting {
    /// Nothing was done. Asked with the number in the answer, the node sets about it.
    Ready,
    /// It is being decided.
    UnderWay,
    /// The node is Primary and serves clients.
    Primary,
    /// It did not become Primary.
    Denied(Withheld),
}

/// Why a node that was asked by PROMOTE does not become Primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Withheld {
    /// Its peer is Primary, or says so.
    PeerIsPrimary,
    /// A disk of it is missing, failed or half synchronised.
    Disk,
    /// A disk of it may not be the latest.
    DiskDoubtful,
    /// The peer cannot be asked, and by its policy nobody is fenced.
    PeerUnreachable,
    /// The peer cannot be asked, and there is nobody to ask for a fence.
    NobodyToAsk,
    /// The peer holds a fence against it, by this episode.
    Fenced(Episode),
    /// Both nodes had everything after this episode once, and its disks do not know of it.
    Older(Episode),
    /// The peer wants to become Primary too and goes first, by this episode.
    PeerGoesFirst(Episode),
    /// Its own fence of this episode is not given back yet.
    NotReleased(Episode),
    /// Neither its peer nor the arbiter answered it in time.
    NoAnswer,
    /// The node or its peer is at something else.
    Busy,
    /// It became Primary and had to give way to its peer before it served anybody.
    GaveWay,
    /// It is Primary, but its disk has not saved that yet.
    NotSaved,
    /// The node does not know the number, or it was asked too long after it drew it.
    TooLate,
    /// Its disks say that it holds this episode, and nobody confirms it.
    Unconfirmed(Episode),
}

impl Withheld {
    /// The number by which a datagram names it, and the episode that belongs to it, or 0.
    #[must_use]
    pub const fn code(self) -> (u8, Episode) {
        match self {
            Self::PeerIsPrimary => (1, 0),
            Self::Disk => (2, 0),
            Self::DiskDoubtful => (3, 0),
            Self::PeerUnreachable => (4, 0),
            Self::NobodyToAsk => (5, 0),
            Self::Fenced(episode) => (6, episode),
            Self::Older(episode) => (7, episode),
            Self::PeerGoesFirst(episode) => (8, episode),
            Self::NotReleased(episode) => (9, episode),
            Self::NoAnswer => (10, 0),
            Self::Busy => (11, 0),
            Self::GaveWay => (12, 0),
            Self::NotSaved => (13, 0),
            Self::TooLate => (14, 0),
            Self::Unconfirmed(episode) => (15, episode),
        }
    }

    /// The reason with these numbers.
    #[must_use]
    pub const fn from_code(code: u8, episode: Episode) -> Option<Self> {
        Some(match (code, episode) {
            (1, 0) => Self::PeerIsPrimary,
            (2, 0) => Self::Disk,
            (3, 0) => Self::DiskDoubtful,
            (4, 0) => Self::PeerUnreachable,
            (5, 0) => Self::NobodyToAsk,
            (6, episode) => Self::Fenced(episode),
            (7, episode) => Self::Older(episode),
            (8, episode) => Self::PeerGoesFirst(episode),
            (9, episode) => Self::NotReleased(episode),
            (10, 0) => Self::NoAnswer,
            (11, 0) => Self::Busy,
            (12, 0) => Self::GaveWay,
            (13, 0) => Self::NotSaved,
            (14, 0) => Self::TooLate,
            (15, episode) => Self::Unconfirmed(episode),
            _ => return None,
        })
    }

    /// A word for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::PeerIsPrimary => "peer-is-primary",
            Self::Disk => "disk",
            Self::DiskDoubtful => "disk-doubtful",
            Self::PeerUnreachable => "peer-unreachable",
            Self::NobodyToAsk => "nobody-to-ask",
            Self::Fenced(_) => "fenced",
            Self::Older(_) => "older",
            Self::PeerGoesFirst(_) => "peer-goes-first",
            Self::NotReleased(_) => "not-released",
            Self::NoAnswer => "no-answer",
            Self::Busy => "busy",
            Self::GaveWay => "gave-way",
            Self::NotSaved => "not-saved",
            Self::TooLate => "too-late",
            Self::Unconfirmed(_) => "unconfirmed",
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerIsPrimary => f.write_str("its peer is Primary: make that one Secondary first"),
            Self::Disk => f.write_str("a disk of it is missing, failed or half synchronised"),
            Self::DiskDoubtful => f.write_str(
                "a disk of it may not be the latest: bring its peer back, or, if that is gone for good, 'primary --force' on its console",
            ),
            Self::PeerUnreachable => f.write_str(
                "its peer is not connected, and its policy is dont-care: if the peer is surely not Primary, 'primary --force' on its console",
            ),
            Self::NobodyToAsk => f.write_str(
                "its peer is not connected, and it knows nobody to ask for a fence",
            ),
            Self::Fenced(episode) => write!(
                f,
                "its peer fences it by episode {episode}, and may have newer data"
            ),
            Self::Older(episode) => write!(
                f,
                "its disks are from an earlier time: they do not know that both nodes were in sync after episode {episode}"
            ),
            Self::PeerGoesFirst(episode) => write!(
                f,
                "its peer wants to become Primary too and goes first (episode {episode})"
            ),
            Self::NotReleased(episode) => write!(
                f,
                "its own fence of episode {episode} is not given back yet: try again"
            ),
            Self::NoAnswer => f.write_str(
                "neither its peer nor the arbiter that it asked for a fence answered it in time",
            ),
            Self::Busy => f.write_str(
                "it or its peer is at something else; its log says at what: try again",
            ),
            Self::GaveWay => f.write_str("it had to give way to its peer; its log says why"),
            Self::NotSaved => f.write_str(
                "it is Primary, but its disk has not saved that yet: it serves clients as soon as it has",
            ),
            Self::TooLate => f.write_str("the question came too late, or it has restarted: try again"),
            Self::Unconfirmed(episode) => write!(
                f,
                "it held the fence of episode {episode} when it went down, and neither its peer nor the arbiter confirms that it still does"
            ),
        }
    }
}

impl From<Denial> for Withheld {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::PeerIsPrimary => Self::PeerIsPrimary,
            Denial::DiskUnusable => Self::Disk,
            Denial::DiskDoubtful => Self::DiskDoubtful,
            Denial::PeerUnreachable => Self::PeerUnreachable,
        }
    }
}

impl From<Denied> for Withheld {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Fenced(episode) => Self::Fenced(episode),
            Denied::PeerIsPrimary => Self::PeerIsPrimary,
            Denied::Disk(Disk::Unusable) => Self::Disk,
            Denied::Disk(Disk::Outdated | Disk::Consistent | Disk::UpToDate) => Self::DiskDoubtful,
            Denied::PeerGoesFirst(episode) => Self::PeerGoesFirst(episode),
            Denied::Older(episode) => Self::Older(episode),
            Denied::NoAnswer => Self::NoAnswer,
            Denied::Unconfirmed(episode) => Self::Unconfirmed(episode),
            Denied::PeerUnreachable => Self::PeerUnreachable,
            Denied::NobodyToAsk => Self::NobodyToAsk,
            Denied::NotReleased(episode) => Self::NotReleased(episode),
            Denied::Cancelled | Denied::PeerIsBack => Self::Busy,
        }
    }
}

/// The node's side: which promotion it was asked for, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bidding {
    /// A number that was drawn and not used, and until when it counts.
    offer: Option<(u64, u64)>,
    /// The last promotion that was set about: its number, and how it ended.
    last: Option<(u64, Option<Result<(), Withheld>>)>,
}

impl Bidding {
    /// Nobody has asked.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            offer: None,
            last: None,
        }
    }

    /// The arbiter asks, with this number, or 0. `serving`: whether the node serves clients. `now` and `validity` are of one
    /// unit; `fresh` is drawn for this call, and not 0. What is to be answered, and whether the node sets about it now.
    pub fn asked(
        &mut self,
        nonce: u64,
        serving: bool,
        (now, validity): (u64, u64),
        fresh: u64,
    ) -> (Answer, bool) {
        let says = |nonce, state| Answer::Promoting { nonce, state };
        match self.last {
            // Whoever asks means this one: there is one at a time.
            Some((last, None)) if nonce == 0 || nonce == last => {
                return (says(last, Promoting::UnderWay), false);
            }
            Some((last, Some(ended))) if nonce == last => {
                let state = ended.map_or_else(Promoting::Denied, |()| Promoting::Primary);
                return (says(last, state), false);
            }
            _ => {}
        }
        let offer = self.offer.filter(|(_, until)| now <= *until);
        if nonce == 0 {
            if serving {
                return (says(0, Promoting::Primary), false);
            }
            let (offered, until) = offer.unwrap_or((fresh, now.saturating_add(validity)));
            self.offer = Some((offered, until));
            return (says(offered, Promoting::Ready), false);
        }
        if offer.is_none_or(|(offered, _)| offered != nonce) {
            return (says(nonce, Promoting::Denied(Withheld::TooLate)), false);
        }
        self.offer = None;
        self.last = Some((nonce, None));
        (says(nonce, Promoting::UnderWay), true)
    }

    /// What was set about has come to its end. Only the first word counts.
    pub fn ended(&mut self, how: Result<(), Withheld>) {
        if let Some((_, ended)) = &mut self.last {
            ended.get_or_insert(how);
        }
    }
}

/// How a promotion ended, for whoever asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The node became Primary.
    Primary,
    /// It was Primary before.
    AlreadyPrimary,
    /// It did not.
    Denied(Withheld),
    /// Time ran out before the node said how it ended. It may become Primary yet.
    Undecided,
    /// Nobody answered.
    NoAnswer,
}

/// What an answer means for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask [`Promoter::question`] now.
    Ask,
    /// Go on waiting, and ask again when the pause is over.
    Wait,
    /// That is all.
    Ended(Ended),
}

/// The asking side: one promotion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promoter {
    /// What the node drew for it; 0: nothing yet.
    nonce: u64,
    answered: bool,
    tries: u32,
}

impl Promoter {
    /// The first pause between two questions. It doubles.
    pub const PAUSE: Duration = Duration::from_millis(100);
    /// How often it doubles, to 1.6 s.
    const DOUBLINGS: u32 = 4;

    /// Nothing was asked yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            nonce: 0,
            answered: false,
            tries: 0,
        }
    }

    /// What is to be asked, the first time and each time again.
    #[must_use]
    pub const fn question(&self) -> Request {
        Request::Promote { nonce: self.nonce }
    }

    /// It was asked: how long to wait before it is asked again.
    pub fn pause(&mut self) -> Duration {
        let tries = self.tries;
        self.tries = Self::DOUBLINGS.min(tries + 1);
        Self::PAUSE * (1 << tries)
    }

    /// The node answered.
    pub fn answer(&mut self, answer: &Answer) -> Step {
        let Answer::Promoting { nonce, state } = *answer else {
            return Step::Wait;
        };
        // One to an earlier question of this promotion, from before the node drew its number.
        if self.nonce != 0 && nonce != self.nonce {
            return Step::Wait;
        }
        self.answered = true;
        match state {
            Promoting::Ready | Promoting::UnderWay if nonce == 0 => Step::Wait,
            Promoting::Ready => {
                let news = self.nonce == 0;
                self.nonce = nonce;
                if !news {
                    return Step::Wait;
                }
                self.tries = 0;
                Step::Ask
            }
            Promoting::UnderWay => {
                self.nonce = nonce;
                Step::Wait
            }
            Promoting::Primary if self.nonce == 0 => Step::Ended(Ended::AlreadyPrimary),
            Promoting::Primary => Step::Ended(Ended::Primary),
            // It was on its way for too long, or the node has restarted: it is begun anew, at the pace of the repetitions.
            Promoting::Denied(Withheld::TooLate) => {
                self.nonce = 0;
                Step::Wait
            }
            Promoting::Denied(_) if self.nonce == 0 => Step::Wait,
            Promoting::Denied(why) => Step::Ended(Ended::Denied(why)),
        }
    }

    /// Time has run out.
    #[must_use]
    pub const fn give_up(&self) -> Ended {
        if self.answered {
            Ended::Undecided
        } else {
            Ended::NoAnswer
        }
    }
}

#[cfg(test)]
mod tests;
