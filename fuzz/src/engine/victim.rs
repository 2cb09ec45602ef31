//! The engine under test and what surrounds it.

use super::disks::{BLOCK, Disks, META};
use crate::frames::{Fields, encoded, name};
use replication::api::{
    Action, ClientOp, ClientRequest, Command, DiskError, EngineConfig, Event, LinkDownReason,
    MetadataPlace, Micros, Mirroring, OnCongestion, Protocol, ResyncConfig, SnapshotPolicy, Status,
    Timers, VolumeConfig,
};
use replication::buf::{Buf, Mem, Pool, PoolMemory, VecMemory};
use replication::engine::Engine;
use replication::lineage::Policies;
use replication::wire::{Frame, HEADER_LEN, Header, Resize};
use std::collections::{BTreeSet, VecDeque};

const POOL_PAGES: u32 = 512;
/// Pool memory that is left to the engine itself when clients and the peer would use it up.
const SPARE: u64 = 1 << 20;

/// Node `a` of a pair; all others are the fuzzer.
pub struct Victim {
    pub engine: Engine,
    pub pool: Pool,
    pub memory: VecMemory,
    pub disks: Disks,
    pub now: Micros,
    /// The connection stands.
    pub up: bool,
    /// The engine wants one.
    pub wants_link: bool,
    /// Operations on metadata do not end by themselves.
    pub meta_held: bool,
    /// Numbers of requests that the peer owes an answer.
    pub asked: VecDeque<u64>,
    /// The step of a growth that the peer was last told to do.
    pub grows: Option<Resize>,
    mirroring: Mirroring,
    /// Generations that were mentioned.
    pub uuids: Vec<u64>,
    requests: BTreeSet<u64>,
    commands: BTreeSet<u32>,
    next: u32,
    boots: u64,
}

/// How clients' writes are mirrored, by the first byte of an input: all protocols, with limits of congestion that are soon
/// reached.
pub fn mirroring(byte: u8) -> Mirroring {
    let protocol = [Protocol::C, Protocol::A, Protocol::B][usize::from(byte & 63) % 3];
    let on_congestion = match byte >> 6 {
        1 => OnCongestion::Disconnect,
        2 | 3 if protocol == Protocol::A => OnCongestion::PullAhead,
        _ => OnCongestion::Block,
    };
    Mirroring {
        protocol,
        on_congestion,
        congestion_fill: 16 << 10,
        congestion_extents: None,
    }
}

fn config(boots: u64, mirroring: Mirroring, disks: &Disks) -> EngineConfig {
    let volume = |index: u16| VolumeConfig {
        index,
        block_size: BLOCK,
        disk_bytes: disks.size(index),
        metadata: match index {
            0 => MetadataPlace::External { disk_bytes: META },
            _ => MetadataPlace::Internal,
        },
        size_limit: None,
        can_discard: index == 0,
        can_write_zeroes: true,
        resync_after: (index == 1).then_some(0),
        snapshot: SnapshotPolicy::Off,
        snapshot_reserve: 0,
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
        policies: Policies::default(),
        resync: ResyncConfig::default(),
        mirroring,
        fencing: Default::default(),
        trouble: Default::default(),
        seed: 97 + boots,
        max_requests: 64,
    }
}

impl Victim {
    /// A node with fresh metadata on its disks, that has not met its peer.
    pub fn new(mirroring: Mirroring) -> Self {
        let mut victim = Self::on(Disks::new(), 0, 0, mirroring);
        for volume in 0..2 {
            // Looking for foreign data would take most of a run's time; a move may ask for it.
            let force = true;
            victim.command(Command::CreateMd { volume, force });
        }
        victim
    }

    /// A node that finds these disks when it boots.
    fn on(disks: Disks, now: Micros, boots: u64, mirroring: Mirroring) -> Self {
        let mut victim = Self {
            engine: Engine::new(now, config(boots, mirroring, &disks)),
            pool: Pool::new(POOL_PAGES),
            memory: VecMemory::new(POOL_PAGES),
            disks,
            now,
            up: false,
            wants_link: false,
            meta_held: false,
            asked: VecDeque::new(),
            grows: None,
            mirroring,
            uuids: vec![0, 1, 2],
            requests: BTreeSet::new(),
            commands: BTreeSet::new(),
            next: 1,
            boots,
        };
        victim.drain();
        victim.handle(Event::Tick);
        victim
    }

    /// The power is cut and comes back: of the node only what is on its disks is left.
    pub fn reboot(&mut self) {
        let disks = std::mem::replace(&mut self.disks, Disks::new()).survive();
        let uuids = std::mem::take(&mut self.uuids);
        let next = self.next;
        *self = Self::on(disks, self.now, self.boots + 1, self.mirroring);
        (self.uuids, self.next) = (uuids, next);
    }

    pub fn protocol(&self) -> Protocol {
        self.mirroring.protocol
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
        self.step(event);
        while !self.meta_held
            && let Some(at) = self.disks.metadata_operation()
        {
            self.end_operation(at, Ok(()));
        }
    }

    fn step(&mut self, event: Event) {
        let mut mem = Mem::new(&mut self.pool, &mut self.memory);
        self.engine.handle(self.now, event, &mut mem);
        if self.drain() {
            self.up = false;
            self.step(Event::LinkDown(LinkDownReason::Requested));
        }
    }

    fn end_operation(&mut self, at: usize, result: Result<(), DiskError>) {
        if let Some((token, all_zero)) = self.disks.complete(at, result, &mut self.memory) {
            self.step(Event::DiskDone {
                token,
                result,
                all_zero,
            });
        }
    }

    /// Takes the engine's actions; answers whether it closed its link.
    fn drain(&mut self) -> bool {
        let mut closed = false;
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Disk { token, volume, op } => {
                    self.disks.submit(token, volume, op, false, &self.pool);
                }
                Action::Meta { token, volume, op } => {
                    self.disks.submit(token, volume, op, true, &self.pool);
                }
                Action::Size { volume, size } => {
                    let room = self.disks.size(volume);
                    assert!(size <= room, "larger than its disk");
                    let before = self.disks.volumes[usize::from(volume)];
                    assert!(
                        size >= before,
                        "vol{volume} shrinks from {before} to {size}"
                    );
                    self.disks.volumes[usize::from(volume)] = size;
                }
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
                Action::Serve(_)
                | Action::Log { .. }
                | Action::RefuseClients
                | Action::Snapshot { .. }
                | Action::Ask { .. }
                | Action::Answer { .. } => {}
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

    /// Takes notice of a frame, which must survive the codec.
    fn note(&mut self, frame: Frame, payload: u32) {
        let bytes = encoded(&frame, payload);
        let (head, body): (&[u8; HEADER_LEN], _) = bytes.split_first_chunk().expect("a header");
        let header = Header::parse(head).expect("its own header");
        let decoded = Frame::decode(&header, body).expect("its own frame");
        assert_eq!(decoded, frame);
        let fields = Fields::of(head);
        let answer = matches!(
            frame,
            Frame::Ack { .. }
                | Frame::Nack { .. }
                | Frame::Received { .. }
                | Frame::PromoteReply { .. }
                | Frame::ResizeReply(_)
        );
        if let Frame::Resize(resize) = frame {
            self.grows = Some(resize);
        }
        if fields.request != 0 && !answer {
            self.asked.push_back(fields.request);
        }
        if fields.argument != 0 {
            self.uuids.push(fields.argument);
        }
    }

    /// A buffer, if that leaves the engine some memory.
    pub fn buf(&mut self, len: u32) -> Option<Buf> {
        (self.pool.free_bytes() > SPARE).then(|| self.pool.alloc(len))?
    }

    /// The peer says something, if there is a connection. A payload is this text over and over.
    pub fn hear(&mut self, frame: Frame, payload: Option<(u32, &[u8])>) {
        if !self.up {
            return;
        }
        let buf = payload.and_then(|(len, text)| {
            let buf = self.pool.alloc(len)?;
            let bytes = self.memory.bytes_mut(buf.view());
            for (byte, text) in bytes.iter_mut().zip(text.iter().cycle()) {
                *byte = *text;
            }
            Some(buf)
        });
        self.handle(Event::Frame { frame, buf });
    }

    pub fn link_up(&mut self) {
        if self.wants_link && !self.up {
            self.up = true;
            self.asked.clear();
            self.grows = None;
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
    pub fn complete(&mut self, at: usize, result: Result<(), DiskError>) {
        let count = self.disks.pending.len();
        if count > 0 {
            self.end_operation(at % count, result);
        }
    }

    pub fn complete_all(&mut self) {
        while !self.disks.pending.is_empty() {
            self.end_operation(0, Ok(()));
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

    fn wait(&mut self) {
        self.complete_all();
        for _ in 0..32 {
            self.tick();
            self.complete_all();
        }
    }

    /// The peer and the fuzzer are gone: all that was asked comes to its end.
    pub fn end(mut self) {
        self.meta_held = false;
        self.link_down(LinkDownReason::Garbage);
        self.wait();
        let suspended = self.status().suspended;
        let waits = !self.requests.is_empty();
        assert!(!waits || suspended.any(), "requests wait without a reason");
        // What waits for good data waits for ever, unless its clients are given up.
        self.command(Command::ResumeIo);
        self.command(Command::Secondary { force: true });
        self.wait();
        assert!(self.engine.is_idle(), "requests are left over");
        let all = self.pool.free_bytes() + self.engine.metadata_bytes();
        assert_eq!(all, self.pool.total_bytes(), "a leak");
        assert!(
            self.requests.is_empty(),
            "not answered: {:?}",
            self.requests
        );
        assert!(self.commands.is_empty(), "not ended: {:?}", self.commands);
    }
}
