//! The model check of fencing: every history within the bounds, of the real state machines (docs/FENCING.md).
//!
//! `PALISADE_MODEL=N` explores histories that are N steps longer.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod disks;
mod heal;
mod world;

use fencing::api::Timer;
use fencing::{Answer, Own, Party, Policy, Refusal};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::BTreeMap;
use std::time::Instant;
use world::Start::{InSync, OldDisk, Resync};
use world::{Bounds, Datagram, Mutation, Rules, STRICT, Start, Step, World};

impl Model for Rules {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let bounds = &self.bounds;
        let written: u8 = world.acked.iter().sum();
        for (at, node) in world.nodes.iter().enumerate() {
            if node.up {
                if written < bounds.writes && node.primary {
                    steps.extend((0..bounds.volumes).map(|v| Step::Write(at, v)));
                }
                if node.linked && world.losses < bounds.losses {
                    steps.push(Step::Lose(at));
                }
                if world.crashes < bounds.crashes {
                    steps.push(Step::Crash(at));
                }
                if node.saving.is_some() {
                    steps.push(Step::Persisted(at));
                }
                if !node.primary && world.promotions < bounds.promotions {
                    steps.push(Step::Promote(at));
                }
                if node.primary && world.demotions < bounds.demotions {
                    steps.push(Step::Demote(at));
                }
                if !node.primary && world.forces < bounds.forces {
                    steps.push(Step::Force(at));
                }
                if world.disk_losses < bounds.disk_losses {
                    steps.extend((0..bounds.volumes).map(|v| Step::DiskGone(at, v)));
                }
                if world.disk_losses > 0 {
                    steps.extend((0..bounds.volumes).map(|v| Step::DiskBack(at, v)));
                }
                steps.push(Step::Timer(at, Timer::PeerWait));
                if node.fencer.status().promoting {
                    steps.push(Step::Timer(at, Timer::Bound));
                }
            } else {
                steps.push(Step::Restart(at));
            }
        }
        steps.push(Step::Connect);
        for v in 0..bounds.volumes {
            steps.push(Step::TargetDone(v));
            steps.push(Step::SourceLearns(v));
        }
        steps.extend(world.network.iter().cloned().map(Step::Deliver));
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        // A history that has gone wrong need not go on; one that has only gone dangerous shows what comes of it.
        if last.wrong.diverged {
            return None;
        }
        let mut world = last.clone();
        let done = match &step {
            Step::Write(at, v) => self.write(&mut world, *at, *v),
            Step::Lose(at) => {
                world.losses += 1;
                self.lose(&mut world, *at);
                true
            }
            Step::Crash(at) => {
                world.crashes += 1;
                self.crash(&mut world, *at);
                true
            }
            Step::Restart(at) => {
                self.restart(&mut world, *at);
                true
            }
            Step::Persisted(at) => self.persisted(&mut world, *at),
            Step::Promote(at) => {
                world.promotions += 1;
                self.ask_promotion(&mut world, *at);
                true
            }
            Step::Demote(at) => {
                world.demotions += 1;
                self.demote(&mut world, *at);
                true
            }
            Step::Force(at) => self.force(&mut world, *at),
            Step::DiskGone(at, v) => {
                world.disk_losses += 1;
                self.disk_gone(&mut world, *at, *v)
            }
            Step::DiskBack(at, v) => self.disk_back(&mut world, *at, *v),
            Step::Connect => self.connect(&mut world),
            Step::TargetDone(v) => self.target_done(&mut world, *v),
            Step::SourceLearns(v) => self.source_learns(&mut world, *v),
            Step::Timer(at, timer) => {
                self.timer(&mut world, *at, *timer);
                true
            }
            Step::Deliver(datagram) => {
                self.deliver(&mut world, datagram);
                true
            }
        };
        if world.crashes == self.bounds.crashes && !self.bounds.slow_saves {
            for at in 0..2 {
                while self.persisted(&mut world, at) {}
            }
        }
        self.forget(&mut world);
        self.judge(&mut world);
        (done && world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one history", |_, world: &World| !world.wrong.diverged),
            Property::always("one writer", |_, world: &World| !world.wrong.two_writers),
            Property::always("no unfence while a volume is behind", |_, world: &World| {
                !world.wrong.early_unfence
            }),
            Property::always("no unfence undoes a newer fence", |_, world: &World| {
                !world.wrong.newer_undone
            }),
            Property::always("no fenced node is promoted", |_, world: &World| {
                !world.wrong.fenced_promoted
            }),
            Property::always(
                "all is well again when faults stop",
                |rules: &Rules, world: &World| !rules.heal || heal::heals(rules, world, true),
            ),
            Property::always(
                "the nodes get in sync without the arbiter",
                |rules: &Rules, world: &World| !rules.heal || heal::heals(rules, world, false),
            ),
            Property::sometimes("a node writes alone", |_, world: &World| {
                world.nodes[0].has != world.nodes[1].has
            }),
            Property::sometimes("the standby takes over", |_, world: &World| {
                world.nodes[1].primary && !world.nodes[1].linked
            }),
            Property::sometimes("a fence is given back", |_, world: &World| {
                let given = world.arbiter.over.iter().any(|(_, episode)| *episode > 0);
                given && world.nodes.iter().all(|node| node.stored.own == Own::None)
            }),
            Property::sometimes("the arbiter denies the second", |_, world: &World| {
                world.network.iter().any(|datagram| {
                    let Datagram::Tell { from, answer, .. } = datagram else {
                        return false;
                    };
                    let denied = |answer: &Answer| {
                        let Answer::Refused { why, .. } = answer else {
                            return false;
                        };
                        matches!(why, Refusal::Held { .. })
                    };
                    *from == Party::Arbiter && denied(answer)
                })
            }),
        ]
    }
}

const CUTS: Bounds = Bounds {
    volumes: 1,
    writes: 2,
    losses: 2,
    crashes: 0,
    promotions: 1,
    demotions: 0,
    disk_losses: 0,
    forces: 0,
    slow_saves: false,
};

/// A fence is held, and the link stays.
const HOLDERS_DISK: Bounds = Bounds {
    writes: 3,
    losses: 0,
    crashes: 1,
    disk_losses: 1,
    ..CUTS
};

/// How far histories go: further with `PALISADE_MODEL=N` for N more steps.
fn depth(steps: usize) -> usize {
    let more = std::env::var("PALISADE_MODEL").ok();
    steps + more.and_then(|more| more.parse().ok()).unwrap_or(0)
}

/// Every history within the bounds, at most `depth` steps long.
fn explore(
    name: &str,
    rules: Rules,
    until: Option<&'static str>,
    depth: usize,
) -> impl Checker<Rules> {
    let begun = Instant::now();
    let builder = rules.checker().threads(2).target_max_depth(depth);
    let builder = match until {
        None => builder,
        Some(property) => builder.finish_when(HasDiscoveries::AnyOf([property].into())),
    };
    let checker = builder.spawn_bfs().join();
    eprintln!(
        "{name}: {} states, {} of them different, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    checker
}

/// The steps to each property that does not hold.
fn failures(checker: &impl Checker<Rules>) -> BTreeMap<&'static str, Vec<String>> {
    let found = checker.discoveries().into_iter();
    found
        .filter(|(name, _)| checker.discovery_classification(name).to_string() == "counterexample")
        .map(|(name, path)| {
            let steps = path.into_actions();
            (name, steps.iter().map(|step| format!("{step:?}")).collect())
        })
        .collect()
}

/// All that must hold does, and what makes the exploration worth something has happened in it.
fn holds(name: &str, start: Start, bounds: Bounds, steps: usize, happened: &[&'static str]) {
    holds_by(STRICT, name, start, bounds, steps, happened);
}

fn holds_by(
    policy: Policy,
    name: &str,
    start: Start,
    bounds: Bounds,
    steps: usize,
    happened: &[&'static str],
) {
    let rules = Rules {
        start,
        bounds,
        policy,
        heal: true,
        mutation: Mutation::None,
    };
    let checker = explore(name, rules, None, depth(steps));
    let failures = failures(&checker);
    assert!(failures.is_empty(), "{failures:#?}");
    for property in happened {
        assert!(checker.discovery(property).is_some(), "never: {property}");
    }
}

/// A defect must be found by this property.
fn breaks(name: &str, start: Start, bounds: Bounds, mutation: Mutation, property: &'static str) {
    let rules = Rules {
        start,
        bounds,
        policy: STRICT,
        heal: false,
        mutation,
    };
    let checker = explore(name, rules, Some(property), 30);
    let failures = failures(&checker);
    let steps = failures.get(property);
    let steps = steps.unwrap_or_else(|| panic!("{name} is not found"));
    eprintln!("{property}:\n  {}", steps.join("\n  "));
}

const ALONE: &str = "a node writes alone";
const TAKEN_OVER: &str = "the standby takes over";
const GIVEN_BACK: &str = "a fence is given back";
const DENIED: &str = "the arbiter denies the second";

#[test]
fn cuts_and_a_failover() {
    let happened = [ALONE, TAKEN_OVER, GIVEN_BACK, DENIED];
    holds("cuts and a failover", InSync, CUTS, 13, &happened);
}

#[test]
fn a_second_cut_in_the_moment_of_the_last_resync() {
    let happened = [ALONE, TAKEN_OVER, GIVEN_BACK, DENIED];
    holds(
        "a second cut",
        Resync,
        Bounds { writes: 3, ..CUTS },
        13,
        &happened,
    );
}

#[test]
fn power_cuts() {
    let bounds = Bounds {
        losses: 1,
        crashes: 2,
        promotions: 2,
        ..CUTS
    };
    holds("power cuts", InSync, bounds, 12, &[ALONE]);
}

#[test]
fn power_cuts_while_a_fence_is_given_back() {
    let bounds = Bounds {
        losses: 1,
        crashes: 1,
        promotions: 1,
        ..CUTS
    };
    holds("power cuts at the end", Resync, bounds, 11, &[GIVEN_BACK]);
}

#[test]
fn two_volumes() {
    let bounds = Bounds { volumes: 2, ..CUTS };
    holds("two volumes", Resync, bounds, 11, &[ALONE, GIVEN_BACK]);
}

#[test]
fn slow_saves_and_a_demotion() {
    let bounds = Bounds {
        demotions: 1,
        promotions: 2,
        slow_saves: true,
        ..CUTS
    };
    holds("slow saves", InSync, bounds, 12, &[ALONE]);
}

#[test]
fn a_disk_from_an_earlier_time() {
    let bounds = Bounds {
        losses: 1,
        crashes: 2,
        promotions: 2,
        ..CUTS
    };
    holds("old disk", OldDisk, bounds, 11, &[TAKEN_OVER]);
}

#[test]
fn disks_that_are_lost_and_come_back() {
    let bounds = Bounds {
        losses: 1,
        crashes: 1,
        promotions: 1,
        disk_losses: 1,
        ..CUTS
    };
    holds("lost disks", InSync, bounds, 10, &[ALONE]);
}

#[test]
fn a_disk_that_is_lost_under_the_holder_of_a_fence() {
    holds("a holder's disk", Resync, HOLDERS_DISK, 12, &[ALONE]);
}

#[test]
fn an_operators_force() {
    let bounds = Bounds {
        promotions: 1,
        forces: 1,
        ..CUTS
    };
    holds("force", InSync, bounds, 9, &[ALONE, TAKEN_OVER]);
}

#[test]
fn resource_only() {
    let policy = Policy::ResourceOnly;
    holds_by(policy, "resource-only", InSync, CUTS, 11, &[ALONE, DENIED]);
}

const TWO_HISTORIES: &str = "one history";
const EARLY: &str = "no unfence while a volume is behind";

#[test]
fn unfence_on_the_target_as_before_unfence_peer_gives_two_histories() {
    let mutation = Mutation::UnfenceOnTarget;
    let bounds = Bounds { writes: 3, ..CUTS };
    breaks(
        "unfence on the target",
        Resync,
        bounds,
        mutation,
        TWO_HISTORIES,
    );
}

#[test]
fn unfence_per_volume() {
    let bounds = Bounds { volumes: 2, ..CUTS };
    breaks(
        "unfence per volume",
        InSync,
        bounds,
        Mutation::UnfencePerVolume,
        EARLY,
    );
}

#[test]
fn a_record_that_is_not_durable() {
    let bounds = Bounds { crashes: 1, ..CUTS };
    breaks(
        "record not durable",
        InSync,
        bounds,
        Mutation::RecordNotDurable,
        EARLY,
    );
}

#[test]
fn a_stale_unfence() {
    let property = "no unfence undoes a newer fence";
    breaks(
        "stale unfence",
        Resync,
        CUTS,
        Mutation::StaleUnfence,
        property,
    );
}

#[test]
fn thaw_before_the_grant() {
    breaks(
        "thaw before the grant",
        InSync,
        CUTS,
        Mutation::ThawBeforeGrant,
        TWO_HISTORIES,
    );
}

#[test]
fn unfence_on_connect() {
    breaks(
        "unfence on connect",
        InSync,
        CUTS,
        Mutation::UnfenceOnConnect,
        EARLY,
    );
}

#[test]
fn nothing_vouched() {
    let bounds = Bounds {
        losses: 1,
        promotions: 2,
        ..CUTS
    };
    breaks(
        "nothing vouched",
        OldDisk,
        bounds,
        Mutation::NotVouched,
        TWO_HISTORIES,
    );
}

#[test]
fn a_lone_primary_that_is_not_fenced() {
    let bounds = Bounds {
        crashes: 1,
        disk_losses: 1,
        ..CUTS
    };
    breaks(
        "lone and not fenced",
        InSync,
        bounds,
        Mutation::LoneNotFenced,
        TWO_HISTORIES,
    );
}

#[test]
fn a_disk_that_stands_in_and_nobody_takes_note() {
    let bounds = Bounds {
        crashes: 1,
        disk_losses: 1,
        ..CUTS
    };
    breaks(
        "stand-in untold",
        InSync,
        bounds,
        Mutation::StandInUntold,
        TWO_HISTORIES,
    );
}

#[test]
fn a_holder_that_restarts_and_asks_nobody() {
    breaks(
        "held and not confirmed",
        Resync,
        HOLDERS_DISK,
        Mutation::HeldNotConfirmed,
        TWO_HISTORIES,
    );
}
