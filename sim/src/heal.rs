//! The end of every run: faults stop, and the pair must become healthy within a bound.

use crate::request::{Kinds, Wanted};
use crate::schedule::Occurrence;
use crate::stamp::SECTOR;
use crate::world::{Time, World};
use replication::api::{Command, VerifyReport};
use std::collections::BTreeSet;

/// Simulated time within which a pair must be in sync again once faults ended, in timeouts and
/// in microseconds on top.
const BOUND_TIMEOUTS: u64 = 40;
const BOUND: Time = 20_000_000;
/// Events until then at most: more means that something spins.
const BOUND_STEPS: u64 = 3_000_000;

impl World {
    /// Heals everything and judges the outcome.
    pub fn heal(&mut self) {
        if self.violation.is_some() {
            return;
        }
        self.trace.line(self.now, "HEAL", || {
            "all faults end, no new requests".into()
        });
        self.healing = true;
        // What a disk that hung, or was slow, has not completed it completes then: perhaps too late for its node.
        let late = |n: &crate::node::Node| n.disk_hangs_until.max(n.disk_late_until);
        let late = self.nodes.iter().map(late).max();
        let late = late.unwrap_or(0).saturating_sub(self.now);
        // What is on its way on a slow link comes late too, and what comes behind it waits for it.
        let on_the_way = 4 * self.plan.net_delay.1 * self.network.slowness;
        self.end_faults();
        if self.plan.operator_gap == 0 {
            self.plan.operator_gap = 50_000;
            self.schedule.push(self.now, Occurrence::Operator);
        }
        // A command that tears them apart may have been given just now.
        self.run_for(late + on_the_way + 1_000);
        let bound =
            BOUND + BOUND_TIMEOUTS * (self.plan.timers.timeout + self.plan.timers.connect_interval);
        // Who still holds clients' requests back takes none to be answered below.
        let held = |w: &Self| (0..2).any(|n| w.oracle.suspended(n).user);
        let healthy = |w: &mut Self| {
            w.oracle.all_in_sync() && w.requests.is_empty() && !held(w) && !w.waiting()
        };
        if !self.run_until(bound, healthy) {
            self.fail_unhealthy("once faults end, both nodes are UpToDate within a bound");
            return;
        }
        if !self.oracle.is_serving(0) && !self.oracle.is_serving(1) {
            let served = |w: &mut Self| w.oracle.is_serving(0) || w.oracle.is_serving(1);
            if !self.run_until(bound, served) {
                self.fail_unhealthy("a healthy pair can be promoted without force");
                return;
            }
        }
        if !self.run_until(bound, |w| w.fences_are_over()) {
            self.fail_unhealthy("a held fence is given back when all is well again");
            return;
        }
        self.end_verifies();
        self.grow_all(bound);
        self.repair(bound);
        self.scrub(bound);
        self.closing_write(bound);
        self.check_rest();
    }

    /// A verify of a large volume would go on for long.
    fn end_verifies(&mut self) {
        for n in 0..2 {
            for volume in 0..self.plan.volumes.len() {
                if self
                    .verified(n, volume)
                    .is_some_and(|report| report.running)
                {
                    let volume = volume as u16;
                    // It may have come to its end meanwhile.
                    let _ = self.command(n, Command::VerifyAbort { volume });
                }
            }
        }
    }

    fn verified(&self, n: usize, volume: usize) -> Option<VerifyReport> {
        let status = self.oracle.status[n].as_ref()?;
        status.volumes.get(volume)?.verify
    }

    /// Where a disk lied the replicas may differ: a verify with repair finds it and makes them equal. Whether what
    /// they then hold is right nobody could say.
    fn repair(&mut self, bound: Time) {
        let n = usize::from(self.oracle.is_primary(1));
        for volume in 0..self.plan.volumes.len() {
            let places = self.plan.volumes[volume].places;
            if self.oracle.spoiled[volume].is_empty() || places.sectors != places.volume() {
                continue;
            }
            let verified = self.verify_all(n, volume, bound)
                // A node that was away when the faults ended may have taken the connection with it.
                || (self.run_until(bound, |w| w.oracle.all_in_sync())
                    && self.verify_all(n, volume, bound));
            if !verified {
                self.fail_unhealthy("a verify of a healthy pair comes to its end");
                return;
            }
            let differs = |s: &usize| {
                let [a, b] = [0, 1].map(|n: usize| self.nodes[n].disks[volume].current()[*s]);
                a != b
            };
            if let Some(sector) = (0..places.sectors).find(differs) {
                let detail = format!("vol{volume} sector {sector}");
                self.fail("a verify with repair leaves the replicas equal", detail);
            }
        }
    }

    /// Compares all of a volume; answers whether that came to its end.
    fn verify_all(&mut self, n: usize, volume: usize, bound: Time) -> bool {
        let answer = self.command(
            n,
            Command::Verify {
                volume: volume as u16,
                start: Some(0),
                stop: None,
                repair: true,
            },
        );
        let report = |w: &Self| w.verified(n, volume);
        answer.is_ok()
            && self.run_until(bound, |w| {
                report(w).is_some_and(|r| r.finished || !r.running)
            })
            && report(self).is_some_and(|r| r.finished)
    }

    /// Where a disk lied the replicas may differ, and no mirror without checksums of data could know: the
    /// client writes there again, and from then on everything counts.
    fn scrub(&mut self, bound: Time) {
        let n = usize::from(self.oracle.is_serving(1));
        for volume in 0..self.plan.volumes.len() {
            let unit = self.plan.volumes[volume].block_size as usize / SECTOR as usize;
            let scar = self.plan.volumes[volume].scar();
            let spoiled = std::mem::take(&mut self.oracle.spoiled[volume]);
            let blocks: BTreeSet<usize> = spoiled
                .iter()
                .filter(|sector| !scar.contains(sector))
                .map(|s| s / unit * unit)
                .collect();
            self.oracle.spoiled[volume] = spoiled;
            for first in blocks {
                let kind = Kinds::Write;
                let written = self.request(
                    n,
                    Wanted {
                        kind,
                        volume,
                        first,
                        count: unit,
                        fua: true,
                        values: None,
                    },
                );
                let answered = self.run_until(bound, |w| w.requests.is_empty());
                if written.is_none() || !answered {
                    self.fail_unhealthy("every request is answered");
                    return;
                }
            }
            // Nobody writes where metadata was before a growth.
            self.oracle.spoiled[volume].retain(|sector| scar.contains(sector));
        }
    }

    /// One more write, flush and read through whoever serves.
    fn closing_write(&mut self, bound: Time) {
        let n = usize::from(self.oracle.is_serving(1));
        for kind in [Kinds::Write, Kinds::Flush, Kinds::Read] {
            let count = if kind == Kinds::Flush { 0 } else { 8 };
            let wanted = Wanted {
                kind,
                volume: 0,
                first: 0,
                count,
                fua: false,
                values: None,
            };
            // What was answered ahead of the peer (protocol A) reaches it first: more could make a congested link be left.
            let caught_up = |w: &mut Self| {
                let nodes = w.oracle.status.iter().flatten();
                let mut volumes = nodes.flat_map(|status| &status.volumes);
                volumes.all(|volume| volume.lag_bytes == 0)
            };
            if !self.run_until(bound, caught_up) {
                self.fail_unhealthy("what was answered reaches the peer");
            }
            let taken = self.request(n, wanted).is_some();
            if !taken || !self.run_until(bound, |w| w.requests.is_empty()) {
                self.fail_unhealthy("every request is answered");
            }
        }
        let idle = |w: &mut Self| {
            w.nodes.iter().all(|n| n.disks.iter().all(|d| !d.busy())) && !w.waiting()
        };
        if !self.run_until(bound, idle) {
            self.fail_unhealthy("an idle pair leaves its disks alone");
        }
    }

    /// Nothing is under way: everything must be in order, and stay so.
    fn check_rest(&mut self) {
        self.run_for(self.plan.timers.timeout * 3);
        if self.violation.is_some() {
            return;
        }
        if !self.oracle.all_in_sync() {
            self.fail_unhealthy("a healthy pair stays so");
            return;
        }
        for volume in 0..self.plan.volumes.len() {
            self.judge_in_sync(volume, false);
        }
        self.judge_sizes();
        for n in 0..2 {
            let pool = &self.nodes[n].pool;
            let kept = self.nodes[n]
                .engine
                .as_ref()
                .map_or(0, |e| e.metadata_bytes());
            if pool.free_bytes() + kept != pool.total_bytes() {
                let detail = format!(
                    "node {}: {} of {} bytes are not back",
                    crate::trace::letter(n),
                    pool.total_bytes() - pool.free_bytes() - kept,
                    pool.total_bytes()
                );
                self.fail("all buffers are back in the pool at rest", detail);
            }
        }
    }

    fn fail_unhealthy(&mut self, rule: &'static str) {
        let mut detail = format!("{} requests are open", self.requests.len());
        for (n, status) in self.oracle.status.iter().enumerate() {
            let letter = crate::trace::letter(n);
            let Some(s) = status else { continue };
            detail += &format!(
                "\n    {letter}: {:?} {:?} {:?}",
                s.role,
                s.connection,
                s.reason.as_str()
            );
            if self.management.is_some() {
                detail += &format!("\n      {:?}", s.fencing);
            }
            for v in &s.volumes {
                detail += &format!(
                    "\n      vol{}: {:?}/{:?} {:?} out of sync {} uuid {:x}/{:x}",
                    v.index,
                    v.disk,
                    v.peer_disk,
                    v.replication,
                    v.out_of_sync,
                    v.current_uuid,
                    v.bitmap_uuid
                );
            }
            let (pool, standing) = (&self.nodes[n].pool, &self.oracle.standing[n]);
            let (free, all) = (pool.free_bytes(), pool.total_bytes());
            detail += &format!("\n      memory free {free} of {all}; the oracle: {standing:?}");
        }
        for r in self.requests.values().take(3) {
            detail += &format!(
                "\n    open at {} since {}: {:?}",
                crate::trace::letter(r.node),
                r.since,
                r.wanted
            );
        }
        self.fail(rule, detail);
    }

    /// Runs for a span of simulated time.
    pub fn run_for(&mut self, span: Time) {
        let until = self.now + span;
        while self.schedule.next_at().is_some_and(|at| at <= until) && self.step() {}
        self.now = self.now.max(until);
    }

    /// Runs until `done`, at most for `span`; answers whether it came to pass.
    pub fn run_until(&mut self, span: Time, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now + span;
        for _ in 0..BOUND_STEPS {
            if self.violation.is_some() {
                return true;
            }
            if done(self) {
                return true;
            }
            if self.schedule.next_at().is_none_or(|at| at > until) {
                self.now = until;
                return done(self);
            }
            self.step();
        }
        self.fail(
            "simulated time goes on",
            "too many events in too little time".into(),
        );
        false
    }

    /// Gives a command and runs until it is answered, or for ten timeouts.
    ///
    /// # Errors
    /// The node's refusal, or that there was no answer.
    pub fn command(&mut self, n: usize, command: Command) -> Result<String, String> {
        let id = self.give(n, command);
        let span = self.plan.timers.timeout * 10;
        let answered = |w: &mut Self| w.operator.last.as_ref().is_some_and(|l| l.0 == id);
        if self.run_until(span, answered)
            && let Some((_, result)) = self.operator.last.clone()
        {
            return result;
        }
        Err("no answer".into())
    }
}
