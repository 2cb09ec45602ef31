//! The link to the peer over a [`Stack`].

use super::dialer::{DialStep, Dialer, Side};
use super::greeting::{Greeted, Greeting};
use super::note::LinkNote;
use super::rx::LinkRx;
use super::search::Search;
use super::tx::LinkTx;
use crate::stack::{ConnHandle, ConnState, GroupId, Stack};
use crate::stream::ByteStream;
use core::net::SocketAddr;
use replication::api::{Event, LinkDownReason, Micros};
use replication::buf::{Buf, BufView, Pool, PoolMemory};
use replication::secure::{NonceSource, PreambleError, PreambleSide, Security, Session};
use replication::wire::Frame;

/// Accepted connections whose preamble may be going on.
const CANDIDATES: usize = 2;

/// Where the peer is, and how it shows that it is the peer.
#[derive(Debug, Clone)]
pub struct PeerLinkConfig {
    /// The stack's group of sockets for the link; its port must be `local`'s. Four slots do: the
    /// link, one that replaces it, and two armed.
    pub group: GroupId,
    /// This node's replication address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub peer: SocketAddr,
    /// The longest pause between attempts, and how often a failure is reported.
    pub connect_interval: Micros,
    /// Frames that may wait to be sent: at least all that the engine may have unanswered.
    pub queue: usize,
    /// What is demanded of the peer and of the connection; the same on both nodes.
    pub security: Security,
    /// Seed of the nonces: random and new for every boot in production, fixed in tests.
    pub seed: [u64; 4],
}

/// What happened on the link.
#[derive(Debug)]
pub enum LinkEvent {
    /// The connection stands and the peer is the peer; no frame has been exchanged.
    Up,
    /// The connection is gone (or no attempt succeeded); what was queued is forgotten.
    Down(LinkDownReason),
    /// A frame came.
    Frame(Frame, Option<Buf>),
    /// A line for the log.
    Note(LinkNote),
}

impl LinkEvent {
    /// The event as the engine knows it; a note is none, and comes back as the error.
    ///
    /// # Errors
    /// The note, which is for the log.
    pub fn into_engine(self) -> Result<Event, LinkNote> {
        match self {
            Self::Up => Ok(Event::LinkUp),
            Self::Down(reason) => Ok(Event::LinkDown(reason)),
            Self::Frame(frame, buf) => Ok(Event::Frame { frame, buf }),
            Self::Note(note) => Err(note),
        }
    }
}

/// The link to the peer: at most one connection at a time that the engine knows of.
#[derive(Debug)]
pub struct PeerLink {
    config: PeerLinkConfig,
    side: PreambleSide,
    nonces: NonceSource,
    dialer: Dialer,
    /// A dialled connection that TCP has not made yet.
    dialling: Option<ConnHandle>,
    /// A dialled connection in its preamble.
    greeting: Option<Greeting>,
    live: Option<ConnHandle>,
    /// Whether the engine knows of `live`.
    announced: bool,
    overflow: bool,
    /// Something was written since the last [`PeerLink::flush`].
    wrote: bool,
    /// Accepted connections in their preambles.
    candidates: [Option<Greeting>; CANDIDATES],
    rx: LinkRx,
    tx: LinkTx,
    /// An event that follows the one just returned.
    pending: Option<LinkEvent>,
}

impl PeerLink {
    /// A link that is closed until [`PeerLink::open`].
    #[must_use]
    pub fn new(config: PeerLinkConfig) -> Self {
        let side = Side::of(config.local, config.peer);
        let mut tx = LinkTx::new(config.queue);
        if config.security.integrity().seals() {
            tx.prepare_to_seal();
        }
        Self {
            side: match side {
                Side::Dials => PreambleSide::Dials,
                Side::Listens => PreambleSide::Listens,
            },
            nonces: NonceSource::new(config.seed),
            dialer: Dialer::new(side, config.connect_interval),
            dialling: None,
            greeting: None,
            live: None,
            announced: false,
            overflow: false,
            wrote: false,
            candidates: [const { None }; CANDIDATES],
            rx: LinkRx::new(),
            tx,
            pending: None,
            config,
        }
    }

    /// `Action::OpenLink`: have a connection from now on, again after each loss, until
    /// [`PeerLink::close`].
    pub fn open(&mut self, now: Micros) {
        self.dialer.open(now);
    }

    /// `Action::CloseLink`: drop the connection and have none. Frames that were queued before
    /// (a refusal, say) are still sent if the socket takes them at once. The next
    /// [`PeerLink::poll`] reports the link down.
    pub fn close<M: PoolMemory>(
        &mut self,
        now: Micros,
        stack: &mut Stack,
        pool: &mut Pool,
        memory: &M,
    ) {
        if !self.dialer.wanted() {
            return;
        }
        self.flush(stack, memory);
        if let Some(conn) = self.live {
            stack.close(now, conn);
        }
        self.dialer.close();
        self.forget(now, stack, pool);
        for candidate in &mut self.candidates {
            if let Some(candidate) = candidate.take() {
                stack.abort(now, candidate.conn);
            }
        }
        self.pending = Some(LinkEvent::Down(LinkDownReason::Requested));
    }

    /// `Action::Send`: queue a frame behind the others. Without a link it is dropped, as the
    /// engine is told [`LinkEvent::Down`] in any case.
    pub fn send(&mut self, frame: Frame, payload: Option<BufView>) {
        if self.announced && self.tx.push(frame, payload).is_err() {
            self.overflow = true;
        }
    }

    /// Writes queued frames into the socket. Call before the stack's egress; if frames remain,
    /// the stack's next acknowledgement makes room. `true`: something was written, so the stack
    /// has something to send.
    pub fn flush<M: PoolMemory>(&mut self, stack: &mut Stack, memory: &M) -> bool {
        let stream = self.live.and_then(|conn| stack.stream(conn));
        let pumped = stream.is_some_and(|mut stream| self.tx.pump(&mut stream, memory) > 0);
        core::mem::take(&mut self.wrote) | pumped
    }

    /// The longest pause between attempts to connect is another one from now on, in microseconds.
    pub fn set_connect_interval(&mut self, connect_interval: Micros) {
        self.dialer.set_connect_interval(connect_interval);
    }

    /// How the search for the peer goes; `None` while there is a connection, or none is wanted, or nothing has come of
    /// it yet.
    #[must_use]
    pub fn search(&self, now: Micros) -> Option<Search> {
        let (since, found) = self.dialer.sought()?;
        Some(Search {
            peer: self.config.peer,
            found,
            lasted: now.saturating_sub(since),
        })
    }

    /// When [`PeerLink::poll`] must be called even if nothing came in.
    #[must_use]
    pub fn poll_at(&self) -> Option<Micros> {
        let greetings = self.candidates.iter().chain([&self.greeting]).flatten();
        greetings
            .map(|greeting| greeting.deadline)
            .chain(self.dialer.poll_at())
            .min()
    }

    /// The next event; call until `None`, after the stack's ingress and when
    /// [`PeerLink::poll_at`] says so.
    pub fn poll<M: PoolMemory>(
        &mut self,
        now: Micros,
        stack: &mut Stack,
        pool: &mut Pool,
        memory: &mut M,
    ) -> Option<LinkEvent> {
        if let Some(event) = self.pending.take() {
            return Some(event);
        }
        if let Some(event) = self.poll_accept(now, stack) {
            return Some(event);
        }
        if let Some(event) = self.poll_candidates(now, stack, pool) {
            return Some(event);
        }
        if self.live.is_some() && !self.announced {
            self.announced = true;
            return Some(LinkEvent::Up);
        }
        if let Some(event) = self.poll_live(now, stack, pool, memory) {
            return Some(event);
        }
        if let Some(event) = self.poll_greeting(now, stack) {
            return Some(event);
        }
        self.poll_dialling(now, stack)
    }

    fn greet(&mut self, now: Micros, conn: ConnHandle) -> Greeting {
        let nonce = self.nonces.next_nonce();
        Greeting::new(now, conn, &self.config.security, self.side, nonce)
    }

    fn poll_accept(&mut self, now: Micros, stack: &mut Stack) -> Option<LinkEvent> {
        while let Some(conn) = stack.accept(self.config.group) {
            let from = stack.peer(conn);
            let from_peer = from.is_some_and(|from| from.ip() == self.config.peer.ip());
            if !from_peer || !self.dialer.wanted() {
                stack.abort(now, conn);
                match from {
                    Some(from) if !from_peer => {
                        return Some(LinkEvent::Note(LinkNote::Stranger(from)));
                    }
                    _ => continue,
                }
            }
            self.dialer.called(now);
            // The newest counts: the oldest candidate gives way.
            let greeting = self.greet(now, conn);
            let place = self
                .candidates
                .iter_mut()
                .min_by_key(|place| place.as_ref().map(|candidate| candidate.deadline))?;
            if let Some(old) = place.replace(greeting) {
                stack.abort(now, old.conn);
            }
        }
        None
    }

    fn poll_candidates(
        &mut self,
        now: Micros,
        stack: &mut Stack,
        pool: &mut Pool,
    ) -> Option<LinkEvent> {
        let peer = self.config.peer.ip();
        for index in 0..CANDIDATES {
            let Some(candidate) = &mut self.candidates[index] else {
                continue;
            };
            let conn = candidate.conn;
            let event = match candidate.poll(now, stack, &self.config.security, &mut self.wrote) {
                Greeted::Waiting => continue,
                Greeted::Done(session) => {
                    self.candidates[index] = None;
                    return Some(self.promote(now, stack, pool, conn, session));
                }
                Greeted::Failed(PreambleError::Refused(refusal)) => {
                    stack.close(now, conn);
                    // The engine complains once, and says what to do; a link that stands is none of its business.
                    Some(if self.live.is_some() {
                        LinkEvent::Note(LinkNote::Refused(peer, refusal))
                    } else {
                        LinkEvent::Down(LinkDownReason::Refused(refusal))
                    })
                }
                Greeted::Failed(error) => Some(LinkEvent::Note(LinkNote::NotPalisade(peer, error))),
                Greeted::Silent => Some(LinkEvent::Note(LinkNote::Silent(peer))),
                Greeted::Closed => None,
            };
            self.candidates[index] = None;
            // Nothing happens to one that was closed.
            stack.abort(now, conn);
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// Makes a candidate the link.
    fn promote(
        &mut self,
        now: Micros,
        stack: &mut Stack,
        pool: &mut Pool,
        conn: ConnHandle,
        session: Session,
    ) -> LinkEvent {
        let known = self.announced;
        if let Some(old) = self.live {
            stack.abort(now, old);
        }
        self.forget(now, stack, pool);
        self.start(conn, session);
        self.dialer.connected(now);
        if known {
            self.pending = Some(LinkEvent::Down(LinkDownReason::Closed));
            return LinkEvent::Note(LinkNote::Replaced(self.config.peer.ip()));
        }
        self.announced = true;
        LinkEvent::Up
    }

    /// Frames may go over the connection now.
    fn start(&mut self, conn: ConnHandle, session: Session) {
        self.live = Some(conn);
        if let Session::Sealed(sealer, opener) = session {
            self.tx.seal_with(sealer);
            self.rx.open_with(opener);
        }
    }

    fn poll_live<M: PoolMemory>(
        &mut self,
        now: Micros,
        stack: &mut Stack,
        pool: &mut Pool,
        memory: &mut M,
    ) -> Option<LinkEvent> {
        let conn = self.live?;
        let peer = self.config.peer.ip();
        if self.overflow {
            self.pending = Some(LinkEvent::Down(LinkDownReason::Closed));
            self.drop_live(now, stack, pool);
            return Some(LinkEvent::Note(LinkNote::Overflow(peer)));
        }
        if let Some(mut stream) = stack.stream(conn) {
            match self.rx.poll(&mut stream, pool, memory) {
                Ok(Some((frame, buf))) => return Some(LinkEvent::Frame(frame, buf)),
                Ok(None) if !stream.at_end() => return None,
                Ok(None) => {}
                Err(error) => {
                    self.pending = Some(LinkEvent::Down(error.reason()));
                    self.drop_live(now, stack, pool);
                    return Some(LinkEvent::Note(LinkNote::Garbage(peer, error)));
                }
            }
        }
        self.drop_live(now, stack, pool);
        Some(LinkEvent::Down(LinkDownReason::Closed))
    }

    /// Goes on with the preamble of the dialled connection.
    fn poll_greeting(&mut self, now: Micros, stack: &mut Stack) -> Option<LinkEvent> {
        let peer = self.config.peer.ip();
        let greeting = self.greeting.as_mut()?;
        let conn = greeting.conn;
        let greeted = greeting.poll(now, stack, &self.config.security, &mut self.wrote);
        if matches!(greeted, Greeted::Waiting) {
            return None;
        }
        self.greeting = None;
        let (note, reason) = match greeted {
            Greeted::Done(session) => {
                self.start(conn, session);
                self.announced = true;
                return Some(LinkEvent::Up);
            }
            Greeted::Failed(PreambleError::Refused(refusal)) => {
                stack.close(now, conn);
                self.dialer.refused(now);
                return Some(LinkEvent::Down(LinkDownReason::Refused(refusal)));
            }
            Greeted::Failed(error) => {
                let reason = match error {
                    PreambleError::Damaged => LinkDownReason::Corrupt,
                    _ => LinkDownReason::Garbage,
                };
                (Some(LinkNote::NotPalisade(peer, error)), reason)
            }
            Greeted::Silent => (Some(LinkNote::Silent(peer)), LinkDownReason::ConnectFailed),
            Greeted::Closed | Greeted::Waiting => (None, LinkDownReason::Closed),
        };
        stack.abort(now, conn);
        self.dialer.lost(now);
        let Some(note) = note else {
            return Some(LinkEvent::Down(reason));
        };
        self.pending = Some(LinkEvent::Down(reason));
        Some(LinkEvent::Note(note))
    }

    fn poll_dialling(&mut self, now: Micros, stack: &mut Stack) -> Option<LinkEvent> {
        if let Some(conn) = self.dialling {
            match stack.status(conn) {
                ConnState::Connecting => {}
                ConnState::Open | ConnState::PeerFinished => {
                    self.dialling = None;
                    self.dialer.connected(now);
                    self.greeting = Some(self.greet(now, conn));
                    return self.poll_greeting(now, stack);
                }
                ConnState::Dead | ConnState::Unknown => {
                    self.dialling = None;
                    stack.abort(now, conn);
                    self.dialer.failed(now);
                }
            }
        }
        while let Some(step) = self.dialer.poll(now) {
            match step {
                DialStep::Dial => match stack.dial(self.config.group, self.config.peer) {
                    Ok(conn) => self.dialling = Some(conn),
                    Err(_) => self.dialer.failed(now),
                },
                DialStep::Abandon => {
                    if let Some(conn) = self.dialling.take() {
                        stack.abort(now, conn);
                    }
                }
                DialStep::Solicit => stack.solicit(self.config.peer.ip()),
                DialStep::Tell => {
                    if let Some(search) = self.search(now) {
                        return Some(LinkEvent::Note(LinkNote::Search(search)));
                    }
                }
                DialStep::ReportFailure => {
                    return Some(LinkEvent::Down(LinkDownReason::ConnectFailed));
                }
            }
        }
        None
    }

    /// Drops a dead or unwanted connection; the dialer looks for another.
    fn drop_live(&mut self, now: Micros, stack: &mut Stack, pool: &mut Pool) {
        if let Some(conn) = self.live {
            stack.abort(now, conn);
        }
        self.forget(now, stack, pool);
        self.dialer.lost(now);
    }

    /// Forgets the connection's state and any attempt to get another.
    fn forget(&mut self, now: Micros, stack: &mut Stack, pool: &mut Pool) {
        let greeting = self.greeting.take().map(|greeting| greeting.conn);
        for conn in [self.dialling.take(), greeting].into_iter().flatten() {
            stack.abort(now, conn);
        }
        self.live = None;
        self.announced = false;
        self.overflow = false;
        self.rx.reset(pool);
        self.tx.clear();
    }
}
