//! Failed disks: reads and writes through the peer, waiting for good data, hung disks, detach and attach.

use super::*;

/// Completes what the disks and the network have until nothing is left, `n`'s disk failing everything.
fn fail_disk(pair: &mut Pair, n: usize) {
    pair.handle(
        n,
        Event::DiskChanged {
            volume: 0,
            metadata: false,
            size: 0,
        },
    );
    pair.run();
}

fn attach(pair: &mut Pair, n: usize) {
    pair.ok(n, Command::Attach { volume: 0 });
    pair.wait(3_000_000);
}

fn hanging(timeout: Micros) -> EngineConfig {
    let mut config = config("a", "b");
    config.trouble.disk_timeout = timeout;
    config
}

fn is_lost_word(sent: &Sent) -> bool {
    matches!(sent.frame, Frame::DiskLost { .. })
}

#[test]
fn clients_do_not_notice_that_the_primary_lost_its_disk() {
    for what in 0..4 {
        let mut pair = Pair::ready();
        pair.write(0, 0, 4096, 1);
        pair.run();
        pair.nodes[0].disk_errors.extend(match what {
            // The write itself, or the flush of one with FUA, or a plain flush.
            0 | 2 => std::vec![Some(DiskError::Io)],
            _ => std::vec![None, Some(DiskError::Io)],
        });
        let id = match what {
            0 => pair.write(0, 4096, 4096, 2),
            1 => pair.write_fua(0, 4096, 4096, 2, true),
            2 => pair.submit(0, 0, |_| ClientOp::Flush),
            _ => {
                pair.nodes[0].metas_fail = true;
                pair.write(0, 4096, 4096, 2);
                pair.submit(0, 0, |_| ClientOp::Flush)
            }
        };
        pair.run();
        if what == 3 {
            // Extents are cooled, which needs the metadata.
            pair.wait(30_000_000);
        }
        assert_eq!(pair.reply(0, id), Some(Ok(())), "{what}");
        assert_eq!(pair.nodes[0].disk(), DiskState::Failed, "{what}");
        assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
        assert_eq!(pair.read(0, 0, 4096), [1; 4096]);
        let more = pair.write(0, 65536, 4096, 9);
        let flush = pair.submit(0, 0, |_| ClientOp::Flush);
        pair.run();
        for id in [more, flush] {
            assert_eq!(pair.reply(0, id), Some(Ok(())));
        }
        assert_eq!(pair.read(0, 65536, 4096), [9; 4096]);
        assert_eq!(pair.nodes[1].disks[0][65536], 9);
        assert!(pair.nodes[1].out_of_sync() >= 4096);
        // The other volume is not concerned.
        assert_eq!(pair.nodes[0].status().volumes[1].disk, DiskState::UpToDate);
        assert!(!pair.nodes[0].status().suspended.any());
        for node in &pair.nodes {
            node.assert_no_buffer_missing();
        }
    }
}

#[test]
fn what_goes_through_the_peer_is_durable_there_before_it_is_answered() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 1);
    pair.run();
    let flushes = pair.nodes[1].flushes;
    fail_disk(&mut pair, 0);
    assert!(pair.nodes[1].flushes > flushes, "what was answered before");
    let flushes = pair.nodes[1].flushes;
    pair.write(0, 4096, 4096, 2);
    pair.run();
    assert!(pair.nodes[1].flushes > flushes);
}

#[test]
fn nothing_is_answered_before_the_peer_knows_that_the_disk_is_lost() {
    let mut pair = Pair::ready();
    pair.nodes[0].disk_held = true;
    let id = pair.write(0, 0, 4096, 2);
    pair.run();
    // The peer has acknowledged it; this node's disk fails now.
    pair.nodes[0].disk_held = false;
    pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
    pair.complete(0);
    assert!(pair.nodes[0].out.iter().any(is_lost_word));
    assert_eq!(pair.reply(0, id), None);
    // Here the power fails: nothing was answered that the old disk has not.
    let generation = pair.nodes[1].status().volumes[0].current_uuid;
    pair.nodes[1].meta_held = true;
    while !pair.nodes[0].out.is_empty() {
        pair.deliver(0);
    }
    assert_ne!(pair.nodes[1].status().volumes[0].current_uuid, generation);
    pair.run();
    assert_eq!(pair.reply(0, id), None, "the new generation is not durable");
    pair.nodes[1].meta_held = false;
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
}

#[test]
fn a_stale_disk_that_returns_after_a_restart_is_the_target() {
    for goes_on in [false, true] {
        let mut pair = Pair::ready();
        pair.write(0, 0, 4096, 1);
        pair.run();
        pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
        pair.write(0, 0, 4096, 2);
        pair.run();
        if goes_on {
            pair.write(0, 65536, 4096, 3);
            pair.run();
        }
        pair.reboot(0);
        pair.heal();
        pair.assert_in_sync();
        assert_eq!(pair.nodes[0].disks[0][0], 2);
        let received = pair.nodes[0].status().volumes[0].received_bytes;
        assert!(received <= SIZE, "{received}");
        pair.ok(0, Command::Primary { force: false });
        assert_eq!(pair.read(0, 0, 4096), [2; 4096]);
    }
}

#[test]
fn the_peer_remembers_over_a_power_cut_what_the_lost_disk_lacks() {
    let mut pair = Pair::ready();
    fail_disk(&mut pair, 0);
    let id = pair.write(0, 65536, 4096, 3);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.reboot(1);
    pair.reboot(0);
    pair.heal();
    pair.assert_in_sync();
    assert_eq!(pair.nodes[0].disks[0][65536], 3);
}

#[test]
fn without_any_good_disk_requests_wait_and_go_on_when_the_peer_is_back() {
    let mut pair = Pair::ready();
    fail_disk(&mut pair, 0);
    pair.nodes[1].disk_held = true;
    let in_flight = pair.write(0, 0, 4096, 1);
    pair.run();
    pair.cut();
    pair.nodes[1].disk_held = false;
    let held = pair.write(0, 4096, 4096, 2);
    let read = pair.submit(0, 0, |node| ClientOp::Read(node.pool.alloc(4096).unwrap()));
    pair.wait(20_000_000);
    for id in [in_flight, held, read] {
        assert_eq!(pair.reply(0, id), None);
    }
    let status = pair.nodes[0].status();
    assert!(status.suspended.no_data && !status.suspended.user);
    assert!(status.reason.contains("peer"), "{}", status.reason);
    assert!(!pair.nodes[0].engine.has_room());
    pair.heal();
    for id in [in_flight, held, read] {
        assert_eq!(pair.reply(0, id), Some(Ok(())));
    }
    assert_eq!(pair.nodes[0].replies[&read].1, [1; 4096]);
    assert!(!pair.nodes[0].status().suspended.any());
    assert!(pair.nodes[0].engine.has_room());
    attach(&mut pair, 0);
    pair.assert_in_sync();
}

#[test]
fn an_operator_may_give_up_requests_that_wait_for_good_data() {
    let mut pair = Pair::ready();
    fail_disk(&mut pair, 0);
    pair.cut();
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), None);
    pair.ok(0, Command::Secondary { force: true });
    assert_eq!(pair.reply(0, id), Some(Err(ClientError::NotServing)));
    assert!(pair.nodes[0].engine.is_idle());
}

#[test]
fn with_both_disks_bad_there_are_errors_at_once() {
    let mut pair = Pair::ready();
    fail_disk(&mut pair, 0);
    pair.nodes[1].disk_errors.push_back(Some(DiskError::Io));
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Err(ClientError::Io)));
    let read = pair.submit(0, 0, |node| ClientOp::Read(node.pool.alloc(4096).unwrap()));
    pair.run();
    assert_eq!(pair.reply(0, read), Some(Err(ClientError::Io)));
    assert!(!pair.nodes[0].status().suspended.any());
    for node in &pair.nodes {
        node.assert_no_buffer_missing();
    }
}

#[test]
fn the_disk_of_a_lone_primary_is_taken_back_only_if_it_can_have_lost_nothing() {
    for flushed in [false, true] {
        let mut pair = Pair::ready();
        pair.cut();
        pair.write(0, 0, 4096, 1);
        pair.run();
        if flushed {
            pair.submit(0, 0, |_| ClientOp::Flush);
            pair.run();
        }
        fail_disk(&mut pair, 0);
        let id = pair.write(0, 4096, 4096, 2);
        attach(&mut pair, 0);
        assert_eq!(pair.reply(0, id), flushed.then_some(Ok(())));
        assert_eq!(pair.nodes[0].status().suspended.no_data, !flushed);
        if !flushed {
            pair.ok(0, Command::Secondary { force: true });
            pair.ok(0, Command::Primary { force: true });
        }
        pair.heal();
        pair.assert_in_sync();
    }
}

#[test]
fn a_peer_that_lost_what_was_answered_is_not_served_from() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 1);
    pair.run();
    // The disk is lost, and the peer's power, before that could be flushed there.
    pair.nodes[1].disk_held = true;
    fail_disk(&mut pair, 0);
    pair.reboot(1);
    pair.heal();
    let id = pair.write(0, 4096, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), None);
    let status = pair.nodes[0].status();
    assert!(status.suspended.no_data);
    assert!(
        status.reason.contains("has lost, writes"),
        "{}",
        status.reason
    );
    pair.ok(0, Command::Secondary { force: true });
    pair.ok(1, Command::Primary { force: true });
    attach(&mut pair, 0);
    pair.assert_in_sync();
}

#[test]
fn a_primary_does_not_go_on_with_a_peer_that_went_its_own_way() {
    let mut pair = Pair::ready();
    fail_disk(&mut pair, 0);
    pair.cut();
    pair.ok(1, Command::Primary { force: true });
    pair.write(1, 0, 4096, 6);
    pair.run();
    pair.ok(1, Command::Secondary { force: false });
    let id = pair.write(0, 4096, 4096, 1);
    pair.heal();
    pair.wait(10_000_000);
    assert_eq!(pair.reply(0, id), None);
    assert!(pair.nodes[0].status().suspended.no_data);
}

#[test]
fn a_disk_attached_to_a_live_primary_is_brought_up_to_date_under_load() {
    for seed in 1..60 {
        let mut pair = Pair::ready();
        for block in 0..32 {
            pair.write(0, block * 32768, 32768, 1);
            pair.run();
        }
        fail_disk(&mut pair, 0);
        for block in 0..8 {
            pair.write(0, block * 131_072, 65536, 0x10 + block as u8);
            pair.run();
        }
        pair.start(0, Command::Attach { volume: 0 });
        pair.rng = seed;
        let mut open = Vec::new();
        let mut reads = 0;
        for turn in 0..400 {
            pair.step();
            if turn % 40 == 0 {
                pair.now += 300_000;
                for n in 0..2 {
                    pair.handle(n, Event::Tick);
                }
            }
            let at = pair.pick(500) as u64 * 2048;
            if pair.nodes[0].engine.has_room() && turn % 5 < 2 {
                open.push(pair.write(0, at, 4096, turn as u8));
            } else if pair.nodes[0].engine.has_room() && turn % 5 == 2 {
                open.push(
                    pair.submit(0, at, |node| ClientOp::Read(node.pool.alloc(2048).unwrap())),
                );
                reads += 1;
            }
        }
        pair.wait(5_000_000);
        assert!(reads > 0);
        for id in open {
            assert_eq!(pair.reply(0, id), Some(Ok(())));
        }
        pair.assert_in_sync();
    }
}

#[test]
fn a_live_primary_is_no_source_for_what_its_stale_disk_has() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 1);
    pair.run();
    fail_disk(&mut pair, 0);
    pair.write(0, 0, 4096, 2);
    pair.run();
    attach(&mut pair, 0);
    pair.assert_in_sync();
    assert_eq!(pair.read(0, 0, 4096), [2; 4096]);
    assert_eq!(pair.nodes[0].disks[0][0], 2);
    assert_eq!(pair.nodes[0].role(), Role::Primary);
}

#[test]
fn the_link_breaks_while_a_live_primary_is_a_target() {
    for seed in 1..30 {
        let mut pair = Pair::ready();
        fail_disk(&mut pair, 0);
        for block in 0..8 {
            pair.write(0, block * 131_072, 131_072, 0x10 + block as u8);
            pair.run();
        }
        pair.ok(0, Command::Attach { volume: 0 });
        pair.nodes[0].disk_held = true;
        pair.wait(1_000_000);
        pair.rng = seed;
        pair.nodes[0].disk_held = false;
        let mut open = Vec::new();
        for turn in 0..40 + seed as u8 {
            pair.step();
            if turn % 4 == 0 {
                let at = pair.pick(200) as u64 * 4096;
                open.push(pair.write(0, at, 4096, turn));
            }
        }
        pair.cut();
        if seed % 3 == 0 {
            pair.reboot(1);
        }
        pair.heal();
        pair.wait(5_000_000);
        for id in open {
            assert_eq!(pair.reply(0, id), Some(Ok(())), "seed {seed}");
        }
        pair.assert_in_sync();
    }
}

#[test]
fn a_secondarys_disk_that_failed_is_attached_again() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 1);
    pair.run();
    fail_disk(&mut pair, 1);
    pair.write(0, 65536, 4096, 2);
    pair.run();
    assert!(pair.nodes[0].out_of_sync() >= 4096);
    let before = pair.nodes[1].status().volumes[0].received_bytes;
    attach(&mut pair, 1);
    pair.assert_in_sync();
    let got = pair.nodes[1].status().volumes[0].received_bytes - before;
    assert!((4096..=3 * 65536).contains(&got), "{got}");
}

#[test]
fn a_hung_disk_is_given_up_and_its_late_answers_do_no_harm() {
    let mut pair = Pair::of(hanging(5_000_000));
    pair.write(0, 4096, 4096, 1);
    pair.run();
    pair.nodes[0].disk_held = true;
    let write = pair.write(0, 0, 4096, 2);
    let read = pair.submit(0, 4096, |node| {
        ClientOp::Read(node.pool.alloc(4096).unwrap())
    });
    let fua = pair.write_fua(0, 8192, 4096, 3, true);
    let flush = pair.submit(0, 0, |_| ClientOp::Flush);
    let all = [write, read, fua, flush];
    pair.wait(4_900_000);
    assert!(all.iter().all(|id| pair.reply(0, *id).is_none()));
    pair.wait(200_000);
    for id in all {
        assert_eq!(pair.reply(0, id), Some(Ok(())), "{id}");
    }
    assert_eq!(pair.nodes[0].replies[&read].1, [1; 4096]);
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
    assert!(pair.nodes[0].logged("disk-timeout"));
    let held = pair.nodes[0].pool.total_bytes()
        - pair.nodes[0].pool.free_bytes()
        - pair.nodes[0].engine.metadata_bytes();
    assert_eq!(held, 3 * 4096, "the device may still use these");
    let refused = pair.command(0, Command::Attach { volume: 0 }).unwrap_err();
    assert!(refused.contains("4 operations"), "{refused}");
    assert!(pair.nodes[0].status().reason.contains("disk"));
    // Clients go on meanwhile, more of them than the engine takes at once.
    for n in 0..200 {
        let id = pair.write(0, n * 4096, 4096, 4);
        pair.run();
        assert_eq!(pair.reply(0, id), Some(Ok(())));
    }
    // It answers at last; some of it with errors.
    pair.nodes[0]
        .disk_errors
        .extend([None, Some(DiskError::Io)]);
    pair.nodes[0].disk_held = false;
    pair.run();
    pair.nodes[0].assert_no_buffer_missing();
    attach(&mut pair, 0);
    pair.assert_in_sync();
}

#[test]
fn hung_metadata_costs_the_disk_too() {
    let mut pair = Pair::of(hanging(5_000_000));
    pair.nodes[0].meta_held = true;
    let id = pair.write(0, 0, 4096, 2);
    pair.wait(4_900_000);
    assert_eq!(pair.reply(0, id), None);
    pair.wait(200_000);
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
    assert!(pair.command(0, Command::Attach { volume: 0 }).is_err());
    pair.nodes[0].meta_held = false;
    pair.run();
    attach(&mut pair, 0);
    pair.assert_in_sync();
}

#[test]
fn a_disk_that_hangs_while_it_is_attached_keeps_nobody_waiting() {
    let mut pair = Pair::of(hanging(2_000_000));
    fail_disk(&mut pair, 0);
    pair.nodes[0].meta_held = true;
    let id = pair.start(0, Command::Attach { volume: 0 });
    pair.wait(2_100_000);
    let refused = pair.nodes[0].done[&id].clone().unwrap_err();
    assert!(refused.contains("disk-timeout"), "{refused}");
    let write = pair.write(0, 0, 4096, 3);
    pair.run();
    assert_eq!(pair.reply(0, write), Some(Ok(())));
    pair.nodes[0].meta_held = false;
    pair.run();
    pair.nodes[0].assert_no_buffer_missing();
    attach(&mut pair, 0);
    pair.assert_in_sync();
}

/// The node stands still, or its clock jumps: all that is under way looks late at once.
#[test]
fn a_node_that_stood_still_does_not_blame_its_disk() {
    for ran in [100_000, 1_200_000, 4_000_000] {
        let mut pair = Pair::of(hanging(5_000_000));
        pair.nodes[0].disk_held = true;
        let write = pair.write(0, 0, 4096, 2);
        let flush = pair.submit(0, 0, |_| ClientOp::Flush);
        pair.nodes[0].meta_held = true;
        let cold = pair.submit_to(0, 1, 0, |_| ClientOp::Discard {
            len: 4096,
            fua: false,
        });
        pair.wait(ran);
        pair.now += 60_000_000;
        pair.handle(0, Event::Tick);
        for volume in pair.nodes[0].status().volumes {
            assert_eq!(volume.disk, DiskState::UpToDate, "{ran}");
        }
        pair.nodes[0].meta_held = false;
        pair.nodes[0].disk_held = false;
        pair.wait(5_000_000);
        for id in [write, flush, cold] {
            assert_eq!(pair.reply(0, id), Some(Ok(())));
        }
        pair.assert_in_sync();
    }
}

#[test]
fn a_disk_that_hangs_is_given_up_although_the_node_stood_still() {
    let mut a = hanging(5_000_000);
    // The peer stays connected.
    a.timers.timeout = 100_000_000;
    let mut pair = Pair::of(a);
    pair.nodes[0].disk_held = true;
    let write = pair.write(0, 0, 4096, 2);
    pair.wait(1_000_000);
    pair.now += 60_000_000;
    pair.handle(0, Event::Tick);
    // What was left of its time: the pause counts for a quarter of it at most.
    pair.wait(2_700_000);
    assert_eq!(pair.nodes[0].disk(), DiskState::UpToDate);
    pair.wait(1_400_000);
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
    assert_eq!(pair.reply(0, write), Some(Ok(())));
}

#[test]
fn a_secondary_whose_disk_hangs_says_so_in_time() {
    let mut b = config("b", "a");
    b.trouble.disk_timeout = 5_000_000;
    let mut pair = Pair::with(config("a", "b"), b);
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair.nodes[1].disk_held = true;
    let id = pair.write(0, 0, 4096, 1);
    pair.wait(5_100_000);
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    assert_eq!(pair.nodes[1].disk(), DiskState::Failed);
    assert_eq!(
        pair.nodes[0].status().connection,
        ConnectionState::Connected
    );
    pair.nodes[1].disk_held = false;
    pair.run();
    attach(&mut pair, 1);
    pair.assert_in_sync();
}

#[test]
fn a_disk_is_detached_and_attached_under_load_and_gets_exactly_what_it_lacks() {
    let mut pair = Pair::ready();
    for block in 0..8 {
        pair.write(0, block * 131_072, 131_072, 1);
        pair.run();
    }
    let in_flight = pair.write(0, 0, 4096, 2);
    let detach = pair.start(
        0,
        Command::Detach {
            volume: 0,
            force: false,
        },
    );
    let meanwhile = pair.write(0, 4096, 4096, 3);
    pair.run();
    assert!(pair.nodes[0].done[&detach].is_ok());
    assert_eq!(pair.nodes[0].disk(), DiskState::Diskless);
    for id in [in_flight, meanwhile] {
        assert_eq!(pair.reply(0, id), Some(Ok(())));
    }
    assert_eq!(pair.nodes[0].disks[0][0], 2);
    assert_eq!(pair.nodes[0].disks[0][4096], 1);
    assert_eq!(pair.nodes[1].out_of_sync(), 4096);
    let before = pair.nodes[0].status().volumes[0].received_bytes;
    attach(&mut pair, 0);
    pair.assert_in_sync();
    let got = pair.nodes[0].status().volumes[0].received_bytes - before;
    assert_eq!(got, 4096);
}

#[test]
fn a_detached_disk_is_clean_after_a_restart_too() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 131_072, 1);
    pair.run();
    let command = Command::Detach {
        volume: 0,
        force: false,
    };
    pair.ok(0, command);
    pair.reboot(0);
    pair.heal();
    pair.assert_in_sync();
    assert_eq!(pair.nodes[0].status().volumes[0].received_bytes, 0);
}

#[test]
fn the_last_good_disk_is_detached_by_force_only() {
    let mut pair = Pair::ready();
    pair.cut();
    let (volume, force) = (0, false);
    let refused = pair.command(0, Command::Detach { volume, force });
    assert!(refused.unwrap_err().contains("no good disk"));
    let force = true;
    pair.ok(0, Command::Detach { volume, force });
    assert_eq!(pair.nodes[0].disk(), DiskState::Diskless);
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), None);
    attach(&mut pair, 0);
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.heal();
    pair.assert_in_sync();
}

#[test]
fn a_detach_that_cannot_end_is_given_up() {
    let mut pair = Pair::ready();
    pair.nodes[0].disk_held = true;
    let write = pair.write(0, 0, 4096, 1);
    let (volume, force) = (0, false);
    let detach = pair.start(0, Command::Detach { volume, force });
    pair.wait(6_100_000);
    let reason = pair.nodes[0].done[&detach].clone().unwrap_err();
    assert!(reason.contains("1 operations"), "{reason}");
    pair.nodes[0].disk_held = false;
    pair.run();
    assert_eq!(pair.reply(0, write), Some(Ok(())));
    let id = pair.write(0, 0, 4096, 2);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.wait(10_000_000);
    pair.assert_in_sync();
    // And a Secondary's goes at once.
    pair.ok(1, Command::Detach { volume, force });
    assert_eq!(pair.nodes[1].disk(), DiskState::Diskless);
    attach(&mut pair, 1);
    pair.assert_in_sync();
}

#[test]
fn suspended_requests_wait_and_mint_no_generation() {
    let mut pair = Pair::ready();
    let generation = pair.nodes[0].status().volumes[0].current_uuid;
    pair.ok(0, Command::SuspendIo);
    assert!(pair.nodes[0].status().suspended.user);
    assert!(!pair.nodes[0].engine.has_room());
    pair.cut();
    pair.wait(1_000_000);
    assert_eq!(pair.nodes[0].status().volumes[0].current_uuid, generation);
    // The peer is back before anything was written: nothing happened.
    pair.heal();
    pair.assert_in_sync();
    assert_eq!(pair.nodes[0].status().volumes[0].current_uuid, generation);
    pair.cut();
    pair.ok(0, Command::ResumeIo);
    assert_ne!(pair.nodes[0].status().volumes[0].current_uuid, generation);
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.heal();
    pair.assert_in_sync();
}

#[test]
fn by_policy_errors_are_the_clients() {
    let mut config = config("a", "b");
    config.trouble.on_io_error = OnIoError::PassOn;
    let mut pair = Pair::of(config);
    pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Err(ClientError::Io)));
    assert_eq!(pair.nodes[0].disk(), DiskState::UpToDate);
    pair.wait(3_000_000);
    pair.assert_in_sync();
}

#[test]
fn every_command_about_disks_says_what_is_wrong() {
    let mut pair = Pair::ready();
    let refused = |pair: &mut Pair, command, what: &str| {
        let said = pair.command(0, command).unwrap_err();
        assert!(said.contains(what), "{said}");
    };
    refused(&mut pair, Command::Attach { volume: 0 }, "attached already");
    refused(&mut pair, Command::Attach { volume: 7 }, "no vol7");
    let detach = |volume| Command::Detach {
        volume,
        force: false,
    };
    refused(&mut pair, detach(7), "no vol7");
    assert!(pair.command(0, Command::ResumeIo).is_ok());
    pair.ok(0, detach(0));
    pair.ok(0, detach(0));
    pair.cut();
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), None);
    let said = pair.command(0, Command::ResumeIo).unwrap();
    assert!(said.contains("answered with errors"), "{said}");
    assert_eq!(pair.reply(0, id), Some(Err(ClientError::Io)));
    // Only until there is good data again.
    pair.heal();
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.cut();
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), None);
}

/// A read that waits for memory must not keep those out of its range that hold all of it.
#[test]
fn a_read_that_waits_for_memory_lets_others_pass() {
    let mut pair = Pair::ready();
    pair.ok(0, Command::SuspendIo);
    let read = pair.submit(0, 0, |node| {
        ClientOp::Read(node.pool.alloc(64 << 10).unwrap())
    });
    // While it waits its memory is for others.
    let mut writes = Vec::new();
    while let Some(buf) = pair.nodes[0].pool.alloc(64 << 10) {
        pair.nodes[0].pool.free(buf);
        writes.push(pair.write(0, 0, 64 << 10, 1));
    }
    pair.start(0, Command::ResumeIo);
    pair.wait(1_000_000);
    for write in writes {
        assert_eq!(pair.reply(0, write), Some(Ok(())));
    }
    assert_eq!(pair.reply(0, read), Some(Ok(())));
    pair.assert_in_sync();
}

/// What never went to a disk differs from nothing.
#[test]
fn a_write_that_waited_and_is_dropped_marks_nothing() {
    let mut pair = Pair::ready();
    pair.ok(0, Command::SuspendIo);
    let write = pair.write(0, 0, 4096, 1);
    pair.start(0, Command::Secondary { force: true });
    pair.wait(1_000_000);
    assert_eq!(pair.reply(0, write), Some(Err(ClientError::NotServing)));
    assert_eq!(pair.nodes[0].role(), Role::Secondary);
    pair.assert_in_sync();
}
