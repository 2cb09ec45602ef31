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
    /// Both are Primary, though their data would not keep them apart.
    BothPrimary,
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
            Self::UnknownMayBeNewer => "one node knows nothing of its disk and may be newer",
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
    let verdict = match verdict {
        Verdict::Source { .. } if peer.primary => Verdict::PrimaryIsTarget,
        Verdict::Target { .. } if mine.primary => Verdict::PrimaryIsTarget,
        Verdict::NoDisk | Verdict::Undecided | Verdict::InSync if mine.primary && peer.primary => {
            Verdict::BothPrimary
        }
        other => other,
    };
    (verdict, rule)
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
    let resumes = unfinished.current == whole.bitmap || unfinished.current == whole.history[0];
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn up(current: u64, bitmap: u64, history: u64) -> Side {
        Side {
            current,
            bitmap,
            history: [history, 0],
            dirty: 0,
            disk: DiskState::UpToDate,
            primary: false,
            discard: false,
        }
    }

    fn with(side: Side, change: impl FnOnce(&mut Side)) -> Side {
        let mut side = side;
        change(&mut side);
        side
    }

    #[test]
    fn the_table() {
        use DiskState::{Consistent, DUnknown, Failed, Inconsistent};
        const BITMAP: Verdict = Verdict::Source { full: false };
        const FULL: Verdict = Verdict::Source { full: true };
        let unknown = with(up(0, 0, 0), |s| s.disk = DUnknown);
        let lost = with(up(7, 0, 0), |s| s.disk = Consistent);
        let half = with(up(5, 0, 0), |s| s.disk = Inconsistent);
        let marked = |s: Side| with(s, |s| s.dirty = 3);
        let primary = |s: Side| with(s, |s| s.primary = true);
        let discard = |s: Side| with(s, |s| s.discard = true);
        let rows = [
            (
                up(7, 0, 0),
                with(up(7, 0, 0), |s| s.disk = Failed),
                Verdict::NoDisk,
                Rule::DiskMissing,
            ),
            (unknown, unknown, Verdict::Undecided, Rule::BothUnknown),
            (up(7, 0, 0), unknown, FULL, Rule::OneUnknown),
            (lost, unknown, Verdict::Undecided, Rule::UnknownMayBeNewer),
            (lost, discard(unknown), FULL, Rule::UnknownDiscarded),
            (half, unknown, Verdict::Undecided, Rule::NobodyWhole),
            (half, half, Verdict::Undecided, Rule::NobodyWhole),
            (up(7, 5, 0), half, BITMAP, Rule::UnfinishedTarget),
            (up(9, 7, 5), half, BITMAP, Rule::UnfinishedTarget),
            (up(9, 7, 0), half, FULL, Rule::UnfinishedTarget),
            (lost, lost, Verdict::InSync, Rule::Equal),
            (primary(up(7, 0, 0)), lost, BITMAP, Rule::EqualOnePrimary),
            (marked(lost), lost, BITMAP, Rule::EqualDirty),
            (
                marked(lost),
                marked(lost),
                Verdict::SplitBrain,
                Rule::EqualDirty,
            ),
            (up(7, 5, 0), lost, BITMAP, Rule::EqualEndMissed),
            (up(9, 7, 0), lost, BITMAP, Rule::BitmapMatches),
            (up(9, 7, 0), marked(lost), FULL, Rule::BitmapMatches),
            (
                up(9, 7, 0),
                primary(lost),
                Verdict::PrimaryIsTarget,
                Rule::BitmapMatches,
            ),
            (up(9, 8, 7), lost, FULL, Rule::InHistory),
            (
                up(9, 7, 0),
                up(8, 7, 0),
                Verdict::SplitBrain,
                Rule::CommonAncestor,
            ),
            (
                up(9, 7, 0),
                up(8, 6, 7),
                Verdict::SplitBrain,
                Rule::CommonAncestor,
            ),
            (up(9, 7, 0), discard(up(8, 7, 0)), FULL, Rule::DiscardMyData),
            (
                discard(up(9, 7, 0)),
                discard(up(8, 7, 0)),
                Verdict::SplitBrain,
                Rule::CommonAncestor,
            ),
            (
                up(9, 0, 0),
                up(8, 0, 0),
                Verdict::Unrelated,
                Rule::NothingMatches,
            ),
            (up(9, 0, 0), discard(up(8, 0, 0)), FULL, Rule::DiscardMyData),
        ];
        for (mine, peer, verdict, rule) in rows {
            assert_eq!(decide(&mine, &peer), (verdict, rule), "{mine:?} {peer:?}");
            assert!(!rule.text().is_empty());
        }
    }

    fn side() -> impl Strategy<Value = Side> {
        // Few identifiers, so that they often meet.
        let uuid = || 0u64..5;
        let disk = prop_oneof![
            Just(DiskState::Failed),
            Just(DiskState::Inconsistent),
            Just(DiskState::DUnknown),
            Just(DiskState::Consistent),
            Just(DiskState::UpToDate),
        ];
        (
            uuid(),
            uuid(),
            uuid(),
            0u64..2,
            disk,
            any::<bool>(),
            any::<bool>(),
        )
            .prop_map(
                |(current, bitmap, history, dirty, disk, primary, discard)| Side {
                    current,
                    bitmap,
                    history: [history, 0],
                    dirty,
                    disk,
                    primary,
                    discard,
                },
            )
    }

    proptest! {
        #[test]
        fn both_nodes_come_to_the_same_end(a in side(), b in side()) {
            let (mine, rule) = decide(&a, &b);
            let (theirs, same) = decide(&b, &a);
            prop_assert_eq!(mine.mirrored(), theirs);
            prop_assert_eq!(rule, same);
        }

        #[test]
        fn nobody_without_whole_data_is_ever_a_source(a in side(), b in side()) {
            if let (Verdict::Source { .. }, _) = decide(&a, &b) {
                prop_assert!(a.disk > DiskState::Inconsistent && a.current != 0);
                prop_assert!(!b.primary);
            }
            if a.primary && b.primary {
                let (verdict, _) = decide(&a, &b);
                let apart = [Verdict::SplitBrain, Verdict::Unrelated, Verdict::PrimaryIsTarget, Verdict::BothPrimary];
                prop_assert!(apart.contains(&verdict));
            }
            if let (Verdict::InSync, _) = decide(&a, &b) {
                prop_assert!(a.current == b.current && a.dirty == 0 && b.dirty == 0);
            }
        }
    }
}
