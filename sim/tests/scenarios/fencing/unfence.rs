//! The operator ends a fence by hand.

use super::*;
use replication::api::DiskState;

/// The node that holds the fence may have lost data that it answered nobody for, while the fenced one is as new as on the first day.
#[test]
fn s27_who_wants_the_fenced_nodes_data_is_told_how_and_that_works() {
    let plan = fenced(16, 1);
    for seed in 0..SEEDS {
        let mut world = World::pair(seed, plan.clone());
        let world = &mut world;
        world.block_network(true, true);
        (0..2).for_each(|n| wait_alone(world, n));
        let force = Command::Primary { force: true };
        world.command(0, force).expect("the operator's word");
        let episode = wait_held(world, 0);
        let marked = |w: &mut World| w.fencing_record(1).mark == Some(episode);
        world.wait("the mark", marked).expect("node 1 is fenced");
        // The connection is stored, and that fails.
        world.fail_flushes(0, 0, 1);
        meet(world);
        let failed = |w: &mut World| w.disk(0, 0) < Some(DiskState::Negotiating);
        world
            .wait("the disk's end", failed)
            .expect("its flush fails");
        let attach = Command::Attach { volume: 0 };
        world.command(0, attach).expect("it is sound again");
        let both = |w: &mut World| {
            let attached = w.disk(0, 0) == Some(DiskState::Outdated);
            let connected = |n: usize| w.connection(n) == Some(ConnectionState::Connected);
            attached && connected(0) && connected(1)
        };
        world.wait("a handshake", both).expect("they meet");
        let down = Command::Secondary { force: true };
        world.command(0, down).expect("nobody is served");
        let advice = format!("'unfence {episode} --yes'");
        let said = &world.status(1).expect("it runs").reason;
        assert!(said.contains(&advice), "{said}");
        let why = world.command(1, force).expect_err("it is fenced");
        assert!(why.contains(&advice), "{why}");
        let by_hand = Command::Unfence { episode };
        world.command(0, by_hand).expect("the holder ends it");
        world
            .wait("everybody's answer", |w| is_over(w))
            .expect("it is over");
        world.command(1, force).expect("as was advised");
        world.heal();
        assert_eq!(world.violation(), None, "seed {seed}");
    }
}
