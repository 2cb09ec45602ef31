//! A fence that was held when its node died, and the disk that comes back with the word of it.

use super::*;

/// Node 0 holds a fence; then it loses the disk of volume 0, of which node 1 has everything, while volume 1 has yet to get in sync.
fn holder_loses_its_disk(world: &mut World) -> Episode {
    let episode = part(world);
    write(world, 0, 2);
    write(world, 1, 24);
    let pause = Command::PauseSync { volume: Some(1) };
    world.command(0, pause).expect("paused");
    meet(world);
    let first = |w: &mut World| {
        let states = w.status(0).map(|s| [0, 1].map(|v| s.volumes[v].peer_disk));
        states == Some([DiskState::UpToDate, DiskState::Inconsistent])
    };
    world.wait("the first volume", first).expect("in sync");
    world.remove_disk(0, 0);
    write(world, 0, 4);
    assert_eq!(held(world, 0), Some(episode), "not given back yet");
    episode
}

#[test]
fn a_disk_that_was_lost_under_a_holder_is_not_promoted_by_its_record() {
    // Who can be asked: both, the arbiter, the peer.
    for cut in [[false; 3], [false, false, true], [true, false, false]] {
        each_seed(&fenced(32, 2), |world| {
            holder_loses_its_disk(world);
            world.power_cut(0);
            world.block_network(true, true);
            world.cut_management(cut);
            world.run_for(DECIDED);
            world.boot(0);
            world.run_for(DECIDED);
            refused(world, 0);
            assert_eq!(world.disk(0, 0), Some(DiskState::Outdated));
            world.cut_management([false; 3]);
            meet(world);
            wait_over(world);
        });
    }
}

#[test]
fn a_disk_that_was_lost_in_the_moment_of_the_unfence_is_not_promoted_by_its_record() {
    each_seed(&fenced(16, 1), |world| {
        let episode = part(world);
        write(world, 0, 4);
        meet(world);
        let whole = |w: &mut World| w.disk(1, 0) == Some(DiskState::UpToDate);
        world.wait("the target is whole", whole).expect("whole");
        assert_eq!(held(world, 0), Some(episode));
        world.hang_disk(0, DECIDED);
        world.run_for(DECIDED / 10);
        world.remove_disk(0, 0);
        write(world, 0, 4);
        world.power_cut(0);
        world.block_network(true, true);
        world.run_for(DECIDED);
        world.boot(0);
        world.run_for(DECIDED);
        refused(world, 0);
        meet(world);
        wait_over(world);
    });
}

#[test]
fn who_held_a_fence_and_was_off_goes_on_when_the_arbiter_or_the_peer_says_that_it_holds_it() {
    for cut in [[false, true, true], [true, false, false]] {
        each_seed(&fenced(16, 1), |world| {
            let episode = part(world);
            write(world, 0, 4);
            world.power_cut(0);
            world.cut_management(cut);
            world.boot(0);
            world.run_for(DECIDED);
            world.command(0, PROMOTE).expect("it has everything");
            assert_eq!(held(world, 0), Some(episode), "the same one");
            write(world, 0, 4);
            meet(world);
            world.cut_management([false; 3]);
            wait_over(world);
        });
    }
}

#[test]
fn who_held_a_fence_and_was_off_waits_when_nobody_answers_and_goes_on_by_the_operators_word() {
    each_seed(&fenced(16, 1), |world| {
        part(world);
        write(world, 0, 4);
        world.power_cut(0);
        world.cut_management([true; 3]);
        world.boot(0);
        world.run_for(DECIDED);
        refused(world, 0);
        world
            .command(0, Command::Primary { force: true })
            .expect("the operator says so");
        write(world, 0, 4);
        world.cut_management([false; 3]);
        meet(world);
        wait_over(world);
    });
}

#[test]
fn without_an_arbiter_a_holder_that_was_off_asks_its_peer_and_goes_on_if_that_is_silent() {
    let plan = || {
        let mut plan = fenced(32, 2);
        plan.fencing.arbiter = false;
        plan
    };
    each_seed(&plan(), |world| {
        let episode = part(world);
        write(world, 0, 4);
        world.power_cut(0);
        world.power_cut(1);
        world.boot(0);
        world.run_for(DECIDED);
        world
            .command(0, PROMOTE)
            .expect("nobody else is to be asked");
        assert_eq!(held(world, 0), Some(episode));
        write(world, 0, 4);
        world.boot(1);
        meet(world);
        wait_over(world);
    });
    each_seed(&plan(), |world| {
        holder_loses_its_disk(world);
        world.power_cut(0);
        world.block_network(true, true);
        world.run_for(DECIDED);
        world.boot(0);
        world.run_for(DECIDED);
        refused(world, 0);
        meet(world);
        wait_over(world);
    });
}

#[test]
fn the_holders_disk_is_replaced_before_the_arbiter_has_heard_of_the_unfence() {
    for peer_endpoint in [true, false] {
        let mut plan = fenced(16, 1);
        plan.fencing.peer_endpoint = peer_endpoint;
        each_seed(&plan, |world| {
            world.block_network(true, true);
            let episode = wait_held(world, 0);
            write(world, 0, 4);
            // What it says to the others does not arrive.
            world.cut_management([true, false, true]);
            meet(world);
            assert_eq!(wait_releasing(world, 0), episode);
            world.power_cut(0);
            world.exchange_disks(0, false);
            world.cut_management([false; 3]);
            world.boot(0);
            let create = Command::CreateMd {
                volume: 0,
                force: true,
            };
            world.run_for(DECIDED / 10);
            world.command(0, create).expect("a new disk");
            wait_over(world);
            world.command(1, PROMOTE).expect("nobody is fenced");
        });
    }
}
