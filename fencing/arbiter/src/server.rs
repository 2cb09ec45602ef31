//! The daemon: one thread that looks at datagrams, one for each resource that decides, one for the administrator.

use crate::admin;
use crate::config::{Config, Keeping, Pair};
use crate::desk::{Desk, Job};
use crate::log;
use crate::log::Rubbish;
use crate::store::{Error, Etcd, Local, Store};
use crate::worker::Worker;
use fencing::datagram::{
    Channel, DATAGRAM_MAX, Datagram, Ends, Key, Received, Rejected, Ticket, resource_of,
};
use fencing::{Answer, Name};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A number that nobody can foresee and that is not 0.
fn random() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

/// A pair, and what is going on with it.
struct Served<'a> {
    pair: &'a Pair,
    key: Key,
    /// With each of its nodes.
    channels: [Mutex<Channel>; 2],
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
                    admin::answer(server, stream);
                }
            })?;
        log!("serving {} resources on {address}", config.pairs.len());
        server.listen()
    })
}

impl<'a> Served<'a> {
    fn new(pair: &'a Pair) -> Self {
        let key = Key::new(pair.secret.as_bytes(), &pair.resource);
        let channel = |node: &Name| {
            let mut here = Name::new();
            // Seven letters fit.
            let _ = here.push_str("arbiter");
            let ends = Ends {
                resource: pair.resource.clone(),
                identity: 0,
                here,
                there: node.clone(),
            };
            Mutex::new(Channel::new(ends, key.clone(), random()))
        };
        Self {
            pair,
            channels: [channel(&pair.nodes[0]), channel(&pair.nodes[1])],
            key,
            desk: Desk::default(),
        }
    }

    fn channel(&self, node: usize) -> MutexGuard<'_, Channel> {
        // It is changed by one call at a time, and none of them panics in between.
        let channel = self.channels[node].lock();
        channel.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server<'_> {
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
        let len = served
            .channel(job.node)
            .answer(job.ticket, answer, &mut out);
        self.transmit(&out[..len], job.from);
    }

    fn transmit(&self, bytes: &[u8], to: SocketAddr) {
        if let Err(error) = self.socket.send_to(bytes, to) {
            self.rubbish.line(format_args!("{to}: answering: {error}"));
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
        for node in 0..served.channels.len() {
            let received = served.channel(node).receive(bytes);
            match received {
                Ok(received) => return self.received(served, from, node, received, bytes),
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
                let identity =
                    Datagram::open(bytes, &served.key).map_or(0, |datagram| datagram.identity);
                let job = Job {
                    node,
                    request,
                    identity,
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
            // The arbiter asks nothing.
            Received::Answer(_) | Received::AskAgain => {}
        }
    }

    fn say_again(&self, served: &Served<'_>, from: SocketAddr, node: usize, ticket: Ticket) {
        let mut out = [0; DATAGRAM_MAX];
        let len = served.channel(node).again(ticket, random(), &mut out);
        self.transmit(&out[..len], from);
    }
}
