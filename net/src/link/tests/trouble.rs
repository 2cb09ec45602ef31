//! Strangers, garbage and peers that do not behave.

use super::*;
use crate::stack::{ConnHandle, ConnState};
use crate::stream::ByteStream;
use alloc::string::ToString;

const G: GroupId = GroupId::new(0);

/// A connection to `to` from `from`'s stack, behind the back of its link.
fn side_door(world: &mut World, from: &mut End, to: &mut End, host: u8) -> ConnHandle {
    let conn = from.node.stack.dial(G, endpoint(host)).expect("a slot");
    assert!(run(world, &mut [from, to], SECOND, |ends, _| {
        ends[0].node.stack.status(conn) != ConnState::Connecting
    }));
    conn
}

fn connected() -> (World, End, End) {
    let mut world = World::new(21);
    let mut a = End::start(&mut world, 1, 2);
    let mut b = End::start(&mut world, 2, 1);
    assert!(run(&mut world, &mut [&mut a, &mut b], SECOND, both_up));
    run(&mut world, &mut [&mut a, &mut b], 3 * SECOND, |_, _| false);
    (world, a, b)
}

fn undisturbed(world: &mut World, a: &mut End, b: &mut End) {
    a.frames.clear();
    b.link.send(Frame::Pong, None);
    assert!(run(world, &mut [a, b], SECOND, |ends, _| !ends[0]
        .frames
        .is_empty()));
    assert_eq!((a.ups.len(), b.ups.len()), (1, 1));
    assert!(a.downs.is_empty() && b.downs.is_empty());
}

#[test]
fn a_stranger_is_refused() {
    let (mut world, mut a, mut b) = connected();
    let mut stranger = End::new(world.node(3, &[group()]), 3, 1);
    let conn = side_door(&mut world, &mut stranger, &mut a, 1);
    assert!(run(
        &mut world,
        &mut [&mut a, &mut stranger],
        SECOND,
        |ends, _| { ends[1].node.stack.status(conn) == ConnState::Dead }
    ));
    assert!(matches!(a.notes[..], [LinkNote::Stranger(from)] if from.ip() == endpoint(3).ip()));
    undisturbed(&mut world, &mut a, &mut b);
}

#[test]
fn garbage_from_the_peers_address_does_not_disturb_the_link() {
    let (mut world, mut a, mut b) = connected();
    let conn = side_door(&mut world, &mut b, &mut a, 1);
    let mut stream = b.node.stack.stream(conn).expect("owned");
    assert_eq!(stream.write(&[0x47; 300]), 300);
    assert!(run(&mut world, &mut [&mut a, &mut b], SECOND, |ends, _| {
        ends[1].node.stack.status(conn) == ConnState::Dead
    }));
    assert!(matches!(a.notes[..], [LinkNote::NotPalisade(..)]));
    undisturbed(&mut world, &mut a, &mut b);
}

#[test]
fn silent_connections_do_not_add_up() {
    let (mut world, mut a, mut b) = connected();
    // The newest two are waited for, each for five seconds.
    for _ in 0..5 {
        let conn = side_door(&mut world, &mut b, &mut a, 1);
        run(&mut world, &mut [&mut a, &mut b], SECOND / 100, |_, _| {
            false
        });
        let before = b.node.stack.status(conn);
        assert!(matches!(before, ConnState::Open));
        if a.node.established() > 3 {
            panic!("more than the link and two candidates");
        }
        run(&mut world, &mut [&mut a, &mut b], 2 * SECOND, |_, _| false);
        b.node.stack.abort(world.now, conn);
    }
    let conn = side_door(&mut world, &mut b, &mut a, 1);
    assert!(run(
        &mut world,
        &mut [&mut a, &mut b],
        6 * SECOND,
        |ends, _| { ends[1].node.stack.status(conn) == ConnState::Dead }
    ));
    assert!(
        matches!(a.notes[..], [LinkNote::Silent(_)]),
        "{:?}",
        a.notes
    );
    undisturbed(&mut world, &mut a, &mut b);
}

#[test]
fn garbage_on_the_link_itself_drops_it_with_a_pause() {
    // The listening node is not Palisade: it answers nonsense to everyone.
    let mut world = World::new(4);
    let mut other = world.node(1, &[group()]);
    let mut b = End::start(&mut world, 2, 1);
    let end = world.now + 20 * SECOND;
    while world.now < end {
        for node in [&mut b.node, &mut other] {
            node.stack.ingress(world.now, &mut node.port.device(), 100);
        }
        b.pump(world.now);
        while let Some(conn) = other.stack.accept(G) {
            if let Some(mut stream) = other.stack.stream(conn) {
                stream.write(b"SSH-2.0-OpenSSH_9.2\r\n");
            }
            other.stack.close(world.now, conn);
        }
        for node in [&mut b.node, &mut other] {
            let _ = node.stack.egress(world.now, &mut node.port.device());
        }
        world.advance(1000);
    }
    assert!(b.ups.is_empty());
    let garbage = b.downs.iter().filter(|r| **r == LinkDownReason::Garbage);
    assert!((6..=14).contains(&garbage.count()), "{:?}", b.downs);
    assert!(
        b.notes
            .iter()
            .all(|note| matches!(note, LinkNote::NotPalisade(..)))
    );
    assert!(!b.notes.is_empty());
}

#[test]
fn an_unreachable_peer_is_reported_once_per_interval() {
    let mut world = World::new(4);
    let mut b = End::start(&mut world, 2, 1);
    run(&mut world, &mut [&mut b], 10 * INTERVAL + SECOND, |_, _| {
        false
    });
    assert_eq!(b.downs, [LinkDownReason::ConnectFailed; 10]);
    assert!(b.ups.is_empty());
}

/// What the ends have said about their searches: what was found, and after how many seconds.
fn words(end: &End) -> Vec<(Sought, Micros)> {
    let word = |note: &LinkNote| match note {
        LinkNote::Search(search) => (search.found, search.lasted / SECOND),
        other => panic!("{other:?}"),
    };
    end.notes.iter().map(word).collect()
}

#[test]
fn a_node_that_finds_no_peer_says_so_ever_more_rarely() {
    let hour = 3600 * SECOND;
    for (host, found) in [(2, Sought::NoAnswer), (1, Sought::NotCalled)] {
        let mut world = World::new(4);
        let mut end = End::start(&mut world, host, 3 - host);
        run(&mut world, &mut [&mut end], 3 * hour, |_, _| false);
        let words = words(&end);
        assert!(words.iter().all(|(what, _)| *what == found), "{words:?}");
        let mut expected = Vec::from([2 * INTERVAL / SECOND]);
        while let Some(last) = expected.last()
            && last + last.min(&3600) < 3 * 3600
        {
            expected.push(last + last.min(&3600));
        }
        let after: Vec<_> = words.iter().map(|(_, seconds)| *seconds).collect();
        assert_eq!(after, expected, "twice as long, then every hour");
    }
}

#[test]
fn the_search_is_named_as_long_as_it_lasts() {
    let mut world = World::new(4);
    let mut b = End::start(&mut world, 2, 1);
    run(&mut world, &mut [&mut b], 12 * SECOND, |_, _| false);
    let search = b.link.search(world.now).expect("it lasts");
    assert_eq!(search.found, Sought::NoAnswer);
    let text = search.to_string();
    assert!(
        text.starts_with("no answer from 10.0.0.1:7789 for 12 s"),
        "{text}"
    );
    // A host where nothing listens on the port.
    let mut nobody = group();
    nobody.port = None;
    let mut other = world.node(1, &[nobody]);
    let end = world.now + 3 * SECOND;
    while world.now < end {
        for node in [&mut b.node, &mut other] {
            node.stack.ingress(world.now, &mut node.port.device(), 1000);
        }
        b.pump(world.now);
        for node in [&mut b.node, &mut other] {
            let _ = node.stack.egress(world.now, &mut node.port.device());
        }
        world.advance(1000);
    }
    let search = b.link.search(world.now).expect("it lasts");
    assert_eq!(search.found, Sought::Refused);
    // And the peer itself.
    world.cut(&other, true);
    let mut a = End::start(&mut world, 1, 2);
    assert!(run(&mut world, &mut [&mut a, &mut b], 5 * SECOND, both_up));
    for end in [&a, &b] {
        assert_eq!(end.link.search(world.now), None);
    }
}

#[test]
fn a_peer_that_never_reads_overflows_and_is_dropped() {
    let (mut world, mut a, mut b) = connected();
    world.cut(&b.node, true);
    let held: Vec<Buf> = (0..4)
        .map(|n| a.send_filled(write_frame(n), 1, 128 << 10))
        .collect();
    for _ in 0..100 {
        a.link.send(Frame::Ping, None);
    }
    assert!(run(&mut world, &mut [&mut a, &mut b], SECOND, |ends, _| {
        !ends[0].downs.is_empty()
    }));
    assert!(matches!(a.notes[..], [LinkNote::Overflow(_)]));
    assert_eq!(a.downs, [LinkDownReason::Closed]);
    held.into_iter().for_each(|buf| a.pool.free(buf));
    assert_eq!(a.pool.free_bytes(), a.pool.total_bytes());
}
