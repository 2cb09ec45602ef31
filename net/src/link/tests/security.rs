//! Secrets and modes between two nodes.

use super::*;
use crate::stack::{ConnHandle, ConnState};
use crate::stream::ByteStream;
use replication::secure::{MESSAGE_LEN, Preamble, PreambleSide};

const OTHER: &[u8] = b"another secret of the kind";

/// Two nodes with these demands, the first on host 1 (which listens).
fn two(world: &mut World, demands: [Security; 2]) -> [End; 2] {
    let [one, two] = demands;
    [
        End::start_demanding(world, 1, 2, one),
        End::start_demanding(world, 2, 1, two),
    ]
}

fn up_within(world: &mut World, ends: &mut [End; 2], limit: Micros) -> bool {
    let [a, b] = ends;
    run(world, &mut [a, b], limit, both_up)
}

fn wait(world: &mut World, ends: &mut [End; 2], time: Micros) {
    let [a, b] = ends;
    run(world, &mut [a, b], time, |_, _| false);
}

#[test]
fn nodes_with_equal_demands_connect_and_payloads_flow() {
    for mode in MODES {
        let mut world = World::new(3);
        world.mtu = 9000;
        let demands = [demand(mode, Some(SECRET)), demand(mode, Some(SECRET))];
        let mut ends = two(&mut world, demands);
        let start = world.now;
        assert!(up_within(&mut world, &mut ends, SECOND), "{mode}");
        assert!(world.now - start < 10_000, "{} us", world.now - start);
        let held: Vec<Buf> = (0..6)
            .map(|n| ends[1].send_filled(write_frame(n), n as u8 + 1, 128 << 10))
            .collect();
        let [a, b] = &mut ends;
        assert!(run(&mut world, &mut [a, b], 5 * SECOND, |ends, _| {
            ends[0].frames.len() == 7
        }));
        for (n, (frame, buf)) in ends[0].frames.split_off(1).into_iter().enumerate() {
            assert_eq!(frame, write_frame(n as u64));
            let buf = buf.expect("a payload");
            let bytes = ends[0].memory.bytes(buf.view());
            assert!(bytes.iter().all(|&b| b == n as u8 + 1));
        }
        held.into_iter().for_each(|buf| ends[1].pool.free(buf));
        // A second connection has keys of its own.
        ends[0].close(world.now);
        ends[0].link.open(world.now);
        assert!(up_within(&mut world, &mut ends, 10 * SECOND));
        let [a, b] = &mut ends;
        a.frames.clear();
        b.link.send(Frame::Ack { request: 5 }, None);
        assert!(run(&mut world, &mut [a, b], SECOND, |ends, _| ends[0]
            .frames
            .contains(&(Frame::Ack { request: 5 }, None))));
    }
}

#[test]
fn what_differs_is_told_on_both_sides_and_tried_again_slowly() {
    let crc = |secret| demand(Integrity::Crc32c, secret);
    let aes = demand(Integrity::Aes256Gcm, Some(SECRET));
    use LinkRefusal::*;
    for (demands, expected) in [
        ([crc(Some(SECRET)), crc(Some(OTHER))], [SecretDiffers; 2]),
        (
            [crc(Some(SECRET)), crc(None)],
            [PeerWithoutSecret, SecretMissing],
        ),
        ([crc(None), aes.clone()], [SecretMissing, PeerWithoutSecret]),
        ([crc(Some(SECRET)), aes], [IntegrityDiffers; 2]),
    ] {
        let mut world = World::new(8);
        let mut ends = two(&mut world, demands);
        let start = world.now;
        wait(&mut world, &mut ends, 10 * INTERVAL);
        for (end, expected) in ends.iter().zip(expected) {
            assert!(end.ups.is_empty());
            let refused = LinkDownReason::Refused(expected);
            let times = end.downs.iter().filter(|down| **down == refused).count();
            assert!((8..=11).contains(&times), "{:?}", end.downs);
            assert!(
                end.downs
                    .iter()
                    .all(|d| *d == refused || *d == LinkDownReason::ConnectFailed),
                "{:?}",
                end.downs
            );
            assert!(end.notes.is_empty(), "{:?}", end.notes);
        }
        assert!(world.now > start);
    }
}

#[test]
fn a_node_that_is_restarted_with_the_right_secret_connects_within_an_interval() {
    for cycled in [0, 1] {
        let mut world = World::new(8);
        let mut secrets = [SECRET; 2];
        secrets[cycled] = OTHER;
        let demands = secrets.map(|secret| demand(Integrity::Crc32c, Some(secret)));
        let mut ends = two(&mut world, demands);
        wait(&mut world, &mut ends, 20 * SECOND);
        let [a, b] = ends;
        let (stays, goes, host) = if cycled == 0 { (b, a, 1) } else { (a, b, 2) };
        let addr = goes.node.addr;
        let node = world.boot(goes.node.port, host, addr, 24, &[group()]);
        let right = demand(Integrity::Crc32c, Some(SECRET));
        let mut back = End::demanding(node, host, 3 - host, right);
        back.link.open(world.now);
        let mut ends = [stays, back];
        assert!(up_within(&mut world, &mut ends, INTERVAL + SECOND));
    }
}

/// A connection to host 1 from host 2's stack, on which `own` makes the preamble.
fn newcomer(world: &mut World, ends: &mut [End; 2], security: &Security) -> ConnHandle {
    let [a, b] = ends;
    let conn = b
        .node
        .stack
        .dial(GroupId::new(0), endpoint(1))
        .expect("a slot");
    let mut preamble = Preamble::new(security, PreambleSide::Dials, [0x77; 32]);
    let mut failed = false;
    assert!(run(world, &mut [a, b], SECOND, |ends, _| {
        let stack = &mut ends[1].node.stack;
        let open = stack.status(conn) == ConnState::Open;
        if let Some(mut stream) = stack.stream(conn).filter(|_| open && !failed) {
            let n = stream.write(preamble.output());
            preamble.sent(n);
            let n = stream.read(preamble.input());
            failed = preamble.received(security, n).is_err();
        }
        failed || preamble.session(security).is_some()
    }));
    conn
}

#[test]
fn somebody_without_the_secret_cannot_replace_a_link() {
    let security = demand(Integrity::Aes256Gcm, Some(SECRET));
    let mut world = World::new(8);
    let mut ends = two(&mut world, [security.clone(), security.clone()]);
    assert!(up_within(&mut world, &mut ends, SECOND));
    wait(&mut world, &mut ends, 3 * SECOND);
    let intruder = demand(Integrity::Aes256Gcm, Some(OTHER));
    let conn = newcomer(&mut world, &mut ends, &intruder);
    wait(&mut world, &mut ends, SECOND);
    assert_eq!(
        ends[0].notes,
        [LinkNote::Refused(
            endpoint(2).ip(),
            LinkRefusal::SecretDiffers
        )]
    );
    assert!(ends.iter().all(|end| end.up && end.downs.is_empty()));
    ends[1].node.stack.abort(world.now, conn);
    // Who has it can: that is how a peer that was power-cycled comes back.
    newcomer(&mut world, &mut ends, &security);
    wait(&mut world, &mut ends, SECOND / 10);
    assert!(
        ends[0]
            .notes
            .contains(&LinkNote::Replaced(endpoint(2).ip()))
    );
}

#[test]
fn a_release_without_preamble_is_named_as_such() {
    let mut world = World::new(8);
    let mut ends = two(&mut world, [Security::default(), Security::default()]);
    ends[1].close(world.now);
    let [a, b] = &mut ends;
    let conn = b
        .node
        .stack
        .dial(GroupId::new(0), endpoint(1))
        .expect("a slot");
    let mut sent = false;
    run(&mut world, &mut [a, b], SECOND, |ends, _| {
        let stack = &mut ends[1].node.stack;
        if let Some(mut stream) = stack.stream(conn).filter(|_| !sent) {
            let mut frame = [0; MESSAGE_LEN];
            frame[..4].copy_from_slice(b"PLSD");
            sent = stream.write(&frame) == frame.len();
        }
        false
    });
    assert!(
        ends[0]
            .downs
            .contains(&LinkDownReason::Refused(LinkRefusal::Version))
    );
}
