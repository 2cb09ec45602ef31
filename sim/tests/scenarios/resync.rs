//! Resyncs, disturbed in every way.

use super::*;
use replication::api::ResyncConfig;

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

/// Numbers of frames, as docs/PROTOCOL.md has them.
const ACK: u8 = 10;
const SYNC_START: u8 = 17;
const SYNC_END: u8 = 20;

#[test]
fn s05_the_end_of_a_resync_is_lost() {
    for (receiver, kind) in [(1, SYNC_END), (1, SYNC_START), (0, ACK)] {
        for more in [0, 5] {
            each_seed(&Plan::scripted(64), |world| {
                diverge(world, 1);
                world.drop_frame(receiver, kind);
                let lost = |w: &mut World| !w.frame_awaited(receiver);
                world.wait("the frame", lost).expect("it is sent");
                for block in 0..more {
                    let _ = world.write(0, (20 + block) * BLOCK, BLOCK, false);
                }
                world.wait_answers().expect("answers");
                world.wait_in_sync().expect("in sync");
            });
        }
    }
}

#[test]
fn s05_the_end_of_a_resync_is_lost_and_the_source_dies() {
    each_seed(&Plan::scripted(64), |world| {
        diverge(world, 8);
        world.drop_frame(1, SYNC_END);
        let lost = |w: &mut World| !w.frame_awaited(1);
        world.wait("the frame", lost).expect("it is sent");
        world.power_cut(0);
        world.run_for(1_000_000);
        world.boot(0);
    });
}

#[test]
fn s06_a_slow_local_write_during_the_resync_keeps_its_bit() {
    each_seed(&Plan::scripted(64), |world| {
        diverge(world, 60);
        wait_resync(world);
        // The source's own disk is slower than the way to the target and back.
        world.slow_disk(0, 400_000);
        for block in 0..20 {
            let _ = world.write(0, block * BLOCK, BLOCK, false);
            world.run_for(500);
        }
        world.tear_link([true, true]);
        world.wait_in_sync().expect("in sync");
    });
}

#[test]
fn s12_zero_blocks_do_not_diverge() {
    use sim::Discard;
    for discard in [
        [Discard::Zeroes, Discard::Ignore],
        [Discard::Ignore, Discard::Zeroes],
        [Discard::Zeroes; 2],
    ] {
        let plan = Plan {
            discard,
            ..Plan::scripted(64)
        };
        each_seed(&plan, |world| {
            for block in 0..64 {
                let _ = world.write(0, block * BLOCK, BLOCK, false);
                world.wait_answers().expect("answers");
            }
            world.block_network(true, true);
            wait_alone(world, 0);
            world.zero(0, 0, 16 * BLOCK).expect("room");
            world.discard(0, 16 * BLOCK, 16 * BLOCK).expect("room");
            world.write(0, 40 * BLOCK, 1, false).expect("room");
            world.wait_answers().expect("answers");
            world.block_network(false, false);
            world.wait_in_sync().expect("in sync");
        });
    }
}

#[test]
fn s15_interrupted_many_times_with_swapped_roles() {
    each_seed(&Plan::scripted(128), |world| {
        diverge(world, 100);
        for round in 0..6 {
            let target = |w: &mut World| {
                (0..2).any(|n| w.disk(n, 0) == Some(DiskState::Inconsistent))
                    || w.disk(1, 0) == Some(DiskState::UpToDate)
            };
            world.wait("a resync", target).expect("it goes on");
            world.run_for(round * 350);
            match round % 3 {
                0 => world.tear_link([true, true]),
                1 => world.order(0, Command::Secondary { force: true }),
                _ => world.order(0, Command::Primary { force: false }),
            }
            let _ = world.write(0, 30 * BLOCK, BLOCK, false);
        }
    });
}

#[test]
fn s21_the_only_good_copy_is_lost_in_mid_resync() {
    for seed in 0..SEEDS {
        let mut world = World::healthy_pair(seed, Plan::scripted(128)).expect("a healthy pair");
        diverge(&mut world, 120);
        wait_resync(&mut world);
        world.kill(0);
        world.exchange_disks(0, false);
        world.boot(0);
        world.run_for(5_000_000);
        // Nobody has a whole copy: no guess, and a reason.
        for n in 0..2 {
            let refusal = world.command(n, Command::Primary { force: false });
            assert!(refusal.is_err_and(|why| !why.is_empty()), "node {n}");
        }
        assert_eq!(world.violation(), None, "seed {seed}");
    }
}

/// By digests, and of zero blocks that stay holes or not.
fn resyncs(plan: &Plan) -> impl Iterator<Item = Plan> {
    [(true, true), (false, false), (true, false)]
        .map(|(csums, rs_discard)| Plan {
            resync: [ResyncConfig {
                csums,
                rs_discard,
                ..ResyncConfig::default()
            }; 2],
            ..plan.clone()
        })
        .into_iter()
}

#[test]
fn s07_a_write_while_the_resync_is_paused() {
    for pauser in 0..2 {
        each_seed(&Plan::scripted(128), |world| {
            diverge(world, 100);
            wait_resync(world);
            let pause = Command::PauseSync { volume: Some(0) };
            world.command(pauser, pause).expect("paused");
            world.run_for(5_000);
            for round in 0..60 {
                let _ = world.write(0, (round * 37 % 120) * BLOCK + round % 8, 9, round % 7 == 0);
                world.run_for(100);
            }
            world.wait_answers().expect("mirrored meanwhile");
            let resume = Command::ResumeSync { volume: None };
            world.command(pauser, resume).expect("resumed");
            world.wait_in_sync().expect("in sync");
        });
    }
}

#[test]
fn s12_digests_and_zero_blocks_do_not_diverge() {
    for plan in resyncs(&Plan::scripted(64)) {
        each_seed(&plan, |world| {
            for block in 0..64 {
                let _ = world.write(0, block * BLOCK, BLOCK, false);
                world.wait_answers().expect("answers");
            }
            world.block_network(true, true);
            wait_alone(world, 0);
            world.zero(0, 0, 16 * BLOCK).expect("room");
            world.discard(0, 16 * BLOCK, 16 * BLOCK).expect("room");
            world.write(0, 40 * BLOCK, 1, false).expect("room");
            world.wait_answers().expect("answers");
            world.block_network(false, false);
            for round in 0..40 {
                let _ = world.write(0, round * 11 % 500, 1 + round % 11, false);
                let _ = world.zero(0, (round * 7 % 60) * BLOCK, BLOCK);
                world.run_for(60);
            }
            world.wait_in_sync().expect("in sync");
        });
    }
}

#[test]
fn s15_paused_resumed_and_interrupted_with_swapped_roles() {
    for plan in resyncs(&Plan::scripted(128)) {
        each_seed(&plan, |world| {
            diverge(world, 100);
            for round in 0..9 {
                world.run_for(round * 200);
                match round % 5 {
                    0 => world.order(1, Command::PauseSync { volume: None }),
                    1 => world.tear_link([true, true]),
                    2 => world.order(0, Command::Secondary { force: true }),
                    3 => world.order(1, Command::ResumeSync { volume: None }),
                    _ => world.order(0, Command::Primary { force: false }),
                }
                let _ = world.write(0, 30 * BLOCK, BLOCK, false);
            }
        });
    }
}

#[test]
fn s17_a_node_stopped_in_mid_repair() {
    for stopped in 0..2 {
        each_seed(&loaded(128), |world| {
            let verify = Command::Verify {
                volume: 0,
                start: None,
                stop: None,
                repair: true,
            };
            world.command(0, verify).expect("a verify begins");
            world.run_for(2_000);
            world.power_cut(stopped);
            world.run_for(700_000);
            world.boot(stopped);
        });
    }
}

#[test]
fn s18_peer_lost_in_mid_repair_does_not_hang() {
    each_seed(&Plan::scripted(128), |world| {
        let verify = Command::Verify {
            volume: 0,
            start: None,
            stop: None,
            repair: true,
        };
        world.command(0, verify).expect("a verify begins");
        world.block_network(true, true);
        world.write(0, 0, 16 * BLOCK, true).expect("room");
        world.wait_answers().expect("the Primary goes on");
        world.block_network(false, false);
        world.wait_in_sync().expect("in sync again");
        world.command(0, verify).expect("and again");
    });
}

#[test]
fn a_copy_given_up_while_everything_breaks() {
    for command in [
        Command::Invalidate { volume: 0 },
        Command::InvalidateRemote { volume: 0 },
    ] {
        let giver = usize::from(matches!(command, Command::Invalidate { .. }));
        for broken in 0..3 {
            each_seed(&loaded(128), |world| {
                world.command(giver, command).expect("agreed");
                world.run_for(1_500);
                match broken {
                    0 => world.tear_link([true, true]),
                    1 => {
                        world.power_cut(1);
                        world.run_for(600_000);
                        world.boot(1);
                    }
                    _ => {
                        world.kill(0);
                        world.run_for(600_000);
                        world.boot(0);
                    }
                }
            });
        }
    }
}
