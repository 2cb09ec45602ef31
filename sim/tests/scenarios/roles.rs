//! Promotion and demotion.

use super::*;

#[test]
fn s08_concurrent_promote_and_demote() {
    each_seed(&Plan::scripted(8), |world| {
        for round in 0..6 {
            let demoted = usize::from(world.role(1) == Some(Role::Primary));
            world.order(demoted, Command::Secondary { force: false });
            world.run_for(round * 40);
            world.order(1 - demoted, Command::Primary { force: false });
            world.order(demoted, Command::Primary { force: false });
            world.run_for(20_000);
            let primaries = (0..2)
                .filter(|&n| world.role(n) == Some(Role::Primary))
                .count();
            assert!(primaries <= 1, "two Primaries");
        }
    });
}

#[test]
fn power_cut_of_the_primary_promote_the_secondary() {
    each_seed(&loaded(32), |world| {
        world.run_for(300_000);
        world.power_cut(0);
        world.run_for(700_000);
        let refusal = world.command(1, Command::Primary { force: false });
        assert!(
            refusal.is_err(),
            "promoted without the operator's word: {refusal:?}"
        );
        // The oracle checks here that every answered write is on node 1's disk.
        world
            .command(1, Command::Primary { force: true })
            .expect("the operator's word");
        world.run_for(300_000);
        world.boot(0);
        world.wait_in_sync().expect("the old Primary follows");
        assert_eq!(world.role(0), Some(Role::Secondary));
    });
}

#[test]
fn force_beside_a_connected_primary_is_refused() {
    each_seed(&loaded(16), |world| {
        world.run_for(100_000);
        let refusal = world.command(1, Command::Primary { force: true });
        assert!(refusal.is_err(), "a second Primary: {refusal:?}");
        assert_eq!(world.role(1), Some(Role::Secondary));
    });
}

#[test]
fn a_secondarys_flush_crosses_its_peers_promotion() {
    // A node that was a sync target saves its marks every five seconds, and has both disks flushed before. On a slow
    // network some of that meets a peer that has just become Primary.
    let plan = Plan {
        net_delay: (20_000, 25_000),
        ..Plan::scripted(16)
    };
    each_seed(&plan, |world| {
        diverge(world, 4);
        world.wait_in_sync().expect("in sync");
        for round in 0..60 {
            let demote = Command::Secondary { force: true };
            world.command(0, demote).expect("demoted");
            let promote = Command::Primary { force: false };
            world.command(0, promote).expect("promoted");
            world.run_for(30_000);
            for n in 0..2 {
                let connected = Some(ConnectionState::Connected);
                assert_eq!(world.connection(n), connected, "round {round}, node {n}");
            }
        }
    });
}
