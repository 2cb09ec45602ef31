//! The daemon.

use crate::admin;
use crate::config::Config;
use crate::store::{Entry, Error, Store};
use fencing::datagram::{
    Channel, DATAGRAM_MAX, Datagram, Ends, Key, Received, Rejected, Ticket, resource_of,
};
use fencing::{Answer, Name, Refusal, Request};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// How long the administrator may have to wait while no datagrams come.
const TURN: Duration = Duration::from_millis(50);

/// A line of the log, on standard output.
macro_rules! log {
    ($($text:tt)*) => { println!($($text)*) };
}

/// A number that nobody can foresee and that is not 0.
fn random() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

/// One node of one pair.
struct Line {
    resource: Name,
    node: Name,
    key: Key,
    channel: Channel,
}

pub struct Server<'a> {
    pub config: &'a Config,
    pub store: Store,
    lines: Vec<Line>,
}

pub fn serve(config: &Config) -> Result<(), Error> {
    let store = Store::open(&config.store)?;
    let socket = UdpSocket::bind(config.listen)
        .map_err(|error| format!("UDP {}: {error}", config.listen))?;
    socket.set_read_timeout(Some(TURN))?;
    // A socket that a killed daemon left; the store's lock says that none runs.
    let _ = std::fs::remove_file(config.socket());
    let admin = UnixListener::bind(config.socket())
        .map_err(|error| format!("{}: {error}", config.socket().display()))?;
    admin.set_nonblocking(true)?;
    let mut server = Server {
        config,
        store,
        lines: lines(config),
    };
    log!(
        "serving {} resources on {}",
        config.pairs.len(),
        socket.local_addr()?
    );
    // One byte more: what is longer than any datagram is seen to be.
    let mut bytes = [0; DATAGRAM_MAX + 1];
    loop {
        match socket.recv_from(&mut bytes) {
            Ok((len, from)) => server.datagram(&socket, &bytes[..len], from),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // An ICMP message about an earlier answer, or the like.
            Err(error) => log!("receiving: {error}"),
        }
        if let Ok((stream, _)) = admin.accept() {
            admin::answer(&mut server, stream);
        }
    }
}

fn lines(config: &Config) -> Vec<Line> {
    let mut lines = Vec::new();
    for pair in &config.pairs {
        for node in &pair.nodes {
            let key = Key::new(pair.secret.as_bytes(), &pair.resource);
            let mut here = Name::new();
            // Seven letters fit.
            let _ = here.push_str("arbiter");
            let ends = Ends {
                resource: pair.resource.clone(),
                identity: 0,
                here,
                there: node.clone(),
            };
            lines.push(Line {
                resource: pair.resource.clone(),
                node: node.clone(),
                key: key.clone(),
                channel: Channel::new(ends, key, random()),
            });
        }
    }
    lines
}

impl Server<'_> {
    fn datagram(&mut self, socket: &UdpSocket, bytes: &[u8], from: SocketAddr) {
        let resource = match resource_of(bytes) {
            Ok(resource) => resource,
            Err(error) => return log!("{from}: {error}"),
        };
        let mut why = None;
        for at in 0..self.lines.len() {
            if self.lines[at].resource != resource {
                continue;
            }
            match self.lines[at].channel.receive(bytes) {
                Ok(received) => return self.received(socket, from, at, received, bytes),
                // Of the other node, perhaps.
                Err(rejected) => {
                    if why.is_none_or(|why| why == Rejected::Address) {
                        why = Some(rejected);
                    }
                }
            }
        }
        match why {
            Some(why) => log!("{from}: resource {resource}: {why}"),
            None => log!("{from}: no resource {resource} is configured here"),
        }
    }

    fn received(
        &mut self,
        socket: &UdpSocket,
        from: SocketAddr,
        at: usize,
        received: Received,
        bytes: &[u8],
    ) {
        let mut out = [0; DATAGRAM_MAX];
        let len = match received {
            Received::SayAgain(ticket) => self.lines[at].channel.again(ticket, random(), &mut out),
            Received::Request(request, ticket) => {
                let identity = Datagram::open(bytes, &self.lines[at].key)
                    .map_or(0, |datagram| datagram.identity);
                match self.reply(at, request, identity, ticket, &mut out) {
                    Some(len) => len,
                    None => return,
                }
            }
            // The arbiter asks nothing.
            Received::Answer(_) | Received::AskAgain => return,
        };
        if let Err(error) = socket.send_to(&out[..len], from) {
            log!("{from}: answering: {error}");
        }
    }

    fn reply(
        &mut self,
        at: usize,
        request: Request,
        identity: u64,
        ticket: Ticket,
        out: &mut [u8; DATAGRAM_MAX],
    ) -> Option<usize> {
        let (resource, node) = (self.lines[at].resource.clone(), self.lines[at].node.clone());
        let answer = match self.decide(&resource, &node, request, identity) {
            Ok(answer) => answer?,
            Err(error) => {
                log!("resource {resource}: nothing was stored, and nothing granted: {error}");
                // Who wanted a fence is told. Who gives one back asks again.
                let Request::Fence { episode, .. } = request else {
                    return None;
                };
                let why = Refusal::NotStored;
                Answer::Refused { episode, why }
            }
        };
        Some(self.lines[at].channel.answer(ticket, answer, out))
    }

    /// Decides and stores. `None`: it is not answered.
    fn decide(
        &mut self,
        resource: &Name,
        node: &Name,
        request: Request,
        identity: u64,
    ) -> Result<Option<Answer>, Error> {
        let entry = self.store.load(resource)?;
        let arbiter = entry
            .arbiter()
            .ok_or("the stored entry is not one of this release")?;
        if identity != 0 && entry.identity != 0 && identity != entry.identity {
            log!(
                "resource {resource}: node {node} is of another resource of this name (it is {identity:016x}, known is {:016x}): \
                 give one another name, or 'forget {resource} --yes' if the old one is gone",
                entry.identity
            );
            let Request::Fence { episode, .. } = request else {
                return Ok(None);
            };
            let why = Refusal::OtherResource;
            return Ok(Some(Answer::Refused { episode, why }));
        }
        let Some(verdict) = arbiter.ask(node, request) else {
            return Ok(None);
        };
        let known = if entry.identity == 0 {
            identity
        } else {
            entry.identity
        };
        let next = Entry::new(known, &verdict.next);
        if next != entry {
            let line = match request {
                Request::Fence { episode, .. } => format!("FENCE {node} {episode}"),
                Request::Unfence { episode } if verdict.next.holder != arbiter.holder => {
                    format!("UNFENCE {node} {episode}")
                }
                Request::Unfence { episode } => format!("OVER {node} {episode}"),
                Request::Query
                | Request::Outdate { .. }
                | Request::Promote
                | Request::Notify { .. } => {
                    format!("IDENTITY {node} {known:016x}")
                }
            };
            self.store.save(resource, &next, &line)?;
            log!("resource {resource}: {line}");
        }
        if let Answer::Refused { episode, why } = &verdict.answer {
            log!("resource {resource}: refused FENCE {node} {episode}: {why:?}");
        }
        Ok(Some(verdict.answer))
    }
}
