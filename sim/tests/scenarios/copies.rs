//! Copies that are given up, or taken out of use and back, while nodes die.

use super::*;

const INVALIDATE: Command = Command::Invalidate { volume: 0 };
const ATTACH: Command = Command::Attach { volume: 0 };
const DETACH: Command = Command::Detach {
    volume: 0,
    force: true,
};
/// Number of a frame, as docs/PROTOCOL.md has it.
const SYNC_START: u8 = 17;

fn wait_attached(world: &mut World, n: usize) {
    let attached = |w: &mut World| w.disk(n, 0) > Some(DiskState::Negotiating);
    world.wait("the disk", attached).expect("attached");
}

/// What clients were told and had not flushed is on both disks. The one is given up, the other loses its power before
/// the first of them has heard of it.
#[test]
fn a_copy_is_given_up_only_when_the_other_is_durable() {
    each_seed(&loaded(32), |world| {
        world.run_for(200_000);
        world.drop_frame(1, SYNC_START);
        world.command(1, INVALIDATE).expect("both agree");
        let dropped = |w: &mut World| !w.frame_awaited(1);
        world.wait("the word", dropped).expect("on its way");
        world.power_cut(0);
        world.run_for(50_000);
        world.boot(0);
        // The oracle looks whether all is there when node 1 becomes the target.
        wait_resync(world);
    });
}

/// A copy that was given up and has not heard of it is promoted by force: whoever made it the target has gone on too.
#[test]
fn a_given_up_copy_that_is_promoted_is_a_split_brain() {
    let plan = Plan {
        reckless: true,
        ..Plan::scripted(32)
    };
    each_seed(&plan, |world| {
        world.run_for(100_000);
        world.drop_frame(1, SYNC_START);
        world.command(1, INVALIDATE).expect("both agree");
        let dropped = |w: &mut World| !w.frame_awaited(1);
        world.wait("the word", dropped).expect("on its way");
        world.block_network(true, true);
        wait_alone(world, 0);
        wait_alone(world, 1);
        let force = Command::Primary { force: true };
        world.command(1, force).expect("the operator's word");
        for n in 0..2 {
            world.write(n, 0, BLOCK, true).expect("room");
            world.wait_answers().expect("each answers alone");
        }
        world.block_network(false, false);
        world.run_for(5_000_000);
        for n in 0..2 {
            let connection = world.connection(n);
            assert_eq!(connection, Some(ConnectionState::StandAlone), "node {n}");
        }
    });
}

/// The Secondary's disk is detached and attached again without its node, or its power, going: it has everything that
/// the Primary loses meanwhile.
#[test]
fn a_disk_that_was_detached_and_attached_has_lost_nothing() {
    each_seed(&loaded(32), |world| {
        world.run_for(200_000);
        // The Primary does not hear that the disk is gone.
        world.block_network(false, true);
        world.command(1, DETACH).expect("detached");
        world.run_for(5_000);
        world.power_cut(0);
        world.block_network(false, false);
        world.command(1, ATTACH).expect("attached");
        wait_attached(world, 1);
        world.boot(0);
        world.wait_in_sync().expect("the survivor's data");
    });
}

/// The Primary's disk is detached when its peer is dead already, which then comes back having lost writes: the Primary's
/// own disk is still the newest, whether it is attached before or after that.
#[test]
fn a_primary_whose_peer_never_stood_in_goes_on_with_its_own_disk() {
    for boots_first in [true, false] {
        each_seed(&loaded(32), |world| {
            world.run_for(200_000);
            world.power_cut(1);
            world.command(0, DETACH).expect("detached");
            if boots_first {
                world.boot(1);
                world.run_for(1_500_000);
            }
            // Its last operations come to their end first.
            world.run_for(5_000);
            world.command(0, ATTACH).expect("attached");
            world.run_for(100_000);
            if !boots_first {
                world.boot(1);
            }
            world.wait_in_sync().expect("the Primary's data");
            assert_eq!(world.role(0), Some(Role::Primary));
        });
    }
}

/// A Primary's disk loses what it had not flushed, and its peer dies before it has stood in. Both have the same
/// generation, but not the same on the medium.
#[test]
fn a_disk_whose_flush_failed_gives_way_to_one_that_has_it_all() {
    each_seed(&Plan::scripted(32), |world| {
        for block in 0..8 {
            world.write(0, block * BLOCK, BLOCK, false).expect("room");
        }
        world.wait_answers().expect("answered");
        world.fail_flushes(0, 0, 1);
        world.flush(0).expect("room");
        let failed = |w: &mut World| w.disk(0, 0) == Some(DiskState::Failed);
        world.wait("the failure", failed).expect("noticed");
        world.kill(1);
        world.command(0, ATTACH).expect("attached");
        wait_attached(world, 0);
        world
            .command(0, Command::Secondary { force: true })
            .expect("demoted");
        world.boot(1);
        world.wait_in_sync().expect("the peer's data");
        // Both are to survive this.
        world.power_cut_of_both();
        world.boot(0);
        world.boot(1);
    });
}

/// A disk whose flush failed has the only copy of a generation: what its cache holds is written anew while the other
/// one is resynced, and a verify calls equal what is.
#[test]
fn a_disk_whose_flush_failed_is_written_anew_when_it_is_the_source() {
    each_seed(&loaded(32), |world| {
        world.run_for(100_000);
        world.block_network(true, true);
        wait_alone(world, 0);
        world.run_for(100_000);
        world.fail_flushes(0, 0, 1);
        let failed = |w: &mut World| w.disk(0, 0) == Some(DiskState::Failed);
        world.wait("the failure", failed).expect("noticed");
        // What is under way there ends.
        world.run_for(100_000);
        world.command(0, ATTACH).expect("attached");
        wait_attached(world, 0);
        world
            .command(0, Command::Secondary { force: true })
            .expect("demoted");
        world.block_network(false, false);
        world.wait_in_sync().expect("the newer generation");
        for n in 0..2 {
            let verify = Command::Verify {
                volume: 0,
                start: Some(0),
                stop: None,
                repair: false,
            };
            world.command(n, verify).expect("begun");
            let verified = |w: &mut World| {
                let status = w.status(n).and_then(|s| s.volumes.first());
                status.and_then(|v| v.verify).is_some_and(|r| r.finished)
            };
            world.wait("the end", verified).expect("compared");
            world.run_for(100_000);
        }
        world.power_cut(0);
        world.run_for(700_000);
        world.boot(0);
        world.wait_in_sync().expect("back");
    });
}

/// A Primary without a disk serves from its peer's by protocol B. What the peer does of that after the connection was lost
/// is missing on the Primary's disk like all the rest.
#[test]
fn what_outlives_the_connection_is_marked_for_a_primary_without_a_disk() {
    let plan = Plan {
        mirroring: replication::api::Mirroring {
            protocol: replication::api::Protocol::B,
            ..loaded(32).mirroring
        },
        ..loaded(32)
    };
    each_seed(&plan, |world| {
        world.run_for(100_000);
        world.command(0, DETACH).expect("detached");
        world.run_for(50_000);
        for _ in 0..4 {
            world.slow_disk(1, 100_000);
            world.run_for(20_000);
            world.tear_link([true, true]);
            world.run_for(60_000);
        }
        world.power_cut(0);
        world.run_for(100_000);
        world.boot(0);
        // The oracle compares the replicas.
        world.wait_in_sync().expect("what was written there");
    });
}

/// The Primary loses its power, and then the disk that has everything is gone. It comes back, but nobody can know what of
/// its cache: what was not flushed is lost with the second fault.
#[test]
fn a_disk_that_was_gone_does_not_vouch_for_what_it_had_in_memory() {
    each_seed(&Plan::scripted(32), |world| {
        for block in 0..8 {
            world.write(0, block * BLOCK, BLOCK, false).expect("room");
            world.wait_answers().expect("answered");
        }
        world.power_cut(0);
        wait_alone(world, 1);
        world.remove_disk(1, 0);
        world.run_for(50_000);
        world.boot(0);
    });
}
