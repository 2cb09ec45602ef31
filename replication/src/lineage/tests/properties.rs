//! What holds for any two sides, however unlikely.

use super::super::*;
use crate::api::DiskState;
use proptest::prelude::*;

/// Any side; which name sorts first is up to the pair.
fn side() -> impl Strategy<Value = Side> {
    // Few identifiers, so that they often meet.
    let uuid = || 0u64..6;
    let disk = prop_oneof![
        1 => Just(DiskState::Failed),
        2 => Just(DiskState::Inconsistent),
        1 => Just(DiskState::Outdated),
        1 => Just(DiskState::DUnknown),
        2 => Just(DiskState::Consistent),
        4 => Just(DiskState::UpToDate),
    ];
    (
        (uuid(), uuid(), uuid(), uuid()),
        0u64..3,
        disk,
        any::<[bool; 5]>(),
    )
        .prop_map(|((current, bitmap, newer, older), dirty, disk, flags)| {
            let [primary, crashed, was_primary, discard, steady] = flags;
            Side {
                left_behind: false,
                current,
                bitmap,
                history: [newer, older],
                dirty,
                disk,
                primary,
                crashed,
                was_primary,
                steady,
                discard: discard && !primary,
                first: false,
            }
        })
}

pub(super) fn pair() -> impl Strategy<Value = (Side, Side)> {
    (side(), side(), any::<bool>()).prop_map(|(mut a, mut b, first)| {
        (a.first, b.first) = (first, !first);
        (a, b)
    })
}

/// Every combination of policies comes up: the bytes cover all values, and one too many of each.
pub(super) fn policies() -> impl Strategy<Value = Policies> {
    (0u8..8, 0u8..6, 0u8..4, 0u8..4, 0u8..2)
        .prop_map(|(zero, one, two, rr, always)| Policies::from_bytes([zero, one, two, rr, always]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn both_nodes_come_to_the_same_end((a, b) in pair(), policies in policies()) {
        let found = decide(&a, &b, &policies);
        prop_assert_eq!(decide(&b, &a, &policies), found.mirrored());
        prop_assert_eq!(found.mirrored().mirrored(), found);
    }

    #[test]
    fn nobody_without_whole_data_is_ever_a_source((a, b) in pair(), policies in policies()) {
        let verdict = decide(&a, &b, &policies).verdict;
        if matches!(verdict, Verdict::Source { .. } | Verdict::SourceAfterDemotion) {
            prop_assert!(a.disk > DiskState::Inconsistent && a.current != JUST_CREATED);
        }
        if verdict == Verdict::InSync {
            prop_assert!(a.is_whole() && b.is_whole() && a.current == b.current);
            prop_assert!(a.dirty == 0 && b.dirty == 0);
        }
    }

    #[test]
    fn a_primary_is_a_target_only_by_rr_conflict_and_never_while_it_serves(
        (a, b) in pair(),
        policies in policies(),
    ) {
        let verdict = decide(&a, &b, &policies).verdict;
        if matches!(verdict, Verdict::Source { .. }) {
            prop_assert!(!b.primary);
        }
        if verdict == Verdict::SourceAfterDemotion {
            prop_assert!(b.primary && policies.rr_conflict == RrConflict::Violently);
        }
        if a.primary && b.primary {
            let together = [Verdict::NoDisk, Verdict::Undecided, Verdict::InSync];
            prop_assert!(!together.contains(&verdict));
        }
    }

    #[test]
    fn an_unfinished_copy_only_ever_takes_data((a, b) in pair(), policies in policies()) {
        let unfinished = a.disk == DiskState::Inconsistent && b.is_whole();
        if unfinished {
            let verdict = decide(&a, &b, &policies).verdict;
            let takes = matches!(verdict, Verdict::Target { .. } | Verdict::TargetAfterDemotion);
            prop_assert!(takes || (a.primary && verdict == Verdict::PrimaryIsTarget));
        }
    }

    #[test]
    fn without_policies_nothing_that_went_on_alone_is_overwritten((a, b) in pair()) {
        let Decision { verdict, rule, settled } = decide(&a, &b, &Policies::default());
        let diverged = [Rule::CommonAncestor, Rule::CommonHistory, Rule::NothingMatches];
        if diverged.contains(&rule) && matches!(verdict, Verdict::Source { .. }) {
            prop_assert!(settled == Settled::ByDiscard && b.discard && !a.discard);
        }
        prop_assert!(!matches!(settled, Settled::ByPolicy(_)));
        // Whoever's bitmap counts from nothing that the peer has or had is never the source.
        if matches!(verdict, Verdict::Source { .. }) && settled == Settled::ByRule && b.is_whole() {
            let known = [a.current, a.bitmap, a.history[0], a.history[1]];
            prop_assert!(known.contains(&b.current));
        }
    }

    #[test]
    fn a_policy_that_the_nodes_do_not_share_settles_nothing(
        (a, b) in pair(),
        mine in policies(),
        theirs in policies(),
    ) {
        let agreed = mine.agreed(&theirs);
        prop_assert_eq!(theirs.agreed(&mine), agreed);
        prop_assert_eq!(mine.agreed(&mine), mine);
        prop_assert_eq!(Policies::from_bytes(mine.to_bytes()), mine);
        if let Settled::ByPolicy(policy) = decide(&a, &b, &agreed).settled {
            let shared = match policy {
                AfterSb::NoPrimary => mine.after_sb_0pri == theirs.after_sb_0pri,
                AfterSb::OnePrimary => mine.after_sb_1pri == theirs.after_sb_1pri,
                AfterSb::TwoPrimaries => mine.after_sb_2pri == theirs.after_sb_2pri,
            };
            prop_assert!(shared);
        }
    }
}
