//! `resize`: a volume grows on both nodes. The node whose operator wants it leads:
//!
//! ```text
//! leader                         peer
//! Prepare(size) --------------->          checks its disk, makes room
//!       <--------------- Done(size)       room is durable; perhaps for less than was asked
//! makes room, durably
//! Commit ---------------------->          has the new size, durably
//!       <---------------------- Done
//! has the new size, durably
//! tells its clients
//! Done ------------------------>          tells its clients
//! ```
//!
//! So no client is ever told of a size before both nodes have it durably, and a node that has it knows that
//! the other one has room for it. Whatever breaks in between, the next handshake finds two sizes at most, and the
//! smaller one grows to the larger ([`Engine::settle_sizes`]). A volume never shrinks.

use super::grow::GrowthError;
use super::link::Next;
use super::roles::{Task, TaskKind};
use super::{Engine, Queued, text};
use crate::api::{CommandId, DiskState, Level, ReplicationState, Role, Text};
use crate::buf::Mem;
use crate::lineage::{Grows, JUST_CREATED};
use crate::mutation::{self, Mutation};
use crate::wire::{Frame, HelloVolume, Resize, ResizeAnswer, ResizeReply, ResizeStep};

/// A growth is given up after so many timeouts; both nodes may have much metadata to move.
pub(super) const TIMEOUTS: u64 = 8;

/// How far the leader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leading {
    /// The peer makes room.
    Asked { exact: bool },
    /// This node does.
    Preparing,
    /// The peer takes the new size.
    PeerCommits,
    /// This node does.
    Committing,
}

/// How far the other node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Following {
    request: u64,
    size: u64,
    clean: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preparing,
    Ready,
    Committing,
    Committed,
}

/// What two nodes do that are told different sizes of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sizes {
    /// They are the same, or one is not known.
    Agree,
    /// This node's disk grows to so many bytes first.
    GrowHere(u64),
    /// The peer's does.
    GrowThere,
    /// There is no disk here that could grow: it is only a number.
    Adopt(u64),
    /// The operator must say.
    Differ,
}

impl Engine {
    pub(super) fn resize(&mut self, id: CommandId, index: u16, size: Option<u64>, clean: bool) {
        match self.start_resize(id, index, size, clean) {
            Ok(None) => {}
            Ok(Some(said)) => self.done(id, Ok(said)),
            Err(why) => self.done(id, Err(why)),
        }
    }

    fn start_resize(
        &mut self,
        id: CommandId,
        index: u16,
        wanted: Option<u64>,
        clean: bool,
    ) -> Result<Option<Text>, Text> {
        let at = self
            .volume_by_index(index)
            .ok_or_else(|| text!("there is no vol{index}"))?;
        self.may_resize(at)?;
        let volume = &self.volumes[at];
        let (have, block) = (volume.size, volume.config.block_size);
        let size = match volume.grown(wanted) {
            Some(Ok(layout)) => layout.volume_bytes,
            Some(Err(error)) => return Err(text!("vol{index}: {error}")),
            None => return Err(text!("vol{index} has no disk in use here")),
        };
        if !size.is_multiple_of(block.into()) {
            return Err(text!(
                "vol{index} has blocks of {block} bytes: its size must be a multiple of that"
            ));
        }
        if size == have {
            return Ok(Some(match wanted {
                Some(_) => text!("vol{index} has {have} bytes already"),
                None => text!(
                    "vol{index} has {have} bytes already, and its disk has no room for more: enlarge the disks of both nodes first"
                ),
            }));
        }
        let request = self.random();
        let exact = wanted.is_some();
        self.volumes[at].stop_verify("the volume grows");
        self.task = Some(Task {
            id,
            kind: TaskKind::Resize {
                at,
                request,
                size,
                clean,
                stage: Leading::Asked { exact },
            },
            deadline: self.now + TIMEOUTS * self.config.timers.timeout,
        });
        self.send_resize(at, request, size, ResizeStep::Prepare { exact, clean });
        Ok(None)
    }

    fn send_resize(&mut self, at: usize, request: u64, size: u64, step: ResizeStep) {
        let volume = self.volumes[at].config.index;
        self.send(Frame::Resize(Resize {
            volume,
            request,
            size,
            step,
        }));
    }

    /// Whether a volume may grow: both nodes have all of it, and nothing else is going on.
    fn may_resize(&self, at: usize) -> Result<(), Text> {
        let volume = &self.volumes[at];
        let index = volume.config.index;
        if !self.connected() {
            return Err(text!(
                "the peer is not connected, and a volume grows on both nodes or not at all: see 'status', and try again when it is"
            ));
        }
        if self.granted {
            return Err(text!("the peer is becoming Primary; try again when it is"));
        }
        let good = volume.mirrored
            && volume.replication == ReplicationState::Established
            && volume.disk == DiskState::UpToDate
            && volume.peer_disk == DiskState::UpToDate
            && volume.dirty.count() == 0;
        if !good {
            return Err(text!(
                "vol{index}: both nodes' disks must be UpToDate and no resync under way; see 'status' on both nodes"
            ));
        }
        if volume.growth.is_some() || volume.following.is_some() {
            return Err(text!("vol{index} grows already; try again when it has"));
        }
        if volume.detaching.is_some() {
            return Err(text!("vol{index} is being detached"));
        }
        Ok(())
    }

    /// The peer leads a growth.
    pub(super) fn resize_step(&mut self, resize: Resize, mem: &mut Mem<'_>) {
        let Some(at) = self.volume_by_index(resize.volume) else {
            return self.protocol_error("a growth of an unknown volume");
        };
        match resize.step {
            ResizeStep::Prepare { exact, clean } => {
                self.prepare_resize(at, resize, exact, clean, mem)
            }
            ResizeStep::Commit => {
                let ready = self.volumes[at].growth_is_ready();
                match &mut self.volumes[at].following {
                    Some(following)
                        if ready
                            && following.stage == Stage::Ready
                            && (following.request, following.size)
                                == (resize.request, resize.size) =>
                    {
                        following.stage = Stage::Committing;
                        self.commit_growth(at);
                    }
                    _ => self.answer_resize(resize.request, resize.size, ResizeAnswer::Busy),
                }
            }
            ResizeStep::Cancel => {
                let following = &mut self.volumes[at].following;
                if following.take_if(|f| f.request == resize.request).is_some() {
                    self.leave_growth(at);
                }
            }
            ResizeStep::Done => {
                let Some(following) = self.volumes[at].following else {
                    return;
                };
                if following.request == resize.request && following.stage == Stage::Committed {
                    self.volumes[at].following = None;
                    self.offer(at);
                    if self.role == Role::Primary {
                        self.resync_new_part(at, mem);
                    }
                }
            }
        }
    }

    fn prepare_resize(
        &mut self,
        at: usize,
        resize: Resize,
        exact: bool,
        clean: bool,
        mem: &mut Mem<'_>,
    ) {
        let Resize { request, size, .. } = resize;
        let contended = match self.task.map(|task| task.kind) {
            Some(TaskKind::Resize { .. }) => self.config.node < self.config.peer,
            Some(_) => true,
            None => false,
        };
        if contended || self.may_resize(at).is_err() {
            return self.answer_resize(request, size, ResizeAnswer::Busy);
        }
        let volume = &self.volumes[at];
        let most = match volume.grown(None) {
            Some(Ok(layout)) => layout.volume_bytes,
            _ => volume.size,
        };
        let fits = volume
            .grown(Some(size))
            .is_some_and(|layout| layout.is_ok());
        let block = u64::from(volume.config.block_size);
        let agreed = if fits { size } else { most.min(size) };
        let usable = agreed > volume.size && agreed.is_multiple_of(block);
        if !usable || (exact && !fits) {
            return self.answer_resize(request, most, ResizeAnswer::DiskTooSmall);
        }
        let volume = &mut self.volumes[at];
        volume.stop_verify("the volume grows");
        volume.following = Some(Following {
            request,
            size: agreed,
            clean,
            stage: Stage::Preparing,
        });
        if let Err(error) = self.start_growth(at, agreed, clean, mem) {
            self.volumes[at].following = None;
            let index = self.volumes[at].config.index;
            self.log(
                Level::Error,
                text!("vol{index}: cannot grow to {agreed} bytes: {error}"),
            );
            let answer = match error {
                GrowthError::Layout(_) => ResizeAnswer::DiskTooSmall,
                GrowthError::Memory(_) | GrowthError::Buffer => ResizeAnswer::NoMemory,
            };
            self.answer_resize(request, most, answer);
        }
    }

    fn answer_resize(&mut self, request: u64, size: u64, answer: ResizeAnswer) {
        self.send(Frame::ResizeReply(ResizeReply {
            request,
            size,
            answer,
        }));
    }

    /// The peer has done a step, or will not.
    pub(super) fn resize_reply(&mut self, reply: ResizeReply, mem: &mut Mem<'_>) {
        let Some(task) = self.task else { return };
        let TaskKind::Resize {
            at,
            request,
            size,
            clean,
            stage,
        } = task.kind
        else {
            return;
        };
        if request != reply.request {
            return;
        }
        let index = self.volumes[at].config.index;
        let peer = self.config.peer.clone();
        let refusal = match reply.answer {
            ResizeAnswer::Done => None,
            ResizeAnswer::DiskTooSmall => Some(text!(
                "vol{index}: the disk of peer {peer} allows {} bytes at most: enlarge it, too",
                reply.size
            )),
            ResizeAnswer::Busy => Some(text!(
                "vol{index}: peer {peer} is busy with another command, or not in sync; see 'status' there"
            )),
            ResizeAnswer::NoMemory => Some(text!(
                "vol{index}: peer {peer} has not the memory that the larger volume takes: start it again, which sets memory aside for its disks as they are then, or give it more"
            )),
            ResizeAnswer::DiskFailed => Some(text!(
                "vol{index}: the disk of peer {peer} failed meanwhile"
            )),
        };
        if let Some(reason) = refusal {
            self.task = None;
            self.stop_leading(at);
            return self.done(task.id, Err(reason));
        }
        let next = |stage, size| Task {
            kind: TaskKind::Resize {
                at,
                request,
                size,
                clean,
                stage,
            },
            ..task
        };
        match stage {
            Leading::Asked { exact } => {
                let agreed = reply.size;
                let fits = agreed > self.volumes[at].size && agreed <= size;
                if !fits || (exact && agreed != size) {
                    return self.protocol_error("a size that was not asked for");
                }
                self.task = Some(next(Leading::Preparing, agreed));
                if let Err(error) = self.start_growth(at, agreed, clean, mem) {
                    self.task = None;
                    self.done(task.id, Err(text!("vol{index}: {error}")));
                    self.send_resize(at, request, agreed, ResizeStep::Cancel);
                }
            }
            Leading::PeerCommits => {
                self.task = Some(next(Leading::Committing, size));
                self.commit_growth(at);
                if mutation::is(Mutation::SizeToldEarly) {
                    self.volumes[at].size = size;
                    self.offer(at);
                }
            }
            Leading::Preparing | Leading::Committing => {
                self.protocol_error("an answer to a step that was not asked for");
            }
        }
    }

    /// This node has room for the larger volume, durably.
    pub(super) fn growth_ready(&mut self, at: usize) {
        if let Some(following) = &mut self.volumes[at].following
            && following.stage == Stage::Preparing
        {
            following.stage = Stage::Ready;
            let (request, size) = (following.request, following.size);
            return self.answer_resize(request, size, ResizeAnswer::Done);
        }
        if let Some(Task {
            kind:
                TaskKind::Resize {
                    at: which,
                    request,
                    size,
                    stage,
                    ..
                },
            ..
        }) = &mut self.task
            && *which == at
            && *stage == Leading::Preparing
        {
            *stage = Leading::PeerCommits;
            let (request, size) = (*request, *size);
            self.send_resize(at, request, size, ResizeStep::Commit);
        }
    }

    /// The volume has its new size, durably.
    pub(super) fn growth_ended(&mut self, at: usize, mem: &mut Mem<'_>) {
        if let Some(following) = &mut self.volumes[at].following
            && following.stage == Stage::Committing
        {
            following.stage = Stage::Committed;
            let (request, size) = (following.request, following.size);
            return self.answer_resize(request, size, ResizeAnswer::Done);
        }
        let Some(task) = self.task else { return };
        if let TaskKind::Resize {
            at: which,
            request,
            size,
            stage: Leading::Committing,
            ..
        } = task.kind
            && which == at
        {
            self.task = None;
            self.offer(at);
            self.send_resize(at, request, size, ResizeStep::Done);
            if self.role == Role::Primary || self.peer_role != Role::Primary {
                self.resync_new_part(at, mem);
            }
            let index = self.volumes[at].config.index;
            let said = text!("vol{index}: both nodes have {size} bytes now");
            self.done(task.id, Ok(said));
        }
    }

    /// The disk failed before the volume had its new size. The peer may have it: the next handshake settles that.
    pub(super) fn growth_failed(&mut self, at: usize) {
        if let Some(following) = self.volumes[at].following.take() {
            let (request, size) = (following.request, following.size);
            if self.connected() && following.stage != Stage::Committed {
                self.answer_resize(request, size, ResizeAnswer::DiskFailed);
            }
        }
        let leads =
            |task: &Task| matches!(task.kind, TaskKind::Resize { at: which, .. } if which == at);
        let Some(task) = self.task.take_if(|task| leads(task)) else {
            return;
        };
        let index = self.volumes[at].config.index;
        let reason = text!("vol{index}: the disk failed meanwhile; see 'status'");
        self.done(task.id, Err(reason));
        if let TaskKind::Resize { request, size, .. } = task.kind
            && self.connected()
        {
            self.send_resize(at, request, size, ResizeStep::Cancel);
        }
    }

    /// This node does not lead a volume's growth any more; it may still follow.
    pub(super) fn stop_leading(&mut self, at: usize) {
        if self.volumes[at].following.is_none() {
            self.leave_growth(at);
        }
    }

    /// Clients are told the volume's size.
    pub(super) fn offer(&mut self, at: usize) {
        let volume = &mut self.volumes[at];
        if volume.offered != volume.size {
            volume.offered = volume.size;
            let (volume, size) = (volume.config.index, volume.size);
            self.queue.push(Queued::Size { volume, size });
        }
    }

    /// What both nodes' disks have grown by is brought in sync, over the connection as it stands.
    fn resync_new_part(&mut self, at: usize, mem: &mut Mem<'_>) {
        let fresh = self.random();
        let volume = &mut self.volumes[at];
        volume.unsynced_from = None;
        let good = volume.mirrored
            && volume.replication == ReplicationState::Established
            && volume.disk == DiskState::UpToDate;
        if volume.dirty.count() == 0 || !good {
            return;
        }
        let bytes = volume.dirty.dirty_bytes();
        let uuid = volume.gens.begin_source(volume.gens.current, false, fresh);
        let index = volume.config.index;
        self.begin_source(at, uuid, true);
        self.log(
            Level::Info,
            text!("vol{index}: resync of the {bytes} bytes that it has grown by"),
        );
        self.save(at, mem);
        self.send_sync_start(at);
    }

    /// The connection is gone, and nobody leads.
    pub(super) fn stop_following(&mut self, at: usize) {
        if self.volumes[at].following.take().is_some() {
            self.leave_growth(at);
        }
        self.volumes[at].unsynced_from = None;
    }

    fn compare_sizes(&self, at: usize, mine: &HelloVolume, theirs: &HelloVolume) -> Sizes {
        if mine.size == theirs.size || mine.size == 0 || theirs.size == 0 {
            return Sizes::Agree;
        }
        let (smaller, larger) = match mine.size < theirs.size {
            true => (mine, theirs),
            false => (theirs, mine),
        };
        let out = |side: &HelloVolume| side.disk <= DiskState::Negotiating;
        // A size that nobody agreed to: metadata that was just created says what its disk allows.
        if larger.current == JUST_CREATED && !out(larger) {
            return Sizes::Differ;
        }
        match (mine.size < theirs.size, out(smaller)) {
            (true, true) => Sizes::Adopt(theirs.size),
            (false, true) => Sizes::Agree,
            (false, false) => Sizes::GrowThere,
            (true, false) => match self.volumes[at].grown(Some(theirs.size)) {
                Some(Ok(_)) => Sizes::GrowHere(theirs.size),
                _ => Sizes::Differ,
            },
        }
    }

    /// Whether a volume grows before the nodes connect, on which of them, and by how much.
    pub(super) fn grows(&self, at: usize, theirs: &HelloVolume) -> Option<Grows> {
        let mine = self.volumes[at].told.as_ref()?;
        let (here, from, to) = match self.compare_sizes(at, mine, theirs) {
            Sizes::GrowHere(size) => (true, mine.size, size),
            Sizes::GrowThere => (false, theirs.size, mine.size),
            Sizes::Agree | Sizes::Adopt(_) | Sizes::Differ => return None,
        };
        Some(Grows { here, from, to })
    }

    /// A volume whose size differs so that only an operator can help: its place in the list.
    pub(super) fn sizes_differ(&self) -> Option<usize> {
        let mut places = 0..self.volumes.len();
        places.find(|&at| {
            let (Some(mine), Some(theirs)) =
                (&self.volumes[at].told, self.link.peer_volumes.get(at))
            else {
                return false;
            };
            self.compare_sizes(at, mine, theirs) == Sizes::Differ
        })
    }

    /// A growth was interrupted: the node with the smaller size finishes it, for the other one can only have the
    /// larger one because both had room for it. Both connect again then. Answers whether that is to be.
    pub(super) fn settle_sizes(&mut self, mem: &mut Mem<'_>) -> bool {
        let (mut here, mut there) = (false, false);
        for at in 0..self.volumes.len() {
            let (Some(mine), Some(theirs)) =
                (&self.volumes[at].told, self.link.peer_volumes.get(at))
            else {
                continue;
            };
            let index = self.volumes[at].config.index;
            match self.compare_sizes(at, mine, theirs) {
                Sizes::GrowHere(size) => {
                    here = true;
                    self.log(
                        Level::Info,
                        text!(
                            "vol{index}: the peer has grown to {size} bytes, and so does this node"
                        ),
                    );
                    // The peer's marks may be gone already: here the new part counts as out of sync.
                    match self.start_growth(at, size, false, mem) {
                        Ok(()) => self.grow_as_peer(at),
                        Err(error) => {
                            let why = text!("vol{index}: cannot grow to {size} bytes: {error}");
                            self.complain(Level::Error, why);
                        }
                    }
                }
                Sizes::GrowThere => there = true,
                Sizes::Adopt(size) => self.volumes[at].size = size,
                Sizes::Agree | Sizes::Differ => {}
            }
        }
        if here {
            self.close_link(Next::Retry);
        } else if there {
            self.log(
                Level::Info,
                text!("the peer has yet to grow as this node has; both connect again then"),
            );
            self.link.next = Next::Retry;
            self.link.refused_until = Some(self.now + super::handshake::REFUSE_GRACE);
        }
        here || there
    }
}
