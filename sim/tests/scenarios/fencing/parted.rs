//! What two nodes may have answered beside each other, and what an old disk says of a fence.

use super::*;
use replication::api::Protocol;

const ONLY_ARBITER: [bool; 3] = [false, false, true];

/// Until the operator's word by which the pair began counts no more: it stands in for a fence.
fn forget_words(world: &mut World) {
    world.run_for(DECIDED);
}

fn resource_only() -> Plan {
    let mut plan = fenced(16, 1);
    plan.fencing.policy = Policy::ResourceOnly;
    plan
}

/// Node 0 answers alone, and nobody has granted it a fence.
fn goes_on_unfenced(world: &mut World) {
    forget_words(world);
    world.cut_management([true, false, true]);
    world.block_network(true, true);
    wait_alone(world, 0);
    write(world, 0, 4);
    assert_eq!(held(world, 0), None);
    assert_eq!(world.role(0), Some(Role::Primary));
}

#[test]
fn by_resource_only_a_successor_may_lack_what_its_primary_answered_while_it_asked() {
    // It hears of its successor, or dies before.
    for dies in [false, true] {
        each_seed(&resource_only(), |world| {
            goes_on_unfenced(world);
            if dies {
                world.power_cut(0);
            }
            world.command(1, PROMOTE).expect("the arbiter grants it");
            world.write(1, 8 * BLOCK, BLOCK, true).expect("room");
            world.wait_answers().expect("it serves");
            world.cut_management([false; 3]);
            if dies {
                world.boot(0);
            }
            let yields = |w: &mut World| w.role(0) == Some(Role::Secondary);
            world.wait("the old Primary", yields).expect("it yields");
            meet(world);
            world.run_for(DECIDED);
            // Two histories: nobody's is given up without an operator.
            for n in [0, 1] {
                assert_eq!(world.connection(n), Some(ConnectionState::StandAlone));
            }
        });
    }
}

/// docs/FENCING.md, "Freeze".
#[test]
fn s22_what_a_paused_old_primary_answers_by_protocol_a_before_it_finds_its_peer_gone_is_lost() {
    let mut plan = fenced(16, 1);
    plan.mirroring.protocol = Protocol::A;
    each_seed(&plan, |world| {
        forget_words(world);
        // The extent is hot then.
        write(world, 0, 1);
        world.slow_disk(0, DECIDED);
        let answered = world.write(0, 2 * BLOCK, BLOCK, false).expect("room");
        world.run_for(300);
        world.pause(0);
        wait_alone(world, 1);
        world.command(1, PROMOTE).expect("the arbiter grants it");
        let served = world.write(1, BLOCK, BLOCK, true).expect("room");
        world
            .wait("the successor", |w| !w.open(served))
            .expect("it serves");
        assert!(world.open(answered) && world.role(0) == Some(Role::Primary));
        // Its clock stood still, too: for a moment it believes that its peer is there.
        world.resume(0, false);
        world
            .wait("the answer", |w| !w.open(answered))
            .expect("it answers");
        wait_over(world);
        let roles = [0, 1].map(|n| world.role(n));
        assert_eq!(roles, [Some(Role::Secondary), Some(Role::Primary)]);
    });
}

fn broken(world: &World) -> Option<&'static str> {
    world.violation().map(|violation| violation.rule)
}

#[test]
fn a_successor_that_lacks_what_was_answered_under_a_fence_is_noticed_by_resource_only_too() {
    for dies in [false, true] {
        for seed in 0..SEEDS {
            let mut world = World::healthy_pair(seed, resource_only()).expect("a healthy pair");
            forget_words(&mut world);
            world.cut_management(ONLY_ARBITER);
            world.block_network(true, true);
            write(&mut world, 0, 2);
            wait_held(&mut world, 0);
            write(&mut world, 0, 2);
            if dies {
                world.power_cut(0);
            }
            world.blank_arbiter();
            world.order(1, PROMOTE);
            world.run_for(DECIDED);
            let rule = if dies {
                "a node with older data than its peer is not promoted"
            } else {
                "a fenced node is not promoted without force"
            };
            assert_eq!(broken(&world), Some(rule), "seed {seed}");
        }
    }
}

#[test]
fn an_old_disk_that_says_that_a_fence_is_held_which_was_given_back_fences_nobody() {
    each_seed(&fenced(32, 2), |world| {
        forget_words(world);
        part(world);
        write(world, 1, 24);
        let pause = Command::PauseSync { volume: Some(1) };
        world.command(0, pause).expect("paused");
        meet(world);
        let first = |w: &mut World| {
            let states = w.status(0).map(|s| [0, 1].map(|v| s.volumes[v].peer_disk));
            states == Some([DiskState::UpToDate, DiskState::Inconsistent])
        };
        world.wait("the first volume", first).expect("in sync");
        let old = held(world, 0).expect("not given back yet");
        world.run_for(DECIDED / 10);
        world.copy_disks(0);
        world
            .command(0, Command::ResumeSync { volume: None })
            .expect("resumed");
        wait_over(world);
        part(world);
        write(world, 0, 2);
        meet(world);
        wait_over(world);
        world.power_cut(0);
        world.block_network(true, true);
        world.run_for(DECIDED);
        world.exchange_disks(0, true);
        world.boot(0);
        world.run_for(DECIDED);
        assert_eq!(held(world, 0), Some(old), "the word of the old disk");
        refused(world, 0);
        world.command(1, PROMOTE).expect("it has everything");
        world.write(1, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("it serves");
        refused(world, 0);
        meet(world);
    });
}

#[test]
fn an_operators_word_that_no_disk_has_saved_in_time_does_not_take_effect_when_one_is_back() {
    each_seed(&fenced(16, 1), |world| {
        let episode = part(world);
        world.hang_disk(1, DECIDED);
        world.order(1, Command::Primary { force: true });
        // The operator is told, and does something else.
        world.run_for(10 * DECIDED);
        assert_eq!(world.role(1), Some(Role::Secondary));
        if world.disk(1, 0) <= Some(DiskState::Failed) {
            world
                .command(1, Command::Attach { volume: 0 })
                .expect("attached");
        }
        write(world, 0, 2);
        world.run_for(DECIDED);
        assert_eq!(world.role(1), Some(Role::Secondary));
        assert_eq!(held(world, 0), Some(episode));
        meet(world);
        wait_over(world);
    });
}
