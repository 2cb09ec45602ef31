//! What goes into a [`Fencer`](super::Fencer) and what comes out.

use crate::{Answer, Episode, Name, Party, Policy, Record, Request};
use core::fmt;

/// What becomes of a Primary whose clients are frozen when the fence is not decided in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnTimeout {
    /// It stays frozen and goes on asking. Clients wait; nothing is lost.
    #[default]
    KeepFrozen,
    /// It drops its clients and becomes Secondary, so that they can go elsewhere.
    StepDown,
}

/// Who the node is, whom it can ask, and what it does. Fixed for the life of a [`Fencer`](super::Fencer).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    /// This node.
    pub node: Name,
    /// Its peer.
    pub peer: Name,
    /// What is done when the peer is lost; must be the peer's policy too.
    pub policy: Policy,
    /// Whether the peer has a management endpoint that can be asked.
    pub peer_endpoint: bool,
    /// Whether there is an arbiter.
    pub arbiter: bool,
    /// What follows when a fence is not decided in time.
    pub on_timeout: OnTimeout,
    /// How often the pause between two tries doubles.
    pub doublings: u8,
}

/// How good the worst of this node's disks is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disk {
    /// Missing, failed, Inconsistent or the target of an unfinished resync.
    Unusable,
    /// Outdated: the peer has newer data.
    Outdated,
    /// Whole, and the latest unless the peer went on alone: a fence answers that.
    Consistent,
    /// UpToDate.
    UpToDate,
}

/// What the replication engine knows, all volumes taken together. Handed over whenever it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View {
    /// This node is Primary.
    pub primary: bool,
    /// The handshake with the peer is over and all volumes are connected. A handshake that would have this node give
    /// up data does not count.
    pub connected: bool,
    /// Grows by one whenever a connection is lost.
    pub connection: u64,
    /// Some volume of the peer may be above Outdated for all that this node knows. The target of a resync counts as
    /// soon as it was sent the end of it, for it may have taken note.
    pub peer_may_be_current: bool,
    /// All volumes are connected and UpToDate on both sides.
    pub in_sync: bool,
    /// This node is a Primary whose changes, on some volume, only its own disk gets although the peer is connected, and
    /// the peer has no disk to remember that by.
    pub lone: bool,
    /// This node is a Primary whose clients, on some volume, saw last what only the peer's disk has. The peer must not be
    /// fenced then: nobody could go on.
    pub elsewhere: bool,
    /// The highest number that either node had seen when they connected; 0 while they are not.
    pub agreed: Episode,
    /// The worst disk.
    pub disk: Disk,
}

/// A deadline. The pump keeps one of each kind; setting one again moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// Ask this party again.
    Retry(Party),
    /// The peer has had its time to answer before the arbiter is asked for a promotion.
    PeerWait,
    /// The fence must be decided by now, or the stated policy follows.
    Bound,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The engine's view changed.
    View(View),
    /// The record of the last [`Action::Persist`] is durable.
    Persisted,
    /// A timer that was set went off.
    Timer(Timer),
    /// Somebody wants this node to become Primary.
    Promote {
        /// By the operator's word, whatever the fence says.
        force: bool,
    },
    /// Whoever wanted the promotion does not any more.
    PromoteCancelled,
    /// A request came in, authentic and fresh. `token` comes back in [`Action::Reply`].
    Request {
        /// Who asks.
        from: Party,
        /// The pump's number for it.
        token: u32,
        /// What is asked.
        request: Request,
    },
    /// An answer came in, authentic, to a question of this node.
    Answer {
        /// Who answers.
        from: Party,
        /// What.
        answer: Answer,
    },
    /// The operator thaws clients, whatever the fence says.
    ResumeIo,
    /// The operator ends this episode by hand, this node's own or the one by which it is fenced.
    ReleaseByHand(Episode),
    /// The Primary has lost its disk, and its clients are served from the other node's alone from now on: what is on the
    /// lost one is old. `here`: they are served from this node's, and nobody was answered yet.
    StandIn {
        /// This node's disk stands in; otherwise this one is the Primary.
        here: bool,
    },
    /// Ask the arbiter how things stand: at start, before anything else.
    Reconcile,
    /// Both nodes agree on the number that tells their resource from another one of the same name.
    Identity(u64),
    /// A disk was attached whose record is newer than this node's: what it knows more is taken over.
    Found(Record),
}

/// Why clients are served again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thaw {
    /// The peer cannot become Primary. A new generation first, then what was frozen.
    Fenced,
    /// The peer is back. What was frozen goes to both disks, without a new generation; but a peer that has
    /// rebooted meanwhile (its disk is only Consistent) is given a new generation instead.
    Reconnected,
    /// The operator's word.
    Operator,
    /// Nobody is served any more: the node is not Primary.
    Demoted,
}

/// Why a promotion is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denied {
    /// The peer holds a fence against this node.
    Fenced(Episode),
    /// The peer is Primary.
    PeerIsPrimary,
    /// A disk cannot be gone on with.
    Disk(Disk),
    /// The peer wants to become Primary too, and has the right of way.
    PeerGoesFirst(Episode),
    /// There is newer data than on this node's disks: both nodes had everything up to that episode once, and the disks do
    /// not know of it.
    Older(Episode),
    /// Nobody granted the fence in time.
    NoAnswer,
    /// This node's disks say that it holds that episode, and nobody confirms it.
    Unconfirmed(Episode),
    /// With dont-care nobody is fenced, and the peer cannot be asked: the operator decides.
    PeerUnreachable,
    /// The policy wants a fence, but there is nobody to ask for it.
    NobodyToAsk,
    /// The peer's own episode is not given back yet.
    NotReleased(Episode),
    /// Whoever wanted it gave up.
    Cancelled,
    /// The peer is back meanwhile: it is to be asked over the link, as always.
    PeerIsBack,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced(episode) => write!(
                f,
                "the peer fences this node by episode {episode}: it may have newer data; bring it back, or, if it is gone for good, 'primary --force'"
            ),
            Self::PeerIsPrimary => f.write_str(
                "the peer says that it is Primary; if it is surely off by now, 'primary --force'",
            ),
            Self::Disk(Disk::Outdated) => f.write_str(
                "the disk is Outdated: the peer has newer data; bring it back, or, if it is gone for good, 'primary --force'",
            ),
            Self::Disk(_) => f.write_str("a disk is missing, failed or half synchronised"),
            Self::PeerGoesFirst(episode) => write!(
                f,
                "the peer wants to become Primary too and goes first (episode {episode})"
            ),
            Self::Older(episode) => write!(
                f,
                "the disks are from an earlier time: they do not know that both nodes were in sync after episode {episode}; bring the peer back, or, if it is gone for good, 'primary --force'"
            ),
            Self::NoAnswer => f.write_str(
                "neither the peer nor the arbiter answered in time; see 'fence', or, if the peer is surely off, 'primary --force'",
            ),
            Self::Unconfirmed(episode) => write!(
                f,
                "this node held the fence of episode {episode} when it went down, and neither the peer nor the arbiter confirms that it still does; see 'fence', or, if the peer is surely off, 'primary --force'"
            ),
            Self::PeerUnreachable => f.write_str(
                "the peer is not connected, and the policy is dont-care: if it is surely not Primary, 'primary --force'",
            ),
            Self::NobodyToAsk => f.write_str(
                "the peer is not connected, and neither a management network nor an arbiter is configured: if it is surely off, 'primary --force'",
            ),
            Self::NotReleased(episode) => write!(
                f,
                "the fence of episode {episode} is not given back yet; see 'fence'"
            ),
            Self::Cancelled => f.write_str("it is not wanted any more"),
            Self::PeerIsBack => f.write_str("the peer is back: try again"),
        }
    }
}

/// Something that people and scripts should see.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Notice {
    /// A fence is asked for.
    Requested(Episode),
    /// It was granted.
    Granted(Episode, Party),
    /// Somebody refused it.
    Refused(Episode, Party, crate::Refusal),
    /// It is given up without having been used.
    Withdrawn(Episode),
    /// All volumes are UpToDate on both sides, and it is given back.
    Releasing(Episode),
    /// Everybody knows that it was given back: the unfence is complete.
    Unfenced(Episode),
    /// This node is fenced by the peer.
    Marked(Episode),
    /// It is not any more.
    MarkLifted(Episode),
    /// Its time has passed without a decision.
    Overdue(Episode),
    /// The operator ended it by hand.
    ByHand(Episode),
    /// The arbiter has this node for a holder and the node did not know: its metadata was replaced.
    Adopted(Episode),
    /// A number so high that it must be damage was ignored.
    Implausible(Episode, Party),
    /// The arbiter has a holder that is neither node of this pair.
    Stranger(Name, Episode),
}

/// Something to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make the record durable, then say [`Input::Persisted`]. If it has a mark that the stored one had not, disks
    /// that are Consistent or UpToDate become Outdated in the same save, and [`Input::View`] says so before
    /// [`Input::Persisted`] is said.
    Persist(Record),
    /// Send a question.
    Send(Party, Request),
    /// Answer the request with this number.
    Reply(Party, u32, Answer),
    /// Set a timer; the pump knows how long. The number counts the tries so far, for the back-off.
    SetTimer(Timer, u8),
    /// Hold clients' requests back, answer none.
    Freeze,
    /// Serve clients again.
    Thaw(Thaw),
    /// The peer's disks are at most Outdated: it is fenced by this episode.
    PeerFenced(Episode),
    /// This node must not go on: its disks are Outdated (already stored if there is an episode), its clients are
    /// dropped, it becomes Secondary. A connection is ended: only a new handshake finds out whether the disks are as
    /// good as the peer's.
    OutdateSelf(Option<Episode>),
    /// Drop clients and become Secondary; the data is as good as it was.
    StepDown,
    /// The promotion is decided. If granted, the node is Primary from now on.
    Promotion(Result<(), Denied>),
    /// For the log and the events.
    Notice(Notice),
}
