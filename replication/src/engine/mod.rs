//! The replication engine: one synchronous state machine for a node and its resource.
//!
//! Calls, in order: [`Engine::new`], then drain [`Engine::poll_action`]; then, for every event,
//! [`Engine::handle`] and drain again, and never later than [`Engine::poll_timeout`] an
//! [`Event::Tick`]. The caller performs the actions and reports what becomes of them.
//!
//! Everything in flight sits in one fixed table (`slots`): clients' requests, the peer's requests and
//! the resync's. A slot has a local half (the disk) and a remote half (the peer), and ends when both
//! are done. One concern a file: `client` and `peer` admit requests, `epochs` keeps their order where they are
//! answered early, `congestion` says what is done when too much is on its way, `disk` and `flush`
//! carry out the local half, `overlap` keeps overlapping ranges apart, `link`, `liveness` and `handshake` manage
//! the connection, `resync` is the source of a resync, `roles` and `commands` are the operator's side.

mod advice;
mod attach;
mod auto_promote;
mod bidding;
mod client;
mod commands;
mod compare;
mod congestion;
mod create;
mod detach;
mod disk;
mod dry_run;
mod epochs;
mod exchange;
mod fence;
mod flush;
mod grow;
mod handshake;
mod hang;
mod inspect;
mod invalidate;
mod invariants;
mod link;
mod liveness;
mod locate;
mod meta;
mod notify;
mod order;
mod overlap;
mod pages;
mod peer;
mod queue;
mod resize;
mod resync;
mod roles;
mod slots;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod through;
mod tuning;
mod verify;
mod volume;
mod worker;

pub use tuning::Tuning;

use crate::api::{
    Action, CommandId, DiskState, EngineConfig, Event, Level, MAX_VOLUMES, Micros, Role,
    SnapshotPolicy, Text, VolumeConfig,
};
use crate::buf::Mem;
use crate::mutation::{self, Mutation};
use crate::wire::{Frame, State};
use ::resync::Order;
use ::resync::controller::{Controller, Held, RUNS_MAX};
use alloc::vec::Vec;
use epochs::Epochs;
use fencing::Bidding;
use link::Link;
use overlap::Overlaps;
use queue::{Queue, Queued};
use roles::{Deferred, Task};
use slots::{List, Slot, Slots};
use volume::Volume;

/// Builds a [`Text`]; what does not fit is cut off.
macro_rules! text {
    ($($arg:tt)*) => {{
        let mut text = $crate::api::Text::new();
        // A full text is a cut text.
        let _ = core::fmt::Write::write_fmt(&mut text, format_args!($($arg)*));
        text
    }};
}
use text;

/// Slots for the peer's requests beyond its client requests: runs of resyncs and verifies, and a resync's end
/// for every volume.
const RESYNC_SLOTS: u16 = RUNS_MAX as u16 + MAX_VOLUMES as u16;
/// Commands that may wait for a handshake or another command.
const DEFERRED: usize = 8;

/// The replication state machine of one node and resource.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    fence: fence::Fence,
    auto: auto_promote::AutoPromote,
    bidding: Bidding,
    notify: notify::Notify,
    now: Micros,
    queue: Queue,
    slots: Slots,
    overlaps: Overlaps,
    /// Slots that nothing blocks any more, to be started before the step ends.
    ready: List,
    /// Slots that wait for the peer's window.
    stalled: List,
    /// Slots that wait for memory, and until when.
    starved: List,
    starved_until: Option<Micros>,
    volumes: Vec<Volume>,
    link: Link,
    epochs: Epochs,
    role: Role,
    peer_role: Role,
    serving: bool,
    open_clients: u32,
    clients_live: usize,
    /// Reads of old content.
    olds_live: usize,
    peers_live: usize,
    resyncs_live: usize,
    metas_live: usize,
    /// Slots that ended, but not for their disk.
    abandoned: usize,
    /// When to look for disks that do not answer.
    hang_check: Option<Micros>,
    /// Time that this node did not stand still: what operations at disks are timed by.
    awake: Micros,
    /// The operator holds clients' requests back.
    suspended_by_user: bool,
    /// The operator does not want clients to wait for good data any longer.
    errors_by_user: bool,
    /// Slots of connections that are gone, still busy on the disk.
    orphans: usize,
    /// How fast resyncs and verifies go.
    controller: Controller,
    /// What held the worker back when it last asked.
    held: Option<Held>,
    /// There was no buffer for the last run.
    no_memory: bool,
    order: Order,
    /// When a run, or an end, of the worker was last finished.
    worker_moved: Micros,
    /// When the progress of resyncs is looked at next.
    progress_due: Micros,
    /// When the worker should look again for something to start.
    resync_retry: Option<Micros>,
    next_resync_volume: usize,
    task: Option<Task>,
    deferred: heapless::Deque<Deferred, DEFERRED>,
    /// What the last handshake decided, and what a dry run since then has found.
    explained: dry_run::Explained,
    forecast: dry_run::Explained,
    /// The volume whose metadata was looked at last.
    inspected: Option<usize>,
    /// The peer was told that it may become Primary; until it says what became of it.
    granted: bool,
    /// The peer asked whether it may become Primary. It is answered when this disk is durably the target that it is to be.
    promotion_waits: Option<u64>,
    /// The peer waits for the word that this generation, which both nodes take over, is durable here.
    generation_taken: Option<u64>,
    rng: u64,
}

impl Engine {
    /// Builds an engine with everything it will ever need allocated. It looks for its peer at
    /// once: drain [`Engine::poll_action`] before the first event.
    #[must_use]
    pub fn new(now: Micros, config: EngineConfig) -> Self {
        let requests = usize::from(config.max_requests);
        let slots = 2 * requests
            + 2 * usize::from(RESYNC_SLOTS)
            + 3 * config.volumes.len()
            + olds_limit(&config)
            + hang::abandoned_limit(config.max_requests);
        let (order, problem) = order::order_of(&config);
        let mut engine = Self {
            fence: fence::Fence::new(&config),
            auto: auto_promote::AutoPromote::new(now, &config),
            bidding: Bidding::new(),
            notify: notify::Notify::new(),
            now,
            queue: Queue::new(slots),
            slots: Slots::new(slots),
            overlaps: Overlaps::new(slots),
            ready: List::EMPTY,
            stalled: List::EMPTY,
            starved: List::EMPTY,
            starved_until: None,
            volumes: config.volumes.iter().cloned().map(Volume::new).collect(),
            link: Link::new(),
            epochs: Epochs::new(),
            role: Role::Secondary,
            peer_role: Role::Unknown,
            serving: false,
            open_clients: 0,
            clients_live: 0,
            olds_live: 0,
            peers_live: 0,
            resyncs_live: 0,
            metas_live: 0,
            abandoned: 0,
            hang_check: None,
            awake: 0,
            suspended_by_user: false,
            errors_by_user: false,
            orphans: 0,
            controller: Controller::new(config.resync.limits),
            held: None,
            no_memory: false,
            order,
            worker_moved: 0,
            progress_due: 0,
            resync_retry: None,
            next_resync_volume: 0,
            task: None,
            deferred: heapless::Deque::new(),
            explained: dry_run::Explained::new(config.volumes.len()),
            forecast: dry_run::Explained::new(config.volumes.len()),
            inspected: None,
            granted: false,
            promotion_waits: None,
            generation_taken: None,
            rng: config.seed,
            config,
        };
        if let Some(problem) = problem {
            engine.log(Level::Error, text!("resync-after is not heeded: {problem}"));
        }
        engine.open_link();
        engine
    }

    /// Handles one event. `mem` is where payload buffers come from and go back to.
    pub fn handle(&mut self, now: Micros, event: Event, mem: &mut Mem<'_>) {
        self.stay_awake(now);
        self.now = self.now.max(now);
        match event {
            Event::Client(request) => self.client(request, mem),
            Event::DiskDone {
                token,
                result,
                all_zero,
            } => self.disk_done(token, result, all_zero, mem),
            Event::LinkUp => self.link_up(),
            Event::LinkDown(reason) => self.link_down(reason, mem),
            Event::Frame { frame, buf } => self.frame(frame, buf, mem),
            Event::Command { id, command } => self.command(id, command, mem),
            Event::OpenClients(count) => self.open_clients = count,
            Event::WaitingClients(count) => self.auto.waiting = count,
            Event::DiskChanged {
                volume,
                metadata,
                size,
            } => self.disk_changed(volume, metadata, size, mem),
            Event::Asked {
                from,
                token,
                request,
            } => self.asked(from, token, request, mem),
            Event::Answered { from, answer } => self.told_by(from, answer, mem),
            Event::Tick => self.tick(mem),
        }
        self.settle(mem);
    }

    /// The next thing to do; drain after every [`Engine::handle`] until `None`.
    pub fn poll_action(&mut self) -> Option<Action> {
        Some(match self.queue.pop()? {
            Queued::Disk { token, volume, op } => Action::Disk { token, volume, op },
            Queued::Meta { token, volume, op } => Action::Meta { token, volume, op },
            Queued::Snapshot { volume, readable } => Action::Snapshot { volume, readable },
            Queued::Size { volume, size } => Action::Size { volume, size },
            Queued::Send { frame, payload } => Action::Send { frame, payload },
            Queued::HelloVolume(at) => Action::Send {
                frame: Frame::HelloVolume(self.volumes[at].told.clone()?),
                payload: None,
            },
            Queued::State => Action::Send {
                frame: Frame::State(State {
                    role: self.role,
                    volumes: (0..self.volumes.len())
                        .map(|at| self.volume_state(at))
                        .collect(),
                }),
                payload: None,
            },
            Queued::Reply { id, result, buf } => Action::Reply { id, result, buf },
            Queued::OpenLink => Action::OpenLink,
            Queued::CloseLink => Action::CloseLink,
            Queued::Serve(on) => Action::Serve(on),
            Queued::RefuseClients => Action::RefuseClients,
            Queued::CommandDone => {
                let (id, result) = self.queue.done.pop_front()?;
                Action::CommandDone { id, result }
            }
            Queued::Ask => {
                let (to, request) = self.queue.asks.pop_front()?;
                Action::Ask { to, request }
            }
            Queued::Answer => {
                let (to, token, answer) = self.queue.answers.pop_front()?;
                Action::Answer { to, token, answer }
            }
            Queued::Log => {
                let (level, text) = self.queue.logs.pop_front()?;
                Action::Log { level, text }
            }
        })
    }

    /// Whether another client request may be submitted now. Not while requests are suspended: those that are
    /// here wait, and the others where they are.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let olds = self.olds_live == 0 || self.olds_live < olds_limit(&self.config);
        self.has_slots() && olds && !self.suspended().any()
    }

    fn has_slots(&self) -> bool {
        self.clients_live < usize::from(self.config.max_requests)
    }

    /// This node's role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether clients may be served.
    #[must_use]
    pub fn serving(&self) -> bool {
        self.serving
    }

    /// Whether nothing is in flight: no request of a client, of the peer or of a resync, and no
    /// action unpolled, no metadata on its way. Then the engine holds no buffer of the pool but
    /// [`Engine::metadata_bytes`].
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.slots.live() == 0
            && self.queue.is_empty()
            && self.volumes.iter().all(|v| !v.flush.busy && v.is_settled())
    }

    /// Whether everything that this node knows is on its disks.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        let saved = |volume: &Volume| {
            let bitmap = volume.meta.as_ref().is_none_or(|meta| meta.bitmap_saved());
            volume.is_settled() && (bitmap || !volume.usable())
        };
        self.volumes.iter().all(saved)
    }

    /// Bytes of the pool that the engine keeps for writing metadata.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        self.volumes.iter().map(Volume::lane_bytes).sum()
    }

    /// What an event made possible: unblocked slots start, waiting commands run, the resync goes on.
    fn settle(&mut self, mem: &mut Mem<'_>) {
        self.start_attaching(mem);
        self.fence_step(mem);
        self.thaw();
        self.run_ready(mem);
        self.try_handshake(mem);
        self.check_detach(mem);
        self.check_preparing(mem);
        self.check_demotion();
        self.answer_promotion();
        self.auto_promote(mem);
        self.run_deferred(mem);
        self.check_ahead(mem);
        self.pump_growths(mem);
        self.pump_resync(mem);
        self.report_verifies();
        self.cool_all();
        self.fence_step(mem);
        self.thaw();
        self.flush_there();
        self.run_ready(mem);
        self.pump_snapshots(mem);
        self.check_demotion();
        self.notify_targets(self.connected());
        self.notify_degraded();
        self.pump_notify();
        self.save_all(mem);
    }

    fn run_ready(&mut self, mem: &mut Mem<'_>) {
        let mut ready = self.ready;
        // Starting a slot may end it, which may unblock others: `ready` grows meanwhile.
        self.ready = List::EMPTY;
        loop {
            while let Some(id) = self.slots.pop(&mut ready) {
                self.start(id, mem);
            }
            if self.ready.is_empty() {
                break;
            }
            ready = core::mem::replace(&mut self.ready, List::EMPTY);
        }
    }

    fn log(&mut self, level: Level, text: Text) {
        self.queue.log(level, text);
    }

    fn done(&mut self, id: CommandId, result: Result<Text, Text>) {
        if id == auto_promote::CLIENTS {
            return self.auto_promoted(result);
        }
        if id == bidding::ADMINISTRATOR {
            return self.bidden_done(result);
        }
        if id == fence::NOBODY {
            return match result {
                Ok(said) => self.log(Level::Info, said),
                Err(why) => self.log(Level::Warn, text!("not promoted: {why}")),
            };
        }
        self.queue.command_done(id, result);
    }

    fn send(&mut self, frame: Frame) {
        self.queue.push(Queued::Send {
            frame,
            payload: None,
        });
    }

    /// Tells the peer of a changed role or disk state.
    fn tell_state(&mut self) {
        if self.connected() {
            self.queue.push(Queued::State);
        }
    }

    /// A random number that is not 0.
    fn random(&mut self) -> u64 {
        draw(&mut self.rng)
    }

    fn volume_by_index(&self, index: u16) -> Option<usize> {
        self.volumes.iter().position(|v| v.config.index == index)
    }

    /// Whether no client's request is under way and none comes before `resume-io`, or before it is decided whether this
    /// node may go on alone: that begins what must begin then.
    fn nothing_comes(&self) -> bool {
        self.fence.frozen() || (self.suspended_by_user && self.clients_live == 0)
    }

    /// A Primary that goes on without its peer's disk begins a new generation, before any write
    /// of it is answered.
    fn ensure_generation(&mut self, at: usize, mem: &mut Mem<'_>) {
        if mutation::is(Mutation::NoNewGeneration) {
            return;
        }
        let volume = &self.volumes[at];
        if self.role == Role::Primary
            && !volume.mirrored
            && volume.gens.peer_may_have_current()
            && volume.disk == DiskState::UpToDate
            && !self.nothing_comes()
        {
            let uuid = self.random();
            self.volumes[at].gens.peer_lost(uuid);
            self.save(at, mem);
            let index = self.volumes[at].config.index;
            self.log(
                Level::Info,
                text!("vol{index}: goes on without the peer in new generation {uuid:016x}"),
            );
        }
    }
}

/// A random number that is not 0 (splitmix64; the seed is the caller's).
fn draw(rng: &mut u64) -> u64 {
    loop {
        *rng = rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        if z != 0 {
            return z;
        }
    }
}

/// Reads of old content that there must be room for.
pub(in crate::engine) fn olds_limit(config: &EngineConfig) -> usize {
    let off = |volume: &VolumeConfig| volume.snapshot == SnapshotPolicy::Off;
    if config.volumes.iter().all(off) {
        0
    } else {
        snapshot::OLDS_MAX
    }
}
