//! The link to the peer over a [`Stack`].

use super::dialer::{DialStep, Dialer, Side};
use super::note::LinkNote;
use super::rx::LinkRx;
use super::tx::LinkTx;
use crate::stack::{ConnHandle, ConnState, GroupId, Stack};
use crate::stream::ByteStream;
use core::net::SocketAddr;
use replication::api::{Event, LinkDownReason, Micros};
use replication::buf::{Buf, BufView, Pool, PoolMemory};
use replication::wire::Frame;

/// Accepted connections that may be waiting to deliver their first header.
const CANDIDATES: usize = 2;
/// How long they may take.
const CANDIDATE_TIMEOUT: Micros = 5_000_000;

/// Where the peer is.
#[derive(Debug, Clone, Copy)]
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
}

/// What happened on the link.
#[derive(Debug)]
pub enum LinkEvent {
    /// The connection stands; no frame has been exchanged.
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

#[derive(Debug)]
struct Candidate {
    conn: Option<ConnHandle>,
    deadline: Micros,
    rx: LinkRx,
}

/// The link to the peer: at most one connection at a time that the engine knows of.
#[derive(Debug)]
pub struct PeerLink {
    config: PeerLinkConfig,
    dialer: Dialer,
    dialling: Option<ConnHandle>,
    live: Option<ConnHandle>,
    /// Whether the engine knows of `live`.
    announced: bool,
    overflow: bool,
    candidates: [Candidate; CANDIDATES],
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
        Self {
            config,
            dialer: Dialer::new(side, config.connect_interval),
            dialling: None,
            live: None,
            announced: false,
            overflow: false,
            candidates: core::array::from_fn(|_| Candidate {
                conn: None,
                deadline: 0,
                rx: LinkRx::new(),
            }),
            rx: LinkRx::new(),
            tx: LinkTx::new(config.queue),
            pending: None,
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
            if let Some(conn) = candidate.conn.take() {
                stack.abort(now, conn);
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
        stream.is_some_and(|mut stream| self.tx.pump(&mut stream, memory) > 0)
    }

    /// When [`PeerLink::poll`] must be called even if nothing came in.
    #[must_use]
    pub fn poll_at(&self) -> Option<Micros> {
        let candidates = self.candidates.iter().filter(|c| c.conn.is_some());
        candidates
            .map(|candidate| candidate.deadline)
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
        if let Some(event) = self.poll_accept(now, stack, pool) {
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
        self.poll_dialling(now, stack)
    }

    fn poll_accept(
        &mut self,
        now: Micros,
        stack: &mut Stack,
        pool: &mut Pool,
    ) -> Option<LinkEvent> {
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
            // The newest counts: the oldest candidate gives way.
            let place = self
                .candidates
                .iter_mut()
                .min_by_key(|c| (c.conn.is_some(), c.deadline))?;
            if let Some(old) = place.conn.replace(conn) {
                stack.abort(now, old);
            }
            place.deadline = now.saturating_add(CANDIDATE_TIMEOUT);
            place.rx.reset(pool);
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
            let candidate = &mut self.candidates[index];
            let Some(conn) = candidate.conn else {
                continue;
            };
            let verdict = match stack.stream(conn) {
                Some(mut stream) => match candidate.rx.poll_header(&mut stream) {
                    Ok(true) => {
                        return self.promote(now, stack, pool, index);
                    }
                    Err(error) => Some(Some(LinkNote::NotPalisade(peer, error))),
                    Ok(false) if stream.at_end() => Some(None),
                    Ok(false) if candidate.deadline <= now => Some(Some(LinkNote::Silent(peer))),
                    Ok(false) => None,
                },
                None => Some(None),
            };
            if let Some(note) = verdict {
                candidate.conn = None;
                stack.abort(now, conn);
                if let Some(note) = note {
                    return Some(LinkEvent::Note(note));
                }
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
        index: usize,
    ) -> Option<LinkEvent> {
        let conn = self.candidates[index].conn.take();
        let known = self.announced;
        if let Some(old) = self.live {
            stack.abort(now, old);
        }
        self.forget(now, stack, pool);
        core::mem::swap(&mut self.rx, &mut self.candidates[index].rx);
        self.live = conn;
        self.dialer.connected(now);
        if known {
            self.pending = Some(LinkEvent::Down(LinkDownReason::Closed));
            return Some(LinkEvent::Note(LinkNote::Replaced(self.config.peer.ip())));
        }
        self.announced = true;
        Some(LinkEvent::Up)
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
                    self.pending = Some(LinkEvent::Down(LinkDownReason::Garbage));
                    self.drop_live(now, stack, pool);
                    return Some(LinkEvent::Note(LinkNote::Garbage(peer, error)));
                }
            }
        }
        self.drop_live(now, stack, pool);
        Some(LinkEvent::Down(LinkDownReason::Closed))
    }

    fn poll_dialling(&mut self, now: Micros, stack: &mut Stack) -> Option<LinkEvent> {
        if let Some(conn) = self.dialling {
            match stack.status(conn) {
                ConnState::Connecting => {}
                ConnState::Open | ConnState::PeerFinished => {
                    self.dialling = None;
                    self.live = Some(conn);
                    self.announced = true;
                    self.dialer.connected(now);
                    return Some(LinkEvent::Up);
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
        if let Some(conn) = self.dialling.take() {
            stack.abort(now, conn);
        }
        self.live = None;
        self.announced = false;
        self.overflow = false;
        self.rx.reset(pool);
        self.tx.clear();
    }
}
