//! Two engines, their disks and the network between them, in one process.
//!
//! Payloads are copied when a frame is delivered, not when it is sent, and compared with what they
//! were then: a buffer that is freed too early shows. Every call into the engine is watched for
//! allocations, of which there must be none.

mod advice;
mod auto_promote;
mod bidding;
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
mod pair;
mod policies;
mod random;
mod repair;
mod resize;
mod roles;
mod snapshot;
mod through;
mod trouble;
mod tuning;
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
