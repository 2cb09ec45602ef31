//! Fate: what breaks, when, and for how long.

use crate::disk::Misdeed;
use crate::fault::{Drawn, Fault};
use crate::moment::Appointment;
use crate::record::Id;
use crate::rng::Rng;
use crate::schedule::{Occurrence, Recovery};
use crate::world::{Time, World};
use replication::api::DiskState;
use replication::lineage::JUST_CREATED;

/// Highest number of a kind of frame that a link may lose (numbers that are none wait in vain).
const FRAME_KINDS: u64 = 40;

impl World {
    /// The n-th fault's time has come.
    pub(crate) fn fault_turn(&mut self, number: u32) {
        if self.healing {
            return;
        }
        let Some(drawn) = self.plan.fates.nth(number) else {
            return;
        };
        let next = self.now + drawn.gap;
        self.schedule.push(next, Occurrence::Fault(number + 1));
        let fault = drawn.fault;
        if self.possible(&drawn) && self.allows(Id::Fault(number), fault.name(), drawn.node) {
            if !fault.at_a_moment() {
                self.stats.fault(fault);
            }
            self.foretelling.stirs += 1;
            self.strike(drawn);
        }
    }

    /// Whether a fault means anything now.
    fn possible(&self, drawn: &Drawn) -> bool {
        let n = drawn.node;
        let node = &self.nodes[n];
        match drawn.fault {
            Fault::LinkHalfOpen
            | Fault::LinkReset
            | Fault::LinkReaderStops
            | Fault::LinkFlap
            | Fault::LinkDropKind
            | Fault::LinkTruncated
            | Fault::LinkCorrupt => node.link.is_some(),
            Fault::LinkCut
            | Fault::LinkOneWay
            | Fault::LinkClog
            | Fault::LinkDropsKind
            | Fault::LinkSlow
            | Fault::LinkOtherVersion => true,
            Fault::SitePowerCut => self.nodes.iter().any(|n| n.engine.is_some()),
            Fault::PowerCut | Fault::Kill | Fault::CrashAtBoot => node.engine.is_some(),
            Fault::CrashAtAction | Fault::Pause | Fault::PauseClockRuns | Fault::ClockJump => {
                node.runs()
            }
            Fault::CrashInHandshake
            | Fault::CrashAtResyncStart
            | Fault::CrashAtResyncEnd
            | Fault::CrashAtRole
            | Fault::CrashAtCooling
            | Fault::CrashAtSave => node.crash_when.is_none(),
            Fault::DiskSlow | Fault::DiskHang => true,
            Fault::DiskErrors | Fault::FlushFails | Fault::DiskGone | Fault::LatentSector => {
                // Two broken disks at once leave nothing to judge.
                self.oracle.worth(1 - n).is_some() && !self.oracle.disks_failed()
            }
            Fault::BitRot
            | Fault::WriteLost
            | Fault::WriteMisdirected
            | Fault::ReadMisdirected
            | Fault::ReadStale
            | Fault::BitmapRot
            | Fault::MetaMisread => node.engine.is_some(),
            Fault::BlankDisk | Fault::OldDisk => self.dispensable(n),
        }
    }

    /// Nobody replaces the only good disk: the other one must be settled, not about to be resynced.
    fn dispensable(&self, n: usize) -> bool {
        let spare = self.oracle.all_in_sync() || self.oracle.is_primary(1 - n);
        // Not one that says itself that this node's disk is all it has.
        let own = |v| self.oracle.disk_state(1 - n, v) == Some(DiskState::UpToDate);
        let other_is_good = self.oracle.worth(1 - n).is_some()
            && self.nodes[1 - n].engine.is_some()
            && (0..self.plan.volumes.len()).all(own);
        spare && other_is_good && !self.oracle.split() && self.nodes[n].engine.is_some()
    }

    fn strike(&mut self, drawn: Drawn) {
        let Drawn {
            fault,
            node: n,
            mut rng,
            ..
        } = drawn;
        let span = self.duration(&mut rng);
        let until = self.now + span;
        match fault {
            Fault::LinkCut => self.cut([true; 2], span),
            Fault::LinkOneWay => self.cut([n == 0, n == 1], span),
            Fault::LinkHalfOpen => self.reset_link([n == 0, n == 1]),
            Fault::LinkReset => self.reset_link([true; 2]),
            Fault::LinkSlow => {
                self.network.slowness = rng.pick(&[5, 50]);
                self.end_later(Recovery::Network, span);
            }
            Fault::LinkClog => {
                let t = self.plan.timers.timeout;
                let both = rng.coin();
                self.cut([both || n == 0, both || n == 1], rng.range(t / 50, t / 3));
            }
            Fault::LinkReaderStops => {
                self.nodes[n].reader_stalled = true;
                self.end_later(Recovery::Reader(n), span);
            }
            Fault::LinkFlap => {
                // What an old connection left behind at the disks meets the next ones, and what is sent again.
                let mut at = 0;
                for _ in 0..rng.range(2, 6) {
                    let informed = rng.pick(&[[true; 2], [true, false], [false, true]]);
                    self.end_later(Recovery::Reset(informed), at);
                    at += self.plan.net_delay.1 * rng.range(1, 20);
                }
            }
            Fault::LinkDropKind => {
                self.nodes[n].drops_kind = Some(rng.range(1, FRAME_KINDS) as u8);
            }
            Fault::LinkDropsKind => {
                let kind = rng.range(1, FRAME_KINDS) as u8;
                self.nodes[n].drops_kind_until = Some((kind, until));
            }
            Fault::LinkTruncated => self.nodes[n].truncates = true,
            Fault::LinkCorrupt => self.nodes[n].garbles = Some(rng.next()),
            Fault::LinkOtherVersion => {
                self.nodes[n].other_version_until = until;
                self.reset_link([true; 2]);
            }
            Fault::PowerCut => self.stop_for(n, true, outage(span, &mut rng)),
            Fault::SitePowerCut => {
                for n in 0..2 {
                    let span = self.duration(&mut rng);
                    self.stop_for(n, true, outage(span, &mut rng));
                }
            }
            Fault::Kill => self.stop_for(n, false, outage(span, &mut rng)),
            Fault::CrashAtAction => {
                self.nodes[n].crash_after = Some((rng.below(40), rng.coin()));
            }
            Fault::CrashAtBoot => {
                self.stop_for(n, true, outage(span, &mut rng));
                self.nodes[n].crash_at_boot = Some((rng.below(25), rng.coin()));
            }
            Fault::CrashInHandshake
            | Fault::CrashAtResyncStart
            | Fault::CrashAtResyncEnd
            | Fault::CrashAtRole
            | Fault::CrashAtCooling
            | Fault::CrashAtSave => {
                self.nodes[n].crash_when = Some(Appointment::draw(fault, &mut rng));
            }
            Fault::Pause | Fault::PauseClockRuns => {
                let clock_ran = fault == Fault::PauseClockRuns;
                self.pause(n);
                self.end_later(Recovery::Resume { node: n, clock_ran }, span);
            }
            Fault::ClockJump => self.clock_jump(n, span * rng.pick(&[1, 10])),
            Fault::DiskSlow => self.nodes[n].disk_slow_until = until,
            Fault::DiskHang => self.nodes[n].disk_hangs_until = until + span * rng.below(3),
            Fault::DiskErrors => self.nodes[n].disk_fails_until = until,
            Fault::FlushFails => {
                let volume = rng.index(self.plan.volumes.len());
                self.nodes[n].disks[volume].trouble.flushes_fail = rng.pick(&[1, 1, 3]);
            }
            Fault::DiskGone => {
                let volume = rng.index(self.plan.volumes.len());
                self.disk_gone(n, volume);
            }
            Fault::LatentSector => {
                let volume = rng.index(self.plan.volumes.len());
                let disk = &mut self.nodes[n].disks[volume];
                let sector = rng.index(disk.sectors());
                disk.trouble.latent.insert(sector);
            }
            Fault::BitRot => self.bit_rot(n, &mut rng),
            Fault::BitmapRot => {
                self.stop_for(n, rng.coin(), outage(span, &mut rng));
                self.bitmap_rot(n, &mut rng);
            }
            Fault::MetaMisread => self.meta_misread(n, &mut rng),
            Fault::WriteLost => self.arm(n, Misdeed::LoseWrite, &mut rng),
            Fault::WriteMisdirected => {
                let misdeed = Misdeed::WriteElsewhere(rng.next());
                self.arm(n, misdeed, &mut rng);
            }
            Fault::ReadMisdirected => {
                let misdeed = Misdeed::ReadElsewhere(rng.next());
                self.arm(n, misdeed, &mut rng);
            }
            Fault::ReadStale => self.arm(n, Misdeed::StaleRead, &mut rng),
            Fault::BlankDisk => {
                self.stop_for(n, rng.coin(), outage(span, &mut rng));
                self.replace_disks(n, false);
            }
            Fault::OldDisk => {
                self.stop_for(n, rng.coin(), outage(span, &mut rng));
                self.replace_disks(n, true);
            }
        }
    }

    fn cut(&mut self, blocked: [bool; 2], span: Time) {
        self.network.blocked = blocked;
        self.end_later(Recovery::Network, span);
    }

    /// Short ones end before anybody's timeout, long ones after.
    fn duration(&self, rng: &mut Rng) -> Time {
        let t = self.plan.timers.timeout;
        if rng.one_in(3) {
            rng.range(t / 20, t / 2)
        } else {
            rng.range(t, t * 4)
        }
    }

    fn end_later(&mut self, recovery: Recovery, span: Time) {
        self.schedule
            .push(self.now + span, Occurrence::Recover(recovery));
    }

    /// Stops a node, and boots it some time later.
    pub(crate) fn stop_for(&mut self, n: usize, power_cut: bool, span: Time) {
        if self.nodes[n].engine.is_none() {
            return;
        }
        if power_cut {
            self.power_cut(n);
        } else {
            self.kill(n);
        }
        self.end_later(Recovery::Boot(n), span);
    }

    /// The crash between two actions of one step.
    pub(crate) fn crash(&mut self, n: usize, power_cut: bool) {
        let mut rng = Rng::new(self.rng.next());
        let span = self.duration(&mut rng);
        self.stop_for(n, power_cut, outage(span, &mut rng));
    }

    fn arm(&mut self, n: usize, misdeed: Misdeed, rng: &mut Rng) {
        let volume = rng.index(self.plan.volumes.len());
        self.nodes[n].disks[volume].trouble.lie = Some(misdeed);
    }

    pub(crate) fn disk_gone(&mut self, n: usize, volume: usize) {
        self.nodes[n].disks[volume].trouble.gone = true;
        self.oracle.disk_failed(n, None);
        // Perhaps without power: if it comes back nobody vouches for what it had in its cache.
        self.oracle.unbroken[n][volume] = false;
        if self.nodes[n].runs() {
            let volume = volume as u16;
            self.feed(
                n,
                replication::api::Event::DiskChanged {
                    volume,
                    metadata: false,
                    size: 0,
                },
            );
        }
    }

    fn clock_jump(&mut self, n: usize, by: Time) {
        // A node's clock is monotonic: it jumps ahead only.
        let node = &mut self.nodes[n];
        node.clock_ahead += by;
        node.tick_at = None;
        let timeout = node.engine.as_ref().and_then(|e| e.poll_timeout());
        self.set_tick(n, timeout);
    }

    /// Another disk takes the place of a stopped node's: a blank one, or a copy from some time ago.
    ///
    /// Only a copy of a generation that is long over can be told from the disk as it was last (so that it gets a
    /// full resync): whoever puts another one back must create new metadata on it (docs/FAULT_MODEL.md), as the
    /// operator here does.
    pub(crate) fn replace_disks(&mut self, n: usize, old: bool) {
        for volume in 0..self.plan.volumes.len() {
            let (meta, _) = self.place_of_metadata(volume);
            let places = self.superblocks(volume);
            let now = self.metadata(n, volume, None);
            let then = self.metadata(n, volume, Some(&self.nodes[n].copies));
            let peer = self.metadata(1 - n, volume, None);
            let known = match (now, then, peer) {
                (Some(now), Some(then), Some(peer)) => {
                    let over = ![now.current, peer.current, peer.bitmap].contains(&then.current);
                    over && then.current != JUST_CREATED
                        && then.bitmap == 0
                        && then.disk != DiskState::Inconsistent
                }
                _ => false,
            };
            self.fencing_forgotten(n);
            let node = &mut self.nodes[n];
            for at in [volume, self.plan.volumes.len() + volume] {
                let disk = &mut node.disks[at];
                if old {
                    disk.restore(&node.copies[at]);
                } else {
                    disk.blank();
                }
            }
            if !known {
                for place in places {
                    node.disks[meta].wipe(place);
                }
            }
        }
        self.oracle.blanked(n);
    }

    /// Keeps a copy of a node's disks now and then, for [`Fault::OldDisk`].
    pub(crate) fn take_copies(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.copies = node.disks.iter().map(crate::disk::Disk::snapshot).collect();
    }

    /// Cuts a node's power: its memory is gone, and part of what its disks did not flush.
    pub fn power_cut(&mut self, n: usize) {
        self.say_fault(n, "power cut");
        self.judge_survivors(n);
        for v in 0..self.nodes[n].disks.len() {
            let node = &mut self.nodes[n];
            match node.disks[v].power_cut(&mut self.rng, &node.memory) {
                Ok(lost) if lost > 0 => self.stats.count(crate::stats::Kind::LostUnflushed),
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
        self.say_fault(n, "killed");
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
        let unfinished: Vec<bool> = (0..self.plan.volumes.len())
            .map(|v| {
                let found = self.metadata(n, v, None);
                found.is_some_and(|s| s.disk == DiskState::Inconsistent)
            })
            .collect();
        let now = self.order;
        self.oracle.stopped(n, power_cut, &unfinished, now);
        for volume in 0..self.plan.volumes.len() {
            self.judge_marks(volume);
        }
        self.resettle();
    }

    /// Freezes a node: nothing reaches it, its clock may or may not go on.
    pub fn pause(&mut self, n: usize) {
        if self.nodes[n].runs() {
            self.trace
                .line(self.now, crate::trace::letter(n), || "pauses".into());
            self.nodes[n].paused_since = Some(self.now);
        }
    }

    /// Ends every fault there is.
    pub fn end_faults(&mut self) {
        self.recover(Recovery::Network);
        self.end_management_faults();
        for n in 0..2 {
            let node = &mut self.nodes[n];
            node.disk_slow_until = 0;
            node.disk_hangs_until = 0;
            node.disk_fails_until = 0;
            node.other_version_until = 0;
            node.crash_after = None;
            node.crash_at_boot = None;
            node.crash_when = None;
            node.garbles = None;
            node.drops_kind = None;
            node.drops_kind_until = None;
            node.truncates = false;
            for disk in &mut node.disks {
                disk.trouble = crate::disk::Trouble::default();
            }
            self.recover(Recovery::Reader(n));
            self.resume(n, true);
            self.boot(n);
        }
    }
}

/// How long a node stays away: as long as other faults, or a moment.
fn outage(span: Time, rng: &mut Rng) -> Time {
    if rng.one_in(4) {
        rng.range(100, 20_000)
    } else {
        span
    }
}
