use super::*;
use std::vec::Vec;

const WINDOW: u64 = 10;

fn says(nonce: u64, state: Promoting) -> Answer {
    Answer::Promoting { nonce, state }
}

#[test]
fn a_number_is_drawn_first_and_counts_once_and_for_a_time() {
    let mut node = Bidding::new();
    let ready = (says(7, Promoting::Ready), false);
    assert_eq!(node.asked(0, false, (100, WINDOW), 7), ready);
    // A repetition changes nothing, and gets no other number.
    assert_eq!(node.asked(0, false, (105, WINDOW), 8), ready);
    let late = says(9, Promoting::Denied(Withheld::TooLate));
    assert_eq!(node.asked(9, false, (105, WINDOW), 10), (late, false));
    let under_way = says(7, Promoting::UnderWay);
    assert_eq!(
        node.asked(7, false, (110, WINDOW), 11),
        (under_way.clone(), true)
    );
    // Asked again it is not begun again, not by somebody else either.
    for nonce in [7, 0] {
        let answer = node.asked(nonce, false, (500, WINDOW), 12);
        assert_eq!(answer, (under_way.clone(), false));
    }
    node.ended(Err(Withheld::Fenced(3)));
    node.ended(Ok(()));
    let denied = says(7, Promoting::Denied(Withheld::Fenced(3)));
    assert_eq!(node.asked(7, false, (900, WINDOW), 13), (denied, false));
    // A new one; the last one is remembered until it is begun.
    let ready = (says(14, Promoting::Ready), false);
    assert_eq!(node.asked(0, false, (900, WINDOW), 14), ready);
    assert!(!node.asked(7, false, (901, WINDOW), 15).1);
    let held_back = says(14, Promoting::Denied(Withheld::TooLate));
    assert_eq!(node.asked(14, false, (911, WINDOW), 16), (held_back, false));
    let ready = (says(17, Promoting::Ready), false);
    assert_eq!(node.asked(0, false, (911, WINDOW), 17), ready);
    assert!(node.asked(17, false, (912, WINDOW), 18).1);
    node.ended(Ok(()));
    let primary = (says(17, Promoting::Primary), false);
    assert_eq!(node.asked(17, true, (913, WINDOW), 19), primary);
    let already = (says(0, Promoting::Primary), false);
    assert_eq!(node.asked(0, true, (914, WINDOW), 20), already);
}

#[test]
fn an_end_without_a_beginning_says_nothing() {
    let mut node = Bidding::new();
    node.ended(Ok(()));
    assert_eq!(node, Bidding::new());
}

#[test]
fn the_asker_takes_no_answer_to_something_else_for_one() {
    let mut asker = Promoter::new();
    assert_eq!(asker.question(), Request::Promote { nonce: 0 });
    assert_eq!(asker.give_up(), Ended::NoAnswer);
    assert_eq!(asker.answer(&Answer::Granted { episode: 1 }), Step::Wait);
    // To another promotion, of which it knows nothing.
    assert_eq!(
        asker.answer(&says(5, Promoting::Denied(Withheld::Busy))),
        Step::Wait
    );
    assert_eq!(asker.answer(&says(6, Promoting::Ready)), Step::Ask);
    assert_eq!(asker.question(), Request::Promote { nonce: 6 });
    assert_eq!(asker.answer(&says(6, Promoting::Ready)), Step::Wait);
    assert_eq!(asker.answer(&says(5, Promoting::Primary)), Step::Wait);
    assert_eq!(asker.answer(&says(0, Promoting::Primary)), Step::Wait);
    assert_eq!(asker.answer(&says(6, Promoting::UnderWay)), Step::Wait);
    assert_eq!(asker.give_up(), Ended::Undecided);
    // The node has restarted: it is begun anew.
    let late = says(6, Promoting::Denied(Withheld::TooLate));
    assert_eq!(asker.answer(&late), Step::Wait);
    assert_eq!(asker.question(), Request::Promote { nonce: 0 });
    assert_eq!(asker.answer(&says(8, Promoting::Ready)), Step::Ask);
    let denied = says(8, Promoting::Denied(Withheld::PeerIsPrimary));
    let why = Withheld::PeerIsPrimary;
    assert_eq!(asker.answer(&denied), Step::Ended(Ended::Denied(why)));
    let mut other = Promoter::new();
    let already = Step::Ended(Ended::AlreadyPrimary);
    assert_eq!(other.answer(&says(0, Promoting::Primary)), already);
}

#[test]
fn pauses_double_up_to_a_bound() {
    let mut asker = Promoter::new();
    let pauses: Vec<u128> = (0..7).map(|_| asker.pause().as_millis()).collect();
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 1600, 1600]);
}

#[test]
fn reasons_are_of_one_code_each_and_have_words() {
    let mut words = Vec::new();
    for code in 1..=15 {
        let why = Withheld::from_code(code, 0).unwrap();
        assert_eq!(why.code(), (code, 0));
        words.push(why.word());
        assert!(std::format!("{why}").len() > 20);
    }
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), 15);
    assert_eq!(Withheld::from_code(0, 0), None);
    assert_eq!(Withheld::from_code(16, 0), None);
    assert_eq!(Withheld::from_code(1, 4), None);
    assert_eq!(Withheld::from_code(6, 4), Some(Withheld::Fenced(4)));
}

/// Datagrams that are lost, repeated and late in any order: what the asker is told of a promotion is what became of one that
/// was begun for it, and each number begins one at most.
#[test]
fn over_any_network_a_number_begins_one_promotion_at_most_and_its_end_is_told() {
    let mut state = 1u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let (mut primaries, mut denials, mut open) = (0, 0, 0);
    for round in 0..3000u64 {
        let (mut asker, mut node) = (Promoter::new(), Bidding::new());
        let mut begun: Vec<u64> = Vec::new();
        let (mut questions, mut answers) = (Vec::new(), Vec::new());
        // It decides so many steps after it has begun.
        let mut decides: Option<u64> = None;
        let fate = if round % 2 == 0 {
            Ok(())
        } else {
            Err(Withheld::NoAnswer)
        };
        let mut ended = None;
        for now in 0..200u64 {
            if now % 5 == 0 {
                questions.push(asker.question());
            }
            if decides == Some(now) {
                node.ended(fate);
            }
            if !questions.is_empty() && random(3) > 0 {
                let at = random(questions.len() as u64) as usize;
                let Request::Promote { nonce } = questions[at] else {
                    panic!("it asks nothing else");
                };
                // Lost, delivered, or delivered and still under way.
                let fate = random(4);
                if fate < 3 {
                    questions.swap_remove(at);
                }
                if fate > 0 {
                    let (answer, begins) = node.asked(nonce, false, (now, WINDOW), now + 1000);
                    if begins {
                        assert!(!begun.contains(&nonce), "{nonce} was begun before");
                        begun.push(nonce);
                        decides = Some(now + 1 + random(20));
                    }
                    answers.push(answer);
                }
            }
            if !answers.is_empty() && random(3) > 0 {
                let at = random(answers.len() as u64) as usize;
                let answer = match random(4) {
                    0 => answers[at].clone(),
                    _ => answers.swap_remove(at),
                };
                match asker.answer(&answer) {
                    Step::Ask => questions.push(asker.question()),
                    Step::Wait => {}
                    Step::Ended(end) => {
                        ended = Some(end);
                        break;
                    }
                }
            }
        }
        match ended {
            Some(Ended::Primary) => {
                assert_eq!(fate, Ok(()));
                primaries += 1;
            }
            Some(Ended::Denied(why)) => {
                assert_eq!(fate, Err(why));
                denials += 1;
            }
            Some(other) => panic!("{other:?}"),
            None => open += 1,
        }
        assert!(ended.is_none() || !begun.is_empty());
    }
    assert!(
        primaries > 1000 && denials > 1000,
        "{primaries} {denials} {open}"
    );
}
