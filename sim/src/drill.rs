//! Runs that are scripted but for their times: what a defect needs to show is so narrow that seeds draw it too seldom.
//!
//! They have numbers far above all other seeds ([`DRILLS`]), so that these stay what they are, and are judged by the
//! same oracle.

use crate::Outcome;
use crate::places::Places;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::world::{Violation, World};
use fencing::Own;
use replication::api::{Command, DiskState, FencingConfig, Policy, Protocol};
use std::ops::Range;

/// The seeds that are drills.
pub const DRILLS: Range<u64> = 1 << 32..(1 << 32) + 64 * ALL.len() as u64;

/// A world to begin with, and what happens in it.
type Drill = (
    fn(&mut Rng) -> Plan,
    fn(&mut World, &mut Rng) -> Result<(), String>,
);

/// Each kind of drill, in turn.
const ALL: [Drill; 6] = [
    (apart, cooling),
    (|_| Plan::growing(), growth),
    (|_| Plan::scripted(2), alone),
    (early, orphans),
    (by_b, received),
    (fenced, holder),
];

/// Sectors of an extent of the activity log.
const EXTENT: usize = 8192;
/// Sectors of a 4 KiB block.
const BLOCK: usize = 8;

/// One drill from its beginning to its end.
pub(crate) fn run(seed: u64) -> Outcome {
    let mut rng = Rng::new(seed);
    let (plan, drill) = ALL[((seed - DRILLS.start) % ALL.len() as u64) as usize];
    let mut world = World::pair(seed, plan(&mut rng));
    let ended = world
        .become_healthy()
        .and_then(|()| drill(&mut world, &mut rng));
    if ended.is_ok() {
        world.heal();
    }
    let stuck = ended.err().map(|detail| Violation {
        rule: "a drill comes to its end",
        detail,
    });
    Outcome {
        violation: world.violation().cloned().or(stuck),
        stats: world.stats,
    }
}

/// Blocks in several extents, and the metadata on a disk of its own: else a flush of it would be one of the data, too.
fn apart(_: &mut Rng) -> Plan {
    let mut plan = Plan::scripted(2);
    plan.volumes[0].places = Places::islands(3, 4 * BLOCK, EXTENT);
    plan.volumes[0].external = true;
    plan
}

/// A protocol that answers before the peer's disk is done, the metadata on a disk of its own, and a far peer.
fn early(rng: &mut Rng) -> Plan {
    let mut plan = by_b(rng);
    plan.volumes[0].external = true;
    plan.mirroring.protocol = rng.pick(&[Protocol::A, Protocol::B]);
    plan.net_delay = (3_000, 6_000);
    plan
}

fn by_b(_: &mut Rng) -> Plan {
    let mut plan = Plan::scripted(2);
    plan.mirroring.protocol = Protocol::B;
    plan
}

/// The peer has flushed what this Primary's disk has only in its cache and does not get flushed, since it hangs. The extent is idle long enough to
/// cool, which must wait for that disk: when the power fails the write is gone here, and the mark of the extent is all that knows.
fn cooling(world: &mut World, rng: &mut Rng) -> Result<(), String> {
    for _ in 0..rng.range(1, 4) {
        let block = rng.index(12);
        world.write(0, block * BLOCK, BLOCK, false);
        world.wait_answers()?;
    }
    world.hang_volume(0, 0, 60_000_000);
    world.flush(0);
    world.run_for(rng.range(11_000_000, 25_000_000));
    world.power_cut(0);
    world.run_for(rng.range(1_000, 1_000_000));
    world.boot(0);
    Ok(())
}

/// While the metadata moves, a write that only this node has comes to an extent that was cold, and then the power fails.
fn growth(world: &mut World, rng: &mut Rng) -> Result<(), String> {
    (0..2).for_each(|n| world.enlarge(n, 0));
    // The island's first half lies in the first extent, the other in the second.
    let half = world.plan.volumes[0].places.island(0).len() / 2;
    let cold = usize::from(rng.coin());
    world.write(0, (1 - cold) * half, BLOCK, false);
    world.wait_answers()?;
    // The node that follows moves at once.
    world.order(
        1,
        Command::Resize {
            volume: 0,
            size: None,
            assume_clean: false,
        },
    );
    world.run_for(rng.range(300, 5_000));
    world.block_network(true, true);
    world.write(0, cold * half, BLOCK, false);
    world.run_for(rng.range(300, 6_000));
    world.power_cut(0);
    world.block_network(false, false);
    world.boot(0);
    Ok(())
}

/// The peer has a write in its cache only and loses it with its power. The extent of the write cools meanwhile, without a
/// peer that could be flushed: that the peer may have lost it is known to the bitmap's page alone, when this node's power fails, too.
fn alone(world: &mut World, rng: &mut Rng) -> Result<(), String> {
    let block = rng.index(2);
    world.write(0, block * BLOCK, BLOCK, false);
    world.wait_answers()?;
    world.power_cut(1);
    world.run_for(rng.range(11_000_000, 25_000_000));
    world.power_cut(0);
    let first = rng.index(2);
    world.boot(first);
    world.run_for(rng.range(0, 1_000_000));
    world.boot(1 - first);
    Ok(())
}

/// A write waits on the peer for an earlier one, which its disk has not done, when the connection is lost. It is made anew at
/// once, and the disk goes on while the two compare what they have: the peer is to be a target, and not durably one yet.
fn orphans(world: &mut World, rng: &mut Rng) -> Result<(), String> {
    let torn = world.now + 80_000;
    world.hang_volume(1, 0, 90_000);
    write_both(world, rng)?;
    world.run_for(torn.saturating_sub(world.now));
    world.tear_link([true, true]);
    world.hang_volume(1, 0, rng.range(10_000, 40_000));
    world.run_for(rng.range(0, 1_000));
    world.write(0, rng.index(2) * BLOCK, BLOCK, false);
    world.run_for(2_000_000);
    Ok(())
}

/// Writes both blocks, the second when the first is answered: in an epoch of its own.
fn write_both(world: &mut World, rng: &mut Rng) -> Result<(), String> {
    let first = rng.index(2);
    for block in [first, 1 - first] {
        world.write(0, block * BLOCK, BLOCK, false);
        world.wait_answers()?;
        world.run_for(rng.range(1_000, 10_000));
    }
    Ok(())
}

/// The peer has received two writes, of which the second waits for the first, when the Primary loses its power. Both were
/// answered, so whoever is Primary next has both.
fn received(world: &mut World, rng: &mut Rng) -> Result<(), String> {
    let hang = rng.range(20_000, 250_000);
    world.hang_volume(1, 0, hang);
    write_both(world, rng)?;
    world.tear_link([true, true]);
    world.power_cut(0);
    world.run_for(hang + rng.range(300_000, 1_000_000));
    if rng.coin() {
        world.command(1, Command::Primary { force: true })?;
        world.run_for(rng.range(0, 100_000));
    }
    world.boot(0);
    Ok(())
}

/// Two volumes, and an arbiter.
fn fenced(_: &mut Rng) -> Plan {
    let mut plan = Plan::scripted(16);
    plan.volumes = vec![plan.volumes[0]; 2];
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

/// A Primary that holds a fence loses the disk of a volume, of which the peer has everything, while another one is not in sync. Then its
/// node dies and comes back alone, with that disk and the word on it that it holds the fence.
fn holder(world: &mut World, rng: &mut Rng) -> Result<(), String> {
    // So that nothing hangs on the operator's word of the beginning any more.
    world.run_for(2_000_000);
    world.block_network(true, true);
    let holds = |w: &mut World| matches!(w.fencing_record(0).own, Own::Held(..));
    world.wait("the fence", holds)?;
    for volume in [0, 1] {
        world.write_to(0, volume, rng.index(16) * BLOCK, BLOCK);
        world.wait_answers()?;
    }
    world.command(0, Command::PauseSync { volume: Some(1) })?;
    world.block_network(false, false);
    let first = |w: &mut World| {
        let states = w.status(0).map(|s| [0, 1].map(|v| s.volumes[v].peer_disk));
        states == Some([DiskState::UpToDate, DiskState::Inconsistent])
    };
    world.wait("the first volume", first)?;
    world.remove_disk(0, 0);
    let block = rng.index(16);
    world.write_to(0, 0, block * BLOCK, BLOCK);
    world.wait_answers()?;
    world.run_for(rng.range(0, 300_000));
    world.power_cut(0);
    world.block_network(true, true);
    world.run_for(rng.range(1_000, 1_000_000));
    world.boot(0);
    world.run_for(1_000_000);
    // It is denied.
    let _ = world.command(0, Command::Primary { force: false });
    world.read(0, block * BLOCK, BLOCK);
    world.run_for(1_000_000);
    world.block_network(false, false);
    Ok(())
}
