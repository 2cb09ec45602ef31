//! A server, its clients and an engine that answers when and how the fuzzer says.

use super::client::{Client, DISK, content};
use crate::input::Input;
use net::nbd::{Export, Server, ServerConfig, SessionIo, Verdict};
use replication::api::{ClientError, ClientOp, ClientRequest, Micros};
use replication::buf::{BufView, PAGE, Pool, PoolMemory, VecMemory};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

const SLOTS: u16 = 4;
/// Requests that the engine takes at once.
const ROOM: usize = 16;
const BLOCKS: [u32; 2] = [512, 4096];

/// The engine, as far as a server sees it.
struct Engine {
    pool: Pool,
    memory: VecMemory,
    queue: VecDeque<ClientRequest>,
    /// All that is written comes from clients that write what is there already.
    trusted: bool,
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
        self.queue.len() < ROOM
    }
    fn submit(&mut self, request: ClientRequest) {
        assert!(self.has_room(), "submitted beyond the engine's room");
        let len = match &request.op {
            ClientOp::Read(buf) | ClientOp::ReadSnapshot(buf) | ClientOp::Write { buf, .. } => {
                buf.len()
            }
            ClientOp::Discard { len, .. } | ClientOp::WriteZeroes { len, .. } => *len,
            ClientOp::Flush => 0,
        };
        let block = u64::from(*BLOCKS.get(usize::from(request.volume)).expect("a volume"));
        let end = request.offset.checked_add(len.into());
        assert!(
            end.is_some_and(|end| end <= DISK),
            "beyond the end: {request:?}"
        );
        // A session cuts a write into pool buffers, whose ends need not be ends of blocks of any size
        // but these.
        let aligned = (request.offset | u64::from(len)) & (block - 1) == 0;
        let flush = matches!(request.op, ClientOp::Flush);
        assert!(flush || aligned && len > 0, "not aligned: {request:?}");
        self.queue.push_back(request);
    }
}

/// All of it.
pub struct World {
    server: Server,
    engine: Engine,
    clients: Vec<Option<Client>>,
    now: Micros,
}

impl World {
    pub fn new(pool_pages: u32) -> Self {
        let engine = Engine {
            pool: Pool::new(pool_pages),
            memory: VecMemory::new(pool_pages),
            queue: VecDeque::new(),
            trusted: true,
        };
        let export = |volume: u16, name, block| {
            Export::new(name, "a volume", volume, DISK, block, volume == 0).expect("an export")
        };
        let exports = vec![export(0, "vol0", BLOCKS[0]), export(1, "vol1", BLOCKS[1])];
        let config = ServerConfig {
            slots: SLOTS,
            ..ServerConfig::default()
        };
        let mut world = Self {
            server: Server::new(&config, exports, &engine.pool),
            engine,
            clients: (0..SLOTS).map(|_| None).collect(),
            now: 1,
        };
        world.serve(true);
        world
    }

    fn serve(&mut self, serving: bool) {
        let pool = &mut self.engine.pool;
        self.server.set_serving(self.now, serving, pool);
    }

    fn connect(&mut self) {
        let peer = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 40_000);
        let pool = &mut self.engine.pool;
        if let Some(accepted) = self.server.accept(self.now, peer, pool) {
            let place = &mut self.clients[usize::from(accepted.slot)];
            assert_eq!(place.is_some(), accepted.evicted, "whose slot it is");
            *place = Some(Client::new());
        }
    }

    /// Has the engine answer one request.
    fn answer(&mut self, at: usize, result: Result<(), ClientError>) {
        let Some(request) = self.engine.queue.remove(at) else {
            return;
        };
        if result.is_err() {
            self.clients
                .iter_mut()
                .flatten()
                .for_each(|c| c.faulty = true);
        }
        let pool = &mut self.engine.pool;
        let buf = match request.op {
            ClientOp::Read(buf) | ClientOp::ReadSnapshot(buf) => {
                let bytes = self.engine.memory.bytes_mut(buf.view());
                for (at, byte) in (request.offset..).zip(bytes) {
                    *byte = content(at);
                }
                Some(buf)
            }
            ClientOp::Write { buf, .. } => {
                if self.engine.trusted {
                    let bytes = self.engine.memory.bytes(buf.view());
                    let wrong = (request.offset..)
                        .zip(bytes)
                        .find(|(at, b)| **b != content(*at));
                    assert_eq!(
                        wrong, None,
                        "not what the client wrote at {}",
                        request.offset
                    );
                }
                pool.free(buf);
                None
            }
            _ => None,
        };
        self.server.on_reply(request.id, result, buf, pool);
    }

    /// The next move of the input.
    pub fn one(&mut self, input: &mut Input<'_>) {
        let write_max = self.server.max_block_size();
        let kind = input.pick(12);
        let slot = match kind {
            0 | 5 | 6 | 7 | 8 => 0,
            _ => usize::from(input.byte() % SLOTS as u8),
        };
        let client = self.clients[slot].as_mut();
        match (kind, client) {
            (0, _) => self.connect(),
            (1, Some(client)) => client.option(input),
            (2, Some(client)) => client.request(input, write_max),
            (3, Some(client)) => {
                let len = usize::from(input.byte());
                client.raw(input.bytes(len));
                self.engine.trusted = false;
            }
            (4, Some(client)) => client.deliver(input.u16().into()),
            (5, _) => {
                let results = [
                    Ok(()),
                    Ok(()),
                    Err(ClientError::Io),
                    Err(ClientError::Invalid),
                    Err(ClientError::NotServing),
                ];
                let result = input.one_of(&results);
                let at = input.pick(ROOM);
                let count = input.pick(16);
                for _ in 0..=count {
                    self.answer(at.min(self.engine.queue.len().saturating_sub(1)), result);
                }
            }
            (6, _) => self.serve(input.coin()),
            (7, _) => self.now += input.one_of(&[10_000, 1_000_000, 6_000_000, 31_000_000]),
            (8, _) => self.rest_well(),
            (9, Some(client)) => client.closed = true,
            (10, Some(_)) => {
                self.clients[slot] = None;
                self.server.hang_up(slot as u16, &mut self.engine.pool);
            }
            (11, Some(client)) => client.set_window(input.u16().into()),
            _ => {}
        }
    }

    /// Polls every session that wants it; whether there was any.
    fn turn(&mut self) -> bool {
        let mut progress = false;
        for (slot, place) in self.clients.iter_mut().enumerate() {
            let Some(client) = place else { continue };
            let slot = slot as u16;
            if !self.server.wants_poll(slot, self.now, client) {
                continue;
            }
            progress = true;
            let verdict = self.server.poll(slot, self.now, client, &mut self.engine);
            client.check();
            if verdict != Verdict::Continue {
                *place = None;
            }
        }
        progress
    }

    /// Runs until nothing moves any more.
    pub fn rest(&mut self) {
        for _ in 0..100_000 {
            if !self.turn() {
                return;
            }
        }
        panic!("never comes to rest");
    }

    /// Runs with an engine that answers everything, and a little time for those who wait for memory.
    fn rest_well(&mut self) {
        let soon = self.now + 500_000;
        loop {
            self.rest();
            if !self.engine.queue.is_empty() {
                self.answer(0, Ok(()));
            } else if let Some(due) = self.server.poll_timeout().filter(|due| *due <= soon) {
                // A session that is due has a turn now, so time passes.
                self.now = due.max(self.now + 1);
            } else {
                return;
            }
        }
    }

    /// Everybody gets what he is owed, leaves, and nothing is left of them.
    pub fn end(mut self) {
        self.serve(true);
        self.clients
            .iter_mut()
            .flatten()
            .for_each(Client::open_wide);
        self.rest_well();
        self.clients
            .iter_mut()
            .flatten()
            .for_each(Client::check_end);
        for slot in 0..SLOTS {
            if self.clients[usize::from(slot)].take().is_some() {
                self.server.hang_up(slot, &mut self.engine.pool);
            }
        }
        while !self.engine.queue.is_empty() {
            self.answer(0, Ok(()));
        }
        let pool = &mut self.engine.pool;
        assert_eq!(pool.free_bytes(), pool.total_bytes(), "buffers leaked");
        let most = pool.max_reservation() / u64::from(PAGE) * u64::from(PAGE);
        assert!(pool.reserve(most), "a reservation leaked");
        assert_eq!(self.server.open_clients(), 0);
        assert_eq!(self.server.sessions().count(), 0);
        assert_eq!(self.server.poll_timeout(), None);
    }
}
