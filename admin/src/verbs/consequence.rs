//! What verbs give up, in general and as things are.

use super::Verb;
use crate::status::{disk_state_name, role_name};
use crate::text::wrapped;
use crate::units::Size;
use core::fmt::{self, Write};
use replication::api::{Command, ConnectionState, DiskState, OwnFence, Role, Status, VolumeStatus};

/// What `unfence` means.
const UNFENCE: &str = "nothing keeps the fenced node from becoming Primary any more; if the other \
                       node is Primary, or has newer data, both go on with data of their own, and \
                       one's is lost";

/// Something that the node can be made to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// By the engine.
    Command(Command),
    /// `reboot` or `poweroff`.
    GoDown {
        /// Although clients are served.
        force: bool,
    },
}

impl Verb {
    /// What a verb makes the node do; `None` for one that only looks.
    pub fn act(self) -> Option<Act> {
        match self {
            Self::Reboot { force } | Self::Poweroff { force } => Some(Act::GoDown { force }),
            Self::Unfence { episode, .. } => Some(Act::Command(Command::Unfence { episode })),
            _ => self.engine_command().map(Act::Command),
        }
    }

    /// Whether a person is asked before it is done: it gives data up, or cuts clients off. `unfence` and `rollback` want `--yes` instead,
    /// of scripts, too.
    pub const fn asks_first(self) -> bool {
        match self {
            Self::Unfence { .. } | Self::Rollback { .. } => false,
            Self::Secondary { force } | Self::Reboot { force } | Self::Poweroff { force } => force,
            _ => self.consequence().is_some(),
        }
    }

    /// What a verb destroys or takes for granted, as a sentence to show before it is carried out;
    /// `None` for those that lose nothing. Whoever asks the operator for a confirmation asks for
    /// exactly these.
    pub const fn consequence(self) -> Option<&'static str> {
        match self {
            Self::CreateMd { force: true, .. } => Some(
                "metadata and data that the disk holds are given up; unless the peer is \
                 to be overwritten too, all of its blocks are copied here",
            ),
            Self::Detach { force: true, .. } => Some(
                "requests that the disk has under way are abandoned; what became of them is not \
                 known, so their blocks are copied from the peer at the next attach",
            ),
            Self::Primary { force: true } => Some(
                "this node's data is the one to go on with; what only the peer has is lost when \
                 it comes back",
            ),
            Self::Unfence { .. } => Some(UNFENCE),
            Self::Connect {
                discard_my_data: true,
                dry_run: false,
            } => Some(
                "after a split brain, what clients wrote on this node alone is lost: the peer's \
                 blocks take its place",
            ),
            Self::Rollback { .. } => Some(
                "what the resync's source has sent is given up, and the disk has what it had \
                 before: whatever was written on the source since is on this node no more; \
                 --yes does it",
            ),
            Self::DropSnapshot { .. } => Some(
                "what the disk had before the resync is given up: until the resync has ended \
                 only the peer has good data",
            ),
            Self::Invalidate { .. } => Some(
                "this node's data is given up: every block is copied from the peer, and until \
                 that is done only the peer has good data",
            ),
            Self::InvalidateRemote { .. } => Some(
                "the peer's data is given up: every block is copied to it, and until that is \
                 done only this node has good data",
            ),
            Self::NewCurrentUuid => Some(
                "both disks are taken to be identical, and nothing is copied; where they differ, \
                 clients will read wrong data",
            ),
            Self::Resize {
                assume_clean: true, ..
            } => Some(
                "the new part of both disks is taken to be identical; where it differs, clients \
                 that read before they write will read wrong data",
            ),
            Self::Verify { repair: true, .. } => Some(
                "blocks that differ are overwritten on the node that is not Primary (on the \
                 peer, if neither is)",
            ),
            _ => None,
        }
    }

    /// Writes the consequence, if there is one, in lines for an 80-column terminal.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_consequence(self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        match self.consequence() {
            Some(consequence) => wrapped("", "note: ", consequence, out),
            None => Ok(()),
        }
    }
}

/// Says what something would do as things are, for `--dry-run` and before a person is asked. Whether the node would refuse it by then
/// only the node itself decides, when it is told to.
///
/// # Errors
/// Those of `out`.
pub fn foretell(act: Act, status: &Status, out: &mut dyn Write) -> fmt::Result {
    let mut say = Say { out };
    match act {
        Act::GoDown { force } => {
            say.clients(status, force)?;
            say.successor(status)?;
        }
        Act::Command(command) => command_would(command, status, &mut say)?,
    }
    Ok(())
}

fn command_would(command: Command, status: &Status, say: &mut Say<'_>) -> fmt::Result {
    let peer = &status.peer;
    let connected = status.connection == ConnectionState::Connected;
    let volume = |index: u16| status.volumes.iter().find(|volume| volume.index == index);
    match command {
        Command::Primary { .. } if status.role == Role::Primary => {
            say.that(format_args!("this node is Primary already"))
        }
        Command::Primary { force } => {
            if connected {
                say.that(format_args!("{peer} is connected, and {}", role_name(status.peer_role)))?;
            } else {
                say.that(format_args!(
                    "{peer} is not connected: what only it has {}",
                    if force { "would be lost when it comes back" } else { "nobody can tell from here" }
                ))?;
            }
            if let Some(mark) = status.fencing.record.mark {
                say.that(format_args!("{peer} fences this node by episode {mark}: it may have newer data"))?;
            }
            for volume in &status.volumes {
                say.that(format_args!("vol{}: this node's disk is {}", volume.index, disk_state_name(volume.disk)))?;
            }
            Ok(())
        }
        Command::Secondary { force } => {
            say.clients(status, force)?;
            say.successor(status)
        }
        Command::Connect { .. } | Command::DryRun { .. } | Command::Rollback { .. } => Ok(()),
        Command::Disconnect if !connected => say.that(format_args!("{peer} is not connected; this node would not look for it")),
        Command::Disconnect => {
            let alone = if status.role == Role::Primary { "this node" } else { peer };
            say.that(format_args!("{alone} would go on alone, and what is written until the next connect is copied then"))
        }
        Command::SuspendIo => say.that(format_args!(
            "{} client(s) with a volume open would wait, unanswered", status.open_clients
        )),
        Command::ResumeIo => {
            let held = status.suspended;
            if !held.any() {
                return say.that(format_args!("nothing is held back"));
            }
            if held.fencing {
                say.that(format_args!("clients wait for the fence: if {peer} is not surely off, both nodes would go on with data of their own"))?;
            }
            if held.no_data {
                say.that(format_args!("clients wait for good data: requests that no disk can serve would get errors"))?;
            }
            if held.user {
                say.that(format_args!("clients wait by 'suspend-io', and would go on"))?;
            }
            Ok(())
        }
        Command::Unfence { episode } => {
            let own = match status.fencing.record.own {
                OwnFence::None => None,
                OwnFence::Requested(own) | OwnFence::Held(own, _) | OwnFence::Releasing(own) => Some(own),
            };
            if own == Some(episode) {
                say.that(format_args!("{peer}, which this node fences by episode {episode}, could become Primary"))
            } else if status.fencing.record.mark == Some(episode) {
                say.that(format_args!("this node, which {peer} fences by episode {episode}, could become Primary"))
            } else {
                say.that(format_args!("there is no fence of episode {episode}"))
            }
        }
        Command::Outdate => say.that(format_args!(
            "this node could not become Primary before it was connected to {peer} and {peer} is UpToDate"
        )),
        Command::NewCurrentUuid => {
            for volume in &status.volumes {
                say.that(format_args!(
                    "vol{}: {} that may differ would be taken for identical", volume.index, Size(volume.out_of_sync)
                ))?;
            }
            Ok(())
        }
        Command::CreateMd { volume: index, .. }
        | Command::Attach { volume: index }
        | Command::Detach { volume: index, .. }
        | Command::Verify { volume: index, .. }
        | Command::VerifyAbort { volume: index }
        | Command::Invalidate { volume: index }
        | Command::InvalidateRemote { volume: index }
        | Command::DropSnapshot { volume: index }
        | Command::Resize { volume: index, .. }
        | Command::Inspect { volume: index } => match volume(index) {
            Some(volume) => volume_would(command, volume, status, say),
            None => say.that(format_args!("there is no vol{index}")),
        },
        Command::PauseSync { .. } | Command::ResumeSync { .. } => Ok(()),
    }
}

fn volume_would(
    command: Command,
    volume: &VolumeStatus,
    status: &Status,
    say: &mut Say<'_>,
) -> fmt::Result {
    let (peer, index) = (&status.peer, volume.index);
    let all = Size(volume.size);
    match command {
        Command::CreateMd { .. } => {
            say.that(format_args!(
                "vol{index}: this node's disk is {}",
                disk_state_name(volume.disk)
            ))?;
            say.copied_from_peer(volume, status)
        }
        Command::Invalidate { .. } => {
            say.that(format_args!("vol{index}: {all} would be copied from {peer}, and until then only {peer} has good data"))?;
            say.copied_from_peer(volume, status)
        }
        Command::InvalidateRemote { .. } => {
            say.that(format_args!("vol{index}: {all} would be copied to {peer}, and until then only this node has good data"))?;
            say.that(format_args!(
                "vol{index}: this node's disk is {}",
                disk_state_name(volume.disk)
            ))
        }
        Command::Detach { .. } => {
            let good = volume.peer_disk == DiskState::UpToDate;
            say.that(format_args!(
                "vol{index}: {peer}'s disk is {}: {}",
                disk_state_name(volume.peer_disk),
                if good {
                    "clients would be served from it"
                } else {
                    "no good disk would be left to serve from"
                }
            ))
        }
        Command::Verify { repair, .. } => {
            let overwritten = match (repair, status.role) {
                (false, _) => {
                    return say.that(format_args!(
                        "vol{index}: {all} at most would be compared, and nothing written"
                    ));
                }
                (true, Role::Secondary) if status.peer_role == Role::Primary => {
                    status.node.as_str()
                }
                (true, _) => peer.as_str(),
            };
            say.that(format_args!(
                "vol{index}: blocks that differ would be overwritten on {overwritten}"
            ))
        }
        Command::Resize {
            size, assume_clean, ..
        } => {
            match size {
                Some(size) => say.that(format_args!(
                    "vol{index}: it has {all}, and would have {}",
                    Size(size)
                ))?,
                None => say.that(format_args!(
                    "vol{index}: it has {all}, and would have what both disks allow"
                ))?,
            }
            say.that(format_args!(
                "vol{index}: the new part would {}; it does not shrink again",
                if assume_clean {
                    "not be copied"
                } else {
                    "be copied to the peer"
                }
            ))
        }
        Command::DropSnapshot { .. } => match volume.snapshot {
            Some(snapshot) => say.that(format_args!(
                "vol{index}: {} of old content would be given up",
                Size(snapshot.used)
            )),
            None => say.that(format_args!("vol{index}: it has no snapshot")),
        },
        _ => Ok(()),
    }
}

/// Sentences for an 80-column terminal.
struct Say<'a> {
    out: &'a mut dyn Write,
}

impl Say<'_> {
    fn that(&mut self, sentence: fmt::Arguments<'_>) -> fmt::Result {
        let mut line: heapless::String<320> = heapless::String::new();
        write!(crate::text::Truncating(&mut line), "{sentence}")?;
        wrapped("", "now: ", &line, self.out)
    }

    fn clients(&mut self, status: &Status, force: bool) -> fmt::Result {
        match (status.open_clients, force) {
            (0, _) => self.that(format_args!("no client has a volume open here")),
            (clients, true) => self.that(format_args!(
                "{clients} client(s) with a volume open would be dropped; they reconnect when a node is Primary"
            )),
            (clients, false) => self.that(format_args!(
                "it would be refused: {clients} client(s) have a volume open here"
            )),
        }
    }

    /// Who could serve instead of this node.
    fn successor(&mut self, status: &Status) -> fmt::Result {
        let peer = &status.peer;
        if status.role != Role::Primary {
            return Ok(());
        }
        let good = |volume: &VolumeStatus| volume.peer_disk == DiskState::UpToDate;
        if status.connection == ConnectionState::Connected && status.volumes.iter().all(good) {
            self.that(format_args!(
                "{peer} is connected and UpToDate, and can become Primary"
            ))
        } else {
            self.that(format_args!("{peer} is not known to have good data: nobody could serve until this node is Primary again"))
        }
    }

    fn copied_from_peer(&mut self, volume: &VolumeStatus, status: &Status) -> fmt::Result {
        let (peer, index) = (&status.peer, volume.index);
        if volume.peer_disk == DiskState::UpToDate {
            self.that(format_args!("vol{index}: {peer}'s disk is UpToDate"))
        } else {
            self.that(format_args!(
                "vol{index}: {peer}'s disk is {}: no other good copy is known",
                disk_state_name(volume.peer_disk)
            ))
        }
    }
}
