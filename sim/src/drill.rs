//! Runs that are scripted but for their times: what a defect needs to show is so narrow that seeds draw it too seldom.
//!
//! They have numbers far above all other seeds ([`DRILLS`]), so that these stay what they are.

use crate::places::Places;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::world::{Violation, World};
use crate::{Outcome, stats::Stats};
use replication::api::Command;
use std::ops::Range;

/// The seeds that are drills.
pub const DRILLS: Range<u64> = 1 << 32..(1 << 32) + 256;

/// Sectors of an extent of the activity log.
const EXTENT: usize = 8192;
/// Sectors of a 4 KiB block.
const BLOCK: usize = 8;

/// One drill from its beginning to its end.
pub(crate) fn run(seed: u64) -> Outcome {
    let rng = Rng::new(seed);
    let ended = if seed.is_multiple_of(2) {
        cooling(seed, rng)
    } else {
        growth(seed, rng)
    };
    ended.map_or_else(
        |detail| Outcome {
            stats: Stats::default(),
            violation: Some(Violation {
                rule: "a drill comes to its end",
                detail,
            }),
        },
        |world| Outcome {
            violation: world.violation().cloned(),
            stats: world.stats,
        },
    )
}

/// The peer has flushed what this Primary's disk has only in its cache and does not get flushed, since it hangs. The extent is idle long enough to
/// cool, which must wait for that disk: when the power fails the write is gone here, and the mark of the extent is all that knows.
fn cooling(seed: u64, mut rng: Rng) -> Result<World, String> {
    let mut plan = Plan::scripted(2);
    plan.volumes[0].places = Places::islands(3, 4 * BLOCK, EXTENT);
    // Else the flush of the metadata would be one of the data, too.
    plan.volumes[0].external = true;
    let mut world = World::healthy_pair(seed, plan)?;
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
    world.heal();
    Ok(world)
}

/// While the metadata moves, a write that only this node has comes to an extent that was cold, and then the power fails.
fn growth(seed: u64, mut rng: Rng) -> Result<World, String> {
    let mut world = World::healthy_pair(seed, Plan::growing())?;
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
    world.heal();
    Ok(world)
}
