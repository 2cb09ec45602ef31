//! An engine with a disk in memory, and streams that deliver as a test wishes.

use crate::nbd::{Accepted, Export, Server, ServerConfig, SessionIo, Verdict};
use crate::stream::ByteStream;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use replication::api::{ClientError, ClientOp, ClientRequest, Micros, RequestId, Text};
use replication::buf::{Buf, BufView, PAGE, Pool, PoolMemory, VecMemory};

pub const DISK: usize = 8 << 20;
pub const PEER: &str = "192.0.2.7:40000";

/// One end of a connection: the test plays the client.
#[derive(Debug)]
pub struct Pipe {
    inbound: Vec<u8>,
    taken: usize,
    /// Bytes of `inbound` that the server may see now.
    pub delivered: usize,
    /// What the server has sent.
    pub outbound: Vec<u8>,
    /// Bytes that the server may still send.
    pub window: usize,
    pub closed: bool,
    /// How long acknowledgements may wait.
    pub ack_delay: Option<Micros>,
}

impl Pipe {
    pub fn new() -> Self {
        Self {
            inbound: Vec::new(),
            taken: 0,
            delivered: 0,
            outbound: Vec::new(),
            window: usize::MAX,
            closed: false,
            ack_delay: None,
        }
    }

    /// Sends `bytes` to the server, delivered at once.
    pub fn send(&mut self, bytes: &[u8]) {
        self.inbound.extend_from_slice(bytes);
        self.delivered = self.inbound.len();
    }

    /// Sends `bytes`, of which nothing more is delivered yet.
    pub fn send_later(&mut self, bytes: &[u8]) {
        self.inbound.extend_from_slice(bytes);
    }

    /// Bytes sent and not read by the server.
    pub fn unread(&self) -> usize {
        self.inbound.len() - self.taken
    }
}

impl ByteStream for Pipe {
    fn readable(&self) -> usize {
        self.delivered - self.taken
    }
    fn read(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.readable());
        out[..n].copy_from_slice(&self.inbound[self.taken..self.taken + n]);
        self.taken += n;
        n
    }
    fn at_end(&self) -> bool {
        self.closed && self.taken == self.inbound.len()
    }
    fn writable(&self) -> usize {
        self.window
    }
    fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.window);
        self.outbound.extend_from_slice(&data[..n]);
        self.window -= if self.window == usize::MAX { 0 } else { n };
        n
    }
    fn set_ack_delay(&mut self, delay: Option<Micros>) {
        self.ack_delay = delay;
    }
}

/// What the engine was asked, for tests to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Read(u64, u32),
    Old(u64, u32),
    Write(u64, u32, bool),
    Flush,
    Discard(u64, u32, bool),
    Zeroes(u64, u32, bool, bool),
}

/// Pool, engine and disk.
pub struct Engine {
    pub pool: Pool,
    memory: VecMemory,
    pub disk: Vec<u8>,
    pub queue: VecDeque<ClientRequest>,
    pub room: usize,
    pub seen: Vec<Seen>,
    /// Operations that touch this byte fail with this.
    pub fault: Option<(u64, ClientError)>,
    /// What clients are told while the node does not serve.
    pub not_serving: Option<&'static str>,
    pub in_memory_most: u64,
}

impl Engine {
    pub fn new(pool_pages: u32, disk: usize) -> Self {
        Self {
            pool: Pool::new(pool_pages),
            memory: VecMemory::new(pool_pages),
            disk: vec![0; disk],
            queue: VecDeque::new(),
            room: 64,
            seen: Vec::new(),
            fault: None,
            not_serving: None,
            in_memory_most: 0,
        }
    }

    /// Performs the request at `index` of the queue.
    #[allow(clippy::type_complexity)]
    pub fn complete(&mut self, index: usize) -> (RequestId, Result<(), ClientError>, Option<Buf>) {
        let held = self.pool.total_bytes() - self.pool.free_bytes();
        self.in_memory_most = self.in_memory_most.max(held);
        let request = self.queue.remove(index).expect("queued");
        let from = request.offset as usize;
        let hit = |len: u32, fault: Option<(u64, ClientError)>| match fault {
            Some((at, error)) if (from as u64..from as u64 + u64::from(len)).contains(&at) => {
                Err(error)
            }
            _ => Ok(()),
        };
        let (result, buf) = match request.op {
            ClientOp::Read(buf) => {
                self.seen.push(Seen::Read(request.offset, buf.len()));
                let source = &self.disk[from..from + buf.len() as usize];
                self.memory.bytes_mut(buf.view()).copy_from_slice(source);
                (hit(buf.len(), self.fault), Some(buf))
            }
            ClientOp::ReadSnapshot(buf) => {
                self.seen.push(Seen::Old(request.offset, buf.len()));
                // The old content differs from the disk in every byte.
                let source = &self.disk[from..from + buf.len() as usize];
                for (to, from) in self.memory.bytes_mut(buf.view()).iter_mut().zip(source) {
                    *to = !from;
                }
                (hit(buf.len(), self.fault), Some(buf))
            }
            ClientOp::Write { buf, fua } => {
                let len = buf.len();
                self.seen.push(Seen::Write(request.offset, len, fua));
                let data = self.memory.bytes(buf.view());
                self.disk[from..from + len as usize].copy_from_slice(data);
                self.pool.free(buf);
                (hit(len, self.fault), None)
            }
            ClientOp::Flush => {
                self.seen.push(Seen::Flush);
                (Ok(()), None)
            }
            ClientOp::Discard { len, fua } => {
                self.seen.push(Seen::Discard(request.offset, len, fua));
                (hit(len, self.fault), None)
            }
            ClientOp::WriteZeroes { len, unmap, fua } => {
                self.seen
                    .push(Seen::Zeroes(request.offset, len, unmap, fua));
                if let Some(range) = self.disk.get_mut(from..from + len as usize) {
                    range.fill(0);
                }
                (hit(len, self.fault), None)
            }
        };
        (request.id, result, buf)
    }
}

impl PoolMemory for Engine {
    fn bytes(&self, view: BufView) -> &[u8] {
        self.memory.bytes(view)
    }
    fn bytes_mut(&mut self, view: BufView) -> &mut [u8] {
        self.memory.bytes_mut(view)
    }
}

impl SessionIo for Engine {
    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }
    fn has_room(&self) -> bool {
        self.queue.len() < self.room
    }
    fn submit(&mut self, request: ClientRequest) {
        assert!(self.has_room(), "submitted beyond the engine's room");
        self.queue.push_back(request);
    }
    fn not_serving(&self) -> Option<Text> {
        self.not_serving.map(|why| Text::try_from(why).unwrap())
    }
}

/// A server with its engine and connections.
pub struct World {
    pub server: Server,
    pub engine: Engine,
    pub pipes: Vec<Option<Pipe>>,
    pub verdicts: Vec<(u16, Verdict)>,
    /// What ended connections had been sent.
    graves: Vec<(u16, Vec<u8>)>,
    pub now: Micros,
    /// The server's [`Server::capacities`] at its start.
    capacities: [usize; 3],
    /// Whether [`World::run`] lets the engine answer.
    pub answering: bool,
}

pub fn exports() -> Vec<Export> {
    let size = DISK as u64;
    vec![
        Export::new("vol0", "the first", 0, size, 512, true).expect("valid"),
        Export::new("vol1", "", 1, size, 4096, false).expect("valid"),
    ]
}

impl World {
    /// A serving server with four slots and 16 MiB of pool.
    pub fn new() -> Self {
        let mut world = Self::with(4, 4096, exports());
        world.serve(true);
        world
    }

    pub fn with(slots: u16, pool_pages: u32, exports: Vec<Export>) -> Self {
        let engine = Engine::new(pool_pages, DISK);
        let config = ServerConfig {
            slots,
            ..ServerConfig::default()
        };
        let server = Server::new(&config, exports, &engine.pool);
        Self {
            capacities: server.capacities(),
            server,
            engine,
            pipes: (0..slots).map(|_| None).collect(),
            verdicts: Vec::new(),
            graves: Vec::new(),
            now: 1,
            answering: true,
        }
    }

    pub fn serve(&mut self, serving: bool) {
        self.server
            .set_serving(self.now, serving, &mut self.engine.pool);
    }

    /// A new connection.
    pub fn connect(&mut self) -> u16 {
        self.try_connect().expect("a slot").slot
    }

    pub fn try_connect(&mut self) -> Option<Accepted> {
        let peer: SocketAddr = PEER.parse().expect("an address");
        let accepted = self.server.accept(self.now, peer, &mut self.engine.pool)?;
        self.pipes[usize::from(accepted.slot)] = Some(Pipe::new());
        Some(accepted)
    }

    pub fn pipe(&mut self, slot: u16) -> &mut Pipe {
        self.pipes[usize::from(slot)].as_mut().expect("connected")
    }

    pub fn is_open(&self, slot: u16) -> bool {
        self.pipes[usize::from(slot)].is_some()
    }

    /// Polls every session that wants it, once.
    pub fn turn(&mut self) -> bool {
        let mut progress = false;
        for slot in 0..self.pipes.len() as u16 {
            let Some(pipe) = self.pipes[usize::from(slot)].as_mut() else {
                continue;
            };
            if !self.server.wants_poll(slot, self.now, &*pipe) {
                continue;
            }
            progress = true;
            match self
                .server
                .poll(slot, self.now, &mut *pipe, &mut self.engine)
            {
                Verdict::Continue => {}
                verdict => {
                    self.verdicts.push((slot, verdict));
                    self.last_words(slot);
                }
            }
        }
        progress
    }

    fn last_words(&mut self, slot: u16) {
        let pipe = self.pipes[usize::from(slot)].take().expect("connected");
        self.graves.push((slot, pipe.outbound));
    }

    /// Lets the engine answer its oldest request.
    pub fn answer(&mut self) -> bool {
        if self.engine.queue.is_empty() {
            return false;
        }
        self.answer_at(0);
        true
    }

    pub fn answer_at(&mut self, index: usize) {
        let (id, result, buf) = self.engine.complete(index);
        self.server.on_reply(id, result, buf, &mut self.engine.pool);
    }

    /// Runs until nothing moves any more.
    pub fn run(&mut self) {
        for _ in 0..1_000_000 {
            let turned = self.turn();
            let answered = self.answering && self.answer();
            if !turned && !answered {
                return;
            }
        }
        panic!("never comes to rest");
    }

    /// Has the client of `slot` send `bytes`, and runs.
    pub fn say(&mut self, slot: u16, bytes: &[u8]) {
        self.pipe(slot).send(bytes);
        self.run();
    }

    /// Passes `time` and runs.
    pub fn pass(&mut self, time: Micros) {
        self.now += time;
        self.run();
    }

    /// What the server sent to `slot` since the last call.
    pub fn received(&mut self, slot: u16) -> Vec<u8> {
        core::mem::take(&mut self.pipe(slot).outbound)
    }

    /// What the server sent to a connection before it ended it, and how it did.
    pub fn ended(&mut self, slot: u16) -> (Verdict, Vec<u8>) {
        let at = self.verdicts.iter().position(|v| v.0 == slot);
        let verdict = self.verdicts.remove(at.expect("ended")).1;
        let at = self.graves.iter().position(|g| g.0 == slot);
        (verdict, self.graves.remove(at.expect("ended")).1)
    }

    /// Ends everything and checks that nothing leaked.
    pub fn finish(mut self) {
        for slot in 0..self.pipes.len() as u16 {
            if self.pipes[usize::from(slot)].take().is_some() {
                self.server.hang_up(slot, &mut self.engine.pool);
            }
        }
        while self.answer() {}
        let pool = &mut self.engine.pool;
        assert_eq!(pool.free_bytes(), pool.total_bytes(), "buffers leaked");
        assert_eq!(self.server.read_bytes(), 0, "the read budget leaked");
        let most = pool.max_reservation();
        assert!(
            pool.reserve(most / u64::from(PAGE) * u64::from(PAGE)),
            "a reservation leaked"
        );
        assert_eq!(self.server.open_clients(), 0);
        assert_eq!(self.server.sessions().count(), 0);
        assert_eq!(self.server.poll_timeout(), None);
        assert_eq!(self.server.capacities(), self.capacities, "something grew");
    }

    pub fn export_name(&self) -> String {
        let mut names = self.server.sessions().map(|s| String::from(s.export));
        names.next().unwrap_or_default()
    }
}
