//! Whose data is newer? The decision table of the handshake.
//!
//! Both nodes evaluate the same pure function on the same two descriptions, so they always agree:
//! `decide(a, b, p)` is the mirror image of `decide(b, a, p)`. It reads top-down:
//!
//! 1. `table`: what the disks' states and their generations say, the first rule that applies;
//! 2. [`policy`]: what the operator wants done about a split brain, beforehand or by
//!    `connect --discard-my-data`;
//! 3. roles: nobody who serves clients takes another's data while it does.
//!
//! [`generations`] is the other half: how the identifiers change over a volume's life. The table is
//! right only for nodes that follow it; `tests/model.rs` lets two nodes live through random histories
//! and checks both halves together. [`explain`] tells people what was decided and why.
//!
//! Facts about the bitmap that the table relies on (the engine provides them):
//!
//! - The dirty blocks of a node with a `bitmap` generation cover every block in which its data differs
//!   from the data that bore that generation; those of a node without one, every block in which it may
//!   differ from a peer with the same `current`.
//! - After a crash as Primary they include the hot extents, and blocks that the peer acknowledged and
//!   may have lost since.
//! - Every resync by bitmap begins with the union of both nodes' dirty blocks, and the target forgets
//!   its own only at the end.

pub mod explain;
pub mod generations;
pub mod policy;
mod table;
#[cfg(test)]
mod tests;

pub use explain::{BLOCK, Explanation, Grows};
pub use generations::Generations;
pub use policy::{AfterSb0Pri, AfterSb1Pri, AfterSb2Pri, Names, Order, Policies, RrConflict};

use crate::api::DiskState;

/// `current` of metadata that was just created: the disk holds nothing of worth.
pub const JUST_CREATED: u64 = 0;

/// One node's description of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// Current generation; [`JUST_CREATED`]: none yet.
    pub current: u64,
    /// Generation that the dirty bitmap counts from; 0: none.
    pub bitmap: u64,
    /// Earlier bitmap generations, newest first; 0: none.
    pub history: [u64; 2],
    /// Dirty blocks of 4 KiB; after a crash as Primary with the hot extents.
    pub dirty: u64,
    /// The disk. [`DiskState::DUnknown`] without a generation is a node that knows nothing of its disk,
    /// which is less than just created: it may hold anything.
    pub disk: DiskState,
    /// Whether the node is Primary and serves clients from this disk. (Not so a Primary that serves
    /// through its peer, whose own disk was attached again or is Inconsistent: that disk may be a target.)
    pub primary: bool,
    /// Whether the node was Primary when it crashed, and has not been reconciled since.
    pub crashed: bool,
    /// Whether the node was Primary when it last lost its peer.
    pub was_primary: bool,
    /// Whether the disk has been in use without a break since it had everything of its generation. Not so
    /// after a restart, which may have lost what was not flushed, nor after the disk failed.
    pub steady: bool,
    /// Whether the operator gave this node's changes up.
    pub discard: bool,
    /// Whether the node is Primary without a good disk, and its clients saw last what the other side has not: then
    /// it cannot go on with the other side's data.
    pub left_behind: bool,
    /// Whether this node's name sorts before the peer's: breaks ties.
    pub first: bool,
}

impl Side {
    /// Whether the metadata was just created, so that there is no data of worth.
    #[must_use]
    pub fn is_created(&self) -> bool {
        self.current == JUST_CREATED && self.disk != DiskState::DUnknown
    }

    /// Whether the disk holds a whole copy of some generation.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.current != JUST_CREATED && self.disk > DiskState::Inconsistent
    }

    fn knows_nothing(&self) -> bool {
        self.current == JUST_CREATED && self.disk == DiskState::DUnknown
    }
}

/// What follows for this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A disk is missing or failed: nothing to replicate.
    NoDisk,
    /// Neither side can be called newer; the operator must say. Stay connected.
    Undecided,
    /// Identical.
    InSync,
    /// This node's data goes to the peer.
    Source {
        /// Everything, not only the union of both nodes' dirty blocks.
        full: bool,
    },
    /// The peer's data comes here.
    Target {
        /// Everything, not only the union of both nodes' dirty blocks.
        full: bool,
    },
    /// This node's data is to go to the peer, which is Primary: it drops its clients, becomes
    /// Secondary and connects again, ready to give its changes up.
    SourceAfterDemotion,
    /// The peer's data is to come here, and this node is Primary: it drops its clients, becomes
    /// Secondary and connects again, ready to give its changes up (`discard`).
    TargetAfterDemotion,
    /// Both went on without the other.
    SplitBrain,
    /// No common ancestor is known.
    Unrelated,
    /// The loser is Primary: it cannot take the other's data while it serves clients.
    PrimaryIsTarget,
    /// Both are Primary, though their data would not keep them apart.
    BothPrimary,
}

impl Verdict {
    /// The same verdict seen from the other side.
    #[must_use]
    pub fn mirrored(self) -> Self {
        match self {
            Self::Source { full } => Self::Target { full },
            Self::Target { full } => Self::Source { full },
            Self::SourceAfterDemotion => Self::TargetAfterDemotion,
            Self::TargetAfterDemotion => Self::SourceAfterDemotion,
            other => other,
        }
    }
}

/// The rule of the table that applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A disk is missing or failed.
    DiskMissing,
    /// Both nodes know nothing about their disks.
    BothUnknown,
    /// One node knows nothing, the other is known best.
    OneUnknown,
    /// One node knows nothing and gave its data up.
    UnknownDiscarded,
    /// One node knows nothing and may have gone on alone before it restarted.
    UnknownMayBeNewer,
    /// Both nodes' metadata were just created.
    BothCreated,
    /// One node's metadata was just created.
    OneCreated,
    /// No node has a whole copy.
    NobodyWhole,
    /// One copy is an unfinished resync target.
    UnfinishedTarget,
    /// Equal generations, and both nodes are Primary.
    EqualBothPrimary,
    /// Equal generations, one node is Primary.
    EqualOnePrimary,
    /// Equal generations, one node's disk has been in use since it had everything.
    EqualSteady,
    /// Equal generations, one copy is Outdated.
    EqualOutdated,
    /// Equal generations, one node (or both) crashed as Primary with blocks marked.
    EqualCrashed,
    /// Equal generations, one node missed the end of a resync.
    EqualEndMissed,
    /// Equal generations, blocks are marked.
    EqualDirty,
    /// Equal generations, nothing dirty.
    Equal,
    /// One node's current generation is the one the other's bitmap counts from.
    BitmapMatches,
    /// It was decided before whose data goes on, but the word that a resync begins was lost.
    StartMissed,
    /// One node's current generation is in the other's history.
    InHistory,
    /// Both bitmaps count from the same generation.
    CommonAncestor,
    /// The histories meet.
    CommonHistory,
    /// Nothing matches.
    NothingMatches,
}

impl Rule {
    /// The rule and its evidence in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::DiskMissing => "a disk is missing or failed",
            Self::BothUnknown => "neither node knows the state of its disk",
            Self::OneUnknown => "one node knows nothing of its disk, the other's is known best",
            Self::UnknownDiscarded => "the operator gave up the disk of unknown state",
            Self::UnknownMayBeNewer => "one node knows nothing of its disk and may be newer",
            Self::BothCreated => "the metadata of both nodes were just created",
            Self::OneCreated => "the metadata of one node were just created",
            Self::NobodyWhole => "neither node has a whole copy",
            Self::UnfinishedTarget => "one copy is the target of an unfinished resync",
            Self::EqualBothPrimary => "equal generations, both nodes are Primary",
            Self::EqualOnePrimary => "equal generations, one node is Primary",
            Self::EqualSteady => "equal generations, one disk has been in use without a break",
            Self::EqualOutdated => "equal generations, one copy is Outdated",
            Self::EqualCrashed => "equal generations, a node crashed as Primary",
            Self::EqualEndMissed => "equal generations, the end of a resync was missed",
            Self::EqualDirty => "equal generations, blocks are marked",
            Self::Equal => "equal generations, nothing marked",
            Self::BitmapMatches => "one node went on from exactly the other's generation",
            Self::StartMissed => "decided before, but the start of the resync was missed",
            Self::InHistory => "one node's generation is in the other's history",
            Self::CommonAncestor => "both went on alone from the same generation",
            Self::CommonHistory => "both went on alone, long ago from the same generation",
            Self::NothingMatches => "no generation in common",
        }
    }

    /// The number of the like rule in DRBD's table, for those who know it; empty if it has none.
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Self::BothCreated => "10",
            Self::OneCreated => "20/30",
            Self::EqualEndMissed => "34-37",
            Self::EqualOnePrimary | Self::EqualBothPrimary => "41",
            Self::EqualSteady
            | Self::EqualOutdated
            | Self::EqualCrashed
            | Self::EqualDirty
            | Self::Equal => "40",
            Self::BitmapMatches => "50/70",
            Self::StartMissed => "51/71",
            Self::InHistory => "60/80",
            Self::CommonAncestor => "90",
            Self::CommonHistory => "100",
            Self::DiskMissing
            | Self::BothUnknown
            | Self::OneUnknown
            | Self::UnknownDiscarded
            | Self::UnknownMayBeNewer
            | Self::NobodyWhole
            | Self::UnfinishedTarget
            | Self::NothingMatches => "",
        }
    }
}

/// What turned the rule into the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Nothing but the rule.
    ByRule,
    /// The operator gave up one side's changes (`connect --discard-my-data`).
    ByDiscard,
    /// The policy of this name for a split brain.
    ByPolicy(AfterSb),
}

/// The policy for a split brain that applied: one for each number of Primaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSb {
    /// `after-sb-0pri`.
    NoPrimary,
    /// `after-sb-1pri`.
    OnePrimary,
    /// `after-sb-2pri`.
    TwoPrimaries,
}

/// What [`decide`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What follows for this node.
    pub verdict: Verdict,
    /// The rule of the table.
    pub rule: Rule,
    /// How the rule became the verdict.
    pub settled: Settled,
}

impl Decision {
    /// The same decision seen from the other side.
    #[must_use]
    pub fn mirrored(self) -> Self {
        Self {
            verdict: self.verdict.mirrored(),
            ..self
        }
    }
}

/// Decides between this node (`mine`) and its peer. `policies` must be the same on both nodes: see
/// [`Policies::agreed`].
#[must_use]
pub fn decide(mine: &Side, peer: &Side, policies: &Policies) -> Decision {
    let (verdict, rule) = table::compare(mine, peer);
    let (verdict, settled) = match verdict {
        Verdict::SplitBrain | Verdict::Unrelated => policy::settle(mine, peer, rule, policies)
            .map_or((verdict, Settled::ByRule), |(verdict, by)| (verdict, by)),
        other => (other, Settled::ByRule),
    };
    Decision {
        verdict: policy::respect_roles(mine, peer, verdict, policies),
        rule,
        settled,
    }
}
