//! Whether a held episode is still what it was.
//!
//! A disk may be lost under a Primary that holds a fence while the peer has everything. The peer's disk stands in, and
//! the lost one is there again after a restart: with the word that its node holds the fence, and without what clients were
//! answered since. So who finds on its disk that it holds a fence asks before it goes on alone: for the same number once
//! more. Who knows that the peer's disk stood in knows of a higher number, up to which that one is vouched for, and
//! refuses. One answer is enough, as for a new fence. A Primary that runs, on its own good disks, has no need to ask.

use super::api::{Action, Denied, Disk, Timer};
use super::{Fencer, Progress};
use crate::{Own, Record};

/// Whether the held episode may be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Confirmation {
    /// It was granted, or confirmed, to this node as it runs.
    Given,
    /// It is known from the disk alone, or the disk was lost since.
    Missing,
    /// The peer, the arbiter or both are being asked, for a promotion.
    Asked,
}

impl Confirmation {
    /// Of what a disk says.
    pub const fn of_stored(record: &Record) -> Self {
        match record.own {
            Own::Held(..) => Self::Missing,
            Own::None | Own::Requested(_) | Own::Releasing(_) => Self::Given,
        }
    }
}

impl Fencer {
    /// Whether an episode is held of which it is not known whether it may be gone on with.
    pub(super) fn is_doubtful(&self) -> bool {
        self.holds() && self.confirmation != Confirmation::Given && self.anybody_to_ask()
    }

    /// What the view says about it.
    pub(super) fn look_for_confirmation(&mut self) {
        let Own::Held(own, _) = self.record.own else {
            return;
        };
        let view = self.view;
        if view.primary && view.elsewhere {
            self.confirmation = Confirmation::Missing;
        } else if view.primary && view.disk == Disk::UpToDate {
            self.confirmation = Confirmation::Given;
            // The peer may find itself in sync, and vouch for that, before this node does; which has everything in any case.
            if view.connected && view.agreed > own {
                self.saw(view.agreed);
                self.record.vouched = self.record.vouched.max(view.agreed);
            }
        }
    }

    /// Asks whether the episode is still held, if a promotion depends on it. The peer first, as for a new one, unless the
    /// arbiter is known to have this node for the holder.
    pub(super) fn confirm(&mut self) {
        let Own::Held(_, by) = self.record.own else {
            return;
        };
        let begins = self.promoting
            && self.record.mark.is_none()
            && !self.view.connected
            && self.is_doubtful()
            && self.confirmation == Confirmation::Missing;
        if begins {
            self.confirmation = Confirmation::Asked;
            self.peer = Progress::new(self.config.peer_endpoint);
            let at_once = by.arbiter || !self.config.peer_endpoint;
            self.arbiter = Progress::new(self.config.arbiter && at_once);
            self.push(Action::SetTimer(Timer::PeerWait, 0));
            self.push(Action::SetTimer(Timer::Bound, 0));
        }
    }

    /// The promotion is decided.
    pub(super) fn stop_confirming(&mut self) {
        if self.confirmation == Confirmation::Asked {
            self.confirmation = Confirmation::Missing;
            self.peer.wanted = false;
            self.arbiter.wanted = false;
        }
    }

    /// The peer has had its time. Without an arbiter nobody else could have granted it a fence: the record counts.
    pub(super) fn peer_is_silent(&mut self) {
        if self.confirmation == Confirmation::Asked && !self.config.arbiter {
            self.confirmation = Confirmation::Given;
        }
    }

    /// Why a promotion is denied that nobody has decided.
    pub(super) fn undecided(&self) -> Denied {
        match self.record.own {
            Own::Held(episode, _) if self.is_doubtful() => Denied::Unconfirmed(episode),
            _ => Denied::NoAnswer,
        }
    }
}
