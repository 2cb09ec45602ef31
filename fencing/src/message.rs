//! What nodes and the arbiter say to each other out of band (docs/MANAGEMENT.md): the meaning, without the
//! envelope that authenticates it.

use crate::{Episode, Event, Own, Promoting};
use heapless::String;

/// A name of a node or resource: ASCII letters, digits, `-`, `_`, `.`; 1 to 32 bytes.
pub type Name = String<32>;

/// A question, asked again until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// FENCE, to the arbiter: record the sender as the holder.
    Fence {
        /// The number under which it is to hold.
        episode: Episode,
        /// The highest of the peer's episodes that the sender knows to have been given back: the peer said so
        /// itself, or the arbiter did. An older holder than that holds nothing.
        released: Episode,
        /// The highest episode of which the sender's disks are known to hold everything; of a Primary, the highest that
        /// it has seen. Who knows of a higher one knows of newer data.
        vouched: Episode,
        /// Whether all the sender's disks are UpToDate: what a fence handler's exit code 5 counts for depends on it.
        up_to_date: bool,
        /// By the operator's word: whoever holds it does not any more.
        force: bool,
    },
    /// UNFENCE, to the peer and the arbiter: the episode is over.
    Unfence {
        /// The sender's episode that is over. Newer ones are not.
        episode: Episode,
        /// As in FENCE: what both nodes have everything of, if it is higher than what was told before.
        vouched: Episode,
    },
    /// OUTDATE-YOURSELF, to the peer: it must not become Primary until the sender gives the episode back.
    Outdate {
        /// The number of the fence.
        episode: Episode,
        /// As in FENCE.
        vouched: Episode,
        /// Whether the sender is Primary, and so wins over a peer that wants to become it.
        primary: bool,
    },
    /// QUERY: what is the state?
    Query,
    /// PROMOTE, from an administrator by way of the arbiter: become Primary, if the rules allow it.
    Promote {
        /// What the node drew for this promotion; 0: it is to draw a number, and to do nothing yet.
        nonce: u64,
    },
    /// NOTIFY, to the arbiter: run the handler of this event.
    Notify {
        /// One more with every event of the sender's session, from 1; the same when it is asked again.
        number: u64,
        /// What happened.
        event: Event,
        /// To which volume, by its index; `None`: to the resource.
        volume: Option<u8>,
    },
}

/// Why a request was not granted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Somebody holds a fence: `holder`, by `episode`.
    Held {
        /// The node that holds it.
        holder: Name,
        /// Its episode.
        episode: Episode,
    },
    /// The number was used before. Numbers up to `last` are never granted any more.
    Stale {
        /// The highest number used.
        last: Episode,
    },
    /// The node that was asked is Primary; from the arbiter: its handler says that the peer is.
    Primary,
    /// The node that was asked wants a fence itself, by that episode.
    Requesting {
        /// Its episode.
        episode: Episode,
    },
    /// The arbiter has another resource of this name.
    OtherResource,
    /// The arbiter could not record it: its disk is full or read-only, or its store is away.
    NotStored,
    /// The arbiter's handler did not fence the peer. The exit code, or 255 without one.
    Handler(u8),
    /// There is newer data than the sender's: both nodes had everything up to episode `vouched`, which the sender's disks
    /// do not know of. They are of an earlier time.
    Older {
        /// That episode.
        vouched: Episode,
    },
    /// The number lies so far ahead of all others that it is taken for damage.
    Future,
}

/// The state of one party, in answer to QUERY.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Standing {
    /// Who holds a fence as far as it knows, and by which episode.
    pub holder: Option<(Name, Episode)>,
    /// The highest number it has seen.
    pub last: Episode,
    /// Of the arbiter: the highest episode that the asking node's peer gave back. 0 from a node.
    pub over: Episode,
    /// Of a node: whether it is Primary. The arbiter is not.
    pub primary: bool,
}

/// The answer to a [`Request`]. It names the episode that it is about, so that one that comes late does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// To FENCE and OUTDATE-YOURSELF: it is so, durably.
    Granted {
        /// The episode asked for.
        episode: Episode,
    },
    /// To FENCE and OUTDATE-YOURSELF: it is not.
    Refused {
        /// The episode asked for.
        episode: Episode,
        /// Why.
        why: Refusal,
    },
    /// To UNFENCE: that episode is not in force any more, durably.
    Released {
        /// The episode asked for.
        episode: Episode,
    },
    /// To QUERY.
    State(Standing),
    /// To PROMOTE: how that promotion stands.
    Promoting {
        /// The number that the node drew for it; 0 if none is needed, since it is Primary.
        nonce: u64,
        /// How it stands.
        state: Promoting,
    },
    /// To NOTIFY: the handler has run.
    Handled {
        /// The number of the event.
        number: u64,
        /// Its exit code; 0: none is configured; 255: it did not end by itself, or could not be run.
        code: u8,
    },
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Party {
    /// The peer node's management endpoint.
    Peer,
    /// The arbiter.
    Arbiter,
}

impl Own {
    /// The episode by which a node fences its peer, for [`Standing::holder`].
    #[must_use]
    pub const fn holding(self) -> Option<Episode> {
        match self {
            Self::Held(episode, _) => Some(episode),
            Self::None | Self::Requested(_) | Self::Releasing(_) => None,
        }
    }
}
