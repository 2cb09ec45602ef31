//! The engine under test and what surrounds it.

use crate::frames::{encoded, name};
use replication::api::{
    Action, ClientOp, ClientRequest, Command, DiskError, DiskOp, DiskToken, EngineConfig, Event,
    LinkDownReason, Micros, Status, Timers, VolumeConfig,
};
use replication::buf::{Buf, Pool};
use replication::engine::Engine;
use replication::wire::{Frame, HEADER_LEN, Header};
use std::collections::{BTreeSet, VecDeque};

/// Bytes of a volume.
pub const SIZE: u64 = 1 << 20;
/// Bytes of a block.
pub const BLOCK: u32 = 512;
const POOL_PAGES: u32 = 512;
/// Pool memory that is left to the engine itself when clients and the peer would use it up.
const SPARE: u64 = 1 << 20;

/// Node `a` of a pair; all others are the fuzzer.
pub struct Victim {
    pub engine: Engine,
    pub pool: Pool,
    pub now: Micros,
    /// The connection stands.
    pub up: bool,
    /// The engine wants one.
    pub wants_link: bool,
    /// Disk operations that have not ended.
    pub ops: VecDeque<(DiskToken, DiskOp)>,
    /// Numbers of requests that the peer owes an answer.
    pub asked: VecDeque<u64>,
    /// Generations that were mentioned.
    pub uuids: Vec<u64>,
    requests: BTreeSet<u64>,
    commands: BTreeSet<u32>,
    next: u32,
}

fn config() -> EngineConfig {
    let volume = |index| VolumeConfig {
        index,
        size: SIZE,
        block_size: BLOCK,
        disk_present: true,
        can_discard: index == 0,
        can_write_zeroes: true,
    };
    EngineConfig {
        node: name("a"),
        peer: name("b"),
        resource: name("r0"),
        volumes: (0..2).map(volume).collect(),
        timers: Timers {
            timeout: 6_000_000,
            ping_interval: 2_000_000,
            connect_interval: 500_000,
        },
        seed: 97,
        max_requests: 64,
    }
}

impl Victim {
    pub fn new() -> Self {
        let mut victim = Self {
            engine: Engine::new(0, config()),
            pool: Pool::new(POOL_PAGES),
            now: 0,
            up: false,
            wants_link: false,
            ops: VecDeque::new(),
            asked: VecDeque::new(),
            uuids: vec![0, 1, 2],
            requests: BTreeSet::new(),
            commands: BTreeSet::new(),
            next: 1,
        };
        victim.drain();
        victim
    }

    pub fn status(&self) -> Status {
        self.engine.status(self.now)
    }

    fn next(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Has the engine handle an event, and does what it asks for.
    pub fn handle(&mut self, event: Event) {
        self.engine.handle(self.now, event, &mut self.pool);
        if self.drain() {
            self.up = false;
            self.handle(Event::LinkDown(LinkDownReason::Requested));
        }
    }

    /// Takes the engine's actions; answers whether it closed its link.
    fn drain(&mut self) -> bool {
        let mut closed = false;
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Disk { token, volume, op } => self.disk(token, volume, op),
                Action::Send { frame, payload } => {
                    assert!(self.up && !closed, "no connection to send {frame:?} on");
                    self.note(frame, payload.map_or(0, |view| view.len));
                }
                Action::Reply { id, buf, .. } => {
                    assert!(self.requests.remove(&id), "answers request {id} unasked");
                    buf.into_iter().for_each(|buf| self.pool.free(buf));
                }
                Action::OpenLink => self.wants_link = true,
                Action::CloseLink => {
                    self.wants_link = false;
                    closed = true;
                }
                Action::Serve(_) | Action::Log { .. } => {}
                Action::CommandDone { id, result } => {
                    assert!(self.commands.remove(&id), "ends command {id} unasked");
                    let (Ok(text) | Err(text)) = result;
                    assert!(!text.is_empty(), "nothing is said of command {id}");
                }
            }
        }
        self.engine.check_invariants();
        closed
    }

    fn disk(&mut self, token: DiskToken, volume: u16, op: DiskOp) {
        assert!(volume < 2, "there is no vol{volume}");
        let range = match op {
            DiskOp::Read { offset, view, .. } | DiskOp::Write { offset, view } => {
                let end = view.offset as u64 + u64::from(view.len);
                assert!(end <= self.pool.total_bytes(), "beyond the pool");
                Some((offset, view.len))
            }
            DiskOp::Discard { offset, len } | DiskOp::WriteZeroes { offset, len, .. } => {
                Some((offset, len))
            }
            DiskOp::Flush => None,
        };
        if let Some((offset, len)) = range {
            let end = offset.checked_add(u64::from(len));
            assert!(
                end.is_some_and(|end| end <= SIZE),
                "beyond the disk: {op:?}"
            );
            let block = u64::from(BLOCK);
            assert!(
                len > 0 && (offset | u64::from(len)) & (block - 1) == 0,
                "{op:?}"
            );
        }
        let twice = self.ops.iter().any(|(other, _)| *other == token);
        assert!(!twice, "token {token} is in use");
        self.ops.push_back((token, op));
    }

    /// Takes notice of a frame, which must survive the codec.
    fn note(&mut self, frame: Frame, payload: u32) {
        let bytes = encoded(&frame, payload);
        let (head, body): (&[u8; HEADER_LEN], _) = bytes.split_first_chunk().expect("a header");
        let header = Header::parse(head).expect("its own header");
        let decoded = Frame::decode(&header, body).expect("its own frame");
        assert_eq!(decoded, frame);
        match frame {
            Frame::Write { request, .. }
            | Frame::Discard { request, .. }
            | Frame::WriteZeroes { request, .. }
            | Frame::Flush { request, .. }
            | Frame::SyncData { request, .. }
            | Frame::SyncZeroes { request, .. }
            | Frame::SyncEnd { request, .. }
            | Frame::PromoteRequest { request } => self.asked.push_back(request),
            Frame::NewGeneration { uuid } | Frame::SyncStart { uuid, .. } => self.uuids.push(uuid),
            _ => {}
        }
    }

    /// A buffer, if that leaves the engine some memory.
    pub fn buf(&mut self, len: u32) -> Option<Buf> {
        (self.pool.free_bytes() > SPARE).then(|| self.pool.alloc(len))?
    }

    /// The peer says something, if there is a connection.
    pub fn hear(&mut self, frame: Frame, payload: Option<u32>) {
        if self.up {
            let buf = payload.and_then(|len| self.pool.alloc(len));
            self.handle(Event::Frame { frame, buf });
        }
    }

    pub fn link_up(&mut self) {
        if self.wants_link && !self.up {
            self.up = true;
            self.asked.clear();
            self.handle(Event::LinkUp);
        }
    }

    pub fn link_down(&mut self, reason: LinkDownReason) {
        if self.up || self.wants_link {
            self.up = false;
            self.handle(Event::LinkDown(reason));
        }
    }

    /// Ends a disk operation.
    pub fn complete(&mut self, at: usize, result: Result<(), DiskError>, zero: bool) {
        if self.ops.is_empty() {
            return;
        }
        let at = at % self.ops.len();
        if let Some((token, op)) = self.ops.remove(at) {
            let all_zero = zero && result.is_ok() && matches!(op, DiskOp::Read { .. });
            self.handle(Event::DiskDone {
                token,
                result,
                all_zero,
            });
        }
    }

    pub fn complete_all(&mut self) {
        while !self.ops.is_empty() {
            self.complete(0, Ok(()), false);
        }
    }

    pub fn command(&mut self, command: Command) {
        let id = self.next();
        self.commands.insert(id);
        self.handle(Event::Command { id, command });
    }

    pub fn client(&mut self, volume: u16, offset: u64, op: ClientOp) {
        let id = u64::from(self.next());
        self.requests.insert(id);
        self.handle(Event::Client(ClientRequest {
            id,
            volume,
            offset,
            op,
        }));
    }

    /// Time passes until the engine's next deadline, or without one by a second.
    pub fn tick(&mut self) {
        let due = self.engine.poll_timeout();
        self.now = due.map_or(self.now + 1_000_000, |due| due.max(self.now));
        self.handle(Event::Tick);
        let next = self.engine.poll_timeout();
        let later = next.is_none_or(|next| due.is_none() || next > self.now);
        assert!(later, "the tick at {} changed nothing", self.now);
    }

    /// The peer and the fuzzer are gone: all that was asked comes to its end.
    pub fn end(mut self) {
        self.link_down(LinkDownReason::Garbage);
        self.complete_all();
        for _ in 0..64 {
            self.tick();
            self.complete_all();
        }
        assert!(self.engine.is_idle(), "requests are left over");
        assert_eq!(self.pool.free_bytes(), self.pool.total_bytes(), "a leak");
        assert!(
            self.requests.is_empty(),
            "not answered: {:?}",
            self.requests
        );
        assert!(self.commands.is_empty(), "not ended: {:?}", self.commands);
    }
}
