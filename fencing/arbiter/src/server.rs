//! The daemon: one thread that looks at datagrams, one for each resource that decides, one for the administrator.

use crate::admin;
use crate::config::{Config, Keeping, Pair};
use crate::desk::{Desk, Job};
use crate::log;
use crate::log::Rubbish;
use crate::promote::{Asking, Heard};
use crate::store::{Error, Etcd, Local, Store};
use crate::worker::Worker;
use fencing::datagram::{
    Channel, DATAGRAM_MAX, Datagram, Ends, Key, Received, Rejected, Ticket, resource_of,
};
use fencing::{Answer, Name, Request};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A number that nobody can foresee and that is not 0.
fn random() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

/// What passes between the arbiter and a node.
struct Line {
    /// For the node's questions.
    channel: Channel,
    /// Where its last fresh question came from: no recording is one.
    heard: Option<SocketAddr>,
    /// A command of the administrator that asks it.
    asking: Option<Asking>,
}

/// A pair, and what is going on with it.
pub struct Served<'a> {
    pair: &'a Pair,
    key: Key,
    /// With each of its nodes.
    lines: [Mutex<Line>; 2],
    desk: Desk,
}

pub struct Server<'a> {
    pub config: &'a Config,
    pub store: Box<dyn Store>,
    socket: UdpSocket,
    served: Vec<Served<'a>>,
    rubbish: Rubbish,
}

pub fn serve(config: &Config) -> Result<(), Error> {
    let store: Box<dyn Store> = match &config.keeping {
        Keeping::File(path) => Box::new(Local::open(path)?),
        Keeping::Etcd(at) => Box::new(Etcd::new(at)),
    };
    let socket = UdpSocket::bind(config.listen)
        .map_err(|error| format!("UDP {}: {error}", config.listen))?;
    let path = config.socket.display();
    // A socket that a killed daemon left: the UDP port says that none runs.
    let _ = std::fs::remove_file(&config.socket);
    let admin = UnixListener::bind(&config.socket).map_err(|error| format!("{path}: {error}"))?;
    let server = Server {
        config,
        store,
        socket,
        served: config.pairs.iter().map(Served::new).collect(),
        rubbish: Rubbish::new(),
    };
    if let Keeping::Etcd(_) = config.keeping
        && let Err(error) = server.store.load(&config.pairs[0].resource)
    {
        log!("no fence is granted before this is better: {error}");
    }
    let address = server.socket.local_addr()?;
    std::thread::scope(|scope| {
        let server = &server;
        for served in &server.served {
            std::thread::Builder::new()
                .name(served.pair.resource.to_string())
                .spawn_scoped(scope, move || server.work(served))?;
        }
        std::thread::Builder::new()
            .name("admin".into())
            .spawn_scoped(scope, move || {
                for stream in admin.incoming().flatten() {
                    admin::answer(server, stream, scope);
                }
            })?;
        log!("serving {} resources on {address}", config.pairs.len());
        server.listen()
    })
}

impl<'a> Served<'a> {
    fn new(pair: &'a Pair) -> Self {
        let key = Key::new(pair.secret.as_bytes(), &pair.resource);
        let line = |node: &Name| {
            Mutex::new(Line {
                channel: channel(pair, node, key.clone()),
                heard: None,
                asking: None,
            })
        };
        Self {
            pair,
            lines: [line(&pair.nodes[0]), line(&pair.nodes[1])],
            key,
            desk: Desk::default(),
        }
    }

    fn line(&self, node: usize) -> MutexGuard<'_, Line> {
        // It is changed by one call at a time, and none of them panics in between.
        let line = self.lines[node].lock();
        line.unwrap_or_else(PoisonError::into_inner)
    }

    pub const fn nodes(&self) -> &[Name; 2] {
        &self.pair.nodes
    }

    /// Which of the nodes has this name.
    pub fn node(&self, name: &Name) -> Option<usize> {
        self.pair.nodes.iter().position(|node| node == name)
    }

    /// Where the node was last heard.
    pub fn last_heard(&self, node: usize) -> Option<SocketAddr> {
        self.line(node).heard
    }

    /// Opens a session in which a node is asked; what it answers goes to `heard`. `false`: somebody asks it already.
    pub fn call(&self, node: usize, heard: Sender<Heard>) -> bool {
        let mut line = self.line(node);
        let free = line.asking.is_none();
        if free {
            let channel = channel(self.pair, &self.pair.nodes[node], self.key.clone());
            line.asking = Some(Asking { channel, heard });
        }
        free
    }

    /// Writes a question of that session; answers its length.
    pub fn ask(
        &self,
        node: usize,
        request: Request,
        out: &mut [u8; DATAGRAM_MAX],
    ) -> Option<usize> {
        let mut line = self.line(node);
        let asking = line.asking.as_mut()?;
        Some(asking.channel.ask(request, out))
    }

    /// Ends that session.
    pub fn hang_up(&self, node: usize) {
        self.line(node).asking = None;
    }

    /// Looks at a datagram as one of this node's. What answers a command goes to whoever waits for it.
    fn receive(
        &self,
        node: usize,
        bytes: &[u8],
        from: SocketAddr,
    ) -> Result<Option<Received>, Rejected> {
        let mut line = self.line(node);
        let received = match line.channel.receive(bytes) {
            // Questions are all that the first channel has to do with.
            Err(Rejected::NotAsked) => {
                let asking = line.asking.as_mut().ok_or(Rejected::NotAsked)?;
                let heard = match asking.channel.receive(bytes)? {
                    Received::Answer(answer) => Heard::Answer(answer, self.identity(bytes)),
                    Received::AskAgain => Heard::AskAgain,
                    Received::Request(..) | Received::SayAgain(_) => return Ok(None),
                };
                // Who does not wait any more does not want it.
                let _ = asking.heard.send(heard);
                return Ok(None);
            }
            received => received?,
        };
        if matches!(received, Received::Request(..)) {
            line.heard = Some(from);
        }
        Ok(Some(received))
    }

    /// The identity that an authentic datagram tells.
    fn identity(&self, bytes: &[u8]) -> u64 {
        Datagram::open(bytes, &self.key).map_or(0, |datagram| datagram.identity)
    }
}

/// A conversation with a node of the pair, in a session of its own.
fn channel(pair: &Pair, node: &Name, key: Key) -> Channel {
    let mut here = Name::new();
    // Seven letters fit.
    let _ = here.push_str("arbiter");
    let ends = Ends {
        resource: pair.resource.clone(),
        identity: 0,
        here,
        there: node.clone(),
    };
    Channel::new(ends, key, random())
}

impl<'a> Server<'a> {
    /// The pair of this resource.
    pub fn served(&self, resource: &str) -> Result<&Served<'a>, Error> {
        let mut pairs = self.served.iter();
        let found = pairs.find(|served| served.pair.resource == resource);
        found.ok_or_else(|| format!("no resource {resource} is configured; see 'list'").into())
    }

    fn listen(&self) -> Result<(), Error> {
        // One byte more: what is longer than any datagram is seen to be.
        let mut bytes = [0; DATAGRAM_MAX + 1];
        loop {
            match self.socket.recv_from(&mut bytes) {
                Ok((len, from)) => self.datagram(&bytes[..len], from),
                // An ICMP message about an earlier answer, or the like.
                Err(error) => self.rubbish.line(format_args!("receiving: {error}")),
            }
        }
    }

    fn work(&self, served: &Served<'_>) {
        let mut worker = Worker::new(self, served.pair);
        loop {
            let job = served.desk.take();
            let answer = worker.answer(&job);
            if let (Some(job), Some(answer)) = (served.desk.done(), answer) {
                self.send(served, &job, answer);
            }
        }
    }

    fn send(&self, served: &Served<'_>, job: &Job, answer: Answer) {
        let mut out = [0; DATAGRAM_MAX];
        let mut line = served.line(job.node);
        let len = line.channel.answer(job.ticket, answer, &mut out);
        drop(line);
        self.transmit(&out[..len], job.from);
    }

    pub fn transmit(&self, bytes: &[u8], to: SocketAddr) {
        if let Err(error) = self.socket.send_to(bytes, to) {
            self.rubbish.line(format_args!("{to}: sending: {error}"));
        }
    }

    fn datagram(&self, bytes: &[u8], from: SocketAddr) {
        let resource = match resource_of(bytes) {
            Ok(resource) => resource,
            Err(error) => return self.rubbish.line(format_args!("{from}: {error}")),
        };
        let mut pairs = self.served.iter();
        let Some(served) = pairs.find(|served| served.pair.resource == resource) else {
            let line = format_args!("{from}: no resource {resource} is configured here");
            return self.rubbish.line(line);
        };
        let mut why = Rejected::Address;
        for node in 0..served.lines.len() {
            match served.receive(node, bytes, from) {
                Ok(Some(received)) => return self.received(served, from, node, received, bytes),
                Ok(None) => return,
                // Of the other node, perhaps.
                Err(Rejected::Address) => {}
                Err(rejected) => why = rejected,
            }
        }
        let line = format_args!("{from}: resource {resource}: {why}");
        self.rubbish.line(line);
    }

    fn received(
        &self,
        served: &Served<'_>,
        from: SocketAddr,
        node: usize,
        received: Received,
        bytes: &[u8],
    ) {
        match received {
            Received::SayAgain(ticket) => self.say_again(served, from, node, ticket),
            Received::Request(request, ticket) => {
                let job = Job {
                    node,
                    request,
                    identity: served.identity(bytes),
                    ticket,
                    from,
                    came: Instant::now(),
                };
                if !served.desk.put(job) {
                    let resource = &served.pair.resource;
                    let line = format_args!("resource {resource}: too many questions wait");
                    self.rubbish.line(line);
                }
            }
            // By this channel the arbiter asks nothing.
            Received::Answer(_) | Received::AskAgain => {}
        }
    }

    fn say_again(&self, served: &Served<'_>, from: SocketAddr, node: usize, ticket: Ticket) {
        let mut out = [0; DATAGRAM_MAX];
        let len = served.line(node).channel.again(ticket, random(), &mut out);
        self.transmit(&out[..len], from);
    }
}
