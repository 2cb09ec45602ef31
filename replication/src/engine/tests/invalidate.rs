//! Copies given up by hand.

use super::*;

const INVALIDATE: Command = Command::Invalidate { volume: 0 };
const REMOTE: Command = Command::InvalidateRemote { volume: 0 };

/// In sync, with data, and then the disk of `n` is overwritten behind the engine's back.
fn spoilt(n: usize) -> Pair {
    let mut pair = Pair::ready();
    pair.write(0, 0, 128 << 10, 3);
    pair.run();
    pair.submit(0, 0, |_| ClientOp::Flush);
    pair.run();
    pair.nodes[n].disks[0].fill(0xee);
    pair
}

#[test]
fn all_of_a_copy_comes_from_the_other_node() {
    for (n, command) in [(1, INVALIDATE), (0, REMOTE)] {
        let mut pair = spoilt(1);
        pair.nodes[1].disk_held = true;
        pair.ok(n, command);
        assert_eq!(pair.nodes[1].disk(), DiskState::Inconsistent);
        assert_eq!(pair.nodes[0].replication(), ReplicationState::SyncSource);
        // Clients go on, and the connection was not touched.
        let write = pair.write(0, 4096, 4096, 8);
        pair.nodes[1].disk_held = false;
        pair.wait(1_000_000);
        assert_eq!(pair.reply(0, write), Some(Ok(())));
        assert!(!pair.nodes[0].logged("lost"));
        pair.assert_in_sync();
        assert_eq!(pair.nodes[0].disks[0][4096], 8);
    }
}

#[test]
fn both_secondary_it_works_from_either_node() {
    for n in 0..2 {
        for command in [INVALIDATE, REMOTE] {
            let target = if command == INVALIDATE { n } else { 1 - n };
            let mut pair = spoilt(target);
            pair.ok(0, Command::Secondary { force: true });
            pair.ok(n, command);
            pair.wait(1_000_000);
            pair.assert_in_sync();
            assert_eq!(pair.nodes[0].disks[0][0], 3);
        }
    }
}

#[test]
fn a_crash_at_any_point_leaves_the_good_copy_as_the_source() {
    for steps in 0..40 {
        for crashed in 0..2 {
            let mut pair = spoilt(1);
            pair.ok(0, Command::Secondary { force: true });
            pair.start(0, REMOTE);
            for _ in 0..steps {
                pair.step();
            }
            pair.reboot(crashed);
            pair.heal();
            pair.wait(5_000_000);
            let given_up = pair.nodes[0].disks == pair.nodes[1].disks;
            let untouched = pair.nodes[0].disks[0][0] == 3 && pair.nodes[1].disks[0][0] == 0xee;
            assert!(given_up || untouched, "after {steps} steps of {crashed}");
            assert_eq!(
                pair.nodes[0].disks[0][0], 3,
                "after {steps} steps of {crashed}"
            );
            for node in &pair.nodes {
                assert_eq!(
                    node.disk(),
                    DiskState::UpToDate,
                    "after {steps} steps of {crashed}"
                );
            }
        }
    }
}

#[test]
fn two_operators_who_command_at_once_do_not_cross() {
    for commands in [
        [REMOTE, REMOTE],
        [INVALIDATE, INVALIDATE],
        [REMOTE, INVALIDATE],
    ] {
        let mut pair = Pair::ready();
        pair.ok(0, Command::Secondary { force: true });
        let ids = [pair.start(0, commands[0]), pair.start(1, commands[1])];
        pair.run();
        pair.wait(1_000_000);
        let good = (0..2).filter(|n| pair.nodes[*n].done[&ids[*n]].is_ok());
        assert!(good.count() <= 1);
        for node in &pair.nodes {
            assert!(!node.logged("broke the protocol"));
            assert!(!node.logged("split brain"));
        }
        pair.assert_in_sync();
    }
}

#[test]
fn it_is_refused_where_good_data_could_be_lost() {
    let mut pair = Pair::ready();
    let refused = |pair: &mut Pair, n, command, why: &str| {
        let error = pair.command(n, command).unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    refused(&mut pair, 0, INVALIDATE, "this node is Primary");
    refused(&mut pair, 1, REMOTE, "the peer is Primary");
    refused(&mut pair, 1, Command::Invalidate { volume: 7 }, "no vol7");
    pair.cut();
    for command in [INVALIDATE, REMOTE] {
        refused(&mut pair, 1, command, "not connected");
    }
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.ok(0, Command::PauseSync { volume: None });
    pair.heal();
    refused(&mut pair, 0, REMOTE, "a resync of vol0 runs");
    // Nothing is known of the peer's copy here.
    let mut pair = Pair::new();
    refused(&mut pair, 0, INVALIDATE, "not known to be UpToDate");
}

#[test]
fn it_ends_a_verify_and_a_peer_that_does_not_answer_ends_it() {
    let mut pair = Pair::ready();
    pair.ok(0, Command::Secondary { force: true });
    pair.nodes[1].disk_held = true;
    let verify = Command::Verify {
        volume: 0,
        start: None,
        stop: None,
        repair: true,
    };
    pair.ok(0, verify);
    pair.ok(1, INVALIDATE);
    pair.nodes[1].disk_held = false;
    pair.wait(1_000_000);
    assert!(pair.nodes[0].logged("verify stopped"));
    pair.assert_in_sync();
    pair.black_hole = true;
    let id = pair.start(1, INVALIDATE);
    pair.wait(10_000_000);
    assert!(pair.nodes[1].done[&id].is_err());
}

#[test]
fn outdated_is_durable_and_only_for_who_may_be_so() {
    let mut pair = Pair::ready();
    let error = pair.command(0, Command::Outdate).unwrap_err();
    assert!(error.contains("is Primary"), "{error}");
    let error = pair.command(1, Command::Outdate).unwrap_err();
    assert!(error.contains("'disconnect' first"), "{error}");
    pair.cut();
    pair.nodes[1].meta_held = true;
    let id = pair.start(1, Command::Outdate);
    pair.run();
    assert!(!pair.nodes[1].done.contains_key(&id), "not durable yet");
    pair.nodes[1].meta_held = false;
    pair.run();
    assert!(pair.nodes[1].done[&id].is_ok());
    assert_eq!(pair.nodes[1].disk(), DiskState::Outdated);
    pair.reboot(1);
    assert_eq!(pair.nodes[1].disk(), DiskState::Outdated);
    let error = pair
        .command(1, Command::Primary { force: false })
        .unwrap_err();
    assert!(error.contains("--force"), "{error}");
    pair.heal();
    pair.assert_in_sync();
}

/// Before the source notes what it is, what clients were told is durable on its disk, and no more comes meanwhile.
#[test]
fn the_source_is_flushed_before_the_copy_is_given_up() {
    let mut pair = Pair::ready();
    pair.nodes[0].disk_held = true;
    let under_way = pair.write(0, 0, 4096, 1);
    pair.start(1, INVALIDATE);
    pair.wait(100_000);
    let late = pair.write(0, 4096, 4096, 2);
    pair.wait(100_000);
    let uuid = |pair: &Pair| pair.nodes[0].status().volumes[0].current_uuid;
    let before = uuid(&pair);
    assert_eq!(pair.nodes[0].replication(), ReplicationState::Established);
    assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
    assert_eq!(pair.reply(0, late), None);
    pair.nodes[0].disk_held = false;
    pair.wait(1_000_000);
    assert_eq!(pair.reply(0, under_way), Some(Ok(())));
    assert_eq!(pair.reply(0, late), Some(Ok(())));
    assert_ne!(uuid(&pair), before, "told apart from what was given up");
    pair.assert_in_sync();
}

/// It promised the peer its consent, and the peer is gone: clients go on.
#[test]
fn a_peer_that_is_lost_meanwhile_keeps_its_copy() {
    let mut pair = Pair::ready();
    pair.nodes[0].disk_held = true;
    let write = pair.write(0, 0, 4096, 1);
    pair.start(1, INVALIDATE);
    pair.wait(100_000);
    pair.cut();
    pair.nodes[0].disk_held = false;
    pair.wait(1_000_000);
    assert_eq!(pair.reply(0, write), Some(Ok(())));
    assert_eq!(pair.nodes[1].disk(), DiskState::Consistent);
    pair.heal();
    pair.wait(5_000_000);
    pair.assert_in_sync();
}
