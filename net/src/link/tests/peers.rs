//! Two nodes find each other, and find each other again.

use super::*;
use crate::stack::testnet::Faults;

#[test]
fn two_nodes_that_boot_together_connect_at_once() {
    for (first, second) in [(1, 2), (2, 1)] {
        let mut world = World::new(1);
        let mut a = End::start(&mut world, first, second);
        let mut b = End::start(&mut world, second, first);
        let start = world.now;
        assert!(run(&mut world, &mut [&mut a, &mut b], SECOND, both_up));
        assert!(world.now - start < 10_000, "{} us", world.now - start);
        // And it stays: one link, the greetings exchanged, nothing to report.
        run(&mut world, &mut [&mut a, &mut b], 20 * SECOND, |_, _| false);
        for end in [&a, &b] {
            assert_eq!((end.ups.len(), end.downs.len(), end.notes.len()), (1, 0, 0));
            assert_eq!(end.frames.len(), 1);
        }
    }
}

#[test]
fn a_node_that_boots_later_is_found_within_a_quarter_second() {
    for delay in [50_000, 400_000, 30 * SECOND, 100 * SECOND] {
        for (first, second) in [(1, 2), (2, 1)] {
            let mut world = World::new(delay);
            let mut a = End::start(&mut world, first, second);
            run(&mut world, &mut [&mut a], delay, |_, _| false);
            let mut b = End::start(&mut world, second, first);
            let start = world.now;
            assert!(run(&mut world, &mut [&mut a, &mut b], 5 * SECOND, both_up));
            let took = world.now - start;
            assert!(
                took < 250_000,
                "{first} waited {delay} for {second}: {took} us"
            );
        }
    }
}

#[test]
fn a_node_that_was_off_for_a_while_is_found_within_a_second() {
    for (stays, cycled) in [(1, 2), (2, 1)] {
        let mut world = World::new(6);
        let mut a = End::start(&mut world, stays, cycled);
        let mut b = End::start(&mut world, cycled, stays);
        assert!(run(&mut world, &mut [&mut a, &mut b], SECOND, both_up));
        run(&mut world, &mut [&mut a, &mut b], 5 * SECOND, |_, _| false);
        let End { node, .. } = b;
        // Its engine gives it up after six seconds; its hardware address is known for longer.
        run(&mut world, &mut [&mut a], 6 * SECOND, |_, _| false);
        a.close(world.now);
        a.link.open(world.now);
        run(&mut world, &mut [&mut a], 20 * SECOND, |_, _| false);
        let addr = node.addr;
        let node = world.boot(node.port, cycled, addr, 24, &[group()]);
        let mut b = End::new(node, cycled, stays);
        b.link.open(world.now);
        let start = world.now;
        assert!(run(&mut world, &mut [&mut a, &mut b], 5 * SECOND, both_up));
        let took = world.now - start;
        assert!(took < SECOND + SECOND / 10, "{took} us");
    }
}

#[test]
fn they_connect_on_a_lossy_segment() {
    for seed in 1..=8 {
        let mut world = World::new(seed);
        world.segment.borrow_mut().faults = Faults {
            loss: 200,
            duplicate: 50,
            jitter: 500,
        };
        let mut a = End::start(&mut world, 1, 2);
        let mut b = End::start(&mut world, 2, 1);
        assert!(
            run(&mut world, &mut [&mut a, &mut b], 20 * SECOND, both_up),
            "seed {seed}"
        );
    }
}

#[test]
fn a_power_cycled_peer_takes_its_place_at_once() {
    for (stays, cycled) in [(1, 2), (2, 1)] {
        let mut world = World::new(5);
        let mut a = End::start(&mut world, stays, cycled);
        let mut b = End::start(&mut world, cycled, stays);
        assert!(run(&mut world, &mut [&mut a, &mut b], SECOND, both_up));
        run(&mut world, &mut [&mut a, &mut b], 10 * SECOND, |_, _| false);
        let End { node, .. } = b;
        run(&mut world, &mut [&mut a], SECOND, |_, _| false);
        let addr = node.addr;
        let node = world.boot(node.port, cycled, addr, 24, &[group()]);
        let mut b = End::new(node, cycled, stays);
        b.link.open(world.now);
        let start = world.now;
        let mut beat = world.now + SECOND;
        assert!(run(
            &mut world,
            &mut [&mut a, &mut b],
            5 * SECOND,
            |ends, now| {
                // The engine's heartbeat, which is what tells the dialling side of a dead peer.
                if now >= beat {
                    beat = now + SECOND;
                    ends[0].link.send(Frame::Ping, None);
                }
                ends[0].ups.len() == 2 && ends[1].up
            }
        ));
        let took = world.now - start;
        assert!(took < SECOND + SECOND / 4, "{took} us");
        assert_eq!(a.downs, [LinkDownReason::Closed]);
        if cycled > stays {
            assert!(took < 20_000, "the dialling side was cycled: {took} us");
            assert_eq!(a.notes, [LinkNote::Replaced(addr)]);
        }
        // The new link works both ways.
        a.frames.clear();
        b.frames.clear();
        a.link.send(Frame::Ack { request: 5 }, None);
        b.link.send(Frame::Ack { request: 6 }, None);
        assert!(run(&mut world, &mut [&mut a, &mut b], SECOND, |ends, _| {
            let has = |end: &End, request| end.frames.iter().any(|f| f.0 == Frame::Ack { request });
            has(ends[0], 6) && has(ends[1], 5)
        }));
    }
}

#[test]
fn payloads_flow_both_ways_and_wait_for_buffers() {
    let mut world = World::new(9);
    world.mtu = 9000;
    let mut a = End::start(&mut world, 1, 2);
    let mut b = End::start(&mut world, 2, 1);
    assert!(run(&mut world, &mut [&mut a, &mut b], SECOND, both_up));
    // The reader has room for three payloads only.
    b.pool = Pool::new(96);
    b.memory = VecMemory::new(96);
    let held: Vec<Buf> = (0..12)
        .map(|n| a.send_filled(write_frame(n), n as u8, 128 << 10))
        .collect();
    a.link.send(Frame::Ping, None);
    run(&mut world, &mut [&mut a, &mut b], SECOND, |_, _| false);
    b.frames.retain(|(frame, _)| *frame != Frame::Ping);
    assert_eq!(b.frames.len(), 3);
    assert!(b.pool.free_bytes() == 0 && a.up);
    b.link.send(Frame::Ack { request: 99 }, None);
    let mut expected = 0;
    let done = run(&mut world, &mut [&mut a, &mut b], 10 * SECOND, |ends, _| {
        for (frame, buf) in ends[1].frames.split_off(0) {
            let Some(buf) = buf else {
                return true;
            };
            assert_eq!(frame, write_frame(expected));
            let bytes = ends[1].memory.bytes(buf.view());
            assert!(bytes.len() == 128 << 10 && bytes.iter().all(|&b| b == expected as u8));
            ends[1].pool.free(buf);
            expected += 1;
        }
        false
    });
    assert!(
        done && expected == 12,
        "the heartbeat came last: {expected}"
    );
    assert!(a.frames.iter().any(|f| f.0 == Frame::Ack { request: 99 }));
    assert_eq!(b.pool.free_bytes(), b.pool.total_bytes());
    held.into_iter().for_each(|buf| a.pool.free(buf));
}

#[test]
fn closing_is_an_order_and_opening_again_works() {
    let mut world = World::new(12);
    let mut a = End::start(&mut world, 1, 2);
    let mut b = End::start(&mut world, 2, 1);
    for who in [0, 1] {
        assert!(run(&mut world, &mut [&mut a, &mut b], 10 * SECOND, both_up));
        run(&mut world, &mut [&mut a, &mut b], 5 * SECOND, |_, _| false);
        let mut ends = [&mut a, &mut b];
        ends[0].downs.clear();
        ends[1].downs.clear();
        ends[1 - who].frames.clear();
        // A last word (a refusal, say) still reaches the other side.
        ends[who].link.send(Frame::Ack { request: 1 }, None);
        ends[who].close(world.now);
        ends[who].link.send(Frame::Ping, None);
        run(&mut world, &mut ends, 20 * SECOND, |_, _| false);
        assert_eq!(ends[who].downs, [LinkDownReason::Requested]);
        assert_eq!(ends[1 - who].downs[0], LinkDownReason::Closed);
        assert_eq!(ends[1 - who].frames, [(Frame::Ack { request: 1 }, None)]);
        assert!(!ends[who].up && ends[who].link.poll_at().is_none());
        ends[who].close(world.now);
        ends[who].link.open(world.now);
    }
    assert!(run(&mut world, &mut [&mut a, &mut b], 10 * SECOND, both_up));
}
