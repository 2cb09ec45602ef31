//! The management network with its own faults, the arbiter at its end, and what is judged of fencing.
//!
//! Everything here is drawn from a stream of random numbers of its own, and only where a plan has a fencing policy: a
//! seed without one draws what it always drew.

mod script;

pub use script::{Message, Pick};

use crate::rng::Rng;
use crate::schedule::{NodeEvent, Occurrence};
use crate::trace::letter;
use crate::world::{Time, World};
use fencing::arbiter::Arbiter;
use fencing::{Episode, Name, Own, Record};
use replication::api::{
    Answer, Command, ConnectionState, DiskState, FencingConfig, OnTimeout, Party, Policy, Request,
    Role, Status, VolumeStatus,
};
use std::collections::BTreeSet;

/// A message on its way to the arbiter.
#[derive(Debug, Clone)]
pub struct Question {
    from: usize,
    /// Its life: in another one it does not believe the answer, as `fencing::datagram` has it.
    boot: u32,
    request: Request,
}

/// Deliberate defects of what is outside of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// An UNFENCE counts for whatever the arbiter holds, whatever its number.
    StaleUnfence,
    /// The arbiter forgets what it granted.
    Forgetful,
}

/// The network, the arbiter, and what the judge remembers.
#[derive(Debug)]
pub struct Management {
    rng: Rng,
    /// What is stored there.
    pub arbiter: Arbiter,
    pub(crate) defect: Option<Defect>,
    /// Of the paths of each node to the arbiter, and of the one between the nodes: cut until then.
    cut: [Time; 3],
    down_until: Time,
    /// The operator's word stood in for a fence, and the nodes have not been in order since.
    word: bool,
    word_at: Time,
    /// Whose clients were frozen before and after the last step.
    frozen: [bool; 2],
    /// Whose peer was connected without a disk before and after the last step, and not fenced.
    lone: [bool; 2],
    /// Each node's own episode as it was last stored.
    stored: [Own; 2],
    released: BTreeSet<(usize, u64)>,
    /// The highest episode that each node gave back since its metadata was made. That an old copy of a disk says that it is held
    /// makes no fence of it.
    over: [Episode; 2],
    /// Fences begun, granted, given back; messages lost.
    pub counts: [u64; 4],
    /// Nothing is drawn any more: what a script does not disturb arrives.
    ended: bool,
    /// What a script holds back.
    pick: Option<Pick>,
    held: Vec<Message>,
    /// Who held the fence at the arbiter, change by change.
    journal: Vec<Option<(Name, Episode)>>,
}

/// The plan's fencing, from its own stream.
#[must_use]
pub fn draw(seed: u64, timeout: Time) -> FencingConfig {
    let mut rng = Rng::new(seed ^ 0x66_656e_6365);
    let arbiter = rng.percent(85);
    FencingConfig {
        policy: rng.pick(&[
            Policy::ResourceAndStonith,
            Policy::ResourceAndStonith,
            Policy::ResourceAndStonith,
            Policy::ResourceOnly,
        ]),
        peer_endpoint: !arbiter || rng.percent(85),
        arbiter,
        on_timeout: rng.pick(&[OnTimeout::KeepFrozen, OnTimeout::StepDown]),
        timeout: timeout * rng.pick(&[1, 3, 8]),
        peer_wait: timeout / 2,
        retry: timeout / 10,
        ..FencingConfig::default()
    }
}

/// Whether a Primary's connected peer has no disk for some volume, and is not fenced.
fn lone(status: &Status) -> bool {
    let gone = |v: &VolumeStatus| {
        let missing = matches!(v.peer_disk, DiskState::Diskless | DiskState::Failed);
        v.disk == DiskState::UpToDate && missing
    };
    status.role == Role::Primary
        && status.connection == ConnectionState::Connected
        && status.volumes.iter().any(gone)
        && !matches!(status.fencing.record.own, Own::Held(..))
}

fn name(n: usize) -> Name {
    let mut name = Name::new();
    // One letter.
    let _ = name.push_str(letter(n));
    name
}

impl Management {
    /// Nobody has asked anything yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed ^ 0x6d67_6d74),
            arbiter: Arbiter::default(),
            defect: None,
            cut: [0; 3],
            down_until: 0,
            word: false,
            word_at: 0,
            frozen: [false; 2],
            lone: [false; 2],
            stored: [Own::None; 2],
            released: BTreeSet::new(),
            over: [0; 2],
            counts: [0; 4],
            ended: false,
            pick: None,
            held: Vec::new(),
            journal: Vec::new(),
        }
    }

    /// When a message on this path arrives, perhaps twice, perhaps never. Delays differ, so messages overtake each other.
    fn delays(&mut self, now: Time, path: usize, timeout: Time) -> Vec<Time> {
        if !self.ended && self.rng.one_in(60) {
            let path = self.rng.index(3);
            self.cut[path] = now + self.rng.below(6 * timeout);
        }
        if !self.ended && self.rng.one_in(90) {
            self.down_until = now + self.rng.below(6 * timeout);
        }
        let lost = now < self.cut[path] || !self.ended && self.rng.percent(10);
        if lost {
            self.counts[3] += 1;
            return Vec::new();
        }
        let copies = 1 + u64::from(!self.ended && self.rng.percent(8));
        let slow = if self.ended || self.rng.percent(90) {
            timeout / 50
        } else {
            4 * timeout
        };
        let rng = &mut self.rng;
        (0..copies).map(|_| 50 + rng.below(slow.max(1))).collect()
    }
}

impl World {
    /// Gives this world a management network and an arbiter.
    pub fn with_management(&mut self, seed: u64) {
        self.management = Some(Management::new(seed));
    }

    /// Whether nothing passes between a node and the arbiter now.
    pub(crate) fn arbiter_unreachable(&self, n: usize) -> bool {
        let management = self.management.as_ref();
        management.is_some_and(|m| self.now < m.cut[n].max(m.down_until))
    }

    fn paths(&mut self, path: usize) -> Vec<Time> {
        let (now, timeout) = (self.now, self.plan.timers.timeout);
        let management = self.management.as_mut();
        management.map_or(Vec::new(), |m| m.delays(now, path, timeout))
    }

    /// A node asks out of band.
    pub(crate) fn asks(&mut self, n: usize, to: Party, request: Request) {
        if self.holds_back(Message::Question(n, to, request)) {
            return;
        }
        let path = if to == Party::Arbiter { n } else { 2 };
        let boot = self.nodes[n].boot;
        for delay in self.paths(path) {
            if to == Party::Arbiter {
                let question = Question {
                    from: n,
                    boot,
                    request,
                };
                let at = self.now + delay;
                self.schedule.push(at, Occurrence::Question(question));
            } else {
                let from = Party::Peer;
                self.later(1 - n, delay, NodeEvent::Asked(from, request, boot));
            }
        }
    }

    /// A node answers its peer, which asked in this life.
    pub(crate) fn answers(&mut self, n: usize, to: Party, boot: u32, answer: &Answer) {
        if to == Party::Peer && !self.holds_back(Message::Answer(1 - n, to, answer.clone())) {
            for delay in self.paths(2) {
                let event = NodeEvent::Answered(Party::Peer, answer.clone());
                self.later_in(boot, 1 - n, delay, event);
            }
        }
    }

    /// The arbiter is asked. What it says is stored before it answers.
    pub(crate) fn question(&mut self, question: Question) {
        let Question {
            from,
            boot,
            request,
        } = question;
        let Some(management) = &mut self.management else {
            return;
        };
        if self.now < management.down_until {
            return;
        }
        if let Request::Notify { number, .. } = request {
            return self.notified(from, boot, number);
        }
        let mut asked = request;
        if let (Some(Defect::StaleUnfence), Request::Unfence { episode, .. }, Some((_, held))) =
            (management.defect, &mut asked, &management.arbiter.holder)
        {
            *episode = *held;
        }
        let Some(mut verdict) = management.arbiter.ask(&name(from), asked) else {
            return;
        };
        if management.defect == Some(Defect::Forgetful) {
            verdict.next.holder = None;
        }
        let before = management.arbiter.holder.clone();
        management.arbiter = verdict.next;
        let after = management.arbiter.holder.clone();
        let undone = match (&before, request) {
            (Some((_, held)), Request::Unfence { episode, .. }) => {
                *held > episode && after != before
            }
            _ => false,
        };
        if undone {
            self.fail(
                "an UNFENCE undoes no newer fence",
                format!("{request:?} against {before:?}"),
            );
            return;
        }
        if let Some(management) = &mut self.management
            && after != before
        {
            management.journal.push(after.clone());
        }
        self.trace.line(self.now, "ARBITER", || {
            format!("{from} {request:?}: {after:?}")
        });
        let answer = Message::Answer(from, Party::Arbiter, verdict.answer.clone());
        if self.holds_back(answer) {
            return;
        }
        for delay in self.paths(from) {
            let event = NodeEvent::Answered(Party::Arbiter, verdict.answer.clone());
            self.later_in(boot, from, delay, event);
        }
    }

    /// A node's metadata is made anew, or is that of an earlier time: it may give back once more what it gave back.
    pub(crate) fn fencing_forgotten(&mut self, n: usize) {
        if let Some(management) = &mut self.management {
            management.released.retain(|(node, _)| *node != n);
            management.stored[n] = Own::None;
        }
    }

    /// A node's metadata is made anew: its episodes may begin anew, too.
    pub(crate) fn fencing_begins_anew(&mut self, n: usize) {
        if let Some(management) = &mut self.management {
            management.over[n] = 0;
        }
    }

    /// The management network is whole again.
    pub(crate) fn end_management_faults(&mut self) {
        if let Some(management) = &mut self.management {
            management.ended = true;
            management.cut = [0; 3];
            management.down_until = 0;
            management.pick = None;
        }
    }

    /// The operator's word that counts instead of a fence.
    pub(crate) fn fencing_word(&mut self, command: Command) {
        if let Some(management) = &mut self.management {
            let word = matches!(
                command,
                Command::Primary { force: true }
                    | Command::ResumeIo
                    | Command::Unfence { .. }
                    | Command::NewCurrentUuid
                    | Command::CreateMd { .. }
                    | Command::Connect {
                        discard_my_data: true
                    }
            );
            management.word |= word;
            if word {
                management.word_at = self.now;
            }
        }
    }

    /// A node's fencing state changed, or its role.
    pub(crate) fn judge_fencing(&mut self, n: usize, before: &Status, now: &Status) {
        let in_order = self.oracle.all_in_sync()
            && (0..2).all(|n| {
                self.record_of(n)
                    .is_some_and(|r| r.own == Own::None && r.mark.is_none())
            });
        let Some(management) = &mut self.management else {
            return;
        };
        // A word that was just given has yet to take effect.
        let heard = self.operator.waiting.is_empty()
            && self.now > management.word_at + 4 * self.plan.timers.timeout;
        if in_order && heard && management.arbiter.holder.is_none() {
            management.word = false;
        }
        management.frozen[n] = before.suspended.fencing && now.suspended.fencing;
        management.lone[n] = lone(before) && lone(now);
        let (was, is) = (&before.fencing.record, &now.fencing.record);
        if matches!(is.own, Own::Requested(_)) && is.own != was.own {
            management.counts[0] += 1;
        }
        if matches!(is.own, Own::Held(..)) && !matches!(was.own, Own::Held(..)) {
            management.counts[1] += 1;
        }
        let word = management.word;
        let mut released = None;
        // A node that has just booted has not read its record yet.
        // Who goes on without one of its disks may find there, later, what it knew before.
        let missing = |v: &VolumeStatus| matches!(v.disk, DiskState::Diskless | DiskState::Failed);
        if now.volumes.iter().any(missing) {
            management.released.retain(|(node, _)| *node != n);
        }
        let known = *is != Record::default() && !now.fencing.saving;
        if known && management.stored[n] != is.own {
            management.stored[n] = is.own;
            if let Own::Releasing(episode) = is.own {
                released = Some(episode);
                management.over[n] = management.over[n].max(episode);
            }
        }
        let granted = is
            .own
            .holding()
            .is_some_and(|held| held > management.over[n]);
        if granted && !now.fencing.saving {
            self.oracle.outrun[1 - n].fill(false);
        }
        let begins = matches!(was.own, Own::Held(..)) && matches!(is.own, Own::Releasing(_));
        let twice = released.is_some_and(|episode| {
            management.counts[2] += 1;
            !management.released.insert((n, episode))
        });
        if twice {
            let detail = format!("node {}: {:?}", letter(n), is.own);
            return self.fail("an episode is given back once", detail);
        }
        // What a peer that is gone meanwhile, or a disk of it, had acknowledged before counted then; its loss takes a new number.
        let there = self.oracle.connected(1 - n);
        if begins && is.mark == was.mark && !word && there {
            let behind = (0..self.plan.volumes.len()).find(|&v| {
                self.oracle.standing[n][v] > self.oracle.standing[1 - n][v]
                    && self.oracle.standing[1 - n][v].is_none()
                    && self.oracle.disk_state(1 - n, v) > Some(DiskState::Failed)
            });
            if let Some(v) = behind {
                let detail = format!("node {}: vol{v} is behind on the peer", letter(n));
                return self.fail("no unfence while any volume is behind", detail);
            }
        }
        let promoted = now.role == Role::Primary && before.role != Role::Primary;
        let other = self.record_of(1 - n);
        if promoted && !word && (was.mark.is_some() || self.holds_fence(1 - n)) {
            let detail = format!("node {}: {was:?}, the peer {other:?}", letter(n));
            return self.fail("a fenced node is not promoted without force", detail);
        }
        let mark = was
            .mark
            .filter(|_| is.mark.is_none() && is.seen >= was.seen && !word);
        let holds = |mark| other.is_some_and(|record| record.own.holding() == Some(mark));
        if mark.is_some_and(holds) && self.holds_fence(1 - n) {
            let detail = format!("node {}: {was:?}, the peer {other:?}", letter(n));
            return self.fail("only who holds a fence ends it", detail);
        }
        let frozen = before.suspended.fencing && now.suspended.fencing;
        // That of a resync which the operator asks for (invalidate-remote) is no client's.
        let minted = |(a, b): (&VolumeStatus, &VolumeStatus)| {
            a.current_uuid != b.current_uuid
                && !b.replication.is_source()
                && a.disk == b.disk
                && before.role == Role::Primary
                && a.disk == DiskState::UpToDate
        };
        if frozen && before.volumes.iter().zip(&now.volumes).any(minted) {
            let detail = format!("node {}", letter(n));
            self.fail("frozen I/O mints no generation", detail);
        }
    }

    /// The operator forced a node, and a fence that the other one held then still stands.
    pub(crate) fn word_against_fence(&self, n: usize) -> bool {
        self.management.as_ref().is_some_and(|m| m.word) && self.holds_fence(n)
    }

    /// Whether a promotion without an operator's word must fail where this node's disks lack something, whatever became of
    /// them: its peer has that, and nobody is answered there before the arbiter knows of it.
    pub(crate) fn fencing_knows(&self, n: usize) -> bool {
        let fencing = &self.plan.fencing;
        let standing = &self.oracle.standing;
        fencing.policy == Policy::ResourceAndStonith
            && fencing.arbiter
            && self.management.as_ref().is_some_and(|m| !m.word)
            && standing[n]
                .iter()
                .zip(&standing[1 - n])
                .all(|(here, there)| here.is_some() || there.is_some())
    }

    /// Whether a node fences its peer.
    pub(crate) fn holds_fence(&self, n: usize) -> bool {
        let over = self.management.as_ref().map(|m| m.over[n]);
        let held = self.record_of(n).and_then(|record| record.own.holding());
        held.zip(over).is_some_and(|(held, over)| held > over)
    }

    /// Whether this node's policy lets it answer alone without a fence, and it has none.
    pub(crate) fn goes_on_unfenced(&self, n: usize) -> bool {
        self.plan.fencing.policy == Policy::ResourceOnly && !self.holds_fence(n)
    }

    fn record_of(&self, n: usize) -> Option<Record> {
        self.oracle.status[n].as_ref().map(|s| s.fencing.record)
    }

    /// Whether the peer fences this node, for all that is stored. A number below this node's own is what an old copy of a disk
    /// says, and its node is told when it asks whether it still holds that.
    fn holds_against(&self, n: usize) -> bool {
        let held = |n| self.record_of(n).and_then(|r| r.own.holding());
        self.management.is_some() && held(1 - n) > held(n)
    }

    /// A client's change was answered by this node.
    pub(crate) fn judge_answer_by_fencing(&mut self, n: usize) {
        let Some(management) = &self.management else {
            return;
        };
        let strict = self.plan.fencing.policy == Policy::ResourceAndStonith && !management.word;
        if management.frozen[n] {
            let detail = format!("node {}", letter(n));
            return self.fail("while it is frozen a node answers no change", detail);
        }
        if strict && management.lone[n] {
            let detail = format!("node {}: the peer's disk is gone", letter(n));
            return self.fail("what only one disk gets is answered under a fence", detail);
        }
        // One that still thinks that it is connected has its peer's acknowledgement of that change.
        if strict && self.holds_against(n) && !self.oracle.connected(n) {
            let detail = format!("node {}", letter(n));
            self.fail("a fenced node answers no change alone", detail);
        }
    }

    /// Everything is well again: no fence is left.
    pub(crate) fn fences_are_over(&self) -> bool {
        let Some(management) = &self.management else {
            return true;
        };
        let over = |n| {
            self.record_of(n)
                .is_some_and(|r| r.own == Own::None && r.mark.is_none())
        };
        // One that lost its metadata before it could tell the arbiter has told its peer, who shows it when that matters.
        let told = |(holder, episode): &(Name, u64)| {
            let other = usize::from(*holder == name(0));
            self.record_of(other)
                .is_some_and(|r| r.released >= *episode)
        };
        over(0) && over(1) && management.arbiter.holder.as_ref().is_none_or(told)
    }
}
