//! The judge: knows every write and answer, looks at both disks, and believes no engine.
//!
//! A *branch* is a history of answered writes. There is one, until an operator forces a node while
//! another still serves or holds newer data; then each has its own until one is given up. Each
//! node has per volume a *standing* in its branch: it holds every answered write, or (after a
//! power cut) every durable one, or it is behind.

use crate::client::{Kinds, Request};
use crate::history::{History, Level};
use crate::node::Node;
use crate::plan::Plan;
use crate::stamp::Value;
use crate::stats::Kind;
use crate::trace::letter;
use crate::world::World;
use replication::api::{Command, ConnectionState, DiskState, ReplicationState, Role, Status};

/// What a node's disk is worth in its branch; `None`: it is behind.
pub(crate) type Standing = Option<Level>;

/// An answered write that no flush has covered.
#[derive(Debug, Clone)]
struct Unflushed {
    answered: u64,
    volume: usize,
    first: usize,
    count: usize,
    begin: u64,
}

/// One history of all volumes.
#[derive(Debug, Clone)]
struct Branch {
    volumes: Vec<History>,
    unflushed: Vec<Unflushed>,
}

/// What the oracle knows beside the disks themselves.
#[derive(Debug)]
pub(crate) struct Oracle {
    branches: Vec<Branch>,
    of: [usize; 2],
    /// Since the split a node answered writes of its own (or was ahead at the split).
    claims: [bool; 2],
    /// A node answered writes in its present life: after a restart it knows of none.
    served: [bool; 2],
    pub(crate) standing: [Vec<Standing>; 2],
    pub(crate) status: [Option<Status>; 2],
    in_sync: Vec<bool>,
    /// The pending or last word of the operator on promotion: whether it was forced.
    forced: [Option<bool>; 2],
    discarding: [bool; 2],
    failed: [bool; 2],
}

impl Oracle {
    pub(crate) fn new(plan: &Plan, nodes: &[Node; 2]) -> Self {
        let best = match plan.start {
            crate::plan::Start::DataOn(n) => n,
            crate::plan::Start::Blank => 0,
        };
        let history = |d: &crate::disk::Disk| History::new(d.current(), d.durable());
        let volumes = nodes[best].disks.iter().map(history).collect();
        let good = vec![Some(Level::Answered); plan.volumes.len()];
        let mut standing = [good.clone(), good];
        if let crate::plan::Start::DataOn(n) = plan.start {
            standing[1 - n].fill(None);
        }
        Self {
            branches: vec![Branch {
                volumes,
                unflushed: Vec::new(),
            }],
            of: [0; 2],
            claims: [false; 2],
            served: [false; 2],
            standing,
            status: [None, None],
            in_sync: vec![false; plan.volumes.len()],
            forced: [None; 2],
            discarding: [false; 2],
            failed: [false; 2],
        }
    }

    pub(crate) fn is_primary(&self, n: usize) -> bool {
        self.status[n]
            .as_ref()
            .is_some_and(|s| s.role == Role::Primary)
    }

    pub(crate) fn disk_state(&self, n: usize, volume: usize) -> Option<DiskState> {
        self.status[n].as_ref()?.volumes.get(volume).map(|v| v.disk)
    }

    /// The worst of a node's volumes.
    pub(crate) fn worth(&self, n: usize) -> Standing {
        self.standing[n].iter().copied().min().flatten()
    }

    pub(crate) fn connected(&self, n: usize) -> bool {
        self.status[n]
            .as_ref()
            .is_some_and(|s| s.connection == ConnectionState::Connected)
    }

    pub(crate) fn all_in_sync(&self) -> bool {
        self.in_sync.iter().all(|&s| s)
    }

    pub(crate) fn split(&self) -> bool {
        self.of[0] != self.of[1]
    }

    pub(crate) fn disks_failed(&self) -> bool {
        self.failed[0] || self.failed[1]
    }

    /// A disk of this node answered with an error: what it holds is no longer judged.
    pub(crate) fn disk_failed(&mut self, n: usize) {
        self.failed[n] = true;
        self.standing[n].fill(None);
    }

    pub(crate) fn has_failed(&self, n: usize) -> bool {
        self.failed[n]
    }

    pub(crate) fn commanded(&mut self, n: usize, command: Command) {
        match command {
            Command::Primary { force } => self.forced[n] = Some(force),
            Command::Connect {
                discard_my_data: true,
            } => self.discarding[n] = true,
            _ => {}
        }
    }

    pub(crate) fn booted(&mut self, n: usize) {
        self.status[n] = None;
        self.forced[n] = None;
        self.discarding[n] = false;
        self.in_sync.fill(false);
    }

    /// A node lost power or was killed. Its memory of a split is gone with it.
    pub(crate) fn stopped(&mut self, n: usize, power_cut: bool) {
        self.booted(n);
        self.served[n] = false;
        if power_cut {
            for s in &mut self.standing[n] {
                *s = s.map(|_| Level::Durable);
            }
        }
        if self.split() {
            self.of[n] = self.of[1 - n];
            self.standing[n].fill(None);
        }
    }

    /// A node's disk was replaced.
    pub(crate) fn blanked(&mut self, n: usize) {
        self.standing[n].fill(None);
    }
}

impl World {
    pub(crate) fn oracle_submit(&mut self, n: usize, request: &Request) {
        let weak = request.wanted.kind == Kinds::Discard && self.plan.discards_differ();
        let branch = &mut self.oracle.branches[self.oracle.of[n]];
        let history = &mut branch.volumes[request.wanted.volume];
        for (sector, &value) in request.sectors().zip(&request.values) {
            history.submit(sector, value, weak, request.begin);
        }
    }

    /// A request's connection died, or it failed: nobody will ever know.
    pub(crate) fn oracle_orphaned(&mut self, request: &Request) {
        let now = self.next_order();
        for branch in &mut self.oracle.branches {
            let history = &mut branch.volumes[request.wanted.volume];
            if !request.values.is_empty() {
                for sector in request.sectors() {
                    history.orphan(sector, request.begin, now);
                }
            }
        }
    }

    /// A client got its answer.
    pub(crate) fn oracle_answered(
        &mut self,
        n: usize,
        request: &Request,
        read: Option<Vec<Option<Value>>>,
    ) {
        let now = self.next_order();
        let volume = request.wanted.volume;
        if let Some(read) = read {
            self.judge_read(n, request, &read, now);
            return;
        }
        let first_read = self
            .requests
            .values()
            .find(|r| r.wanted.kind == Kinds::Read);
        let oldest_read = first_read.map_or(now, |r| r.begin);
        let branch = &mut self.oracle.branches[self.oracle.of[n]];
        let history = &mut branch.volumes[volume];
        let mut hardened = Vec::new();
        if request.wanted.kind == Kinds::Flush {
            let covered = |u: &mut Unflushed| u.volume == volume && u.answered < request.begin;
            for u in branch.unflushed.extract_if(.., covered) {
                for sector in u.first..u.first + u.count {
                    history.make_durable(sector, u.begin, now);
                    hardened.push(sector);
                }
            }
        } else if !request.values.is_empty() {
            for sector in request.sectors() {
                history.answer(sector, request.begin, now, oldest_read);
                if request.wanted.fua {
                    history.make_durable(sector, request.begin, now);
                    hardened.push(sector);
                }
            }
            if !request.wanted.fua {
                branch.unflushed.push(Unflushed {
                    answered: now,
                    volume,
                    first: request.wanted.first,
                    count: request.wanted.count,
                    begin: request.begin,
                });
            }
        }
        if request.mutates() {
            self.oracle.claims[n] = true;
            self.oracle.served[n] = true;
        }
        self.judge_copies(n, request, &hardened);
    }

    fn judge_read(&mut self, n: usize, request: &Request, read: &[Option<Value>], now: u64) {
        let volume = request.wanted.volume;
        let branch = self.oracle.of[n];
        if read.len() != request.wanted.count {
            self.fail(
                "a read returns what was asked for",
                format!("{:?}", request.wanted),
            );
            return;
        }
        for (sector, value) in request.sectors().zip(read) {
            let history = &mut self.oracle.branches[branch].volumes[volume];
            match *value {
                Some(value) if history.readable(sector, value, request.begin) => {
                    history.observe(sector, value, request.begin, now);
                }
                Some(value) => {
                    let detail = format!(
                        "node {} vol{volume} sector {sector}: read {}; legal:{}",
                        letter(n),
                        crate::stamp::describe(value),
                        history.explain(sector)
                    );
                    self.fail(
                        "a read returns the last write answered or one in flight",
                        detail,
                    );
                }
                None => {
                    let detail = format!("node {} vol{volume} sector {sector}", letter(n));
                    self.fail("a read returns only what was written", detail);
                }
            }
        }
    }

    /// The answer promises that both nodes have the data, unless the node says it is alone.
    fn judge_copies(&mut self, n: usize, request: &Request, hardened: &[usize]) {
        let volume = request.wanted.volume;
        let peer = 1 - n;
        let alone = !self.oracle.connected(n)
            || self.oracle.status[n]
                .as_ref()
                .and_then(|s| s.volumes.get(volume))
                .is_none_or(|v| v.peer_disk != DiskState::UpToDate);
        let same_branch = !self.oracle.split();
        if alone && same_branch && (request.mutates() || !hardened.is_empty()) {
            self.oracle.standing[peer][volume] = None;
        }
        let mut holders = vec![n];
        if !alone && same_branch {
            holders.push(peer);
        }
        for holder in holders {
            let standing = self.oracle.standing[holder][volume];
            if request.mutates() && !request.values.is_empty() && standing == Some(Level::Answered)
            {
                for sector in request.sectors() {
                    self.judge_sector(holder, volume, sector, Level::Answered);
                }
            }
            if standing.is_some() {
                for &sector in hardened {
                    self.judge_sector(holder, volume, sector, Level::Durable);
                }
            }
        }
    }

    /// Whether what a disk holds is legal in its node's branch.
    pub(crate) fn judge_sector(
        &mut self,
        n: usize,
        volume: usize,
        sector: usize,
        level: Level,
    ) -> bool {
        let history = &self.oracle.branches[self.oracle.of[n]].volumes[volume];
        let disk = &self.nodes[n].disks[volume];
        let (value, rule) = match level {
            Level::Answered => (
                disk.current()[sector],
                "an answered write is on the disk of both nodes",
            ),
            Level::Durable => (
                disk.durable()[sector],
                "a flushed write survives a power cut",
            ),
        };
        if history.legal(sector, value, level) {
            return true;
        }
        let detail = format!(
            "node {} vol{volume} sector {sector} holds {}; legal:{}",
            letter(n),
            crate::stamp::describe(value),
            history.explain(sector)
        );
        self.fail(rule, detail);
        false
    }

    /// Before a power cut and after it: whatever survives must do.
    pub(crate) fn judge_survivors(&mut self, n: usize) {
        for volume in 0..self.plan.volumes.len() {
            if self.oracle.standing[n][volume].is_some() {
                for sector in 0..self.plan.volumes[volume].sectors {
                    self.judge_sector(n, volume, sector, Level::Durable);
                }
            }
        }
    }

    /// A node's state after every event.
    pub(crate) fn observe(&mut self, n: usize, status: Status) {
        let before = self.oracle.status[n].replace(status);
        let Some(status) = self.oracle.status[n].as_ref() else {
            return;
        };
        let promoted =
            status.role == Role::Primary && before.as_ref().is_none_or(|b| b.role != Role::Primary);
        let primary = status.role == Role::Primary;
        let mut targets = Vec::new();
        let mut started = false;
        for (v, now) in status.volumes.iter().enumerate() {
            let was = before.as_ref().and_then(|b| b.volumes.get(v));
            if now.disk == DiskState::Inconsistent {
                targets.push(v);
            }
            started |= now.replication == ReplicationState::SyncSource
                && was.is_none_or(|w| w.replication != ReplicationState::SyncSource);
        }
        if started {
            self.stats.count(Kind::Resyncs);
        }
        if primary && !targets.is_empty() {
            self.fail(
                "a sync target is never Primary",
                format!("node {}", letter(n)),
            );
        }
        if !targets.is_empty() {
            self.becomes_target(n, &targets);
        }
        if promoted {
            self.promoted(n);
        }
        let same_link = match (&self.nodes[0].link, &self.nodes[1].link) {
            (Some(a), Some(b)) => a.conn == b.conn,
            _ => false,
        };
        let linked = same_link && self.oracle.connected(0) && self.oracle.connected(1);
        if linked && self.oracle.is_primary(0) && self.oracle.is_primary(1) {
            self.fail("never two Primaries while connected", String::new());
        }
        for volume in 0..self.plan.volumes.len() {
            let good = |n: usize| {
                let v = self.oracle.status[n]
                    .as_ref()
                    .and_then(|s| s.volumes.get(volume));
                v.is_some_and(|v| {
                    v.disk == DiskState::UpToDate
                        && v.peer_disk == DiskState::UpToDate
                        && v.replication == ReplicationState::Established
                })
            };
            let in_sync = linked && good(0) && good(1);
            let began = in_sync && !self.oracle.in_sync[volume];
            self.oracle.in_sync[volume] = in_sync;
            if began || (in_sync && self.rng.one_in(64)) {
                self.judge_in_sync(volume, began);
            }
        }
    }

    fn becomes_target(&mut self, n: usize, volumes: &[usize]) {
        if self.oracle.split() {
            if self.oracle.claims[n] && !self.oracle.discarding[n] {
                let detail = format!(
                    "node {} gives up its writes without --discard-my-data",
                    letter(n)
                );
                self.fail("a split brain is never resolved silently", detail);
            }
            self.oracle.of[n] = self.oracle.of[1 - n];
            self.oracle.standing[n].fill(None);
        }
        for &v in volumes {
            self.oracle.standing[n][v] = None;
        }
    }

    /// Both nodes say of themselves and of each other that they are UpToDate.
    pub(crate) fn judge_in_sync(&mut self, volume: usize, began: bool) {
        self.stats.count(Kind::InSyncChecks);
        if self.oracle.split() {
            let [a, b] = self.oracle.claims;
            if a && b {
                self.fail(
                    "a split brain is never resolved silently",
                    "both are UpToDate again".into(),
                );
                return;
            }
            let loser = usize::from(a);
            self.oracle.of[loser] = self.oracle.of[1 - loser];
        }
        self.oracle.discarding = [false; 2];
        let nobody = (0..2).all(|n| self.oracle.standing[n][volume] < Some(Level::Answered));
        let level = if began && nobody {
            Level::Durable
        } else {
            Level::Answered
        };
        if level == Level::Durable {
            let branch = self.oracle.of[0];
            self.oracle.branches[branch]
                .unflushed
                .retain(|u| u.volume != volume);
        }
        for sector in 0..self.plan.volumes[volume].sectors {
            let [a, b] = [0, 1].map(|n: usize| self.nodes[n].disks[volume].current()[sector]);
            let branch = self.oracle.of[0];
            let history = &self.oracle.branches[branch].volumes[volume];
            if self.in_flight(volume, sector) {
                continue;
            }
            if a != b {
                let detail = format!(
                    "vol{volume} sector {sector}: a holds {}, b holds {}; legal:{}",
                    crate::stamp::describe(a),
                    crate::stamp::describe(b),
                    history.explain(sector)
                );
                self.fail("both UpToDate means identical", detail);
                return;
            }
            if self.oracle.disks_failed() && nobody {
                continue;
            }
            if level == Level::Durable {
                let now = self.order;
                let fine = self.judge_sector(0, volume, sector, Level::Durable);
                self.oracle.branches[branch].volumes[volume].settle(sector, a, level, now);
                if !fine {
                    return;
                }
            }
            for n in 0..2 {
                if !self.judge_sector(n, volume, sector, Level::Answered)
                    || !self.judge_sector(n, volume, sector, Level::Durable)
                {
                    return;
                }
            }
        }
        for n in 0..2 {
            self.oracle.standing[n][volume] = Some(Level::Answered);
        }
    }

    /// Whether a client's write or a disk's is under way there.
    fn in_flight(&self, volume: usize, sector: usize) -> bool {
        let covers =
            |r: &Request| r.wanted.volume == volume && r.mutates() && r.sectors().contains(&sector);
        self.nodes.iter().any(|n| n.disks[volume].writing(sector))
            || self.requests.values().any(covers)
    }

    /// A node became Primary: from now on what it holds is the truth.
    fn promoted(&mut self, n: usize) {
        self.stats.count(Kind::Promotions);
        let peer = 1 - n;
        let Some(forced) = self.oracle.forced[n] else {
            self.fail("only the operator promotes", format!("node {}", letter(n)));
            return;
        };
        let worth = self.oracle.worth(n);
        let rival = self.oracle.is_primary(peer);
        if worth.is_none() || rival {
            let excused = forced && (self.plan.reckless || self.oracle.disks_failed());
            if !excused {
                let detail = format!(
                    "node {} (forced: {forced}, rival Primary: {rival})",
                    letter(n)
                );
                self.fail(
                    "a node with older data than its peer is not promoted",
                    detail,
                );
                return;
            }
            self.fork(n, worth.is_none());
            return;
        }
        let branch = self.oracle.of[n];
        for volume in 0..self.plan.volumes.len() {
            let Some(level) = self.oracle.standing[n][volume] else {
                continue;
            };
            for sector in 0..self.plan.volumes[volume].sectors {
                if !self.judge_sector(n, volume, sector, level) {
                    return;
                }
                if !self.in_flight(volume, sector) {
                    let value = self.nodes[n].disks[volume].current()[sector];
                    let order = self.order;
                    self.oracle.branches[branch].volumes[volume]
                        .settle(sector, value, level, order);
                }
            }
            if level == Level::Durable {
                self.oracle.branches[branch]
                    .unflushed
                    .retain(|u| u.volume != volume);
                self.oracle.standing[n][volume] = Some(Level::Answered);
            }
            if !self.oracle.in_sync[volume] {
                self.oracle.standing[peer][volume] = None;
            }
        }
    }

    /// The operator chose a node although another has or makes newer data: histories part.
    fn fork(&mut self, n: usize, behind: bool) {
        self.stats.count(Kind::SplitBrains);
        self.trace.line(self.now, "!!", || {
            format!("histories part: node {} goes its own way", letter(n))
        });
        let now = self.order;
        let old = self.oracle.branches[self.oracle.of[n]].clone();
        let mut volumes = Vec::new();
        for (v, disk) in self.nodes[n].disks.iter().enumerate() {
            let mut history = History::new(disk.current(), disk.durable());
            for sector in 0..disk.current().len() {
                if disk.writing(sector) {
                    history.import(sector, &old.volumes[v], now);
                }
            }
            volumes.push(history);
        }
        self.oracle.branches.push(Branch {
            volumes,
            unflushed: Vec::new(),
        });
        self.oracle.of[n] = self.oracle.branches.len() - 1;
        self.oracle.claims[1 - n] = behind && self.oracle.served[1 - n];
        self.oracle.claims[n] = false;
        self.oracle.standing[n].fill(Some(Level::Answered));
        if self.nodes[1 - n].engine.is_none() {
            // Nobody is left who could speak for the other history.
            self.oracle.of[1 - n] = self.oracle.of[n];
            self.oracle.standing[1 - n].fill(None);
        }
    }
}
