//! Finding the neighbour fast, and being found.

use super::*;
use core::net::IpAddr;

#[test]
fn a_peer_that_comes_up_later_is_reached_at_once() {
    let mut world = World::new(1);
    let mut a = world.node(1, &[group(4)]);
    let later = world.port();
    let peer: IpAddr = "10.0.0.2".parse().expect("an address");
    let dialled = a.stack.dial(G, (peer, PORT).into()).expect("a slot");
    // What the dialer does: ask every 50 ms.
    for _ in 0..20 {
        world.run(&mut [&mut a], 50_000, |_, _| false);
        a.stack.solicit(peer);
    }
    assert_eq!(a.stack.status(dialled), ConnState::Connecting);
    let mut b = world.boot(later, 2, peer, 24, &[group(4)]);
    let start = world.now;
    let mut next = world.now;
    assert!(world.run(&mut [&mut a, &mut b], SECOND, |nodes, now| {
        if now >= next {
            next = now + 50_000;
            nodes[0].stack.solicit(peer);
        }
        nodes[0].stack.status(dialled) == ConnState::Open
    }));
    assert!(world.now - start < 60_000, "{} us", world.now - start);
}

#[test]
fn a_slot_forgets_that_its_last_neighbour_was_missing() {
    let mut world = World::new(2);
    // One slot only, so that it must be reused.
    let mut config = group(1);
    config.port = None;
    let mut a = world.node(1, &[config]);
    let mut b = world.node(2, &[group(4)]);
    let nobody = "10.0.0.77:9".parse().expect("an address");
    let lost = a.stack.dial(G, nobody).expect("a slot");
    world.run(&mut [&mut a, &mut b], SECOND / 100, |_, _| false);
    assert_eq!(a.stack.status(lost), ConnState::Connecting);
    a.stack.abort(world.now, lost);
    let start = world.now;
    let target = b.at(PORT);
    let mut dialled = None;
    assert!(world.run(&mut [&mut a, &mut b], 3 * SECOND, |nodes, _| {
        dialled = dialled.or_else(|| nodes[0].stack.dial(G, target).ok());
        dialled.is_some_and(|conn| nodes[0].stack.status(conn) == ConnState::Open)
    }));
    assert!(world.now - start < SECOND / 10, "{} us", world.now - start);
}

#[test]
fn announces_itself_at_start_and_when_the_link_returns() {
    let mut world = World::new(3);
    let mut a = world.node(1, &[group(2)]);
    let gratuitous = |world: &World| {
        let segment = world.segment.borrow();
        let frames = segment.trace.as_ref().expect("traced");
        // Broadcast, ARP, request, sender and target 10.0.0.1.
        frames
            .iter()
            .filter(|f| f[..6] == [0xff; 6] && f[12..14] == [8, 6] && f[20..22] == [0, 1])
            .filter(|f| f[28..32] == [10, 0, 0, 1] && f[38..42] == [10, 0, 0, 1])
            .count()
    };
    world.segment.borrow_mut().trace = Some(Vec::new());
    world.turn(&mut [&mut a]);
    assert_eq!(gratuitous(&world), 1);
    a.stack.set_link(true);
    world.turn(&mut [&mut a]);
    assert_eq!(gratuitous(&world), 1, "it was not down");
    a.stack.set_link(false);
    world.turn(&mut [&mut a]);
    a.stack.set_link(true);
    world.turn(&mut [&mut a]);
    assert_eq!(gratuitous(&world), 2);
}

#[test]
fn ipv6_connects_and_is_solicited() {
    let mut world = World::new(4);
    let addr = |text: &str| text.parse().expect("an address");
    let mut a = world.node_at(1, addr("fd00::1"), 64, &[group(4)]);
    let mut b = world.node_at(2, addr("fd00::2"), 64, &[group(4)]);
    world.run(&mut [&mut a, &mut b], SECOND / 100, |_, _| false);
    let start = world.now;
    let conns = connect(&mut world, &mut a, &mut b);
    assert!(world.now - start < 10_000);
    exchange(&mut world, &mut a, &mut b, conns, 100_000, SECOND);
}

#[test]
fn a_far_address_is_reached_by_the_gateway() {
    let mut world = World::new(5);
    let mut port = world.port();
    let mut addresses = heapless::Vec::new();
    addresses
        .push(("10.0.0.1".parse().expect("an address"), 24))
        .expect("one fits");
    let nic = NicConfig {
        mac: [2, 0, 0, 0, 0, 1],
        addresses,
        gateway: Some("10.0.0.2".parse().expect("an address")),
        seed: 9,
    };
    let stack = Stack::new(0, &mut port.device(), &nic, &[group(4)]).expect("valid");
    let addr = "10.0.0.1".parse().expect("an address");
    let mut a = testnet::Node { stack, port, addr };
    let mut gateway = world.node(2, &[group(4)]);
    world.segment.borrow_mut().trace = Some(Vec::new());
    let far = "192.0.2.7:80".parse().expect("an address");
    a.stack.dial(G, far).expect("a slot");
    world.run(&mut [&mut a, &mut gateway], SECOND / 100, |_, _| false);
    let segment = world.segment.borrow();
    let frames = segment.trace.as_ref().expect("traced");
    let syn = frames
        .iter()
        .find(|f| f[12..14] == [8, 0] && f[30..34] == [192, 0, 2, 7]);
    assert_eq!(syn.expect("sent")[..6], [2, 0, 0, 0, 0, 2]);
}
