//! Disks that fail.

use super::*;

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
fn the_secondarys_disk_vanishes() {
    each_seed(&loaded(32), |world| {
        world.run_for(100_000);
        world.remove_disk(1, 0);
        world.run_for(500_000);
        assert_eq!(world.role(0), Some(Role::Primary));
        world.write(0, 0, BLOCK, true).expect("room");
        world.wait_answers().expect("the Primary goes on");
    });
}
