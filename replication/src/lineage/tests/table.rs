//! The table, row by row.

use super::super::*;
use super::{dirty, discard, primary, up, with};
use crate::api::DiskState::{self, Consistent, DUnknown, Failed, Inconsistent, Outdated};

const BITMAP: Verdict = Verdict::Source { full: false };
const FULL: Verdict = Verdict::Source { full: true };
const IN_SYNC: Verdict = Verdict::InSync;
const UNDECIDED: Verdict = Verdict::Undecided;
const SPLIT: Verdict = Verdict::SplitBrain;

fn disk(side: Side, disk: DiskState) -> Side {
    with(side, |s| s.disk = disk)
}

fn crashed(side: Side) -> Side {
    with(side, |s| s.crashed = true)
}

/// Both orders of the two sides, with this node's name first, and with the peer's.
fn check(mine: Side, peer: Side, verdict: Verdict, rule: Rule) {
    for first in [true, false] {
        let mine = with(mine, |s| s.first = first);
        let peer = with(peer, |s| s.first = !first);
        let found = decide(&mine, &peer, &Policies::default());
        assert_eq!(
            (found.verdict, found.rule),
            (verdict, rule),
            "{mine:?}\n{peer:?}"
        );
        assert_eq!(decide(&peer, &mine, &Policies::default()), found.mirrored());
    }
}

#[test]
fn disks_that_are_missing_created_or_unfinished() {
    let created = disk(up(0, 0, 0), Inconsistent);
    let half = disk(up(5, 0, 0), Inconsistent);
    check(
        up(7, 0, 0),
        disk(up(7, 0, 0), Failed),
        Verdict::NoDisk,
        Rule::DiskMissing,
    );
    check(created, created, UNDECIDED, Rule::BothCreated);
    check(up(7, 0, 0), created, FULL, Rule::OneCreated);
    check(
        disk(up(7, 0, 0), Consistent),
        created,
        FULL,
        Rule::OneCreated,
    );
    check(disk(up(7, 5, 0), Outdated), created, FULL, Rule::OneCreated);
    check(half, created, UNDECIDED, Rule::NobodyWhole);
    check(half, half, UNDECIDED, Rule::NobodyWhole);
    check(half, primary(half), UNDECIDED, Rule::NobodyWhole);
    check(
        up(7, 0, 0),
        primary(created),
        Verdict::PrimaryIsTarget,
        Rule::OneCreated,
    );
    // Whether the unfinished copy's generation is known, and where.
    check(up(7, 5, 0), half, BITMAP, Rule::UnfinishedTarget);
    check(up(9, 7, 5), half, BITMAP, Rule::UnfinishedTarget);
    check(up(5, 0, 0), half, BITMAP, Rule::UnfinishedTarget);
    check(up(9, 7, 0), half, FULL, Rule::UnfinishedTarget);
    check(
        disk(up(9, 7, 0), Outdated),
        half,
        FULL,
        Rule::UnfinishedTarget,
    );
    // Whatever else the unfinished copy claims.
    let claims = with(half, |s| (s.bitmap, s.dirty, s.crashed) = (7, 9, true));
    check(up(7, 0, 0), claims, FULL, Rule::UnfinishedTarget);
}

#[test]
fn disks_of_which_nothing_is_known() {
    let unknown = disk(up(0, 0, 0), DUnknown);
    let lost = disk(up(7, 0, 0), Consistent);
    let half = disk(up(5, 0, 0), Inconsistent);
    check(unknown, unknown, UNDECIDED, Rule::BothUnknown);
    check(up(7, 0, 0), unknown, FULL, Rule::OneUnknown);
    check(lost, unknown, UNDECIDED, Rule::UnknownMayBeNewer);
    check(lost, discard(unknown), FULL, Rule::UnknownDiscarded);
    check(half, unknown, UNDECIDED, Rule::NobodyWhole);
}

#[test]
fn equal_generations() {
    let here = up(7, 0, 0);
    let lost = disk(here, Consistent);
    check(here, here, IN_SYNC, Rule::Equal);
    check(lost, disk(here, Outdated), IN_SYNC, Rule::Equal);
    check(crashed(lost), lost, IN_SYNC, Rule::Equal);
    check(primary(here), lost, BITMAP, Rule::EqualOnePrimary);
    check(
        primary(here),
        dirty(crashed(lost), 3),
        BITMAP,
        Rule::EqualOnePrimary,
    );
    check(primary(here), primary(lost), SPLIT, Rule::EqualBothPrimary);
    // Marks are never cleared for nothing, nor called a split brain.
    check(dirty(lost, 3), lost, BITMAP, Rule::EqualDirty);
    check(dirty(crashed(lost), 3), lost, BITMAP, Rule::EqualCrashed);
    check(crashed(lost), dirty(lost, 3), BITMAP, Rule::EqualCrashed);
    check(
        dirty(crashed(lost), 3),
        dirty(lost, 9),
        BITMAP,
        Rule::EqualCrashed,
    );
    // What a crash may have lost is still on the other disk.
    let steady = with(lost, |s| s.steady = true);
    check(steady, dirty(crashed(lost), 3), BITMAP, Rule::EqualSteady);
    check(steady, dirty(up(7, 5, 0), 3), BITMAP, Rule::EqualSteady);
    // One that is known not to have it all, or not for good, gives way to one that may.
    let outdated = disk(here, Outdated);
    check(
        lost,
        dirty(crashed(outdated), 3),
        BITMAP,
        Rule::EqualOutdated,
    );
    check(
        with(outdated, |s| s.steady = true),
        dirty(crashed(lost), 3),
        BITMAP,
        Rule::EqualSteady,
    );
    check(dirty(crashed(lost), 3), lost, BITMAP, Rule::EqualCrashed);
    check(
        primary(lost),
        dirty(steady, 3),
        BITMAP,
        Rule::EqualOnePrimary,
    );
    // The end of a resync was missed; with blocks marked since, and without.
    check(up(7, 5, 0), lost, IN_SYNC, Rule::EqualEndMissed);
    check(dirty(up(7, 5, 0), 3), lost, BITMAP, Rule::EqualEndMissed);
    check(up(7, 5, 0), dirty(lost, 3), BITMAP, Rule::EqualEndMissed);
    check(
        dirty(crashed(lost), 3),
        up(7, 5, 0),
        BITMAP,
        Rule::EqualCrashed,
    );
    // Nothing else tells them apart: the names do.
    for (here, there) in [
        (dirty(lost, 3), dirty(lost, 4)),
        (dirty(crashed(lost), 3), dirty(crashed(lost), 4)),
        (dirty(up(7, 5, 0), 3), dirty(up(7, 5, 0), 4)),
    ] {
        for first in [true, false] {
            let here = with(here, |s| s.first = first);
            let there = with(there, |s| s.first = !first);
            let expected = if first { BITMAP } else { BITMAP.mirrored() };
            assert_eq!(
                decide(&here, &there, &Policies::default()).verdict,
                expected
            );
        }
    }
}

#[test]
fn one_went_on_and_the_other_did_not() {
    let lost = disk(up(7, 0, 0), Consistent);
    check(up(9, 7, 0), lost, BITMAP, Rule::BitmapMatches);
    check(
        disk(up(9, 7, 0), Outdated),
        up(7, 0, 0),
        BITMAP,
        Rule::BitmapMatches,
    );
    check(
        up(9, 7, 0),
        dirty(crashed(lost), 3),
        BITMAP,
        Rule::BitmapMatches,
    );
    check(
        up(9, 7, 0),
        discard(up(7, 0, 0)),
        BITMAP,
        Rule::BitmapMatches,
    );
    check(
        discard(up(9, 7, 0)),
        up(7, 0, 0),
        BITMAP,
        Rule::BitmapMatches,
    );
    check(
        up(9, 7, 0),
        primary(lost),
        Verdict::PrimaryIsTarget,
        Rule::BitmapMatches,
    );
    check(
        primary(up(9, 7, 0)),
        primary(lost),
        Verdict::PrimaryIsTarget,
        Rule::BitmapMatches,
    );
    check(up(9, 8, 7), lost, FULL, Rule::InHistory);
    check(
        with(up(9, 8, 6), |s| s.history[1] = 7),
        lost,
        FULL,
        Rule::InHistory,
    );
    check(up(9, 0, 7), lost, FULL, Rule::InHistory);
    check(up(9, 0, 7), up(7, 5, 0), FULL, Rule::InHistory);
    // Given up before, and both still count from one generation.
    check(up(9, 5, 7), up(7, 5, 0), BITMAP, Rule::StartMissed);
    check(up(9, 5, 7), up(7, 4, 0), FULL, Rule::InHistory);
}

#[test]
fn both_went_on() {
    check(up(9, 7, 0), up(8, 7, 0), SPLIT, Rule::CommonAncestor);
    check(up(9, 7, 0), up(8, 6, 7), SPLIT, Rule::CommonHistory);
    check(up(9, 6, 7), up(8, 5, 7), SPLIT, Rule::CommonHistory);
    // Each claims to descend from the other.
    check(up(9, 8, 0), up(8, 9, 0), SPLIT, Rule::CommonHistory);
    check(up(9, 8, 0), up(8, 0, 9), SPLIT, Rule::CommonHistory);
    check(
        up(9, 0, 0),
        up(8, 0, 0),
        Verdict::Unrelated,
        Rule::NothingMatches,
    );
    check(
        up(9, 6, 5),
        up(8, 3, 4),
        Verdict::Unrelated,
        Rule::NothingMatches,
    );
    // The operator's word.
    check(
        up(9, 7, 0),
        discard(up(8, 7, 0)),
        BITMAP,
        Rule::CommonAncestor,
    );
    check(up(9, 6, 7), discard(up(8, 5, 7)), FULL, Rule::CommonHistory);
    check(
        up(9, 0, 0),
        discard(up(8, 0, 0)),
        FULL,
        Rule::NothingMatches,
    );
    check(
        discard(up(9, 7, 0)),
        discard(up(8, 7, 0)),
        SPLIT,
        Rule::CommonAncestor,
    );
}

#[test]
fn every_rule_has_its_words() {
    let numbered = [Rule::Equal, Rule::BitmapMatches, Rule::CommonHistory];
    assert_eq!(numbered.map(Rule::number), ["40", "50/70", "100"]);
    assert_eq!(Rule::NothingMatches.number(), "");
    assert!(Rule::StartMissed.text().contains("start of the resync"));
}
