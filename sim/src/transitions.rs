//! The oracle's judgements of what nodes say of themselves: promotion, resync, UpToDate.

use crate::fault::Fault;
use crate::history::{History, Level};
use crate::oracle::Branch;
use crate::request::Request;
use crate::stats::{Kind, State, Stats};
use crate::trace::letter;
use crate::world::World;
use replication::api::{
    ConnectionState, DiskState, Policy, Protocol, ReplicationState, Role, Status, VolumeStatus,
};
use replication::lineage::JUST_CREATED;
use replication::ondisk::Superblock;

fn count_transitions(stats: &mut Stats, from: &Status, to: &Status) {
    if from.role != to.role {
        stats.transition(State::Role(from.role), State::Role(to.role));
    }
    if from.connection != to.connection {
        let (from, to) = (from.connection, to.connection);
        stats.transition(State::Connection(from), State::Connection(to));
    }
    for (from, to) in from.volumes.iter().zip(&to.volumes) {
        if from.disk != to.disk {
            stats.transition(State::Disk(from.disk), State::Disk(to.disk));
        }
        if from.replication != to.replication {
            let (from, to) = (from.replication, to.replication);
            stats.transition(State::Replication(from), State::Replication(to));
        }
    }
}

impl World {
    /// A node's state after every event.
    pub(crate) fn observe(&mut self, n: usize, status: Status) {
        let before = self.oracle.status[n].replace(status);
        let Some(status) = self.oracle.status[n].as_ref() else {
            return;
        };
        if let Some(before) = &before {
            let status = status.clone();
            count_transitions(&mut self.stats, before, &status);
            self.moments_of(n, before, &status);
            self.judge_attach(n, before, &status);
            self.judge_fencing(n, before, &status);
            self.judge_snapshots(n, Some(before), &status);
        }
        self.account_for_lag(n, before.as_ref());
        let Some(status) = self.oracle.status[n].as_ref() else {
            return;
        };
        let primary_now = |s: &Status| s.role == Role::Primary;
        let promoted = primary_now(status) && before.as_ref().is_none_or(|b| !primary_now(b));
        let demoted = !primary_now(status) && before.as_ref().is_some_and(primary_now);
        let lag: u64 = status.volumes.iter().map(|v| v.lag_bytes).sum();
        if lag > self.nodes[n].pool.total_bytes() / 2 {
            self.fail("the lag of the peer is bounded", format!("{lag} bytes"));
            return;
        }
        let serves = status.serving && before.as_ref().is_none_or(|b| !b.serving);
        let (mut targets, mut whole, mut unnamed) = (Vec::new(), Vec::new(), Vec::new());
        let mut synced = Vec::new();
        let (mut verified, mut repaired, mut differs) = (0, 0, None);
        let (mut started, mut unfinished, mut failed) = (false, false, false);
        for (v, now) in status.volumes.iter().enumerate() {
            let was = before.as_ref().and_then(|b| b.volumes.get(v));
            if let Some(report) = now.verify {
                let before = was.and_then(|w| w.verify);
                let was_running = before.is_some_and(|b| b.running);
                verified += u64::from(was_running && report.finished);
                let (blocks, copied) = before
                    .filter(|_| was_running)
                    .map_or((0, 0), |b| (b.differing_blocks, b.repaired_blocks));
                let moved = was_running || report.running;
                repaired += u64::from(moved && report.repaired_blocks > copied);
                if moved && report.differing_blocks > blocks {
                    differs = Some(v);
                }
            }
            let ahead = |v: &VolumeStatus| v.replication == ReplicationState::Ahead;
            if ahead(now) && !was.is_some_and(ahead) {
                self.oracle.marked_before[n][v] = now.out_of_sync;
            }
            let named = now.disk > DiskState::Failed && now.current_uuid != JUST_CREATED;
            if named && !self.oracle.named[n][v] {
                unnamed.push(v);
            }
            unfinished |= now.disk == DiskState::Inconsistent;
            // Detached: it may not know afterwards what it held.
            self.oracle.unbroken[n][v] &= now.disk != DiskState::Diskless;
            failed |= now.disk == DiskState::Failed;
            // Either node's part of the decision makes it last, though the other's may have been lost: also that of one
            // which decides by a greeting whose sender is gone.
            self.oracle.given_up[n][v] |= self.oracle.discarding[n] && now.replication.is_target();
            self.oracle.given_up[1 - n][v] |=
                self.oracle.heard_discard[n] && now.replication.is_source();
            // From here on blocks may be overwritten.
            if now.replication.is_target()
                && now.disk == DiskState::Inconsistent
                && now.current_uuid != JUST_CREATED
            {
                targets.push((v, was.map(|w| w.current_uuid)));
            }
            if now.disk == DiskState::UpToDate
                && was.is_some_and(|w| w.disk == DiskState::Inconsistent)
                && was.is_some_and(|w| w.replication.is_target())
            {
                whole.push(v);
            }
            if was.is_some_and(|w| w.replication.is_source())
                && now.replication == ReplicationState::Established
                && now.peer_disk == DiskState::UpToDate
            {
                synced.push(v);
            }
            started |=
                now.replication.is_source() && was.is_none_or(|w| !w.replication.is_source());
        }
        for v in unnamed {
            let durable = self.durable_metadata(n, v);
            self.oracle.named[n][v] = durable.is_some_and(|s| s.current != JUST_CREATED);
        }
        if started {
            self.stats.count(Kind::Resyncs);
        }
        if failed {
            // Also one that hung and was given up.
            self.oracle.disk_failed(n, None);
        }
        (0..verified).for_each(|_| self.stats.count(Kind::Verified));
        (0..repaired).for_each(|_| self.stats.count(Kind::Repaired));
        if let Some(v) = differs
            && self.oracle.spoiled[v].is_empty()
            && !self.oracle.amnesty
            && self.oracle.spoiled[v].is_empty()
        {
            self.fail(
                "verify reports only what differs",
                format!("node {} vol{v}", letter(n)),
            );
        }
        if promoted && unfinished {
            self.fail(
                "a sync target is never promoted",
                format!("node {}", letter(n)),
            );
        }
        if !targets.is_empty() {
            self.becomes_target(n, &targets);
        }
        for v in whole {
            self.becomes_whole(n, v);
        }
        for v in synced {
            self.judge_synced(1 - n, v);
        }
        if promoted {
            self.promoted(n);
        }
        if serves && self.violation.is_none() {
            self.serves(n);
        }
        let linked = self.same_link() && self.oracle.connected(0) && self.oracle.connected(1);
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
                        && v.replication.in_sync()
                })
            };
            let in_sync = linked && good(0) && good(1);
            let began = in_sync && !self.oracle.in_sync[volume];
            self.oracle.in_sync[volume] = in_sync;
            if began || (in_sync && (demoted || self.rng.one_in(64))) {
                self.judge_in_sync(volume, began);
            } else if self.stats.get(Kind::Steps).is_multiple_of(64) {
                self.judge_marks(volume);
            }
        }
    }

    /// What the node knows of its peer's lag, and what it loses of what it had received.
    fn account_for_lag(&mut self, n: usize, before: Option<&Status>) {
        let order = self.order;
        let mut dropped = Vec::new();
        let oracle = &mut self.oracle;
        for v in 0..self.plan.volumes.len() {
            let Some(status) = &oracle.status[n] else {
                return;
            };
            let Some(now) = status.volumes.get(v) else {
                continue;
            };
            let connected = status.connection == ConnectionState::Connected;
            let caught_up = now.lag_bytes == 0 && now.peer_disk == DiskState::UpToDate;
            let was = before.and_then(|b| b.volumes.get(v));
            let out = now.disk <= DiskState::Failed;
            if connected {
                // A former life's connection is over.
                oracle.lagged[n][v] = false;
                oracle.owed[1 - n][v] &= !caught_up;
            }
            if out && was.is_some_and(|w| w.disk > DiskState::Failed) {
                oracle.forgets_owed(n, v, order);
                dropped.push(v);
            }
        }
        for v in dropped {
            if self.nodes[n].disks[v].changing() {
                self.received_in_vain(n, v);
            }
        }
    }

    /// A disk goes out of use, and something that its node has received is not written. By protocol B the peer's clients are
    /// answered what was received; only the peer knows whether they were, and this node cannot vouch for having all of its
    /// generation any more.
    pub(crate) fn received_in_vain(&mut self, n: usize, volume: usize) {
        if self.plan.mirroring.protocol == Protocol::B && !self.oracle.is_primary(n) {
            self.oracle.unbroken[n][volume] = false;
        }
    }

    /// What was saved last is what a node goes on with: the newest sound copy of the superblock. (Of a disk that cannot be
    /// read the other copy has to do.)
    fn judge_attach(&mut self, n: usize, before: &Status, status: &Status) {
        for (volume, (was, now)) in before.volumes.iter().zip(&status.volumes).enumerate() {
            if was.disk == DiskState::Attaching && now.disk > DiskState::Failed {
                self.judge_metadata(n, volume);
            }
            let attached = was.disk == DiskState::Attaching && now.disk > DiskState::Inconsistent;
            if attached && self.oracle.standing[n][volume].is_none() {
                // The disk failed before it was durably a target: nothing of it was overwritten.
                self.oracle.standing[n][volume] = self.oracle.before_resync[n][volume].take();
            }
        }
        if status.role == Role::Primary || self.oracle.disks_failed() {
            return;
        }
        for (volume, (was, now)) in before.volumes.iter().zip(&status.volumes).enumerate() {
            if was.disk != DiskState::Attaching || now.disk <= DiskState::Failed {
                continue;
            }
            let Some(saved) = self.metadata(n, volume, None) else {
                continue;
            };
            let worth = match saved.disk {
                _ if saved.current == JUST_CREATED => DiskState::Inconsistent,
                DiskState::Inconsistent | DiskState::Outdated => saved.disk,
                _ => DiskState::Consistent,
            };
            // With the peer's part, which may have been here already, a resync or another verdict comes at once.
            let met = [ConnectionState::Handshake, ConnectionState::Connected];
            let (bitmap, disk) = if met.contains(&status.connection) {
                (saved.bitmap, worth)
            } else {
                (now.bitmap_uuid, now.disk)
            };
            let found = (now.current_uuid, bitmap, disk);
            // By command, given while the disk was being attached.
            let outdated = now.disk == DiskState::Outdated && worth == DiskState::Consistent;
            if found != (saved.current, saved.bitmap, worth) && !outdated {
                let Superblock {
                    sequence,
                    current,
                    bitmap,
                    ..
                } = saved;
                let who = letter(n);
                let detail = format!(
                    "node {who} vol{volume}: {found:x?}, not {current:x}, {bitmap:x}, {worth:?} of save {sequence}"
                );
                self.fail("a restarted node goes on with what it saved last", detail);
            }
        }
    }

    /// While both are UpToDate the replicas are equal wherever nothing is under way: judged of the sectors that
    /// something has just changed, after every step.
    pub(crate) fn judge_equal(&mut self, volume: usize, sectors: std::ops::Range<usize>) {
        let in_sync = self.oracle.in_sync.get(volume).is_some_and(|&s| s);
        // A node that hangs up, having told a client of a write that only its peer's disk carried out (on-io-error
        // pass-on), has marked the difference and says that it is alone as soon as the connection is down.
        let parting = self.nodes.iter().any(|node| node.closing);
        if parting || !in_sync || (0..2).any(|n| self.oracle.lag(n, volume) > 0) {
            return;
        }
        for sector in sectors {
            let [a, b] = [0, 1].map(|n: usize| self.nodes[n].disks[volume].current()[sector]);
            if a != b && !self.in_flight(volume, sector) && !self.unjudged(volume, sector) {
                let detail = format!(
                    "vol{volume} sector {sector}: a holds {}, b holds {}",
                    crate::stamp::describe(a),
                    crate::stamp::describe(b)
                );
                self.fail("both UpToDate means identical", detail);
                return;
            }
        }
    }

    fn becomes_target(&mut self, n: usize, volumes: &[(usize, Option<u64>)]) {
        for &(v, was) in volumes {
            self.oracle.given_up[n][v] |= self.metadata_gone(n, v, was);
        }
        self.judge_direction(n, volumes);
        for &(v, _) in volumes {
            if self.oracle.parted(v) {
                let given_up = self.oracle.discarding[n] || self.oracle.given_up[n][v];
                if self.oracle.claims[n][v] && !given_up {
                    let who = letter(n);
                    let detail = format!(
                        "node {who} gives up its writes to vol{v} without --discard-my-data"
                    );
                    self.fail("a split brain is never resolved silently", detail);
                }
                self.oracle.of[n][v] = self.oracle.of[1 - n][v];
                self.oracle.falls_behind(n, v);
            }
            if let Some(standing) = self.oracle.standing[n][v].take() {
                self.oracle.before_resync[n][v] = Some(standing);
            }
        }
    }

    /// A disk was attached. Metadata goes by the operator's word only (`create-md`), and that is called for only where a
    /// copy of the superblock rotted, since the other one may have been in the writing when the power failed: of two that did
    /// not rot one is good after any crash. Whoever creates new metadata there writes off what the disk held.
    fn judge_metadata(&mut self, n: usize, volume: usize) {
        let found = self.metadata(n, volume, None);
        let created = found.is_some_and(|s| s.current == JUST_CREATED);
        // What a disk does not write in its place may hit metadata (docs/FAULT_MODEL.md).
        let lied = Fault::ALL
            .iter()
            .any(|fault| fault.lies() && self.stats.struck(*fault) > 0);
        let oracle = &mut self.oracle;
        let told = std::mem::take(&mut oracle.creating[n][volume]);
        let rotten = std::mem::take(&mut oracle.rotten[n][volume]);
        if !created {
            oracle.written_off[n][volume] = false;
        } else if std::mem::take(&mut oracle.named[n][volume]) {
            // A disk that answers errors may show the older copy only, of before it got a generation.
            if !(told && (rotten || lied) || oracle.disks_failed()) {
                let who = letter(n);
                let detail = format!("node {who} vol{volume} (commanded: {told}, rot: {rotten})");
                return self.fail("metadata is lost only to rot", detail);
            }
            if told {
                oracle.written_off[n][volume] = true;
                oracle.claims[n][volume] = false;
                oracle.served[n][volume] = false;
            }
        }
    }

    /// Whether the copy was written off: the operator created new metadata where no old could be read, beside a peer that has
    /// some. If it was the only good one, nobody has the data any more.
    fn metadata_gone(&mut self, n: usize, volume: usize, was: Option<u64>) -> bool {
        let gone = was == Some(JUST_CREATED) && self.oracle.written_off[n][volume];
        let [mine, theirs] = [n, 1 - n].map(|n| self.oracle.standing[n][volume]);
        if gone && !self.oracle.parted(volume) && mine.is_some() && theirs.is_none() {
            self.oracle.amnesty = true;
            self.stats.count(Kind::Amnesties);
        }
        gone
    }

    /// The better copy is overwritten only where the operator said so.
    fn judge_direction(&mut self, n: usize, volumes: &[(usize, Option<u64>)]) {
        if self.oracle.discarding[n] || self.oracle.amnesty {
            return;
        }
        for &(v, was) in volumes {
            if self.oracle.parted(v) || self.oracle.given_up[n][v] {
                continue;
            }
            let [mine, theirs] = [n, 1 - n].map(|n| self.oracle.standing[n][v]);
            if mine.is_some() && theirs.is_none() {
                let standing = &self.oracle.standing;
                let who = letter(n);
                let detail = format!("vol{v}: node {who} becomes the target: {standing:?}");
                self.fail("the better copy is never the target", detail);
            }
            let same = was == self.generation(1 - n, v);
            // Unless a Primary's disk failed and then the peer crashed, who alone had something: docs/FAULT_MODEL.md.
            let excused = self.oracle.disks_failed() || self.oracle.torn_out;
            let may_have_more = mine == Some(Level::Answered) && theirs == Some(Level::Lagging);
            let of = self.oracle.of[1 - n][v];
            if may_have_more && same && !excused && self.lacks_answered(1 - n, v, of) {
                let who = letter(n);
                let detail = format!("vol{v}: node {who} has more than its source");
                self.fail("the better copy is never the target", detail);
            }
            // By protocol A nobody but the Primary can know that it has everything.
            let whole = mine == Some(Level::Answered)
                && self.oracle.unbroken[n][v]
                && self.plan.mirroring.protocol != Protocol::A;
            // Not if the source had begun a new generation before it lost its power: then it may have
            // written more, and that was two faults.
            let lost = theirs == Some(Level::Durable) && !self.nodes[1 - n].disks[v].busy();
            if whole && same && lost {
                // What the source lost with its power is still here.
                for sector in 0..self.plan.volumes[v].places.sectors {
                    if !self.judge_sector(1 - n, v, sector, Level::Answered) {
                        return;
                    }
                }
            }
        }
    }

    /// Whether a write that was answered in a branch is missing on this disk. One that lagged when its Primary was lost may have
    /// had all the same, and then a copy of it has no more than it.
    fn lacks_answered(&self, n: usize, volume: usize, branch: usize) -> bool {
        let history = &self.oracle.branches[branch].volumes[volume];
        let disk = self.nodes[n].disks[volume].current();
        (0..self.plan.volumes[volume].places.sectors).any(|sector| {
            let passed_over = self.in_flight(volume, sector) || self.unjudged(volume, sector);
            !passed_over && !history.legal(sector, disk[sector], Level::Answered)
        })
    }

    /// The target of a resync says that it has all: its source may not know yet, or be gone.
    fn becomes_whole(&mut self, n: usize, volume: usize) {
        let source = 1 - n;
        self.oracle.doomed[n][volume] = false;
        let Some(least) =
            self.oracle.standing[source][volume].filter(|_| !self.oracle.parted(volume))
        else {
            return;
        };
        // One that is not durable yet is none that anything was answered in, and a source that stops may forget it.
        let of_source = [
            self.generation(source, volume),
            self.durable_metadata(source, volume).map(|s| s.current),
        ];
        if !of_source.contains(&self.generation(n, volume)) {
            // The source has gone on without it since.
            return;
        }
        let (mut level, mut lags) = (Level::Answered, false);
        // A source that has just left it counts no more what was on its way (A), or received and not written yet (B).
        // (One whose clients wait for a fence has not begun a generation yet.)
        let frozen = self.oracle.suspended(source).fencing && !self.oracle.connected(source);
        let left = frozen || of_source[0] != self.generation(n, volume);
        let may_lag = self.oracle.lag(source, volume) > 0
            || self.oracle.lagged[source][volume]
            || (left && self.plan.mirroring.protocol != Protocol::C);
        for sector in 0..self.plan.volumes[volume].places.sectors {
            if self.in_flight(volume, sector) {
                continue;
            }
            if !self.judge_sector(n, volume, sector, Level::Durable) {
                return;
            }
            // What its source lost with its power since, the target may have.
            let history = &self.oracle.branches[self.oracle.of[n][volume]].volumes[volume];
            let value = self.nodes[n].disks[volume].current()[sector];
            let spoiled = self.unjudged(volume, sector);
            if !spoiled && !history.legal(sector, value, Level::Answered) {
                if may_lag {
                    lags = true;
                } else {
                    level = Level::Durable;
                }
            }
            if level < least && !self.judge_sector(n, volume, sector, least) {
                return;
            }
        }
        self.oracle.standing[n][volume] = Some(level);
        self.oracle.left_apart(n, volume);
        self.oracle.unbroken[n][volume] = level == Level::Answered;
        self.oracle.before_resync[n][volume] = None;
        // What is on the disk need not come from the node's memory any more.
        self.oracle.owed[n][volume] &= may_lag;
        if lags {
            let (protocol, now) = (self.plan.mirroring.protocol, self.order + 1);
            self.oracle.lags(n, volume, protocol, now);
            self.judge_prefix(n);
        }
    }

    /// The generation of a volume, as the node says or as its disk does.
    pub(crate) fn generation(&self, n: usize, volume: usize) -> Option<u64> {
        let status = self.oracle.status[n].as_ref();
        match status.and_then(|s| s.volumes.get(volume)) {
            Some(v) if v.disk > DiskState::Failed => Some(v.current_uuid),
            _ => self.metadata(n, volume, None).map(|s| s.current),
        }
    }

    /// Both nodes say of themselves and of each other that they are UpToDate.
    pub(crate) fn judge_in_sync(&mut self, volume: usize, began: bool) {
        self.stats.count(Kind::InSyncChecks);
        if self.oracle.parted(volume) {
            let [a, b] = [0, 1].map(|n: usize| self.oracle.claims[n][volume]);
            if a && b {
                self.fail(
                    "a split brain is never resolved silently",
                    "both are UpToDate again".into(),
                );
                return;
            }
            let loser = usize::from(a);
            self.oracle.of[loser][volume] = self.oracle.of[1 - loser][volume];
        }
        self.oracle.discarding = [false; 2];
        let lagging = (0..2).find(|n| self.oracle.lag(1 - n, volume) > 0);
        if let Some(n) = lagging {
            return self.judge_lagging(n, volume);
        }
        let nobody = (0..2).all(|n| self.oracle.standing[n][volume] < Some(Level::Answered));
        let level = if began && nobody {
            Level::Durable
        } else {
            Level::Answered
        };
        // A failed disk took the last good copy: the replicas must be equal, no more.
        let lost = nobody && self.oracle.disks_failed();
        if level == Level::Durable && !lost {
            let branch = self.oracle.of[0][volume];
            self.oracle.branches[branch]
                .unflushed
                .retain(|u| u.volume != volume);
        }
        for sector in 0..self.plan.volumes[volume].places.sectors {
            let [a, b] = [0, 1].map(|n: usize| self.nodes[n].disks[volume].current()[sector]);
            let branch = self.oracle.of[0][volume];
            let history = &self.oracle.branches[branch].volumes[volume];
            if self.in_flight(volume, sector) || self.unjudged(volume, sector) {
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
            if lost {
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
        if lost && !self.oracle.amnesty {
            self.oracle.amnesty = true;
            self.stats.count(Kind::Amnesties);
        }
        for n in 0..2 {
            self.oracle.standing[n][volume] = Some(Level::Answered);
            self.oracle.unbroken[n][volume] = true;
            self.oracle.owed[n][volume] = false;
            self.oracle.before_resync[n][volume] = None;
            self.oracle.served[n][volume] = false;
            self.oracle.claims[n][volume] = false;
            self.oracle.given_up[n][volume] = false;
        }
        self.oracle.torn_out &= !self.oracle.all_in_sync();
        if self.oracle.all_in_sync() && self.disks_are_fine() {
            self.oracle.disks_mended();
        }
    }

    /// Both are UpToDate, but node `n` has yet to do what was answered last.
    fn judge_lagging(&mut self, n: usize, volume: usize) {
        self.stats.count(Kind::LagChecks);
        for sector in 0..self.plan.volumes[volume].places.sectors {
            if self.in_flight(volume, sector) || self.unjudged(volume, sector) {
                continue;
            }
            let whole = self.judge_sector(1 - n, volume, sector, Level::Answered)
                && self.judge_sector(1 - n, volume, sector, Level::Durable)
                && self.judge_sector(n, volume, sector, Level::Lagging)
                && self.judge_sector(n, volume, sector, Level::Durable);
            if !whole {
                return;
            }
        }
        for n in 0..2 {
            self.oracle.standing[n][volume] = Some(Level::Answered);
            self.oracle.unbroken[n][volume] = true;
            self.oracle.before_resync[n][volume] = None;
            self.oracle.served[n][volume] = false;
            self.oracle.claims[n][volume] = false;
            self.oracle.given_up[n][volume] = false;
        }
        let protocol = self.plan.mirroring.protocol;
        self.oracle.lags(n, volume, protocol, self.order + 1);
        self.judge_prefix(n);
    }

    fn disks_are_fine(&self) -> bool {
        let fine = |n: &crate::node::Node| {
            n.disk_fails_until <= self.now && n.disks.iter().all(|d| d.trouble.is_none())
        };
        self.nodes.iter().all(fine)
    }

    /// Whether a client's write or a disk's is under way there.
    pub(crate) fn in_flight(&self, volume: usize, sector: usize) -> bool {
        let covers =
            |r: &Request| r.wanted.volume == volume && r.mutates() && r.sectors().contains(&sector);
        self.nodes.iter().any(|n| n.disks[volume].writing(sector))
            || self.requests.values().any(covers)
    }

    /// A node became Primary: was that the operator's will, and is its data the one to go on with?
    fn promoted(&mut self, n: usize) {
        self.stats.count(Kind::Promotions);
        let peer = 1 - n;
        // With auto-promote nobody need say anything.
        let by_itself = self.plan.fencing.auto_promote.then_some(false);
        let Some(forced) = self.oracle.forced[n].or(by_itself) else {
            self.fail("only the operator promotes", format!("node {}", letter(n)));
            return;
        };
        if forced && self.oracle.doomed[n].contains(&true) {
            // docs/FAULT_MODEL.md: what such a disk shows, the operator vouches for.
            self.oracle.amnesty = true;
            self.oracle.standing[n].fill(Some(Level::Answered));
            self.oracle.doomed[n].fill(false);
            return;
        }
        let worth = self.oracle.worth(n);
        let rival = self.oracle.is_primary(peer);
        if worth.is_none() || rival {
            let lost = self.oracle.disks_failed() && (forced || !self.fencing_knows(n));
            if !rival && lost {
                self.oracle.amnesty = true;
                self.oracle.standing[n].fill(Some(Level::Answered));
                return;
            }
            // A fence takes the place of the operator's word against a Primary that cannot be seen, not against newer data: but by
            // resource-only that Primary may have answered while it was still asking for the fence that this node got.
            // But an operator who forces the peer of a holder has made a split brain: the holder may go on, too, also while
            // that peer serves, unless it has heard of it (`Fencer`'s tests).
            let by_fence = self.oracle.is_outrun_at_most(n) && self.holds_fence(n)
                || self.word_against_fence(n);
            if !(forced && self.plan.reckless || by_fence) {
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
            for volume in 0..self.plan.volumes.len() {
                let behind = self.oracle.standing[n][volume].is_none();
                if behind || rival {
                    self.fork(n, volume, behind);
                }
            }
        }
    }

    /// A Primary lets clients in: from now on what it holds is the truth.
    fn serves(&mut self, n: usize) {
        let peer = 1 - n;
        if self.oracle.amnesty {
            return;
        }
        let mut prefix = false;
        for volume in 0..self.plan.volumes.len() {
            let branch = self.oracle.of[n][volume];
            if std::mem::take(&mut self.oracle.forked[n][volume]) {
                self.oracle.branches[branch].volumes[volume] = self.history_of(n, volume);
            }
            let in_use = self.oracle.disk_state(n, volume) > Some(DiskState::Failed);
            if in_use && !self.durably(n, volume, |s| s.primary) {
                let detail = format!("node {} vol{volume}", letter(n));
                self.fail("a promotion is durable before clients are let in", detail);
                return;
            }
            let Some(level) = self.oracle.standing[n][volume] else {
                continue;
            };
            if level == Level::Lagging && !prefix {
                prefix = true;
                self.stats.count(Kind::LostSuffix);
                self.judge_prefix(n);
            }
            for sector in 0..self.plan.volumes[volume].places.sectors {
                if !self.judge_sector(n, volume, sector, level) {
                    return;
                }
                self.oracle.branches[branch].volumes[volume].forget_sights(sector);
                if !self.nodes[n].disks[volume].writing(sector) {
                    let value = self.nodes[n].disks[volume].current()[sector];
                    let order = self.order;
                    self.oracle.branches[branch].volumes[volume]
                        .settle(sector, value, level, order);
                }
            }
            if level < Level::Answered {
                self.oracle.branches[branch]
                    .unflushed
                    .retain(|u| u.volume != volume);
                self.oracle.standing[n][volume] = Some(Level::Answered);
            }
            if !self.oracle.parted(volume) && !self.still_holds(peer, volume) {
                self.oracle.falls_behind(peer, volume);
            }
        }
    }

    /// Whether what a node has is still as good as it was, after the truth was settled elsewhere.
    fn still_holds(&self, n: usize, volume: usize) -> bool {
        let Some(level) = self.oracle.standing[n][volume] else {
            return false;
        };
        let history = &self.oracle.branches[self.oracle.of[n][volume]].volumes[volume];
        let disk = &self.nodes[n].disks[volume];
        let holds = |sector: usize| {
            disk.writing(sector)
                || self.unjudged(volume, sector)
                || history.legal(sector, disk.durable()[sector], Level::Durable)
                    // Also what is in its cache may survive there.
                    && history.legal(sector, disk.current()[sector], level)
        };
        (0..disk.current().len()).all(holds)
    }

    /// A history that begins with what a disk holds, and may yet hold.
    fn history_of(&self, n: usize, volume: usize) -> History {
        let now = self.order;
        let disk = &self.nodes[n].disks[volume];
        let mut history = History::new(disk.current(), disk.durable());
        for sector in 0..disk.current().len() {
            for value in disk.may_become(sector, &self.nodes[n].memory) {
                history.allow(sector, value, now);
            }
        }
        history
    }

    /// The operator chose a node although another has or makes newer data: a volume's histories part.
    fn fork(&mut self, n: usize, volume: usize, behind: bool) {
        self.stats.count(Kind::SplitBrains);
        self.trace.line(self.now, "!!", || {
            let standing = &self.oracle.standing;
            let who = letter(n);
            format!("histories of vol{volume} part: node {who} goes its own way ({standing:?})")
        });
        // A peer that was answered nothing beyond what this node has (it had only just pulled ahead) gives nothing up later.
        let lacks = self.lacks_answered(n, volume, self.oracle.of[1 - n][volume]);
        let history = self.history_of(n, volume);
        self.oracle.forked[n][volume] = true;
        // The other volumes' histories go on where they are.
        let of = self.oracle.of[n][volume];
        let mut volumes = self.oracle.branches[of].volumes.clone();
        volumes[volume] = history;
        self.oracle.branches.push(Branch {
            volumes,
            unflushed: Vec::new(),
        });
        self.oracle.of[n][volume] = self.oracle.branches.len() - 1;
        // What a frozen Primary had answered ahead of its peer (A and B) is in no generation of its own (docs/FENCING.md, "Freeze").
        let ahead = self.plan.mirroring.protocol != Protocol::C
            && self.plan.fencing.policy == Policy::ResourceAndStonith;
        let claims = behind && lacks && !ahead && self.oracle.served[1 - n][volume];
        self.oracle.claims[1 - n][volume] = claims;
        self.oracle.claims[n][volume] = false;
        for n in 0..2 {
            self.oracle.given_up[n][volume] = false;
        }
        self.oracle.standing[n][volume] = Some(Level::Answered);
    }
}
