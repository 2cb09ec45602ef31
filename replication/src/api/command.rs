//! What an operator can have the engine do.

/// The operator's verbs that concern the engine, by DRBD's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Become Primary. Without `force` only next to a connected Secondary and on an UpToDate disk.
    Primary {
        /// The operator vouches that this node's data is the one to go on with.
        force: bool,
    },
    /// Become Secondary. Refused while clients have a volume open, unless `force` drops them.
    Secondary {
        /// Drop the clients.
        force: bool,
    },
    /// Look for the peer (again).
    Connect {
        /// After a split brain: give up this node's changes (it becomes the sync target).
        discard_my_data: bool,
    },
    /// Find out what [`Command::Connect`] would lead to, and change nothing: the nodes meet, decide and part. Answered
    /// when they have; [`crate::engine::Engine::forecasts`] tells what was decided.
    DryRun {
        /// As for [`Command::Connect`].
        discard_my_data: bool,
    },
    /// Read the metadata of the volume as it is on the disk, whether that is attached or not.
    /// [`crate::engine::Engine::inspection`] tells what was found.
    Inspect {
        /// Index of the volume.
        volume: u16,
    },
    /// Leave the peer and do not look for it.
    Disconnect,
    /// The operator states that the disks of both nodes are identical (fresh and blank, or
    /// compared): both become UpToDate without a resync. DRBD's `new-current-uuid --clear-bitmap`.
    NewCurrentUuid,
    /// Take the volume's disk into use (again): after it failed or was detached.
    Attach {
        /// Index of the volume.
        volume: u16,
    },
    /// Take the volume's disk out of use, its metadata in order. Refused where no good disk would be left.
    Detach {
        /// Index of the volume.
        volume: u16,
        /// At once, as if it had failed, and even if no good disk is left.
        force: bool,
    },
    /// Hold clients' requests back, unanswered.
    SuspendIo,
    /// End of [`Command::SuspendIo`].
    ResumeIo,
    /// Create metadata on the volume's disk and attach it. Whatever metadata was there is lost.
    CreateMd {
        /// Index of the volume.
        volume: u16,
        /// Even if the disk seems to hold somebody's data.
        force: bool,
    },
    /// Hold resyncs, whichever node is the source, until [`Command::ResumeSync`] on this node.
    PauseSync {
        /// Index of the volume; `None`: all.
        volume: Option<u16>,
    },
    /// End [`Command::PauseSync`] of this node.
    ResumeSync {
        /// Index of the volume; `None`: all.
        volume: Option<u16>,
    },
    /// Compare both nodes' disks. Answered when it has begun; what it finds goes to the log and the status.
    Verify {
        /// Index of the volume.
        volume: u16,
        /// First byte; `None`: where an unfinished one stopped, or 0.
        start: Option<u64>,
        /// First byte that is not compared any more; `None`: the end.
        stop: Option<u64>,
        /// Copy blocks that differ from this node to the peer.
        repair: bool,
    },
    /// End a verify of this node; the next one goes on from there.
    VerifyAbort {
        /// Index of the volume.
        volume: u16,
    },
    /// Give up this node's copy of a volume: all of it is copied from the peer.
    Invalidate {
        /// Index of the volume.
        volume: u16,
    },
    /// Give up the peer's copy of a volume: all of it is copied from this node.
    InvalidateRemote {
        /// Index of the volume.
        volume: u16,
    },
    /// Give a resync's target that its source has left back what it had before the resync. With `dry_run` only what that
    /// would do is said.
    Rollback {
        /// Index of the volume.
        volume: u16,
        /// Change nothing.
        dry_run: bool,
    },
    /// Give the old content up that a resync's target keeps, or was to keep: the resync goes on without.
    DropSnapshot {
        /// Index of the volume.
        volume: u16,
    },
    /// Note durably that this node's data is not the newest.
    Outdate,
    /// Let a volume grow on both nodes, whose disks were enlarged.
    Resize {
        /// Index of the volume.
        volume: u16,
        /// To so many bytes; `None`: as far as the disks of both nodes allow.
        size: Option<u64>,
        /// The operator states that the new part is identical on both disks: it is not copied.
        assume_clean: bool,
    },
    /// End a fence by hand: this node's own episode, or the one by which it is fenced.
    Unfence {
        /// Its number.
        episode: u64,
    },
}
