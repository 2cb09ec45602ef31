//! Is the peer alive? What commands, clients and memory see of a peer that is not, or not always.

use super::*;

const FORCE: Command = Command::Primary { force: true };
const PLAIN: Command = Command::Primary { force: false };

/// Gives a command and lets `time` pass, answers or not.
fn answer(
    pair: &mut Pair,
    n: usize,
    command: Command,
    time: Micros,
) -> Option<Result<String, String>> {
    let id = pair.start(n, command);
    pair.wait(time);
    pair.nodes[n].done.get(&id).cloned()
}

#[test]
fn force_works_half_a_second_after_the_primarys_power_cut() {
    let mut pair = Pair::ready();
    pair.black_hole = true;
    pair.network = false;
    assert_eq!(answer(&mut pair, 1, FORCE, 499_000), None);
    pair.wait(2_000);
    assert!(pair.nodes[1].serving);
    assert!(pair.nodes[1].logged("peer a was silent for 500 ms"));
    assert!(pair.nodes[1].logged("goes on without the peer"));
}

#[test]
fn without_force_a_dead_peer_is_named_after_half_a_second_whatever_its_role() {
    for demoted in [false, true] {
        let mut pair = Pair::ready();
        if demoted {
            pair.ok(0, Command::Secondary { force: false });
        }
        pair.black_hole = true;
        pair.network = false;
        let refused = answer(&mut pair, 1, PLAIN, 501_000).unwrap().unwrap_err();
        assert!(refused.contains("peer a is not connected"), "{refused}");
        assert!(refused.contains("'primary --force'"), "{refused}");
        assert_eq!(pair.nodes[1].disk(), DiskState::Consistent);
    }
}

#[test]
fn a_living_primary_is_never_taken_for_dead() {
    let mut pair = Pair::ready();
    for command in [PLAIN, FORCE] {
        let refused = pair.command(1, command).unwrap_err();
        assert_eq!(refused, "peer a is Primary: run 'secondary' there first");
    }
    // Not even when this node itself stood still, and finds the answer late.
    let id = pair.start(1, FORCE);
    pair.now += 3_000_000;
    pair.handle(1, Event::Tick);
    pair.wait(600_000);
    assert!(pair.nodes[1].done[&id].is_err());
    // Nor when it is busy: frames arrive, the answer comes late.
    let id = pair.start(1, FORCE);
    for n in 0..4 {
        pair.now += 400_000;
        pair.handle(1, Event::Tick);
        pair.nodes[0].out.push_front(Sent {
            frame: Frame::Ping,
            payload: None,
        });
        pair.deliver(0);
        assert!(!pair.nodes[1].done.contains_key(&id), "{n}");
    }
    pair.run();
    assert!(pair.nodes[1].done[&id].is_err());
    pair.assert_in_sync();
}

#[test]
fn a_peer_that_dies_between_sign_of_life_and_consent_is_decided_without() {
    for force in [false, true] {
        let mut pair = Pair::ready();
        pair.ok(0, Command::Secondary { force: false });
        let id = pair.start(1, Command::Primary { force });
        // Ping and Pong; the request for consent is never delivered.
        pair.deliver(1);
        pair.deliver(0);
        let asked = |sent: &Sent| matches!(sent.frame, Frame::PromoteRequest { .. });
        assert!(pair.nodes[1].out.iter().any(asked));
        pair.black_hole = true;
        pair.network = false;
        pair.wait(501_000);
        assert_eq!(pair.nodes[1].done[&id].is_ok(), force);
        assert_eq!(pair.nodes[1].serving, force);
    }
}

#[test]
fn a_dead_peer_is_noticed_within_the_timeout_of_its_last_byte() {
    for head_start in [0, 700_000, 1_999_000, 3_100_000] {
        let mut pair = Pair::ready();
        pair.wait(head_start);
        let last = pair.nodes[0].engine.link.last_received;
        pair.black_hole = true;
        pair.network = false;
        let mut id = pair.write(0, 0, 512, 1);
        while pair.nodes[0].status().connection == ConnectionState::Connected {
            assert!(pair.now <= last + 6_000_000, "not noticed in time");
            pair.wait(1_000);
            // What this node sends is no sign of life of the other.
            if pair.nodes[0].engine.has_room() {
                id = pair.write(0, 4096, 512, 1);
            }
        }
        assert!(pair.now >= last + 6_000_000, "given up too early");
        pair.wait(1_000);
        assert_eq!(pair.reply(0, id), Some(Ok(())));
    }
}

#[test]
fn a_link_that_flaps_under_load_costs_no_slot_and_no_buffer() {
    // More requests than the peer's window takes: some always wait for it.
    let mut a = config("a", "b");
    a.max_requests = 256;
    let mut pair = Pair::with(a, config("b", "a"));
    pair.run();
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, PLAIN);
    pair.rng = 4711;
    for round in 0..40 {
        for n in 0..2 {
            pair.nodes[n].disk_held = pair.pick(3) == 0;
        }
        for _ in 0..400 {
            if !pair.nodes[0].engine.has_room() {
                break;
            }
            let (at, len) = (pair.pick(500) as u64 * 512, 512 << pair.pick(4));
            match pair.pick(6) {
                0 => pair.submit(0, 0, |_| ClientOp::Flush),
                1 => pair.submit(0, at, |node| {
                    ClientOp::Read(node.pool.alloc(len).expect("memory"))
                }),
                _ => pair.write_fua(0, at, len, round, round % 2 == 0),
            };
            for _ in 0..pair.pick(4) {
                pair.step();
            }
        }
        pair.cut();
        for node in &mut pair.nodes {
            node.disk_held = false;
        }
        if round % 2 == 0 {
            // Some rounds meet the next one with requests of the old connection still on the disk.
            pair.run();
            for node in &pair.nodes {
                node.assert_no_buffer_missing();
                assert!(node.engine.is_idle());
            }
        }
        pair.network = true;
        for _ in 0..pair.pick(200) {
            pair.step();
        }
        while !pair.nodes[0].engine.has_room() {
            assert!(pair.step(), "the engine stays full");
        }
    }
    pair.heal();
    pair.assert_in_sync();
    let asked = pair.nodes[0].next_id as usize - 1;
    assert_eq!(
        pair.nodes[0].replies.len() + pair.nodes[0].done.len(),
        asked
    );
}
