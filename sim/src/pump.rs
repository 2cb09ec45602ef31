//! The pump around an engine: events in, actions out, as the kernel's tasks do it.

use crate::schedule::NodeEvent;
use crate::stats::Kind;
use crate::trace::letter;
use crate::world::{Time, World};
use replication::api::{Action, DiskError, DiskOp, Event, Party};
use replication::buf::{Mem, PoolMemory};
use replication::wire::Frame;

impl World {
    /// Gives an event to a node's engine and does what it wants done.
    pub(crate) fn feed(&mut self, n: usize, event: Event) {
        let node = &mut self.nodes[n];
        let local = node.local(self.now);
        let Some(engine) = node.engine.as_mut() else {
            return;
        };
        if self.violation.is_some() {
            return;
        }
        if let Event::Frame {
            frame: Frame::Hello(hello),
            ..
        } = &event
        {
            self.oracle.heard_discard[n] = hello.discard_my_data;
        }
        if !matches!(event, Event::Tick) {
            self.trace
                .line(self.now, letter(n), || format!("<- {event:?}"));
        }
        let mut mem = Mem::new(&mut node.pool, &mut node.memory);
        engine.handle(local, event, &mut mem);
        self.drain(n);
    }

    /// Does what a node's engine wants done.
    pub(crate) fn drain(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let local = node.local(self.now);
        let Some(engine) = node.engine.as_mut() else {
            return;
        };
        let mut actions = std::mem::take(&mut self.actions);
        while let Some(action) = engine.poll_action() {
            actions.push(action);
        }
        engine.check_invariants();
        let status = engine.status(local);
        let timeout = engine.poll_timeout();
        self.scribble(n);
        let hello = |action: &Action| {
            matches!(
                action,
                Action::Send {
                    frame: Frame::Hello(_),
                    ..
                }
            )
        };
        let greets = actions.iter().any(hello);
        self.judge_foretelling(n, &status, greets);
        self.observe(n, status);
        let mut crashed = false;
        for action in actions.drain(..) {
            self.moment_of_action(n, &action);
            if let Some((left, power_cut)) = self.nodes[n].crash_after {
                self.nodes[n].crash_after = left.checked_sub(1).map(|left| (left, power_cut));
                if left == 0 {
                    // The rest of the step's actions dies with the node.
                    self.crash(n, power_cut);
                    crashed = true;
                    break;
                }
            }
            self.perform(n, action);
        }
        self.actions = actions;
        if !crashed {
            self.set_tick(n, timeout);
        }
    }

    pub(crate) fn set_tick(&mut self, n: usize, timeout: Option<Time>) {
        let late = self.rng.below(4) * 100;
        let node = &mut self.nodes[n];
        let at = timeout.map(|t| node.world_time(t));
        if at == node.tick_at {
            return;
        }
        node.tick += 1;
        node.tick_at = at;
        let number = node.tick;
        if let Some(at) = at {
            let delay = at.saturating_sub(self.now).max(1) + late;
            self.later(n, delay, NodeEvent::Tick(number));
        }
    }

    /// Writes rubbish over free memory, so that a buffer used after it was freed shows.
    fn scribble(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if self.rng.one_in(3)
            && let Some(buf) = node.pool.alloc(4096)
        {
            node.memory.bytes_mut(buf.view()).fill(0xdb);
            node.pool.free(buf);
        }
    }

    fn perform(&mut self, n: usize, action: Action) {
        match &action {
            Action::Log { level, text } => {
                self.trace
                    .line(self.now, letter(n), || format!("log {level:?}: {text}"));
            }
            other => self
                .trace
                .line(self.now, letter(n), || format!("-> {other:?}")),
        }
        match action {
            Action::Disk { token, volume, op } => {
                self.disk_start(n, usize::from(volume), token, op)
            }
            Action::Meta { token, volume, op } => {
                let volume = usize::from(volume);
                let external = self.plan.volumes.get(volume).is_some_and(|v| v.external);
                let behind = if external { self.plan.volumes.len() } else { 0 };
                self.disk_start(n, behind + volume, token, op);
            }
            Action::Size { volume, size } => {
                self.size_told(n, usize::from(volume), size);
            }
            Action::Send { frame, payload } => self.send(n, frame, payload),
            Action::Reply { id, result, buf } => self.replied(n, id, result, buf),
            Action::OpenLink => self.open_link(n),
            Action::CloseLink => self.close_link(n),
            Action::Serve(on) => {
                self.nodes[n].serving = on;
                if !on {
                    self.drop_clients_of(n);
                } else {
                    self.nobody_waits(n, true);
                }
            }
            // Nobody reads it.
            Action::Snapshot { .. } => {}
            // Its clients connect again in any case.
            Action::RefuseClients => self.nobody_waits(n, false),
            Action::CommandDone { id, result } => self.command_done(n, id, &result),
            Action::Ask { to, request } => self.asks(n, to, request),
            Action::Answer { to, token, answer } => match to {
                Party::Peer => self.answers(n, to, token, &answer),
                Party::Arbiter => self.answers_arbiter(n, token, &answer),
            },
            Action::Log { text, .. } => {
                if text.starts_with("promoted by itself") {
                    self.stats.count(Kind::ClientsPromote);
                }
                self.count_snapshots(&text);
            }
        }
    }

    fn disk_start(&mut self, n: usize, disk: usize, token: u32, op: replication::api::DiskOp) {
        let drive = self.nodes[n].disks.get(disk);
        if drive.is_some_and(|d| d.changes_data(&op)) {
            self.judge_target(n, disk);
        }
        let early = self.rng.coin();
        let node = &mut self.nodes[n];
        let fails = self.now < node.disk_fails_until && self.rng.one_in(4);
        let error = fails.then_some(DiskError::Io);
        let Some(drive) = node.disks.get_mut(disk) else {
            self.fail("the engine uses only its volumes", format!("disk {disk}"));
            return;
        };
        if let Err(detail) = drive.start(token, op, early, error, &node.memory) {
            self.fail("only what clients wrote is written, in its place", detail);
            return;
        }
        let (low, high) = match op {
            DiskOp::Flush => self.plan.flush_delay,
            _ => self.plan.disk_delay,
        };
        let mut delay = self.rng.range(low, high);
        if self.now < self.nodes[n].disk_slow_until {
            delay += self.rng.below(self.plan.timers.timeout * 2);
            let node = &mut self.nodes[n];
            node.disk_late_until = node.disk_late_until.max(self.now + delay);
        }
        self.later(n, delay, NodeEvent::DiskDone { disk, token });
    }

    pub(crate) fn disk_done(&mut self, n: usize, disk: usize, token: u32) {
        let node = &self.nodes[n];
        let disk_hangs = node.disks.get(disk).map_or(0, |d| d.trouble.hangs_until);
        let hangs_until = node.disk_hangs_until.max(disk_hangs);
        if self.now < hangs_until {
            let rest = hangs_until - self.now;
            self.later(n, rest, NodeEvent::DiskDone { disk, token });
            return;
        }
        let misdeed = self.draw_misdeed(n, disk);
        let node = &mut self.nodes[n];
        let Some(drive) = node.disks.get_mut(disk) else {
            return;
        };
        let lie = drive.take_lie(token);
        match drive.complete(token, &mut node.memory, lie.or(misdeed)) {
            Ok(Some(done)) => {
                if lie.is_some() {
                    self.say_fault(n, "its disk lies");
                    self.fencing_forgotten(n);
                    for range in done.spoiled {
                        self.spoil(disk, range);
                    }
                }
                if done.result.is_err() {
                    let data = disk < self.plan.volumes.len();
                    let loses = (done.flush && data).then_some(disk);
                    self.oracle.disk_failed(n, loses);
                    if data && !done.changed.is_empty() {
                        self.received_in_vain(n, disk);
                    }
                }
                self.feed(
                    n,
                    Event::DiskDone {
                        token,
                        result: done.result,
                        all_zero: done.all_zero,
                    },
                );
                self.judge_equal(disk, done.changed);
            }
            Ok(None) => {}
            Err(detail) => self.fail("only what clients wrote is written, in its place", detail),
        }
    }
}
