#![forbid(unsafe_code)]
//! Deterministic simulator of a Palisade pair and its oracle (host only).
//!
//! Two real engines with simulated disks, network, clients, an operator and faults in one process
//! and one thread; everything follows from a seed. [`run_seed`] is one run; [`world::World`]
//! driven by hand is a scenario test. What is judged is described in docs/SIMULATOR.md.

mod administrator;
mod client;
mod damage;
mod disk;
pub mod drill;
pub mod fault;
mod faults;
mod foretelling;
mod growth;
mod heal;
mod history;
mod judge;
pub mod management;
mod marks;
mod metadata;
mod moment;
mod mutation;
mod network;
mod node;
mod operator;
mod oracle;
pub mod places;
pub mod plan;
mod pump;
pub mod record;
mod request;
mod rng;
mod scenario;
mod schedule;
pub mod snapshots;
pub mod stamp;
pub mod stats;
mod stream;
mod trace;
mod transitions;
pub mod world;

pub use disk::Discard;
pub use mutation::{MUTATIONS, Mutation};
pub use trace::Trace;

use plan::Plan;
use rng::Rng;
use stats::{Kind, Stats};
use world::{Violation, World};

/// Events of a run before its faults end, unless told otherwise.
pub const STEPS: u64 = 10_000;

/// How a run is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events before faults end and healing begins.
    pub steps: u64,
    /// Whether to print every event.
    pub trace: bool,
    /// A deliberate fault of the product, to test the oracle.
    pub mutation: Option<Mutation>,
    /// What is kept of what the seed draws; all of it unless told otherwise.
    pub only: record::Only,
    /// With a fencing policy, an arbiter and a management network, drawn beside what the seed draws anyway.
    pub fencing: bool,
    /// With snapshots of resyncs' targets, and rollbacks, drawn likewise.
    pub snapshots: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            steps: STEPS,
            trace: false,
            mutation: None,
            only: None,
            fencing: false,
            snapshots: false,
        }
    }
}

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    /// What was drawn.
    pub stats: Stats,
    /// The rule that was broken, if any.
    pub violation: Option<Violation>,
}

/// One run from its seed to its end.
#[must_use]
pub fn run_seed(seed: u64, options: &Options) -> Outcome {
    if drill::DRILLS.contains(&seed) {
        return drill::run(seed);
    }
    let mut rng = Rng::new(seed);
    let mut plan = Plan::draw(&mut rng);
    if options.fencing {
        plan.fencing = management::draw(seed, plan.timers.timeout);
        administrator::draw(seed, plan.timers.timeout, &mut plan.fencing);
    }
    if options.snapshots {
        snapshots::draw(seed, &mut plan);
    }
    let trace = Trace::new(options.trace);
    trace.line(0, "PLAN", || format!("{plan:?}"));
    let mut world = World::new(seed, plan, options.mutation, trace);
    world.only = options.only.clone();
    if options.fencing {
        world.with_management(seed);
        if world.plan.fencing.arbiter {
            world.with_administrator(seed);
        }
        if let Some(management) = &mut world.management {
            management.defect = match options.mutation {
                Some(Mutation::StaleUnfence) => Some(management::Defect::StaleUnfence),
                Some(Mutation::ForgetfulArbiter) => Some(management::Defect::Forgetful),
                _ => None,
            };
        }
    }
    if options.snapshots {
        world.with_snapshots(seed);
    }
    let first = rng.index(2);
    world.boot(first);
    world.run_for(rng.pick(&[0, 10, 1_000, 500_000]));
    world.boot(1 - first);
    while world.stats.get(Kind::Steps) < options.steps && world.step() {}
    world.heal();
    Outcome {
        violation: world.violation().cloned(),
        stats: world.stats,
    }
}
