//! Whose data is newer: restarts, lost messages, split brain.

use super::*;

#[test]
fn both_cold_start_refuse_to_guess() {
    for seed in 0..SEEDS {
        let mut world = World::pair(seed, Plan::scripted(16));
        world.run_for(5_000_000);
        for n in 0..2 {
            assert_eq!(world.disk(n, 0), Some(DiskState::Inconsistent));
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

/// Numbers of frames, as docs/PROTOCOL.md has them.
const NEW_GENERATION: u8 = 15;
const NEW_GENERATION_REPLY: u8 = 16;

#[test]
fn s01_rejoin_after_a_clean_leave_keeps_the_survivors_bitmap() {
    each_seed(&Plan::scripted(32), |world| {
        for round in 0..3 {
            world.command(1, Command::Disconnect).expect("leaves");
            wait_alone(world, 0);
            for block in [3, 17, 20 + round] {
                world.write(0, block * BLOCK, BLOCK, false).expect("room");
            }
            world.wait_answers().expect("answered alone");
            let plain = Command::Connect {
                discard_my_data: false,
            };
            world.command(1, plain).expect("looks for its peer");
            world.command(0, plain).expect("looks for its peer");
            // The oracle compares the replicas as soon as both say that they are in sync.
            world.wait_in_sync().expect("in sync");
            assert_eq!(world.sector(1, 17 * BLOCK), world.sector(0, 17 * BLOCK));
        }
    });
}

#[test]
fn s02_a_generation_that_the_peer_never_learned_of() {
    for lost in [NEW_GENERATION, NEW_GENERATION_REPLY] {
        for seed in 0..SEEDS {
            let mut world = World::pair(seed, Plan::scripted(16));
            let receiver = usize::from(lost == NEW_GENERATION);
            world.drop_frame(receiver, lost);
            let answer = world.command(0, Command::NewCurrentUuid);
            assert!(!world.frame_awaited(receiver), "the frame was not sent");
            assert!(answer.is_err(), "agreed without the peer: {answer:?}");
            world.heal();
            assert_eq!(world.violation(), None, "seed {seed}");
        }
    }
}

#[test]
fn s04_a_stale_survivor_is_promoted_before_it_reconciles() {
    let plan = Plan {
        reckless: true,
        ..Plan::scripted(32)
    };
    each_seed(&plan, |world| {
        world.block_network(true, true);
        wait_alone(world, 0);
        wait_alone(world, 1);
        world.write(0, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("answered alone");
        world.kill(0);
        let refusal = world.command(1, Command::Primary { force: false });
        assert!(refusal.is_err(), "a guess: {refusal:?}");
        // It lacks the write. The operator insists, and writes too.
        world
            .command(1, Command::Primary { force: true })
            .expect("the operator's word");
        world.write(1, 4 * BLOCK, BLOCK, true).expect("room");
        world.wait_answers().expect("answered alone");
        world.boot(0);
        world.block_network(false, false);
        world.run_for(5_000_000);
        assert_eq!(world.role(0), Some(Role::Secondary));
        assert_eq!(world.role(1), Some(Role::Primary));
    });
}

#[test]
fn s14_a_stale_disk_comes_back() {
    each_seed(&loaded(32), |world| {
        world.copy_disks(1);
        // What follows is of a later generation.
        world.run_for(50_000);
        world.block_network(true, true);
        world.run_for(700_000);
        world.block_network(false, false);
        world.wait_in_sync().expect("in sync");
        world.run_for(150_000);
        world.power_cut(1);
        world.run_for(700_000);
        world.exchange_disks(1, true);
        world.boot(1);
        world.wait_in_sync().expect("resynced");
        assert_eq!(world.role(0), Some(Role::Primary));
    });
}

#[test]
fn s14_a_copy_of_the_present_generation_needs_new_metadata() {
    each_seed(&loaded(32), |world| {
        world.run_for(50_000);
        world.copy_disks(1);
        world.run_for(150_000);
        world.power_cut(1);
        world.run_for(700_000);
        world.exchange_disks(1, true);
        world.boot(1);
        let diskless = |w: &mut World| w.disk(1, 0) == Some(DiskState::Diskless);
        world.wait("no metadata", diskless).expect("told");
        let create = Command::CreateMd {
            volume: 0,
            force: true,
        };
        world.command(1, create).expect("created");
        world.wait_in_sync().expect("a full resync");
        assert_eq!(world.role(0), Some(Role::Primary));
    });
}

#[test]
fn s22_a_partitioned_old_primary_goes_on() {
    let plan = Plan {
        reckless: true,
        ..loaded(32)
    };
    each_seed(&plan, |world| {
        world.run_for(100_000);
        // Only what the Secondary says gets lost: the Primary must notice by itself.
        world.block_network(false, true);
        world.run_for(2_000_000);
        world
            .command(1, Command::Primary { force: true })
            .expect("the operator's word");
        world.run_for(300_000);
        world.block_network(false, false);
        world.run_for(5_000_000);
        let linked = (0..2).all(|n| world.connection(n) == Some(ConnectionState::Connected));
        assert!(!linked, "two Primaries work together");
    });
}

#[test]
fn power_cut_of_both_in_either_order_of_return() {
    for first in [0, 1] {
        each_seed(&loaded(32), |world| {
            world.run_for(200_000);
            world.power_cut_of_both();
            world.run_for(100_000);
            world.boot(first);
            world.run_for(2_000_000);
            world.boot(1 - first);
            world.run_for(1_000_000);
        });
    }
}

const SYNC_START: u8 = 17;
const SYNC_REPLY: u8 = 25;

#[test]
fn a_copy_given_up_that_never_learned_of_it_is_no_common_ground() {
    let plan = Plan {
        reckless: true,
        ..Plan::scripted(32)
    };
    for lost in [SYNC_REPLY, SYNC_START] {
        for forced in [false, true] {
            each_seed(&plan, |world| {
                // Whose operator is told nothing: the Primary has agreed, and its consent is lost.
                world.drop_frame(1, lost);
                world.order(1, Command::Invalidate { volume: 0 });
                let gone = |w: &mut World| !w.frame_awaited(1);
                world.wait("the frame", gone).expect("it is sent");
                world.block_network(true, true);
                wait_alone(world, 0);
                world.write(0, 0, BLOCK, true).expect("room");
                world.wait_answers().expect("answered alone");
                let mine = world.sector(0, 0);
                if forced {
                    wait_alone(world, 1);
                    let force = Command::Primary { force: true };
                    world.command(1, force).expect("the operator's word");
                    world.write(1, 4 * BLOCK, BLOCK, true).expect("room");
                    world.wait_answers().expect("answered alone");
                }
                world.block_network(false, false);
                if forced {
                    world.run_for(5_000_000);
                    for n in 0..2 {
                        assert_eq!(world.role(n), Some(Role::Primary), "node {n}");
                        let alone = Some(ConnectionState::StandAlone);
                        assert_eq!(world.connection(n), alone, "node {n}");
                    }
                } else {
                    world.wait_in_sync().expect("given up after all");
                }
                assert_eq!(world.sector(0, 0), mine, "what was answered alone is there");
            });
        }
    }
}
