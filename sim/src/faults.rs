//! Fate: what breaks, when, and for how long.

use crate::schedule::{Occurrence, Recovery};
use crate::stats::Kind;
use crate::trace::letter;
use crate::world::{Time, World};

impl World {
    /// Draws a fault.
    pub(crate) fn fault_turn(&mut self) {
        if self.healing {
            return;
        }
        let gap = self.plan.fault_gap;
        let next = self.rng.range(gap / 10, gap * 2);
        self.schedule.push(self.now + next, Occurrence::Fault);
        let n = self.rng.index(2);
        match self.rng.below(100) {
            0..=11 => self.cut(Kind::LinkCut, [true; 2]),
            12..=19 => self.cut(Kind::LinkOneWay, [n == 0, n == 1]),
            20..=26 => {
                self.fault(Kind::LinkHalfOpen, n);
                self.reset_link([n == 0, n == 1]);
            }
            27..=36 => {
                self.fault(Kind::LinkReset, n);
                self.reset_link([true; 2]);
            }
            37..=42 => {
                self.fault(Kind::LinkSlow, n);
                self.network.slowness = self.rng.pick(&[5, 50]);
                self.end_later(Recovery::Network);
            }
            43..=47 => {
                self.fault(Kind::ReaderStall, n);
                self.nodes[n].reader_stalled = true;
                self.end_later(Recovery::Reader(n));
            }
            48..=60 => self.stop_for_a_while(n, true),
            61..=64 => {
                self.stats.count(Kind::SitePowerCut);
                self.stop_for_a_while(0, true);
                self.stop_for_a_while(1, true);
            }
            65..=69 => self.stop_for_a_while(n, false),
            70..=73 if self.nodes[n].runs() => {
                self.fault(Kind::CrashAtAction, n);
                self.nodes[n].crash_after = Some(self.rng.below(40));
            }
            74..=83 => {
                let clock_ran = self.rng.coin();
                if self.nodes[n].runs() {
                    self.fault(
                        if clock_ran {
                            Kind::PauseClockRuns
                        } else {
                            Kind::Pause
                        },
                        n,
                    );
                    self.pause(n);
                    self.end_later(Recovery::Resume { node: n, clock_ran });
                }
            }
            84..=86 if self.nodes[n].link.is_some() => {
                self.fault(Kind::LinkGarbage, n);
                self.nodes[n].garbles = true;
            }
            84..=92 => {
                self.fault(Kind::DiskSlow, n);
                self.nodes[n].disk_slow_until = self.now + self.duration();
            }
            _ if self.plan.disk_errors => {
                let other_is_good = self.oracle.worth(1 - n).is_some();
                if other_is_good && !self.oracle.disks_failed() {
                    self.nodes[n].disk_fails_until = self.now + self.duration();
                }
            }
            _ => {}
        }
    }

    fn fault(&mut self, kind: Kind, n: usize) {
        self.stats.count(kind);
        self.trace.line(self.now, "FAULT", || {
            format!("{kind:?} at node {}", letter(n))
        });
    }

    fn cut(&mut self, kind: Kind, blocked: [bool; 2]) {
        self.fault(kind, usize::from(!blocked[0]));
        self.network.blocked = blocked;
        self.end_later(Recovery::Network);
    }

    /// Short ones end before anybody's timeout, long ones after.
    fn duration(&mut self) -> Time {
        let t = self.plan.timers.timeout;
        if self.rng.one_in(3) {
            self.rng.range(t / 20, t / 2)
        } else {
            self.rng.range(t, t * 4)
        }
    }

    fn end_later(&mut self, recovery: Recovery) {
        let duration = self.duration();
        self.schedule
            .push(self.now + duration, Occurrence::Recover(recovery));
    }

    /// Stops a node, and boots it some time later.
    pub(crate) fn stop_for_a_while(&mut self, n: usize, power_cut: bool) {
        if self.nodes[n].engine.is_none() {
            return;
        }
        // Nobody replaces the only good disk: the other one must be settled, not about to be resynced.
        let spare = self.oracle.all_in_sync() || self.oracle.is_primary(1 - n);
        if power_cut {
            self.stats.count(Kind::PowerCut);
            self.power_cut(n);
        } else {
            self.stats.count(Kind::Kill);
            self.kill(n);
        }
        let other_is_good =
            self.oracle.worth(1 - n).is_some() && self.nodes[1 - n].engine.is_some();
        if spare && other_is_good && !self.oracle.split() && self.rng.one_in(10) {
            self.fault(Kind::BlankDisk, n);
            for disk in &mut self.nodes[n].disks {
                disk.blank();
            }
            self.oracle.blanked(n);
        }
        let mut duration = self.duration();
        if self.rng.one_in(4) {
            duration = self.rng.range(100, 20_000);
        }
        self.schedule
            .push(self.now + duration, Occurrence::Recover(Recovery::Boot(n)));
    }

    /// Cuts a node's power: its memory is gone, and part of what its disks did not flush.
    pub fn power_cut(&mut self, n: usize) {
        self.trace.line(self.now, "FAULT", || {
            format!("power cut of node {}", letter(n))
        });
        self.judge_survivors(n);
        for v in 0..self.nodes[n].disks.len() {
            let node = &mut self.nodes[n];
            match node.disks[v].power_cut(&mut self.rng, &node.memory) {
                Ok(lost) if lost > 0 => self.stats.count(Kind::LostUnflushed),
                Ok(_) => {}
                Err(detail) => {
                    self.fail("only what clients wrote is written, in its place", detail)
                }
            }
        }
        self.stop(n, true);
        self.judge_survivors(n);
    }

    /// Kills a node; its disks keep what they completed (as SIGKILL of QEMU does).
    pub fn kill(&mut self, n: usize) {
        self.trace.line(self.now, "FAULT", || {
            format!("node {} is killed", letter(n))
        });
        for v in 0..self.nodes[n].disks.len() {
            let node = &mut self.nodes[n];
            if let Err(detail) = node.disks[v].kill(&mut self.rng, &node.memory) {
                self.fail("only what clients wrote is written, in its place", detail);
            }
        }
        self.stop(n, false);
    }

    fn stop(&mut self, n: usize, power_cut: bool) {
        self.nodes[n].power_off();
        self.drop_clients_of(n);
        self.requests.retain(|_, r| r.node != n);
        self.oracle.stopped(n, power_cut);
        self.resettle();
    }

    /// Freezes a node: nothing reaches it, its clock may or may not go on.
    pub fn pause(&mut self, n: usize) {
        if self.nodes[n].runs() {
            self.trace.line(self.now, letter(n), || "pauses".into());
            self.nodes[n].paused_since = Some(self.now);
        }
    }

    /// Ends every fault there is.
    pub fn end_faults(&mut self) {
        self.recover(Recovery::Network);
        for n in 0..2 {
            self.nodes[n].disk_slow_until = 0;
            self.nodes[n].disk_fails_until = 0;
            self.nodes[n].crash_after = None;
            self.nodes[n].garbles = false;
            self.recover(Recovery::Reader(n));
            self.resume(n, true);
            if self.oracle.has_failed(n) && self.nodes[n].engine.is_some() {
                // Without a verb to attach a disk again, its replacement needs a restart.
                self.kill(n);
            }
            self.boot(n);
        }
    }
}
