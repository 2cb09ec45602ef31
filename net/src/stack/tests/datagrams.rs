//! UDP on the management network.

use super::*;
use core::net::SocketAddr;

const UDP: u16 = 7790;
const LONGEST: usize = 234;

fn open(world: &mut World, host: u8) -> Node {
    let mut node = world.node(host, &[]);
    assert!(node.stack.open_datagrams(UDP, LONGEST));
    assert!(!node.stack.open_datagrams(UDP, LONGEST), "once");
    node
}

fn received(node: &mut Node) -> Vec<(Vec<u8>, SocketAddr)> {
    let mut all = Vec::new();
    let mut bytes = [0; LONGEST];
    while let Some((len, from)) = node.stack.receive_datagram(&mut bytes) {
        all.push((bytes[..len].to_vec(), from));
    }
    all
}

#[test]
fn questions_and_answers_on_both_lanes() {
    let mut world = World::new(3);
    let (mut a, mut b) = (open(&mut world, 1), open(&mut world, 2));
    for lane in 0..LANES {
        let question = [lane as u8; LONGEST];
        a.stack.send_datagram(lane, &question, b.at(UDP));
        world.run(&mut [&mut a, &mut b], 10_000, |_, _| false);
        let came = received(&mut b);
        assert_eq!(came, [(question.to_vec(), a.at(UDP))]);
        b.stack.send_datagram(lane, &[7], came[0].1);
        world.run(&mut [&mut a, &mut b], 10_000, |_, _| false);
        assert_eq!(received(&mut a), [(vec![7], b.at(UDP))]);
    }
}

#[test]
fn a_dead_party_does_not_hold_up_the_other_and_hears_the_newest_when_it_is_back() {
    let mut world = World::new(4);
    let (mut a, mut b) = (open(&mut world, 1), open(&mut world, 2));
    let port = world.port();
    let later: SocketAddr = "10.0.0.3:7790".parse().expect("an address");
    for number in 0..20 {
        a.stack.send_datagram(0, &[number; 200], later);
        a.stack.send_datagram(1, &[number], b.at(UDP));
        world.run(&mut [&mut a, &mut b], 100_000, |_, _| false);
        assert_eq!(received(&mut b), [(vec![number], a.at(UDP))]);
    }
    let mut c = world.boot(port, 3, later.ip(), 24, &[]);
    assert!(c.stack.open_datagrams(UDP, LONGEST));
    let begun = world.now;
    a.stack.send_datagram(0, &[20; 200], later);
    let mut all = Vec::new();
    assert!(
        world.run(&mut [&mut a, &mut b, &mut c], SECOND, |nodes, _| {
            all.extend(received(nodes[2]));
            all.last().is_some_and(|(bytes, _)| bytes[0] == 20)
        }),
        "{all:?}"
    );
    assert!(world.now - begun < 20_000, "asked for at once");
    assert!(all.len() <= 5, "no backlog: {}", all.len());
}

#[test]
fn too_many_and_too_long_ones_are_dropped_or_cut() {
    let mut world = World::new(5);
    let (mut a, mut b) = (open(&mut world, 1), open(&mut world, 2));
    for number in 0..40u8 {
        a.stack.send_datagram(0, &[number; LONGEST], b.at(UDP));
        world.run(&mut [&mut a, &mut b], 10_000, |_, _| false);
    }
    let first = received(&mut b);
    assert!((8..=17).contains(&first.len()), "{}", first.len());
    a.stack.send_datagram(0, &[9; 900], b.at(UDP));
    a.stack
        .send_datagram(0, &[8; 8], "10.0.0.2:9".parse().expect("an address"));
    world.run(&mut [&mut a, &mut b], 10_000, |_, _| false);
    let mut bytes = [0; LONGEST];
    let cut = b.stack.receive_datagram(&mut bytes);
    assert_eq!(cut, Some((LONGEST, a.at(UDP))));
    assert_eq!(received(&mut b), [], "another port is nobody's");
}
