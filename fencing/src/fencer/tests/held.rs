//! A node that finds on its disk that it holds a fence.

use super::*;

const PROMOTE: Input = Input::Promote { force: false };
const GRANTED: Action = Action::Promotion(Ok(()));

/// A Secondary alone that has restarted, and held episode 1 by the arbiter's word. All numbers up to `seen` were used.
fn restarted(config: Config, seen: Episode) -> Fencer {
    let by = Grantors {
        peer: !config.arbiter,
        arbiter: config.arbiter,
    };
    let record = Record {
        seen,
        own: Own::Held(1, by),
        ..Record::default()
    };
    let mut fencer = Fencer::new(config, record, 0);
    let view = View {
        primary: false,
        disk: Disk::Consistent,
        ..lost(0)
    };
    assert_eq!(settle(&mut fencer, Input::View(view)), []);
    fencer
}

fn without_arbiter() -> Config {
    Config {
        arbiter: false,
        ..config()
    }
}

fn refused(from: Party, why: Refusal) -> Input {
    answer(from, Answer::Refused { episode: 1, why })
}

fn denied(why: Denied) -> Action {
    Action::Promotion(Err(why))
}

const OUTDATE: Request = Request::Outdate {
    episode: 1,
    vouched: 1,
    primary: false,
};

#[test]
fn becomes_primary_alone_when_one_of_them_says_that_it_still_holds_it() {
    for party in [Party::Peer, Party::Arbiter] {
        let mut fencer = restarted(config(), 3);
        // It had everything when it was granted the fence, whatever numbers were used later.
        let fence = Request::Fence {
            episode: 1,
            vouched: 1,
            released: 0,
            up_to_date: false,
            force: false,
        };
        assert_eq!(
            settle(&mut fencer, PROMOTE),
            [
                Action::Send(Party::Peer, OUTDATE),
                Action::Send(Party::Arbiter, fence),
            ]
        );
        let actions = settle(&mut fencer, answer(party, Answer::Granted { episode: 1 }));
        assert!(actions.ends_with(&[Action::PeerFenced(1), GRANTED]));
        assert_eq!(fencer.stored().own.episode(), Some(1));
    }
}

#[test]
fn is_not_promoted_with_disks_that_lack_what_another_one_is_vouched_for() {
    for party in [Party::Peer, Party::Arbiter] {
        let mut fencer = restarted(config(), 1);
        settle(&mut fencer, PROMOTE);
        let actions = settle(&mut fencer, refused(party, Refusal::Older { vouched: 4 }));
        assert!(actions.contains(&denied(Denied::Older(4))), "{actions:?}");
        assert!(actions.contains(&Action::OutdateSelf(None)));
        // It may have written alone, for all that is known: the fence is not given back.
        assert_eq!(fencer.stored().own.episode(), Some(1));
        let late = settle(
            &mut fencer,
            answer(Party::Arbiter, Answer::Granted { episode: 1 }),
        );
        assert!(!late.contains(&GRANTED), "nobody wants it any more");
    }
}

#[test]
fn an_answer_that_nobody_waits_for_confirms_nothing() {
    let mut fencer = restarted(config(), 1);
    let granted = || answer(Party::Arbiter, Answer::Granted { episode: 1 });
    settle(&mut fencer, granted());
    let actions = settle(&mut fencer, PROMOTE);
    assert!(!actions.contains(&GRANTED), "{actions:?}");
    assert!(settle(&mut fencer, granted()).contains(&GRANTED));
}

#[test]
fn waits_when_nobody_answers_or_the_arbiter_does_not_know_it_until_the_operator_decides() {
    let unknown = || refused(Party::Arbiter, Refusal::Stale { last: 1 });
    for input in [Input::Timer(Timer::Bound), unknown()] {
        let mut fencer = restarted(config(), 1);
        settle(&mut fencer, PROMOTE);
        let actions = settle(&mut fencer, input);
        assert!(
            actions.contains(&denied(Denied::Unconfirmed(1))),
            "{actions:?}"
        );
        assert!(!actions.contains(&Action::OutdateSelf(None)));
        assert_eq!(
            settle(&mut fencer, Input::Timer(Timer::Retry(Party::Arbiter))),
            []
        );
        let forced = settle(&mut fencer, Input::Promote { force: true });
        assert!(forced.contains(&GRANTED), "{forced:?}");
    }
}

#[test]
fn a_peer_that_does_not_know_it_leaves_it_to_the_arbiter() {
    let mut fencer = restarted(config(), 1);
    settle(&mut fencer, PROMOTE);
    let unknown = || refused(Party::Peer, Refusal::Stale { last: 2 });
    let actions = settle(&mut fencer, unknown());
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Promotion(_)))
    );
    let actions = settle(
        &mut fencer,
        answer(Party::Arbiter, Answer::Granted { episode: 1 }),
    );
    assert!(actions.contains(&GRANTED));
    let mut fencer = restarted(without_arbiter(), 1);
    settle(&mut fencer, PROMOTE);
    let actions = settle(&mut fencer, unknown());
    assert!(actions.contains(&denied(Denied::Unconfirmed(1))));
}

#[test]
fn without_an_arbiter_a_silent_peer_leaves_it_to_the_record() {
    let mut fencer = restarted(without_arbiter(), 1);
    assert_eq!(
        settle(&mut fencer, PROMOTE),
        [Action::Send(Party::Peer, OUTDATE)]
    );
    let actions = settle(&mut fencer, Input::Timer(Timer::PeerWait));
    assert!(actions.contains(&GRANTED), "{actions:?}");
}

#[test]
fn a_running_primary_need_not_ask_unless_its_own_disk_was_lost() {
    let mut fencer = alone();
    settle(
        &mut fencer,
        answer(Party::Arbiter, Answer::Granted { episode: 1 }),
    );
    let elsewhere = |connected| View {
        in_sync: false,
        connected,
        elsewhere: true,
        disk: Disk::Unusable,
        ..view(1)
    };
    let secondary = View {
        primary: false,
        ..lost(1)
    };
    let mut other = fencer.clone();
    settle(&mut fencer, Input::View(secondary));
    let actions = settle(&mut fencer, PROMOTE);
    assert!(actions.contains(&GRANTED), "{actions:?}");
    settle(&mut other, Input::View(elsewhere(true)));
    settle(&mut other, Input::View(elsewhere(false)));
    settle(&mut other, Input::View(secondary));
    let actions = settle(&mut other, PROMOTE);
    assert!(!actions.contains(&GRANTED), "{actions:?}");
}

#[test]
fn a_primary_is_not_taken_for_one_that_lacks_something_by_a_peer_that_knows_first_that_both_are_in_sync()
 {
    let mut fencer = alone();
    settle(
        &mut fencer,
        answer(Party::Arbiter, Answer::Granted { episode: 1 }),
    );
    let behind = View {
        in_sync: false,
        agreed: 7,
        ..view(1)
    };
    settle(&mut fencer, Input::View(behind));
    let stored = fencer.stored();
    assert_eq!((stored.own.episode(), stored.vouched), (Some(1), 7));
}

#[test]
fn who_is_fenced_confirms_it_to_those_disks_only_that_lack_nothing() {
    let record = Record {
        seen: 4,
        mark: Some(1),
        vouched: 4,
        ..Record::default()
    };
    let mut fencer = Fencer::new(config(), record, 0);
    let view = View {
        primary: false,
        ..lost(0)
    };
    settle(&mut fencer, Input::View(view));
    for (vouched, primary, granted) in [(1, false, false), (4, false, true), (1, true, true)] {
        let outdate = Request::Outdate {
            episode: 1,
            vouched,
            primary,
        };
        let expected = match granted {
            true => Answer::Granted { episode: 1 },
            false => Answer::Refused {
                episode: 1,
                why: Refusal::Older { vouched: 4 },
            },
        };
        assert_eq!(
            settle(&mut fencer, request(outdate)),
            [Action::Reply(Party::Peer, 5, expected)]
        );
    }
}
