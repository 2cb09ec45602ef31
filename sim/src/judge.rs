//! The oracle's judgements of what clients are told: every answer against both disks.

use crate::disk::Discard;
use crate::history::Level;
use crate::oracle::Unflushed;
use crate::request::{Kinds, Request};
use crate::stamp::Value;
use crate::trace::letter;
use crate::world::World;
use replication::api::{DiskState, Protocol, ReplicationState};

impl World {
    pub(crate) fn oracle_submit(&mut self, n: usize, request: &Request) {
        let weak = request.wanted.kind == Kinds::Discard && self.plan.discards_differ();
        let branch = self.oracle.of[n][request.wanted.volume];
        let history = &mut self.oracle.branches[branch].volumes[request.wanted.volume];
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
        let branch = &mut self.oracle.branches[self.oracle.of[n][volume]];
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
        if self.stakes(request) {
            // A Primary without a good disk of its own serves from its peer's.
            let own = self.oracle.disk_state(n, volume) == Some(DiskState::UpToDate);
            let holder = if own { n } else { 1 - n };
            self.oracle.claims[holder][volume] |= !own || !self.is_on_its_way(n, request);
            self.oracle.served[holder][volume] = true;
        }
        self.judge_copies(n, request, &hardened);
    }

    /// Whether what was answered must be found again on a disk that counts. Not a discard unless both disks zero what is
    /// discarded: either content is right then, on either disk, and between connected nodes it is not even carried out.
    fn stakes(&self, request: &Request) -> bool {
        let discard = request.wanted.kind == Kinds::Discard;
        request.mutates() && !(discard && self.plan.discard != [Discard::Zeroes; 2])
    }

    /// Whether a change was answered by protocol A or B on a node that had sent it and believes that its peer is there: what is lost
    /// with the connection then makes no history of its own (docs/FENCING.md, "Freeze"; docs/FAULT_MODEL.md, 18).
    fn is_on_its_way(&self, n: usize, request: &Request) -> bool {
        let status = self.oracle.status[n].as_ref();
        let volume = status.and_then(|s| s.volumes.get(request.wanted.volume));
        self.plan.mirroring.protocol != Protocol::C
            && !request.wanted.fua
            && self.oracle.connected(n)
            && volume
                .is_some_and(|v| v.peer_disk == DiskState::UpToDate || v.replication.is_source())
    }

    fn judge_read(&mut self, n: usize, request: &Request, read: &[Option<Value>], now: u64) {
        if self.oracle.amnesty {
            return;
        }
        let volume = request.wanted.volume;
        let branch = self.oracle.of[n][volume];
        if read.len() != request.wanted.count {
            self.fail(
                "a read returns what was asked for",
                format!("{:?}", request.wanted),
            );
            return;
        }
        for (sector, value) in request.sectors().zip(read) {
            if self.unjudged(volume, sector) {
                continue;
            }
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
        let same_branch = !self.oracle.parted(volume);
        // A target that is whole already may have said so without having been heard: it gets what
        // is written meanwhile.
        let alone = alone && !self.mirrors_to_whole(n, volume);
        let counts = self.stakes(request) || !hardened.is_empty();
        if alone && same_branch && counts {
            let outruns = self.oracle.standing[peer][volume].is_some() && self.goes_on_unfenced(n);
            self.oracle.falls_behind(peer, volume);
            self.oracle.outrun[peer][volume] |= outruns;
        }
        let good = self.oracle.disk_state(n, volume) == Some(DiskState::UpToDate);
        if alone && good && request.mutates() && request.begin.is_multiple_of(4) {
            self.judge_generation(n, volume);
        }
        if alone && good && request.mutates() {
            self.judge_ahead(n, volume);
        }
        if request.mutates() {
            let cut_off = !self.oracle.connected(n);
            self.judge_writer(n, volume, cut_off && good);
        }
        if !good && alone && !self.oracle.amnesty {
            self.fail(
                "what is answered is on a good disk",
                format!("node {} {:?}", letter(n), request.wanted),
            );
            return;
        }
        let mut holders = Vec::new();
        if good {
            holders.push(n);
        } else if same_branch && counts {
            self.stats.count(crate::stats::Kind::Through);
            self.oracle.falls_behind(n, volume);
            self.judge_through(peer, volume);
        }
        let protocol = self.plan.mirroring.protocol;
        let lags = protocol != Protocol::C && self.stakes(request) && !request.wanted.fua && good;
        if !alone && same_branch && lags {
            self.oracle.lags(peer, volume, protocol, request.begin);
        } else if !alone && same_branch {
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

    /// In a generation one node answers writes. A Primary hands over only to a peer that it is connected to, so both may
    /// have answered mirrored writes in it; but never beside each other, and only one without the other.
    fn judge_writer(&mut self, n: usize, volume: usize, alone: bool) {
        let said = |n: usize| self.oracle.status[n].as_ref()?.volumes.get(volume);
        let Some(generation) = said(n).map(|v| v.current_uuid) else {
            return;
        };
        let rival = 1 - n;
        if self.oracle.is_serving(rival)
            && said(rival).is_some_and(|v| v.current_uuid == generation && generation != 0)
        {
            let detail = format!("vol{volume}: both, in {generation:x}");
            self.fail("at most one node answers writes in a generation", detail);
            return;
        }
        if alone && self.generation(rival, volume) == Some(generation) {
            let who = letter(n);
            let detail =
                format!("vol{volume}: node {who}, alone in {generation:x}, which both have");
            self.fail("at most one node answers writes in a generation", detail);
        }
    }

    /// Before the first answer that the peer has no part in, the generation it is given in is durable.
    fn judge_generation(&mut self, n: usize, volume: usize) {
        let status = self.oracle.status[n].as_ref();
        let said = status.and_then(|s| s.volumes.get(volume));
        let said = said.map(|v| v.current_uuid);
        if !self.durably(n, volume, |s| Some(s.current) == said) {
            let durable = self.durable_metadata(n, volume).map(|s| s.current);
            let detail = format!(
                "node {} vol{volume}: {durable:x?}, not {said:x?}",
                letter(n)
            );
            self.fail("a generation is durable before it is used", detail);
        }
    }

    /// Before a node that is ahead answers what its peer will not get, the peer's disk says that it is not to be trusted.
    /// (What was sent before is not marked; marks of a resync that the peer has not heard of yet do not count.)
    fn judge_ahead(&mut self, n: usize, volume: usize) {
        let status = self.oracle.status[n].as_ref();
        let said = status.and_then(|s| s.volumes.get(volume));
        let ahead = said.is_some_and(|v| {
            let marked = v.out_of_sync > self.oracle.marked_before[n][volume];
            v.replication == ReplicationState::Ahead && marked
        });
        if !ahead || !self.same_link() || !self.oracle.connected(n) {
            return;
        }
        self.stats.count(crate::stats::Kind::AnsweredAhead);
        let durable = self.durable_metadata(1 - n, volume).map(|s| s.disk);
        if durable.is_some_and(|disk| disk > DiskState::Outdated) {
            let detail = format!("node {} vol{volume}: {durable:?}", letter(1 - n));
            self.fail(
                "a peer that is left behind is durably Outdated first",
                detail,
            );
        }
    }

    /// Before a target is overwritten it is durably Inconsistent, whichever copy of its superblock is lost then.
    pub(crate) fn judge_target(&mut self, n: usize, volume: usize) {
        let status = self.oracle.status[n].as_ref();
        let target = status
            .and_then(|s| s.volumes.get(volume))
            .is_some_and(|v| v.replication.is_target());
        if !target {
            return;
        }
        self.oracle.before_resync[n][volume] = None;
        if !self.durably(n, volume, |s| s.disk == DiskState::Inconsistent) {
            let durable = self.durable_metadata(n, volume).map(|s| s.disk);
            let detail = format!("node {} vol{volume}: {durable:?}", letter(n));
            self.fail(
                "a target is durably Inconsistent before its first block",
                detail,
            );
        }
    }

    /// A source counts its target as UpToDate only when that is durable there: after a power cut it could not be promoted else,
    /// though a fence may have been given back for it.
    pub(crate) fn judge_synced(&mut self, n: usize, volume: usize) {
        let whole = self.oracle.disk_state(n, volume) == Some(DiskState::UpToDate);
        let durable = self.durable_metadata(n, volume).map(|s| s.disk);
        if whole && self.same_link() && durable == Some(DiskState::Inconsistent) {
            let detail = format!("node {} vol{volume}: {durable:?}", letter(n));
            self.fail("the end of a resync is durable on the target first", detail);
        }
    }

    /// The Primary, which has lived all the time, serves from the peer's disk: that must have everything that was
    /// answered, whatever befell it since.
    fn judge_through(&mut self, peer: usize, volume: usize) {
        if self.oracle.standing[peer][volume] != Some(Level::Durable) {
            return;
        }
        for sector in 0..self.plan.volumes[volume].places.sectors {
            if !self.in_flight(volume, sector)
                && !self.judge_sector(peer, volume, sector, Level::Answered)
            {
                return;
            }
        }
        self.oracle.standing[peer][volume] = Some(Level::Answered);
    }

    fn mirrors_to_whole(&self, n: usize, volume: usize) -> bool {
        let status = self.oracle.status[n].as_ref();
        let source = status
            .and_then(|s| s.volumes.get(volume))
            .is_some_and(|v| v.replication.is_source());
        source
            && self.same_link()
            && self.oracle.connected(n)
            && self.oracle.connected(1 - n)
            && self.oracle.disk_state(1 - n, volume) == Some(DiskState::UpToDate)
    }

    /// Whether what a disk holds is legal in its node's branch.
    pub(crate) fn judge_sector(
        &mut self,
        n: usize,
        volume: usize,
        sector: usize,
        level: Level,
    ) -> bool {
        let history = &self.oracle.branches[self.oracle.of[n][volume]].volumes[volume];
        let disk = &self.nodes[n].disks[volume];
        let (value, rule) = match level {
            Level::Answered => (
                disk.current()[sector],
                "an answered write is on the disk of both nodes",
            ),
            Level::Lagging => (
                disk.current()[sector],
                "a flushed write is on the disk of both nodes",
            ),
            Level::Durable => (
                disk.durable()[sector],
                "a flushed write survives a power cut",
            ),
        };
        let excused = self.oracle.amnesty || self.unjudged(volume, sector);
        if excused || history.legal(sector, value, level) {
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

    /// What a node lacks of the answered writes are the last ones: no write is there that began after the
    /// answer to one that is not.
    pub(crate) fn judge_prefix(&mut self, n: usize) {
        if self.oracle.amnesty {
            return;
        }
        let mut held = Vec::new();
        for volume in 0..self.plan.volumes.len() {
            // A disk that is not in use any more stays behind the other volumes', and nobody is served from it.
            let status = self.oracle.status[n].as_ref();
            let in_use = status
                .and_then(|s| s.volumes.get(volume))
                .is_none_or(|v| v.disk > DiskState::Failed);
            if self.oracle.standing[n][volume] < Some(Level::Lagging)
                || self.oracle.parted(volume)
                || !in_use
                || self.oracle.apart[n][volume]
            {
                continue;
            }
            let disk = &self.nodes[n].disks[volume];
            for sector in 0..self.plan.volumes[volume].places.sectors {
                if !self.unjudged(volume, sector) {
                    held.push((volume, sector, disk.current()[sector]));
                }
            }
        }
        self.stats.count(crate::stats::Kind::PrefixChecks);
        let history =
            |volume: usize| &self.oracle.branches[self.oracle.of[n][volume]].volumes[volume];
        let newest = held
            .iter()
            .filter_map(|&(v, s, value)| Some((history(v).began(s, value)?, v, s)))
            .max();
        let Some((cut, v, s)) = newest else { return };
        let missing = |&&(volume, sector, value): &&(usize, usize, Value)| {
            !history(volume).before(sector, value, cut)
        };
        if let Some(&(volume, sector, value)) = held.iter().find(missing) {
            let detail = format!(
                "node {} vol{v} sector {s} has what began at {cut}, and vol{volume} sector {sector} still holds {}; legal:{}",
                letter(n),
                crate::stamp::describe(value),
                history(volume).explain(sector)
            );
            self.fail("dependent writes reach the peer's disk in order", detail);
        }
    }

    /// Before a power cut and after it: whatever survives must do.
    pub(crate) fn judge_survivors(&mut self, n: usize) {
        for volume in 0..self.plan.volumes.len() {
            if self.oracle.standing[n][volume].is_some() {
                for sector in 0..self.plan.volumes[volume].places.sectors {
                    self.judge_sector(n, volume, sector, Level::Durable);
                }
            }
        }
    }
}
