use super::*;
use alloc::string::ToString;
use fencing::datagram::DatagramError;

const A: &str = "10.0.0.1:7790";
const B: &str = "10.0.0.2:7790";
const ARBITER_AT: &str = "10.0.0.3:7790";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn key(secret: &str) -> Key {
    Key::new(secret.as_bytes(), &name("r0"))
}

fn node(node: &str, peer: &str, sessions: [u64; 2]) -> Endpoint {
    Endpoint::new(&EndpointConfig {
        resource: name("r0"),
        node: name(node),
        peer: name(peer),
        key: key("secret"),
        peer_address: Some(at(if peer == "b" { B } else { A })),
        arbiter_address: Some(at(ARBITER_AT)),
        sessions,
    })
}

/// The arbiter's line to node a.
fn arbiter() -> Channel {
    let ends = Ends {
        resource: name("r0"),
        identity: 0,
        here: name("arbiter"),
        there: name("a"),
    };
    Channel::new(ends, key("secret"), 99)
}

const OUTDATE: Request = Request::Outdate {
    vouched: 0,
    episode: 4,
    primary: true,
};
const GRANTED: Answer = Answer::Granted { episode: 4 };

/// Carries what is in `out` from one endpoint to the other.
fn carry(
    out: &mut [u8; DATAGRAM_MAX],
    sent: Outgoing,
    to: &mut Endpoint,
    from: &str,
) -> Result<Incoming, Rejected> {
    let bytes = *out;
    to.receive(&bytes[..sent.len], at(from), 77, out)
}

/// The first question of a asked, told to ask again, asked again and taken.
fn asked(a: &mut Endpoint, b: &mut Endpoint, out: &mut [u8; DATAGRAM_MAX]) -> u32 {
    let sent = a.ask(Party::Peer, OUTDATE, out).unwrap();
    assert_eq!((sent.party, sent.to), (Party::Peer, at(B)));
    let Ok(Incoming::Reply(again)) = carry(out, sent, b, A) else {
        panic!("a session that is not known is not obeyed");
    };
    assert_eq!(again.to, at(A), "to where the question came from");
    let Ok(Incoming::Reply(sent)) = carry(out, again, a, B) else {
        panic!("it is asked again at once");
    };
    match carry(out, sent, b, A) {
        Ok(Incoming::Asked(Party::Peer, token, OUTDATE)) => token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_and_its_answer_between_two_nodes() {
    let (mut a, mut b) = (node("a", "b", [1, 2]), node("b", "a", [3, 4]));
    let mut out = [0; DATAGRAM_MAX];
    let token = asked(&mut a, &mut b, &mut out);
    assert_eq!(b.answer(Party::Arbiter, token, GRANTED, &mut out), None);
    let sent = b.answer(Party::Peer, token, GRANTED, &mut out).unwrap();
    assert_eq!((sent.party, sent.to), (Party::Peer, at(A)));
    let answered = carry(&mut out, sent, &mut a, B);
    assert_eq!(answered, Ok(Incoming::Answered(Party::Peer, GRANTED)));
}

#[test]
fn the_arbiter_is_another_line() {
    let (mut a, mut arbiter) = (node("a", "b", [1, 2]), arbiter());
    let mut out = [0; DATAGRAM_MAX];
    let sent = a.ask(Party::Arbiter, Request::Query, &mut out).unwrap();
    assert_eq!((sent.party, sent.to), (Party::Arbiter, at(ARBITER_AT)));
    let bytes = out;
    let Ok(Received::SayAgain(ticket)) = arbiter.receive(&bytes[..sent.len]) else {
        panic!("the arbiter does not know this session");
    };
    let len = arbiter.again(ticket, 5, &mut out);
    let bytes = out;
    let again = a.receive(&bytes[..len], at(ARBITER_AT), 1, &mut out);
    let Ok(Incoming::Reply(sent)) = again else {
        panic!("{again:?}");
    };
    assert_eq!((sent.party, sent.to), (Party::Arbiter, at(ARBITER_AT)));
    let Ok(Received::Request(Request::Query, ticket)) = arbiter.receive(&out[..sent.len]) else {
        panic!("asked again with the epoch");
    };
    let len = arbiter.answer(ticket, GRANTED, &mut out);
    let bytes = out;
    assert_eq!(
        a.receive(&bytes[..len], at(ARBITER_AT), 1, &mut out),
        Ok(Incoming::Answered(Party::Arbiter, GRANTED))
    );
    // The question is answered: a late AGAIN has nothing repeated.
    let len = arbiter.again(ticket, 6, &mut out);
    let bytes = out;
    let late = a.receive(&bytes[..len], at(ARBITER_AT), 1, &mut out);
    assert!(
        matches!(
            late,
            Ok(Incoming::Nothing) | Err(Rejected::Replayed | Rejected::NotAsked)
        ),
        "{late:?}"
    );
}

#[test]
fn what_is_not_of_this_pair_is_dropped() {
    let (mut a, mut b) = (node("a", "b", [1, 2]), node("b", "a", [3, 4]));
    let mut out = [0; DATAGRAM_MAX];
    asked(&mut a, &mut b, &mut out);
    let sent = a.ask(Party::Peer, OUTDATE, &mut out).unwrap();
    let good = out;
    let mut drop = |bytes: &[u8]| {
        b.receive(bytes, at(A), 1, &mut [0; DATAGRAM_MAX])
            .unwrap_err()
    };
    assert_eq!(
        drop(&[]),
        Rejected::Datagram(DatagramError::Foreign),
        "empty"
    );
    assert_eq!(
        drop(&good[..sent.len - 1]),
        Rejected::Datagram(DatagramError::Length)
    );
    let mut forged = good;
    forged[sent.len - 1] ^= 1;
    assert_eq!(
        drop(&forged[..sent.len]),
        Rejected::Datagram(DatagramError::Key)
    );
    forged = good;
    forged[4] = 9;
    assert_eq!(
        drop(&forged[..sent.len]),
        Rejected::Datagram(DatagramError::Version(9))
    );
    // Its own question, sent back to it.
    assert_eq!(
        a.receive(&good[..sent.len], at(B), 1, &mut out),
        Err(Rejected::Address)
    );
    // Another resource of the same name, once the nodes have agreed on what theirs is.
    let sent = a.ask(Party::Peer, OUTDATE, &mut out).unwrap();
    assert!(matches!(
        carry(&mut out, sent, &mut b, A),
        Ok(Incoming::Asked(..))
    ));
    a.identify(1);
    b.identify(2);
    let sent = a.ask(Party::Peer, OUTDATE, &mut out).unwrap();
    assert_eq!(
        carry(&mut out, sent, &mut b, A),
        Err(Rejected::OtherResource)
    );
    // The same twice.
    b.identify(1);
    let sent = a.ask(Party::Peer, OUTDATE, &mut out).unwrap();
    let good = out;
    assert!(carry(&mut out, sent, &mut b, A).is_ok());
    assert_eq!(
        b.receive(&good[..sent.len], at(A), 1, &mut out),
        Err(Rejected::Replayed)
    );
}

#[test]
fn a_flood_of_questions_takes_no_more_room_and_the_newest_can_be_answered() {
    let (mut a, mut b) = (node("a", "b", [1, 2]), node("b", "a", [3, 4]));
    let mut out = [0; DATAGRAM_MAX];
    let first = asked(&mut a, &mut b, &mut out);
    let mut last = first;
    for _ in 0..TICKETS {
        let sent = a.ask(Party::Peer, OUTDATE, &mut out).unwrap();
        match carry(&mut out, sent, &mut b, A) {
            Ok(Incoming::Asked(_, token, _)) => last = token,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(b.answer(Party::Peer, first, GRANTED, &mut out), None);
    assert!(b.answer(Party::Peer, last, GRANTED, &mut out).is_some());
}

#[test]
fn whom_the_configuration_does_not_name_is_not_asked_but_the_peer_is_answered() {
    let mut a = node("a", "b", [1, 2]);
    let mut b = Endpoint::new(&EndpointConfig {
        resource: name("r0"),
        node: name("b"),
        peer: name("a"),
        key: key("secret"),
        peer_address: None,
        arbiter_address: None,
        sessions: [3, 4],
    });
    let mut out = [0; DATAGRAM_MAX];
    assert_eq!(b.ask(Party::Peer, OUTDATE, &mut out), None);
    assert_eq!(b.ask(Party::Arbiter, OUTDATE, &mut out), None);
    let token = asked(&mut a, &mut b, &mut out);
    assert!(b.answer(Party::Peer, token, GRANTED, &mut out).is_some());
}

#[test]
fn complaints_are_counted_all_and_told_now_and_then() {
    let mut complaints = Complaints::default();
    let why = Rejected::Datagram(DatagramError::Key);
    let first = complaints.note(5, at(A), why).unwrap();
    assert_eq!(
        first.to_string(),
        "management: a datagram from 10.0.0.1:7790 was dropped: wrong HMAC: the secrets differ, or it is forged"
    );
    for now in 6..100 {
        assert_eq!(complaints.note(now, at(A), why), None);
    }
    let next = complaints.note(5 + complaints::EVERY, at(A), why).unwrap();
    assert!(next.to_string().contains("(95 were dropped"), "{next}");
    assert_eq!(complaints.total(), 96);
}
