//! Bytes arrive, all of them, in order, whatever the segment does.

use super::super::testnet::Faults;
use super::*;

const MIB: usize = 1 << 20;

#[test]
fn a_mebibyte_each_way_at_every_mtu() {
    for mtu in [1500, 9000, 65535] {
        let mut world = World::new(mtu as u64);
        world.mtu = mtu;
        let mut a = world.node(1, &[group(6)]);
        let mut b = world.node(2, &[group(6)]);
        let conns = connect(&mut world, &mut a, &mut b);
        let took = exchange(&mut world, &mut a, &mut b, conns, MIB, 10 * SECOND);
        assert!(
            took < SECOND / 4,
            "MTU {mtu}: {took} us: a timer was waited for"
        );
    }
}

#[test]
fn loss_duplication_and_reordering() {
    for seed in 1..=4 {
        let mut world = World::new(seed * 7919);
        let mut a = world.node(1, &[group(6)]);
        let mut b = world.node(2, &[group(6)]);
        let conns = connect(&mut world, &mut a, &mut b);
        world.segment.borrow_mut().faults = Faults {
            loss: 5,
            duplicate: 20,
            jitter: 200,
        };
        exchange(&mut world, &mut a, &mut b, conns, MIB / 2, 600 * SECOND);
    }
}

#[test]
fn a_tiny_transmit_ring_blocks_but_does_not_stall() {
    let mut world = World::new(3);
    let mut a = world.node(1, &[group(6)]);
    let mut b = world.node(2, &[group(6)]);
    let conns = connect(&mut world, &mut a, &mut b);
    a.port.tx_ring = Some(2);
    b.port.tx_ring = Some(2);
    exchange(&mut world, &mut a, &mut b, conns, MIB / 4, 10 * SECOND);
    assert!(a.port.tx_refused > 0);

    // A full ring is reported, so that the caller waits for the device and does not spin.
    pump_out(&mut a, conns.0, &mut Flow::new(), 30_000);
    a.port.tx_room = Some(1);
    let blocked = a.stack.egress(world.now, &mut a.port.device());
    assert_eq!(blocked, Egress::Blocked);
    a.port.tx_room = None;
    let done = a.stack.egress(world.now, &mut a.port.device());
    assert_eq!(done, Egress::Done);
}

#[test]
fn thirty_two_connections_at_once() {
    const N: usize = 32;
    let mut world = World::new(11);
    let mut a = world.node(1, &[group(N + 1)]);
    let mut b = world.node(2, &[group(N + 1)]);
    let mut pairs = Vec::new();
    for _ in 0..N {
        pairs.push(connect(&mut world, &mut a, &mut b));
    }
    assert_eq!(b.established(), N);
    let mut flows: Vec<Flow> = (0..N).map(|_| Flow::new()).collect();
    let total = 100_000;
    let done = world.run(&mut [&mut a, &mut b], 20 * SECOND, |nodes, _| {
        for (pair, flow) in pairs.iter().zip(&mut flows) {
            pump_out(nodes[0], pair.0, flow, total);
            pump_in(nodes[1], pair.1, flow);
        }
        flows.iter().all(|flow| flow.received.len() == total)
    });
    assert!(done);
    for flow in flows {
        assert!(
            flow.received
                .iter()
                .enumerate()
                .all(|(i, &b)| b == pattern(i))
        );
    }
}

#[test]
fn a_reader_that_stops_holds_the_writer_back() {
    let mut world = World::new(5);
    let mut a = world.node(1, &[group(6)]);
    let mut b = world.node(2, &[group(6)]);
    let (at_a, at_b) = connect(&mut world, &mut a, &mut b);
    let mut flow = Flow::new();
    let total = MIB;
    world.run(&mut [&mut a, &mut b], 3 * SECOND, |nodes, _| {
        pump_out(nodes[0], at_a, &mut flow, total);
        false
    });
    assert!(
        flow.sent <= 2 * (64 << 10),
        "both rings and no more: {}",
        flow.sent
    );
    let done = world.run(&mut [&mut a, &mut b], 10 * SECOND, |nodes, _| {
        pump_in(nodes[1], at_b, &mut flow);
        pump_out(nodes[0], at_a, &mut flow, total);
        flow.received.len() == total
    });
    assert!(done);
}

#[test]
fn an_acknowledgement_that_may_wait_travels_with_the_answer() {
    let mut world = World::new(17);
    let mut a = world.node(1, &[group(6)]);
    let mut b = world.node(2, &[group(6)]);
    let (at_a, at_b) = connect(&mut world, &mut a, &mut b);
    // What each round does: whether acknowledgements may wait, when the answer comes, and the frames that `b` sends.
    for (delay, answer_after, frames) in
        [(None, 500, 2), (Some(2000), 500, 1), (Some(2000), 5000, 2)]
    {
        b.stack.stream(at_b).expect("owned").set_ack_delay(delay);
        world.run(&mut [&mut a, &mut b], SECOND, |_, _| false);
        let before = world.traffic(&b).tx_frames;
        assert_eq!(a.stack.stream(at_a).expect("owned").write(&[1; 28]), 28);
        let asked = world.now;
        let mut answered = false;
        let done = world.run(&mut [&mut a, &mut b], SECOND, |nodes, now| {
            let mut stream = nodes[1].stack.stream(at_b).expect("owned");
            stream.read(&mut [0; 64]);
            if !answered && now >= asked + answer_after {
                answered = stream.write(&[2; 16]) == 16;
            }
            let mut stream = nodes[0].stack.stream(at_a).expect("owned");
            stream.read(&mut [0; 64]) == 16
        });
        assert!(done, "no answer");
        let sent = world.traffic(&b).tx_frames - before;
        assert_eq!(
            sent, frames,
            "delay {delay:?}, answer after {answer_after} us"
        );
    }
}
