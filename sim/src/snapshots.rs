//! Snapshots of resyncs' targets, and operators who go back to them.
//!
//! Everything here is drawn from a stream of random numbers of its own, and only in a run with snapshots: a seed without
//! draws what it always drew. The judge keeps what a target's disk had when its snapshot was taken, by its own look
//! at the disk, and compares that with the disk after a rollback.

use crate::plan::Plan;
use crate::rng::Rng;
use crate::stamp::{SECTOR, Value};
use crate::stats::Kind;
use crate::trace::letter;
use crate::world::World;
use replication::api::{Command, ConnectionState, Protocol, SnapshotPolicy, SnapshotStage, Status};
use std::collections::BTreeSet;

/// A disk as it was when its snapshot was taken.
#[derive(Debug, Clone)]
struct Old {
    content: Vec<Value>,
    /// Sectors of which a write was under way or in the disk's cache: a power cut may have taken it.
    loose: BTreeSet<usize>,
}

/// What the operator draws, and the judge remembers.
#[derive(Debug)]
pub struct Snapshots {
    rng: Rng,
    old: [Vec<Option<Old>>; 2],
}

/// The plan's reserves and policies, from their own stream.
pub fn draw(seed: u64, plan: &mut Plan) {
    let mut rng = Rng::new(seed ^ 0x736e_6170);
    for volume in plan.volumes.iter_mut().filter(|v| v.small.is_none()) {
        let blocks = (volume.places.volume() as u64 * SECTOR).div_ceil(4096);
        let groups = blocks.div_ceil(336);
        // Of a large volume only islands are used.
        let most = (blocks + 2 * groups).min(700);
        let all = most >= blocks + 2 * groups;
        volume.reserve = rng.pick(&[most, most, most, most / 2, most / 8, 5]);
        let whole = all && volume.reserve == most;
        volume.snapshot = [0, 1].map(|_| {
            if whole && rng.coin() {
                SnapshotPolicy::Required
            } else if rng.percent(85) {
                SnapshotPolicy::BestEffort
            } else {
                SnapshotPolicy::Off
            }
        });
    }
    // Who forces the wrong node gives up what nobody could then tell from the old content.
    plan.reckless = false;
}

impl World {
    /// Lets nodes be rolled back.
    pub fn with_snapshots(&mut self, seed: u64) {
        let none = vec![None; self.plan.volumes.len()];
        self.snapshots = Some(Snapshots {
            rng: Rng::new(seed ^ 0x726f_6c6c),
            old: [none.clone(), none],
        });
    }

    /// The operator looks at the snapshots; answers whether he did something.
    pub(crate) fn snapshot_turn(&mut self) -> bool {
        let Some(snapshots) = &mut self.snapshots else {
            return false;
        };
        let n = snapshots.rng.index(2);
        let whim = snapshots.rng.below(12);
        let dry_run = snapshots.rng.one_in(5);
        let Some(status) = self.oracle.status[n].as_ref() else {
            return false;
        };
        if !self.nodes[n].runs() {
            return false;
        }
        let stage = |v: &replication::api::VolumeStatus| v.snapshot.map(|report| report.stage);
        let with = |wanted| {
            let found = status.volumes.iter().find(|v| stage(v) == Some(wanted));
            found.map(|volume| volume.index)
        };
        let (held, stuck) = (with(SnapshotStage::Held), with(SnapshotStage::Stuck));
        let connected = status.connection == ConnectionState::Connected;
        let command = match (held.or(stuck), whim) {
            _ if stuck.is_some() && (self.healing || whim < 4) => {
                stuck.map(|volume| Command::DropSnapshot { volume })
            }
            _ if self.healing => None,
            (Some(_), 0..=2) if connected => Some(Command::Disconnect),
            (Some(volume), 0..=6) if !connected => Some(Command::Rollback { volume, dry_run }),
            (Some(volume), 11) => Some(Command::DropSnapshot { volume }),
            _ => None,
        };
        let Some(command) = command else {
            return false;
        };
        self.give(n, command);
        true
    }

    /// Keeps a target's old content, and compares it after a rollback.
    pub(crate) fn judge_snapshots(&mut self, n: usize, before: Option<&Status>, status: &Status) {
        if self.snapshots.is_none() {
            return;
        }
        for (v, now) in status.volumes.iter().enumerate() {
            let was = before.and_then(|b| b.volumes.get(v));
            let stage = |v: &replication::api::VolumeStatus| v.snapshot.map(|report| report.stage);
            let (now, was) = (stage(now), was.and_then(stage));
            if now == was {
                continue;
            }
            let taken = now == Some(SnapshotStage::Held)
                && matches!(was, Some(SnapshotStage::Empty | SnapshotStage::RolledBack));
            if taken {
                self.stats.count(Kind::SnapshotsTaken);
                let disk = &self.nodes[n].disks[v];
                let old = Old {
                    content: disk.current().to_vec(),
                    loose: disk.unsettled(),
                };
                if let Some(snapshots) = &mut self.snapshots {
                    snapshots.old[n][v] = Some(old);
                }
            }
            if now == Some(SnapshotStage::RolledBack) {
                self.compare_old(n, v);
            }
        }
    }

    fn compare_old(&mut self, n: usize, v: usize) {
        self.stats.count(Kind::RolledBack);
        let old = self.snapshots.as_ref().and_then(|s| s.old[n][v].clone());
        // By protocols A and B what came before may still be waiting for its turn when the snapshot is taken.
        let judged = self.plan.mirroring.protocol == Protocol::C && !self.oracle.amnesty;
        let Some(old) = old.filter(|_| judged) else {
            return;
        };
        self.stats.count(Kind::OldContent);
        let spoiled = &self.oracle.spoiled[v];
        let now = self.nodes[n].disks[v].current();
        let differs = (0..now.len()).find(|sector| {
            let known = !spoiled.contains(sector) && !old.loose.contains(sector);
            known && now[*sector] != old.content[*sector]
        });
        if let Some(sector) = differs {
            let detail = format!(
                "node {} vol{v} sector {sector}: {} instead of {}",
                letter(n),
                crate::stamp::describe(now[sector]),
                crate::stamp::describe(old.content[sector])
            );
            self.fail("a rollback gives the old content back", detail);
        }
    }

    /// Counts what a node says in its log of its snapshots.
    pub(crate) fn count_snapshots(&mut self, text: &str) {
        if self.snapshots.is_none() {
            return;
        }
        let words = [
            (
                "the snapshot is dropped: its reserve",
                Kind::SnapshotsDropped,
            ),
            ("UpToDate; the snapshot is dropped", Kind::SnapshotsEnded),
            ("was cut off is done again", Kind::RollbacksAgain),
        ];
        for (_, kind) in words.iter().filter(|(word, _)| text.contains(word)) {
            self.stats.count(*kind);
        }
    }
}
