//! The web server: moves bytes between a stack's sockets and [`net::http::Server`], and tells it what its documents say.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use admin::config::Config;
use admin::console::{LINE_BYTES_MAX, Line};
use admin::events::{Follower, Format};
use admin::metrics::{self, Sample};
use admin::status::{ClientInfo, DiskInfo, NicInfo};
use net::http::{
    ANSWER_LIMIT, BUSY, Budget, COMMAND_BYTES_MAX, Mark, Page, Server, ServerConfig, Site, Verdict,
};
use net::stack::{ConnHandle, GroupConfig, GroupId, Liveness};
use net::stream::ByteStream;
use replication::api::{MAX_VOLUMES, Micros};
use replication::latency::Latencies;

use super::pump::Node;
use super::{answers, signals};
use crate::time;

/// Connections that are served at once.
const CONNECTIONS: u16 = 12;
/// More of them, which are told that all are taken, or are on their way in or out.
const SPARE: usize = 24;
/// Calls that may come at the same moment.
const BACKLOG: usize = 16;
/// Documents on their way at once.
const DOCUMENTS: usize = 2;
/// Bytes of a document for each client: its part of `status --json`.
const CLIENT_BYTES: usize = 256;
/// Receive ring of a connection: requests are short.
const RX_BYTES: usize = 2 << 10;
/// Transmit ring of a connection: a document takes some round trips.
const TX_BYTES: usize = 6 << 10;
/// A connection that is silent is asked for a sign of life after the first, and dropped after the second.
const LIVENESS: Liveness = Liveness {
    probe: 15_000_000,
    timeout: 45_000_000,
};

/// The log gets a line about wrong tokens at most so often.
const COMPLAINTS_EVERY: Micros = 10_000_000;
const _: () = assert!(COMMAND_BYTES_MAX == LINE_BYTES_MAX);

/// The sockets of the web server on its card.
pub fn sockets(port: u16) -> GroupConfig {
    GroupConfig {
        port: Some(port),
        slots: usize::from(CONNECTIONS) + SPARE,
        backlog: BACKLOG,
        rx_bytes: RX_BYTES,
        tx_bytes: TX_BYTES,
        liveness: Some(LIVENESS),
        // Rather later than a reset instead of an answer.
        patient: true,
        ack_delay: None,
    }
}

/// The server and where it lives.
pub struct Http {
    server: Server,
    budget: Budget,
    /// Place among the node's ports.
    port: usize,
    group: GroupId,
    conns: Vec<(u16, ConnHandle)>,
    /// Room for the list of clients in a document.
    clients: Vec<ClientInfo>,
    /// The places of readers of events, by their slots.
    readers: Vec<Follower>,
    /// The number of the last event that readers were stirred for.
    stirred: u64,
    /// A command that came in and was not begun, and when it is too late for it.
    command: Option<(Line, Micros)>,
    /// Wrong tokens that the log knows of, and when it may be told of others.
    complained: u64,
    complaint_at: Micros,
}

impl Http {
    /// A server on the sockets `group` of the port at `port`, with all its memory.
    pub fn new(config: &Config, port: usize, group: GroupId) -> Box<Self> {
        let clients = usize::from(config.export.max_connections);
        let token = config.http.as_ref().and_then(|http| http.token.as_ref());
        let sizes = ServerConfig {
            slots: CONNECTIONS,
            // A command may hold one for as long as it takes.
            documents: DOCUMENTS + usize::from(token.is_some()),
            document_bytes: metrics::bytes_max(config.volumes.len()) + clients * CLIENT_BYTES,
        };
        let mut server = Server::new(&sizes);
        if let Some(token) = token {
            server.allow_commands(token.as_bytes());
        }
        Box::new(Self {
            server,
            budget: Budget::default(),
            port,
            group,
            conns: Vec::with_capacity(usize::from(CONNECTIONS)),
            clients: Vec::with_capacity(clients),
            readers: (0..CONNECTIONS).map(|_| Follower::default()).collect(),
            stirred: 0,
            command: None,
            complained: 0,
            complaint_at: 0,
        })
    }

    /// The command that came in and was not begun.
    pub fn take_command(&mut self) -> Option<Line> {
        self.command.take().map(|(line, _)| line)
    }

    /// It has ended with this output.
    pub fn finish(&mut self, now: Micros, done: bool, output: &[u8]) {
        self.server.finish(now, done, output);
    }

    /// When a turn is due, whatever comes in.
    pub fn due(&self, now: Micros) -> Option<Micros> {
        if !self.budget.allows(now) {
            return Some(self.budget.due());
        }
        let command = self.command.as_ref().map(|(_, end)| *end);
        self.server.poll_timeout().into_iter().chain(command).min()
    }

    /// Drops every connection.
    pub fn hang_up(&mut self, now: Micros, node: &mut Node) {
        for (slot, handle) in self.conns.drain(..) {
            node.ports[self.port].stack.abort(now, handle);
            self.server.hang_up(slot);
        }
    }

    /// Serves who has something to say, if it is time for it: at most one request of each connection and one document.
    pub fn turn(&mut self, now: Micros, node: &mut Node) {
        if !self.budget.allows(now) {
            return;
        }
        let began = time::now_micros();
        let mut worked = false;
        if self.command.as_ref().is_some_and(|(_, end)| *end <= now) {
            // The console is busy with somebody else's.
            self.command = None;
            self.server.withdraw(now);
        }
        if self.stirred != node.core.journal.last() {
            self.stirred = node.core.journal.last();
            self.server.stir();
        }
        // Requests that have come count before it is decided who makes room for whom.
        worked |= self.poll_all(now, node);
        if self.accept(now, node) {
            worked = true;
            self.poll_all(now, node);
        }
        let mut site = View {
            node,
            clients: &mut self.clients,
            readers: &mut self.readers,
            now,
            counts: self.server.counts(),
            conns: &self.conns,
            port: self.port,
            command: &mut self.command,
        };
        if let Some(slot) = self.server.answer(now, &mut site) {
            worked = true;
            if let Some(at) = self.conns.iter().position(|conn| conn.0 == slot) {
                self.poll(at, now, node);
            }
        }
        if worked {
            node.ports[self.port].wake();
            self.budget.spent(began, time::now_micros());
        }
    }

    /// Takes in new connections. `true`: there were some.
    fn accept(&mut self, now: Micros, node: &mut Node) -> bool {
        let stack = &mut node.ports[self.port].stack;
        let mut any = false;
        while let Some(handle) = stack.accept(self.group) {
            any = true;
            let Some(accepted) = self.server.accept(now) else {
                if let Some(mut stream) = stack.stream(handle) {
                    stream.write(BUSY);
                }
                stack.close(now, handle);
                continue;
            };
            if accepted.evicted
                && let Some(at) = self.conns.iter().position(|conn| conn.0 == accepted.slot)
            {
                stack.abort(now, self.conns.swap_remove(at).1);
            }
            self.conns.push((accepted.slot, handle));
        }
        any
    }

    /// A turn of every connection that wants one. `true`: there were some.
    fn poll_all(&mut self, now: Micros, node: &mut Node) -> bool {
        let (mut at, mut any) = (0, false);
        while let Some(&(slot, handle)) = self.conns.get(at) {
            let stream = node.ports[self.port].stack.stream(handle);
            if stream.is_some_and(|stream| !self.server.wants_poll(slot, now, &stream)) {
                at += 1;
                continue;
            }
            any = true;
            at += usize::from(self.poll(at, now, node));
        }
        any
    }

    /// A turn of one connection. `false`: it is gone, and another has its place in the list.
    fn poll(&mut self, at: usize, now: Micros, node: &mut Node) -> bool {
        let (slot, handle) = self.conns[at];
        let stack = &mut node.ports[self.port].stack;
        let wrong = self.server.wrong_tokens();
        let verdict = match stack.stream(handle) {
            Some(mut stream) => self.server.poll(slot, now, &mut stream),
            None => {
                self.server.hang_up(slot);
                Verdict::Abort
            }
        };
        if self.server.wrong_tokens() != wrong && now >= self.complaint_at {
            self.complaint_at = now + COMPLAINTS_EVERY;
            let count = self.server.wrong_tokens() - self.complained;
            self.complained += count;
            let caller = Caller(stack.peer(handle));
            log::warn!("http: {caller}: a wrong token, the {count}. since the last such line");
        }
        match verdict {
            Verdict::Continue => return true,
            Verdict::Close => stack.close(now, handle),
            Verdict::Abort => stack.abort(now, handle),
        }
        self.conns.swap_remove(at);
        false
    }
}

/// Who asks, as far as TCP still knows.
struct Caller(Option<SocketAddr>);

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => write!(f, "{address}"),
            None => f.write_str("somebody who is gone"),
        }
    }
}

/// What the documents are made of.
struct View<'a> {
    node: &'a Node,
    clients: &'a mut Vec<ClientInfo>,
    readers: &'a mut [Follower],
    now: Micros,
    counts: net::http::Counts,
    conns: &'a [(u16, ConnHandle)],
    port: usize,
    command: &'a mut Option<(Line, Micros)>,
}

impl Site for View<'_> {
    fn write(&mut self, page: Page, out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
        match page {
            Page::Health => metrics::health(&answers::status(self.node), out),
            Page::Status => {
                answers::write_status(self.node, true, self.clients, out)?;
                Ok(true)
            }
            Page::Metrics => {
                self.metrics(out)?;
                Ok(true)
            }
        }
    }

    fn follow(&mut self, slot: u16, mark: Option<Mark>) {
        let boot = self.node.core.journal.boot();
        let known = mark.filter(|mark| mark.boot.is_none_or(|of| of == boot));
        // Numbers of another boot mean nothing here: then the state is told.
        self.readers[usize::from(slot)] =
            known.map_or_else(Follower::default, |mark| Follower::after(mark.sequence));
    }

    fn event(&mut self, slot: u16, out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
        let journal = &self.node.core.journal;
        let reader = &mut self.readers[usize::from(slot)];
        let Some(line) = reader.next(journal, self.now) else {
            return Ok(false);
        };
        write!(out, "id: {}-{:016x}\ndata: ", reader.seen(), journal.boot())?;
        journal.write(&line, Format::Json, out)?;
        out.write_char('\n')?;
        Ok(true)
    }

    fn command(&mut self, slot: u16, line: &str) {
        let conn = self.conns.iter().find(|conn| conn.0 == slot);
        let peer = conn.and_then(|conn| self.node.ports[self.port].stack.peer(conn.1));
        log::info!("http: {}: {line}", Caller(peer));
        // It fits: see above.
        let line = Line::try_from(line);
        *self.command = line.ok().map(|line| (line, self.now + ANSWER_LIMIT));
        signals::web_command();
    }
}

impl View<'_> {
    fn metrics(&mut self, out: &mut dyn fmt::Write) -> fmt::Result {
        let node = self.node;
        let status = answers::status(node);
        answers::clients(node, self.clients);
        // A volume has two disks at most, and there are not more cards and codes than that.
        let disks = node.core.disks.iter().map(answers::disk);
        let disks: heapless::Vec<DiskInfo<'_>, { 2 * MAX_VOLUMES }> = disks.collect();
        let nics = node.ports.iter();
        let nics = nics.map(|port| answers::plain_nic(port.nic.driver(), port.index));
        let nics: heapless::Vec<NicInfo<'_>, { admin::config::NICS_MAX }> = nics.collect();
        let latencies: heapless::Vec<(u16, &Latencies), MAX_VOLUMES> =
            node.core.engine.latencies().collect();
        let http: heapless::Vec<(u16, u64), 16> = self.counts.iter().collect();
        let sample = Sample {
            status: &status,
            node: &answers::info(node, self.clients),
            disks: &disks,
            nics: &nics,
            latencies: &latencies,
            datagrams_dropped: node.management.as_ref().map(|end| end.dropped()),
            http: &http,
        };
        metrics::write(&sample, out)
    }
}
