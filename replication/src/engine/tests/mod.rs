//! Two engines, their disks and the network between them, in one process.
//!
//! Payloads are copied when a frame is delivered, not when it is sent, and compared with what they
//! were then: a buffer that is freed too early shows. Every call into the engine is watched for
//! allocations, of which there must be none.

mod advice;
mod auto_promote;
mod congestion;
mod copies;
mod dry_run;
mod epochs;
mod faults;
mod fence;
mod fence_faults;
mod handshake;
mod hostile;
mod inspect;
mod invalidate;
mod liveness;
mod mirror;
mod notify;
mod old_content;
mod policies;
mod random;
mod repair;
mod resize;
mod roles;
mod snapshot;
mod through;
mod trouble;
mod verify;
mod worker;

use super::Engine;
use crate::api::*;
use crate::buf::{BufView, Mem, PAGE, Pool, PoolMemory, VecMemory};
use crate::wire::{Frame, HEADER_LEN, Header, MAX_BODY};
use std::collections::{BTreeMap, VecDeque};
use std::string::{String, ToString};
use std::vec::Vec;

pub(super) const SIZE: u64 = 1 << 20;
/// Bytes of each volume's metadata disk.
const META: u64 = 64 << 10;
const POOL_PAGES: u32 = 512;

pub(super) struct Sent {
    frame: Frame,
    payload: Option<(BufView, Vec<u8>)>,
}

/// Where a write went, and what was there before.
pub(super) struct Cached {
    offset: usize,
    before: Vec<u8>,
    after: Vec<u8>,
}

pub(super) struct Node {
    pub engine: Engine,
    config: EngineConfig,
    pub pool: Pool,
    memory: VecMemory,
    pub disks: Vec<Vec<u8>>,
    pub metas: Vec<Vec<u8>>,
    /// Completed writes to the first disk that no flush has covered, if these are kept: a power cut may lose any of them.
    pub cache: Option<Vec<Cached>>,
    /// Metadata operations issued and not completed. They complete before anything else happens.
    pub meta_ops: VecDeque<(DiskToken, u16, DiskOp)>,
    /// Unless held.
    pub meta_held: bool,
    /// Disk operations issued and not completed.
    pub ops: VecDeque<(DiskToken, u16, DiskOp)>,
    pub out: VecDeque<Sent>,
    wants_link: bool,
    pub replies: BTreeMap<RequestId, (Result<(), ClientError>, Vec<u8>)>,
    pub done: BTreeMap<CommandId, Result<String, String>>,
    pub logs: Vec<String>,
    /// What clients that wait were told.
    pub refusals: Vec<String>,
    /// Out of band: questions, and answers.
    pub asks: VecDeque<(Party, Request)>,
    pub answers: VecDeque<(Party, u32, Answer)>,
    pub serving: bool,
    /// What [`Engine::states`] was after the last step, and the states then.
    states: Option<(u64, States)>,
    /// Its volumes grow: that takes memory.
    pub may_allocate: bool,
    /// Sizes that clients were told.
    pub sizes: BTreeMap<u16, u64>,
    /// Volumes whose old content can be read, and such where it could be.
    pub old: BTreeMap<u16, bool>,
    /// Do not complete disk operations.
    pub disk_held: bool,
    pub ignores_discards: bool,
    pub reads_fail: bool,
    /// Metadata cannot be written or read.
    pub metas_fail: bool,
    /// Complete the next operations so; `None` for well.
    pub disk_errors: VecDeque<Option<DiskError>>,
    pub flushes: usize,
    pub writes: usize,
    next_id: u64,
}

pub(super) struct Pair {
    pub nodes: [Node; 2],
    pub now: Micros,
    pub up: bool,
    /// The network lets connections be made.
    pub network: bool,
    /// Frames vanish without anyone noticing.
    pub black_hole: bool,
    pub management: fence::Management,
    /// Choose randomly among what may happen next; 0: in a fixed order.
    pub rng: u64,
}

pub(super) fn config(node: &str, peer: &str) -> EngineConfig {
    let mut volumes = heapless::Vec::new();
    for index in 0..2 {
        let volume = VolumeConfig {
            index,
            block_size: 512,
            disk_bytes: SIZE,
            metadata: MetadataPlace::External { disk_bytes: META },
            size_limit: None,
            can_discard: true,
            can_write_zeroes: true,
            resync_after: None,
            snapshot: SnapshotPolicy::Off,
            snapshot_reserve: 0,
        };
        volumes.push(volume).unwrap();
    }
    EngineConfig {
        node: Name::try_from(node).unwrap(),
        peer: Name::try_from(peer).unwrap(),
        resource: Name::try_from("r0").unwrap(),
        volumes,
        timers: Timers {
            timeout: 6_000_000,
            ping_interval: 2_000_000,
            connect_interval: 500_000,
        },
        policies: Default::default(),
        trouble: Default::default(),
        resync: Default::default(),
        mirroring: Default::default(),
        fencing: Default::default(),
        seed: node.bytes().map(u64::from).sum(),
        max_requests: 64,
    }
}

fn without_allocating<T>(call: impl FnOnce() -> T) -> T {
    let mut result = None;
    let seen = allocation_counter::measure(|| result = Some(call()));
    assert_eq!(seen.count_total, 0, "the engine allocated");
    result.unwrap()
}

/// The states that an operator follows.
#[derive(Debug, PartialEq)]
struct States {
    resource: (Role, Role, ConnectionState, bool),
    suspended: Suspended,
    fence: (OwnFence, Option<u64>, bool),
    awaits: (bool, bool),
    volumes: Vec<(DiskState, DiskState, ReplicationState, u64)>,
}

impl Node {
    pub fn new(now: Micros, config: EngineConfig) -> Self {
        let disks = (config.volumes.iter()).map(|v| std::vec![0; v.disk_bytes as usize]);
        let metas = config.volumes.iter().map(|_| std::vec![0; META as usize]);
        let mut node = Self {
            disks: disks.collect(),
            metas: metas.collect(),
            cache: None,
            meta_ops: VecDeque::new(),
            meta_held: false,
            engine: Engine::new(now, config.clone()),
            config,
            pool: Pool::new(POOL_PAGES),
            memory: VecMemory::new(POOL_PAGES),
            ops: VecDeque::new(),
            out: VecDeque::new(),
            wants_link: false,
            replies: BTreeMap::new(),
            done: BTreeMap::new(),
            logs: Vec::new(),
            refusals: Vec::new(),
            asks: VecDeque::new(),
            answers: VecDeque::new(),
            serving: false,
            states: None,
            may_allocate: false,
            sizes: BTreeMap::new(),
            old: BTreeMap::new(),
            disk_held: false,
            ignores_discards: false,
            reads_fail: false,
            metas_fail: false,
            disk_errors: VecDeque::new(),
            flushes: 0,
            writes: 0,
            next_id: 1,
        };
        node.drain();
        node
    }

    /// Performs the engine's actions; answers whether it closed its link.
    fn drain(&mut self) -> bool {
        let mut closed = false;
        while let Some(action) = without_allocating(|| self.engine.poll_action()) {
            match action {
                Action::Disk { token, volume, op } => self.ops.push_back((token, volume, op)),
                Action::Meta { token, volume, op } => self.meta_ops.push_back((token, volume, op)),
                Action::Size { volume, size } => {
                    self.sizes.insert(volume, size);
                }
                Action::Snapshot { volume, readable } => {
                    let before = self.old.insert(volume, readable).unwrap_or(false);
                    assert_ne!(before, readable, "vol{volume}: told twice");
                }
                Action::Send { frame, payload } => {
                    assert!(
                        !closed,
                        "a frame behind the end of its connection: {frame:?}"
                    );
                    let payload = payload.map(|view| (view, self.memory.bytes(view).to_vec()));
                    self.out.push_back(Sent { frame, payload });
                }
                Action::Reply { id, result, buf } => {
                    let data = buf.map_or(Vec::new(), |buf| {
                        let data = self.memory.bytes(buf.view()).to_vec();
                        self.pool.free(buf);
                        data
                    });
                    let before = self.replies.insert(id, (result, data));
                    assert!(before.is_none(), "request {id} answered twice");
                }
                Action::OpenLink => self.wants_link = true,
                Action::CloseLink => {
                    self.wants_link = false;
                    closed = true;
                }
                Action::Serve(on) => self.serving = on,
                Action::RefuseClients => {
                    let why = self.engine.not_serving();
                    self.refusals.push(why.expect("a reason").to_string());
                }
                Action::CommandDone { id, result } => {
                    let text = |text: Text| text.to_string();
                    let before = self.done.insert(id, result.map(text).map_err(text));
                    assert!(before.is_none(), "command {id} answered twice");
                }
                Action::Ask { to, request } => self.asks.push_back((to, request)),
                Action::Answer { to, token, answer } => {
                    self.answers.push_back((to, token, answer));
                }
                Action::Log { level, text } => self.logs.push(std::format!("{level:?} {text}")),
            }
        }
        self.engine.check_invariants();
        self.check_states();
        closed
    }

    /// Whoever follows [`Engine::states`] misses nothing.
    fn check_states(&mut self) {
        let status = self.engine.status(0);
        let fencing = status.fencing;
        let states = States {
            resource: (
                status.role,
                status.peer_role,
                status.connection,
                status.serving,
            ),
            suspended: status.suspended,
            fence: (fencing.record.own, fencing.record.mark, fencing.overdue),
            awaits: (fencing.awaits_peer, fencing.awaits_arbiter),
            volumes: (status.volumes.iter())
                .map(|v| (v.disk, v.peer_disk, v.replication, v.size))
                .collect(),
        };
        let mark = self.engine.states();
        if let Some((before, known)) = &self.states {
            assert_eq!(*before == mark, *known == states, "{known:?} {states:?}");
        }
        self.states = Some((mark, states));
    }

    fn position(&self, volume: u16) -> usize {
        let found = self.config.volumes.iter().position(|v| v.index == volume);
        found.expect("a volume of the configuration")
    }

    /// Keeps what a write to the first disk replaces until a flush.
    fn remember(&mut self, at: usize, op: DiskOp) {
        let Some(cache) = self.cache.as_mut().filter(|_| at == 0) else {
            return;
        };
        match op {
            DiskOp::Flush => cache.clear(),
            DiskOp::Write { offset, view } => {
                let (offset, after) = (offset as usize, self.memory.bytes(view).to_vec());
                let before = self.disks[0][offset..offset + after.len()].to_vec();
                cache.push(Cached {
                    offset,
                    before,
                    after,
                });
            }
            DiskOp::WriteZeroes { offset, len, .. } => {
                let (offset, after) = (offset as usize, std::vec![0; len as usize]);
                let before = self.disks[0][offset..offset + after.len()].to_vec();
                cache.push(Cached {
                    offset,
                    before,
                    after,
                });
            }
            _ => {}
        }
    }

    /// Takes back what was not flushed, and lets some sectors of it survive.
    fn lose_power(&mut self, rng: &mut u64) {
        let Some(cache) = self.cache.take() else {
            return;
        };
        for cached in cache.iter().rev() {
            let end = cached.offset + cached.before.len();
            self.disks[0][cached.offset..end].copy_from_slice(&cached.before);
        }
        let mut chance = || {
            *rng ^= *rng << 13;
            *rng ^= *rng >> 7;
            *rng ^= *rng << 17;
            *rng >> 20
        };
        // Nothing, nearly everything, or half of it survives.
        let keep = [0, 50, 95][chance() as usize % 3];
        for cached in cache {
            for (n, sector) in cached.after.chunks(512).enumerate() {
                if chance() % 100 < keep {
                    let at = cached.offset + n * 512;
                    self.disks[0][at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        self.cache = Some(Vec::new());
    }

    /// Applies a disk operation and says how it went.
    fn perform(&mut self, volume: u16, op: DiskOp) -> bool {
        let at = self.position(volume);
        self.remember(at, op);
        let disk = &mut self.disks[at];
        let range = |offset: u64, len: u32| offset as usize..offset as usize + len as usize;
        match op {
            DiskOp::Read { offset, view, .. } => {
                let data = &disk[range(offset, view.len)];
                self.memory.bytes_mut(view).copy_from_slice(data);
                return data.iter().all(|byte| *byte == 0);
            }
            DiskOp::Write { offset, view } => {
                self.writes += 1;
                disk[range(offset, view.len)].copy_from_slice(self.memory.bytes(view));
            }
            DiskOp::Flush => self.flushes += 1,
            DiskOp::Discard { .. } if self.ignores_discards => {}
            DiskOp::Discard { offset, len } | DiskOp::WriteZeroes { offset, len, .. } => {
                disk[range(offset, len)].fill(0);
            }
        }
        false
    }

    pub fn assert_no_buffer_missing(&self) {
        assert_eq!(
            self.pool.free_bytes() + self.engine.metadata_bytes(),
            self.pool.total_bytes(),
            "buffers are missing"
        );
    }

    pub fn role(&self) -> Role {
        self.engine.role()
    }

    pub fn status(&self) -> Status {
        self.engine.status(0)
    }

    pub fn disk(&self) -> DiskState {
        self.status().volumes[0].disk
    }

    pub fn replication(&self) -> ReplicationState {
        self.status().volumes[0].replication
    }

    pub fn out_of_sync(&self) -> u64 {
        self.status().volumes.iter().map(|v| v.out_of_sync).sum()
    }

    pub fn logged(&self, what: &str) -> bool {
        self.logs.iter().any(|line| line.contains(what))
    }
}

impl Pair {
    pub fn with(a: EngineConfig, b: EngineConfig) -> Self {
        let mut pair = Self {
            nodes: [Node::new(0, a), Node::new(0, b)],
            now: 0,
            up: false,
            network: false,
            black_hole: false,
            management: fence::Management::new(),
            rng: 0,
        };
        for n in 0..2 {
            pair.handle(n, Event::Tick);
            pair.run();
            let volumes = pair.nodes[n].config.volumes.clone();
            for volume in volumes.iter().map(|v| v.index) {
                pair.ok(
                    n,
                    Command::CreateMd {
                        volume,
                        force: false,
                    },
                );
            }
        }
        pair.network = true;
        pair.run();
        pair
    }

    /// Two nodes that have just booted and met.
    pub fn new() -> Self {
        Self::with(config("a", "b"), config("b", "a"))
    }

    /// Both in sync, `a` is Primary.
    pub fn ready() -> Self {
        let mut pair = Self::new();
        pair.ok(0, Command::NewCurrentUuid);
        pair.ok(0, Command::Primary { force: false });
        pair
    }

    /// As [`Pair::ready`], with this configuration of `a`.
    pub fn of(a: EngineConfig) -> Self {
        let mut pair = Self::with(a, config("b", "a"));
        pair.ok(0, Command::NewCurrentUuid);
        pair.ok(0, Command::Primary { force: false });
        pair
    }

    pub fn handle(&mut self, n: usize, event: Event) {
        let node = &mut self.nodes[n];
        let Node {
            engine,
            pool,
            memory,
            may_allocate,
            ..
        } = node;
        let mut mem = Mem::new(pool, memory);
        // Attaching allocates the bitmap and the activity log.
        let attached = engine
            .status(0)
            .volumes
            .iter()
            .all(|v| v.metadata != MetadataKind::None);
        if attached && !*may_allocate {
            without_allocating(|| engine.handle(self.now, event, &mut mem));
        } else {
            engine.handle(self.now, event, &mut mem);
        }
        if node.drain() {
            if self.up {
                self.up = false;
                self.drop_frames();
                self.handle(1 - n, Event::LinkDown(LinkDownReason::Closed));
            }
            self.handle(n, Event::LinkDown(LinkDownReason::Requested));
        }
    }

    /// Cuts the connection and a node's power: everything is gone but its disks.
    pub fn reboot(&mut self, n: usize) {
        self.cut();
        let before = &mut self.nodes[n];
        before.lose_power(&mut self.rng);
        let cache = before.cache.take();
        let (disks, metas) = (
            std::mem::take(&mut before.disks),
            std::mem::take(&mut before.metas),
        );
        let mut config = before.config.clone();
        config.seed += 1;
        self.nodes[n] = Node::new(self.now, config);
        self.nodes[n].disks = disks;
        self.nodes[n].metas = metas;
        self.nodes[n].cache = cache;
        self.handle(n, Event::Tick);
        self.run();
    }

    /// Completes the oldest metadata operation of a node.
    pub fn complete_meta(&mut self, n: usize) -> bool {
        let node = &mut self.nodes[n];
        let Some((token, volume, op)) = node.meta_ops.pop_front() else {
            return false;
        };
        if node.metas_fail {
            let result = Err(DiskError::Io);
            let all_zero = false;
            self.handle(
                n,
                Event::DiskDone {
                    token,
                    result,
                    all_zero,
                },
            );
            return true;
        }
        let at = node.position(volume);
        if node.config.volumes[at].metadata == MetadataPlace::Internal {
            node.remember(at, op);
        }
        let disk = match node.config.volumes[at].metadata {
            MetadataPlace::Internal => &mut node.disks[at],
            MetadataPlace::External { .. } => &mut node.metas[at],
        };
        let range = |offset: u64, len: u32| offset as usize..offset as usize + len as usize;
        match op {
            DiskOp::Read { offset, view, .. } => {
                let bytes = &disk[range(offset, view.len)];
                node.memory.bytes_mut(view).copy_from_slice(bytes);
            }
            DiskOp::Write { offset, view } => {
                disk[range(offset, view.len)].copy_from_slice(node.memory.bytes(view));
            }
            DiskOp::Flush => {}
            DiskOp::WriteZeroes { offset, len, .. } => disk[range(offset, len)].fill(0),
            other => panic!("{other:?} of metadata"),
        }
        self.handle(
            n,
            Event::DiskDone {
                token,
                result: Ok(()),
                all_zero: false,
            },
        );
        true
    }

    fn drop_frames(&mut self) {
        for node in &mut self.nodes {
            node.out.clear();
        }
    }

    /// Both sides notice at once that the connection is gone; none comes up again.
    pub fn cut(&mut self) {
        self.network = false;
        if self.up {
            self.up = false;
            self.drop_frames();
            self.handle(0, Event::LinkDown(LinkDownReason::Closed));
            self.handle(1, Event::LinkDown(LinkDownReason::Closed));
        }
    }

    pub fn heal(&mut self) {
        self.network = true;
        self.wait(3_000_000);
    }

    /// Completes one disk operation of a node: the oldest, or any.
    pub fn complete(&mut self, n: usize) {
        let pick = self.pick(self.nodes[n].ops.len());
        let Some((token, volume, op)) = self.nodes[n].ops.remove(pick) else {
            return;
        };
        let unreadable = self.nodes[n].reads_fail && matches!(op, DiskOp::Read { .. });
        let error = if unreadable {
            Some(DiskError::Io)
        } else {
            self.nodes[n].disk_errors.pop_front().flatten()
        };
        let all_zero = error.is_none() && self.nodes[n].perform(volume, op);
        let result = error.map_or(Ok(()), Err);
        self.handle(
            n,
            Event::DiskDone {
                token,
                result,
                all_zero,
            },
        );
    }

    /// Delivers the oldest frame of a node to the other.
    pub fn deliver(&mut self, from: usize) {
        let Some(sent) = self.nodes[from].out.pop_front() else {
            return;
        };
        if self.black_hole {
            return;
        }
        let mut bytes = [0; HEADER_LEN + MAX_BODY];
        let payload_len = sent.payload.as_ref().map_or(0, |(view, _)| view.len);
        let len = sent.frame.encode(payload_len, &mut bytes);
        let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
        let frame = Frame::decode(&header, &bytes[HEADER_LEN..len]).unwrap();
        assert_eq!(frame, sent.frame);
        let buf = sent.payload.map(|(view, copy)| {
            assert_eq!(
                self.nodes[from].memory.bytes(view),
                copy,
                "payload changed in flight"
            );
            let to = &mut self.nodes[1 - from];
            let buf = to.pool.alloc(view.len).expect("memory");
            to.memory.bytes_mut(buf.view()).copy_from_slice(&copy);
            buf
        });
        self.handle(1 - from, Event::Frame { frame, buf });
    }

    pub fn pick(&mut self, n: usize) -> usize {
        if self.rng == 0 || n == 0 {
            return 0;
        }
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        (self.rng >> 16) as usize % n
    }

    /// Lets one thing happen, if anything can.
    pub fn step(&mut self) -> bool {
        for n in 0..2 {
            if !self.nodes[n].meta_held && self.complete_meta(n) {
                return true;
            }
        }
        if self.talk() {
            return true;
        }
        let both = self.nodes.iter().all(|n| n.wants_link);
        if self.network && !self.up && both {
            self.up = true;
            self.handle(0, Event::LinkUp);
            if self.up {
                self.handle(1, Event::LinkUp);
            }
            return true;
        }
        let first = self.pick(4);
        for k in 0..4 {
            let (n, frame) = ((first + k) % 2, (first + k) % 4 < 2);
            if frame && !self.nodes[n].out.is_empty() {
                self.deliver(n);
                return true;
            }
            if !frame && !self.nodes[n].ops.is_empty() && !self.nodes[n].disk_held {
                self.complete(n);
                return true;
            }
        }
        false
    }

    pub fn run(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("no end of it");
    }

    /// Lets time pass, in steps as the engines ask for, and everything happen that can.
    pub fn wait(&mut self, time: Micros) {
        let end = self.now + time;
        self.run();
        loop {
            let next = self
                .nodes
                .iter()
                .filter_map(|n| n.engine.poll_timeout())
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for n in 0..2 {
                let due = self.nodes[n].engine.poll_timeout();
                if due.is_some_and(|due| due <= self.now) {
                    self.handle(n, Event::Tick);
                    let again = self.nodes[n].engine.poll_timeout();
                    assert!(
                        again.is_none_or(|t| t > self.now),
                        "the tick changed nothing"
                    );
                }
            }
            self.run();
        }
        self.now = end;
    }

    pub fn submit(
        &mut self,
        n: usize,
        offset: u64,
        make: impl FnOnce(&mut Node) -> ClientOp,
    ) -> RequestId {
        self.submit_to(n, 0, offset, make)
    }

    pub fn submit_to(
        &mut self,
        n: usize,
        volume: u16,
        offset: u64,
        make: impl FnOnce(&mut Node) -> ClientOp,
    ) -> RequestId {
        let id = self.nodes[n].next_id;
        self.nodes[n].next_id += 1;
        let op = make(&mut self.nodes[n]);
        let request = ClientRequest {
            id,
            volume,
            offset,
            op,
        };
        self.handle(n, Event::Client(request));
        id
    }

    pub fn write(&mut self, n: usize, offset: u64, len: u32, fill: u8) -> RequestId {
        self.write_fua(n, offset, len, fill, false)
    }

    pub fn write_fua(&mut self, n: usize, offset: u64, len: u32, fill: u8, fua: bool) -> RequestId {
        self.submit(n, offset, |node| {
            let buf = node.pool.alloc(len).expect("memory");
            node.memory.bytes_mut(buf.view()).fill(fill);
            ClientOp::Write { buf, fua }
        })
    }

    pub fn read(&mut self, n: usize, offset: u64, len: u32) -> Vec<u8> {
        let id = self.submit(n, offset, |node| {
            ClientOp::Read(node.pool.alloc(len).expect("memory"))
        });
        self.run();
        let (result, data) = &self.nodes[n].replies[&id];
        assert_eq!(*result, Ok(()));
        data.clone()
    }

    pub fn reply(&self, n: usize, id: RequestId) -> Option<Result<(), ClientError>> {
        self.nodes[n].replies.get(&id).map(|(result, _)| *result)
    }

    pub fn start(&mut self, n: usize, command: Command) -> CommandId {
        let id = self.nodes[n].next_id as CommandId;
        self.nodes[n].next_id += 1;
        self.handle(n, Event::Command { id, command });
        id
    }

    pub fn command(&mut self, n: usize, command: Command) -> Result<String, String> {
        let id = self.start(n, command);
        self.run();
        self.wait(10_000);
        match self.nodes[n].done.get(&id) {
            Some(result) => result.clone(),
            None => panic!("{command:?} is not answered"),
        }
    }

    pub fn ok(&mut self, n: usize, command: Command) {
        if let Err(error) = self.command(n, command) {
            panic!("{command:?}: {error}");
        }
    }

    /// Nothing in flight, all memory back, both disks UpToDate and equal.
    pub fn assert_in_sync(&self) {
        for node in &self.nodes {
            node.assert_no_buffer_missing();
            assert!(node.engine.is_idle());
            for volume in node.status().volumes {
                assert_eq!(volume.disk, DiskState::UpToDate);
                assert_eq!(volume.peer_disk, DiskState::UpToDate);
                assert_eq!(volume.replication, ReplicationState::Established);
                assert_eq!(volume.out_of_sync, 0);
            }
        }
        assert!(
            self.nodes[0].disks == self.nodes[1].disks,
            "the replicas differ"
        );
        let uuid = |n: usize| self.nodes[n].status().volumes[0].current_uuid;
        assert_eq!(uuid(0), uuid(1));
    }
}
