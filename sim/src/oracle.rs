//! The judge: knows every write and answer, looks at both disks, and believes no engine.
//!
//! A *branch* is a history of answered writes. There is one, until an operator forces a node while
//! another still serves or holds newer data; then each has its own until one is given up. Each
//! node has per volume a *standing* in its branch: it holds every answered write, or (after a
//! power cut) every durable one, or it is behind.

use crate::history::{History, Level};
use crate::node::Node;
use crate::plan::Plan;
use replication::api::{Command, ConnectionState, DiskState, Protocol, Role, Status, Suspended};
use replication::lineage::JUST_CREATED;
use std::collections::BTreeSet;

/// What a node's disk is worth in its branch; `None`: it is behind.
pub(crate) type Standing = Option<Level>;

/// An answered write that no flush has covered.
#[derive(Debug, Clone)]
pub(crate) struct Unflushed {
    pub(crate) answered: u64,
    pub(crate) volume: usize,
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) begin: u64,
}

/// One history of all volumes.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) volumes: Vec<History>,
    pub(crate) unflushed: Vec<Unflushed>,
}

/// What the oracle knows beside the disks themselves.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) branches: Vec<Branch>,
    /// The branch that a node's volume follows.
    pub(crate) of: [Vec<usize>; 2],
    /// Since the split a node answered writes of its own (or was ahead at the split).
    pub(crate) claims: [Vec<bool>; 2],
    /// A node answered writes since it was last in sync.
    pub(crate) served: [Vec<bool>; 2],
    pub(crate) standing: [Vec<Standing>; 2],
    /// What a sync target was worth before: it still is if the node stops before the beginning of the
    /// resync is durable, since no block is overwritten before that.
    pub(crate) before_resync: [Vec<Standing>; 2],
    /// What the node's volume lacks its peer answered alone by resource-only, before a fence was granted to it.
    pub(crate) outrun: [Vec<bool>; 2],
    pub(crate) status: [Option<Status>; 2],
    /// A failed disk took the last good copy of something: contents are no longer judged, only
    /// that the replicas are equal.
    pub(crate) amnesty: bool,
    pub(crate) in_sync: Vec<bool>,
    /// The pending or last word of the operator on promotion: whether it was forced.
    pub(crate) forced: [Option<bool>; 2],
    pub(crate) discarding: [bool; 2],
    /// What the node has heard of its peer last, in a greeting: that its changes go.
    pub(crate) heard_discard: [bool; 2],
    /// Both nodes agreed that this node's changes go, as the operator said: that outlives a restart.
    pub(crate) given_up: [Vec<bool>; 2],
    /// Sectors per volume about which a disk lied: their content is not judged.
    pub(crate) spoiled: Vec<BTreeSet<usize>>,
    /// The node has been up since the volume was last in sync, or whole: it cannot have lost anything.
    pub(crate) unbroken: [Vec<bool>; 2],
    /// A volume lags since before a resync brought another one up to date: see [`Oracle::left_apart`].
    pub(crate) apart: [Vec<bool>; 2],
    /// Answered writes may be in the node's memory only (protocol B).
    pub(crate) owed: [Vec<bool>; 2],
    /// A copy of the superblock rotted since the disk was attached.
    pub(crate) rotten: [Vec<bool>; 2],
    /// The volume's disk has borne a generation, durably.
    pub(crate) named: [Vec<bool>; 2],
    /// The operator wants new metadata there.
    pub(crate) creating: [Vec<bool>; 2],
    /// New metadata took the place of some that could not be read any more: the copy is given up.
    pub(crate) written_off: [Vec<bool>; 2],
    /// When a node last lost what it had received and not written.
    forgot: [Vec<u64>; 2],
    /// What the node's clients were told last its peer may have lacked when it stopped.
    pub(crate) lagged: [Vec<bool>; 2],
    /// The node's history split off, and it does not serve yet: what it had received may still reach its disk.
    pub(crate) forked: [Vec<bool>; 2],
    /// Bytes that were marked out of sync when the node pulled ahead.
    pub(crate) marked_before: [Vec<u64>; 2],
    /// A disk was taken out of use by force since both were in sync: of what was under way to the peer then, nobody
    /// has anything that counts.
    pub(crate) torn_out: bool,
    failed: [bool; 2],
    /// A flush of the node's disk failed, and nothing has replaced its content since: what it shows it may never make
    /// durable.
    pub(crate) doomed: [Vec<bool>; 2],
}

impl Oracle {
    pub(crate) fn new(plan: &Plan, nodes: &[Node; 2]) -> Self {
        let best = match plan.start {
            crate::plan::Start::DataOn(n) => n,
            crate::plan::Start::Blank => 0,
        };
        let history = |d: &crate::disk::Disk| History::new(d.current(), d.durable());
        let data = &nodes[best].disks[..plan.volumes.len()];
        let volumes = data.iter().map(history).collect();
        let count = plan.volumes.len();
        let good = vec![Some(Level::Answered); count];
        let mut standing = [good.clone(), good];
        if let crate::plan::Start::DataOn(n) = plan.start {
            standing[1 - n].fill(None);
        }
        Self {
            branches: vec![Branch {
                volumes,
                unflushed: Vec::new(),
            }],
            of: [vec![0; count], vec![0; count]],
            claims: [vec![false; count], vec![false; count]],
            served: [vec![false; count], vec![false; count]],
            standing,
            before_resync: [vec![None; count], vec![None; count]],
            outrun: [vec![false; count], vec![false; count]],
            status: [None, None],
            amnesty: false,
            in_sync: vec![false; count],
            forced: [None; 2],
            discarding: [false; 2],
            heard_discard: [false; 2],
            given_up: [vec![false; count], vec![false; count]],
            spoiled: vec![BTreeSet::new(); plan.volumes.len()],
            unbroken: [vec![false; count], vec![false; count]],
            apart: [vec![false; count], vec![false; count]],
            owed: [vec![false; count], vec![false; count]],
            rotten: [vec![false; count], vec![false; count]],
            named: [vec![false; count], vec![false; count]],
            creating: [vec![false; count], vec![false; count]],
            written_off: [vec![false; count], vec![false; count]],
            forgot: [vec![0; count], vec![0; count]],
            lagged: [vec![false; count], vec![false; count]],
            forked: [vec![false; count], vec![false; count]],
            marked_before: [vec![0; count], vec![0; count]],
            torn_out: false,
            failed: [false; 2],
            doomed: [vec![false; count], vec![false; count]],
        }
    }

    pub(crate) fn is_primary(&self, n: usize) -> bool {
        self.status[n]
            .as_ref()
            .is_some_and(|s| s.role == Role::Primary)
    }

    pub(crate) fn is_serving(&self, n: usize) -> bool {
        self.status[n].as_ref().is_some_and(|s| s.serving)
    }

    pub(crate) fn disk_state(&self, n: usize, volume: usize) -> Option<DiskState> {
        self.status[n].as_ref()?.volumes.get(volume).map(|v| v.disk)
    }

    /// Whether any volume's resync to the peer is under way.
    pub(crate) fn is_source(&self, n: usize) -> bool {
        let status = self.status[n].as_ref();
        status.is_some_and(|s| s.volumes.iter().any(|v| v.replication.is_source()))
    }

    /// Why a node's clients wait.
    pub(crate) fn suspended(&self, n: usize) -> Suspended {
        let status = self.status[n].as_ref();
        status.map_or(Suspended::default(), |s| s.suspended)
    }

    /// The worst of a node's volumes.
    pub(crate) fn worth(&self, n: usize) -> Standing {
        self.standing[n].iter().copied().min().flatten()
    }

    /// Whether each volume of a node has everything but what its peer answered without a fence.
    pub(crate) fn is_outrun_at_most(&self, n: usize) -> bool {
        let volumes = self.standing[n].iter().zip(&self.outrun[n]);
        volumes
            .into_iter()
            .all(|(s, outrun)| s.is_some() || *outrun)
    }

    pub(crate) fn connected(&self, n: usize) -> bool {
        self.status[n]
            .as_ref()
            .is_some_and(|s| s.connection == ConnectionState::Connected)
    }

    pub(crate) fn all_in_sync(&self) -> bool {
        self.in_sync.iter().all(|&s| s)
    }

    /// Whether any volume's histories have parted.
    pub(crate) fn split(&self) -> bool {
        self.of[0] != self.of[1]
    }

    /// Whether a volume's histories have parted.
    pub(crate) fn parted(&self, volume: usize) -> bool {
        self.of[0][volume] != self.of[1][volume]
    }

    pub(crate) fn disks_failed(&self) -> bool {
        self.failed[0] || self.failed[1]
    }

    /// A disk of this node answered with an error. What was answered before is still on it, unless a flush
    /// of this volume failed: that may have lost what no flush had covered.
    pub(crate) fn disk_failed(&mut self, n: usize, unflushed: Option<usize>) {
        self.failed[n] = true;
        if let Some(volume) = unflushed {
            self.unbroken[n][volume] = false;
            self.doomed[n][volume] = true;
            let standing = &mut self.standing[n][volume];
            *standing = standing.map(|_| Level::Durable);
        }
    }

    /// No disk is in trouble, and both nodes are in sync: errors are over.
    pub(crate) fn disks_mended(&mut self) {
        self.failed = [false; 2];
    }

    pub(crate) fn commanded(&mut self, n: usize, command: Command) {
        match command {
            Command::Primary { force } => {
                // A word that is being stored still stands.
                let saving = self.status[n].as_ref().is_some_and(|s| s.fencing.saving);
                let stands = self.forced[n] == Some(true) && saving;
                self.forced[n] = Some(force || stands);
            }
            Command::Connect {
                discard_my_data: true,
            } => self.discarding[n] = true,
            Command::Detach { force: true, .. } => self.torn_out = true,
            Command::CreateMd { volume, .. } => self.creating[n][usize::from(volume)] = true,
            // Given only when nothing is under way and both copies hold the same, durably: from then on either
            // is as good as the better one, even if only one node learns of it.
            Command::NewCurrentUuid => {
                let [a, b] = &mut self.standing;
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (*a.max(b), *a.max(b));
                }
            }
            _ => {}
        }
    }

    pub(crate) fn booted(&mut self, n: usize) {
        self.status[n] = None;
        self.forced[n] = None;
        self.discarding[n] = false;
        self.heard_discard[n] = false;
        self.in_sync.fill(false);
    }

    /// A node lost power or was killed.
    pub(crate) fn stopped(&mut self, n: usize, power_cut: bool, unfinished: &[bool], now: u64) {
        for volume in 0..self.lagged[n].len() {
            self.lagged[n][volume] |= self.lag(n, volume) > 0;
            self.forgets_owed(n, volume, now);
        }
        self.booted(n);
        self.forked[n].fill(false);
        self.unbroken[n].fill(false);
        for (volume, unfinished) in unfinished.iter().enumerate() {
            let before = &mut self.before_resync[n][volume];
            if power_cut {
                *before = before.map(|_| Level::Durable);
            }
            // If it says so in one copy only, which cannot be read, it starts as what it was; and still is that: `judge_target`.
            if !unfinished && self.standing[n][volume].is_none() {
                self.standing[n][volume] = before.take();
            }
        }
        if power_cut {
            for s in &mut self.standing[n] {
                *s = s.map(|_| Level::Durable);
            }
        }
    }

    /// Bytes that a node's clients were told of and its peer has not acknowledged.
    pub(crate) fn lag(&self, n: usize, volume: usize) -> u64 {
        let status = self.status[n].as_ref();
        let volume = status.and_then(|s| s.volumes.get(volume));
        volume.map_or(0, |v| v.lag_bytes)
    }

    /// A write that began then was answered, and a node's disk need not have it yet.
    pub(crate) fn lags(&mut self, n: usize, volume: usize, protocol: Protocol, began: u64) {
        let standing = &mut self.standing[n][volume];
        self.apart[n][volume] &= *standing == Some(Level::Lagging);
        match protocol {
            Protocol::A => {
                *standing = standing.map(|level| level.min(Level::Lagging));
                self.unbroken[n][volume] = false;
            }
            Protocol::B => {
                self.owed[n][volume] = true;
                let forgot = self.forgot[n][volume];
                if began <= forgot {
                    // It had been received before, and was answered after.
                    self.forgets_owed(n, volume, forgot);
                }
            }
            Protocol::C => {}
        }
    }

    /// A resync has brought this volume up to date. Others that still lag are older now by more than what was on its way: across
    /// them and it, order is not kept until they are brought up to date, too.
    pub(crate) fn left_apart(&mut self, n: usize, volume: usize) {
        for (other, apart) in self.apart[n].iter_mut().enumerate() {
            *apart = other != volume && (*apart || self.standing[n][other] == Some(Level::Lagging));
        }
    }

    /// What a node had received and not written is gone from its memory: it stopped, or its disk is not used any more. By
    /// protocol B that may have been answered.
    pub(crate) fn forgets_owed(&mut self, n: usize, volume: usize, now: u64) {
        self.forgot[n][volume] = now;
        if std::mem::take(&mut self.owed[n][volume]) {
            let standing = &mut self.standing[n][volume];
            *standing = standing.map(|level| level.min(Level::Lagging));
            self.unbroken[n][volume] = false;
        }
    }

    /// Something was written that a node's volume does not have.
    pub(crate) fn falls_behind(&mut self, n: usize, volume: usize) {
        self.outrun[n][volume] &= self.standing[n][volume].is_none();
        self.standing[n][volume] = None;
        self.before_resync[n][volume] = None;
        self.unbroken[n][volume] = false;
    }

    /// A node's disk was replaced: what it knew is gone with it.
    pub(crate) fn blanked(&mut self, n: usize) {
        self.standing[n].fill(None);
        self.outrun[n].fill(false);
        self.before_resync[n].fill(None);
        self.served[n].fill(false);
        self.claims[n].fill(false);
        self.named[n].fill(false);
        self.written_off[n].fill(false);
    }

    /// Whether a node's volume has metadata that says no more than that it was created.
    pub(crate) fn just_created(&self, n: usize, volume: usize) -> bool {
        let status = self.status[n].as_ref();
        status
            .and_then(|s| s.volumes.get(volume))
            .is_some_and(|v| v.disk == DiskState::Inconsistent && v.current_uuid == JUST_CREATED)
    }
}
