//! The operator's commands, and everything that happens by the clock.

use super::link::Next;
use super::roles::Deferred;
use super::{Engine, text};
use crate::api::{Command, CommandId, ConnectionState, Micros, Role};
use crate::buf::Mem;

impl Engine {
    pub(super) fn command(&mut self, id: CommandId, command: Command, mem: &mut Mem<'_>) {
        match command {
            Command::Connect { discard_my_data } => self.connect(id, discard_my_data),
            Command::DryRun { discard_my_data } => self.dry_run(id, discard_my_data),
            Command::Inspect { volume } => self.inspect(id, volume, mem),
            Command::Disconnect => self.disconnect(id),
            Command::CreateMd { volume, force } if !self.attaching() => {
                self.create_md(id, volume, force, mem);
            }
            Command::Attach { volume } => self.attach(id, volume),
            Command::Detach { volume, force } => self.detach(id, volume, force, mem),
            Command::SuspendIo => self.suspend_io(id),
            Command::ResumeIo => self.resume_io(id, mem),
            Command::PauseSync { volume } => self.pause_sync(id, volume, true),
            Command::ResumeSync { volume } => self.pause_sync(id, volume, false),
            Command::VerifyAbort { volume } => self.abort_verify(id, volume),
            Command::DropSnapshot { volume } => self.drop_snapshot(id, volume, mem),
            Command::Unfence { episode } => self.unfence_by_hand(id, episode, mem),
            // Right after the boot the disks are still looked at: that is not worth a refusal.
            Command::CreateMd { .. }
            | Command::Primary { .. }
            | Command::Secondary { .. }
            | Command::NewCurrentUuid
            | Command::Verify { .. }
            | Command::Invalidate { .. }
            | Command::InvalidateRemote { .. }
            | Command::Resize { .. }
            | Command::Rollback { .. }
            | Command::Outdate => {
                let deferred = Deferred {
                    id,
                    command,
                    deadline: self.now + self.config.timers.timeout,
                };
                if self.deferred.push_back(deferred).is_err() {
                    self.done(id, Err(text!("too many commands are waiting; try again")));
                } else if matches!(command, Command::Primary { .. }) && self.role != Role::Primary {
                    self.probe_peer();
                }
            }
        }
    }

    /// Runs commands that nothing holds up.
    pub(super) fn run_deferred(&mut self, mem: &mut Mem<'_>) {
        while self.task.is_none()
            && !self.negotiating()
            && !self.attaching()
            && self.link.probe.is_none()
            && self.volumes.iter().all(|v| v.following.is_none())
            && !self.awaits_received()
            && let Some(next) = self.deferred.pop_front()
        {
            match next.command {
                Command::Primary { force } => self.promote(next.id, force, mem),
                Command::Secondary { force } => {
                    self.auto.held = true;
                    self.demote(next.id, force);
                }
                Command::NewCurrentUuid => self.declare_identical(next.id),
                Command::CreateMd { volume, force } => self.create_md(next.id, volume, force, mem),
                Command::Verify {
                    volume,
                    start,
                    stop,
                    repair,
                } => self.start_verify(next.id, volume, (start, stop), repair),
                Command::Invalidate { volume } => self.give_up(next.id, volume, false),
                Command::InvalidateRemote { volume } => self.give_up(next.id, volume, true),
                Command::Outdate => self.outdate(next.id, mem),
                Command::Rollback { volume, dry_run } => {
                    self.rollback(next.id, volume, dry_run);
                }
                Command::Resize {
                    volume,
                    size,
                    assume_clean,
                } => self.resize(next.id, volume, size, assume_clean),
                Command::Connect { .. }
                | Command::DryRun { .. }
                | Command::Inspect { .. }
                | Command::Disconnect
                | Command::Attach { .. }
                | Command::Detach { .. }
                | Command::SuspendIo
                | Command::ResumeIo
                | Command::PauseSync { .. }
                | Command::ResumeSync { .. }
                | Command::Unfence { .. }
                | Command::DropSnapshot { .. }
                | Command::VerifyAbort { .. } => {
                    unreachable!("never deferred")
                }
            }
            self.check_demotion();
        }
    }

    /// Whether the next command is a promotion, and the disk has yet to do what clients of the former Primary were answered.
    /// A generation that begins before could outlive a disk that fails in between, and pass for the newest without having it.
    fn awaits_received(&self) -> bool {
        let next = self.deferred.front();
        let promotes = next.is_some_and(|next| matches!(next.command, Command::Primary { .. }));
        promotes && !self.received_all()
    }

    fn connect(&mut self, id: CommandId, discard: bool) {
        let result = match self.try_connect(discard) {
            Ok(said) => Ok(text!("{said}")),
            Err(said) => Err(text!("{said}")),
        };
        self.done(id, result);
    }

    fn try_connect(&mut self, discard: bool) -> Result<&'static str, &'static str> {
        if discard && self.role == Role::Primary {
            return Err(
                "this node is Primary: run 'secondary' first if its changes are to be given up",
            );
        }
        self.overtake_dry_run();
        let state = self.link.state;
        if discard && state == ConnectionState::Connected {
            if self.volumes.iter().all(|v| v.mirrored || v.sync_total > 0) {
                return Err("connected and agreed on the data: nothing to discard");
            }
            self.link.discard_my_data = true;
            self.reopen_link();
            return Ok("negotiating again, ready to give up this node's changes");
        }
        self.link.discard_my_data = discard;
        if self.link.closing {
            if state == ConnectionState::StandAlone {
                self.link.state = ConnectionState::Unconnected;
            }
            self.link.next = Next::Reopen;
            return Ok("connecting");
        }
        Ok(match state {
            ConnectionState::Connected => "already connected",
            ConnectionState::StandAlone | ConnectionState::Unconnected => {
                self.link.reason.clear();
                self.open_link();
                "connecting"
            }
            ConnectionState::Connecting => "already looking for the peer",
            ConnectionState::Handshake
                if self.link.hello_sent && (self.link.told.1 != discard || self.link.told_dry) =>
            {
                // The peer has been told otherwise already.
                self.reopen_link();
                "negotiating again"
            }
            ConnectionState::Handshake => "the handshake is running",
        })
    }

    fn disconnect(&mut self, id: CommandId) {
        self.overtake_dry_run();
        self.link.discard_my_data = false;
        self.link.yields = false;
        if self.link.state == ConnectionState::StandAlone {
            return self.done(id, Ok(text!("already StandAlone")));
        }
        if self.link.up {
            self.close_link(Next::StandAlone);
        } else {
            self.stand_alone();
        }
        self.link.reason = text!("disconnected by command; 'connect' looks for the peer again");
        self.done(id, Ok(text!("disconnected")));
    }

    pub(super) fn tick(&mut self, mem: &mut Mem<'_>) {
        self.check_hangs(mem);
        self.tick_detach(mem);
        self.tick_rollbacks();
        self.tick_link();
        self.tick_dry_run();
        self.tick_inspections();
        self.tick_fence(mem);
        self.tick_task(mem);
        for _ in 0..self.deferred.len() {
            let Some(waiting) = self.deferred.pop_front() else {
                return;
            };
            if waiting.deadline > self.now {
                // There is room: one was just taken out.
                let _ = self.deferred.push_back(waiting);
            } else {
                let what = if self.negotiating() {
                    "the handshake with the peer"
                } else if self.attaching() {
                    "the reading of the disks' metadata"
                } else if self.link.probe.is_some() {
                    "the wait for a sign of life of the peer"
                } else if !self.received_all() {
                    "the writing of what the peer had sent before it was lost"
                } else {
                    "another command"
                };
                let reason = text!("{what} has not ended in time; see 'status' and try again");
                self.not_yet(waiting.id, reason);
            }
        }
    }

    /// When to send [`crate::api::Event::Tick`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Micros> {
        // Asked after every event: an array to iterate over would cost as much as all the rest.
        let mut due = Micros::MAX;
        let mut consider = |at: Option<Micros>| due = due.min(at.unwrap_or(Micros::MAX));
        consider(self.task.map(|task| task.deadline));
        for waiting in &self.deferred {
            consider(Some(waiting.deadline));
        }
        consider(self.link_deadline());
        consider(self.dry_run_deadline());
        consider(self.inspection_deadline());
        consider(self.resync_retry);
        consider(self.ahead_deadline());
        consider(self.verify_deadline());
        consider(self.attach_deadline());
        consider(self.detach_deadline());
        consider(self.rollback_deadline());
        consider(self.hang_deadline());
        consider(self.starved_until);
        consider(self.cooling_deadline());
        consider(self.fence.deadline());
        consider(self.auto_deadline());
        consider(self.notify_deadline());
        (due < Micros::MAX).then_some(due)
    }
}
