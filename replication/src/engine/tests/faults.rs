//! Lost links, failed disks, resyncs and what interrupts them.

use super::*;

#[test]
fn a_primary_goes_on_alone_and_brings_the_peer_back_by_its_bitmap() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 128 * 1024, 1);
    pair.run();
    let generation = pair.nodes[0].status().volumes[0].current_uuid;
    pair.nodes[1].disk_held = true;
    let in_flight = pair.write(0, 0, 512, 2);
    pair.run();
    pair.cut();
    pair.run();
    assert_eq!(pair.reply(0, in_flight), Some(Ok(())));
    assert_eq!(pair.nodes[0].status().volumes[0].bitmap_uuid, generation);
    assert_ne!(pair.nodes[0].status().volumes[0].current_uuid, generation);
    assert_eq!(pair.nodes[0].out_of_sync(), 4096);
    pair.write(0, 8192, 4096, 3);
    pair.submit(0, 100 * 1024, |_| ClientOp::Discard {
        len: 8192,
        fua: false,
    });
    pair.run();
    assert_eq!(pair.nodes[0].out_of_sync(), 4 * 4096);
    pair.nodes[1].disk_held = false;
    let before = pair.nodes[1].status().volumes[0].received_bytes;
    pair.heal();
    pair.assert_in_sync();
    assert_eq!(
        pair.nodes[1].status().volumes[0].received_bytes - before,
        4 * 4096
    );
}

#[test]
fn a_silent_peer_is_lost_after_the_timeout_and_not_before() {
    let mut pair = Pair::ready();
    pair.wait(30_000_000);
    assert_eq!(
        pair.nodes[0].status().connection,
        ConnectionState::Connected
    );
    pair.black_hole = true;
    let id = pair.write(0, 0, 512, 1);
    pair.wait(3_900_000);
    assert_eq!(pair.reply(0, id), None);
    pair.network = false;
    pair.wait(2_200_000);
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    assert!(pair.nodes[0].logged("silent for 6000 ms"));
    pair.black_hole = false;
    pair.heal();
    pair.assert_in_sync();
}

#[test]
fn a_resync_goes_on_where_it_was_interrupted_and_its_target_is_never_promoted() {
    let mut pair = Pair::ready();
    pair.cut();
    for block in 0..8 {
        pair.write(0, block * 128 * 1024, 128 * 1024, 0x40 + block as u8);
        pair.run();
    }
    pair.network = true;
    pair.nodes[0].disk_held = true;
    pair.wait(600_000);
    // A few blocks get through.
    pair.nodes[0].disk_held = false;
    while pair.nodes[0].out_of_sync() > SIZE * 3 / 4 {
        assert!(pair.step());
    }
    assert_eq!(pair.nodes[1].replication(), ReplicationState::SyncTarget);
    let left = pair.nodes[0].out_of_sync();
    assert!(left > 0 && left < SIZE, "{left} left");
    pair.cut();
    assert_eq!(pair.nodes[1].disk(), DiskState::Inconsistent);
    let refused = pair
        .command(1, Command::Primary { force: true })
        .unwrap_err();
    assert!(refused.contains("unfinished resync"), "{refused}");
    pair.nodes[0].disk_held = false;
    pair.run();
    let before = pair.nodes[1].status().volumes[0].received_bytes;
    pair.heal();
    pair.assert_in_sync();
    assert_eq!(
        pair.nodes[1].status().volumes[0].received_bytes - before,
        left
    );
}

#[test]
fn writes_during_a_resync_are_mirrored_and_survive_it() {
    for seed in 1..40 {
        let mut pair = Pair::ready();
        pair.cut();
        pair.write(0, 0, 128 * 1024, 1);
        pair.write(0, 512 * 1024, 128 * 1024, 2);
        pair.run();
        pair.network = true;
        pair.rng = seed;
        for fill in 0..60 {
            pair.step();
            let at = pair.pick(256) as u64 * 512;
            if pair.nodes[0].engine.has_room() {
                pair.write(0, at, 1024, 10 + fill);
            }
        }
        pair.wait(3_000_000);
        pair.assert_in_sync();
    }
}

/// The end of a resync is announced; then the link breaks before or after the target knows.
#[test]
fn the_lost_end_of_a_resync_costs_nothing() {
    for target_knows in [false, true] {
        for goes_on in [false, true] {
            let mut pair = Pair::ready();
            pair.cut();
            pair.write(0, 0, 4096, 1);
            pair.run();
            pair.network = true;
            pair.now += 1_000_000;
            pair.handle(0, Event::Tick);
            pair.handle(1, Event::Tick);
            let is_end = |sent: &Sent| matches!(sent.frame, Frame::SyncEnd { volume: 0, .. });
            while !pair.nodes[0].out.iter().any(is_end) {
                assert!(pair.step());
            }
            if target_knows {
                while pair.nodes[1].disk() != DiskState::UpToDate {
                    pair.deliver(0);
                    pair.complete(1);
                }
            }
            pair.cut();
            if goes_on {
                pair.write(0, 65536, 4096, 5);
                pair.run();
            } else {
                pair.ok(0, Command::Secondary { force: false });
            }
            assert_eq!(
                pair.nodes[1].disk() == DiskState::Inconsistent,
                !target_knows
            );
            let before = pair.nodes[1].status().volumes[0].received_bytes;
            pair.heal();
            pair.assert_in_sync();
            let received = pair.nodes[1].status().volumes[0].received_bytes - before;
            assert_eq!(received, if goes_on { 4096 } else { 0 }, "no full resync");
        }
    }
}

/// The target got the end of the resync, the source did not hear so and went on; then the target
/// is forced. That is a split brain, and must be found out.
#[test]
fn a_target_promoted_behind_the_back_of_its_source_is_a_split_brain() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.network = true;
    pair.now += 1_000_000;
    pair.handle(0, Event::Tick);
    pair.handle(1, Event::Tick);
    while pair.nodes[1]
        .status()
        .volumes
        .iter()
        .any(|v| v.disk != DiskState::UpToDate)
    {
        assert!(pair.step());
    }
    pair.cut();
    pair.write(0, 4096, 4096, 2);
    pair.ok(1, Command::Primary { force: true });
    pair.write(1, 4096, 4096, 3);
    pair.heal();
    for node in &pair.nodes {
        assert_eq!(node.status().connection, ConnectionState::StandAlone);
    }
}

#[test]
fn after_a_write_error_on_the_primary_the_peer_can_take_over() {
    let mut pair = Pair::ready();
    pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
    pair.ok(0, Command::Secondary { force: true });
    assert!(pair.command(0, Command::Primary { force: true }).is_err());
    pair.ok(1, Command::Primary { force: false });
    let id = pair.write(1, 0, 4096, 2);
    pair.run();
    assert_eq!(pair.reply(1, id), Some(Ok(())));
    assert_eq!(pair.nodes[1].out_of_sync(), 4096);
}

#[test]
fn a_disk_error_on_the_secondary_does_not_reach_the_client() {
    for op in 0..3 {
        let mut pair = Pair::ready();
        pair.nodes[1]
            .disk_errors
            .push_back(if op == 2 { None } else { Some(DiskError::Io) });
        pair.nodes[1].disk_errors.push_back(Some(DiskError::Io));
        let id = match op {
            0 => pair.write(0, 0, 4096, 1),
            1 => pair.submit(0, 0, |_| ClientOp::Flush),
            _ => pair.write_fua(0, 0, 4096, 1, true),
        };
        pair.run();
        assert_eq!(pair.reply(0, id), Some(Ok(())));
        assert_eq!(pair.nodes[1].disk(), DiskState::Failed);
        assert_eq!(
            pair.nodes[0].status().volumes[0].peer_disk,
            DiskState::Failed
        );
        pair.write(0, 8192, 4096, 1);
        pair.run();
        assert!(pair.nodes[0].out_of_sync() >= 4096);
        assert_ne!(pair.nodes[0].status().volumes[0].bitmap_uuid, 0);
        // The other volume is still mirrored.
        assert_eq!(
            pair.nodes[0].status().volumes[1].peer_disk,
            DiskState::UpToDate
        );
        pair.nodes[0].assert_no_buffer_missing();
    }
}

#[test]
fn a_read_error_costs_the_read_only() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
    let id = pair.submit(0, 0, |node| ClientOp::Read(node.pool.alloc(4096).unwrap()));
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Err(ClientError::Io)));
    assert_eq!(pair.read(0, 0, 512), [0; 512]);
    pair.heal();
    pair.assert_in_sync();
}

#[test]
fn a_disk_that_shrinks_or_goes_is_given_up_and_one_that_grows_is_not() {
    let mut pair = Pair::ready();
    pair.handle(
        0,
        Event::DiskChanged {
            volume: 0,
            metadata: false,
            size: SIZE * 2,
        },
    );
    pair.assert_in_sync();
    pair.handle(
        0,
        Event::DiskChanged {
            volume: 0,
            metadata: false,
            size: SIZE - 512,
        },
    );
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
    pair.handle(
        0,
        Event::DiskChanged {
            volume: 1,
            metadata: false,
            size: 0,
        },
    );
    assert_eq!(pair.nodes[0].status().volumes[1].disk, DiskState::Failed);
}

#[test]
fn a_block_that_cannot_be_read_delays_the_resync_and_is_not_called_in_sync() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.nodes[0].disk_held = true;
    pair.network = true;
    pair.wait(600_000);
    let is_read = |op: &(DiskToken, u16, DiskOp)| matches!(op.2, DiskOp::Read { .. });
    let at = pair.nodes[0]
        .ops
        .iter()
        .position(is_read)
        .expect("the resync reads");
    pair.nodes[0].ops.swap(0, at);
    pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
    pair.complete(0);
    pair.nodes[0].disk_held = false;
    pair.run();
    assert_eq!(pair.nodes[0].replication(), ReplicationState::SyncSource);
    assert_eq!(pair.nodes[0].out_of_sync(), 4096);
    pair.wait(2_000_000);
    pair.assert_in_sync();
}

#[test]
fn a_discard_that_one_disk_cannot_do_is_done_by_neither() {
    for unable in 0..2 {
        discard_with_one_unable(unable);
    }
}

fn discard_with_one_unable(unable: usize) {
    let mut configs = [config("a", "b"), config("b", "a")];
    configs[unable].volumes[0].can_discard = false;
    let [a, b] = configs;
    let mut pair = Pair::with(a, b);
    pair.nodes[unable].ignores_discards = true;
    pair.run();
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair.write(0, 0, 4096, 1);
    pair.run();
    let id = pair.submit(0, 0, |_| ClientOp::Discard {
        len: 4096,
        fua: false,
    });
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    pair.assert_in_sync();
}

#[test]
fn a_peer_that_is_alive_but_whose_disk_hangs_is_given_up_in_the_end() {
    let mut pair = Pair::ready();
    pair.nodes[1].disk_held = true;
    let id = pair.write(0, 0, 4096, 1);
    pair.wait(41_000_000);
    assert_eq!(pair.reply(0, id), None);
    pair.wait(2_000_000);
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    assert!(pair.nodes[0].logged("answers none of 1 requests"));
    // Neither node is kept from its operator by the handshake that cannot end.
    pair.wait(30_000_000);
    let waiting = pair.start(0, Command::Secondary { force: true });
    pair.wait(7_000_000);
    assert!(pair.nodes[0].done[&waiting].is_ok());
    pair.nodes[1].disk_held = false;
    pair.wait(10_000_000);
    pair.assert_in_sync();
}

#[test]
fn nothing_is_answered_well_that_only_a_failed_disk_holds() {
    for lost in [false, true] {
        let mut config = config("a", "b");
        config.trouble.on_no_data = OnNoData::IoError;
        let mut pair = Pair::of(config);
        pair.nodes[1].disk_held = true;
        pair.nodes[0].disk_held = true;
        pair.nodes[0].disk_errors.push_back(Some(DiskError::Io));
        let bad = pair.write(0, 0, 4096, 1);
        let durable = pair.write_fua(0, 8192, 4096, 2, true);
        let plain = pair.write(0, 16384, 4096, 3);
        pair.nodes[0].disk_held = false;
        pair.run();
        for id in [bad, durable, plain] {
            assert_eq!(pair.reply(0, id), None, "the peer has not answered");
        }
        if lost {
            pair.cut();
        }
        pair.nodes[1].disk_held = false;
        pair.run();
        let expected = if lost { Err(ClientError::Io) } else { Ok(()) };
        for id in [bad, durable, plain] {
            assert_eq!(pair.reply(0, id), Some(expected));
        }
    }
}

#[test]
fn a_disk_that_fails_after_its_part_was_done_leaves_no_answer_behind_that_nobody_keeps() {
    for lost in [false, true] {
        let mut config = config("a", "b");
        config.trouble.on_no_data = OnNoData::IoError;
        let mut pair = Pair::of(config);
        pair.nodes[1].disk_held = true;
        let id = pair.write(0, 0, 4096, 1);
        pair.run();
        pair.handle(
            0,
            Event::DiskChanged {
                volume: 0,
                metadata: false,
                size: 0,
            },
        );
        if lost {
            pair.cut();
        } else {
            pair.nodes[1].disk_held = false;
            pair.run();
        }
        let expected = if lost { Err(ClientError::Io) } else { Ok(()) };
        assert_eq!(pair.reply(0, id), Some(expected));
    }
}

#[test]
fn what_waits_for_the_end_of_a_dying_connection_is_written_when_it_is_over() {
    let mut pair = Pair::ready();
    let node = &mut pair.nodes[0];
    // The engine asks for the end of the connection; the word that it is over takes a while.
    let bad = Event::Frame {
        frame: Frame::Ack { request: 77 },
        buf: None,
    };
    let mut mem = Mem::new(&mut node.pool, &mut node.memory);
    node.engine.handle(pair.now, bad, &mut mem);
    assert!(node.drain());
    let id = pair.write(0, 0, 4096, 1);
    assert!(pair.nodes[0].ops.is_empty(), "neither sent nor marked");
    pair.cut();
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    assert_eq!(pair.nodes[0].out_of_sync(), 4096);
}

#[test]
fn what_a_node_knows_is_on_its_disk_before_it_stops() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 0, 4096, 7);
    // Long enough for the bitmap's pages to be saved as they are now.
    pair.wait(6_000_000);
    pair.heal();
    pair.assert_in_sync();
    assert!(!pair.nodes[0].engine.is_saved(), "pages are saved lazily");
    pair.nodes[0].engine.save_everything();
    pair.handle(0, Event::Tick);
    pair.run();
    assert!(pair.nodes[0].engine.is_saved());
    pair.ok(0, Command::Secondary { force: false });
    pair.network = false;
    pair.reboot(0);
    assert_eq!(pair.nodes[0].out_of_sync(), 0, "nothing is left to copy");
}
