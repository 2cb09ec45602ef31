//! The operator: mostly sensible, knows which node holds the newest data (as a person would find
//! out), and in reckless seeds forces the wrong one.

use crate::fault::Fault;
use crate::history::Level;
use crate::record::Id;
use crate::schedule::{NodeEvent, Occurrence};
use crate::stats::Kind;
use crate::trace::letter;
use crate::world::{Time, World};
use fencing::Episode;
use replication::api::{
    Command, CommandId, ConnectionState, DiskState, ReplicationState, Role, Text, VolumeStatus,
};

/// A command that has no answer yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    node: usize,
    boot: u32,
    id: CommandId,
    since: Time,
    /// It takes as long as the disk does.
    disk_bound: bool,
}

/// What the operator remembers.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    pub(crate) waiting: Vec<Waiting>,
    next_id: CommandId,
    /// Plain attempts to connect since the nodes were last connected.
    connects: u32,
    /// Since when nothing has moved towards a healthy pair.
    idle_turns: u32,
    pub(crate) last: Option<(CommandId, Result<String, String>)>,
}

impl World {
    /// Gives a command to a node that runs.
    pub(crate) fn give(&mut self, n: usize, command: Command) -> CommandId {
        self.stats.count(match command {
            Command::Primary { force: false } => Kind::CmdPrimary,
            Command::Primary { force: true } => Kind::CmdPrimaryForce,
            Command::Secondary { force: false } => Kind::CmdSecondary,
            Command::Secondary { force: true } => Kind::CmdSecondaryForce,
            Command::Connect {
                discard_my_data: false,
            } => Kind::CmdConnect,
            Command::Connect {
                discard_my_data: true,
            } => Kind::CmdDiscardMyData,
            Command::DryRun { .. } => Kind::CmdDryRun,
            Command::Inspect { .. } => Kind::CmdInspect,
            Command::Disconnect => Kind::CmdDisconnect,
            Command::NewCurrentUuid => Kind::CmdNewCurrentUuid,
            Command::CreateMd { .. } => Kind::CmdCreateMd,
            Command::Attach { .. } => Kind::CmdAttach,
            Command::Detach { force: false, .. } => Kind::CmdDetach,
            Command::Detach { force: true, .. } => Kind::CmdDetachForce,
            Command::SuspendIo => Kind::CmdSuspendIo,
            Command::ResumeIo => Kind::CmdResumeIo,
            Command::PauseSync { .. } => Kind::CmdPauseSync,
            Command::ResumeSync { .. } => Kind::CmdResumeSync,
            Command::Verify { repair: false, .. } => Kind::CmdVerify,
            Command::Verify { repair: true, .. } => Kind::CmdVerifyRepair,
            Command::VerifyAbort { .. } => Kind::CmdVerifyAbort,
            Command::Invalidate { .. } => Kind::CmdInvalidate,
            Command::InvalidateRemote { .. } => Kind::CmdInvalidateRemote,
            Command::Outdate => Kind::CmdOutdate,
            Command::Resize { .. } => Kind::CmdResize,
            Command::Unfence { .. } => Kind::CmdUnfence,
            Command::Rollback { .. } => Kind::CmdRollback,
            Command::DropSnapshot { .. } => Kind::CmdDropSnapshot,
        });
        self.operator.next_id += 1;
        let id = self.operator.next_id;
        self.foretelling_given(n, id, command);
        let boot = self.nodes[n].boot;
        self.operator.waiting.push(Waiting {
            node: n,
            boot,
            id,
            since: self.now,
            disk_bound: matches!(command, Command::CreateMd { .. } | Command::Inspect { .. }),
        });
        self.later(n, 0, NodeEvent::Command(id, command));
        id
    }

    /// A node answers a command.
    pub(crate) fn command_done(&mut self, n: usize, id: CommandId, result: &Result<Text, Text>) {
        let open = self.operator.waiting.len();
        self.operator.waiting.retain(|w| w.id != id || w.node != n);
        if self.operator.waiting.len() == open {
            self.fail(
                "every command is answered once",
                format!("node {} command {id}", letter(n)),
            );
        }
        if let Err(text) = result {
            self.stats.count(Kind::CommandRefused);
            if text.is_empty() {
                self.fail(
                    "every refusal says why",
                    format!("node {} command {id}", letter(n)),
                );
            }
        }
        let own = |t: &Text| t.as_str().to_owned();
        self.operator.last = Some((id, result.as_ref().map(own).map_err(own)));
        if let Some(command) = self.foretelling_answered(n, id, result.is_ok()) {
            let stirs = self.foretelling.stirs;
            self.give(n, command);
            // It is the connection that was foretold.
            self.foretelling.stirs = stirs;
        }
    }

    /// Whether a command is still without answer; one that takes too long breaks a rule.
    pub(crate) fn waiting(&mut self) -> bool {
        let bound = self.plan.timers.timeout * 10 + 2_000_000;
        let mut waiting = std::mem::take(&mut self.operator.waiting);
        waiting.retain(|w| self.nodes[w.node].boot == w.boot);
        for w in &mut waiting {
            let node = &self.nodes[w.node];
            let slow = self.now < node.disk_slow_until.max(node.disk_hangs_until);
            if node.paused_since.is_some() || (slow && w.disk_bound) {
                w.since = self.now;
            } else if self.now > w.since + bound {
                let detail = format!("node {} command {}", letter(w.node), w.id);
                self.fail("every command is answered in time", detail);
            }
        }
        self.operator.waiting = waiting;
        !self.operator.waiting.is_empty()
    }

    /// The operator has a look.
    pub(crate) fn operator_turn(&mut self) {
        let calm = if self.healing { 100_000 } else { Time::MAX };
        let gap = self.plan.operator_gap.clamp(1, calm);
        let next = self.rng.range(gap / 2, gap * 2);
        self.schedule.push(self.now + next, Occurrence::Operator);
        if self.waiting() || self.snapshot_turn() {
            return;
        }
        if let Some((n, command)) = self.think() {
            let (command, follow) = self.ask_before(n, command);
            let id = self.give(n, command);
            self.foretelling.follow = follow.map(|discard| (n, id, discard));
        }
    }

    /// Now and then the operator asks what a connection would lead to before he makes it; only if the peer looks for this node,
    /// or it would take long.
    fn ask_before(&mut self, n: usize, command: Command) -> (Command, Option<bool>) {
        let met = self.nodes[1 - n].runs()
            && self.oracle.status[1 - n]
                .as_ref()
                .is_some_and(|s| s.connection != ConnectionState::StandAlone);
        match command {
            Command::Connect { discard_my_data } if met && self.rng.one_in(3) => {
                (Command::DryRun { discard_my_data }, Some(discard_my_data))
            }
            Command::DryRun {
                discard_my_data: false,
            } => (command, self.rng.coin().then_some(false)),
            _ => (command, None),
        }
    }

    fn think(&mut self) -> Option<(usize, Command)> {
        if !self.healing {
            if self.plan.reckless && self.rng.one_in(20) && self.primaries_are_whole() {
                let n = self.rng.index(2);
                if self.nodes[n].runs() && self.whim_allowed(n, "operator: reckless force") {
                    self.stats.count(Kind::RecklessForce);
                    return Some((n, Command::Primary { force: true }));
                }
            }
            if self.rng.one_in(25) {
                return self.whim();
            }
            if self.rng.one_in(15) {
                return self.whim_of_copies();
            }
            if self.rng.coin() {
                return None;
            }
        }
        self.mend()
    }

    /// Something a healthy pair must cope with.
    fn whim(&mut self) -> Option<(usize, Command)> {
        let n = self.rng.index(2);
        if !self.nodes[n].runs() {
            return None;
        }
        // To be refused; but when the link dies before the peer is asked, it is a word that counts.
        let peer_is_primary = self.plan.reckless
            && self.primaries_are_whole()
            && self.oracle.connected(n)
            && self.oracle.is_primary(1 - n)
            && self.oracle.connected(1 - n)
            && self.same_link();
        let volume = self.rng.index(self.plan.volumes.len()) as u16;
        let command = match self.rng.below(12) {
            8 | 9 => Command::Detach {
                volume,
                force: self.rng.one_in(3),
            },
            10 => Command::Attach { volume },
            11 => Command::SuspendIo,
            0 | 1 => Command::Secondary {
                force: self.rng.coin(),
            },
            2 => Command::Disconnect,
            3 => Command::Connect {
                discard_my_data: false,
            },
            4 if peer_is_primary => Command::Primary { force: true },
            5 if self.identical() => Command::NewCurrentUuid,
            _ => Command::Primary { force: false },
        };
        let allowed = self.whim_allowed(n, "operator: a whim");
        allowed.then_some((n, command))
    }

    /// Commands about resyncs, comparisons and whole copies.
    fn whim_of_copies(&mut self) -> Option<(usize, Command)> {
        let n = self.rng.index(2);
        if !self.nodes[n].runs() {
            return None;
        }
        let volume = self.rng.index(self.plan.volumes.len()) as u16;
        let some = self.rng.coin().then_some(volume);
        let plan = self.plan.volumes[usize::from(volume)];
        let size = plan.bytes();
        if plan.small.is_some() && self.rng.coin() {
            if self.whim_allowed(n, "operator: a larger disk") {
                self.enlarge(n, usize::from(volume));
            }
            return None;
        }
        let place = |rng: &mut crate::rng::Rng| rng.one_in(4).then(|| rng.below(size));
        // An old copy of a disk may still have metadata in the middle that the node has moved since: who has put one in
        // cannot say that the parts that are added are identical.
        let restored = self.stats.struck(Fault::OldDisk) > 0;
        let command = match self.rng.below(17) {
            12..=14 => Command::DryRun {
                discard_my_data: self.rng.one_in(3),
            },
            15 => Command::Inspect { volume },
            16 => Command::Resize {
                volume,
                // Other disks may have room for a page or two more, which nobody counts on.
                size: (plan.small.is_none() || self.rng.coin()).then_some(size),
                assume_clean: self.rng.coin() && !restored && self.adds_the_same(volume.into()),
            },
            0 | 1 => Command::PauseSync { volume: some },
            2 | 3 => Command::ResumeSync { volume: some },
            4..=6 => Command::Verify {
                volume,
                start: place(&mut self.rng),
                stop: place(&mut self.rng),
                repair: self.rng.coin(),
            },
            7 => Command::VerifyAbort { volume },
            8 | 9 => Command::Invalidate { volume },
            10 => Command::InvalidateRemote { volume },
            _ => Command::Outdate,
        };
        let allowed = self.whim_allowed(n, "operator: a whim about copies");
        allowed.then_some((n, command))
    }

    /// A node of which the operator forgot that he had paused its resyncs.
    fn paused(&self) -> Option<usize> {
        (0..2).find(|&n| {
            let status = self.oracle.status[n].as_ref();
            self.nodes[n].runs()
                && status.is_some_and(|s| {
                    let mut volumes = s.volumes.iter();
                    volumes.any(|v| v.waits.contains("operator on this node"))
                })
        })
    }

    fn whim_allowed(&mut self, n: usize, what: &'static str) -> bool {
        self.whims += 1;
        self.allows(Id::Whim(self.whims), what, n)
    }

    /// Whether every Primary has all of its disks. One that lost a disk has part of its history on the other node: were
    /// that forced, each volume would have a branch of its own, which is more than the oracle keeps apart.
    pub(crate) fn primaries_are_whole(&self) -> bool {
        (0..2).all(|n| {
            let status = self.oracle.status[n].as_ref();
            status.is_none_or(|s| {
                s.role != Role::Primary || s.volumes.iter().all(|v| v.disk == DiskState::UpToDate)
            })
        })
    }

    pub(crate) fn same_link(&self) -> bool {
        match (&self.nodes[0].link, &self.nodes[1].link) {
            (Some(a), Some(b)) => a.conn == b.conn,
            _ => false,
        }
    }

    /// Whether both nodes' disks hold the same and nothing is under way.
    pub(crate) fn identical(&self) -> bool {
        let [a, b] = &self.nodes;
        self.requests.is_empty()
            && a.disks.iter().zip(&b.disks).all(|(x, y)| {
                !x.busy() && !y.busy() && x.current() == y.current() && x.durable() == y.durable()
            })
    }

    /// The node to go on with: the Primary, else the one with the newest data.
    fn best(&self) -> usize {
        match (self.oracle.is_primary(0), self.oracle.is_primary(1)) {
            (true, false) => 0,
            (false, true) => 1,
            (true, true) => usize::from(self.plan.net_delay.0.is_multiple_of(200)),
            (false, false) => {
                let value = |n| (self.oracle.worth(n), self.worst_disk(n));
                usize::from(value(1) > value(0))
            }
        }
    }

    /// The next step from whatever is wrong to a healthy pair.
    pub(crate) fn mend(&mut self) -> Option<(usize, Command)> {
        let best = self.best();
        let other = 1 - best;
        let primary = self.oracle.is_primary(0) || self.oracle.is_primary(1);
        if let Some(n) = (0..2).find(|&n| self.nodes[n].runs() && self.oracle.suspended(n).user) {
            return Some((n, Command::ResumeIo));
        }
        if self.oracle.all_in_sync() {
            self.operator.connects = 0;
            self.operator.idle_turns = 0;
            return (!primary && self.nodes[best].runs())
                .then_some((best, Command::Primary { force: false }));
        }
        self.operator.idle_turns += 1;
        if let Some(n) = self.paused() {
            return Some((n, Command::ResumeSync { volume: None }));
        }
        if let Some(step) = self.create_metadata() {
            return Some(step);
        }
        if let Some(step) = self.mend_disks() {
            return Some(step);
        }
        if let Some(step) = self.mend_connection(best) {
            return Some(step);
        }
        if primary || !self.nodes[best].runs() || self.syncing() {
            return None;
        }
        // Nobody serves. Is this node's data the newest there is?
        let worth = self.oracle.worth(best);
        let peer_gone = !self.nodes[other].runs();
        let rival = self.nodes[other].engine.is_some() && self.oracle.is_primary(other);
        if rival || (worth.is_none() && !(self.healing && self.oracle.disks_failed())) {
            return None;
        }
        if peer_gone && worth != Some(Level::Answered) && !self.healing {
            return None;
        }
        if self.oracle.connected(best)
            && self.identical()
            && self.rng.coin()
            && self.both_know_nothing()
        {
            return Some((best, Command::NewCurrentUuid));
        }
        if self.operator.idle_turns < 4 {
            return Some((best, Command::Primary { force: false }));
        }
        if let Some(episode) = self.fenced_by_connected(best) {
            // It is refused even by force, which says that the fence must end first.
            return Some((other, Command::Unfence { episode }));
        }
        Some((best, Command::Primary { force: true }))
    }

    /// The worst state of a node's disks: among equals a person goes on with what says UpToDate.
    fn worst_disk(&self, n: usize) -> Option<DiskState> {
        self.oracle.status[n]
            .as_ref()?
            .volumes
            .iter()
            .map(|v| v.disk)
            .min()
    }

    fn both_know_nothing(&self) -> bool {
        let volumes = self.plan.volumes.len();
        let created = |n| (0..volumes).all(|v| self.oracle.just_created(n, v));
        created(0) && created(1) && !self.oracle.is_primary(0) && !self.oracle.is_primary(1)
    }

    /// A disk without metadata, and that is not for lack of reading it, gets some.
    fn create_metadata(&mut self) -> Option<(usize, Command)> {
        let force = self.rng.coin();
        for n in (0..2).filter(|&n| self.nodes[n].runs()) {
            for v in 0..self.plan.volumes.len() {
                let disk = self.oracle.disk_state(n, v);
                let out = matches!(disk, Some(DiskState::Failed | DiskState::Diskless));
                if out && self.metadata(n, v, None).is_none() {
                    let volume = v as u16;
                    return Some((n, Command::CreateMd { volume, force }));
                }
            }
        }
        None
    }

    /// A disk that is out of use, and has metadata, is attached again. A Primary that waits for good data and gets
    /// none is given up.
    fn mend_disks(&mut self) -> Option<(usize, Command)> {
        for n in (0..2).filter(|&n| self.nodes[n].runs()) {
            for v in 0..self.plan.volumes.len() {
                let disk = self.oracle.disk_state(n, v);
                let out = matches!(disk, Some(DiskState::Failed | DiskState::Diskless));
                if out && self.metadata(n, v, None).is_some() && self.rng.coin() {
                    let volume = v as u16;
                    return Some((n, Command::Attach { volume }));
                }
            }
            let patience = if self.healing { 30 } else { 100 };
            let good = |v: &VolumeStatus| [v.disk, v.peer_disk].contains(&DiskState::UpToDate);
            let status = self.oracle.status[n].as_ref();
            let waits =
                status.is_some_and(|s| s.role == Role::Primary && !s.volumes.iter().all(good));
            if waits && self.operator.idle_turns > patience {
                self.operator.idle_turns = 4;
                return Some((n, Command::Secondary { force: true }));
            }
        }
        None
    }

    /// The episode by which a node is fenced that sees its peer, which holds it.
    fn fenced_by_connected(&self, n: usize) -> Option<Episode> {
        let record = |n: usize| Some(self.oracle.status[n].as_ref()?.fencing.record);
        let mark = record(n)?.mark?;
        let held = record(1 - n)?.own.holding() == Some(mark);
        (held && self.oracle.connected(n) && self.nodes[1 - n].runs()).then_some(mark)
    }

    fn syncing(&self) -> bool {
        let running = |n: usize| {
            self.oracle.status[n].as_ref().is_some_and(|s| {
                let sync = |r: ReplicationState| r.is_source() || r.is_target();
                s.volumes.iter().any(|v| sync(v.replication))
            })
        };
        running(0) || running(1)
    }

    /// Brings nodes that stand alone together again; the data of the worse one is given up when
    /// plain attempts were refused.
    fn mend_connection(&mut self, best: usize) -> Option<(usize, Command)> {
        let other = 1 - best;
        let alone = |w: &Self, n: usize| {
            w.nodes[n].runs()
                && w.oracle.status[n]
                    .as_ref()
                    .is_some_and(|s| s.connection == ConnectionState::StandAlone)
        };
        if !alone(self, 0) && !alone(self, 1) {
            return None;
        }
        if self.operator.connects >= 6 && self.nodes[other].runs() {
            if self.oracle.is_primary(other) {
                return Some((other, Command::Secondary { force: true }));
            }
            if alone(self, other) {
                self.operator.connects = 4;
                return Some((
                    other,
                    Command::Connect {
                        discard_my_data: true,
                    },
                ));
            }
        }
        self.operator.connects += 1;
        let n = if alone(self, best)
            && (self.operator.connects.is_multiple_of(2) || !alone(self, other))
        {
            best
        } else {
            other
        };
        Some((
            n,
            Command::Connect {
                discard_my_data: false,
            },
        ))
    }
}
