//! Frames from somebody who means no good.

use super::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

fn syn(from: Ipv4Address, from_port: u16, to: Ipv4Address) -> Vec<u8> {
    let caps = ChecksumCapabilities::default();
    let tcp = TcpRepr {
        src_port: from_port,
        dst_port: PORT,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(77),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None, None, None],
        timestamp: None,
        payload: &[],
    };
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress([2, 9, 9, 9, 9, 9]),
        dst_addr: EthernetAddress([2, 0, 0, 0, 0, 2]),
        ethertype: EthernetProtocol::Ipv4,
    };
    let mut bytes = vec![0; 14 + ip.buffer_len() + tcp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &caps);
    let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
    tcp.emit(&mut segment, &from.into(), &to.into(), &caps);
    bytes
}

const TARGET: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);

#[test]
fn a_flood_of_syns_does_not_keep_a_client_out() {
    let mut world = World::new(1);
    let mut a = world.node(1, &[group(4)]);
    let mut b = world.node(2, &[group(8)]);
    let attacker = world.port();
    for n in 0..500u16 {
        let from = Ipv4Address::new(10, 0, 0, 100 + (n % 100) as u8);
        let frame = syn(from, 1000 + n, TARGET);
        world.inject(&attacker, &frame);
    }
    // All 500 wait for the one turn in which the client's SYN comes too.
    let (at_a, at_b) = connect(&mut world, &mut a, &mut b);
    assert!(world.traffic(&b).rx_frames > 500, "the flood came through");
    assert_eq!(b.stack.accept(G), None, "none of it is a connection");
    exchange(&mut world, &mut a, &mut b, (at_a, at_b), 10_000, SECOND);
    // The half-open ones are gone after a while: a full house fits.
    world.run(&mut [&mut a, &mut b], 8 * SECOND, |_, _| false);
    assert_eq!(a.stack.status(at_a), ConnState::Open);
    for _ in 0..3 {
        connect(&mut world, &mut a, &mut b);
    }
}

#[test]
fn a_full_house_refuses_until_somebody_goes() {
    let mut world = World::new(2);
    let mut a = world.node(1, &[group(8)]);
    let mut b = world.node(2, &[group(3)]);
    let mut pairs = Vec::new();
    for _ in 0..3 {
        pairs.push(connect(&mut world, &mut a, &mut b));
    }
    expect_refusal(&mut world, &mut a, &mut b);
    // Evicting one makes room within the turn.
    b.stack.abort(world.now, pairs[0].1);
    world.turn(&mut [&mut a, &mut b]);
    let waiting = a.stack.dial(G, b.at(PORT)).expect("a slot");
    assert!(world.run(&mut [&mut a, &mut b], SECOND, |nodes, _| {
        nodes[0].stack.status(waiting) == ConnState::Open
    }));
    // Those that the server has not accepted yet count too.
    expect_refusal(&mut world, &mut a, &mut b);
}

#[test]
fn a_patient_full_house_has_the_next_call_again() {
    let mut world = World::new(12);
    let mut a = world.node(1, &[group(12)]);
    let patient = GroupConfig {
        patient: true,
        ..group(3)
    };
    let mut b = world.node(2, &[patient]);
    let mut pairs = Vec::new();
    for _ in 0..3 {
        pairs.push(connect(&mut world, &mut a, &mut b));
    }
    let waiting = a.stack.dial(G, b.at(PORT)).expect("a slot");
    assert!(!world.run(&mut [&mut a, &mut b], 10 * SECOND, |nodes, _| {
        nodes[0].stack.status(waiting) != ConnState::Connecting
    }));
    // The others are served as ever.
    exchange(&mut world, &mut a, &mut b, pairs[1], 10_000, SECOND);
    // One is closed, but its client does not close: it has all that was said to it, and makes room.
    let begun = world.now;
    let (left, closed) = pairs.remove(0);
    let word = b"all are taken";
    assert_eq!(
        b.stack.stream(closed).expect("owned").write(word),
        word.len()
    );
    b.stack.close(world.now, closed);
    let mut accepted = None;
    assert!(world.run(&mut [&mut a, &mut b], 20 * SECOND, |nodes, _| {
        accepted = nodes[1].stack.accept(G);
        accepted.is_some()
    }));
    assert!(world.now - begun >= SECOND / 2, "{}", world.now - begun);
    assert_eq!(a.stack.status(left), ConnState::PeerFinished);
    let mut said = [0; 20];
    let read = a.stack.stream(left).expect("owned").read(&mut said);
    assert_eq!(&said[..read], word);
    // Who is late all the same is a stranger there.
    a.stack.close(world.now, left);
    let at_b = accepted.expect("just checked");
    exchange(&mut world, &mut a, &mut b, (waiting, at_b), 10_000, SECOND);
}

#[test]
fn who_is_done_makes_room_for_the_next_at_once() {
    let mut world = World::new(13);
    let mut a = world.node(1, &[group(8)]);
    let patient = GroupConfig {
        patient: true,
        ..group(2)
    };
    let mut b = world.node(2, &[patient]);
    let begun = world.now;
    // One after the other; each slot was in TIME-WAIT just before.
    for _ in 0..10 {
        let (at_a, at_b) = connect(&mut world, &mut a, &mut b);
        b.stack.close(world.now, at_b);
        assert!(world.run(&mut [&mut a, &mut b], SECOND, |nodes, _| {
            nodes[0].stack.status(at_a) == ConnState::PeerFinished
        }));
        a.stack.close(world.now, at_a);
        world.run(&mut [&mut a, &mut b], SECOND / 100, |_, _| false);
    }
    assert!(world.now - begun < SECOND, "{}", world.now - begun);
}

fn expect_refusal(world: &mut World, a: &mut Node, b: &mut Node) {
    let refused = a.stack.dial(G, b.at(PORT)).expect("a slot");
    assert!(world.run(&mut [a, b], SECOND, |nodes, _| {
        nodes[0].stack.status(refused) == ConnState::Dead
    }));
    a.stack.abort(world.now, refused);
}

#[test]
fn a_connection_that_dies_unaccepted_frees_its_slot() {
    let mut world = World::new(3);
    let mut a = world.node(1, &[group(8)]);
    let mut b = world.node(2, &[group(2)]);
    for _ in 0..6 {
        let conn = a.stack.dial(G, b.at(PORT)).expect("a slot");
        assert!(world.run(&mut [&mut a, &mut b], SECOND, |nodes, _| {
            nodes[0].stack.status(conn) == ConnState::Open
        }));
        a.stack.abort(world.now, conn);
        world.run(&mut [&mut a, &mut b], 1000, |_, _| false);
    }
    assert_eq!(b.stack.accept(G), None);
    connect(&mut world, &mut a, &mut b);
}

/// Bends frames of a real conversation, and random bytes, at a node.
fn bombard(seed: u64, v6: bool) {
    let mut world = World::new(seed);
    // TCP checksums are not verified, so that bent headers get past them.
    world.features.rx_checksum = true;
    let addr = |text: &str| text.parse().expect("an address");
    let (mut a, mut b) = if v6 {
        (
            world.node_at(1, addr("fd00::1"), 64, &[group(4)]),
            world.node_at(2, addr("fd00::2"), 64, &[group(4)]),
        )
    } else {
        (world.node(1, &[group(4)]), world.node(2, &[group(4)]))
    };
    let attacker = world.port();
    world.segment.borrow_mut().trace = Some(Vec::new());
    let conns = connect(&mut world, &mut a, &mut b);
    pump_out(&mut a, conns.0, &mut Flow::new(), 3000);
    world.turn(&mut [&mut a, &mut b]);
    a.stack.close(world.now, conns.0);
    world.turn(&mut [&mut a, &mut b]);
    let real = world.segment.borrow_mut().trace.take().expect("traced");
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize
    };
    for round in 0..8_000 {
        let mut frame = if round % 4 == 0 {
            (0..random() % 200).map(|_| random() as u8).collect()
        } else {
            real[random() % real.len()].clone()
        };
        for _ in 0..random() % 4 {
            if !frame.is_empty() {
                let at = random() % frame.len().min(80);
                frame[at] = [0, 1, 0xff, random() as u8][random() % 4];
            }
        }
        if round % 5 == 0 {
            frame.truncate(random() % (frame.len() + 1));
        }
        if frame.len() > 54 {
            frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
            if frame[12..14] == [8, 0] && frame[14] == 0x45 {
                Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
            }
        }
        world.segment.borrow_mut().inject(2, &frame, true);
        if round % 50 == 0 {
            if let Ok(conn) = a.stack.dial(G, b.at(PORT)) {
                world.turn(&mut [&mut a, &mut b]);
                a.stack.abort(world.now, conn);
            }
            while let Some(conn) = b.stack.accept(G) {
                b.stack.close(world.now, conn);
            }
            world.turn(&mut [&mut a, &mut b]);
        }
    }
    drop(attacker);
    // Forged neighbour messages may have misled both: they tell each other the truth, as the
    // link's dialer would.
    a.stack.solicit(b.addr);
    b.stack.solicit(a.addr);
    world.run(&mut [&mut a, &mut b], 12 * SECOND, |_, _| false);
    while let Some(conn) = b.stack.accept(G) {
        b.stack.abort(world.now, conn);
    }
    let fresh = connect(&mut world, &mut a, &mut b);
    exchange(&mut world, &mut a, &mut b, fresh, 10_000, 5 * SECOND);
}

#[test]
fn garbage_is_survived() {
    for seed in 1..=3 {
        bombard(seed * 0x9e37_79b9, false);
        bombard(seed * 0x85eb_ca6b, true);
    }
}

#[test]
fn frames_for_others_are_ignored() {
    let mut world = World::new(5);
    let mut b = world.node(2, &[group(4)]);
    let attacker = world.port();
    world.turn(&mut [&mut b]);
    let before = world.traffic(&b);
    let from = Ipv4Address::new(10, 0, 0, 9);
    world.inject(&attacker, &syn(from, 5, Ipv4Address::new(10, 0, 0, 3)));
    world.inject(&attacker, &syn(Ipv4Address::new(0, 0, 0, 0), 5, TARGET));
    world.inject(&attacker, &syn(Ipv4Address::BROADCAST, 5, TARGET));
    world.inject(&attacker, &syn(Ipv4Address::new(224, 0, 0, 1), 5, TARGET));
    let mut other_mac = syn(from, 5, TARGET);
    other_mac[5] = 99;
    world.inject(&attacker, &other_mac);
    world.run(&mut [&mut b], SECOND / 10, |_, _| false);
    let after = world.traffic(&b);
    assert_eq!(after.rx_frames, before.rx_frames + 5);
    assert_eq!(after.tx_frames, before.tx_frames);
}
