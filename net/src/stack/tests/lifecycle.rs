//! Slots: taken, closed, aborted, reused.

use super::*;

#[test]
fn a_close_delivers_what_was_written_and_frees_the_slot() {
    let mut world = World::new(1);
    let mut a = world.node(1, &[group(2)]);
    let mut b = world.node(2, &[group(2)]);
    // More rounds than slots: each must come free again.
    for round in 0..6 {
        let (at_a, at_b) = connect(&mut world, &mut a, &mut b);
        let mut flow = Flow::new();
        pump_out(&mut a, at_a, &mut flow, 50_000);
        a.stack.close(world.now, at_a);
        assert_eq!(a.stack.status(at_a), ConnState::Unknown);
        let ended = world.run(&mut [&mut a, &mut b], SECOND, |nodes, _| {
            pump_in(nodes[1], at_b, &mut flow);
            nodes[1].stack.stream(at_b).expect("owned").at_end()
        });
        assert!(ended && flow.received.len() == 50_000, "round {round}");
        assert_eq!(b.stack.status(at_b), ConnState::PeerFinished);
        b.stack.close(world.now, at_b);
        assert!(a.stack.stream(at_a).is_none(), "a stale handle is harmless");
        world.run(&mut [&mut a, &mut b], SECOND / 100, |_, _| false);
    }
}

#[test]
fn a_close_against_a_peer_that_goes_on_sending_ends() {
    let mut world = World::new(2);
    let mut a = world.node(1, &[group(3)]);
    let mut b = world.node(2, &[group(3)]);
    let (at_a, at_b) = connect(&mut world, &mut a, &mut b);
    a.stack.close(world.now, at_a);
    let mut flow = Flow::new();
    let dead = world.run(&mut [&mut a, &mut b], 20 * SECOND, |nodes, _| {
        if nodes[1].stack.status(at_b) != ConnState::Dead {
            pump_out(nodes[1], at_b, &mut flow, 2 << 20);
        }
        nodes[1].stack.status(at_b) == ConnState::Dead
    });
    assert!(
        dead && flow.sent > 1 << 20,
        "read and discarded, then reset"
    );
}

#[test]
fn an_abort_resets_the_other_side_at_once() {
    let mut world = World::new(3);
    let mut a = world.node(1, &[group(3)]);
    let mut b = world.node(2, &[group(3)]);
    let (at_a, at_b) = connect(&mut world, &mut a, &mut b);
    a.stack.abort(world.now, at_a);
    let start = world.now;
    assert!(world.run(&mut [&mut a, &mut b], SECOND, |nodes, _| {
        nodes[1].stack.status(at_b) == ConnState::Dead
    }));
    assert!(world.now - start < 1000);
    assert!(b.stack.stream(at_b).expect("still owned").at_end());
    b.stack.close(world.now, at_b);
    connect(&mut world, &mut a, &mut b);
}

#[test]
fn nobody_listens_is_a_refusal() {
    let mut world = World::new(4);
    let mut a = world.node(1, &[group(3)]);
    let mut b = world.node(2, &[group(3)]);
    let refused = a.stack.dial(G, b.at(PORT + 1)).expect("a slot");
    let start = world.now;
    assert!(world.run(&mut [&mut a, &mut b], SECOND, |nodes, _| {
        nodes[0].stack.status(refused) == ConnState::Dead
    }));
    assert!(world.now - start < 10_000);
    a.stack.abort(world.now, refused);
    connect(&mut world, &mut a, &mut b);
}

#[test]
fn impossible_dials_are_errors() {
    let mut world = World::new(4);
    let mut config = group(1);
    config.port = None;
    let mut a = world.node(1, &[config]);
    let to = |text: &str| text.parse().expect("an address");
    let unaddressable = Err(DialError::Unaddressable);
    assert_eq!(a.stack.dial(G, to("10.0.0.2:0")), unaddressable);
    assert_eq!(a.stack.dial(G, to("0.0.0.0:1")), unaddressable);
    assert_eq!(a.stack.dial(G, to("[fd00::1]:1")), unaddressable);
    assert_eq!(
        a.stack.dial(GroupId::new(1), to("10.0.0.2:1")),
        Err(DialError::Group)
    );
    assert!(a.stack.dial(G, to("10.0.0.2:1")).is_ok());
    assert_eq!(a.stack.dial(G, to("10.0.0.2:1")), Err(DialError::NoSlot));
}

#[test]
fn a_silent_peer_is_given_up_by_keep_alive() {
    let mut world = World::new(6);
    let mut config = group(3);
    config.liveness = Some(Liveness {
        probe: 2 * SECOND,
        timeout: 7 * SECOND,
    });
    let mut a = world.node(1, &[group(3)]);
    let mut b = world.node(2, &[config]);
    let (_, at_b) = connect(&mut world, &mut a, &mut b);
    // Idle, but alive.
    world.run(&mut [&mut a, &mut b], 30 * SECOND, |_, _| false);
    assert_eq!(b.stack.status(at_b), ConnState::Open);
    world.cut(&a, true);
    let start = world.now;
    assert!(world.run(&mut [&mut a, &mut b], 30 * SECOND, |nodes, _| {
        nodes[1].stack.status(at_b) == ConnState::Dead
    }));
    let took = world.now - start;
    assert!((4 * SECOND..8 * SECOND).contains(&took), "{took}");
}

#[test]
fn an_idle_stack_has_no_timer() {
    let mut world = World::new(7);
    let mut a = world.node(1, &[group(3)]);
    let mut b = world.node(2, &[group(3)]);
    assert_eq!(
        a.stack.poll_at(world.now),
        Some(world.now),
        "it has to announce itself"
    );
    connect(&mut world, &mut a, &mut b);
    world.run(&mut [&mut a, &mut b], SECOND, |_, _| false);
    assert_eq!(a.stack.poll_at(world.now), None);
    assert_eq!(b.stack.poll_at(world.now), None);
}

#[test]
fn while_the_link_is_down_nothing_backs_off() {
    let mut world = World::new(8);
    let mut a = world.node(1, &[group(3)]);
    let mut b = world.node(2, &[group(3)]);
    let (at_a, at_b) = connect(&mut world, &mut a, &mut b);
    a.stack.set_link(false);
    world.cut(&a, true);
    let mut flow = Flow::new();
    pump_out(&mut a, at_a, &mut flow, 1000);
    let before = world.traffic(&a);
    world.run(&mut [&mut a, &mut b], 40 * SECOND, |_, _| false);
    assert_eq!(world.traffic(&a), before);
    assert_eq!(a.stack.poll_at(world.now), None);
    world.cut(&a, false);
    a.stack.set_link(true);
    let start = world.now;
    assert!(world.run(&mut [&mut a, &mut b], SECOND, |nodes, _| {
        pump_in(nodes[1], at_b, &mut flow);
        flow.received.len() == 1000
    }));
    assert!(
        world.now - start < 10_000,
        "at once, not at the end of a long back-off"
    );
}

#[test]
fn a_dying_connection_keeps_what_it_received() {
    let mut world = World::new(9);
    let mut a = world.node(1, &[group(3)]);
    let mut b = world.node(2, &[group(3)]);
    let (at_a, at_b) = connect(&mut world, &mut a, &mut b);
    let mut flow = Flow::new();
    pump_out(&mut a, at_a, &mut flow, 1000);
    world.run(&mut [&mut a, &mut b], SECOND / 100, |_, _| false);
    a.stack.abort(world.now, at_a);
    assert!(world.run(&mut [&mut a, &mut b], SECOND, |nodes, _| {
        nodes[1].stack.status(at_b) == ConnState::Dead
    }));
    assert!(!b.stack.stream(at_b).expect("owned").at_end());
    pump_in(&mut b, at_b, &mut flow);
    assert_eq!(flow.received.len(), 1000);
    let mut stream = b.stack.stream(at_b).expect("owned");
    assert!(stream.at_end());
    assert_eq!((stream.writable(), stream.write(b"x")), (0, 0));
}

#[test]
fn impossible_configurations_are_named() {
    let mut world = World::new(1);
    let mut port = world.port();
    let addr = |text: &str, prefix| (text.parse().expect("an address"), prefix);
    let mut build = |mac: [u8; 6],
                     own: (core::net::IpAddr, u8),
                     gateway: Option<&str>,
                     groups: &[GroupConfig]| {
        let mut addresses = heapless::Vec::new();
        addresses.push(own).expect("one fits");
        let nic = NicConfig {
            mac,
            addresses,
            gateway: gateway.map(|text| text.parse().expect("an address")),
            seed: 1,
        };
        Stack::new(0, &mut port.device(), &nic, groups).err()
    };
    let mac = [2, 0, 0, 0, 0, 1];
    let good = addr("10.0.0.1", 24);
    assert_eq!(build(mac, good, Some("10.0.0.254"), &[group(1)]), None);
    assert_eq!(
        build([1; 6], good, None, &[]),
        Some(StackError::Mac([1; 6]))
    );
    for (text, prefix) in [
        ("10.0.0.1", 33),
        ("224.0.0.1", 24),
        ("0.0.0.0", 0),
        ("::", 64),
    ] {
        let (own, _) = addr(text, prefix);
        let error = build(mac, (own, prefix), None, &[]);
        assert_eq!(error, Some(StackError::Address(own, prefix)));
    }
    let far = "10.0.1.1";
    let expected = StackError::Gateway(far.parse().expect("an address"));
    assert_eq!(build(mac, good, Some(far), &[]), Some(expected));
    assert_eq!(
        build(mac, good, None, &[group(1), group(1)]),
        Some(StackError::Group(1))
    );
    assert_eq!(
        build(mac, good, None, &[group(0)]),
        Some(StackError::Group(0))
    );
    assert_eq!(
        build(mac, good, None, &[group(257)]),
        Some(StackError::TooManySockets)
    );
}

#[test]
fn a_stack_may_live_in_a_static() {
    fn check<T: Send>() {}
    check::<Stack>();
}

#[test]
fn a_reused_slot_does_not_remember_a_congested_connection() {
    let mut world = World::new(10);
    // One slot only, so that it must be reused.
    let mut config = group(1);
    config.port = None;
    let mut a = world.node(1, &[config]);
    let mut b = world.node(2, &[group(4)]);
    let (at_a, at_b) = connect(&mut world, &mut a, &mut b);
    let fresh = exchange(&mut world, &mut a, &mut b, (at_a, at_b), 1 << 20, SECOND);
    // Everything in flight is lost, again and again.
    pump_out(&mut a, at_a, &mut Flow::new(), 60_000);
    world.turn(&mut [&mut a, &mut b]);
    world.cut(&b, true);
    pump_out(&mut a, at_a, &mut Flow::new(), 1000);
    world.run(&mut [&mut a, &mut b], 20 * SECOND, |_, _| false);
    world.cut(&b, false);
    a.stack.abort(world.now, at_a);
    b.stack.abort(world.now, at_b);
    world.run(&mut [&mut a, &mut b], SECOND / 10, |_, _| false);
    let conns = connect(&mut world, &mut a, &mut b);
    let reused = exchange(&mut world, &mut a, &mut b, conns, 1 << 20, SECOND);
    assert!(
        reused <= fresh + fresh / 10,
        "{reused} us instead of {fresh}"
    );
}
