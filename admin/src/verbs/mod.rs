//! The commands: their grammar, help and completion.
//!
//! One table ([`VERBS`]) describes every verb; the parser, `help`, and the completion read it, so
//! they cannot disagree. A command is words separated by blanks; there is no quoting. Volumes are
//! named as their exports are (`vol0`), or by their number alone.

mod arguments;
mod complete;
mod consequence;
mod error;
mod help;
mod parse;
mod table;

#[cfg(test)]
mod foretold;
#[cfg(test)]
mod tests;

pub(crate) use arguments::volume_index;
pub use complete::VerbCompleter;
pub use consequence::{Act, foretell};
pub use error::VerbError;
pub use help::help;
pub use parse::parse;
pub use table::{Group, Spec, VERBS, spec};

use replication::api::{Command, Level};

/// Entries that `log` shows unless told otherwise.
pub const LOG_LINES_DEFAULT: u16 = 20;

/// A command that was understood. `volume` is always the index of a volume, the number in `vol0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `help`: all verbs, or one ([`help`] writes it). Also what `VERB --help` gives.
    Help {
        /// The verb asked about.
        about: Option<&'static Spec>,
    },
    /// `status`.
    Status {
        /// As one line of JSON.
        json: bool,
    },
    /// `events`: what becomes of the states.
    Events {
        /// As lines of JSON.
        json: bool,
        /// Only what is known now.
        now: bool,
        /// Only what happened after the event with this number.
        since: Option<u64>,
    },
    /// `watch`: what another verb prints, again and again.
    Watch {
        /// Where in the line that verb begins; [`parse`] understands the rest of the line, as a verb that only looks.
        at: usize,
    },
    /// `explain`: the last handshake, or what a `connect` would lead to.
    Explain,
    /// `fence`: who fences whom, and what is waited for.
    Fence,
    /// `primary`.
    Primary {
        /// The operator vouches for this node's data.
        force: bool,
    },
    /// `secondary`.
    Secondary {
        /// Drop the clients.
        force: bool,
    },
    /// `suspend-io`: hold clients' requests back, unanswered.
    SuspendIo,
    /// `resume-io`.
    ResumeIo,
    /// `unfence`: end a fence by hand.
    Unfence {
        /// Its number.
        episode: u64,
        /// The operator has read what it means.
        yes: bool,
    },
    /// `connect`.
    Connect {
        /// Give up this node's changes after a split brain.
        discard_my_data: bool,
        /// Only say what would happen, and disconnect again.
        dry_run: bool,
    },
    /// `disconnect`.
    Disconnect,
    /// `create-md`: write fresh metadata.
    CreateMd {
        /// Which.
        volume: u16,
        /// Over metadata or other data that is there.
        force: bool,
    },
    /// `attach`: take the volume's disk into use.
    Attach {
        /// Which.
        volume: u16,
    },
    /// `detach`: take it out of use.
    Detach {
        /// Which.
        volume: u16,
        /// Without waiting for what the disk has under way.
        force: bool,
    },
    /// `inspect`: the metadata on the disk.
    Inspect {
        /// Which volume's; that of all of them if left out.
        volume: Option<u16>,
    },
    /// `resize`: use what both disks have grown by.
    Resize {
        /// Which.
        volume: u16,
        /// To so many bytes; `None`: as far as both disks allow.
        size: Option<u64>,
        /// The new part is identical on both disks.
        assume_clean: bool,
    },
    /// `outdate`: note durably that this node's data is not the newest.
    Outdate,
    /// `rollback`: go back to what the disk had before a resync to it.
    Rollback {
        /// Which.
        volume: u16,
        /// Do it; otherwise only what it would do is said.
        yes: bool,
    },
    /// `drop-snapshot`: give that up.
    DropSnapshot {
        /// Which.
        volume: u16,
    },
    /// `invalidate`: give up this node's data and copy all of the peer's.
    Invalidate {
        /// Which.
        volume: u16,
    },
    /// `invalidate-remote`: give up the peer's data and copy all of this node's.
    InvalidateRemote {
        /// Which.
        volume: u16,
    },
    /// `new-current-uuid --clear-bitmap`.
    NewCurrentUuid,
    /// `pause-sync`.
    PauseSync {
        /// Which; all of them if left out.
        volume: Option<u16>,
    },
    /// `resume-sync`.
    ResumeSync {
        /// Which; all of them if left out.
        volume: Option<u16>,
    },
    /// `verify`: compare both disks.
    Verify {
        /// Which.
        volume: u16,
        /// First byte; `None`: where an unfinished one stopped, or 0.
        start: Option<u64>,
        /// First byte that is not compared any more, above `start`; `None`: the end.
        stop: Option<u64>,
        /// Also copy what differs.
        repair: bool,
    },
    /// `verify --abort`: end a running one; a later one goes on from there.
    VerifyAbort {
        /// Which.
        volume: u16,
    },
    /// `disks`.
    Disks,
    /// `net`.
    Net,
    /// `log`.
    Log {
        /// Newest entries to show.
        lines: u16,
        /// The least grave ones to show.
        level: Level,
    },
    /// `config show`.
    ConfigShow,
    /// `config check`.
    ConfigCheck,
    /// `set` alone: what can be changed while the node runs.
    SetShow,
    /// `set`: change it.
    Set {
        /// One of [`crate::config::live::KEYS`].
        key: &'static str,
        /// Where in the line the value begins.
        at: usize,
        /// Its length; 0 stands for a key that is left out.
        bytes: usize,
        /// Only say what would change.
        dry_run: bool,
    },
    /// `adjust`: undo what `set` has changed.
    Adjust {
        /// Only say what would change.
        dry_run: bool,
    },
    /// `crash show`: what the last crash left.
    CrashShow {
        /// As one line of JSON.
        json: bool,
    },
    /// `crash clear`: forget it.
    CrashClear,
    /// `version`.
    Version,
    /// `reboot`.
    Reboot {
        /// Although clients are served.
        force: bool,
    },
    /// `poweroff`.
    Poweroff {
        /// Although clients are served.
        force: bool,
    },
    /// `clear`: the screen.
    Clear,
    /// A verb with `--dry-run`: only what it would do, as things are.
    DryRun {
        /// What is not done.
        act: Act,
    },
}

impl Verb {
    /// The engine's command behind a verb; `None` for those that it has no command for.
    pub fn engine_command(self) -> Option<Command> {
        match self {
            Self::Primary { force } => Some(Command::Primary { force }),
            Self::Secondary { force } => Some(Command::Secondary { force }),
            Self::Connect {
                discard_my_data,
                dry_run: false,
            } => Some(Command::Connect { discard_my_data }),
            Self::Connect {
                discard_my_data,
                dry_run: true,
            } => Some(Command::DryRun { discard_my_data }),
            Self::Inspect { volume } => volume.map(|volume| Command::Inspect { volume }),
            Self::Disconnect => Some(Command::Disconnect),
            Self::NewCurrentUuid => Some(Command::NewCurrentUuid),
            Self::CreateMd { volume, force } => Some(Command::CreateMd { volume, force }),
            Self::PauseSync { volume } => Some(Command::PauseSync { volume }),
            Self::ResumeSync { volume } => Some(Command::ResumeSync { volume }),
            Self::Verify {
                volume,
                start,
                stop,
                repair,
            } => Some(Command::Verify {
                volume,
                start,
                stop,
                repair,
            }),
            Self::VerifyAbort { volume } => Some(Command::VerifyAbort { volume }),
            Self::Invalidate { volume } => Some(Command::Invalidate { volume }),
            Self::InvalidateRemote { volume } => Some(Command::InvalidateRemote { volume }),
            Self::Rollback { volume, yes } => Some(Command::Rollback {
                volume,
                dry_run: !yes,
            }),
            Self::DropSnapshot { volume } => Some(Command::DropSnapshot { volume }),
            Self::Outdate => Some(Command::Outdate),
            Self::Resize {
                volume,
                size,
                assume_clean,
            } => Some(Command::Resize {
                volume,
                size,
                assume_clean,
            }),
            Self::Attach { volume } => Some(Command::Attach { volume }),
            Self::Detach { volume, force } => Some(Command::Detach { volume, force }),
            Self::SuspendIo => Some(Command::SuspendIo),
            Self::ResumeIo => Some(Command::ResumeIo),
            Self::Unfence { episode, yes: true } => Some(Command::Unfence { episode }),
            _ => None,
        }
    }

    /// Whether a verb only shows something, and is done with that.
    pub const fn only_looks(self) -> bool {
        matches!(
            self,
            Self::Help { .. }
                | Self::Status { .. }
                | Self::Explain
                | Self::Fence
                | Self::Disks
                | Self::Net
                | Self::Log { .. }
                | Self::ConfigShow
                | Self::ConfigCheck
                | Self::SetShow
                | Self::CrashShow { .. }
                | Self::Version
        )
    }
}
