//! Verify.

use super::*;

fn verify(repair: bool) -> Command {
    Command::Verify {
        volume: 0,
        start: None,
        stop: None,
        repair,
    }
}

impl Pair {
    fn report(&self, n: usize) -> VerifyReport {
        self.nodes[n].status().volumes[0].verify.expect("a verify")
    }

    /// Rot on a disk that nobody notices.
    fn corrupt(&mut self, n: usize, offset: usize) {
        self.nodes[n].disks[0][offset] ^= 0x40;
    }
}

#[test]
fn equal_disks_are_found_equal() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 128 << 10, 3);
    pair.run();
    pair.ok(0, verify(false));
    pair.wait(1_000_000);
    let report = pair.report(0);
    assert!(report.finished && !report.running);
    assert_eq!((report.compared, report.differing_blocks), (SIZE, 0));
    assert!(pair.nodes[0].logged("no difference"));
    pair.assert_in_sync();
}

#[test]
fn differences_are_reported_and_repaired_only_on_request() {
    for (n, secondary) in [(0, false), (0, true), (1, true)] {
        let mut pair = Pair::ready();
        pair.write(0, 0, 128 << 10, 3);
        pair.run();
        if secondary {
            pair.ok(0, Command::Secondary { force: true });
        }
        for offset in [5000, 8192, 4096 * 255 + 17] {
            pair.corrupt(1 - n, offset);
        }
        pair.ok(n, verify(false));
        pair.wait(1_000_000);
        assert_eq!(pair.report(n).differing_blocks, 3);
        assert_eq!(pair.report(n).repaired_blocks, 0);
        assert!(pair.nodes[n].logged("bytes 4096 to 12288 differed"));
        assert!(pair.nodes[n].logged("bytes 1044480 to 1048576 differed"));
        assert!(pair.nodes[0].disks != pair.nodes[1].disks);
        pair.ok(n, verify(true));
        pair.wait(1_000_000);
        assert_eq!(pair.report(n).differing_blocks, 3);
        assert_eq!(pair.report(n).repaired_blocks, 3);
        assert!(pair.nodes[n].logged("3 blocks differed and were copied"));
        pair.assert_in_sync();
        pair.ok(n, verify(false));
        pair.wait(1_000_000);
        assert_eq!(pair.report(n).differing_blocks, 0);
    }
}

#[test]
fn what_the_peer_has_not_flushed_of_a_repair_is_remembered() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 8192, 3);
    pair.run();
    pair.corrupt(1, 5000);
    pair.ok(0, verify(true));
    pair.wait(100_000);
    // The peer loses its power, and with it what it had not flushed.
    pair.corrupt(1, 5000);
    pair.reboot(1);
    pair.heal();
    pair.assert_in_sync();
}

#[test]
fn writes_beside_it_are_no_differences() {
    for seed in 1..12 {
        let mut pair = Pair::ready();
        pair.rng = seed;
        pair.start(0, verify(false));
        let mut fill = 0;
        while pair.nodes[0].status().volumes[0]
            .verify
            .is_none_or(|v| v.running)
        {
            if pair.nodes[0].engine.has_room() && pair.nodes[0].pool.free_bytes() > 1 << 20 {
                fill += 1;
                let at = pair.pick(256) as u64 * 4096;
                pair.write(0, at, 4096, fill as u8);
            }
            for _ in 0..3 {
                pair.step();
            }
            pair.now += 50;
            pair.handle(0, Event::Tick);
        }
        assert!(fill > 10);
        assert_eq!(pair.report(0).differing_blocks, 0);
        pair.run();
        pair.wait(100_000);
        pair.assert_in_sync();
    }
}

#[test]
fn a_write_to_a_run_waits_until_that_is_compared() {
    let mut pair = Pair::ready();
    pair.nodes[1].disk_held = true;
    pair.start(0, verify(false));
    pair.run();
    let write = pair.write(0, 4096, 4096, 1);
    pair.run();
    assert_eq!(pair.nodes[0].writes, 0);
    pair.nodes[1].disk_held = false;
    pair.run();
    assert_eq!(pair.reply(0, write), Some(Ok(())));
    pair.wait(1_000_000);
    assert_eq!(pair.report(0).differing_blocks, 0);
    pair.assert_in_sync();
}

#[test]
fn it_goes_on_where_it_stopped_even_after_a_restart() {
    let mut pair = Pair::ready();
    pair.corrupt(1, 0);
    pair.corrupt(1, 900_000);
    pair.nodes[1].disk_held = true;
    pair.start(0, verify(false));
    pair.run();
    for _ in 0..3 {
        pair.complete(1);
        pair.run();
    }
    assert_eq!(pair.nodes[0].replication(), ReplicationState::VerifyS);
    assert_eq!(pair.nodes[1].replication(), ReplicationState::VerifyT);
    pair.cut();
    assert!(pair.nodes[0].logged("verify stopped at byte 393216: the connection was lost"));
    pair.nodes[1].disk_held = false;
    pair.heal();
    assert_eq!(pair.report(0).position, 393_216);
    pair.ok(0, Command::Secondary { force: true });
    pair.reboot(0);
    pair.heal();
    pair.ok(0, verify(false));
    pair.wait(1_000_000);
    let report = pair.report(0);
    assert_eq!(report.compared, SIZE - 393_216);
    assert_eq!(report.differing_blocks, 1, "the first lies before");
    // Once at the end, the next one begins at the beginning.
    pair.ok(0, verify(true));
    pair.wait(1_000_000);
    assert_eq!(pair.report(0).repaired_blocks, 2);
    pair.assert_in_sync();
}

#[test]
fn a_running_one_saves_its_position_now_and_then() {
    let mut pair = Pair::ready();
    pair.nodes[1].disk_held = true;
    pair.start(0, verify(false));
    pair.run();
    pair.complete(1);
    pair.wait(11_000_000);
    pair.reboot(0);
    pair.nodes[1].disk_held = false;
    pair.heal();
    pair.ok(0, verify(false));
    pair.wait(1_000_000);
    assert_eq!(pair.report(0).compared, SIZE - (128 << 10));
}

#[test]
fn start_stop_and_abort() {
    let mut pair = Pair::ready();
    pair.corrupt(1, 0);
    let range = |start, stop| Command::Verify {
        volume: 0,
        start,
        stop,
        repair: false,
    };
    pair.ok(0, range(Some(4096), Some(300_000)));
    pair.wait(1_000_000);
    let report = pair.report(0);
    assert_eq!((report.compared, report.differing_blocks), (299_008, 0));
    let refused = pair.command(0, range(Some(SIZE), None));
    assert!(refused.unwrap_err().contains("nothing lies between"));
    pair.nodes[1].disk_held = true;
    pair.ok(0, range(None, None));
    let twice = pair.command(0, verify(true));
    assert!(twice.unwrap_err().contains("runs already"));
    let other = pair.command(1, Command::VerifyAbort { volume: 0 });
    assert!(other.unwrap_err().contains("end it there"));
    pair.complete(1);
    pair.run();
    let said = pair.command(0, Command::VerifyAbort { volume: 0 });
    assert!(said.unwrap().contains("ended at byte 131072"));
    // What is still in flight does not disturb the next one.
    pair.ok(0, range(None, None));
    pair.nodes[1].disk_held = false;
    pair.wait(1_000_000);
    assert_eq!(pair.report(0).compared, SIZE - (128 << 10));
    assert!(pair.report(0).finished);
    let none = pair.command(0, Command::VerifyAbort { volume: 0 });
    assert!(none.unwrap_err().contains("no verify"));
    pair.corrupt(1, 0);
    pair.assert_in_sync();
}

#[test]
fn it_runs_only_where_all_writes_pass_and_both_copies_are_whole() {
    let mut pair = Pair::ready();
    let refused = pair.command(1, verify(true));
    assert!(refused.unwrap_err().contains("run 'verify' there"));
    let unknown = Command::Verify {
        volume: 9,
        start: None,
        stop: None,
        repair: false,
    };
    assert!(pair.command(0, unknown).unwrap_err().contains("no vol9"));
    pair.cut();
    let refused = pair.command(0, verify(true));
    assert!(refused.unwrap_err().contains("not connected"));
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.ok(0, Command::PauseSync { volume: None });
    pair.heal();
    let refused = pair.command(0, verify(true));
    assert!(refused.unwrap_err().contains("not in sync"));
}

#[test]
fn a_peer_that_becomes_primary_ends_it() {
    let mut pair = Pair::ready();
    pair.ok(0, Command::Secondary { force: true });
    pair.corrupt(1, 0);
    pair.nodes[1].disk_held = true;
    pair.ok(0, verify(true));
    pair.ok(1, Command::Primary { force: false });
    pair.write(1, 4096, 4096, 9);
    pair.nodes[1].disk_held = false;
    pair.wait(1_000_000);
    assert!(pair.nodes[0].logged("becomes Primary"));
    assert!(!pair.nodes[0].logged("broke the protocol"));
    assert!(!pair.nodes[1].logged("broke the protocol"));
    assert!(!pair.report(0).running);
    pair.corrupt(1, 0);
    pair.assert_in_sync();
}

#[test]
fn unreadable_blocks_are_named_apart_and_no_memory_only_delays() {
    for n in 0..2 {
        let mut pair = Pair::ready();
        pair.nodes[n].reads_fail = true;
        pair.ok(0, verify(true));
        pair.wait(1_000_000);
        let report = pair.report(0);
        assert_eq!(
            (report.unreadable_bytes, report.differing_blocks),
            (SIZE, 0)
        );
        assert!(report.finished);
        pair.nodes[n].reads_fail = false;
        pair.corrupt(1, 0);
        let mut hoard = Vec::new();
        while pair.nodes[n].pool.free_bytes() > 12 << 10 {
            hoard.push(pair.nodes[n].pool.alloc(4096).unwrap());
        }
        pair.ok(0, verify(true));
        pair.wait(1_000_000);
        assert_eq!(pair.report(0).running, n == 1);
        for buf in hoard {
            pair.nodes[n].pool.free(buf);
        }
        pair.wait(1_000_000);
        assert_eq!(pair.report(0).repaired_blocks, 1);
        pair.assert_in_sync();
    }
}

#[test]
fn a_peer_whose_disk_fails_in_mid_repair_does_not_hang_it() {
    let mut pair = Pair::ready();
    pair.corrupt(1, 0);
    pair.nodes[1].disk_held = true;
    pair.ok(0, verify(true));
    while !pair.nodes[1]
        .ops
        .iter()
        .any(|op| matches!(op.2, DiskOp::Write { .. }))
    {
        pair.complete(1);
        pair.run();
    }
    let write = pair.write(0, 0, 4096, 1);
    pair.nodes[1].disk_errors = std::iter::repeat_n(Some(DiskError::Gone), 20).collect();
    pair.nodes[1].disk_held = false;
    pair.wait(1_000_000);
    assert!(!pair.report(0).running);
    assert_eq!(pair.reply(0, write), Some(Ok(())));
    assert!(pair.nodes[0].out_of_sync() > 0);
}
