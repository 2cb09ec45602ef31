//! What DRBD's public test suite tries, in own words (reference/scenarios.md), as far as it concerns replication.

use super::*;
use replication::api::{ResyncConfig, ResyncLimits, Trouble};

fn verify(repair: bool) -> Command {
    Command::Verify {
        volume: 0,
        start: None,
        stop: None,
        repair,
    }
}

/// Blocks that the last verify of a node found to differ, once it has ended.
fn differing(world: &mut World, n: usize) -> u64 {
    let report = |w: &World| w.status(n).and_then(|s| s.volumes[0].verify);
    let ended = |w: &mut World| report(w).is_some_and(|r| r.finished && !r.running);
    world.wait("the verify", ended).expect("it ends");
    report(world).map_or(u64::MAX, |r| r.differing_blocks)
}

#[test]
fn suite_a_verify_under_load_finds_nothing_where_nothing_is() {
    each_seed(&loaded(128), |world| {
        for n in [0, 1, 0] {
            if world.command(n, verify(false)).is_ok() {
                assert_eq!(differing(world, n), 0, "a false positive");
            }
        }
    });
}

#[test]
fn suite_a_verify_finds_rot_and_mends_it_on_request() {
    each_seed(&Plan::scripted(64), |world| {
        for block in 0..64 {
            world.write(0, block * BLOCK, BLOCK, false).expect("room");
            world.wait_answers().expect("answers");
        }
        let good = world.sector(0, 83);
        world.rot(1, 83);
        world.rot(1, 84);
        world.rot(1, 200);
        world.command(0, verify(false)).expect("begins");
        assert_eq!(differing(world, 0), 2, "blocks of 4 KiB");
        assert_ne!(
            world.sector(1, 83),
            good,
            "without --repair nothing changes"
        );
        world.command(0, verify(true)).expect("begins");
        assert_eq!(differing(world, 0), 2);
        let mended =
            |w: &mut World| w.sector(1, 83) == good && w.sector(1, 200) == w.sector(0, 200);
        world
            .wait("the repair", mended)
            .expect("from where it was asked");
        world.command(0, verify(false)).expect("begins");
        assert_eq!(differing(world, 0), 0, "all of it is mended");
    });
}

#[test]
fn suite_a_resync_by_digests_sends_what_differs() {
    let sent = |csums: bool, seed: u64| {
        let plan = Plan {
            resync: [ResyncConfig {
                csums,
                ..ResyncConfig::default()
            }; 2],
            ..Plan::scripted(128)
        };
        let mut world = World::healthy_pair(seed, plan).expect("a healthy pair");
        for block in 0..128 {
            world.write(0, block * BLOCK, BLOCK, false).expect("room");
            world.wait_answers().expect("answers");
        }
        // Everything is marked, and two blocks are not the same.
        world.block_network(true, true);
        wait_alone(&mut world, 0);
        world.write(0, 5 * BLOCK, BLOCK, false).expect("room");
        world.write(0, 77 * BLOCK, BLOCK, false).expect("room");
        world.wait_answers().expect("answers");
        world.block_network(false, false);
        world.wait_in_sync().expect("in sync");
        world
            .command(1, Command::Invalidate { volume: 0 })
            .expect("given up");
        let before = world.frames_of_resync();
        let begun = |w: &mut World| w.disk(1, 0) == Some(DiskState::Inconsistent);
        world.wait("the resync", begun).expect("it begins");
        world.wait_in_sync().expect("in sync");
        let frames = world.frames_of_resync() - before;
        world.heal();
        assert_eq!(world.violation(), None, "seed {seed}");
        frames
    };
    for seed in 0..SEEDS {
        assert_eq!(sent(true, seed), 0, "an equal copy was sent again");
        assert!(sent(false, seed) > 0, "a resync without digests sends data");
    }
}

#[test]
fn suite_random_writes_over_many_cold_extents() {
    use sim::places::Places;
    let mut plan = Plan {
        atom: 8,
        ..Plan::scripted(16)
    };
    plan.volumes[0].places = Places::islands(5, 32, 8192);
    for external in [false, true] {
        plan.volumes[0].external = external;
        each_seed(&plan, |world| {
            for round in 0..3 {
                // Every island lies on a border of two extents.
                for island in [3, 0, 4, 1, 2, 0, 3] {
                    let first = island * 32 + (round * 7) % 16;
                    world.write(0, first, 16, round == 1).expect("room");
                }
                world.wait_answers().expect("answers");
                // Some cool in between, and the next round meets them cold.
                world.run_for(round as u64 * 8_000_000);
                world.write(0, 40, 8, false).expect("room");
                world.run_for(300);
                world.power_cut(round % 2);
                world.run_for(700_000);
                world.boot(round % 2);
                if round % 2 == 0 {
                    world
                        .wait_in_sync()
                        .expect("the crashed Primary is compared");
                    let promote = Command::Primary { force: false };
                    world.command(0, promote).expect("promoted");
                }
                world.wait_in_sync().expect("in sync");
            }
        });
    }
}

#[test]
fn suite_a_disk_that_hangs_is_given_up_in_time() {
    let plan = Plan {
        trouble: Trouble {
            disk_timeout: 400_000,
            ..Trouble::default()
        },
        ..Plan::scripted(32)
    };
    each_seed(&plan, |world| {
        world.hang_disk(0, 30_000_000);
        world.write(0, 0, BLOCK, true).expect("room");
        let since = world.now;
        world.wait_answers().expect("the peer's disk has it");
        assert!(
            world.now - since < 2_000_000,
            "clients wait for a hung disk"
        );
        assert!(!is_up_to_date(world, 0));
        world.read(0, 0, BLOCK).expect("room");
        world.wait_answers().expect("read from the peer");
        assert_eq!(world.role(0), Some(Role::Primary));
    });
}

/// A node that stood still comes back to operations that all look late. Its disk answers soon after.
#[test]
fn suite_a_node_that_stood_still_keeps_its_disk() {
    let plan = Plan {
        trouble: Trouble {
            disk_timeout: 400_000,
            ..Trouble::default()
        },
        ..Plan::scripted(32)
    };
    for n in 0..2 {
        each_seed(&plan, |world| {
            world.hang_disk(n, 3_100_000);
            world.write(0, 0, BLOCK, true).expect("room");
            world.run_for(20_000);
            world.pause(n);
            world.run_for(3_000_000);
            world.resume(n, true);
            world.run_for(200_000);
            assert!(world.disk(n, 0) >= Some(DiskState::Consistent), "node {n}");
            world.wait_in_sync().expect("together again");
        });
    }
}

#[test]
fn suite_a_disk_is_taken_out_and_back_again_and_again() {
    each_seed(&loaded(64), |world| {
        for round in 0..6_usize {
            let n = round % 2;
            let force = round % 3 == 2;
            let detached = world.command(n, Command::Detach { volume: 0, force });
            detached.expect("the peer has a good disk");
            let out = |w: &mut World| w.disk(n, 0) == Some(DiskState::Diskless);
            world.wait("the detach", out).expect("it comes out");
            world.run_for(40_000);
            let _ = world.write(0, round * BLOCK, BLOCK, true);
            world
                .command(n, Command::Attach { volume: 0 })
                .expect("attached");
            world.wait_in_sync().expect("what it missed is copied");
        }
        assert_eq!(world.role(0), Some(Role::Primary));
    });
}

#[test]
fn suite_a_promotion_while_the_nodes_connect() {
    each_seed(&Plan::scripted(32), |world| {
        let demote = Command::Secondary { force: true };
        world.command(0, demote).expect("demoted");
        for round in 0..12_u64 {
            world.tear_link([true, true]);
            world.run_for(round * 61);
            // In the middle of the handshake, from both sides.
            world.order(0, Command::Primary { force: false });
            world.order(1, Command::Primary { force: false });
            world.run_for(200_000);
            let primaries = (0..2).filter(|&n| world.role(n) == Some(Role::Primary));
            assert!(primaries.count() <= 1, "two Primaries");
            for n in 0..2 {
                let _ = world.command(n, demote);
            }
            world.wait_in_sync().expect("in sync");
        }
    });
}

#[test]
fn suite_clients_go_on_while_a_resync_keeps_its_least_rate() {
    let plan = Plan {
        resync: [ResyncConfig {
            limits: ResyncLimits {
                min_rate: Some(256 << 10),
                max_rate: None,
            },
            ..ResyncConfig::default()
        }; 2],
        depth: 30,
        ..Plan::scripted(128)
    };
    each_seed(&plan, |world| {
        world.block_network(true, true);
        wait_alone(world, 0);
        world.run_for(300_000);
        world.block_network(false, false);
        wait_resync(world);
        let since = world.now;
        world.wait_in_sync().expect("it progresses under load");
        // 512 KiB at 256 KiB a second, and as much again for the rest.
        assert!(world.now - since < 4_000_000, "starved by clients");
    });
}

#[test]
fn suite_discards_and_zeroes_everywhere() {
    each_seed(&Plan::scripted(64), |world| {
        for round in 0..40 {
            let first = round * 13 % 56 * BLOCK;
            world.write(0, first, 4 * BLOCK, false).expect("room");
            let _ = world.discard(0, first + BLOCK, 3 * BLOCK);
            let _ = world.zero(0, first + 2, 5);
            if round % 8 == 3 {
                world.tear_link([true, round % 16 == 3]);
            }
            world.run_for(200);
        }
        world.wait_answers().expect("answers");
        world.wait_in_sync().expect("in sync");
    });
}

#[test]
fn suite_data_goes_back_to_an_older_copy_only_by_command() {
    let plan = Plan {
        reckless: true,
        ..Plan::scripted(32)
    };
    each_seed(&plan, |world| {
        world.write(0, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("answers");
        let old = world.sector(1, 0);
        world.block_network(true, true);
        wait_alone(world, 0);
        wait_alone(world, 1);
        world.write(0, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("answered alone");
        // The operator wants the older data back: that of node 1, by force, and gives node 0's up.
        let demote = Command::Secondary { force: true };
        world.command(0, demote).expect("demoted");
        let force = Command::Primary { force: true };
        world.command(1, force).expect("the operator's word");
        world.write(1, 4 * BLOCK, BLOCK, true).expect("room");
        world.wait_answers().expect("answered alone");
        world.block_network(false, false);
        world.run_for(3_000_000);
        assert_ne!(world.sector(0, 0), old, "given up without a word");
        let connect = |discard_my_data| Command::Connect { discard_my_data };
        world.command(0, connect(true)).expect("gives up");
        world.command(1, connect(false)).expect("connects");
        world.wait_in_sync().expect("reverted");
        assert_eq!(world.sector(0, 0), old);
    });
}
