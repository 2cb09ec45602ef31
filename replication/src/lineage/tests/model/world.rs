//! The two nodes, the connection between them, and the oracle.

use super::super::super::*;
use super::node::{ALL, BLOCKS, Node, Version, Writes};
use super::{Event, Mistake};
use crate::api::DiskState;
use std::collections::BTreeSet;
use std::format;
use std::string::{String, ToString};

type Outcome = Result<(), String>;

/// How far a resync has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The source is ready; the target has not heard of it yet.
    Begun,
    Copying,
    /// The source said that all is there; the target has not heard of it yet.
    Announced,
    /// The target is done; the source has not heard of it yet.
    TargetDone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected, but it was not decided whose data goes on.
    Undecided,
    Mirrored,
    Sync {
        source: usize,
        phase: Phase,
    },
}

#[derive(Debug)]
pub struct World {
    mistake: Mistake,
    policies: Policies,
    nodes: [Node; 2],
    link: Link,
    writes: Writes,
    last_id: u64,
    /// What has happened: rules, verdicts and stages of resyncs.
    pub seen: BTreeSet<String>,
}

impl World {
    /// Two nodes with fresh metadata, or two that are in sync.
    pub fn new(mistake: Mistake, policies: Policies, created: bool) -> Self {
        let node = if created {
            Node::new(JUST_CREATED, DiskState::Inconsistent)
        } else {
            Node::new(1, DiskState::Consistent)
        };
        Self {
            mistake,
            policies,
            nodes: [node.clone(), node],
            link: Link::Down,
            writes: Writes::new(),
            last_id: 100,
            seen: BTreeSet::new(),
        }
    }

    fn note(&mut self, what: &str) {
        if !self.seen.contains(what) {
            self.seen.insert(what.to_string());
        }
    }

    fn fresh(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub fn step(&mut self, event: Event) -> Outcome {
        match event {
            Event::Write { node, block } => self.write(node, block),
            Event::TornWrite {
                node,
                block,
                local,
                remote,
                crash,
            } => self.torn_write(node, block, local, remote, crash),
            Event::Flush { node } => self.client_flush(node),
            Event::Cool { node } => self.cool(node),
            Event::Connect => self.connect()?,
            Event::Cut => self.cut(),
            Event::Copy { blocks } => self.copy(blocks),
            Event::Progress => self.progress(),
            Event::Crash { node, lost } => self.crash(node, lost),
            Event::PowerOff { node } => self.power_off(node),
            Event::Boot { node } => self.boot(node),
            Event::Promote { node } => self.promote(node),
            Event::Demote { node } => self.demote(node),
            Event::Discard { node } => {
                let alone = self.link == Link::Down;
                let node = &mut self.nodes[node];
                node.discard |= alone && node.up && !node.primary;
            }
            Event::Replace { node } => self.replace(node),
            Event::GiveUp { source } => self.give_up(source),
            Event::Declare { missed } => self.declare(missed),
        }
        self.check()
            .map_err(|found| format!("{found} after {event:?}: {self:#?}"))
    }

    fn check(&self) -> Outcome {
        let [a, b] = &self.nodes;
        if self.link == Link::Mirrored && a.data != b.data {
            return Err("mirrored disks differ".to_string());
        }
        if a.primary && b.primary && self.link != Link::Down {
            return Err("two Primaries are connected".to_string());
        }
        Ok(())
    }

    /// Whether the node's writes reach the peer.
    fn mirrors(&self, node: usize) -> bool {
        match self.link {
            Link::Down | Link::Undecided => false,
            Link::Mirrored => true,
            Link::Sync { source, .. } => source == node,
        }
    }

    fn write(&mut self, at: usize, block: usize) {
        if !self.nodes[at].primary {
            return;
        }
        let version = self.writes.add(self.nodes[at].data[block]);
        let bit = 1 << block;
        self.nodes[at].hot |= bit;
        self.nodes[at].data[block] = version;
        if self.mirrors(at) {
            self.hear_of_the_start();
            self.nodes[1 - at].data[block] = version;
            self.nodes[at].unflushed |= bit;
        } else {
            self.nodes[at].dirty |= bit;
        }
        self.writes.acknowledge(version);
    }

    /// What comes after it in the stream is not seen before the word that a resync begins.
    fn hear_of_the_start(&mut self) {
        if let Link::Sync {
            phase: Phase::Begun,
            ..
        } = self.link
        {
            self.progress();
        }
    }

    fn torn_write(
        &mut self,
        at: usize,
        block: usize,
        local: bool,
        remote: bool,
        crash: Option<u8>,
    ) {
        if !self.nodes[at].primary {
            return;
        }
        let version = self.writes.add(self.nodes[at].data[block]);
        self.nodes[at].hot |= 1 << block;
        if remote && self.mirrors(at) {
            self.hear_of_the_start();
            self.nodes[1 - at].data[block] = version;
        }
        if local || crash.is_none() {
            self.nodes[at].data[block] = version;
        }
        match crash {
            Some(lost) => self.crash(at, lost),
            None => {
                // What was in flight is marked, and answered when this node has gone on alone.
                self.nodes[at].dirty |= 1 << block;
                self.cut();
                self.writes.acknowledge(version);
            }
        }
    }

    fn client_flush(&mut self, at: usize) {
        if !self.nodes[at].primary {
            return;
        }
        self.flush_all(at);
        for version in self.nodes[at].data {
            self.writes.flush(version);
        }
    }

    fn flush_all(&mut self, at: usize) {
        self.nodes[at].flush();
        if self.mirrors(at) {
            self.hear_of_the_start();
            self.nodes[1 - at].flush();
            self.nodes[at].unflushed = 0;
        }
    }

    fn cool(&mut self, at: usize) {
        if self.nodes[at].primary {
            self.flush_all(at);
            self.nodes[at].hot = 0;
        }
    }

    fn cut(&mut self) {
        match core::mem::replace(&mut self.link, Link::Down) {
            Link::Down => return,
            Link::Sync { phase, .. } => match phase {
                Phase::Begun => self.note("start lost"),
                Phase::Announced => self.note("end lost"),
                Phase::TargetDone => self.note("ack lost"),
                Phase::Copying => {}
            },
            Link::Undecided | Link::Mirrored => {}
        }
        for at in 0..2 {
            let fresh = self.fresh();
            let node = &mut self.nodes[at];
            node.unflushed |= core::mem::take(&mut node.flushing);
            node.was_primary = node.primary;
            node.doubt();
            if node.primary {
                if self.mistake != Mistake::NoNewGeneration {
                    node.generations.peer_lost(fresh);
                }
                node.went_on = true;
            }
        }
    }

    fn crash(&mut self, at: usize, lost: u8) {
        if !self.nodes[at].up {
            return;
        }
        // Nothing that this node would still do about the loss of its peer gets done.
        let was = self.nodes[at].clone();
        self.cut();
        self.nodes[at] = was;
        // A Secondary alone is lost with what only its cache held, too; also beside an unfinished copy.
        let other = &self.nodes[1 - at];
        let nobody_else = !other.up || other.disk <= DiskState::Inconsistent;
        let node = &mut self.nodes[at];
        let mut acknowledged = false;
        for block in 0..BLOCKS {
            if lost & 1 << block != 0 {
                let newest = core::mem::replace(&mut node.data[block], node.stable[block]);
                if node.primary || nobody_else {
                    acknowledged |= self.writes.lose(newest, node.data[block]);
                }
            }
        }
        if self.mistake != Mistake::NoActivityLog {
            node.dirty |= node.hot;
        }
        node.crashed |= node.primary;
        node.was_primary = node.primary;
        // What survived a power cut is on the medium.
        node.flush();
        self.off(at);
        if acknowledged {
            self.note("acknowledged write lost in a crash");
        }
    }

    fn off(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.up = false;
        node.primary = false;
        node.steady = false;
        node.discard = false;
        node.hot = 0;
        node.doubt();
        if self.mistake != Mistake::TrustsUnflushed {
            node.dirty |= node.unflushed | node.flushing;
        }
        (node.unflushed, node.flushing) = (0, 0);
    }

    fn power_off(&mut self, at: usize) {
        if !self.nodes[at].up {
            return;
        }
        self.demote(at);
        self.cut();
        self.nodes[at].flush();
        self.off(at);
    }

    fn boot(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.up {
            node.up = true;
            node.instance += 1;
        }
    }

    fn promote(&mut self, at: usize) {
        let node = &self.nodes[at];
        if !node.up || node.primary {
            return;
        }
        if self.link != Link::Down && self.nodes[1 - at].primary {
            return;
        }
        if !self.mirrors(at) {
            // A target, or an unfinished one, is not promotable even by force.
            if node.disk == DiskState::Inconsistent && node.generations.current != JUST_CREATED
                || self.link != Link::Down && self.link != Link::Undecided
            {
                return;
            }
            // A connected peer learns of it in a new handshake.
            self.cut();
            let fresh = self.fresh();
            let node = &mut self.nodes[at];
            if node.generations.current == JUST_CREATED {
                node.dirty = ALL;
                node.founded = true;
            }
            let keeps = self.mistake == Mistake::PromotedInOldGeneration
                && !node.generations.peer_may_have_current();
            if !keeps {
                node.generations.promoted_alone(fresh);
            }
            node.went_on = true;
            node.steady = true;
        }
        let node = &mut self.nodes[at];
        node.disk = DiskState::UpToDate;
        node.discard = false;
        node.primary = true;
    }

    fn demote(&mut self, at: usize) {
        if self.nodes[at].primary {
            self.flush_all(at);
            let node = &mut self.nodes[at];
            node.hot = 0;
            node.primary = false;
            if self.link == Link::Down {
                node.doubt();
            }
        }
    }

    fn replace(&mut self, at: usize) {
        if self.nodes[at].up {
            return;
        }
        // What was on this disk only is gone.
        for block in 0..BLOCKS {
            let (mine, other) = (self.nodes[at].data[block], self.nodes[1 - at].data[block]);
            let stable = self.nodes[1 - at].stable[block];
            self.writes.give_up(mine, other, stable);
            if self.nodes[1 - at].disk == DiskState::Inconsistent {
                // It was the only whole copy: what the other holds of it can only be overwritten.
                self.writes.give_up_all(other);
            }
        }
        let blank: [Version; BLOCKS] = core::array::from_fn(|_| self.writes.add(0));
        let node = &mut self.nodes[at];
        *node = Node {
            up: false,
            instance: node.instance,
            data: blank,
            stable: blank,
            ..Node::new(JUST_CREATED, DiskState::Inconsistent)
        };
    }

    fn declare(&mut self, missed: Option<usize>) {
        let [a, b] = &self.nodes;
        let idle = matches!(self.link, Link::Undecided | Link::Mirrored);
        if !idle || a.primary || b.primary || a.data != b.data {
            return;
        }
        let fresh = self.fresh();
        for node in &mut self.nodes {
            node.flush();
        }
        for at in (0..2).filter(|at| missed != Some(*at)) {
            let created = self.nodes[at].generations.current == JUST_CREATED;
            self.nodes[at].generations.declared_identical(fresh);
            self.in_sync(at);
            if missed.is_some() {
                // It bears what the other has never heard of.
                (self.nodes[at].went_on, self.nodes[at].founded) = (true, created);
            }
        }
        self.link = Link::Mirrored;
        if missed.is_some() {
            self.note("declaration missed");
            self.cut();
        }
    }

    fn give_up(&mut self, source: usize) {
        if self.link != Link::Mirrored || self.nodes[1 - source].primary {
            return;
        }
        let fresh = self.fresh();
        let node = &mut self.nodes[source];
        node.flush();
        node.dirty = ALL;
        // Not a split brain for nothing, if the other one is promoted before it hears of this.
        node.went_on = true;
        let given_up = node.generations.current;
        if self.mistake == Mistake::GivesUpInOneGeneration {
            node.generations.begin_source(given_up, true, fresh);
        } else {
            node.generations.peer_lost(fresh);
            node.generations.begin_source(given_up, false, fresh);
        }
        self.note("given up");
        self.link = Link::Sync {
            source,
            phase: Phase::Begun,
        };
    }

    fn now_in_sync(&mut self) {
        (0..2).for_each(|at| self.in_sync(at));
    }

    fn in_sync(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.disk = DiskState::UpToDate;
        (node.crashed, node.went_on, node.founded) = (false, false, false);
        node.steady = true;
        node.dirty = 0;
    }

    fn decide(&self, mine: &Side, peer: &Side) -> Decision {
        let found = decide(mine, peer, &self.policies);
        let equal = mine.current == peer.current && mine.is_whole() && peer.is_whole();
        let secondaries = !mine.primary && !peer.primary;
        let by_rule = |mine_wins: bool| Decision {
            verdict: if mine_wins {
                Verdict::Source { full: false }
            } else {
                Verdict::Target { full: false }
            },
            settled: Settled::ByRule,
            ..found
        };
        match self.mistake {
            Mistake::EqualIsInSync if equal && secondaries => Decision {
                verdict: Verdict::InSync,
                ..found
            },
            Mistake::EqualByName if equal && secondaries => by_rule(mine.first),
            Mistake::MergesSplitBrain if found.verdict == Verdict::SplitBrain && secondaries => {
                by_rule((mine.dirty, mine.first) > (peer.dirty, peer.first))
            }
            Mistake::TrustsUnfinished
                if found.rule == Rule::UnfinishedTarget && secondaries && mine.first =>
            {
                by_rule(true)
            }
            Mistake::TrustsUnfinished
                if found.rule == Rule::UnfinishedTarget && secondaries && peer.first =>
            {
                by_rule(false)
            }
            _ => found,
        }
    }

    fn connect(&mut self) -> Outcome {
        if self.link != Link::Down || !self.nodes.iter().all(|node| node.up) {
            return Ok(());
        }
        for at in 0..2 {
            let instance = self.nodes[1 - at].instance;
            let node = &mut self.nodes[at];
            if core::mem::replace(&mut node.peer_instance, instance) != instance {
                // Another life: what it had not flushed may be lost.
                let unflushed = core::mem::take(&mut node.unflushed);
                if self.mistake != Mistake::TrustsUnflushed {
                    node.dirty |= unflushed;
                }
            }
        }
        let [a, b] = [self.nodes[0].side(true), self.nodes[1].side(false)];
        let found = self.decide(&a, &b);
        if self.decide(&b, &a) != found.mirrored() {
            return Err(format!("the nodes disagree: {a:?} {b:?}"));
        }
        self.note(&format!("{:?}", found.rule));
        match found.settled {
            Settled::ByRule => {}
            Settled::ByDiscard => self.note("ByDiscard"),
            Settled::ByPolicy(_) => self.note("ByPolicy"),
        }
        self.conclude(found)
            .map_err(|said| format!("{said}: {found:?}\n{self:#?}"))
    }

    fn conclude(&mut self, found: Decision) -> Outcome {
        let both_went_on = self.nodes.iter().all(|node| node.went_on);
        match found.verdict {
            Verdict::Source { full } => self.begin(0, full, found.settled),
            Verdict::Target { full } => self.begin(1, full, found.settled),
            Verdict::SourceAfterDemotion => self.step_down(1),
            Verdict::TargetAfterDemotion => self.step_down(0),
            Verdict::InSync => {
                if self.nodes[0].data != self.nodes[1].data {
                    return Err("said to be in sync".to_string());
                }
                for node in &mut self.nodes {
                    node.generations.found_in_sync();
                }
                self.now_in_sync();
                self.connected(Link::Mirrored)
            }
            Verdict::NoDisk | Verdict::Undecided => self.connected(Link::Undecided),
            Verdict::SplitBrain if !both_went_on => {
                Err("a split brain, but not both went on alone".to_string())
            }
            // Two former generations are remembered: who missed a declaration long ago may be a stranger by now. That is a
            // refusal, and nothing is lost by it.
            Verdict::Unrelated
                if !self.nodes.iter().any(|node| node.founded)
                    && !self.seen.contains("declaration missed") =>
            {
                Err("unrelated, but both descend from the same data".to_string())
            }
            Verdict::SplitBrain | Verdict::Unrelated => {
                self.note("SplitBrain");
                Ok(())
            }
            Verdict::PrimaryIsTarget | Verdict::BothPrimary => {
                self.note("PrimaryIsTarget");
                Ok(())
            }
        }
    }

    fn connected(&mut self, link: Link) -> Outcome {
        self.link = link;
        for node in &mut self.nodes {
            node.discard = false;
        }
        Ok(())
    }

    /// Drops the clients and connects again as the loser.
    fn step_down(&mut self, loser: usize) -> Outcome {
        self.note("AfterDemotion");
        self.demote(loser);
        self.nodes[loser].discard = true;
        self.connect()?;
        if self.link == Link::Down && !self.nodes[1 - loser].discard {
            return Err("stepping down settled nothing".to_string());
        }
        Ok(())
    }

    fn begin(&mut self, source: usize, full: bool, settled: Settled) -> Outcome {
        let target = 1 - source;
        if self.nodes[target].primary {
            return Err("a Primary's data is overwritten".to_string());
        }
        for block in 0..BLOCKS {
            let (wins, loses) = (
                self.nodes[source].data[block],
                self.nodes[target].data[block],
            );
            if settled != Settled::ByRule {
                let stable = self.nodes[source].stable[block];
                self.writes.give_up(loses, wins, stable);
            } else if let Some(write) = self.writes.missing(loses, wins) {
                return Err(format!("write {write} to block {block} is lost"));
            }
        }
        let fresh = self.fresh();
        let theirs = self.nodes[target].dirty;
        let peer = self.nodes[target].generations.current;
        let node = &mut self.nodes[source];
        if full {
            node.dirty = ALL;
        } else if self.mistake != Mistake::NoUnion {
            node.dirty |= theirs;
        }
        node.generations.begin_source(peer, full, fresh);
        node.disk = DiskState::UpToDate;
        node.steady = true;
        self.note("resync begun");
        self.connected(Link::Sync {
            source,
            phase: Phase::Begun,
        })
    }

    fn copy(&mut self, blocks: u8) {
        self.hear_of_the_start();
        let Link::Sync {
            source,
            phase: Phase::Copying,
        } = self.link
        else {
            return;
        };
        let copied = self.nodes[source].dirty & blocks;
        for block in (0..BLOCKS).filter(|block| copied & 1 << block != 0) {
            self.nodes[1 - source].data[block] = self.nodes[source].data[block];
        }
        self.nodes[source].dirty &= !copied;
        self.nodes[source].unflushed |= copied;
    }

    /// The next message about the resync arrives.
    fn progress(&mut self) {
        let Link::Sync { source, phase } = self.link else {
            return;
        };
        let late = self.mistake == Mistake::EndNotedLate;
        let Generations {
            current, bitmap, ..
        } = self.nodes[source].generations;
        let phase = match phase {
            Phase::Begun => {
                let target = &mut self.nodes[1 - source];
                target
                    .generations
                    .begin_target(if bitmap == 0 { current } else { bitmap });
                if self.mistake != Mistake::UnfinishedNotNoted {
                    target.disk = DiskState::Inconsistent;
                }
                (target.went_on, target.founded) = (false, false);
                target.steady = false;
                Phase::Copying
            }
            Phase::Copying if self.nodes[source].dirty != 0 => Phase::Copying,
            Phase::Copying => {
                self.nodes[source].flush();
                self.nodes[source].flushing = core::mem::take(&mut self.nodes[source].unflushed);
                if !late {
                    self.nodes[source].generations.end_announced();
                }
                Phase::Announced
            }
            Phase::Announced => {
                let target = &mut self.nodes[1 - source];
                target.flush();
                target.generations.end_target(current);
                target.disk = DiskState::UpToDate;
                target.crashed = false;
                target.steady = true;
                target.dirty = 0;
                (self.nodes[source].went_on, self.nodes[source].founded) = (false, false);
                Phase::TargetDone
            }
            Phase::TargetDone => {
                let source = &mut self.nodes[source];
                if late {
                    source.generations.end_announced();
                }
                // Not what was written since the announcement.
                source.flushing = 0;
                source.crashed = false;
                self.note("resync done");
                self.link = Link::Mirrored;
                return;
            }
        };
        self.link = Link::Sync { source, phase };
    }

    /// All faults end; the operator says a word if he is asked to.
    pub fn heal(&mut self) -> Outcome {
        self.cut();
        for at in 0..2 {
            self.boot(at);
            self.demote(at);
        }
        self.connect()?;
        if self.link == Link::Undecided {
            // What is not promotable is passed over.
            self.promote(0);
            if !self.nodes[0].primary {
                self.promote(1);
            }
        } else if self.link == Link::Down {
            self.nodes[0].discard = false;
            self.nodes[1].discard = true;
        }
        self.connect()?;
        for _ in 0..5 {
            self.copy(ALL);
            self.progress();
        }
        let nobody_whole = self
            .nodes
            .iter()
            .all(|node| node.disk == DiskState::Inconsistent);
        if self.link != Link::Mirrored && !nobody_whole {
            return Err(format!("the nodes do not come together: {self:#?}"));
        }
        self.check()
            .map_err(|found| format!("{found} in the end: {self:#?}"))
    }
}
