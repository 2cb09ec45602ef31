use super::api::{Action, Config, Denied, Disk, Input, Notice, OnTimeout, Thaw, Timer, View};
use super::*;
use crate::{Name, Refusal, Standing};
use std::vec::Vec;

mod held;
mod late;

fn name(name: &str) -> Name {
    Name::try_from(name).unwrap()
}

fn config() -> Config {
    Config {
        node: name("a"),
        peer: name("b"),
        policy: Policy::ResourceAndStonith,
        peer_endpoint: true,
        arbiter: true,
        on_timeout: OnTimeout::KeepFrozen,
        doublings: 3,
    }
}

fn view(connection: u64) -> View {
    View {
        primary: true,
        connected: true,
        connection,
        peer_may_be_current: true,
        in_sync: true,
        lone: false,
        elsewhere: false,
        agreed: 0,
        disk: Disk::UpToDate,
    }
}

fn lost(connection: u64) -> View {
    View {
        connected: false,
        in_sync: false,
        ..view(connection)
    }
}

fn step(fencer: &mut Fencer, input: Input) -> Vec<Action> {
    fencer.handle(input);
    core::iter::from_fn(|| fencer.poll_action())
        .filter(|action| !matches!(action, Action::SetTimer(..)))
        .collect()
}

/// A step, and the saves that follow from it.
fn settle(fencer: &mut Fencer, input: Input) -> Vec<Action> {
    let mut all = step(fencer, input);
    while fencer.saving.is_some() {
        all.extend(step(fencer, Input::Persisted));
    }
    all.retain(|action| !matches!(action, Action::Persist(_)));
    all
}

fn answer(from: Party, answer: Answer) -> Input {
    Input::Answer { from, answer }
}

fn request(request: Request) -> Input {
    Input::Request {
        from: Party::Peer,
        token: 5,
        request,
    }
}

/// A Primary that has just lost its peer, and asks.
fn alone() -> Fencer {
    let mut fencer = Fencer::new(config(), Record::default(), 0);
    settle(&mut fencer, Input::View(view(0)));
    settle(&mut fencer, Input::View(lost(1)));
    fencer
}

fn fence(episode: Episode) -> Request {
    Request::Fence {
        episode,
        vouched: episode, // A Primary vouches for all that it has seen.
        released: 0,
        up_to_date: true,
        force: false,
    }
}

#[test]
fn nothing_is_asked_before_the_request_is_stored_nor_thawed_before_the_grant_is() {
    let mut fencer = Fencer::new(config(), Record::default(), 0);
    assert_eq!(step(&mut fencer, Input::View(view(0))), []);
    let own = |own| Record {
        seen: 1,
        own,
        ..Record::default()
    };
    assert_eq!(
        step(&mut fencer, Input::View(lost(1))),
        [
            Action::Freeze,
            Action::Notice(Notice::Requested(1)),
            Action::Persist(own(Own::Requested(1))),
        ]
    );
    let outdate = Request::Outdate {
        episode: 1,
        vouched: 1,
        primary: true,
    };
    assert_eq!(
        step(&mut fencer, Input::Persisted),
        [
            Action::Send(Party::Peer, outdate),
            Action::Send(Party::Arbiter, fence(1)),
        ]
    );
    let by = Grantors {
        arbiter: true,
        ..Grantors::default()
    };
    let granted = answer(Party::Arbiter, Answer::Granted { episode: 1 });
    assert_eq!(
        step(&mut fencer, granted),
        [
            Action::Notice(Notice::Granted(1, Party::Arbiter)),
            Action::Persist(own(Own::Held(1, by))),
        ]
    );
    assert!(fencer.frozen());
    assert_eq!(
        step(&mut fencer, Input::Persisted),
        [Action::PeerFenced(1), Action::Thaw(Thaw::Fenced)]
    );
}

#[test]
fn given_back_once_and_only_when_every_volume_is_in_sync_also_without_a_resync() {
    let mut fencer = alone();
    settle(
        &mut fencer,
        answer(Party::Peer, Answer::Granted { episode: 1 }),
    );
    let behind = View {
        in_sync: false,
        ..view(1)
    };
    assert_eq!(settle(&mut fencer, Input::View(behind)), []);
    let unfence = Request::Unfence {
        episode: 1,
        vouched: 0,
    };
    assert_eq!(
        settle(&mut fencer, Input::View(view(1))),
        [
            Action::Notice(Notice::Releasing(1)),
            Action::Send(Party::Peer, unfence),
            Action::Send(Party::Arbiter, unfence),
        ]
    );
    let released = Answer::Released { episode: 1 };
    assert_eq!(
        settle(&mut fencer, answer(Party::Peer, released.clone())),
        []
    );
    assert_eq!(fencer.consent(), Ok(()), "the peer itself knows");
    assert_eq!(
        settle(&mut fencer, answer(Party::Arbiter, released.clone())),
        [Action::Notice(Notice::Unfenced(1))]
    );
    // Once: neither the answer that comes again nor another look at it does anything.
    assert_eq!(settle(&mut fencer, answer(Party::Arbiter, released)), []);
    assert_eq!(settle(&mut fencer, Input::View(view(1))), []);
    assert_eq!(fencer.stored().own, Own::None);
}

#[test]
fn never_without_an_episode() {
    let mut fencer = Fencer::new(config(), Record::default(), 0);
    for sync in [false, true, false, true] {
        let view = View {
            in_sync: sync,
            ..view(0)
        };
        assert_eq!(settle(&mut fencer, Input::View(view)), []);
    }
}

#[test]
fn a_new_loss_takes_the_place_of_a_pending_unfence_whose_answers_count_no_more() {
    let mut fencer = alone();
    settle(
        &mut fencer,
        answer(Party::Peer, Answer::Granted { episode: 1 }),
    );
    settle(&mut fencer, Input::View(view(1)));
    let actions = settle(&mut fencer, Input::View(lost(2)));
    assert!(actions.contains(&Action::Freeze), "{actions:?}");
    assert!(actions.contains(&Action::Send(Party::Arbiter, fence(2))));
    for party in [Party::Peer, Party::Arbiter] {
        let late = answer(party, Answer::Released { episode: 1 });
        assert_eq!(settle(&mut fencer, late), []);
        let late = answer(party, Answer::Granted { episode: 1 });
        assert_eq!(settle(&mut fencer, late), []);
    }
    assert_eq!(fencer.stored().own, Own::Requested(2));
    assert!(fencer.frozen());
}

#[test]
fn an_answer_after_the_reconnect_does_nothing_and_the_next_loss_asks_anew() {
    let mut fencer = alone();
    let behind = View {
        in_sync: false,
        ..view(1)
    };
    assert_eq!(
        settle(&mut fencer, Input::View(behind)),
        [Action::Thaw(Thaw::Reconnected)]
    );
    let late = answer(Party::Arbiter, Answer::Granted { episode: 1 });
    assert_eq!(settle(&mut fencer, late), []);
    let actions = settle(&mut fencer, Input::View(lost(2)));
    assert!(actions.contains(&Action::Send(Party::Arbiter, fence(2))));
}

#[test]
fn who_holds_a_fence_and_hears_that_the_peer_is_primary_all_the_same_leaves_it_to_the_operator() {
    let held = Record {
        seen: 1,
        own: Own::Held(
            1,
            Grantors {
                peer: false,
                arbiter: true,
            },
        ),
        ..Record::default()
    };
    let asks = |primary| {
        request(Request::Outdate {
            episode: 2,
            vouched: 2,
            primary,
        })
    };
    let told = || {
        let mut fencer = Fencer::new(config(), held, 0);
        let secondary = View {
            primary: false,
            ..lost(0)
        };
        settle(&mut fencer, Input::View(secondary));
        settle(&mut fencer, asks(true));
        fencer
    };
    let promote = |force| Input::Promote { force };
    let granted = Action::Promotion(Ok(()));
    let denied = Action::Promotion(Err(Denied::PeerIsPrimary));
    assert_eq!(settle(&mut told(), promote(false)), [denied]);
    assert!(settle(&mut told(), promote(true)).contains(&granted));
    // It is not Primary any more, or gives back what it asked for.
    let over = request(Request::Unfence {
        episode: 2,
        vouched: 0,
    });
    for input in [asks(false), over] {
        let mut fencer = told();
        settle(&mut fencer, input);
        settle(&mut fencer, promote(false));
        let confirmed = answer(Party::Arbiter, Answer::Granted { episode: 1 });
        let actions = settle(&mut fencer, confirmed);
        assert!(actions.contains(&granted), "{actions:?}");
    }
}

#[test]
fn the_arbiters_refusal_outdates_a_primary_and_its_request_is_given_back() {
    let mut fencer = alone();
    let refused = Answer::Refused {
        episode: 1,
        why: Refusal::Held {
            holder: name("b"),
            episode: 4,
        },
    };
    let actions = settle(&mut fencer, answer(Party::Arbiter, refused));
    assert!(
        actions.contains(&Action::OutdateSelf(Some(4))),
        "{actions:?}"
    );
    assert!(actions.contains(&Action::Send(
        Party::Arbiter,
        Request::Unfence {
            episode: 1,
            vouched: 0
        }
    )));
    assert!(fencer.frozen(), "until the engine has demoted");
    let down = View {
        primary: false,
        disk: Disk::Outdated,
        ..lost(1)
    };
    let actions = settle(&mut fencer, Input::View(down));
    assert_eq!(actions, [Action::Thaw(Thaw::Demoted)]);
    let denied = Action::Promotion(Err(Denied::Fenced(4)));
    let actions = settle(&mut fencer, Input::Promote { force: false });
    // The arbiter may know better; the answer is that it does not.
    assert_eq!(actions, [Action::Send(Party::Arbiter, Request::Query)]);
    let standing = Standing {
        holder: Some((name("b"), 4)),
        last: 4,
        over: 0,
        primary: false,
    };
    let actions = settle(&mut fencer, answer(Party::Arbiter, Answer::State(standing)));
    assert_eq!(actions, [denied]);
}

/// A Secondary that lost its peer.
fn standby(disk: Disk) -> Fencer {
    let mut fencer = Fencer::new(config(), Record::default(), 0);
    let view = View {
        primary: false,
        disk,
        ..lost(1)
    };
    settle(&mut fencer, Input::View(view));
    fencer
}

#[test]
fn a_standby_asks_the_peer_first_and_yields_to_a_primary() {
    let mut fencer = standby(Disk::UpToDate);
    let outdate = Request::Outdate {
        episode: 1,
        vouched: 0,
        primary: false,
    };
    assert_eq!(
        settle(&mut fencer, Input::Promote { force: false }),
        [
            Action::Notice(Notice::Requested(1)),
            Action::Send(Party::Peer, outdate),
        ]
    );
    let refused = Answer::Refused {
        episode: 1,
        why: Refusal::Primary,
    };
    let actions = settle(&mut fencer, answer(Party::Peer, refused));
    assert!(actions.contains(&Action::Promotion(Err(Denied::PeerIsPrimary))));
    assert!(actions.contains(&Action::OutdateSelf(None)));
    assert_eq!(fencer.stored().own, Own::Releasing(1));
}

#[test]
fn a_standby_whose_peer_is_silent_asks_the_arbiter_and_is_denied_when_nobody_answers() {
    let mut fencer = standby(Disk::Consistent);
    settle(&mut fencer, Input::Promote { force: false });
    let actions = settle(&mut fencer, Input::Timer(Timer::PeerWait));
    assert!(matches!(
        actions[..],
        [Action::Send(
            Party::Arbiter,
            Request::Fence {
                episode: 1,
                vouched: 0,
                up_to_date: false,
                ..
            }
        )]
    ));
    let actions = settle(&mut fencer, Input::Timer(Timer::Bound));
    assert!(actions.contains(&Action::Promotion(Err(Denied::NoAnswer))));
}

#[test]
fn who_has_old_data_is_denied_at_once() {
    for disk in [Disk::Unusable, Disk::Outdated] {
        let mut fencer = standby(disk);
        assert_eq!(
            settle(&mut fencer, Input::Promote { force: false }),
            [Action::Promotion(Err(Denied::Disk(disk)))]
        );
    }
}

#[test]
fn the_endpoint_is_durable_before_it_answers_and_the_same_question_gets_the_same_answer() {
    let mut fencer = standby(Disk::UpToDate);
    let outdate = Request::Outdate {
        episode: 7,
        vouched: 9,
        primary: true,
    };
    let first = step(&mut fencer, request(outdate));
    assert!(
        matches!(first[..], [Action::Notice(_), Action::Persist(record)] if record.mark == Some(7))
    );
    let granted = Action::Reply(Party::Peer, 5, Answer::Granted { episode: 7 });
    assert_eq!(
        step(&mut fencer, Input::Persisted),
        [granted.clone(), Action::OutdateSelf(Some(7))]
    );
    assert_eq!(settle(&mut fencer, request(outdate)), [granted]);
    let actions = settle(
        &mut fencer,
        request(Request::Unfence {
            episode: 6,
            vouched: 0,
        }),
    );
    assert!(matches!(actions[..], [Action::Reply(..)]), "{actions:?}");
    assert_eq!(fencer.stored().mark, Some(7), "a late UNFENCE");
    settle(
        &mut fencer,
        request(Request::Unfence {
            episode: 7,
            vouched: 0,
        }),
    );
    assert_eq!(fencer.stored().mark, None);
    let refused = Answer::Refused {
        episode: 7,
        why: Refusal::Stale { last: 7 },
    };
    assert_eq!(
        settle(&mut fencer, request(outdate)),
        [Action::Reply(Party::Peer, 5, refused)],
        "a late FENCE"
    );
}

#[test]
fn a_primary_refuses_to_be_outdated() {
    let mut fencer = alone();
    let outdate = Request::Outdate {
        episode: 9,
        vouched: 9,
        primary: false,
    };
    let refused = Answer::Refused {
        episode: 9,
        why: Refusal::Primary,
    };
    assert_eq!(
        settle(&mut fencer, request(outdate)),
        [Action::Reply(Party::Peer, 5, refused)]
    );
    assert_eq!(fencer.stored().mark, None);
}

#[test]
fn the_bound_keeps_clients_frozen_or_steps_down_as_configured() {
    let mut fencer = alone();
    assert_eq!(
        settle(&mut fencer, Input::Timer(Timer::Bound)),
        [Action::Notice(Notice::Overdue(1))]
    );
    assert!(fencer.frozen());
    let down = Config {
        on_timeout: OnTimeout::StepDown,
        ..config()
    };
    let mut fencer = Fencer::new(down, Record::default(), 0);
    settle(&mut fencer, Input::View(view(0)));
    settle(&mut fencer, Input::View(lost(1)));
    let actions = settle(&mut fencer, Input::Timer(Timer::Bound));
    assert!(actions.contains(&Action::StepDown), "{actions:?}");
}

#[test]
fn with_nobody_to_ask_clients_stay_frozen_until_the_operator_thaws_them() {
    let nobody = Config {
        peer_endpoint: false,
        arbiter: false,
        ..config()
    };
    let mut fencer = Fencer::new(nobody, Record::default(), 0);
    settle(&mut fencer, Input::View(view(0)));
    assert_eq!(settle(&mut fencer, Input::View(lost(1))), [Action::Freeze]);
    assert_eq!(
        settle(&mut fencer, Input::ResumeIo),
        [Action::Thaw(Thaw::Operator)]
    );
}

#[test]
fn resource_only_never_freezes_and_dont_care_never_asks() {
    let policy = |policy| {
        let mut fencer = Fencer::new(Config { policy, ..config() }, Record::default(), 0);
        settle(&mut fencer, Input::View(view(0)));
        settle(&mut fencer, Input::View(lost(1)))
    };
    let only = policy(Policy::ResourceOnly);
    assert!(!only.contains(&Action::Freeze));
    assert!(only.contains(&Action::Send(Party::Arbiter, fence(1))));
    assert_eq!(policy(Policy::DontCare), []);
}

#[test]
fn force_takes_the_fence_from_its_holder_and_a_mark_from_the_node() {
    let mut fencer = standby(Disk::Outdated);
    let outdate = Request::Outdate {
        episode: 3,
        vouched: 9,
        primary: true,
    };
    settle(&mut fencer, request(outdate));
    let actions = settle(&mut fencer, Input::Promote { force: true });
    assert!(actions.contains(&Action::Promotion(Ok(()))), "{actions:?}");
    assert_eq!(fencer.stored().mark, None);
    let actions = settle(&mut fencer, Input::View(lost(1)));
    let forced = Request::Fence {
        episode: 4,
        vouched: 4,
        released: 0,
        up_to_date: true,
        force: true,
    };
    assert!(
        actions.contains(&Action::Send(Party::Arbiter, forced)),
        "{actions:?}"
    );
}

#[test]
fn damage_in_an_answer_is_no_history() {
    let mut fencer = alone();
    let refused = Answer::Refused {
        episode: 1,
        why: Refusal::Stale { last: u64::MAX },
    };
    let actions = settle(&mut fencer, answer(Party::Arbiter, refused));
    assert!(actions.contains(&Action::Notice(Notice::Implausible(
        u64::MAX,
        Party::Arbiter
    ))));
    assert_eq!(fencer.stored().own, Own::Requested(1));
}

#[test]
fn a_number_that_was_used_is_asked_for_under_a_higher_one() {
    let mut fencer = alone();
    let refused = Answer::Refused {
        episode: 1,
        why: Refusal::Stale { last: 40 },
    };
    let actions = settle(&mut fencer, answer(Party::Arbiter, refused));
    assert!(actions.contains(&Action::Send(Party::Arbiter, fence(41))));
}

#[test]
fn a_node_whose_metadata_was_replaced_learns_from_the_arbiter_what_it_holds() {
    let mut fencer = standby(Disk::Consistent);
    let query = settle(&mut fencer, Input::Reconcile);
    assert_eq!(query, [Action::Send(Party::Arbiter, Request::Query)]);
    let standing = Standing {
        holder: Some((name("a"), 6)),
        last: 6,
        over: 0,
        primary: false,
    };
    settle(&mut fencer, answer(Party::Arbiter, Answer::State(standing)));
    assert!(matches!(fencer.stored().own, Own::Held(6, _)));
}

#[test]
fn an_episode_of_which_only_the_arbiter_knows_is_given_back_when_both_are_in_sync() {
    let mut fencer = Fencer::new(config(), Record::default(), 0);
    let secondary = |in_sync| View {
        primary: false,
        in_sync,
        agreed: 12,
        ..view(0)
    };
    settle(&mut fencer, Input::View(secondary(true)));
    settle(&mut fencer, Input::View(secondary(false)));
    settle(&mut fencer, Input::Reconcile);
    let standing = || {
        let standing = Standing {
            holder: Some((name("a"), 12)),
            last: 12,
            over: 0,
            primary: false,
        };
        answer(Party::Arbiter, Answer::State(standing))
    };
    assert_eq!(settle(&mut fencer, standing()), [], "not yet");
    assert!(fencer.status().awaits_arbiter, "it asks on");
    settle(&mut fencer, Input::View(secondary(true)));
    let unfence = Request::Unfence {
        episode: 12,
        vouched: 12,
    };
    assert_eq!(
        settle(&mut fencer, standing()),
        [
            Action::Notice(Notice::Releasing(12)),
            Action::Send(Party::Peer, unfence),
            Action::Send(Party::Arbiter, unfence),
        ]
    );
    for party in [Party::Peer, Party::Arbiter] {
        settle(&mut fencer, answer(party, Answer::Released { episode: 12 }));
    }
    assert_eq!(fencer.stored().own, Own::None);
    assert_eq!(settle(&mut fencer, standing()), [], "once");
}

#[test]
fn by_hand_only_the_episode_that_is_named() {
    let mut fencer = alone();
    settle(
        &mut fencer,
        answer(Party::Peer, Answer::Granted { episode: 1 }),
    );
    assert_eq!(settle(&mut fencer, Input::ReleaseByHand(2)), []);
    settle(&mut fencer, Input::ReleaseByHand(1));
    // The node is still Primary and alone: it needs another one at once.
    assert_eq!(fencer.stored().own, Own::Requested(2));
}

#[test]
fn a_disk_from_an_earlier_time_is_refused_and_becomes_outdated() {
    // Both were in sync after episode 4; what asks knows of 2.
    let vouched = |vouched| Record {
        seen: 4,
        vouched,
        ..Record::default()
    };
    let mut fencer = Fencer::new(config(), vouched(4), 0);
    let outdate = |vouched, primary| {
        request(Request::Outdate {
            episode: 5,
            vouched,
            primary,
        })
    };
    let refused = Answer::Refused {
        episode: 5,
        why: Refusal::Older { vouched: 4 },
    };
    let actions = settle(&mut fencer, outdate(2, false));
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Reply(_, _, answer) if *answer == refused)),
        "{actions:?}"
    );
    assert_eq!(fencer.stored().mark, None);
    settle(&mut fencer, outdate(4, false));
    assert_eq!(fencer.stored().mark, Some(5));

    let mut old = standby(Disk::Consistent);
    settle(&mut old, Input::Promote { force: false });
    let episode = old.stored().own.episode().expect("asked for");
    let why = Refusal::Older { vouched: 4 };
    let actions = settle(
        &mut old,
        answer(Party::Peer, Answer::Refused { episode, why }),
    );
    assert!(actions.contains(&Action::Promotion(Err(Denied::Older(4)))));
    assert!(actions.contains(&Action::OutdateSelf(None)));
}

#[test]
fn the_arbiter_refuses_who_does_not_know_of_the_last_time_in_sync() {
    let name = |name| crate::Name::try_from(name).expect("a name");
    let mut arbiter = crate::arbiter::Arbiter::default();
    let mut ask = |node, request| {
        let verdict = arbiter.ask(&name(node), request).expect("a question");
        arbiter = verdict.next;
        verdict.answer
    };
    let fence = |episode, vouched, force| Request::Fence {
        episode,
        vouched,
        released: 0,
        up_to_date: true,
        force,
    };
    assert_eq!(ask("a", fence(1, 1, false)), Answer::Granted { episode: 1 });
    let unfence = Request::Unfence {
        episode: 1,
        vouched: 1,
    };
    assert_eq!(ask("a", unfence), Answer::Released { episode: 1 });
    let older = Answer::Refused {
        episode: 2,
        why: Refusal::Older { vouched: 1 },
    };
    assert_eq!(ask("b", fence(2, 0, false)), older);
    assert_eq!(ask("b", fence(2, 1, false)), Answer::Granted { episode: 2 });
    assert_eq!(ask("a", fence(3, 0, true)), Answer::Granted { episode: 3 });
}

#[test]
fn a_primary_whose_connected_peer_lost_its_disk_freezes_until_the_arbiter_has_granted() {
    let mut fencer = Fencer::new(config(), Record::default(), 0);
    settle(&mut fencer, Input::View(view(0)));
    let lone = View {
        in_sync: false,
        lone: true,
        ..view(0)
    };
    let actions = settle(&mut fencer, Input::View(lone));
    assert!(actions.contains(&Action::Freeze), "{actions:?}");
    assert!(actions.contains(&Action::Send(Party::Arbiter, fence(1))));
    let peer = |action: &Action| matches!(action, Action::Send(Party::Peer, _));
    assert!(!actions.iter().any(peer), "{actions:?}");
    let granted = answer(Party::Arbiter, Answer::Granted { episode: 1 });
    let actions = settle(&mut fencer, granted);
    assert!(actions.contains(&Action::Thaw(Thaw::Fenced)), "{actions:?}");
    assert!(matches!(fencer.stored().own, Own::Held(1, _)));

    let alone = Config {
        arbiter: false,
        ..config()
    };
    let mut fencer = Fencer::new(alone, Record::default(), 0);
    settle(&mut fencer, Input::View(view(0)));
    let actions = settle(&mut fencer, Input::View(lone));
    assert!(actions.contains(&Action::Thaw(Thaw::Fenced)), "{actions:?}");
}

#[test]
fn a_primary_whose_good_copy_is_at_the_peer_gives_way_and_asks_for_a_fence_when_its_own_is_back() {
    let elsewhere = |view| View {
        elsewhere: true,
        in_sync: false,
        disk: Disk::Unusable,
        ..view
    };
    let begin = || {
        let mut fencer = Fencer::new(config(), Record::default(), 0);
        settle(&mut fencer, Input::View(elsewhere(view(0))));
        let actions = settle(&mut fencer, Input::View(elsewhere(lost(1))));
        assert!(actions.contains(&Action::Freeze), "{actions:?}");
        assert_eq!(fencer.stored().own, Own::None, "the peer is not fenced");
        fencer
    };
    let mut fencer = begin();
    let outdate = Request::Outdate {
        episode: 1,
        vouched: 0,
        primary: false,
    };
    let actions = settle(&mut fencer, request(outdate));
    assert!(
        actions.contains(&Action::OutdateSelf(Some(1))),
        "{actions:?}"
    );

    let mut fencer = begin();
    let actions = settle(&mut fencer, Input::View(lost(1)));
    assert!(actions.contains(&Action::Send(Party::Arbiter, fence(1))));
    assert!(fencer.frozen());
    let granted = answer(Party::Arbiter, Answer::Granted { episode: 1 });
    settle(&mut fencer, granted);
    assert!(!fencer.frozen());
}

#[test]
fn an_operators_word_that_was_given_up_before_it_was_stored_does_nothing_later() {
    let fenced = Record {
        seen: 4,
        mark: Some(4),
        ..Record::default()
    };
    for record in [Record::default(), fenced] {
        let mut fencer = Fencer::new(config(), record, 0);
        let secondary = View {
            primary: false,
            disk: Disk::Outdated,
            ..lost(0)
        };
        settle(&mut fencer, Input::View(secondary));
        // The disk is busy with another record.
        step(&mut fencer, Input::Identity(9));
        step(&mut fencer, Input::Promote { force: true });
        step(&mut fencer, Input::PromoteCancelled);
        let actions = settle(&mut fencer, Input::Persisted);
        assert_eq!(actions, []);
        assert_eq!(fencer.stored().mark, record.mark, "it is fenced as before");
        let actions = settle(&mut fencer, Input::Promote { force: true });
        assert_eq!(actions, [Action::Promotion(Ok(()))]);
    }
}
