//! Protocols A and B: when a write is answered, the order in which it reaches the peer's disk, and how far the peer may lag.

use super::*;

fn by(protocol: Protocol) -> Pair {
    let mut pair = Pair::with(
        EngineConfig {
            mirroring: Mirroring {
                protocol,
                ..Mirroring::default()
            },
            ..config("a", "b")
        },
        EngineConfig {
            mirroring: Mirroring {
                protocol,
                ..Mirroring::default()
            },
            ..config("b", "a")
        },
    );
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair
}

/// Everything but deliver frames.
fn disks_only(pair: &mut Pair, n: usize) {
    while !pair.nodes[n].ops.is_empty() || !pair.nodes[n].meta_ops.is_empty() {
        if !pair.complete_meta(n) {
            pair.complete(n);
        }
    }
}

fn lag(pair: &Pair) -> u64 {
    pair.nodes[0]
        .status()
        .volumes
        .iter()
        .map(|v| v.lag_bytes)
        .sum()
}

#[test]
fn by_protocol_a_a_write_is_answered_when_the_own_disk_has_it_and_it_is_on_its_way() {
    let mut pair = by(Protocol::A);
    pair.nodes[0].disk_held = true;
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), None, "the own disk has not done it");
    pair.nodes[0].disk_held = false;
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.assert_in_sync();
    let id = pair.write(0, 0, 4096, 2);
    disks_only(&mut pair, 0);
    assert_eq!(pair.reply(0, id), Some(Ok(())), "no frame was delivered");
    assert_eq!(lag(&pair), 4096);
    pair.run();
    assert_eq!(lag(&pair), 0);
    pair.assert_in_sync();
}

#[test]
fn by_protocol_b_a_write_is_answered_when_the_peer_has_it_in_its_memory() {
    let mut pair = by(Protocol::B);
    pair.nodes[1].disk_held = true;
    let id = pair.write(0, 0, 4096, 1);
    disks_only(&mut pair, 0);
    assert_eq!(pair.reply(0, id), None, "no frame was delivered");
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    assert_eq!((lag(&pair), pair.nodes[1].writes), (4096, 0));
    pair.nodes[1].disk_held = false;
    pair.run();
    pair.assert_in_sync();
}

#[test]
fn a_flush_and_a_fua_write_wait_for_everything_before_them_on_both_disks() {
    for protocol in [Protocol::A, Protocol::B] {
        let mut pair = by(protocol);
        pair.nodes[1].disk_held = true;
        let write = pair.write(0, 0, 4096, 1);
        pair.run();
        assert_eq!(pair.reply(0, write), Some(Ok(())));
        let flush = pair.submit(0, 0, |_| ClientOp::Flush);
        let fua = pair.write_fua(0, 8192, 4096, 2, true);
        pair.run();
        assert_eq!(pair.nodes[1].ops.len(), 1, "the flush waits for the write");
        assert_eq!((pair.reply(0, flush), pair.reply(0, fua)), (None, None));
        let before = pair.nodes[1].flushes;
        pair.nodes[1].disk_held = false;
        pair.run();
        assert_eq!(pair.reply(0, flush), Some(Ok(())));
        assert_eq!(pair.reply(0, fua), Some(Ok(())));
        assert!(pair.nodes[1].flushes > before);
        pair.assert_in_sync();
    }
}

#[test]
fn a_write_begun_after_an_answer_reaches_the_peers_disk_after_it_on_any_volume() {
    let mut pair = by(Protocol::A);
    pair.nodes[1].disk_held = true;
    // Two that are under way together, and two that each began after an answer.
    let together = [pair.write(0, 0, 4096, 1), pair.write(0, 8192, 4096, 2)];
    pair.run();
    assert!(together.iter().all(|id| pair.reply(0, *id) == Some(Ok(()))));
    let later = pair.submit_to(0, 1, 0, |node| {
        let buf = node.pool.alloc(4096).expect("memory");
        node.memory.bytes_mut(buf.view()).fill(3);
        ClientOp::Write { buf, fua: false }
    });
    pair.run();
    assert_eq!(pair.reply(0, later), Some(Ok(())));
    pair.write(0, 16384, 4096, 4);
    pair.run();
    let volumes = |pair: &Pair| -> Vec<u16> { pair.nodes[1].ops.iter().map(|op| op.1).collect() };
    assert_eq!(volumes(&pair), [0, 0], "those that were under way together");
    pair.complete(1);
    pair.run();
    assert_eq!(volumes(&pair), [0]);
    pair.complete(1);
    pair.run();
    assert_eq!(volumes(&pair), [1]);
    pair.complete(1);
    pair.run();
    assert_eq!(volumes(&pair), [0]);
    pair.nodes[1].disk_held = false;
    pair.run();
    pair.assert_in_sync();
}

#[test]
fn reads_do_not_wait_for_the_peer_and_overlapping_writes_do() {
    let mut pair = by(Protocol::A);
    pair.nodes[1].disk_held = true;
    pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.read(0, 0, 4096), std::vec![1; 4096]);
    let second = pair.write(0, 512, 512, 2);
    pair.run();
    assert_eq!(pair.reply(0, second), None);
    pair.nodes[1].disk_held = false;
    pair.run();
    assert_eq!(pair.reply(0, second), Some(Ok(())));
    pair.assert_in_sync();
}

#[test]
fn so_many_writes_are_answered_early_and_no_more() {
    let mut pair = by(Protocol::A);
    pair.nodes[1].disk_held = true;
    let ids: Vec<_> = (0..60).map(|n| pair.write(0, n * 4096, 4096, 1)).collect();
    pair.run();
    let answered = ids.iter().filter(|id| pair.reply(0, **id).is_some());
    assert_eq!(answered.count(), 48, "three quarters of the slots");
    assert_eq!(lag(&pair), 48 * 4096);
    pair.nodes[1].disk_held = false;
    pair.run();
    assert!(ids.iter().all(|id| pair.reply(0, *id) == Some(Ok(()))));
    pair.assert_in_sync();
    // And half of the memory.
    pair.nodes[1].disk_held = true;
    let half = u64::from(POOL_PAGES * PAGE) / 2;
    for n in 0..12 {
        let id = pair.write(0, n % 8 * 131_072, 131_072, 2);
        pair.run();
        if pair.reply(0, id).is_none() {
            break;
        }
    }
    assert!(lag(&pair) <= half && lag(&pair) > half - 3 * 131_072);
    pair.nodes[1].disk_held = false;
    pair.run();
    pair.assert_in_sync();
}

#[test]
fn what_the_peer_had_received_reaches_its_disk_before_it_serves() {
    for protocol in [Protocol::A, Protocol::B] {
        let mut pair = by(protocol);
        pair.nodes[1].disk_held = true;
        for n in 0..4 {
            let id = pair.write(0, n * 4096, 4096, 1 + n as u8);
            pair.run();
            assert_eq!(pair.reply(0, id), Some(Ok(())));
        }
        pair.cut();
        let promotion = pair.start(1, Command::Primary { force: true });
        pair.run();
        assert_eq!(
            pair.nodes[1].role(),
            Role::Secondary,
            "four writes are yet to be done"
        );
        pair.nodes[1].disk_held = false;
        pair.run();
        assert!(pair.nodes[1].serving);
        assert_eq!(
            pair.nodes[1].done.get(&promotion),
            Some(&Ok("now Primary".into()))
        );
        for n in 0..4 {
            assert_eq!(pair.read(1, n * 4096, 512), [1 + n as u8; 512]);
        }
        // The old Primary's copy of them counts as out of sync, and gives way.
        assert_eq!(pair.nodes[0].out_of_sync(), 4 * 4096);
        pair.ok(0, Command::Secondary { force: true });
    }
}

#[test]
fn a_demotion_waits_until_the_peer_has_caught_up() {
    let mut pair = by(Protocol::A);
    pair.nodes[1].disk_held = true;
    pair.write(0, 0, 4096, 1);
    pair.run();
    let demotion = pair.start(0, Command::Secondary { force: false });
    pair.run();
    assert_eq!((pair.nodes[0].role(), lag(&pair)), (Role::Primary, 4096));
    pair.nodes[1].disk_held = false;
    pair.run();
    pair.wait(10_000);
    assert!(pair.nodes[0].done[&demotion].is_ok());
    pair.ok(1, Command::Primary { force: false });
    assert_eq!(pair.read(1, 0, 512), [1; 512]);
    pair.assert_in_sync();
}

#[test]
fn a_primary_whose_disk_fails_sends_again_what_it_had_answered() {
    let mut pair = by(Protocol::A);
    pair.nodes[1].disk_held = true;
    pair.write(0, 0, 4096, 7);
    pair.run();
    pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
    let failed = pair.write(0, 8192, 4096, 8);
    pair.run();
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
    // The connection is lost before the peer has done any of it, and comes back.
    pair.cut();
    pair.nodes[1].disk_held = false;
    pair.heal();
    assert_eq!(pair.reply(0, failed), Some(Ok(())));
    assert_eq!(pair.read(0, 0, 4096), std::vec![7; 4096]);
    assert_eq!(pair.nodes[1].disks[0][8192], 8);
    assert_eq!(lag(&pair), 0);
}

#[test]
fn a_crashed_primary_gives_what_the_peer_may_lack() {
    let mut pair = by(Protocol::A);
    pair.black_hole = true;
    let id = pair.write(0, 0, 4096, 5);
    pair.run();
    assert_eq!(
        pair.reply(0, id),
        Some(Ok(())),
        "and the peer never hears of it"
    );
    pair.black_hole = false;
    pair.reboot(0);
    pair.heal();
    pair.wait(1_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.nodes[1].disks[0][0], 5);
}

/// As Outdated it would be the target, and the end of what clients were told gone.
#[test]
fn a_crashed_primary_is_not_outdated_by_hand() {
    let mut pair = by(Protocol::A);
    pair.black_hole = true;
    pair.write(0, 0, 4096, 5);
    pair.run();
    pair.black_hole = false;
    pair.reboot(0);
    let error = pair.command(0, Command::Outdate).unwrap_err();
    assert!(error.contains("stopped as Primary"), "{error}");
    assert_eq!(pair.nodes[0].disk(), DiskState::Consistent);
    pair.heal();
    pair.wait(1_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.nodes[1].disks[0][0], 5);
    // From then on it is a copy like any other.
    pair.cut();
    pair.ok(0, Command::Outdate);
}

#[test]
fn nodes_of_different_protocols_refuse_each_other() {
    let mirroring = Mirroring {
        protocol: Protocol::A,
        ..Mirroring::default()
    };
    let pair = Pair::with(
        EngineConfig {
            mirroring,
            ..config("a", "b")
        },
        config("b", "a"),
    );
    for (n, said) in [
        "peer has protocol C, this node A: set the same 'protocol' under [resource] on both nodes",
        "peer has protocol A, this node C: set the same 'protocol' under [resource] on both nodes",
    ]
    .iter()
    .enumerate()
    {
        assert!(pair.nodes[n].logged(said), "{:?}", pair.nodes[n].logs);
        assert_ne!(
            pair.nodes[n].status().connection,
            ConnectionState::Connected
        );
    }
}

fn generation(pair: &Pair, n: usize) -> u64 {
    pair.nodes[n].status().volumes[0].current_uuid
}

/// By protocol B: a write is answered, and only the Primary's disk has it. The peer's does nothing.
fn received_only() -> Pair {
    let mut pair = by(Protocol::B);
    pair.nodes[1].disk_held = true;
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair
}

/// The disk's operations fail.
fn fail_all(pair: &mut Pair, n: usize) {
    let node = &mut pair.nodes[n];
    node.disk_held = false;
    node.disk_errors = node.ops.iter().map(|_| Some(DiskError::Io)).collect();
    pair.run();
    pair.nodes[n].disk_errors.clear();
}

#[test]
fn a_promotion_begins_no_generation_that_lacks_what_was_received() {
    let mut pair = received_only();
    let before = generation(&pair, 1);
    pair.cut();
    let promotion = pair.start(1, Command::Primary { force: true });
    pair.run();
    assert_eq!(generation(&pair, 1), before);
    fail_all(&mut pair, 1);
    let refusal = pair.nodes[1].done[&promotion].clone().expect_err("no disk");
    assert!(refusal.contains("no usable disk"), "{refusal}");
    pair.ok(1, Command::Attach { volume: 0 });
    assert_eq!(generation(&pair, 1), before, "what its disk says");
    // So the old Primary, which restarts, has the newest copy.
    pair.reboot(0);
    pair.heal();
    pair.assert_in_sync();
    assert_eq!(pair.nodes[1].disks[0][0], 1);
}

#[test]
fn a_promotion_that_waits_for_what_was_received_ends_in_time() {
    let mut pair = received_only();
    pair.cut();
    let promotion = pair.start(1, Command::Primary { force: true });
    pair.wait(6_000_000);
    let refusal = pair.nodes[1].done[&promotion]
        .clone()
        .expect_err("it hangs");
    assert!(
        refusal.contains("the writing of what the peer had sent"),
        "{refusal}"
    );
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
}

#[test]
fn the_peers_disk_stands_in_only_with_everything_that_was_answered() {
    let mut pair = received_only();
    let before = generation(&pair, 1);
    pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
    let failed = pair.write(0, 8192, 4096, 2);
    pair.run();
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
    assert_eq!(
        generation(&pair, 1),
        before,
        "the answered write is not there"
    );
    assert_eq!(pair.reply(0, failed), None);
    pair.nodes[1].disk_held = false;
    pair.run();
    assert_ne!(generation(&pair, 1), before);
    assert_eq!(pair.reply(0, failed), Some(Ok(())));
    assert_eq!(pair.read(0, 0, 512), [1; 512]);
    // What came after the word counts as missing on the disk that was lost.
    pair.ok(0, Command::Attach { volume: 0 });
    pair.wait(3_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.nodes[0].disks[0][8192], 2);
}

#[test]
fn a_peer_whose_disk_fails_before_it_stands_in_is_not_the_newer_copy() {
    let mut pair = received_only();
    pair.ok(
        0,
        Command::Detach {
            volume: 0,
            force: true,
        },
    );
    fail_all(&mut pair, 1);
    assert_eq!(pair.nodes[1].disk(), DiskState::Failed);
    // The disk that was detached has everything: it serves again, and the other one follows.
    pair.ok(0, Command::Attach { volume: 0 });
    pair.ok(1, Command::Attach { volume: 0 });
    pair.wait(3_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.read(0, 0, 512), [1; 512]);
}

#[test]
fn a_peer_without_a_disk_says_of_nothing_that_it_received_it() {
    let mut pair = by(Protocol::B);
    pair.write(0, 0, 4096, 1);
    pair.run();
    let id = pair.write(0, 0, 4096, 2);
    // Before the write comes the peer's disk is gone, and the Primary has not heard of that.
    pair.handle(
        1,
        Event::DiskChanged {
            volume: 0,
            metadata: false,
            size: 0,
        },
    );
    assert!(matches!(pair.nodes[0].out[0].frame, Frame::Write { .. }));
    pair.deliver(0);
    let receipt = |sent: &Sent| matches!(sent.frame, Frame::Received { .. });
    assert!(!pair.nodes[1].out.iter().any(receipt));
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    assert_ne!(
        generation(&pair, 0),
        generation(&pair, 1),
        "it goes on alone"
    );
}

#[test]
fn a_disk_that_had_everything_it_received_is_steady_when_it_is_attached_again() {
    let mut pair = by(Protocol::B);
    pair.nodes[0].cache = Some(Vec::new());
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    // The Primary loses its power, and with it what it had not flushed.
    (pair.network, pair.up) = (false, false);
    pair.drop_frames();
    pair.handle(1, Event::LinkDown(LinkDownReason::Closed));
    pair.ok(
        1,
        Command::Detach {
            volume: 0,
            force: true,
        },
    );
    pair.ok(1, Command::Attach { volume: 0 });
    pair.reboot(0);
    assert_eq!(pair.nodes[0].disks[0][0], 0);
    pair.heal();
    pair.assert_in_sync();
    assert_eq!(pair.nodes[0].disks[0][0], 1, "what was answered");
}
