//! Published failures of replicated block stores (reference/scenarios.md, by number), scripted.
//!
//! Every run is judged by the oracle throughout; what is asserted here comes on top.

#![allow(clippy::expect_used, reason = "a test says what it expected")]

mod clients;
mod copies;
mod disks;
mod fencing;
mod lineage;
mod protocols;
mod resize;
mod restarts;
mod resync;
mod roles;
mod snapshots;
mod suite;

use replication::api::{Command, ConnectionState, DiskState, Role};
use sim::plan::Plan;
use sim::world::World;

/// Sectors of a 4 KiB block.
const BLOCK: usize = 8;
/// Seeds of every scenario: the same script under different timing.
const SEEDS: u64 = 25;

fn each_seed(plan: &Plan, script: impl Fn(&mut World)) {
    for seed in 0..SEEDS {
        let mut world = World::healthy_pair(seed, plan.clone()).expect("a healthy pair");
        script(&mut world);
        world.heal();
        assert_eq!(world.violation(), None, "seed {seed}");
    }
}

fn loaded(blocks: usize) -> Plan {
    Plan {
        depth: 12,
        ..Plan::scripted(blocks)
    }
}

fn is_up_to_date(world: &World, n: usize) -> bool {
    world.disk(n, 0) == Some(DiskState::UpToDate)
}

/// Waits until the Primary has lost its peer and says so.
fn wait_alone(world: &mut World, n: usize) {
    let lost = |w: &mut World| w.connection(n) != Some(ConnectionState::Connected);
    world
        .wait("the peer is missed", lost)
        .expect("loss is noticed");
}

/// Cuts the network, writes on node 0 alone, so that a resync of `blocks` blocks is due.
fn diverge(world: &mut World, blocks: usize) {
    world.block_network(true, true);
    wait_alone(world, 0);
    for block in 0..blocks {
        world.write(0, block * BLOCK, BLOCK, false).expect("room");
        world.wait_answers().expect("answered alone");
    }
    world.block_network(false, false);
}

fn wait_resync(world: &mut World) {
    let target = |w: &mut World| w.disk(1, 0) == Some(DiskState::Inconsistent);
    world.wait("the resync", target).expect("a resync begins");
}
