//! Split brains settled beforehand.

use super::super::*;
use super::{dirty, discard, primary, up, with};

fn first(side: Side) -> Side {
    with(side, |s| s.first = true)
}

/// Two that went on alone from generation 5, this one with more changes.
fn diverged() -> (Side, Side) {
    (first(dirty(up(7, 5, 0), 9)), dirty(up(8, 5, 0), 4))
}

fn zero(after_sb_0pri: AfterSb0Pri) -> Policies {
    Policies {
        after_sb_0pri,
        ..Policies::default()
    }
}

fn one(after_sb_0pri: AfterSb0Pri, after_sb_1pri: AfterSb1Pri) -> Policies {
    Policies {
        after_sb_1pri,
        ..zero(after_sb_0pri)
    }
}

const WIN: Verdict = Verdict::Source { full: false };
const LOSE: Verdict = Verdict::Target { full: false };
const SPLIT: Verdict = Verdict::SplitBrain;

fn verdict(mine: Side, peer: Side, policies: &Policies) -> Verdict {
    decide(&mine, &peer, policies).verdict
}

#[test]
fn without_a_primary() {
    use AfterSb0Pri::*;
    let (a, b) = diverged();
    let was = |s: Side| with(s, |s| s.was_primary = true);
    let none = |s| dirty(s, 0);
    let rows = [
        (Disconnect, a, b, SPLIT),
        (DiscardYoungerPrimary, a, was(b), LOSE),
        (DiscardYoungerPrimary, was(a), b, WIN),
        (DiscardYoungerPrimary, was(a), was(b), WIN),
        (DiscardYoungerPrimary, none(a), b, LOSE),
        (DiscardOlderPrimary, a, was(b), WIN),
        (DiscardOlderPrimary, was(a), b, LOSE),
        (DiscardOlderPrimary, a, b, WIN),
        (DiscardZeroChanges, a, b, SPLIT),
        (DiscardZeroChanges, none(a), b, LOSE),
        (DiscardZeroChanges, a, none(b), WIN),
        (DiscardZeroChanges, none(a), none(b), WIN),
        (DiscardLeastChanges, a, b, WIN),
        (DiscardLeastChanges, dirty(a, 3), b, LOSE),
        (DiscardLeastChanges, dirty(a, 4), b, WIN),
        (DiscardNode(Order::First), a, b, LOSE),
        (DiscardNode(Order::Second), a, b, WIN),
    ];
    for (policy, a, b, expected) in rows {
        assert_eq!(
            verdict(a, b, &zero(policy)),
            expected,
            "{policy:?} {a:?} {b:?}"
        );
    }
}

#[test]
fn with_one_primary() {
    use AfterSb0Pri::DiscardLeastChanges as Least;
    use AfterSb1Pri::*;
    let (more, less) = diverged();
    let rows = [
        (Disconnect, primary(more), less, SPLIT),
        (Consensus, primary(more), less, WIN),
        (Consensus, more, primary(less), SPLIT),
        (Violently, primary(more), less, WIN),
        (Violently, more, primary(less), Verdict::PrimaryIsTarget),
        (DiscardSecondary, primary(more), less, WIN),
        (DiscardSecondary, more, primary(less), LOSE),
        (CallPriLost, primary(more), less, WIN),
        (CallPriLost, more, primary(less), SPLIT),
    ];
    for (policy, a, b, expected) in rows {
        assert_eq!(verdict(a, b, &one(Least, policy)), expected, "{policy:?}");
    }
    // The Secondary needs no leave of after-sb-0pri to lose; all else does.
    let disconnect = AfterSb0Pri::Disconnect;
    assert_eq!(
        verdict(primary(less), more, &one(disconnect, DiscardSecondary)),
        WIN
    );
    assert_eq!(
        verdict(primary(more), less, &one(disconnect, Violently)),
        SPLIT
    );
    // The Primary that loses steps down first if rr-conflict says so.
    let both = Policies {
        rr_conflict: RrConflict::Violently,
        ..one(Least, Violently)
    };
    assert_eq!(
        verdict(primary(less), more, &both),
        Verdict::TargetAfterDemotion
    );
    // Having done so, and connecting with its changes given up, it is the target whatever the policies.
    assert_eq!(verdict(discard(less), more, &both), LOSE);
}

#[test]
fn with_two_primaries() {
    let (more, less) = diverged();
    let policies = |after_sb_2pri, rr_conflict| Policies {
        after_sb_2pri,
        rr_conflict,
        ..zero(AfterSb0Pri::DiscardLeastChanges)
    };
    let both = |policies| verdict(primary(more), primary(less), &policies);
    let (disconnect, violently) = (RrConflict::Disconnect, RrConflict::Violently);
    assert_eq!(both(policies(AfterSb2Pri::Disconnect, violently)), SPLIT);
    assert_eq!(both(policies(AfterSb2Pri::CallPriLost, violently)), SPLIT);
    assert_eq!(
        both(policies(AfterSb2Pri::Violently, disconnect)),
        Verdict::PrimaryIsTarget
    );
    assert_eq!(
        both(policies(AfterSb2Pri::Violently, violently)),
        Verdict::SourceAfterDemotion
    );
    // Also when both were made Primary in one generation.
    let same = |side| primary(dirty(Side { current: 7, ..side }, 0));
    let policies = policies(AfterSb2Pri::Violently, violently);
    let found = decide(&same(more), &same(less), &policies);
    assert_eq!(found.rule, Rule::EqualBothPrimary);
    assert_eq!(found.verdict, Verdict::SourceAfterDemotion);
}

#[test]
fn a_primary_that_is_told_to_be_the_target() {
    let (newer, older) = (up(7, 5, 0), primary(up(5, 0, 0)));
    let policies = |rr_conflict| Policies {
        rr_conflict,
        ..Policies::default()
    };
    for rr_conflict in [RrConflict::Disconnect, RrConflict::CallPriLost] {
        let policies = policies(rr_conflict);
        assert_eq!(verdict(newer, older, &policies), Verdict::PrimaryIsTarget);
    }
    let policies = policies(RrConflict::Violently);
    assert_eq!(
        verdict(newer, older, &policies),
        Verdict::SourceAfterDemotion
    );
    assert_eq!(
        verdict(older, newer, &policies),
        Verdict::TargetAfterDemotion
    );
}

#[test]
fn where_only_the_histories_meet_the_policies_need_always_asbp() {
    let (a, b) = (first(dirty(up(9, 6, 7), 9)), dirty(up(8, 5, 7), 4));
    let mut policies = zero(AfterSb0Pri::DiscardLeastChanges);
    assert_eq!(verdict(a, b, &policies), SPLIT);
    policies.always_asbp = true;
    let found = decide(&a, &b, &policies);
    assert_eq!(found.verdict, Verdict::Source { full: true });
    assert_eq!(found.settled, Settled::ByPolicy(AfterSb::NoPrimary));
    // Data without anything in common is the operator's only.
    assert_eq!(
        verdict(up(9, 0, 0), up(8, 0, 0), &policies),
        Verdict::Unrelated
    );
}

#[test]
fn the_operators_word_comes_before_the_policies() {
    let (more, less) = diverged();
    let found = decide(
        &discard(more),
        &less,
        &zero(AfterSb0Pri::DiscardLeastChanges),
    );
    assert_eq!((found.verdict, found.settled), (LOSE, Settled::ByDiscard));
}

#[test]
fn policies_have_names() {
    let names = Names::new("beta", "alpha");
    assert_eq!(names, Names::new("alpha", "beta"));
    let parse = |name| AfterSb0Pri::from_name(name, names);
    assert_eq!(
        parse("discard-node-alpha"),
        Some(AfterSb0Pri::DiscardNode(Order::First))
    );
    assert_eq!(
        parse("discard-node-beta"),
        Some(AfterSb0Pri::DiscardNode(Order::Second))
    );
    assert_eq!(parse("discard-node-gamma"), None);
    assert_eq!(parse("consensus"), None);
    for name in AfterSb0Pri::NAMES {
        let name = if name.ends_with('-') {
            "discard-node-beta"
        } else {
            name
        };
        let policy = parse(name).unwrap();
        assert_eq!(std::format!("{}", policy.name(names)), name);
    }
    for name in AfterSb1Pri::NAMES {
        assert_eq!(AfterSb1Pri::from_name(name).unwrap().name(), *name);
    }
    for name in AfterSb2Pri::NAMES {
        assert_eq!(AfterSb2Pri::from_name(name).unwrap().name(), *name);
    }
    for name in RrConflict::NAMES {
        assert_eq!(RrConflict::from_name(name).unwrap().name(), *name);
    }
    assert_eq!(AfterSb1Pri::from_name("discard-local"), None);
}
