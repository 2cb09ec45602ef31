//! The old content of a resync's target: kept, given back, given up.

use super::*;

/// Bytes of the volume, which is the same on both nodes.
pub(super) const VOLUME: usize = 384 << 10;
/// Blocks of 4 KiB that the roomy reserve holds.
const ROOM: u64 = 98;
/// Bytes of a reserve that is as large as the volume, with its tables.
pub(super) const ROOMY: u64 = 100 * 4096;

/// With internal metadata, and so many bytes of reserve.
pub(super) fn guarded(node: &str, policy: SnapshotPolicy, reserve: u64) -> EngineConfig {
    let peer = if node == "a" { "b" } else { "a" };
    let mut config = config(node, peer);
    let volume = &mut config.volumes[0];
    volume.metadata = MetadataPlace::Internal;
    volume.size_limit = Some(VOLUME as u64);
    volume.snapshot = policy;
    volume.snapshot_reserve = reserve;
    config
}

/// In sync, with old data in 160 KiB; then `a` alone wrote new data into some of it, and elsewhere.
fn parted_with(policy: SnapshotPolicy, reserve: u64) -> Pair {
    parted_of(guarded("b", policy, reserve))
}

pub(super) fn parted_of(b: EngineConfig) -> Pair {
    let a = guarded("a", SnapshotPolicy::Off, b.volumes[0].snapshot_reserve);
    let mut pair = Pair::with(a, b);
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    for n in 0..5 {
        pair.write(0, n * (32 << 10), 32 << 10, 1 + n as u8);
    }
    pair.run();
    pair.submit(0, 0, |_| ClientOp::Flush);
    pair.run();
    pair.cut();
    pair.run();
    pair.write(0, 0, 4096, 0xa1);
    pair.write(0, 20 << 10, 48 << 10, 0xa2);
    pair.write(0, 100 << 10, 512, 0xa3);
    pair.write(0, 300 << 10, 8192, 0xa4);
    pair.run();
    pair
}

pub(super) fn parted() -> Pair {
    parted_with(SnapshotPolicy::Required, ROOMY)
}

pub(super) fn volume(pair: &Pair, n: usize) -> Vec<u8> {
    pair.nodes[n].disks[0][..VOLUME].to_vec()
}

/// Compares without printing half a megabyte.
#[track_caller]
pub(super) fn same(one: &[u8], other: &[u8], context: &str) {
    let differ = one.iter().zip(other).position(|(one, other)| one != other);
    assert_eq!(differ, None, "{context}: the first byte that differs");
    assert_eq!(one.len(), other.len(), "{context}");
}

fn report(pair: &Pair, n: usize) -> SnapshotReport {
    let status = pair.nodes[n].status();
    status.volumes[0].snapshot.expect("a reserve that is used")
}

/// Lets the nodes meet and so much happen.
pub(super) fn meet(pair: &mut Pair, steps: usize) {
    pair.network = true;
    pair.now += 3_000_000;
    for n in 0..2 {
        pair.handle(n, Event::Tick);
    }
    for _ in 0..steps {
        pair.step();
    }
}

pub(super) const ROLLBACK: Command = Command::Rollback {
    volume: 0,
    dry_run: false,
};

/// In the middle of the resync, with something overwritten already; then the source is gone.
pub(super) fn bereft() -> (Pair, Vec<u8>) {
    let mut pair = parted();
    let old = volume(&pair, 1);
    meet(&mut pair, 0);
    while volume(&pair, 1) == old {
        assert!(pair.step(), "the resync never began");
    }
    pair.cut();
    pair.run();
    assert_eq!(pair.nodes[1].disk(), DiskState::Inconsistent);
    (pair, old)
}

#[test]
fn a_resync_with_a_snapshot_ends_as_any_other() {
    for policy in [SnapshotPolicy::Required, SnapshotPolicy::BestEffort] {
        let mut pair = parted_with(policy, ROOMY);
        meet(&mut pair, 0);
        pair.wait(5_000_000);
        assert!(pair.nodes[1].logged("snapshot taken before the resync"));
        assert!(pair.nodes[1].logged("the snapshot is dropped"));
        let now = report(&pair, 1);
        assert_eq!((now.stage, now.used), (SnapshotStage::Empty, 0));
        assert_eq!(now.room, ROOM * 4096);
        same(&volume(&pair, 0), &volume(&pair, 1), "both");
        for node in &pair.nodes {
            assert_eq!(node.disk(), DiskState::UpToDate);
            assert!(node.engine.is_idle());
            node.assert_no_buffer_missing();
        }
        // The next one is not hindered by this one.
        pair.cut();
        pair.write(0, 0, 32 << 10, 9);
        pair.run();
        meet(&mut pair, 0);
        pair.wait(5_000_000);
        same(&volume(&pair, 0), &volume(&pair, 1), "both");
        assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
    }
}

#[test]
fn without_the_policy_nothing_is_read_or_written_for_it() {
    let count = |policy| {
        let mut pair = parted_with(policy, ROOMY);
        let before = pair.nodes[1].disks[0].clone();
        meet(&mut pair, 0);
        pair.wait(5_000_000);
        // The reserve is what lies in front of the metadata.
        let reserve = before.len() - (20 << 10) - ROOMY as usize..before.len() - (20 << 10);
        let touched = before[reserve.clone()] != pair.nodes[1].disks[0][reserve];
        (pair.nodes[1].status().volumes[0].snapshot, touched)
    };
    assert_eq!(count(SnapshotPolicy::Off), (None, false));
    let (report, touched) = count(SnapshotPolicy::Required);
    assert!(report.is_some() && touched);
}

#[test]
fn the_old_content_comes_back_with_its_lineage() {
    let (mut pair, old) = bereft();
    let generation = pair.nodes[1].status().volumes[0].current_uuid;
    assert_eq!(report(&pair, 1).stage, SnapshotStage::Held);
    assert!(report(&pair, 1).used > 0);
    // Not promotable as it is.
    assert!(pair.command(1, Command::Primary { force: true }).is_err());
    let said = pair.command(
        1,
        Command::Rollback {
            volume: 0,
            dry_run: true,
        },
    );
    assert!(said.unwrap().contains("Nothing was changed"));
    assert_ne!(volume(&pair, 1), old);
    let said = pair.command(1, ROLLBACK).unwrap();
    assert!(said.contains("rolled back to generation"), "{said}");
    same(&volume(&pair, 1), &old, "old");
    assert_eq!(pair.nodes[1].disk(), DiskState::Outdated);
    assert_eq!(report(&pair, 1).stage, SnapshotStage::RolledBack);
    assert_eq!(pair.nodes[1].status().volumes[0].current_uuid, generation);
    assert!(
        pair.command(1, ROLLBACK)
            .unwrap_err()
            .contains("no snapshot")
    );
    // Not without the operator's word.
    assert!(pair.command(1, Command::Primary { force: false }).is_err());
    // The source returns: exactly what is missing is copied again.
    meet(&mut pair, 0);
    pair.wait(5_000_000);
    same(&volume(&pair, 0), &volume(&pair, 1), "both");
    assert_eq!(volume(&pair, 1)[0], 0xa1);
    assert!(!pair.nodes[0].logged(&std::format!("resync of {VOLUME} bytes")));
    assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
    assert_eq!(report(&pair, 1).stage, SnapshotStage::Empty);
}

#[test]
fn who_went_on_from_the_old_content_and_the_source_are_a_split_brain() {
    let (mut pair, old) = bereft();
    pair.ok(1, ROLLBACK);
    pair.reboot(0);
    pair.ok(1, Command::Primary { force: true });
    assert_eq!(pair.read(1, 0, 4096), old[..4096]);
    pair.write(1, 0, 4096, 0xb1);
    pair.run();
    pair.heal();
    let refused = |node: &Node| node.logged("split brain") || node.logged("went on alone");
    assert!(pair.nodes.iter().any(refused), "{:?}", pair.nodes[1].logs);
    assert_ne!(pair.nodes[0].disk(), pair.nodes[1].disk());
    assert_eq!(volume(&pair, 1)[0], 0xb1);
    assert_eq!(volume(&pair, 0)[0], 0xa1);
    // The operator decides for the old one.
    pair.ok(
        0,
        Command::Connect {
            discard_my_data: true,
        },
    );
    pair.ok(
        1,
        Command::Connect {
            discard_my_data: false,
        },
    );
    pair.wait(5_000_000);
    same(&volume(&pair, 0), &volume(&pair, 1), "both");
    assert_eq!(volume(&pair, 0)[0], 0xb1);
}

/// Both bear one generation, and the resync is about what one of them may have lost.
#[test]
fn a_source_of_the_same_generation_does_not_lose_to_the_old_content() {
    let mut pair = parted_with(SnapshotPolicy::Required, ROOMY);
    pair.heal();
    pair.wait(5_000_000);
    let generation = |pair: &Pair, n: usize| pair.nodes[n].status().volumes[0].current_uuid;
    assert_eq!(generation(&pair, 0), generation(&pair, 1));
    // In flight when the Primary loses its power.
    pair.nodes[1].disk_held = true;
    pair.write(0, 8192, 32 << 10, 0xc1);
    pair.run();
    pair.reboot(0);
    pair.nodes[1].disk_held = false;
    pair.run();
    let old = volume(&pair, 1);
    pair.ok(0, Command::Primary { force: true });
    pair.reboot(0);
    meet(&mut pair, 0);
    while pair.nodes[1].disk() != DiskState::Inconsistent && pair.step() {}
    // What is written now both nodes have, and it is answered.
    let write = pair.write(0, 64 << 10, 4096, 0xc2);
    for _ in 0..40 {
        pair.step();
    }
    let _ = write;
    pair.cut();
    pair.run();
    if pair.nodes[1].disk() == DiskState::Inconsistent {
        pair.ok(1, ROLLBACK);
        same(&volume(&pair, 1), &old, "old");
    }
    pair.reboot(0);
    pair.reboot(1);
    pair.heal();
    pair.wait(5_000_000);
    same(&volume(&pair, 0), &volume(&pair, 1), "both");
    assert_eq!(volume(&pair, 1)[8192], 0xc1);
}

/// Writes by clients during the resync are kept out of the old content, too.
#[test]
fn what_clients_write_meanwhile_is_not_in_the_old_content() {
    let mut pair = parted();
    let old = volume(&pair, 1);
    meet(&mut pair, 0);
    while pair.nodes[1].disk() != DiskState::Inconsistent {
        assert!(pair.step());
    }
    pair.nodes[0].disk_held = true;
    let writes = [
        pair.write(0, 128 << 10, 4096, 0xd1),
        pair.write(0, 380 << 10, 512, 0xd2),
    ];
    let discard = pair.submit(0, 40 << 10, |_| ClientOp::Discard {
        len: 8192,
        fua: false,
    });
    pair.run();
    pair.nodes[0].disk_held = false;
    for _ in 0..60 {
        pair.step();
    }
    assert_eq!(volume(&pair, 1)[128 << 10], 0xd1);
    if pair.nodes[1].disk() == DiskState::UpToDate {
        return;
    }
    let _ = (writes, discard);
    pair.cut();
    pair.run();
    pair.ok(1, ROLLBACK);
    same(&volume(&pair, 1), &old, "old");
    pair.heal();
    pair.wait(5_000_000);
    same(&volume(&pair, 0), &volume(&pair, 1), "both");
}

/// The end of the volume may be a part of a block.
#[test]
fn a_last_block_that_is_no_whole_one_comes_back_too() {
    let odd = |node: &str, policy| {
        let mut config = guarded(node, policy, ROOMY);
        config.volumes[0].size_limit = Some(VOLUME as u64 - 4096 + 512);
        config
    };
    let a = odd("a", SnapshotPolicy::Off);
    let mut pair = Pair::with(a, odd("b", SnapshotPolicy::Required));
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    let last = VOLUME as u64 - 8192;
    pair.write(0, last, 4096 + 512, 7);
    pair.run();
    pair.cut();
    let old = pair.nodes[1].disks[0].clone();
    pair.write(0, last + 512, 4096, 8);
    pair.run();
    meet(&mut pair, 0);
    while pair.nodes[1].disks[0][last as usize + 4096] != 8 {
        assert!(pair.step());
    }
    pair.cut();
    pair.run();
    pair.ok(1, ROLLBACK);
    let end = VOLUME - 4096 + 512;
    assert_eq!(pair.nodes[1].disks[0][..end], old[..end]);
    pair.heal();
    pair.wait(5_000_000);
    assert_eq!(pair.nodes[1].disks[0][..end], pair.nodes[0].disks[0][..end]);
}

#[test]
fn with_a_reserve_that_is_too_small_the_resync_waits_and_says_why() {
    // 5 blocks, where some 20 are needed.
    let mut pair = parted_with(SnapshotPolicy::Required, 7 * 4096);
    let old = volume(&pair, 1);
    pair.heal();
    pair.wait(20_000_000);
    same(&volume(&pair, 1), &old, "old");
    assert_ne!(pair.nodes[1].disk(), DiskState::Inconsistent);
    let reason = pair.nodes[1].status().reason;
    assert!(
        reason.contains("the reserve has room for 20480"),
        "{reason}"
    );
    assert!(pair.nodes[0].logged("has no room for one"));
    // The source goes on alone all the while.
    let write = pair.write(0, 0, 4096, 0xe1);
    pair.wait(5_000_000);
    assert_eq!(pair.reply(0, write), Some(Ok(())));
    pair.ok(1, Command::DropSnapshot { volume: 0 });
    pair.wait(20_000_000);
    same(&volume(&pair, 0), &volume(&pair, 1), "both");
    assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
}

#[test]
fn as_far_as_possible_means_without_if_there_is_no_room() {
    let mut pair = parted_with(SnapshotPolicy::BestEffort, 7 * 4096);
    pair.heal();
    pair.wait(5_000_000);
    assert!(pair.nodes[1].logged("no snapshot: it may need"));
    same(&volume(&pair, 0), &volume(&pair, 1), "both");
    assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
}

/// Clients write more than the bitmap foretold.
fn filled(policy: SnapshotPolicy) -> Pair {
    let mut pair = parted_with(policy, 28 * 4096);
    meet(&mut pair, 0);
    pair.nodes[1].disk_held = true;
    while pair.nodes[1].disk() != DiskState::Inconsistent {
        assert!(pair.step());
    }
    for n in 0..6 {
        pair.write(0, (200 + 20 * n) << 10, 16 << 10, 0xf1);
    }
    pair.run();
    pair.nodes[1].disk_held = false;
    pair
}

#[test]
fn a_reserve_that_fills_up_is_given_up_or_the_resync_waits() {
    let mut pair = filled(SnapshotPolicy::BestEffort);
    pair.wait(5_000_000);
    assert!(pair.nodes[1].logged("the snapshot is dropped: its reserve is full"));
    same(&volume(&pair, 0), &volume(&pair, 1), "both");
    assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);

    let mut pair = filled(SnapshotPolicy::Required);
    pair.wait(20_000_000);
    assert_eq!(pair.nodes[1].disk(), DiskState::Inconsistent);
    assert_eq!(report(&pair, 1).stage, SnapshotStage::Stuck);
    let reason = pair.nodes[1].status().reason;
    assert!(
        reason.contains("the reserve of its snapshot is full"),
        "{reason}"
    );
    pair.nodes[0].assert_no_buffer_missing();
    pair.nodes[1].assert_no_buffer_missing();
    // Out of it one way, and the other.
    pair.ok(1, Command::DropSnapshot { volume: 0 });
    pair.wait(20_000_000);
    same(&volume(&pair, 0), &volume(&pair, 1), "both");
    assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);

    let mut pair = parted_with(SnapshotPolicy::Off, 28 * 4096);
    let old = volume(&pair, 1);
    drop(pair);
    pair = filled(SnapshotPolicy::Required);
    pair.wait(20_000_000);
    pair.ok(1, Command::Disconnect);
    pair.run();
    pair.ok(1, ROLLBACK);
    same(&volume(&pair, 1), &old, "old");
}

#[test]
fn a_damaged_reserve_is_found_before_anything_is_changed() {
    let (mut pair, old) = bereft();
    // The last block of old content that was copied.
    let reserve = VOLUME..SIZE as usize;
    let content = pair.nodes[1].disks[0][reserve.clone()]
        .chunks(4096)
        .position(|block| block == [1; 4096])
        .expect("old content in the reserve");
    pair.nodes[1].disks[0][VOLUME + content * 4096 + 5] ^= 4;
    let before = volume(&pair, 1);
    let error = pair.command(1, ROLLBACK).unwrap_err();
    assert!(
        error.contains("damaged") && error.contains("nothing was changed"),
        "{error}"
    );
    same(&volume(&pair, 1), &before, "old");
    assert_ne!(before, old);
    // The resync goes on all the same.
    pair.heal();
    pair.wait(5_000_000);
    same(&volume(&pair, 0), &volume(&pair, 1), "both");
    assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
}

/// The target loses its power at any moment of the resync, and the source is gone for good: it has the old content, or, where the
/// resync had ended, the new one.
#[test]
fn a_power_cut_at_any_moment_of_the_resync_leaves_the_old_content_or_the_new() {
    let (mut held, mut ended) = (0, 0);
    for steps in (0..160).step_by(3) {
        for seed in 1..4u64 {
            let mut pair = parted();
            let old = volume(&pair, 1);
            pair.nodes[1].cache = Some(Vec::new());
            pair.rng = seed * 7919 + steps as u64;
            meet(&mut pair, steps);
            let new = volume(&pair, 0);
            pair.reboot(1);
            let context = std::format!("after {steps} steps, seed {seed}");
            let disk = pair.nodes[1].disk();
            if disk == DiskState::Inconsistent {
                held += 1;
                if let Err(error) = pair.command(1, ROLLBACK) {
                    panic!("{context}: {error}; {:?}", pair.nodes[1].logs);
                }
                same(&volume(&pair, 1), &old, &context);
                // Also durably.
                pair.reboot(1);
                same(&volume(&pair, 1), &old, &context);
                assert_eq!(pair.nodes[1].disk(), DiskState::Outdated, "{context}");
            } else if volume(&pair, 1) != old {
                ended += 1;
                same(&volume(&pair, 1), &new, &context);
            }
            pair.heal();
            pair.wait(5_000_000);
            same(&volume(&pair, 0), &volume(&pair, 1), &context);
            assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate, "{context}");
        }
    }
    assert!(held > 20 && ended > 10, "{held} held, {ended} ended");
}

/// A rollback that loses its power at any moment is done again; the source that comes back copies all that it must.
#[test]
fn a_power_cut_at_any_moment_of_a_rollback_is_made_good() {
    let (mut again, mut done) = (0, 0);
    for steps in (0..60).step_by(2) {
        for seed in 1..5u64 {
            let (mut pair, old) = bereft();
            pair.nodes[1].cache = Some(Vec::new());
            pair.rng = seed * 104_729 + steps as u64;
            pair.start(1, ROLLBACK);
            for _ in 0..steps {
                pair.step();
            }
            let context = std::format!("after {steps} steps, seed {seed}");
            pair.reboot(1);
            match pair.nodes[1].disk() {
                // It had not begun to change anything.
                DiskState::Inconsistent => assert_eq!(report(&pair, 1).stage, SnapshotStage::Held),
                state => {
                    assert_eq!(state, DiskState::Outdated, "{context}");
                    same(&volume(&pair, 1), &old, &context);
                    let cut_off = pair.nodes[1].logged("was cut off is done again");
                    again += u32::from(cut_off);
                    done += u32::from(!cut_off);
                }
            }
            if seed % 2 == 0 {
                pair.reboot(0);
            }
            pair.heal();
            pair.wait(5_000_000);
            same(&volume(&pair, 0), &volume(&pair, 1), &context);
            assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate, "{context}");
        }
    }
    assert!(again > 10 && done > 10, "{again} again, {done} done");
}

/// With metadata, and so the reserve, on a disk of its own.
#[test]
fn the_reserve_may_lie_on_another_disk() {
    let outside = |node: &str, policy| {
        let mut config = guarded(node, policy, 30 << 10);
        config.volumes[0].metadata = MetadataPlace::External { disk_bytes: META };
        config
    };
    let a = outside("a", SnapshotPolicy::Off);
    let mut pair = Pair::with(a, outside("b", SnapshotPolicy::BestEffort));
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair.write(0, 0, 16 << 10, 1);
    pair.run();
    pair.cut();
    let old = volume(&pair, 1);
    pair.write(0, 4096, 8192, 2);
    pair.run();
    meet(&mut pair, 0);
    while volume(&pair, 1) == old {
        assert!(pair.step());
    }
    pair.cut();
    pair.reboot(1);
    pair.ok(1, ROLLBACK);
    same(&volume(&pair, 1), &old, "old");
    pair.heal();
    pair.wait(5_000_000);
    same(&volume(&pair, 0), &volume(&pair, 1), "both");
}

#[test]
fn an_unreadable_block_ends_the_snapshot_or_the_resync() {
    for policy in [SnapshotPolicy::BestEffort, SnapshotPolicy::Required] {
        let mut pair = parted_with(policy, ROOMY);
        pair.nodes[1].reads_fail = true;
        pair.heal();
        pair.wait(5_000_000);
        if policy == SnapshotPolicy::BestEffort {
            assert!(pair.nodes[1].logged("cannot read its old content"));
        } else {
            assert_eq!(report(&pair, 1).stage, SnapshotStage::Stuck);
            pair.ok(1, Command::DropSnapshot { volume: 0 });
            pair.wait(20_000_000);
        }
        pair.nodes[1].reads_fail = false;
        pair.wait(5_000_000);
        same(&volume(&pair, 0), &volume(&pair, 1), "both");
        assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
    }
}
