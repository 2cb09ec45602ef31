//! Answers that cross something else on their way.

use super::*;

fn standing(holder: Option<(&str, Episode)>, last: Episode) -> Answer {
    Answer::State(Standing {
        holder: holder.map(|(node, episode)| (name(node), episode)),
        last,
        over: 0,
        primary: false,
    })
}

/// The peer is connected already as far as it knows, in sync, and asks how things stand before it lifts the mark: the grant that it
/// gave may not have arrived here yet.
#[test]
fn who_has_asked_for_a_fence_says_so_to_a_peer_that_asks_how_things_stand() {
    let mut fencer = alone();
    let said = step(&mut fencer, request(Request::Query));
    let [Action::Reply(Party::Peer, 5, Answer::State(stands))] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(stands.holder, Some((name("a"), 1)));
    settle(
        &mut fencer,
        answer(Party::Peer, Answer::Granted { episode: 1 }),
    );
    assert_eq!(fencer.stored().own.holding(), Some(1));
}

#[test]
fn who_is_fenced_does_not_take_a_request_that_may_be_granted_for_the_end_of_the_fence() {
    let marked = Record {
        seen: 3,
        mark: Some(3),
        ..Record::default()
    };
    let mut fencer = Fencer::new(config(), marked, 0);
    let secondary = View {
        primary: false,
        ..view(0)
    };
    settle(&mut fencer, Input::View(secondary));
    let asked = standing(Some(("b", 3)), 3);
    settle(&mut fencer, answer(Party::Peer, asked));
    assert_eq!(fencer.stored().mark, Some(3));
    settle(&mut fencer, answer(Party::Peer, standing(None, 3)));
    assert_eq!(fencer.stored().mark, None);
}
