//! Published failures of replicated block stores (reference/scenarios.md, by number), scripted.
//!
//! Every run is judged by the oracle throughout; what is asserted here comes on top.

#![allow(clippy::expect_used, reason = "a test says what it expected")]

use replication::api::{Command, ConnectionState, DiskState, Role};
use sim::plan::Plan;
use sim::world::World;

/// Sectors of a 4 KiB block.
const BLOCK: usize = 8;
/// Seeds of every scenario: the same script under different timing.
const SEEDS: u64 = 25;

fn each_seed(plan: &Plan, script: impl Fn(&mut World)) {
    for seed in 0..SEEDS {
        let mut world = World::healthy_pair(seed, plan.clone()).expect("a healthy pair");
        script(&mut world);
        world.heal();
        assert_eq!(world.violation(), None, "seed {seed}");
    }
}

fn loaded(blocks: usize) -> Plan {
    Plan {
        depth: 12,
        ..Plan::scripted(blocks)
    }
}

fn is_up_to_date(world: &World, n: usize) -> bool {
    world.disk(n, 0) == Some(DiskState::UpToDate)
}

/// Waits until the Primary has lost its peer and says so.
fn wait_alone(world: &mut World, n: usize) {
    let lost = |w: &mut World| w.connection(n) != Some(ConnectionState::Connected);
    world
        .wait("the peer is missed", lost)
        .expect("loss is noticed");
}

/// Cuts the network, writes on node 0 alone, so that a resync of `blocks` blocks is due.
fn diverge(world: &mut World, blocks: usize) {
    world.block_network(true, true);
    wait_alone(world, 0);
    for block in 0..blocks {
        world.write(0, block * BLOCK, BLOCK, false).expect("room");
        world.wait_answers().expect("answered alone");
    }
    world.block_network(false, false);
}

fn wait_resync(world: &mut World) {
    let target = |w: &mut World| w.disk(1, 0) == Some(DiskState::Inconsistent);
    world.wait("the resync", target).expect("a resync begins");
}

#[test]
fn both_cold_start_refuse_to_guess() {
    for seed in 0..SEEDS {
        let mut world = World::pair(seed, Plan::scripted(16));
        world.run_for(5_000_000);
        for n in 0..2 {
            assert_eq!(world.disk(n, 0), Some(DiskState::DUnknown));
            assert_eq!(world.role(n), Some(Role::Secondary));
            let refusal = world.command(n, Command::Primary { force: false });
            assert!(refusal.is_err(), "promoted without knowledge: {refusal:?}");
        }
        world
            .command(1, Command::Primary { force: true })
            .expect("the operator's word");
        world.wait_in_sync().expect("a full resync");
        assert_eq!(world.violation(), None);
    }
}

#[test]
fn s03_equal_generations_with_dirty_bits_are_reconciled() {
    each_seed(&loaded(32), |world| {
        world.run_for(60_000);
        // Both lose the connection with writes in flight and find it again at once.
        for _ in 0..4 {
            world.tear_link([true, true]);
            world.run_for(30_000);
        }
        let _ = world.command(0, Command::Secondary { force: true });
        world.tear_link([true, true]);
        world.wait_in_sync().expect("reconciled");
    });
}

#[test]
fn s06_write_to_a_block_during_its_resync() {
    each_seed(&Plan::scripted(128), |world| {
        diverge(world, 100);
        wait_resync(world);
        for round in 0..300 {
            if world.disk(1, 0) == Some(DiskState::UpToDate) {
                break;
            }
            let _ = world.write(0, (round * 37 % 100) * BLOCK, BLOCK, round % 5 == 0);
            world.run_for(60);
        }
        world.wait_in_sync().expect("in sync");
    });
}

#[test]
fn s08_concurrent_promote_and_demote() {
    each_seed(&Plan::scripted(8), |world| {
        for round in 0..6 {
            let demoted = usize::from(world.role(1) == Some(Role::Primary));
            world.order(demoted, Command::Secondary { force: false });
            world.run_for(round * 40);
            world.order(1 - demoted, Command::Primary { force: false });
            world.order(demoted, Command::Primary { force: false });
            world.run_for(20_000);
            let primaries = (0..2)
                .filter(|&n| world.role(n) == Some(Role::Primary))
                .count();
            assert!(primaries <= 1, "two Primaries");
        }
    });
}

#[test]
fn s11_new_write_races_an_abandoned_connection() {
    each_seed(&Plan::scripted(16), |world| {
        for round in 0..40 {
            let block = round % 4;
            world
                .write(0, block * BLOCK, 2 * BLOCK, false)
                .expect("room");
            world.run_for(round as u64 * 13 % 300);
            world.reset_client(0);
            // The same client again, at once: its new write must win.
            world.write(0, block * BLOCK, BLOCK, false).expect("room");
            world.wait_answers().expect("answers");
            world.read(0, block * BLOCK, 2 * BLOCK).expect("room");
            world.wait_answers().expect("answers");
        }
    });
}

#[test]
fn s13_late_acknowledgements_of_an_old_connection() {
    each_seed(&loaded(64), |world| {
        for round in 0..12 {
            world.run_for(20_000);
            world.tear_link([round % 3 != 0, round % 3 != 1]);
            world.run_for(100_000);
        }
        world.wait_in_sync().expect("in sync");
    });
}

#[test]
fn s16_large_write_spans_the_resync_cursor() {
    each_seed(&Plan::scripted(128), |world| {
        diverge(world, 128);
        wait_resync(world);
        for round in 0..60 {
            let first = (round * 29 % 96) * BLOCK + round % 8;
            let _ = world.write(0, first, 31 * BLOCK, false);
            let _ = world.zero(0, (round * 53 % 96) * BLOCK, 32 * BLOCK);
            world.run_for(150);
        }
        world.wait_in_sync().expect("in sync");
    });
}

#[test]
fn s17_target_stopped_in_mid_resync() {
    each_seed(&Plan::scripted(128), |world| {
        diverge(world, 120);
        wait_resync(world);
        world.power_cut(1);
        world.run_for(700_000);
        world.boot(1);
        world.wait_in_sync().expect("a new full resync");
        assert_eq!(world.role(0), Some(Role::Primary));
    });
}

#[test]
fn s18_peer_lost_in_resync_does_not_hang() {
    each_seed(&Plan::scripted(128), |world| {
        diverge(world, 120);
        wait_resync(world);
        world.block_network(true, true);
        world.run_for(50_000);
        world.write(0, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("the Primary goes on");
        wait_alone(world, 0);
        // The half-done target is not to be had, whatever the operator says.
        let refusal = world.command(1, Command::Primary { force: true });
        assert!(refusal.is_err(), "a sync target was promoted: {refusal:?}");
        world.block_network(false, false);
        world.wait_in_sync().expect("the resync goes on");
    });
}

#[test]
fn s18_source_lost_in_resync_and_back() {
    each_seed(&Plan::scripted(128), |world| {
        diverge(world, 120);
        wait_resync(world);
        world.kill(0);
        world.run_for(500_000);
        let refusal = world.command(1, Command::Primary { force: true });
        assert!(refusal.is_err(), "a sync target was promoted: {refusal:?}");
        world.boot(0);
        world
            .command(0, Command::Primary { force: true })
            .expect("the only whole copy");
        world.wait_in_sync().expect("a full resync");
    });
}

#[test]
fn s19_slow_peer_costs_time_not_errors() {
    each_seed(&Plan::scripted(32), |world| {
        world.slow_disk(1, 5_000_000);
        for block in 0..32 {
            world
                .write(0, block * BLOCK, BLOCK, block % 3 == 0)
                .expect("room");
        }
        world.wait_answers().expect("every write is answered");
    });
}

#[test]
fn s23_unaligned_writes_during_resync() {
    each_seed(&Plan::scripted(128), |world| {
        diverge(world, 128);
        wait_resync(world);
        for round in 0..200 {
            let _ = world.write(0, round * 23 % 1000, 1 + round % 11, false);
            world.run_for(50);
        }
        world.wait_in_sync().expect("in sync");
    });
}

#[test]
fn s33_stalled_write_of_a_dead_connection() {
    each_seed(&Plan::scripted(8), |world| {
        for _ in 0..10 {
            // The peer's disk stalls; the client gives up, reconnects, writes again.
            world.slow_disk(1, 200_000);
            world.write(0, 0, BLOCK, false).expect("room");
            world.run_for(300);
            world.reset_client(0);
            world.write(0, 0, BLOCK, true).expect("room");
            world.wait_answers().expect("answers");
            let written = world.sector(0, 0);
            world.run_for(1_000_000);
            assert_eq!(world.sector(0, 0), written, "the stalled write came back");
            assert_eq!(
                world.sector(1, 0),
                written,
                "the stalled write came back on the peer"
            );
        }
    });
}

#[test]
fn link_loss_under_load() {
    each_seed(&loaded(64), |world| {
        for _ in 0..3 {
            world.run_for(150_000);
            world.block_network(true, true);
            world.run_for(1_000_000);
            assert_eq!(world.role(0), Some(Role::Primary));
            world.block_network(false, false);
            world.wait_in_sync().expect("in sync again");
        }
    });
}

#[test]
fn power_cut_of_the_primary_promote_the_secondary() {
    each_seed(&loaded(32), |world| {
        world.run_for(300_000);
        world.power_cut(0);
        world.run_for(700_000);
        let refusal = world.command(1, Command::Primary { force: false });
        assert!(
            refusal.is_err(),
            "promoted without the operator's word: {refusal:?}"
        );
        // The oracle checks here that every answered write is on node 1's disk.
        world
            .command(1, Command::Primary { force: true })
            .expect("the operator's word");
        world.run_for(300_000);
        world.boot(0);
        world.wait_in_sync().expect("the old Primary follows");
        assert_eq!(world.role(0), Some(Role::Secondary));
    });
}

#[test]
fn paused_primary_resumes_after_its_peer_was_forced() {
    let plan = Plan {
        reckless: true,
        ..loaded(32)
    };
    each_seed(&plan, |world| {
        world.run_for(200_000);
        world.pause(0);
        world.run_for(1_000_000);
        world
            .command(1, Command::Primary { force: true })
            .expect("the operator's word");
        let _ = world.write(1, 0, BLOCK, false);
        world.run_for(500_000);
        world.resume(0, true);
        // The paused node finishes what it had begun and answers more, before or after it notices.
        let apart = |w: &mut World| {
            (0..2).any(|n| w.connection(n) == Some(ConnectionState::StandAlone))
                || (w.role(0) == Some(Role::Secondary) && is_up_to_date(w, 1))
        };
        world
            .wait("split brain is detected", apart)
            .expect("detected");
        assert_ne!(world.connection(0), Some(ConnectionState::Connected));
    });
}

#[test]
fn split_brain_ends_only_by_the_operators_word() {
    let plan = Plan {
        reckless: true,
        ..Plan::scripted(32)
    };
    each_seed(&plan, |world| {
        world.block_network(true, true);
        wait_alone(world, 0);
        wait_alone(world, 1);
        world
            .command(1, Command::Primary { force: true })
            .expect("the operator's word");
        for n in 0..2 {
            world.write(n, 0, BLOCK, true).expect("room");
            world.wait_answers().expect("each answers alone");
        }
        let mine = world.sector(0, 0);
        world.block_network(false, false);
        world.run_for(5_000_000);
        for n in 0..2 {
            assert_eq!(
                world.connection(n),
                Some(ConnectionState::StandAlone),
                "node {n}"
            );
            assert_eq!(world.role(n), Some(Role::Primary));
        }
        world
            .command(1, Command::Secondary { force: true })
            .expect("demoted");
        world
            .command(
                1,
                Command::Connect {
                    discard_my_data: true,
                },
            )
            .expect("gives up");
        world
            .command(
                0,
                Command::Connect {
                    discard_my_data: false,
                },
            )
            .expect("connects");
        world.wait_in_sync().expect("resolved");
        assert_eq!(world.sector(1, 0), mine);
    });
}

#[test]
fn disk_error_on_the_secondary_costs_redundancy_only() {
    each_seed(&loaded(32), |world| {
        world.run_for(200_000);
        world.fail_disk(1, 300_000);
        world.run_for(500_000);
        assert_eq!(world.role(0), Some(Role::Primary));
        assert!(is_up_to_date(world, 0));
        world.write(0, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("the Primary goes on");
    });
}

#[test]
fn disk_error_on_the_primary_leaves_a_good_secondary() {
    each_seed(&loaded(32), |world| {
        world.run_for(200_000);
        world.fail_disk(0, 300_000);
        world.run_for(500_000);
        world.power_cut(0);
        world.run_for(700_000);
        // The oracle checks here that every answered write is on node 1's disk.
        world
            .command(1, Command::Primary { force: true })
            .expect("the operator's word");
        world.run_for(200_000);
        world.boot(0);
        world.wait_in_sync().expect("with a new disk");
    });
}

#[test]
fn force_beside_a_connected_primary_is_refused() {
    each_seed(&loaded(16), |world| {
        world.run_for(100_000);
        let refusal = world.command(1, Command::Primary { force: true });
        assert!(refusal.is_err(), "a second Primary: {refusal:?}");
        assert_eq!(world.role(1), Some(Role::Secondary));
    });
}
