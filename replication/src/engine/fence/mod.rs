//! The fence worker ([`fencing::Fencer`]) within the engine: what it is told, and what is done when it says so.
//!
//! The worker decides; here is what that means for disks and clients. While clients are *frozen* the way of each of their
//! requests is to wait ([`Engine::way`]), those that were under way at the loss included, nothing is answered, and no
//! generation is begun. Its record lies in the superblocks (`store`), and it looks at the engine through a view that is
//! handed over whenever it changed (`look`). How a node becomes Primary by a fence is in `promotion`.

mod look;
mod notice;
mod promotion;
mod store;

pub(super) use store::unreadable;

use super::slots::{Local, Op, Owner, Remote, SlotId};
use super::{Engine, text};
use crate::api::{
    Answer, Command, CommandId, ConnectionState, DiskState, EngineConfig, Episode, Level, Micros,
    Party, Policy, Request, Role,
};
use crate::buf::Mem;
use crate::mutation::{self, Mutation};
use fencing::api::{Action, Config, Denied, Input, Thaw, Timer, View};
use fencing::{Fencer, Own, RECORD_LEN, Record, Status};

/// How often the pause between two questions doubles.
const DOUBLINGS: u8 = 3;
/// Who waits for a command that nobody gave at the console.
pub(super) const NOBODY: CommandId = CommandId::MAX;
const TIMERS: [Timer; 4] = [
    Timer::Retry(Party::Peer),
    Timer::Retry(Party::Arbiter),
    Timer::PeerWait,
    Timer::Bound,
];

/// The fence worker and what the engine keeps for it.
#[derive(Debug)]
pub(super) struct Fence {
    fencer: Fencer,
    /// Of the record that the superblocks are to have; 0: none was ever stored.
    revision: u64,
    /// That record.
    bytes: [u8; RECORD_LEN],
    /// As it was found, until all disks were read: another one may have a newer one.
    found: Option<Record>,
    /// All disks that were there at the start have been read, or given up. One that is attached later is not waited for:
    /// what it takes its time with, or hangs at, must not keep this node from being fenced or from fencing.
    begun: bool,
    /// The worker waits for it to be durable.
    saving: bool,
    /// As it was last handed over.
    view: Option<View>,
    /// How many connections were lost.
    connection: u64,
    /// The peer's disks are at most Outdated, since the last loss.
    peer_fenced: bool,
    timers: [Option<Micros>; TIMERS.len()],
    /// The arbiter was asked how things stand.
    reconciled: bool,
    /// The node is to be Primary as soon as no handshake is under way, by the operator's word or not.
    promoted: Option<bool>,
    /// The promotion that was last asked for is by the operator's word.
    forced: bool,
    /// The node is Primary and must not be.
    stepping_down: bool,
    /// The identity that the running handshake told the peer.
    told_identity: u64,
    /// The highest number that this node had seen when it told the peer, and then the higher one of both nodes'.
    agreed: Episode,
}

impl Fence {
    pub fn new(config: &EngineConfig) -> Self {
        let fencing = &config.fencing;
        let fencer = Config {
            node: config.node.clone(),
            peer: config.peer.clone(),
            policy: fencing.policy,
            peer_endpoint: fencing.peer_endpoint,
            arbiter: fencing.arbiter,
            on_timeout: fencing.on_timeout,
            doublings: DOUBLINGS,
        };
        Self {
            fencer: Fencer::new(fencer, Record::default(), 0),
            revision: 0,
            bytes: [0; RECORD_LEN],
            found: None,
            begun: false,
            saving: false,
            view: None,
            connection: 0,
            peer_fenced: false,
            timers: [None; TIMERS.len()],
            reconciled: false,
            promoted: None,
            forced: false,
            stepping_down: false,
            told_identity: 0,
            agreed: 0,
        }
    }

    pub fn status(&self) -> Status {
        self.fencer.status()
    }

    /// Whether clients wait until it is decided who may go on.
    pub fn frozen(&self) -> bool {
        self.fencer.frozen() && !mutation::is(Mutation::ThawBeforeGrant)
    }

    /// Whether this node's disk may not stand in for the Primary's yet: others could still let that node be Primary with the
    /// old one. By resource-only the arbiter is not waited for.
    pub fn is_vouching(&self, policy: Policy) -> bool {
        let waits = policy == Policy::ResourceAndStonith && self.fencer.is_untold();
        waits || self.is_saving()
    }

    /// Whether the record is not stored as it should be.
    pub fn is_saving(&self) -> bool {
        self.fencer.status().saving
    }

    /// When the first timer goes off.
    pub fn deadline(&self) -> Option<Micros> {
        self.timers.iter().flatten().min().copied()
    }
}

impl Engine {
    /// The number that tells this resource from another one of the same name, once both nodes agree on it and it is
    /// stored here. By the policy dont-care there is none: nobody is asked.
    #[must_use]
    pub fn resource_identity(&self) -> Option<u64> {
        let identity = self.fence.fencer.stored().identity;
        (identity != 0).then_some(identity)
    }

    /// Whether this node fences its peer.
    pub(super) fn holds_fence(&self) -> bool {
        matches!(self.fence.fencer.stored().own, Own::Held(..))
    }

    /// Whether the peer fences this node.
    pub(super) fn is_fenced(&self) -> bool {
        self.fence.fencer.stored().mark.is_some()
    }

    pub(super) fn fences(&self) -> bool {
        self.config.fencing.policy != Policy::DontCare
    }

    /// Whether the worker has anything to do. By dont-care it has not, but for what another policy left behind.
    fn fence_is_idle(&self) -> bool {
        !self.fences() && self.fence.revision == 0 && !self.fence.saving
    }

    /// A question that came out of band. Before the disks are read it is not known what was promised: it is asked again.
    pub(super) fn asked(&mut self, from: Party, token: u32, request: Request, mem: &mut Mem<'_>) {
        if self.fence.begun || !self.attaching() {
            if let (Party::Arbiter, Request::Promote { nonce }) = (from, request) {
                return self.bidden(token, nonce, mem);
            }
            self.fence_look(self.connected(), mem);
            let input = Input::Request {
                from,
                token,
                request,
            };
            self.fence_input(input, mem);
        }
    }

    /// An answer that came out of band.
    pub(super) fn told_by(&mut self, from: Party, answer: Answer, mem: &mut Mem<'_>) {
        if from == Party::Arbiter && matches!(answer, Answer::Handled { .. }) {
            return self.notified(&answer);
        }
        self.fence_look(self.connected(), mem);
        self.fence_input(Input::Answer { from, answer }, mem);
        (0..self.volumes.len()).for_each(|at| self.pay(at));
    }

    /// The operator ends a fence.
    pub(super) fn unfence_by_hand(&mut self, id: CommandId, episode: Episode, mem: &mut Mem<'_>) {
        let record = self.fence.status().record;
        let own = match record.own {
            Own::Requested(own) | Own::Held(own, _) => Some(own),
            Own::None | Own::Releasing(_) => None,
        };
        if record.mark != Some(episode) && own != Some(episode) {
            let why = text!("no fence of episode {episode} is in force here; see 'fence'");
            return self.done(id, Err(why));
        }
        self.fence_input(Input::ReleaseByHand(episode), mem);
        self.done(id, Ok(text!("the fence of episode {episode} is ended")));
    }

    /// The operator lets frozen clients go on; answers whether there were any.
    pub(super) fn thaw_by_hand(&mut self, mem: &mut Mem<'_>) -> bool {
        let frozen = self.fence.frozen();
        if frozen {
            self.fence_input(Input::ResumeIo, mem);
        }
        frozen
    }

    pub(super) fn tick_fence(&mut self, mem: &mut Mem<'_>) {
        for (n, timer) in TIMERS.into_iter().enumerate() {
            if self.fence.timers[n].is_some_and(|at| at <= self.now) {
                self.fence.timers[n] = None;
                self.fence_input(Input::Timer(timer), mem);
            }
        }
    }

    /// Lets the worker see what an event changed, and carries on what it has decided.
    pub(super) fn fence_step(&mut self, mem: &mut Mem<'_>) {
        self.fence.begun |= !self.attaching();
        if self.fence_is_idle() || !self.fence.begun {
            return;
        }
        if let Some(record) = self.fence.found.take() {
            self.take_over(record, mem);
        }
        if self.fences() && !core::mem::replace(&mut self.fence.reconciled, true) {
            self.fence_input(Input::Reconcile, mem);
        }
        self.fence_look(self.connected(), mem);
        if self.fence.saving && self.record_is_durable() {
            self.fence.saving = false;
            self.fence_input(Input::Persisted, mem);
            self.fence_look(self.connected(), mem);
            (0..self.volumes.len()).for_each(|at| self.pay(at));
        }
        self.finish_promotion(mem);
        if self.role != Role::Primary {
            self.fence.stepping_down = false;
            self.follow_successor();
        } else if self.fence.stepping_down {
            self.demote_by_policy();
        }
    }

    /// The Primary's disk is lost, and the other node's stands in for it: `here`, or at the peer.
    pub(super) fn fence_stands_in(&mut self, here: bool, mem: &mut Mem<'_>) {
        if self.fences() {
            self.fence_look(self.connected(), mem);
            self.fence_input(Input::StandIn { here }, mem);
        }
    }

    /// Tells the worker something, and does what it says.
    fn fence_input(&mut self, input: Input, mem: &mut Mem<'_>) {
        self.fence.fencer.handle(input);
        while let Some(action) = self.fence.fencer.poll_action() {
            self.fence_action(action, mem);
        }
    }

    fn fence_action(&mut self, action: Action, mem: &mut Mem<'_>) {
        match action {
            Action::Persist(record) => self.store_record(&record),
            Action::Send(to, request) => self.queue.ask(to, request),
            Action::Reply(to, token, answer) => self.queue.answer(to, token, answer),
            Action::SetTimer(timer, tries) => self.set_fence_timer(timer, tries),
            Action::Freeze => self.log(
                Level::Warn,
                text!("clients wait until it is decided whether this node may go on alone"),
            ),
            Action::Thaw(why) => self.thaw_clients(why, mem),
            Action::PeerFenced(episode) => self.peer_is_fenced(episode),
            Action::OutdateSelf(_) => self.outdate_disks(),
            Action::StepDown => self.give_way(),
            Action::Promotion(Ok(())) => {
                self.fence.promoted = Some(core::mem::take(&mut self.fence.forced));
            }
            Action::Promotion(Err(why)) => self.promotion_denied(why),
            Action::Notice(notice) => self.notice(&notice),
        }
    }

    fn set_fence_timer(&mut self, timer: Timer, tries: u8) {
        let fencing = &self.config.fencing;
        let pause = match timer {
            Timer::Retry(_) => fencing.retry.max(1000) << tries.min(DOUBLINGS),
            Timer::PeerWait => fencing.peer_wait,
            Timer::Bound => fencing.timeout,
        };
        let found = TIMERS.iter().position(|known| *known == timer);
        if let Some(slot) = found.and_then(|n| self.fence.timers.get_mut(n)) {
            *slot = Some(self.now + pause);
        }
    }

    /// Clients go on. What they write from now on without the peer is in a generation of its own; with the peer back there
    /// is nothing to begin.
    fn thaw_clients(&mut self, why: Thaw, mem: &mut Mem<'_>) {
        let said = match why {
            Thaw::Fenced => "the peer is fenced: clients are served again",
            Thaw::Reconnected => "the peer is back: clients are served again",
            Thaw::Operator => "by the operator's word clients are served again",
            Thaw::Demoted => return,
        };
        self.log(Level::Info, text!("{said}"));
        for at in 0..self.volumes.len() {
            self.ensure_generation(at, mem);
        }
        if why == Thaw::Reconnected {
            self.repeat_begun();
        }
    }

    /// What the disk was at when the peer was lost the peer does not have, nor does it know yet that it lacks anything: were
    /// it answered when this disk ends it, and this node died then, the peer could be promoted without it.
    fn repeat_begun(&mut self) {
        for id in 0..self.slots.capacity() as SlotId {
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            let begun = matches!(slot.local, Local::Disk | Local::Flush | Local::Held);
            let alone = slot.owner == Owner::Client && slot.remote == Remote::None;
            if begun && alone && !slot.answered && slot.op != Op::Read {
                self.slots.at(id).again = true;
            }
        }
    }

    fn peer_is_fenced(&mut self, episode: Episode) {
        self.fence.peer_fenced = true;
        if self.link.state != ConnectionState::Connected {
            let unknown = self.lost_peer_disk();
            self.volumes.iter_mut().for_each(|v| v.peer_disk = unknown);
        }
        self.log(
            Level::Info,
            text!("the peer is fenced by episode {episode}: this node may go on alone"),
        );
    }

    /// What is known of the disks of a peer that is not connected.
    pub(super) fn lost_peer_disk(&self) -> DiskState {
        if self.fence.peer_fenced {
            DiskState::Outdated
        } else {
            DiskState::DUnknown
        }
    }

    /// The peer may have newer data: clients are dropped, the disks are Outdated, and a connection ends, so that a
    /// handshake finds out what they are worth.
    fn outdate_disks(&mut self) {
        self.give_way();
        if self.connected() || (self.link.in_handshake() && self.link.hello_sent) {
            self.reopen_link();
        }
        for volume in &mut self.volumes {
            if matches!(volume.disk, DiskState::Consistent | DiskState::UpToDate) {
                volume.end_sync();
                volume.mirrored = false;
                volume.disk = DiskState::Outdated;
            }
        }
    }

    fn give_way(&mut self) {
        if self.role == Role::Primary {
            self.fence.stepping_down = true;
            self.set_serving(false);
            self.demote_by_policy();
        }
    }

    fn defer_promotion(&mut self, id: CommandId, force: bool) {
        let again = super::roles::Deferred {
            id,
            command: Command::Primary { force },
            deadline: self.now + self.config.timers.timeout,
        };
        if self.deferred.push_front(again).is_err() {
            self.not_yet(id, text!("too many commands are waiting; try again"));
        }
    }

    fn promotion_denied(&mut self, why: Denied) {
        self.fence.forced = false;
        if mutation::is(Mutation::DenialIgnored) && matches!(why, Denied::Fenced(_)) {
            self.fence.promoted = Some(false);
            return;
        }
        let Some((id, force)) = self.take_fencing_task() else {
            return;
        };
        if why == Denied::PeerIsBack {
            self.defer_promotion(id, force);
        } else {
            self.deny(id, why.into(), text!("{why}"));
        }
    }
}
