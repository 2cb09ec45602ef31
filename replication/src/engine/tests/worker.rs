//! How fast resyncs go, in what order, and who may hold them.

use super::*;

/// How long a disk takes for a run, in microseconds.
const SLOW: Micros = 200;

/// Blocks of `a` that its peer lacks, and the link still cut.
fn behind(mut pair: Pair, volumes: u16) -> Pair {
    pair.cut();
    for volume in 0..volumes {
        for block in 0..16 {
            pair.submit_to(0, volume, block * (64 << 10), |node| {
                let buf = node.pool.alloc(64 << 10).expect("memory");
                node.memory.bytes_mut(buf.view()).fill(block as u8 + 1);
                ClientOp::Write { buf, fua: false }
            });
            pair.run();
        }
    }
    // Long enough for the clients to count as gone.
    pair.wait(5_000_000);
    pair
}

fn with(change: impl Fn(&mut EngineConfig)) -> Pair {
    let (mut a, mut b) = (config("a", "b"), config("b", "a"));
    change(&mut a);
    change(&mut b);
    let mut pair = Pair::with(a, b);
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair
}

impl Pair {
    fn states(&self, n: usize) -> Vec<ReplicationState> {
        let status = self.nodes[n].status();
        status.volumes.iter().map(|v| v.replication).collect()
    }

    fn waits(&self, n: usize, volume: usize) -> String {
        let status = self.nodes[n].engine.status(self.now);
        status.volumes[volume].waits.to_string()
    }

    fn progress(&self, n: usize, volume: usize) -> Option<Progress> {
        self.nodes[n].engine.status(self.now).volumes[volume].progress
    }
}

#[test]
fn an_idle_pair_is_kept_busy_by_many_runs_at_once() {
    let mut pair = behind(Pair::ready(), 2);
    pair.nodes[0].disk_held = true;
    pair.network = true;
    pair.run();
    assert_eq!(pair.nodes[0].ops.len(), 2, "first the path is measured");
    for _ in 0..6 {
        pair.complete(0);
        pair.run();
    }
    // A quarter of the pool's 2 MiB.
    assert_eq!(pair.nodes[0].ops.len(), 4);
    assert!(
        pair.nodes[0]
            .ops
            .iter()
            .all(|(.., op)| matches!(op, DiskOp::Read { view, .. } if view.len == 128 << 10))
    );
    pair.nodes[0].disk_held = false;
    pair.run();
    pair.assert_in_sync();
}

#[test]
fn the_upper_limit_of_the_rate_is_kept_and_named() {
    let mut pair = with(|config| config.resync.limits.max_rate = Some(256 << 10));
    pair = behind(pair, 1);
    pair.network = true;
    pair.wait(2_000_000);
    let left = pair.nodes[0].out_of_sync();
    assert!((300 << 10..700 << 10).contains(&left), "{left}");
    assert_eq!(pair.waits(0, 0), "held to c-max-rate");
    let progress = pair.progress(0, 0).unwrap();
    assert_eq!(progress.total, 1 << 20);
    assert!(
        (200 << 10..400 << 10).contains(&progress.rate_now),
        "{progress:?}"
    );
    assert!(progress.eta_seconds.is_some_and(|s| (1..4).contains(&s)));
    let target = pair.progress(1, 0).unwrap();
    assert_eq!((target.done, target.total), (progress.done, progress.total));
    pair.wait(3_000_000);
    pair.assert_in_sync();
}

#[test]
fn clients_are_given_way_and_the_resync_still_moves() {
    let mut pair = behind(Pair::ready(), 2);
    pair.network = true;
    let mut answered = 0;
    for n in 0u64..20_000 {
        if pair.nodes[0].engine.has_room() {
            answered += u64::from(pair.nodes[0].out_of_sync() > 0);
            pair.write(0, n % 256 * 4096, 4096, 7);
        }
        for _ in 0..4 {
            pair.step();
            pair.now += SLOW / 4;
        }
        for node in 0..2 {
            pair.handle(node, Event::Tick);
        }
    }
    assert_eq!(pair.nodes[0].out_of_sync(), 0);
    // The whole resync is 16 runs: clients had their turns in between.
    assert!(answered > 50, "{answered}");
    pair.run();
    pair.assert_in_sync();
}

#[test]
fn either_side_pauses_and_both_must_resume() {
    let mut pair = behind(Pair::ready(), 1);
    pair.ok(0, Command::PauseSync { volume: None });
    pair.network = true;
    pair.wait(1_000_000);
    assert_eq!(pair.states(0)[0], ReplicationState::PausedSyncS);
    assert_eq!(pair.states(1)[0], ReplicationState::PausedSyncT);
    assert_eq!(pair.nodes[0].out_of_sync(), 1 << 20);
    assert!(
        pair.waits(0, 0).contains("on this node"),
        "{}",
        pair.waits(0, 0)
    );
    assert!(
        pair.waits(1, 0).contains("on the peer"),
        "{}",
        pair.waits(1, 0)
    );
    pair.ok(1, Command::PauseSync { volume: Some(0) });
    let said = pair.command(0, Command::ResumeSync { volume: Some(0) });
    assert!(said.unwrap().contains("the peer's operator"));
    assert!(
        pair.waits(0, 0).contains("on the peer"),
        "{}",
        pair.waits(0, 0)
    );
    assert_eq!(pair.states(0)[0], ReplicationState::PausedSyncS);
    let refused = pair.command(0, Command::ResumeSync { volume: Some(0) });
    assert!(refused.unwrap_err().contains("run 'resume-sync' there"));
    // Writes are mirrored meanwhile, to blocks that are marked and to others.
    let inside = pair.write(0, 4096, 4096, 99);
    pair.wait(100_000);
    assert_eq!(pair.reply(0, inside), Some(Ok(())));
    assert_eq!(pair.nodes[1].disks[0][4096], 99);
    assert_eq!(pair.nodes[0].out_of_sync(), 1 << 20);
    pair.ok(1, Command::ResumeSync { volume: None });
    pair.ok(0, Command::ResumeSync { volume: None });
    pair.wait(1_000_000);
    pair.assert_in_sync();
    let said = pair.command(1, Command::ResumeSync { volume: None });
    assert_eq!(said, Ok("not paused".to_string()));
}

#[test]
fn a_pause_of_the_target_holds_from_the_first_block_of_a_new_connection() {
    let mut pair = behind(Pair::ready(), 1);
    pair.ok(1, Command::PauseSync { volume: Some(0) });
    pair.network = true;
    pair.wait(1_000_000);
    assert_eq!(pair.nodes[1].disk(), DiskState::Inconsistent);
    assert_eq!(pair.nodes[0].out_of_sync(), 1 << 20);
    // Roles may change and the link may break meanwhile.
    pair.cut();
    pair.heal();
    assert_eq!(pair.states(0)[0], ReplicationState::PausedSyncS);
    assert_eq!(pair.nodes[0].out_of_sync(), 1 << 20);
    pair.ok(0, Command::Secondary { force: true });
    pair.cut();
    pair.heal();
    pair.ok(0, Command::Primary { force: false });
    assert_eq!(pair.states(1)[0], ReplicationState::PausedSyncT);
    pair.ok(1, Command::ResumeSync { volume: Some(0) });
    pair.wait(1_000_000);
    pair.assert_in_sync();
}

#[test]
fn nothing_left_to_do_is_no_reason_to_ignore_a_pause() {
    let mut pair = behind(Pair::ready(), 1);
    pair.nodes[1].disk_held = true;
    pair.network = true;
    pair.run();
    while pair.nodes[0].out_of_sync() > 0 {
        if pair.nodes[1].ops.len() == 1 && pair.nodes[0].out_of_sync() <= 128 << 10 {
            pair.ok(0, Command::PauseSync { volume: Some(0) });
        }
        pair.complete(1);
        pair.run();
    }
    pair.nodes[1].disk_held = false;
    pair.wait(1_000_000);
    assert_eq!(pair.states(0)[0], ReplicationState::PausedSyncS);
    pair.ok(0, Command::ResumeSync { volume: Some(0) });
    pair.wait(100_000);
    pair.assert_in_sync();
}

#[test]
fn one_volume_follows_another_and_the_number_is_limited() {
    for after in [true, false] {
        let mut pair = with(|config| {
            if after {
                config.volumes[0].resync_after = Some(1);
            } else {
                config.resync.max_parallel = Some(1);
            }
        });
        pair = behind(pair, 2);
        pair.nodes[0].disk_held = true;
        pair.network = true;
        pair.run();
        let (first, second) = if after { (1, 0) } else { (0, 1) };
        assert_eq!(pair.states(0)[first], ReplicationState::SyncSource);
        assert_eq!(pair.states(0)[second], ReplicationState::PausedSyncS);
        assert_eq!(pair.states(1)[first], ReplicationState::SyncTarget);
        assert_eq!(pair.states(1)[second], ReplicationState::PausedSyncT);
        let why = pair.waits(0, second);
        let key = if after {
            "(resync-after)"
        } else {
            "(max-parallel-resyncs)"
        };
        assert!(why.contains(key), "{why}");
        assert!(
            pair.waits(1, second)
                .contains("on the peer, which is the source")
        );
        while pair.nodes[0].status().volumes[first].out_of_sync > 0 {
            assert_eq!(pair.nodes[0].status().volumes[second].out_of_sync, 1 << 20);
            pair.complete(0);
            pair.run();
        }
        pair.nodes[0].disk_held = false;
        pair.wait(1_000_000);
        pair.assert_in_sync();
    }
}

#[test]
fn an_order_that_cannot_be_is_told_and_not_heeded() {
    let mut pair = with(|config| {
        config.volumes[0].resync_after = Some(1);
        config.volumes[1].resync_after = Some(0);
    });
    assert!(pair.nodes[0].logged("resync-after is not heeded: "));
    pair = behind(pair, 2);
    pair.heal();
    pair.assert_in_sync();
}

#[test]
fn a_resync_in_both_directions_does_not_wait_for_itself() {
    // Each node is the source of one volume, and has the other one go first.
    let mut pair = Pair::with(
        {
            let mut config = config("a", "b");
            config.volumes[1].resync_after = Some(0);
            config.resync.max_parallel = Some(1);
            config
        },
        {
            let mut config = config("b", "a");
            config.volumes[0].resync_after = Some(1);
            config.resync.max_parallel = Some(1);
            config
        },
    );
    pair.ok(0, Command::NewCurrentUuid);
    pair.nodes[0].disk_held = true;
    pair.nodes[1].disk_held = true;
    pair.start(0, Command::Invalidate { volume: 0 });
    pair.start(1, Command::Invalidate { volume: 1 });
    pair.run();
    pair.wait(10_000_000);
    pair.nodes[0].disk_held = false;
    pair.nodes[1].disk_held = false;
    pair.wait(1_000_000);
    pair.assert_in_sync();
}

#[test]
fn the_exchange_of_bitmaps_shows() {
    let mut pair = behind(Pair::ready(), 1);
    pair.ok(0, Command::Secondary { force: true });
    pair.ok(1, Command::Primary { force: true });
    pair.write(1, 8192, 4096, 5);
    pair.run();
    pair.ok(1, Command::Secondary { force: true });
    pair.ok(
        0,
        Command::Connect {
            discard_my_data: true,
        },
    );
    pair.network = true;
    let mut seen = [false; 2];
    for _ in 0..100_000 {
        for (n, seen) in seen.iter_mut().enumerate() {
            let state = pair.states(n)[0];
            *seen |= matches!(
                state,
                ReplicationState::WFBitMapS | ReplicationState::WFBitMapT
            );
            if matches!(state, ReplicationState::WFBitMapS) {
                assert!(pair.waits(n, 0).contains("bitmaps"), "{}", pair.waits(n, 0));
            }
        }
        if !pair.step() {
            break;
        }
    }
    pair.wait(2_000_000);
    assert_eq!(seen, [true, true]);
    pair.assert_in_sync();
}

#[test]
fn zeroes_stay_holes_unless_the_configuration_says_otherwise() {
    for rs_discard in [true, false] {
        let mut pair = with(|config| config.resync.rs_discard = rs_discard);
        pair.cut();
        pair.write(0, 0, 128 << 10, 1);
        pair.run();
        pair.write(0, 0, 128 << 10, 0);
        pair.run();
        pair.nodes[1].disk_held = true;
        pair.network = true;
        pair.wait(3_000_000);
        let (offset, len, unmap) = (0, 128 << 10, rs_discard);
        let zeroes = DiskOp::WriteZeroes { offset, len, unmap };
        assert!(pair.nodes[1].ops.iter().any(|(.., op)| *op == zeroes));
        pair.nodes[1].disk_held = false;
        pair.wait(100_000);
        pair.assert_in_sync();
    }
}

#[test]
fn by_checksums_only_what_differs_is_sent() {
    let mut pair = with(|config| config.resync.csums = true);
    pair = behind(pair, 1);
    pair.heal();
    pair.assert_in_sync();
    // Everything is written again, but only three blocks of it are not as they were.
    pair = behind(pair, 1);
    for offset in [0, 8192, 12288] {
        pair.write(0, offset, 4096, 77);
        pair.run();
    }
    let before = pair.nodes[1].writes;
    pair.wait(5_000_000);
    pair.heal();
    assert_eq!(pair.nodes[1].writes - before, 2, "a write for each span");
    pair.assert_in_sync();
}

#[test]
fn a_target_that_cannot_read_is_sent_everything() {
    let mut pair = with(|config| config.resync.csums = true);
    pair = behind(pair, 1);
    pair.nodes[1].reads_fail = true;
    let before = pair.nodes[1].writes;
    pair.heal();
    assert_eq!(pair.nodes[1].writes - before, 8);
    pair.assert_in_sync();
}

#[test]
fn a_lost_connection_in_the_middle_of_a_comparison_loses_nothing() {
    for steps in 0..60 {
        let mut pair = with(|config| config.resync.csums = true);
        pair = behind(pair, 1);
        pair.write(1, 0, 0x1000, 0);
        pair.network = true;
        for _ in 0..steps {
            pair.step();
        }
        pair.cut();
        pair.heal();
        pair.wait(1_000_000);
        pair.assert_in_sync();
    }
}

#[test]
fn an_end_acknowledged_to_a_disk_that_failed_meanwhile_is_void() {
    let mut pair = behind(Pair::ready(), 1);
    pair.nodes[1].meta_held = true;
    pair.network = true;
    while pair.nodes[0].out_of_sync() > 0 || pair.nodes[0].replication().is_source() {
        if pair.nodes[1].logged("vol0: resync done") {
            break;
        }
        if !pair.step() {
            pair.complete_meta(1);
        }
    }
    // The target's answer waits until the end is durable there.
    pair.handle(
        0,
        Event::DiskChanged {
            volume: 0,
            metadata: false,
            size: 0,
        },
    );
    pair.nodes[1].meta_held = false;
    pair.run();
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
    assert_ne!(pair.nodes[1].disk(), DiskState::Failed);
}

#[test]
fn a_target_that_has_marks_of_its_own_is_told_how_much_there_is_to_do() {
    // The Primary crashes: only it has marks, of its hot extent, and the peer, which lost nothing, is the source.
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 3);
    pair.run();
    pair.ok(1, Command::PauseSync { volume: None });
    pair.reboot(0);
    pair.network = true;
    pair.wait(3_000_000);
    for (n, state) in [
        (0, ReplicationState::PausedSyncT),
        (1, ReplicationState::PausedSyncS),
    ] {
        let volume = pair.nodes[n].status().volumes[0].clone();
        assert_eq!(volume.replication, state);
        let progress = volume.progress.expect("it has begun");
        // The extent is all of the volume.
        assert_eq!((progress.done, progress.total), (0, SIZE), "node {n}");
        assert_eq!(volume.out_of_sync, SIZE);
        assert!(!volume.waits.is_empty());
    }
    pair.ok(1, Command::ResumeSync { volume: None });
    pair.wait(3_000_000);
    let done = pair
        .nodes
        .iter()
        .all(|node| node.status().volumes[0].progress.is_none());
    assert!(done);
}

#[test]
fn a_target_to_which_nothing_comes_says_so() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 0, 4096, 3);
    pair.run();
    // The source's disk answers nothing, and that is no business of the target's.
    pair.nodes[0].disk_held = true;
    pair.heal();
    pair.wait(3_000_000);
    let waits = |pair: &Pair, n: usize| pair.nodes[n].status().volumes[0].waits.to_string();
    let status = pair.nodes[1].engine.status(pair.now);
    assert!(
        status.volumes[0].waits.contains("no block has come for"),
        "{}",
        status.volumes[0].waits
    );
    pair.nodes[0].disk_held = false;
    pair.wait(3_000_000);
    pair.assert_in_sync();
    assert_eq!(
        (waits(&pair, 0), waits(&pair, 1)),
        (String::new(), String::new())
    );
}

/// A target's marks that do not fit one message: the next one follows when the one before was united.
#[test]
fn a_bitmap_of_several_messages_is_exchanged_whole() {
    const BYTES: u64 = 256 << 20;
    let mut pair = with(|config| {
        for volume in &mut config.volumes {
            volume.disk_bytes = BYTES;
        }
    });
    pair.cut();
    pair.wait(7_000_000);
    // Five single blocks of every 64 cost a word each, of which 512 are a message.
    let marks = BYTES / 4096 / 64 * 5;
    for word in 0..BYTES / 4096 / 64 {
        for block in 0..5 {
            let volume = &mut pair.nodes[1].engine.volumes[0];
            volume.mark_dirty((word * 64 + block * 4) * 4096, 4096);
        }
    }
    pair.write(0, 0, 4096, 7);
    pair.run();
    pair.heal();
    pair.wait(2_000_000);
    let status = pair.nodes[0].status();
    assert_eq!(status.volumes[0].replication, ReplicationState::Established);
    assert_eq!(status.volumes[0].peer_disk, DiskState::UpToDate);
    assert_eq!(status.volumes[0].out_of_sync, 0);
    let united = std::format!("resync done: {} bytes", marks * 4096);
    assert!(
        pair.nodes[0].logs.iter().any(|line| line.contains(&united)),
        "{united}: {:?}",
        pair.nodes[0].logs
    );
}
