//! Crashes at the moments that matter: drawn at any time, they strike when the node next gets there, within so many actions.

use crate::fault::Fault;
use crate::rng::Rng;
use crate::trace::letter;
use crate::world::World;
use replication::api::{Action, DiskOp, Status};
use replication::wire::Frame;

/// Actions after the moment within which the crash comes: so it strikes before, amid and after what the moment sets off.
const ACTIONS: u64 = 14;

/// A crash that waits for its moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appointment {
    /// The fault; [`Fault::at_a_moment`].
    fault: Fault,
    /// Actions of the node from the moment on before it crashes.
    after: u64,
    /// Whether its disks lose power too.
    power_cut: bool,
}

impl Appointment {
    pub(crate) fn draw(fault: Fault, rng: &mut Rng) -> Self {
        Self {
            fault,
            after: rng.below(ACTIONS),
            power_cut: rng.percent(70),
        }
    }
}

impl World {
    /// A node is where this fault may wait for it.
    pub(crate) fn moment(&mut self, n: usize, fault: Fault) {
        let due = self.nodes[n].crash_when.filter(|a| a.fault == fault);
        if let Some(Appointment {
            after, power_cut, ..
        }) = due
            && !self.healing
        {
            self.nodes[n].crash_when = None;
            self.nodes[n].crash_after = Some((after, power_cut));
            self.stats.fault(fault);
            self.trace.line(self.now, "FAULT", || {
                format!("node {}: {} (in {after} actions)", letter(n), fault.name())
            });
        }
    }

    /// Moments that show in what a node says of itself.
    pub(crate) fn moments_of(&mut self, n: usize, before: &Status, status: &Status) {
        if self.nodes[n].crash_when.is_none() {
            return;
        }
        if before.role != status.role {
            self.moment(n, Fault::CrashAtRole);
        }
        for (was, now) in before.volumes.iter().zip(&status.volumes) {
            let resyncs = |r: replication::api::ReplicationState| r.is_source() || r.is_target();
            match (resyncs(was.replication), resyncs(now.replication)) {
                (false, true) => self.moment(n, Fault::CrashAtResyncStart),
                (true, false) => self.moment(n, Fault::CrashAtResyncEnd),
                _ => {}
            }
            if now.activity_hot < was.activity_hot {
                self.moment(n, Fault::CrashAtCooling);
            }
        }
    }

    /// Moments that show in what an engine wants done.
    pub(crate) fn moment_of_action(&mut self, n: usize, action: &Action) {
        if self.nodes[n].crash_when.is_none() {
            return;
        }
        match action {
            Action::Send {
                frame: Frame::SyncEnd { .. },
                ..
            } => self.moment(n, Fault::CrashAtResyncEnd),
            Action::Meta {
                volume,
                op: DiskOp::Write { offset, .. },
                ..
            } if *offset == self.metadata_now(n, (*volume).into()).1.superblock_a => {
                self.moment(n, Fault::CrashAtSave);
            }
            _ => {}
        }
    }
}
