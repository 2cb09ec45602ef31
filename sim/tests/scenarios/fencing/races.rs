//! Messages that come late, and moments that meet.

use super::*;

fn is_unfence(message: &Message) -> bool {
    matches!(message, Message::Question(_, _, Request::Unfence { .. }))
}

fn is_released(message: &Message) -> bool {
    matches!(message, Message::Answer(_, _, Answer::Released { .. }))
}

fn is_grant(message: &Message) -> bool {
    matches!(message, Message::Answer(_, _, Answer::Granted { .. }))
}

/// Waits until something was held back.
fn wait_message(world: &mut World) {
    let sent = |w: &mut World| w.held_back() > 0;
    world.wait("the message", sent).expect("it is sent");
}

#[test]
fn s26_an_unfence_that_comes_after_the_next_fence() {
    each_seed(&fenced(16, 1), |world| {
        world.hold_back(Some(is_unfence));
        let first = part(world);
        meet(world);
        world.wait_in_sync().expect("in sync");
        assert_eq!(wait_releasing(world, 0), first);
        wait_message(world);
        world.block_network(true, true);
        wait_alone(world, 0);
        let second = wait_held(world, 0);
        assert!(second > first, "a new loss takes a new number");
        write(world, 0, 8);
        world.hold_back(None);
        world.deliver_held();
        world.run_for(DECIDED);
        assert_eq!(world.holder(), Some((0, second)));
        assert_eq!(world.fencing_record(1).mark, Some(second));
        refused(world, 1);
        meet(world);
        wait_over(world);
    });
}

#[test]
fn s27_the_link_is_cut_as_the_last_volumes_resync_ends_on_its_target() {
    each_seed(&fenced(32, 2), |world| {
        let episode = part(world);
        write(world, 0, 8);
        write(world, 1, 24);
        meet(world);
        // The target knows it, and the source does not yet.
        let whole = |w: &mut World| (0..2).all(|v| w.disk(1, v) == Some(DiskState::UpToDate));
        world.wait("the target is whole", whole).expect("whole");
        assert_eq!(held(world, 0), Some(episode));
        world.tear_link([true, true]);
        world.block_network(true, true);
        wait_alone(world, 0);
        (0..2).for_each(|volume| write(world, volume, 2));
        world.run_for(DECIDED);
        assert_eq!(held(world, 0), Some(episode), "the same fence goes on");
        assert_eq!(world.holders(), [Some((0, episode))], "no unfence");
        refused(world, 1);
        meet(world);
        wait_over(world);
        assert_eq!(world.holders(), [Some((0, episode)), None]);
    });
}

#[test]
fn s27_the_link_is_cut_as_the_unfence_begins() {
    for delay in [0, 60, 150, 400, 1_000] {
        each_seed(&fenced(16, 2), |world| {
            let first = part(world);
            write(world, 1, 8);
            meet(world);
            assert_eq!(wait_releasing(world, 0), first);
            world.run_for(delay);
            world.tear_link([true, true]);
            world.block_network(true, true);
            wait_alone(world, 0);
            let second = wait_held(world, 0);
            assert!(second > first);
            write(world, 1, 2);
            world.run_for(DECIDED);
            assert_eq!(world.holder(), Some((0, second)));
            refused(world, 1);
            meet(world);
            wait_over(world);
        });
    }
}

#[test]
fn s28_reboot_between_the_unfence_and_its_acknowledgement() {
    for (lost, arrives) in [(is_unfence as Pick, false), (is_released, true)] {
        each_seed(&fenced(16, 1), |world| {
            world.hold_back(Some(lost));
            let episode = part(world);
            write(world, 0, 4);
            meet(world);
            assert_eq!(wait_releasing(world, 0), episode);
            wait_message(world);
            world.power_cut(0);
            world.lose_held();
            world.hold_back(None);
            world.run_for(DECIDED);
            if arrives {
                assert_eq!(world.fencing_record(1).mark, None);
            } else {
                assert_eq!(world.holder(), Some((0, episode)));
                refused(world, 1);
            }
            world.boot(0);
            wait_over(world);
            assert_eq!(world.holders(), [Some((0, episode)), None], "exactly once");
            world
                .command(1, PROMOTE)
                .expect("nobody is fenced any more");
        });
    }
}

#[test]
fn s28_the_fenced_node_reboots_between_the_unfence_and_its_acknowledgement() {
    for lost in [is_unfence as Pick, is_released] {
        each_seed(&fenced(16, 1), |world| {
            world.hold_back(Some(lost));
            let first = part(world);
            write(world, 0, 4);
            meet(world);
            assert_eq!(wait_releasing(world, 0), first);
            wait_message(world);
            world.power_cut(1);
            world.lose_held();
            world.hold_back(None);
            // The loss takes a new number, before a client is answered.
            wait_alone(world, 0);
            let second = wait_held(world, 0);
            assert!(second > first);
            write(world, 0, 2);
            assert_eq!(world.holder(), Some((0, second)));
            world.boot(1);
            wait_over(world);
        });
    }
}

#[test]
fn s29_a_grant_that_comes_after_the_peer_is_back() {
    for paths in [[false, false, true], [false; 3]] {
        each_seed(&fenced(16, 1), |world| {
            world.cut_management(paths);
            world.hold_back(Some(is_grant));
            let generation = |w: &World| w.status(0).map(|s| s.volumes[0].current_uuid);
            let before = generation(world);
            world.block_network(true, true);
            let waits = world.write(0, 0, BLOCK, false).expect("room");
            wait_alone(world, 0);
            wait_message(world);
            assert!(is_frozen(world, 0));
            world.run_for(DECIDED);
            assert!(world.open(waits), "answered before the grant");
            meet(world);
            world.wait_answers().expect("the peer is back");
            world.hold_back(None);
            world.deliver_held();
            world.cut_management([false; 3]);
            let over = |w: &mut World| {
                assert_eq!(held(w, 0), None, "a grant that is not needed counted");
                w.role(0) == Some(Role::Primary) && is_over(w)
            };
            world.wait("no fence is left", over).expect("given back");
            world.wait_in_sync().expect("in sync");
            if paths[BETWEEN_NODES] {
                assert_eq!(generation(world), before, "no generation of its own");
            }
        });
    }
}

/// Both are Secondary, lose each other and are told to become Primary, node 1 so much later. Answers who is.
fn both_ask(world: &mut World, paths: [bool; 3], ahead: u64) -> Option<usize> {
    let demote = Command::Secondary { force: true };
    world.command(0, demote).expect("demoted");
    world.block_network(true, true);
    (0..2).for_each(|n| wait_alone(world, n));
    world.cut_management(paths);
    world.order(0, PROMOTE);
    world.run_for(ahead);
    world.order(1, PROMOTE);
    world.run_until(DECIDED, |w| {
        let primaries = (0..2).filter(|&n| w.role(n) == Some(Role::Primary));
        assert!(primaries.count() <= 1, "two Primaries");
        false
    });
    (0..2).find(|&n| world.role(n) == Some(Role::Primary))
}

#[test]
fn s31_both_nodes_ask_for_a_fence_at_once() {
    let undisturbed = [false; 3];
    let arbiter_only = [false, false, true];
    for (paths, ahead) in [
        (undisturbed, 0),
        (undisturbed, 100),
        (undisturbed, 3_000),
        (arbiter_only, 0),
        (arbiter_only, 5_000),
    ] {
        for arbiter in [true, false] {
            if !arbiter && paths == arbiter_only {
                continue;
            }
            let mut plan = fenced(16, 1);
            plan.fencing.arbiter = arbiter;
            each_seed(&plan, |world| {
                let winner = both_ask(world, paths, ahead).expect("somebody is Primary");
                assert!(held(world, winner).is_some(), "without a fence");
                assert_eq!(held(world, 1 - winner), None);
                world.write(winner, 0, BLOCK, true).expect("room");
                world.wait_answers().expect("it serves");
                refused(world, 1 - winner);
                world.cut_management(undisturbed);
                meet(world);
                wait_over(world);
            });
        }
    }
}

#[test]
fn s31_both_nodes_ask_at_once_and_the_arbiter_does_not_answer() {
    for ahead in [0, 100, 3_000] {
        each_seed(&fenced(16, 1), |world| {
            // Whom the arbiter may have granted it nobody knows: it may be that neither is.
            both_ask(world, [true, true, false], ahead);
            world.cut_management([false; 3]);
            meet(world);
            wait_over(world);
        });
    }
}

#[test]
fn s31_a_primary_and_its_standby_ask_at_once() {
    each_seed(&fenced(16, 1), |world| {
        world.block_network(true, true);
        wait_alone(world, 1);
        world.order(1, PROMOTE);
        wait_held(world, 0);
        world.run_for(DECIDED);
        assert_eq!(world.role(0), Some(Role::Primary), "the Primary goes first");
        refused(world, 1);
        write(world, 0, 4);
        meet(world);
        wait_over(world);
    });
}

#[test]
fn what_the_peer_lost_with_its_power_the_node_that_yields_to_it_gives_up() {
    let mut plan = fenced(16, 1);
    plan.reckless = true;
    // So far that a resync of nothing is over before a word comes back.
    plan.net_delay = (3_000, 6_000);
    each_seed(&plan, |world| {
        world.run_for(4 * DECIDED);
        for block in 0..4 {
            world.write(0, block * BLOCK, BLOCK, false).expect("room");
            world
                .wait_answers()
                .expect("by both, and flushed by nobody");
        }
        // Back and forced before the other one has noticed.
        world.power_cut(1);
        world.block_network(true, true);
        world.boot(1);
        let up = |w: &mut World| w.disk(1, 0) == Some(DiskState::Consistent);
        world.wait("its disk", up).expect("attached");
        let force = Command::Primary { force: true };
        world.command(1, force).expect("the operator says so");
        let yields = |w: &mut World| w.role(0) == Some(Role::Secondary);
        world.wait("the old Primary", yields).expect("it yields");
        meet(world);
        wait_over(world);
        let roles = [0, 1].map(|n| world.role(n));
        assert_eq!(roles, [Some(Role::Secondary), Some(Role::Primary)]);
    });
}
