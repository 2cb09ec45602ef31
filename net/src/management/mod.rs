//! This node's end of the management network (docs/MANAGEMENT.md): between the engine's questions and answers, which name a
//! party, and datagrams, which have an address.
//!
//! No I/O, no clock. What the engine wants said goes through [`Endpoint::ask`] and [`Endpoint::answer`], what came in through
//! [`Endpoint::receive`]; each says what is to be sent, and where. Repetitions and time limits are the engine's, and whatever is
//! lost here is asked again.

mod complaints;
#[cfg(test)]
mod tests;

pub use complaints::Complaints;
pub use fencing::datagram::{DATAGRAM_MAX, Key, Rejected};
pub use fencing::{Answer, Name, Party, Request};

use core::net::SocketAddr;
use fencing::datagram::{Channel, Ends, Received, Ticket};

/// Questions that may be unanswered at once. The engine works on one after the other, and an older one is asked again.
const TICKETS: usize = 8;
/// What the arbiter is called in datagrams.
const ARBITER: &str = "arbiter";

/// Who this node is and whom it talks to.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// The resource.
    pub resource: Name,
    /// This node.
    pub node: Name,
    /// Its peer.
    pub peer: Name,
    /// What the nodes and the arbiter share.
    pub key: Key,
    /// Where the peer is asked; `None`: it is not, but what it asks is answered.
    pub peer_address: Option<SocketAddr>,
    /// Where the arbiter is asked; `None`: there is none.
    pub arbiter_address: Option<SocketAddr>,
    /// Two random numbers of this start.
    pub sessions: [u64; 2],
}

/// A datagram to be sent: the first `len` bytes of the buffer that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// Its length in bytes.
    pub len: usize,
    /// The party that it is for.
    pub party: Party,
    /// Where to.
    pub to: SocketAddr,
}

/// What a datagram that came in means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A question for the engine; its answer goes to [`Endpoint::answer`] with the token.
    Asked(Party, u32, Request),
    /// An answer for the engine.
    Answered(Party, Answer),
    /// Nothing for the engine, but this is to be sent.
    Reply(Outgoing),
    /// Nothing at all: it was to ask again, and the question is not open any more.
    Nothing,
}

/// A party.
struct Line {
    channel: Channel,
    /// Where it is asked.
    address: Option<SocketAddr>,
    /// The question that it has not answered, in case it must be asked again under another epoch.
    open: Option<Request>,
}

/// Where an answer goes.
#[derive(Clone, Copy)]
struct Return {
    token: u32,
    party: Party,
    ticket: Ticket,
    from: SocketAddr,
}

/// The endpoint; see the module.
pub struct Endpoint {
    peer: Line,
    arbiter: Option<Line>,
    returns: heapless::Deque<Return, TICKETS>,
    token: u32,
}

impl Endpoint {
    /// An endpoint that has just started.
    #[must_use]
    pub fn new(config: &EndpointConfig) -> Self {
        let line = |there: &Name, address, session| Line {
            channel: Channel::new(
                Ends {
                    resource: config.resource.clone(),
                    identity: 0,
                    here: config.node.clone(),
                    there: there.clone(),
                },
                config.key.clone(),
                session,
            ),
            address,
            open: None,
        };
        let arbiter = Name::try_from(ARBITER).unwrap_or_default();
        Self {
            peer: line(&config.peer, config.peer_address, config.sessions[0]),
            arbiter: config
                .arbiter_address
                .map(|address| line(&arbiter, Some(address), config.sessions[1])),
            returns: heapless::Deque::new(),
            token: 0,
        }
    }

    /// The nodes have agreed on what tells the resource from others of its name.
    pub fn identify(&mut self, identity: u64) {
        self.peer.channel.identify(identity);
        if let Some(line) = &mut self.arbiter {
            line.channel.identify(identity);
        }
    }

    const fn line(&mut self, party: Party) -> Option<&mut Line> {
        match party {
            Party::Peer => Some(&mut self.peer),
            Party::Arbiter => self.arbiter.as_mut(),
        }
    }

    /// Writes a question, the first time or again. `None`: the configuration names no address for the party.
    pub fn ask(
        &mut self,
        party: Party,
        request: Request,
        out: &mut [u8; DATAGRAM_MAX],
    ) -> Option<Outgoing> {
        let line = self.line(party)?;
        let to = line.address?;
        line.open = Some(request);
        let len = line.channel.ask(request, out);
        Some(Outgoing { len, party, to })
    }

    /// Writes the answer to the question with this token, to where the question came from. `None`: the question is too long
    /// ago, and whoever asked it asks again.
    pub fn answer(
        &mut self,
        party: Party,
        token: u32,
        answer: Answer,
        out: &mut [u8; DATAGRAM_MAX],
    ) -> Option<Outgoing> {
        let mut returns = self.returns.iter();
        let found = returns.find(|entry| entry.token == token && entry.party == party);
        let Return { ticket, from, .. } = *found?;
        let len = self.line(party)?.channel.answer(ticket, answer, out);
        Some(Outgoing {
            len,
            party,
            to: from,
        })
    }

    /// Looks at a datagram. `random` is drawn for this call, and not 0; `out` is where a reply is written.
    ///
    /// # Errors
    ///
    /// [`Rejected`]: it is dropped, without an answer.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        from: SocketAddr,
        random: u64,
        out: &mut [u8; DATAGRAM_MAX],
    ) -> Result<Incoming, Rejected> {
        let mut party = Party::Peer;
        let mut received = self.peer.channel.receive(bytes);
        if received == Err(Rejected::Address)
            && let Some(arbiter) = &mut self.arbiter
        {
            party = Party::Arbiter;
            received = arbiter.channel.receive(bytes);
        }
        let Some(line) = self.line(party) else {
            return Err(Rejected::Address);
        };
        Ok(match received? {
            Received::Answer(answer) => {
                line.open = None;
                Incoming::Answered(party, answer)
            }
            Received::AskAgain => match (line.open, line.address) {
                (Some(request), Some(to)) => {
                    let len = line.channel.ask(request, out);
                    Incoming::Reply(Outgoing { len, party, to })
                }
                _ => Incoming::Nothing,
            },
            Received::SayAgain(ticket) => {
                let len = line.channel.again(ticket, random, out);
                Incoming::Reply(Outgoing {
                    len,
                    party,
                    to: from,
                })
            }
            Received::Request(request, ticket) => {
                self.token = self.token.wrapping_add(1);
                if self.returns.is_full() {
                    self.returns.pop_front();
                }
                // There is room now.
                let _ = self.returns.push_back(Return {
                    token: self.token,
                    party,
                    ticket,
                    from,
                });
                Incoming::Asked(party, self.token, request)
            }
        })
    }
}
