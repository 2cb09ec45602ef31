//! Fences: who may go on alone, and when both may again.

mod arbiter;
mod freeze;
mod held;
mod parted;
mod races;
mod unfence;

use super::*;
use ::fencing::{Episode, Own};
use replication::api::{Answer, FencingConfig, Policy, Protocol, Request};
use sim::management::{Message, Pick};

/// Simulated time in which whatever can be decided is.
const DECIDED: u64 = 3_000_000;
const BETWEEN_NODES: usize = 2;
const PROMOTE: Command = Command::Primary { force: false };

/// With an arbiter, a management endpoint on both nodes, and so many volumes.
fn fenced(blocks: usize, volumes: usize) -> Plan {
    let mut plan = Plan::scripted(blocks);
    plan.volumes = vec![plan.volumes[0]; volumes];
    plan.fencing = FencingConfig {
        policy: Policy::ResourceAndStonith,
        peer_endpoint: true,
        arbiter: true,
        timeout: plan.timers.timeout * 3,
        peer_wait: plan.timers.timeout / 2,
        retry: plan.timers.timeout / 10,
        ..FencingConfig::default()
    };
    plan
}

fn is_frozen(world: &World, n: usize) -> bool {
    world.status(n).is_some_and(|s| s.suspended.fencing)
}

/// The episode by which a node fences its peer.
fn held(world: &World, n: usize) -> Option<Episode> {
    world.fencing_record(n).own.holding()
}

fn wait_held(world: &mut World, n: usize) -> Episode {
    let holds = |w: &mut World| held(w, n).is_some() && !is_frozen(w, n);
    world.wait("the fence", holds).expect("a fence is held");
    held(world, n).expect("just seen")
}

fn wait_releasing(world: &mut World, n: usize) -> Episode {
    let gives = |w: &mut World| matches!(w.fencing_record(n).own, Own::Releasing(_));
    world.wait("the unfence", gives).expect("an unfence begins");
    world.fencing_record(n).own.episode().expect("just seen")
}

fn is_over(world: &World) -> bool {
    let clean = |n: usize| {
        let record = world.fencing_record(n);
        let stored = world.status(n).is_some_and(|s| !s.fencing.saving);
        stored && record.own == Own::None && record.mark.is_none()
    };
    clean(0) && clean(1) && world.holder().is_none()
}

/// Both nodes are in sync, and no fence is left anywhere.
fn wait_over(world: &mut World) {
    world.wait_in_sync().expect("in sync");
    world
        .wait("no fence is left", |w| is_over(w))
        .expect("the fence is given back");
}

/// Cuts the link, and waits until node 0 fences node 1.
fn part(world: &mut World) -> Episode {
    world.block_network(true, true);
    let episode = wait_held(world, 0);
    let marked = |w: &mut World| w.fencing_record(1).mark == Some(episode);
    world.wait("the mark", marked).expect("node 1 is fenced");
    episode
}

fn meet(world: &mut World) {
    world.block_network(false, false);
}

#[track_caller]
fn refused(world: &mut World, n: usize) {
    let answer = world.command(n, PROMOTE);
    assert!(answer.is_err(), "a fenced node was promoted: {answer:?}");
    assert_eq!(world.role(n), Some(Role::Secondary));
}

/// Writes on node 0, which answers.
fn write(world: &mut World, volume: usize, blocks: usize) {
    for block in 0..blocks {
        let written = world.write_to(0, volume, block * BLOCK, BLOCK);
        written.expect("room");
        world.wait_answers().expect("answered");
    }
}

#[test]
fn s22_an_isolated_old_primary_answers_nothing_that_its_successor_does_not_have() {
    each_seed(&fenced(16, 1), |world| {
        world.cut_management([true, false, true]);
        let open = world.write(0, 0, BLOCK, false).expect("room");
        world.block_network(true, true);
        wait_alone(world, 1);
        world.command(1, PROMOTE).expect("the arbiter grants it");
        let episode = held(world, 1).expect("with a fence");
        assert_eq!(world.holder(), Some((1, episode)));
        let answer = world.write(1, 0, BLOCK, true).expect("room");
        let answered = |w: &mut World| !w.open(answer);
        world.wait("the successor", answered).expect("it serves");
        world.run_for(DECIDED);
        assert!(world.open(open), "the isolated node has answered a write");
        assert!(is_frozen(world, 0));
        // It hears of its successor.
        world.cut_management([false; 3]);
        let yields = |w: &mut World| w.role(0) == Some(Role::Secondary);
        world.wait("the old Primary", yields).expect("it yields");
        refused(world, 0);
        meet(world);
        wait_over(world);
    });
}

#[test]
fn s22_a_paused_old_primary_yields_to_its_successor_and_follows_it() {
    // It may hear of its successor out of band, or over the link, first.
    for paths in [[false; 3], [true, false, true]] {
        each_seed(&fenced(16, 1), |world| {
            world.cut_management(paths);
            world.pause(0);
            wait_alone(world, 1);
            world.command(1, PROMOTE).expect("the arbiter grants it");
            world.write(1, 0, BLOCK, true).expect("room");
            world.wait_answers().expect("it serves");
            // It believes that nothing has happened, and clients with it.
            world.resume(0, true);
            let open = world.write(0, 0, BLOCK, false).expect("room");
            let both = |w: &mut World| {
                assert!(w.open(open) || w.role(0) == Some(Role::Secondary));
                w.connection(0) != Some(ConnectionState::Connected)
            };
            world.wait("the loss", both).expect("it is noticed");
            world.run_for(DECIDED);
            world.cut_management([false; 3]);
            wait_over(world);
            let roles = [0, 1].map(|n| world.role(n));
            assert_eq!(roles, [Some(Role::Secondary), Some(Role::Primary)]);
        });
    }
}

#[test]
fn s25_unfence_after_an_outage_without_writes() {
    each_seed(&fenced(16, 1), |world| {
        let copied = world.frames_of_resync();
        let episode = part(world);
        refused(world, 1);
        meet(world);
        wait_over(world);
        assert_eq!(world.frames_of_resync(), copied, "nothing was to be copied");
        assert_eq!(world.holders(), [Some((0, episode)), None]);
        let demote = Command::Secondary { force: true };
        world.command(0, demote).expect("demoted");
        world
            .command(1, PROMOTE)
            .expect("nobody is fenced any more");
    });
}

#[test]
fn s32_one_of_several_volumes_never_gets_in_sync() {
    each_seed(&fenced(16, 3), |world| {
        let episode = part(world);
        (0..3).for_each(|volume| write(world, volume, 8));
        let detach = Command::Detach {
            volume: 1,
            force: true,
        };
        world.command(1, detach).expect("detached");
        meet(world);
        let others = |w: &mut World| {
            [0, 2]
                .iter()
                .all(|&v| w.disk(1, v) == Some(DiskState::UpToDate))
        };
        world.wait("the other volumes", others).expect("in sync");
        world.run_for(10 * DECIDED);
        assert_eq!(held(world, 0), Some(episode), "given back too early");
        assert_eq!(world.fencing_record(1).mark, Some(episode));
        assert_eq!(world.holders(), [Some((0, episode))]);
        (0..3).for_each(|volume| write(world, volume, 1));
        world
            .command(1, Command::Attach { volume: 1 })
            .expect("attached");
        wait_over(world);
        assert_eq!(world.holders(), [Some((0, episode)), None]);
    });
}

#[test]
fn a_disk_that_was_lost_under_its_primary_is_not_promoted_by_a_fence() {
    for asks_peer in [true, false] {
        each_seed(&fenced(16, 1), |world| {
            world.remove_disk(0, 0);
            for block in 0..4 {
                world.write(0, block * BLOCK, BLOCK, true).expect("room");
                world.wait_answers().expect("through the peer");
            }
            world.run_for(DECIDED);
            assert!(world.disk(0, 0) <= Some(DiskState::Failed));
            // It boots again, and its disk is there; the peer is not to be seen.
            world.power_cut(0);
            world.block_network(true, true);
            world.cut_management([false, false, !asks_peer]);
            world.run_for(DECIDED);
            world.boot(0);
            world.run_for(DECIDED);
            refused(world, 0);
            world.command(1, PROMOTE).expect("it has everything");
            world.cut_management([false; 3]);
            meet(world);
            wait_over(world);
        });
    }
}

/// What a client was answered while the peer did not have it, or had it in a cache that is gone, is in no generation: while the
/// Primary is frozen it begins none. With its own disk lost before the resync's end it must not go on from the peer's.
#[test]
fn a_peer_that_lacks_answered_writes_does_not_stand_in_for_a_lost_disk() {
    for protocol in [Protocol::A, Protocol::C] {
        let mut plan = fenced(16, 1);
        plan.mirroring.protocol = protocol;
        each_seed(&plan, |world| {
            // Nobody can be asked, so nothing is decided.
            world.cut_management([true; 3]);
            if protocol == Protocol::A {
                world.power_cut(1);
                world.write(0, 0, BLOCK, false).expect("room");
                world.wait_answers().expect("answered ahead of the peer");
            } else {
                world.write(0, 0, BLOCK, false).expect("room");
                world.wait_answers().expect("answered");
                world.power_cut(1);
            }
            world.wait("the loss", |w| is_frozen(w, 0)).expect("frozen");
            world
                .command(0, Command::PauseSync { volume: None })
                .expect("paused");
            world.boot(1);
            let met = |w: &mut World| w.connection(0) == Some(ConnectionState::Connected);
            world.wait("the peer", met).expect("connected");
            world
                .wait("the thaw", |w| !is_frozen(w, 0))
                .expect("thawed");
            let detach = Command::Detach {
                volume: 0,
                force: true,
            };
            world.command(0, detach).expect("detached");
            world.run_for(DECIDED);
            let waits = world.status(0).is_some_and(|s| s.suspended.no_data);
            assert!(waits, "{protocol:?}: goes on from an older copy");
            let attach = Command::Attach { volume: 0 };
            world.command(0, attach).expect("attached");
            world.run_for(DECIDED);
            world.read(0, 0, BLOCK).expect("room");
            world.wait_answers().expect("its own disk has everything");
            let resume = Command::ResumeSync { volume: None };
            world.command(0, resume).expect("resumed");
            world.cut_management([false; 3]);
            wait_over(world);
        });
    }
}
