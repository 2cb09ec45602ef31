//! Crashes at every action, copies that were never whole, and nodes that hear of each other late.

use super::*;

/// Runs `script` again and again, with a crash of node `n` after one more action each time, until the crash comes too late
/// for it; the pair must be healthy afterwards.
fn at_every_action(
    n: usize,
    power_cut: bool,
    before: impl Fn(&mut World),
    script: impl Fn(&mut World),
) {
    for actions in 0..200 {
        let seed = actions % SEEDS;
        let mut world = World::healthy_pair(seed, Plan::scripted(16)).expect("a healthy pair");
        before(&mut world);
        world.crash_in(n, actions, power_cut);
        script(&mut world);
        let late = world.crash_awaited(n);
        world.heal();
        let what = format!("node {n}, power cut {power_cut}, after {actions} actions");
        assert_eq!(world.violation(), None, "{what}");
        if late {
            assert!(actions > 4, "the script does too little");
            return;
        }
    }
    panic!("there is always one more action");
}

fn every_crash(before: impl Fn(&mut World), script: impl Fn(&mut World)) {
    for n in 0..2 {
        for power_cut in [false, true] {
            at_every_action(n, power_cut, &before, &script);
        }
    }
}

#[test]
fn a_crash_at_every_action_of_a_handshake_and_a_resync() {
    every_crash(
        |world| diverge(world, 3),
        |world| {
            let _ = world.run_until(400_000, |w| is_up_to_date(w, 1));
        },
    );
}

#[test]
fn a_crash_at_every_action_of_a_write_alone() {
    every_crash(
        |world| world.block_network(true, true),
        |world| {
            let _ = world.write(0, 0, BLOCK, true);
            world.run_for(450_000);
            world.block_network(false, false);
            world.run_for(200_000);
        },
    );
}

#[test]
fn a_crash_at_every_action_of_a_change_of_roles() {
    every_crash(
        |world| {
            let _ = world.write(0, 0, BLOCK, false);
            world.run_for(2_000);
        },
        |world| {
            world.order(0, Command::Secondary { force: true });
            world.run_for(20_000);
            world.order(1, Command::Primary { force: false });
            world.run_for(20_000);
        },
    );
}

#[test]
fn a_crash_at_every_action_of_a_start() {
    for n in 0..2 {
        for power_cut in [false, true] {
            at_every_action(
                n,
                power_cut,
                |world| {
                    let _ = world.write(0, 0, 4 * BLOCK, false);
                    world.run_for(150);
                    world.power_cut(n);
                    world.run_for(500_000);
                },
                |world| {
                    world.boot(n);
                    world.run_for(300_000);
                },
            );
        }
    }
}

#[test]
fn s09_a_peer_promoted_before_its_loss_is_noticed() {
    let plan = Plan {
        reckless: true,
        ..Plan::scripted(32)
    };
    each_seed(&plan, |world| {
        // The Primary sleeps, its clock too: when it wakes up it has noticed nothing yet.
        world.write(0, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("answers");
        world.pause(0);
        wait_alone(world, 1);
        let force = Command::Primary { force: true };
        world.command(1, force).expect("the operator's word");
        world.write(1, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("answered alone");
        let theirs = world.sector(1, 0);
        world.resume(0, false);
        // The oracle judges that these are not answered in the generation that the other went on from.
        for block in 0..6 {
            let _ = world.write(0, block * BLOCK, BLOCK, block % 2 == 0);
            world.run_for(70_000);
        }
        world.run_for(5_000_000);
        assert_eq!(world.sector(1, 0), theirs, "overwritten without a word");
        assert_ne!(world.connection(1), Some(ConnectionState::Connected));
    });
}

#[test]
fn s10_writes_that_wait_begin_no_generation() {
    each_seed(&Plan::scripted(32), |world| {
        let generation = |w: &World| w.status(0).map(|s| s.volumes[0].current_uuid);
        let before = generation(world);
        world.command(0, Command::SuspendIo).expect("suspended");
        world.block_network(true, true);
        wait_alone(world, 0);
        // They wait outside.
        let taken = world.write(0, 0, BLOCK, true);
        world.run_for(2_000_000);
        assert_eq!(taken, None, "taken while suspended");
        assert_eq!(
            generation(world),
            before,
            "a new generation without a write"
        );
        world.command(0, Command::ResumeIo).expect("resumed");
        world.write(0, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("answered alone");
        assert_ne!(
            generation(world),
            before,
            "answered in the peer's generation"
        );
    });
}

#[test]
fn s20_a_half_rebuilt_copy_is_not_trusted_after_a_restart() {
    each_seed(&Plan::scripted(128), |world| {
        diverge(world, 120);
        let copied = |w: &World, b: usize| w.sector(1, b * BLOCK) == w.sector(0, b * BLOCK);
        let overwritten = |w: &mut World| (0..120).any(|block| copied(w, block));
        world
            .wait("the first block", overwritten)
            .expect("the resync runs");
        world.kill(0);
        // What the target says of itself survives its own loss of power, however often.
        for round in 0..3 {
            world.power_cut(1);
            world.run_for(100_000 + round * 77);
            world.boot(1);
            let known = |w: &mut World| w.disk(1, 0) > Some(DiskState::Negotiating);
            world.wait("the attach", known).expect("it is attached");
            assert_eq!(world.disk(1, 0), Some(DiskState::Inconsistent));
            for force in [false, true] {
                let refusal = world.command(1, Command::Primary { force });
                assert!(refusal.is_err(), "a half copy was promoted: {refusal:?}");
            }
        }
        world.boot(0);
        world
            .command(0, Command::Primary { force: true })
            .expect("the whole copy");
        world.wait_in_sync().expect("in sync");
    });
}

#[test]
fn both_cold_start_in_either_order_and_go_on() {
    for first in 0..2 {
        each_seed(&Plan::scripted(32), |world| {
            let _ = world.write(0, 0, 4 * BLOCK, true);
            world.wait_answers().expect("answers");
            let kept = world.sector(0, 0);
            let _ = world.write(0, 8 * BLOCK, 4 * BLOCK, false);
            world.run_for(180);
            world.power_cut_of_both();
            world.boot(first);
            world.run_for(900_000);
            world.boot(1 - first);
            world.wait_in_sync().expect("nobody's word is needed");
            for n in 0..2 {
                assert_eq!(world.sector(n, 0), kept, "what was flushed is there");
                assert_eq!(world.role(n), Some(Role::Secondary));
            }
        });
    }
}

/// The source of a resync has sent its end, loses the connection and stops before the generation in which it would have gone
/// on alone is durable. The target, which got that end, has all that was answered: the source may become its target.
#[test]
fn a_source_stops_as_the_target_becomes_whole() {
    let mut struck = 0;
    for moment in 0..120 {
        let mut world = World::healthy_pair(moment % SEEDS, Plan::scripted(32)).expect("a pair");
        diverge(&mut world, 3);
        wait_resync(&mut world);
        world.run_for(moment * 50);
        world.order(0, Command::Disconnect);
        let generation = |w: &World, n: usize| w.status(n).map(|s| s.volumes[0].current_uuid);
        let apart = |w: &mut World| is_up_to_date(w, 1) && generation(w, 0) != generation(w, 1);
        let whole = world.run_until(2_000, apart);
        world.power_cut(0);
        world.boot(0);
        let follows = |w: &mut World| w.disk(0, 0) == Some(DiskState::Inconsistent);
        struck += u64::from(whole && world.run_until(1_000_000, follows));
        world.heal();
        assert_eq!(world.violation(), None, "moment {moment}");
    }
    assert!(struck > 0, "the moment was never met");
}
