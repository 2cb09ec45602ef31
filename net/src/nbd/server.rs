//! The table of sessions and what concerns them together.

use super::SessionIo;
use super::chains::Chains;
use super::export::{Export, ExportError};
use super::requests::Ticket;
use super::session::{Context, Phase, Session, Verdict};
use super::shared::{Limits, Shared};
use crate::stream::ByteStream;
use alloc::vec::Vec;
use core::net::SocketAddr;
use replication::api::{ClientError, Micros, RequestId};
use replication::buf::{Buf, Pool};

/// A connection that is not through with its handshake is left alone for this long if another
/// can make room instead.
const GRACE: Micros = 1_000_000;

/// Sizes and times of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServerConfig {
    /// Connections at most (1 to 256). Each costs about 20 KiB.
    pub slots: u16,
    /// A connection that is not greeted, because the node does not serve, is closed after this
    /// time (default 30 s).
    pub withhold_limit: Micros,
    /// A negotiation that takes longer is cut off (default 10 s).
    pub handshake_limit: Micros,
    /// A write whose payload stops coming is given up after this time, and so is a client that
    /// does not take its replies while others wait for memory (default 30 s).
    pub stall_limit: Micros,
    /// The limit for a payload while other writes wait for memory (default 5 s).
    pub contended_stall_limit: Micros,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            slots: 32,
            withhold_limit: 30_000_000,
            handshake_limit: 10_000_000,
            stall_limit: 30_000_000,
            contended_stall_limit: 5_000_000,
        }
    }
}

/// Where a new connection was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The slot to poll with the connection's stream.
    pub slot: u16,
    /// Whether the slot's former connection had to go: reset its socket.
    pub evicted: bool,
}

/// One session as an operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionStatus<'a> {
    /// Where the session stands.
    pub phase: Phase,
    /// The client.
    pub peer: SocketAddr,
    /// The export's name; empty before one was chosen.
    pub export: &'a str,
    /// When the phase began.
    pub since: Micros,
    /// Requests that are not answered in full.
    pub in_flight: u32,
    /// Requests received.
    pub requests: u64,
    /// Bytes of data sent.
    pub read_bytes: u64,
    /// Bytes of data received.
    pub written_bytes: u64,
}

/// The NBD server of a node: see the [module](super) for the order of calls.
#[derive(Debug)]
pub struct Server {
    exports: Vec<Export>,
    /// What was there before resyncs to this node: offered while that can be read, whatever the role.
    snapshots: Vec<Export>,
    sessions: Vec<Session>,
    /// No session from here on is used: what is asked in every turn need not look at the idle rest.
    bound: usize,
    shared: Shared,
    serving: bool,
}

impl Server {
    /// What each slot for a connection takes of the heap in [`Server::new`], in bytes.
    pub const BYTES_PER_SLOT: usize = Session::BYTES + 2 * size_of::<u16>();

    /// What each page of the pool takes of the heap in [`Server::new`], in bytes.
    pub const BYTES_PER_PAGE: usize = Chains::BYTES_PER_PAGE;

    /// A server of `exports` whose payloads live in `pool`; the first export is the default one.
    /// It does not serve until [`Server::set_serving`].
    #[must_use]
    pub fn new(config: &ServerConfig, exports: Vec<Export>, pool: &Pool) -> Self {
        let slots = config.slots.clamp(1, 256);
        let (write_max, session_read_bytes, total_read_bytes) = Limits::sizes(pool);
        let limits = Limits {
            write_max,
            session_read_bytes,
            total_read_bytes,
            withhold: config.withhold_limit,
            handshake: config.handshake_limit,
            stall: config.stall_limit,
            contended_stall: config.contended_stall_limit,
        };
        Self {
            exports,
            snapshots: Vec::new(),
            sessions: (0..slots).map(Session::new).collect(),
            bound: 0,
            shared: Shared::new(limits, slots, pool),
            serving: false,
        }
    }

    /// The size of a volume became known or changed. Clients that have it open keep the one that they were told until
    /// they connect again: the protocol has no word for it. A size that no export can have is refused.
    ///
    /// # Errors
    ///
    /// [`ExportError::Size`].
    pub fn set_size(&mut self, volume: u16, size: u64) -> Result<(), ExportError> {
        let all = self.exports.iter_mut().chain(&mut self.snapshots);
        for export in all.filter(|e| e.volume == volume) {
            export.set_size(size)?;
        }
        Ok(())
    }

    /// Also serves these ([`Export::before_resync`]), to connections that [`Server::accept_snapshots`] takes: on a port of
    /// their own, since a standby keeps its greeting from who comes to the other one.
    pub fn export_snapshots(&mut self, exports: Vec<Export>) {
        self.snapshots = exports;
    }

    /// Whether the old content of a volume can be had now. Where it cannot any more, whoever reads it is doomed as by
    /// [`Server::set_serving`].
    pub fn offer_snapshot(&mut self, now: Micros, volume: u16, offered: bool, pool: &mut Pool) {
        for export in self.snapshots.iter_mut().filter(|e| e.volume == volume) {
            export.offered = offered;
        }
        if offered {
            return;
        }
        for session in self.sessions.iter_mut().filter(|s| s.snapshots) {
            let export = self.snapshots.get(session.export);
            let reads = export.is_some_and(|export| export.volume == volume);
            if session.phase == Phase::Transmission && reads {
                let peer = session.peer;
                session.release(&mut self.shared, pool);
                session.open_snapshots(now, peer);
                session.doomed = true;
            }
        }
    }

    /// As [`Server::accept`], for a connection to the snapshots. It is greeted whatever the role.
    pub fn accept_snapshots(
        &mut self,
        now: Micros,
        peer: SocketAddr,
        pool: &mut Pool,
    ) -> Option<Accepted> {
        let (session, accepted) = self.take_slot(now, pool)?;
        session.open_snapshots(now, peer);
        Some(accepted)
    }

    /// The largest request that is accepted, in bytes.
    #[must_use]
    pub fn max_block_size(&self) -> u32 {
        self.shared.limits.write_max
    }

    /// Number of slots.
    #[must_use]
    pub fn slots(&self) -> u16 {
        self.sessions.len() as u16
    }

    /// Finds a slot for a connection from `peer`. When none is free, the connection that is the
    /// least loss among those without an open export makes room; `None` when every slot has an
    /// export open: refuse the connection.
    pub fn accept(&mut self, now: Micros, peer: SocketAddr, pool: &mut Pool) -> Option<Accepted> {
        let serving = self.serving;
        let (session, accepted) = self.take_slot(now, pool)?;
        session.open(now, peer, serving);
        Some(accepted)
    }

    fn take_slot(&mut self, now: Micros, pool: &mut Pool) -> Option<(&mut Session, Accepted)> {
        let free = self.sessions.iter().find(|s| s.phase == Phase::Free);
        let (slot, evicted) = match free {
            Some(session) => (session.slot, false),
            None => (self.victim(now)?, true),
        };
        let session = self.sessions.get_mut(usize::from(slot))?;
        if evicted {
            session.release(&mut self.shared, pool);
        }
        self.bound = self.bound.max(usize::from(slot) + 1);
        Some((session, Accepted { slot, evicted }))
    }

    /// Silent connections go before such that have begun to negotiate, old ones before young;
    /// one younger than [`GRACE`] goes only if all are.
    fn victim(&self, now: Micros) -> Option<u16> {
        self.sessions
            .iter()
            .filter(|s| matches!(s.phase, Phase::Withheld | Phase::Handshake))
            .min_by_key(|s| (now.saturating_sub(s.since) < GRACE, s.heard, s.since))
            .map(|s| s.slot)
    }

    /// Gives the session in `slot` a turn on its stream. After anything but
    /// [`Verdict::Continue`] the slot is free: it must not be polled before the next
    /// [`Server::accept`] names it.
    pub fn poll<S: ByteStream, I: SessionIo>(
        &mut self,
        slot: u16,
        now: Micros,
        stream: &mut S,
        io: &mut I,
    ) -> Verdict {
        let Some(session) = self.sessions.get_mut(usize::from(slot)) else {
            return Verdict::Abort;
        };
        if session.phase == Phase::Free {
            return Verdict::Abort;
        }
        let mut cx = Context {
            now,
            exports: if session.snapshots {
                &self.snapshots
            } else {
                &self.exports
            },
            shared: &mut self.shared,
        };
        let verdict = session.poll(&mut cx, stream, io);
        if verdict != Verdict::Continue {
            session.release(&mut self.shared, io.pool());
            self.lower_bound();
        }
        verdict
    }

    /// Whether [`Server::poll`] would get anywhere now. Cheap; takes no turn.
    #[must_use]
    pub fn wants_poll<S: ByteStream>(&self, slot: u16, now: Micros, stream: &S) -> bool {
        self.sessions
            .get(usize::from(slot))
            .is_some_and(|session| session.wants_poll(now, &self.shared, stream))
    }

    /// The connection of `slot` is gone: forgets its session.
    pub fn hang_up(&mut self, slot: u16, pool: &mut Pool) {
        match self.sessions.get_mut(usize::from(slot)) {
            Some(session) if session.phase != Phase::Free => {
                session.release(&mut self.shared, pool);
                self.lower_bound();
            }
            _ => {}
        }
    }

    /// The sessions that may be used.
    fn used(&self) -> &[Session] {
        &self.sessions[..self.bound]
    }

    fn lower_bound(&mut self) {
        let last = self.used().iter().rposition(|s| s.phase != Phase::Free);
        self.bound = last.map_or(0, |last| last + 1);
    }

    /// Takes the engine's answer to a request. The answer to a session that is no more only
    /// gives its buffer back.
    pub fn on_reply(
        &mut self,
        id: RequestId,
        result: Result<(), ClientError>,
        buf: Option<Buf>,
        pool: &mut Pool,
    ) {
        let ticket = Ticket::from_id(id);
        self.shared.stir();
        let session = self.sessions.get_mut(usize::from(ticket.slot));
        match session {
            Some(session)
                if session.generation == ticket.generation && session.phase != Phase::Free =>
            {
                session.on_reply(ticket.piece, result, buf, &mut self.shared, pool);
            }
            _ => {
                if let Some(buf) = buf {
                    self.shared.free_read(buf, pool);
                }
            }
        }
    }

    /// Starts or stops serving. At the start the connections that were not greeted are. At the
    /// stop every greeted connection is doomed: nothing of it is submitted or answered any more,
    /// its memory is free at once, and its next [`Server::poll`] says [`Verdict::Abort`].
    pub fn set_serving(&mut self, now: Micros, serving: bool, pool: &mut Pool) {
        if self.serving == serving {
            return;
        }
        self.serving = serving;
        for session in &mut self.sessions {
            match session.phase {
                _ if session.snapshots => {}
                Phase::Withheld if serving => session.admit(now),
                // Of those that were refused one may still ask.
                Phase::Handshake if serving => session.refusal = None,
                Phase::Handshake | Phase::Transmission if !serving => {
                    let peer = session.peer;
                    session.release(&mut self.shared, pool);
                    session.open(now, peer, false);
                    session.doomed = true;
                }
                _ => {}
            }
        }
    }

    /// Clients that have an export open.
    #[must_use]
    pub fn open_clients(&self) -> u32 {
        let open = |s: &&Session| s.phase == Phase::Transmission && !s.snapshots;
        self.used().iter().filter(open).count() as u32
    }

    /// Clients that are connected and not greeted, since this node does not serve.
    #[must_use]
    pub fn waiting_clients(&self) -> u32 {
        let waits = |s: &&Session| s.phase == Phase::Withheld && !s.doomed && !s.refusing;
        self.used().iter().filter(waits).count() as u32
    }

    /// Nobody is to wait any longer: clients that were not greeted are greeted, and whatever export they ask for is refused
    /// with the reason that [`SessionIo::not_serving`] gives.
    pub fn refuse_waiting(&mut self) {
        let waits = |s: &&mut Session| s.phase == Phase::Withheld && !s.doomed;
        for session in self.sessions.iter_mut().filter(waits) {
            session.refusing = true;
            session.dirty = true;
        }
    }

    fn exports_of(&self, session: &Session) -> &[Export] {
        if session.snapshots {
            &self.snapshots
        } else {
            &self.exports
        }
    }

    /// When some session must be polled at the latest, whatever its stream says; 0: at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Micros> {
        let due = |s: &Session| s.due_at(&self.shared);
        self.used().iter().filter_map(due).min()
    }

    /// The sessions, for the console.
    pub fn sessions(&self) -> impl Iterator<Item = SessionStatus<'_>> {
        let used = |s: &&Session| s.phase != Phase::Free;
        self.sessions.iter().filter(used).map(|s| SessionStatus {
            phase: s.phase,
            peer: s.peer,
            export: match (s.phase, self.exports_of(s).get(s.export)) {
                (Phase::Transmission, Some(export)) => export.name(),
                _ => "",
            },
            since: s.since,
            in_flight: s.table.len() as u32,
            requests: s.counters.requests,
            read_bytes: s.counters.read_bytes,
            written_bytes: s.counters.written_bytes,
        })
    }

    #[cfg(test)]
    pub(super) fn capacities(&self) -> [usize; 3] {
        self.shared.capacities()
    }

    #[cfg(test)]
    pub(super) fn read_bytes(&self) -> u64 {
        self.shared.read_bytes()
    }
}
