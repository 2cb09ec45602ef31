//! One party's side of the conversation with another one: numbers for what is sent, and who is believed.
//!
//! **Answers** are believed if they name a question of this very session, among the last [`RECENT`]; so one of an earlier life
//! cannot come back.
//!
//! **Questions** are believed once each. A receiver that has just started knows nothing of what was sent before; so a
//! question of a session that it does not know is not obeyed but answered with AGAIN and an *epoch*, a number drawn for
//! that session. Only who has the key can ask again with it, and only who lives does: a recording of an older session
//! has no such number, and one of this session has been counted.

use super::{Body, DATAGRAM_MAX, Datagram, DatagramError, Key};
use crate::{Answer, Name, Request};
use core::fmt;

/// Questions back from the last one that an answer may still be to.
pub const RECENT: u64 = 64;
/// Sequences back from the highest seen that may still arrive, being out of order.
const WINDOW: u64 = 64;

/// What of a question is needed to answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    session: u64,
    sequence: u64,
}

impl Ticket {
    /// The session of whoever asked: another one after each start.
    #[must_use]
    pub const fn session(&self) -> u64 {
        self.session
    }
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A question, fresh. [`Channel::answer`] when the answer is durable.
    Request(Request, Ticket),
    /// An answer to a question of this session.
    Answer(Answer),
    /// The last question must be asked again, now: the other side has started anew.
    AskAgain,
    /// The question is not known to be fresh: send [`Channel::again`].
    SayAgain(Ticket),
}

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// It is none, or not authentic.
    Datagram(DatagramError),
    /// For somebody else, from somebody else, or about another resource.
    Address,
    /// About another resource of the same name.
    OtherResource,
    /// A question that was seen before.
    Replayed,
    /// An answer to no question of this session.
    NotAsked,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Datagram(error) => error.fmt(f),
            Self::Address => f.write_str("from or for a node that is not of this pair"),
            Self::OtherResource => f.write_str(
                "about another resource of the same name: give one of them another name",
            ),
            Self::Replayed => f.write_str("seen before"),
            Self::NotAsked => f.write_str("an answer to nothing that was asked"),
        }
    }
}

impl core::error::Error for Rejected {}

/// A session of the other side whose questions are believed.
#[derive(Debug, Clone, Copy)]
struct Caller {
    session: u64,
    epoch: u64,
    highest: u64,
    /// Bit n: `highest - n` was seen.
    seen: u64,
}

impl Caller {
    /// Counts a question; `false` if it was counted before, or is too old to tell.
    fn count(&mut self, sequence: u64) -> bool {
        if sequence > self.highest {
            let ahead = sequence - self.highest;
            self.seen = if ahead < WINDOW {
                self.seen << ahead
            } else {
                0
            };
            self.seen |= 1;
            self.highest = sequence;
            return true;
        }
        let back = self.highest - sequence;
        if back >= WINDOW || self.seen & (1 << back) != 0 {
            return false;
        }
        self.seen |= 1 << back;
        true
    }
}

/// The two ends and what they talk about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// The resource.
    pub resource: Name,
    /// What tells it from another one of the same name; 0 if that is not known.
    pub identity: u64,
    /// This side.
    pub here: Name,
    /// The other side.
    pub there: Name,
}

/// One side of a conversation; see the module.
#[derive(Debug, Clone)]
pub struct Channel {
    ends: Ends,
    key: Key,
    session: u64,
    /// Of the last datagram that was sent.
    sequence: u64,
    /// What the other side gave to this session.
    epoch: u64,
    caller: Option<Caller>,
    /// A session of the other side that may become the caller, and the epoch it was given.
    offered: Option<(u64, u64)>,
}

impl Channel {
    /// A conversation that has just begun. `session` is random and of this start alone.
    #[must_use]
    pub const fn new(ends: Ends, key: Key, session: u64) -> Self {
        Self {
            ends,
            key,
            session,
            sequence: 0,
            epoch: 0,
            caller: None,
            offered: None,
        }
    }

    /// The nodes have agreed on the identity.
    pub fn identify(&mut self, identity: u64) {
        self.ends.identity = identity;
    }

    fn send(&mut self, subject: [u64; 2], body: Body, out: &mut [u8; DATAGRAM_MAX]) -> usize {
        self.sequence += 1;
        let datagram = Datagram {
            session: self.session,
            sequence: self.sequence,
            subject,
            identity: self.ends.identity,
            resource: self.ends.resource.clone(),
            from: self.ends.here.clone(),
            to: self.ends.there.clone(),
            body,
        };
        datagram.seal(&self.key, out)
    }

    /// Writes a question, also for each repetition of it; answers its length.
    pub fn ask(&mut self, request: Request, out: &mut [u8; DATAGRAM_MAX]) -> usize {
        self.send([self.epoch, 0], Body::Request(request), out)
    }

    /// Writes an answer; answers its length.
    pub fn answer(&mut self, to: Ticket, answer: Answer, out: &mut [u8; DATAGRAM_MAX]) -> usize {
        self.send([to.session, to.sequence], Body::Answer(answer), out)
    }

    /// Writes the AGAIN for a question that is not known to be fresh; answers its length. `random` is drawn for this
    /// call, and not 0.
    pub fn again(&mut self, to: Ticket, random: u64, out: &mut [u8; DATAGRAM_MAX]) -> usize {
        let epoch = match (self.offered, self.caller) {
            (Some((session, epoch)), _) if session == to.session => epoch,
            // Asked with an old epoch, or none: it may not have heard.
            (_, Some(caller)) if caller.session == to.session => caller.epoch,
            _ => {
                self.offered = Some((to.session, random));
                random
            }
        };
        self.send([to.session, to.sequence], Body::Again { epoch }, out)
    }

    /// Looks at what came in.
    ///
    /// # Errors
    ///
    /// [`Rejected`]: it is dropped, without an answer.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Received, Rejected> {
        let datagram = Datagram::open(bytes, &self.key).map_err(Rejected::Datagram)?;
        let ends = &self.ends;
        if datagram.resource != ends.resource
            || datagram.from != ends.there
            || datagram.to != ends.here
        {
            return Err(Rejected::Address);
        }
        if datagram.identity != 0 && ends.identity != 0 && datagram.identity != ends.identity {
            return Err(Rejected::OtherResource);
        }
        let ticket = Ticket {
            session: datagram.session,
            sequence: datagram.sequence,
        };
        match datagram.body {
            Body::Request(request) => {
                self.fresh(&datagram.subject, ticket)
                    .map(|fresh| match fresh {
                        true => Received::Request(request, ticket),
                        false => Received::SayAgain(ticket),
                    })
            }
            Body::Answer(answer) => {
                self.asked(datagram.subject)?;
                Ok(Received::Answer(answer))
            }
            Body::Again { epoch } => {
                self.asked(datagram.subject)?;
                if epoch == self.epoch {
                    // It was asked again already.
                    return Err(Rejected::Replayed);
                }
                self.epoch = epoch;
                Ok(Received::AskAgain)
            }
        }
    }

    /// Whether a question is fresh; if it cannot be told, `false`.
    fn fresh(&mut self, subject: &[u64; 2], ticket: Ticket) -> Result<bool, Rejected> {
        let epoch = subject[0];
        if let Some(caller) = &mut self.caller
            && (caller.session, caller.epoch) == (ticket.session, epoch)
        {
            return match caller.count(ticket.sequence) {
                true => Ok(true),
                false => Err(Rejected::Replayed),
            };
        }
        if self.offered == Some((ticket.session, epoch)) {
            self.offered = None;
            self.caller = Some(Caller {
                session: ticket.session,
                epoch,
                highest: ticket.sequence,
                seen: 1,
            });
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether this session asked that, not long ago.
    fn asked(&self, subject: [u64; 2]) -> Result<(), Rejected> {
        let [session, sequence] = subject;
        let recent = sequence <= self.sequence && self.sequence - sequence < RECENT;
        if session == self.session && sequence > 0 && recent {
            Ok(())
        } else {
            Err(Rejected::NotAsked)
        }
    }
}
