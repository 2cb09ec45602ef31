//! Judges dry runs: they change nothing, and a connection that follows does what was foretold. And `inspect`: of a disk
//! that never lied it finds nothing wrong.

use crate::fault::Fault;
use crate::stamp::Value;
use crate::stats::Kind;
use crate::trace::letter;
use crate::world::{Time, World};
use replication::api::{
    Command, CommandId, ConnectionState, DiskState, ReplicationState, Role, Status, VolumeStatus,
};
use replication::lineage::{Explanation, Verdict};
use replication::ondisk::{Finding, Repair, SuperblockError, Verdict as Worth};

const BYTES: u64 = 4096;

/// What both nodes are, as far as a handshake asks.
type Situation = [Option<(u32, Role, Vec<(DiskState, u64, u64)>)>; 2];

/// A dry run as one node saw it.
#[derive(Debug)]
struct Foretold {
    found: Vec<Explanation>,
    stirs: u64,
    order: u64,
    situation: Situation,
}

/// A dry run that was asked for when nothing was under way.
#[derive(Debug)]
struct Quiet {
    node: usize,
    id: CommandId,
    stirs: u64,
    order: u64,
    durable: Vec<Vec<Value>>,
}

/// What is remembered of dry runs and looks at metadata.
#[derive(Debug, Default)]
pub(crate) struct Foretelling {
    /// Commands and faults so far.
    pub(crate) stirs: u64,
    /// The order when a connection last began: what it decides by was counted then.
    pub(crate) met: u64,
    /// When each node last came to a forecast, and to a decision.
    forecast: [Option<(u32, Time)>; 2],
    decision: [Option<(u32, Time)>; 2],
    foretold: [Option<Foretold>; 2],
    /// Blocks of each volume that each node has foretold at most: a target adds what its peer may have forgotten, which only it knows.
    most: [Vec<u64>; 2],
    /// The other node has connected as was foretold to it.
    begun: bool,
    /// Bytes that a resync from this node must have to do, at least and at most, and the order of requests until which.
    amount: [Option<(usize, u64, u64, u64)>; 2],
    quiet: Option<Quiet>,
    /// Looks at metadata that have no answer yet.
    inspects: Vec<(usize, CommandId, u16)>,
    /// The command that follows a dry run's answer.
    pub(crate) follow: Option<(usize, CommandId, bool)>,
}

impl World {
    /// A command is about to be given.
    pub(crate) fn foretelling_given(&mut self, n: usize, id: CommandId, command: Command) {
        match command {
            Command::DryRun { .. } => self.foretelling.quiet = self.quiet(n, id),
            Command::Inspect { volume } => self.foretelling.inspects.push((n, id, volume)),
            _ => self.foretelling.stirs += 1,
        }
    }

    fn quiet(&self, node: usize, id: CommandId) -> Option<Quiet> {
        let rests = |n: usize| {
            let engine = self.nodes[n].engine.as_ref();
            // A node that has not noticed yet that its connection is gone will note that, dry run or not.
            let cold = self.oracle.status[n].as_ref().is_some_and(|s| {
                let alone = !matches!(
                    s.connection,
                    ConnectionState::Connected | ConnectionState::Handshake
                );
                // Nor does a dry run stop the time in which a fence must be decided.
                let waits = s.fencing.frozen || s.fencing.promoting || s.auto_promote;
                alone && !waits && s.volumes.iter().all(|v| v.activity_hot == 0)
            });
            self.nodes[n].runs() && cold && engine.is_some_and(|e| e.is_idle() && e.is_saved())
        };
        (self.requests.is_empty() && rests(0) && rests(1)).then(|| Quiet {
            node,
            id,
            stirs: self.foretelling.stirs,
            order: self.order,
            durable: self.all_durable(),
        })
    }

    fn all_durable(&self) -> Vec<Vec<Value>> {
        let disks = self.nodes.iter().flat_map(|node| &node.disks);
        disks.map(|disk| disk.snapshot()).collect()
    }

    /// A command was answered. Returns what the operator does at once.
    pub(crate) fn foretelling_answered(
        &mut self,
        n: usize,
        id: CommandId,
        ok: bool,
    ) -> Option<Command> {
        let quiet = self
            .foretelling
            .quiet
            .take_if(|q| q.node == n && q.id == id);
        let undisturbed =
            quiet.filter(|q| ok && q.stirs == self.foretelling.stirs && q.order == self.order);
        if let Some(quiet) = undisturbed {
            self.stats.count(Kind::QuietDryRuns);
            if quiet.durable != self.all_durable() {
                let detail = format!("asked on node {}", letter(n));
                self.fail("a dry run changes nothing on any disk", detail);
            }
        }
        let inspects = &mut self.foretelling.inspects;
        if let Some(at) = inspects.iter().position(|i| (i.0, i.1) == (n, id)) {
            let (_, _, volume) = inspects.swap_remove(at);
            self.judge_inspection(n, volume);
        }
        let follow = self.foretelling.follow.take_if(|f| (f.0, f.1) == (n, id));
        let (_, _, discard_my_data) = follow.filter(|_| ok)?;
        Some(Command::Connect { discard_my_data })
    }

    fn judge_inspection(&mut self, n: usize, volume: u16) {
        let lied = Fault::ALL
            .iter()
            .any(|f| (f.spoils() || f.damages_metadata()) && self.stats.struck(*f) > 0);
        let attached = self
            .oracle
            .disk_state(n, usize::from(volume))
            .is_some_and(|disk| disk > DiskState::Negotiating);
        let found = self.nodes[n].engine.as_ref().and_then(|e| e.inspection());
        let Some((_, found)) = found.filter(|(index, _)| *index == volume) else {
            return;
        };
        let new = found.findings().any(|finding| finding == Finding::New);
        // It may have looked while the copies were written in turn: for the next save, or after a crash, which may have cut a
        // create-md short between them.
        let between = |finding: &Finding| match finding {
            Finding::Copy { repair, .. } => match repair {
                Repair::Behind { .. } => true,
                Repair::Bad(error) => new && *error == SuperblockError::Blank,
            },
            _ => false,
        };
        let wrong = |f: &Finding| f.verdict() != Worth::Good && !between(f);
        let wrong = found.findings().find(wrong);
        if lied || !attached || self.mutation.is_some() {
            return;
        }
        self.stats.count(Kind::SoundInspections);
        if let Some(wrong) = wrong {
            let detail = format!("node {} vol{volume}: {wrong}", letter(n));
            self.fail(
                "of a disk that never lied inspect finds nothing wrong",
                detail,
            );
        }
    }

    fn situation(&self) -> Situation {
        [0, 1].map(|n: usize| {
            let status = self.oracle.status[n].as_ref()?;
            let volumes = status.volumes.iter();
            let volumes = volumes.map(|v| (v.disk, v.current_uuid, v.bitmap_uuid));
            Some((self.nodes[n].boot, status.role, volumes.collect()))
        })
    }

    /// Looks at what a node decided in the step that led to `status`, before the oracle knows that. `greets`: it described
    /// itself to its peer in that step.
    pub(crate) fn judge_foretelling(&mut self, n: usize, status: &Status, greets: bool) {
        let boot = self.nodes[n].boot;
        let local = self.nodes[n].local(self.now);
        let Some(engine) = &self.nodes[n].engine else {
            return;
        };
        let (since, found) = engine.forecasts(local);
        let forecast = (!found.is_empty()).then(|| (boot, local - since));
        let (since, made) = engine.explanations(local);
        let decision = (!made.is_empty()).then(|| (boot, local - since));
        let (found, made) = (found.to_vec(), made.to_vec());
        if forecast.is_some() && forecast != self.foretelling.forecast[n] {
            self.foretelling.forecast[n] = forecast;
            self.dry_run_ended(n, found, status, greets);
        }
        if decision.is_some() && decision != self.foretelling.decision[n] {
            self.foretelling.decision[n] = decision;
            self.connection_decided(n, &made, status);
        }
        self.judge_amount(n, status);
    }

    fn dry_run_ended(&mut self, n: usize, found: Vec<Explanation>, status: &Status, greets: bool) {
        self.stats.count(Kind::DryRuns);
        // What the greeting waited for may be over because of what the fence worker did in the same step: it drops the clients
        // whose requests were awaited, say, and outdates the disks. Then what the greeting said must still be true.
        let fence_acts = |before: &Status| {
            before.fencing != status.fencing || before.fencing.saving || status.fencing.saving
        };
        let before = self.oracle.status[n].as_ref();
        if greets && before.is_some_and(fence_acts) {
            let told = |one: &Explanation| (one.mine.disk, one.mine.current, one.mine.bitmap);
            let now = |v: &VolumeStatus| (v.disk, v.current_uuid, v.bitmap_uuid);
            // Of a disk that is not what clients saw last the greeting of its Primary says less than is shown.
            let stands_in = status.role == Role::Primary && status.suspended.no_data;
            if !stands_in && found.iter().map(told).ne(status.volumes.iter().map(now)) {
                let detail = format!("node {}: {found:?}, then {status:?}", letter(n));
                self.fail("a dry run changes nothing in a node", detail);
            }
        } else if let Some(before) = before {
            // What waits for a disk to be attached is decided in the very step in which it is. And a Primary whose
            // peer was to stand in for its disk learns from any greeting that it never did, and goes on with its own.
            let waits_for_word = before.role == Role::Primary && before.suspended.no_data;
            let attached = |v: usize| {
                before.volumes.get(v).is_some_and(|v| {
                    v.disk != DiskState::Attaching
                        && !(waits_for_word && v.disk == DiskState::Outdated)
                })
            };
            // A promotion may have become durable in the very step in which the greeting could be sent.
            let serves = |s: &Status| s.role == Role::Primary && (s.serving || status.serving);
            let lineage = |s: &Status| {
                let volumes = s.volumes.iter().enumerate().filter(|(v, _)| attached(*v));
                let volumes = volumes.map(|(_, v)| (v.disk, v.current_uuid, v.bitmap_uuid));
                (s.role, serves(s), volumes.collect::<Vec<_>>())
            };
            if lineage(before) != lineage(status) {
                let detail = format!("node {}: {before:?}, then {status:?}", letter(n));
                self.fail("a dry run changes nothing in a node", detail);
            }
        }
        self.foretelling.begun = false;
        self.foretelling.most[n] = found.iter().map(|said| said.bounds(false).1).collect();
        if self.outlived(n, &found) {
            self.foretelling.foretold[n] = None;
            return;
        }
        self.foretelling.foretold[n] = Some(Foretold {
            found,
            stirs: self.foretelling.stirs,
            order: self.foretelling.met,
            situation: self.situation(),
        });
    }

    /// Whether the peer's greeting was long under way (this node stood still, or the link is slow): it has gone on to another
    /// generation meanwhile, or has taken a disk into use or out of it, and what was found is of the past.
    fn outlived(&self, n: usize, found: &[Explanation]) -> bool {
        let in_use = |disk: DiskState| disk >= DiskState::Negotiating;
        self.oracle.status[1 - n].as_ref().is_some_and(|peer| {
            let mut both = found.iter().zip(&peer.volumes);
            both.any(|(said, now)| {
                said.peer.current != now.current_uuid || in_use(said.peer.disk) != in_use(now.disk)
            })
        })
    }

    /// A handshake that was none for trial came to a decision.
    fn connection_decided(&mut self, n: usize, made: &[Explanation], status: &Status) {
        let Some(foretold) = self.foretelling.foretold[n].take() else {
            return;
        };
        let as_it_was = self.foretelling.begun || foretold.situation == self.situation();
        // A disk that has just failed may not be in use, or be in use again, when they meet.
        if foretold.stirs != self.foretelling.stirs
            || self.oracle.disks_failed()
            || !as_it_was
            || made.len() != foretold.found.len()
        {
            return;
        }
        // Asked without giving anything up, and then connected by giving it up, or the reverse.
        let discards = |one: &Explanation| (one.mine.discard, one.peer.discard);
        if foretold
            .found
            .iter()
            .map(discards)
            .ne(made.iter().map(discards))
        {
            return;
        }
        let growths = |all: &[Explanation]| all.iter().map(|one| one.grows).collect::<Vec<_>>();
        if made.iter().any(|one| one.grows.is_some()) {
            // They part so that a volume can grow, and the next time it is as was foretold.
            if growths(made) != growths(&foretold.found)
                || status.connection == ConnectionState::Connected
            {
                let (said, made) = (growths(&foretold.found), growths(made));
                let detail = format!("node {}: {said:?} and then {made:?}", letter(n));
                self.fail("a connection does what a dry run foretold", detail);
            }
            self.foretelling.foretold[n] = Some(foretold);
            return;
        }
        let waits = self.plan.fencing.notify.is_some() && status.reason.contains("handler");
        if waits && status.connection != ConnectionState::Connected {
            // They part so that a handler can run, or because it did not agree.
            self.foretelling.foretold[n] = Some(foretold);
            return;
        }
        self.foretelling.begun = true;
        self.stats.count(Kind::Foretold);
        for (v, (said, done)) in foretold.found.iter().zip(made).enumerate() {
            let verdict = said.decision.verdict;
            let now = &status.volumes[v];
            let source = now.replication.is_source();
            let target = now.replication.is_target();
            let fits = match verdict {
                _ if said.hindered_by.is_some() => status.connection != ConnectionState::Connected,
                Verdict::InSync if said.forgotten > 0 => source,
                Verdict::InSync => now.disk == DiskState::UpToDate && !source && !target,
                Verdict::Source { .. } => {
                    source || now.replication == ReplicationState::Established
                }
                Verdict::Target { .. } => target,
                _ => !source && !target,
            };
            if !fits || verdict != done.decision.verdict || said.hindered_by != done.hindered_by {
                let detail = format!(
                    "node {} vol{v}:\n{said}\nand then\n{done}\nwith {now:?}",
                    letter(n)
                );
                self.fail("a connection does what a dry run foretold", detail);
                return;
            }
            if let Verdict::Source { full } = verdict
                && said.hindered_by.is_none()
                && foretold.order == self.order
                && self.requests.is_empty()
            {
                let (least, most) = said.bounds(full);
                let theirs = self.foretelling.most[1 - n].get(v);
                let most = most.max(theirs.copied().unwrap_or(0));
                self.foretelling.amount[n] = Some((v, least, most, self.order));
            }
        }
    }

    /// A resync that was foretold has as much to do as was foretold.
    fn judge_amount(&mut self, n: usize, status: &Status) {
        let Some((v, least, most, order)) = self.foretelling.amount[n] else {
            return;
        };
        let now = &status.volumes[v];
        if now.replication == ReplicationState::WFBitMapS && order == self.order {
            return;
        }
        self.foretelling.amount[n] = None;
        let runs = matches!(
            now.replication,
            ReplicationState::SyncSource | ReplicationState::PausedSyncS
        );
        let Some(progress) = now.progress.filter(|_| runs && order == self.order) else {
            return;
        };
        self.stats.count(Kind::ForetoldBytes);
        // The last block of a volume may be a part of one.
        let blocks = progress.total.div_ceil(BYTES);
        if blocks < least || blocks > most {
            let detail = format!(
                "node {} vol{v}: {} bytes, {least} to {most} blocks foretold",
                letter(n),
                progress.total
            );
            self.fail("a resync has as much to do as a dry run foretold", detail);
        }
    }
}
