//! The table: what the disks' states and their generations say. The first rule that applies decides.

use super::{Rule, Side, Verdict};
use crate::api::DiskState;
use crate::mutation::{self, Mutation};

type Found = (Verdict, Rule);

/// A resync of the union of both nodes' dirty blocks from this node, or to it.
fn by_bitmap(mine_is_source: bool) -> Verdict {
    if mine_is_source {
        Verdict::Source { full: false }
    } else {
        Verdict::Target { full: false }
    }
}

fn flip((verdict, rule): Found) -> Found {
    (verdict.mirrored(), rule)
}

/// Applies the table to this node (`mine`) and its peer, regardless of policies.
pub(super) fn compare(mine: &Side, peer: &Side) -> Found {
    if mine.disk <= DiskState::Failed || peer.disk <= DiskState::Failed {
        return (Verdict::NoDisk, Rule::DiskMissing);
    }
    match (mine.knows_nothing(), peer.knows_nothing()) {
        (true, true) => return (Verdict::Undecided, Rule::BothUnknown),
        (false, true) => return against_unknown(mine, peer),
        (true, false) => return flip(against_unknown(peer, mine)),
        (false, false) => {}
    }
    if mine.is_created() && peer.is_created() {
        return (Verdict::Undecided, Rule::BothCreated);
    }
    match (mine.is_whole(), peer.is_whole()) {
        (false, false) => return (Verdict::Undecided, Rule::NobodyWhole),
        (true, false) => return against_unfinished(mine, peer),
        (false, true) => return flip(against_unfinished(peer, mine)),
        (true, true) => {}
    }
    if mine.current == peer.current {
        return equal(mine, peer);
    }
    match (ancestry(mine, peer), ancestry(peer, mine)) {
        (Some(found), None) => found,
        (None, Some(found)) => flip(found),
        // Each claims to descend from the other: believe neither.
        (Some(_), Some(_)) => (Verdict::SplitBrain, Rule::CommonHistory),
        (None, None) => diverged(mine, peer),
    }
}

/// A node that knows nothing may have gone on alone before it restarted.
fn against_unknown(known: &Side, unknown: &Side) -> Found {
    if !known.is_whole() {
        (Verdict::Undecided, Rule::NobodyWhole)
    } else if known.disk == DiskState::UpToDate {
        (Verdict::Source { full: true }, Rule::OneUnknown)
    } else if unknown.discard {
        (Verdict::Source { full: true }, Rule::UnknownDiscarded)
    } else {
        (Verdict::Undecided, Rule::UnknownMayBeNewer)
    }
}

/// The whole side is the source. The bitmaps tell what is missing when the unfinished copy bears the
/// generation that the source's bitmap counts from, or, if that counts from nothing, the source's own;
/// also when the former has just moved into the history, because the end of the resync was announced
/// and never came to be.
fn against_unfinished(whole: &Side, unfinished: &Side) -> Found {
    if unfinished.is_created() {
        return (Verdict::Source { full: true }, Rule::OneCreated);
    }
    let resumes = [whole.current, whole.bitmap, whole.history[0]].contains(&unfinished.current);
    (Verdict::Source { full: !resumes }, Rule::UnfinishedTarget)
}

/// The data differ at most in the dirty blocks of both nodes, none of which were answered to a client
/// and are missing on the side that is made the source: whoever goes on alone takes a new generation
/// first. So this never is a split brain, unless both go on right now.
fn equal(mine: &Side, peer: &Side) -> Found {
    if mine.primary && peer.primary {
        return (Verdict::SplitBrain, Rule::EqualBothPrimary);
    }
    if mine.primary != peer.primary {
        // Even with nothing dirty: a Primary goes on writing during the handshake.
        return (by_bitmap(mine.primary), Rule::EqualOnePrimary);
    }
    let bitmaps = (mine.bitmap != 0, peer.bitmap != 0);
    let end_missed = bitmaps.0 != bitmaps.1;
    if mine.dirty == 0 && peer.dirty == 0 {
        let rule = if end_missed {
            Rule::EqualEndMissed
        } else {
            Rule::Equal
        };
        return (Verdict::InSync, rule);
    }
    // Whatever was answered is on both disks, so all of it is still on one that was in use all the time,
    // while the other may have lost with its power what was not flushed. (A write that was not answered
    // may go either way: reads show only what is on both.)
    // One that is known not to hold it durably gives way: it was outdated by command, or its flush failed.
    // Otherwise clients saw the data of the crashed Primary last. Marks alone say who has what the other has not, or lost.
    let counts = !mutation::is(Mutation::SteadyIgnored);
    let current = |side: &Side| side.disk != DiskState::Outdated;
    let preferences = [
        (
            (mine.steady && counts, peer.steady && counts),
            Rule::EqualSteady,
        ),
        ((current(mine), current(peer)), Rule::EqualOutdated),
        ((mine.crashed, peer.crashed), Rule::EqualCrashed),
        (bitmaps, Rule::EqualEndMissed),
        ((mine.dirty > 0, peer.dirty > 0), Rule::EqualDirty),
        ((mine.first, peer.first), Rule::EqualDirty),
    ];
    for ((here, there), rule) in preferences {
        if here != there {
            return (by_bitmap(here), rule);
        }
    }
    // Only if both claim the same place in the order of names, which the greeting excludes.
    (Verdict::Undecided, Rule::EqualDirty)
}

/// Whether `newer` went on from where `older` is.
fn ancestry(newer: &Side, older: &Side) -> Option<Found> {
    if newer.bitmap == older.current {
        return Some((Verdict::Source { full: false }, Rule::BitmapMatches));
    }
    if newer.history[0] == older.current && newer.bitmap != 0 && newer.bitmap == older.bitmap {
        // The source noted what it was to overwrite, and both bitmaps still count from one generation.
        return Some((Verdict::Source { full: false }, Rule::StartMissed));
    }
    newer
        .history
        .contains(&older.current)
        .then_some((Verdict::Source { full: true }, Rule::InHistory))
}

fn diverged(mine: &Side, peer: &Side) -> Found {
    if mine.bitmap != 0 && mine.bitmap == peer.bitmap {
        return (Verdict::SplitBrain, Rule::CommonAncestor);
    }
    let known = |side: &Side| [side.bitmap, side.history[0], side.history[1]];
    let theirs = known(peer);
    let meet = (known(mine).iter()).any(|uuid| *uuid != 0 && theirs.contains(uuid));
    if meet {
        (Verdict::SplitBrain, Rule::CommonHistory)
    } else {
        (Verdict::Unrelated, Rule::NothingMatches)
    }
}
