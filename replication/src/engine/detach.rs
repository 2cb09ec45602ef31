//! Disks that an operator takes out of use, and into it again.
//!
//! A detach in good order has clients wait while what is under way on the disk ends, both disks are flushed and the
//! activity log is emptied; then the superblock says that nobody crashed on it. So the metadata tells
//! exactly which blocks the peer lacks, and a disk that is attached again later gets exactly what was written
//! meanwhile.

use super::attach::Attach;
use super::volume::Volume;
use super::{Engine, text};
use crate::api::{CommandId, DiskState, Level, Micros, Role, Text};
use crate::buf::Mem;

/// A detach under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detaching {
    id: CommandId,
    deadline: Micros,
    /// Nothing is under way: the superblock is being told that this node leaves.
    leaving: bool,
}

impl Volume {
    /// Whether a Primary is about to leave the disk behind in good order.
    pub fn leaving(&self) -> bool {
        self.detaching.is_some_and(|detaching| detaching.leaving)
    }

    /// The disk of a Primary was attached again: it is good if it has what clients saw last and can have lost nothing
    /// of it.
    pub fn reattached(&mut self) {
        let through = &mut self.through;
        let newest = self.gens.current == through.exposed && through.exposed == through.offered;
        if newest && through.sound {
            self.disk = DiskState::UpToDate;
            self.crashed = false;
            self.through.end();
        } else {
            through.stale = true;
            self.disk = self.disk.min(DiskState::Outdated);
        }
    }
}

impl Engine {
    pub(super) fn attach(&mut self, id: CommandId, index: u16) {
        match self.start_attach(index) {
            Ok(at) => {
                let deadline = self.now + self.config.timers.timeout;
                self.volumes[at].attach_command = Some((id, deadline));
            }
            Err(reason) => self.done(id, Err(reason)),
        }
    }

    fn start_attach(&mut self, index: u16) -> Result<usize, Text> {
        let Some(at) = self.volume_by_index(index) else {
            return Err(text!("there is no vol{index} in the configuration"));
        };
        let now = self.now;
        let volume = &mut self.volumes[at];
        match &volume.attach {
            _ if volume.config.disk_bytes == 0 => {
                return Err(text!(
                    "vol{index} has no disk in the configuration of this node"
                ));
            }
            Attach::Attached => return Err(text!("vol{index} is attached already")),
            Attach::Due(_) | Attach::Reading { .. } | Attach::Creating(_) => {
                return Err(text!("vol{index} is being attached: see 'status'"));
            }
            Attach::NoDisk | Attach::Blank(_) | Attach::Stuck(_) | Attach::Detached => {}
        }
        if volume.ops > 0 {
            return Err(text!(
                "vol{index}: the disk has not answered {} operations yet and could still carry them out: wait, or reset it by restarting this node",
                volume.ops
            ));
        }
        volume.meta = None;
        volume.attach = Attach::Due(now);
        Ok(at)
    }

    /// The disk is attached, or cannot be: the operator who asked for it is told.
    pub(super) fn attach_ended(&mut self, at: usize, result: Result<(), Text>) {
        let volume = &mut self.volumes[at];
        volume.through.here = super::through::Doubt::default();
        if let Some((id, _)) = volume.attach_command.take() {
            let (index, disk) = (volume.config.index, volume.disk);
            self.done(id, result.map(|()| text!("vol{index}: attached, {disk:?}")));
        }
    }

    pub(super) fn detach(&mut self, id: CommandId, index: u16, force: bool, mem: &mut Mem<'_>) {
        let Some(at) = self.volume_by_index(index) else {
            let reason = text!("there is no vol{index} in the configuration");
            return self.done(id, Err(reason));
        };
        let (connected, primary) = (self.connected(), self.role == Role::Primary);
        let deadline = self.now + self.config.timers.timeout;
        let volume = &mut self.volumes[at];
        let result = if !volume.usable() {
            match volume.attach {
                Attach::NoDisk | Attach::Blank(_) if volume.config.disk_bytes > 0 => {
                    volume.attach = Attach::Detached;
                    volume.disk = DiskState::Diskless;
                    self.tell_state();
                    Ok(text!("vol{index}: detached"))
                }
                Attach::NoDisk | Attach::Blank(_) | Attach::Detached => {
                    Ok(text!("vol{index} has no disk in use"))
                }
                _ => Err(text!(
                    "vol{index} is being attached: wait a moment and try again"
                )),
            }
        } else if force {
            if let Some(other) = volume.detaching.take() {
                self.done(other.id, Err(text!("'detach --force' overtook this")));
            }
            self.left(at, mem);
            Ok(text!("vol{index}: detached, as if the disk had failed"))
        } else if volume.detaching.is_some() {
            Err(text!("vol{index} is being detached"))
        } else if !(connected && volume.peer_disk == DiskState::UpToDate) {
            let peer = &self.config.peer;
            Err(text!(
                "vol{index}: no good disk would be left, since that of peer {peer} is not UpToDate: see 'status', or use --force"
            ))
        } else {
            volume.detaching = Some(Detaching {
                id,
                deadline,
                leaving: false,
            });
            if primary && let Some(meta) = &mut volume.meta {
                meta.log.drain(true);
            }
            return;
        };
        self.done(id, result);
    }

    /// Brings the detaches under way further.
    pub(super) fn check_detach(&mut self, mem: &mut Mem<'_>) {
        for at in 0..self.volumes.len() {
            let Some(detaching) = self.volumes[at].detaching else {
                continue;
            };
            if !self.quiet(at) {
                continue;
            }
            if self.role == Role::Primary && !detaching.leaving {
                self.volumes[at].detaching = Some(Detaching {
                    leaving: true,
                    ..detaching
                });
                self.save(at, mem);
                if self.volumes[at].saving() {
                    continue;
                }
            }
            self.volumes[at].detaching = None;
            self.left(at, mem);
            let index = self.volumes[at].config.index;
            self.done(detaching.id, Ok(text!("vol{index}: detached")));
        }
    }

    /// Whether nothing is under way on a volume's disk, and its metadata is in order.
    fn quiet(&mut self, at: usize) -> bool {
        let primary = self.role == Role::Primary;
        if primary && self.clients_at_work(at) {
            return false;
        }
        let meta = self.volumes[at].meta.as_mut();
        meta.is_none_or(|meta| {
            if primary {
                meta.leave_in_order()
            } else {
                !meta.saving()
            }
        })
    }

    /// The disk is out of use.
    fn left(&mut self, at: usize, mem: &mut Mem<'_>) {
        let index = self.volumes[at].config.index;
        self.log(
            Level::Warn,
            text!("vol{index}: the disk is detached by command"),
        );
        self.drop_disk(at, DiskState::Diskless, Attach::Detached, mem);
    }

    /// Commands wait for a bounded time.
    pub(super) fn tick_detach(&mut self, mem: &mut Mem<'_>) {
        for at in 0..self.volumes.len() {
            let now = self.now;
            let volume = &mut self.volumes[at];
            let index = volume.config.index;
            let ops = volume.ops;
            if let Some((id, deadline)) = volume.attach_command
                && deadline <= now
            {
                volume.attach_command = None;
                let reason = text!(
                    "vol{index}: the disk still works on it ({ops} operations): see 'status'"
                );
                self.done(id, Err(reason));
            }
            if let Some(Detaching { id, deadline, .. }) = self.volumes[at].detaching
                && deadline <= now
            {
                self.end_detaching(at, mem);
                let reason = text!(
                    "vol{index}: {ops} operations are still under way on the disk, so it stays attached: try again, or use --force"
                );
                self.done(id, Err(reason));
            }
        }
    }

    /// The disk stays in use.
    fn end_detaching(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        volume.detaching = None;
        if let Some(meta) = &mut volume.meta {
            meta.log.drain(false);
        }
        self.save(at, mem);
    }

    /// A detach under way cannot go on: the disk failed, or the peer that was to stand in for it.
    pub(super) fn stop_detaching(&mut self, at: usize, why: &str, mem: &mut Mem<'_>) {
        if let Some(Detaching { id, .. }) = self.volumes[at].detaching {
            let index = self.volumes[at].config.index;
            self.end_detaching(at, mem);
            self.done(id, Err(text!("vol{index}: {why}")));
        }
    }

    pub(super) fn detach_deadline(&self) -> Option<Micros> {
        let of = |volume: &Volume| {
            let detach = volume.detaching.map(|detaching| detaching.deadline);
            let attach = volume.attach_command.map(|(_, deadline)| deadline);
            detach.into_iter().chain(attach).min()
        };
        self.volumes.iter().filter_map(of).min()
    }

    pub(super) fn suspend_io(&mut self, id: CommandId) {
        let said = if core::mem::replace(&mut self.suspended_by_user, true) {
            text!("clients' requests wait already")
        } else {
            text!(
                "clients' requests wait until 'resume-io'; {} under way go on",
                self.clients_live
            )
        };
        self.done(id, Ok(said));
    }

    pub(super) fn resume_io(&mut self, id: CommandId, mem: &mut Mem<'_>) {
        let was = core::mem::take(&mut self.suspended_by_user);
        let was = self.thaw_by_hand(mem) || was;
        // Whatever happened meanwhile, what is written from now on bears its own generation.
        for at in 0..self.volumes.len() {
            self.ensure_generation(at, mem);
        }
        let no_data = self.suspended().no_data;
        let said = match (was, no_data) {
            (true, true) => text!(
                "clients' requests still wait for good data: see 'status'; once more 'resume-io' answers them with errors"
            ),
            (false, true) => {
                self.errors_by_user = true;
                text!(
                    "clients' requests that no good disk can serve are answered with errors, until there is one"
                )
            }
            (true, false) => text!("clients' requests go on"),
            (false, false) => text!("clients' requests do not wait"),
        };
        self.done(id, Ok(said));
    }
}
