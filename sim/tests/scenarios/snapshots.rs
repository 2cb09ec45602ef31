//! What a resync's target keeps of what the resync overwrites.

use super::*;
use replication::api::{SnapshotPolicy, SnapshotStage};

/// Blocks of the volume.
const BLOCKS: usize = 64;
const DROP: Command = Command::DropSnapshot { volume: 0 };
const ROLLBACK: Command = Command::Rollback {
    volume: 0,
    dry_run: false,
};

/// With a reserve of so many pages.
fn keeping(policy: SnapshotPolicy, reserve: u64) -> Plan {
    let mut plan = Plan::scripted(BLOCKS);
    plan.volumes[0].snapshot = [policy; 2];
    plan.volumes[0].reserve = reserve;
    plan
}

fn stage(world: &World) -> Option<SnapshotStage> {
    let report = world.status(1)?.volumes[0].snapshot?;
    Some(report.stage)
}

fn content(world: &World, n: usize) -> Vec<sim::stamp::Value> {
    (0..BLOCKS * BLOCK).map(|s| world.sector(n, s)).collect()
}

/// Everything is written and flushed, so that there is something old, and then node 0 goes on alone. The old content of node 1.
fn parted(world: &mut World, blocks: usize) -> Vec<sim::stamp::Value> {
    for block in 0..BLOCKS {
        world.write(0, block * BLOCK, BLOCK, true).expect("room");
        world.wait_answers().expect("answered");
    }
    let old = content(world, 1);
    diverge(world, blocks);
    old
}

/// Node 1 finds that its reserve is too small, and says so.
fn wait_waits(world: &mut World) {
    let waits = |w: &mut World| {
        let reason = w.status(1).map(|s| s.reason.clone());
        reason.is_some_and(|reason| reason.contains("its snapshot may need"))
    };
    world.wait("it says why it waits", waits).expect("it waits");
}

/// Node 1 goes back to what it had before the resync.
fn roll_back(world: &mut World, old: &[sim::stamp::Value]) {
    world.command(1, ROLLBACK).expect("it may");
    let done = |w: &mut World| stage(w) == Some(SnapshotStage::RolledBack);
    world.wait("the rollback", done).expect("it ends");
    assert!(
        content(world, 1) == old,
        "not the content before the resync"
    );
    assert_eq!(world.disk(1, 0), Some(DiskState::Outdated));
}

#[test]
fn s34_a_reserve_that_is_too_small_is_found_before_the_resync() {
    each_seed(&keeping(SnapshotPolicy::Required, 8), |world| {
        let old = parted(world, 32);
        wait_waits(world);
        world.run_for(5_000_000);
        assert_ne!(world.disk(1, 0), Some(DiskState::Inconsistent));
        assert_eq!(content(world, 1), old, "something was overwritten");
        world.command(1, DROP).expect("without one, then");
        world.wait_in_sync().expect("in sync");
    });
    each_seed(&keeping(SnapshotPolicy::BestEffort, 8), |world| {
        parted(world, 32);
        world.wait_in_sync().expect("best effort: without one");
    });
}

/// A resync with a reserve that is enough for it, but not for what clients write meanwhile.
fn filled(world: &mut World) -> Vec<sim::stamp::Value> {
    let old = parted(world, 16);
    let taken = |w: &mut World| stage(w) == Some(SnapshotStage::Held);
    world.wait("the snapshot", taken).expect("there is room");
    for block in 16..BLOCKS {
        world.write(0, block * BLOCK, BLOCK, false).expect("room");
        world.run_for(100);
    }
    old
}

#[test]
fn s34_a_reserve_that_fills_up_in_mid_resync() {
    let slow = |policy| Plan {
        disk_delay: (2_000, 4_000),
        ..keeping(policy, 24)
    };
    each_seed(&slow(SnapshotPolicy::Required), |world| {
        let old = filled(world);
        let stuck = |w: &mut World| stage(w) == Some(SnapshotStage::Stuck);
        world
            .wait("the reserve is full", stuck)
            .expect("it is full");
        let reason = world.status(1).expect("it runs").reason.clone();
        assert!(reason.contains("is full"), "{reason}");
        // The old content is all there still: what would have cost it waits.
        world.command(1, Command::Disconnect).expect("disconnected");
        roll_back(world, &old);
        world.wait_answers().expect("node 0 goes on alone");
        let connect = Command::Connect {
            discard_my_data: false,
        };
        world.command(1, connect).expect("connects");
        wait_waits(world);
        world.command(1, DROP).expect("without one, then");
        world.wait_in_sync().expect("in sync");
    });
    each_seed(&slow(SnapshotPolicy::Required), |world| {
        filled(world);
        let stuck = |w: &mut World| stage(w) == Some(SnapshotStage::Stuck);
        world
            .wait("the reserve is full", stuck)
            .expect("it is full");
        world.command(1, DROP).expect("without it, then");
        world.wait_answers().expect("clients go on");
        world.wait_in_sync().expect("in sync");
    });
    each_seed(&slow(SnapshotPolicy::BestEffort), |world| {
        filled(world);
        world.wait_answers().expect("clients never wait for it");
        world.wait_in_sync().expect("in sync");
    });
}

#[test]
fn s35_the_source_dies_in_mid_resync() {
    let plan = Plan {
        disk_delay: (500, 1_000),
        ..keeping(SnapshotPolicy::Required, 72)
    };
    for frames in 0..3 {
        each_seed(&plan, |world| {
            let copied = world.frames_of_resync();
            let old = parted(world, 48);
            let copies = |w: &mut World| {
                let began = w.disk(1, 0) == Some(DiskState::Inconsistent);
                began && w.frames_of_resync() >= copied + frames
            };
            world.wait("the resync", copies).expect("it copies");
            world.power_cut(0);
            wait_alone(world, 1);
            let half = Command::Primary { force: true };
            let refusal = world.command(1, half);
            assert!(refusal.is_err(), "half a copy was promoted: {refusal:?}");
            roll_back(world, &old);
            // The source is back after all: it has what came after.
            world.boot(0);
            world.wait_in_sync().expect("in sync");
        });
    }
}
