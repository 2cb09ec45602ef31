//! Verify: both nodes' disks are compared while they are in use.
//!
//! It runs on the node that all writes pass through (the Primary, or either of two Secondaries), so the range
//! lock of a run keeps out every write that could make the two disks differ for a moment: what it reports is so.
//! With `repair` the blocks that differ are sent under the same lock, as a client's write would be: the
//! peer's disk is UpToDate all the while, and gets better block by block.
//!
//! Where it is goes to the superblock now and then and when it stops; the next one goes on from there.

use super::slots::{Compare, Local, Op, SlotId};
use super::worker::Budget;
use super::{Engine, text};
use crate::api::{CommandId, Level, Micros, ReplicationState, Role, Text, VerifyReport};
use crate::buf::{Mem, PAGE};
use fencing::Event;
use resync::digest::Digest;
use resync::{BLOCK, Bitmap, MAX_RUN, Run, Side, Verify, VerifyOptions};

/// Pause after one of the nodes had no memory for a run.
const BUSY_PAUSE: Micros = 10_000;
/// How often the position is saved while it runs.
const SAVE_EVERY: Micros = 10_000_000;
/// Ranges that differ which are written to the log one by one.
const LOGGED: usize = 16;

/// A volume's verify: the running one, or the last.
#[derive(Debug)]
pub(super) struct Verifying {
    pub state: Verify,
    pub active: bool,
    pub repair: bool,
    /// Where the next one begins; what the superblock says.
    pub cursor: u64,
    /// Not before that time another run is started.
    pub retry_at: Micros,
    key: Digest,
    repaired: u64,
    /// One ran since this node started.
    ran: bool,
    finished: bool,
    /// Why it was stopped, until that was logged.
    stopped: Option<&'static str>,
    save_at: Micros,
    /// The state has no use for a bitmap without repair of its own kind.
    unused: Bitmap,
}

impl Verifying {
    pub fn new() -> Self {
        Self {
            state: Verify::new(0, VerifyOptions::default()),
            active: false,
            repair: false,
            cursor: 0,
            retry_at: 0,
            key: [0; 16],
            repaired: 0,
            ran: false,
            finished: false,
            stopped: None,
            save_at: 0,
            unused: Bitmap::new(0),
        }
    }

    /// What it has found.
    pub fn report(&self) -> Option<VerifyReport> {
        let unreadable = |side| self.state.unreadable_ranges(side).bytes();
        self.ran.then(|| VerifyReport {
            running: self.active,
            finished: self.finished,
            position: self.state.position(),
            compared: self.state.total_bytes() - self.state.left_bytes(),
            differing_blocks: self.state.differing_blocks(),
            repaired_blocks: self.repaired,
            unreadable_bytes: unreadable(Side::Here) + unreadable(Side::Peer),
        })
    }
}

impl super::volume::Volume {
    /// Stops a running verify; the next one goes on where it was.
    pub fn stop_verify(&mut self, why: &'static str) {
        let verify = &mut *self.verify;
        if core::mem::take(&mut verify.active) {
            verify.cursor = verify.state.position();
            verify.stopped = Some(why);
            self.progress = None;
        }
    }
}

impl Engine {
    /// `verify`.
    pub(super) fn start_verify(
        &mut self,
        id: CommandId,
        index: u16,
        range: (Option<u64>, Option<u64>),
        repair: bool,
    ) {
        let Some(at) = self.volume_by_index(index) else {
            return self.done(id, Err(text!("there is no vol{index}")));
        };
        if let Err(why) = self.may_verify(at) {
            return self.done(id, Err(why));
        }
        let key = self.digest_key();
        let now = self.now;
        let volume = &mut self.volumes[at];
        let size = volume.size;
        let verify = &mut *volume.verify;
        let start = range.0.unwrap_or(verify.cursor).min(size);
        let stop = range.1.unwrap_or(size).min(size);
        if start >= stop {
            let reason =
                text!("nothing lies between {start} and {stop}: vol{index} has {size} bytes");
            return self.done(id, Err(reason));
        }
        let options = VerifyOptions {
            start,
            stop,
            repair: false,
        };
        verify.state.restart(size, options);
        (verify.active, verify.ran, verify.finished) = (true, true, false);
        (verify.repair, verify.repaired, verify.key) = (repair, 0, key);
        (verify.retry_at, verify.stopped) = (0, None);
        verify.save_at = now + SAVE_EVERY;
        volume.begin_progress(now);
        let what = if repair {
            "verify with repair"
        } else {
            "verify"
        };
        let said = text!("vol{index}: {what} from byte {start} to {stop} has begun; see 'status'");
        self.log(Level::Info, said.clone());
        self.tell_state();
        self.done(id, Ok(said));
    }

    fn may_verify(&self, at: usize) -> Result<(), Text> {
        let volume = &self.volumes[at];
        let index = volume.config.index;
        if !self.connected() {
            return Err(text!(
                "the peer is not connected: see 'status', and try again when it is"
            ));
        }
        if volume.verify.active {
            return Err(text!(
                "a verify of vol{index} runs already; 'verify vol{index} --abort' ends it"
            ));
        }
        if volume.peer_verifies {
            return Err(text!("the peer verifies vol{index}: see 'status' there"));
        }
        if self.peer_role == Role::Primary || self.granted {
            return Err(text!(
                "the peer is Primary, and all writes pass through it: run 'verify' there"
            ));
        }
        let in_sync = volume.mirrored && volume.replication == ReplicationState::Established;
        if !in_sync {
            return Err(text!(
                "vol{index} is not in sync with the peer, so there is nothing to verify; see 'status'"
            ));
        }
        Ok(())
    }

    /// `verify --abort`.
    pub(super) fn abort_verify(&mut self, id: CommandId, index: u16) {
        let Some(at) = self.volume_by_index(index) else {
            return self.done(id, Err(text!("there is no vol{index}")));
        };
        let volume = &mut self.volumes[at];
        if !volume.verify.active {
            let reason = if volume.peer_verifies {
                text!("the peer runs the verify of vol{index}: end it there")
            } else {
                text!("no verify of vol{index} runs")
            };
            return self.done(id, Err(reason));
        }
        volume.stop_verify("the operator ended it");
        let cursor = volume.verify.cursor;
        let said = text!("ended at byte {cursor}; 'verify vol{index}' goes on from there");
        self.done(id, Ok(said));
    }

    /// The peer is about to become Primary: from then on writes do not pass through this node.
    pub(super) fn stop_verifies(&mut self, why: &'static str) {
        for volume in &mut self.volumes {
            volume.stop_verify(why);
        }
    }

    /// Starts as many runs as there is room for.
    pub(super) fn pump_verify(&mut self, at: usize, budget: &mut Budget, mem: &mut Mem<'_>) {
        let now = self.now;
        while !budget.is_spent() && self.volumes[at].has_work(now) {
            // The digests' page first: a run that took the last memory could never be compared.
            let Some(digests) = self.run_buffer(PAGE, mem) else {
                return;
            };
            let Some(mut buf) = self.run_buffer(MAX_RUN, mem) else {
                return mem.free(digests);
            };
            let verify = &mut self.volumes[at].verify;
            let run = verify.state.next(buf.len());
            let Some(run) = run.filter(|run| run.len <= buf.len()) else {
                if let Some(run) = run {
                    // It was given out before, when there was more memory.
                    verify.state.again(run);
                    verify.retry_at = now + BUSY_PAUSE;
                }
                mem.free(digests);
                return mem.free(buf);
            };
            buf.set_len(run.len);
            self.start_run(at, Op::Verify, run, (buf, Some(digests)), budget);
        }
    }

    /// A run was read here, or could not be.
    pub(super) fn verify_read_done(&mut self, id: SlotId, mem: &mut Mem<'_>) {
        let connected = self.connected();
        let slot = self.slots.at(id);
        let verify = &self.volumes[slot.volume].verify;
        if slot.local == Local::Failed || !connected || !verify.active {
            return self.finish_if_done(id, mem);
        }
        let (key, repair) = (verify.key, verify.repair);
        self.ask_which_differ(id, &key, mem);
        // What was read is needed again only to be copied.
        if !repair && let Some(buf) = self.slots.at(id).buf.take() {
            mem.free(buf);
        }
    }

    /// A run was compared, and repaired if that was wanted; its range is about to be unlocked.
    pub(super) fn finish_verify_run(&mut self, slot: &super::slots::Slot) {
        let now = self.now;
        let volume = &mut self.volumes[slot.volume];
        let verify = &mut *volume.verify;
        if !verify.active {
            return;
        }
        let run = Run {
            offset: slot.offset,
            len: slot.len,
        };
        if slot.orphan {
            return verify.state.again(run);
        }
        match slot.compare {
            Compare::Differ { all, left, .. } => {
                let first = all != 0 && verify.state.differing_blocks() == 0;
                verify.state.compared(run, all, &mut verify.unused);
                if verify.repair {
                    let copied = run.select(all & !left).map(|part| u64::from(part.len));
                    verify.repaired += copied.map(|len| len.div_ceil(BLOCK)).sum::<u64>();
                }
                if let Some(part) = run.select(all).next().filter(|_| first) {
                    let (index, offset) = (volume.config.index, part.offset);
                    self.log(
                        Level::Error,
                        text!(
                            "vol{index}: verify: the disks differ at byte {offset}; more at its end"
                        ),
                    );
                }
            }
            Compare::Unreadable => verify.state.unreadable(run, Side::Peer),
            Compare::Busy => {
                verify.state.again(run);
                verify.retry_at = now + BUSY_PAUSE;
            }
            _ if slot.local == Local::Failed => verify.state.unreadable(run, Side::Here),
            Compare::None | Compare::Asked => verify.state.again(run),
        }
    }

    /// Ends verifies that are through, saves where the others are, and reports.
    pub(super) fn report_verifies(&mut self) {
        for at in 0..self.volumes.len() {
            let now = self.now;
            let volume = &mut self.volumes[at];
            let index = volume.config.index;
            let verify = &mut *volume.verify;
            if verify.active && verify.state.is_done() {
                (verify.active, verify.finished, verify.cursor) = (false, true, 0);
                volume.progress = None;
                self.log_findings(at);
                self.notify_differences(at);
                self.tell_state();
            } else if verify.active && verify.save_at <= now {
                verify.cursor = verify.state.position();
                verify.save_at = now + SAVE_EVERY;
            } else if let Some(why) = verify.stopped.take() {
                let cursor = verify.cursor;
                self.log(
                    Level::Warn,
                    text!("vol{index}: verify stopped at byte {cursor}: {why}"),
                );
                self.log_findings(at);
                self.notify_differences(at);
                self.tell_state();
            }
        }
    }

    fn notify_differences(&mut self, at: usize) {
        if self.volumes[at].verify.state.differing_blocks() > 0 {
            self.notify(Event::OutOfSync, Some(at));
        }
    }

    /// When the position of a verify is to be saved.
    pub(super) fn verify_deadline(&self) -> Option<Micros> {
        let running = self.volumes.iter().filter(|v| v.verify.active);
        running.map(|v| v.verify.save_at).min()
    }

    fn log_findings(&mut self, at: usize) {
        let Self { volumes, queue, .. } = self;
        let volume = &volumes[at];
        let (index, verify) = (volume.config.index, &volume.verify);
        let state = &verify.state;
        let blocks = state.differing_blocks();
        for range in state.differing().listed().iter().take(LOGGED) {
            let (start, end) = (range.start, range.end);
            queue.log(
                Level::Error,
                text!("vol{index}: verify: bytes {start} to {end} differed"),
            );
        }
        let unreadable = [Side::Here, Side::Peer].map(|side| state.unreadable_ranges(side).bytes());
        if unreadable != [0, 0] {
            let [here, peer] = unreadable;
            queue.log(
                Level::Error,
                text!(
                    "vol{index}: verify: {here} bytes could not be read here, {peer} bytes on the peer"
                ),
            );
        }
        let compared = state.total_bytes() - state.left_bytes();
        let (level, advice) = match (blocks, verify.repaired) {
            (0, _) => (Level::Info, text!("no difference")),
            (_, repaired) if repaired == blocks => (
                Level::Warn,
                text!("{blocks} blocks differed and were copied to the peer"),
            ),
            (_, 0) => (
                Level::Error,
                text!(
                    "{blocks} blocks differ; 'verify vol{index} --start 0 --repair' on the node whose data is right copies them"
                ),
            ),
            (_, repaired) => (
                Level::Error,
                text!("{blocks} blocks differ, {repaired} of them were copied to the peer"),
            ),
        };
        queue.log(
            level,
            text!("vol{index}: verify compared {compared} bytes: {advice}"),
        );
    }
}
