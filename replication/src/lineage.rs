//! Whose data is newer? The decision table of the handshake.
//!
//! Both nodes evaluate the same pure function on the same two descriptions, so they always agree:
//! `decide(a, b)` is the mirror image of `decide(b, a)`. Generation identifiers are random numbers:
//! `current` names the data a node has, `bitmap` the data its peer had when the node went on
//! without it (the dirty bitmap counts from there), `history` older values of `bitmap`.
//! Until lineage is durable, a node that has restarted knows nothing: its `current` is 0.

use crate::api::DiskState;

/// One node's description of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// Current generation; 0: nothing is known.
    pub current: u64,
    /// Generation that the dirty bitmap counts from; 0: none.
    pub bitmap: u64,
    /// Earlier bitmap generations, newest first; 0: none.
    pub history: [u64; 2],
    /// Dirty blocks.
    pub dirty: u64,
    /// The disk.
    pub disk: DiskState,
    /// Whether the node is Primary.
    pub primary: bool,
    /// Whether the operator gave this node's changes up.
    pub discard: bool,
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
        /// Everything, not only what the bitmap says.
        full: bool,
    },
    /// The peer's data comes here.
    Target {
        /// Everything, not only what the peer's bitmap says.
        full: bool,
    },
    /// Both went on without the other.
    SplitBrain,
    /// No common ancestor is known.
    Unrelated,
    /// The loser is Primary: it cannot take the other's data while it serves clients.
    PrimaryIsTarget,
}

/// The rule that decided, for the log.
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
    /// No node has a whole copy.
    NobodyWhole,
    /// One copy is an unfinished resync target.
    UnfinishedTarget,
    /// Equal generations, one node is Primary.
    EqualOnePrimary,
    /// Equal generations, one node missed the end of a resync.
    EqualEndMissed,
    /// Equal generations, one node has dirty blocks.
    EqualDirty,
    /// Equal generations, nothing dirty.
    Equal,
    /// One node's current generation is the one the other's bitmap counts from.
    BitmapMatches,
    /// One node's current generation is in the other's history.
    InHistory,
    /// Both bitmaps count from the same generation.
    CommonAncestor,
    /// The operator gave up one side's changes.
    DiscardMyData,
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
            Self::UnknownMayBeNewer => {
                "one node knows nothing of its disk and may have gone on alone before"
            }
            Self::NobodyWhole => "neither node has a whole copy",
            Self::UnfinishedTarget => "one copy is the target of an unfinished resync",
            Self::EqualOnePrimary => "equal generations, one node is Primary",
            Self::EqualEndMissed => "equal generations, the end of a resync was missed",
            Self::EqualDirty => "equal generations, one node has blocks marked",
            Self::Equal => "equal generations, nothing marked",
            Self::BitmapMatches => "one node went on from exactly the other's generation",
            Self::InHistory => "one node's generation is in the other's history",
            Self::CommonAncestor => "both went on alone from the same generation",
            Self::DiscardMyData => "the operator gave up one side's changes",
            Self::NothingMatches => "no generation in common",
        }
    }
}

impl Verdict {
    /// The same verdict seen from the other side.
    #[must_use]
    pub fn mirrored(self) -> Self {
        match self {
            Self::Source { full } => Self::Target { full },
            Self::Target { full } => Self::Source { full },
            other => other,
        }
    }
}

/// Decides between this node (`mine`) and its peer; the first rule that applies.
#[must_use]
pub fn decide(mine: &Side, peer: &Side) -> (Verdict, Rule) {
    let (verdict, rule) = compare(mine, peer);
    let loser_is_primary = match verdict {
        Verdict::Source { .. } => peer.primary,
        Verdict::Target { .. } => mine.primary,
        _ => false,
    };
    if loser_is_primary {
        (Verdict::PrimaryIsTarget, rule)
    } else {
        (verdict, rule)
    }
}

fn compare(mine: &Side, peer: &Side) -> (Verdict, Rule) {
    if mine.disk <= DiskState::Failed || peer.disk <= DiskState::Failed {
        return (Verdict::NoDisk, Rule::DiskMissing);
    }
    match (mine.current, peer.current) {
        (0, 0) => return (Verdict::Undecided, Rule::BothUnknown),
        (_, 0) => return against_unknown(mine, peer),
        (0, _) => return flip(against_unknown(peer, mine)),
        _ => {}
    }
    match (is_unfinished(mine), is_unfinished(peer)) {
        (true, true) => return (Verdict::Undecided, Rule::NobodyWhole),
        (false, true) => return against_unfinished(mine, peer),
        (true, false) => return flip(against_unfinished(peer, mine)),
        (false, false) => {}
    }
    if mine.current == peer.current {
        return equal(mine, peer);
    }
    match (ancestry(mine, peer), ancestry(peer, mine)) {
        (Some(found), None) => return found,
        (None, Some(found)) => return flip(found),
        (Some(_), Some(_)) => return (Verdict::SplitBrain, Rule::CommonAncestor),
        (None, None) => {}
    }
    let diverged = shares_ancestor(mine, peer);
    match (mine.discard, peer.discard) {
        (false, true) => (Verdict::Source { full: true }, Rule::DiscardMyData),
        (true, false) => (Verdict::Target { full: true }, Rule::DiscardMyData),
        _ if diverged => (Verdict::SplitBrain, Rule::CommonAncestor),
        _ => (Verdict::Unrelated, Rule::NothingMatches),
    }
}

fn flip((verdict, rule): (Verdict, Rule)) -> (Verdict, Rule) {
    (verdict.mirrored(), rule)
}

fn is_unfinished(side: &Side) -> bool {
    side.disk == DiskState::Inconsistent
}

fn against_unknown(known: &Side, unknown: &Side) -> (Verdict, Rule) {
    if is_unfinished(known) {
        (Verdict::Undecided, Rule::NobodyWhole)
    } else if known.disk == DiskState::UpToDate {
        (Verdict::Source { full: true }, Rule::OneUnknown)
    } else if unknown.discard {
        (Verdict::Source { full: true }, Rule::UnknownDiscarded)
    } else {
        (Verdict::Undecided, Rule::UnknownMayBeNewer)
    }
}

/// The whole side is the source. Its bitmap tells what is missing when it counts from the
/// generation that the unfinished copy bears; also when that has just been rotated into the
/// history because the end of the resync was sent and its acknowledgement never came.
fn against_unfinished(whole: &Side, unfinished: &Side) -> (Verdict, Rule) {
    let resumes =
        unfinished.current == whole.bitmap || unfinished.current == whole.history[0];
    (Verdict::Source { full: !resumes }, Rule::UnfinishedTarget)
}

fn equal(mine: &Side, peer: &Side) -> (Verdict, Rule) {
    const SOURCE: Verdict = Verdict::Source { full: false };
    const TARGET: Verdict = Verdict::Target { full: false };
    let pick = |mine: bool| if mine { SOURCE } else { TARGET };
    if mine.primary && peer.primary || mine.dirty > 0 && peer.dirty > 0 {
        return (Verdict::SplitBrain, Rule::EqualDirty);
    }
    if mine.primary != peer.primary {
        // The other's marks, if any, are not in the Primary's bitmap.
        let full = if mine.primary { peer.dirty } else { mine.dirty } > 0;
        return match pick(mine.primary) {
            Verdict::Source { .. } => (Verdict::Source { full }, Rule::EqualOnePrimary),
            _ => (Verdict::Target { full }, Rule::EqualOnePrimary),
        };
    }
    if mine.dirty > 0 || peer.dirty > 0 {
        return (pick(mine.dirty > 0), Rule::EqualDirty);
    }
    if (mine.bitmap == 0) != (peer.bitmap == 0) {
        return (pick(mine.bitmap != 0), Rule::EqualEndMissed);
    }
    (Verdict::InSync, Rule::Equal)
}

/// Whether `newer` went on from where `older` is.
fn ancestry(newer: &Side, older: &Side) -> Option<(Verdict, Rule)> {
    if newer.bitmap == older.current {
        // Blocks that the older side has marked are not in the newer one's bitmap.
        let full = older.dirty > 0;
        return Some((Verdict::Source { full }, Rule::BitmapMatches));
    }
    newer
        .history
        .contains(&older.current)
        .then_some((Verdict::Source { full: true }, Rule::InHistory))
}

fn shares_ancestor(mine: &Side, peer: &Side) -> bool {
    let known = |side: &Side| [side.bitmap, side.history[0], side.history[1]];
    known(mine)
        .iter()
        .any(|uuid| *uuid != 0 && known(peer).contains(uuid))
}
