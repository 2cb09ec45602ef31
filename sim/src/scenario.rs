//! A world driven by hand: what the named scenario tests use.

use crate::plan::Plan;
use crate::request::{Kinds, Wanted};
use crate::stamp::Value;
use crate::stats::Kind;
use crate::trace::Trace;
use crate::world::{Time, World};
use replication::api::{Command, ConnectionState, DiskState, Policy, Role, Status};

/// How long a scenario waits for what must come: a minute of simulated time.
const PATIENCE: Time = 60_000_000;

impl World {
    /// A scripted world whose two nodes booted, got metadata and connected, undecided.
    #[must_use]
    pub fn pair(seed: u64, plan: Plan) -> Self {
        let mut world = Self::new(
            seed,
            plan,
            None,
            Trace::new(std::env::var_os("SIM_TRACE").is_some()),
        );
        if world.plan.fencing.policy != Policy::DontCare {
            world.with_calm_management(seed);
        }
        world.boot(0);
        world.boot(1);
        world.create_all();
        let met = |w: &mut Self| {
            let volumes = 0..w.plan.volumes.len();
            let known = |n: usize| {
                w.oracle.connected(n)
                    && volumes.clone().all(|v| {
                        let v = w.status(n).and_then(|s| s.volumes.get(v));
                        v.is_some_and(|v| {
                            let created = DiskState::Inconsistent;
                            (v.disk, v.peer_disk) == (created, created)
                        })
                    })
            };
            known(0) && known(1)
        };
        world.run_until(PATIENCE, met);
        world
    }

    /// A scripted world in sync, with node 0 as Primary.
    ///
    /// # Errors
    /// Why it did not get there.
    pub fn healthy_pair(seed: u64, plan: Plan) -> Result<Self, String> {
        let mut world = Self::pair(seed, plan);
        world.become_healthy()?;
        Ok(world)
    }

    /// The two of [`Self::pair`] get in sync, and node 0 becomes Primary.
    pub(crate) fn become_healthy(&mut self) -> Result<(), String> {
        self.command(0, Command::NewCurrentUuid)?;
        self.wait_in_sync()?;
        self.command(0, Command::Primary { force: false })?;
        Ok(())
    }

    /// Creates metadata for every volume of both nodes.
    fn create_all(&mut self) {
        for n in 0..2 {
            for volume in 0..self.plan.volumes.len() as u16 {
                let known = |w: &mut Self| w.disk(n, volume.into()) == Some(DiskState::Diskless);
                self.run_until(PATIENCE, known);
                let force = true;
                let created = self.command(n, Command::CreateMd { volume, force });
                debug_assert!(created.is_ok(), "{created:?}");
            }
        }
    }

    /// A node's state, as it said after its last event.
    #[must_use]
    pub fn status(&self, n: usize) -> Option<&Status> {
        self.oracle.status[n].as_ref()
    }

    /// A node's role.
    #[must_use]
    pub fn role(&self, n: usize) -> Option<Role> {
        self.status(n).map(|s| s.role)
    }

    /// The state of a node's disk.
    #[must_use]
    pub fn disk(&self, n: usize, volume: usize) -> Option<DiskState> {
        self.oracle.disk_state(n, volume)
    }

    /// A node's connection.
    #[must_use]
    pub fn connection(&self, n: usize) -> Option<ConnectionState> {
        self.status(n).map(|s| s.connection)
    }

    /// Runs until both nodes are UpToDate on all volumes.
    ///
    /// # Errors
    /// The broken rule, or that it did not happen.
    pub fn wait_in_sync(&mut self) -> Result<(), String> {
        self.wait("both in sync", |w| w.oracle.all_in_sync())
    }

    /// Runs until `done`, a minute at most.
    ///
    /// # Errors
    /// The broken rule, or that it did not happen.
    pub fn wait(&mut self, what: &str, done: impl FnMut(&mut Self) -> bool) -> Result<(), String> {
        let came = self.run_until(PATIENCE, done);
        match &self.violation {
            Some(v) => Err(format!("{}: {}", v.rule, v.detail)),
            None if !came => Err(format!("never came: {what}")),
            None => Ok(()),
        }
    }

    /// Submits a write of fresh stamps; the number of the request, or `None` without room.
    pub fn write(&mut self, n: usize, first: usize, count: usize, fua: bool) -> Option<u64> {
        self.plain(n, Kinds::Write, first, count, fua)
    }

    /// Submits a flush.
    pub fn flush(&mut self, n: usize) -> Option<u64> {
        self.plain(n, Kinds::Flush, 0, 0, false)
    }

    /// Submits a read.
    pub fn read(&mut self, n: usize, first: usize, count: usize) -> Option<u64> {
        self.plain(n, Kinds::Read, first, count, false)
    }

    /// Submits a discard.
    pub fn discard(&mut self, n: usize, first: usize, count: usize) -> Option<u64> {
        self.plain(n, Kinds::Discard, first, count, false)
    }

    /// Writes zeroes.
    pub fn zero(&mut self, n: usize, first: usize, count: usize) -> Option<u64> {
        self.plain(n, Kinds::WriteZeroes, first, count, false)
    }

    /// Submits a write of fresh stamps to one of several volumes.
    pub fn write_to(&mut self, n: usize, volume: usize, first: usize, count: usize) -> Option<u64> {
        self.on(n, volume, Kinds::Write, first, count, false)
    }

    fn plain(
        &mut self,
        n: usize,
        kind: Kinds,
        first: usize,
        count: usize,
        fua: bool,
    ) -> Option<u64> {
        self.on(n, 0, kind, first, count, fua)
    }

    fn on(
        &mut self,
        n: usize,
        volume: usize,
        kind: Kinds,
        first: usize,
        count: usize,
        fua: bool,
    ) -> Option<u64> {
        self.request(
            n,
            Wanted {
                kind,
                volume,
                first,
                count,
                fua,
                values: None,
            },
        )
    }

    /// Submits a request of whichever client is connected to the node, or can be.
    pub(crate) fn request(&mut self, n: usize, wanted: Wanted) -> Option<u64> {
        let connected = self.clients.iter().position(|c| c.node == Some(n));
        let c = match connected {
            Some(c) => c,
            None => {
                let c = self.clients.iter().position(|c| c.node.is_none())?;
                self.attach_client(c, n);
                c
            }
        };
        self.submit(Some(c), n, wanted)
    }

    /// Gives a command without waiting for its answer.
    pub fn order(&mut self, n: usize, command: Command) {
        self.give(n, command);
    }

    /// Whether a request has no answer yet.
    #[must_use]
    pub fn open(&self, request: u64) -> bool {
        self.requests.contains_key(&request)
    }

    /// Runs until every request is answered.
    ///
    /// # Errors
    /// The broken rule, or that it did not happen.
    pub fn wait_answers(&mut self) -> Result<(), String> {
        self.wait("all answers", |w| w.requests.is_empty())
    }

    /// Lets a client into a node.
    pub fn attach_client(&mut self, c: usize, n: usize) {
        self.clients[c].node = Some(n);
        self.later(n, 0, crate::schedule::NodeEvent::OpenClients);
    }

    /// Resets a client's connection: what it has in flight is abandoned.
    pub fn reset_client(&mut self, c: usize) {
        let node = self.clients[c].node;
        self.drop_client(c);
        if let Some(n) = node {
            self.later(n, 0, crate::schedule::NodeEvent::OpenClients);
        }
    }

    /// Holds up the network from node 0 to 1, and back.
    pub fn block_network(&mut self, there: bool, back: bool) {
        self.network.blocked = [there, back];
        self.resettle();
    }

    /// Tears the connection down; each side learns of it if told so.
    pub fn tear_link(&mut self, informed: [bool; 2]) {
        self.reset_link(informed);
    }

    /// Makes a node's disks slow for a while.
    pub fn slow_disk(&mut self, n: usize, span: Time) {
        self.nodes[n].disk_slow_until = self.now + span;
    }

    /// Makes a node's disks answer with errors now and then, for a while.
    pub fn fail_disk(&mut self, n: usize, span: Time) {
        self.nodes[n].disk_fails_until = self.now + span;
    }

    /// Makes the next flushes of a volume's disk fail: what they were to make durable never is.
    pub fn fail_flushes(&mut self, n: usize, volume: usize, count: u32) {
        self.nodes[n].disks[volume].trouble.flushes_fail = count;
    }

    /// Makes a node's disks answer nothing for a while.
    pub fn hang_disk(&mut self, n: usize, span: Time) {
        self.nodes[n].disk_hangs_until = self.now + span;
    }

    /// Makes the disk with a volume's data answer nothing for a while, and no other.
    pub fn hang_volume(&mut self, n: usize, volume: usize, span: Time) {
        self.nodes[n].disks[volume].trouble.hangs_until = self.now + span;
    }

    /// Instead of the next frame of a kind (its number in docs/PROTOCOL.md) that reaches node `n` the
    /// connection ends.
    pub fn drop_frame(&mut self, n: usize, kind: u8) {
        self.nodes[n].drops_kind = Some(kind);
    }

    /// Whether a frame that was to be dropped is still awaited.
    #[must_use]
    pub fn frame_awaited(&self, n: usize) -> bool {
        self.nodes[n].drops_kind.is_some()
    }

    /// Takes a volume's disk out of a running node.
    pub fn remove_disk(&mut self, n: usize, volume: usize) {
        self.disk_gone(n, volume);
    }

    /// Keeps copies of a node's disks.
    pub fn copy_disks(&mut self, n: usize) {
        self.take_copies(n);
    }

    /// Puts other disks into a stopped node: the copies kept, or blank ones.
    pub fn exchange_disks(&mut self, n: usize, old: bool) {
        self.replace_disks(n, old);
    }

    /// Cuts the power of both nodes in one moment.
    pub fn power_cut_of_both(&mut self) {
        self.power_cut(0);
        self.power_cut(1);
    }

    /// Crashes a node after so many more actions, counted from its next boot if it is off; it boots by itself then.
    pub fn crash_in(&mut self, n: usize, actions: u64, power_cut: bool) {
        let node = &mut self.nodes[n];
        if node.engine.is_some() {
            node.crash_after = Some((actions, power_cut));
        } else {
            node.crash_at_boot = Some((actions, power_cut));
        }
    }

    /// Whether a crash that was asked for has not come.
    #[must_use]
    pub fn crash_awaited(&self, n: usize) -> bool {
        self.nodes[n].crash_after.is_some() || self.nodes[n].crash_at_boot.is_some()
    }

    /// Lets a sector of a node's disk rot; nobody but a verify can notice.
    pub fn rot(&mut self, n: usize, sector: usize) {
        if self.nodes[n].disks[0].rot(sector, 1) {
            self.spoil(0, sector..sector + 1);
        }
    }

    /// Frames with data of a resync that have arrived so far.
    #[must_use]
    pub fn frames_of_resync(&self) -> u64 {
        self.stats.get(Kind::SyncData)
    }

    /// What a node's disk holds in a sector.
    #[must_use]
    pub fn sector(&self, n: usize, sector: usize) -> Value {
        self.nodes[n].disks[0].current()[sector]
    }

    /// Writes a sector behind everyone's back.
    pub fn corrupt(&mut self, n: usize, sector: usize, value: Value) {
        self.nodes[n].disks[0].set(sector, value);
    }
}
