use super::*;
use crate::{Answer, Event, Promoting, Refusal, Request, Standing, Withheld};
use proptest::prelude::*;
use std::borrow::ToOwned;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

fn name(name: &str) -> Name {
    Name::try_from(name).unwrap()
}

fn key() -> Key {
    Key::new(b"a secret of some length", &name("r0"))
}

fn ends(here: &str, there: &str) -> Ends {
    Ends {
        resource: name("r0"),
        identity: 7,
        here: name(here),
        there: name(there),
    }
}

fn channel(here: &str, there: &str, session: u64) -> Channel {
    Channel::new(ends(here, there), key(), session)
}

fn written(write: impl FnOnce(&mut [u8; DATAGRAM_MAX]) -> usize) -> Vec<u8> {
    let mut out = [0; DATAGRAM_MAX];
    let len = write(&mut out);
    out[..len].to_vec()
}

fn holder() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9._-]{1,32}".prop_map(|text| name(&text))
}

fn promoting() -> impl Strategy<Value = Promoting> {
    let reason = (1u8..=15, prop_oneof![Just(0), any::<u64>()]);
    prop_oneof![
        Just(Promoting::Ready),
        Just(Promoting::UnderWay),
        Just(Promoting::Primary),
        reason
            .prop_filter_map("no reason", |(code, n)| Withheld::from_code(code, n))
            .prop_map(Promoting::Denied),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let refusal = prop_oneof![
        (holder(), any::<u64>()).prop_map(|(holder, episode)| Refusal::Held { holder, episode }),
        any::<u64>().prop_map(|last| Refusal::Stale { last }),
        Just(Refusal::Primary),
        any::<u64>().prop_map(|episode| Refusal::Requesting { episode }),
        Just(Refusal::OtherResource),
        Just(Refusal::NotStored),
        any::<u8>().prop_map(Refusal::Handler),
        Just(Refusal::Future),
        any::<u64>().prop_map(|vouched| Refusal::Older { vouched }),
    ];
    let standing = (
        proptest::option::of((holder(), any::<u64>())),
        any::<u64>(),
        any::<u64>(),
        any::<bool>(),
    )
        .prop_map(|(holder, last, over, primary)| Standing {
            holder,
            last,
            over,
            primary,
        });
    prop_oneof![
        (
            any::<u64>(),
            any::<u64>(),
            any::<u64>(),
            any::<bool>(),
            any::<bool>()
        )
            .prop_map(
                |(episode, released, vouched, up_to_date, force)| Body::Request(Request::Fence {
                    episode,
                    released,
                    vouched,
                    up_to_date,
                    force,
                })
            ),
        (any::<u64>(), any::<u64>())
            .prop_map(|(episode, vouched)| Body::Request(Request::Unfence { episode, vouched })),
        (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(episode, vouched, primary)| {
            Body::Request(Request::Outdate {
                episode,
                vouched,
                primary,
            })
        }),
        Just(Body::Request(Request::Query)),
        any::<u64>().prop_map(|nonce| Body::Request(Request::Promote { nonce })),
        (
            any::<u64>(),
            proptest::sample::select(&Event::ALL),
            any::<Option<u8>>()
        )
            .prop_map(|(number, event, volume)| Body::Request(Request::Notify {
                number,
                event,
                volume,
            })),
        any::<u64>().prop_map(|episode| Body::Answer(Answer::Granted { episode })),
        (any::<u64>(), refusal)
            .prop_map(|(episode, why)| Body::Answer(Answer::Refused { episode, why })),
        any::<u64>().prop_map(|episode| Body::Answer(Answer::Released { episode })),
        standing.prop_map(|standing| Body::Answer(Answer::State(standing))),
        (any::<u64>(), promoting())
            .prop_map(|(nonce, state)| Body::Answer(Answer::Promoting { nonce, state })),
        (any::<u64>(), any::<u8>())
            .prop_map(|(number, code)| Body::Answer(Answer::Handled { number, code })),
        any::<u64>().prop_map(|epoch| Body::Again { epoch }),
    ]
}

fn datagram(body: Body) -> Datagram {
    Datagram {
        session: 1,
        sequence: 2,
        subject: [3, 4],
        identity: 5,
        resource: name("r0"),
        from: name("a"),
        to: name("arbiter"),
        body,
    }
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened_and_nothing_else(body in body(), at: proptest::sample::Index, flip in 1u8..) {
        let sent = datagram(body);
        let bytes = written(|out| sent.seal(&key(), out));
        prop_assert_eq!(Datagram::open(&bytes, &key()), Ok(sent));
        let mut spoilt = bytes.clone();
        spoilt[at.index(bytes.len())] ^= flip;
        prop_assert!(Datagram::open(&spoilt, &key()).is_err());
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(Datagram::open(cut, &key()).is_err());
        let other = Key::new(b"another secret", &name("r0"));
        prop_assert_eq!(Datagram::open(&bytes, &other), Err(DatagramError::Key));
    }
}

#[test]
fn a_wrong_version_is_told_from_a_wrong_key_and_from_noise() {
    let mut bytes = written(|out| datagram(Body::Request(Request::Query)).seal(&key(), out));
    bytes[4] = 9;
    assert_eq!(
        Datagram::open(&bytes, &key()),
        Err(DatagramError::Version(9))
    );
    bytes[0] = b'X';
    assert_eq!(Datagram::open(&bytes, &key()), Err(DatagramError::Foreign));
    let other = Key::new(b"a secret of some length", &name("r1"));
    let bytes = written(|out| datagram(Body::Request(Request::Query)).seal(&other, out));
    assert_eq!(Datagram::open(&bytes, &key()), Err(DatagramError::Key));
}

/// Asks, and goes through AGAIN if need be; what the receiver obeyed.
fn obeyed(from: &mut Channel, to: &mut Channel, request: Request, random: u64) -> Request {
    let question = written(|out| from.ask(request, out));
    match to.receive(&question).unwrap() {
        Received::Request(request, _) => request,
        Received::SayAgain(ticket) => {
            let again = written(|out| to.again(ticket, random, out));
            assert_eq!(from.receive(&again), Ok(Received::AskAgain));
            let question = written(|out| from.ask(request, out));
            let Ok(Received::Request(request, _)) = to.receive(&question) else {
                panic!("not obeyed");
            };
            request
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_is_obeyed_once_and_after_a_restart_of_either_side_not_from_a_recording() {
    let mut a = channel("a", "arbiter", 100);
    let mut arbiter = channel("arbiter", "a", 200);
    let fence = Request::Unfence {
        episode: 3,
        vouched: 0,
    };
    obeyed(&mut a, &mut arbiter, fence, 11);
    let recording = written(|out| a.ask(fence, out));
    assert!(matches!(
        arbiter.receive(&recording),
        Ok(Received::Request(..))
    ));
    assert_eq!(arbiter.receive(&recording), Err(Rejected::Replayed));
    // The sender starts anew; its old session is worth nothing more.
    let mut again = channel("a", "arbiter", 101);
    obeyed(&mut again, &mut arbiter, fence, 12);
    let Ok(Received::SayAgain(ticket)) = arbiter.receive(&recording) else {
        panic!("obeyed a recording");
    };
    // Who plays it back cannot use the answer, and the one who lives is not disturbed.
    written(|out| arbiter.again(ticket, 13, out));
    let question = written(|out| again.ask(fence, out));
    assert!(matches!(
        arbiter.receive(&question),
        Ok(Received::Request(..))
    ));
    // The receiver starts anew.
    let mut arbiter = channel("arbiter", "a", 201);
    assert!(matches!(
        arbiter.receive(&recording),
        Ok(Received::SayAgain(_))
    ));
    assert!(matches!(
        arbiter.receive(&question),
        Ok(Received::SayAgain(_))
    ));
    obeyed(&mut again, &mut arbiter, fence, 14);
}

#[test]
fn questions_out_of_order_are_obeyed_once_each() {
    let mut a = channel("a", "b", 1);
    let mut b = channel("b", "a", 2);
    obeyed(&mut a, &mut b, Request::Query, 9);
    let questions: Vec<_> = (0..5)
        .map(|_| written(|out| a.ask(Request::Query, out)))
        .collect();
    for at in [4, 0, 2, 3, 1] {
        assert!(matches!(
            b.receive(&questions[at]),
            Ok(Received::Request(..))
        ));
    }
    for question in &questions {
        assert_eq!(b.receive(question), Err(Rejected::Replayed));
    }
}

#[test]
fn an_answer_counts_for_this_session_and_for_recent_questions_only() {
    let mut a = channel("a", "b", 1);
    let mut b = channel("b", "a", 2);
    obeyed(&mut a, &mut b, Request::Query, 9);
    let question = written(|out| a.ask(Request::Query, out));
    let Ok(Received::Request(_, ticket)) = b.receive(&question) else {
        panic!("not obeyed");
    };
    let granted = Answer::Granted { episode: 1 };
    let answer = written(|out| b.answer(ticket, granted.clone(), out));
    assert_eq!(a.receive(&answer), Ok(Received::Answer(granted)));
    let mut restarted = channel("a", "b", 3);
    assert_eq!(restarted.receive(&answer), Err(Rejected::NotAsked));
    for _ in 0..RECENT {
        written(|out| a.ask(Request::Query, out));
    }
    assert_eq!(a.receive(&answer), Err(Rejected::NotAsked));
}

#[test]
fn who_is_not_of_the_pair_or_means_another_resource_is_not_heard() {
    let mut b = channel("b", "a", 2);
    let question = written(|out| channel("c", "b", 1).ask(Request::Query, out));
    assert_eq!(b.receive(&question), Err(Rejected::Address));
    let question = written(|out| channel("a", "c", 1).ask(Request::Query, out));
    assert_eq!(b.receive(&question), Err(Rejected::Address));
    let mut other = ends("a", "b");
    other.identity = 8;
    let question = written(|out| Channel::new(other, key(), 1).ask(Request::Query, out));
    assert_eq!(b.receive(&question), Err(Rejected::OtherResource));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Kind and body of every message, byte for byte: nodes and arbiters of different builds speak to each other.
#[test]
fn bodies_are_as_documented() {
    let refused = |why| Body::Answer(Answer::Refused { episode: 3, why });
    let promoting_of = |state| Body::Answer(Answer::Promoting { nonce: 9, state });
    let notify = |event, volume| {
        Body::Request(Request::Notify {
            number: 0x0102,
            event,
            volume,
        })
    };
    let a = "61".to_owned() + &"00".repeat(31);
    let none = "00".repeat(32);
    let cases = [
        (
            Body::Request(Request::Fence {
                episode: 3,
                released: 2,
                vouched: 1,
                up_to_date: true,
                force: true,
            }),
            1,
            "03000000000000000200000000000000010000000000000003".to_owned(),
        ),
        (
            Body::Request(Request::Unfence {
                episode: 3,
                vouched: 2,
            }),
            2,
            "03000000000000000200000000000000".to_owned(),
        ),
        (
            Body::Request(Request::Outdate {
                episode: 3,
                vouched: 2,
                primary: true,
            }),
            3,
            "0300000000000000020000000000000001".to_owned(),
        ),
        (Body::Request(Request::Query), 4, String::new()),
        (
            Body::Request(Request::Promote { nonce: 9 }),
            5,
            "0900000000000000".to_owned(),
        ),
        (
            notify(Event::BeforeResyncTarget, Some(7)),
            6,
            "0201000000000000010107".to_owned(),
        ),
        (
            notify(Event::Disconnected, None),
            6,
            "02010000000000000b0000".to_owned(),
        ),
        (
            Body::Answer(Answer::Granted { episode: 3 }),
            129,
            "0300000000000000".to_owned(),
        ),
        (
            refused(Refusal::Held {
                holder: name("a"),
                episode: 4,
            }),
            130,
            format!("0300000000000000010400000000000000{a}"),
        ),
        (
            refused(Refusal::Handler(5)),
            130,
            format!("0300000000000000070500000000000000{none}"),
        ),
        (
            Body::Answer(Answer::Released { episode: 3 }),
            131,
            "0300000000000000".to_owned(),
        ),
        (
            Body::Answer(Answer::State(Standing {
                holder: Some((name("a"), 4)),
                last: 5,
                over: 6,
                primary: false,
            })),
            132,
            format!("02{a}040000000000000005000000000000000600000000000000"),
        ),
        (
            promoting_of(Promoting::Ready),
            133,
            "090000000000000001000000000000000000".to_owned(),
        ),
        (
            promoting_of(Promoting::UnderWay),
            133,
            "090000000000000002000000000000000000".to_owned(),
        ),
        (
            promoting_of(Promoting::Primary),
            133,
            "090000000000000003000000000000000000".to_owned(),
        ),
        (
            promoting_of(Promoting::Denied(Withheld::PeerIsPrimary)),
            133,
            "090000000000000004010000000000000000".to_owned(),
        ),
        (
            promoting_of(Promoting::Denied(Withheld::Fenced(4))),
            133,
            "090000000000000004060400000000000000".to_owned(),
        ),
        (Body::Again { epoch: 8 }, 134, "0800000000000000".to_owned()),
        (
            Body::Answer(Answer::Handled {
                number: 0x0102,
                code: 7,
            }),
            135,
            "020100000000000007".to_owned(),
        ),
    ];
    for (body, kind, expected) in cases {
        let bytes = written(|out| datagram(body.clone()).seal(&key(), out));
        assert_eq!(bytes[5], kind, "{body:?}");
        let there = hex(&bytes[HEADER..bytes.len() - MAC]);
        assert_eq!(there, expected, "{body:?}");
    }
}

/// The envelope with its HMAC, which whoever writes another implementation can check against.
#[test]
fn a_whole_datagram_is_as_documented() {
    let notify = Request::Notify {
        number: 1,
        event: Event::SplitBrain,
        volume: None,
    };
    let bytes = written(|out| datagram(Body::Request(notify)).seal(&key(), out));
    let names = [
        "7230".to_owned() + &"00".repeat(30),
        "61".to_owned() + &"00".repeat(31),
        "61726269746572".to_owned() + &"00".repeat(25),
    ];
    let head = "504c534d".to_owned() // PLSM
        + "01" // version
        + "06" // NOTIFY
        + "bb00" // 187 bytes
        + "0100000000000000" // session
        + "0200000000000000" // sequence
        + "0300000000000000" + "0400000000000000"
        + "0500000000000000"; // identity
    let body = "0100000000000000".to_owned() + "05" + "00" + "00";
    // Computed by another implementation (Python's hmac), from docs/MANAGEMENT.md.
    let mac = "964d2b9dcf4865c8adb745061108f141b84b03120193d85416ede973a6b7034a";
    assert_eq!(hex(&bytes), head + &names.concat() + &body + mac);
}

#[test]
fn a_state_or_reason_that_no_release_sends_is_refused() {
    let answer = Answer::Promoting {
        nonce: 9,
        state: Promoting::UnderWay,
    };
    let good = written(|out| datagram(Body::Answer(answer.clone())).seal(&key(), out));
    // The state, a reason and an episode that belong to no such state, and reasons that there are not.
    for (state, reason, episode, field) in [
        (0, 0, 0, "state"),
        (5, 0, 0, "state"),
        (2, 1, 0, "state"),
        (3, 0, 1, "state"),
        (4, 0, 0, "reason"),
        (4, 16, 0, "reason"),
        (4, 1, 1, "reason"),
    ] {
        let mut bytes = good.clone();
        bytes[HEADER + 8..HEADER + 11].copy_from_slice(&[state, reason, episode]);
        let signed = bytes.len() - MAC;
        let mac = key().sign(&bytes[..signed]);
        bytes[signed..].copy_from_slice(&mac);
        assert_eq!(
            Datagram::open(&bytes, &key()),
            Err(DatagramError::Field(field)),
            "{state} {reason} {episode}"
        );
    }
}

#[test]
fn an_event_or_volume_that_no_release_sends_is_refused() {
    let notify = Request::Notify {
        number: 1,
        event: Event::SplitBrain,
        volume: None,
    };
    let good = written(|out| datagram(Body::Request(notify)).seal(&key(), out));
    for (at, byte, field) in [
        (8, 0, "event"),
        (8, 12, "event"),
        (9, 2, "flag"),
        (10, 1, "volume"),
    ] {
        let mut bytes = good.clone();
        bytes[HEADER + at] = byte;
        let signed = bytes.len() - MAC;
        let mac = key().sign(&bytes[..signed]);
        bytes[signed..].copy_from_slice(&mac);
        assert_eq!(
            Datagram::open(&bytes, &key()),
            Err(DatagramError::Field(field))
        );
    }
}
